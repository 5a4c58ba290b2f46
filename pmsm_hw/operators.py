"""What projections do, as arithmetic: two forms that every backend can be built on.

`lower` brings each projection into one of two forms: `DenseForm`, a matrix, or `WindowForm`, a
grouped two-dimensional convolution on ``(channels, height, width)``; one-dimensional convolution,
pooling and identity are windows too. `Operator` is the exact arithmetic of both, `apply` the same
for a single use; `synapses` lists every connection, for brute-force checks.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
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
from pmsm_hw.workers import one_blas_thread, scratch

__all__ = [
    "SHORT_PRODUCT",
    "DenseForm",
    "Form",
    "Operator",
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


def sum_bound(form: Form, payload_max: int) -> int:
    """Bound on any partial sum: a cheap one where that already suffices for float32."""
    low, high = int(form.weight.min()), int(form.weight.max())
    n_inputs = form.weight.size // len(form.weight)
    cheap = n_inputs * max(-low, high) * payload_max
    return cheap if exact_dtype(cheap) is np.float32 else magnitude(form, payload_max)


def exact_dtype(bound: int) -> type[np.floating[Any]] | type[np.int64]:
    """Fastest type in which sums of integers up to ``bound`` are exact."""
    if bound < 1 << 24:
        return np.float32
    if bound < 1 << 53:
        return np.float64
    return np.int64


def exact_product(
    a: NDArray[Any], b: NDArray[Any], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """``a @ b`` for integers in the type of `exact_dtype`, without warnings that mean nothing.

    Such products are never invalid. OpenBLAS 0.3.31 still sets that flag on processors with
    AVX-512 when float32 rows of 5 values meet a vector: lanes past the row hold what was there
    before, and do not reach the result.
    """
    with np.errstate(invalid="ignore"):
        result: NDArray[Any] = np.matmul(a, b, out=out)
    return result


class Operator:
    """A form, made ready to be applied to batches: channels last, the type chosen by its bound.

    Compiled float32 convolutions, and small dense projections, sum their windows in place
    (`pmsm_hw.products`). Other convolutions gather their windows (im2col) block by block and
    multiply matrices; with channels last, a row of a window is one run of memory. Every sum stays
    below the bound that chose the type, so floating point gives the integers exactly.

    Parameters
    ----------
    form
        The projection.
    source, target
        Shapes of the populations, ``(channels, height, width)``.
    payload_max
        Bound on the absolute payload.
    compiled
        Whether to use the compiled loops of `pmsm_hw.products`, where the type is float32.
    bound
        Of all partial sums, in absolute value; by default it is found.
    keep
        Whether to keep weights in the type of sums: for many small batches.
    """

    def __init__(
        self,
        form: Form,
        source: tuple[int, int, int],
        target: tuple[int, int, int],
        payload_max: int,
        *,
        compiled: bool = False,
        bound: int | None = None,
        keep: bool = False,
    ) -> None:
        self.form = form
        self.source, self.target, self._compiled = source, target, compiled
        self.bound = sum_bound(form, max(payload_max, 1)) if bound is None else bound
        self.dtype = exact_dtype(self.bound)
        self._depthwise = isinstance(form, WindowForm) and form.is_depthwise
        self._matrices: list[NDArray[Any]] = []
        self._tiles: Windows | None = None
        is_kept = keep and isinstance(form, DenseForm)
        self._dense_weight = form.weight.astype(self.dtype) if is_kept else form.weight
        windows = form if isinstance(form, WindowForm) else _as_window(form, source, target)
        if compiled and windows is not None and self.dtype is np.float32:
            from pmsm_hw.products import Windows

            self._tiles = Windows(windows)
        elif isinstance(form, WindowForm) and self._depthwise:
            self._taps = np.ascontiguousarray(form.weight[:, 0].transpose(1, 2, 0)).astype(
                self.dtype
            )
        elif isinstance(form, WindowForm):
            # transposed as int8, which is a quarter of the memory
            rows = np.ascontiguousarray(form.weight.transpose(0, 2, 3, 1))
            flat = rows.reshape(form.groups, len(rows) // form.groups, -1)
            self._matrices = [matrix.astype(self.dtype) for matrix in flat]

    def __call__(self, payload: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Sum ``w * payload`` over each target neuron's synapses, exactly.

        Parameters
        ----------
        payload
            ``(n, height, width, channels)`` integers of any dtype, or integer-valued floats.
        out
            Where to put the result; a new array by default.

        Returns
        -------
        ndarray
            ``(n, height, width, channels)`` of the target, integer-valued, in ``self.dtype``.
        """
        c, h, w = self.target
        if out is None:
            out = np.empty((len(payload), h, w, c), self.dtype)
        if self._tiles is not None:
            self._tiles(payload, out)
            return out
        busy = payload.reshape(len(payload), -1).any(axis=1)
        if not busy.all():  # frames without a spike add nothing
            out[~busy] = 0
            if busy.any():
                out[busy] = self(payload[busy])
        elif isinstance(self.form, DenseForm):
            self._dense(payload, self._dense_weight, out)
        elif self._depthwise:
            self._one_by_one(payload, self.form, out)
        else:
            self._windows(payload, self.form, out)
        return out

    def _dense(self, payload: NDArray[Any], weight: NDArray[Any], out: NDArray[Any]) -> None:
        c, h, w = self.target
        # weights are in C order of (channels, height, width), few enough at a time to be converted
        flat = payload.transpose(0, 3, 1, 2).reshape(len(payload), -1).astype(self.dtype)
        rows = np.empty((len(payload), c * h * w), self.dtype)
        n_rows = max(1, _BLOCK_VALUES // weight.shape[1])
        for i in range(0, len(weight), n_rows):
            part = weight[i : i + n_rows].astype(self.dtype, copy=False)
            is_short = self._compiled and len(flat) * part.size < SHORT_PRODUCT
            with one_blas_thread() if is_short else nullcontext():
                rows[:, i : i + n_rows] = exact_product(flat, part.T)
        out[...] = rows.reshape(-1, c, h, w).transpose(0, 2, 3, 1)

    def _padded(self, payload: NDArray[Any], form: WindowForm) -> NDArray[Any]:
        (top, bottom), (left, right) = form.padding
        if not (top or bottom or left or right):
            return payload
        n, h, w, c = payload.shape
        x = np.zeros((n, h + top + bottom, w + left + right, c), payload.dtype)
        x[:, top : top + h, left : left + w] = payload
        return x

    @staticmethod
    def _view(x: NDArray[Any], form: WindowForm) -> NDArray[Any]:
        """Windows ``(n, height, width, kernel height, kernel width, channels)`` of padded input."""
        n, *_, c = x.shape
        _, h, w = form.target
        kh, kw = form.weight.shape[2:]
        sn, sy, sx, sc = x.strides
        steps = (sn, sy * form.stride[0], sx * form.stride[1])
        taps = (sy * form.dilation[0], sx * form.dilation[1], sc)
        return as_strided(x, (n, h, w, kh, kw, c), (*steps, *taps), writeable=False)

    def _one_by_one(self, payload: NDArray[Any], form: WindowForm, out: NDArray[Any]) -> None:
        windows = self._view(self._padded(payload, form), form)
        out[...] = 0
        for i, j in np.ndindex(self._taps.shape[:2]):
            out += windows[:, :, :, i, j] * self._taps[i, j]

    def _windows(self, payload: NDArray[Any], form: WindowForm, out: NDArray[Any]) -> None:
        c_out, h, w = form.target
        _, c_group, kh, kw = form.weight.shape
        windows = self._view(self._padded(payload, form), form)
        # as many samples at a time, or rows of one, as keep the gathered windows small
        per_row = w * kh * kw * c_group
        n_rows = min(h, max(1, _BLOCK_VALUES // per_row))
        n_block = min(len(payload), max(1, _BLOCK_VALUES // (h * per_row)))
        columns = scratch("columns", (n_block, n_rows, w, kh, kw, c_group), self.dtype)
        for first, top in product(range(0, len(payload), n_block), range(0, h, n_rows)):
            samples, rows = slice(first, first + n_block), slice(top, min(top + n_rows, h))
            part = windows[samples, rows]
            block = columns[: len(part), : rows.stop - top]
            flat, to = block.reshape(-1, kh * kw * c_group), out[samples, rows]
            if form.groups == 1:
                block[...] = part
                # the target rows are one run of memory
                exact_product(flat, self._matrices[0].T, out=to.reshape(len(flat), c_out))
                continue
            for g, matrix in enumerate(self._matrices):
                block[...] = part[..., g * c_group : (g + 1) * c_group]
                c_to = slice(g * len(matrix), (g + 1) * len(matrix))
                to[..., c_to] = exact_product(flat, matrix.T).reshape(*to.shape[:3], -1)


_BLOCK_VALUES = 1 << 20
"""Values that are gathered, or weights that are converted, at a time: a few MB."""


SHORT_PRODUCT = 1 << 25
"""Multiplications that one thread has done before others, on busy cores, have begun."""

_WINDOW_WEIGHTS = 1 << 16
"""Most weights of a dense projection that is summed as one window: more are BLAS's strength."""


def _as_window(
    form: DenseForm, source: tuple[int, int, int], target: tuple[int, int, int]
) -> WindowForm | None:
    """A dense projection as a window as large as its source, if it is small.

    Its channels are the target neurons, in the order in which the target's lie in memory.
    """
    if form.weight.size > _WINDOW_WEIGHTS:
        return None
    n_post = len(form.weight)
    weight = form.weight.reshape(*target, -1).transpose(1, 2, 0, 3).reshape(n_post, *source)
    return WindowForm(weight, (1, 1), ((0, 0), (0, 0)), (1, 1), 1, source, (n_post, 1, 1))


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
    if isinstance(form, DenseForm):
        n_post, n_pre = form.weight.shape
        operator = Operator(form, (n_pre, 1, 1), (n_post, 1, 1), payload_max)
        return operator(payload.reshape(-1, 1, 1, n_pre)).reshape(-1, n_post)
    operator = Operator(form, form.source, form.target, payload_max)
    last = payload.reshape(-1, *form.source).transpose(0, 2, 3, 1)
    return operator(last).transpose(0, 3, 1, 2)


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
