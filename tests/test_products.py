"""Convolutions in vector registers: equal to the plain path for every shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmsm_hw import products
from pmsm_hw.operators import DenseForm, Operator, WindowForm, synapses


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


def one_by_one(form, payload):
    """Every synapse on its own, in int64: the oracle."""
    pre, post, weight = synapses(form)
    flat = payload.transpose(0, 3, 1, 2).reshape(len(payload), -1).astype(np.int64)
    sums = np.zeros((len(payload), int(np.prod(form.target))), np.int64)
    for row, values in zip(sums, flat, strict=True):
        np.add.at(row, post, weight * values[pre])
    return sums.reshape(-1, *form.target).transpose(0, 2, 3, 1)


@given(
    forms(),
    st.integers(1, 6),
    st.sampled_from([np.int8, np.int16, np.int32]),
    st.sampled_from([0.01, 0.1, 0.5, 1.0]),
    st.sampled_from([1, 9]),
)
def test_spikes_and_windows_and_synapses_agree(made, n, dtype, share, largest):
    """Frames summed from their spikes, from their windows, and some each way."""
    form, rng = made
    c, h, w = form.source
    payload = rng.integers(-largest, largest + 1, (n, h, w, c)).astype(dtype)
    payload[rng.random(payload.shape) >= share] = 0
    payload[rng.random(n) < 0.2] = 0
    expected = one_by_one(form, payload)
    compiled = Operator(form, form.source, form.target, largest, compiled=True)
    every = payload[0].size
    for most_spikes in (every, 0, int(np.median((payload != 0).sum(axis=(1, 2, 3))))):
        compiled._tiles._most_spikes = most_spikes
        # beyond the frames that are asked for, nothing may be written
        out = np.full((n + 2, *form.target[1:], form.target[0]), np.nan, np.float32)
        compiled(payload, out[1:-1])
        np.testing.assert_array_equal(out[1:-1], expected)
        assert np.isnan(out[[0, -1]]).all()


@given(
    source=st.tuples(*[st.integers(1, 5)] * 3),
    target=st.tuples(*[st.integers(1, 4)] * 3),
    share=st.sampled_from([0.05, 0.5, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_small_dense_projections_are_one_window(source, target, share, seed):
    rng = np.random.default_rng(seed)
    (c, h, w), n_post = source, int(np.prod(target))
    form = DenseForm(rng.integers(-128, 128, (n_post, c * h * w), dtype=np.int8))
    payload = (rng.integers(-9, 10, (5, h, w, c)) * (rng.random((5, h, w, c)) < share)).astype(
        np.int8
    )
    flat = payload.transpose(0, 3, 1, 2).reshape(5, -1).astype(np.int64)
    expected = (flat @ form.weight.T.astype(np.int64)).reshape(5, *target).transpose(0, 2, 3, 1)
    compiled = Operator(form, source, target, 9, compiled=True)
    assert compiled._tiles is not None
    for most_spikes in (0, c * h * w):
        compiled._tiles._most_spikes = most_spikes
        np.testing.assert_array_equal(compiled(payload), expected)


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("c_out", [1, 8, 9, 16, 19, 24, 33, 130])
def test_each_spike_alone(padding, stride, dilation, c_out):
    """A frame for each source neuron, which alone fires: edges, corners, every remainder."""
    rng = np.random.default_rng(c_out)
    size, kernel, c_in = (7, 9), (3, 2), 2
    target = [
        (s + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for s, k in zip(size, kernel, strict=True)
    ]
    weight = rng.integers(-128, 128, (c_out, c_in, *kernel), dtype=np.int8)
    form = WindowForm(
        weight, (stride,) * 2, ((padding,) * 2,) * 2, (dilation,) * 2, 1, (c_in, *size),
        (c_out, *target),
    )  # fmt: skip
    n = size[0] * size[1] * c_in
    payload = (np.eye(n) * rng.choice([-3, -1, 1, 3], n)).reshape(n, *size, c_in).astype(np.int8)
    compiled = Operator(form, form.source, form.target, 3, compiled=True)
    compiled._tiles._most_spikes = n
    np.testing.assert_array_equal(compiled(payload), one_by_one(form, payload))


@pytest.mark.parametrize(("share", "sparse"), [(0.02, True), (0.9, False)])
def test_few_spikes_are_what_decides(share, sparse):
    rng = np.random.default_rng(0)
    weight = rng.integers(-8, 8, (32, 16, 3, 3), dtype=np.int8)
    form = WindowForm(weight, (1, 1), ((1, 1), (1, 1)), (1, 1), 1, (16, 12, 12), (32, 12, 12))
    payload = (rng.random((3, 12, 12, 16)) < share).astype(np.int8)
    tiles = products.Windows(form)
    assert (int((payload[0] != 0).sum()) <= tiles._most_spikes) == sparse


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
    for most_spikes in (0, payload[0].size):
        compiled._tiles._most_spikes = most_spikes
        assert compiled(payload).min() == -128 * 112 * 129 * 9


@pytest.mark.parametrize("groups", [None, 1, 2])
def test_the_invalid_flag_of_a_product_is_not_passed_on(groups):
    # integers never set it, OpenBLAS does for some shapes; infinities set it everywhere
    if groups is None:
        form = DenseForm(np.ones((3, 4), np.int8))
    else:
        weight = np.ones((4, 4 // groups, 1, 1), np.int8)
        form = WindowForm(weight, (1, 1), ((0, 0), (0, 0)), (1, 1), groups, (4, 1, 1), (4, 1, 1))
    payload = np.array([np.inf, -np.inf, np.inf, -np.inf]).reshape(1, 1, 1, 4)
    with np.errstate(invalid="raise"):
        sums = Operator(form, (4, 1, 1), (len(form.weight), 1, 1), 3)(payload)
    assert np.isnan(sums).all()
