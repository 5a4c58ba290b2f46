"""Cutting populations into blocks that fit a core, under every limit at once.

A population is cut along rows and columns into a grid of cells, and each cell along its channels
into as few blocks as fit (windows at the edge of an image meet fewer sources, so their cells take
fewer blocks). All such cuts are counted at once: resources of windows are products of what one axis
needs.

Which cut is best depends on the neighbours. Every delivery is an output-axon entry of its source,
so a cut of one population decides how small the blocks of its sources must be. Costs are therefore
added up along the network, from the inputs on, and cuts are chosen backwards, from the readouts on,
when the output axons of a population are known exactly; recurrent ones are cut again until they
agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError
from pmsm_hw.mapping.assignment import Block
from pmsm_hw.mapping.partition.bounding import Backwards
from pmsm_hw.mapping.partition.cut_search import FEW, MANY, MIXED, NEAR, Plan, Search, plan_for
from pmsm_hw.mapping.partition.grids import (
    UNPLACED,
    Grid,
    cut_choices,
    edges_of,
    entries_before,
    grid_blocks,
    parts_of,
    runs_of,
)
from pmsm_hw.mapping.partition.packing import count_cores
from pmsm_hw.mapping.resources import list_bits
from pmsm_hw.mapping.resources.neurons import most_thresholds, thresholds_vary_by_place
from pmsm_hw.mapping.resources.windows import (
    part_key,
    reach_mask,
    signatures,
    singles,
    source_range,
)
from pmsm_hw.network import Input, Population
from pmsm_hw.operators import DenseForm, WindowForm, apply, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Objective
    from pmsm_hw.mapping.resources import Resources, Wire
    from pmsm_hw.mapping.resources.axons import Plain, Reach

__all__ = [
    "Bound",
    "Candidates",
    "Grid",
    "candidates",
    "cut_network",
    "cut_within",
    "grid_blocks",
    "grid_entries",
]

Range = tuple[int, int]
Target = tuple[int, int, int, bool]
"""Rows, columns, channels that a block may have, and whether blocks of a cell are to be equal."""
_MAX_ROUNDS = 12
_MAX_BUILDS = 16
_MOST_SEARCHED = 2048
"""Networks of more populations are not searched: it would change few of them."""
_WIDE, _LONGER = 1.135, 8
"""Cuts of up to `MANY` cores, so many times the bound, are searched again, and longer."""
_FEW_BLOCKS = (0.02, 0.1)
"""Weights (`cut_search.Weights`) by which cuts are tried for short ways."""
_NEAR = 1.1
"""Cuts that take more cores than the best one, by this factor, are out of the question."""
_IMPOSSIBLE = 1e9
_SLACK = 0.05
"""How far an estimate may lie above a limit when the exact count is still worth a look."""


# ---------------------------------------------------------------------------------------------
# Counting all cuts of a population
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AxisClasses:
    """Parts along one axis, by kind: parts of one kind need the same.

    Arrays are over (number of cuts, kind); kinds that a number of cuts does not have count zero.

    Parameters
    ----------
    size, n
        Rows of a part of each kind, and how many such parts there are.
    kind
        For each number of cuts, the kind of each part.
    """

    size: NDArray[np.int64]
    n: NDArray[np.int64]
    kind: list[NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class AxisTaps:
    """What the parts of one axis meet of one window projection.

    Parameters
    ----------
    hit
        ``(cuts, kinds)`` source rows that meet the part.
    single
        ``(cuts, kinds)`` those of them whose taps no other one has.
    rows
        ``(cuts, kinds, kernel + 1)`` lists of rows (distinct ones, where they are shared), by their
        number of taps.
    """

    hit: NDArray[np.int64]
    single: NDArray[np.int64]
    rows: NDArray[np.int64]


def _axis(
    resources: Resources,
    wires: Sequence[Wire],
    axis: int,
    size: int,
    choices: NDArray[np.int64],
) -> tuple[AxisClasses, dict[str, AxisTaps]]:
    windows = [w for w in wires if isinstance(w.form, WindowForm)]
    forms = [w.form for w in windows if isinstance(w.form, WindowForm)]
    kinds: list[dict[tuple[int, ...], int]] = []
    of_part: list[NDArray[np.int64]] = []
    example: list[list[Range]] = []
    for cuts in choices.tolist():
        seen: dict[tuple[int, ...], int] = {}
        first: list[Range] = []
        index = []
        for part in parts_of(size, cuts):
            key = part_key(forms, axis, part)
            if key not in seen:
                seen[key] = len(seen)
                first.append(part)
            index.append(seen[key])
        kinds.append(seen)
        of_part.append(np.array(index))
        example.append(first)
    n_kinds = max(len(seen) for seen in kinds)
    shape = (len(choices), n_kinds)
    sizes, counts = np.ones(shape, np.int64), np.zeros(shape, np.int64)
    taps = {
        w.projection.name: AxisTaps(
            hit=np.zeros(shape, np.int64),
            single=np.zeros(shape, np.int64),
            rows=np.zeros((*shape, w.form.weight.shape[2 + axis] + 1), np.int64),
        )
        for w in windows
    }
    cache: dict[tuple[str, tuple[int, ...]], tuple[int, int, NDArray[np.int64]]] = {}
    for i, (seen, first) in enumerate(zip(kinds, example, strict=True)):
        counts[i, : len(seen)] = np.bincount(of_part[i], minlength=len(seen))
        for (key, k), part in zip(seen.items(), first, strict=True):
            sizes[i, k] = key[0]
            for wire in windows:
                at = (wire.projection.name, key)
                if at not in cache:
                    cache[at] = _meets(resources, wire, axis, part)
                table = taps[wire.projection.name]
                table.hit[i, k], table.single[i, k], table.rows[i, k] = cache[at]
    return AxisClasses(size=sizes, n=counts, kind=of_part), taps


def _meets(
    resources: Resources, wire: Wire, axis: int, part: Range
) -> tuple[int, int, NDArray[np.int64]]:
    """Source rows that meet a part, single ones of them, and lists of rows by number of taps."""
    meets = signatures(wire.windows[axis], part)
    kernel = meets.shape[1]
    hit = int(np.count_nonzero(meets.any(axis=1)))
    single = int(np.count_nonzero(singles(wire.windows[axis], part)))
    if wire.shares_lists:
        bit = np.int64(1) << np.arange(kernel, dtype=np.int64)
        meets = (np.unique(meets @ bit)[:, None] & bit) != 0
    by_taps = np.bincount(meets.sum(axis=1), minlength=kernel + 1)
    by_taps[0] = 0
    return hit, single, by_taps


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """All cuts of one population, counted.

    Arrays are over (channels, rows, columns): the fewest parts along channels that a cell may have,
    and the numbers of rows and columns of cells. Zeros among weights enter by their share.

    Parameters
    ----------
    choices
        Numbers of parts along each axis.
    classes
        Kinds of parts along rows and columns.
    cell_parts
        ``(rows, row kinds, columns, column kinds)`` index into the channel choices: fewest parts
        of such a cell that seem to fit a core, output axons aside; their number if none does.
    n_neurons, most_neurons
        Neurons of the population, and how many of them a block may have.
    n_blocks
        Blocks in all.
    bits, deliveries, entries
        Synapse memory in all; by wire, source neurons reached, and output-axon entries that they
        need for that, summed over blocks.
    axons
        Input axons in all.
    fits
        Whether every cell has a number of parts that fits.
    taps
        Along rows and columns, by window projection.
    """

    choices: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    classes: tuple[AxisClasses, AxisClasses]
    cell_parts: NDArray[np.int64]
    n_neurons: int
    most_neurons: int
    n_blocks: NDArray[np.int64]
    bits: NDArray[np.float64]
    axons: NDArray[np.float64]
    deliveries: dict[str, NDArray[np.float64]]
    entries: dict[str, NDArray[np.float64]]
    fits: NDArray[np.bool_]
    taps: tuple[dict[str, AxisTaps], dict[str, AxisTaps]]


def all_candidates(
    resources: Resources,
    progress: Callable[[str], None] | None = None,
    block_limits: MappingType[str, int] | None = None,
) -> dict[str, Candidates]:
    """`candidates` of every population that is placed; those that are alike share their arrays.

    Parameters
    ----------
    resources, progress
        As for `cut_network`.
    block_limits
        Neurons that a block of a population may have, where that is less than a core's limit.
    """
    limit = resources.chip.limits.neurons.value
    known: dict[tuple[str, int], tuple[str, Candidates]] = {}
    found = {}
    for p in resources.placed:
        if progress is not None:
            progress(f"counting {p.name}")
        most = min(limit, (block_limits or {}).get(p.name, limit))
        key = (resources.like(p.name), most)
        if key not in known:
            known[key] = (p.name, candidates(resources, p, most))
        name, counts = known[key]
        found[p.name] = counts
        if name != p.name:  # its wires have other names
            wires = zip(resources.into(name), resources.into(p.name), strict=True)
            mine = {a.projection.name: b.projection.name for a, b in wires}
            found[p.name] = replace(
                counts,
                deliveries={mine[wire]: each for wire, each in counts.deliveries.items()},
                entries={mine[wire]: each for wire, each in counts.entries.items()},
                taps=(
                    {mine[wire]: each for wire, each in counts.taps[0].items()},
                    {mine[wire]: each for wire, each in counts.taps[1].items()},
                ),
            )
    return found


def candidates(
    resources: Resources, population: Population, most_neurons: int | None = None
) -> Candidates:
    """Count all cuts of a population.

    Parameters
    ----------
    resources, population
        Of which network, on which chip.
    most_neurons
        That a block may have; a core's limit by default.
    """
    if most_neurons is None:
        most_neurons = resources.chip.limits.neurons.value
    limits = resources.chip.limits
    wires = resources.into(population.name)
    shape = chw(population.shape)
    choices = (cut_choices(shape[0]), cut_choices(shape[1]), cut_choices(shape[2]))
    (rows, row_taps), (columns, column_taps) = (
        _axis(resources, wires, a, shape[1 + a], choices[1 + a]) for a in (0, 1)
    )
    widest = -(-shape[0] // choices[0])

    # arrays over (channel choice, row choice, row kind, column choice, column kind)
    def spread(
        channels: NDArray[np.int64] | int, y: NDArray[np.int64], x: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        cells: NDArray[np.int64] = y[:, :, None, None] * x[None, None, :, :]
        product: NDArray[np.int64] = np.asarray(channels).reshape(-1, 1, 1, 1, 1) * cells
        return product

    neurons = spread(widest, rows.size, columns.size)
    axons, bits = np.zeros(neurons.shape), np.zeros(neurons.shape)
    known: dict[tuple[object, ...], _WireCount] = {}
    counted: dict[str, _WireCount] = {}
    for wire in wires:
        name = wire.projection.name
        if wire.kind not in known:
            known[wire.kind] = _count_wire(
                resources, wire, choices[0], neurons, spread, row_taps.get(name),
                column_taps.get(name),
            )  # fmt: skip
        counted[name] = known[wire.kind]
        axons += counted[name].axons
        bits += counted[name].bits
    fit = neurons <= most_neurons
    zeros = max((1 - w.n_weights / w.form.weight.size for w in wires), default=0)
    slack = 1 + min(zeros, _SLACK)
    fit &= axons <= slack * limits.input_axons.value
    fit &= bits <= slack * limits.synapse_memory_bits.value
    if limits.threshold_configurations is not None:
        thresholds = np.array(
            [most_thresholds(population, parts_of(shape[0], cuts)) for cuts in choices[0].tolist()],
            np.int64,
        ).reshape(-1, 1, 1, 1, 1)
        fit &= np.minimum(thresholds, neurons) <= limits.threshold_configurations.value
    parts = np.where(fit.any(axis=0), fit.argmax(axis=0), len(choices[0]))
    entries: dict[str, NDArray[np.int64]] = {}
    for wire in wires:
        found = counted[wire.projection.name]
        needed = found.entries
        if wire.has_plain:  # while input axons suffice: see `Resources.n_plain`
            more = (found.most - 1) * wire.n_signs
            left = np.maximum(limits.input_axons.value - axons, 0) // np.maximum(more, 1)
            n = np.where(more > 0, np.minimum(found.single, left), found.single).astype(np.int64)
            axons += n * more
            needed = needed - n * found.total * ((wire.entries - 1) * wire.n_signs)
        entries[wire.projection.name] = needed
    return _totals(
        population, most_neurons, choices, rows, columns, parts, axons, bits,
        {name: found.sources for name, found in counted.items()}, entries, (row_taps, column_taps),
    )  # fmt: skip


def _totals(
    population: Population,
    most_neurons: int,
    choices: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    rows: AxisClasses,
    columns: AxisClasses,
    parts: NDArray[np.int64],
    axons: NDArray[np.float64],
    bits: NDArray[np.float64],
    reached: dict[str, NDArray[np.int64]],
    sent: dict[str, NDArray[np.int64]],
    taps: tuple[dict[str, AxisTaps], dict[str, AxisTaps]],
) -> Candidates:
    """Sum over the cells of each cut, each with as many channel parts as it needs."""
    n_choices = len(choices[0])
    many = rows.n[:, :, None, None] * columns.n[None, None]
    used = (parts == n_choices) & (many > 0)
    shape = (n_choices, len(choices[1]), len(choices[2]))
    # each choice: that many parts, or as many as a cell needs
    finest = np.arange(n_choices).reshape(-1, 1, 1, 1, 1)
    taken = np.minimum(np.maximum(parts, finest), n_choices - 1)
    n = many * choices[0][taken]
    summed: dict[int, NDArray[np.float64]] = {}  # by array: wires that are alike share theirs

    def total_of(needed: NDArray[np.int64]) -> NDArray[np.float64]:
        if id(needed) not in summed:
            each = many * np.take_along_axis(needed, taken, 0)
            summed[id(needed)] = each.sum(axis=(2, 4)).astype(np.float64)
        return summed[id(needed)]

    return Candidates(
        choices=choices,
        classes=(rows, columns),
        cell_parts=parts,
        n_neurons=population.n_neurons,
        most_neurons=most_neurons,
        n_blocks=n.sum(axis=(2, 4)),
        bits=(n * np.take_along_axis(bits, taken, 0)).sum(axis=(2, 4)),
        axons=(n * np.take_along_axis(axons, taken, 0)).sum(axis=(2, 4)),
        deliveries={name: total_of(sources) for name, sources in reached.items()},
        entries={name: total_of(needed) for name, needed in sent.items()},
        fits=np.broadcast_to(~used.any(axis=(1, 3)), shape),
        taps=taps,
    )


class _WireCount(NamedTuple):
    """What a wire needs in the blocks of each kind of cell.

    Attributes
    ----------
    axons, bits
        Of the largest block, no axons being plain ones.
    sources, entries
        Neurons reached by all blocks of the cell, and their output-axon entries.
    single
        Pixels whose lists are not shared.
    most, total
        Most channels that a pixel has for a block, and those of all blocks together, both to be
        broadcast.
    """

    axons: NDArray[np.float64]
    bits: NDArray[np.float64]
    sources: NDArray[np.int64]
    entries: NDArray[np.int64]
    single: NDArray[np.int64]
    most: NDArray[np.int64]
    total: NDArray[np.int64]


def _count_wire(
    resources: Resources,
    wire: Wire,
    choices: NDArray[np.int64],
    neurons: NDArray[np.int64],
    spread: Callable[..., NDArray[np.int64]],
    row_taps: AxisTaps | None,
    column_taps: AxisTaps | None,
) -> _WireCount:
    """Count a wire into the blocks of each kind of cell."""
    chip = resources.chip
    index = chip.limits.index_bits.value
    form = wire.form
    # channels without a weight hold nothing: the others' share of the blocks counts
    reaching = (wire.channels[1] - wire.channels[0]) / resources.n_channels(wire)
    n_weights = form.weight.size
    if isinstance(form, DenseForm):  # inputs without a weight cost nothing
        n_weights = len(form.weight) * wire.n_live
    density = wire.n_weights / max(n_weights * reaching, 1)
    pixel = wire.axons == "pixel"
    if row_taps is None or column_taps is None:
        n_pixels = int(np.count_nonzero(wire.live))
        lists = np.full(neurons.shape, wire.n_live, np.int64)
        sources = lists * choices.reshape(-1, 1, 1, 1, 1)
        hits = [(neurons, lists)]
        units = np.full_like(lists, n_pixels) if pixel else lists
        single = np.full_like(lists, n_pixels)
        most = np.full((1, 1, 1, 1, 1), -(-wire.n_live // max(n_pixels, 1)))
        total = most * choices.reshape(-1, 1, 1, 1, 1)
    else:
        assert isinstance(form, WindowForm)
        n_channels, per_channel, channel_sum = _channel_table(form, choices)
        y, x = row_taps.rows, column_taps.rows
        lists = spread(n_channels, y.sum(axis=-1), x.sum(axis=-1))
        hits = [
            (
                (per_channel * (i * j)).reshape(-1, 1, 1, 1, 1),
                spread(n_channels, y[..., i], x[..., j]),
            )
            for i in range(1, y.shape[-1])
            if y[..., i].any()
            for j in range(1, x.shape[-1])
            if x[..., j].any()
        ]
        sources = spread(channel_sum, row_taps.hit, column_taps.hit)
        units = spread(1 if pixel else n_channels, row_taps.hit, column_taps.hit)
        units = np.broadcast_to(units, neurons.shape)
        single = np.broadcast_to(spread(1, row_taps.single, column_taps.single), neurons.shape)
        most = n_channels.reshape(-1, 1, 1, 1, 1)
        total = channel_sum.reshape(-1, 1, 1, 1, 1)
    axons = np.asarray(units * wire.n_signs, np.float64)
    if not pixel and density < 1:
        mean_hits = sum(n * m for n, m in hits) / np.maximum(lists, 1)
        axons = axons * (1 - (1 - density) ** mean_hits)
    bits = np.zeros(neurons.shape)
    sparse, dense = np.zeros(neurons.shape), np.zeros(neurons.shape)
    for width_bits in wire.widths:
        each = width_bits + wire.delay_bits
        dense += lists * list_bits(chip, neurons, each)
        for length, count in hits:
            likely = np.maximum(np.rint(length * density).astype(np.int64), 1)
            sparse += count * list_bits(chip, likely, each + index)
    bits += np.minimum(sparse, dense)
    if reaching < 1:
        axons, bits = axons * reaching, bits * reaching
        sources = np.rint(sources * reaching).astype(np.int64)
        single = np.rint(single * reaching).astype(np.int64)
    entries = sources * (wire.entries * wire.n_signs)
    return _WireCount(axons, bits, sources, entries, single, most, total)


def _channel_table(
    form: WindowForm, choices: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Most source channels of a part, most target channels each reaches, source channels summed."""
    n, per_group = form.target[0], form.target[0] // form.groups
    most, each, total = [], [], []
    for cuts in choices.tolist():
        edges = edges_of(n, cuts)
        first, last = edges[:-1] // per_group, (edges[1:] - 1) // per_group
        sizes = (last + 1 - first) * (form.source[0] // form.groups)
        most.append(int(sizes.max()))
        each.append(min(-(-n // cuts), per_group))
        total.append(int(sizes.sum()))
    return np.array(most), np.array(each), np.array(total)


# ---------------------------------------------------------------------------------------------
# Costs along the network
# ---------------------------------------------------------------------------------------------


def _shares(resources: Resources, counts: Candidates) -> NDArray[np.float64]:
    """Cores' worth of neurons, synapse memory and sources' output axons of each cut.

    Returns
    -------
    ndarray
        ``(3, *cuts)`` float64.
    """
    limits = resources.chip.limits
    entries = np.zeros(counts.n_blocks.shape)
    for name, needed in counts.entries.items():
        wire = resources.wires[name]
        if not isinstance(resources.network[wire.projection.source], Input):
            entries += needed / limits.output_axons.value
    neurons = np.full(counts.n_blocks.shape, counts.n_neurons / limits.neurons.value)
    return np.stack([neurons, counts.bits / limits.synapse_memory_bits.value, entries])


_Enough: TypeAlias = tuple[NDArray[np.int64], tuple[NDArray[np.bool_], NDArray[np.float64]] | None]


def _first_enough(needed: NDArray[np.float64], sizes: NDArray[np.int64], limit: int) -> _Enough:
    """Cuts of a source with as many blocks as its output axons need, see `_Steps.sources`."""
    at_least = np.ceil(needed / limit - 1e-9)
    at = np.searchsorted(sizes, at_least)
    none = at == len(sizes)
    if not none.any():
        return at, None
    # more than one core's worth for a neuron: impossible, the fewer the better
    return np.minimum(at, len(sizes) - 1), (none, _IMPOSSIBLE * (1 + at_least / sizes[-1]))


class _Steps:
    """What `_Costs` needs of all cuts, whatever the weights.

    Parameters
    ----------
    resources, counts
        Of the network and the chip.

    Attributes
    ----------
    order
        Names of the populations.
    shares
        By population, `_shares`; one array for those that are alike.
    unfit
        By population, cuts that do not fit; ``None``: all do.
    by_size
        By population, its cuts by the number of their blocks, and these numbers, ascending.
    sources
        By population, sources that are cut before it: for each of its cuts, the first one of the
        source (by size) that has enough blocks, or the last one; which have none, and what it costs
        then (``None``: all have one).
    """

    def __init__(self, resources: Resources, counts: MappingType[str, Candidates]) -> None:
        self.counts = counts
        self.order = [p.name for p in resources.placed]
        self.shares: dict[str, NDArray[np.float64]] = {}
        self.unfit: dict[str, NDArray[np.bool_] | None] = {}
        self.by_size: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self.sources: dict[str, list[tuple[str, _Enough]]] = {}
        # by arrays, which populations that are alike share
        shares: dict[tuple[object, ...], NDArray[np.float64]] = {}
        by_size: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        enough: dict[tuple[int, int], _Enough] = {}
        limit = resources.chip.limits.output_axons.value
        for name in self.order:
            found = counts[name]
            sources = [resources.wires[wire].projection.source for wire in found.entries]
            inputs = (isinstance(resources.network[source], Input) for source in sources)
            alike = (id(found.bits), *inputs)
            if alike not in shares:
                shares[alike] = _shares(resources, found)
            self.shares[name] = shares[alike]
            self.unfit[name] = None if found.fits.all() else ~found.fits
            self.sources[name] = []
            for source, needed in zip(sources, found.entries.values(), strict=True):
                if source in self.by_size:  # not an input, or a recurrent source
                    sizes = self.by_size[source][1]
                    pair = (id(needed), id(sizes))
                    if pair not in enough:
                        enough[pair] = _first_enough(needed, sizes, limit)
                    self.sources[name].append((source, enough[pair]))
            if id(found.n_blocks) not in by_size:
                order = np.argsort(found.n_blocks, axis=None, kind="stable")
                by_size[id(found.n_blocks)] = (order, found.n_blocks.reshape(-1)[order])
            self.by_size[name] = by_size[id(found.n_blocks)]


class _Costs:
    """Least cost of a population, and of all that feeds it, for each of its cuts.

    A cut costs its weighted shares (`_shares`) and blocks, and more: every delivery is an output
    axon of its source, whose blocks must be so small that a core has room for theirs. That is
    known for each cut of the source, so the costs add up along the network, from the inputs on.

    Parameters
    ----------
    steps
        Of the network and the chip.
    weights
        Of blocks, neurons, synapse memory and output axons.
    shared
        Count a source's blocks for each of its targets (to choose cuts), or for one only (to
        bound from below).
    """

    def __init__(self, steps: _Steps, weights: Sequence[float], *, shared: bool) -> None:
        self.total: dict[str, NDArray[np.float64]] = {}
        by_blocks, *by_share = weights
        least: dict[str, NDArray[np.float64]] = {}  # with at least so many blocks
        spent: set[str] = set()
        alone: dict[int, NDArray[np.float64]] = {}  # by shares: without what feeds it
        by = np.array(by_share)
        for name in steps.order:
            found, shares = steps.counts[name], steps.shares[name]
            if id(shares) not in alone:
                weighted = np.tensordot(by, shares, 1)
                alone[id(shares)] = np.asarray(by_blocks * found.n_blocks + weighted, np.float64)
            cost = alone[id(shares)]
            for source, (at, none) in steps.sources[name]:
                if source in spent and not shared:
                    continue  # counts already
                spent.add(source)
                some = least[source]
                extra = some[at]
                cost = cost + (extra if none is None else np.where(*none, extra))
                if shared:
                    cost = cost - some[0]
            unfit = steps.unfit[name]
            if unfit is not None:
                cost = np.where(unfit, np.inf, cost)
            if not np.isfinite(cost).any():
                # no cut seems to fit: the finest one will tell
                cost = cost.copy()
                cost[-1, -1, -1] = by_blocks * found.n_neurons
            self.total[name] = cost
            by_size = steps.by_size[name][0]
            least[name] = np.minimum.accumulate(cost.reshape(-1)[by_size][::-1])[::-1]
        self.bound = sum(float(least[name][0]) for name in steps.order if name not in spent)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Fewest cores that any such cut can do with.

    Parameters
    ----------
    cores
        The bound (`bounding.Backwards`).
    weights
        Of neurons, synapse memory and output axons: how scarce they are.
    """

    cores: int
    weights: tuple[float, float, float]


def _scarcity(steps: _Steps) -> tuple[float, float, float]:
    """Weights of neurons, synapse memory and output axons, adding up to 1, by how scarce they are.

    Those by which the cheapest cut costs most (`_Costs`).
    """
    best, at = -1.0, (1.0, 0.0, 0.0)
    step = 0.25
    tried: set[tuple[float, float, float]] = set()
    around = [(a / 4, b / 4) for a in range(5) for b in range(5 - a)]
    while step > 0.04:
        for a, b in around:
            point = (a, b, round(1 - a - b, 9))
            if min(point) < 0 or point in tried:
                continue
            tried.add(point)
            value = _Costs(steps, (0.0, *point), shared=False).bound
            if value > best:
                best, at = value, point
        step /= 2
        around = [(at[0] + i * step, at[1] + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return at


# ---------------------------------------------------------------------------------------------
# Choosing
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A whole network, cut.

    Parameters
    ----------
    blocks
        By population, in topological order; none has a core yet.
    entries
        By population, output-axon entries of each neuron if every block had its own core.
    bound
        Fewest cores that any cut can do with.
    frugal
        The cut with fewest deliveries among those that took at most a tenth more cores; ``None``:
        this one, or nobody asked.
    others
        Makes other cuts, given how many cores they may take, those with few large blocks first;
        ``None``: there was no time to search.
    """

    blocks: dict[str, list[Block]]
    entries: dict[str, NDArray[np.int64]]
    bound: Bound
    frugal: Cut | None = None
    others: Callable[[int], Iterator[Cut]] | None = None


def cut_network(
    resources: Resources,
    *,
    objective: Objective = "cores",
    progress: Callable[[str], None] | None = None,
    deadline: Callable[[], bool] | None = None,
) -> Cut:
    """Cut every population but inputs.

    Several cuts are made that differ in what they weigh most, and searched for from them; the best
    one is taken. Networks of more than 2,048 populations are not searched.

    Parameters
    ----------
    resources
        Of the network and the chip.
    objective
        The cut with fewest cores is taken; for others than ``"cores"``, `Cut.frugal` is made too.
    progress
        Called with a line about what is done.
    deadline
        Says whether time is up: the best cut so far is then taken.

    Raises
    ------
    CapacityError
        If a single neuron of a population exceeds a limit of a core.
    """
    counts = all_candidates(resources, progress)
    steps = _Steps(resources, counts)
    n, b, e = scarce = _scarcity(steps)
    entries = _Entries(resources)
    cuts: list[dict[str, Grid]] = []
    failure: CapacityError | None = None

    def take(weights: Sequence[float], targets: MappingType[str, Target] | None = None) -> None:
        nonlocal failure
        if cuts and deadline is not None and deadline():
            return
        if progress is not None:
            progress("cutting" if targets is None else "cutting, improved")
        try:
            grids = _cut_once(resources, steps, entries, weights, targets)
        except CapacityError as error:
            failure = error
        else:
            if grids not in cuts:
                cuts.append(grids)

    weights = ((0.1, 0.2, 0.2, 0.6), (0.02, n, b, e), (1.0, 0.0, 0.0, 0.0))
    for some in weights:
        take(some)
    if not cuts:
        assert failure is not None
        raise failure
    if sum(counts[name].n_neurons for name in counts) <= resources.chip.limits.neurons.value:
        fewest = min((_counted(resources, grids, entries) for grids in cuts), key=_cores_and_sent)
        if fewest[0] == 1:  # there is nothing to search for
            return _cut_of(resources, fewest, Bound(cores=1, weights=scarce))
    if len(counts) > _MOST_SEARCHED:
        ranked = [_counted(resources, grids, entries) for grids in cuts]
        most = min(ranked, key=_cores_and_sent)[0]
        if progress is not None:
            progress("bounding the cores from below")
        least = Backwards(resources, counts).least_cores(most, deadline)
        return _best_of(resources, ranked, Bound(cores=least, weights=scarce), objective)
    search = Search(resources, counts)

    def state_of(grids: MappingType[str, Grid]) -> NDArray[np.int64]:
        return search.state({name: _target_of(grid) for name, grid in grids.items()})

    found: list[NDArray[np.int64]] = []
    least, plan = 0, Plan()
    starts = [state_of(grids) for grids in cuts]
    starts.sort(key=lambda state: search.value(state)[1])
    backwards = Backwards(resources, counts)
    if deadline is None or not deadline():
        widest = {name: chw(resources.network[name].shape)[0] for name in search.names}
        frugal = [
            np.array([(*axes[name], widest[name], 1) for name in search.names], np.int64)
            for axes in backwards.frugal_cuts(min(search.value(state)[0] for state in starts))
        ]
        starts = [*frugal, starts[0]]
        options = {
            name: _options(resources, counts[name], tuple(starts[0][i].tolist()))
            for i, name in enumerate(search.names)
        }
        n_cores = search.value(starts[-1])[0]
        plan = plan_for(n_cores)
        enough = backwards.least_cores(n_cores, deadline) if n_cores <= FEW else 0
        if progress is not None:
            progress("searching for better cuts")
        found = search.improve(starts, options, plan, enough=enough)
        if progress is not None:
            progress("bounding the cores from below")
        n_cores = search.value(found[0])[0]
        least = backwards.least_cores(n_cores, deadline)
        late = deadline is not None and deadline()
        if not late and FEW < n_cores <= MANY and n_cores > _WIDE * least:
            found += search.improve(found, options, plan._replace(weights=MIXED), longer=_LONGER)
            found.sort(key=lambda state: search.value(state)[1])
        for state in found[: plan.n_made]:
            take((0.02, n, b, e), search.cut(state))
    estimates = [search.value(state_of(grids))[0] for grids in cuts]
    ranked = [
        _counted(resources, grids, entries)
        for grids, n_cores in zip(cuts, estimates, strict=True)
        if n_cores <= _NEAR * min(estimates)
    ]
    best = min(ranked, key=_cores_and_sent)
    if not least:
        least = backwards.least_cores(best[0], deadline)
    bound = Bound(cores=min(least, best[0]), weights=scarce)

    def others(most: int) -> Iterator[Cut]:
        more = search.improve(found, options, plan._replace(weights=NEAR), longer=2, seed=1_000_003)
        for cut in ranked:
            if cut is not best and cut[0] <= most:
                yield _cut_of(resources, cut, bound)
        for state in sorted([*found, *more], key=lambda s: search.value(s, _FEW_BLOCKS)[1]):
            n_before = len(cuts)
            if search.value(state)[0] <= most:
                take((0.02, n, b, e), search.cut(state))
            if len(cuts) > n_before:
                cut = _counted(resources, cuts[-1], entries)
                if cut[0] <= most:
                    yield _cut_of(resources, cut, bound)

    return _best_of(resources, ranked, bound, objective, others if found else None)


def _best_of(
    resources: Resources,
    ranked: Sequence[_Counted],
    bound: Bound,
    objective: Objective,
    others: Callable[[int], Iterator[Cut]] | None = None,
) -> Cut:
    """The cut with fewest cores, and where it matters the one with fewest output axons near it."""
    best = min(ranked, key=_cores_and_sent)
    near = [cut for cut in ranked if cut[0] <= _NEAR * best[0]]
    fewest = min(near, key=lambda cut: (cut[1], cut[0]))
    frugal = None
    if objective != "cores" and fewest[1] < best[1]:
        frugal = _cut_of(resources, fewest, bound)
    return _cut_of(resources, best, bound, frugal=frugal, others=others)


def cut_within(
    resources: Resources, bound: Bound, block_limits: MappingType[str, int]
) -> list[dict[str, list[Block]]]:
    """Cuts into blocks of at most so many neurons, not improved, that will not share cores.

    Parameters
    ----------
    resources
        Of the network and the chip.
    bound
        Of the network, without such limits.
    block_limits
        Neurons that a block may have, by population.

    Returns
    -------
    list
        Blocks by population, in topological order, for several weights; different ones only.
    """
    steps = _Steps(resources, all_candidates(resources, block_limits=block_limits))
    entries = _Entries(resources)
    found: list[dict[str, Grid]] = []
    for weights in ((0.02, *bound.weights), (0.1, 0.2, 0.2, 0.6), (1.0, 0.0, 0.0, 0.0)):
        try:
            grids = _cut_once(resources, steps, entries, weights)
        except CapacityError:  # finer blocks of targets can need too many output axons
            continue
        if grids not in found:
            found.append(grids)
    return [{p.name: grid_blocks(p, grids[p.name]) for p in resources.placed} for grids in found]


_Counted: TypeAlias = tuple[int, int, MappingType[str, Grid], dict[str, NDArray[np.int64]]]
"""Cores that a cut takes, its output axons, itself, and the entries of its neurons."""


def _cores_and_sent(cut: _Counted) -> tuple[int, int]:
    return cut[:2]


def _cut_of(
    resources: Resources,
    counted: _Counted,
    bound: Bound,
    *,
    frugal: Cut | None = None,
    others: Callable[[int], Iterator[Cut]] | None = None,
) -> Cut:
    return Cut(
        blocks={p.name: grid_blocks(p, counted[2][p.name]) for p in resources.placed},
        entries=counted[3],
        bound=bound,
        frugal=frugal,
        others=others,
    )


def _counted(resources: Resources, grids: MappingType[str, Grid], entries: _Entries) -> _Counted:
    """A cut, counted exactly."""
    found = {p.name: entries.of(p.name, grids) for p in resources.placed}
    sent = sum(int(e.sum()) for e in found.values())
    return count_cores(resources, grids, found), sent, grids, found


def _target_of(grid: Grid) -> Target:
    """What was wanted of a grid that exists."""
    widest = max(grid.channels) if grid.runs else -(-grid.shape[0] // min(grid.channels))
    return grid.rows, grid.columns, widest, not grid.runs


def _options(
    resources: Resources, counts: Candidates, now: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """Cuts worth trying, as states of `Search`: the cheapest ones, and finer ones."""
    shares = _shares(resources, counts)
    shape = counts.n_blocks.shape
    found: dict[tuple[int, int, int], None] = {}
    for weights in (
        (0.01, 0.0, 1.0, 0.0), (0.01, 0.0, 0.0, 1.0), (0.01, 0.0, 0.5, 0.5), (1.0, 0.0, 0.0, 0.0),
        (0.2, 0.0, 0.5, 0.3), (0.2, 0.0, 0.2, 0.6),
    ):  # fmt: skip
        by_blocks, *by_share = weights
        cost = by_blocks * counts.n_blocks + np.tensordot(np.array(by_share), shares, 1)
        cost = np.where(counts.fits, cost, np.inf)
        for flat in np.argsort(cost, axis=None, kind="stable")[:2].tolist():
            i, j, k = (int(v) for v in np.unravel_index(flat, shape))
            if np.isfinite(cost[i, j, k]):
                found[i, j, k] = None
    for i, j, k in list(found):
        fewest = int(counts.n_blocks[i, j, k])
        for finer in range(i + 1, shape[0]):
            if counts.n_blocks[finer, j, k] > 4 * fewest:
                break
            if counts.n_blocks[finer, j, k] > counts.n_blocks[finer - 1, j, k]:
                found[finer, j, k] = None
    n_channels = int(counts.choices[0][-1])
    states = [(j, k, -(-n_channels // int(counts.choices[0][i])), 1) for i, j, k in found]
    return list(dict.fromkeys([now, *states]))


def _cut_once(
    resources: Resources,
    steps: _Steps,
    entries: _Entries,
    weights: Sequence[float],
    targets: MappingType[str, Target] | None = None,
) -> dict[str, Grid]:
    counts, order = steps.counts, steps.order
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
    costs = _Costs(steps, weights, shared=True)
    limit = resources.chip.limits.output_axons.value
    guess: dict[str, Grid] = {}
    known_grids: dict[tuple[object, ...], Grid] = {}  # populations that are alike are cut alike
    for _ in range(_MAX_ROUNDS):
        done: dict[str, Grid] = {}
        for name in reversed(order):
            known = entries.of_targets(name, done, guess)
            needed = entries.of(name, known)
            if needed.max() > limit:
                raise _fan_out_excess(resources, name, int(needed.max()), known)
            target = None if targets is None else targets[name]
            cost = costs.total[name]
            # `entries` keeps what is needed, and the arrays of counts are shared by those alike
            key = (
                resources.like(name), id(counts[name].bits), id(needed), target, cost.tobytes(),
            )  # fmt: skip
            if key not in known_grids:
                population, grid = resources.network[name], None
                if target is not None:
                    grid = _build_runs(resources, population, counts[name], target, needed)
                known_grids[key] = grid or _best_grid(
                    resources, population, counts[name], needed, cost
                )
            done[name] = replace(known_grids[key], population=name)
        if not any(backward.values()) or done == guess:
            return {name: done[name] for name in order}
        guess = done
    _check_recurrent(resources, done, backward)
    return {name: done[name] for name in order}


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
                raise _fan_out_excess(resources, name, need, done)


def grid_entries(
    resources: Resources, population: str, grids: MappingType[str, Grid]
) -> NDArray[np.int64]:
    """Output-axon entries of each neuron if every block had its own core.

    As `Resources.output_entries`, but fast for grids: channels all of whose taps have a synapse
    into a part are counted for the whole cell at once. Channels that all have the same entries
    share memory, which is not to be written to.
    """
    network = resources.network
    shape = chw(network[population].shape)
    alike = np.zeros(shape[1:], np.int64)  # of each channel,
    own: NDArray[np.int64] | None = None  # and what differs
    by_target: dict[str, list[Wire]] = {}
    for wire in resources.out_of(population):
        if wire.projection.target in grids:
            by_target.setdefault(wire.projection.target, []).append(wire)
    for name, found in by_target.items():
        if len(found) > 1 or not isinstance(found[0].form, WindowForm):
            blocks = grid_blocks(network[name], grids[name])
            more = resources.output_entries(population, ([b] for b in blocks), targets={name})
            own = more if own is None else own + more
            continue
        products, rest = _window_entries(resources, found[0], grids[name])
        for whole, pixels in products:
            if whole.min() == whole.max():
                alike += whole[0] * pixels
            else:
                own = np.zeros(shape, np.int64) if own is None else own
                own += whole[:, None, None] * pixels
        for channels, (y0, y1), (x0, x1), some in rest:
            own = np.zeros(shape, np.int64) if own is None else own
            own[channels, y0:y1, x0:x1] += some
    return np.broadcast_to(alike, shape) if own is None else own + alike


class _Entries:
    """`grid_entries` of several cuts: what they have in common is counted once."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._targets = {
            p.name: tuple(dict.fromkeys(w.projection.target for w in resources.out_of(p.name)))
            for p in resources.placed
        }
        # populations that are alike, and whose targets are, have the same entries
        self._kind = {p.name: self._kind_of(p) for p in resources.placed}
        self._known: dict[tuple[object, ...], NDArray[np.int64]] = {}

    def _kind_of(self, population: Population) -> tuple[object, ...]:
        resources, targets = self.resources, self._targets[population.name]
        at = {name: i for i, name in enumerate(targets)}
        wires = [
            (at[name], resources.like(name), [w is wire for w in resources.into(name)].index(True))
            for wire in resources.out_of(population.name)
            for name in [wire.projection.target]
        ]
        return (chw(population.shape), *wires)

    def of_targets(
        self, population: str, grids: MappingType[str, Grid], guess: MappingType[str, Grid]
    ) -> dict[str, Grid]:
        """Those of the grids that are of a population's targets; of others, the guess, if any."""
        found = {name: grids.get(name, guess.get(name)) for name in self._targets[population]}
        return {name: grid for name, grid in found.items() if grid is not None}

    def of(self, population: str, grids: MappingType[str, Grid]) -> NDArray[np.int64]:
        """Entries of a population, its targets being cut so."""
        cuts = (grids.get(name) for name in self._targets[population])
        key = (self._kind[population], *(None if cut is None else cut.how for cut in cuts))
        if key not in self._known:
            found = grid_entries(self.resources, population, grids)
            found.flags.writeable = False
            self._known[key] = found
        return self._known[key]


_Part = tuple[NDArray[np.int64], Range, Range, NDArray[np.int64]]


def _window_entries(
    resources: Resources, wire: Wire, grid: Grid
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], list[_Part]]:
    """Entries that one wire into a grid gives its source.

    Returns
    -------
    products
        Factors by channel and by pixel, to be multiplied and summed.
    rest
        Some channels, rows and columns, and their entries on top.
    """
    form = wire.form
    assert isinstance(form, WindowForm)
    ys, xs = (
        {part: source_range(form, axis, part) for part in parts_of(grid.shape[1 + axis], n)}
        for axis, n in ((0, grid.rows), (1, grid.columns))
    )
    products: dict[tuple[object, ...], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    rest: list[_Part] = []
    known: dict[tuple[object, ...], list[_CellEntries]] = {}  # cells that are alike: counted once
    for rows, columns, cuts in grid.cells():
        key = (cuts, *resources.cell_key(grid.population, rows, columns))
        if key not in known:
            parts = grid.along_channels(cuts)
            known[key] = _cell_entries(resources, wire, rows, columns, parts)
        y, x = ys[rows], xs[columns]
        for found in known[key]:
            at = (cuts, *found.parts)
            if at not in products:
                products[at] = (found.reach.whole, np.zeros(form.source[1:], np.int64))
            products[at][1][y[0] : y[1], x[0] : x[1]] += found.pixels
            rest += [(channels, y, x, some) for channels, some in found.rest]
    return list(products.values()), rest


class _CellEntries(NamedTuple):
    """Entries that the blocks of a cell give its source, those with equal plain axons.

    Attributes
    ----------
    parts
        Which; none, if all of the cell.
    reach
        Source channels that reach them.
    pixels
        ``(rows, columns)`` entries of each channel that reaches a block with every tap.
    rest
        Other channels, and their entries.
    """

    parts: tuple[Range, ...]
    reach: Reach
    pixels: NDArray[np.int64]
    rest: list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def _cell_entries(
    resources: Resources, wire: Wire, rows: Range, columns: Range, parts: Sequence[Range]
) -> list[_CellEntries]:
    """Entries that a cell's blocks, some channels each, give the source of a wire of windows."""
    alike = resources.all_channels_alike(wire.projection.target)
    # parts without a weight are left out
    groups: dict[int, tuple[Plain | None, list[Range]]] = {}
    for part in parts[:1] if alike else parts:
        if part[0] < wire.channels[1] and wire.channels[0] < part[1]:
            plain = resources.plain_pixels(wire, part, rows, columns)
            groups.setdefault(plain.n if plain else 0, (plain, []))[1].append(part)
    y, x = (signatures(*at) for at in zip(wire.windows, (rows, columns), strict=True))
    meets = np.outer(y.any(axis=1), x.any(axis=1))
    found = []
    for plain, some in groups.values():
        entries = np.full(meets.shape, np.int64(wire.entries * wire.n_signs))
        if plain is not None:
            entries[plain.mask] = wire.n_signs
        reach = resources.reach(wire, parts if alike else some)
        rest = [(channels, entries * reach_mask(taps, y, x)) for channels, taps in reach.rest]
        found.append(_CellEntries(() if alike else tuple(some), reach, entries * meets, rest))
    return found


def _best_grid(
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


def _build_runs(
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


# ---------------------------------------------------------------------------------------------
# What does not fit
# ---------------------------------------------------------------------------------------------


def single_neuron_excess(resources: Resources, population: Population) -> CapacityError | None:
    """Error that says which limit a neuron alone exceeds, output axons aside; ``None``: it fits."""
    limits = resources.chip.limits
    shape = chw(population.shape)
    most_axons = _axons_of_neurons(resources, population)
    worst = np.argsort(most_axons, axis=None)[::-1][:64]
    for flat in worst.tolist():
        c, y, x = (int(i) for i in np.unravel_index(flat, shape))
        block = Block(
            population=population.name, channels=(c, c + 1), rows=(y, y + 1), columns=(x, x + 1),
            core=UNPLACED,
        )  # fmt: skip
        for what, need, limit in (
            ("input axons", resources.input_axons([block]), limits.input_axons.value),
            (
                "bits of synapse memory",
                resources.synapse_bits([block]),
                limits.synapse_memory_bits.value,
            ),
        ):
            if need > limit:
                return _too_much(resources, population, what, need, limit)
    return None


def check_formats(resources: Resources) -> None:
    """Raise if the synapses into one population have more formats than a core can hold."""
    limit = resources.chip.limits.synapse_configurations
    if limit is None:
        return
    for population in resources.placed:
        need = len({f for w in resources.into(population.name) for f in w.formats})
        if need > limit.value:
            raise _too_much(resources, population, "synapse configurations", need, limit.value)


def _axons_of_neurons(resources: Resources, population: Population) -> NDArray[np.int64]:
    """Source units of each neuron, times signs (an upper bound, where sources coincide)."""
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
        groups, shape = form.groups, form.source
        if wire.axons == "pixel":
            # one channel of all ones stands for a pixel
            mask = np.asarray(mask.any(axis=1, keepdims=True), np.int8)
            groups, shape = 1, (1, *form.source[1:])
        flat = WindowForm(
            mask, form.stride, form.padding, form.dilation, groups, shape, form.target
        )
        ones = np.ones((1, *shape), np.int8)
        total += apply(flat, ones, 1).astype(np.int64).reshape(total.shape) * wire.n_signs
    return total


class FanOutError(CapacityError):
    """A neuron of a population needs more output axons than a core has.

    Attributes
    ----------
    population
        Which one.
    grids
        Cuts of its targets, by name.
    """

    population: str
    grids: dict[str, Grid]


def _fan_out_excess(
    resources: Resources, population: str, need: int, grids: MappingType[str, Grid]
) -> FanOutError:
    limit = resources.chip.limits.output_axons.value
    error = FanOutError(
        resources.network[population].subject,
        f"one neuron needs {need:,} output axons, a core of chip '{resources.chip.name}' has "
        f"{limit:,}",
        remedy="use a chip with larger cores, or fewer neurons after it; in Python, "
        "pmsm_hw.mapping.split_fan_out(network, chip) splits its fan-out",
        actual=need,
        limit=limit,
    )
    targets = {w.projection.target for w in resources.out_of(population)}
    error.population = population
    error.grids = {name: grid for name, grid in grids.items() if name in targets}
    return error


def _too_much(
    resources: Resources, population: Population, what: str, need: int, limit: int
) -> CapacityError:
    split = "in Python, pmsm_hw.mapping.split_fan_in(network, chip) splits its fan-in"
    remedies = {
        "input axons": f"use a chip with larger cores, or fewer inputs; {split}",
        "bits of synapse memory": f"use a chip with larger cores, or fewer weight bits; {split}",
    }
    return CapacityError(
        population.subject,
        f"one neuron needs {need:,} {what}, a core of chip '{resources.chip.name}' has {limit:,}",
        remedy=remedies.get(what, "use a chip with larger cores"),
        actual=need,
        limit=limit,
    )
