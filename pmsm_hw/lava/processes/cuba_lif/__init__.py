"""Leaky integrate-and-fire neurons of Loihi as a Lava Process of ours."""

from __future__ import annotations

from pmsm_hw import network
from pmsm_hw.lava.processes.populations import NeuronProcess, twins


class CubaLif(NeuronProcess):
    """Current-based leaky integrate-and-fire neurons, as Loihi computes them.

    Ports, Vars and parameters are those of every `NeuronProcess`; the parameters are those of
    `pmsm_hw.network.CubaLif`.
    """

    neurons = network.CubaLif


CubaLifFixed, CubaLifFloat = twins(CubaLif, integers=True)
