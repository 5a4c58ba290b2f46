"""The range of an activation, which the quantizer in its place keeps.

Few levels round; that is what quantization costs. A limit is no rounding: ReLU6 answers 6 to any
large input, and so must its quantizer, whatever its step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.tracing import arguments, subject_of

__all__ = ["SMALLEST_SLOPE", "ActivationRange", "kept_limits", "range_of"]

SMALLEST_SLOPE = 1 / 16
"""Below half of the smallest alpha offered, 1/8, an activation counts as a ReLU."""


@dataclass(frozen=True, kw_only=True)
class ActivationRange:
    """What an activation lets through.

    Parameters
    ----------
    low, high
        Smallest and largest value that it can give; infinite where there is no limit.
    slope
        Of its answer to negative inputs: 0 for ReLU, 1 for Hardtanh.
    """

    low: float
    high: float
    slope: float


def range_of(root: nn.Module, node: fx.Node) -> ActivationRange:
    """Range of the activation that a node calls.

    Parameters
    ----------
    root, node
        A traced model and a call of ReLU, ReLU6, LeakyReLU, Hardtanh or clamp in it.
    """
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        if isinstance(module, nn.Hardtanh):  # ReLU6 is one
            return _hardtanh(float(module.min_val), float(module.max_val))
        if isinstance(module, nn.LeakyReLU):
            return _leaky(float(module.negative_slope))
        return _hardtanh(0.0, math.inf)
    if node.target is F.hardtanh:
        defaults = {"min_val": -1.0, "max_val": 1.0}
        given = arguments(node, ("input", "min_val", "max_val"), defaults)
        return _hardtanh(float(given["min_val"]), float(given["max_val"]))
    if node.target in (torch.clamp, torch.clip, "clamp", "clip"):
        given = arguments(node, ("input", "min", "max"), {"min": None, "max": None})
        low, high = given["min"], given["max"]
        return _hardtanh(
            -math.inf if low is None else float(low), math.inf if high is None else float(high)
        )
    if node.target is F.relu6:
        return _hardtanh(0.0, 6.0)
    if node.target is F.leaky_relu:
        given = arguments(node, ("input", "negative_slope"), {"negative_slope": 0.01})
        return _leaky(float(given["negative_slope"]))
    return _hardtanh(0.0, math.inf)


def _hardtanh(low: float, high: float) -> ActivationRange:
    return ActivationRange(low=low, high=high, slope=0.0 if low >= 0 else 1.0)


def _leaky(slope: float) -> ActivationRange:
    return ActivationRange(low=-math.inf if slope > 0 else 0.0, high=math.inf, slope=slope)


def kept_limits(root: nn.Module, node: fx.Node, levels: tuple[int, int]) -> tuple[float, float]:
    """Limits ``(low, high)`` for the quantizer in place of an activation.

    A lower limit of 0, as ReLU has, is none: with negative levels, polarity multi-spike mapping
    passes what ReLU discards; without, there is nothing below 0.

    Parameters
    ----------
    root, node
        See `range_of`.
    levels
        ``(n, p)``.

    Raises
    ------
    QuantizationError
        If levels cannot say what the activation answers, whatever the step.
    """
    given = range_of(root, node)
    if not given.low <= 0 < given.high:
        raise QuantizationError(
            subject_of(root, node),
            f"answers with values in [{given.low:g}, {given.high:g}], spikes say 0 and more: "
            "limit: low <= 0 < high",
            remedy="shift its range, or use nn.ReLU or nn.Hardtanh with such limits, and train "
            "again",
            actual=(given.low, given.high),
            limit="low <= 0 < high",
        )
    if levels[0] == 0 and abs(given.slope) >= SMALLEST_SLOPE:
        raise QuantizationError(
            subject_of(root, node),
            f"answers negative inputs with {given.slope:g} times their value, levels (n, p) = "
            f"{levels} have n = 0 and would drop all of them",
            remedy="use levels with n >= 1, for example (2, 4); gains (4, 1) weigh negative "
            "levels by 1/4",
            actual=levels,
            limit="n >= 1",
        )
    return (-math.inf if given.low == 0 else given.low), given.high
