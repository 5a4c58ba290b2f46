"""Leaky integrate-and-fire neurons of Loihi in Lava."""

from __future__ import annotations

from pmsm_hw.lava.neurons import LAVA, LavaNeurons
from pmsm_hw.network import CubaLif

LAVA.register(CubaLif.kind, LavaNeurons(module="cuba_lif", process="CubaLif"))
