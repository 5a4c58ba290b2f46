"""Adaptive leaky integrate-and-fire neurons in Lava."""

from __future__ import annotations

from pmsm_hw.lava.neurons import LAVA, LavaNeurons
from pmsm_hw.network import AdaptiveLif

LAVA.register(AdaptiveLif.kind, LavaNeurons(module="adaptive_lif", process="AdaptiveLif"))
