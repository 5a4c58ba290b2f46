"""Routers, links and buffers of the part of the mesh that messages cross."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Mapping

__all__ = ["mesh_of"]


def mesh_of(mapping: Mapping) -> tuple[dict[str, Any], NDArray[np.int64], int]:
    """Routers of the smallest rectangle that holds all traffic (XY routes never leave it)."""
    chip = mapping.chip
    tiles = [chip.tile_of(core) for core in mapping.cores] + [mapping.io_position]
    x0, x1 = min(x for x, _ in tiles), max(x for x, _ in tiles) + 1
    y0, y1 = min(y for _, y in tiles), max(y for _, y in tiles) + 1
    columns, n_rows = x1 - x0, y1 - y0
    n_routers = columns * n_rows
    core_router = np.array([(y - y0) * columns + x - x0 for x, y in tiles], np.int64)
    router = np.arange(n_routers)
    router_x, router_y = router % columns, router // columns
    # buffers: four per router, by the direction in which their messages travel; then injection
    link_target = np.full(4 * n_routers, -1, np.int64)
    link_crossing = np.zeros(4 * n_routers, np.int64)
    buffer_feeder = np.full(4 * n_routers, np.iinfo(np.int64).max, np.int64)
    for r in range(n_routers):
        for d, (dx, dy) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
            x, y = int(router_x[r]) + dx, int(router_y[r]) + dy
            if 0 <= x < columns and 0 <= y < n_rows:
                link_target[4 * r + d] = 4 * (y * columns + x) + d
                buffer_feeder[4 * (y * columns + x) + d] = 4 * r + d
                link_crossing[4 * r + d] = chip.chip_of(
                    x0 + int(router_x[r]), y0 + int(router_y[r])
                ) != chip.chip_of(x0 + x, y0 + y)
    n_generators = len(core_router)
    injection = 4 * n_routers + np.arange(n_generators)
    mesh = {
        "core_router": core_router,
        "router_x": router_x.astype(np.int64),
        "router_y": router_y.astype(np.int64),
        "router_chip_x": (router_x + x0) // chip.mesh.columns.value,
        "router_chip_y": (router_y + y0) // chip.mesh.rows.value,
        "link_target": link_target,
        "link_crossing": link_crossing,
        "buffer_router": np.concatenate([np.repeat(router, 4), core_router]).astype(np.int64),
        "buffer_feeder": np.concatenate([buffer_feeder, -1 - np.arange(n_generators)]),
        "injection_buffer": injection.astype(np.int64),
        "n_ports": 4 + int(np.bincount(core_router, minlength=n_routers).max()),
    }
    link_tiles = np.stack([np.repeat(router_x + x0, 4), np.repeat(router_y + y0, 4)], axis=1)
    return mesh, link_tiles.astype(np.int64), columns
