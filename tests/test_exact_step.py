"""The step of which given floats are integer multiples."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmsm_hw.exact_step import common_step, multiples

FLOATS = (np.float64, np.float32, np.float16)


@st.composite
def multiples_of_a_step(draw: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Integers without common divisor, and an arbitrary step, in a random dtype.

    Two of 20 times 20 are told from simpler ratios by 11 bits, two of 300 times 300 by 24.
    """
    dtype = draw(st.sampled_from(FLOATS))
    limit = 20 if dtype is np.float16 else 300
    k = draw(st.lists(st.integers(-limit, limit), min_size=1, max_size=30))
    assume_one = [v for v in k if v] or [1]
    whole = np.array([*k, *assume_one])
    whole = whole // np.gcd.reduce(whole)
    numerator = draw(st.integers(1, 63 if dtype is np.float16 else 999))
    denominator = draw(st.integers(1, 999))
    step = Fraction(numerator, denominator) * draw(st.sampled_from((1, Fraction(1, 16))))
    return whole, np.array([float(step * int(v)) for v in whole], dtype), step


@given(multiples_of_a_step())
def test_the_nearest_floats_of_integers_times_any_step_give_the_integers(case: Any) -> None:
    whole, values, step = case
    found = common_step(values)
    assert found is not None
    assert abs(found / float(step) - 1) <= float(np.finfo(values.dtype).eps)
    np.testing.assert_array_equal(multiples(values, found), whole)


@given(
    st.lists(st.floats(width=32, allow_subnormal=False, min_value=-1e6, max_value=1e6), max_size=8),
    st.sampled_from(FLOATS[:2]),
)
def test_what_is_found_gives_every_value_back_bit_for_bit(values: Any, dtype: Any) -> None:
    array = np.array(values, dtype)
    step = common_step(array)
    if step is None:
        return
    k = multiples(array, step)
    assert np.abs(k).max() < 1 << 23
    # one real step lies within half a unit in the last place of each value
    ends = [
        [(Fraction(float(abs(v))) + Fraction(float(n))) / 2 / abs(int(m)) for n in neighbours]
        for v, m in zip(array, k, strict=True)
        if m
        for neighbours in [(np.nextafter(abs(v), dtype(0)), np.nextafter(abs(v), dtype(np.inf)))]
    ]
    assert max(low for low, _ in ends) <= min(high for _, high in ends)
    # and no value but 0 is taken for 0
    np.testing.assert_array_equal(k == 0, array == 0)


@pytest.mark.parametrize(
    ("arrays", "step"),
    [
        (([[2, -1]], [5]), 1.0),
        (([6, -4, 0],), 2.0),
        ((np.array([0.1, 0.2, 0.3]),), 0.1),  # 0.3 is not 3 * 0.1 in float64, but 0.3 is nearest
        ((np.float32([0.5, 1.5]), np.array([0.25])), 0.25),
        ((np.array([1.0, 2.0]), 2.5), 0.5),
        ((np.float32([3, 5, 8e6]),), 1.0),  # 8e6 / 3 in float32 could also be 2,666,667
        ((np.float16([0.125, 0.375]), np.array([1], np.int8)), 0.125),
        ((np.array([1 / 3, 1.0]), np.array([2])), 1 / 3),
        ((np.array([-254, 2, 128]), np.array([0, 64])), 2.0),  # Loihi's 9-bit signed weights
    ],
)
def test_steps_by_hand(arrays: Any, step: float) -> None:
    assert common_step(*arrays) == step


@pytest.mark.parametrize(
    "arrays",
    [
        (),
        ([],),
        ([0.0, 0.0],),
        ([1.0, np.nan],),
        ([1.0, np.inf],),
        ([1.0, 2.0**-24],),  # a multiple beyond 24 bits
        ([1.0, np.sqrt(2)],),
        (np.float32([1, 1 + 2**-23]),),
        ([0.1, 0.30000000000000010],),
        (np.random.default_rng(0).normal(size=9).astype(np.float32),),
        ([1 << 60, 3],),
    ],
)
def test_no_step(arrays: Any) -> None:
    assert common_step(*arrays) is None


def test_products_of_rounded_numbers_need_the_error_that_they_have() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        k = np.append(rng.integers(-127, 128, 50), 1)
        factor, unit = np.float32(rng.uniform(0.01, 1, 2))
        weights = (k * factor).astype(np.float32).astype(np.float64)
        thresholds = np.float64(np.float32(factor * unit * 1000))
        assert common_step(weights * unit, thresholds) is None
        step = common_step(weights * unit, thresholds, relative_error=2.0**-22)
        assert step is not None
        np.testing.assert_array_equal(multiples(weights * unit, step), k)
        assert multiples(thresholds, step) == 1000


@given(st.integers(0, 2**32), st.sampled_from(FLOATS[:2]))
def test_products_computed_in_the_dtype_itself_are_recognized(seed: int, dtype: Any) -> None:
    # half of 3 * step lie half-way between two floats
    rng = np.random.default_rng(seed)
    step = dtype(rng.uniform(1e-3, 1e3))
    k = np.append(rng.integers(-127, 128, 20), 1)
    values = k.astype(dtype) * step
    found = common_step(values)
    assert found is not None
    assert dtype(found) == step
    np.testing.assert_array_equal((k * found).astype(dtype), values)


def test_largest_is_honoured() -> None:
    assert common_step([1, 127], largest=127) == 1.0
    assert common_step([1, 128], largest=127) is None
    assert common_step([2, 254], largest=127) == 2.0
