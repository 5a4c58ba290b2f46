"""Registrations of the neuron models in Lava, a file each."""

from pmsm_hw.lava.models import polarity_multi_spike, readout

__all__ = ["polarity_multi_spike", "readout"]
