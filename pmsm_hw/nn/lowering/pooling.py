"""Average pooling as maps of expressions: windows, adaptive windows, means."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pmsm_hw.network import Shape
from pmsm_hw.nn.expressions import Expression, Matrix, Pool, as_matrix, check_matrix
from pmsm_hw.nn.lowering.layers import pairs
from pmsm_hw.nn.lowering.plans import NotSupportedError

__all__ = ["adaptive_pooled", "average_pooled", "averaged"]


def average_pooled(
    x: Expression,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Expression:
    """Apply ``F.avg_pool1d`` or ``F.avg_pool2d``."""
    n_axes = x.n_axes
    kernel = pairs(kernel, n_axes)
    stride = kernel if stride is None or stride == () else pairs(stride, n_axes)
    before = pairs(padding, n_axes)
    out, pads = [], []
    counts: list[Tensor] = []  # cells that each window divides by, per axis
    for size, k, s, p in zip(x.shape[1:], kernel, stride, before, strict=True):
        n = -(-(size + 2 * p - k) // s) + 1 if ceil_mode else (size + 2 * p - k) // s + 1
        if ceil_mode and (n - 1) * s >= size + p:
            n -= 1  # torch drops windows that start in the padding
        out.append(n)
        pads.append((p, max((n - 1) * s + k - size - p, 0)))
        starts = torch.arange(n) * s - p
        lo, hi = (-p, size + p) if count_include_pad else (0, size)
        counts.append((starts + k).clamp(max=hi) - starts.clamp(min=lo))
    total = counts[0].double()
    for count in counts[1:]:
        total = total[:, None] * count
    if divisor is not None:
        total = torch.full_like(total, float(divisor))
    one = torch.ones(x.shape[0], dtype=torch.float64, device=x._device)
    if bool((total == total.reshape(-1)[0]).all()):
        return x.pooled(
            Pool(kernel, stride, tuple(pads), one / float(total.reshape(-1)[0]), 0, x.shape[0])
        )
    summed = x.pooled(Pool(kernel, stride, tuple(pads), one, 0, x.shape[0]))
    return _weighted(summed, (1.0 / total).to(x._device))


def adaptive_pooled(x: Expression, output_size: Any) -> Expression:
    """Apply ``F.adaptive_avg_pool1d`` or ``F.adaptive_avg_pool2d``."""
    wanted = (output_size,) * x.n_axes if isinstance(output_size, int) else tuple(output_size)
    if len(wanted) < x.n_axes:
        wanted = wanted * x.n_axes
    sizes = [s if w is None else int(w) for s, w in zip(x.shape[1:], wanted, strict=True)]
    if all(s % w == 0 for s, w in zip(x.shape[1:], sizes, strict=True)):
        kernel = tuple(s // w for s, w in zip(x.shape[1:], sizes, strict=True))
        return average_pooled(x, kernel, kernel, 0, False, True, None)
    # windows of different sizes: one row per output position and axis
    check_matrix(x.shape[0] * math.prod(sizes), math.prod(x.shape))
    rows = []
    for size, n in zip(x.shape[1:], sizes, strict=True):
        row = torch.zeros((n, size), dtype=torch.float64)
        for i in range(n):
            start, stop = i * size // n, -(-(i + 1) * size // n)
            row[i, start:stop] = 1.0 / (stop - start)
        rows.append(row)
    weight = rows[0]
    for row in rows[1:]:
        weight = torch.kron(weight, row)
    weight = torch.kron(torch.eye(x.shape[0], dtype=torch.float64), weight).to(x._device)
    flat = x.flattened().multiplied(weight)
    return replace(
        flat, shape=(x.shape[0], *sizes), bias=_reshaped(flat.bias, (x.shape[0], *sizes))
    )


def averaged(x: Expression, dim: Any, keep: bool) -> Expression:
    """Apply ``torch.mean`` over all spatial axes."""
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    axes = sorted(d % (x.n_axes + 2) for d in dims)
    if not x.n_axes or axes != list(range(2, x.n_axes + 2)):
        raise NotSupportedError(f"averages over axes {dims}, all spatial axes are possible")
    pooled = adaptive_pooled(x, 1)
    return pooled if keep else pooled.flattened()


def _reshaped(bias: Tensor | None, shape: Shape) -> Tensor | None:
    return None if bias is None else bias.reshape(shape)


def _weighted(x: Expression, factor: Tensor) -> Expression:
    """Each position times ``factor``, shape of the spatial axes: written out as matrices."""
    n = math.prod(x.shape)
    rows = factor.expand(x.shape).reshape(-1)
    terms = tuple(
        replace(t, map=Matrix(as_matrix(t.map, t.source_shape, n, x.shape).weight * rows[:, None]))
        for t in x.terms
    )
    bias = None if x.bias is None else x.bias * factor
    return Expression(x.shape, terms, bias)
