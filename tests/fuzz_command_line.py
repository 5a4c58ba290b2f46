"""Command lines and calls that are right but for one thing, made from what there is.

``python tests/fuzz_command_line.py --cases 400`` goes through every command, option and argument of
the command line. The right ones must succeed; each case must end with exit status 2 and one line on
stderr that names what is wrong, and leave the folder as it was.
``tests/test_command_line_mistakes.py`` runs some of them, and makes sure that a new option gets
values here.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from in_process import call, snapshot

INTEGERS = ("x", "1.5", "-1", "99999999999999999999", "", "1e3", "nan")
PAIRS = ("2;4", "a,b", "3", "1,2,3", "-1,4", "0,0", "1.5,2", "99999,99999", "", "4,nan")
CHOICES = ("nonsense", "", "LATENCY,", "None")
READ = (
    "nowhere/x.h5", ".", "", "empty.h5", "text.h5", "half.h5", "other.h5", "dense.net",
    "nowhere.pt", "x" * 300 + ".h5",
)  # fmt: skip
WRITTEN = ("nowhere/x{}", "sub", ".", "", "text.txt/x{}", "x" * 300 + "{}", "x.wrong", "sub{}")
DATA = (
    "cats", "", "nowhere.npz", "empty.npz", "text.npz", "shape.npz", "nan.npz", "object.npz",
    "labels.npz", "nowhere.npy", "text.npy", "text.bin", "sub", "net.h5", "x.csv", "none.npz",
)  # fmt: skip

WRONG: dict[str, tuple[str, ...]] = {
    "--seed": (*INTEGERS, "4294967296"),
    "--limit": (*INTEGERS, "0", "2147483648"),
    "--n-steps": (*INTEGERS, "0", "9", "4097"),
    "--weight-bits": (*INTEGERS, "1", "9"),
    "--max-steps": (*INTEGERS, "0", "4097"),
    "--timeout-s": ("x", "nan", "-1", "0", "", "1,5", "inf"),
    "--input-scale": ("x", "nan", "-1", "0", "", "inf", "1/255"),
    "--levels": PAIRS,
    "--gains": PAIRS,
    "--input-levels": ("2;4", "a,b", "3", "1,2,3", "4,0", "1.5,2", "99999999,9999999999", ""),
    "--objective": CHOICES,
    "--mode": CHOICES,
    "--granularity": CHOICES,
    "--neurons": CHOICES,
    "--max-pool": CHOICES,
    "--profile": CHOICES,
    "--chip": ("loihi9", "", "nowhere.toml", "text.toml", "key.toml", ".", "sub", "net.h5"),
    "--data": DATA,
    "--calibration": DATA,
    "--network": READ,
    "--state-dict": ("nowhere.pt", ".", "", "text.pt", "net.h5", "other.pt"),
    "--output": tuple(w.format(".h5") for w in WRITTEN),
    "--report": tuple(w.format(".html") for w in WRITTEN),
    "--trace": tuple(w.format(".json") for w in WRITTEN),
    "--plot": tuple(w.format(".png") for w in WRITTEN),
    "--save-dir": ("text.txt", "text.txt/x", "nowhere/x/y" + "z" * 300, "net.h5"),
    "--name": ("", "  ", "a\nb", "x" * 5000),
    "FILE": READ,
    "MODEL": (
        *READ, "text.pt", "model.onnx", "mine", "mine:", ":make", "mine:nothing",
        "nowhere:make", "mine:large", "mine:number", "mine:raises", "mine:exits", "mine:needs",
        "./mine.py:make", "syntax:make", "leaves:make", "fails:make",
    ),
    "MODEL...": (*READ, "model.onnx"),
    "CHIP": ("loihi9", "", "nowhere.toml", "text.toml", "key.toml", ".", "net.h5"),
}  # fmt: skip
"""Wrong values of every option and argument."""

SUBJECTS = {
    "--data": ("input '", "calibration"), "--calibration": ("data", "input '"), "FILE": ("file",),
    "MODEL": ("model", "file"), "MODEL...": ("model", "file"), "--network": ("file",),
    "--state-dict": ("file",),
}  # fmt: skip
"""What the option, or its value, is called where a line names neither."""

FLAGS = {
    "--json", "--per-channel", "--split-fan-in", "--split-fan-out", "--lava", "--trace-all",
    "--carry-state", "--version",
}  # fmt: skip
TOP = {"--help", "--install-completion", "--show-completion", "--version"}

SMALL = ("--data", "random", "--limit", "1")
TORCH = ("--levels", "0,15", "--calibration", "small.npz")
RIGHT: dict[str, tuple[tuple[str, ...], ...]] = {
    "demo": (("demo", "--network", "digits.h5", "--no-lava", "--chip", "toy"),),
    "run": (
        ("run", "net.h5", *SMALL, "--chip", "toy", "--mode", "counts"),
        ("run", "net.nir", *SMALL, "--chip", "toy"),
        ("run", "mine:make", "--levels", "0,15", "--data", "small.npz", "--mode", "counts"),
    ),
    "compare": (("compare", "net.h5", *SMALL, "--chip", "toy", "--mode", "counts"),),
    "convert": (("convert", "mine:make", *TORCH, "-o", "out.h5"),),
    "inspect": (("inspect", "net.h5"), ("inspect", "net.nir")),
    "map": (("map", "net.h5", "--chip", "toy", "-o", "out.h5"),),
    "emulate": (("emulate", "mapped.h5", *SMALL),),
    "lava": (("lava", "net.h5", *SMALL),),
    "export": (("export", "net.h5", "-o", "out.nir"),),
    "list": (("chips", "list"),),
    "show": (("chips", "show", "toy"),),
}
"""Command lines that are right, by command; they run in a folder that `prepare` filled."""

MINE = """
import sys
from torch import nn
number = 3
def make():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
def large():
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
def needs(size):
    return make()
def raises():
    raise ValueError("not today")
def exits():
    sys.exit(5)
"""


def prepare(folder: Path) -> None:
    """Write what right and wrong command lines name."""
    from random_networks import small_network

    from pmsm_hw import io
    from pmsm_hw.mapping import load_chip, map_network
    from pmsm_hw.network import Dense, Input, Network, PolarityMultiSpike, Readout

    rng = np.random.default_rng(0)
    network = Network(
        populations=(
            Input(name="input", shape=(4,), levels=(0, 7)),
            PolarityMultiSpike(name="hidden", shape=(6,), theta=9, levels=(1, 2)),
            Readout(name="output", shape=(3,)),
        ),
        projections=(
            Dense(source="input", target="hidden", weight=rng.integers(-9, 9, (6, 4), np.int8)),
            Dense(source="hidden", target="output", weight=rng.integers(-9, 9, (3, 6), np.int8)),
        ),
        max_steps=4,
    )
    io.save(folder / "net.h5", network)
    if find_spec("nir"):
        io.save_nir(folder / "net.nir", network)
    io.save(folder / "mapped.h5", network, mapping=map_network(network, load_chip("toy")))
    io.save(folder / "digits.h5", small_network())
    whole = (folder / "net.h5").read_bytes()
    (folder / "half.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "sub").mkdir()
    (folder / "one.html").touch()
    (folder / "one.json").symlink_to("one.html")
    for name in ("sub.h5", "sub.html", "sub.json", "sub.png", "sub.nir"):
        (folder / name).mkdir()
    for suffix in ("h5", "npz", "npy", "bin", "pt", "toml", "txt"):
        (folder / f"text.{suffix}").write_text("not what the suffix says\n" * 3)
    for suffix in ("h5", "npz"):
        (folder / f"empty.{suffix}").write_bytes(b"")
    import h5py

    with h5py.File(folder / "other.h5", "w") as file:
        file["weights"] = np.ones(3)
    with h5py.File(folder / "dense.net", "w") as file:  # netx, as lava-dl writes it
        file["layer/0/type"] = np.array([b"input"])
        file["layer/0/shape"] = np.array([4])
    from importlib.resources import files

    toy = files("pmsm_hw.mapping.chips").joinpath("toy.toml").read_text()
    (folder / "key.toml").write_text(toy.replace("neurons = ", "neuronz = ", 1))
    x = rng.random((8, 4), np.float32)
    np.savez(folder / "small.npz", x=x, labels=np.zeros(8, np.int64))
    np.savez(folder / "shape.npz", x=np.ones((2, 3, 3), np.float32))
    np.savez(folder / "nan.npz", x=np.full((2, 4), np.nan, np.float32))
    np.savez(folder / "none.npz", x=np.zeros((0, 4), np.float32))
    np.savez(folder / "labels.npz", x=x, labels=np.zeros(3, np.int64))
    np.savez(folder / "object.npz", x=np.array([{}, 1], dtype=object))
    (folder / "mine.py").write_text(MINE)
    (folder / "syntax.py").write_text("def make(:\n")
    (folder / "leaves.py").write_text("import sys\nsys.exit(5)\n")
    (folder / "fails.py").write_text("1 / 0\n")
    if find_spec("torch"):
        import torch

        torch.save({"elsewhere": torch.zeros(2)}, folder / "other.pt")


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the app, by the last word of its name."""
    import typer

    from pmsm_hw.cli import app

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        for word, each in (inner or {}).items():
            yield from walk(word, each)

    yield from walk("", typer.main.get_command(app))


def named(parameter: Any) -> str:
    """``--seed``, or the metavar of an argument."""
    if parameter.param_type_name == "argument":
        metavar = str(parameter.metavar or parameter.name.upper())
        return metavar if parameter.nargs == 1 else f"{metavar.rstrip('.')}..."
    return next(o for o in parameter.opts if o.startswith("--"))


@dataclass(frozen=True)
class Case:
    """One command line, what is wrong with it, and words of which the error has one."""

    line: tuple[str, ...]
    wrong: str
    names: tuple[str, ...]


def _with(line: tuple[str, ...], command: Any, parameter: Any, value: str) -> tuple[str, ...]:
    """The line with another value of an option or argument."""
    if parameter.param_type_name == "argument":
        first = 1 if line[0] != "chips" else 2
        return (*line[:first], value, *line[first + 1 :])
    flags = set(parameter.opts)
    kept: list[str] = []
    skip = False
    for word in line:
        if skip:
            skip = False
        elif word in flags:
            skip = True
        else:
            kept.append(word)
    return (*kept, named(parameter), value)


def cases() -> list[Case]:
    """Every wrong value in every right line, and what is wrong with lines as such."""
    found: list[Case] = []
    torch, nir = find_spec("torch") is not None, find_spec("nir") is not None
    for name, command in commands():
        for line in RIGHT[name]:
            if not torch and "mine:make" in line:
                continue
            if not nir and (line[1].endswith(".nir") or name == "export"):
                continue
            for parameter in command.params:
                what = named(parameter)
                if what in FLAGS or what in TOP:
                    if what not in TOP:
                        given = (*line, f"{what}=maybe")
                        found.append(Case(given, f"{what} takes no value", (what,)))
                    continue
                word = what.strip("-").lower()
                found += [
                    Case(
                        _with(line, command, parameter, value),
                        f"{what} is {value[:40]!r}",
                        (word, word.replace("-", "_"), *SUBJECTS.get(what, ()))
                        + ((" ".join(value.split()),) if value else ()),
                    )
                    for value in WRONG[what]
                ]
                if parameter.param_type_name != "argument":
                    found.append(Case((*line, what), f"{what} has no value", (what,)))
            found.append(Case((*line, "--nonsense"), "unknown option", ("--nonsense",)))
            many = "one-too-many.npz"
            found.append(Case((*line, many), "an argument too many", (many,)))
    found += [
        Case(("nonsense",), "unknown command", ("'nonsense'",)),
        Case(("chips", "nonsense"), "unknown command", ("'nonsense'",)),
        Case(
            (*RIGHT["emulate"][0], "--report", "one.html", "--trace", "one.json"),
            "two outputs are one file",
            ("option --trace 'one.json': cannot be written, it is the file of option --report",),
        ),
        Case(("export", "net.h5", "-o", "net.h5"), "the output is read", ("it is read as well",)),
    ]
    return found


def chosen(n: int, seed: int) -> list[Case]:
    """Cases with every option of every command among them, as far as that goes."""
    every = cases()
    random.Random(seed).shuffle(every)
    seen: set[tuple[str, str]] = set()
    first: list[Case] = []
    rest: list[Case] = []
    for case in every:
        key = (case.line[0], case.wrong.split(" ")[0])
        (rest if key in seen else first).append(case)
        seen.add(key)
    return (first + rest)[:n]


def problem(case: Case, folder: Path) -> str | None:
    """What is wrong with how a case ended, None if nothing is."""
    before = snapshot(folder)
    done = call(*case.line, cwd=folder)
    after = snapshot(folder)
    lines = [x for x in done.stderr.splitlines() if not x.endswith(" ...")]
    if "Traceback" in done.stderr:
        return f"traceback: {lines[-1] if lines else ''}"
    if done.status != 2:
        return f"exit status {done.status}: {done.stderr[-300:]}"
    if len(lines) != 1:
        return f"{len(lines)} lines on stderr: {lines}"
    if done.stdout:
        return f"printed to stdout: {done.stdout[:200]!r}"
    if not lines[0].startswith("pmsm-hw: "):
        return f"line is {lines[0]!r}"
    said = lines[0].rpartition("; ")[0] or lines[0]  # its remedy may name anything
    if not any(name.lower() in said.lower() for name in case.names):
        return f"names none of {case.names}: {lines[0]!r}"
    if before != after:
        return f"wrote {sorted(set(after) ^ set(before)) or 'over a file'}"
    return None


def failing(folder: Path) -> dict[tuple[str, ...], str]:
    """Right lines that fail, each in a copy of the folder, and what they say."""
    from pmsm_hw.errors import LavaError
    from pmsm_hw.lava import find_python

    absent = set() if find_spec("nir") else {"net.nir", "out.nir"}
    absent |= set() if find_spec("torch") else {"mine:make"}
    try:
        find_python()
    except LavaError:
        absent.add("lava")
    found: dict[tuple[str, ...], str] = {}
    for line in (line for lines in RIGHT.values() for line in lines):
        if absent.intersection(line):
            continue
        with tempfile.TemporaryDirectory() as name:
            copy = Path(name) / "copy"
            shutil.copytree(folder, copy, symlinks=True)
            done = call(*line, cwd=copy)
        if done.status != 0 or not done.stdout:
            found[line] = done.stderr[-300:]
    return found


def main() -> int:
    """Run cases and print the count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print every line")
    options = parser.parse_args()
    wanted = chosen(options.cases, options.seed)
    n_failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        os.environ["COLUMNS"] = "100"
        for line, said in failing(folder).items():
            n_failed += 1
            print(f"FAILED {line}\n  nothing is wrong in it\n  {said}", flush=True)
        for i, case in enumerate(wanted):
            found = problem(case, folder)
            if options.show:
                print(f"{i}: {' '.join(case.line)[:150]}")
            if found is not None:
                n_failed += 1
                print(f"FAILED {case.line}\n  wrong: {case.wrong}\n  {found}", flush=True)
    n_options = len({(c.line[0], c.wrong.split(" ")[0]) for c in wanted})
    print(
        f"{len(wanted)} command lines of {len(cases())}, seed {options.seed}, {n_options} options "
        f"and arguments: {n_failed} did not end in one line that names what is wrong, exit status "
        "2 and nothing written, or were right and failed"
    )
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
