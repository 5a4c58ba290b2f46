"""What callers give to data sets: whole numbers, and arrays small enough to make."""

from __future__ import annotations

import math
from typing import Any

from pmsm_hw.arguments import integer
from pmsm_hw.errors import InputError

__all__ = ["LARGEST_BYTES", "fits", "whole"]

LARGEST_BYTES = 1 << 32
"""Most bytes of one array that is read or made, 4 GiB."""


def whole(subject: str, what: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Return a whole number as an int.

    Raises
    ------
    InputError
        If it is none (2.0 and True are none), or out of range.
    """
    remedy = "give a whole number in that range"
    return integer(InputError, subject, what, value, low=low, high=high, remedy=remedy)


def fits(subject: str, shape: tuple[int, ...], item_bytes: int, remedy: str) -> None:
    """Refuse an array that is too large to make.

    Raises
    ------
    InputError
        If it takes more than `LARGEST_BYTES`.
    """
    n_bytes = math.prod(shape) * item_bytes
    if n_bytes > LARGEST_BYTES:
        raise InputError(
            subject,
            f"an array of {'x'.join(map(str, shape))} values takes {n_bytes:,} bytes, "
            f"the limit is {LARGEST_BYTES:,}",
            remedy=remedy,
            actual=n_bytes,
            limit=LARGEST_BYTES,
        )
