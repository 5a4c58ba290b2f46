"""Which way a message takes: XY, first along x, then along y.

Tiles are ``(x, y)`` on the board-wide mesh; north is growing y. A link leaves a tile in one of four
directions; it is named by `Link`, or by the number ``(y * columns + x) * 4 + direction``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import pair
from pmsm_hw.errors import MappingError

__all__ = [
    "DIRECTIONS",
    "EAST",
    "NORTH",
    "SOUTH",
    "WEST",
    "Link",
    "link_loads",
    "xy_route",
]

EAST, WEST, NORTH, SOUTH = range(4)
DIRECTIONS = ("east", "west", "north", "south")
"""Names of the directions, in the order of their numbers."""


class Link(NamedTuple):
    """One directed link: it leaves tile ``(x, y)`` in a direction (index into `DIRECTIONS`).

    Attributes
    ----------
    x, y
        Tile on the board-wide mesh.
    direction
        Index into `DIRECTIONS`.
    """

    x: int
    y: int
    direction: int

    @property
    def end(self) -> tuple[int, int]:
        """Tile at its far end."""
        dx, dy = ((1, 0), (-1, 0), (0, 1), (0, -1))[self.direction]
        return self.x + dx, self.y + dy

    def number(self, columns: int) -> int:
        """Number of the link on a mesh of so many columns (module docstring).

        Parameters
        ----------
        columns
            Tiles along x, over the whole board.
        """
        return (self.y * columns + self.x) * 4 + self.direction


def xy_route(source: tuple[int, int], target: tuple[int, int]) -> tuple[Link, ...]:
    """Links from one tile to another, in order; none within a tile.

    Parameters
    ----------
    source, target
        Tiles ``(x, y)``.
    """
    (x, y), (tx, ty) = _tile("source", source), _tile("target", target)
    links = []
    while x != tx:
        links.append(Link(x, y, EAST if tx > x else WEST))
        x += 1 if tx > x else -1
    while y != ty:
        links.append(Link(x, y, NORTH if ty > y else SOUTH))
        y += 1 if ty > y else -1
    return tuple(links)


def _tile(what: str, value: tuple[int, int]) -> tuple[int, int]:
    """Raise unless a tile is two integers: a route to a fraction would never end."""
    return pair(MappingError, "route", what, value, remedy="give a tile (x, y)")


def link_loads(
    columns: int, rows: int, source: ArrayLike, target: ArrayLike, weight: ArrayLike
) -> NDArray[np.float64]:
    """Messages over each link when every pair sends along its XY route.

    Parameters
    ----------
    columns, rows
        Size of the mesh in tiles.
    source, target
        ``(n, 2)`` integers, tiles ``(x, y)``.
    weight
        ``(n,)`` messages of each pair.

    Returns
    -------
    ndarray
        ``(rows, columns, 4)`` float64, by tile and direction.
    """
    s = np.asarray(source, np.int64).reshape(-1, 2)
    t = np.asarray(target, np.int64).reshape(-1, 2)
    w = np.asarray(weight, np.float64).reshape(-1)
    # difference arrays: add at the first link, take away after the last one, then sum up
    east, west = np.zeros((rows, columns + 1)), np.zeros((rows, columns + 1))
    north, south = np.zeros((rows + 1, columns)), np.zeros((rows + 1, columns))
    (sx, sy), (tx, ty) = s.T, t.T
    for loads, low, high, chosen in ((east, sx, tx, tx > sx), (west, tx + 1, sx + 1, tx < sx)):
        np.add.at(loads, (sy[chosen], low[chosen]), w[chosen])
        np.add.at(loads, (sy[chosen], high[chosen]), -w[chosen])
    for loads, low, high, chosen in ((north, sy, ty, ty > sy), (south, ty + 1, sy + 1, ty < sy)):
        np.add.at(loads, (low[chosen], tx[chosen]), w[chosen])
        np.add.at(loads, (high[chosen], tx[chosen]), -w[chosen])
    loads = np.stack(
        [
            np.cumsum(east, axis=1)[:, :columns],
            np.cumsum(west, axis=1)[:, :columns],
            np.cumsum(north, axis=0)[:rows],
            np.cumsum(south, axis=0)[:rows],
        ],
        axis=-1,
    )
    return np.maximum(loads, 0.0)  # fractions of messages leave rounding where none go
