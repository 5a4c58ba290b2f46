"""Registrations of the neuron models in Lava, a file each."""

from pmsm_hw.lava.models import (
    adaptive_lif,
    cuba_lif,
    delta,
    polarity_multi_spike,
    readout,
    sigma_delta,
)

__all__ = [
    "adaptive_lif",
    "cuba_lif",
    "delta",
    "polarity_multi_spike",
    "readout",
    "sigma_delta",
]
