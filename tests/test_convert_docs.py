"""The snippets of docs/conversion.md run, in order, and print what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

PAGE = Path(__file__).resolve().parents[1] / "docs" / "conversion.md"


def test_snippets_print_what_the_page_says() -> None:
    torch.set_num_threads(1)
    text = PAGE.read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert len(snippets) == 2
    shown = re.findall(r"^prints\n\n```\n(.*?)^```$", text, re.M | re.S)
    names: dict[str, Any] = {}
    printed = []
    for snippet in snippets:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(snippet, str(PAGE), "exec"), names)
        printed.append(out.getvalue())
    assert printed[0] == shown[0]
    assert printed[1] == "0\n"
    assert "prints `0`." in text
