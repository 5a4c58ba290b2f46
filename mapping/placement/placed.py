"""Packed cores, placed: one by one with exchanges of their bundles, by tiles, or where they are."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import RESOURCES, Block
from pmsm_hw.mapping.placement.bundles import bundles_of
from pmsm_hw.mapping.placement.places import (
    Links,
    links_of,
    mean_distance,
    place,
    place_bundles,
    total_hops,
)
from pmsm_hw.mapping.resources.usage import count_usage
from pmsm_hw.mapping.routing.traffic import Traffic, core_traffic

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.mapping.resources import Resources
    from pmsm_hw.mapping.settings import Settings

__all__ = ["Placed", "over_random", "place_anyhow", "place_at", "place_cores"]

Rates = MappingType[str, NDArray[np.float64]]


class Placed(NamedTuple):
    """Cores, their places, and what is known of them; links are of cores, or tiles of them."""

    cores: Sequence[Sequence[Block]]
    places: NDArray[np.int64]
    between: Traffic
    links: Links
    usage: NDArray[np.int64]


def place_at(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    places: NDArray[np.int64],
    rates: Rates,
) -> Placed:
    """Cores at places that are known."""
    between = core_traffic(resources, cores, rates)
    links = links_of(between, len(cores))
    return Placed(cores, places, between, links, count_usage(resources, cores))


def place_anyhow(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    rates: Rates,
    settings: Settings,
    one_by_one: int,
) -> Placed:
    """Place cores one by one, or, where they are more, by tiles: neighbours share tiles then."""
    if len(cores) > one_by_one:
        return _place_by_tiles(resources, cores, rates, settings)
    return place_cores(resources, cores, rates, settings)


def _place_by_tiles(
    resources: Resources, cores: Sequence[Sequence[Block]], rates: Rates, settings: Settings
) -> Placed:
    """Place tiles that cores fill in their order."""
    from pmsm_hw.workers import workers_for

    chip = resources.chip
    per_tile = chip.mesh.cores_per_tile.value
    between = core_traffic(resources, cores, rates, group=per_tile)
    settings.say("counting every core")
    n_groups = -(-len(cores) // per_tile)
    links = links_of(between, n_groups)
    tiles = np.zeros(n_groups, np.int64)
    usage = np.zeros((len(cores), len(RESOURCES)), np.int64)

    def find(what: str) -> None:
        if what == "places":
            tiles[:] = place(chip, links, per_tile=1, settings=settings)
        else:
            usage[:] = count_usage(resources, cores)

    workers_for(True).map(find, ["places", "usage"])  # at the same time
    places = (tiles[:, None] * per_tile + np.arange(per_tile)).reshape(-1)[: len(cores)]
    return Placed(cores, places, between, links, usage)


def place_cores(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    rates: Rates,
    settings: Settings,
    effort: float = 1.0,
) -> Placed:
    """Place cores one by one, and exchange bundles of their blocks.

    Parameters
    ----------
    resources, cores, rates, settings
        Blocks of each core, and messages of each neuron.
    effort
        As in `place`.
    """
    bundles = bundles_of(resources, cores)
    apart = core_traffic(resources, bundles.blocks, rates)
    places, home = place_bundles(
        resources.chip,
        links_of(apart, len(bundles.blocks)),
        bundles,
        any_kind=settings.objective == "cores",
        effort=effort,
        settings=settings,
    )
    between = apart.gathered(home)
    links = links_of(between, len(cores))
    usage = np.zeros((len(cores), len(RESOURCES)), np.int64)
    np.add.at(usage, home, bundles.usage)
    cores = bundles.cores(home, [p.name for p in resources.placed])
    return Placed(cores, places, between, links, usage)


def over_random(chip: Chip, placed: Placed) -> float:
    """How far messages between cores go, against places at random on the same tiles."""
    per_tile = chip.mesh.cores_per_tile.value
    chance = mean_distance(chip, np.unique(placed.places // per_tile), per_tile)
    inside = replace(placed.links, io=np.zeros_like(placed.links.io))
    return total_hops(chip, inside, placed.places) / max(
        chance * float(placed.links.sent.sum()), 1e-300
    )
