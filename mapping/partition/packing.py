"""Which blocks share a core: cores are filled one after the other, each as well as it can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import INPUT_AXONS, OUTPUT_AXONS, Block
from pmsm_hw.mapping.partition.grids import (
    UNPLACED,
    Grid,
    edges_of,
    entries_before,
    grid_blocks,
)
from pmsm_hw.mapping.partition.tables import HELD
from pmsm_hw.mapping.resources.usage import sums_in

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Quantity
    from pmsm_hw.mapping.resources import Resources
    from pmsm_hw.mapping.resources.neurons import ParameterSet

__all__ = ["block_needs", "count_cores", "pack"]

_MOST_KINDS = 4096
"""Kinds of blocks to tell apart; beyond, needs are rounded up until there are no more."""
_ROUNDING = 1e-9
"""How far needs may lie above a core's limits before nothing fits for sure."""
_WAYS = ((0, 1, 4.0), (0, 2, 2.0), (1, 2, 2.0), (2, 1, 2.0), (2, 2, 2.0), (2, 2, 4.0))
"""Rule, first block and power of `pack_kernels.fill_cores` to try."""


def block_needs(
    resources: Resources,
    blocks: Iterable[Block],
    entries: MappingType[str, NDArray[np.int64] | None],
) -> NDArray[np.int64]:
    """What each block needs of each of `RESOURCES`, ``(n, 4)`` int64; no entries count as 0."""
    needs = []
    by_population: dict[str, tuple[list[int], list[Block]]] = {}
    for i, block in enumerate(blocks):
        axons, bits = resources.needs_alone(block)
        n_compartments = block.n_neurons * resources.compartments(block.population)
        needs.append((n_compartments, axons, 0, bits))
        at, mine = by_population.setdefault(block.population, ([], []))
        at.append(i)
        mine.append(block)
    table = np.array(needs, np.int64).reshape(-1, 4)
    for name, (at, mine) in by_population.items():
        values = entries[name]
        if values is not None:
            table[at, OUTPUT_AXONS] = sums_in(values, mine)
    return table


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
        Blocks of each core, cores in the order of the blocks that hear and send most.
    """
    ordered = [block for found in blocks.values() for block in found]
    if not share or not ordered:
        return [[block] for block in ordered]
    kind_of, needs, examples = _kinds(resources, ordered, entries)
    each, start, kinds, puts = _filled(resources, needs, np.bincount(kind_of), examples)
    # blocks of a kind go in their order onto the cores that want one: those of each pattern from
    # the first to the last block, so that a core's blocks come from about the same part of an image
    n_cores = np.cumsum(each)
    wanting, kind, part = [], [], []
    for i, times in enumerate(each.tolist()):
        core = np.arange(n_cores[i] - times, n_cores[i])
        for e in range(start[i], start[i + 1]):
            wanting.append(np.repeat(core, puts[e]))
            kind.append(np.full(len(wanting[-1]), kinds[e]))
            part.append(np.repeat((np.arange(times) + 0.5) / times, puts[e]))
    order = np.lexsort((np.concatenate(part), np.concatenate(kind)))
    home = np.empty(len(ordered), np.int64)
    home[np.argsort(kind_of, kind="stable")] = np.concatenate(wanting)[order]
    cores = np.split(np.argsort(home, kind="stable"), np.cumsum(np.bincount(home))[:-1])
    # the block that hears and sends most says where its core belongs
    most_traffic = (needs[:, INPUT_AXONS] + needs[:, OUTPUT_AXONS])[kind_of]
    cores.sort(key=lambda found: int(found[most_traffic[found].argmax()]))
    return [_joined(resources, [ordered[at] for at in found.tolist()]) for found in cores]


def _joined(resources: Resources, blocks: list[Block]) -> list[Block]:
    """Join neighbours along channels that share a core, where that takes nothing more."""
    found = blocks[:1]
    for block in blocks[1:]:
        last = found[-1]
        if (
            block.population == last.population
            and block.channels[0] == last.channels[1]
            and block.rows == last.rows
            and block.columns == last.columns
        ):
            whole = replace(last, channels=(last.channels[0], block.channels[1]))
            parts = (last, block)
            plain = [
                resources.n_plain(b.population, b.channels, b.rows, b.columns)
                for b in (*parts, whole)
            ]
            bits = [resources.needs_alone(b)[1] for b in (*parts, whole)]
            if plain[0] == plain[1] == plain[2] and bits[2] <= bits[0] + bits[1]:
                found[-1] = whole
                continue
        found.append(block)
    return found


def count_cores(
    resources: Resources,
    grids: MappingType[str, Grid],
    entries: dict[str, NDArray[np.int64]],
) -> int:
    """Cores that `pack` fills with the blocks of grids."""
    limit = resources.chip.limits.threshold_configurations
    if limit is not None and not all(map(resources.has_one_threshold, grids)):
        ordered = [
            block for name in grids for block in grid_blocks(resources.network[name], grids[name])
        ]
        kind_of, needs, examples = _kinds(resources, ordered, entries)
        return int(_filled(resources, needs, np.bincount(kind_of), examples)[0].sum())
    names = list(grids)
    known: dict[tuple[object, ...], NDArray[np.int64]] = {}  # by cut and entries
    by_name = []
    for name in names:
        key = (resources.like(name), grids[name].how, id(entries[name]))
        if key not in known:
            known[key] = _grid_needs(resources, grids[name], entries[name])
        by_name.append(known[key])
    held = np.repeat(np.arange(len(names)), [len(needs) for needs in by_name])
    kind_of, shares, first = _alike(resources, held, np.concatenate(by_name))
    examples = [
        Block(population=name, channels=(0, 1), rows=(0, 1), columns=(0, 1), core=UNPLACED)
        for name in (names[h] for h in held[first].tolist())
    ]
    return int(_filled(resources, shares, np.bincount(kind_of), examples)[0].sum())


def _grid_needs(resources: Resources, grid: Grid, entries: NDArray[np.int64]) -> NDArray[np.int64]:
    """As `block_needs`, of the blocks of a grid."""
    rows, columns = edges_of(grid.shape[1], grid.rows), edges_of(grid.shape[2], grid.columns)
    before = entries_before(entries, rows, columns)
    known: dict[tuple[object, ...], NDArray[np.int64]] = {}
    edges: dict[int, NDArray[np.int64]] = {}
    found = []
    for i, (y, x, entry) in enumerate(grid.cells()):
        key = (entry, *resources.cell_key(grid.population, y, x))
        if key not in known:
            blocks = [
                Block(population=grid.population, channels=c, rows=y, columns=x, core=UNPLACED)
                for c in grid.along_channels(entry)
            ]
            edges[entry] = np.array([0, *(b.channels[1] for b in blocks)])
            known[key] = block_needs(resources, blocks, {grid.population: None})
        needs = known[key].copy()
        needs[:, OUTPUT_AXONS] = np.diff(before[i][edges[entry]])
        found.append(needs)
    return np.concatenate(found)


def _filled(
    resources: Resources,
    needs: NDArray[np.float64],
    counts: NDArray[np.int64],
    examples: Sequence[Block],
) -> tuple[NDArray[np.int64], ...]:
    """How often each pattern, and which: the best of several ways to choose what suits a core."""
    from pmsm_hw.mapping.partition.pack_kernels import fill_cores

    # kinds that leave no room for anything need no search, which takes their number squared
    alone = (needs + needs.min(axis=0) > 1 + _ROUNDING).any(axis=1)
    if alone.all() or (alone.any() and len(needs) > _MOST_KINDS):
        kinds = np.flatnonzero(alone)
        found = (counts[kinds], np.arange(len(kinds) + 1), kinds, np.ones_like(kinds))
        if alone.all():
            return found
        rest = np.flatnonzero(~alone)
        some = [examples[kind] for kind in rest.tolist()]
        times, start, others, puts = _filled(resources, needs[rest], counts[rest], some)
        return (
            np.concatenate([found[0], times]),
            np.concatenate([found[1], start[1:] + len(kinds)]),
            np.concatenate([kinds, rest[others]]),
            np.concatenate([found[3], puts]),
        )
    holds, most = _held(resources, examples)
    best: tuple[NDArray[np.int64], ...] | None = None
    fewest = 0
    for rule, first, power in _WAYS:
        n_cores, times, start, kinds, puts = fill_cores(
            needs, counts, holds, most, power, rule, first
        )
        if best is None or n_cores < fewest:
            fewest = n_cores
            best = (times, start, kinds, puts)
    assert best is not None
    return best


def _kinds(
    resources: Resources, blocks: Sequence[Block], entries: dict[str, NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[Block]]:
    """Kind of each block; what a block of each kind needs (`pack_kernels.fill_cores`), and one."""
    needs = block_needs(resources, blocks, entries)
    position: dict[object, int] = {}
    # populations decide which formats a core holds, and thresholds may differ within one
    held = np.array(
        [
            position.setdefault((b.population, _thresholds(resources, b)), len(position))
            for b in blocks
        ]
    )
    kind_of, shares, first = _alike(resources, held, needs)
    return kind_of, shares, [blocks[at] for at in first.tolist()]


def _alike(
    resources: Resources, held: NDArray[np.int64], needs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Kind of each block, share of a core's limits that each kind needs, and an example of each."""
    limits = resources.chip.limits
    capacity = np.array(
        [
            limits.neurons.value,
            limits.input_axons.value,
            limits.output_axons.value,
            limits.synapse_memory_bits.value,
        ]
    )
    share = needs / capacity
    grain = 0
    while True:
        table = np.column_stack([held, needs])
        first, kind_of = np.unique(table, axis=0, return_index=True, return_inverse=True)[1:]
        if len(first) <= _MOST_KINDS or grain == 1:
            return kind_of.reshape(-1), needs[first] / capacity, first
        grain = grain // 2 if grain else 1024
        needs = np.ceil(share * grain).astype(np.int64)
        capacity = np.full(4, grain)


def _held(resources: Resources, blocks: Sequence[Block]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Thresholds, populations and formats of blocks, where a core can have only so many."""
    limits = resources.chip.limits
    columns: list[NDArray[np.bool_]] = []
    most: list[tuple[int, int, int]] = []
    n = 0
    groups: tuple[tuple[Quantity[int] | None, list[list[object]]], ...] = (
        (limits.threshold_configurations, [list(_thresholds(resources, b)) for b in blocks]),
        (limits.neuron_configurations, [[b.population] for b in blocks]),
        (
            limits.synapse_configurations,
            [[f for w in resources.into(b.population) for f in w.formats] for b in blocks],
        ),
    )
    for limit, values in groups:
        index = {v: i for i, v in enumerate(dict.fromkeys(v for some in values for v in some))}
        if limit is None or len(index) <= limit.value:
            continue
        table = np.zeros((len(blocks), len(index)), bool)
        for row, some in zip(table, values, strict=True):
            row[[index[v] for v in some]] = True
        columns.append(table)
        most.append((n, n + len(index), limit.value))
        n += len(index)
    holds = np.concatenate([np.zeros((len(blocks), 0), bool), *columns], axis=1)
    return holds, np.array(most, HELD)


def _thresholds(resources: Resources, block: Block) -> tuple[ParameterSet, ...]:
    if resources.chip.limits.threshold_configurations is None:
        return ()
    return resources.thresholds_of(block)
