"""Run networks in Lava, in a child process that cannot hang and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

import pmsm_hw
from pmsm_hw.arguments import check_progress, flag, instance, items
from pmsm_hw.errors import FormatError, InputError, LavaError
from pmsm_hw.lava.cleanup import KILL_WAIT_S, end_group, remove_shared_memory
from pmsm_hw.lava.handover import NO_LAVA, NO_ROOM, read_result, write_units
from pmsm_hw.lava.interpreter import REMEDY, check_python, find_python
from pmsm_hw.lava.neurons import check_models, lavas_own
from pmsm_hw.lava.options import Choice, Granularity, Tag, check_options, check_timeout
from pmsm_hw.lava.results import LavaResult
from pmsm_hw.lava.timing import timing_of
from pmsm_hw.network import Network
from pmsm_hw.reference import Inputs, Probes, check_carried, probed, recorded, units_of
from pmsm_hw.temporary import temporary_folder

__all__ = ["Job", "run", "run_many"]

TIMEOUT_S = 600.0
"""Default limit of a run."""

POLL_S = 0.02

PREFIX = "pmsm_hw_lava_"
"""How the folder of a run, and with it its shared memory, is named."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One network to run.

    Parameters
    ----------
    network, x, n_steps, record, probes, carry_state
        As for `run`.
    """

    network: Network
    x: Inputs
    n_steps: int = 1
    record: Iterable[str] | None = None
    probes: Probes | None = None
    carry_state: bool = False


def run(
    network: Network,
    x: Inputs,
    n_steps: int = 1,
    *,
    record: Iterable[str] | None = None,
    probes: Probes | None = None,
    carry_state: bool = False,
    timeout_s: float = TIMEOUT_S,
    python: str | os.PathLike[str] | None = None,
    granularity: Granularity = "coarse",
    tag: Tag = "fixed_pt",
    neurons: Choice = "auto",
    progress: Progress | None = None,
) -> LavaResult:
    """Run a batch of samples in Lava; the result equals that of `pmsm_hw.reference.run`.

    Samples pass the process graph one after the other, pipelined: a new one enters every T steps.

    Parameters
    ----------
    network, x, n_steps, record, probes, carry_state
        As for `pmsm_hw.reference.run`.
    timeout_s
        Limit in seconds, start-up included; then the child and its children are killed.
    python
        A Python 3.10 with lava-nc; see `pmsm_hw.lava.find_python` for the default.
    granularity
        ``"coarse"``: one Lava process per population, without a barrier at each step. ``"fine"``:
        one per population and projection, all in step; slower.
    tag
        ``"fixed_pt"``, or ``"floating_pt"`` for the float64 twins.
    neurons
        Whose processes stand for neurons: ``"auto"``: in a fine graph Lava's own where they are
        proven to compute the same, else ours; ``"own"``: ours; ``"lava"``: Lava's own, each of
        which must compute the same, by proof or by what its states are seen to do. The result says
        which stood for each population.
    progress
        Called with the number of steps done and to do, now and then.

    Returns
    -------
    LavaResult
        As `pmsm_hw.reference.run` returns it, and which processes ran.

    Raises
    ------
    InputError
        If the inputs do not suit the network.
    LavaError
        If there is no Python with Lava, or the run fails (with the child's traceback) or takes too
        long: no process and no shared memory is left; or if Lava's own processes are wanted, and
        differ.
    """
    job = Job(
        network=network, x=x, n_steps=n_steps, record=record, probes=probes,
        carry_state=carry_state,
    )  # fmt: skip
    (result,) = run_many(
        [job],
        timeout_s=timeout_s,
        python=python,
        granularity=granularity,
        tag=tag,
        neurons=neurons,
        progress=progress,
    )
    return result


def run_many(
    jobs: Sequence[Job],
    *,
    timeout_s: float = TIMEOUT_S,
    python: str | os.PathLike[str] | None = None,
    granularity: Granularity = "coarse",
    tag: Tag = "fixed_pt",
    neurons: Choice = "auto",
    progress: Progress | None = None,
) -> list[LavaResult]:
    """Run several networks, one after the other, in one child: Lava is started once.

    Parameters
    ----------
    jobs
        What to run.
    timeout_s
        Limit in seconds for all of them together.
    python, granularity, tag, neurons, progress
        As for `run`.

    Returns
    -------
    list of LavaResult
        In the order of the jobs.

    Raises
    ------
    InputError, LavaError
        As for `run`.
    """
    check_options(granularity, tag, neurons)
    check_timeout(timeout_s)
    check_progress(InputError, progress)
    check_python(python)
    jobs = items(InputError, "lava", "jobs", jobs, remedy="give a list of Job")
    for job in jobs:
        instance(InputError, "lava", "job", job, Job, remedy="give a list of Job")
    if sys.platform != "linux":
        raise LavaError(
            "lava",
            f"runs on Linux, this is {sys.platform}",
            remedy="use a Linux machine, container or WSL",
            actual=sys.platform,
            limit="linux",
        )
    if not jobs:
        return []
    with _folder() as folder:
        token = folder.name
        with _room(folder.parent):
            total = _hand_over(folder, token, jobs, granularity, tag, neurons)
        interpreter = find_python(python)
        _run_child(folder, token, interpreter, timeout_s, progress, total)
        return [_result(folder / f"{i}.result.npz", job) for i, job in enumerate(jobs)]


def _result(path: Path, job: Job) -> LavaResult:
    """Read a result; an error if Lava's own processes left the range in which they are right."""
    result, outside = read_result(path)
    for name, n in outside.items():
        raise LavaError(
            job.network[name].subject,
            f"{n:,} values of Lava's {result.processes[name].rpartition('.')[2]} left 24 bits or "
            "the width of messages, beyond which it does not compute what Loihi does, limit: 0",
            remedy="give neurons='auto': ours stand where Lava's differ",
            actual=n,
            limit=0,
        )
    return result


@contextmanager
def _folder() -> Iterator[Path]:
    """Make the folder of a run; only its making is told as a lack of room."""
    with ExitStack() as stack:
        with _room("temporary files"):
            folder = stack.enter_context(
                temporary_folder(PREFIX, removing=lambda left: remove_shared_memory(left.name))
            )
        yield folder


@contextmanager
def _room(where: str | os.PathLike[str]) -> Iterator[None]:
    """Tell what cannot be written as what it is: the folder is not the user's."""
    try:
        yield
    except (OSError, FormatError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        raise _no_room(where, cause.strerror or str(cause)) from error


def _no_room(where: str | os.PathLike[str], reason: str) -> LavaError:
    return LavaError(
        f"folder '{os.fspath(where)}'",
        f"does not take the files of a run in Lava ({reason})",
        remedy="free some room there, or name another folder in the environment variable TMPDIR",
        actual=reason,
        limit="a writable folder with enough room",
    )


def _hand_over(
    folder: Path,
    token: str,
    jobs: Sequence[Job],
    granularity: Granularity,
    tag: Tag,
    neurons: Choice,
) -> int:
    """Write the jobs; return how many steps the deepest populations take in all."""
    from pmsm_hw.io import save

    entries, total = [], 0
    for i, job in enumerate(jobs):
        units = units_of(job.network, job.x, job.n_steps)
        check_models(job.network)
        n_samples = len(next(iter(units.values()))) if units else 1
        if flag(InputError, "lava", "carry_state", job.carry_state):
            check_carried(job.network, n_samples, job.n_steps)
        timing = timing_of(
            job.network, granularity, job.n_steps, n_samples, carry_state=job.carry_state
        )
        lavas_own(job.network, timing, neurons)  # refused before anything starts
        record = job.record
        names = [p.name for p in job.network] if record is None else recorded(job.network, record)
        save(folder / f"{i}.h5", job.network)
        write_units(folder / f"{i}.inputs.npz", units)
        np.save(folder / f"{i}.progress.npy", np.zeros(1, np.int64))
        entries.append(
            {
                "network": f"{i}.h5",
                "inputs": f"{i}.inputs.npz",
                "result": f"{i}.result.npz",
                "progress": f"{i}.progress.npy",
                "n_steps": int(job.n_steps),
                "record": list(names),
                "probes": probed(job.network, job.probes),
                "carry_state": bool(job.carry_state),
                "granularity": granularity,
                "tag": tag,
                "neurons": neurons,
            }
        )
        total += int(job.n_steps) * n_samples
    header = json.dumps({"token": token, "jobs": entries})
    (folder / "jobs.json").write_text(header, encoding="utf-8")
    # the child imports these very files, whatever is installed there
    (folder / "path").mkdir()
    (folder / "path" / "pmsm_hw").symlink_to(Path(pmsm_hw.__file__).parent)
    return total


def _environment(folder: Path) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "VIRTUAL_ENV")}
    environment["PYTHONPATH"] = str(folder / "path")
    # one process per population already: more threads would only wait for each other
    for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
        environment[f"{library}_NUM_THREADS"] = "1"
    return environment


def _run_child(
    folder: Path,
    token: str,
    interpreter: str,
    timeout_s: float,
    progress: Progress | None,
    total: int,
) -> None:
    with (folder / "output.txt").open("wb") as output:
        try:
            child = subprocess.Popen(  # noqa: S603
                [interpreter, "-m", "pmsm_hw.lava.worker", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=_environment(folder),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise LavaError(
                "lava",
                f"'{interpreter}' cannot be started ({error.strerror})",
                remedy=REMEDY,
                actual=interpreter,
                limit="3.10 with lava-nc",
            ) from error
        try:
            ended = _wait(child, folder, timeout_s, progress, total)
        finally:
            _clean_up(child, token)
    if not ended:
        raise LavaError(
            "lava",
            f"did not finish within {timeout_s:g} s{_said(folder)}",
            remedy="give a larger timeout_s or fewer samples",
            actual=timeout_s,
            limit=timeout_s,
        )
    answered = (folder / "done").exists()
    if child.returncode != 0 or not answered:
        _raise(folder, interpreter, child.returncode)


def _wait(
    child: subprocess.Popen[bytes],
    folder: Path,
    timeout_s: float,
    progress: Progress | None,
    total: int,
) -> bool:
    """Wait without reaping the child, so that its process group cannot be another's."""
    end = time.monotonic() + timeout_s
    shown = -1
    while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > end:
            return False
        if progress is not None and (done := _steps_done(folder)) != shown:
            progress(shown := done, total)
        time.sleep(POLL_S)
    if progress is not None and _steps_done(folder) != shown:
        progress(_steps_done(folder), total)
    return True


def _steps_done(folder: Path) -> int:
    return sum(int(np.load(path)[0]) for path in folder.glob("*.progress.npy"))


def _clean_up(child: subprocess.Popen[bytes], token: str) -> None:
    """Kill the child's process group, wait until it is gone, remove its shared memory."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    end_group(child.pid)
    child.wait()
    remove_shared_memory(token)
    with suppress(BrokenPipeError, subprocess.TimeoutExpired):
        child.communicate(b".", timeout=KILL_WAIT_S)  # the guard's work is done; wait for it


def _said(folder: Path, *names: str) -> str:
    """Last words of the child, for an error message."""
    for name in (*names, "output.txt"):
        with suppress(OSError):
            text = (folder / name).read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return f": {text[-4000:]}" if "\n" not in text else f":\n{text[-4000:]}\n"
    return ""


def _raise(folder: Path, interpreter: str, status: int) -> NoReturn:
    if status == NO_ROOM:
        raise _no_room(folder.parent, "the disk is full, or a limit is reached")
    said = _said(folder, "error.txt")
    ended = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
    if status == NO_LAVA or (status >= 0 and not (folder / "error.txt").exists()):
        lines = said.strip().splitlines()
        said = f": {lines[-1].removeprefix(': ')}" if lines else ""
        raise LavaError(
            "lava",
            f"'{interpreter}' ({ended}) is not a Python 3.10 with lava-nc{said}",
            remedy=REMEDY,
            actual=interpreter,
            limit="3.10 with lava-nc",
        )
    raise LavaError(
        "lava",
        f"run failed, the child was {ended}{said}"
        if status < 0
        else f"run failed in the child{said}",
        remedy="see the child's words",
        actual=status,
        limit=0,
    )
