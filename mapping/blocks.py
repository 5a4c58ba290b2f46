"""Blocks: neurons of one population that sit on one core together, and what cores hold of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.operators import chw

__all__ = [
    "INPUT_AXONS",
    "NEURONS",
    "OUTPUT_AXONS",
    "RESOURCES",
    "SYNAPSE_MEMORY",
    "Block",
    "Mode",
    "Objective",
    "Range",
]

Range: TypeAlias = tuple[int, int]
Mode: TypeAlias = Literal["graded", "unit"]
Objective: TypeAlias = Literal["latency", "energy", "cores"]

RESOURCES = ("neurons", "input_axons", "output_axons", "synapse_memory_bits")
"""Resources that are counted per core, named as the limits of a chip."""
NEURONS, INPUT_AXONS, OUTPUT_AXONS, SYNAPSE_MEMORY = range(4)
"""Columns of tables over `RESOURCES`."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Neurons of one population on one core.

    Parameters
    ----------
    population
        Its name.
    channels, rows, columns
        Half-open ranges in ``operators.chw(population.shape)``.
    core
        Number of the core, see `Chip.tile_of`.
    """

    population: str
    channels: Range
    rows: Range
    columns: Range
    core: int

    @property
    def n_neurons(self) -> int:
        """Number of its neurons."""
        (c0, c1), (y0, y1), (x0, x1) = self.channels, self.rows, self.columns
        return (c1 - c0) * (y1 - y0) * (x1 - x0)

    def neurons(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Flat (C order) indices of its neurons in a population of a shape, ``(n,)`` int64.

        Parameters
        ----------
        shape
            Of the population.
        """
        _, h, w = chw(shape)
        c, y, x = (np.arange(*r) for r in (self.channels, self.rows, self.columns))
        flat: NDArray[np.int64] = (c[:, None, None] * h + y[:, None]) * w + x
        return flat.reshape(-1)

    def slices(self) -> tuple[slice, slice, slice]:
        """Index of its neurons in an array of shape ``operators.chw(population.shape)``."""
        return slice(*self.channels), slice(*self.rows), slice(*self.columns)
