"""Cutting populations into blocks that fit a core, under every limit at once.

A population is cut into a grid of near-equal blocks: ``n`` cuts along channels, rows and columns.
All such grids are counted at once (resources of windows are products of what one axis needs), and
the best one that fits is taken. Populations are cut in reverse topological order, so that the
output axons of a population, one per target core, are known when it is its turn; recurrent ones are
cut again until the counts agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError
from pmsm_hw.mapping.assignment import Block
from pmsm_hw.mapping.connectivity import group_channels, source_range
from pmsm_hw.mapping.resources import list_bits, reach_mask
from pmsm_hw.network import Input, PolarityMultiSpike, Population
from pmsm_hw.operators import WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Objective
    from pmsm_hw.mapping.resources import Resources, Wire

__all__ = ["Bound", "Candidates", "Grid", "candidates", "cut_network", "grid_blocks", "lower_bound"]

Range = tuple[int, int]
UNPLACED = -1
"""Core of a block that has none yet."""

_MAX_ROUNDS = 12
_MAX_EXACT = 48


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How a population is cut: numbers of blocks along channels, rows and columns."""

    population: str
    cuts: tuple[int, int, int]

    @property
    def n_blocks(self) -> int:
        """Blocks in all."""
        a, b, c = self.cuts
        return a * b * c


def edges_of(n: int, cuts: int) -> NDArray[np.int64]:
    """Edges of near-equal parts, ``(cuts + 1,)`` int64."""
    return np.arange(cuts + 1, dtype=np.int64) * n // cuts


def grid_blocks(population: Population, grid: Grid) -> list[Block]:
    """Blocks of a grid, row by row, channels fastest."""
    sizes = chw(population.shape)
    parts = []
    for size, cuts in zip(sizes, grid.cuts, strict=True):
        edges = edges_of(size, cuts).tolist()
        parts.append(list(pairwise(edges)))
    return [
        Block(population=population.name, channels=c, rows=y, columns=x, core=UNPLACED)
        for y in parts[1]
        for x in parts[2]
        for c in parts[0]
    ]


def cut_choices(n: int) -> NDArray[np.int64]:
    """Numbers of cuts that give different largest parts, ascending."""
    return np.unique(-(-n // np.arange(1, n + 1, dtype=np.int64)))


@dataclass(frozen=True, kw_only=True)
class AxisTable:
    """What one axis of a window contributes, for each number of cuts.

    Parameters
    ----------
    hit
        ``(n,)`` most source rows that meet one part.
    hit_sum
        ``(n,)`` the same, summed over parts.
    distinct, all_rows
        ``(n, kernel + 1)`` most rows with distinct taps, and all rows, by their number of taps.
    distinct_sum, all_rows_sum
        The same, summed over parts.
    """

    hit: NDArray[np.int64]
    hit_sum: NDArray[np.int64]
    distinct: NDArray[np.int64]
    all_rows: NDArray[np.int64]
    distinct_sum: NDArray[np.int64]
    all_rows_sum: NDArray[np.int64]


def axis_table(
    resources: Resources, wire: Wire, axis: int, choices: NDArray[np.int64]
) -> AxisTable:
    """Tabulate one axis (0: rows, 1: columns) of a window projection."""
    form = wire.form
    assert isinstance(form, WindowForm)
    kernel, size = form.weight.shape[2 + axis], form.target[1 + axis]
    n = len(choices)
    hit, hit_sum = np.zeros(n, np.int64), np.zeros(n, np.int64)
    distinct, all_rows, distinct_sum, all_rows_sum = (
        np.zeros((n, kernel + 1), np.int64) for _ in range(4)
    )
    bit = np.int64(1) << np.arange(kernel, dtype=np.int64)
    seen: dict[tuple[int, int, int], tuple[int, NDArray[np.int64], NDArray[np.int64]]] = {}
    for i, cuts in enumerate(choices.tolist()):
        edges = edges_of(size, cuts).tolist()
        for a, b in pairwise(edges):
            raw = a * form.stride[axis] - form.padding[axis][0]
            end = (b - 1) * form.stride[axis] - form.padding[axis][0]
            end += (kernel - 1) * form.dilation[axis]
            # parts that no edge of the source clips are all alike
            key = (b - a, max(0, -raw), max(0, end - form.source[1 + axis] + 1))
            if key not in seen:
                taps = resources.signatures(wire, axis, (a, b))
                n_taps = taps.sum(axis=1)
                unique = np.unique(taps @ bit)
                bits = (unique[:, None] & bit) != 0
                seen[key] = (
                    int(np.count_nonzero(n_taps)),
                    np.bincount(bits.sum(axis=1), minlength=kernel + 1),
                    np.bincount(n_taps, minlength=kernel + 1),
                )
            rows, by_taps, by_all = seen[key]
            hit[i] = max(hit[i], rows)
            hit_sum[i] += rows
            distinct[i] = np.maximum(distinct[i], by_taps)
            all_rows[i] = np.maximum(all_rows[i], by_all)
            distinct_sum[i] += by_taps
            all_rows_sum[i] += by_all
    for table in (distinct, all_rows, distinct_sum, all_rows_sum):
        table[:, 0] = 0
    return AxisTable(
        hit=hit,
        hit_sum=hit_sum,
        distinct=distinct,
        all_rows=all_rows,
        distinct_sum=distinct_sum,
        all_rows_sum=all_rows_sum,
    )


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """All grids of one population; arrays over ``(channel, row, column)`` numbers of cuts.

    Counts are those of the fullest block, and not below the truth (weights of zero may lower it).

    Parameters
    ----------
    choices
        Numbers of cuts along each axis.
    neurons, axons, bits, thresholds
        Of the fullest block.
    likely_axons, likely_bits
        The same, estimated from the share of zero weights.
    total_bits
        Synapse memory of all blocks, likewise estimated.
    n_neurons
        Neurons of the population.
    n_blocks
        Blocks of the grid.
    deliveries
        By wire: source neurons reached, summed over blocks.
    """

    choices: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    neurons: NDArray[np.int64]
    axons: NDArray[np.int64]
    bits: NDArray[np.int64]
    thresholds: NDArray[np.int64]
    likely_axons: NDArray[np.float64]
    likely_bits: NDArray[np.float64]
    total_bits: NDArray[np.float64]
    n_neurons: int
    n_blocks: NDArray[np.int64]
    deliveries: dict[str, NDArray[np.int64]]


def candidates(resources: Resources, population: Population) -> Candidates:
    """Count all grids of a population."""
    chip, index = resources.chip, resources.chip.limits.index_bits.value
    shape = chw(population.shape)
    choices = tuple(cut_choices(n) for n in shape)
    largest = [-(-n // k) for n, k in zip(shape, choices, strict=True)]
    neurons = largest[0][:, None, None] * largest[1][:, None] * largest[2]
    n_blocks = choices[0][:, None, None] * choices[1][:, None] * choices[2]
    axons, bits = np.zeros_like(neurons), np.zeros_like(neurons)
    likely_axons, likely_bits, total_bits = (np.zeros(neurons.shape) for _ in range(3))
    deliveries: dict[str, NDArray[np.int64]] = {}
    dense_lists = {
        each: list_bits(chip, neurons, each)
        for each in {w + v.delay_bits for v in resources.into(population.name) for w in v.widths}
    }
    for wire in resources.into(population.name):
        form = wire.form
        density = np.count_nonzero(form.weight) / form.weight.size
        if not isinstance(form, WindowForm):
            source = resources.network[wire.projection.source]
            _, height, width = chw(source.shape)
            lists = np.full_like(neurons, source.n_neurons)
            hits = [(neurons, lists, lists * n_blocks)]
            deliveries[wire.projection.name] = n_blocks * source.n_neurons
            shared = wire.axons == "pixel"
            units = np.full_like(neurons, height * width) if shared else lists
        else:
            tables = [axis_table(resources, wire, a, choices[1 + a]) for a in (0, 1)]
            n_channels, per_channel, channel_sum = _channel_table(form, choices[0])
            pixels = tables[0].hit[:, None] * tables[1].hit
            shared = wire.axons == "pixel"
            y, x = ((t.distinct if shared else t.all_rows) for t in tables)
            y_sum, x_sum = ((t.distinct_sum if shared else t.all_rows_sum) for t in tables)
            lists = n_channels[:, None, None] * y.sum(axis=1)[:, None] * x.sum(axis=1)
            hits = [
                (
                    np.broadcast_to((per_channel * (i * j))[:, None, None], neurons.shape),
                    n_channels[:, None, None] * y[:, i][:, None] * x[:, j],
                    channel_sum[:, None, None] * y_sum[:, i][:, None] * x_sum[:, j],
                )
                for i in range(1, y.shape[1])
                for j in range(1, x.shape[1])
            ]
            deliveries[wire.projection.name] = (
                channel_sum[:, None, None] * tables[0].hit_sum[:, None] * tables[1].hit_sum
            )
            units = np.broadcast_to(
                pixels if shared else n_channels[:, None, None] * pixels, neurons.shape
            )
        axons += units * wire.n_signs
        mean_hits = sum(n * m for n, m, _ in hits) / np.maximum(lists, 1)
        if wire.axons == "pixel":
            likely_axons += units * wire.n_signs
        else:
            likely_axons += units * wire.n_signs * (1 - (1 - density) ** mean_hits)
        sparse, dense = np.zeros_like(neurons), np.zeros_like(neurons)
        likely = np.zeros(neurons.shape)
        for width in wire.widths:
            each = width + wire.delay_bits
            dense += lists * dense_lists[each]
            for length, count, in_all in hits:
                sparse += count * list_bits(chip, length, each + index)
                thinned = np.maximum(np.rint(length * density).astype(np.int64), 1)
                thin_bits = list_bits(chip, thinned, each + index)
                likely += count * thin_bits
                total_bits += in_all * np.minimum(thin_bits, dense_lists[each])
        bits += np.minimum(sparse, dense)
        likely_bits += np.minimum(likely, dense)
    return Candidates(
        choices=choices,  # type: ignore[arg-type]
        neurons=neurons,
        axons=axons,
        bits=bits,
        thresholds=np.minimum(neurons, _thresholds(population, choices[0])[:, None, None]),
        likely_axons=likely_axons,
        likely_bits=likely_bits,
        total_bits=total_bits,
        n_neurons=population.n_neurons,
        n_blocks=n_blocks,
        deliveries=deliveries,
    )


def _channel_table(
    form: WindowForm, choices: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Most source channels of a part, most target channels each reaches, source channels summed."""
    n, per_group = form.target[0], form.target[0] // form.groups
    most, each, total = [], [], []
    for cuts in choices.tolist():
        edges = edges_of(n, cuts).tolist()
        parts = list(pairwise(edges))
        sizes = [b - a for a, b in (group_channels(form, part) for part in parts)]
        most.append(max(sizes))
        each.append(min(max(b - a for a, b in parts), per_group))
        total.append(sum(sizes))
    return np.array(most), np.array(each), np.array(total)


def _thresholds(population: Population, choices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Most distinct thresholds of a part along channels, all rows and columns."""
    if not isinstance(population, PolarityMultiSpike):
        return np.zeros(len(choices), np.int64)
    if population.theta.ndim == 0:
        return np.ones(len(choices), np.int64)
    theta = population.theta.reshape(population.theta.shape[0], -1)
    if np.all(theta == theta.flat[0]):
        return np.ones(len(choices), np.int64)
    most = []
    for cuts in choices.tolist():
        edges = edges_of(theta.shape[0], cuts).tolist()
        most.append(max(len(np.unique(theta[a:b])) for a, b in pairwise(edges)))
    return np.array(most, np.int64)


class _BlockSums:
    """Sums of an array over the blocks of a grid."""

    def __init__(self, array: NDArray[np.int64]) -> None:
        self.shape = array.shape
        self.constant = int(array.flat[0]) if array.min() == array.max() else None
        self.prefix: NDArray[np.int64] | None = None
        self.largest = int(array.max())
        self.total = int(array.sum())
        if self.constant is None:
            self.prefix = np.zeros(tuple(n + 1 for n in array.shape), np.int64)
            inner = self.prefix[1:, 1:, 1:]
            np.cumsum(array, axis=0, out=inner)
            np.cumsum(inner, axis=1, out=inner)
            np.cumsum(inner, axis=2, out=inner)

    def most(self, cuts: Sequence[int]) -> int:
        """Largest sum over a block."""
        if self.constant is not None:
            size = 1
            for n, k in zip(self.shape, cuts, strict=True):
                size *= -(-n // k)
            return self.constant * size
        assert self.prefix is not None
        at = [edges_of(n, k) for n, k in zip(self.shape, cuts, strict=True)]
        sums = self.prefix[np.ix_(*at)]
        for axis in range(3):
            sums = np.diff(sums, axis=axis)
        return int(sums.max())


def cut_network(
    resources: Resources,
    *,
    objective: Objective = "cores",
    progress: Callable[[str], None] | None = None,
    deadline: Callable[[], bool] | None = None,
) -> dict[str, list[Block]]:
    """Cut every population but inputs.

    Several cuts are made that differ in how much they weigh the output axons which a grid needs in
    its sources, and the best one is taken.

    Parameters
    ----------
    resources
        Of the network and the chip.
    objective
        ``"cores"`` and ``"latency"`` take the cut with fewest cores, ``"energy"`` the one with
        fewest deliveries among those with at most a tenth more cores.
    progress
        Called with a line about what is done.
    deadline
        Says whether time is up: the best cut so far is then taken.

    Returns
    -------
    dict
        Blocks by population, in topological order; none has a core yet.

    Raises
    ------
    CapacityError
        If a single neuron of a population exceeds a limit of a core.
    """
    counts = {}
    for population in resources.placed:
        if progress is not None:
            progress(f"counting {population.name}")
        counts[population.name] = candidates(resources, population)
    cuts: list[tuple[float, float, dict[str, Grid]]] = []
    failure: CapacityError | None = None
    bound = lower_bound(resources, counts)
    n, b, e = bound.weights
    for weights in (
        (0.02, n, b, e),
        (0.1, n, b, e),
        (0.1, 0.2, 0.2, 0.6),
        (0.1, 0.2, 0.6, 0.2),
        (1.0, 0.0, 0.0, 0.0),
    ):
        if cuts and deadline is not None and deadline():
            break
        if progress is not None:
            progress(f"cutting, weights {weights}")
        try:
            grids = _cut_once(resources, counts, weights)
        except CapacityError as error:
            failure = error
            continue
        n_cores, deliveries = _estimate(resources, counts, grids)
        cuts.append((n_cores, deliveries, grids))
    if not cuts:
        assert failure is not None
        raise failure
    fewest = min(n for n, _, _ in cuts)
    if objective == "energy":
        near = [cut for cut in cuts if cut[0] <= 1.1 * fewest]
        best = min(near, key=lambda cut: (cut[1], cut[0]))
    else:
        best = min(cuts, key=lambda cut: (cut[0], cut[1]))
    return {p.name: grid_blocks(p, best[2][p.name]) for p in resources.placed}


def _shares(resources: Resources, counts: Candidates) -> NDArray[np.float64]:
    """Cores' worth of neurons, synapse memory and sources' output axons of each grid.

    Returns
    -------
    ndarray
        ``(3, *grids)`` float64.
    """
    limits = resources.chip.limits
    entries = np.zeros(counts.n_blocks.shape)
    for name, deliveries in counts.deliveries.items():
        wire = resources.wires[name]
        if not isinstance(resources.network[wire.projection.source], Input):
            entries += deliveries * (wire.entries * wire.n_signs / limits.output_axons.value)
    neurons = np.full(counts.n_blocks.shape, counts.n_neurons / limits.neurons.value)
    return np.stack([neurons, counts.total_bits / limits.synapse_memory_bits.value, entries])


def _fitting(resources: Resources, counts: Candidates) -> NDArray[np.bool_]:
    """Grids whose blocks will likely fit a core, output axons aside."""
    limits = resources.chip.limits
    fits: NDArray[np.bool_] = counts.neurons <= limits.neurons.value
    fits &= counts.likely_axons <= 1.02 * limits.input_axons.value
    fits &= counts.likely_bits <= 1.02 * limits.synapse_memory_bits.value
    if limits.threshold_configurations is not None:
        fits &= counts.thresholds <= limits.threshold_configurations.value
    return fits


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Fewest cores that any such cut can do with.

    Parameters
    ----------
    cores
        The bound.
    weights
        Of neurons, synapse memory and output axons, adding up to 1, that prove it: no core holds
        more than the sum of its shares so weighted.
    """

    cores: int
    weights: tuple[float, float, float]


def lower_bound(resources: Resources, counts: MappingType[str, Candidates]) -> Bound:
    """Bound the cores of any cut into grids (a Lagrangian bound over three resources).

    A core's weighted shares of neurons, synapse memory and output axons add up to at most 1, for
    any weights that add up to 1; summing, over populations, the least weighted share that any
    grid of blocks that fit a core has bounds the cores from below. The weights are searched for
    the best bound. Zeros among weights enter by their share.
    """
    steps = np.linspace(0.0, 1.0, 21)
    weights = np.array([(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-9])
    total = np.zeros(len(weights))
    for found in counts.values():
        shares = _shares(resources, found)
        fits = _fitting(resources, found)
        columns = shares[:, fits] if fits.any() else shares.reshape(3, -1)[:, -1:]
        total += (weights @ columns).min(axis=1)
    best = int(total.argmax())
    a, b, c = (max(float(w), 0.0) for w in weights[best])
    return Bound(cores=max(1, int(np.ceil(total[best] - 1e-6))), weights=(a, b, c))


def _estimate(
    resources: Resources, counts: dict[str, Candidates], grids: dict[str, Grid]
) -> tuple[float, float]:
    """Cores that a cut will take when blocks share them well, and its deliveries."""
    total, deliveries, n_blocks = np.zeros(3), 0.0, 0
    for name, grid in grids.items():
        found = counts[name]
        at = tuple(
            int(np.searchsorted(choice, k))
            for choice, k in zip(found.choices, grid.cuts, strict=True)
        )
        n_blocks += grid.n_blocks
        total += _shares(resources, found)[(slice(None), *at)]
        deliveries += float(sum(d[at] for d in found.deliveries.values()))
    return float(total.max()) + 0.05 * n_blocks, deliveries


def _cut_once(
    resources: Resources,
    counts: dict[str, Candidates],
    weights: Sequence[float],
) -> dict[str, Grid]:
    order = [p.name for p in resources.placed]
    position = {name: i for i, name in enumerate(order)}
    # targets that are cut after their source: the recurrent ones
    backward = {
        name: {
            w.projection.target
            for w in resources.out_of(name)
            if position[w.projection.target] <= position[name]
        }
        for name in order
    }
    guess: dict[str, Grid] = {}
    for _ in range(_MAX_ROUNDS):
        done: dict[str, Grid] = {}
        for name in reversed(order):
            known = {**{n: guess[n] for n in backward[name] if n in guess}, **done}
            entries = grid_entries(resources, name, known)
            done[name] = _best_grid(
                resources, resources.network[name], counts[name], entries, weights
            )
        if not any(backward.values()) or done == guess:
            return done
        guess = done
    _check_recurrent(resources, done, backward)
    return done


def grid_entries(
    resources: Resources, population: str, grids: MappingType[str, Grid]
) -> NDArray[np.int64]:
    """Output-axon entries of each neuron if every block had its own core.

    As `Resources.output_entries`, but fast for grids: which blocks along rows and columns a pixel
    reaches are two separate questions where no weight is zero.
    """
    network = resources.network
    total = np.zeros(chw(network[population].shape), np.int64)
    wires = resources.out_of(population)
    by_target: dict[str, list[Wire]] = {}
    for wire in wires:
        if wire.projection.target in grids:
            by_target.setdefault(wire.projection.target, []).append(wire)
    for name, found in by_target.items():
        if len(found) > 1 or not isinstance(found[0].form, WindowForm):
            blocks = grid_blocks(network[name], grids[name])
            total += resources.output_entries(population, ([b] for b in blocks), targets={name})
        else:
            _add_window_entries(resources, found[0], grids[name], total)
    return total


def _add_window_entries(
    resources: Resources, wire: Wire, grid: Grid, total: NDArray[np.int64]
) -> None:
    form = wire.form
    assert isinstance(form, WindowForm)
    per_block = wire.entries * wire.n_signs
    parts = [
        list(pairwise(edges_of(n, k).tolist())) for n, k in zip(form.target, grid.cuts, strict=True)
    ]
    boxes = []  # per axis: (first, end, taps by which each source row meets the part)
    reach = [np.zeros(n, np.int64) for n in form.source[1:]]
    for axis in (0, 1):
        found = []
        for part in parts[1 + axis]:
            first, end = source_range(form, axis, part)
            meets = resources.signatures(wire, axis, part)
            reach[axis][first:end] += meets.any(axis=1)
            found.append((first, end, meets))
        boxes.append(found)
    spread = np.multiply.outer(*reach) * per_block
    plain = np.zeros(form.source[0], np.int64)  # parts that meet a channel with every tap
    for part in parts[0]:
        c0, c1 = group_channels(form, part)
        taps, every = resources.taps(wire, part)
        full = np.full(c1 - c0, True) if every else (taps > 0).all(axis=(1, 2))
        plain[c0:c1] += full
        rest = np.flatnonzero(~full)
        if not rest.size:
            continue
        for y0, y1, y in boxes[0]:
            for x0, x1, x in boxes[1]:
                total[c0 + rest, y0:y1, x0:x1] += per_block * reach_mask(taps[rest], y, x)
    total += plain[:, None, None] * spread


def _check_recurrent(
    resources: Resources, done: dict[str, Grid], backward: dict[str, set[str]]
) -> None:
    """Raise unless the output axons of recurrent populations fit, counted on the final blocks."""
    limit = resources.chip.limits.output_axons.value
    for name, targets in backward.items():
        if not targets:
            continue
        entries = grid_entries(resources, name, done)
        for block in grid_blocks(resources.network[name], done[name]):
            need = int(entries[block.slices()].sum())
            if need > limit:
                raise _too_much(resources, resources.network[name], "output axons", need, limit)


def _best_grid(
    resources: Resources,
    population: Population,
    counts: Candidates,
    entries: NDArray[np.int64],
    weights: Sequence[float],
) -> Grid:
    limits = resources.chip.limits
    _check_single_neuron(resources, population, counts, entries)
    sums = _BlockSums(entries)
    score = _score(resources, counts, weights)
    order = np.argsort(score, axis=None, kind="stable")
    likely = _fitting(resources, counts)
    likely &= sums.total <= limits.output_axons.value * counts.n_blocks
    sure = likely & (counts.axons <= limits.input_axons.value)
    sure &= counts.bits <= limits.synapse_memory_bits.value
    sure_, likely_ = sure.reshape(-1), likely.reshape(-1)
    n_exact = 0
    for flat in order.tolist():
        if not (sure_[flat] or (likely_[flat] and n_exact < _MAX_EXACT)):
            continue
        cuts = _cuts(counts, flat)
        if sums.most(cuts) > limits.output_axons.value:
            continue
        grid = Grid(population=population.name, cuts=cuts)
        if sure_[flat]:
            return grid
        n_exact += 1
        if _fits(resources, population, grid):
            return grid
    # weights of zero may let a grid fit that no count above could promise: bisect towards single
    # neurons, which were found to fit
    by_size = np.argsort(counts.n_blocks, axis=None, kind="stable").tolist()
    low, high = 0, len(by_size) - 1
    while low < high:
        middle = (low + high) // 2
        cuts = _cuts(counts, by_size[middle])
        grid = Grid(population=population.name, cuts=cuts)
        if sums.most(cuts) <= limits.output_axons.value and _fits(resources, population, grid):
            high = middle
        else:
            low = middle + 1
    return Grid(population=population.name, cuts=_cuts(counts, by_size[low]))


def _cuts(counts: Candidates, flat: int) -> tuple[int, int, int]:
    i, j, k = np.unravel_index(flat, counts.n_blocks.shape)
    return int(counts.choices[0][i]), int(counts.choices[1][j]), int(counts.choices[2][k])


def _score(
    resources: Resources, counts: Candidates, weights: Sequence[float]
) -> NDArray[np.float64]:
    """What a grid costs in cores: weighted blocks and shares; fewer deliveries break ties."""
    n_sources = sum(
        resources.network[resources.wires[name].projection.source].n_neurons
        for name in counts.deliveries
    )
    reached = np.zeros(counts.n_blocks.shape)
    for deliveries in counts.deliveries.values():
        reached += deliveries
    by_blocks, *by_share = weights
    score: NDArray[np.float64] = by_blocks * counts.n_blocks + np.tensordot(
        np.array(by_share), _shares(resources, counts), 1
    )
    return score + 0.01 * reached / max(n_sources, 1)


def _fits(resources: Resources, population: Population, grid: Grid) -> bool:
    """Whether every block fits, output axons aside; counted exactly."""
    limits = resources.chip.limits
    return all(
        block.n_neurons <= limits.neurons.value
        and resources.input_axons([block]) <= limits.input_axons.value
        and resources.synapse_bits([block]) <= limits.synapse_memory_bits.value
        and (
            limits.threshold_configurations is None
            or resources.thresholds([block]) <= limits.threshold_configurations.value
        )
        for block in _middle_first(grid_blocks(population, grid))
    )


def _middle_first(blocks: list[Block]) -> Iterator[Block]:
    yield blocks[len(blocks) // 2]
    yield from blocks


def _check_single_neuron(
    resources: Resources, population: Population, counts: Candidates, entries: NDArray[np.int64]
) -> None:
    """Raise if some neuron alone exceeds a limit of a core."""
    limits = resources.chip.limits
    worst = int(entries.max())
    if worst > limits.output_axons.value:
        raise _too_much(resources, population, "output axons", worst, limits.output_axons.value)
    formats = len({f for w in resources.into(population.name) for f in w.formats})
    if limits.synapse_configurations is not None and formats > limits.synapse_configurations.value:
        raise _too_much(
            resources, population, "synapse configurations", formats,
            limits.synapse_configurations.value,
        )  # fmt: skip
    if (
        counts.axons.flat[-1] <= limits.input_axons.value
        and counts.bits.flat[-1] <= limits.synapse_memory_bits.value
    ):
        return
    shape = chw(population.shape)
    most_axons = _axons_of_neurons(resources, population)
    c, y, x = (int(i) for i in np.unravel_index(int(most_axons.argmax()), shape))
    block = Block(
        population=population.name, channels=(c, c + 1), rows=(y, y + 1), columns=(x, x + 1),
        core=UNPLACED,
    )  # fmt: skip
    need = resources.input_axons([block])
    if need > limits.input_axons.value:
        raise _too_much(resources, population, "input axons", need, limits.input_axons.value)
    need = resources.synapse_bits([block])
    if need > limits.synapse_memory_bits.value:
        raise _too_much(
            resources, population, "bits of synapse memory", need, limits.synapse_memory_bits.value
        )


def _axons_of_neurons(resources: Resources, population: Population) -> NDArray[np.int64]:
    """Synapses (an upper bound of axons and lists) of each neuron, weighted by signs."""
    from pmsm_hw.operators import DenseForm, apply

    total = np.zeros(chw(population.shape), np.int64)
    for wire in resources.into(population.name):
        form = wire.form
        source = resources.network[wire.projection.source]
        if isinstance(form, DenseForm):
            each = np.count_nonzero(form.weight, axis=1)
            if wire.axons == "pixel":
                some = (form.weight != 0).reshape(len(each), source.shape[0], -1).any(axis=1)
                each = np.count_nonzero(some, axis=1)
            total += each.reshape(total.shape) * wire.n_signs
            continue
        mask: NDArray[np.int8] = np.not_equal(form.weight, 0).astype(np.int8)
        if wire.axons == "pixel":
            # one channel of all ones stands for a pixel
            mask = np.asarray(mask.any(axis=1, keepdims=True), np.int8)
            flat = WindowForm(
                mask,
                form.stride,
                form.padding,
                form.dilation,
                1,
                (1, *form.source[1:]),
                form.target,
            )
            ones = np.ones((1, 1, *form.source[1:]), np.int8)
        else:
            flat = WindowForm(
                mask, form.stride, form.padding, form.dilation, form.groups, form.source,
                form.target,
            )  # fmt: skip
            ones = np.ones((1, *chw(source.shape)), np.int8)
        total += apply(flat, ones, 1).astype(np.int64).reshape(total.shape) * wire.n_signs
    return total


def _too_much(
    resources: Resources, population: Population, what: str, need: int, limit: int
) -> CapacityError:
    remedies = {
        "input axons": "split its fan-in (pmsm_hw.mapping.split_fan_in) or use a larger chip",
        "output axons": "a neuron reaches too many cores: split the population's targets, or use a "
        "chip with larger cores",
        "bits of synapse memory": "split its fan-in (pmsm_hw.mapping.split_fan_in), or use fewer "
        "weight bits",
    }
    return CapacityError(
        population.subject,
        f"one neuron needs {need:,} {what}, a core of chip '{resources.chip.name}' has {limit:,}",
        remedy=remedies.get(what, "use a larger chip"),
        actual=need,
        limit=limit,
    )
