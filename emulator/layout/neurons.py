"""Which neuron models the compiled loop of cycle mode updates itself, and from which numbers.

The others are stepped between its hardware steps (`pmsm_hw.emulator.cycle.plain`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import PolarityMultiSpike, Readout
from pmsm_hw.neurons import Backend
from pmsm_hw.neurons.codes import READOUT, RULE_CODES

__all__ = ["FUSED", "Fused"]


@dataclass(frozen=True, kw_only=True)
class Fused:
    """What the compiled loop needs to know of a population.

    Parameters
    ----------
    rule
        Of `pmsm_hw.neurons.codes`.
    theta, bias, start
        Integers, broadcastable to the population's shape.
    levels, gains
        As `pmsm_hw.network.PolarityMultiSpike` has them.
    saturates
        Whether ``u`` is clipped to the state's width.
    """

    rule: int
    theta: NDArray[Any]
    bias: NDArray[Any]
    start: NDArray[Any]
    levels: tuple[int, int]
    gains: tuple[int, int]
    saturates: bool


FUSED: Backend[Callable[[Any], Fused]] = Backend(
    "the compiled loop of cycle mode", "leave the model to its own step"
)


def _polarity_multi_spike(population: PolarityMultiSpike) -> Fused:
    return Fused(
        rule=RULE_CODES[population.rule],
        theta=population.theta,
        bias=population.bias,
        start=population.start,
        levels=population.levels,
        gains=population.gains,
        saturates=population.overflow == "saturate",
    )


def _readout(population: Readout) -> Fused:
    return Fused(
        rule=READOUT,
        theta=np.ones((), np.int64),
        bias=population.bias,
        start=np.zeros((), np.int64),
        levels=(0, 0),
        gains=(1, 1),
        saturates=population.overflow == "saturate",
    )


FUSED.register(PolarityMultiSpike.kind, _polarity_multi_spike)
FUSED.register(Readout.kind, _readout)
