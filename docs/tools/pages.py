"""Run the snippets and command lines of a page, in order, and compare what it shows.

``python docs/tools/pages.py docs/tutorials/digits.md --write`` puts the real outputs into the page;
``tests/test_docs.py`` runs every page and compares. What a fenced block is, by its first line:

``python``
    runs, in one namespace per page; with ``title="name.py"`` it is a file that later blocks use,
    as is any other block with a title.
``bash``, or none and a first line that starts with a command
    command lines, one per line. ``pmsm-hw`` is run; of others (``make``, ``pip install``, ...) it
    is checked that target, extra or file exist.
``text``, or none
    after one of these: what it printed. A line ``...`` stands for any lines.

The words "prints `...`" after a block are its output as well.

A comment before an output says more of it: ``<!-- numbers vary -->`` that digits may differ
(training rounds differently on other processors), ``<!-- an example -->`` that anything may,
``<!-- output of: COMMAND -->`` that it is a certain command's.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CLI = Path(sys.executable).parent / "pmsm-hw"
Command = Callable[[list[str], Path], tuple[object, str, str]]
COMMAND = re.compile(r"^(pmsm-hw|make|pip|python3?|git|cd|source)\b")
AFTER = re.compile(r"\s*prints `([^`]+)`")
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(kw_only=True)
class Block:
    """One fenced block of a page, and what running it printed.

    Parameters
    ----------
    kind
        ``python``, ``file``, ``bash``, ``output`` or ``other``.
    text
        Content.
    info
        What stands behind the opening fence.
    note
        The text between this block and the one before.
    after
        Output that the sentence after the block gives.
    span
        Place of the content in the page, for writing outputs.
    line
        Number of the opening line.
    printed
        By command line (``python`` for code); filled in by `run`.
    """

    kind: str
    text: str
    info: str
    note: str
    after: str | None
    span: tuple[int, int]
    line: int
    printed: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str | None:
        """Name of the file that the block is."""
        found = re.search(r'title="([^"]+)"', self.info)
        return found.group(1) if found else None

    @property
    def numbers_vary(self) -> bool:
        """Whether digits are not compared."""
        return "<!-- numbers vary -->" in self.note

    @property
    def is_example(self) -> bool:
        """Whether nothing is compared."""
        return "<!-- an example -->" in self.note

    @property
    def of_command(self) -> str | None:
        """Command whose output it is, if it does not stand right after it."""
        found = re.search(r"<!-- output of: (.*?) -->", self.note)
        return found.group(1) if found else None


def blocks(page: str) -> list[Block]:
    """Find the fenced blocks of a page."""
    found: list[Block] = []
    end = 0
    for match in FENCE.finditer(page):
        info, text = match["info"].strip(), match["text"]
        note = page[end : match.start()]
        end = match.end()
        language = info.split()[0] if info else ""
        if 'title="' in info:
            kind = "file"
        elif "<!-- output of" in note:
            kind = "output"
        elif language == "python":
            kind = "python"
        elif language in ("bash", "sh", "console") or (not language and COMMAND.match(text)):
            kind = "bash"
        elif language in ("", "text"):
            kind = "output" if any(b.kind in ("python", "bash") for b in found) else "other"
        else:
            kind = "other"
        found.append(
            Block(
                kind=kind,
                text=text,
                info=info,
                note=note,
                after=after.group(1) if (after := AFTER.match(page, end)) else None,
                span=match.span("text"),
                line=page.count("\n", 0, match.start()) + 1,
            )
        )
    return found


def command_lines(block: Block) -> list[str]:
    """Commands of a block; a backslash goes on in the next line, a comment is none."""
    text = block.text.replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]


def in_a_process(words: list[str], folder: Path) -> tuple[object, str, str]:
    """Run ``pmsm-hw`` with these words in a process of its own.

    Parameters
    ----------
    words
        Subcommand and arguments.
    folder
        Where it runs.

    Returns
    -------
    tuple
        Exit status, and what it printed on both streams.
    """
    done = subprocess.run(
        [str(CLI), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout, done.stderr


def run(page: str, folder: Path, pmsm_hw: Command = in_a_process) -> list[Block]:
    """Run a page in a folder; its blocks then know what they printed.

    Parameters
    ----------
    page
        Text of the page.
    folder
        Where files are written and commands run.
    pmsm_hw
        Runs the command ``pmsm-hw``, as `in_a_process` does.

    Raises
    ------
    RuntimeError
        If a command fails, or one is neither run nor known.
    """
    found = blocks(page)
    names: dict[str, Any] = {"__name__": "__main__"}
    with _inside(folder):
        for block in found:
            if block.kind == "file":
                Path(str(block.title)).write_text(block.text, encoding="utf-8")
            elif block.kind == "python":
                out = io.StringIO()
                # as many lines before it as in the page, so that tracebacks show the page's lines
                code = compile("\n" * block.line + block.text, "page", "exec")
                with contextlib.redirect_stdout(out):
                    exec(code, names)
                block.printed["python"] = out.getvalue()
            elif block.kind == "bash":
                for line in command_lines(block):
                    block.printed[line] = _command(line, folder, pmsm_hw)
    return found


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder, whose modules can be imported; forget them at the end."""
    before, modules = Path.cwd(), set(sys.modules)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        os.chdir(before)
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None)).startswith(str(folder)):
                del sys.modules[name]


def _command(line: str, folder: Path, pmsm_hw: Command) -> str:
    words = shlex.split(line)
    if words[0] != "pmsm-hw":
        check_other(line)
        return ""
    status, out, err = pmsm_hw(words[1:], folder)
    if status:
        raise RuntimeError(f"{line}\nexit status {status}\n{err}")
    return out


def check_other(line: str) -> None:
    """Check a command line that is not run: its target, extra or file must exist.

    Parameters
    ----------
    line
        For example ``make demo``.

    Raises
    ------
    RuntimeError
        If it is not known, or what it names does not exist.
    """
    words = shlex.split(line)
    if words[0] == "make" and all(
        re.search(rf"^{re.escape(w)}:", (ROOT / "Makefile").read_text(), re.M) for w in words[1:]
    ):
        return
    if words[:2] == ["pip", "install"]:
        wanted = re.findall(r"\[([\w,]+)\]", line)
        settings = (ROOT / "pyproject.toml").read_text()
        table = settings.split("[project.optional-dependencies]")[1].split("\n[")[0]
        if all(re.search(rf"^{e} =", table, re.M) for part in wanted for e in part.split(",")):
            return
    if re.search(r"python[\d.]*$", words[0]) and len(words) > 1:
        known = words[1:3] == ["-m", "venv"] or any(ROOT.glob(words[1].replace("NAME", "*")))
    else:
        known = words[0] in ("cd", "source") or words[:2] == ["git", "clone"]
    if known:
        return
    raise RuntimeError(f"{line!r} is neither run nor known, or what it names does not exist")


def differences(found: list[Block], *, numbers_vary: bool = False) -> list[str]:
    """Say which outputs of a page, that was run, are not what was printed.

    Parameters
    ----------
    found
        From `run`.
    numbers_vary
        Compare no digits anywhere.
    """
    problems = []
    for block in found:
        printed = "".join(block.printed.values()).strip()
        if block.after is not None and block.after != printed:
            problems.append(f"line {block.line}: shows {block.after!r}, printed was {printed!r}")
    for block, printed in _outputs(found):
        vary = numbers_vary or block.numbers_vary
        if printed is None:
            problems.append(f"line {block.line}: no command {block.of_command!r} in the page")
        elif not block.is_example and not matches(block.text, printed, numbers_vary=vary):
            problems.append(
                f"line {block.line}: the page shows\n{block.text}\nbut this was printed\n{printed}"
            )
    return problems


def _outputs(found: list[Block]) -> Iterator[tuple[Block, str | None]]:
    """Output blocks, each with what was printed."""
    last: Block | None = None
    for block in found:
        if block.kind in ("python", "bash"):
            last = block
        elif block.kind == "output" and block.of_command:
            by_line = {k: v for b in found if b.kind == "bash" for k, v in b.printed.items()}
            yield (
                block,
                next((v for k, v in by_line.items() if k.startswith(block.of_command)), None),
            )
        elif block.kind == "output" and last is not None:
            yield block, "".join(last.printed.values())
            last = None


def matches(shown: str, printed: str, *, numbers_vary: bool = False) -> bool:
    """Tell whether a shown output is what was printed, spaces at the ends of lines aside.

    Parameters
    ----------
    shown
        From the page; a line ``...`` stands for any lines.
    printed
        In truth.
    numbers_vary
        Take all numbers for equal, and all widths of columns.
    """
    parts = re.split(r"^[ ]*\.\.\.[ ]*$", shown, flags=re.M)
    patterns = [re.escape(_plain(part, numbers_vary)) for part in parts]
    return bool(re.fullmatch(r"(?s:.*)".join(patterns), _plain(printed, numbers_vary)))


def _plain(text: str, numbers_vary: bool) -> str:
    if numbers_vary:
        text = re.sub(r"\s+|─+", " ", text)
        return re.sub(r"-?\d[\d.,]*(e-?\d+)?", "#", text).strip()
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def written(page: str, found: list[Block]) -> str:
    """Give the page with real outputs; those that match, or have a ``...``, stay as they are.

    Parameters
    ----------
    page
        Its text.
    found
        Its blocks, from `run`.
    """
    for block, printed in reversed(list(_outputs(found))):
        if printed is not None and not re.search(r"^ *\.\.\. *$", block.text, re.M):
            start, end = block.span
            page = (
                page[:start]
                + "\n".join(x.rstrip() for x in printed.splitlines())
                + "\n"
                + page[end:]
            )
    return page


def main() -> int:
    """Run the pages that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true", help="put the real outputs into the pages")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # for torch, which is not loaded yet
    status = 0
    for path in options.pages:
        text = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            found = run(text, Path(folder))
        if options.write:
            path.write_text(written(text, found), encoding="utf-8")
            continue
        for problem in differences(found):
            sys.stdout.write(f"{path}: {problem}\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
