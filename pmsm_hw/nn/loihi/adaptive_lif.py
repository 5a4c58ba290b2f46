"""Leaky integrate-and-fire neurons that adapt, as a torch module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pmsm_hw.neurons import AdaptiveLif as Population
from pmsm_hw.neurons import Neurons
from pmsm_hw.nn.loihi.cuba_lif import SHIFT, V_MOST, bias_mantissa
from pmsm_hw.nn.loihi.neurons import (
    TORCH,
    LoihiNeuron,
    States,
    decayed,
    held,
    learned,
    spikes,
    unit_of,
    wrapped,
)
from pmsm_hw.nn.loihi.surrogate import Surrogate
from pmsm_hw.nn.loihi.synapses import LoihiSynapses

__all__ = ["AdaptiveLif"]


class AdaptiveLif(LoihiNeuron):
    """`CubaLif` with reset to zero, whose spikes make the next ones harder: the ALIF of an LSNN.

    Parameters
    ----------
    vth, du, dv, bias, bias_exponent, refractory
        As for `CubaLif`.
    adaptation
        What a spike takes from the adaptation's voltage, integer in the unit of weights, one or one
        per channel or neuron.
    da
        Decay of the adaptation in 4096ths, integer; `voltage_decay` makes it of a time constant.
    learned_bias, scale, surrogate, slope, recurrent
        As for `CubaLif`.
    """

    of: ClassVar[type[Neurons]] = Population

    bias_exponent: int
    refractory: int

    def __init__(
        self,
        vth: ArrayLike | Tensor = 64,
        du: int | ArrayLike | Tensor = 4095,
        dv: int | ArrayLike | Tensor = 0,
        *,
        adaptation: ArrayLike | Tensor = 0,
        da: int | ArrayLike | Tensor = 0,
        bias: ArrayLike | Tensor = 0,
        bias_exponent: int = 6,
        refractory: int = 1,
        learned_bias: int | Sequence[int] | None = None,
        scale: float = 64,
        surrogate: Surrogate = "fast_sigmoid",
        slope: float = 2.0,
        recurrent: LoihiSynapses | None = None,
    ) -> None:
        subject = type(self).__name__
        self.scale = unit_of(subject, scale)
        given = bias if learned_bias is None else learned(subject, learned_bias)
        super().__init__(
            surrogate, slope, recurrent, vth=vth, du=du, dv=dv, bias=given,
            bias_exponent=bias_exponent, refractory=refractory, adaptation=adaptation, da=da,
        )  # fmt: skip

    def mantissa(self, name: str, value: Tensor) -> Tensor:
        """See `LoihiNeuron.mantissa`: of the biases.

        Parameters
        ----------
        name, value
            As there.
        """
        return bias_mantissa(value, self.scale)

    def advance(self, drive: Tensor, states: States, t0: int) -> tuple[Tensor, States]:
        """See `LoihiNeuron.advance`.

        Parameters
        ----------
        drive, states, t0
            As there.
        """
        p: Any = {
            name: self.column(name, drive.ndim - 2)
            for name in ("vth", "du", "dv", "bias", "adaptation", "da")
        }
        bias = p["bias"] * float(1 << self.bias_exponent)
        threshold = SHIFT * p["vth"]
        u, v, a, fired, waits = states
        sent = []
        for arriving in drive.unbind(1):
            a = held(decayed(a, p["da"]) - fired * (SHIFT * p["adaptation"]), -V_MOST, V_MOST)
            u = wrapped(decayed(u, p["du"] + 1) + SHIFT * arriving)
            v = held(decayed(v, p["dv"]) + u + a + bias, -V_MOST, V_MOST)
            if self.refractory > 1:
                v = v * (waits <= 0)
            fired = spikes(v, threshold, self.derivative)
            v = v * (1 - fired.detach())
            if self.refractory > 1:
                waits = torch.where(fired > 0, float(self.refractory), waits).detach()
                waits = (waits - 1).clamp(min=0)
            sent.append(fired)
        return torch.stack(sent, 1).to(torch.float32), (u, v, a, fired, waits)


TORCH.register(Population.kind, AdaptiveLif)
