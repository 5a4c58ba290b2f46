"""What populations and projections check about their fields: one error, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw import arguments
from pmsm_hw.arguments import array_of, as_integer, items, pair, shown
from pmsm_hw.errors import NetworkError
from pmsm_hw.network.limits import IntArray, Shape

__all__ = [
    "choice",
    "frozen",
    "integer_tuple",
    "integers",
    "listed",
    "per_channel",
    "refuse",
    "require",
    "value_range",
]


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only copy."""
    array = np.array(array, order="C")
    array.setflags(write=False)
    return array


def integers(subject: str, what: str, value: ArrayLike) -> IntArray:
    """Bring a value into int64; nothing but integers will do."""
    array = array_of(NetworkError, subject, what, value, kinds="iu", remedy="give integers")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise NetworkError(
            subject,
            f"{what} reaches {int(array.max()):,}, the contract's integers end at 2**63 - 1",
            remedy="use smaller values",
            actual=int(array.max()),
            limit=int(np.iinfo(np.int64).max),
        )
    return array.astype(np.int64)


def per_channel(
    subject: str, what: str, array: NDArray[Any], shape: Shape, *, by_neuron: bool = True
) -> NDArray[Any]:
    """Bring a scalar, per-channel or per-neuron parameter into a form that broadcasts."""
    if array.size == 1:
        return frozen(array.reshape(()))
    if array.shape == shape and (by_neuron or len(shape) == 1):
        return frozen(array)
    channels = (shape[0],) + (1,) * (len(shape) - 1)
    if array.shape in ((shape[0],), channels):
        return frozen(array.reshape(channels))
    raise NetworkError(
        subject,
        f"{what} has shape {array.shape}, the population takes (), ({shape[0]},)"
        + (f" or {shape}" if by_neuron else ""),
        remedy="give one value per population"
        + (", channel or neuron" if by_neuron else " or channel"),
        actual=array.shape,
        limit=shape,
    )


def value_range(array: NDArray[Any]) -> tuple[int, int]:
    """Least and greatest value."""
    if array.size == 1:
        return (int(array.item()),) * 2
    return (int(array.min()), int(array.max())) if array.size else (0, 0)


def require(
    ok: bool, subject: str, problem: str, remedy: str, actual: object, limit: object
) -> None:
    """Raise `NetworkError` unless all is well.

    Where many are made and the problem takes long to put into words, `refuse` is the better choice.
    """
    if not ok:
        refuse(subject, problem, remedy, actual, limit)


def refuse(subject: str, problem: str, remedy: str, actual: object, limit: object) -> NoReturn:
    """Raise `NetworkError`."""
    raise NetworkError(subject, problem, remedy=remedy, actual=actual, limit=limit)


def choice(subject: str, what: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `NetworkError` unless a value is one of several."""
    arguments.choice(NetworkError, subject, what, value, choices, remedy="choose one of them")


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first of many only."""
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


_MOST_LISTED = 20


def integer_tuple(subject: str, what: str, value: object, n: int) -> tuple[int, ...]:
    """So many Python integers, or `NetworkError`."""
    if n == 2:
        return pair(NetworkError, subject, what, value, remedy="give two integers")
    given = items(NetworkError, subject, what, value, remedy=f"give {n} integers")
    found = tuple(i for i in map(as_integer, given) if i is not None)
    require(
        len(given) == len(found) == n,
        subject,
        f"{what} {shown(value)} are not {n} integers",
        f"give {n} integers",
        value,
        n,
    )
    return found
