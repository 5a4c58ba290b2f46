"""The child that runs Lava: equal results, and whatever goes wrong, one LavaError and no traces."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from scarce import no_file_above

import pmsm_hw as p
import pmsm_hw.io
from pmsm_hw import lava, reference
from pmsm_hw.lava import interpreter, runner
from pmsm_hw.lava.interpreter import VARIABLE
from pmsm_hw.temporary import temporary_folder

POPULATIONS = (
    p.Input(name="image", shape=(1, 8, 8), levels=(0, 15), scale=1 / 15),
    p.PolarityMultiSpike(name="conv", shape=(4, 8, 8), theta=np.array(90), levels=(2, 4)),
    p.PolarityMultiSpike(name="pool", shape=(4, 4, 4), theta=np.array(4), levels=(2, 4)),
    p.PolarityMultiSpike(name="hidden", shape=(16,), theta=np.array(200), levels=(2, 4)),
    p.Readout(name="scores", shape=(10,)),
)


def small_network() -> p.Network:
    rng = np.random.default_rng(1)
    weights = lambda *shape: rng.integers(-50, 51, shape)  # noqa: E731
    projections = (
        p.Conv2d(source="image", target="conv", weight=weights(4, 1, 3, 3), padding=1),
        p.SumPool(source="conv", target="pool", kernel=(2, 2), stride=(2, 2)),
        p.Dense(source="pool", target="hidden", weight=weights(16, 64)),
        p.Dense(source="hidden", target="scores", weight=weights(10, 16)),
    )
    return p.Network(
        name="small", populations=POPULATIONS, projections=projections, max_steps=100
    )  # fmt: skip


NETWORK = small_network()
IMAGES = np.random.default_rng(2).random((6, 1, 8, 8))


def processes(tag: str) -> list[int]:
    """Living processes of the runs with this tag, oldest first: forks keep the command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # the dead that init has not reaped have no command line
        if b"pmsm_hw.lava.worker" in command and tag.encode() in command:
            started = int(fields[19])
            found.append((started, int(folder.name)))
    return [pid for _, pid in sorted(found)]


@pytest.fixture
def tag(monkeypatch: pytest.MonkeyPatch) -> str:
    """Mark the runs of this test, since others may go on at the same time."""
    mark = f"pmsm_hw_{secrets.token_hex(4)}_"
    monkeypatch.setattr(runner, "PREFIX", mark)
    return mark


@pytest.fixture
def no_traces(tag: str) -> Iterator[None]:
    """No process of a run, no shared memory and no folder is left."""
    yield
    assert not processes(tag)
    assert not list(Path("/dev/shm").glob(f"{tag}*"))
    assert not list(Path(tempfile.gettempdir()).glob(f"{tag}*"))


def failure(**options: object) -> p.PmsmHwError:
    """The error of a run; one that hangs would say that the time is up."""
    with pytest.raises(p.errors.LavaError) as caught:
        lava.run(NETWORK, IMAGES, 5, **{"timeout_s": 60, **options})  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("granularity", ["coarse", "fine"])
@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@pytest.mark.parametrize("n_steps", [1, 5])
def test_equal_to_the_reference(
    granularity: str, tag: str, n_steps: int, lava_python: None, no_traces: None
) -> None:
    result = lava.run(NETWORK, IMAGES, n_steps, granularity=granularity, tag=tag, timeout_s=60)
    expected = reference.run(NETWORK, IMAGES, n_steps)
    assert list(result.spikes) == ["image", "conv", "pool", "hidden"]
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(result.spikes[name], spikes)
        assert result.spikes[name].dtype == np.int32
        assert np.abs(spikes).sum() > 0
    np.testing.assert_array_equal(result.readouts["scores"], expected.readouts["scores"])
    np.testing.assert_array_equal(result.logits["scores"], expected.logits["scores"])
    assert result.saturations == {}
    assert result.n_steps == n_steps


def test_records_what_is_asked_for_and_reports_progress(lava_python: None) -> None:
    seen: list[tuple[int, int]] = []
    result = lava.run(
        NETWORK, IMAGES, 3, record=["pool"], progress=lambda *done: seen.append(done), timeout_s=60
    )
    assert list(result.spikes) == ["pool"]
    assert list(result.logits) == ["scores"]
    assert seen == sorted(seen)
    assert seen[-1] == (18, 18)


def test_frames_of_events(lava_python: None) -> None:
    frames = np.random.default_rng(3).integers(0, 4, (3, 4, 1, 8, 8))
    result = lava.run(NETWORK, frames, 4, timeout_s=60)
    expected = reference.run(NETWORK, frames, 4)
    np.testing.assert_array_equal(result.spikes["hidden"], expected.spikes["hidden"])


def test_several_networks_in_one_child(lava_python: None) -> None:
    jobs = [lava.Job(network=NETWORK, x=IMAGES[:2], n_steps=t, record=["conv"]) for t in (1, 2)]
    for job, result in zip(jobs, lava.run_many(jobs, timeout_s=60), strict=True):
        expected = reference.run(NETWORK, IMAGES[:2], job.n_steps)
        np.testing.assert_array_equal(result.spikes["conv"], expected.spikes["conv"])
    assert lava.run_many([]) == []


def test_saturation_is_counted_like_in_the_reference(lava_python: None) -> None:
    network = p.Network(
        populations=(
            p.Input(name="x", shape=(4,), levels=(0, 15)),
            p.PolarityMultiSpike(
                name="n", shape=(3,), theta=np.array(50), levels=(1, 1),
                bias=np.array([2**23 - 1, 5, -(2**23)]), overflow="saturate",
            ),
            p.Readout(name="out", shape=(3,), bias=np.array(2**22), overflow="saturate"),
        ),
        projections=(
            p.Dense(source="x", target="n", weight=np.full((3, 4), 100), weight_exponent=6),
            p.Identity(source="n", target="out"),
        ),
        max_steps=8,
    )  # fmt: skip
    x = np.random.default_rng(0).integers(0, 16, (5, 4))
    expected = reference.run(network, x, 6)
    assert expected.saturations.keys() == {"n", "out"}
    for granularity in ("coarse", "fine"):
        result = lava.run(network, x, 6, granularity=granularity, timeout_s=60)
        assert result.saturations == expected.saturations
        np.testing.assert_array_equal(result.spikes["n"], expected.spikes["n"])
        np.testing.assert_array_equal(result.readouts["out"], expected.readouts["out"])


def test_parts_that_are_not_connected_and_an_input_nobody_reads(lava_python: None) -> None:
    network = p.Network(
        populations=(
            p.Input(name="a", shape=(3,)),
            p.Input(name="unread", shape=(2,)),
            p.PolarityMultiSpike(name="n", shape=(3,), theta=np.array(7), levels=(2, 2)),
            p.PolarityMultiSpike(
                name="alone", shape=(2,), theta=np.array(9), levels=(2, 2), bias=np.array([5, -4])
            ),
        ),
        projections=(p.Identity(source="a", target="n"),),
        max_steps=4,
    )
    x = {"a": np.array([[1, 2, 30]]), "unread": np.array([[5, 6]])}
    expected = reference.run(network, x, 4)
    for granularity in ("coarse", "fine"):
        result = lava.run(network, x, 4, granularity=granularity, timeout_s=60)
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(result.spikes[name], spikes)


# -- what can go wrong ----------------------------------------------------------------------------


def broken_worker(tmp_path: Path, lines: str) -> str:
    """A Python for the child that runs these lines before the worker starts."""
    script = tmp_path / "broken.py"
    script.write_text(lines, encoding="utf-8")
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f"""exec {interpreter.find_python()} -c 'import runpy, sys; exec(open("{script}").read())
sys.argv = [""] + sys.argv[3:]
runpy.run_module("pmsm_hw.lava.worker", run_name="__main__")' "$@"\n""",
        encoding="utf-8",
    )
    python.chmod(0o755)
    return str(python)


RAISE_IN_MODEL = """
from pmsm_hw.lava.processes.populations import NeuronModel
take = NeuronModel.take
def broken(self, drive, in_sample):
    if self.step_now == 7:
        raise ZeroDivisionError("thrown in step 7")
    return take(self, drive, in_sample)
NeuronModel.take = broken
"""

RAISE_IN_SETUP = """
from pmsm_hw.lava.recording import Recorder
def broken(self, files, n_steps):
    raise ZeroDivisionError("thrown while building")
Recorder.__init__ = broken
"""

HANG = """
from pmsm_hw.lava.processes.populations import NeuronModel
import time
def broken(self, drive, in_sample):
    time.sleep(1000)
NeuronModel.take = broken
"""


@pytest.mark.parametrize("granularity", ["coarse", "fine"])
def test_a_model_that_raises(
    granularity: str, tmp_path: Path, lava_python: None, no_traces: None
) -> None:
    error = failure(python=broken_worker(tmp_path, RAISE_IN_MODEL), granularity=granularity)
    assert "ZeroDivisionError: thrown in step 7" in str(error)
    lava.run(NETWORK, IMAGES[:1], timeout_s=60)  # the next one works
    assert "Traceback" in str(error)
    assert "in run_" in str(error)


def test_a_model_that_cannot_be_built(tmp_path: Path, lava_python: None, no_traces: None) -> None:
    error = failure(python=broken_worker(tmp_path, RAISE_IN_SETUP))
    assert "ZeroDivisionError: thrown while building" in str(error)


def test_a_run_that_takes_too_long(tmp_path: Path, lava_python: None, no_traces: None) -> None:
    error = failure(python=broken_worker(tmp_path, HANG), timeout_s=3)
    assert "did not finish within 3 s" in str(error)
    lava.run(NETWORK, IMAGES[:1], timeout_s=60)  # the next one works
    assert error.limit == 3


def when_running(tag: str, act: Callable[[list[int]], None]) -> threading.Thread:
    """Do something to the processes of the run as soon as its models exist."""

    def wait() -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            pids = processes(tag)
            # the worker, its guard, shared memory, runtime service, source, four populations
            if len(pids) >= 9:
                act(pids)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("victim", [0, -1, -2])
def test_a_killed_process(
    victim: int, tag: str, tmp_path: Path, lava_python: None, no_traces: None
) -> None:
    """The worker itself, and models."""
    slow = broken_worker(tmp_path, HANG)
    thread = when_running(tag, lambda pids: os.kill(pids[victim], signal.SIGKILL))
    error = failure(python=slow, timeout_s=25)
    thread.join(20)
    assert "killed by signal 9" in str(error)
    lava.run(NETWORK, IMAGES[:1], timeout_s=60)  # the next one works


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_a_caller_that_is_killed(
    number: signal.Signals, tag: str, tmp_path: Path, lava_python: None, no_traces: None
) -> None:
    """Ctrl-C, and SIGKILL: nobody is left to clean up then, so the worker itself does."""
    script = tmp_path / "caller.py"
    script.write_text(
        "import numpy as np, pmsm_hw as p, signal\n"
        # a shell that starts tests in the background has them ignore Ctrl-C
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pmsm_hw import io\n"
        "from pmsm_hw.lava import runner\n"
        f"runner.PREFIX = {tag!r}\n"
        f"network = io.load({str(tmp_path / 'n.h5')!r})\n"
        f"python = {broken_worker(tmp_path, HANG)!r}\n"
        "runner.run(network, np.zeros((6, 1, 8, 8)), 5, python=python)\n"
    )
    p.io.save(tmp_path / "n.h5", NETWORK)
    caller = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)
    thread = when_running(tag, lambda pids: caller.send_signal(number))
    try:
        _, said = caller.communicate(timeout=30)
    finally:
        caller.kill()
        thread.join()
    assert caller.returncode == -number, said
    end = time.monotonic() + 10
    while processes(tag) and time.monotonic() < end:
        time.sleep(0.05)


LEAVES_A_FOLDER = """
import os, signal, sys
from pmsm_hw.temporary import temporary_folder
with temporary_folder("pmsm_hw_test_", __import__("pathlib").Path(sys.argv[1])) as folder:
    (folder / "inner").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_left_by_a_killed_process_goes_with_the_next_run(tmp_path: Path) -> None:
    owners = [
        subprocess.Popen(
            [sys.executable, "-c", LEAVES_A_FOLDER, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    folders = [Path(owner.stdout.readline().strip()) for owner in owners if owner.stdout]
    foreign = tmp_path / "pmsm_hw_test_link"
    foreign.symlink_to(folders[0] / "inner")
    owners[0].communicate("")
    assert owners[0].returncode == -signal.SIGKILL
    with temporary_folder("pmsm_hw_test_", tmp_path):
        assert folders[0].is_dir()  # young: its owner may be about to lock it
    for folder in folders:
        os.utime(folder, (0, 0))
    with temporary_folder("pmsm_hw_test_", tmp_path) as mine:
        assert sorted(tmp_path.iterdir()) == sorted([mine, folders[1], foreign])
    owners[1].communicate("")
    with temporary_folder("pmsm_hw_test_", tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [foreign]


@pytest.mark.parametrize(
    "timeout_s", [float("nan"), float("inf"), 0, -1.0, "x", True, None, 10**400]
)
def test_limits_that_are_none(timeout_s: object) -> None:
    with pytest.raises(p.errors.InputError, match=r"timeout_s .*is not a finite number > 0"):
        lava.run(NETWORK, IMAGES, timeout_s=timeout_s)  # type: ignore[arg-type]


def test_no_room_for_the_files_of_a_run(lava_python: None, no_traces: None) -> None:
    """For those of the caller, and for those of the child."""
    for n_bytes, reason in ((3_000, "File too large"), (20_000, "the disk is full, or a limit")):
        with no_file_above(n_bytes):
            error = failure()
        assert f"does not take the files of a run in Lava ({reason}" in str(error)
        assert "TMPDIR" in error.remedy


def test_a_python_that_cannot_be_started(tmp_path: Path, no_traces: None) -> None:
    python = tmp_path / "python"
    python.write_text("#!/nowhere/at/all\n")
    python.chmod(0o755)
    assert "cannot be started (No such file or directory)" in str(failure(python=str(python)))


def test_a_python_without_lava(tmp_path: Path, no_traces: None, lava_python: None) -> None:
    for python in ("/bin/false", "/bin/true"):
        assert "is not a Python 3.10 with lava-nc" in str(failure(python=python))
    bare = broken_worker(tmp_path, "sys.modules['lava'] = None\n")
    assert "is not a Python 3.10 with lava-nc" in str(failure(python=bare))


def test_no_python_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(interpreter.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(interpreter, "BESIDE", "nowhere")
    error = failure()
    assert "needs CPython 3.10 with lava-nc" in str(error)
    assert "\n" not in str(error)
    monkeypatch.setenv(VARIABLE, "/nowhere/python")
    assert "'/nowhere/python' is not an executable file" in str(failure())
    assert "argument python" in str(failure(python="/nowhere/at/all"))


@pytest.mark.parametrize("where", ["environment", "checkout"])
def test_the_environment_of_make_setup_is_found(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(interpreter.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment" / ".venv"))
    monkeypatch.setattr(interpreter, "CHECKOUT", tmp_path / "checkout")
    python = tmp_path / where / ".venv-lava" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    assert lava.find_python() == str(python)


def test_uv_makes_a_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "uv"
    uv.touch()
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(interpreter.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(interpreter, "BESIDE", "nowhere")

    uv.write_text("#!/bin/sh\nprintf 'no\\nnetwork' >&2\nexit 2\n")
    with pytest.raises(p.errors.LavaError, match=r"exit status 2, 0 is needed\): no network;"):
        lava.find_python()
    uv.write_text("#!/bin/sh\nexec sleep 5\n")
    with monkeypatch.context() as patch:
        patch.setattr(interpreter, "UV_TIMEOUT_S", 0.2)
        with pytest.raises(p.errors.LavaError, match="no environment with lava-nc within"):
            lava.find_python()
    assert not list((tmp_path / "cache" / "pmsm-hw").iterdir())  # nothing half made

    uv.write_text(
        f"""#!/bin/sh
echo "$@" >> {tmp_path}/calls
if [ "$1" = venv ]; then mkdir -p "$4/bin"; touch "$4/bin/python"; fi
"""
    )
    python = str(tmp_path / "cache" / "pmsm-hw" / interpreter.ENVIRONMENT / "bin" / "python")
    assert lava.find_python() == python
    assert lava.find_python() == python  # made once
    made, installed = (tmp_path / "calls").read_text().splitlines()
    assert made.startswith("venv --python 3.10 ")
    assert installed.endswith("lava-nc==0.10.0 numpy<2 h5py>=3.8")


def test_bad_input_is_refused_before_a_child_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.subprocess, "Popen", None)
    monkeypatch.setattr(runner, "find_python", lambda python: "python")
    for x, options in (
        (np.zeros((2, 1, 8, 9)), {}),
        (np.full((2, 1, 8, 8), np.nan), {}),
        (np.full((2, 1, 8, 8), 99), {}),
        (IMAGES, {"n_steps": 101}),
        (IMAGES, {"granularity": "medium"}),
        (IMAGES, {"tag": "int8"}),
    ):
        with pytest.raises(p.errors.InputError):
            lava.run(NETWORK, x, **options)
    with pytest.raises(p.errors.NetworkError, match="'nothing' does not exist"):
        lava.run(NETWORK, IMAGES, record=["nothing"])


def test_importing_the_front_door_imports_no_lava() -> None:
    code = (
        "import sys, pmsm_hw.lava; "
        "assert not [m for m in sys.modules if m.split('.')[0] in ('lava', 'h5py', 'scipy')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
