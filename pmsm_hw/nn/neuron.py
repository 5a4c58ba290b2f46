"""The polarity multi-spike neuron, as a torch module.

State is kept in units of theta (``PolarityMultiSpike``) or in the integer units of a network
(`step`, which both forms share). Reconstructed from the abstract of arXiv 2508.14520.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.network import RULES
from pmsm_hw.nn.quantizer import PolarityQuant, payload

__all__ = ["PolarityMultiSpike", "State", "check_rule"]

Rule: TypeAlias = Literal["carry", "reset", "bounded"]


def check_rule(rule: str) -> Rule:
    """Return ``rule``, or raise `QuantizationError`."""
    for known in RULES:
        if rule == known:
            return known
    raise QuantizationError(
        "rule",
        f"{rule!r} is not one of {', '.join(RULES)}",
        remedy="choose one of them",
        actual=rule,
        limit=RULES,
    )


class State:
    """State of neurons over the steps of one batch of samples.

    Parameters
    ----------
    start
        ``v`` before the first step, broadcastable to the input.
    levels
        ``(n, p)``.
    rule
        What becomes of ``v`` (`pmsm_hw.network`, *PolarityMultiSpike*).
    """

    def __init__(self, start: Tensor | float, levels: tuple[int, int], rule: Rule) -> None:
        self.start, self.levels, self.rule = start, levels, rule
        self.v = start
        self.sent: Tensor | None = None
        self.t = 0

    def step(self, drive: Tensor, theta: Tensor | float) -> Tensor:
        """Add ``drive`` (input plus bias) and fire.

        ``u = v + drive; k = clip(floor(u / theta), low, high); v = u - k * theta``, where
        ``(low, high)`` is ``(-n, p)``, and ``(-n * t - S, p * t - S)`` for rule "bounded".

        Returns
        -------
        Tensor
            ``k``, integer-valued, ``drive``'s shape.
        """
        n, p = self.levels
        self.t += 1
        u = self.v + drive
        k = torch.floor(u / theta)
        if self.rule == "bounded":
            sent = torch.zeros_like(k) if self.sent is None else self.sent
            k = torch.maximum(torch.minimum(k, p * self.t - sent), -n * self.t - sent)
            self.sent = sent + k
        else:
            k = k.clamp_(-n, p)
        self.v = self.start if self.rule == "reset" else u - k * theta
        return k


class PolarityMultiSpike(nn.Module):
    """Spiking counterpart of a `PolarityQuant`; at the first step it equals it, bit for bit.

    State is in units of theta: ``u = v + x / theta`` with ``v(0) = phi``. Call `reset` before each
    batch of samples and `begin_step` before each step; a module that a model calls twice in a step
    keeps two states.

    Parameters
    ----------
    quantizer
        Gives theta, levels, gains and phi (shared, not copied).
    rule
        ``"carry"``, ``"reset"`` or ``"bounded"``.
    """

    def __init__(self, quantizer: PolarityQuant, rule: str = "carry") -> None:
        super().__init__()
        self.quantizer = quantizer
        self.rule = check_rule(rule)
        self.reset()

    def reset(self) -> None:
        """Start a new batch of samples."""
        self.states: list[State] = []
        self.begin_step()

    def begin_step(self) -> None:
        """Start a step; drops what `last_spikes` held."""
        self.last_spikes: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Take a step with input ``x`` ``(batch, channels, ...)``; return what its spikes carry.

        Parameters
        ----------
        x
            Summed input of the step, ``(batch, channels, ...)`` float.
        """
        call = len(self.last_spikes)
        if call == len(self.states):
            self.states.append(State(self.quantizer.phi, self.quantizer.levels, self.rule))
        theta = self.quantizer.theta_for(x.ndim)
        k = self.states[call].step(x / theta, 1.0)
        self.last_spikes.append(k)
        gains = self.quantizer.gains
        return payload(k, gains) * (theta / gains[0])

    def extra_repr(self) -> str:
        """Rule."""
        return f"rule={self.rule!r}"
