"""Leaky integrate-and-fire neurons of Loihi in Lava: ours, and Lava's LIF where that is right.

Lava's `LIF` and `LIFReset` in fixed point are the chip's arithmetic but for the wrap of ``u``: they
keep ``2**23`` and turn ``-2**23`` into it. They have neither refractory steps nor other resets than
to zero, one threshold and one pair of decays for a population, and they act from the first step of
a run on, before the input of the first sample has arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pmsm_hw.lava.neurons import LAVA, LavaNeurons, LavasOwn, Situation
from pmsm_hw.network import STATE_MAX, CubaLif

MODULE = "lava.proc.lif.process"

_NEEDED: Mapping[str, tuple[Any, str]] = {
    "refractory": (1, "have no refractory steps in fixed point"),
    "reset": ("zero", "reset v to zero only"),
    "payload_mode": ("binary", "send binary spikes only"),
}


def lavas_own(population: CubaLif, situation: Situation) -> LavasOwn | str:
    """Lava's process that computes the same, or in what all of them differ.

    Parameters
    ----------
    population
        Which.
    situation
        In which graph.
    """
    for name, (value, problem) in _NEEDED.items():
        if getattr(population, name) != value:
            return problem
    for name in ("vth", "du", "dv"):
        if np.ptp(getattr(population, name)):
            return f"have one {name} for a population"
    limits = _limits(population, situation)
    if limits is None:
        return (
            f"wrap u wrongly, and inputs of up to {situation.drive_max:,} in a step may take it "
            "out of 24 bits unseen"
        )
    one = {name: int(np.max(getattr(population, name))) for name in ("vth", "du", "dv")}
    bias = np.broadcast_to(population.bias, population.shape)
    arguments: dict[str, Any] = {
        **one,
        "bias_mant": bias.astype(np.int32),
        "bias_exp": np.full(population.shape, population.bias_exponent, np.int32),
    }
    reset = _reset(population, situation)
    if isinstance(reset, str):
        return reset
    common: dict[str, Any] = {
        "module": MODULE,
        "states": {"u": "u", "v": "v"},
        "limits": limits,
        "silent": _starts_clean(population, situation),
    }
    if reset is None:
        return LavasOwn(process="LIF", arguments=arguments, **common)
    every, offset = reset
    # Lava counts steps from 1
    arguments |= {"reset_interval": every, "reset_offset": (offset + situation.first + 1) % every}
    return LavasOwn(process="LIFReset", arguments=arguments, **common)


def _starts_clean(population: CubaLif, situation: Situation) -> bool:
    """Whether the state is that of the start, without a reset, when the population begins."""
    return situation.first == 0 or (situation.silent_before and not population.bias.any())


def _reset(population: CubaLif, situation: Situation) -> tuple[int, int] | str | None:
    """Interval and offset in steps of the population, None without resets."""
    timing, every = situation.timing, population.reset_interval
    offset = population.reset_offset % every if every else 0
    clean = _starts_clean(population, situation)
    if not every:
        if timing.is_single and clean:
            return None
        return timing.interval, 0
    if (timing.is_single and (clean or offset == 0)) or (
        timing.interval % every == 0 and offset == 0
    ):
        return every, offset
    return (
        f"reset every {every} steps, and cannot start again for each sample or with the first one"
    )


def _limits(population: CubaLif, situation: Situation) -> dict[str, tuple[int, int]] | None:
    """Ranges of states within which Lava's is right; none if it is proven to stay within 24 bits.

    None if a ``u`` that left 24 bits might not be seen. Wrapped, it is further from 0 than
    ``2**23`` less the largest input. What saturates above fires, so it is seen from ``u``: less
    than the threshold is left of ``v`` before. What saturates below is seen from ``v``.
    """
    bound, added = situation.bound, situation.drive_max << 6
    proven = max(-bound.u_min, bound.u_max) <= STATE_MAX
    if proven and _current_fits(population, added, situation.timing.interval):
        return {}
    if added > STATE_MAX:
        return None
    threshold = int(population.vth.max()) << 6
    bias = max(0, int(population.bias.max()) << population.bias_exponent)
    return {
        "u": (added - STATE_MAX, STATE_MAX - max(added, threshold + bias)),
        "v": (1 - STATE_MAX, STATE_MAX),
    }


def _current_fits(population: CubaLif, added: int, n_steps: int) -> bool:
    """Whether u stays within 24 bits, whatever comes in."""
    kept = 4096 - (int(population.du.min()) + 1)
    u = 0
    for _ in range(n_steps):
        before, u = u, ((u * kept) >> 12) + added
        if u > STATE_MAX:
            return False
        if u == before:
            break
    return True


LAVA.register(CubaLif.kind, LavaNeurons(module="cuba_lif", process="CubaLif", lavas_own=lavas_own))
