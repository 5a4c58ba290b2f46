"""Loihi's own neurons in torch: modules that compute, and train, with a chip's integers."""

from pmsm_hw.nn.loihi.adaptive_lif import AdaptiveLif
from pmsm_hw.nn.loihi.cuba_lif import CubaLif, integrate_and_fire
from pmsm_hw.nn.loihi.decays import current_decay, voltage_decay
from pmsm_hw.nn.loihi.delta import Delta
from pmsm_hw.nn.loihi.inputs import LoihiInput
from pmsm_hw.nn.loihi.networks import LoihiNetwork, from_network
from pmsm_hw.nn.loihi.neurons import TORCH, LoihiNeuron
from pmsm_hw.nn.loihi.plain_layers import with_loihi_synapses
from pmsm_hw.nn.loihi.readout import LoihiReadout
from pmsm_hw.nn.loihi.sigma_delta import SigmaDelta
from pmsm_hw.nn.loihi.synapses import (
    LoihiConv1d,
    LoihiConv2d,
    LoihiLinear,
    LoihiOneToOne,
    LoihiSumPool,
    LoihiSynapses,
)

__all__ = [
    "TORCH",
    "AdaptiveLif",
    "CubaLif",
    "Delta",
    "LoihiConv1d",
    "LoihiConv2d",
    "LoihiInput",
    "LoihiLinear",
    "LoihiNetwork",
    "LoihiNeuron",
    "LoihiOneToOne",
    "LoihiReadout",
    "LoihiSumPool",
    "LoihiSynapses",
    "SigmaDelta",
    "current_decay",
    "from_network",
    "integrate_and_fire",
    "voltage_decay",
    "with_loihi_synapses",
]
