"""Linear algebra between two populations: what reaches a neuron, as sums of linear maps.

A value inside the traced model is an `Expression`: a sum of `Term` objects, each a linear map of
one population's spikes, plus a bias. Layers act on expressions and fold into one map per source;
weights are float64 torch tensors, so gradients pass through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pmsm_hw.network import Pads, Shape

__all__ = [
    "Channelwise",
    "Expression",
    "Flat",
    "Map",
    "Matrix",
    "NotFoldableError",
    "Pool",
    "Term",
    "Window",
]

MAX_MATRIX = 1 << 24
"""Largest number of weights of a map that had to be written out as a matrix."""


class NotFoldableError(Exception):
    """Two maps have no exact product in one of our forms; says why."""


@dataclass(frozen=True)
class Channelwise:
    """Source channel ``c`` times ``scale[c]`` becomes channel ``offset + c`` of ``total``.

    Parameters
    ----------
    scale
        ``(channels,)`` float64.
    offset, total
        Where the channels stand in the target, after concatenation.
    """

    scale: Tensor
    offset: int
    total: int

    @property
    def is_plain(self) -> bool:
        """All channels of the target come from this source, in order."""
        return self.offset == 0 and self.total == len(self.scale)


@dataclass(frozen=True)
class Pool:
    """Sum over windows, times ``scale[c]``; zeros outside.

    Parameters
    ----------
    kernel, stride, padding
        As for `pmsm_hw.network.SumPool`.
    scale, offset, total
        As for `Channelwise`.
    """

    kernel: Shape
    stride: Shape
    padding: Pads
    scale: Tensor
    offset: int
    total: int

    @property
    def is_plain(self) -> bool:
        """All channels of the target come from this source, in order."""
        return self.offset == 0 and self.total == len(self.scale)


@dataclass(frozen=True)
class Window:
    """Grouped cross-correlation.

    Parameters
    ----------
    weight
        ``(c_out, c_in / groups, *kernel)`` float64.
    stride, padding, dilation, groups
        As for `pmsm_hw.network.Conv2d`.
    """

    weight: Tensor
    stride: Shape
    padding: Pads
    dilation: Shape
    groups: int


@dataclass(frozen=True)
class Matrix:
    """Any linear map of the flattened source.

    Parameters
    ----------
    weight
        ``(n_out, n_source)`` float64; outputs in C order of the target's shape.
    """

    weight: Tensor


@dataclass(frozen=True)
class Flat:
    """Another map, flattened in C order, then entry by entry.

    Parameters
    ----------
    inner
        The map before flattening.
    shape
        Its output shape.
    scale
        ``(n,)`` float64, factor of each entry.
    offset, total
        Where the entries stand in the target, after concatenation.
    """

    inner: Channelwise | Pool | Window | Matrix
    shape: Shape
    scale: Tensor
    offset: int
    total: int


Map: TypeAlias = "Channelwise | Pool | Window | Matrix | Flat"


@dataclass(frozen=True)
class Term:
    """A linear map of one population's spikes.

    Parameters
    ----------
    source
        Name of the population.
    source_shape
        Its shape.
    map
        The map.
    """

    source: str
    source_shape: Shape
    map: Map


@dataclass(frozen=True)
class Expression:
    """Sum of terms plus bias.

    Parameters
    ----------
    shape
        ``(n,)``, ``(channels, length)`` or ``(channels, height, width)``.
    terms
        What is added.
    bias
        None for zero, else ``(channels, 1, ...)`` or ``shape``, float64.
    """

    shape: Shape
    terms: tuple[Term, ...]
    bias: Tensor | None = None

    @property
    def n_axes(self) -> int:
        """Spatial axes: 0, 1 or 2."""
        return len(self.shape) - 1

    # -- entry by entry ----------------------------------------------------------------------

    def scaled(self, factor: Tensor) -> Expression:
        """Each channel times ``factor`` ``(channels,)``."""
        terms = tuple(replace(t, map=_scaled(t.map, factor, self.shape)) for t in self.terms)
        bias = None if self.bias is None else self.bias * _column(factor, self.n_axes)
        return replace(self, terms=terms, bias=bias)

    def shifted(self, shift: Tensor) -> Expression:
        """Each channel plus ``shift`` ``(channels,)``."""
        shift = _column(shift, self.n_axes)
        return replace(self, bias=shift if self.bias is None else self.bias + shift)

    def plus(self, other: Expression) -> Expression:
        """Sum of two expressions of one shape."""
        if self.shape != other.shape:
            raise NotFoldableError(f"adds shapes {self.shape} and {other.shape}, which differ")
        bias = self.bias
        if other.bias is not None:
            bias = other.bias if bias is None else bias + other.bias
        return replace(self, terms=self.terms + other.terms, bias=bias)

    # -- shape -------------------------------------------------------------------------------

    def flattened(self) -> Expression:
        """One axis, C order."""
        if self.n_axes == 0:
            return self
        n = _size(self.shape)
        terms = []
        for term in self.terms:
            if isinstance(term.map, Matrix):
                terms.append(term)
                continue
            assert not isinstance(term.map, Flat)
            ones = torch.ones(n, dtype=torch.float64, device=_device(term.map))
            terms.append(replace(term, map=Flat(term.map, self.shape, ones, 0, n)))
        bias = None if self.bias is None else self.bias.expand(self.shape).reshape(-1)
        return Expression((n,), tuple(terms), bias)

    def padded(self, pads: Pads) -> Expression:
        """Zeros around the spatial axes."""
        kernel = (1,) * self.n_axes
        bias = self.bias
        if bias is not None:
            bias = F.pad(bias.expand(self.shape), _torch_pads(pads))
        shape = tuple(s + a + b for s, (a, b) in zip(self.shape[1:], pads, strict=True))
        one = torch.ones(self.shape[0], dtype=torch.float64, device=self._device)
        terms = tuple(
            replace(t, map=_after(Pool(kernel, kernel, pads, one, 0, self.shape[0]), t, self.shape))
            for t in self.terms
        )
        return Expression((self.shape[0], *shape), terms, bias)

    # -- layers ------------------------------------------------------------------------------

    def windowed(self, window: Window) -> Expression:
        """Convolve every term and the bias."""
        shape = self.windowed_shape(window)
        terms = tuple(replace(t, map=_after(window, t, self.shape)) for t in self.terms)
        return Expression(shape, terms, self._window_bias(window))

    def pooled(self, pool: Pool) -> Expression:
        """Sum windows of every term and of the bias."""
        window = _pool_window(pool)
        shape = self.windowed_shape(window)
        terms = tuple(replace(t, map=_after(pool, t, self.shape)) for t in self.terms)
        return Expression(shape, terms, self._window_bias(window))

    def multiplied(self, weight: Tensor) -> Expression:
        """``weight @ self``; ``weight`` is ``(n_out, n)`` float64."""
        if self.n_axes:
            raise NotFoldableError(f"applies a matrix to shape {self.shape}, which is not flat")
        terms = tuple(
            replace(t, map=Matrix(_times(weight, t.map, t.source_shape))) for t in self.terms
        )
        bias = None if self.bias is None else weight @ self.bias.expand(self.shape)
        return Expression((len(weight),), terms, bias)

    @property
    def _device(self) -> torch.device:
        if self.terms:
            return _device(self.terms[0].map)
        return self.bias.device if self.bias is not None else torch.device("cpu")

    def windowed_shape(self, window: Window) -> Shape:
        """Shape after a window."""
        out = _out_sizes(
            self.shape[1:], window.weight.shape[2:], window.stride, window.padding, window.dilation
        )
        return (window.weight.shape[0], *out)

    def _window_bias(self, window: Window) -> Tensor | None:
        if self.bias is None:
            return None
        is_constant = self.bias.shape[1:] == (1,) * self.n_axes
        if is_constant and not any(any(pair) for pair in window.padding):
            axes = tuple(range(2, window.weight.ndim))
            weight = window.weight.sum(axes) if axes else window.weight
            weight = _ungrouped(weight, window.groups)
            return _column(weight @ self.bias.reshape(-1), self.n_axes)
        return _convolve(self.bias.expand(self.shape)[None], window)[0]


def concatenated(parts: Sequence[Expression]) -> Expression:
    """Concatenate along the channels."""
    rest = parts[0].shape[1:]
    if any(p.shape[1:] != rest for p in parts):
        raise NotFoldableError(f"concatenates shapes {', '.join(str(p.shape) for p in parts)}")
    total = sum(p.shape[0] for p in parts)
    terms: list[Term] = []
    biases: list[Tensor] = []
    start = 0
    has_bias = any(p.bias is not None for p in parts)
    for part in parts:
        terms += [replace(t, map=_moved(t.map, start, total, part.shape)) for t in part.terms]
        start += part.shape[0]
        if has_bias:
            bias = part.bias
            if bias is None:
                bias = torch.zeros(
                    (part.shape[0], *(1,) * len(rest)), dtype=torch.float64, device=part._device
                )
            biases.append(bias)
    bias = None
    if has_bias:
        if any(b.shape[1:] != (1,) * len(rest) for b in biases):
            biases = [b.expand(p.shape) for b, p in zip(biases, parts, strict=True)]
        bias = torch.cat(biases)
    return Expression((total, *rest), tuple(terms), bias)


# ---------------------------------------------------------------------------------------------
# Products of maps
# ---------------------------------------------------------------------------------------------


def _size(shape: Shape) -> int:
    n = 1
    for s in shape:
        n *= s
    return n


def _device(map_: Map) -> torch.device:
    return map_.scale.device if isinstance(map_, Channelwise | Pool | Flat) else map_.weight.device


def _column(vector: Tensor, n_axes: int) -> Tensor:
    return vector.reshape((-1,) + (1,) * n_axes)


def _torch_pads(pads: Pads) -> list[int]:
    return [n for pair in reversed(pads) for n in pair]


def _out_sizes(
    size: Sequence[int], kernel: Sequence[int], stride: Shape, padding: Pads, dilation: Shape
) -> Shape:
    return tuple(
        (s + a + b - d * (k - 1) - 1) // st + 1
        for s, k, st, (a, b), d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


def _scaled(map_: Map, factor: Tensor, shape: Shape) -> Map:
    """Rows (target channels) times ``factor``."""
    if isinstance(map_, Channelwise | Pool):
        part = factor[map_.offset : map_.offset + len(map_.scale)]
        return replace(map_, scale=map_.scale * part)
    if isinstance(map_, Window):
        return replace(map_, weight=map_.weight * _column(factor, map_.weight.ndim - 1))
    if isinstance(map_, Matrix):
        rows = factor.repeat_interleave(_size(shape[1:]))
        return Matrix(map_.weight * rows[:, None])
    part = factor[map_.offset : map_.offset + len(map_.scale)]
    return replace(map_, scale=map_.scale * part)


def _moved(map_: Map, start: int, total: int, shape: Shape) -> Map:
    """Let a map fill channels ``start ...`` of ``total``."""
    if isinstance(map_, Channelwise | Pool | Flat):
        return replace(map_, offset=map_.offset + start, total=total)
    n = shape[0]
    if isinstance(map_, Window):
        weight = _ungrouped(map_.weight, map_.groups)
        return replace(map_, weight=_embedded(weight, start, total), groups=1)
    rest = _size(shape[1:])
    assert len(map_.weight) == n * rest
    return Matrix(_embedded(map_.weight, start * rest, total * rest))


def _embedded(rows: Tensor, start: int, total: int) -> Tensor:
    pads = [0, 0] * (rows.ndim - 1) + [start, total - start - len(rows)]
    return F.pad(rows, pads)


def _ungrouped(weight: Tensor, groups: int) -> Tensor:
    """Weights ``(c_out, c_in / groups, ...)`` with zeros in place of the absent ones."""
    if groups == 1:
        return weight
    c_out, c_group = weight.shape[:2]
    rows = torch.arange(c_out, device=weight.device)
    columns = (rows // (c_out // groups))[:, None] * c_group + torch.arange(
        c_group, device=weight.device
    )
    full = weight.new_zeros((c_out, c_group * groups, *weight.shape[2:]))
    full[rows[:, None], columns] = weight
    return full


def _pool_window(pool: Pool) -> Window:
    """The same map as a depthwise window (concatenated targets: as a full one)."""
    channels = len(pool.scale)
    weight = pool.scale.reshape((-1, 1) + (1,) * len(pool.kernel)).expand(channels, 1, *pool.kernel)
    groups = channels
    if not pool.is_plain:
        weight, groups = _embedded(_ungrouped(weight, channels), pool.offset, pool.total), 1
    return Window(weight, pool.stride, pool.padding, (1,) * len(pool.kernel), groups)


def _columns_of(window: Window, offset: int, channels: int, scale: Tensor) -> Window:
    """Window that reads only input channels ``offset ...``, each times ``scale``."""
    total = window.weight.shape[1] * window.groups
    weight, groups = window.weight, window.groups
    if offset or channels != total:
        weight, groups = _ungrouped(weight, groups)[:, offset : offset + channels], 1
    if groups == 1:
        return replace(
            window, weight=weight * scale.reshape((1, -1) + (1,) * (weight.ndim - 2)), groups=1
        )
    c_out, c_group = weight.shape[:2]
    per_row = scale.reshape(groups, c_group).repeat_interleave(c_out // groups, dim=0)
    return replace(
        window, weight=weight * per_row.reshape(c_out, c_group, *(1,) * (weight.ndim - 2))
    )


def _after(outer: Window | Pool, term: Term, shape: Shape) -> Map:
    """``outer`` applied to what ``term`` gives, in ``shape``; as a matrix if there is no window."""
    try:
        return _window_after(outer, term, shape)
    except NotFoldableError:
        n = _size(shape)
        out = _pool_window(outer) if isinstance(outer, Pool) else outer
        if isinstance(term.map, Flat) or n * _size(term.source_shape) > MAX_MATRIX:
            raise
        inner = as_matrix(term.map, term.source_shape, n, shape)
        return _window_of_matrix(out, inner, shape)


def _window_after(outer: Window | Pool, term: Term, shape: Shape) -> Map:
    inner = term.map
    if isinstance(inner, Flat):
        raise NotFoldableError("applies a window to a flattened value")
    if isinstance(inner, Matrix):
        window = _pool_window(outer) if isinstance(outer, Pool) else outer
        return _window_of_matrix(window, inner, shape)
    if isinstance(outer, Pool):
        if isinstance(inner, Channelwise):
            part = outer.scale[inner.offset : inner.offset + len(inner.scale)]
            return replace(outer, scale=inner.scale * part, offset=inner.offset, total=inner.total)
        if isinstance(inner, Pool):
            if outer.kernel == outer.stride == (1,) * len(outer.kernel) and _is_one(inner):
                pads = tuple(
                    (a + c, b + d)
                    for (a, b), (c, d) in zip(outer.padding, inner.padding, strict=True)
                )
                return replace(
                    inner,
                    padding=pads,
                    scale=inner.scale * outer.scale[inner.offset : inner.offset + len(inner.scale)],
                )
            if _is_one(inner) and not inner.offset and inner.is_plain:
                pads = tuple(
                    (a + c, b + d)
                    for (a, b), (c, d) in zip(outer.padding, inner.padding, strict=True)
                )
                return replace(outer, padding=pads, scale=inner.scale * outer.scale)
            return _composed(_pool_window(outer), _pool_window(inner), term.source_shape)
        return _composed(_pool_window(outer), inner, term.source_shape)
    if isinstance(inner, Channelwise):
        return _columns_of(outer, inner.offset, len(inner.scale), inner.scale)
    if isinstance(inner, Pool):
        channels = len(inner.scale)
        ones = torch.ones_like(inner.scale)
        narrow = _columns_of(outer, inner.offset, channels, inner.scale)
        plain = replace(inner, scale=ones, offset=0, total=channels)
        return _composed(narrow, _pool_window(plain), term.source_shape)
    return _composed(outer, inner, term.source_shape)


def _is_one(pool: Pool) -> bool:
    return pool.kernel == pool.stride == (1,) * len(pool.kernel)


def _composed(outer: Window, inner: Window, source_shape: Shape) -> Window:
    """Product of two windows as one window, exact including borders, or `NotFoldableError`."""
    kernels_in = inner.weight.shape[2:]
    middle = _out_sizes(source_shape[1:], kernels_in, inner.stride, inner.padding, inner.dilation)
    final = _out_sizes(middle, outer.weight.shape[2:], outer.stride, outer.padding, outer.dilation)
    sizes, strides, pads = [], [], []
    for axis, size in enumerate(source_shape[1:]):
        reach = (kernels_in[axis] - 1) * inner.dilation[axis] + 1
        (in_before, _), (out_before, out_after) = inner.padding[axis], outer.padding[axis]
        s_in = inner.stride[axis]
        # zeros around the middle must be what windows further out would give: all-padding windows
        if out_before and reach > s_in + in_before:
            raise NotFoldableError("pads a value whose windows overlap the border")
        used_after = (
            (final[axis] - 1) * outer.stride[axis]
            + (outer.weight.shape[2 + axis] - 1) * outer.dilation[axis]
            - out_before
            - (middle[axis] - 1)
        )
        if out_after and used_after > 0 and middle[axis] * s_in - in_before < size:
            raise NotFoldableError("pads a value whose windows left out the last rows")
        kernel = (outer.weight.shape[2 + axis] - 1) * outer.dilation[axis] * s_in + reach
        stride = outer.stride[axis] * s_in
        before = in_before + out_before * s_in
        after = max((final[axis] - 1) * stride + kernel - size - before, 0)
        if (size + before + after - kernel) // stride + 1 != final[axis]:
            raise NotFoldableError("leaves out rows that one window would not")
        sizes.append(kernel)
        strides.append(stride)
        pads.append((before, after))
    depthwise_in = inner.groups == inner.weight.shape[0] and inner.weight.shape[1] == 1
    depthwise_out = outer.groups == outer.weight.shape[0] and outer.weight.shape[1] == 1
    if depthwise_in:
        w_out, w_in, groups = outer.weight, inner.weight, outer.groups
        channels = w_out.shape[1]
    elif depthwise_out:
        w_out, w_in, groups = outer.weight, inner.weight, inner.groups
        channels = w_in.shape[1]
    else:
        w_out, w_in = _ungrouped(outer.weight, outer.groups), _ungrouped(inner.weight, inner.groups)
        groups, channels = 1, w_in.shape[1]
    weight = w_out.new_zeros((w_out.shape[0], channels, *sizes))
    if depthwise_in:
        # input channel of each (output channel, column): what scales its taps
        c_out, c_group = w_out.shape[:2]
        column = torch.arange(c_out, device=w_out.device) // (c_out // groups) * c_group
        taps_in = w_in[column[:, None] + torch.arange(c_group, device=w_out.device), 0]
    for tap in product(*(range(k) for k in outer.weight.shape[2:])):
        where: Any = tuple(
            slice(start, start + (k - 1) * d + 1, d)
            for start, k, d in (
                (i * od * s, k, d)
                for i, od, s, k, d in zip(
                    tap, outer.dilation, inner.stride, kernels_in, inner.dilation, strict=True
                )
            )
        )
        factor = w_out[:, :, tap[0]] if len(tap) == 1 else w_out[:, :, tap[0], tap[1]]
        if depthwise_in:
            part = factor.reshape(*factor.shape, *(1,) * len(sizes)) * taps_in
        elif depthwise_out:
            part = factor.reshape(-1, 1, *(1,) * len(sizes)) * w_in
        else:
            part = torch.tensordot(factor, w_in, dims=1)
        weight[(slice(None), slice(None), *where)] += part
    return Window(weight, tuple(strides), tuple(pads), (1,) * len(sizes), groups)


def _convolve(x: Tensor, window: Window) -> Tensor:
    """Apply a window to ``(batch, channels, ...)``."""
    x = F.pad(x, _torch_pads(window.padding))
    if window.weight.ndim == 3:
        return F.conv1d(x, window.weight, None, window.stride, 0, window.dilation, window.groups)
    return F.conv2d(x, window.weight, None, window.stride, 0, window.dilation, window.groups)


def check_matrix(n_rows: int, n_columns: int) -> None:
    """Refuse matrices that would take too much memory."""
    if n_rows * n_columns > MAX_MATRIX:
        raise NotFoldableError(
            f"needs a matrix of {n_rows:,} x {n_columns:,}, more than {MAX_MATRIX:,} weights"
        )


def _window_of_matrix(window: Window, inner: Matrix, shape: Shape) -> Matrix:
    """Convolve the columns of a matrix, each of which is an activation of ``shape``."""
    n_source = inner.weight.shape[1]
    out = _convolve(inner.weight.T.reshape(n_source, *shape), window)
    return Matrix(out.reshape(n_source, -1).T)


def _times(weight: Tensor, map_: Map, source_shape: Shape) -> Tensor:
    """``weight @ map``, written out: ``(n_out, n_source)``."""
    if isinstance(map_, Flat):
        part = weight[:, map_.offset : map_.offset + len(map_.scale)] * map_.scale
        return _adjoint(part.reshape(len(weight), *map_.shape), map_.inner, source_shape)
    return _adjoint(weight, map_, source_shape)


def _adjoint(
    rows: Tensor, map_: Channelwise | Pool | Window | Matrix, source_shape: Shape
) -> Tensor:
    """Rows ``(n_out, *shape)`` of a matrix, times the map: ``(n_out, n_source)``."""
    n_out = len(rows)
    if isinstance(map_, Matrix):
        return rows.reshape(n_out, -1) @ map_.weight
    if isinstance(map_, Channelwise):
        part = rows[:, map_.offset : map_.offset + len(map_.scale)]
        scale = map_.scale.reshape((1, -1) + (1,) * (rows.ndim - 2))
        return (part * scale).reshape(n_out, -1)
    check_matrix(n_out, _size(source_shape))
    if isinstance(map_, Pool):
        channels = len(map_.scale)
        rows = rows[:, map_.offset : map_.offset + channels]
        map_ = replace(map_, offset=0, total=channels)
    window = _pool_window(map_) if isinstance(map_, Pool) else map_
    transpose = F.conv_transpose1d if window.weight.ndim == 3 else F.conv_transpose2d
    full = transpose(rows, window.weight, None, window.stride, 0, 0, window.groups, window.dilation)
    crop = []
    for axis, size in enumerate(source_shape[1:]):
        before = window.padding[axis][0]
        crop.append((-before, size + before - full.shape[2 + axis]))
    return F.pad(full, _torch_pads(tuple(crop))).reshape(n_out, -1)


def as_matrix(map_: Map, source_shape: Shape, n_out: int, shape: Shape) -> Matrix:
    """Write any map out as a matrix."""
    check_matrix(n_out, max(n_out, _size(source_shape)))
    eye = torch.eye(n_out, dtype=torch.float64, device=_device(map_))
    if isinstance(map_, Flat):
        return Matrix(_times(eye, map_, source_shape))
    return Matrix(_adjoint(eye.reshape(n_out, *shape), map_, source_shape))
