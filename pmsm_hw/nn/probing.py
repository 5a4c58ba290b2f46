"""An input for a model of which no data are at hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.evaluation import answers

__all__ = ["probe"]

_SIZES = (32, 28, 224, *range(1, 65), 96, 128, 160, 192, 256, 299, 384, 512)
"""Sides of images, tried in this order."""


def probe(
    model: nn.Module, graph: fx.Graph, scale: float, levels: Sequence[int] | None
) -> tuple[Tensor, ...]:
    """Two random samples per input, in a shape that the model accepts, within its input's range.

    Parameters
    ----------
    model, graph
        A model and its trace.
    scale, levels
        Of the input.

    Raises
    ------
    QuantizationError
        If no shape fits.
    """
    lo, hi = (0, 1) if levels is None else levels
    generator = torch.Generator().manual_seed(0)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    for size in _SIZES:
        shapes = [_shape(model, node, size) for node in inputs]
        batch = tuple(
            (torch.randint(int(lo), int(hi) + 1, (2, *shape), generator=generator) * scale).to(
                device, torch.get_default_dtype()
            )
            for shape in shapes
        )
        try:
            answers(model, batch, QuantizationError, what="probe")
        except QuantizationError:
            continue
        return batch
    raise QuantizationError(
        f"model '{type(model).__name__}'",
        "takes no square image with a side of 1 to 64, 96, 128, 160, 192, 224, 256, 299, 384 or "
        "512, so that nothing can be proven without data",
        remedy="calibrate with data: calibration=x",
        actual=None,
        limit=_SIZES,
    )


def _shape(model: nn.Module, node: fx.Node, size: int) -> tuple[int, ...]:
    """Shape that the first layer which reads an input asks for."""
    waiting, seen = list(node.users), set()
    while waiting:
        user = waiting.pop(0)
        if user in seen:
            continue
        seen.add(user)
        module = model.get_submodule(str(user.target)) if user.op == "call_module" else None
        if isinstance(module, nn.Linear):
            return (module.in_features,)
        if isinstance(module, nn.Conv1d):
            return (module.in_channels, size)
        if isinstance(module, nn.Conv2d):
            return (module.in_channels, size, size)
        if isinstance(module, nn.BatchNorm1d):
            return (module.num_features,)
        if isinstance(module, nn.BatchNorm2d):
            return (module.num_features, size, size)
        waiting += list(user.users)
    return (size,)
