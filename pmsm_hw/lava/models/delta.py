"""Neurons that encode changes in Lava: ours, and Lava's Delta where that is right.

Lava's keeps its state from sample to sample, has one threshold for a population, and 32 bits
instead of 24.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmsm_hw.lava.neurons import LAVA, LavaNeurons, LavasOwn, Situation
from pmsm_hw.network import STATE_MAX, STATE_MIN, Delta

WIDEST = 1 << 30
"""Beyond this, Lava's 32 bits might not hold what leaves 24 bits, so that nobody sees it."""


def encoder(population: Any, situation: Situation) -> dict[str, Any] | str:
    """What Lava's processes that encode changes are made from, or in what they differ.

    Parameters
    ----------
    population
        Which; with ``vth`` and ``state_exp``.
    situation
        In which graph.
    """
    if not situation.timing.is_single:
        return "keep their state from sample to sample"
    if not situation.starts_clean:
        return "act before the first sample arrives, on spikes that came before it"
    if np.ptp(population.vth):
        return "have one vth for a population"
    spike_exp = getattr(population, "spike_exp", 0)
    # exact: Lava multiplies with the same power of two
    vth = int(population.vth.max()) / (1 << (spike_exp + population.state_exp))
    return {"vth": vth, "spike_exp": spike_exp, "state_exp": population.state_exp}


def lavas_own(population: Delta, situation: Situation) -> LavasOwn | str:
    """Lava's process that computes the same, or in what it differs.

    Parameters
    ----------
    population
        Which.
    situation
        In which graph.
    """
    arguments = encoder(population, situation)
    if isinstance(arguments, str):
        return arguments
    largest = situation.drive_max << (population.spike_exp + population.state_exp)
    if largest > WIDEST:
        return f"have 32 bits, and inputs may reach {largest:,}"
    least, most = population.model.spike_range(population, 1)
    bound, low_bits = situation.bound, population.state_exp
    limits = {}
    if largest > STATE_MAX:
        limits["act"] = STATE_MIN, STATE_MAX
    if bound.u_min >> low_bits < least or bound.u_max >> low_bits > most:
        limits["spikes"] = least, most
    return LavasOwn(
        module="lava.proc.sdn.process", process="Delta", arguments=arguments,
        states={"act": "act", "residue": "residue"}, limits=limits,
    )  # fmt: skip


LAVA.register(Delta.kind, LavaNeurons(module="delta", process="Delta", lavas_own=lavas_own))
