"""All cuts of a population, counted at once: resources of windows are products of what axes need.

A population is cut along rows and columns into a grid of cells, and each cell along its channels
into as few blocks as fit (windows at the edge of an image meet fewer sources, so their cells take
fewer blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import Range
from pmsm_hw.mapping.partition.grids import cut_choices, edges_of, parts_of
from pmsm_hw.mapping.resources import list_bits
from pmsm_hw.mapping.resources.neurons import most_thresholds
from pmsm_hw.mapping.resources.windows import part_key, signatures, singles
from pmsm_hw.operators import DenseForm, WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.resources import Resources, Wire
    from pmsm_hw.network import Population

__all__ = ["AxisClasses", "AxisTaps", "Candidates", "all_candidates", "candidates"]

_SLACK = 0.05
"""How far an estimate may lie above a limit when the exact count is still worth a look."""


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
    n_neurons, n_compartments, most_neurons
        Neurons of the population, compartments that they take, and neurons that a block may have.
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
    n_compartments: int
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
        most = limit // resources.compartments(p.name)
        most = min(most, (block_limits or {}).get(p.name, most))
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
        most_neurons = resources.chip.limits.neurons.value // resources.compartments(
            population.name
        )
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
        population, resources.compartments(population.name), most_neurons, choices, rows, columns,
        parts, axons, bits,
        {name: found.sources for name, found in counted.items()}, entries, (row_taps, column_taps),
    )  # fmt: skip


def _totals(
    population: Population,
    compartments: int,
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
        n_compartments=population.n_neurons * compartments,
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
