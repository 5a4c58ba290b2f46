"""Size of the rooms: files below 700 lines, functions below 120, but those that are named here."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pmsm_hw", "mapping", "emulator", "datasets")
MOST_LINES, MOST_FUNCTION_LINES = 700, 120

KERNEL_FILES = {
    "emulator/cycle/kernels.py",
    "mapping/partition/cut_kernels.py",
    "pmsm_hw/products.py",
}
"""Compiled loops: a helper stands in the file of the loop that calls it, as numba's cache needs."""

KERNELS = {
    "emulator/counting/kernels.py:count_population",
    "mapping/partition/bound_kernels.py:cell_tables",
    "mapping/partition/cut_kernels.py:_cut_one",
    "mapping/partition/pack_kernels.py:fill_cores",
    "mapping/placement/annealing.py:anneal",
}
"""Compiled loops: what is called would be compiled into them anyway."""


def sources() -> dict[str, str]:
    found = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            if not any(part.is_symlink() for part in path.parents):
                name = path.relative_to(ROOT).as_posix()
                found[name] = path.read_text(encoding="utf-8")
    return found


def test_files_are_short_but_named_ones():
    large = {name for name, text in sources().items() if text.count("\n") > MOST_LINES}
    assert large - KERNEL_FILES == set(), "split it by what its parts decide"
    assert KERNEL_FILES - large == set(), "no longer large: take it off the list"


def test_functions_are_short_but_named_ones():
    long = {
        f"{file}:{node.name}"
        for file, text in sources().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MOST_FUNCTION_LINES
    }
    assert long - KERNELS == set(), "cut it into steps"
    assert KERNELS - long == set(), "no longer long: take it off the list"
