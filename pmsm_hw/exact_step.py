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
    values, low, high, is_closed = (
        np.concatenate([part[i] for part in parts] or [np.empty(0)]) for i in range(4)
    )
    if values.size == 0 or not np.isfinite(values).all():
        return None
    if low.dtype == object:  # mixed with float32: all as fractions
        low, high = (np.array([Fraction(v) for v in ends]) for ends in (low, high))
    for found in (_within(low, high, largest), _exact(values, largest)):
        if found is not None:
            k = np.rint(values / found).astype(np.int64)
            if k.max() > largest:
                continue
            if low.dtype == object:  # division of a fraction by a Python integer is exact
                k = k.astype(object)
            lowest, highest = (low / k).max(), (high / k).min()
            at_end = (low / k == highest) | (high / k == lowest)
            if lowest < highest or (lowest == highest and bool(is_closed[at_end].all())):
                return float(min(max(found, lowest), highest))
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


def _known_to(array: NDArray[Any], relative_error: float | None) -> tuple[NDArray[Any], ...]:
    """Distinct absolute values, the range of real numbers each may stand for, and its kind.

    A range is closed or open: what lies half-way between two floats is rounded to the even one.
    """
    if array.dtype.kind == "f" and array.dtype not in (np.float16, np.float32):
        array = array.astype(np.float64)
    array = np.unique(np.abs(array[array != 0])).astype(array.dtype.newbyteorder("="))
    values, every = array.astype(np.float64), np.ones(array.shape, np.bool_)
    if relative_error is not None:
        return values, values * (1 - relative_error), values * (1 + relative_error), every
    if array.dtype.kind != "f":
        if array.size and int(array[-1]) >= 1 << 53:
            values = np.full(values.shape, np.inf)
        whole = values.astype(object)
        return values, whole, whole, every
    below = np.nextafter(array, array.dtype.type(0))
    above = np.nextafter(array, array.dtype.type(np.inf))
    is_even = array.view(f"u{array.itemsize}") % 2 == 0
    if array.itemsize < 8 or not np.isfinite(array).all():
        return values, (values + below) / 2, (values + above) / 2, is_even
    low, high = (
        np.array([(Fraction(v) + Fraction(w)) / 2 for v, w in zip(values, ends, strict=True)])
        for ends in (below, above)
    )
    return values, low, high, is_even


def _within(low: NDArray[Any], high: NDArray[Any], largest: int) -> float | None:
    """Step by the smallest value over an integer, refined until all ratios may be integers."""
    least = low.astype(np.float64) * (1 - 2.0**-51)  # wider by what float64 rounds in here
    most = high.astype(np.float64) * (1 + 2.0**-51)
    base = int(least.argmin())
    k = 1
    while k * (least.max() / most[base]) <= largest:
        from_, to = k * least / most[base], k * most / least[base]
        far = np.ceil(from_) > to
        far[base] = False
        if not far.any():
            return float((least[base] + most[base]) / (2 * k))
        i = int(far.argmax())
        k *= _simplest(Fraction(float(from_[i])), Fraction(float(to[i]))).denominator
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
