"""Compiled search for cuts: cores are filled for each change of a cut, not estimated."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pmsm_hw.compiled import helper, njit
from pmsm_hw.mapping.blocks import INPUT_AXONS, NEURONS, OUTPUT_AXONS, SYNAPSE_MEMORY

__all__ = [
    "Cut",
    "Table",
    "anneal_cuts",
    "list_bits_of",
    "part_ranges",
]

_BLOCK = np.dtype(
    [
        *(
            (name, np.int64)
            for name in ("population", "rows", "columns", "row_kind", "column_kind", "width")
        ),
        ("known", np.int64),
        ("axons", np.float64),
        ("memory", np.float64),
    ]
)
"""A block that was looked at: which; 1 if its axons and memory are known, as shares of a core's.
One forgets another of the same place."""
_CELLS = np.dtype([(name, np.int64) for name in ("row_kind", "column_kind", "width", "step")])
"""Cells that are alike: kinds of their rows and columns, channels of a block, output axons."""
_FLUID = 0.3
"""Weight of the scarcest resource's total beside the cores themselves: tells equals apart."""
_EACH_OF_MANY, _MANY, _MANY_OF_CORE = 2e-3, 10_000, 2
"""Weight of a block and source beyond so many and so many a core: fewer are mapped faster."""
_IMPOSSIBLE = 1e6
_EXACT = 1e-12
"""How far the needs of blocks may lie above a core's limits, for rounding (as `pack_kernels`)."""
_TWO = 0.3
"""Share of changes that change a source or target, too."""
_ALIKE = 0.002
"""Blocks of a population whose needs differ by less of a core are taken for alike."""
_KNOWN = 8192
"""Blocks whose axons and memory are remembered."""
_STEPS = 32
"""Output axons of blocks that are told apart: steps of a core's."""
_GROUPS = 64
"""Kinds of cells of a population that are told apart."""


class Table(NamedTuple):
    """A network, for the search. Pairs are of rows and columns.

    Parameters
    ----------
    population
        `tables.POPULATION`.
    fit
        Channels of equal blocks, as few as fit, output axons aside, by numbers and kinds of rows
        and columns.
    widest
        Channels that a block can have, likewise; 0: not known yet.
    part_start, part_first, part_end, part_kind
        Pairs: where the parts of each number of rows start; their edges and kinds.
    n_kinds, kind_start, kind_size
        By population, pairs: kinds of parts, where they start, and their sizes.
    out_start, out_wire
        Wires out of each population, less recurrent ones.
    wire_start, wire_source, wire_target, wire, weights, pixel_start
        Wires into each population; their sources or -1; targets; `tables.WIRE` and
        `tables.WEIGHTS`; where the pixels of their sources start.
    wire_kind, hit, single, taps
        Where each wire's kinds start; `candidates.AxisTaps` of those.
    wire_part, low, high, how_start, how
        Where each wire's parts start, less where the target's do; `part_ranges` of those.
    capacity
        Of a core: neurons, input axons, output axons, memory.
    rule, index_bits
        Of lists (`list_bits_of`).
    """

    population: Any
    fit: Any
    widest: Any
    part_start: Any
    part_first: Any
    part_end: Any
    part_kind: Any
    n_kinds: Any
    kind_start: Any
    kind_size: Any
    out_start: Any
    out_wire: Any
    wire_start: Any
    wire_source: Any
    wire_target: Any
    wire: Any
    weights: Any
    pixel_start: Any
    wire_kind: Any
    hit: Any
    single: Any
    taps: Any
    wire_part: Any
    low: Any
    high: Any
    how_start: Any
    how: Any
    capacity: Any
    rule: Any
    index_bits: Any


class Cut(NamedTuple):
    """What is known of a cut.

    Parameters
    ----------
    width
        Channels of a block in each cell of each population.
    entries
        By wire, output entries of a channel of each pixel of its source.
    needs, counts, n_kinds
        By population and kind, what blocks need and how many they are; number of kinds.
    beyond
        How far beyond the limits a population's blocks are.
    grid
        Indices of its numbers of rows and columns.
    """

    width: Any
    entries: Any
    needs: Any
    counts: Any
    n_kinds: Any
    beyond: Any
    grid: Any


@helper(nogil=True, error_model="numpy")
def list_bits_of(n, each, rule):  # type: ignore[no-untyped-def]
    """Synapse memory of a list of ``n`` weights; as `resources.list_bits`."""
    if n <= 0:
        return 0.0
    per_block, word, header = rule[0], rule[1], rule[2]
    whole = n // per_block
    rest = n - whole * per_block
    bits = whole * (-(-(per_block * each + header) // word)) * word
    if rest > 0:
        bits += (-(-(rest * each + header) // word)) * word
    return float(bits)


@njit(nogil=True, error_model="numpy")
def part_ranges(first, end, kernel, stride, padding, dilation, n_source):  # type: ignore[no-untyped-def]
    """Source rows that meet each part of an axis, and how.

    Parameters
    ----------
    first, end
        ``(parts,)`` int64 rows of each part.
    kernel, stride, padding, dilation, n_source
        Of the window along the axis, and the source's rows.

    Returns
    -------
    tuple
        ``(parts,)`` int64 first and last but one source row, and where the part's rows start in the
        last: int8, 0: does not meet it, 1: like another one, 2: like no other one.
    """
    n = len(first)
    low, high, start = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    total = 0
    for i in range(n):
        low[i] = min(max(first[i] * stride - padding, 0), n_source)
        high[i] = (end[i] - 1) * stride - padding + (kernel - 1) * dilation + 1
        high[i] = max(min(high[i], n_source), low[i])
        start[i] = total
        total += high[i] - low[i]
    how = np.zeros(total, np.int8)
    met = np.zeros((n_source, kernel), np.bool_)
    for i in range(n):
        for row in range(low[i], high[i]):
            for tap in range(kernel):
                offset = row + padding - tap * dilation
                at = offset // stride
                met[row, tap] = offset % stride == 0 and first[i] <= at and at < end[i]
                if met[row, tap]:
                    how[start[i] + row - low[i]] = 2
        for row in range(low[i], high[i]):
            if how[start[i] + row - low[i]] == 0:
                continue
            for other in range(row + 1, high[i]):
                if how[start[i] + other - low[i]] == 0:
                    continue
                same = True
                for tap in range(kernel):
                    if met[row, tap] != met[other, tap]:
                        same = False
                        break
                if same:
                    how[start[i] + row - low[i]] = how[start[i] + other - low[i]] = 1
    return low, high, start, how


@helper(nogil=True, error_model="numpy")
def _axons_of(p, y, x, c, table, alone):  # type: ignore[no-untyped-def]
    """Input axons of a block of ``c`` channels; `alone`: pixels with plain axons, by wire.

    As `Resources.n_plain`: plain axons while input axons suffice.
    """
    shape = table.wire
    first = table.wire_start[p]
    axons = 0.0
    for w in range(first, table.wire_start[p + 1]):
        reaching, signs = table.weights[w].reaching, shape[w].signs
        if shape[w].dense == 1:
            axons += shape[w].units * signs * reaching
            continue
        pixels = table.hit[0][table.wire_kind[w, 0] + y] * table.hit[1][table.wire_kind[w, 1] + x]
        channels = 1.0
        if shape[w].pixel == 0:
            channels = float(shape[w].channels)
            if shape[w].groups > 1:
                channels = shape[w].group_in * max(1.0, c / shape[w].group_out)
        axons += reaching * signs * pixels * channels
    for w in range(first, table.wire_start[p + 1]):
        alone[w - first] = 0
        if not shape[w].plain:
            continue
        if shape[w].dense == 1:
            n = shape[w].units
            channels = shape[w].channels / max(n, 1)
        else:
            n = (
                table.single[0][table.wire_kind[w, 0] + y]
                * table.single[1][table.wire_kind[w, 1] + x]
            )
            channels = float(shape[w].channels)
            if shape[w].groups > 1:
                channels = shape[w].group_in * max(1.0, c / shape[w].group_out)
        more = (channels - 1.0) * shape[w].signs
        if more > 0.0:
            n = min(n, int(max(table.capacity[INPUT_AXONS] - axons, 0.0) / more + 1e-9))
        axons += n * more
        alone[w - first] = n
    return axons


@helper(nogil=True, error_model="numpy")
def _bits_of(p, y, x, c, neurons, table):  # type: ignore[no-untyped-def]
    """Synapse memory of a block of ``c`` channels."""
    shape, rule = table.wire, table.rule
    n_taps = table.taps[0].shape[1]
    bits = 0.0
    for w in range(table.wire_start[p], table.wire_start[p + 1]):
        width, density = int(table.weights[w].bits), table.weights[w].density
        signs, groups = shape[w].signs * table.weights[w].reaching, shape[w].groups
        if shape[w].dense == 1:
            length = max(int(neurons * density + 0.5), 1)
            sparse = shape[w].channels * list_bits_of(length, width + table.index_bits, rule)
            dense = shape[w].channels * list_bits_of(neurons, width, rule)
            bits += signs * min(sparse, dense)
            continue
        channels, longest = float(shape[w].channels), c
        if groups > 1:
            channels = shape[w].group_in * max(1.0, c / shape[w].group_out)
            longest = min(c, shape[w].group_out)
        row, column = (
            table.taps[0][table.wire_kind[w, 0] + y],
            table.taps[1][table.wire_kind[w, 1] + x],
        )
        sparse = 0.0
        lists = 0.0
        for i in range(1, n_taps):
            if row[i] == 0:
                continue
            for e in range(1, n_taps):
                m = row[i] * column[e]
                if m == 0:
                    continue
                lists += m
                length = max(int(longest * i * e * density + 0.5), 1)
                sparse += m * list_bits_of(length, width + table.index_bits, rule)
        dense = lists * list_bits_of(neurons, width, rule)
        bits += signs * channels * min(sparse, dense)
    return bits


@helper(nogil=True, error_model="numpy")
def _known_at(p, j, k, a, b, c, known):  # type: ignore[no-untyped-def]
    """Where the axons and memory of a block are known, or will be."""
    at = p
    for part in (j, k, a, b, c):
        at = (at * 1_000_003 + part) & 0xFFFFFFFF
    at = (at ^ (at >> 15)) % len(known)
    key = known[at]
    where = key.population == p and key.rows == j and key.columns == k
    if not (where and key.row_kind == a and key.column_kind == b and key.width == c):
        key.population, key.rows, key.columns = p, j, k
        key.row_kind, key.column_kind, key.width, key.known = a, b, c, 0
    return at


@helper(nogil=True, error_model="numpy")
def _sum_entries(p, table, cut, sums):  # type: ignore[no-untyped-def]
    """Sums of a channel's output entries above and left of each pixel; whether there are any."""
    first, end = table.out_start[p], table.out_start[p + 1]
    height, width = table.population[p].height, table.population[p].width
    for y in range(height if first < end else 0):
        line = 0.0
        for x in range(width):
            for o in range(first, end):
                line += cut.entries[table.pixel_start[table.out_wire[o]] + y * width + x]
            sums[y + 1, x + 1] = sums[y, x + 1] + line
    return first < end


@helper(nogil=True, error_model="numpy")
def _cuts_in_groups(n, width, group):  # type: ignore[no-untyped-def]
    """Edges of parts of some width of `n` channels that lie within groups of them."""
    edges = (n - 1) // width
    a, b = width, group
    while b > 0:
        a, b = b, a % b
    return edges - edges // (group // a)


@helper(nogil=True, error_model="numpy")
def _count_entries(p, j, k, table, cut, alone, group_of):  # type: ignore[no-untyped-def]
    """Output entries that a population's blocks give each pixel of its sources.

    Parameters
    ----------
    p, j, k
        Population; indices of its numbers of rows and columns.
    table, cut
        The latter's entries are overwritten.
    alone, group_of
        Pixels with plain axons by group of cells and wire; group of each cell.
    """
    size, shape = table.population, table.wire
    row, column = (
        table.part_start[0][size[p].row_parts + j],
        table.part_start[1][size[p].column_parts + k],
    )
    n_rows = table.part_start[0][size[p].row_parts + j + 1] - row
    n_columns = table.part_start[1][size[p].column_parts + k + 1] - column
    for w in range(table.wire_start[p], table.wire_start[p + 1]):
        source = table.wire_source[w]
        if source < 0:
            continue
        breadth = size[source].width
        base = table.pixel_start[w]
        pixels = cut.entries[base : base + size[source].height * breadth]
        pixels[:] = 0.0
        groups, more = shape[w].groups, shape[w].entries - 1
        for r in range(n_rows):
            ry = table.wire_part[w, 0] + row + r
            for s in range(n_columns):
                cell = r * n_columns + s
                width = cut.width[size[p].first_cell + cell]
                parts = float(-(-size[p].channels // width))
                if groups > 1:
                    parts = (
                        1.0 + _cuts_in_groups(size[p].channels, width, shape[w].group_out) / groups
                    )
                parts *= table.weights[w].reaching * shape[w].signs
                left = alone[group_of[cell], w - table.wire_start[p]]
                if shape[w].dense == 1:
                    parts *= shape[w].channels / shape[w].neurons
                    for at in range(len(pixels)):
                        pixels[at] += parts * (1 + (at >= left) * more)
                    continue
                rx = table.wire_part[w, 1] + column + s
                y0, x0, x1 = table.low[0][ry], table.low[1][rx], table.high[1][rx]
                y_how, x_how = table.how_start[0][ry] - y0, table.how_start[1][rx] - x0
                for y in range(y0, table.high[0][ry]):
                    how = table.how[0][y_how + y]
                    if how == 0:
                        continue
                    for x in range(x0, x1):
                        meets = table.how[1][x_how + x]
                        if meets == 0:
                            continue
                        if how == 2 and meets == 2 and left > 0:
                            left -= 1
                            pixels[y * breadth + x] += parts
                        else:
                            pixels[y * breadth + x] += parts * (1 + more)


@helper(nogil=True, error_model="numpy")
def _widest(p, j, k, a, b, fits, table):  # type: ignore[no-untyped-def]
    """Channels that a block can have, output axons aside, if equal ones can have so many."""
    at = table.population[p].first_fit + b
    at += ((j * table.n_kinds[p, 0] + a) * table.population[p].column_choices + k) * table.n_kinds[
        p, 1
    ]
    if table.widest[at] == 0:
        n_channels, capacity = table.population[p].channels, table.capacity
        y, x = j * table.n_kinds[p, 0] + a, k * table.n_kinds[p, 1] + b
        largest = (
            table.kind_size[0][table.kind_start[p, 0] + y]
            * table.kind_size[1][table.kind_start[p, 1] + x]
        )
        alone = np.zeros(table.wire_start[p + 1] - table.wire_start[p], np.int64)
        n_parts = -(-n_channels // fits)
        low, high = fits, -(-n_channels // (n_parts - 1)) if n_parts > 1 else n_channels + 1
        while high - low > 1:
            c = (low + high) // 2
            if (
                c * largest * table.population[p].compartments <= capacity[NEURONS]
                and _axons_of(p, y, x, c, table, alone) <= capacity[INPUT_AXONS]
                and _bits_of(p, y, x, c, c * largest, table) <= capacity[SYNAPSE_MEMORY]
            ):
                low = c
            else:
                high = c
        table.widest[at] = low
    return table.widest[at]


@helper(nogil=True, error_model="numpy")
def _is(group, a, b, width, step):  # type: ignore[no-untyped-def]
    same = group.row_kind == a and group.column_kind == b
    return same and group.width == width and group.step == step


@helper(nogil=True, error_model="numpy")
def _cut_one(p, state, table, cut, old, sums, known):  # type: ignore[no-untyped-def]
    """Find the blocks of a population by kind, given those of its targets.

    Parameters
    ----------
    p
        Which population.
    state
        ``(n_populations,)`` `tables.CHOICE`.
    table, cut
        What the latter says of the population is overwritten.
    old
        The same before its targets changed, to see what differs.
    sums, known
        Room for sums of entries; blocks looked at before.

    Returns
    -------
    tuple
        Whether its sources' entries may differ; whether its blocks may.
    """
    size, capacity = table.population, table.capacity
    n_channels = size[p].channels
    j, k, wanted, equal = state[p].rows, state[p].columns, state[p].width, state[p].equal == 1
    row, column = (
        table.part_start[0][size[p].row_parts + j],
        table.part_start[1][size[p].column_parts + k],
    )
    n_rows = table.part_start[0][size[p].row_parts + j + 1] - row
    n_columns = table.part_start[1][size[p].column_parts + k + 1] - column
    some = _sum_entries(p, table, cut, sums)
    group_of = np.empty(n_rows * n_columns, np.int64)
    group = np.empty(_GROUPS, _CELLS)
    cells = np.zeros(_GROUPS, np.int64)
    sent_of = np.zeros(_GROUPS)
    area = np.zeros(_GROUPS)
    n_groups, g = 0, 0
    beyond = 0.0
    above = old.grid[p, 0] != j or old.grid[p, 1] != k
    cell = size[p].first_cell
    for r in range(n_rows):
        a = table.part_kind[0][row + r]
        y0, y1 = table.part_first[0][row + r], table.part_end[0][row + r]
        at = (
            size[p].first_fit
            + ((j * table.n_kinds[p, 0] + a) * size[p].column_choices + k) * table.n_kinds[p, 1]
        )
        for s in range(n_columns):
            b = table.part_kind[1][column + s]
            x0, x1 = table.part_first[1][column + s], table.part_end[1][column + s]
            width = table.fit[at + b]
            if width > 0 and width < wanted and not equal:
                width = _widest(p, j, k, a, b, width, table)
            width = min(wanted, width)
            if width < 1:
                beyond += 1.0
                width = 1
            sent = 0.0
            if some:
                sent = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
                if sent * width > capacity[OUTPUT_AXONS]:
                    width = int(capacity[OUTPUT_AXONS] / sent + 1e-9)
                    if width < 1:
                        beyond += sent / capacity[OUTPUT_AXONS]
                        width = 1
            if equal:
                width = -(-n_channels // -(-n_channels // width))
            above = above or width != old.width[cell]
            cut.width[cell] = width
            step = int(sent * width / capacity[OUTPUT_AXONS] * _STEPS)
            if n_groups == 0 or not _is(group[g], a, b, width, step):
                g = 0
                while g < n_groups and not _is(group[g], a, b, width, step):
                    g += 1
                if g == _GROUPS:  # too many to tell apart
                    g -= 1
                elif g == n_groups:
                    group[g].row_kind, group[g].column_kind = a, b
                    group[g].width, group[g].step = width, step
                    n_groups += 1
            group_of[cell - size[p].first_cell] = g
            cells[g] += 1
            sent_of[g] += sent
            area[g] += (y1 - y0) * (x1 - x0)
            cell += 1
    cut.grid[p, 0], cut.grid[p, 1] = j, k
    alone = np.zeros(table.wire_start[p + 1] - table.wire_start[p], np.int64)
    need = np.empty(4)
    n = 0
    for g in range(n_groups):
        full = n_channels // group[g].width
        for c, number in ((n_channels - full * group[g].width, 1), (group[g].width, full)):
            if c == 0:
                continue
            at = _known_at(p, j, k, group[g].row_kind, group[g].column_kind, c, known)
            if known[at].known == 0:
                y = j * table.n_kinds[p, 0] + group[g].row_kind
                x = k * table.n_kinds[p, 1] + group[g].column_kind
                largest = (
                    table.kind_size[0][table.kind_start[p, 0] + y]
                    * table.kind_size[1][table.kind_start[p, 1] + x]
                )
                known[at].axons = _axons_of(p, y, x, c, table, alone) / capacity[INPUT_AXONS]
                known[at].memory = (
                    _bits_of(p, y, x, c, c * largest, table) / capacity[SYNAPSE_MEMORY]
                )
                known[at].known = 1
            need[NEURONS] = c * area[g] / cells[g] * size[p].compartments / capacity[NEURONS]
            need[INPUT_AXONS] = min(known[at].axons, 1.0)
            need[OUTPUT_AXONS] = min(sent_of[g] / cells[g] * c / capacity[OUTPUT_AXONS], 1.0)
            need[SYNAPSE_MEMORY] = min(known[at].memory, 1.0)
            n = _add_kind(cut.needs[p], cut.counts[p], n, need, number * cells[g])
    differs = n != old.n_kinds[p] or beyond != old.beyond[p]
    for t in range(n):
        if differs:
            break
        differs = cut.counts[p, t] != old.counts[p, t]
        for r in range(4):
            differs = differs or cut.needs[p, t, r] != old.needs[p, t, r]
    cut.n_kinds[p], cut.beyond[p] = n, beyond
    if above:
        of_group = np.zeros((n_groups, len(alone)), np.int64)
        for g in range(n_groups):
            y = j * table.n_kinds[p, 0] + group[g].row_kind
            x = k * table.n_kinds[p, 1] + group[g].column_kind
            _axons_of(p, y, x, group[g].width, table, of_group[g])
        _count_entries(p, j, k, table, cut, of_group, group_of)
    return above, differs


@helper(nogil=True, error_model="numpy")
def _add_kind(needs, counts, n, need, count):  # type: ignore[no-untyped-def]
    """Append blocks, or add them to ones that need about the same."""
    for t in range(n):
        alike = True
        for r in range(4):
            if abs(needs[t, r] - need[r]) > _ALIKE:
                alike = False
                break
        if alike:
            counts[t] += count
            for r in range(4):
                needs[t, r] += (need[r] - needs[t, r]) * count / counts[t]
            return n
    for r in range(4):
        needs[n, r] = need[r]
    counts[n] = count
    return n + 1


@helper(nogil=True, error_model="numpy")
def _empty_cut(table):  # type: ignore[no-untyped-def]
    n = len(table.population)
    n_cells = n_pixels = 0
    for p in range(n):
        n_cells += table.population[p].height * table.population[p].width
    for source in table.wire_source:
        if source >= 0:
            n_pixels += table.population[source].height * table.population[source].width
    grid = np.zeros((n, 2), np.int64)
    for p in range(n):
        grid[p, 0] = grid[p, 1] = -1
    return Cut(
        np.zeros(n_cells, np.int64),
        np.zeros(n_pixels),
        np.zeros((n, 2 * _GROUPS, 4)),
        np.zeros((n, 2 * _GROUPS), np.int64),
        np.zeros(n, np.int64),
        np.zeros(n),
        grid,
    )


@helper(nogil=True, error_model="numpy")
def _copy_one(p, table, cut, onto):  # type: ignore[no-untyped-def]
    """Copy what is known of a population."""
    first = table.population[p].first_cell
    end = first + table.population[p].height * table.population[p].width
    for cell in range(first, end):
        onto.width[cell] = cut.width[cell]
    for w in range(table.wire_start[p], table.wire_start[p + 1]):
        source = table.wire_source[w]
        if source >= 0:
            first = table.pixel_start[w]
            end = first + table.population[source].height * table.population[source].width
            for pixel in range(first, end):
                onto.entries[pixel] = cut.entries[pixel]
    for t in range(cut.n_kinds[p]):
        for r in range(4):
            onto.needs[p, t, r] = cut.needs[p, t, r]
        onto.counts[p, t] = cut.counts[p, t]
    onto.n_kinds[p] = cut.n_kinds[p]
    onto.beyond[p] = cut.beyond[p]
    for axis in range(2):
        onto.grid[p, axis] = cut.grid[p, axis]


@helper(nogil=True, error_model="numpy")
def _count_filled(needs, counts, at_most):  # type: ignore[no-untyped-def]
    """Cores that `pack_kernels.fill_cores` takes by rule 2, power 2, start 2, holding anything.

    Several times faster, for searches: nothing but cores is returned, and it overwrites what it
    is given.

    Parameters
    ----------
    needs
        ``(4, n)`` float64 needs of each kind of block, as shares of a core's limits.
    counts
        ``(n,)`` int64 blocks of each kind.
    at_most
        Cores beyond which the caller does not care: some larger number is returned then.
    """
    n = len(counts)
    left = counts
    need_neurons, need_inputs, need_outputs, need_memory = (
        needs[NEURONS],
        needs[INPUT_AXONS],
        needs[OUTPUT_AXONS],
        needs[SYNAPSE_MEMORY],
    )
    total_neurons = total_inputs = total_outputs = total_memory = 0.0
    for t in range(n):
        total_neurons += left[t] * need_neurons[t]
        total_inputs += left[t] * need_inputs[t]
        total_outputs += left[t] * need_outputs[t]
        total_memory += left[t] * need_memory[t]
    n_cores = 0
    used = np.zeros(n, np.int64)
    open_kinds = np.empty(n, np.int64)
    picks = np.empty(n, np.int64)
    while n > 0:
        scale = max(max(total_neurons, total_inputs), max(total_outputs, total_memory), 1e-12)
        if n_cores + scale - 1e-6 > at_most:  # what is left takes at least `scale`
            return n_cores + int(np.ceil(scale - 1e-6))
        w_neurons, w_inputs = max(total_neurons, 0.0) / scale, max(total_inputs, 0.0) / scale
        w_outputs, w_memory = max(total_outputs, 0.0) / scale, max(total_memory, 0.0) / scale
        w_neurons, w_inputs, w_outputs, w_memory = (
            w_neurons * w_neurons,
            w_inputs * w_inputs,
            w_outputs * w_outputs,
            w_memory * w_memory,
        )
        best, best_score = 0, -1.0
        for t in range(n):
            open_kinds[t] = t
            score = max(
                max(w_neurons * need_neurons[t], w_inputs * need_inputs[t]),
                max(w_outputs * need_outputs[t], w_memory * need_memory[t]),
            )
            if score > best_score:
                best, best_score = t, score
        free_neurons = free_inputs = free_outputs = free_memory = 1.0
        n_open, n_picks = n, 0
        while best >= 0:
            if used[best] == 0:
                picks[n_picks] = best
                n_picks += 1
            used[best] += 1
            free_neurons -= need_neurons[best]
            free_inputs -= need_inputs[best]
            free_outputs -= need_outputs[best]
            free_memory -= need_memory[best]
            best, best_score = -1, 1e300
            keep = 0
            for a in range(n_open):
                t = open_kinds[a]
                rest_neurons, rest_inputs = (
                    free_neurons - need_neurons[t],
                    free_inputs - need_inputs[t],
                )
                rest_outputs, rest_memory = (
                    free_outputs - need_outputs[t],
                    free_memory - need_memory[t],
                )
                least = min(min(rest_neurons, rest_inputs), min(rest_outputs, rest_memory))
                if least >= -_EXACT and used[t] < left[t]:
                    open_kinds[keep] = t
                    keep += 1
                    score = (
                        w_neurons * rest_neurons * rest_neurons
                        + w_inputs * rest_inputs * rest_inputs
                        + w_outputs * rest_outputs * rest_outputs
                        + w_memory * rest_memory * rest_memory
                    )
                    if score < best_score:
                        best, best_score = t, score
            n_open = keep
        repeat = left[picks[0]]
        for e in range(n_picks):
            repeat = min(repeat, left[picks[e]] // used[picks[e]])
        for e in range(n_picks):
            t = picks[e]
            number = repeat * used[t]
            left[t] -= number
            total_neurons -= number * need_neurons[t]
            total_inputs -= number * need_inputs[t]
            total_outputs -= number * need_outputs[t]
            total_memory -= number * need_memory[t]
            used[t] = 0
        n_cores += repeat
        keep = 0
        for t in range(n):
            if left[t] > 0:
                left[keep] = left[t]
                need_neurons[keep], need_inputs[keep] = need_neurons[t], need_inputs[t]
                need_outputs[keep], need_memory[keep] = need_outputs[t], need_memory[t]
                keep += 1
        n = keep
    return n_cores


@helper(nogil=True, error_model="numpy")
def _value(cut, table, needs, counts, by_sent, by_block, at_most):  # type: ignore[no-untyped-def]
    """Cores that a cut takes, and a finer measure of it; above `at_most`, only sure to be above.

    Parameters
    ----------
    cut, table
        All of it.
    needs, counts
        Room for those of all blocks.
    by_sent, by_block
        Weights of output axons, and of a block and source.
    at_most
        Measure beyond which the caller does not care.

    Returns
    -------
    tuple
        Cores, and the measure.
    """
    n = n_blocks = 0  # a block counts as often as it has sources
    total = np.zeros(4)
    for p in range(len(cut.n_kinds)):
        n_wires = max(table.wire_start[p + 1] - table.wire_start[p], 1)
        for t in range(cut.n_kinds[p]):
            need, count = cut.needs[p, t], cut.counts[p, t]
            for r in range(4):
                total[r] += need[r] * count
            n_blocks += count * n_wires
            at = n  # slices of a layer need the same, one after the other
            for k in range(max(n - 2, 0), n):
                same = needs[0, k] == need[0] and needs[1, k] == need[1]
                if same and needs[2, k] == need[2] and needs[3, k] == need[3]:
                    at = k
            if at == n:
                for r in range(4):
                    needs[r, n] = need[r]
                counts[n] = 0
                n += 1
            counts[at] += count
    fluid = max(max(total[0], total[1]), max(total[2], total[3]), 1e-12)
    value = _FLUID * fluid + by_block * n_blocks
    value += (
        _EACH_OF_MANY * max(n_blocks - _MANY - _MANY_OF_CORE * fluid, 0.0)
        + by_sent * total[OUTPUT_AXONS]
    )
    beyond = 0.0
    for p in range(len(cut.n_kinds)):
        beyond += cut.beyond[p]
    if beyond > 0.0:
        value += _IMPOSSIBLE * (1.0 + beyond)
    if value + fluid > at_most:
        return 0, value + fluid
    n_cores = _count_filled(needs[:, :n], counts[:n], at_most - value)
    return n_cores, n_cores + value


@helper(nogil=True, error_model="numpy")
def _room(table):  # type: ignore[no-untyped-def]
    """Room for sums of entries, blocks looked at, and for needs and numbers of all blocks."""
    n = len(table.population) * 2 * _GROUPS
    height = width = 0
    for p in range(len(table.population)):
        height = max(height, table.population[p].height)
        width = max(width, table.population[p].width)
    sums = np.zeros((height + 1, width + 1))
    known = np.zeros(_KNOWN, _BLOCK)
    return sums, known, np.empty((4, n)), np.empty(n, np.int64)


@helper(nogil=True, error_model="numpy")
def _change(p, state, table, short_start, short):  # type: ignore[no-untyped-def]
    """Change a population's cut at random."""
    j, k, w = state[p].rows, state[p].columns, state[p].width
    c, n_rows, n_columns = (
        table.population[p].channels,
        table.population[p].row_choices,
        table.population[p].column_choices,
    )
    kind = np.random.randint(7)  # noqa: NPY002
    if kind == 0 and short_start[p + 1] > short_start[p]:
        pick = np.random.randint(short_start[p], short_start[p + 1])  # noqa: NPY002
        state[p] = short[pick]
    elif kind == 1:  # finer or coarser cells
        step = 1 if np.random.random() < 0.5 else -1  # noqa: NPY002
        if np.random.random() < 0.5:  # noqa: NPY002
            state[p].rows = min(max(j + step, 0), n_rows - 1)
        else:
            state[p].columns = min(max(k + step, 0), n_columns - 1)
    elif kind == 2:  # one part more or less
        n = -(-c // w) + (1 if np.random.random() < 0.5 else -1)  # noqa: NPY002
        state[p].width = -(-c // min(max(n, 1), c))
    elif kind == 3:
        step = 1 if np.random.random() < 0.5 else -1  # noqa: NPY002
        state[p].width = min(max(w + step * (1 + np.random.randint(4)), 1), c)  # noqa: NPY002
    elif kind == 4:  # a fraction, or all channels
        n = 1 + np.random.randint(8)  # noqa: NPY002
        state[p].width = max(-(-w // n), 1) if np.random.random() < 0.7 else -(-c // n)  # noqa: NPY002
    elif kind == 5:
        state[p].equal = 1 - state[p].equal
    else:  # half as many cells one way, twice as many channels less the other
        state[p].rows = min(max(j + np.random.randint(3) - 1, 0), n_rows - 1)  # noqa: NPY002
        state[p].columns = min(max(k + np.random.randint(3) - 1, 0), n_columns - 1)  # noqa: NPY002
        state[p].width = -(-c // (1 + np.random.randint(min(c, 64))))  # noqa: NPY002


@helper(nogil=True, error_model="numpy")
def _neighbour(p, table):  # type: ignore[no-untyped-def]
    """One of a population's sources and targets at random; -1: an input."""
    n_in = table.wire_start[p + 1] - table.wire_start[p]
    n = n_in + table.out_start[p + 1] - table.out_start[p]
    if n == 0:
        return -1
    i = np.random.randint(n)  # noqa: NPY002
    if i < n_in:
        return table.wire_source[table.wire_start[p] + i]
    return table.wire_target[table.out_wire[table.out_start[p] + i - n_in]]


@njit(nogil=True, error_model="numpy")
def anneal_cuts(  # type: ignore[no-untyped-def]
    start, table, short_start, short, often, n_moves, hot, cold, by_sent, by_block, enough, seed
):
    """Search from a state by annealing; without moves, find what it takes.

    Only populations that change, and sources whose output axons change with them, are cut anew.

    Parameters
    ----------
    start, table
        ``(n_populations,)`` `tables.CHOICE` to start from.
    short_start, short
        States of a population to try, one population after the other.
    often
        ``(n_populations,)`` float64, ascending to 1: how often those up to each are changed.
    n_moves, hot, cold
        Changes to try; first and last temperature, as shares of the measure.
    by_sent, by_block, enough, seed
        Weights of output axons, and of a block and source; cores with which the search ends.

    Returns
    -------
    tuple
        Best state found, and its measure (`_value`); cores of the last state, and its `Cut`.
    """
    np.random.seed(seed)  # noqa: NPY002
    n_populations = len(start)
    now, new = _empty_cut(table), _empty_cut(table)
    sums, known, needs, counts = _room(table)
    stale = np.zeros(n_populations, np.bool_)
    state, best, before = start.copy(), start.copy(), start.copy()
    for p in range(n_populations - 1, -1, -1):
        _cut_one(p, state, table, new, now, sums, known)
        _copy_one(p, table, new, now)
    n_cores, value = _value(now, table, needs, counts, by_sent, by_block, 1e18)
    least = value
    for move in range(n_moves):
        if n_cores <= enough and value < _IMPOSSIBLE:
            break
        temperature = least * hot * (cold / hot) ** (move / n_moves)
        before[:] = state
        first = 0
        where = np.random.random()  # noqa: NPY002
        while first < n_populations - 1 and often[first] <= where:
            first += 1
        _change(first, state, table, short_start, short)
        stale[first] = True
        if np.random.random() < _TWO:  # noqa: NPY002
            p = _neighbour(first, table)
            if p >= 0:
                _change(p, state, table, short_start, short)
                stale[p] = True
                first = max(first, p)
        last, changed = first, False
        for p in range(first, -1, -1):
            if not stale[p]:
                continue
            last = p
            above, differs = _cut_one(p, state, table, new, now, sums, known)
            changed = changed or differs
            if above:
                for i in range(table.wire_start[p], table.wire_start[p + 1]):
                    if table.wire_source[i] >= 0:
                        stale[table.wire_source[i]] = True
        accept = not changed
        if changed:
            at_most = value - temperature * math.log(1.0 - np.random.random())  # noqa: NPY002
            found, found_value = _value(new, table, needs, counts, by_sent, by_block, at_most)
            accept = found_value <= at_most
            if accept:
                n_cores, value = found, found_value
        for p in range(last, first + 1):
            if stale[p]:
                if accept:
                    _copy_one(p, table, new, now)
                else:
                    _copy_one(p, table, now, new)
                stale[p] = False
        if not accept:
            state[:] = before
        elif value < least:
            least = value
            best[:] = state
    return best, least, n_cores, now
