"""Registrations of the neuron models in Lava, a file each."""

from pmsm_hw.lava.models import delta, polarity_multi_spike, readout, sigma_delta

__all__ = ["delta", "polarity_multi_spike", "readout", "sigma_delta"]
