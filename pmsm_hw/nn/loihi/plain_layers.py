"""Loihi's synapses in place of torch's own layers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.evaluation import check_module
from pmsm_hw.nn.loihi.synapses import (
    LoihiConv1d,
    LoihiConv2d,
    LoihiLinear,
    LoihiSumPool,
    LoihiSynapses,
)
from pmsm_hw.nn.swapping import swap

__all__ = ["with_loihi_synapses"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.AvgPool1d, nn.AvgPool2d)


def with_loihi_synapses(
    model: nn.Module, *, scale: float = 64, weight_bits: int = 8, weight_exponent: int = 0
) -> Any:
    """A copy of a model with Loihi's synapses in place of torch's own layers.

    Weights stay what they are; in every forward pass they are rounded as a chip holds them. Layers
    of Loihi's kind, neurons among them, stay.

    Parameters
    ----------
    model
        Has ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` without biases (those belong to neurons, as
        ``learned_bias``), ``nn.AvgPool1d`` and ``nn.AvgPool2d``.
    scale, weight_bits, weight_exponent
        As for `LoihiLinear`.

    Returns
    -------
    module
        Not the same one.

    Raises
    ------
    QuantizationError
        If a layer has a bias or an option that synapses do not have.
    """
    check_module(model)
    names = {module: name for name, module in model.named_modules()}
    for module, name in names.items():
        _refuse(module, name)
    options: dict[str, Any] = {
        "scale": scale, "weight_bits": weight_bits, "weight_exponent": weight_exponent
    }  # fmt: skip
    LoihiLinear(1, 1, **options)  # refuses what is out of range, also where there is no layer
    if isinstance(model, _LAYERS):
        return _successor(copy.deepcopy(model), options) or copy.deepcopy(model)
    changed = copy.deepcopy(model)
    for kind in _LAYERS:
        swap(changed, kind, lambda layer: _successor(layer, options))
    return changed


def _refuse(module: nn.Module, name: str) -> None:
    if isinstance(module, LoihiSynapses) or not isinstance(module, _LAYERS):
        return
    problem, remedy = "", "use other options"
    if getattr(module, "bias", None) is not None:
        problem = "has a bias, which Loihi's synapses do not"
        remedy = "use bias=False, and learned_bias of the neurons after it"
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        if module.padding_mode != "zeros":
            problem = f"pads with {module.padding_mode}, zeros are possible"
        elif isinstance(module.padding, str):
            problem = f"has padding {module.padding!r}, integers are needed"
    elif isinstance(module, nn.AvgPool1d | nn.AvgPool2d):
        if module.ceil_mode:
            problem = "has ceil_mode=True, windows that fit are possible"
        elif any(_pair(module.padding, 1)) and not module.count_include_pad:
            problem = "leaves padding out of its averages"
        elif getattr(module, "divisor_override", None) is not None:
            problem = f"divides by {module.divisor_override}"
            remedy = "use LoihiSumPool(..., weight=...)"
    if problem:
        raise QuantizationError(
            f"module '{name}' ({type(module).__name__})",
            problem,
            remedy=remedy,
            actual=problem,
            limit="what synapses can be",
        )


def _successor(layer: Any, options: dict[str, Any]) -> LoihiSynapses | None:
    """A layer of Loihi's synapses with the weights of a plain one; None for one already."""
    if isinstance(layer, LoihiSynapses):
        return None
    found: LoihiSynapses
    if isinstance(layer, nn.Linear):
        found = LoihiLinear(layer.in_features, layer.out_features, **options)
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        conv: Any = LoihiConv1d if isinstance(layer, nn.Conv1d) else LoihiConv2d
        found = conv(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
            layer.dilation, layer.groups, **options,
        )  # fmt: skip
    else:
        n_axes = 1 if isinstance(layer, nn.AvgPool1d) else 2
        kernel, stride, padding = (
            _pair(given, n_axes) for given in (layer.kernel_size, layer.stride, layer.padding)
        )
        size = 1
        for n in kernel:
            size *= n
        return LoihiSumPool(kernel, stride, padding, weight=1 / size, **options)
    with torch.no_grad():
        found.weight = layer.weight
    return found


def _pair(given: Any, n_axes: int) -> tuple[int, ...]:
    return tuple(given) if isinstance(given, tuple | list) else (int(given),) * n_axes
