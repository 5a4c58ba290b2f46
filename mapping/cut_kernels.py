"""Compiled search for cuts: cores are filled for each change of a cut, not estimated."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pmsm_hw.mapping.pack_kernels import fill_cores

__all__ = ["anneal_cuts", "cores_of_cut", "list_bits_of"]

_FLUID = 0.3
"""Weight of the scarcest resource's total beside the cores themselves: tells equals apart."""
_EACH_BLOCK = 2e-4
"""Weight of a block: fewer ones are mapped faster."""
_IMPOSSIBLE = 1e6


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _add_kind(needs, counts, n, first, need, count):  # type: ignore[no-untyped-def]
    """Append blocks, or add them to equal ones from `first` on."""
    for t in range(first, n):
        same = True
        for r in range(4):
            if needs[t, r] != need[r]:
                same = False
                break
        if same:
            counts[t] += count
            return n
    for r in range(4):
        needs[n, r] = need[r]
    counts[n] = count
    return n + 1


@njit(cache=True, nogil=True)
def _needs_of_cut(state, table, parts, sent_each, needs, counts):  # type: ignore[no-untyped-def]
    """Blocks of a cut by kind: how many kinds, and how far beyond the limits it is.

    Parameters
    ----------
    state
        ``(n_populations, 3)``: index of row and column cuts, channels of a block.
    table
        From `cut_search.Search`.
    parts, sent_each, needs, counts
        Overwritten: parts along channels by population and kind of cell; output entries of a
        source neuron for a block, by wire and kind of cell; `fill_cores` reads the others.
    """
    (
        channels, axis_start, many, size, whole_size, fit_start, fit, wire_start, wire_axis, hit,
        single, taps, wire_shape, wire_each, out_start, out_wire, wire_target, reach_start,
        reach, capacity, rule, index_bits,
    ) = table  # fmt: skip
    n_populations = len(state)
    n_taps = taps.shape[2]
    n = 0
    beyond = 0.0
    need = np.empty(4)
    parts[:] = 0.0
    for p in range(n_populations - 1, -1, -1):
        j, k, wanted = state[p, 0], state[p, 1], state[p, 2]
        first = n
        y_at, x_at = axis_start[p, 0] + j, axis_start[p, 1] + k
        n_columns = axis_start[p, 1 + 1] - axis_start[p, 1]
        for y in range(3):
            if many[y_at, y] == 0:
                continue
            for x in range(3):
                if many[x_at, x] == 0:
                    continue
                cells = many[y_at, y] * many[x_at, x]
                # output axons of one channel of the cell
                sent = 0.0
                for o in range(out_start[p], out_start[p + 1]):
                    w = out_wire[o]
                    t = wire_target[w]
                    tj, tk = state[t, 0], state[t, 1]
                    n_rows = axis_start[t, 1] - axis_start[t, 0]
                    n_cols = axis_start[t, 2] - axis_start[t, 1]
                    ry = reach_start[w, 0] + j * n_rows + tj
                    rx = reach_start[w, 1] + k * n_cols + tk
                    groups = wire_shape[w, 1]
                    reached = 0.0
                    for a in range(3):
                        if reach[ry, y, a] == 0.0:
                            continue
                        for b in range(3):
                            split = parts[t, a, b]
                            if groups > 1:
                                split = max(1.0, (split + groups - 1.0) / groups)
                            reached += (
                                split * reach[ry, y, a] * reach[rx, x, b] * sent_each[w, a, b]
                            )
                    sent += reached
                width = min(wanted, fit[fit_start[p] + j * n_columns + k, y, x])
                if width < 1:
                    beyond += cells
                    width = 1
                if sent > 0.0:
                    by_entries = int(capacity[2] / sent + 1e-9)
                    if by_entries < 1:
                        beyond += cells * (sent / capacity[2])
                        by_entries = 1
                    width = min(width, by_entries)
                full = channels[p] // width
                rest = channels[p] - full * width
                parts[p, y, x] = full + (rest > 0)
                mean = size[y_at, y] * size[x_at, x]
                height, breadth = whole_size[y_at, y], whole_size[x_at, x]
                for which in range(2):
                    c = width if which == 0 else rest
                    number = full if which == 0 else 1
                    if c == 0:
                        continue
                    neurons = c * height * breadth
                    axons = 0.0
                    bits = 0.0
                    for w in range(wire_start[p], wire_start[p + 1]):
                        kind, groups = wire_shape[w, 0], wire_shape[w, 1]
                        n_source, per_in, per_out = (
                            wire_shape[w, 2], wire_shape[w, 3], wire_shape[w, 4],
                        )  # fmt: skip
                        units, signs, pixel = wire_shape[w, 5], wire_shape[w, 6], wire_shape[w, 7]
                        each = int(wire_each[w, 0])
                        density, reaching = wire_each[w, 1], wire_each[w, 2]
                        if kind == 1:
                            length = max(int(neurons * density + 0.5), 1)
                            sparse = n_source * list_bits_of(length, each + index_bits, rule)
                            dense = n_source * list_bits_of(neurons, each, rule)
                            bits += signs * min(sparse, dense) * reaching
                            axons += units * signs * reaching
                            if which == 0:
                                sent_each[w, y, x] = reaching * signs * wire_shape[w, 9]
                            continue
                        reached_channels, length_each = float(n_source), c
                        if groups > 1:
                            reached_channels = per_in * max(1.0, c / per_out)
                            length_each = min(c, per_out)
                        wy, wx = wire_axis[w, 0] + j, wire_axis[w, 1] + k
                        pixels = hit[wy, y] * hit[wx, x]
                        axons += reaching * signs * pixels * (1.0 if pixel else reached_channels)
                        if which == 0:
                            sent_each[w, y, x] = reaching * signs * wire_shape[w, 9]
                        sparse = 0.0
                        lists = 0.0
                        for i in range(1, n_taps):
                            if taps[wy, y, i] == 0:
                                continue
                            for e in range(1, n_taps):
                                m = taps[wy, y, i] * taps[wx, x, e]
                                if m == 0:
                                    continue
                                lists += m
                                length = max(int(length_each * i * e * density + 0.5), 1)
                                sparse += m * list_bits_of(length, each + index_bits, rule)
                        dense = lists * list_bits_of(neurons, each, rule)
                        bits += reaching * signs * reached_channels * min(sparse, dense)
                    # plain axons, while input axons suffice: see `Resources.n_plain`
                    for w in range(wire_start[p], wire_start[p + 1]):
                        if not wire_shape[w, 8]:
                            continue
                        groups, signs = wire_shape[w, 1], wire_shape[w, 6]
                        if wire_shape[w, 0] == 1:
                            pixels = alone = wire_shape[w, 5]
                            more = (wire_shape[w, 2] / max(pixels, 1) - 1.0) * signs
                        else:
                            wy, wx = wire_axis[w, 0] + j, wire_axis[w, 1] + k
                            pixels = hit[wy, y] * hit[wx, x]
                            alone = single[wy, y] * single[wx, x]
                            reached_channels = float(wire_shape[w, 2])
                            if groups > 1:
                                reached_channels = wire_shape[w, 3] * max(1.0, c / wire_shape[w, 4])
                            more = (reached_channels - 1.0) * signs
                        if more > 0.0:
                            alone = min(alone, int(max(capacity[1] - axons, 0.0) / more + 1e-9))
                        axons += alone * more
                        if which == 0:
                            sent_each[w, y, x] -= wire_each[w, 2] * (
                                signs * (wire_shape[w, 9] - 1.0) * alone / max(pixels, 1)
                            )
                    need[0] = c * mean / capacity[0]
                    need[1] = min(axons / capacity[1], 1.0)
                    need[2] = min(sent * c / capacity[2], 1.0)
                    need[3] = min(bits / capacity[3], 1.0)
                    n = _add_kind(needs, counts, n, first, need, number * cells)
    return n, beyond


@njit(cache=True, nogil=True)
def cores_of_cut(  # type: ignore[no-untyped-def]
    state, table, parts, sent_each, needs, counts, holds, most, at_most=1e18
):
    """Cores that a cut takes, a finer measure of it, and how many kinds of blocks it has.

    Above `at_most`, the measure is only sure to be above it.
    """
    n, beyond = _needs_of_cut(state, table, parts, sent_each, needs, counts)
    fluid = 0.0
    for r in range(4):
        total = 0.0
        for t in range(n):
            total += needs[t, r] * counts[t]
        fluid = max(fluid, total)
    value = _FLUID * fluid + _EACH_BLOCK * counts[:n].sum()
    if beyond > 0.0:
        value += _IMPOSSIBLE * (1.0 + beyond)
    if value + fluid > at_most:
        return 0, value + fluid, n
    n_cores = fill_cores(
        needs[:n], counts[:n], holds[:n], most, 2.0, 0, 2, at_most - value
    )[0]  # fmt: skip
    return n_cores, n_cores + value, n


@njit(cache=True, nogil=True)
def anneal_cuts(start, table, short_start, short, n_moves, hot, cold, seed):  # type: ignore[no-untyped-def]
    """Best state found from `start`; temperatures are shares of its value."""
    np.random.seed(seed)  # noqa: NPY002
    n_populations = len(start)
    channels, axis_start = table[0], table[1]
    parts = np.zeros((n_populations, 3, 3))
    sent_each = np.zeros((len(table[12]), 3, 3))
    needs = np.empty((n_populations * 18 + 1, 4))
    counts = np.empty(n_populations * 18 + 1, np.int64)
    holds = np.zeros((n_populations * 18 + 1, 0), np.bool_)
    most = np.zeros((0, 3), np.int64)
    state, best = start.copy(), start.copy()
    value = cores_of_cut(state, table, parts, sent_each, needs, counts, holds, most)[1]
    least = value
    for move in range(n_moves):
        temperature = least * hot * (cold / hot) ** (move / n_moves)
        p = np.random.randint(n_populations)  # noqa: NPY002
        j, k, w = state[p, 0], state[p, 1], state[p, 2]
        n_rows = axis_start[p, 1] - axis_start[p, 0]
        n_cols = axis_start[p, 2] - axis_start[p, 1]
        kind = np.random.randint(6)  # noqa: NPY002
        c = channels[p]
        if kind == 0 and short_start[p + 1] > short_start[p]:
            pick = np.random.randint(short_start[p], short_start[p + 1])  # noqa: NPY002
            state[p] = short[pick]
        elif kind == 1:  # finer or coarser cells
            step = 1 if np.random.random() < 0.5 else -1  # noqa: NPY002
            if np.random.random() < 0.5:  # noqa: NPY002
                state[p, 0] = min(max(j + step, 0), n_rows - 1)
            else:
                state[p, 1] = min(max(k + step, 0), n_cols - 1)
        elif kind == 2:  # one part more or less
            n = -(-c // w) + (1 if np.random.random() < 0.5 else -1)  # noqa: NPY002
            state[p, 2] = -(-c // min(max(n, 1), c))
        elif kind == 3:
            step = 1 if np.random.random() < 0.5 else -1  # noqa: NPY002
            state[p, 2] = min(max(w + step * (1 + np.random.randint(4)), 1), c)  # noqa: NPY002
        elif kind == 4:  # a fraction, or all channels
            n = 1 + np.random.randint(8)  # noqa: NPY002
            state[p, 2] = max(-(-w // n), 1) if np.random.random() < 0.7 else -(-c // n)  # noqa: NPY002
        else:  # half as many cells one way, twice as many channels less the other
            state[p, 0] = min(max(j + np.random.randint(3) - 1, 0), n_rows - 1)  # noqa: NPY002
            state[p, 1] = min(max(k + np.random.randint(3) - 1, 0), n_cols - 1)  # noqa: NPY002
            state[p, 2] = -(-c // (1 + np.random.randint(min(c, 64))))  # noqa: NPY002
        if state[p, 0] == j and state[p, 1] == k and state[p, 2] == w:
            continue
        at_most = value - temperature * math.log(1.0 - np.random.random())  # noqa: NPY002
        new = cores_of_cut(
            state, table, parts, sent_each, needs, counts, holds, most, at_most
        )[1]  # fmt: skip
        if new <= at_most:
            value = new
            if value < least:
                least = value
                best[:] = state
        else:
            state[p, 0], state[p, 1], state[p, 2] = j, k, w
    return best, least
