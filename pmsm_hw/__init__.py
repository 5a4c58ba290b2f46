"""Polarity multi-spike networks on Loihi-style chips.

A trained polarity multi-spike (PMSM) network goes in; out come an integer network that is exact on
every backend, a Lava process graph, a placement on a chip, and an emulation with spike counts,
latency and energy per inference.

Importing the package imports neither torch nor Lava: ``pmsm_hw.nn`` and ``pmsm_hw.convert`` need
torch, ``pmsm_hw.lava`` needs a Python 3.10 with lava-nc.
"""

from pmsm_hw.errors import PmsmHwError
from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
    loihi_weights,
)
from pmsm_hw.neurons import AdaptiveLif, CubaLif, Delta, SigmaDelta, integrate_and_fire

__version__ = "0.1.0"

__all__ = [
    "AdaptiveLif",
    "Conv1d",
    "Conv2d",
    "CubaLif",
    "Delta",
    "Dense",
    "Identity",
    "Input",
    "Network",
    "PmsmHwError",
    "PolarityMultiSpike",
    "Readout",
    "SigmaDelta",
    "SumPool",
    "__version__",
    "integrate_and_fire",
    "loihi_weights",
]
