"""Calls of the command within this process, for tests that make many of them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Done:
    status: int | str | None
    stdout: str
    stderr: str


class _Stream(io.StringIO):
    """Has no file descriptor and is no terminal, as a pipe to a test is none."""

    def isatty(self):
        return False


def call(*arguments, cwd):
    """Run the command as its console script does; user's modules are imported anew."""
    from pmsm_hw.cli import main

    home = Path.cwd()
    known, argv, out, err = set(sys.modules), sys.argv, _Stream(), _Stream()
    sys.argv = ["pmsm-hw", *map(str, arguments)]
    try:
        os.chdir(cwd)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        status = 0
    except SystemExit as end:
        status = 0 if end.code is None else end.code
    finally:
        os.chdir(home)
        sys.argv = argv
        here = str(Path(cwd).resolve())
        for name in set(sys.modules) - known:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(here):
                del sys.modules[name]
    return Done(status, out.getvalue(), err.getvalue())


def answer(*arguments, cwd):
    """What the command prints with ``--json``."""
    done = call(*arguments, cwd=cwd)
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def snapshot(folder):
    """Every path below a folder with what it holds, but for what Python keeps of modules."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(Path(folder).rglob("*"))
        if "__pycache__" not in path.parts
    }


def refused(*arguments, cwd):
    """The one line of a refusal, but for progress; nothing may have been written."""
    before = snapshot(cwd)
    done = call(*arguments, cwd=cwd)
    assert done.status in (2,), (arguments, done)
    assert done.stdout == "", (arguments, done)
    lines = [
        x
        for x in done.stderr.splitlines()
        if not x.endswith("...") and not x.startswith("printed by")
    ]
    assert len(lines) == 1, (arguments, done)
    assert snapshot(cwd) == before, arguments
    return lines[0]
