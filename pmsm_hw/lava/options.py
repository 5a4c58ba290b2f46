"""The choices that a Lava graph offers."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Literal, TypeAlias

from pmsm_hw.arguments import shown
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
        choices = _CHOICES[what]
        if not isinstance(value, str) or value not in choices:
            raise InputError(
                what,
                f"{shown(value)} is not one of {', '.join(choices)}",
                remedy="choose one of them",
                actual=value,
                limit=choices,
            )


def check_timeout(timeout_s: Any) -> None:
    """Raise `InputError` unless it is a positive, finite number of seconds."""
    number = isinstance(timeout_s, Real) and not isinstance(timeout_s, bool)
    if not number or not math.isfinite(timeout_s) or timeout_s <= 0:
        raise InputError(
            "timeout_s (--timeout-s)",
            f"{timeout_s!r} is not a positive number of seconds",
            remedy="give one, as in 600",
            actual=timeout_s,
            limit="more than 0, finite",
        )
