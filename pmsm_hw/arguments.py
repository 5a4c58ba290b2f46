"""What arguments may be: every wrong one is one error that names it.

Nothing is converted that would change: 2.5 is not 2, "4" is not 4 and True is not 1.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import PmsmHwError

__all__ = [
    "array_of",
    "as_integer",
    "check_progress",
    "choice",
    "flag",
    "instance",
    "integer",
    "items",
    "names",
    "number",
    "pair",
    "shown",
]

Error = type[PmsmHwError]
_Kind = TypeVar("_Kind")


class _Short(reprlib.Repr):
    """Python shows no integers of more than some 4,300 digits: an error, inside lists too."""

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > _MOST_BITS:
            return f"an integer of {x.bit_length():,} bits"
        return super().repr_int(x, level)


_MOST_BITS = 256
_LONGEST = 120
_SHORT = _Short()
_SHORT.maxlevel = 3


def shown(value: object) -> str:
    """A value as errors show it: short, whatever it is; never an error of its own."""
    try:
        if isinstance(value, str):
            return repr(value if len(value) <= 80 else f"{value[:77]}...")
        if isinstance(value, np.ndarray) and value.ndim > 0:
            return f"an array of shape {value.shape}"
        text = _SHORT.repr(value)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    except Exception:  # what a foreign object answers to repr() is its own affair
        return f"a {type(value).__name__}"


def as_integer(value: object) -> int | None:
    """The integer that a value is; None if it is none (a bool is none)."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def integer(
    error: Error,
    subject: str,
    what: str,
    value: object,
    *,
    low: int,
    high: int | None,
    remedy: str,
) -> int:
    """An integer within limits.

    Parameters
    ----------
    error
        Class of the error.
    subject, what
        The object and its argument, as errors name them.
    value
        What was given.
    low, high
        Limits, both included; ``None``: there is no upper one.
    remedy
        What to do otherwise.
    """
    number = as_integer(value)
    if number is None or number < low or (high is not None and number > high):
        limits = f"the limit is {low:,}" if high is None else f"the limits are {low:,} and {high:,}"
        beyond = f"below {low}" if high is None else f"outside {low}..{high}"
        raise error(
            subject,
            f"{what} {shown(value)} is "
            + (f"not an integer, {limits}" if number is None else beyond),
            remedy=remedy,
            actual=value,
            limit=(low, high),
        )
    return number


def number(
    error: Error,
    subject: str,
    what: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    remedy: str,
) -> float:
    """A finite number, as a float.

    Parameters
    ----------
    error, subject, what, value, remedy
        As for `integer`.
    above, at_least
        What it must exceed, or reach; one of them.
    """
    limit = f"> {above:g}" if above is not None else f">= {at_least:g}"
    found = math.nan
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
    ok = found > above if above is not None else at_least is not None and found >= at_least
    if not (ok and math.isfinite(found)):
        raise error(
            subject,
            f"{what} {shown(value)} is not a finite number {limit}",
            remedy=remedy,
            actual=value,
            limit=limit,
        )
    return found


def array_of(
    error: Error, subject: str, what: str, value: object, *, kinds: str, remedy: str
) -> NDArray[Any]:
    """An array of numbers.

    Parameters
    ----------
    error, subject, what, value, remedy
        As for `integer`.
    kinds
        Kinds of dtype that are possible: "i" and "u" for integers, "f" for floats.
    """
    names = "integers" if "f" not in kinds else "floats and integers" if "i" in kinds else "floats"
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as problem:
        raise error(
            subject,
            f"{what} {shown(value)} is not an array, {names} of equally long rows are needed",
            remedy=remedy,
            actual=type(value).__name__,
            limit=names,
        ) from problem
    if array.dtype.kind not in kinds:
        raise error(
            subject,
            f"{what} has dtype {array.dtype}, {names} of at most 64 bits are possible",
            remedy=remedy,
            actual=str(array.dtype),
            limit=names,
        )
    return array


def items(error: Error, subject: str, what: str, value: object, *, remedy: str) -> tuple[Any, ...]:
    """What a sequence holds.

    Parameters
    ----------
    error, subject, what, value, remedy
        As for `integer`.
    """
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        try:
            return tuple(value)
        except TypeError:  # an array without axes says that it can be iterated over
            pass
    raise error(
        subject,
        f"{what} {shown(value)} is not a sequence, one is needed",
        remedy=remedy,
        actual=type(value).__name__,
        limit="a sequence",
    )


def names(error: Error, what: str, value: Iterable[str]) -> tuple[str, ...]:
    """Names of populations: one text is not taken for the letters that it holds.

    Parameters
    ----------
    error
        Class of the error.
    what
        Name of the argument.
    value
        What was given.
    """
    given = items(error, what, "value", value, remedy="give a list of names")
    for name in given:
        instance(error, what, "name", name, str, remedy="give a list of names")
    return given


def instance(
    error: Error, subject: str, what: str, value: object, kind: type[_Kind], *, remedy: str
) -> _Kind:
    """A value of one class.

    Parameters
    ----------
    error, subject, what, value, remedy
        As for `integer`.
    kind
        The class.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOUaeiou" else "a"
        raise error(
            subject,
            f"{what} {shown(value)} is not {article} {kind.__name__}",
            remedy=remedy,
            actual=type(value).__name__,
            limit=kind.__name__,
        )
    return value


def check_progress(error: Error, progress: object) -> None:
    """Raise unless progress can be told: to a function of work done and work to do, or not at all.

    Parameters
    ----------
    error
        Class of the error.
    progress
        What was given.
    """
    if progress is not None and not callable(progress):
        raise error(
            "progress",
            f"{shown(progress)} cannot be called",
            remedy="give a function of two numbers, or None",
            actual=type(progress).__name__,
            limit="a function",
        )


def choice(
    error: Error, subject: str, what: str, value: object, options: tuple[str, ...], *, remedy: str
) -> str:
    """One of several words.

    Parameters
    ----------
    error, subject, what, value, remedy
        As for `integer`.
    options
        The words.
    """
    if not isinstance(value, str) or value not in options:
        raise error(
            subject,
            f"{what} {shown(value)} is not one of {', '.join(options)}",
            remedy=remedy,
            actual=value,
            limit=options,
        )
    return value


def flag(error: Error, subject: str, what: str, value: object) -> bool:
    """True or False.

    Parameters
    ----------
    error, subject, what, value
        As for `integer`.
    """
    if not isinstance(value, bool | np.bool_):
        raise error(
            subject,
            f"{what} {shown(value)} is neither True nor False",
            remedy="give one of them",
            actual=value,
            limit=(True, False),
        )
    return bool(value)


def pair(error: Error, subject: str, what: str, value: object, *, remedy: str) -> tuple[int, int]:
    """Two integers.

    Parameters
    ----------
    error, subject, what, value, remedy
        As for `integer`.
    """
    parts = [as_integer(part) for part in items(error, subject, what, value, remedy=remedy)]
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        raise error(
            subject,
            f"{what} {shown(value)} are not two integers",
            remedy=remedy,
            actual=value,
            limit="two integers",
        )
    return parts[0], parts[1]
