"""Polarity multi-spike quantization and neurons in torch: quantize, fine-tune, run as an SNN.

The equations are reconstructed from the abstract of arXiv 2508.14520. Needs torch.
"""

from pmsm_hw.nn import models
from pmsm_hw.nn.initialization import choose_theta, entropy_bits
from pmsm_hw.nn.neuron import PolarityMultiSpike
from pmsm_hw.nn.quantization import calibrate, quantize, spikes
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant
from pmsm_hw.nn.snn import Snn, SnnResult, to_snn
from pmsm_hw.nn.training import History, accuracy, finetune, loader, predict, train

__all__ = [
    "History",
    "InputQuant",
    "PolarityMultiSpike",
    "PolarityQuant",
    "Snn",
    "SnnResult",
    "accuracy",
    "calibrate",
    "choose_theta",
    "entropy_bits",
    "finetune",
    "loader",
    "models",
    "predict",
    "quantize",
    "spikes",
    "to_snn",
    "train",
]
