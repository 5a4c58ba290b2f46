"""Integer decays from time constants, or from the factors of other tools."""

from __future__ import annotations

import math

from pmsm_hw.arguments import number
from pmsm_hw.errors import QuantizationError

__all__ = ["FULL_DECAY", "current_decay", "voltage_decay"]

FULL_DECAY = 4096
"""The decay that leaves nothing: 2**12."""


def voltage_decay(tau_steps: float | None = None, *, factor: float | None = None) -> int:
    """``dv``: what a step takes off the voltage, in 4096ths.

    Parameters
    ----------
    tau_steps
        Time constant in steps, > 0: a step leaves ``exp(-1 / tau)``, as slayer and Sinabs have it.
        ``math.inf``: nothing is lost.
    factor
        In its place, what a step leaves, 0 to 1: snnTorch's ``beta``, ``1 - dt * tau_mem_inv`` of
        Norse, ``1 - 1 / tau`` of SpikingJelly, slayer's ``1 - voltage_decay``.

    Returns
    -------
    int
        ``round(4096 * (1 - factor))``, 0..4096.
    """
    return _decay("voltage_decay", tau_steps, factor)


def current_decay(tau_steps: float | None = None, *, factor: float | None = None) -> int:
    """``du``: what a step takes off the current, in 4096ths, less the 1 that the chip adds.

    Parameters
    ----------
    tau_steps, factor
        As for `voltage_decay`; ``alpha`` of snnTorch's ``Synaptic`` is the factor here.

    Returns
    -------
    int
        ``round(4096 * (1 - factor)) - 1``, 0..4095: the current loses at least a 4096th, as a chip
        has no current that stays.
    """
    return max(_decay("current_decay", tau_steps, factor) - 1, 0)


def _decay(subject: str, tau_steps: float | None, factor: float | None) -> int:
    if (tau_steps is None) == (factor is None):
        raise QuantizationError(
            subject,
            f"is given tau_steps {tau_steps} and factor {factor}, one of them is needed",
            remedy="give a time constant in steps, or factor=what a step leaves",
            actual=(tau_steps, factor),
            limit="one of them",
        )
    if tau_steps is not None and tau_steps != math.inf:
        tau_steps = number(
            QuantizationError, subject, "tau_steps", tau_steps, above=0,
            remedy="give a time constant in steps, math.inf for no decay",
        )  # fmt: skip
    if factor is None:
        assert tau_steps is not None
        factor = math.exp(-1 / tau_steps)
    factor = number(
        QuantizationError, subject, "factor", factor, at_least=0, remedy="give what a step leaves"
    )
    if factor > 1:
        raise QuantizationError(
            subject,
            f"factor {factor} is outside 0..1",
            remedy="give what a step leaves of a state",
            actual=factor,
            limit=(0, 1),
        )
    return round(FULL_DECAY * (1 - factor))
