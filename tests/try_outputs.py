"""Put every obstacle in the way of every file that the command writes, a process for each.

    sudo python tests/try_outputs.py [--only WORD] [--warm]

As root, who may make devices and mount disks. What fits is written (through links, into devices and
pipes, beside readers of the old file); what does not is refused in one line with exit status 2.
Either way nothing else is touched: folders are looked through before and after. Prints a line for
each command, and ends with exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import contextmanager
from pathlib import Path

import h5py
import matplotlib.figure  # noqa: F401 - not by each child
import numpy as np
from writers import mapping, network

from pmsm_hw import PmsmHwError, io, nn
from pmsm_hw.cli import main as main_of_command
from pmsm_hw.convert import save_model

PYTHON = "python"  # a call of the public function
COMMANDS = {
    "export h5": ("export {in}/net.h5 -o {out}", "x.h5"),
    "export nir": ("export {in}/net.h5 -o {out}", "x.nir"),
    "save_model": (PYTHON, "x.pt"),
    "map -o": ("map {in}/net.h5 -o {out}", "x.h5"),
    "convert -o": ("convert {in}/model.pt -o {out}", "x.h5"),
    "run -o": ("run {in}/net.h5 --limit 2 -o {out}", "x.h5"),
    "emulate --report": ("emulate {in}/mapped.h5 --limit 2 --report {out}", "x.html"),
    "emulate --trace": ("emulate {in}/mapped.h5 --limit 2 --trace {out}", "x.json"),
    "map --plot svg": ("map {in}/net.h5 -o {in}/y.h5 --plot {out}", "x.svg"),
    "compare --plot png": ("compare {in}/net.h5 --limit 2 --plot {out}", "x.png"),
    "demo --save-dir": ("demo --network {in}/net.h5 --no-lava --save-dir {folder}", "network.h5"),
    "demo --report": ("demo --network {in}/net.h5 --no-lava --report {out}", "x.html"),
    "demo --trace": ("demo --network {in}/net.h5 --no-lava --trace {out}", "x.json"),
    "run --report": ("run {in}/net.h5 --limit 2 --report {out}", "x.html"),
    "run --trace": ("run {in}/net.h5 --limit 2 --trace {out}", "x.json"),
    "compare --plot pdf": ("compare {in}/net.h5 --limit 2 --plot {out}", "x.pdf"),
}
MAGIC = {
    ".h5": b"\x89HDF", ".nir": b"\x89HDF", ".html": b"<!DOCTYPE html>", ".json": b'{"displayTime',
    ".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml", ".pt": b"PK",
}  # fmt: skip
OLD = b"what was here before"


def run(command, out, inputs, limit=0):
    """Exit status (of a signal, negative), and the lines of stderr that are no progress."""
    fields = {"in": inputs, "out": out, "folder": out.parent}
    sys.argv = ["pmsm-hw", *(word.format(**fields) for word in command.split())]
    said, tell = os.pipe()
    child = os.fork()  # what is imported here need not be imported by each
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(tell, 2)
            if limit:
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            save(out) if command == PYTHON else main_of_command()
        except SystemExit as error:
            os._exit(error.code or 0)
        finally:
            os._exit(99)
    os.close(tell)
    with open(said, errors="replace") as file:
        lines = [x for x in file.read().splitlines() if not x.endswith("...")]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, [x for x in lines if not x.startswith("wrote ")]


def save(out):
    x = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)
    model = nn.quantize(nn.models.digits_cnn(seed=0, width=2), levels=(1, 4), calibration=x)
    try:
        save_model(out, model)
    except PmsmHwError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def write_inputs(folder):
    io.save(folder / "net.h5", network())
    io.save(folder / "mapped.h5", network(), mapping=mapping())


def content(folder):
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        data = path.read_bytes() if stat.S_ISREG(mode) else None
        found[str(path)] = mode, os.readlink(path) if path.is_symlink() else None, data
    return found


def written(run_it, path):
    status, lines = run_it(path)
    assert (status, lines) == (0, []), (status, lines)


def refused(run_it, path, around, words=""):
    before = content(around)
    status, lines = run_it(path)
    assert status == 2, (status, lines)
    assert len(lines) == 1, lines
    assert words in lines[0], lines
    assert content(around) == before, "something was touched"


@contextmanager
def disk(folder, *options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    try:
        for option in options:
            subprocess.run(["mount", "-o", option, folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def device(go, path):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    written(go, path)
    assert stat.S_ISCHR(path.lstat().st_mode)


def fifo(go, path):
    os.mkfifo(path)
    got = []
    threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True).start()
    written(go, path)
    assert stat.S_ISFIFO(path.lstat().st_mode)
    assert got
    assert got[0].startswith(MAGIC[path.suffix])


def link(go, path):
    target = path.parent.parent / "target"
    target.write_bytes(OLD)
    target.chmod(0o600)
    path.symlink_to("../target")
    written(go, path)
    assert path.is_symlink()
    assert target.read_bytes().startswith(MAGIC[path.suffix])
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def in_use(go, path):
    if path.suffix == ".h5":
        io.save(path, network())
        with h5py.File(path, "r") as reader:  # which locks it
            written(go, path)
            assert reader.attrs["max_steps"] == 4
        return
    path.write_bytes(OLD)
    with path.open("rb") as reader:
        written(go, path)
        assert reader.read() == OLD


def dangling(go, path):
    path.symlink_to("nowhere")
    refused(go, path, path.parent, "it is a link to")


def folder(go, path):
    (path / "inside").mkdir(parents=True)
    refused(go, path, path.parent, "it is a folder")


def long_name(go, path):
    if path.name == "network.h5":
        path = path.parent / (256 * "n") / path.name
    else:
        path = path.parent / (256 * "n" + path.suffix)
    refused(go, path, path.parents[path.name == "network.h5"], "name too long")


def below_a_file(go, path):
    (path.parent / "file").write_bytes(OLD)
    refused(go, path.parent / "file" / path.name, path.parent)


def read_only(go, path):
    with disk(path.parent, "remount,ro"):
        refused(go, path, path.parent, "Read-only file system")


def full_disk(go, path):
    with disk(path.parent):
        path.write_bytes(OLD)
        (path.parent / "filler").write_bytes(bytes(60 * 1024))
        refused(go, path, path.parent, "No space left on device")


def file_limit(go, path):
    path.write_bytes(OLD)
    refused(lambda out: go(out, 1024), path, path.parent, "File too large")


def mounted(go, path):
    """A file that cannot be renamed over, as it is a mount of its own."""
    path.write_bytes(OLD)
    other = path.parent.parent / "other"
    other.write_bytes(OLD)
    subprocess.run(["mount", "--bind", other, path], check=True)
    try:
        refused(go, path, path.parent, "it is mounted by itself")
    finally:
        subprocess.run(["umount", path], check=True)


OBSTACLES = (
    device, fifo, link, in_use, dangling, folder, long_name, below_a_file, read_only, full_disk,
    file_limit, mounted,
)  # fmt: skip


def prepared(folder, *, warm):
    """Files to read, and compiled code in the cache: none is written where there is no room."""
    child = os.fork()  # threads that compiled code starts would not survive the next one
    if child == 0:
        write_inputs(folder)
        os._exit(0)
    os.waitpid(child, 0)
    assert run(PYTHON, folder / "model.pt", folder)[0] == 0
    for command, name in () if warm else COMMANDS.values():
        (folder / "first").mkdir(exist_ok=True)
        status, lines = run(command, folder / "first" / name, folder)
        assert status == 0, lines


def attempt(obstacle, command, inputs, path):
    """Whether all is as it should be."""
    path.parent.mkdir(parents=True)
    try:
        obstacle(lambda out, limit=0: run(command, out, inputs, limit), path)
    except Exception:
        traceback.print_exc()
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="commands and obstacles with this word")
    parser.add_argument("--warm", action="store_true", help="compiled code is in the cache")
    given = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name) / "in"
        inputs.mkdir()
        prepared(inputs, warm=given.warm)
        for what, (command, file_name) in COMMANDS.items():
            tried = [o for o in OBSTACLES if given.only in what or given.only in o.__name__]
            for obstacle in tried:
                path = Path(name) / what.replace(" ", "_") / obstacle.__name__ / "out" / file_name
                if not attempt(obstacle, command, inputs, path):
                    wrong.append(f"{what} {obstacle.__name__}")
            print(f"{what}: {', '.join(o.__name__ for o in tried)}", flush=True)
    print(f"{len(COMMANDS)} outputs, {len(OBSTACLES)} obstacles, {len(wrong)} wrong", *wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
