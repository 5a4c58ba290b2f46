"""From real numbers to integers, differentiably.

For one population let ``q = s / 2**E`` be the real value of one unit of its state, ``s`` per output
channel. Weights become ``round(W / (q << e))`` with a ``weight_exponent`` ``e <= E`` per
projection, threshold and bias ``round(theta / q)`` and ``round(b / q)``: they keep E fractional
bits more than the weights. A negative E makes weights coarser, for states that would not fit.
Gradients are straight-through; values stay float64 torch tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from pmsm_hw.network import Shape
from pmsm_hw.nn.expressions import (
    Channelwise,
    Flat,
    Map,
    Matrix,
    Pool,
    Window,
)
from pmsm_hw.nn.lowering import InputPlan, NeuronPlan, Plan, ReadoutPlan, RelayPlan

__all__ = ["RoundedNeurons", "RoundedProjection", "RoundedReadout", "round_plan"]

FINEST_BITS = 16
"""A channel's weights are never rounded finer than its threshold or bias divided by 2**16."""


@dataclass(frozen=True, kw_only=True)
class RoundedProjection:
    """Integer weights and their form.

    Parameters
    ----------
    source, source_shape
        Population that sends.
    map
        The map, with integer-valued weights (or scales).
    exponent
        ``weight_exponent``.
    """

    source: str
    source_shape: Shape
    map: Map
    exponent: int


@dataclass(frozen=True, kw_only=True)
class RoundedNeurons:
    """Integers of a population of neurons.

    Parameters
    ----------
    plan
        What was rounded.
    projections
        What reaches it.
    theta, bias, start
        Integer-valued, broadcastable to the population; ``start`` is ``v`` before the first step.
    unit
        Real value of one unit of state, ``(channels,)`` or ``()``.
    levels, gains
        As in the network.
    """

    plan: NeuronPlan | RelayPlan
    projections: tuple[RoundedProjection, ...]
    theta: Tensor
    bias: Tensor
    start: Tensor
    unit: Tensor
    levels: tuple[int, int]
    gains: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class RoundedReadout:
    """Integers of a readout; fields as in `RoundedNeurons`."""

    plan: ReadoutPlan
    projections: tuple[RoundedProjection, ...]
    bias: Tensor
    unit: Tensor


Rounded: TypeAlias = "InputPlan | RoundedNeurons | RoundedReadout"


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0]


def _rounded(x: Tensor) -> Tensor:
    return cast(Tensor, _Round.apply(x))  # type: ignore[no-untyped-call]


def round_plan(
    plan: Plan,
    exponents: Mapping[str, int],
    *,
    weight_bits: int,
    per_channel: bool,
    relay_levels: Mapping[str, tuple[int, int]],
) -> dict[str, Rounded]:
    """Round all populations of a plan.

    Parameters
    ----------
    plan
        From `Lowering.plan`.
    exponents
        ``E`` of each population (0 where absent).
    weight_bits
        2..8, sign included.
    per_channel
        Whether each output channel has a scale of its own; a readout always has one for all.
    relay_levels
        ``(n, p)`` of each relay population.

    Returns
    -------
    dict
        By population, in topological order.
    """
    largest = (1 << (weight_bits - 1)) - 1
    rounded: dict[str, Rounded] = {}
    for name, population in plan.populations.items():
        if isinstance(population, InputPlan):
            rounded[name] = population
        elif isinstance(population, RelayPlan):
            rounded[name] = _round_relay(plan, population, relay_levels[name])
        else:
            rounded[name] = _round_population(
                population, exponents.get(name, 0), largest, per_channel
            )
    return rounded


def _round_relay(plan: Plan, relay: RelayPlan, levels: tuple[int, int]) -> RoundedNeurons:
    device = relay.pool.scale.device
    one = torch.ones((), dtype=torch.float64, device=device)
    projection = RoundedProjection(
        source=relay.source,
        source_shape=plan.populations[relay.source].shape,
        map=relay.pool,
        exponent=0,
    )
    return RoundedNeurons(
        plan=relay,
        projections=(projection,),
        theta=one,
        bias=torch.zeros_like(one),
        start=torch.zeros_like(one),
        unit=one,
        levels=levels,
        gains=(1, 1),
    )


def _round_population(
    population: NeuronPlan | ReadoutPlan, exponent: int, largest: int, per_channel: bool
) -> RoundedNeurons | RoundedReadout:
    drive = population.drive
    channels = drive.shape[0]
    reach = [row_maxima(t.map, drive.shape) for t in drive.terms]
    finest = torch.zeros(channels, dtype=torch.float64, device=drive._device)
    if drive.bias is not None:
        finest = drive.bias.detach().abs().reshape(channels, -1).amax(1)
    if isinstance(population, NeuronPlan):
        finest = torch.maximum(finest, population.theta.detach().expand(channels))
    scale = finest / (1 << FINEST_BITS)
    for maxima in reach:
        scale = torch.maximum(scale, maxima / largest)
    scale = torch.where(scale > 0, scale, 1.0)
    if not per_channel or isinstance(population, ReadoutPlan):
        scale = scale.max()
    unit = scale * 2.0**-exponent
    projections = []
    for term, maxima in zip(drive.terms, reach, strict=True):
        # a projection whose weights are all small is rounded finer
        room = (scale * largest / maxima.clamp(min=1e-300)).min()
        finer = min(max(math.floor(math.log2(float(room))), 0), max(exponent, 0))
        shift = max(exponent - finer, 0)
        step = unit * (1 << shift)
        projections.append(
            RoundedProjection(
                source=term.source,
                source_shape=term.source_shape,
                map=_round_map(term.map, step, drive.shape, largest),
                exponent=shift,
            )
        )
    column = unit if unit.ndim == 0 else unit.reshape((-1,) + (1,) * drive.n_axes)
    if drive.bias is None:
        bias = torch.zeros((), dtype=torch.float64, device=drive._device)
    else:
        bias = _rounded(drive.bias / column)
    if isinstance(population, ReadoutPlan):
        return RoundedReadout(plan=population, projections=tuple(projections), bias=bias, unit=unit)
    theta = population.theta
    if theta.ndim:
        theta = theta.reshape((-1,) + (1,) * drive.n_axes)
    theta = _rounded(theta / column).clamp(min=1)
    phi = population.quantizer.phi
    return RoundedNeurons(
        plan=population,
        projections=tuple(projections),
        theta=theta,
        bias=bias,
        start=torch.floor(theta.detach() * phi),
        unit=unit,
        levels=population.quantizer.levels,
        gains=population.quantizer.gains,
    )


def row_maxima(map_: Map, shape: Shape) -> Tensor:
    """Largest absolute weight onto each channel of the target, ``(channels,)``, no gradient."""
    channels = shape[0]
    if isinstance(map_, Channelwise | Pool):
        maxima = torch.zeros(channels, dtype=torch.float64, device=map_.scale.device)
        maxima[map_.offset : map_.offset + len(map_.scale)] = map_.scale.detach().abs()
        return maxima
    assert not isinstance(map_, Flat), "flattened terms are written out before"
    return map_.weight.detach().abs().reshape(channels, -1).amax(1)


def _round_map(map_: Map, step: Tensor, shape: Shape, largest: int) -> Map:
    channels = shape[0]
    step = step.expand(channels)
    if isinstance(map_, Channelwise | Pool):
        part = step[map_.offset : map_.offset + len(map_.scale)]
        return replace(map_, scale=_rounded(map_.scale / part).clamp(-largest, largest))
    if isinstance(map_, Window):
        column = step.reshape((-1,) + (1,) * (map_.weight.ndim - 1))
        return replace(map_, weight=_rounded(map_.weight / column).clamp(-largest, largest))
    assert isinstance(map_, Matrix)
    rows = step.repeat_interleave(len(map_.weight) // channels)[:, None]
    return Matrix(_rounded(map_.weight / rows).clamp(-largest, largest))
