"""How many fractional bits each population keeps: as many as its state has room for."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from pmsm_hw.convert.networks import given, network_of
from pmsm_hw.convert.rounding import Rounded, RoundedNeurons, RoundedReadout, round_plan
from pmsm_hw.convert.settings import Settings, reach_of
from pmsm_hw.convert.weights import driven
from pmsm_hw.errors import ConversionError
from pmsm_hw.network import StateBound
from pmsm_hw.network.limits import CONVERTED_WEIGHT_EXPONENT, STATE_MAX, STATE_MIN
from pmsm_hw.nn.lowering import InputPlan, NeuronPlan, Plan, ReadoutPlan, RelayPlan

__all__ = ["COARSEST", "FractionalBits", "choose_fractional_bits", "rounded_plan"]

COARSEST = -3
"""Weights may lose this many bits where a population's state would not fit otherwise."""


@dataclass(frozen=True, kw_only=True)
class FractionalBits:
    """How populations are rounded.

    Parameters
    ----------
    exponents
        Fractional bits by population; 0 where absent.
    saturated
        Populations whose state is clipped, as it does not fit.
    inexact
        Populations that are rounded although their numbers are integers times a step.
    """

    exponents: dict[str, int] = field(default_factory=dict)
    saturated: frozenset[str] = frozenset()
    inexact: frozenset[str] = frozenset()


def rounded_plan(
    plan: Plan, settings: Settings, bits: FractionalBits, known: Any = None
) -> dict[str, Rounded]:
    """Round all populations of a plan.

    Parameters
    ----------
    plan
        From `Lowering.plan`.
    settings
        How.
    bits
        Of each population.
    known
        See `pmsm_hw.convert.rounding.round_plan`.
    """
    relay_levels = {}
    for name, population in plan.populations.items():
        if isinstance(population, RelayPlan):
            lo, hi = reach_of(plan, population, settings)
            relay_levels[name] = (max(-lo, 0), max(hi, 1))
    return round_plan(
        plan,
        bits.exponents,
        weight_bits=settings.weight_bits,
        per_channel=settings.per_channel,
        relay_levels=relay_levels,
        reach=lambda source: reach_of(plan, source, settings),
        inexact=bits.inexact,
        known=known,
    )


def choose_fractional_bits(
    plan: Plan, settings: Settings, spare_bits: int
) -> tuple[FractionalBits, dict[str, Rounded]]:
    """Give each population as many fractional bits as its state has room for.

    Where there is no room even for the weights' own bits, weights lose up to 3 of them, unless
    states may saturate.

    Parameters
    ----------
    plan
        From `Lowering.plan`, without gradients.
    settings
        How it is rounded.
    spare_bits
        Bits to leave unused.

    Returns
    -------
    tuple
        The bits, and the plan rounded with them.

    Raises
    ------
    ConversionError
        If a population's state does not fit even with weights `COARSEST` bits coarser.
    """
    every = frozenset(plan.populations)
    trials = _Trials(plan, settings)
    # populations that integers hold exactly, and whose state fits
    trial = trials.of(FractionalBits())
    whole = {n for n, p in trial.populations.items() if p.is_exact}
    if whole:
        whole = {n for n in whole if trial.bounds[n].fits}
    bits = _choose_rounded(trials, FractionalBits(inexact=every), spare_bits, whole)
    trial = trials.of(replace(bits, inexact=frozenset()))
    some = {n for n, p in trial.populations.items() if p.n_exact and n not in whole}
    if some:
        bounds = trials.of(replace(bits, inexact=every - whole - some)).bounds
        some = {n for n in some if bounds[n].fits or n in bits.saturated}
    bits = replace(bits, inexact=every - whole - some)
    return bits, trials.of(bits).rounded


def _choose_rounded(
    trials: _Trials, bits: FractionalBits, spare_bits: int, whole: Set[str]
) -> FractionalBits:
    """Exponents of populations that are rounded; of ``whole`` ones after training, at best."""
    saturate = trials.settings.saturate
    least = 0 if saturate else COARSEST
    trial = trials.of(bits)
    bounds = trial.bounds
    # bits that each state leaves unused when weights have all theirs and no fraction is kept
    room = {
        n: math.floor(math.log2((1 << 23) / max(abs(b.u_min), abs(b.u_max), 1)))
        for n, b in bounds.items()
    }
    misfits = {n for n, free in room.items() if free < least and n not in whole}
    if misfits and not saturate:
        name = min(misfits)
        raise trial.misfit(name, bounds[name])
    for name in sorted(misfits):  # saturated, which biases and thresholds cannot be
        least_given, most_given = given(trial.populations[name])
        if least_given < STATE_MIN or most_given > STATE_MAX:
            raise trial.misfit(name, bounds[name])
    exponents = {
        name: min(max(free - spare_bits, least), CONVERTED_WEIGHT_EXPONENT)
        for name, free in room.items()
        if name not in misfits
    }
    bits = replace(bits, exponents=exponents, saturated=frozenset(misfits))
    while True:
        trial = trials.of(bits)
        bounds = trial.bounds
        misfits = {
            n
            for n, b in bounds.items()
            if not b.fits and n not in bits.saturated
            if n not in whole or exponents[n] > least
        }
        if not misfits:
            return bits
        for name in misfits:
            if exponents[name] == least:
                raise trial.misfit(name, bounds[name])
        exponents = exponents | {name: exponents[name] - 1 for name in misfits}
        bits = replace(bits, exponents=exponents)


class _Trials:
    """A plan rounded with one choice of fractional bits after another."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.plan, self.settings = plan, settings
        self._known: dict[Any, Any] = {}

    def of(self, bits: FractionalBits) -> _Trial:
        """The plan rounded with some bits, which need not fit."""
        with torch.no_grad():
            rounded = rounded_plan(self.plan, self.settings, bits, self._known)
        return _Trial(plan=self.plan, settings=self.settings, bits=bits, rounded=rounded)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    plan: Plan
    settings: Settings
    bits: FractionalBits
    rounded: dict[str, Rounded]

    @property
    def populations(self) -> dict[str, RoundedNeurons | RoundedReadout]:
        """All but inputs."""
        return {n: p for n, p in self.rounded.items() if not isinstance(p, InputPlan)}

    @cached_property
    def bounds(self) -> dict[str, StateBound]:
        """What states can reach, and what populations have of their own."""
        probe = network_of(self.rounded, self.settings, self.bits.saturated, "probe", is_probe=True)
        bounds = dict(probe.bounds)
        for name, population in self.populations.items():
            least, most = given(population)
            if least < STATE_MIN or most > STATE_MAX:  # the probe's network has them clipped
                bound = bounds[name]
                bounds[name] = replace(
                    bound, u_min=min(bound.u_min, least), u_max=max(bound.u_max, most)
                )
        return bounds

    def misfit(self, name: str, bound: StateBound) -> ConversionError:
        """The error that says why a state does not fit."""
        reach = (
            f"state can reach [{bound.u_min:,}, {bound.u_max:,}] within "
            f"{self.settings.max_steps} steps, 24 bits hold [-8,388,608, 8,388,607]"
        )
        limit = (STATE_MIN, STATE_MAX)
        population = self.populations[name]
        bias = population.bias.detach().reshape(-1)
        row = int(bias.abs().argmax())
        most = float(bias[row])
        unit = population.unit.reshape(-1)
        value = most * float(unit[0 if len(unit) == 1 else row % len(unit)])
        if abs(most) * self.settings.max_steps > STATE_MAX and abs(value) > self._weighted(name):
            return ConversionError(
                f"population '{name}', bias {row}",
                f"{value:.6g} is so much larger than the weights that their {reach}",
                remedy="use a bias of the size of the weighted sums: one that no input can "
                "outweigh decides nothing more when it is larger",
                actual=value,
                limit=limit,
            )
        return ConversionError(
            f"population '{name}'",
            reach,
            remedy="use fewer weight_bits, max_steps or input levels, or overflow='saturate'",
            actual=(bound.u_min, bound.u_max),
            limit=limit,
        )

    def _weighted(self, name: str) -> float:
        """Largest absolute weighted sum that can reach a population, in real values."""
        population = self.plan.populations[name]
        if not isinstance(population, NeuronPlan | ReadoutPlan):
            return 0.0
        reaches = [
            reach_of(self.plan, self.plan.populations[term.source], self.settings)
            for term in population.drive.terms
        ]
        low, high = driven(population.drive, reaches)
        return float(torch.maximum(high, -low).max())
