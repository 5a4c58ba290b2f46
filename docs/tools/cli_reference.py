"""The page docs/cli.md, from the command itself: ``python docs/tools/cli_reference.py --write``.

``tests/test_documented.py`` holds that the committed page is what this gives, and that nothing in
it lacks a text.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from pmsm_hw.cli import app

PAGE = Path(__file__).resolve().parents[1] / "cli.md"

INTRODUCTION = """\
# Command line

Answers go to stdout, as a table or with `--json` as JSON; progress goes to stderr.
`pmsm-hw --install-completion` sets up completion of commands, options and chip names in your shell.

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | internal error: a traceback, which please report |
| 2 | bad input or usage, or no room on the disk or in memory: one line on stderr says what |
| 3 | spikes or readouts differ between backends |
| 130 | interrupted by Ctrl-C; 143 terminated, 129 hung up: no file is half written |
| 141 | the reader of stdout is gone, as after `head` |

Files to write are checked before the work: their folder exists and takes files, the suffix is of
their kind, no two are the same file, none is read as well (but `map` and `run` may put a mapping
into the file that it belongs to). Each appears whole or not at all; the three of `demo --save-dir`
appear together.

- A file that is replaced hands on its permissions and, where the system allows it, its owner. It is
  a new file: other hard links to the old one keep the old content.
- A symbolic link stays, and what it points to is replaced; one that points to nothing is refused.
- `/dev/null`, a named pipe, `/dev/stdout` and `/dev/fd/N` are written through, from first byte to
  last; without a suffix they get HDF5 or PNG. What goes to stdout has it alone: the answer goes to
  stderr then.
- Folders, sockets and disks are refused.
- Files are made in memory first, which takes as much as they are long (networks are compressed);
  traces are not.

<!-- written by docs/tools/cli_reference.py -->
"""


def commands(command: Any = None, name: str = "pmsm-hw") -> Iterator[tuple[str, Any]]:
    """Every command and group, by the words that call it, groups before their members."""
    command = typer.main.get_command(app) if command is None else command
    yield name, command
    for word, member in getattr(command, "commands", {}).items():
        if not member.hidden:
            yield from commands(member, f"{name} {word}")


def parameters(command: Any) -> list[Any]:
    """Arguments, then options, that a user sees; not ``--help`` and those for completion."""
    shown = [
        p
        for p in command.params
        if not getattr(p, "hidden", False)
        and not {"--help", "--install-completion", "--show-completion"} & set(p.opts)
    ]
    return sorted(shown, key=lambda p: p.param_type_name != "argument")


def words_of(parameter: Any) -> str:
    """How a parameter is written on the command line."""
    if parameter.param_type_name == "argument":
        word = parameter.metavar or parameter.name.upper()
        return f"{word}..." if parameter.nargs == -1 and "..." not in word else str(word)
    names = ", ".join(sorted([*parameter.opts, *parameter.secondary_opts], key=len))
    if parameter.is_flag:
        return names
    metavar = parameter.metavar or parameter.opts[0].lstrip("-").upper().replace("-", "_")
    return f"{names} {metavar}"


def default_of(parameter: Any) -> str:
    """The default, as a user would give it; nothing for flags that are off and absent values."""
    value = parameter.default
    if parameter.required:
        return "required"
    if value is None or callable(value) or value is False or value in ((), [], ""):
        return ""
    if repr(value).startswith("Sentinel"):
        return ""
    if value is True and parameter.is_flag:
        return f"`{parameter.opts[0]}`"
    return f"`{value}`"


def prose(text: str) -> str:
    """Help text as Markdown: blocks after a line with a backspace keep their lines."""
    out = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.lstrip().startswith("\b"):
            lines = paragraph.replace("\b", "").strip("\n").splitlines()
            heads = [line for line in lines if not line.startswith("  ")]
            code = [line.strip() for line in lines if line.startswith("  ")]
            if not code:
                heads, code = [], [line.strip() for line in lines]
            out += heads
            out.append("```bash\n" + "\n".join(code) + "\n```")
        else:
            out.append(" ".join(paragraph.split()))
    return "\n\n".join(out).replace("\f", "").strip()


def section(name: str, command: Any) -> str:
    """One command."""
    shown = parameters(command)
    lines = [f"{'#' * len(name.split())} {name}", "", prose(command.help or "")]
    if not getattr(command, "commands", None):
        arguments = [words_of(p) for p in shown if p.param_type_name == "argument"]
        needed = [
            words_of(p).split(", ")[-1]
            for p in shown
            if p.param_type_name == "option" and p.required
        ]
        usage = " ".join([name, *arguments, *needed, "[OPTIONS]"])
        lines += ["", f"```text\n{usage}\n```"]
    if getattr(command, "epilog", None):
        lines += ["", prose(command.epilog)]
    if shown:
        lines += ["", "| argument or option | default | meaning |", "|---|---|---|"]
        for p in shown:
            text = " ".join((p.help or "").split()).replace("|", "\\|")
            lines.append(f"| `{words_of(p)}` | {default_of(p)} | {text} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(*c) for c in commands() if c[0] != "pmsm-hw")])


def undocumented() -> list[str]:
    """Commands and parameters without a text."""
    missing = []
    for name, command in commands():
        if not (command.help or "").strip():
            missing.append(name)
        missing += [
            f"{name}: {words_of(p)}" for p in parameters(command) if not (p.help or "").strip()
        ]
    return missing


def main() -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/cli.md")
    parser.add_argument(
        "--check", action="store_true", help="fail unless docs/cli.md is up to date"
    )
    options = parser.parse_args()
    if options.write:
        PAGE.write_text(page(), encoding="utf-8")
    elif options.check:
        if PAGE.read_text(encoding="utf-8") != page():
            sys.stdout.write(f"{PAGE} is out of date: {sys.executable} {__file__} --write\n")
            return 1
    else:
        sys.stdout.write(page())
    for words in undocumented():
        sys.stdout.write(f"no help text: {words}\n")
    return 1 if undocumented() else 0


if __name__ == "__main__":
    sys.exit(main())
