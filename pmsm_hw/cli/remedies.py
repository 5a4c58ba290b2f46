"""What an error of the Python API says, in the terms of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

__all__ = ["in_cli_terms", "options_of"]

CALLS = (
    (
        r"(?:model = )?pmsm_hw\.nn\.quantize\(model, [^;]*?calibration=x\)",
        "give --levels, as in 0,15",
    ),
    (r"input_scale=1/255", "input_scale=0.0039"),
    (r",? ?\bin Python, (?=(?:quantize|convert)\(\.\.\.)", " "),
    (r"\b(?:quantize|convert)\(\.\.\., ([^;]*)\)", r"\1"),
)
"""Calls, and what stands for them here, before parameters are made options."""

WORDS = (
    (
        r"in Python, pmsm_hw\.mapping\.split_fan_(in|out)\(network, chip\) splits its fan-\1",
        r"--split-fan-\1 splits it",
    ),
    (r"\bpass --", "give --"),
    (r"call choose_exponents\(\) and fine-tune again, use", "use"),
    (r", or overflow='saturate'", ""),
    (r"give python=, set", "set"),
    (r"(?:, or|,) (?:pass )?download=True", ""),
)
"""What stands for other words afterwards; what has no option here is left out."""

WIDEST = "run"
"""The command that takes networks and torch models alike, and most options."""


@cache
def options_of() -> dict[str, dict[str, str]]:
    """Options of each command, by its words: ``chips list``; of each: ``max_steps``, its flag."""
    import typer

    from pmsm_hw.cli.program import app

    def walk(words: str, command: Any) -> Iterator[tuple[str, dict[str, str]]]:
        flags = [o for option in command.params for o in option.opts if o.startswith("--")]
        yield words, {flag[2:].replace("-", "_"): flag for flag in flags}
        for word, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{words} {word}".strip(), inner)

    return dict(walk("", typer.main.get_command(app)))


def in_cli_terms(message: str, words: Sequence[str]) -> str:
    """Say options where a message names parameters of Python.

    ``max_pool='average'`` is ``--max-pool average``, ``weight_bits`` is ``--weight-bits``; words
    that are no parameter's name stay as they are. Of an option that the command does not have, the
    command that has it is said.

    Parameters
    ----------
    message
        Of an error, with its remedy after the last semicolon.
    words
        The command line after ``pmsm-hw``.
    """
    head, separator, remedy = message.rpartition("; ")
    if not separator:
        return message
    known = options_of()
    every = {name: flag for options in known.values() for name, flag in options.items()}

    def given(match: re.Match[str]) -> str:
        option = every.get(match[1])
        if option is None:
            return match[0]
        value = re.sub(r"[()'\"\s]", "", match[2])
        return f"{option} {value}".replace(" True", "")

    def named(match: re.Match[str]) -> str:
        return every[match[0]] if "_" in match[0] and match[0] in every else match[0]

    said = remedy
    for pattern, instead in CALLS:
        said = re.sub(pattern, instead, said)
    said = re.sub(r"\b([a-z_]+)=('[^']*'|\([^)]*\)|[\w./]+)", given, said)
    said = re.sub(r"(?<![-\w.])[a-z]+(?:_[a-z]+)+\b(?![\w.(=])", named, said)
    for pattern, instead in WORDS:
        said = re.sub(pattern, instead, said)
    command = next((c for c in (" ".join(words[:2]), *words[:1]) if c in known), "")
    return f"{head}; {_with_command(said, command)}"


def _with_command(remedy: str, command: str) -> str:
    """Say whose the options are that the command does not have."""
    known = options_of()
    if "pmsm-hw" in remedy:  # it is said
        return remedy
    theirs: dict[str, list[str]] = {}
    for flag in dict.fromkeys(re.findall(r"--[a-z][a-z-]*", remedy)):
        having = [c for c, options in known.items() if flag in options.values()]
        if having and command not in having:
            theirs.setdefault(WIDEST if WIDEST in having else having[0], []).append(flag)
    for other, flags in theirs.items():
        remedy += f" ({', '.join(flags)}: of pmsm-hw {other})"
    return remedy
