"""What an error of the Python API says, in the terms of the command line."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["in_cli_terms"]

PHRASES = (
    (r"model = pmsm_hw\.nn\.quantize\(model, [^;]*?calibration=x\)", "give --levels, as in 0,15"),
    (r"pmsm_hw\.nn\.quantize\(model, calibration=x\)", "give --levels, as in 0,15"),
    (r"input_scale=1/255", "input_scale=0.0039"),
    (r"\b(?:quantize|convert)\(\.\.\., ([^;]*)\)", r"\1"),
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
"""Calls, and what stands for them here; those that have no option here are left out."""

N_BEFORE = 4
"""Of these, so many are looked for before parameters are made options."""


def option_names() -> dict[str, str]:
    """Options of all commands, by the name of the parameter: ``max_steps``, ``--max-steps``."""
    import typer

    from pmsm_hw.cli.commands import app

    found: dict[str, str] = {}

    def walk(command: Any) -> None:
        for inner in getattr(command, "commands", {}).values():
            walk(inner)
        for option in command.params:
            flags = [flag for flag in option.opts if flag.startswith("--")]
            found.update({flag[2:].replace("-", "_"): flag for flag in flags})

    walk(typer.main.get_command(app))
    return found


def in_cli_terms(message: str) -> str:
    """Say options where a message names parameters of Python.

    ``max_pool='average'`` is ``--max-pool average``, ``weight_bits`` is ``--weight-bits``; words
    that are no parameter's name stay as they are.

    Parameters
    ----------
    message
        Of an error, with its remedy after the last semicolon.
    """
    head, separator, remedy = message.rpartition("; ")
    if not separator:
        return message
    options = option_names()

    def given(match: re.Match[str]) -> str:
        option = options.get(match[1])
        if option is None:
            return match[0]
        value = re.sub(r"[()'\"\s]", "", match[2])
        return f"{option} {value}".replace(" True", "")

    def named(match: re.Match[str]) -> str:
        return options[match[0]] if "_" in match[0] and match[0] in options else match[0]

    said = remedy
    for pattern, words in PHRASES[:N_BEFORE]:
        said = re.sub(pattern, words, said)
    said = re.sub(r"\b([a-z_]+)=('[^']*'|\([^)]*\)|[\w./]+)", given, said)
    said = re.sub(r"(?<![-\w.])[a-z]+(?:_[a-z]+)+\b(?![\w.(=])", named, said)
    for pattern, words in PHRASES[N_BEFORE:]:
        said = re.sub(pattern, words, said)
    return f"{head}; {said}"
