"""The choices that a Lava graph offers."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pmsm_hw.arguments import choice, number
from pmsm_hw.errors import InputError

__all__ = [
    "CHOICES",
    "GRANULARITIES",
    "Choice",
    "Granularity",
    "Tag",
    "check_options",
    "check_timeout",
]

Granularity: TypeAlias = Literal["coarse", "fine"]
"""``"coarse"``: one process per population; ``"fine"``: one per population and projection."""

Tag: TypeAlias = Literal["fixed_pt", "floating_pt"]
"""Lava's names for models on integers and their twins on floats."""

Choice: TypeAlias = Literal["auto", "own", "lava"]
"""``"auto"``: Lava's own processes for neurons where they are proven to compute the same, else
ours; ``"own"``: ours; ``"lava"``: Lava's, or an error."""

CHOICES = ("auto", "own", "lava")

GRANULARITIES = ("coarse", "fine")

_CHOICES = {
    "granularity": GRANULARITIES,
    "tag": ("fixed_pt", "floating_pt"),
    "neurons": CHOICES,
}


def check_options(granularity: str, tag: str, neurons: str = "auto") -> None:
    """Raise `InputError` unless all are known, and go together."""
    for what, value in (("granularity", granularity), ("tag", tag), ("neurons", neurons)):
        choice(InputError, "lava", what, value, _CHOICES[what], remedy="choose one of them")
    for what, value, needed in (
        ("granularity", granularity, "fine"),
        ("tag", tag, "fixed_pt"),
    ):
        if neurons == "lava" and value != needed:
            raise InputError(
                "lava",
                f"neurons 'lava' go with {what} '{needed}', not with '{value}'",
                remedy=f"give {what}='{needed}', or neurons='auto'",
                actual=value,
                limit=needed,
            )


def check_timeout(timeout_s: object) -> None:
    """Raise `InputError` unless it is a positive, finite number of seconds."""
    remedy = "give seconds, as in 600"
    number(InputError, "lava", "timeout_s (--timeout-s)", timeout_s, above=0, remedy=remedy)
