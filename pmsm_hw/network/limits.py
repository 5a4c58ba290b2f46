"""Widths, limits and types of a network's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CONVERTED_WEIGHT_EXPONENT",
    "MAX_NEURONS",
    "MAX_STEPS",
    "MAX_SYNAPSE_DELAY",
    "MAX_WEIGHT_EXPONENT",
    "MIN_WEIGHT_EXPONENT",
    "OVERFLOWS",
    "RULES",
    "SPIKE_MODES",
    "STATE_BITS",
    "STATE_MAX",
    "STATE_MIN",
    "IntArray",
    "Overflow",
    "Padding",
    "Pads",
    "Rule",
    "Shape",
    "Sizes",
    "SpikeMode",
]

STATE_BITS = 24
"""Width of ``u`` and ``v`` in bits, signed."""

STATE_MIN = -(1 << (STATE_BITS - 1))
STATE_MAX = (1 << (STATE_BITS - 1)) - 1

MIN_WEIGHT_EXPONENT, MAX_WEIGHT_EXPONENT = -8, 7
"""Shift of a projection's sum: to the right at most, and to the left (as on Loihi)."""

CONVERTED_WEIGHT_EXPONENT = 6
"""Largest shift to the left that conversion and import of real weights choose."""

MAX_SYNAPSE_DELAY = 62
"""Most steps that a synapse delays beyond its projection (as on Loihi)."""

MAX_STEPS = 4096
"""Most time steps of a sample; no projection can delay by more."""

MAX_NEURONS = (1 << 31) - 1
"""Of a population."""

Rule: TypeAlias = Literal["carry", "reset", "bounded"]
SpikeMode: TypeAlias = Literal["auto", "graded", "unit"]
Overflow: TypeAlias = Literal["error", "saturate"]
Shape: TypeAlias = tuple[int, ...]
Pads: TypeAlias = tuple[tuple[int, int], ...]
# what the two are made from: one integer for all axes, or one for each (or a pair, for padding)
Sizes: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]]
IntArray: TypeAlias = NDArray[np.int64]

RULES: tuple[Rule, ...] = ("carry", "reset", "bounded")
SPIKE_MODES: tuple[SpikeMode, ...] = ("auto", "graded", "unit")
OVERFLOWS: tuple[Overflow, ...] = ("error", "saturate")
