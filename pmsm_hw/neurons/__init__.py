"""Neuron models: what each declares, its step in plain numpy, and which there are.

``docs/architecture.md`` says how to add one.
"""

from pmsm_hw.neurons.adaptive_lif import AdaptiveLif
from pmsm_hw.neurons.cuba_lif import CubaLif, integrate_and_fire
from pmsm_hw.neurons.delta import Delta
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
from pmsm_hw.neurons.sigma_delta import SigmaDelta

__all__ = [
    "AdaptiveLif",
    "Backend",
    "CubaLif",
    "Delta",
    "Interval",
    "IntervalStep",
    "NeuronModel",
    "Neurons",
    "Parameter",
    "PolarityMultiSpike",
    "Readout",
    "SigmaDelta",
    "StateVariable",
    "Step",
    "arranged",
    "floor_division",
    "integrate_and_fire",
    "models",
    "register",
    "unregister",
]
