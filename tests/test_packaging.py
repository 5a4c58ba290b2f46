"""The folders, the packaged modules and the layers agree; the wheel works on its own."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from random_networks import small_network

import pmsm_hw
from pmsm_hw import io

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run(*command, **options):
    return subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, check=False, **options
    )


def test_every_package_folder_is_listed_and_every_listed_one_exists():
    listed = set(SETTINGS["tool"]["setuptools"]["packages"])
    found = set()
    for top in ("pmsm_hw", "mapping", "emulator", "datasets"):
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            found.add(".".join(parts if top == "pmsm_hw" else ("pmsm_hw", *parts)))
    assert listed == found


def test_links_show_the_top_level_folders_inside_the_package():
    for name in ("mapping", "emulator", "datasets"):
        link = ROOT / "pmsm_hw" / name
        assert link.is_symlink()
        assert os.readlink(link) == f"../{name}"


def test_version_is_said_once_everywhere():
    assert pmsm_hw.__version__ == version("pmsm-hw") == SETTINGS["project"]["version"]


def test_core_requirements_hold_neither_torch_nor_lava():
    core = [r for r in requires("pmsm-hw") or [] if "extra ==" not in r]
    assert not [r for r in core if r.startswith(("torch", "lava", "tonic", "matplotlib"))]


def test_front_doors_import_neither_torch_nor_lava():
    code = (
        "import sys, pmsm_hw, pmsm_hw.reference, pmsm_hw.mapping, pmsm_hw.emulator, "
        "pmsm_hw.datasets, pmsm_hw.io, pmsm_hw.lava, pmsm_hw.cli\n"
        "print([m for m in ('torch', 'lava', 'tonic', 'matplotlib') if m in sys.modules])"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def give_compiled_loops(package):
    """What numba keeps of the checkout serves an installed copy with the same files and times."""
    source = Path(pmsm_hw.__file__).resolve().parent
    for path in package.rglob("*.py"):
        original = source / path.relative_to(package)
        assert path.read_bytes() == original.read_bytes()
        times = original.stat()
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        kept = list((original.parent / "__pycache__").glob(f"{path.stem}.*.nb[ic]"))
        for file in kept:
            (path.parent / "__pycache__").mkdir(exist_ok=True)
            shutil.copy2(file, path.parent / "__pycache__")


def test_wheel_in_a_fresh_environment(tmp_path):
    """Build, install without torch, and go from a network file to energy figures."""
    build = run(sys.executable, "-m", "build", "--wheel", "--installer", "uv", "-o", tmp_path, ROOT)
    assert build.returncode == 0, build.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "pmsm_hw/py.typed",
        "pmsm_hw/mapping/chips/loihi1.toml",
        "pmsm_hw/lava/__init__.py",
    ):
        assert name in names
    assert not [n for n in names if n.startswith(("mapping/", "emulator/", "datasets/", "tests/"))]
    python = tmp_path / "env" / "bin" / "python"
    made = run(sys.executable, "-m", "uv", "venv", "--python", sys.executable, tmp_path / "env")
    assert made.returncode == 0, made.stderr
    install = ("pip", "install", "--link-mode", "copy", "--python", python, wheel)
    installed = run(sys.executable, "-m", "uv", *install)
    assert installed.returncode == 0, installed.stderr
    (package,) = (tmp_path / "env").glob("lib/*/site-packages/pmsm_hw")
    give_compiled_loops(package)
    cli = tmp_path / "env" / "bin" / "pmsm-hw"
    environment = {**os.environ, "PYTHONPATH": "", "PMSM_HW_LAVA_PYTHON": ""}
    options = {"cwd": tmp_path, "env": environment}
    assert run(cli, "--version", **options).stdout.strip() == f"pmsm-hw {pmsm_hw.__version__}"
    io.save(tmp_path / "net.h5", small_network())
    demo = run(cli, "demo", "--network", "net.h5", "--no-lava", "--json", **options)
    assert demo.returncode == 0, demo.stderr
    figures = json.loads(demo.stdout)
    assert figures["differing_spikes"]["emulator"] == 0
    assert figures["energy_pj"]["total"] > 0
    without_torch = run(cli, "demo", **options)
    assert without_torch.returncode == 2
    assert "pip install 'pmsm-hw[torch]'" in without_torch.stderr
    assert len(without_torch.stderr.strip().splitlines()) == 1


def test_type_checkers_see_the_editable_install(tmp_path):
    """They look along the path and know no import hooks."""
    code = (
        "from importlib.machinery import PathFinder as f; "
        "s = f.find_spec('pmsm_hw'); "
        "print(f.find_spec('pmsm_hw.mapping', s.submodule_search_locations).origin)"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = Path(done.stdout.strip())
    assert found.is_file()
    assert (found.parents[1] / "py.typed").is_file()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="linters are in .venv: run it there")
def test_layers_hold():
    result = run(Path(sys.executable).parent / "lint-imports", cwd=ROOT)
    assert result.returncode == 0, result.stdout


PLANTED = {
    "emulator/layout/mesh.py": ("rooms of the emulator", "from pmsm_hw.emulator import report"),
    "emulator/layout/plan.py": (
        "layout of the emulator", "from pmsm_hw.emulator.layout import mesh",
    ),
    "emulator/cycle/machine.py": (
        "cycle mode of the emulator", "from pmsm_hw.emulator.cycle import run",
    ),
    "datasets/arguments.py": ("rooms of the data sets", "from pmsm_hw.datasets import catalogue"),
    "mapping/resources/windows.py": ("rooms of mapping", "from pmsm_hw.mapping import mapper"),
    "mapping/resources/lists.py": (
        "resources of mapping", "from pmsm_hw.mapping.resources import core",
    ),
    "mapping/partition/grids.py": (
        "partition of mapping", "from pmsm_hw.mapping.partition import tiling",
    ),
    "mapping/routing/xy.py": (
        "placement, routing and transforms of mapping",
        "from pmsm_hw.mapping.routing import traffic",
    ),
}  # fmt: skip
"""By file: the contract that an import in one of its functions breaks."""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="linters are in .venv: run it there")
def test_an_upward_import_within_a_function_breaks_its_contract(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("pmsm_hw", "mapping", "emulator", "datasets"):
        sources = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=sources)
    for file, (_, line) in PLANTED.items():
        with (tmp_path / file).open("a", encoding="utf-8") as source:
            source.write(f"\n\ndef late() -> None:\n    {line}\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    linter = Path(sys.executable).parent / "lint-imports"
    result = run(linter, cwd=tmp_path, env=environment)
    assert result.returncode == 1, result.stdout
    broken = [line for line in result.stdout.splitlines() if line.endswith("BROKEN")]
    assert sorted(broken) == sorted(f"{contract} BROKEN" for contract, _ in PLANTED.values())


def test_compiled_loops_call_none_of_another_file():
    """numba keeps them on disk, and looks for changes in the file of the outer one alone."""
    compiled = {}
    for path in [
        p for top in ("pmsm_hw", "mapping", "emulator") for p in (ROOT / top).rglob("*.py")
    ]:
        tree = ast.parse(path.read_text())
        if "njit" in {
            a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
        }:
            compiled[path.resolve()] = tree
    assert len(compiled) > 5
    loops = {
        n.name
        for tree in compiled.values()
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef)
        and any("jit" in (text := ast.dump(d)) or "_inline" in text for d in n.decorator_list)
    }
    for path, tree in compiled.items():
        taken = {a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
        assert not taken & loops, (path, taken & loops)
