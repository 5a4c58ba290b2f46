"""Neurons that add up their input and never fire, as a torch module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pmsm_hw.network import STATE_MAX, STATE_MIN
from pmsm_hw.neurons import Neurons
from pmsm_hw.neurons import Readout as Population
from pmsm_hw.nn.loihi.neurons import STATE, TORCH, LoihiNeuron, States, learned
from pmsm_hw.nn.loihi.synapses import rounded

__all__ = ["LoihiReadout"]


class LoihiReadout(LoihiNeuron):
    """Adds up what reaches it; answers with logits, ``v(T) * scale / T``.

    Straight after a spiking population, with no layer between, it counts its spikes.

    Parameters
    ----------
    scale
        Real value of one unit of v: by default that of layers whose 1.0 is 64.
    bias
        Added at each step, integer, one or one per channel or neuron.
    overflow
        Where no proof excludes that v leaves 24 bits: ``"error"`` (conversion says so), or
        ``"saturate"``.
    learned_bias
        Number of outputs (or shape of the population) whose biases are trained, in place of
        ``bias``: real numbers, of which one ``scale`` is a unit of v.
    """

    of: ClassVar[type[Neurons]] = Population

    scale: Tensor
    bias: Tensor
    overflow: str

    def __init__(
        self,
        scale: ArrayLike | Tensor = 1 / 64,
        *,
        bias: ArrayLike | Tensor = 0,
        overflow: str = "error",
        learned_bias: int | Sequence[int] | None = None,
    ) -> None:
        given = bias if learned_bias is None else learned(type(self).__name__, learned_bias)
        super().__init__(scale=scale, bias=given, overflow=overflow)

    def mantissa(self, name: str, value: Tensor) -> Tensor:
        """See `LoihiNeuron.mantissa`: of the biases.

        Parameters
        ----------
        name, value
            As there.
        """
        return rounded(value.to(STATE) / self.scale, STATE_MIN, STATE_MAX)

    def advance(self, drive: Tensor, states: States, t0: int) -> tuple[Tensor, States]:
        """See `LoihiNeuron.advance`; no spike carries anything.

        Parameters
        ----------
        drive, states, t0
            As there.
        """
        (v,) = states
        added = drive + self.column("bias", drive.ndim - 2)
        furthest = float((v.abs() + added.detach().abs().sum(1)).amax())
        if furthest <= STATE_MAX:
            v = v + added.sum(1)
        else:
            for arriving in added.unbind(1):
                v = (v + arriving).clamp(STATE_MIN, STATE_MAX)
        return torch.zeros_like(drive), (v,)

    def forward(self, drive: Tensor) -> Tensor:
        """Logits, ``(batch, *shape)``.

        Parameters
        ----------
        drive
            Summed input of every step, ``(batch, n_steps, *shape)``.
        """
        _, (v,) = self.run(drive)
        return self.logits(v, drive.shape[1])

    def logits(self, v: Tensor, n_steps: int) -> Tensor:
        """Of a state after so many steps.

        Parameters
        ----------
        v, n_steps
            As their names say.
        """
        scale = self.column("scale", v.ndim - 1)
        return (v * scale / n_steps).to(torch.get_default_dtype())


TORCH.register(Population.kind, LoihiReadout)
