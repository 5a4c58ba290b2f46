"""What calls of torch's modules and functions make of an expression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pmsm_hw.nn.expressions import Expression, Matrix, Window
from pmsm_hw.nn.lowering.arithmetic import arguments_of, arithmetic, joined
from pmsm_hw.nn.lowering.layers import convolved, linear, normalized, padded
from pmsm_hw.nn.lowering.plans import NotSupportedError
from pmsm_hw.nn.lowering.pooling import adaptive_pooled, average_pooled, averaged

__all__ = ["Layer", "Rearranged", "of_function", "of_module"]

Layer: TypeAlias = "Callable[[Expression, Window | Matrix], Expression]"
Rearranged: TypeAlias = "Callable[[Expression, Callable[[Tensor], Any]], Expression]"

_BATCH_NORM_ARGUMENTS = (
    "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
)  # fmt: skip
_POOL_ARGUMENTS = (
    "input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
    "divisor_override",
)  # fmt: skip
_CONVOLUTION_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def of_module(module: nn.Module, x: Expression, layer: Layer, rearranged: Rearranged) -> Expression:
    """What a module of torch makes of an expression.

    Parameters
    ----------
    module
        Any but a quantizer.
    x
        Its input.
    layer
        Applies a window or a matrix.
    rearranged
        Applies a function that keeps the order of values.

    Raises
    ------
    NotSupportedError
        If no linear map does that.
    """
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if module.padding_mode != "zeros":
            raise NotSupportedError(f"pads with mode {module.padding_mode!r}, zeros are possible")
        return convolved(
            x, layer, module.weight, module.bias, module.stride, module.padding,
            module.dilation, module.groups,
        )  # fmt: skip
    if isinstance(module, nn.Linear):
        return linear(x, layer, module.weight, module.bias)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return normalized(
            x, module.running_mean, module.running_var, module.weight, module.bias, module.eps,
            False,
        )  # fmt: skip
    if isinstance(module, nn.AvgPool1d | nn.AvgPool2d):
        return average_pooled(
            x, module.kernel_size, module.stride, module.padding, module.ceil_mode,
            module.count_include_pad, getattr(module, "divisor_override", None),
        )  # fmt: skip
    if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d):
        return adaptive_pooled(x, module.output_size)
    if isinstance(module, nn.Flatten | nn.Unflatten):
        return rearranged(x, module.forward)
    if isinstance(module, nn.Identity | nn.Dropout | nn.Dropout1d | nn.Dropout2d):
        return x
    if isinstance(module, nn.ZeroPad1d | nn.ZeroPad2d | nn.ConstantPad1d | nn.ConstantPad2d):
        if getattr(module, "value", 0.0) != 0:
            raise NotSupportedError(f"pads with {module.value}, zeros are possible")
        return padded(x, tuple(module.padding))
    raise NotSupportedError("has no counterpart on spikes")


def of_function(
    target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], layer: Layer
) -> Expression:
    """What a function of torch, or a method by its name, makes of expressions and constants.

    Parameters
    ----------
    target
        Function, or name of a method.
    args, kwargs
        Its arguments.
    layer
        See `of_module`.

    Raises
    ------
    NotSupportedError
        See `of_module`.
    """
    x: Any = args[0] if args else kwargs.get("input")
    found = arithmetic(target, args, kwargs)
    if found is not None:
        return found
    if target in (torch.cat, torch.concat, torch.concatenate):
        given = arguments_of(("tensors", "dim"), args, kwargs)
        return joined(given["tensors"], given.get("dim", given.get("axis", 0)))
    if not isinstance(x, Expression):
        raise NotSupportedError("is applied to a constant")
    if target in (F.dropout, F.dropout1d, F.dropout2d):
        given = arguments_of(("input", "p", "training"), args, kwargs)
        if given.get("training", target is F.dropout):
            raise NotSupportedError("drops values at random in evaluation mode, too")
        return x
    return _layer_of(target, x, args, kwargs, layer)


def _layer_of(
    target: Any, x: Expression, args: Sequence[Any], kwargs: Mapping[str, Any], layer: Layer
) -> Expression:
    """Layers as functions, with the arguments that torch gives them."""
    if target is F.pad:
        given = arguments_of(("input", "pad", "mode", "value"), args, kwargs)
        if given.get("mode", "constant") != "constant" or (given.get("value") or 0) != 0:
            raise NotSupportedError(f"pads with mode {given['mode']!r}, zeros are possible")
        return padded(x, tuple(given["pad"]))
    if target in (F.avg_pool1d, F.avg_pool2d):
        given = arguments_of(_POOL_ARGUMENTS, args, kwargs)
        return average_pooled(
            x, given["kernel_size"], given.get("stride"), given.get("padding", 0),
            given.get("ceil_mode", False), given.get("count_include_pad", True),
            given.get("divisor_override"),
        )  # fmt: skip
    if target in (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d):
        given = arguments_of(("input", "output_size"), args, kwargs)
        return adaptive_pooled(x, given["output_size"])
    if target is torch.mean or target == "mean":
        given = arguments_of(("input", "dim", "keepdim"), args, kwargs)
        return averaged(x, given.get("dim"), given.get("keepdim", False))
    if target in (F.conv1d, F.conv2d, torch.conv1d, torch.conv2d):
        given = arguments_of(_CONVOLUTION_ARGUMENTS, args, kwargs)
        return convolved(
            x, layer, given["weight"], given.get("bias"), given.get("stride", 1),
            given.get("padding", 0), given.get("dilation", 1), given.get("groups", 1),
        )  # fmt: skip
    if target in (F.batch_norm, torch.batch_norm):
        given = arguments_of(_BATCH_NORM_ARGUMENTS, args, kwargs)
        return normalized(
            x, given["running_mean"], given["running_var"], given.get("weight"),
            given.get("bias"), given.get("eps", 1e-5), bool(given.get("training", False)),
        )  # fmt: skip
    if target is F.linear:
        given = arguments_of(("input", "weight", "bias"), args, kwargs)
        return linear(x, layer, given["weight"], given.get("bias"))
    raise NotSupportedError("has no counterpart on spikes")
