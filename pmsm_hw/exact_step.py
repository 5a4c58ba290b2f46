"""Whether real numbers are integers times one step, and which step: the scale that loses nothing.

A network that was made of small integers (by another tool, or by quantization-aware training)
arrives as floats, each the nearest to ``k * step``. Rounded to a grid of its own choice, as to 127
parts of the largest weight, it would lose what it had exactly.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LARGEST_MULTIPLE", "common_step", "multiples"]

LARGEST_MULTIPLE = (1 << 23) - 1
"""Largest multiple that is looked for: what a 24-bit state holds."""


def common_step(
    *arrays: ArrayLike,
    relative_error: float | None = None,
    largest: int = LARGEST_MULTIPLE,
) -> float | None:
    """Largest step of which all values are integer multiples, or None.

    A value is a multiple ``k * step`` if it is the float of its own dtype nearest to that product:
    float32 ``[0.1, 0.2, 0.3]`` has the step 0.1, though none of the three is a multiple of another.

    Parameters
    ----------
    arrays
        Real numbers of any shapes, integer or float; zeros and empty arrays tell nothing.
    relative_error
        Accept values that are off by this share of themselves, in place of half a unit in the last
        place of their dtype: for products of float32 numbers, computed in float64, ``2**-22``.
    largest
        Largest ``abs(k)``.

    Returns
    -------
    float or None
        The step, positive; `multiples` gives the integers. None if there is no such step, or no
        value but 0, or one that is not finite.
    """
    parts = [_known_to(part, relative_error) for part in map(np.asarray, arrays)]
    values = np.concatenate([part[0] for part in parts] or [np.empty(0)])
    if values.size == 0 or not np.isfinite(values).all():
        return None
    low = np.concatenate([part[1] for part in parts])
    high = np.concatenate([part[2] for part in parts])
    if low.dtype == object:  # mixed with float32: all as fractions
        low, high = (np.array([Fraction(v) for v in ends]) for ends in (low, high))
    error = float(max(part[3] for part in parts))
    for found in (_within(values, error, largest), _exact(values, largest)):
        if found is not None:
            k = np.rint(values / found).astype(np.int64)
            if low.dtype == object:  # division of a fraction by a Python integer is exact
                k = k.astype(object)
            least, most = (low / k).max(), (high / k).min()
            # the end of a float's range belongs to its neighbour; an integer is all of its own
            holds = least < most or (least == most and bool((low == high).any()))
            if holds and k.max() <= largest:
                return float(min(max(found, least), most))
    return None


def multiples(values: ArrayLike, step: ArrayLike) -> NDArray[np.int64]:
    """Integers ``k`` of ``values = k * step``.

    Parameters
    ----------
    values
        Multiples of the step.
    step
        From `common_step`; broadcastable to the values.
    """
    return np.rint(np.asarray(values, np.float64) / np.asarray(step, np.float64)).astype(np.int64)


def _known_to(
    array: NDArray[Any], relative_error: float | None
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[Any], float]:
    """Distinct absolute values, the range of real numbers each may stand for, and its width."""
    array = np.unique(np.abs(array[array != 0]))
    values = array.astype(np.float64)
    if relative_error is not None:
        return values, values * (1 - relative_error), values * (1 + relative_error), relative_error
    if array.dtype.kind in "iu":
        if array.size and int(array[-1]) >= 1 << 53:
            values = np.full(1, np.inf)
        whole = values.astype(object)
        return values, whole, whole, 2.0**-53
    below = np.nextafter(array, array.dtype.type(0))
    above = np.nextafter(array, array.dtype.type(np.inf))
    error = float(np.finfo(array.dtype).eps) / 2
    if array.dtype.itemsize < 8 or not np.isfinite(array).all():
        low, high = (values + below) / 2, (values + above) / 2
        return values, low, high, error
    low, high = (
        np.array([(Fraction(v) + Fraction(w)) / 2 for v, w in zip(values, ends, strict=True)])
        for ends in (below, above)
    )
    return values, low, high, error


def _within(values: NDArray[np.float64], error: float, largest: int) -> float | None:
    """Step by the smallest value over an integer, refined until all ratios are integers."""
    smallest, biggest = float(values.min()), float(values.max())
    slack = 2.5 * error + 2.0**-51  # both values of a ratio are off, and so is their quotient
    k = 1
    while k * (biggest / smallest) <= largest + 0.5:
        ratios = values * k / smallest
        far = np.abs(ratios - np.rint(ratios)) > slack * ratios
        if not far.any():
            return smallest / k
        ratio = float(ratios[far.argmax()])
        k *= _simplest(Fraction(ratio * (1 - slack)), Fraction(ratio * (1 + slack))).denominator
    return None


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """Fraction of smallest denominator within ``[low, high]``, by continued fractions."""
    whole = math.ceil(low)
    if whole <= high:
        return Fraction(whole)
    rest = _simplest(1 / (high - whole + 1), 1 / (low - whole + 1))
    return whole - 1 + 1 / rest


def _exact(values: NDArray[np.float64], largest: int) -> float | None:
    """Greatest common divisor of the values as they stand."""
    smallest = float(values.min())
    if float(values.max()) / smallest > largest:
        return None
    mantissa, exponent = np.frexp(values)
    bits = (mantissa * 2.0**53).astype(np.int64)
    lowest = int(exponent.min())
    shift = exponent - lowest  # at most 24: the quotient of any two is limited
    divisor = 0
    for m, s in zip(bits.tolist(), shift.tolist(), strict=True):
        divisor = math.gcd(divisor, m << s)
    step = math.ldexp(divisor, lowest - 53)
    return step if float(values.max()) / step <= largest else None
