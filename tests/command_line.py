"""Calls of the installed command, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CLI = Path(sys.executable).parent / "pmsm-hw"


def cli(*arguments, cwd=None, **environment):
    return subprocess.run(
        [str(CLI), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def answer(*arguments, **options):
    done = cli(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def written(folder):
    """Names of what is there, but for what Python keeps of imported modules."""
    return sorted(p.name for p in Path(folder).iterdir() if p.name != "__pycache__")


def refused(*arguments, cwd, **environment):
    """The one line of a refusal; nothing may have been written."""
    before = written(cwd)
    done = cli(*arguments, cwd=cwd, **environment)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stdout == ""
    (line,) = [x for x in done.stderr.splitlines() if not x.endswith("...")]
    assert written(cwd) == before
    return line
