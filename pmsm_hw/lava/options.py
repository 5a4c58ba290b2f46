"""The choices that a Lava graph offers."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pmsm_hw.arguments import choice, number
from pmsm_hw.errors import InputError

__all__ = ["Granularity", "Tag", "check_options", "check_timeout"]

Granularity: TypeAlias = Literal["coarse", "fine"]
"""``"coarse"``: one process per population; ``"fine"``: one per population and projection."""

Tag: TypeAlias = Literal["fixed_pt", "floating_pt"]
"""Lava's names for models on integers and their twins on floats."""

_CHOICES = {"granularity": ("coarse", "fine"), "tag": ("fixed_pt", "floating_pt")}


def check_options(granularity: str, tag: str) -> None:
    """Raise `InputError` unless both are known."""
    for what, value in (("granularity", granularity), ("tag", tag)):
        choice(InputError, "lava", what, value, _CHOICES[what], remedy="choose one of them")


def check_timeout(timeout_s: object) -> None:
    """Raise `InputError` unless it is a positive, finite number of seconds."""
    remedy = "give seconds, as in 600"
    number(InputError, "lava", "timeout_s (--timeout-s)", timeout_s, above=0, remedy=remedy)
