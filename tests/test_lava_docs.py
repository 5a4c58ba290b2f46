"""The snippets of docs/lava.md run, in order, in one interpreter, and print what it says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pmsm_hw.lava.cleanup import end_group
from pmsm_hw.lava.interpreter import VARIABLE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "lava.md"
TEXT = PAGE.read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def is_torch(snippet: str) -> bool:
    return "from pmsm_hw.convert import" in snippet


@pytest.mark.lava
def test_the_tutorial(tmp_path: Path) -> None:
    pytest.importorskip("lava.magma", reason="needs lava-nc, that is Python 3.10")
    pytest.importorskip("matplotlib", reason="the tutorial plots")
    printed = re.findall(r"^```text\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    snippets = [s for s in SNIPPETS if not is_torch(s)]
    assert len(snippets) >= 6
    said = run(snippets, tmp_path)
    assert len(printed) == 2
    for text in printed:
        assert text in said
    assert (tmp_path / "membrane.png").stat().st_size > 10_000


@pytest.mark.torch
def test_from_torch(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    if not (importlib.util.find_spec("lava") or {VARIABLE, "CI"} & set(os.environ)):
        pytest.skip(f"set {VARIABLE} to a Python 3.10 with lava-nc")
    said = run([s for s in SNIPPETS if is_torch(s)], tmp_path)
    (accuracy,) = re.findall(r"accuracy in Lava: ([\d.]+)", said)
    assert float(accuracy) > 0.95


def run(snippets: list[str], tmp_path: Path) -> str:
    """Run them as one script, in a group of its own: Lava waits for ever when a model fails."""
    script = tmp_path / "tutorial.py"
    script.write_text("\n".join(snippets), encoding="utf-8")
    output = tmp_path / "output.txt"
    with output.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=tmp_path,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            status = child.wait(timeout=150)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_group(child.pid)
            child.wait()
    said = output.read_text(encoding="utf-8")
    assert status == 0, said
    return said
