"""Filling cores, compiled by numba: one after the other, and as many alike as there can be."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["fill_cores"]


@njit(cache=True, nogil=True)
def fill_cores(needs, counts, holds, most, power, rule, start_with, at_most=1e18):  # type: ignore[no-untyped-def]
    """Fill a core with whichever block suits its room best until none fits; again and again.

    Parameters
    ----------
    needs
        ``(n, 4)`` float64 needs of each kind of block, as shares of a core's limits.
    counts
        ``(n,)`` int64 blocks of each kind.
    holds, most
        ``(n, values)`` bool, what a block uses of things of which a core may have only a few, by
        group of columns; ``(groups, 3)`` int64 first and last column, and the limit.
    power
        Resources weigh as much as what is still needed of them, to this power.
    rule
        0: largest weighted product of room and need; 1: the same over the need's length;
        2: least square of the room that remains.
    start_with
        Block that a core begins with: 1: that with the largest need of anything; 2: with the
        largest weighted need.
    at_most
        Cores beyond which the caller does not care: what is returned then is not complete.

    Returns
    -------
    tuple
        Number of cores; ``(m,)`` int64 cores of each pattern; ``(m + 1,)`` starts of the patterns'
        entries; kinds and numbers of blocks of the entries.
    """
    n, n_dims = needs.shape
    left = counts.copy()
    total = np.zeros(n_dims)
    n_left = 0
    for t in range(n):
        n_left += left[t]
        for r in range(n_dims):
            total[r] += left[t] * needs[t, r]
    times = np.empty(64, np.int64)
    starts = np.zeros(65, np.int64)
    kinds = np.empty(256, np.int64)
    puts = np.empty(256, np.int64)
    n_patterns = 0
    n_cores = 0
    free = np.empty(n_dims)
    used = np.zeros(n, np.int64)
    held = np.zeros(holds.shape[1], np.bool_)
    w = np.empty(n_dims)
    length = np.empty(n)
    alive = np.arange(n)
    open_kinds = np.empty(n, np.int64)
    n_alive = n
    while n_left > 0:
        scale = max(total.max(), 1e-12)
        if n_cores + scale - 1e-6 > at_most:  # what is left takes at least `scale`
            n_cores += int(np.ceil(scale - 1e-6))
            break
        for r in range(n_dims):
            w[r] = (max(total[r], 0.0) / scale) ** power
        if rule == 1:
            for a in range(n_alive):
                t = alive[a]
                s = 1e-12
                for r in range(n_dims):
                    s += w[r] * needs[t, r] * needs[t, r]
                length[t] = np.sqrt(s)
        free[:] = 1.0
        held[:] = False
        entry = starts[n_patterns]
        begin = entry
        # kinds that still may fit: shrinks while the core fills
        open_kinds[:n_alive] = alive[:n_alive]
        n_open = n_alive
        while True:
            best, best_score = -1, -1e300
            keep = 0
            for a in range(n_open):
                t = open_kinds[a]
                if used[t] >= left[t]:
                    continue
                fits = True
                score = 0.0
                for r in range(n_dims):
                    if needs[t, r] > free[r] + 1e-12:
                        fits = False
                        break
                    if rule < 2:
                        score += w[r] * needs[t, r] * free[r]
                    else:
                        score -= w[r] * (free[r] - needs[t, r]) ** 2
                if not fits:
                    continue
                open_kinds[keep] = t
                keep += 1
                if entry == begin:
                    score = 0.0
                    for r in range(n_dims):
                        weight = 1.0 if start_with == 1 else w[r]
                        score = max(score, weight * needs[t, r])
                elif rule == 1:
                    score /= length[t]
                if score > best_score:
                    suits = True
                    for g in range(len(most)):
                        n_values = 0
                        for v in range(most[g, 0], most[g, 1]):
                            n_values += held[v] or holds[t, v]
                        if n_values > most[g, 2]:
                            suits = False
                            break
                    if suits:
                        best, best_score = t, score
            n_open = keep
            if best < 0:
                if entry > begin:
                    break
                best = alive[0]  # too large for any core: alone
            used[best] += 1
            for r in range(n_dims):
                free[r] -= needs[best, r]
            for v in range(len(held)):
                held[v] = held[v] or holds[best, v]
            if entry > begin and kinds[entry - 1] == best:
                puts[entry - 1] += 1
            else:
                if entry == len(kinds):
                    kinds = np.append(kinds, kinds)
                    puts = np.append(puts, puts)
                kinds[entry], puts[entry] = best, 1
                entry += 1
        repeat = left[kinds[begin]]
        for e in range(begin, entry):
            t = kinds[e]
            if used[t] > 0:
                repeat = min(repeat, left[t] // used[t])
        for e in range(begin, entry):
            t = kinds[e]
            if used[t] > 0:
                left[t] -= repeat * used[t]
                n_left -= repeat * used[t]
                for r in range(n_dims):
                    total[r] -= repeat * used[t] * needs[t, r]
                used[t] = 0
        if n_patterns == len(times):
            times = np.append(times, times)
            starts = np.append(starts, starts)
        times[n_patterns] = repeat
        n_patterns += 1
        starts[n_patterns] = entry
        n_cores += repeat
        keep = 0
        for a in range(n_alive):
            if left[alive[a]] > 0:
                alive[keep] = alive[a]
                keep += 1
        n_alive = keep
    return n_cores, times[:n_patterns], starts[: n_patterns + 1], kinds[:entry], puts[:entry]
