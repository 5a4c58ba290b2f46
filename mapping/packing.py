"""Which blocks share a core: largest first, each where the room suits it best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import PolarityMultiSpike

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Block
    from pmsm_hw.mapping.resources import Resources

__all__ = ["block_needs", "pack"]

_OPEN_CORES = 768
"""How many cores that still have room are looked at for each block: keeps the time linear."""


@dataclass
class _Core:
    blocks: list[int]
    populations: set[str]
    thresholds: set[int]
    formats: set[tuple[int, int, int]]


def block_needs(
    resources: Resources, blocks: Iterable[Block], entries: dict[str, NDArray[np.int64]]
) -> NDArray[np.int64]:
    """What each block needs of each of `RESOURCES`, ``(n, 4)`` int64."""
    known: dict[tuple[object, ...], tuple[int, int]] = {}
    needs = []
    for block in blocks:
        key = resources.block_key(block)
        if key not in known:
            known[key] = (resources.input_axons([block]), resources.synapse_bits([block]))
        axons, bits = known[key]
        sent = int(entries[block.population][block.slices()].sum())
        needs.append((block.n_neurons, axons, sent, bits))
    return np.array(needs, np.int64).reshape(-1, 4)


def pack(
    resources: Resources,
    blocks: dict[str, list[Block]],
    entries: dict[str, NDArray[np.int64]],
    *,
    share: bool = True,
) -> list[list[Block]]:
    """Put blocks onto cores.

    Parameters
    ----------
    resources
        Of network and chip.
    blocks
        By population, in topological order; each fits a core by itself.
    entries
        By population, output-axon entries of each neuron if every block had its own core: sharing
        only lowers them.
    share
        Whether blocks may share a core.

    Returns
    -------
    list of lists
        Blocks of each core, cores in the order of their first block.
    """
    ordered = [block for found in blocks.values() for block in found]
    if not share:
        return [[block] for block in ordered]
    limits = resources.chip.limits
    capacity = np.array(
        [
            limits.neurons.value,
            limits.input_axons.value,
            limits.output_axons.value,
            limits.synapse_memory_bits.value,
        ]
    )
    needs = block_needs(resources, ordered, entries)
    formats = {name: {f for w in resources.into(name) for f in w.formats} for name in blocks}
    share_of = needs / capacity
    smallest = (share_of.min(axis=0, initial=1.0) * capacity).astype(np.int64)
    position = {name: i for i, name in enumerate(blocks)}
    owner_population = np.array([position[block.population] for block in ordered])
    # largest first, equal ones together
    order = np.lexsort((*needs.T, owner_population, -share_of.max(axis=1)))
    cores: list[_Core] = []
    opened = _Open(capacity, smallest)
    start = 0
    while start < len(order):
        first = int(order[start])
        block, need = ordered[first], needs[first]
        thresholds = _thresholds(resources, block)
        same = [first]
        for at in order[start + 1 :].tolist():
            if owner_population[at] != owner_population[first] or (needs[at] != need).any():
                break
            if thresholds and _thresholds(resources, ordered[at]) != thresholds:
                break
            same.append(at)
        start += len(same)
        new = _Core([], {block.population}, thresholds, formats[block.population])
        for slot in opened.fitting(need):
            core = cores[opened.owner[slot]]
            if not same:
                break
            if _suits(resources, core, new):
                put = min(int((opened.free[slot] // np.maximum(need, 1)).min()), len(same))
                core.blocks += same[:put]
                core.populations = core.populations | new.populations
                core.thresholds = core.thresholds | new.thresholds
                core.formats = core.formats | new.formats
                opened.free[slot] -= put * need
                same = same[put:]
        each = max(1, int((capacity // np.maximum(need, 1)).min()))
        while same:
            put = min(each, len(same))
            cores.append(_Core(same[:put], new.populations, new.thresholds, new.formats))
            opened.add(len(cores) - 1, capacity - put * need)
            same = same[put:]
    packed = sorted(sorted(core.blocks) for core in cores)
    return [[ordered[at] for at in found] for found in packed]


class _Open:
    """Cores that still have room, at most so many that looking through them takes no time."""

    def __init__(self, capacity: NDArray[np.int64], smallest: NDArray[np.int64]) -> None:
        self.capacity, self.smallest = capacity, smallest
        self.free = np.zeros((_OPEN_CORES, 4), np.int64)
        self.owner = np.full(_OPEN_CORES, -1, np.int64)
        self.n = 0

    def fitting(self, need: NDArray[np.int64]) -> list[int]:
        """Slots with room for a block, those whose room has most nearly its proportions first."""
        fitting = np.flatnonzero((self.free[: self.n] >= need).all(axis=1))
        room = self.free[fitting] / self.capacity
        length = np.maximum(np.sqrt((room**2).sum(axis=1)), 1e-9)
        likeness = (room @ (need / self.capacity)) / length
        return [int(slot) for slot in fitting[np.argsort(-likeness, kind="stable")]]

    def add(self, core: int, room: NDArray[np.int64]) -> None:
        """Open a core, unless nothing fits into it any more."""
        if (room < self.smallest).any():
            return
        if self.n < _OPEN_CORES:
            slot = self.n
            self.n += 1
        else:  # in place of the one with least room
            slot = int((self.free / self.capacity).min(axis=1).argmin())
        self.free[slot], self.owner[slot] = room, core


def _thresholds(resources: Resources, block: Block) -> set[int]:
    from pmsm_hw.mapping.resources import theta_of

    if resources.chip.limits.threshold_configurations is None:
        return set()
    population = resources.network[block.population]
    if not isinstance(population, PolarityMultiSpike):
        return set()
    return set(np.unique(theta_of(population, block)).tolist())


def _suits(resources: Resources, core: _Core, new: _Core) -> bool:
    limits = resources.chip.limits
    return all(
        limit is None or len(values) <= limit.value
        for limit, values in (
            (limits.threshold_configurations, core.thresholds | new.thresholds),
            (limits.neuron_configurations, core.populations | new.populations),
            (limits.synapse_configurations, core.formats | new.formats),
        )
    )
