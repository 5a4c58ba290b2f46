"""Neurons that encode changes as a Lava Process of ours."""

from __future__ import annotations

from pmsm_hw import network
from pmsm_hw.lava.processes.populations import NeuronProcess, twins


class Delta(NeuronProcess):
    """Neurons that send how much their summed input changed.

    Ports, Vars and parameters are those of every `NeuronProcess`; the parameters are those of
    `pmsm_hw.network.Delta`.
    """

    neurons = network.Delta


DeltaFixed, DeltaFloat = twins(Delta, integers=True)
