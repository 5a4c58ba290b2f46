"""What a linear map makes of the payloads that a population sends."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pmsm_hw.network import Shape
from pmsm_hw.nn.expressions import Channelwise, Flat, Map, Pool, Window, _torch_pads

__all__ = ["applied"]


def applied(map_: Map, sent: Tensor, shape: Shape, factor: float = 1.0) -> Tensor:
    """A map's value ``(batch, *shape)`` for payloads ``(batch, *source_shape)``, in their dtype.

    Parameters
    ----------
    map_
        From a plan, or rounded.
    sent
        Payloads.
    shape
        Of the target.
    factor
        What every weight is multiplied by.
    """
    dtype = sent.dtype
    if isinstance(map_, Flat):
        inner = applied(map_.inner, sent, map_.shape).flatten(1)
        out = inner * (map_.scale.to(dtype) * factor)
        return F.pad(out, [map_.offset, map_.total - map_.offset - len(map_.scale)])
    if isinstance(map_, Channelwise | Pool):
        scale = map_.scale.to(dtype) * factor
        out = sent
        if isinstance(map_, Pool):
            # windows summed as a depthwise convolution of ones: integers, hence exact
            ones = torch.ones((sent.shape[1], 1, *map_.kernel), dtype=dtype, device=sent.device)
            dilation = (1,) * len(map_.kernel)
            out = _conv(sent, ones, map_.stride, map_.padding, dilation, sent.shape[1])
        out = out * scale.reshape((-1,) + (1,) * (out.ndim - 2))
        if not map_.is_plain:
            after = map_.total - map_.offset - len(scale)
            out = F.pad(out, [0, 0] * (out.ndim - 2) + [map_.offset, after])
        return out
    weight = map_.weight.to(dtype)
    if isinstance(map_, Window):
        return _conv(sent, weight, map_.stride, map_.padding, map_.dilation, map_.groups) * factor
    return (F.linear(sent.flatten(1), weight) * factor).reshape(len(sent), *shape)


def _conv(
    x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    if all(a == b for a, b in padding):
        pads = tuple(a for a, _ in padding)
    else:
        x, pads = F.pad(x, _torch_pads(padding)), (0,) * len(padding)
    conv = F.conv1d if weight.ndim == 3 else F.conv2d
    if x.is_cuda and not torch.is_grad_enabled():
        # cuDNN may use TF32 or Winograd transforms, which round; the plain kernels do not
        with torch.backends.cudnn.flags(enabled=False):
            return conv(x, weight, None, stride, pads, dilation, groups)
    return conv(x, weight, None, stride, pads, dilation, groups)
