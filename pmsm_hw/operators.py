"""What projections do, as arithmetic: two forms that every backend can be built on.

`lower` brings each projection into one of two forms: `DenseForm`, a matrix, or `WindowForm`, a
grouped two-dimensional convolution on ``(channels, height, width)``; one-dimensional convolution,
pooling and identity are windows too. `apply` is the exact arithmetic of both; `synapses` lists
every connection, for brute-force checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Network,
    Pads,
    Projection,
    Shape,
    SumPool,
)

__all__ = [
    "DenseForm",
    "Form",
    "WindowForm",
    "apply",
    "chw",
    "count_synapses",
    "fan_in",
    "lower",
    "magnitude",
    "synapses",
]


def chw(shape: Shape) -> tuple[int, int, int]:
    """Three-axis view of a population shape: ``(n, 1, 1)``, ``(c, l, 1)`` or ``(c, h, w)``."""
    c, h, w = (*shape, 1, 1)[:3]
    return c, h, w


@dataclass(frozen=True)
class DenseForm:
    """``target = weight @ source`` on flattened populations.

    Parameters
    ----------
    weight
        ``(n_post, n_pre)`` int8.
    """

    weight: NDArray[np.int8]


@dataclass(frozen=True)
class WindowForm:
    """Grouped cross-correlation on ``(channels, height, width)``.

    Parameters
    ----------
    weight
        ``(c_out, c_in / groups, kh, kw)`` int8.
    stride, dilation
        ``(vertical, horizontal)``.
    padding
        ``((top, bottom), (left, right))``.
    groups
        Channel groups.
    source, target
        Shapes ``(c, h, w)``.
    """

    weight: NDArray[np.int8]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int
    source: tuple[int, int, int]
    target: tuple[int, int, int]

    @property
    def is_depthwise(self) -> bool:
        """One channel in, one channel out, per group."""
        return self.groups == self.source[0] == self.target[0]


Form: TypeAlias = DenseForm | WindowForm


def _two(values: tuple[int, ...]) -> tuple[int, int]:
    a, b = (*values, 1)[:2]
    return a, b


def _two_pads(pads: Pads) -> tuple[tuple[int, int], tuple[int, int]]:
    a, b = (*pads, (0, 0))[:2]
    return a, b


def lower(projection: Projection, source_shape: Shape, target_shape: Shape) -> Form:
    """Bring a projection into one of the two forms.

    Parameters
    ----------
    projection
        Any projection of a valid network.
    source_shape, target_shape
        Shapes of the populations it joins.
    """
    if isinstance(projection, Dense):
        return DenseForm(projection.weight)
    source, target = chw(source_shape), chw(target_shape)
    if isinstance(projection, Conv2d | Conv1d):
        weight = projection.weight
        if isinstance(projection, Conv1d):
            weight = weight[..., None]
        return WindowForm(
            weight,
            _two(projection.stride),
            _two_pads(projection.padding),
            _two(projection.dilation),
            projection.groups,
            source,
            target,
        )
    if isinstance(projection, SumPool):
        kernel, stride, pads = projection.kernel, projection.stride, projection.padding
    elif isinstance(projection, Identity):
        kernel, stride, pads = (1, 1), (1, 1), ((0, 0), (0, 0))
    else:
        raise TypeError(f"unknown projection kind {type(projection).__name__}")
    weight = np.broadcast_to(projection.weight.reshape(-1, 1, 1, 1), (source[0], 1, *_two(kernel)))
    return WindowForm(weight, _two(stride), _two_pads(pads), (1, 1), source[0], source, target)


def lowered(network: Network, projection: Projection) -> Form:
    """`lower`, with the shapes looked up in the network."""
    return lower(projection, network[projection.source].shape, network[projection.target].shape)


def magnitude(form: Form, payload_max: int) -> int:
    """Largest possible absolute partial sum of ``w * payload`` in any order of addition.

    Parameters
    ----------
    payload_max
        Largest absolute payload.
    """
    weight = form.weight.astype(np.int64).reshape(form.weight.shape[0], -1)
    return int(np.abs(weight).sum(axis=1).max()) * payload_max


def exact_dtype(bound: int) -> type[np.floating[Any]] | type[np.int64]:
    """Fastest type in which sums of integers up to ``bound`` are exact."""
    if bound < 1 << 24:
        return np.float32
    if bound < 1 << 53:
        return np.float64
    return np.int64


def apply(form: Form, payload: NDArray[Any], payload_max: int) -> NDArray[Any]:
    """Sum ``w * payload`` over each target neuron's synapses, exactly.

    Parameters
    ----------
    form
        The projection.
    payload
        ``(batch, *source_shape)``, integers of any dtype, or integer-valued floats.
    payload_max
        Bound on the absolute payload; decides the type that is used.

    Returns
    -------
    ndarray
        ``(batch, n_post)`` or ``(batch, c, h, w)``; integer-valued, in `exact_dtype`.
    """
    dtype = exact_dtype(magnitude(form, max(payload_max, 1)))
    if isinstance(form, DenseForm):
        flat = payload.reshape(len(payload), -1).astype(dtype, copy=False)
        return flat @ form.weight.T.astype(dtype)
    return _apply_window(form, payload.reshape(len(payload), *form.source), dtype)


def _apply_window(form: WindowForm, payload: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
    c_out, h_out, w_out = form.target
    _, c_group, kh, kw = form.weight.shape
    (sy, sx), (dy, dx) = form.stride, form.dilation
    batch = len(payload)
    # channels last: a window row is then one run of memory
    (top, bottom), (left, right) = form.padding
    c_in, h_in, w_in = form.source
    x = np.zeros((batch, h_in + top + bottom, w_in + left + right, c_in), dtype)
    x[:, top : top + h_in, left : left + w_in] = payload.transpose(0, 2, 3, 1)

    def tap(i: int, j: int, channels: slice) -> NDArray[Any]:
        y0, x0 = i * dy, j * dx
        return x[
            :, y0 : y0 + (h_out - 1) * sy + 1 : sy, x0 : x0 + (w_out - 1) * sx + 1 : sx, channels
        ]

    if form.is_depthwise:
        total = np.zeros((batch, h_out, w_out, c_in), dtype)
        weight = form.weight.astype(dtype)
        for i in range(kh):
            for j in range(kw):
                total += tap(i, j, slice(None)) * weight[:, 0, i, j]
        return total.transpose(0, 3, 1, 2)
    out = np.empty((batch * h_out * w_out, c_out), dtype)
    c_out_group = c_out // form.groups
    for g in range(form.groups):
        channels = slice(g * c_group, (g + 1) * c_group)
        columns = np.empty((batch, h_out, w_out, kh, kw, c_group), dtype)
        for i in range(kh):
            for j in range(kw):
                columns[:, :, :, i, j] = tap(i, j, channels)
        rows = slice(g * c_out_group, (g + 1) * c_out_group)
        matrix = form.weight[rows].transpose(2, 3, 1, 0).reshape(-1, c_out_group).astype(dtype)
        out[:, rows] = columns.reshape(batch * h_out * w_out, -1) @ matrix
    return out.reshape(batch, h_out, w_out, c_out).transpose(0, 3, 1, 2)


# ---------------------------------------------------------------------------------------------
# Counting
# ---------------------------------------------------------------------------------------------


def _nonzero(form: Form) -> Form:
    mask = (form.weight != 0).astype(np.int8)
    if isinstance(form, DenseForm):
        return DenseForm(mask)
    return WindowForm(
        mask, form.stride, form.padding, form.dilation, form.groups, form.source, form.target
    )


def fan_in(network: Network, name: str) -> NDArray[np.int64]:
    """Synapses with a weight other than zero onto each neuron of a population.

    Returns
    -------
    ndarray
        Shape of the population, int64.
    """
    population = network[name]
    total = np.zeros(population.shape, np.int64)
    for projection in network.into(name):
        form = _nonzero(lowered(network, projection))
        ones = np.ones((1, network[projection.source].n_neurons), np.int8)
        total += apply(form, ones, 1).astype(np.int64).reshape(population.shape)
    return total


def count_synapses(network: Network, projection: Projection) -> int:
    """Connections of one projection with a weight other than zero, padding not counted."""
    form = _nonzero(lowered(network, projection))
    ones = np.ones((1, network[projection.source].n_neurons), np.int8)
    return int(apply(form, ones, 1).sum(dtype=np.float64))


def synapses(form: Form) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Every connection with a weight other than zero, one by one: for checks and small networks.

    Returns
    -------
    pre, post, weight
        Flat (C order) neuron indices and weights, int64, sorted by ``pre`` then ``post``.
    """
    if isinstance(form, DenseForm):
        post, pre = np.nonzero(form.weight)
        weight = form.weight[post, pre].astype(np.int64)
    else:
        pres, posts, weights = [], [], []
        c_out, h_out, w_out = form.target
        _, h_in, w_in = form.source
        c_group, c_out_group = form.weight.shape[1], c_out // form.groups
        oc, ic, ki, kj = np.nonzero(form.weight)
        for y in range(h_out):
            for x in range(w_out):
                row = y * form.stride[0] - form.padding[0][0] + ki * form.dilation[0]
                col = x * form.stride[1] - form.padding[1][0] + kj * form.dilation[1]
                inside = (row >= 0) & (row < h_in) & (col >= 0) & (col < w_in)
                channel = (oc // c_out_group) * c_group + ic
                pres.append(((channel * h_in + row) * w_in + col)[inside])
                posts.append(((oc * h_out + y) * w_out + x)[inside])
                weights.append(form.weight[oc, ic, ki, kj][inside].astype(np.int64))
        pre, post, weight = (np.concatenate(a) for a in (pres, posts, weights))
    order = np.lexsort((post, pre))
    return pre[order], post[order], weight[order]
