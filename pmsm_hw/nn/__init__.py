"""Networks in torch: polarity multi-spike quantization and neurons, and Loihi's own neurons.

Of PMSM: quantize, fine-tune, run as an SNN; the equations are reconstructed from the abstract of
arXiv 2508.14520. Of Loihi: modules that train with a chip's integers, `pmsm_hw.nn.loihi`. Needs
torch.
"""

from pmsm_hw.nn import models
from pmsm_hw.nn.batch_norm import calibrate_from_batch_norm
from pmsm_hw.nn.calibration import calibrate, spikes
from pmsm_hw.nn.entropy import EntropyReport, entropy_report, gaussian_bits
from pmsm_hw.nn.gain import learn_gains, snap_gains
from pmsm_hw.nn.initialization import choose_theta, entropy_bits
from pmsm_hw.nn.loihi import (
    AdaptiveLif,
    CubaLif,
    Delta,
    LoihiConv1d,
    LoihiConv2d,
    LoihiInput,
    LoihiLinear,
    LoihiOneToOne,
    LoihiReadout,
    LoihiSumPool,
    SigmaDelta,
    current_decay,
    from_network,
    integrate_and_fire,
    voltage_decay,
    with_loihi_synapses,
)
from pmsm_hw.nn.neuron import PolarityMultiSpike
from pmsm_hw.nn.qcfs import qcfs_snn
from pmsm_hw.nn.quantization import quantize
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant
from pmsm_hw.nn.snn import Snn, SnnResult, to_snn
from pmsm_hw.nn.suggest import Suggestion, choose_levels, suggest
from pmsm_hw.nn.training import History, accuracy, finetune, loader, predict, train
from pmsm_hw.nn.vit import Vit, quantize_vit, vit_small, vit_tiny

__all__ = [
    "AdaptiveLif",
    "CubaLif",
    "Delta",
    "EntropyReport",
    "History",
    "InputQuant",
    "LoihiConv1d",
    "LoihiConv2d",
    "LoihiInput",
    "LoihiLinear",
    "LoihiOneToOne",
    "LoihiReadout",
    "LoihiSumPool",
    "PolarityMultiSpike",
    "PolarityQuant",
    "SigmaDelta",
    "Snn",
    "SnnResult",
    "Suggestion",
    "Vit",
    "accuracy",
    "calibrate",
    "calibrate_from_batch_norm",
    "choose_levels",
    "choose_theta",
    "current_decay",
    "entropy_bits",
    "entropy_report",
    "finetune",
    "from_network",
    "gaussian_bits",
    "integrate_and_fire",
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
    "voltage_decay",
    "with_loihi_synapses",
]
