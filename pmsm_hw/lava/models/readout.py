"""Readouts in Lava: ours, and Lava's Sigma where that is right.

Lava's has no bias, keeps its state from sample to sample, and has 32 bits instead of 24.
"""

from __future__ import annotations

from pmsm_hw.lava.neurons import LAVA, LavaNeurons, LavasOwn, Situation
from pmsm_hw.network import STATE_MAX, STATE_MIN, Readout


def lavas_own(population: Readout, situation: Situation) -> LavasOwn | str:
    """Lava's process that computes the same, or in what it differs.

    Parameters
    ----------
    population
        Which.
    situation
        In which graph.
    """
    if population.bias.any():
        return "have no bias in a sum (Sigma)"
    if not situation.timing.is_single:
        return "keep a sum (Sigma) from sample to sample"
    if not situation.starts_clean:
        return "add up (Sigma) what comes before the first sample"
    limits = {}
    if situation.drive_max * situation.timing.interval > STATE_MAX:
        limits["v"] = STATE_MIN, STATE_MAX
    return LavasOwn(
        module="lava.proc.sdn.process", process="Sigma", arguments={}, sends="state v",
        states={"v": "sigma"}, limits=limits,
    )  # fmt: skip


LAVA.register(Readout.kind, LavaNeurons(module="readout", process="Readout", lavas_own=lavas_own))
