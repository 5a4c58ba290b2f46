"""The snippets of docs/lava.md run, in order, in one interpreter, and print what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pmsm_hw.lava.cleanup import end_group

pytest.importorskip("lava.magma", reason="needs lava-nc, that is Python 3.10")
pytest.importorskip("matplotlib", reason="the tutorial plots")

PAGE = Path(__file__).resolve().parents[1] / "docs" / "lava.md"


@pytest.mark.lava
def test_the_tutorial(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (printed,) = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(snippets) >= 6
    script = tmp_path / "tutorial.py"
    script.write_text("\n".join(snippets), encoding="utf-8")
    # Lava waits for ever when a model fails: a group of its own can be ended
    output = tmp_path / "output.txt"
    with output.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=tmp_path,
            stdout=file,
            stderr=subprocess.STDOUT,
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
    assert printed in said
    assert (tmp_path / "membrane.png").stat().st_size > 10_000
