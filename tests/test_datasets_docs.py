"""The example in docs/datasets.md prints what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path


def test_example_prints_what_it_says():
    document = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert f"`{out.getvalue().strip()}`" in document
