"""Neurons that send what changed of their input, as a torch module."""

from __future__ import annotations

from typing import ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pmsm_hw.network import STATE_MAX, STATE_MIN
from pmsm_hw.neurons import Delta as Population
from pmsm_hw.neurons import Neurons
from pmsm_hw.nn.loihi.neurons import TORCH, LoihiNeuron, States, held, straight

__all__ = ["Delta", "messages"]


def messages(
    change: Tensor, threshold: Tensor, state_exp: int, message_bits: int
) -> tuple[Tensor, Tensor]:
    """What is sent of a change, and the message that carries it.

    Backwards everything is sent: what stays below the threshold is sent later.

    Parameters
    ----------
    change
        Integers in float64.
    threshold
        Of it, in absolute value.
    state_exp, message_bits
        As for `pmsm_hw.network.Delta`.
    """
    sent = straight(change, torch.where(change.abs() >= threshold, change, 0.0))
    scaled = sent / (1 << state_exp)
    limit = float(1 << (message_bits - 1))
    return sent, straight(scaled, torch.floor(scaled).clamp(-limit, limit - 1))


class Delta(LoihiNeuron):
    """Sends how much its summed input changed: the first layer of a sigma-delta network.

    Put `LoihiOneToOne` between it and the input, or nothing for a weight of 1.

    Parameters
    ----------
    vth
        A change is sent once it is at least this in absolute value, integer at the scale of the
        state; one or one per channel or neuron.
    spike_exp, state_exp, message_bits
        As for `pmsm_hw.network.Delta`.
    """

    of: ClassVar[type[Neurons]] = Population

    spike_exp: int
    state_exp: int
    message_bits: int

    def __init__(
        self,
        vth: ArrayLike | Tensor,
        *,
        spike_exp: int = 0,
        state_exp: int = 0,
        message_bits: int = 16,
    ) -> None:
        super().__init__(
            vth=vth, spike_exp=spike_exp, state_exp=state_exp, message_bits=message_bits
        )

    def advance(self, drive: Tensor, states: States, t0: int) -> tuple[Tensor, States]:
        """See `LoihiNeuron.advance`.

        Parameters
        ----------
        drive, states, t0
            As there.
        """
        act, residue = states
        vth, payloads = self.column("vth", drive.ndim - 2), []
        for arriving in drive.unbind(1):
            new = held(arriving * (1 << self.spike_exp + self.state_exp), STATE_MIN, STATE_MAX)
            change = new - act + residue
            sent, message = messages(change, vth, self.state_exp, self.message_bits)
            act, residue = new, change - sent
            payloads.append(message)
        return torch.stack(payloads, 1).to(torch.float32), (act, residue)


TORCH.register(Population.kind, Delta)
