"""Polarity multi-spike neurons in Lava."""

from __future__ import annotations

from pmsm_hw.lava.neurons import LAVA, LavaNeurons
from pmsm_hw.network import PolarityMultiSpike

LAVA.register(
    PolarityMultiSpike.kind,
    LavaNeurons(module="polarity_multi_spike", process="PolarityMultiSpike"),
)
