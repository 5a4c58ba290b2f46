"""Which core goes to which place of the mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Chip

__all__ = ["curve_order"]


def curve_order(chip: Chip) -> NDArray[np.int64]:
    """Cores of a chip along a Hilbert curve of tiles that starts at the I/O port's corner.

    Returns
    -------
    ndarray
        ``(n_cores,)`` int64.
    """
    side = 1
    while side < max(chip.columns, chip.rows):
        side *= 2
    tiles = np.arange(chip.n_tiles)
    x, y = tiles % chip.columns, tiles // chip.columns
    io_x, io_y = chip.mesh.io_position.value
    if io_x >= chip.columns - io_x:
        x = chip.columns - 1 - x
    if io_y >= chip.rows - io_y:
        y = chip.rows - 1 - y
    order = np.argsort(hilbert_index(side, x, y), kind="stable")
    per_tile = chip.mesh.cores_per_tile.value
    cores: NDArray[np.int64] = (order[:, None] * per_tile + np.arange(per_tile)).reshape(-1)
    return cores


def hilbert_index(side: int, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position along the Hilbert curve of a square of a power of two."""
    x, y = x.astype(np.int64).copy(), y.astype(np.int64).copy()
    d = np.zeros_like(x)
    s = side // 2
    while s > 0:
        rx, ry = ((x & s) > 0).astype(np.int64), ((y & s) > 0).astype(np.int64)
        d += s * s * ((3 * rx) ^ ry)
        flip = (ry == 0) & (rx == 1)
        x[flip], y[flip] = side - 1 - x[flip], side - 1 - y[flip]
        swap = ry == 0
        x[swap], y[swap] = y[swap].copy(), x[swap].copy()
        s //= 2
    return d
