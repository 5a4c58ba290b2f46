"""Sigma-delta neurons as a Lava Process of ours."""

from __future__ import annotations

from pmsm_hw import network
from pmsm_hw.lava.processes.populations import NeuronProcess, twins


class SigmaDelta(NeuronProcess):
    """Sigma-delta neurons: messages are changes, in and out.

    Ports, Vars and parameters are those of every `NeuronProcess`; the parameters are those of
    `pmsm_hw.network.SigmaDelta`.
    """

    neurons = network.SigmaDelta


SigmaDeltaFixed, SigmaDeltaFloat = twins(SigmaDelta, integers=True)
