"""Cutting axes into parts, and populations into grids of cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import Block, Range
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    from pmsm_hw.network import Population

__all__ = [
    "UNPLACED",
    "Grid",
    "Target",
    "cut_choices",
    "edges_of",
    "entries_before",
    "grid_blocks",
    "parts_of",
    "runs_of",
]

UNPLACED = -1
"""Core of a block that has none yet."""


class Target(NamedTuple):
    """What is wanted of a population's grid.

    Attributes
    ----------
    rows, columns
        Parts along these axes.
    width
        Channels that a block may have.
    equal
        Whether blocks of a cell are to be equal.
    """

    rows: int
    columns: int
    width: int
    equal: bool


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How a population is cut.

    Parameters
    ----------
    population
        Its name.
    shape
        Its shape, as of `operators.chw`.
    rows, columns
        Number of near-equal parts along these axes.
    channels
        ``rows`` times ``columns`` numbers, row by row: parts along channels in each cell, or, if
        `runs`, channels of each part but the last, which may have fewer.
    runs
        What `channels` says.
    """

    population: str
    shape: tuple[int, int, int]
    rows: int
    columns: int
    channels: tuple[int, ...]
    runs: bool = False

    @property
    def how(self) -> tuple[object, ...]:
        """All but whose grid it is."""
        return (self.shape, self.rows, self.columns, self.channels, self.runs)

    @property
    def n_blocks(self) -> int:
        """Blocks in all."""
        if self.runs:
            return sum(-(-self.shape[0] // width) for width in self.channels)
        return sum(self.channels)

    def cells(self) -> Iterator[tuple[Range, Range, int]]:
        """Rows, columns and entry of `channels` of each cell."""
        columns = parts_of(self.shape[2], self.columns)
        for i, y in enumerate(parts_of(self.shape[1], self.rows)):
            for j, x in enumerate(columns):
                yield y, x, self.channels[i * self.columns + j]

    def along_channels(self, entry: int) -> list[Range]:
        """Parts along channels of a cell with this entry of `channels`."""
        return (runs_of if self.runs else parts_of)(self.shape[0], entry)


def edges_of(n: int, cuts: int) -> NDArray[np.int64]:
    """Edges of near-equal parts, ``(cuts + 1,)`` int64."""
    return np.arange(cuts + 1, dtype=np.int64) * n // cuts


def parts_of(n: int, cuts: int) -> list[Range]:
    """Near-equal parts, as ranges."""
    return list(pairwise(edges_of(n, cuts).tolist()))


def runs_of(n: int, width: int) -> list[Range]:
    """Parts of a width, as ranges; the last one may be smaller."""
    return [(a, min(a + width, n)) for a in range(0, n, width)]


def entries_before(
    entries: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Entries of the channels below each, in the cells of a grid.

    Parameters
    ----------
    entries
        ``(channels, rows, columns)``, of each neuron (`entries.grid_entries`).
    rows, columns
        Edges of the grid.

    Returns
    -------
    ndarray
        ``(cells, channels + 1)`` int64, cells row by row.
    """
    n_channels = len(entries)
    alike = entries.strides[0] == 0
    sums = np.add.reduceat(entries[:1] if alike else entries, rows[:-1], axis=1)
    sums = np.add.reduceat(sums, columns[:-1], axis=2).reshape(len(sums), -1).T
    if alike:
        return sums * np.arange(n_channels + 1)
    before = np.zeros((len(sums), n_channels + 1), np.int64)
    np.cumsum(sums, axis=1, out=before[:, 1:])
    return before


def cut_choices(n: int) -> NDArray[np.int64]:
    """Numbers of cuts that give different largest parts, ascending."""
    return np.unique(-(-n // np.arange(1, n + 1, dtype=np.int64)))


def grid_blocks(population: Population, grid: Grid) -> list[Block]:
    """Blocks of a grid, cell by cell, channels fastest."""
    assert grid.shape == chw(population.shape)
    return [
        Block(population=population.name, channels=c, rows=y, columns=x, core=UNPLACED)
        for y, x, entry in grid.cells()
        for c in grid.along_channels(entry)
    ]
