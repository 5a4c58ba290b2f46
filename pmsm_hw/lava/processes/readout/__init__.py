"""Readouts as a Lava Process."""

from __future__ import annotations

from pmsm_hw import network
from pmsm_hw.lava.processes.populations import NeuronProcess, twins


class Readout(NeuronProcess):
    """Neurons that add up their input and never fire: ``v' = v + a_in + bias``.

    Ports, Vars and parameters are those of every `NeuronProcess`.
    """

    neurons = network.Readout


ReadoutFixed, ReadoutFloat = twins(Readout)
