"""Adaptive leaky integrate-and-fire neurons as a Lava Process of ours."""

from __future__ import annotations

from pmsm_hw import network
from pmsm_hw.lava.processes.populations import NeuronProcess, twins


class AdaptiveLif(NeuronProcess):
    """Leaky integrate-and-fire neurons whose spikes make the next ones harder.

    Ports, Vars and parameters are those of every `NeuronProcess`; the parameters are those of
    `pmsm_hw.network.AdaptiveLif`.
    """

    neurons = network.AdaptiveLif


AdaptiveLifFixed, AdaptiveLifFloat = twins(AdaptiveLif, integers=True)
