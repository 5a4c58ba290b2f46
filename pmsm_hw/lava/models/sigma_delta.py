"""Sigma-delta neurons in Lava: ours, and Lava's SigmaDelta where that is right.

Lava's keeps its state from sample to sample, has one threshold for a population, and 32 bits
instead of 24. Without a wave (all populations from the first step on) it also has its bias when the
population has it.
"""

from __future__ import annotations

import numpy as np

from pmsm_hw.lava.models.delta import WIDEST, encoder
from pmsm_hw.lava.neurons import LAVA, LavaNeurons, LavasOwn, Situation
from pmsm_hw.network import STATE_MAX, STATE_MIN, SigmaDelta

ACTIVATIONS = {"none": 0, "relu": 1}
"""Members of Lava's ``ActivationMode``, by number."""


def lavas_own(population: SigmaDelta, situation: Situation) -> LavasOwn | str:
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
    if population.variant != "fixed":
        return f"have no variant '{population.variant}' in their run configuration"
    if situation.first and population.bias.any():
        return "act on their bias before the first sample arrives"
    if situation.drive_max > WIDEST:
        return f"have 32 bits, and inputs may reach {situation.drive_max:,} in a step"
    least, most = population.model.spike_range(population, 1)
    bound, low_bits = situation.bound, population.state_exp
    limits = {}
    sigma = situation.drive_max * situation.timing.interval
    width = STATE_MIN, STATE_MAX
    if sigma > STATE_MAX:
        limits["sigma"] = width
    if sigma + int(np.abs(population.bias).max()) > STATE_MAX:
        limits["act"] = width
    if bound.u_min >> low_bits < least or bound.u_max >> low_bits > most:
        limits["spikes"] = least, most
    arguments |= {
        "bias": np.broadcast_to(population.bias / (1 << population.state_exp), population.shape),
        "act_mode": ACTIVATIONS[population.activation],
    }
    return LavasOwn(
        module="lava.proc.sdn.process", process="SigmaDelta", arguments=arguments,
        states={"sigma": "sigma", "act": "act", "residue": "residue"}, limits=limits,
    )  # fmt: skip


LAVA.register(
    SigmaDelta.kind, LavaNeurons(module="sigma_delta", process="SigmaDelta", lavas_own=lavas_own)
)
