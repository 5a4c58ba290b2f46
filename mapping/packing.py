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
_TRIES = 16
"""How many of them may fail on configurations before a new core is opened."""


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
    smallest = share_of.min(axis=0, initial=1.0)
    # largest first, into the core whose room has most nearly the same proportions
    order = np.argsort(-share_of.max(axis=1), kind="stable")
    cores: list[_Core] = []
    free = np.zeros((_OPEN_CORES, 4), np.int64)
    owner = np.full(_OPEN_CORES, -1, np.int64)
    n_open = 0
    for at in order.tolist():
        block, need = ordered[at], needs[at]
        name = block.population
        new = _Core([at], {name}, _thresholds(resources, block), formats[name])
        slot = _choose(resources, cores, owner, new, free[:n_open], need, capacity)
        if slot is not None:
            core = cores[owner[slot]]
            core.blocks.append(at)
            core.populations |= new.populations
            core.thresholds |= new.thresholds
            core.formats = core.formats | new.formats
            free[slot] -= need
            continue
        cores.append(new)
        room = capacity - need
        if (room < smallest * capacity).any():
            continue
        if n_open == _OPEN_CORES:  # close the one with least room
            tightest = int((free / capacity).min(axis=1).argmin())
            free[tightest:-1] = free[tightest + 1 :]
            owner[tightest:-1] = owner[tightest + 1 :]
            n_open -= 1
        free[n_open], owner[n_open] = room, len(cores) - 1
        n_open += 1
    packed = sorted(sorted(core.blocks) for core in cores)
    return [[ordered[at] for at in found] for found in packed]


def _choose(
    resources: Resources,
    cores: list[_Core],
    owner: NDArray[np.int64],
    new: _Core,
    free: NDArray[np.int64],
    need: NDArray[np.int64],
    capacity: NDArray[np.int64],
) -> int | None:
    """Open core that a block joins."""
    fitting = np.flatnonzero((free >= need).all(axis=1))
    if not fitting.size:
        return None
    room = free[fitting] / capacity
    likeness = (room @ (need / capacity)) / np.maximum(np.sqrt((room**2).sum(axis=1)), 1e-9)
    for slot in fitting[np.argsort(-likeness, kind="stable")[:_TRIES]].tolist():
        if _suits(resources, cores[owner[slot]], new):
            return int(slot)
    return None


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
