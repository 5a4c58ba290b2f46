"""What the commands share on the terminal: answers, progress, and how a run ends."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from pmsm_hw.errors import FormatError, PmsmHwError

__all__ = ["DIFFERENT", "answer", "bar", "command_line", "main", "say"]

DIFFERENT = 3
"""Exit status where backends disagree: the answer is printed, and it is not what it should be."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def say(text: str) -> None:
    """Print a line of progress to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def answer(as_json: bool, values: dict[str, Any], text: str) -> None:
    """Print the answer to stdout, for programs or for people."""
    if as_json:
        print(json.dumps(values, indent=2, sort_keys=False, allow_nan=False))  # noqa: T201
    else:
        print(text)  # noqa: T201


def command_line() -> str:
    """The command as it was given, to be repeated."""
    return shlex.join(["pmsm-hw", *sys.argv[1:]])


class Bar:
    """Progress on stderr: a stage's name, and work done of work to do once that is known."""

    def __init__(self, update: Callable[..., None]) -> None:
        self._update = update

    def steps(self, done: int, total: int) -> None:
        """Say how much is done."""
        self._update(completed=done, total=total)

    def stage(self, text: str) -> None:
        """Say what is being done now."""
        self._update(description=text)


@contextmanager
def bar(what: str) -> Iterator[Bar]:
    """Draw progress and the time left on stderr, if that is a terminal.

    Parameters
    ----------
    what
        Name of the work.
    """
    if not sys.stderr.isatty():
        yield Bar(lambda **_: None)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield Bar(lambda **fields: progress.update(task, **fields))


# typer may use the installed click or one of its own; its public BadParameter knows which
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError" and issubclass(c, Exception)
)


def main() -> None:
    """Run the command; known errors are one line and exit status 2."""
    from pmsm_hw.cli.commands import app

    try:
        status = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except _UsageError as error:
        status = _usage(error)
    except PmsmHwError as error:
        status = _refusal(str(error))
    except FileNotFoundError as error:
        missing = FormatError(
            f"file '{error.filename}'",
            "does not exist",
            remedy="check the path",
            actual="missing",
            limit="a file",
        )
        status = _refusal(str(missing))
    if status == INTERRUPTED:
        say("pmsm-hw: interrupted; no file is half written")
    sys.exit(status)


def _refusal(line: str) -> int:
    say(f"pmsm-hw: {' '.join(line.split())}")
    return 2


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    command = error.ctx.command_path if error.ctx is not None else "pmsm-hw"
    return _refusal(f"{error.format_message()} (see '{command} --help')")
