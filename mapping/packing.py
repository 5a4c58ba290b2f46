"""Which blocks share a core: cores are filled one after the other, each as well as it can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import PolarityMultiSpike

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Block
    from pmsm_hw.mapping.chip import Quantity
    from pmsm_hw.mapping.resources import Resources

__all__ = ["block_needs", "count_cores", "pack"]

_MOST_KINDS = 4096
"""Kinds of blocks to tell apart; beyond, needs are rounded up until there are no more."""
_WAYS = ((0, 1, 4.0), (0, 2, 2.0), (1, 2, 2.0), (2, 1, 2.0), (2, 2, 4.0))
"""Rule, first block and power of `pack_kernels.fill_cores` to try."""


def block_needs(
    resources: Resources, blocks: Iterable[Block], entries: dict[str, NDArray[np.int64]]
) -> NDArray[np.int64]:
    """What each block needs of each of `RESOURCES`, ``(n, 4)`` int64."""
    known: dict[tuple[object, ...], tuple[int, int]] = {}
    needs = []
    sums: dict[str, NDArray[np.int64]] = {}
    for block in blocks:
        key = resources.block_key(block)
        if key not in known:
            known[key] = (resources.input_axons([block]), resources.synapse_bits([block]))
        axons, bits = known[key]
        if block.population not in sums:
            sums[block.population] = _summed(entries[block.population])
        sent = _sum_in(sums[block.population], block)
        needs.append((block.n_neurons, axons, sent, bits))
    return np.array(needs, np.int64).reshape(-1, 4)


def _summed(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums over all that lies before each corner of a cell, one larger along each axis."""
    padded = np.zeros(tuple(n + 1 for n in values.shape), np.int64)
    inner = padded[1:, 1:, 1:]
    np.cumsum(values, axis=0, out=inner)
    np.cumsum(inner, axis=1, out=inner)
    np.cumsum(inner, axis=2, out=inner)
    return padded


def _sum_in(sums: NDArray[np.int64], block: Block) -> int:
    (c0, c1), (y0, y1), (x0, x1) = block.channels, block.rows, block.columns
    total = 0
    for c, sign in ((c1, 1), (c0, -1)):
        plane = sums[c]
        total += sign * int(plane[y1, x1] - plane[y0, x1] - plane[y1, x0] + plane[y0, x0])
    return total


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
    if not share or not ordered:
        return [[block] for block in ordered]
    kind_of, needs, holds, most = _kinds(resources, ordered, entries)
    counts = np.bincount(kind_of)
    each, start, kinds, puts = _filled(needs, counts, holds, most)
    # blocks of a kind go onto cores in their order
    by_kind = np.argsort(kind_of, kind="stable")
    next_of = (np.cumsum(counts) - counts).tolist()
    cores = []
    for i, times in enumerate(each.tolist()):
        content = list(
            zip(
                kinds[start[i] : start[i + 1]].tolist(),
                puts[start[i] : start[i + 1]].tolist(),
                strict=True,
            )
        )
        for _ in range(times):
            core: list[int] = []
            for kind, put in content:
                first = next_of[kind]
                core += by_kind[first : first + put].tolist()
                next_of[kind] = first + put
            cores.append(sorted(core))
    return [[ordered[at] for at in found] for found in sorted(cores)]


def count_cores(
    resources: Resources,
    blocks: dict[str, list[Block]],
    entries: dict[str, NDArray[np.int64]],
) -> int:
    """Cores that `pack` fills."""
    ordered = [block for found in blocks.values() for block in found]
    kind_of, needs, holds, most = _kinds(resources, ordered, entries)
    return int(_filled(needs, np.bincount(kind_of), holds, most)[0].sum())


def _filled(
    needs: NDArray[np.float64],
    counts: NDArray[np.int64],
    holds: NDArray[np.bool_],
    most: NDArray[np.int64],
) -> tuple[NDArray[np.int64], ...]:
    """How often each pattern, and which: the best of several ways to choose what suits a core."""
    from pmsm_hw.mapping.pack_kernels import fill_cores

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
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Kind of each block; what a block of each kind needs and holds (`pack_kernels.fill_cores`)."""
    limits = resources.chip.limits
    capacity = np.array(
        [
            limits.neurons.value,
            limits.input_axons.value,
            limits.output_axons.value,
            limits.synapse_memory_bits.value,
        ]
    )
    needs = block_needs(resources, blocks, entries)
    position: dict[object, int] = {}
    # populations decide which formats a core holds, and thresholds may differ within one
    held = np.array(
        [
            position.setdefault((b.population, _thresholds(resources, b)), len(position))
            for b in blocks
        ]
    )
    share = needs / capacity
    grain = 0
    while True:
        table = np.column_stack([held, needs])
        first, kind_of = np.unique(table, axis=0, return_index=True, return_inverse=True)[1:]
        if len(first) <= _MOST_KINDS or grain == 1:
            break
        grain = grain // 2 if grain else 1024
        needs = np.ceil(share * grain).astype(np.int64)
        capacity = np.full(4, grain)
    holds, most = _held(resources, [blocks[at] for at in first.tolist()])
    return kind_of.reshape(-1), needs[first] / capacity, holds, most


def _held(
    resources: Resources, blocks: Sequence[Block]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
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
    return holds, np.array(most, np.int64).reshape(-1, 3)


def _thresholds(resources: Resources, block: Block) -> tuple[int, ...]:
    from pmsm_hw.mapping.resources import theta_of

    if resources.chip.limits.threshold_configurations is None:
        return ()
    population = resources.network[block.population]
    if not isinstance(population, PolarityMultiSpike):
        return ()
    theta = theta_of(population, block)
    return (int(theta),) if theta.ndim == 0 else tuple(np.unique(theta).tolist())
