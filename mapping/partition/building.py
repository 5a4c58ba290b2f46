"""Grids made: every cell is cut into blocks that fit a core, counted exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import Block, Range
from pmsm_hw.mapping.partition.excess import single_neuron_excess
from pmsm_hw.mapping.partition.grids import (
    UNPLACED,
    Grid,
    Target,
    edges_of,
    entries_before,
    parts_of,
    runs_of,
)
from pmsm_hw.mapping.resources.neurons import thresholds_vary_by_place
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.partition.candidates import Candidates
    from pmsm_hw.mapping.resources import Resources
    from pmsm_hw.network import Population

__all__ = ["best_grid", "build_runs"]

_MAX_BUILDS = 16


def best_grid(
    resources: Resources,
    population: Population,
    counts: Candidates,
    entries: NDArray[np.int64],
    cost: NDArray[np.float64],
) -> Grid:
    """Cheapest cut that fits, output axons included."""
    limit = resources.chip.limits.output_axons.value
    in_all = int(entries.sum())
    finite = np.isfinite(cost)
    score = cost + 1e-6 * counts.n_blocks
    order = np.argsort(np.where(finite, score, np.inf), axis=None, kind="stable")
    order = order[: int(np.count_nonzero(finite))]
    enough = (in_all <= limit * counts.n_blocks).reshape(-1)[order]
    flat_score = score.reshape(-1)
    best: tuple[float, Grid] | None = None
    n_built = 0
    for flat in order[enough].tolist():
        if best is not None and (flat_score[flat] >= best[0] or n_built >= _MAX_BUILDS):
            break
        i, j, k = (int(v) for v in np.unravel_index(flat, cost.shape))
        grid = _build(resources, population, counts, (i, j, k), entries)
        if grid is None:
            continue
        n_built += 1
        # output axons may have cut some cells further than the score knew
        more = grid.n_blocks / max(int(counts.n_blocks[i, j, k]), 1)
        value = float(flat_score[flat]) * max(more, 1.0)
        if best is None or value < best[0]:
            best = (value, grid)
    if best is not None:
        return best[1]
    excess = single_neuron_excess(resources, population)
    if excess is not None:
        raise excess
    finest = (len(counts.choices[0]) - 1, len(counts.choices[1]) - 1, len(counts.choices[2]) - 1)
    for at in np.ndindex(counts.n_blocks.shape):
        grid = _build(resources, population, counts, (at[0], at[1], at[2]), entries)
        if grid is not None:
            return grid
    grid = _build(resources, population, counts, finest, entries)
    assert grid is not None, "single neurons were found to fit"
    return grid


def _build(
    resources: Resources,
    population: Population,
    counts: Candidates,
    at: tuple[int, int, int],
    entries: NDArray[np.int64],
) -> Grid | None:
    """Cut every cell into as few channel parts as fit, counted exactly; ``None``: one does not."""
    limit = resources.chip.limits.output_axons.value
    i, j, k = at
    shape = chw(population.shape)
    choices = counts.choices[0]
    n_rows, n_columns = int(counts.choices[1][j]), int(counts.choices[2][k])
    before = entries_before(entries, edges_of(shape[1], n_rows), edges_of(shape[2], n_columns))
    kinds = [c.kind[n] for c, n in zip(counts.classes, (j, k), strict=True)]
    start = np.maximum(i, counts.cell_parts[j, kinds[0][:, None], k, kinds[1]])
    start = np.minimum(start, len(choices) - 1).reshape(-1)
    left = np.arange(len(start))  # cells some part of which may send too much
    while left.size:
        over = np.zeros(len(left), bool)
        for first in set(start[left].tolist()):
            mine = start[left] == first
            sent = np.diff(before[left[mine]][:, edges_of(shape[0], int(choices[first]))], axis=1)
            over[mine] = sent.max(axis=1) > limit
        left = left[over]
        start[left] += 1
        if start.max() == len(choices):
            return None
    known: dict[tuple[object, ...], int | None] = {}
    channels = []
    rows, columns = parts_of(shape[1], n_rows), parts_of(shape[2], n_columns)
    for cell, first in enumerate(start.tolist()):
        y, x = rows[cell // n_columns], columns[cell % n_columns]
        key = (first, *resources.cell_key(population.name, y, x))
        if key not in known:
            known[key] = _fewest_parts(
                resources, population, counts.most_neurons, y, x, choices[first:]
            )
        found = known[key]
        if found is None:
            return None
        channels.append(found)
    return Grid(
        population=population.name,
        shape=shape,
        rows=n_rows,
        columns=n_columns,
        channels=tuple(channels),
    )


def build_runs(
    resources: Resources,
    population: Population,
    counts: Candidates,
    target: Target,
    entries: NDArray[np.int64],
) -> Grid | None:
    """Cut cells into blocks as wide as wanted, or as fit, counted exactly; ``None``: one does not.

    Parameters
    ----------
    resources, population, counts
        Whose grid, and its candidates.
    target
        Rows, columns, channels that a block may have, and whether blocks are to be equal.
    entries
        Output-axon entries of each neuron.
    """
    limit = resources.chip.limits.output_axons.value
    shape = chw(population.shape)
    n_rows, n_columns, at_most, equal = target
    j, k = (
        int(np.searchsorted(choice, n))
        for choice, n in zip(counts.choices[1:], (n_rows, n_columns), strict=True)
    )
    before = entries_before(entries, edges_of(shape[1], n_rows), edges_of(shape[2], n_columns))
    if int(np.diff(before, axis=1).max()) > limit:
        return None
    kinds = [c.kind[n] for c, n in zip(counts.classes, (j, k), strict=True)]
    rows, columns = parts_of(shape[1], n_rows), parts_of(shape[2], n_columns)
    known: dict[tuple[object, ...], int] = {}
    widths = []
    for r in range(n_rows):
        for c in range(n_columns):
            width = _widest_by_entries(before[r * n_columns + c], at_most, limit)
            key = (width, *resources.cell_key(population.name, rows[r], columns[c]))
            if key not in known:
                parts = int(counts.cell_parts[j, kinds[0][r], k, kinds[1][c]])
                parts = int(counts.choices[0][min(parts, len(counts.choices[0]) - 1)])
                known[key] = _widest(
                    resources, population, counts.most_neurons, rows[r], columns[c], width,
                    -(-shape[0] // parts),
                )  # fmt: skip
            found = known[key]
            if found == 0:
                return None
            if equal:
                same = -(-shape[0] // -(-shape[0] // found))
                if _sends_at_most(before[r * n_columns + c], same, limit) and _fits(
                    resources, population, counts.most_neurons, rows[r], columns[c], same, runs=True
                ):
                    found = same
            widths.append(found)
    return Grid(
        population=population.name,
        shape=shape,
        rows=n_rows,
        columns=n_columns,
        channels=tuple(widths),
        runs=True,
    )


def _widest_by_entries(prefix: NDArray[np.int64], at_most: int, limit: int) -> int:
    """Largest width up to a number all of whose runs send at most so much; 1 is taken to do."""
    n, total = len(prefix) - 1, int(prefix[-1])
    if total <= limit:
        return at_most
    # at least one of the runs sends the mean or more
    width = min(at_most, max(limit * n // total + 1, 1))
    while width > 1 and not _sends_at_most(prefix, width, limit):
        width -= 1
    return width


def _sends_at_most(prefix: NDArray[np.int64], width: int, limit: int) -> bool:
    """Whether no run of a width has more entries than so many; `prefix`: those before each."""
    return int(np.diff(np.append(prefix[:-1:width], prefix[-1])).max()) <= limit


def _widest(
    resources: Resources,
    population: Population,
    most_neurons: int,
    rows: Range,
    columns: Range,
    at_most: int,
    guess: int,
) -> int:
    """Largest width up to a number whose blocks all fit, output axons aside; 0: none does."""
    low, high = 0, at_most + 1  # fits (or nothing does), does not (or is too wide)
    width = min(guess, at_most)
    step = 1
    while high - low > 1:
        if _fits(resources, population, most_neurons, rows, columns, width, runs=True):
            low = width
        else:
            high = width
        if low == 0:
            width = max(width - step, 1)
        elif high > at_most:
            width = min(width + step, at_most)
        else:
            width = (low + high) // 2
        step *= 2
    return low


def _fewest_parts(
    resources: Resources,
    population: Population,
    most_neurons: int,
    rows: Range,
    columns: Range,
    choices: NDArray[np.int64],
) -> int | None:
    """First number of channel parts whose blocks all fit, output axons aside."""

    def fits(at: int) -> bool:
        return _fits(resources, population, most_neurons, rows, columns, int(choices[at]))

    # the estimate is a little optimistic: the first or second choice fits, mostly
    low, step = 0, 1
    while low < len(choices) and not fits(low):
        low += step
        step = min(step + 1, 8)
    if low >= len(choices):
        low = len(choices) - 1
        if not fits(low):
            return None
    # steps grew: look back for one that was skipped
    while low > 0 and fits(low - 1):
        low -= 1
    return int(choices[low])


def _fits(
    resources: Resources,
    population: Population,
    most_neurons: int,
    rows: Range,
    columns: Range,
    cuts: int,
    *,
    runs: bool = False,
) -> bool:
    """Whether every channel part of a cell fits a core, output axons aside; counted exactly.

    With `runs`, `cuts` says how wide parts are, not how many.
    """
    keys = [*resources.cell_key(population.name, rows, columns)]
    if thresholds_vary_by_place(population):
        keys += [rows, columns]
    like = resources.like(population.name)

    def count() -> bool:
        parts = (runs_of if runs else parts_of)(chw(population.shape)[0], cuts)
        return _count_fits(resources, population, most_neurons, rows, columns, parts)

    return resources.once(("fits", like, runs, cuts, most_neurons, *keys), count)


def _count_fits(
    resources: Resources,
    population: Population,
    most_neurons: int,
    rows: Range,
    columns: Range,
    parts: Sequence[Range],
) -> bool:
    limits, wires = resources.chip.limits, resources.into(population.name)
    widest = max(b - a for a, b in parts)
    n_neurons = widest * (rows[1] - rows[0]) * (columns[1] - columns[0])
    if n_neurons > most_neurons:
        return False
    at_most = [resources.at_most(w, rows, columns, widest, n_neurons) for w in wires]
    sure = (
        sum(axons for axons, _ in at_most) <= limits.input_axons.value
        and sum(bits for _, bits in at_most) <= limits.synapse_memory_bits.value
    )
    if sure and resources.has_one_threshold(population.name):
        return True
    for part in [parts[len(parts) // 2], *parts]:
        block = Block(
            population=population.name, channels=part, rows=rows, columns=columns, core=UNPLACED
        )
        if not sure and (
            resources.synapse_bits([block]) > limits.synapse_memory_bits.value
            or resources.input_axons([block]) > limits.input_axons.value
        ):
            return False
        if (
            limits.threshold_configurations is not None
            and resources.thresholds([block]) > limits.threshold_configurations.value
        ):
            return False
    return True
