"""The child that runs Lava: ``python -m pmsm_hw.lava.worker FOLDER``.

The folder holds ``jobs.json`` (see `pmsm_hw.lava.runner`) and per job a network and its inputs; for
each job a result comes back, and ``done`` at the end. Any failure ends in ``error.txt`` and an exit
status other than 0. The caller kills the whole process group, and removes shared memory by the name
that it chose, whatever happens here.

An exception inside a model, or the death of a Lava process, makes Lava wait for ever. A thread
watches the processes, and ends the run with the traceback of the one that failed. A second process
waits for the caller: when that is killed, it ends this process group and cleans up.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from pmsm_hw.errors import FormatError
from pmsm_hw.io import load
from pmsm_hw.lava.cleanup import end_group, remove_shared_memory
from pmsm_hw.lava.handover import NO_LAVA, NO_ROOM, read_units, write_result
from pmsm_hw.lava.results import LavaResult
from pmsm_hw.network import Network, Neurons, Population, Readout

if TYPE_CHECKING:
    from pmsm_hw.lava.graph import LavaNetwork

__all__ = ["main"]

POLL_S = 0.05

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)

_ending = threading.Lock()
"""Taken for good by the first thread that has an error to tell."""


def main(arguments: list[str]) -> int:
    """Run the jobs of a folder.

    Parameters
    ----------
    arguments
        The folder.

    Returns
    -------
    int
        Exit status.
    """
    (folder_name,) = arguments
    folder = Path(folder_name)
    try:
        header = json.loads((folder / "jobs.json").read_text(encoding="utf-8"))
        _start_guard(folder, header["token"])
        _name_shared_memory(header["token"])
        _check_lava(folder)
        watch = _Watch(folder)
        for i, job in enumerate(header["jobs"]):
            _run_job(folder, i, job, watch)
        (folder / "done").touch()
    except Exception as error:  # the boundary of the process: whatever it is, the caller is told
        cause = error.__cause__ if isinstance(error, FormatError) else error
        full = isinstance(cause, OSError) and cause.errno in _NO_ROOM
        _fail(folder, traceback.format_exc(), NO_ROOM if full else 1)
    return 0


def _check_lava(folder: Path) -> None:
    try:
        importlib.import_module("lava.magma.core.process.process")
    except Exception as error:  # an import may fail in any way: Python 3.11 makes it a ValueError
        text = f"Python {sys.version.split()[0]}: {type(error).__name__}: {error}"
        _fail(folder, text, NO_LAVA)


def _fail(folder: Path, text: str, status: int = 1) -> NoReturn:
    _ending.acquire()
    temporary = folder / "error.part"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / "error.txt")
    except OSError:
        status = NO_ROOM
    # neither clean-up nor joins: Lava's may wait for ever
    os._exit(status)


def _start_guard(folder: Path, token: str) -> None:
    """Start a process outside the group that does the caller's duty if that is gone.

    Standard input tells: the caller writes a byte when it has cleaned up itself, and the end comes
    without one when it was killed. The guard keeps standard output, so that the caller sees when it
    has ended; the run itself speaks on standard error.
    """
    group = os.getpgid(0)
    if os.fork() == 0:
        os.setsid()
        if not os.read(0, 1):
            end_group(group)
            remove_shared_memory(token)
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)
    os.dup2(2, 1)


def _name_shared_memory(token: str) -> None:
    """Give shared memory names that start with the token, so that the caller can find it.

    Lava has no option for it; the names are made from these two constants of Python 3.10.
    """
    from multiprocessing import shared_memory

    module: Any = shared_memory
    module._SHM_NAME_PREFIX = f"/{token}_"
    module._SHM_SAFE_NAME_LENGTH = len(token) + 2 + 16


class _Watch(threading.Thread):
    """Ends the run when a Lava process fails or dies while it should work."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.graph: LavaNetwork | None = None
        self.start()

    def run(self) -> None:
        while True:
            time.sleep(POLL_S)
            for actor in self.actors():
                self.check(actor)

    def actors(self) -> list[Any]:
        """Lava's processes, as Lava keeps them: Python's own list forgets the dead."""
        if self.graph is None:
            return []
        runtimes = {id(p.runtime): p.runtime for p in self.graph.populations.values()}
        infrastructures = [getattr(r, "_messaging_infrastructure", None) for r in runtimes.values()]
        return [actor for i in infrastructures if i is not None for actor in tuple(i.actors)]

    def check(self, actor: Any) -> None:
        with contextlib.suppress(ValueError):  # closed: it ended well
            exception, code = actor.exception, actor.exitcode
            if self.graph is None:
                return
            if exception is not None:
                _fail(self.folder, str(exception[1]))
            if code is not None:
                how = f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
                _fail(self.folder, f"Lava process {actor.name} was {how}\n")


def _run_job(folder: Path, index: int, job: dict[str, Any], watch: _Watch) -> None:
    from pmsm_hw.lava.graph import to_lava

    network = load(folder / job["network"])
    units = read_units(folder / job["inputs"])
    n_steps = int(job["n_steps"])
    n_samples = len(next(iter(units.values()))) if units else 1
    files: dict[str, dict[str, Path]] = {}
    for i, population in enumerate(network):
        wanted = _wanted(population, n_steps, n_samples, job)
        files[population.name] = {
            what: _file(folder / f"{index}.{i}.{number}.npy", shape, dtype)
            for number, (what, (shape, dtype)) in enumerate(wanted.items())
        }
    deepest = max(network, key=lambda p: network.depths[p.name]).name
    if "progress" in job and isinstance(network[deepest], Neurons):
        files[deepest]["progress"] = folder / job["progress"]
    graph = to_lava(
        network, units, n_steps, granularity=job["granularity"], tag=job["tag"],
        neurons=job["neurons"], carry_state=job["carry_state"], record=files,
    )  # fmt: skip
    watch.graph = graph
    graph.run(n_samples)
    watch.graph = None
    graph.stop()
    result = _collect(network, units, n_steps, job["record"], job["probes"], files, graph.kinds)
    counted = {name: mine["outside"] for name, mine in files.items() if "outside" in mine}
    outside = {name: n for name, path in counted.items() if (n := int(np.load(path)[0]))}
    write_result(folder / job["result"], result, outside)


_Files: TypeAlias = dict[str, tuple[tuple[int, ...], Any]]
"""Shapes and types, by what is written there."""


def _wanted(population: Population, n_steps: int, n_samples: int, job: dict[str, Any]) -> _Files:
    """Files that the Process of a population is to write to."""
    if not isinstance(population, Neurons):
        return {}
    name, shape, steps = population.name, population.shape, n_samples * n_steps
    wanted: _Files = {"saturations": ((1,), np.int64), "outside": ((1,), np.int64)}
    for state in job["probes"].get(name, ()):
        wanted[f"state {state}"] = (steps, *shape), np.int32
    if isinstance(population, Readout):
        wanted.setdefault("state v", ((n_samples, *shape), np.int64))
    elif name in job["record"]:
        wanted["spikes"] = (steps, *shape), np.int32
    return wanted


def _file(path: Path, shape: tuple[int, ...], dtype: Any) -> Path:
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
    with path.open("rb+") as made:  # a store into a page that a full disk lacks is a SIGBUS
        os.posix_fallocate(made.fileno(), 0, path.stat().st_size)
    return path


def _rows(path: Path, n_steps: int) -> Any:
    """Per sample, what was written in each step."""
    values = np.load(path)
    return values.reshape(-1, n_steps, *values.shape[1:])


def _collect(
    network: Network,
    units: dict[str, Any],
    n_steps: int,
    record: list[str],
    probes: dict[str, list[str]],
    files: dict[str, dict[str, Path]],
    processes: Mapping[str, str],
) -> LavaResult:
    spikes, readouts, logits, saturations = {}, {}, {}, {}
    states: dict[str, dict[str, Any]] = {}
    for population in network.topological:
        name, mine = population.name, files[population.name]

        if name in units and name in record:
            spikes[name] = units[name]
        if "spikes" in mine:
            spikes[name] = _rows(mine["spikes"], n_steps)
        if name in probes:
            states[name] = {state: _rows(mine[f"state {state}"], n_steps) for state in probes[name]}
        if isinstance(population, Readout):
            probed = name in probes and "v" in probes[name]
            ends = states[name]["v"][:, -1] if probed else np.load(mine["state v"])
            readouts[name] = ends.astype(np.int64)
            logits[name] = readouts[name] * population.scale / n_steps
        if "saturations" in mine and (n := int(np.load(mine["saturations"])[0])):
            saturations[name] = n
    return LavaResult(
        spikes=spikes, readouts=readouts, logits=logits, saturations=saturations, n_steps=n_steps,
        states=states, processes=processes,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
