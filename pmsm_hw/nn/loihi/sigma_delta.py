"""Sigma-delta neurons as a torch module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pmsm_hw.network import STATE_MAX, STATE_MIN
from pmsm_hw.neurons import Neurons
from pmsm_hw.neurons import SigmaDelta as Population
from pmsm_hw.nn.loihi.delta import messages
from pmsm_hw.nn.loihi.neurons import (
    STATE,
    TORCH,
    LoihiNeuron,
    States,
    held,
    learned,
    unit_of,
    wrapped,
)
from pmsm_hw.nn.loihi.synapses import LoihiSynapses, rounded

__all__ = ["SigmaDelta"]


class SigmaDelta(LoihiNeuron):
    """Adds up changes, and sends how its activation changed.

    Backwards it is its activation: what stays below the threshold is sent later.

    Parameters
    ----------
    vth
        A change is sent once it is at least this in absolute value, integer at the scale of the
        state; one or one per channel or neuron.
    bias
        Added to the sum, integer; one or one per channel or neuron.
    activation, variant, state_exp, message_bits
        As for `pmsm_hw.network.SigmaDelta`.
    learned_bias
        Number of channels (or shape of the population) whose biases are trained, in place of
        ``bias``: real numbers, of which 1.0 is ``scale`` units of the sum.
    scale
        Of learned biases: that of the layer before, with its weight exponent.
    recurrent
        As for `CubaLif`.
    """

    of: ClassVar[type[Neurons]] = Population

    activation: str
    variant: str
    state_exp: int
    message_bits: int

    def __init__(
        self,
        vth: ArrayLike | Tensor,
        *,
        bias: ArrayLike | Tensor = 0,
        activation: str = "relu",
        variant: str = "fixed",
        state_exp: int = 0,
        message_bits: int = 16,
        learned_bias: int | Sequence[int] | None = None,
        scale: float = 64,
        recurrent: LoihiSynapses | None = None,
    ) -> None:
        subject = type(self).__name__
        self.scale = unit_of(subject, scale)
        given = bias if learned_bias is None else learned(subject, learned_bias)
        super().__init__(
            recurrent=recurrent, vth=vth, bias=given, activation=activation, variant=variant,
            state_exp=state_exp, message_bits=message_bits,
        )  # fmt: skip

    def mantissa(self, name: str, value: Tensor) -> Tensor:
        """See `LoihiNeuron.mantissa`: of the biases.

        Parameters
        ----------
        name, value
            As there.
        """
        return rounded(value.to(STATE) * self.scale, STATE_MIN, STATE_MAX)

    def advance(self, drive: Tensor, states: States, t0: int) -> tuple[Tensor, States]:
        """See `LoihiNeuron.advance`.

        Parameters
        ----------
        drive, states, t0
            As there.
        """
        sigma, act, residue = states
        vth, bias = (self.column(name, drive.ndim - 2) for name in ("vth", "bias"))
        payloads = []
        for arriving in drive.unbind(1):
            sigma = wrapped(sigma + arriving)
            new = sigma + bias
            new = held(torch.relu(new) if self.activation == "relu" else new, STATE_MIN, STATE_MAX)
            change = new - act + residue
            sent, message = messages(change, vth, self.state_exp, self.message_bits)
            if self.variant == "fixed":
                act, residue = new, change - sent
            else:
                act = act + message * (1 << self.state_exp)
            payloads.append(message)
        return torch.stack(payloads, 1).to(torch.float32), (sigma, act, residue)


TORCH.register(Population.kind, SigmaDelta)
