"""Neuron models: what each declares, its step in plain numpy, and which there are.

``docs/architecture.md`` says how to add one.
"""

from pmsm_hw.neurons.model import (
    Interval,
    IntervalStep,
    NeuronModel,
    Neurons,
    Parameter,
    StateVariable,
    Step,
    arranged,
    floor_division,
)
from pmsm_hw.neurons.polarity_multi_spike import PolarityMultiSpike
from pmsm_hw.neurons.readout import Readout
from pmsm_hw.neurons.registry import Backend, models, register, unregister

__all__ = [
    "Backend",
    "Interval",
    "IntervalStep",
    "NeuronModel",
    "Neurons",
    "Parameter",
    "PolarityMultiSpike",
    "Readout",
    "StateVariable",
    "Step",
    "arranged",
    "floor_division",
    "models",
    "register",
    "unregister",
]
