"""Compiled parts of `bounding`: what the blocks of every cell of every grid need at least."""

from __future__ import annotations

import numpy as np
from numba import njit

from pmsm_hw.mapping.cut_kernels import list_bits_of

__all__ = ["cell_tables", "entries_of", "grid_costs"]


@njit(cache=True, nogil=True)
def cell_tables(  # type: ignore[no-untyped-def]
    n_channels, row_size, row_n, column_size, column_n, row_hit, column_hit, row_single,
    column_single, row_taps, column_taps, shapes, eachs, capacity, rule, index_bits,
):  # fmt: skip
    """Widest blocks, least memory, and axons of each kind of cell of each grid.

    Parameters
    ----------
    n_channels
        Of the population.
    row_size, row_n, column_size, column_n
        ``(cuts, kinds)`` of `AxisClasses`.
    row_hit, ..., column_taps
        ``(wires, cuts, kinds[, taps])`` of `AxisTaps`.
    shapes, eachs
        Of the wires: `cut_search.shape_of`, `cut_search.each_of`.
    capacity, rule, index_bits
        Of a core, and of lists (`cut_kernels.list_bits_of`).

    Returns
    -------
    tuple
        By rows, row kinds, columns and column kinds: channels that a block can have; memory
        of blocks of so many channels, as share of a core; input axons of a block, likewise;
        and by wire first: entries of a block's source pixels in all, and pixels with plain axons.
    """
    n_j, n_a = row_size.shape
    n_k, n_b = column_size.shape
    n_wires = len(shapes)
    widest = np.zeros((n_j, n_a, n_k, n_b), np.int64)
    memory = np.full((n_j, n_a, n_k, n_b, n_channels + 1), 1e18)
    axons = np.zeros((n_j, n_a, n_k, n_b))
    sent = np.zeros((n_wires, n_j, n_a, n_k, n_b))
    plain = np.zeros((n_wires, n_j, n_a, n_k, n_b), np.int64)
    n_taps = row_taps.shape[3]
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
                        if shapes[w, 0] == 1:
                            units += shapes[w, 5] * shapes[w, 6]
                        elif shapes[w, 7] == 1:
                            units += pixels * shapes[w, 6]
                        elif shapes[w, 1] == 1:
                            units += pixels * shapes[w, 2] * shapes[w, 6]
                        else:
                            units += pixels * shapes[w, 3] * shapes[w, 6]
                    if units > capacity[1]:
                        continue
                    for c in range(1, n_channels + 1):
                        if c * area > capacity[0]:
                            break
                        bits = 0.0
                        for w in range(n_wires):
                            each, density = int(eachs[w, 0]), eachs[w, 1]
                            signs = shapes[w, 6]
                            dense_list = list_bits_of(c * area, each, rule)
                            if shapes[w, 0] == 1:
                                length = max(int(c * area * density + 0.5), 1)
                                sparse_list = list_bits_of(length, each + index_bits, rule)
                                bits += signs * shapes[w, 2] * min(dense_list, sparse_list)
                                continue
                            # with groups: at least the channels that so many need, and all of
                            # them short
                            sources, long = float(shapes[w, 2]), c
                            if shapes[w, 1] > 1:
                                sources = shapes[w, 3] * -(-c // shapes[w, 4])
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
                                    sparse += m * list_bits_of(length, each + index_bits, rule)
                            bits += signs * sources * min(sparse, lists * dense_list)
                        if bits > capacity[3] * (1.0 + 2.0 * (1.0 - density_of(eachs))):
                            continue
                        widest[j, a, k, b] = c
                        memory[j, a, k, b, c] = min(bits / capacity[3], 1.0)
                    left = capacity[1] - units
                    for w in range(n_wires):
                        pixels = row_hit[w, j, a] * column_hit[w, k, b]
                        alone = row_single[w, j, a] * column_single[w, k, b]
                        channels = float(shapes[w, 2])
                        if shapes[w, 0] == 1:
                            pixels = alone = shapes[w, 5]
                            channels = shapes[w, 2] / max(pixels, 1)
                        if shapes[w, 8] == 0:
                            alone = 0
                        elif shapes[w, 1] == 1 and channels > 1:
                            more = (channels - 1.0) * shapes[w, 6]
                            alone = min(alone, int(max(left, 0.0) / more + 1e-9))
                            left -= alone * more
                            units += alone * more
                        plain[w, j, a, k, b] = alone
                        sent[w, j, a, k, b] = shapes[w, 6] * (
                            pixels * shapes[w, 9] - alone * (shapes[w, 9] - 1)
                        )
                    axons[j, a, k, b] = units / capacity[1]
    return widest, memory, axons, sent, plain


@njit(cache=True, nogil=True)
def density_of(eachs):  # type: ignore[no-untyped-def]
    """Least share of weights other than zero."""
    density = 1.0
    for w in range(len(eachs)):
        density = min(density, eachs[w, 1])
    return max(density, 0.5)


@njit(cache=True, nogil=True)
def grid_costs(  # type: ignore[no-untyped-def]
    entries, n_channels, row_edges, row_kinds, row_start, column_edges, column_kinds,
    column_start, row_size, column_size, widest, memory, axons, sent, out_cost, shapes, weights,
    capacity,
):  # fmt: skip
    """Least cost of each grid for each label, and of its output entries alone.

    Both ``(labels, rows, columns)`` float64; infinite: no blocks fit.

    Parameters
    ----------
    entries
        ``(labels, height, width)`` output entries of a channel's neurons.
    n_channels
        Of the population.
    row_edges, row_kinds, row_start, ...
        Edges and kinds of parts, one number of cuts after the other, and where each starts.
    row_size, column_size
        Sizes of the kinds of parts.
    widest, memory, axons, sent
        From `cell_tables`.
    out_cost
        ``(wires,)`` cost of an entry of each channel of a pixel, all channels together.
    shapes
        Of the wires.
    weights
        Of neurons, input axons, output axons and memory.
    capacity
        Of a core.
    """
    n_labels, height, width = entries.shape
    n_j, n_k = len(row_start) - 1, len(column_start) - 1
    found = np.full((n_labels, n_j, n_k), np.inf)
    sending = np.full((n_labels, n_j, n_k), np.inf)
    before = np.zeros((height + 1, width + 1))
    limit = capacity[2]
    known_a, known_b = np.empty(16, np.int64), np.empty(16, np.int64)
    known_here, known_cost, known_sent = np.empty(16), np.empty(16), np.empty(16)
    for m in range(n_labels):
        for y in range(height):
            line = 0.0
            for x in range(width):
                line += entries[m, y, x]
                before[y + 1, x + 1] = before[y, x + 1] + line
        for j in range(n_j):
            for k in range(n_k):
                total = total_sent = 0.0
                n_known = 0
                for r in range(row_start[j], row_start[j + 1]):
                    a = row_kinds[r]
                    y0, y1 = row_edges[r + j], row_edges[r + j + 1]
                    for s in range(column_start[k], column_start[k + 1]):
                        b = column_kinds[s]
                        x0, x1 = column_edges[s + k], column_edges[s + k + 1]
                        here = before[y1, x1] - before[y0, x1] - before[y1, x0] + before[y0, x0]
                        same = -1
                        for t in range(n_known):
                            if known_a[t] == a and known_b[t] == b and known_here[t] == here:
                                same = t
                                break
                        if same >= 0:
                            total += known_cost[same]
                            total_sent += known_sent[same]
                            continue
                        c = widest[j, a, k, b]
                        if here > 0.0:
                            c = min(c, int(limit / here + 1e-9))
                        if c < 1:
                            total = np.inf
                            break
                        each = weights[1] * axons[j, a, k, b]  # of a block, whatever its width
                        once = each_sent = 0.0
                        for w in range(len(out_cost)):
                            if shapes[w, 1] == 1:
                                each_sent += out_cost[w] * sent[w, j, a, k, b]
                            else:
                                once += out_cost[w] * sent[w, j, a, k, b]
                        each += each_sent
                        area = row_size[j, a] * column_size[k, b] / capacity[0]
                        least_rest, least = np.inf, np.inf
                        for w in range(1, c + 1):
                            if memory[j, a, k, b, w] > 1.0:
                                continue
                            rest = weights[3] * memory[j, a, k, b, w]
                            rest += weights[0] * w * area
                            least_rest = min(least_rest, rest / w)
                            least = min(least, (rest + each) / w)
                        parts = -(-n_channels // c)
                        cost = once + max(
                            n_channels * least, n_channels * least_rest + each * parts
                        )
                        total += cost
                        total_sent += once + each_sent * parts
                        if n_known < len(known_a):
                            known_a[n_known], known_b[n_known] = a, b
                            known_here[n_known], known_cost[n_known] = here, cost
                            known_sent[n_known] = once + each_sent * parts
                            n_known += 1
                    if total == np.inf:
                        break
                found[m, j, k] = total
                sending[m, j, k] = total_sent
    return found, sending


@njit(cache=True, nogil=True)
def entries_of(  # type: ignore[no-untyped-def]
    entries, n_channels, j, k, row_edges, row_kinds, row_start, column_edges, column_kinds,
    column_start, widest, plain, row_hits, column_hits, row_singles, column_singles, dense,
    groups, signs, each, limit, out,
):  # fmt: skip
    """Add to ``out`` the entries that one grid gives the channels of each pixel of one source.

    Parameters
    ----------
    entries
        ``(height, width)`` of one label.
    j, k
        The grid.
    plain
        Of the wire, from `cell_tables`.
    row_hits, ..., column_singles
        ``(parts, source rows)`` bool: whether a row meets a part, and like no other one.
    dense, groups, signs, each
        Of the wire; entries of a population axon.
    """
    for r in range(row_start[j], row_start[j + 1]):
        a = row_kinds[r]
        y0, y1 = row_edges[r + j], row_edges[r + j + 1]
        for s in range(column_start[k], column_start[k + 1]):
            b = column_kinds[s]
            x0, x1 = column_edges[s + k], column_edges[s + k + 1]
            here = 0.0
            for y in range(y0, y1):
                for x in range(x0, x1):
                    here += entries[y, x]
            c = widest[j, a, k, b]
            if here > 0.0:
                c = min(c, int(limit / here + 1e-9))
            parts = -(-n_channels // c) if groups == 1 else 1
            left = plain[j, a, k, b]
            for y in range(out.shape[0]):
                if not dense and not row_hits[r, y]:
                    continue
                for x in range(out.shape[1]):
                    if not dense and not column_hits[s, x]:
                        continue
                    alone = left > 0 and (dense or (row_singles[r, y] and column_singles[s, x]))
                    if alone:
                        left -= 1
                    out[y, x] += parts * signs * (1.0 if alone else each)
