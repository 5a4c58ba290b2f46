"""What the commands share on the terminal: answers and progress."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from pmsm_hw.figure_files import FORMATS
from pmsm_hw.files import check_outputs, is_standard_output
from pmsm_hw.tables import fit_to

__all__ = [
    "DIFFERENT", "StreamError", "answer", "bar", "check_files", "command_line", "fit_to_terminal",
    "json_text", "say",
]  # fmt: skip

DIFFERENT = 3
"""Exit status where backends disagree: the answer is printed, and it is not what it should be."""


class StreamError(Exception):
    """Standard output does not take what is printed.

    Parameters
    ----------
    cause
        What the system said.
    """

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def say(text: str) -> None:
    """Print a line of progress to stderr; where that takes nothing, the work goes on."""
    line = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201


SUFFIXES = {
    "--output": (".h5",),
    "--report": (".html", ".htm"),
    "--trace": (".json",),
    "--plot": FORMATS,
}
"""Suffixes of the files that options name: none is written under the name of another kind."""

_standard_output_taken = False


def check_files(
    outputs: Mapping[str, Path | None],
    *,
    inputs: Iterable[str | Path | None] = (),
    rewritten: str | Path | None = None,
    made: Path | None = None,
    suffixes: tuple[str, ...] = SUFFIXES["--output"],
) -> None:
    """Refuse, before the work, files that could not be written after it, or have a wrong suffix.

    Parameters
    ----------
    outputs
        Values of the options that name files to write, by option: ``--report``.
    inputs
        Values of options and arguments that may name files to read: these are not replaced.
    rewritten
        An input that ``--output`` may replace all the same: the same network is in it.
    made
        A folder that the command makes.
    suffixes
        Those of ``--output``.

    Raises
    ------
    PmsmHwError
        If one cannot be written, two are the same, or one is an input.
    """
    global _standard_output_taken
    check_outputs(
        {f"option {option}": path for option, path in outputs.items()},
        inputs=inputs,
        rewritten={} if rewritten is None else {"option --output": rewritten},
        suffixes={
            f"option {option}": given
            for option, given in {**SUFFIXES, "--output": suffixes}.items()
        },
        made=made,
    )
    _standard_output_taken = any(p and is_standard_output(p) for p in outputs.values())


def answer(as_json: bool, values: dict[str, Any], text: str) -> None:
    """Print the answer to stdout, for programs or for people; to stderr if a file goes to stdout.

    Raises
    ------
    StreamError
        If stdout does not take it.
    """
    if as_json:
        text = json_text(values)
    elif sys.stdout.isatty():
        text = _wrapped(text, get_terminal_size().columns)
    if _standard_output_taken:
        say(text)
        return
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        raise StreamError(error) from error


def json_text(value: Any, indent: int = 0) -> str:
    """Write JSON for people and programs: lists of plain values on one line.

    Parameters
    ----------
    value
        Of dictionaries with names, lists and plain values.
    indent
        Spaces of the line that it begins in.
    """
    inner = " " * (indent + 2)
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(str(k))}: {json_text(v, indent + 2)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner + item for item in items) + f"\n{' ' * indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(v, dict | list | tuple) for v in value):
        items = [json_text(v, indent + 2) for v in value]
        return "[\n" + ",\n".join(inner + item for item in items) + f"\n{' ' * indent}]"
    return json.dumps(value, allow_nan=False)


def fit_to_terminal() -> None:
    """Draw tables as wide as the terminal, if there is one: a terminal breaks them in words."""
    fit_to(get_terminal_size().columns if sys.stdout.isatty() else None)


def _wrapped(text: str, width: int) -> str:
    """Break lines that are too long for the terminal at blanks; tables fit already."""
    lines: list[str] = []
    for line in text.splitlines():
        if len(line) > width and not line.startswith(" "):
            lines += wrap(line, width, subsequent_indent="    ")
        else:
            lines.append(line)
    return "\n".join(lines)


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
