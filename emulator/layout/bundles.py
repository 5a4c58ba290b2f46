"""Neurons that send alike, and synapses by target core: what counting needs of a placed network.

Bundles
    A *bundle* is neurons of one block, one slot after the other, that send to the same cores.
    Whatever follows from messages follows from how many its bundles sent: a few sums over runs of
    memory, no work per message or synapse.
Windows
    The *window* of a pair is the box of source neurons that reach its core, channels last. Each of
    the pair's rows has the synapses of every neuron of the window, so that synaptic operations are
    a dot product of these with the messages that the neurons sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.layout.plan import Runs

__all__ = ["CountPlan", "Window", "build_count_plan"]

IntArray = NDArray[np.int64]


class Window(NamedTuple):
    """Synapses from a box of a population onto one core.

    Parameters
    ----------
    rows, columns, channels
        Half-open ranges of the box.
    synapses
        ``(n_rows, height, width, channels)`` int32: of each row and neuron of the box.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    channels: tuple[int, int]
    synapses: NDArray[np.int32]


class CountPlan(NamedTuple):
    """Arrays of the compiled counting; see the module docstring.

    A *run* is neighbours in the memory of a population's spikes, channels last.
    """

    block_bundle: Any  # (n_blocks + 1,) int64
    bundle_run: Any  # (n_bundles + 1,) int64
    run_at: Any  # (n_runs,) int64: first neuron of the population
    run_length: Any  # (n_runs,) int64
    bundle_target: Any  # (n_bundles + 1,) int64
    target_pair: Any  # (n_targets,) int32: pair of the bundle's population and the core
    target_router: Any  # (n_targets,) int32
    bundle_router: Any  # (n_bundles,) int32
    # per message of a neuron to all its cores:
    bundle_messages: Any  # (n_bundles,) int64
    bundle_hops: Any  # (n_bundles, 4) int64: east, west, north, south
    bundle_crossings: Any  # (n_bundles,) int64: of chips
    population_pair: Any  # (n_populations + 1,) int64: pairs of a population stand together
    pair_core: Any  # (n_pairs,) int64
    pair_row: Any  # (n_pairs + 1,) int64
    pair_run: Any  # (n_pairs + 1,) int64: runs of its window
    window_at: Any  # (n_window_runs,) int64
    window_length: Any  # (n_window_runs,) int64
    row_constant: Any  # (n_rows,) int64: synapses of every neuron that sends to the core; 0: differ
    row_synapse: Any  # (n_rows,) int64: where its synapses begin, if they differ
    synapses: Any  # int16 or int32


def build_count_plan(
    blocks: dict[str, Any],
    runs: Runs,
    routes: dict[str, Any],
    mesh: dict[str, Any],
    shapes: Sequence[tuple[int, int, int]],
    pairs: Sequence[tuple[int, int]],
    windows: Sequence[Window],
) -> CountPlan:
    """Find bundles and windows.

    Parameters
    ----------
    blocks, routes, mesh
        Arrays of `pmsm_hw.emulator.layout.Plan`.
    runs
        From `pmsm_hw.emulator.layout.slots.runs_of`.
    shapes
        ``(channels, height, width)`` of each population.
    pairs
        Index of the source population and of the core, by pair.
    windows
        One for each pair.
    """
    entry, entry_core = routes["entry"], routes["entry_core"]
    starts, targets = _bundle_starts(entry, entry_core, blocks["block_slot"])
    run_slot = np.union1d(runs.slot, starts)
    run_of = np.searchsorted(runs.slot, run_slot, side="right") - 1
    run_at = runs.place[run_of] + run_slot - runs.slot[run_of]
    n_slots = int(blocks["block_slot"][-1])
    bundle_target, target_core = targets
    block_of = np.searchsorted(blocks["block_slot"], starts, side="right") - 1
    population_of = np.repeat(blocks["block_population"][block_of], np.diff(bundle_target))
    target_pair = routes["pair_of"][population_of, target_core]
    bundle_router = mesh["core_router"][blocks["block_core"][block_of]]
    target_router = mesh["core_router"][target_core]
    return CountPlan(
        block_bundle=np.searchsorted(starts, blocks["block_slot"]).astype(np.int64),
        bundle_run=np.append(np.searchsorted(run_slot, starts), len(run_slot)).astype(np.int64),
        run_at=run_at.astype(np.int64),
        run_length=np.diff(np.append(run_slot, n_slots)).astype(np.int64),
        bundle_target=bundle_target,
        target_pair=target_pair.astype(np.int32),
        target_router=target_router.astype(np.int32),
        bundle_router=bundle_router.astype(np.int32),
        **_bundle_costs(bundle_router, bundle_target, target_router, mesh),
        population_pair=np.searchsorted([p for p, _ in pairs], np.arange(len(shapes) + 1)).astype(
            np.int64
        ),
        pair_core=np.array([core for _, core in pairs], np.int64),
        pair_row=routes["pair_row"],
        **_windows([shapes[p] for p, _ in pairs], windows),
    )


def _bundle_starts(
    entry: IntArray, entry_core: NDArray[np.int32], block_slot: IntArray
) -> tuple[IntArray, tuple[IntArray, NDArray[np.int32]]]:
    """First slot of each bundle, and the cores that bundles send to."""
    n_slots = len(entry) - 1
    n_cores = np.diff(entry)
    is_first = np.zeros(n_slots, np.bool_)
    is_first[block_slot[:-1]] = True
    is_first[1:] |= n_cores[1:] != n_cores[:-1]
    # where two neighbours have as many cores, the lists stand one after the other
    slot_of = np.repeat(np.arange(n_slots, dtype=np.int32), n_cores)
    same = ~is_first[slot_of]
    here = np.flatnonzero(same)
    of = slot_of[here]
    differs = entry_core[here] != entry_core[here - n_cores[of]]
    is_first[of[differs]] = True
    starts = np.flatnonzero(is_first).astype(np.int64)
    bundle_target = np.concatenate([[0], np.cumsum(n_cores[starts])]).astype(np.int64)
    where = np.arange(bundle_target[-1]) + np.repeat(
        entry[starts] - bundle_target[:-1], n_cores[starts]
    )
    return starts, (bundle_target, entry_core[where])


def _bundle_costs(
    source: IntArray, bundle_target: IntArray, target: IntArray, mesh: dict[str, Any]
) -> dict[str, IntArray]:
    source = np.repeat(source, np.diff(bundle_target))

    def way(axis: str) -> IntArray:
        where: IntArray = mesh[axis]
        return where[target] - where[source]

    dx, dy = way("router_x"), way("router_y")
    crossings = np.abs(way("router_chip_x")) + np.abs(way("router_chip_y"))
    ways = (np.maximum(dx, 0), np.maximum(-dx, 0), np.maximum(dy, 0), np.maximum(-dy, 0))

    def of_bundles(each: IntArray) -> IntArray:
        sums = np.zeros((len(target) + 1, *each.shape[1:]), np.int64)
        np.cumsum(each, axis=0, out=sums[1:])
        return np.ascontiguousarray(sums[bundle_target[1:]] - sums[bundle_target[:-1]])

    return {
        "bundle_messages": np.diff(bundle_target),
        "bundle_hops": of_bundles(np.stack(ways, axis=1)),
        "bundle_crossings": of_bundles(crossings),
    }


def _windows(
    shapes: Sequence[tuple[int, int, int]], windows: Sequence[Window]
) -> dict[str, NDArray[Any]]:
    pair_run = [0]
    at: list[IntArray] = []
    lengths: list[IntArray] = []
    constants: list[int] = []
    parts: list[NDArray[np.int32]] = []
    row_synapse: list[int] = []
    n = 0
    for (c, _, w), window in zip(shapes, windows, strict=True):
        (y0, y1), (x0, x1), (c0, c1) = window.rows, window.columns, window.channels
        reached = window.synapses.any(axis=0)
        differ = False
        for row in window.synapses:
            largest = int(row.max(initial=0))
            constant = largest if np.array_equal(row, reached * np.int32(largest)) else 0
            constants.append(constant)
            row_synapse.append(n)
            if not constant:
                differ = True
                parts.append(row.reshape(-1))
                n += row.size
        if differ:
            y, x = np.arange(y0, y1)[:, None], np.arange(x0, x1)[None, :]
            if c1 - c0 < c:
                first, length = ((y * w + x) * c + c0).reshape(-1), c1 - c0
            elif x1 - x0 < w:
                first, length = (y * w + x0).reshape(-1) * c, (x1 - x0) * c
            else:
                first, length = np.array([y0 * w * c]), (y1 - y0) * w * c
            at.append(first)
            lengths.append(np.full(len(first), length))
            pair_run.append(pair_run[-1] + len(first))
        else:
            pair_run.append(pair_run[-1])
    none = np.zeros(0, np.int64)
    largest = max((int(part.max()) for part in parts), default=0)
    small = np.int16 if largest <= np.iinfo(np.int16).max else np.int32
    return {
        "pair_run": np.array(pair_run, np.int64),
        "window_at": np.concatenate([none, *at]),
        "window_length": np.concatenate([none, *lengths]),
        "row_constant": np.array(constants, np.int64),
        "row_synapse": np.array(row_synapse, np.int64),
        "synapses": np.concatenate([np.zeros(0, small), *(p.astype(small) for p in parts)]),
    }
