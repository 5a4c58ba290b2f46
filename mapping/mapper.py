"""Placing a network on a chip: cut, pack, place, route, check."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import choice, number
from pmsm_hw.errors import CapacityError, MappingError
from pmsm_hw.mapping.arguments import check_network_and_chip, check_seed
from pmsm_hw.mapping.assignment import Mapping, check
from pmsm_hw.mapping.blocks import RESOURCES, Block
from pmsm_hw.mapping.objectives import expect, expected_rates, spread
from pmsm_hw.mapping.partition.excess import check_formats
from pmsm_hw.mapping.partition.packing import pack
from pmsm_hw.mapping.partition.tiling import cut_network
from pmsm_hw.mapping.placement.bundles import bundles_of
from pmsm_hw.mapping.placement.metrics import measure
from pmsm_hw.mapping.placement.places import (
    links_of,
    mean_distance,
    place,
    place_bundles,
    total_hops,
)
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.mapping.resources.usage import capacity, count_usage
from pmsm_hw.mapping.routing.traffic import Traffic, core_traffic, rates_of

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Objective
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.mapping.partition.tiling import Cut
    from pmsm_hw.mapping.placement.places import Links
    from pmsm_hw.network import Network

__all__ = ["OBJECTIVES", "map_network"]

_PLACED_ONE_BY_ONE = 16_384
"""Networks of more cores are placed tile by tile: neighbours in the network share tiles."""
_FAR = 0.5
"""Where ways are longer than this share of chance, other cuts are tried until they are not."""
_MORE_CORES, _NEAR_BOUND = 1.04, 1.15
"""They may take so many more cores, and chips, if that does not leave the bound's neighbourhood."""
_MOST_TRIED, _CORES_TRIED = 64, 12_288
"""How many, at most; cores of all of them."""
_ROUGHLY, _THOROUGHLY = 0.3, 3.0
"""Effort of the search for their places, and for those of the one that is taken."""

OBJECTIVES: tuple[Objective, ...] = ("latency", "energy", "cores")


def map_network(
    network: Network,
    chip: Chip,
    *,
    objective: Objective = "latency",
    traffic: MappingType[str, ArrayLike] | None = None,
    seed: int = 0,
    time_limit_s: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Mapping:
    """Place a network on a chip.

    Parameters
    ----------
    network
        What to place.
    chip
        Where to.
    objective
        ``"cores"`` takes the fewest cores, or up to 4 % more where messages would go further than
        half of chance. ``"latency"`` and ``"energy"`` spread the network over
        free cores of the chips that it needs anyway, where a sample is then expected to be done
        sooner, or with less energy, by the constants of the chip's first profile
        (`objectives.spread`).
    traffic
        Messages of each neuron by population and sample, from a profile run
        (`measured_traffic`); one each by default (`traffic.rates_of`).
    seed
        The same seed gives the same mapping, where no time limit cuts the search short.
    time_limit_s
        Seconds after which the best mapping found so far is taken. A first one is always made, and
        counted exactly, however long that takes.
    progress
        Called with a line about each stage.

    Returns
    -------
    Mapping
        Checked: every neuron is placed once, no limit of any core is exceeded.

    Raises
    ------
    CapacityError
        If a population, or the whole network, does not fit.
    MappingError
        If the chip cannot express the network, or an argument is wrong.
    """
    choice(
        MappingError, "map_network", "objective", objective, OBJECTIVES,
        remedy="choose one of them",
    )  # fmt: skip
    check_network_and_chip(network, chip)
    if len(network.inputs) == len(network.populations):
        raise MappingError(
            f"network '{network.name}'",
            f"has {len(network.inputs):,} populations, all of them inputs: at least 1 that is "
            "placed on a core is needed",
            remedy="add neurons or a readout",
            actual=0,
            limit=1,
        )
    seed = check_seed(seed)
    rates = rates_of(network, traffic)
    resources = Resources(network, chip)
    check_formats(resources)
    deadline = _deadline(time_limit_s)
    cut = cut_network(resources, objective=objective, progress=progress, deadline=deadline)
    if progress is not None:
        progress(f"packing {sum(map(len, cut.blocks.values())):,} blocks")
    cores = pack(resources, cut.blocks, cut.entries)
    if len(cores) > chip.n_cores:
        raise too_many_cores(resources, cores)
    if objective == "cores":
        placed = _few(resources, cores, cut, rates, seed, progress, deadline)
    else:
        placed = _spread(
            resources, cores, cut, rates, bool(traffic), objective, seed, progress, deadline
        )
    if progress is not None:
        progress("checking every core")
    return build_mapping(
        resources, placed.cores, placed.places, placed.between, links=placed.links,
        usage=placed.usage, objective=objective, seed=seed, bound=cut.bound.cores,
    )  # fmt: skip


def _few(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    cut: Cut,
    rates: MappingType[str, NDArray[np.float64]],
    seed: int,
    progress: Callable[[str], None] | None,
    deadline: Callable[[], bool] | None,
) -> _Placed:
    """Place the fewest cores; where messages go far then, look for a cut whose go less far."""
    chip = resources.chip
    placed = _placed_anyhow(resources, cores, rates, "cores", seed, progress, deadline)
    late = deadline is not None and deadline()
    if len(cores) > _PLACED_ONE_BY_ONE or cut.others is None or late:
        return placed
    if _over_random(chip, placed) <= _FAR:
        return placed
    others = cut.others(_most_cores(chip, len(cores), cut.bound.cores))
    found = _nearest(resources, others, rates, len(cores), seed, progress, deadline)
    tried = [placed] if found is None else [placed, found]
    nearest = min(tried, key=lambda one: _over_random(chip, one))
    again = _placed(
        resources, nearest.cores, rates, "cores", seed, _THOROUGHLY, progress, deadline
    )  # fmt: skip
    return min(nearest, again, key=lambda one: _over_random(chip, one))


def _spread(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    cut: Cut,
    rates: MappingType[str, NDArray[np.float64]],
    measured: bool,
    objective: Objective,
    seed: int,
    progress: Callable[[str], None] | None,
    deadline: Callable[[], bool] | None,
) -> _Placed:
    """Use free cores (`objectives.spread`).

    What each of latency and energy would take is placed, and the one that costs less then is taken:
    neither is to be better at what the other one is for.
    """
    expected = expected_rates(resources.network, resources.spike_modes, rates, measured)
    starts = [cores]
    if cut.frugal is not None:
        starts.append(pack(resources, cut.frugal.blocks, cut.frugal.entries))
    found = spread(
        resources, starts, cut, expected, objective=objective, seed=seed, progress=progress,
        deadline=deadline,
    )  # fmt: skip
    if found[0][1] is None or (deadline is not None and deadline()):
        return _placed_anyhow(resources, found[0][0], rates, objective, seed, progress, deadline)
    placed: list[_Placed] = []
    for some, places in found:
        placed.append(_placed_anyhow(resources, some, rates, objective, seed, progress, deadline))
        if places is not None:
            placed.append(_placed_at(resources, some, places, rates))
    if any(len(one.cores) == len(cores) for one in placed):
        placed.append(_placed_anyhow(resources, cores, rates, "cores", seed, progress, deadline))

    def cost(one: _Placed) -> tuple[float, float]:
        between = core_traffic(resources, one.cores, expected)
        return expect(resources, one.cores, expected, between, one.places).of(objective)

    return min(placed, key=cost)


def _placed_at(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    places: NDArray[np.int64],
    rates: MappingType[str, NDArray[np.float64]],
) -> _Placed:
    """Cores at places that are known."""
    between = core_traffic(resources, cores, rates)
    links = links_of(between, len(cores))
    return _Placed(cores, places, between, links, count_usage(resources, cores))


def _placed_anyhow(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    rates: MappingType[str, NDArray[np.float64]],
    objective: Objective,
    seed: int,
    progress: Callable[[str], None] | None,
    deadline: Callable[[], bool] | None,
) -> _Placed:
    """Place cores one by one, or, where they are very many, by tiles."""
    if len(cores) > _PLACED_ONE_BY_ONE:
        return _placed_by_tiles(resources, cores, rates, seed, progress, deadline)
    return _placed(resources, cores, rates, objective, seed, 1.0, progress, deadline)


class _Placed(NamedTuple):
    """Cores, their places, and what is known of them; links are of cores, or tiles of them."""

    cores: Sequence[Sequence[Block]]
    places: NDArray[np.int64]
    between: Traffic
    links: Links
    usage: NDArray[np.int64]


def _placed_by_tiles(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    rates: MappingType[str, NDArray[np.float64]],
    seed: int,
    progress: Callable[[str], None] | None,
    deadline: Callable[[], bool] | None,
) -> _Placed:
    """Place tiles that cores fill in their order."""
    from pmsm_hw.workers import workers_for

    chip = resources.chip
    per_tile = chip.mesh.cores_per_tile.value
    between = core_traffic(resources, cores, rates, group=per_tile)
    if progress is not None:
        progress("counting every core")
    n_groups = -(-len(cores) // per_tile)
    links = links_of(between, n_groups)
    tiles = np.zeros(n_groups, np.int64)
    usage = np.zeros((len(cores), len(RESOURCES)), np.int64)

    def find(what: str) -> None:
        if what == "places":
            tiles[:] = place(
                chip, links, per_tile=1, seed=seed, progress=progress, deadline=deadline
            )
        else:
            usage[:] = count_usage(resources, cores)

    workers_for(True).map(find, ["places", "usage"])  # at the same time
    places = (tiles[:, None] * per_tile + np.arange(per_tile)).reshape(-1)[: len(cores)]
    return _Placed(cores, places, between, links, usage)


def _placed(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    rates: MappingType[str, NDArray[np.float64]],
    objective: Objective,
    seed: int,
    effort: float,
    progress: Callable[[str], None] | None,
    deadline: Callable[[], bool] | None,
) -> _Placed:
    """Place cores one by one, and exchange bundles of their blocks."""
    bundles = bundles_of(resources, cores)
    apart = core_traffic(resources, bundles.blocks, rates)
    places, home = place_bundles(
        resources.chip,
        links_of(apart, len(bundles.blocks)),
        bundles,
        any_kind=objective == "cores",
        seed=seed,
        effort=effort,
        progress=progress,
        deadline=deadline,
    )
    between = apart.gathered(home)
    links = links_of(between, len(cores))
    usage = np.zeros((len(cores), len(RESOURCES)), np.int64)
    np.add.at(usage, home, bundles.need[:, : len(RESOURCES)])
    cores = bundles.cores(home, [p.name for p in resources.placed])
    return _Placed(cores, places, between, links, usage)


def _most_cores(chip: Chip, n_cores: int, bound: int) -> int:
    """Cores that a cut may take for short ways, where another one takes so many."""
    most = _MORE_CORES * n_cores
    if n_cores <= _NEAR_BOUND * bound:
        most = min(most, _NEAR_BOUND * bound)
    per_chip = chip.n_cores // chip.n_chips
    n_chips = int(_MORE_CORES * -(-n_cores // per_chip))  # no second chip where one does
    return min(int(most), n_chips * per_chip, chip.n_cores)


def _over_random(chip: Chip, placed: _Placed) -> float:
    """How far messages between cores go, against places at random on the same tiles."""
    per_tile = chip.mesh.cores_per_tile.value
    chance = mean_distance(chip, np.unique(placed.places // per_tile), per_tile)
    inside = replace(placed.links, io=np.zeros_like(placed.links.io))
    return total_hops(chip, inside, placed.places) / max(
        chance * float(placed.links.sent.sum()), 1e-300
    )


def _nearest(
    resources: Resources,
    others: Iterator[Cut],
    rates: MappingType[str, NDArray[np.float64]],
    n_cores: int,
    seed: int,
    progress: Callable[[str], None] | None,
    deadline: Callable[[], bool] | None,
) -> _Placed | None:
    """Find the first cut with short ways (`_over_random`) when placed roughly, or the shortest.

    ``None``: there is no other, or no time.
    """
    least, nearest = np.inf, None
    most = int(np.clip(_CORES_TRIED // n_cores, 2, _MOST_TRIED))
    for i, cut in enumerate(islice(others, most)):
        if deadline is not None and deadline():
            break
        if progress is not None:
            progress(f"placing: another cut, {i + 1} of at most {most}")
        cores = pack(resources, cut.blocks, cut.entries)
        placed = _placed(resources, cores, rates, "cores", seed, _ROUGHLY, None, deadline)
        far = _over_random(resources.chip, placed)
        if far < least:
            least, nearest = far, placed
        if far <= _FAR:
            break
    return nearest


def _deadline(time_limit_s: float | None) -> Callable[[], bool] | None:
    if time_limit_s is None:
        return None
    seconds = number(
        MappingError, "time limit", "time_limit_s", time_limit_s, above=0.0,
        remedy="give seconds, or None for no limit",
    )  # fmt: skip
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def too_many_cores(resources: Resources, cores: Sequence[Sequence[Block]]) -> CapacityError:
    """Error that says which population takes most cores."""
    chip, network = resources.chip, resources.network
    share: dict[str, int] = {}
    for blocks in cores:
        share[blocks[0].population] = share.get(blocks[0].population, 0) + 1
    largest = max(share, key=lambda name: share[name])
    return CapacityError(
        f"network '{network.name}'",
        f"needs {len(cores):,} cores (population '{largest}' alone {share[largest]:,}), chip "
        f"'{chip.name}' has {chip.n_cores:,}",
        remedy="use a larger chip or board (pmsm-hw chips list)",
        actual=len(cores),
        limit=chip.n_cores,
    )


def build_mapping(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    places: NDArray[np.int64],
    between: Traffic,
    *,
    links: Links | None = None,
    usage: NDArray[np.int64] | None = None,
    objective: Objective,
    seed: int,
    bound: int | None = None,
) -> Mapping:
    """Put together a `Mapping` from packed cores and their places, and check it.

    ``links`` (`links_of`) and ``usage`` (`count_usage`) are found anew by default.
    """
    network, chip = resources.network, resources.chip
    order = np.argsort(places, kind="stable")
    usage = count_usage(resources, cores) if usage is None else usage
    loads, metrics = measure(chip, places, between, links)
    limits = capacity(chip)
    metrics["n_cores"] = len(cores)
    if bound is not None:
        metrics["lower_bound"] = bound
    tiles = {chip.tile_of(place) for place in places.tolist()}
    metrics["n_tiles"] = len(tiles)
    metrics["n_chips"] = len({chip.chip_of(*tile) for tile in tiles})
    for i, name in enumerate(RESOURCES):
        metrics[f"mean_utilisation_{name}"] = float(usage[:, i].mean() / limits[i])
        metrics[f"max_utilisation_{name}"] = float(usage[:, i].max() / limits[i])
    mapping = Mapping(
        network_fingerprint=network.fingerprint,
        network_name=network.name,
        chip=chip,
        blocks=tuple(
            Block(
                population=block.population,
                channels=block.channels,
                rows=block.rows,
                columns=block.columns,
                core=place,
            )
            for blocks, place in zip(cores, places.tolist(), strict=True)
            for block in blocks
        ),
        spike_modes=dict(resources.spike_modes),
        objective=objective,
        seed=seed,
        usage=usage[order],
        link_load=loads,
        metrics=metrics,
    )
    check(network, mapping, chip, resources=resources, usage=usage[order])
    return mapping
