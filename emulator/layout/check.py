"""Whether a mapping holds every neuron once, on cores that exist and are not overfull."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pmsm_hw.errors import MappingError
from pmsm_hw.network import Input, Network
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Mapping

__all__ = ["check_blocks"]


def check_blocks(network: Network, mapping: Mapping) -> None:
    """Every neuron exactly once, on cores that exist and are not overfull."""
    n_cores = mapping.chip.n_cores
    limit = mapping.chip.limits.neurons.value
    held: dict[int, int] = {}
    for block in mapping.blocks:
        if block.population not in network or isinstance(network[block.population], Input):
            raise MappingError(
                f"mapping of '{mapping.network_name}'",
                f"places '{block.population}', which is no population on cores",
                remedy="map this network anew",
                actual=block.population,
                limit=tuple(p.name for p in network if not isinstance(p, Input)),
            )
        if not 0 <= block.core < n_cores:
            raise MappingError(
                f"mapping of '{mapping.network_name}'",
                f"places '{block.population}' on core {block.core}, chip '{mapping.chip.name}' has "
                f"cores 0 to {n_cores - 1}",
                remedy="map this network anew",
                actual=block.core,
                limit=n_cores,
            )
        held[block.core] = held.get(block.core, 0) + block.n_neurons
    for core, n in held.items():
        if n > limit:
            raise MappingError(
                f"core {core}",
                f"holds {n:,} neurons, chip '{mapping.chip.name}' has room for {limit:,}",
                remedy="map this network anew",
                actual=n,
                limit=limit,
            )
    _check_usage(mapping)
    for population in network:
        if isinstance(population, Input):
            continue
        times = np.zeros(chw(population.shape), np.int64)
        for block in mapping.blocks_in(population.name):
            ranges = (block.channels, block.rows, block.columns)
            if any(not 0 <= a < b <= n for (a, b), n in zip(ranges, times.shape, strict=True)):
                raise MappingError(
                    population.subject,
                    f"has a block {ranges}, its neurons are {times.shape}",
                    remedy="map this network anew",
                    actual=ranges,
                    limit=times.shape,
                )
            times[block.slices()] += 1
        wrong = int(np.count_nonzero(times != 1))
        if wrong:
            raise MappingError(
                population.subject,
                f"{wrong:,} of {population.n_neurons:,} neurons are not on exactly 1 core",
                remedy="map this network anew",
                actual=wrong,
                limit=0,
            )


def _check_usage(mapping: Mapping) -> None:
    from pmsm_hw.mapping.assignment import RESOURCES

    for core, used in zip(mapping.cores, mapping.usage.tolist(), strict=False):
        for resource, n in zip(RESOURCES, used, strict=True):
            limit = getattr(mapping.chip.limits, resource).value
            if n > limit:
                raise MappingError(
                    f"core {core}",
                    f"uses {n:,} {resource}, chip '{mapping.chip.name}' has {limit:,}",
                    remedy="map this network anew",
                    actual=n,
                    limit=limit,
                )
