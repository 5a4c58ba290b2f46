"""Layers as maps of expressions: convolution, linear, batch norm, padding, order of values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pmsm_hw.network import Pads, Shape
from pmsm_hw.nn.expressions import Expression, Matrix, Window
from pmsm_hw.nn.lowering.plans import NotSupportedError

__all__ = ["convolved", "keeps_order", "linear", "normalized", "padded", "pairs", "reshaped"]


def pairs(value: Any, n_axes: int) -> Shape:
    """A number for each spatial axis, of one for all or one each."""
    if isinstance(value, int):
        return (value,) * n_axes
    sizes = tuple(int(v) for v in value)
    return sizes * n_axes if len(sizes) == 1 else sizes


def convolved(
    x: Expression,
    layer: Callable[[Expression, Window | Matrix], Expression],
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Expression:
    """Apply ``F.conv1d`` or ``F.conv2d``; ``layer`` applies its window."""
    n_axes = weight.ndim - 2
    stride, dilation = pairs(stride, n_axes), pairs(dilation, n_axes)
    if padding == "valid":
        padding = 0
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pads: Pads = tuple((r // 2, r - r // 2) for r in reach)
    else:
        pads = tuple((p, p) for p in pairs(padding, n_axes))
    window = Window(weight.to(torch.float64), stride, pads, dilation, groups)
    out = layer(x, window)
    return out if bias is None else out.shifted(bias.to(torch.float64))


def linear(
    x: Expression,
    layer: Callable[[Expression, Window | Matrix], Expression],
    weight: Tensor,
    bias: Tensor | None,
) -> Expression:
    """Apply ``F.linear``; ``layer`` applies its matrix."""
    if x.n_axes:
        raise NotSupportedError(f"is applied to the last axis of shape {x.shape}")
    w = weight.to(torch.float64)
    out = layer(x, Matrix(w))
    return out if bias is None else out.shifted(bias.to(torch.float64))


def normalized(
    x: Expression,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    training: bool,
) -> Expression:
    """Apply ``F.batch_norm`` with its running statistics."""
    if mean is None or variance is None or training:
        raise NotSupportedError("keeps no running statistics")
    gain = torch.rsqrt(variance.double() + eps)
    if weight is not None:
        gain = gain * weight.double()
    shift = -mean.double() * gain
    if bias is not None:
        shift = shift + bias.double()
    return x.scaled(gain).shifted(shift)


def padded(x: Expression, widths: tuple[int, ...]) -> Expression:
    """Apply ``F.pad`` with zeros."""
    pairs = [(int(widths[i]), int(widths[i + 1])) for i in range(0, len(widths), 2)][::-1]
    if len(pairs) > x.n_axes or min(min(p) for p in pairs) < 0:
        raise NotSupportedError(f"pads by {widths}, spatial axes and widths >= 0 are possible")
    pairs = [(0, 0)] * (x.n_axes - len(pairs)) + pairs
    return x.padded(tuple(pairs))


def keeps_order(shape: Shape, function: Callable[[Tensor], Any]) -> bool:
    """Whether a function reshapes, or permutes axes of which all but one have size 1."""
    numbers = torch.arange(2 * math.prod(shape), dtype=torch.float64)
    return torch.equal(function(numbers.reshape(2, *shape)).reshape(-1), numbers)


def reshaped(x: Expression, shape: Shape) -> Expression:
    """The same values, in their order, in another shape."""
    if shape == x.shape:
        return x
    if shape == (math.prod(x.shape),):
        return x.flattened()
    raise NotSupportedError(f"turns shape {x.shape} into {shape}, only flattening is possible")
