"""Choosing theta without data: from what batch norm says its outputs look like."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.initialization import choose_theta
from pmsm_hw.nn.quantizer import PolarityQuant

__all__ = ["calibrate_from_batch_norm"]

N_SAMPLES = 1024
"""Quantiles that stand for a distribution."""

_ADDITIONS: frozenset[Any] = frozenset({torch.add, "add", "add_", operator.add})
_PASSING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)


def calibrate_from_batch_norm(
    model: nn.Module, init: str = "mse", *, per_channel: bool = False
) -> None:
    """Choose theta of every quantizer, in place, from batch-norm parameters alone.

    After batch norm a channel is taken to be Gaussian, ``N(beta, gamma**2)``. Where two branches
    are added (residual connections) they are taken to be independent, and a branch that comes out
    of a quantizer has the distribution that the quantizer makes of its own input. No data are
    needed; where there are some, `calibrate` is better.

    Parameters
    ----------
    model
        From `quantize`.
    init
        See `quantize`.
    per_channel
        One theta per channel.

    Raises
    ------
    QuantizationError
        If the input of a quantizer is neither batch norm nor a sum of such and of quantizers.
    """
    if not isinstance(model, fx.GraphModule):
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            "is not a traced graph, which tells what precedes each quantizer",
            remedy="give what pmsm_hw.nn.quantize returned",
            actual=type(model).__name__,
            limit="fx.GraphModule",
        )
    known: dict[fx.Node, Tensor] = {}
    done: set[str] = set()
    generator = torch.Generator().manual_seed(0)
    for node in model.graph.nodes:
        values = _distribution(model, node, known, generator)
        if values is not None:
            known[node] = values
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, PolarityQuant):
            continue
        source = known.get(node.args[0])
        if source is None:
            raise QuantizationError(
                f"quantizer '{node.target}'",
                f"gets its input from '{node.args[0]}', whose distribution no batch norm tells",
                remedy="put batch norm before it, or calibrate with data: calibration=x",
                actual=str(node.args[0]),
                limit="batch norm",
            )
        if str(node.target) not in done:  # called again: keeps the step of the first call
            done.add(str(node.target))
            theta = module.theta.detach().reshape(-1)[0].cpu()
            device = module.theta.device
            shape = theta.expand(source.shape[1]) if per_channel else theta
            module.theta = nn.Parameter(shape.clone())
            chosen = choose_theta(source, module, init, f"quantizer '{node.target}'")
            module.theta = nn.Parameter(chosen.to(device))
        with torch.no_grad():
            known[node] = module(source.to(module.theta)).to("cpu", torch.float64)


def _distribution(
    model: fx.GraphModule, node: fx.Node, known: dict[fx.Node, Tensor], generator: torch.Generator
) -> Tensor | None:
    """Samples ``(N_SAMPLES, channels)`` of a node's output, or None if nothing is known."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            return _gaussian(module, str(node.target), generator)
        if isinstance(module, _PASSING):
            return known.get(node.args[0])  # type: ignore[arg-type]
        return None
    if node.target in _ADDITIONS and node.op in ("call_function", "call_method"):
        parts = [known.get(arg) if isinstance(arg, fx.Node) else None for arg in node.args[:2]]
        if len(parts) == 2 and parts[0] is not None and parts[1] is not None:
            # independent: pair the quantiles at random
            order = torch.randperm(N_SAMPLES, generator=generator)
            return parts[0] + parts[1][order]
    return None


def _gaussian(module: Any, name: str, generator: torch.Generator) -> Tensor:
    if module.weight is None or not bool(module.weight.any()):
        raise QuantizationError(
            f"batch norm '{name}'",
            "has no scale or only zeros, which tells nothing about its output",
            remedy="use affine batch norm, trained, or calibrate with data: calibration=x",
            actual=None,
            limit="a non-zero weight",
        )
    quantiles = (torch.arange(N_SAMPLES, dtype=torch.float64) + 0.5) / N_SAMPLES
    z = torch.special.ndtri(quantiles)[torch.randperm(N_SAMPLES, generator=generator)]
    scale = module.weight.detach().cpu().to(torch.float64)
    shift = module.bias.detach().cpu().to(torch.float64)
    values: Tensor = z[:, None] * scale + shift
    return values
