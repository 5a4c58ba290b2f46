"""Sigma-delta neurons in Lava."""

from __future__ import annotations

from pmsm_hw.lava.neurons import LAVA, LavaNeurons
from pmsm_hw.network import SigmaDelta

LAVA.register(SigmaDelta.kind, LavaNeurons(module="sigma_delta", process="SigmaDelta"))
