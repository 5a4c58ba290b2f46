"""Compiled loops never depend on numba's files: no folder, a full disk or damage only cost time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest

from pmsm_hw.compiled import helper, njit

CODE = """
from pmsm_hw.compiled import njit


@njit(nogil=True)
def double(x):
    return 2 * x
"""


def loaded(path: Path) -> ModuleType:
    """The module anew, as in another process."""
    spec = importlib.util.spec_from_file_location("loops", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "loops.py"
    path.write_text(CODE)
    return path


def files(source: Path, suffix: str) -> list[Path]:
    return sorted((source.parent / "__pycache__").glob(f"loops.double*{suffix}"))


def test_functions_are_kept_on_disk(source: Path) -> None:
    first = loaded(source)
    assert first.double(4) == 8
    assert len(files(source, ".nbi")) == len(files(source, ".nbc")) == 1
    second = loaded(source)
    assert second.double(4) == 8
    assert sum(second.double.stats.cache_hits.values()) == 1


def test_constants_and_fields_of_other_files_are_part_of_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the codes of neuron models are, and plans of the emulator: numba looks at one file."""
    path = tmp_path / "loops.py"
    path.write_text(
        "from other import CODE, Plan\n"
        "from pmsm_hw.compiled import helper, njit\n"
        "@helper()\n"
        "def _first(plan):\n"
        "    return CODE * plan.first\n"
        "@njit()\n"
        "def double(plan):\n"
        "    return _first(plan)\n"
    )
    answers = []
    for code, fields in ((1, "first second"), (2, "first second"), (2, "second first")):
        other = ModuleType("other")
        plan = namedtuple("Plan", fields)
        plan.__module__ = "other"
        vars(other).update(CODE=code, Plan=plan)
        monkeypatch.setitem(sys.modules, "other", other)
        module = loaded(path)
        answers += [module.double(plan(10, 20)), sum(module.double.stats.cache_hits.values())]
        again = loaded(path)
        assert again.double(plan(10, 20)) == answers[-2]
        assert sum(again.double.stats.cache_hits.values()) == 1
    assert answers == [10, 0, 20, 0, 40, 0]


def test_a_helper_is_called_from_loops_only() -> None:
    @helper()
    def half(x):  # type: ignore[no-untyped-def]
        return x / 2

    @njit()
    def quarter(x):  # type: ignore[no-untyped-def]
        return half(half(x))

    for _ in range(2):  # before and after it was compiled
        with pytest.raises(TypeError, match="half can be called from compiled loops only"):
            half(4.0)
        assert quarter(4.0) == 1.0


@pytest.mark.parametrize(
    ("suffix", "damage"), [(".nbi", "empty"), (".nbi", "garbage"), (".nbc", "cut")]
)
def test_damaged_files_are_made_anew(source: Path, suffix: str, damage: str) -> None:
    assert loaded(source).double(4) == 8
    (path,) = files(source, suffix)
    data = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut": data[: len(data) // 2], "garbage": b"\x80\x05garbage"}[damage]
    )
    assert loaded(source).double(4) == 8
    mended = loaded(source)
    assert mended.double(4) == 8
    assert sum(mended.double.stats.cache_hits.values()) == 1


def test_without_a_folder_for_it_nothing_is_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "__pycache__").write_text("in the way")
    (tmp_path / "home").write_text("in the way")
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    assert loaded(source).double(4) == 8
    (tmp_path / "__pycache__").unlink()
    (tmp_path / "home").unlink()
    before = loaded(source)  # a folder that goes while it is in use
    os.replace(tmp_path / "__pycache__", tmp_path / "gone")
    (tmp_path / "__pycache__").write_text("in the way")
    assert before.double(4.0) == 8.0


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_costs_time_only(source: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"sys.path.insert(0, {str(source.parent)!r})\n"
        "import loops\n"
        "print(loops.double(4))\n"
    )
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")
    assert files(source, "") == []


@pytest.mark.parametrize("given", ["0", "x"])
def test_a_wrong_number_of_threads_is_one_error(given: str) -> None:
    code = (
        "from pmsm_hw.errors import InputError\n"
        "try:\n"
        "    import pmsm_hw.emulator.cycle.kernels\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = python(code, NUMBA_NUM_THREADS=given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("environment variable NUMBA_NUM_THREADS: ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_all_compiled_loops_go_through_here() -> None:
    import pmsm_hw

    root = Path(pmsm_hw.__file__).parent
    folders = [Path(folder) for folder, _, _ in os.walk(root, followlinks=True)]
    assert {"cli", "datasets", "io", "lava", "processes", "report"} < {f.name for f in folders}
    using = [
        path.name
        for folder in folders
        for path in folder.glob("*.py")
        if "import numba" in (text := path.read_text(encoding="utf-8")) or "from numba" in text
    ]
    assert using == ["compiled.py"]
