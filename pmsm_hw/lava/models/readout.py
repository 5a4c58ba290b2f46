"""Readouts in Lava."""

from __future__ import annotations

from pmsm_hw.lava.neurons import LAVA, LavaNeurons
from pmsm_hw.network import Readout

LAVA.register(Readout.kind, LavaNeurons(module="readout", process="Readout"))
