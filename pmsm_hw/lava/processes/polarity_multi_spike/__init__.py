"""Polarity multi-spike neurons as a Lava Process: graded spikes, and unit spikes of two polarities.

The equations are those of `pmsm_hw.network`, a reconstruction from the abstract of
arXiv 2508.14520.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.process.ports.ports import OutPort
from numpy.typing import NDArray

from pmsm_hw import network
from pmsm_hw.lava.processes.populations import NeuronModel, NeuronProcess, twins
from pmsm_hw.neurons import Step


class PolarityMultiSpike(NeuronProcess):
    """Neurons that send several positive or negative spikes a step.

    Per step ``u = v + a_in + bias``; ``k = clip(floor(u / theta), -n, p)``; the rule decides what
    remains in ``v`` (see `pmsm_hw.network`). Ports, Vars and parameters beside those below are
    those of every `NeuronProcess`.

    Ports
    -----
    s_out
        Payload of the graded spikes: ``gain_pos * k`` or ``gain_neg * k``.
    s_pos_out, s_neg_out
        Number of positive and of negative unit spikes, for ``spike_mode="unit"``.

    Vars
    ----
    u
        State after integration, before the spikes are taken off.
    sent
        Sum of the spikes of this sample.
    """

    neurons = network.PolarityMultiSpike
    spike_ports = ("s_out", "s_pos_out", "s_neg_out")

    def __init__(self, *, shape: tuple[int, ...], **parameters: Any) -> None:
        super().__init__(shape=shape, **parameters)
        self.s_pos_out = OutPort(shape=shape)
        self.s_neg_out = OutPort(shape=shape)


class _Model(NeuronModel):
    sent: Any
    s_pos_out: Any
    s_neg_out: Any

    def take(self, drive: NDArray[Any], in_sample: int) -> Step:
        """See `NeuronModel.take`; also adds up the spikes where the rule does not."""
        taken = super().take(drive, in_sample)
        if self._single["rule"] != "bounded":
            before = 0 if in_sample == 0 else self.sent
            self.sent[...] = before + taken.spikes
        return taken

    def send(self, k: NDArray[Any]) -> None:
        """See `NeuronModel.send`; also as numbers of unit spikes."""
        super().send(k)
        if self.s_pos_out.csp_ports:
            self.s_pos_out.send(np.maximum(k, 0))
        if self.s_neg_out.csp_ports:
            self.s_neg_out.send(np.maximum(-k, 0))


PolarityMultiSpikeFixed, PolarityMultiSpikeFloat = twins(PolarityMultiSpike, _Model)
