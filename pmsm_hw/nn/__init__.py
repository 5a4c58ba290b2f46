"""Polarity multi-spike quantization and neurons in torch: quantize, fine-tune, run as an SNN.

The equations are reconstructed from the abstract of arXiv 2508.14520. Needs torch.
"""

from pmsm_hw.nn import models
from pmsm_hw.nn.batch_norm import calibrate_from_batch_norm
from pmsm_hw.nn.calibration import calibrate, spikes
from pmsm_hw.nn.entropy import EntropyReport, entropy_report, gaussian_bits
from pmsm_hw.nn.gain import learn_gains, snap_gains
from pmsm_hw.nn.initialization import choose_theta, entropy_bits
from pmsm_hw.nn.neuron import PolarityMultiSpike
from pmsm_hw.nn.qcfs import qcfs_snn
from pmsm_hw.nn.quantization import quantize
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant
from pmsm_hw.nn.snn import Snn, SnnResult, to_snn
from pmsm_hw.nn.suggest import Suggestion, choose_levels, suggest
from pmsm_hw.nn.training import History, accuracy, finetune, loader, predict, train
from pmsm_hw.nn.vit import Vit, quantize_vit, vit_small, vit_tiny

__all__ = [
    "EntropyReport",
    "History",
    "InputQuant",
    "PolarityMultiSpike",
    "PolarityQuant",
    "Snn",
    "SnnResult",
    "Suggestion",
    "Vit",
    "accuracy",
    "calibrate",
    "calibrate_from_batch_norm",
    "choose_levels",
    "choose_theta",
    "entropy_bits",
    "entropy_report",
    "finetune",
    "gaussian_bits",
    "learn_gains",
    "loader",
    "models",
    "predict",
    "qcfs_snn",
    "quantize",
    "quantize_vit",
    "snap_gains",
    "spikes",
    "suggest",
    "to_snn",
    "train",
    "vit_small",
    "vit_tiny",
]
