"""Numbers about a placement: how far messages go, and how full links are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.placement.places import least_hops, links_of, mean_distance
from pmsm_hw.mapping.routing.traffic import IO
from pmsm_hw.mapping.routing.xy import link_loads

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.mapping.placement.places import Links
    from pmsm_hw.mapping.routing.traffic import Traffic

__all__ = ["measure"]


def measure(
    chip: Chip, places: NDArray[np.int64], between: Traffic, links: Links | None = None
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Link loads and metrics of placed traffic; see docs/mapping.md for the metrics.

    Parameters
    ----------
    chip, places
        Where each core is.
    between
        Traffic between cores, or groups of them.
    links
        `links_of` it, if that is known.
    """
    per_tile = chip.mesh.cores_per_tile.value
    io_x, io_y = chip.mesh.io_position.value
    # IO = -1 is the last
    tile = np.append(places[:: between.group] // per_tile, io_y * chip.columns + io_x)
    a, b = tile[between.source], tile[between.target]
    source = np.stack([a % chip.columns, a // chip.columns], axis=1)
    target = np.stack([b % chip.columns, b // chip.columns], axis=1)
    loads = link_loads(chip.columns, chip.rows, source, target, between.messages)
    hops = np.abs(source - target).sum(axis=1)
    mesh = float((between.messages * hops)[between.source != IO].sum())
    at_once = per_tile // between.group
    links = links_of(between, len(tile) - 1) if links is None else links
    chance = mean_distance(chip, np.unique(tile[:-1]), at_once) * float(links.sent.sum())
    least = least_hops(links, at_once)
    inter_core = max(between.inter_core, 1e-300)
    return loads, {
        "deliveries": between.deliveries,
        "inter_core_deliveries": between.inter_core,
        "input_deliveries": between.inputs,
        "mean_hops": mesh / inter_core,
        "mean_hops_at_random": chance / inter_core,
        "mean_hops_bound": least / inter_core,
        "total_hops": float((between.messages * hops).sum()),
        "max_link_load": float(loads.max()),
        "link_load_variance": float(loads.var()),
    }
