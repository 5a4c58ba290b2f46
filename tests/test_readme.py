"""The README's example and commands run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import cli

pytest.importorskip("torch", reason="torch is not installed in this Python")

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def shape_of(text):
    """The text with every number masked, so that machines may differ in the last digits."""
    return re.sub(r"[\d.,]+", "#", re.sub(r"\s+|─+", " ", text)).strip()


def printed_after(marker):
    return re.search(rf"<!-- {re.escape(marker)} -->\n```\n(.*?)```", README, re.DOTALL).group(1)


def test_example_prints_what_the_readme_shows(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert shape_of(done.stdout) == shape_of(printed_after("output of the example"))


def test_commands_run_as_they_stand(tmp_path):
    (block,) = re.findall(r"```\n(pmsm-hw demo --save-dir.*?)```", README, re.DOTALL)
    for line in block.strip().splitlines():
        done = cli(*shlex.split(line)[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        if line.startswith("pmsm-hw demo"):
            assert shape_of(done.stdout) == shape_of(printed_after("output of: pmsm-hw demo"))
