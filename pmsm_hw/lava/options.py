"""The choices that a Lava graph offers."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pmsm_hw.errors import InputError

__all__ = ["Granularity", "Tag", "check_options"]

Granularity: TypeAlias = Literal["coarse", "fine"]
"""``"coarse"``: one process per population; ``"fine"``: one per population and projection."""

Tag: TypeAlias = Literal["fixed_pt", "floating_pt"]
"""Lava's names for models on integers and their twins on floats."""

_CHOICES = {"granularity": ("coarse", "fine"), "tag": ("fixed_pt", "floating_pt")}


def check_options(granularity: str, tag: str) -> None:
    """Raise `InputError` unless both are known."""
    for what, value in (("granularity", granularity), ("tag", tag)):
        choices = _CHOICES[what]
        if value not in choices:
            raise InputError(
                what,
                f"{value!r} is not one of {', '.join(choices)}",
                remedy="choose one of them",
                actual=value,
                limit=choices,
            )
