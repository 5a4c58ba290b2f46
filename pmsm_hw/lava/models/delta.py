"""Neurons that encode changes in Lava."""

from __future__ import annotations

from pmsm_hw.lava.neurons import LAVA, LavaNeurons
from pmsm_hw.network import Delta

LAVA.register(Delta.kind, LavaNeurons(module="delta", process="Delta"))
