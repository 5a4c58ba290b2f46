"""The snippets of docs/method.md run, in order, and print what it says (numbers aside)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch")

PAGE = Path(__file__).resolve().parents[1] / "docs" / "method.md"


def test_snippets_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    shown = re.findall(r"prints\n\n```\n(.*?)```", text, flags=re.DOTALL)
    assert len(code) == len(shown) == 2
    exec("\n".join(code), {})
    printed = re.sub(r"[\d.]+", "0", capsys.readouterr().out)
    for line in shown[0].splitlines()[:2]:
        assert re.sub(r"[\d.]+", "0", line).split() == next(
            p.split() for p in printed.splitlines() if p.split()[:1] == line.split()[:1]
        )
    assert "rule 'carry', 0 step" in printed
    assert "act0" in printed
