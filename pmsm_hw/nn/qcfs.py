"""The baseline: QCFS (Bu et al. 2022), whose SNN fires one spike a step."""

from __future__ import annotations

import copy

from torch import nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.quantizer import PolarityQuant
from pmsm_hw.nn.snn import Snn

__all__ = ["qcfs_snn"]


def qcfs_snn(model: nn.Module) -> Snn:
    """Integrate-and-fire SNN of a model that was quantized with ``levels=(0, p)``.

    The quantizer ``theta * clip(floor(z / theta + 1/2), 0, p)`` is QCFS with ``lambda = p * theta``
    and L = p. Its neuron has threshold lambda, starts at lambda / 2, sends at most one spike of
    height lambda a step and is reset by subtraction. Only the mean over many steps approaches the
    quantizer; a `to_snn` network of the same model sends up to p spikes and equals it at once.

    Parameters
    ----------
    model
        From ``quantize(model, levels=(0, p), init="qcfs")``, trained. Not changed.

    Returns
    -------
    Snn
        Takes ``(x, n_steps)``.

    Raises
    ------
    QuantizationError
        If the model has no quantizer, or one with negative levels.

    References
    ----------
    Bu et al., "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural
    networks", ICLR 2022.
    """
    spiking = copy.deepcopy(model)
    for name, module in list(spiking.named_modules()):
        if not isinstance(module, PolarityQuant):
            continue
        n, p = module.levels
        if n != 0:
            raise QuantizationError(
                f"quantizer '{name}'",
                f"has {n} negative levels, QCFS has 0",
                remedy="quantize with levels=(0, p), or use to_snn",
                actual=n,
                limit=0,
            )
        single = PolarityQuant((0, 1), theta=module.theta.detach() * p, phi=module.phi)
        if name:
            spiking.set_submodule(name, single)
        else:
            spiking = single
    return Snn(spiking, "carry")
