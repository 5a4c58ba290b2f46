"""The inner loop of `placement`, compiled by numba.

Cores with the same partners and messages form a class, and see the same landscape: the cost of a
column is a sum of distances, so its slope between two columns is what counts. A swap is weighed by
summing a few slopes, and a swap that is made changes slopes between the old and the new column
only. That makes rejected swaps, most of them, cheap however many partners a core has.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["anneal", "fill_slopes"]


@numba.njit(cache=True, nogil=True)
def _random(state):  # type: ignore[no-untyped-def]
    """Next state of a xorshift generator (64 bits)."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@numba.njit(cache=True, nogil=True)
def fill_slopes(  # type: ignore[no-untyped-def]
    start, other, messages, members_start, members, io, x, y, io_x, io_y, at, width, height
):
    """Slopes of each class's cost, ``(classes, width + height)`` float64.

    Entry ``c`` is the cost of column ``c + 1`` minus that of column ``c``; rows follow from entry
    ``width`` on. Parameters as in `anneal`.
    """
    n_classes = len(start) - 1
    slope = np.zeros((n_classes, width + height))
    # messages per column and row of each class's members
    columns, rows = np.zeros((n_classes, width)), np.zeros((n_classes, height))
    for g in range(n_classes):
        for k in range(members_start[g], members_start[g + 1]):
            columns[g, x[at[members[k]]]] += 1.0
            rows[g, y[at[members[k]]]] += 1.0
    total = np.zeros(width + height)
    for g in range(n_classes):
        total[:] = 0.0
        own = io[members[members_start[g]]]
        total[io_x] = own
        total[width + io_y] = own
        everything = own
        for e in range(start[g], start[g + 1]):
            h, m = other[e], messages[e]
            everything += m * (members_start[h + 1] - members_start[h])
            for c in range(width):
                total[c] += m * columns[h, c]
            for c in range(height):
                total[width + c] += m * rows[h, c]
        before = 0.0
        for c in range(width):
            before += total[c]
            slope[g, c] = 2.0 * before - everything
        before = 0.0
        for c in range(width, width + height):
            before += total[c]
            slope[g, c] = 2.0 * before - everything
    return slope


@numba.njit(cache=True, nogil=True)
def _climb(row, first, last):  # type: ignore[no-untyped-def]
    """Sum of slopes on the way from one column to another."""
    total = 0.0
    for c in range(first, last):
        total += row[c]
    for c in range(last, first):
        total -= row[c]
    return total


@numba.njit(cache=True, nogil=True)
def _moved(start, other, messages, group, x0, y0, x1, y1, width, slope):  # type: ignore[no-untyped-def]
    """Correct the slopes of all partners of a core that went from one tile to another."""
    left, right = min(x0, x1), max(x0, x1)
    low, high = width + min(y0, y1), width + max(y0, y1)
    by_x = -2.0 if x1 > x0 else 2.0
    by_y = -2.0 if y1 > y0 else 2.0
    for e in range(start[group], start[group + 1]):
        row = slope[other[e]]
        step_x, step_y = by_x * messages[e], by_y * messages[e]
        for c in range(left, right):
            row[c] += step_x
        for c in range(low, high):
            row[c] += step_y
    return (start[group + 1] - start[group]) * (8 + right - left + high - low)


@numba.njit(cache=True, nogil=True)
def _between(start, other, messages, g, h):  # type: ignore[no-untyped-def]
    """Messages between a core of class ``g`` and one of class ``h``."""
    low, end = start[g], start[g + 1]
    high = end
    while low < high:
        middle = (low + high) // 2
        if other[middle] < h:
            low = middle + 1
        else:
            high = middle
    return messages[low] if low < end and other[low] == h else 0.0


@numba.njit(cache=True, nogil=True)
def anneal(  # type: ignore[no-untyped-def]
    start,
    other,
    messages,
    group,
    partner_start,
    partner,
    x,
    y,
    tiles,
    per_tile,
    at,
    holds,
    slope,
    state,
    done,
    until,
    budget,
    hot,
    cold,
):
    """Swap cores (or move one to a free slot) by simulated annealing, in place.

    Parameters
    ----------
    start, other, messages
        Partners of each class in compressed rows, ascending: class, and messages to and from each
        of its members.
    group
        Class of each core.
    partner_start, partner
        Partners of each core, likewise.
    x, y
        Tile of each slot.
    tiles
        ``(rows, columns)``: first slot of each tile, -1: not in the region.
    per_tile
        Slots of a tile, consecutive.
    at, holds
        Slot of each core, core in each slot (-1: none); changed.
    slope
        From `fill_slopes`; changed.
    state
        ``(1,)`` uint64, odd at first; changed.
    done, until, budget
        Work that is done, after which to return, and in all: the temperature follows it. About one
        unit a partner that is touched.
    hot, cold
        Temperature at the start and the end, in messages times hops.

    Returns
    -------
    int
        Work done so far.
    """
    n = len(at)
    height, width = tiles.shape
    random = state[0]
    cooling = np.log(cold / hot)
    temperature, reach = hot, max(width, height)
    tries = 0
    while done < until:
        if tries % 256 == 0:
            share = done / budget
            temperature = hot * np.exp(cooling * share)
            reach = max(1, np.int64(max(width, height) ** (1.0 - share) + 0.5))
        tries += 1
        done += 40
        random = _random(random)
        core = np.int64(random % np.uint64(n))
        here = at[core]
        here_x, here_y = x[here], y[here]
        near_x, near_y, span = here_x, here_y, reach
        random = _random(random)
        first, last = partner_start[core], partner_start[core + 1]
        if random % np.uint64(2) and last > first:  # near a partner, chosen at random
            pick = first + np.int64((random >> np.uint64(8)) % np.uint64(last - first))
            near = at[partner[pick]]
            near_x, near_y, span = x[near], y[near], 1
        random = _random(random)
        side = np.uint64(2 * span + 1)
        to_x = near_x + np.int64(random % side) - span
        to_y = near_y + np.int64((random >> np.uint64(16)) % side) - span
        if to_x < 0 or to_y < 0 or to_x >= width or to_y >= height or tiles[to_y, to_x] < 0:
            continue
        slot = tiles[to_y, to_x] + np.int64((random >> np.uint64(32)) % np.uint64(per_tile))
        if to_x == here_x and to_y == here_y:
            continue
        g, rival = group[core], holds[slot]
        h = group[rival] if rival >= 0 else -1
        if h == g:
            continue
        change = _climb(slope[g], here_x, to_x)
        change += _climb(slope[g], width + here_y, width + to_y)
        if h >= 0:
            change += _climb(slope[h], to_x, here_x)
            change += _climb(slope[h], width + to_y, width + here_y)
        if change > 40.0 * temperature:
            continue
        random = _random(random)
        draw = (np.float64(random >> np.uint64(11)) + 1.0) / 9007199254740993.0
        limit = -temperature * np.log(draw)
        if change > limit:
            continue
        if h >= 0:  # the slopes took the other one for staying where it is
            apart = abs(to_x - here_x) + abs(to_y - here_y)
            change += 2.0 * apart * _between(start, other, messages, g, h)
            if change > limit:
                continue
        at[core] = slot
        holds[slot] = core
        holds[here] = rival
        done += _moved(start, other, messages, g, here_x, here_y, to_x, to_y, width, slope)
        if h >= 0:
            at[rival] = here
            done += _moved(start, other, messages, h, to_x, to_y, here_x, here_y, width, slope)
    state[0] = random
    return done
