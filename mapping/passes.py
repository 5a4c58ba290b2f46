"""Passes of the mapper: each is a frozen value with its settings, and takes a draft one step on.

`Partition` cuts populations into blocks, `Pack` puts blocks onto cores, `PlaceFewest` or
`PlaceSpread` finds places for them, `Assign` makes the mapping of it and checks it. What a pass
returns is verified before the next one sees it (`verify`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError, MappingError
from pmsm_hw.mapping.assignment import Mapping, check_counts
from pmsm_hw.mapping.blocks import RESOURCES, Block
from pmsm_hw.mapping.objectives import expect, expected_rates, spread
from pmsm_hw.mapping.partition.excess import check_formats
from pmsm_hw.mapping.partition.packing import pack
from pmsm_hw.mapping.partition.tiling import cut_network
from pmsm_hw.mapping.placement.metrics import measure
from pmsm_hw.mapping.placement.placed import (
    Placed,
    over_random,
    place_anyhow,
    place_at,
    place_cores,
)
from pmsm_hw.mapping.resources.usage import capacity, count_usage
from pmsm_hw.mapping.routing.traffic import core_traffic

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.mapping.partition.tiling import Cut
    from pmsm_hw.mapping.placement.places import Links
    from pmsm_hw.mapping.resources import Resources
    from pmsm_hw.mapping.routing.traffic import Traffic
    from pmsm_hw.mapping.settings import Settings

__all__ = [
    "Assign",
    "Draft",
    "Pack",
    "Partition",
    "Pass",
    "PlaceFewest",
    "PlaceSpread",
    "build_mapping",
    "most_cores",
    "passes_for",
    "verify",
]

_ONE_BY_ONE = 16_384
_MORE_CORES, _NEAR_BOUND = 1.04, 1.15
"""Cores, and chips, that another cut may take so many more of, if that does not leave the bound's
neighbourhood."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is known of a mapping while it is made.

    Parameters
    ----------
    resources
        Of network and chip.
    rates
        Messages of each neuron, by population.
    measured
        Whether these were measured, or are assumed.
    cut
        How populations are cut into blocks.
    cores
        Blocks of each core.
    placed
        Cores at their places.
    mapping
        The result.
    """

    resources: Resources
    rates: MappingType[str, NDArray[np.float64]]
    measured: bool = False
    cut: Cut | None = None
    cores: Sequence[Sequence[Block]] | None = None
    placed: Placed | None = None
    mapping: Mapping | None = None


class Pass(Protocol):
    """A step of the mapper."""

    def run(self, draft: Draft) -> Draft:
        """Take a draft one step on; the given one stays as it is."""


def verify(draft: Draft) -> None:
    """Raise unless what is known of a mapping is one: every neuron once, on cores that exist.

    Parameters
    ----------
    draft
        What a pass returned.

    Raises
    ------
    MappingError
        Naming the population whose neurons are not all there, or the places that are not.
    CapacityError
        If there are more cores than the chip has, or the mapping exceeds a limit.
    """
    chip = draft.resources.chip
    if draft.cut is not None and draft.cores is None:
        _verify_blocks(draft, chain.from_iterable(draft.cut.blocks.values()))
    if draft.cores is not None and draft.placed is None:
        _verify_blocks(draft, chain.from_iterable(draft.cores))
        if len(draft.cores) > chip.n_cores:
            raise _too_many_cores(draft.resources, draft.cores)
    if draft.placed is not None and draft.mapping is None:
        _verify_blocks(draft, chain.from_iterable(draft.placed.cores))
        places = draft.placed.places
        n = len(draft.placed.cores)
        if len(np.unique(places)) != n or places.min() < 0 or places.max() >= chip.n_cores:
            raise MappingError(
                f"placement of '{draft.resources.network.name}'",
                f"puts {n:,} cores on {len(np.unique(places)):,} places from {places.min():,} to "
                f"{places.max():,}, chip '{chip.name}' has {chip.n_cores:,}",
                remedy="use a pass that places each core once",
                actual=len(np.unique(places)),
                limit=n,
            )


def _verify_blocks(draft: Draft, blocks: Iterator[Block]) -> None:
    held: Counter[str] = Counter()
    for block in blocks:
        held[block.population] += block.n_neurons
    for population in draft.resources.placed:
        if held[population.name] != population.n_neurons:
            raise MappingError(
                population.subject,
                f"has blocks of {held[population.name]:,} neurons, it has {population.n_neurons:,}",
                remedy="use a pass that keeps every neuron once",
                actual=held[population.name],
                limit=population.n_neurons,
            )


def passes_for(settings: Settings) -> tuple[Pass, ...]:
    """Passes that make a mapping from a draft that knows resources and rates."""
    place = PlaceFewest if settings.objective == "cores" else PlaceSpread
    return (
        Partition(settings=settings),
        Pack(settings=settings),
        place(settings=settings),
        Assign(settings=settings),
    )


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Cut populations into blocks that fit a core.

    Parameters
    ----------
    settings
        Of the mapping.
    """

    settings: Settings

    def run(self, draft: Draft) -> Draft:
        """Find the cut."""
        check_formats(draft.resources)
        return replace(draft, cut=cut_network(draft.resources, self.settings))


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Put blocks onto as few cores as will hold them.

    Parameters
    ----------
    settings
        Of the mapping.
    """

    settings: Settings

    def run(self, draft: Draft) -> Draft:
        """Fill cores."""
        cut = draft.cut
        assert cut is not None
        self.settings.say(f"packing {sum(map(len, cut.blocks.values())):,} blocks")
        return replace(draft, cores=pack(draft.resources, cut.blocks, cut.entries))


@dataclass(frozen=True, kw_only=True)
class PlaceFewest:
    """Place the fewest cores; where messages go far then, look for a cut whose go less far.

    Parameters
    ----------
    settings
        Of the mapping.
    far
        Where messages go further than this share of chance, other cuts are tried.
    one_by_one
        Networks of more cores are placed tile by tile.
    roughly, thoroughly
        Effort of the search for their places, and for those of the one that is taken.
    most_tried, cores_tried
        Other cuts that are tried at most; cores of all of them.
    """

    settings: Settings
    far: float = 0.5
    one_by_one: int = _ONE_BY_ONE
    roughly: float = 0.3
    thoroughly: float = 3.0
    most_tried: int = 64
    cores_tried: int = 12_288

    def run(self, draft: Draft) -> Draft:
        """Find places."""
        return replace(draft, placed=self._placed(draft))

    def _placed(self, draft: Draft) -> Placed:
        resources, cores, cut = draft.resources, draft.cores, draft.cut
        assert cores is not None
        assert cut is not None
        chip, settings = resources.chip, self.settings
        placed = place_anyhow(resources, cores, draft.rates, settings, self.one_by_one)
        late = settings.is_late
        if len(cores) > self.one_by_one or cut.others is None or late:
            return placed
        if over_random(chip, placed) <= self.far:
            return placed
        others = cut.others(most_cores(chip, len(cores), cut.bound.cores))
        found = self._nearest(draft, others, len(cores))
        tried = [placed] if found is None else [placed, found]
        nearest = min(tried, key=lambda one: over_random(chip, one))
        again = place_cores(resources, nearest.cores, draft.rates, settings, self.thoroughly)
        return min(nearest, again, key=lambda one: over_random(chip, one))

    def _nearest(self, draft: Draft, others: Iterator[Cut], n_cores: int) -> Placed | None:
        """Find the first cut with short ways when placed roughly, or the shortest.

        ``None``: there is no other, or no time.
        """
        resources, settings = draft.resources, self.settings
        quiet = replace(settings, progress=None)
        least, nearest = np.inf, None
        most = int(np.clip(self.cores_tried // n_cores, 2, self.most_tried))
        for i, cut in enumerate(islice(others, most)):
            if settings.is_late:
                break
            settings.say(f"placing: another cut, {i + 1} of at most {most}")
            cores = pack(resources, cut.blocks, cut.entries)
            placed = place_cores(resources, cores, draft.rates, quiet, self.roughly)
            far = over_random(resources.chip, placed)
            if far < least:
                least, nearest = far, placed
            if far <= self.far:
                break
        return nearest


def most_cores(chip: Chip, n_cores: int, bound: int) -> int:
    """Cores that a cut may take for short ways, where another one takes so many.

    Parameters
    ----------
    chip
        Whose cores.
    n_cores, bound
        Cores that the cut with fewest takes, and that any takes at least.
    """
    most = _MORE_CORES * n_cores
    if n_cores <= _NEAR_BOUND * bound:
        most = min(most, _NEAR_BOUND * bound)
    per_chip = chip.n_cores // chip.n_chips
    n_chips = int(_MORE_CORES * -(-n_cores // per_chip))  # no second chip where one does
    return min(int(most), n_chips * per_chip, chip.n_cores)


@dataclass(frozen=True, kw_only=True)
class PlaceSpread:
    """Use free cores (`objectives.spread`) for low latency or energy.

    What each of latency and energy would take is placed, and the one that costs less then is taken:
    neither is to be better at what the other one is for.

    Parameters
    ----------
    settings
        Of the mapping.
    one_by_one
        Networks of more cores are placed tile by tile.
    """

    settings: Settings
    one_by_one: int = _ONE_BY_ONE

    def run(self, draft: Draft) -> Draft:
        """Find cores and places."""
        return replace(draft, placed=self._placed(draft))

    def _placed(self, draft: Draft) -> Placed:
        resources, rates, cores, cut = draft.resources, draft.rates, draft.cores, draft.cut
        assert cores is not None
        assert cut is not None
        settings, one_by_one = self.settings, self.one_by_one
        expected = expected_rates(resources.network, resources.spike_modes, rates, draft.measured)
        starts = [cores]
        if cut.frugal is not None:
            starts.append(pack(resources, cut.frugal.blocks, cut.frugal.entries))
        found = spread(resources, starts, cut, expected, settings)
        if found[0][1] is None or settings.is_late:
            return place_anyhow(resources, found[0][0], rates, settings, one_by_one)
        placed: list[Placed] = []
        for some, places in found:
            placed.append(place_anyhow(resources, some, rates, settings, one_by_one))
            if places is not None:
                placed.append(place_at(resources, some, places, rates))
        if any(len(one.cores) == len(cores) for one in placed):
            fewest = replace(settings, objective="cores")
            placed.append(place_anyhow(resources, cores, rates, fewest, one_by_one))

        def cost(one: Placed) -> tuple[float, float]:
            between = core_traffic(resources, one.cores, expected)
            expectation = expect(resources, one.cores, expected, between, one.places)
            return expectation.of(settings.objective)

        return min(placed, key=cost)


@dataclass(frozen=True, kw_only=True)
class Assign:
    """Make the mapping of placed cores, with its metrics, and check it.

    Parameters
    ----------
    settings
        Of the mapping.
    """

    settings: Settings

    def run(self, draft: Draft) -> Draft:
        """Put the mapping together."""
        placed, cut = draft.placed, draft.cut
        assert placed is not None
        assert cut is not None
        self.settings.say("checking every core")
        mapping = build_mapping(
            draft.resources, placed.cores, placed.places, placed.between, self.settings,
            links=placed.links, usage=placed.usage, bound=cut.bound.cores,
        )  # fmt: skip
        return replace(draft, mapping=mapping)


def _too_many_cores(resources: Resources, cores: Sequence[Sequence[Block]]) -> CapacityError:
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


def _of_models(resources: Resources) -> dict[str, float]:
    """Metrics that networks with delays of synapses, or several compartments a neuron, have."""
    metrics: dict[str, float] = {}
    wires = [w for w in resources.wires.values() if w.projection.delays is not None]
    if wires:
        metrics["longest_delay_steps"] = max(wire.longest_delay for wire in wires)
    placed = resources.placed
    compartments = sum(p.n_neurons * resources.compartments(p.name) for p in placed)
    if compartments > sum(p.n_neurons for p in placed):
        metrics["compartments"] = compartments
    return metrics


def build_mapping(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    places: NDArray[np.int64],
    between: Traffic,
    settings: Settings,
    *,
    links: Links | None = None,
    usage: NDArray[np.int64] | None = None,
    bound: int | None = None,
) -> Mapping:
    """Put together a `Mapping` from packed cores and their places, and check it.

    ``links`` (`links_of`) and ``usage`` (`count_usage`) are found again by default.
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
    metrics |= _of_models(resources)
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
        objective=settings.objective,
        seed=settings.seed,
        usage=usage[order],
        link_load=loads,
        metrics=metrics,
    )
    check_counts(network, mapping, chip, resources=resources, usage=usage[order])
    return mapping
