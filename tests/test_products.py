"""Convolutions in vector registers: equal to the plain path for every shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmsm_hw import products
from pmsm_hw.operators import Operator, WindowForm


@st.composite
def forms(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    depthwise = draw(st.booleans())
    c_in = draw(st.integers(1, 40)) if depthwise else groups * draw(st.integers(1, 9))
    c_out = c_in if depthwise else groups * draw(st.integers(1, 40))
    groups = c_in if depthwise else groups
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [
        draw(st.integers(max(1, r - sum(p)), max(1, r - sum(p)) + 9))
        for r, p in zip(reach, padding, strict=True)
    ]
    target = [
        (n + sum(p) - r) // s + 1 for n, p, r, s in zip(size, padding, reach, stride, strict=True)
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weight = rng.integers(-128, 128, (c_out, c_in // groups, *kernel), dtype=np.int8)
    return WindowForm(
        weight, stride, padding, dilation, groups, (c_in, *size), (c_out, *target)
    ), rng


@given(forms(), st.integers(1, 7), st.sampled_from([np.int8, np.int16, np.int32]), st.booleans())
def test_equal_to_the_plain_path(made, n, dtype, sparse):
    form, rng = made
    c, h, w = form.source
    payload = rng.integers(-9, 10, (n, h, w, c)).astype(dtype)
    if sparse:
        payload[rng.random(n) < 0.5] = 0  # silent frames
    plain = Operator(form, form.source, form.target, 9)
    compiled = Operator(form, form.source, form.target, 9, compiled=True)
    assert plain.dtype is np.float32
    out = np.full((n, *form.target[1:], form.target[0]), np.nan, np.float32)
    np.testing.assert_array_equal(compiled(payload, out), plain(payload))


@pytest.mark.parametrize("frame_values", [1, 1 << 30])
def test_any_number_of_frames_at_a_time(monkeypatch, frame_values):
    monkeypatch.setattr(products, "FRAME_VALUES", frame_values)
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, (33, 5, 3, 3), dtype=np.int8)
    form = WindowForm(weight, (1, 1), ((1, 1), (1, 1)), (1, 1), 1, (5, 7, 6), (33, 7, 6))
    payload = rng.integers(-3, 4, (11, 7, 6, 5)).astype(np.int8)
    payload[[0, 4, 10]] = 0
    if frame_values > 1 << 20:
        monkeypatch.setattr(products, "FRAME_VALUES", 40 * 9 * 8 * 5)
    plain = Operator(form, form.source, form.target, 3)(payload)
    compiled = Operator(form, form.source, form.target, 3, compiled=True)(payload)
    np.testing.assert_array_equal(compiled, plain)


def test_sums_at_the_edge_of_float32():
    weight = np.full((17, 129, 3, 3), -128, np.int8)
    form = WindowForm(weight, (1, 1), ((1, 1), (1, 1)), (1, 1), 1, (129, 4, 4), (17, 4, 4))
    payload = np.full((2, 4, 4, 129), 112, np.int8)  # sums to 16,644,096 of 16,777,216
    compiled = Operator(form, form.source, form.target, 112, compiled=True)
    assert compiled.dtype is np.float32
    assert compiled(payload).min() == -128 * 112 * 129 * 9
