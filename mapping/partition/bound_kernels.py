"""Compiled parts of `bounding`: what the blocks of every cell of every grid need at least."""

from __future__ import annotations

import numpy as np

from pmsm_hw.compiled import helper, njit
from pmsm_hw.mapping.blocks import INPUT_AXONS, NEURONS, OUTPUT_AXONS, SYNAPSE_MEMORY

__all__ = ["CUT", "cell_tables", "grid_costs", "group_alike", "least_entries", "list_bits_of"]

CUT = np.dtype([(name, np.int64) for name in ("label", "rows", "columns")])
"""A grid: label that it continues, indices of its numbers of rows and columns."""
_EXACT = 60_000_000
"""Blocks of larger populations, by entries of the table times channels, need not fill a cell
exactly: their widths are taken for fractions of one."""
_WIDE = 16
"""Channels that are worth a loop of their own."""


@helper(nogil=True, error_model="numpy")
def list_bits_of(n, each, rule):  # type: ignore[no-untyped-def]
    """Synapse memory of a list of ``n`` weights; as `resources.list_bits`.

    Stands in `cut_kernels` too: numba keeps compiled code by the file of the outer function.
    """
    if n <= 0:
        return 0.0
    per_block, word, header = rule[0], rule[1], rule[2]
    whole = n // per_block
    rest = n - whole * per_block
    bits = whole * (-(-(per_block * each + header) // word)) * word
    if rest > 0:
        bits += (-(-(rest * each + header) // word)) * word
    return float(bits)


@helper(nogil=True, error_model="numpy")
def add_blocks(least, width, need):  # type: ignore[no-untyped-def]
    """Lower what blocks of so many channels in all need, by blocks of one more width.

    Widths ascend: of what later ones cannot reach, only the last entry is kept up to date.

    Parameters
    ----------
    least
        ``(ways, channels + 1)`` float64.
    width, need
        Of the blocks; ``(ways,)`` float64.
    """
    last = least.shape[1] - 1
    end = last - width + 1  # of what matters, apart from the last one
    for f in range(len(need)):
        row, more = least[f], need[f]
        if width < _WIDE:
            for n in range(width, end):
                row[n] = min(row[n], row[n - width] + more)
        else:
            for first in range(width, end, width):  # none of so many depends on another
                some, before = row[first : min(first + width, end)], row[first - width :]
                for i in range(len(some)):
                    some[i] = min(some[i], before[i] + more)
        row[last] = min(row[last], row[last - width] + more)


@njit(nogil=True, error_model="numpy")
def cell_tables(  # type: ignore[no-untyped-def]
    n_channels, row_size, row_n, column_size, column_n, row_hit, column_hit, row_single,
    column_single, row_taps, column_taps, shapes, eachs, capacity, rule, index_bits, channels,
    source_of, n_sources, weights,
):  # fmt: skip
    """What a cell of each kind of each grid costs at least, by the widest of its blocks.

    Parameters
    ----------
    n_channels
        Of the population.
    row_size, row_n, column_size, column_n
        ``(cuts, kinds)`` of `AxisClasses`.
    row_hit, ..., column_taps
        ``(wires, cuts, kinds[, taps])`` of `AxisTaps`.
    shapes, eachs
        Of the wires: `tables.WIRE`, `tables.WEIGHTS`.
    capacity, rule, index_bits
        Of a core, and of lists (`list_bits_of`).
    channels
        ``(wires,)`` source channels that send an entry of each pixel; 0: of an input.
    source_of, n_sources
        ``(wires,)`` int64 number of each wire's source, and how many there are.
    weights
        ``(ways, 4)`` float64 weights of neurons, input axons, output axons and memory.

    Returns
    -------
    tuple
        By rows, row kinds, columns and column kinds, int64: where a cell's entries start in the
        next but one; widest block that fits a core, output axons aside; then
        ``(entries, ways)`` float64 costs of the cell when no block has more than so many channels;
        ``(entries, sources)`` output axons, in cores, that the sources then need for it; and by
        wire, ``(wires, ...)`` int64, pixels with plain axons of a block.
    """
    n_j, n_a = row_size.shape
    n_k, n_b = column_size.shape
    n_wires = len(shapes)
    n_ways = len(weights)
    start = np.zeros((n_j, n_a, n_k, n_b), np.int64)
    widest = np.zeros((n_j, n_a, n_k, n_b), np.int64)
    plain = np.zeros((n_wires, n_j, n_a, n_k, n_b), np.int64)
    n_taps = row_taps.shape[3]
    total = 0
    for j in range(n_j):
        for a in range(n_a):
            for k in range(n_k):
                for b in range(n_b):
                    if row_n[j, a] and column_n[k, b]:
                        area = row_size[j, a] * column_size[k, b]
                        start[j, a, k, b] = total
                        total += min(n_channels, int(capacity[NEURONS] // area)) + 1
    costs = np.zeros((total, n_ways))
    for at in range(total):
        for f in range(n_ways):
            costs[at, f] = np.inf
    sending = np.zeros((total, n_sources))
    # of the cell, and of each of its blocks whatever its width
    once, each = np.empty(n_ways), np.empty(n_ways)
    once_sent, each_sent = np.empty(n_sources), np.empty(n_sources)
    least = np.empty((n_ways, n_channels + 1))  # of blocks of so many channels in all
    need = np.empty(n_ways)
    each_channel, bare = np.empty(n_ways), np.empty(n_ways)
    exact = total * n_channels <= _EXACT
    density_least = 1.0
    for w in range(n_wires):
        density_least = min(density_least, eachs[w].density)
    slack = 1.0 + 2.0 * (1.0 - max(density_least, 0.5))
    for j in range(n_j):
        for a in range(n_a):
            if row_n[j, a] == 0:
                continue
            for k in range(n_k):
                for b in range(n_b):
                    if column_n[k, b] == 0:
                        continue
                    area = row_size[j, a] * column_size[k, b]
                    units = 0.0  # input axons without plain ones, of one channel at least
                    for w in range(n_wires):
                        pixels = row_hit[w, j, a] * column_hit[w, k, b]
                        if shapes[w].dense == 1:
                            units += shapes[w].units * shapes[w].signs
                        elif shapes[w].pixel == 1:
                            units += pixels * shapes[w].signs
                        elif shapes[w].groups == 1:
                            units += pixels * shapes[w].channels * shapes[w].signs
                        else:
                            units += pixels * shapes[w].group_in * shapes[w].signs
                    if units > capacity[INPUT_AXONS]:
                        continue
                    left = capacity[INPUT_AXONS] - units
                    once_sent[:] = 0.0
                    each_sent[:] = 0.0
                    for w in range(n_wires):
                        pixels = row_hit[w, j, a] * column_hit[w, k, b]
                        alone = row_single[w, j, a] * column_single[w, k, b]
                        of_pixel = float(shapes[w].channels)
                        if shapes[w].dense == 1:
                            pixels = alone = shapes[w].units
                            of_pixel = shapes[w].channels / max(pixels, 1)
                        if shapes[w].plain == 0:
                            alone = 0
                        elif shapes[w].groups == 1 and of_pixel > 1:
                            more = (of_pixel - 1.0) * shapes[w].signs
                            alone = min(alone, int(max(left, 0.0) / more + 1e-9))
                            left -= alone * more
                            units += alone * more
                        plain[w, j, a, k, b] = alone
                        sent = (
                            shapes[w].signs
                            * (pixels * shapes[w].entries - alone * (shapes[w].entries - 1))
                            * channels[w]
                            / capacity[OUTPUT_AXONS]
                        )
                        if shapes[w].groups == 1:
                            each_sent[source_of[w]] += sent
                        else:
                            once_sent[source_of[w]] += sent
                    sent_once = sent_each = 0.0
                    for s in range(n_sources):
                        sent_once += once_sent[s]
                        sent_each += each_sent[s]
                    for f in range(n_ways):
                        once[f] = weights[f, OUTPUT_AXONS] * sent_once
                        each[f] = weights[f, OUTPUT_AXONS] * sent_each
                        each[f] += weights[f, INPUT_AXONS] * units / capacity[INPUT_AXONS]
                    at = start[j, a, k, b]
                    least[:, 1:] = np.inf
                    least[:, 0] = 0.0
                    each_channel[:] = np.inf
                    bare[:] = np.inf
                    for c in range(1, n_channels + 1):
                        if c * area > capacity[NEURONS]:
                            break
                        bits = 0.0
                        for w in range(n_wires):
                            bits_each, density = int(eachs[w].bits), eachs[w].density
                            signs = shapes[w].signs
                            dense_list = list_bits_of(c * area, bits_each, rule)
                            if shapes[w].dense == 1:
                                length = max(int(c * area * density + 0.5), 1)
                                sparse_list = list_bits_of(length, bits_each + index_bits, rule)
                                bits += signs * shapes[w].channels * min(dense_list, sparse_list)
                                continue
                            # with groups: at least the channels that so many need, and all of
                            # them short
                            n_lists, long = float(shapes[w].channels), c
                            if shapes[w].groups > 1:
                                n_lists = shapes[w].group_in * -(-c // shapes[w].group_out)
                                long = 1
                            lists = 0.0
                            sparse = 0.0
                            for i in range(1, n_taps):
                                if row_taps[w, j, a, i] == 0:
                                    continue
                                for e in range(1, n_taps):
                                    m = row_taps[w, j, a, i] * column_taps[w, k, b, e]
                                    if m == 0:
                                        continue
                                    lists += m
                                    length = max(int(long * i * e * density + 0.5), 1)
                                    sparse += m * list_bits_of(length, bits_each + index_bits, rule)
                            bits += signs * n_lists * min(sparse, lists * dense_list)
                        if bits > capacity[SYNAPSE_MEMORY] * slack:
                            break  # wider ones need more
                        widest[j, a, k, b] = c
                        memory = min(bits / capacity[SYNAPSE_MEMORY], 1.0)
                        for f in range(n_ways):
                            need[f] = weights[f, NEURONS] * c * area / capacity[NEURONS]
                            need[f] += weights[f, SYNAPSE_MEMORY] * memory + each[f]
                        parts = -(-n_channels // c)
                        if exact:
                            add_blocks(least, c, need)
                        else:
                            for f in range(n_ways):
                                each_channel[f] = min(each_channel[f], need[f] / c)
                                bare[f] = min(bare[f], (need[f] - each[f]) / c)
                                least[f, n_channels] = max(
                                    n_channels * each_channel[f],
                                    n_channels * bare[f] + each[f] * parts,
                                )
                        for f in range(n_ways):
                            costs[at + c, f] = once[f] + least[f, n_channels]
                        for s in range(n_sources):
                            sending[at + c, s] = once_sent[s] + each_sent[s] * parts
    return start, widest, costs, sending, plain


@helper(nogil=True, error_model="numpy")
def sums_below(values, sums):  # type: ignore[no-untyped-def]
    """Sums of values above and to the left of each corner, into ``sums``."""
    for y in range(values.shape[0]):
        line = 0
        for x in range(values.shape[1]):
            line += values[y, x]
            sums[y + 1, x + 1] = sums[y, x + 1] + line


@helper(nogil=True, error_model="numpy")
def _twice_as_many(found, costs):  # type: ignore[no-untyped-def]
    """The same grids and their costs, with room for as many more."""
    n, n_costs = costs.shape
    more, more_costs = np.empty(2 * n, CUT), np.empty((2 * n, n_costs))
    for i in range(n):
        more[i] = found[i]
        for f in range(n_costs):
            more_costs[i, f] = costs[i, f]
    return more, more_costs


@njit(nogil=True, error_model="numpy")
def grid_costs(  # type: ignore[no-untyped-def]
    entries, spent, at_most, limit, axes, start, widest, costs, sending
):
    """Grids of a population that cost no more than so much, after each label.

    Parameters
    ----------
    entries
        ``(labels or 1, height, width)`` int64 output entries of a channel's neurons; one for all
        labels, or one each.
    spent
        ``(labels, ways)`` float64 costs of the populations decided so far.
    at_most
        ``(ways,)`` float64.
    limit
        Output axons of a core.
    axes
        Edges and kinds of the parts of rows, one number of cuts after the other, and where each
        starts; the same of columns.
    start, widest, costs, sending
        From `cell_tables`.

    Returns
    -------
    tuple
        ``(n,)`` of `CUT`; ``(n, ways + sources)`` float64
        costs with this population, and output axons that it needs; whether any grid fits at all.
    """
    row_edges, row_kinds, row_start, column_edges, column_kinds, column_start = axes
    n_labels, n_ways = spent.shape
    n_sources = sending.shape[1]
    _, height, width = entries.shape
    found = np.empty(1024, CUT)
    cost_of = np.empty((1024, n_ways + n_sources))
    n = 0
    fits = False
    sums = np.zeros((height + 1, width + 1), np.int64)
    # cells of a grid that are alike
    known_a, known_b = np.empty(16, np.int64), np.empty(16, np.int64)
    known_here, known_at = np.empty(16, np.int64), np.empty(16, np.int64)
    total = np.empty(n_ways + n_sources)
    for m in range(n_labels):
        if m < len(entries):
            sums_below(entries[m], sums)
        for j in range(len(row_start) - 1):
            for k in range(len(column_start) - 1):
                for f in range(n_ways + n_sources):
                    total[f] = spent[m, f] if f < n_ways else 0.0
                n_known = 0
                valid = True
                for r in range(row_start[j], row_start[j + 1]):
                    a = row_kinds[r]
                    y0, y1 = row_edges[r + j], row_edges[r + j + 1]
                    for s in range(column_start[k], column_start[k + 1]):
                        b = column_kinds[s]
                        x0, x1 = column_edges[s + k], column_edges[s + k + 1]
                        here = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
                        at = -1
                        for t in range(n_known):
                            if known_a[t] == a and known_b[t] == b and known_here[t] == here:
                                at = known_at[t]
                                break
                        if at < 0:
                            c = widest[j, a, k, b]
                            if here > 0:
                                c = min(c, limit // here)
                            if c < 1:
                                valid = False
                                break
                            at = start[j, a, k, b] + c
                            if n_known < len(known_a):
                                known_a[n_known], known_b[n_known] = a, b
                                known_here[n_known], known_at[n_known] = here, at
                                n_known += 1
                        for f in range(n_ways):
                            total[f] += costs[at, f]
                        for f in range(n_sources):
                            total[n_ways + f] += sending[at, f]
                    if not valid:
                        break
                if not valid:
                    continue
                fits = True
                for f in range(n_ways):
                    if total[f] > at_most[f] + 1e-6:
                        valid = False
                        break
                if not valid:
                    continue
                if n == len(found):
                    found, cost_of = _twice_as_many(found, cost_of)
                found[n].label, found[n].rows, found[n].columns = m, j, k
                for f in range(n_ways + n_sources):
                    cost_of[n, f] = total[f]
                n += 1
    return found[:n], cost_of[:n], fits


@njit(nogil=True, error_model="numpy")
def group_alike(costs, sent, starts, order, scale, at_most):  # type: ignore[no-untyped-def]
    """Groups of candidates, none of which costs or sends much less than its group's first.

    Parameters
    ----------
    costs
        ``(n, ways)`` float64.
    sent
        ``(n, lines)`` float64 output axons of undecided populations, in all or by row and column.
    starts
        ``(axes + 1,)`` int64 where the lines of each axis start: what is less than the first's is
        summed along it.
    order
        ``(n,)`` int64: who is looked at first.
    scale
        ``(ways,)`` float64: a step of each way to cost; lines count as the first way.
    at_most
        So many groups; they are the less alike, the fewer.

    Returns
    -------
    tuple
        ``(n,)`` int64 group of each; ``(groups,)`` int64 first of each.
    """
    n, n_ways = costs.shape
    group = np.zeros(n, np.int64)
    first = np.zeros(at_most, np.int64)
    near = 1e-5
    while True:
        n_groups = 0
        enough = True
        for i in range(n):
            p = order[i]
            found = -1
            for g in range(n_groups):
                alike = True
                for f in range(n_ways):
                    if costs[p, f] < costs[first[g], f] - near * scale[f]:
                        alike = False
                        break
                for s in range(len(starts) - 1):
                    if not alike:
                        break
                    less = 0.0
                    for at in range(starts[s], starts[s + 1]):
                        less += max(sent[first[g], at] - sent[p, at], 0.0)
                    alike = less <= near * scale[0]
                if alike:
                    found = g
                    break
            if found < 0:
                if n_groups == at_most:
                    enough = False
                    break
                first[n_groups] = p
                found = n_groups
                n_groups += 1
            group[p] = found
        if enough:
            return group, first[:n_groups]
        near *= 1.5


@helper(nogil=True, error_model="numpy")
def spans_of(meets):  # type: ignore[no-untyped-def]
    """First source row that meets each part, and the one after the last."""
    n_wires, n_parts, n_rows = meets.shape
    spans = np.zeros((n_wires, n_parts, 2), np.int64)
    for w in range(n_wires):
        for r in range(n_parts):
            for y in range(n_rows):
                if meets[w, r, y]:
                    if spans[w, r, 1] == 0:
                        spans[w, r, 0] = y
                    spans[w, r, 1] = y + 1
    return spans


@njit(nogil=True, error_model="numpy")
def least_entries(  # type: ignore[no-untyped-def]
    entries, base, found, group_start, n_channels, limit, axes, widest, plain, meets, singles,
    shapes,
):  # fmt: skip
    """Entries that each group of grids gives the channels of each pixel of one source at least.

    Parameters
    ----------
    entries
        As in `grid_costs`.
    base
        ``(labels or 1, height, width)`` int64 entries that the source has without this population.
    found, group_start
        ``(n,)`` from `grid_costs`, group by group; ``(groups + 1,)`` where groups start.
    n_channels
        Of the population.
    limit, axes, widest
        As in `grid_costs`.
    plain, shapes
        Of the wires from the source: see `cell_tables`.
    meets, singles
        Of rows and of columns, each ``(wires, parts, source rows)`` bool: whether a row meets a
        part, and like no other one.

    Returns
    -------
    ndarray
        ``(groups, height, width)`` int64.
    """
    row_edges, row_kinds, row_start, column_edges, column_kinds, column_start = axes
    row_meets, column_meets = meets
    row_singles, column_singles = singles
    row_spans, column_spans = spans_of(row_meets), spans_of(column_meets)
    _, height, width = base.shape
    out = np.empty((len(group_start) - 1, height, width), np.int64)
    one = np.empty((height, width), np.int64)
    sums = np.zeros((entries.shape[1] + 1, entries.shape[2] + 1), np.int64)
    last = -1
    for g in range(len(group_start) - 1):
        for i in range(group_start[g], group_start[g + 1]):
            m, j, k = found[i].label, found[i].rows, found[i].columns
            label = min(m, len(entries) - 1)
            if label != last:
                sums_below(entries[label], sums)
                last = label
            before = base[min(m, len(base) - 1)]
            for y in range(height):
                for x in range(width):
                    one[y, x] = before[y, x]
            for w in range(len(shapes)):
                dense, groups, signs, each = (
                    shapes[w].dense == 1, shapes[w].groups, shapes[w].signs, shapes[w].entries,
                )  # fmt: skip
                for r in range(row_start[j], row_start[j + 1]):
                    a = row_kinds[r]
                    y0, y1 = row_edges[r + j], row_edges[r + j + 1]
                    for s in range(column_start[k], column_start[k + 1]):
                        b = column_kinds[s]
                        x0, x1 = column_edges[s + k], column_edges[s + k + 1]
                        here = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
                        c = widest[j, a, k, b]
                        if here > 0:
                            c = min(c, limit // here)
                        parts = -(-n_channels // c) if groups == 1 else 1
                        left = plain[w, j, a, k, b]
                        if dense:
                            top, bottom, first, end = 0, height, 0, width
                        else:
                            top, bottom = row_spans[w, r, 0], row_spans[w, r, 1]
                            first, end = column_spans[w, s, 0], column_spans[w, s, 1]
                        less = parts * signs
                        more = less * each
                        if dense:  # source neurons without a weight send nothing
                            more = more * shapes[w].channels // shapes[w].neurons
                            less = less * shapes[w].channels // shapes[w].neurons
                        for y in range(top, bottom):
                            if not dense and not row_meets[w, r, y]:
                                continue
                            line = one[y]
                            if left == 0 or not (dense or row_singles[w, r, y]):
                                for x in range(first, end):
                                    if dense or column_meets[w, s, x]:
                                        line[x] += more
                                continue
                            for x in range(first, end):
                                if not dense and not column_meets[w, s, x]:
                                    continue
                                if left > 0 and (dense or column_singles[w, s, x]):
                                    left -= 1
                                    line[x] += less
                                else:
                                    line[x] += more
            for y in range(height):
                least, line = out[g, y], one[y]
                for x in range(width):
                    if i == group_start[g] or line[x] < least[x]:
                        least[x] = line[x]
    return out
