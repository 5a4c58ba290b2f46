"""From real numbers to integers, differentiably.

For one population let ``q = s / 2**E`` be the real value of one unit of its state, ``s`` per output
channel. Weights become ``round(W / (q << e))`` with a ``weight_exponent`` ``e <= E`` per
projection, threshold and bias ``round(theta / q)`` and ``round(b / q)``: they keep E fractional
bits more than the weights. A negative E makes weights coarser, for states that would not fit.
Gradients are straight-through; values stay float64 torch tensors. Where weights, threshold and bias
of a channel are integers times a step (`pmsm_hw.convert.exact_scale`), they are taken as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from pmsm_hw.convert.exact_scale import exact_channels
from pmsm_hw.convert.weights import driven, fan_in, row_maxima
from pmsm_hw.network import Shape
from pmsm_hw.nn.expressions import (
    Channelwise,
    Expression,
    Map,
    Matrix,
    Pool,
    Window,
)
from pmsm_hw.nn.lowering import (
    InputPlan,
    NeuronPlan,
    Plan,
    PopulationPlan,
    ReadoutPlan,
    RelayPlan,
)

__all__ = ["RoundedNeurons", "RoundedProjection", "RoundedReadout", "round_plan"]

FINEST_BITS = 16
"""A channel's weights are never rounded finer than its threshold divided by 2**16, unless their
rounding errors could then add up to more than `NOISE` of it."""

NOISE = 1 / 16
"""Of a threshold: what cannot reach that decides little."""


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
    exponent
        ``E``.
    n_exact
        Channels whose weights, threshold and bias are what they were, and not rounded.
    is_exact
        Whether all are, so that ``E`` is what they need.
    """

    plan: NeuronPlan | RelayPlan
    projections: tuple[RoundedProjection, ...]
    theta: Tensor
    bias: Tensor
    start: Tensor
    unit: Tensor
    levels: tuple[int, int]
    gains: tuple[int, int]
    exponent: int = 0
    n_exact: int = 0
    is_exact: bool = False


@dataclass(frozen=True, kw_only=True)
class RoundedReadout:
    """Integers of a readout; fields as in `RoundedNeurons`."""

    plan: ReadoutPlan
    projections: tuple[RoundedProjection, ...]
    bias: Tensor
    unit: Tensor
    exponent: int = 0
    n_exact: int = 0
    is_exact: bool = False


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
    reach: Callable[[PopulationPlan], tuple[int, int]],
    inexact: Set[str] = frozenset(),
    known: dict[tuple[str, int, bool], RoundedNeurons | RoundedReadout] | None = None,
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
    reach
        Smallest and largest payload of a population.
    inexact
        Populations that are rounded although their numbers are integers times a step.
    known
        Populations of this plan by name, exponent and whether they may be exact: what is in it is
        not rounded again, what is not is added.

    Returns
    -------
    dict
        By population, in topological order.
    """
    rounded: dict[str, Rounded] = {}
    known = {} if known is None else known
    for name, population in plan.populations.items():
        if isinstance(population, InputPlan):
            rounded[name] = population
        elif isinstance(population, RelayPlan):
            rounded[name] = _round_relay(plan, population, relay_levels[name])
        else:
            key = (name, exponents.get(name, 0), name not in inexact)
            if key not in known:
                known[key] = _round_population(
                    plan,
                    population,
                    key[1],
                    weight_bits,
                    shared=not per_channel or isinstance(population, ReadoutPlan),
                    is_exact=key[2],
                    reach=reach,
                )
            rounded[name] = known[key]
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
        exponent=0,
        n_exact=relay.shape[0],
        is_exact=True,
    )


def _round_population(
    plan: Plan,
    population: NeuronPlan | ReadoutPlan,
    exponent: int,
    bits: int,
    *,
    shared: bool,
    is_exact: bool,
    reach: Callable[[PopulationPlan], tuple[int, int]],
) -> RoundedNeurons | RoundedReadout:
    drive, largest = population.drive, (1 << (bits - 1)) - 1
    bias, theta = drive.bias, None
    if isinstance(population, NeuronPlan):
        theta = population.theta
        bias = _felt_bias(plan, population, reach)
    maxima = [row_maxima(t.map, drive.shape) for t in drive.terms]
    exact = exact_channels(drive, theta, bias, bits=bits, shared=shared) if is_exact else None
    reaches = [reach(plan.populations[term.source]) for term in drive.terms]
    scale = _scale(drive, theta, maxima, largest, reaches)
    if shared:
        scale = scale.max().expand(drive.shape[0])
    scale = torch.where(scale > 0, scale, 1.0)
    mask = torch.zeros_like(scale, dtype=torch.bool)
    unit = scale * 2.0**-exponent
    step = unit  # of threshold and bias
    is_whole = exact is not None and exact.exponents is not None
    if exact is not None and exact.exponents is not None:
        mask, shifts, exponent = exact.mask, exact.exponents, max(exact.exponents)
        step, unit = exact.step, exact.step * 2.0**exact.fraction
    else:
        if exact is not None:
            mask = exact.mask & (exact.fraction <= exponent)
            scale = torch.where(mask, exact.step * 2.0**exact.fraction, scale)
            unit = scale * 2.0**-exponent
            step = torch.where(mask, exact.step, unit)
        shifts = _shifts(scale, maxima, mask, exponent, largest)
    lowest = -largest if exact is None else -largest - 1
    projections = tuple(
        RoundedProjection(
            source=term.source,
            source_shape=term.source_shape,
            map=_round_map(term.map, unit * (1 << shift), drive.shape, lowest, largest),
            exponent=shift,
        )
        for term, shift in zip(drive.terms, shifts, strict=True)
    )

    def rounded(value: Tensor) -> Tensor:
        column = (-1,) + (1,) * drive.n_axes
        whole = _rounded(value / step.reshape(column)) * (step / unit).round().reshape(column)
        return whole.flatten()[0] if shared and value.ndim == 0 else whole

    n_exact = int(mask.sum())
    real = unit[0] if shared else unit
    zero = torch.zeros((), dtype=torch.float64, device=drive._device)
    if isinstance(population, ReadoutPlan):
        return RoundedReadout(
            plan=population,
            projections=projections,
            bias=zero if bias is None else rounded(bias),
            unit=real,
            exponent=exponent,
            n_exact=n_exact,
            is_exact=is_whole,
        )
    theta = population.theta
    if theta.ndim:
        theta = theta.reshape((-1,) + (1,) * drive.n_axes)
    theta = rounded(theta).clamp(min=1)
    return RoundedNeurons(
        plan=population,
        projections=projections,
        theta=theta,
        bias=zero if bias is None else rounded(bias),
        start=torch.floor(theta.detach() * population.quantizer.phi),
        unit=real,
        levels=population.quantizer.levels,
        gains=population.quantizer.gains,
        exponent=exponent,
        n_exact=n_exact,
        is_exact=is_whole,
    )


def _scale(
    drive: Expression,
    theta: Tensor | None,
    maxima: Sequence[Tensor],
    largest: int,
    reaches: Sequence[tuple[int, int]],
) -> Tensor:
    """Real value of weight 1 of each channel: its largest weight becomes ``largest``.

    A bias has no say, so that one of them cannot take the bits of the weights; what does not fit
    the state is found by the proof. Without weights, it is the bias that is told finely.
    """
    channels = drive.shape[0]
    scale = torch.zeros(channels, dtype=torch.float64, device=drive._device)
    for rows in maxima:
        scale = torch.maximum(scale, rows / largest)
    if theta is not None:
        theta = theta.detach().expand(channels)
        floor = theta / (1 << FINEST_BITS)
        # standard deviation of what reaches a neuron when all weights are off by one, at most
        spread = math.sqrt(
            sum(
                fan_in(t.map) * max(map(abs, reach)) ** 2
                for t, reach in zip(drive.terms, reaches, strict=True)
            )
        )
        if spread / 2 > NOISE * (1 << FINEST_BITS):
            low, high = driven(drive, reaches)
            matters = torch.maximum(high, -low) > NOISE * theta
            floor = torch.where(matters, theta * (2 * NOISE / spread), floor)
        return torch.maximum(scale, floor)
    if drive.bias is not None and not bool((scale > 0).any()):
        scale = drive.bias.detach().abs().reshape(channels, -1).amax(1) / (1 << FINEST_BITS)
    return scale


def _shifts(
    scale: Tensor, maxima: Sequence[Tensor], exact: Tensor, exponent: int, largest: int
) -> tuple[int, ...]:
    """Exponent of each projection; one whose weights are all small is rounded finer.

    Not where all that have weights are ``exact``.
    """
    shifts = []
    keep = all(bool(exact[rows > 0].all()) for rows in maxima)
    for rows in maxima:
        room = (scale * largest / rows.clamp(min=1e-300)).min()
        finer = 0 if keep else min(max(math.floor(math.log2(float(room))), 0), max(exponent, 0))
        shifts.append(max(exponent - finer, 0))
    return tuple(shifts)


def _felt_bias(
    plan: Plan, population: NeuronPlan, reach: Callable[[PopulationPlan], tuple[int, int]]
) -> Tensor | None:
    """Bias, limited to what neurons can feel.

    Where ``bias + input <= -(n + 1) theta`` for every input, all spikes are ``-n`` whatever the
    rule, and where it is at least ``(p + 1) theta``, all are ``p``: a bias further out than that
    would only take state that other channels need.
    """
    drive, (n, p) = population.drive, population.quantizer.levels
    bias = drive.bias
    if bias is None:
        return None
    with torch.no_grad():
        theta = population.theta.reshape((-1,) + (1,) * drive.n_axes)
        if bool((bias.abs() <= theta * min(n + 1, p + 1)).all()):
            return bias
        reaches = [reach(plan.populations[term.source]) for term in drive.terms]
        low, high = (v.reshape((-1,) + (1,) * drive.n_axes) for v in driven(drive, reaches))
        least, most = -(n + 1) * theta - high, (p + 1) * theta - low
    return torch.minimum(torch.maximum(bias, least), most)


def _round_map(map_: Map, step: Tensor, shape: Shape, lowest: int, largest: int) -> Map:
    channels = shape[0]
    if isinstance(map_, Channelwise | Pool):
        part = step[map_.offset : map_.offset + len(map_.scale)]
        return replace(map_, scale=_rounded(map_.scale / part).clamp(lowest, largest))
    if isinstance(map_, Window):
        column = step.reshape((-1,) + (1,) * (map_.weight.ndim - 1))
        return replace(map_, weight=_rounded(map_.weight / column).clamp(lowest, largest))
    assert isinstance(map_, Matrix)
    rows = step.repeat_interleave(len(map_.weight) // channels)[:, None]
    return Matrix(_rounded(map_.weight / rows).clamp(lowest, largest))
