"""The command's files, streams and exit status: whatever is in their way, one line and no harm."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import CLI, written
from scarce import no_file_above, small_disk
from writers import mapping, network

from pmsm_hw import io
from pmsm_hw.cli import ending
from pmsm_hw.network import Network

# the inputs are absent: a line about the output shows that it is looked at before the work
ABSENT = {
    "demo --report": ("demo --network absent.h5 --report {}", ".html"),
    "demo --trace": ("demo --network absent.h5 --trace {}", ".json"),
    "run -o": ("run absent.h5 -o {}", ".h5"),
    "run --report": ("run absent.h5 --report {}", ".html"),
    "run --trace": ("run absent.h5 --trace {}", ".json"),
    "compare --plot": ("compare absent.h5 --plot {}", ".png"),
    "convert -o": ("convert absent:make -o {}", ".h5"),
    "map -o": ("map absent.h5 -o {}", ".h5"),
    "map --plot": ("map absent.h5 -o fine.h5 --plot {}", ".svg"),
    "emulate --report": ("emulate absent.h5 --report {}", ".html"),
    "emulate --trace": ("emulate absent.h5 --trace {}", ".json"),
    "export -o": ("export absent.h5 -o {}", ".nir"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    io.save("net.h5", network())
    io.save("mapped.h5", network(), mapping=mapping())
    return tmp_path


@pytest.fixture
def here(monkeypatch, capsys):
    """Run the command in this process; exit status, stdout and lines of stderr."""

    def run(line):
        monkeypatch.setattr(sys, "argv", ["pmsm-hw", *shlex.split(line)])
        with pytest.raises(SystemExit) as caught:
            ending.main()
        out, err = capsys.readouterr()
        return caught.value.code, out, err.splitlines()

    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def shell(line, *, cwd, **environment):
    return subprocess.run(
        ["bash", "-c", line.replace("pmsm-hw", str(CLI))], capture_output=True, text=True,
        check=False, cwd=cwd, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("case", ABSENT)
def test_outputs_are_checked_before_the_work(case, here, folder):
    command, suffix = ABSENT[case]
    (folder / f"folder{suffix}").mkdir()
    (folder / f"dangling{suffix}").symlink_to("nothing")
    (folder / f"loop{suffix}").symlink_to(f"loop{suffix}")
    before = written(folder)
    for name, words in {
        f"folder{suffix}": "it is a folder",
        ".": "it is a folder",
        "''": "it is a folder",
        f"absent/x{suffix}": "does not exist",
        f"net.h5/x{suffix}": "Not a directory",
        f"dangling{suffix}": "it is a link to",
        f"loop{suffix}": "symbolic links",
        f"{'n' * 256}{suffix}": "name too long",
        "x.xyz": "suffix '.xyz' is unknown",
    }.items():
        status, out, lines = here(command.format(name))
        assert (status, out, len(lines)) == (2, "", 1), (name, lines)
        assert words in lines[0]
        assert "option --" in lines[0]
    assert written(folder) == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run net.h5 --report x.html --trace ./x.html", "use .json"),
        ("map net.h5 -o x.h5 --plot x.h5", "use .png"),
        ("run net.h5 --report a.html --trace a.json", "it is the file of option --report too"),
        ("export net.h5 -o net.h5", "it is read as well"),
        ("emulate net.h5 --trace in.json --data in.json", "it is read as well"),
        ("demo --network net.h5 --save-dir net.h5", "is not a folder"),
        ("demo --network net.h5 --save-dir net.h5/x", "Not a directory"),
        ("demo --network d/network.h5 --save-dir d", "it is read as well"),
        ("demo --network net.h5 --save-dir d --report d/mapped.h5", "use .html"),
    ],
)
def test_outputs_that_are_something_else_already(command, words, here, folder):
    (folder / "d").mkdir()
    (folder / "in.json").touch()
    (folder / "d" / "network.h5").write_bytes((folder / "net.h5").read_bytes())
    (folder / "a.html").touch()
    (folder / "a.json").symlink_to("a.html")
    before = {p: p.read_bytes() for p in folder.rglob("*.*") if p.is_file()}
    status, out, (line,) = here(command)
    assert (status, out) == (2, "")
    assert words in line
    assert {p: p.read_bytes() for p in folder.rglob("*.*") if p.is_file()} == before


def test_a_file_can_be_mapped_in_its_place(here, folder):
    (folder / "link.h5").symlink_to("net.h5")
    status, _, _ = here("map net.h5 --chip loihi1 -o link.h5")
    assert status == 0
    assert io.has_mapping("net.h5")
    assert (folder / "link.h5").is_symlink()


def test_a_file_that_goes_to_standard_output_has_it_alone(folder):
    done = shell(
        "pmsm-hw export net.h5 -o /dev/stdout > a.h5; pmsm-hw export net.h5 -o /dev/fd/3 3> b.h5",
        cwd=folder,
    )
    assert done.stderr == "wrote /dev/stdout\n"
    assert done.stdout == "wrote /dev/fd/3\n"
    for name in ("a.h5", "b.h5"):
        assert (folder / name).read_bytes() == (folder / "net.h5").read_bytes()


def test_room_runs_out(folder):
    """Of the process's limit: no signal, no file, no text of HDF5."""
    before = written(folder)
    done = shell(
        "ulimit -f 1; pmsm-hw export net.h5 -o a.h5; echo $?; pmsm-hw export net.h5 -o a.nir; "
        "echo $?; pmsm-hw export net.h5 -o net.nir > /dev/full; echo $?",
        cwd=folder,
    )
    assert done.stdout.split() == ["2", "2", "2"]
    assert [line.split("; ")[0] for line in done.stderr.splitlines()] == [
        "pmsm-hw: file 'a.h5': cannot be written (File too large)",
        "pmsm-hw: file 'a.nir': cannot be written (File too large)",
        "pmsm-hw: file 'net.nir': cannot be written (File too large)",
    ]
    assert written(folder) == before


def test_streams_that_are_full_closed_or_left(folder):
    """As `test_room_runs_out`, for what is printed; the reader of a pipe may go when it likes."""
    full, closed = "No space left on device", "Bad file descriptor"
    for line, status, out, err in (
        ("pmsm-hw inspect net.h5 > /dev/full", 2, "", full),
        ("pmsm-hw --help > /dev/full", 2, "", full),
        ("pmsm-hw inspect net.h5 >&-", 2, "", closed),
        ("pmsm-hw inspect net.h5 2>&- | wc -l", 0, "6\n", ""),
        ("pmsm-hw 2> /dev/full > /dev/full", 2, "", ""),
        ("pmsm-hw nonsense 2>&-", 2, "", ""),
        ("pmsm-hw nonsense 2> /dev/full", 2, "", ""),
        ("pmsm-hw --version <&- >&- 2>&-", 2, "", ""),
        ("pmsm-hw inspect net.h5 | true; exit ${PIPESTATUS[0]}", 141, "", ""),
        ("pmsm-hw --help | true; exit ${PIPESTATUS[0]}", 141, "", ""),
    ):
        done = shell(line, cwd=folder)
        assert done.returncode == status, (line, done)
        assert done.stdout == out, line
        assert f"standard output: cannot be written ({err}" in done.stderr or not err
        assert len(done.stderr.splitlines()) == bool(err), (line, done.stderr)


def test_a_terminated_run_cleans_up(folder):
    """While it writes to a pipe that nobody empties."""
    os.mkfifo(folder / "pipe.h5")
    child = subprocess.Popen(
        [str(CLI), "export", "net.h5", "-o", "pipe.h5"], cwd=folder, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while time.monotonic() < end:
        (caught,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{child.pid}/status").read_text())
        if int(caught, 16) >> signal.SIGTERM - 1 & 1:
            break
        time.sleep(0.05)
    time.sleep(1)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (143, ""), err
    assert err == "pmsm-hw: terminated; no file is half written\n"
    assert written(folder) == ["mapped.h5", "net.h5", "pipe.h5"]


def fault_of(module):
    """A function that raises, defined in a module of this name."""
    namespace = {"__name__": module}
    exec(compile("def fault(*_):\n    return 1 / 0", f"/home/me/{module}.py", "exec"), namespace)
    return namespace["fault"]


def test_whose_error_it_is(here, folder, monkeypatch):
    monkeypatch.setattr(Network, "summary", fault_of("pmsm_hw.network"))
    status, out, lines = here("inspect net.h5")
    assert (status, out) == (1, "")
    assert "ZeroDivisionError" in lines[-2]
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("pmsm-hw: internal error: ZeroDivisionError: division by zero; ")
    monkeypatch.setattr(Network, "summary", fault_of("mine"))
    status, out, (line,) = here("inspect net.h5")
    assert (status, out) == (2, "")
    assert line.startswith("pmsm-hw: '/home/me/mine.py', line 2: ZeroDivisionError: division by")


def test_what_the_system_lacks(here, folder, monkeypatch):
    for error, words in (
        (PermissionError(13, "Permission denied", "x.h5"), "file 'x.h5': Permission denied"),
        (OSError(5, "Input/output error"), "system: Input/output error"),
        (MemoryError(), "memory: is not enough"),
        (EOFError("short"), "internal error: EOFError: short"),
    ):

        def fail(*_, error=error):
            raise error

        fail = type(fail)(fail.__code__, {"__name__": "pmsm_hw.x"}, "fail", (), fail.__closure__)
        fail.__kwdefaults__ = {"error": error}
        monkeypatch.setattr(Network, "summary", fail)
        status, _, lines = here("inspect net.h5")
        assert status == (1 if isinstance(error, EOFError) else 2)
        assert words in lines[-1]


def test_memory_that_runs_out(folder):
    done = shell(
        "ulimit -v 1000000; pmsm-hw emulate mapped.h5 --mode counts --data random --limit 2000000",
        cwd=folder, OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("pmsm-hw: memory: is not enough (Unable to allocate")
    assert len(done.stderr.splitlines()) == 1


def test_a_read_only_disk(here, folder):
    (folder / "disk").mkdir()
    with small_disk(folder / "disk", read_only=True):
        for command, suffix in ABSENT.values():
            status, _, (line,) = here(command.format(f"disk/x{suffix}"))
            assert status == 2
            assert "Read-only file system" in line


def test_demo_saves_all_or_nothing(here, folder):
    """A limit of the process that the second of two files does not pass."""
    io.save("small.h5", network())
    line = "demo --network small.h5 --no-lava --save-dir "
    status, _, _ = here(line + "good/folder")
    assert status == 0
    sizes = {p.name: p.stat().st_size for p in (folder / "good" / "folder").iterdir()}
    assert sorted(sizes) == ["mapped.h5", "network.h5"]
    (folder / "old").mkdir()
    for name in sizes:
        (folder / "old" / name).write_text("old")
    assert sizes["network.h5"] < sizes["mapped.h5"] - 100
    with no_file_above(sizes["mapped.h5"] - 100):
        status, _, lines = here(line + "old")
    assert status == 2
    assert "mapped.h5': cannot be written (File too large)" in lines[-1]
    assert {p.name: p.read_text() for p in (folder / "old").iterdir()} == dict.fromkeys(
        sizes, "old"
    )
