"""Filling cores, compiled by numba: one after the other, and as many alike as there can be."""

from __future__ import annotations

import numpy as np

from pmsm_hw.compiled import helper, njit

__all__ = ["fill_cores"]

_EXACT = 1e-12
"""How far the needs of blocks may lie above a core's limits, for rounding."""


@njit(nogil=True, error_model="numpy")
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
        group of columns; ``(groups,)`` of `tables.HELD`.
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
    n = len(needs)
    left = counts.copy()
    # a column each: several times faster than rows
    need_0, need_1 = needs[:, 0].copy(), needs[:, 1].copy()
    need_2, need_3 = needs[:, 2].copy(), needs[:, 3].copy()
    total_0 = total_1 = total_2 = total_3 = 0.0
    for t in range(n):
        total_0 += left[t] * need_0[t]
        total_1 += left[t] * need_1[t]
        total_2 += left[t] * need_2[t]
        total_3 += left[t] * need_3[t]
    times = np.empty(64, np.int64)
    starts = np.zeros(65, np.int64)
    kinds = np.empty(256, np.int64)
    puts = np.empty(256, np.int64)
    n_patterns = 0
    n_cores = 0
    used = np.zeros(n, np.int64)
    held = np.zeros(holds.shape[1], np.bool_)
    length = np.empty(n)
    alive = np.empty(n, np.int64)
    for t in range(n):
        length[t], alive[t] = 1.0, t
    open_kinds = np.empty(n, np.int64)
    n_alive = n
    while n_alive > 0:
        scale = max(max(total_0, total_1), max(total_2, total_3), 1e-12)
        if n_cores + scale - 1e-6 > at_most:  # what is left takes at least `scale`
            n_cores += int(np.ceil(scale - 1e-6))
            break
        w_0 = (max(total_0, 0.0) / scale) ** power
        w_1 = (max(total_1, 0.0) / scale) ** power
        w_2 = (max(total_2, 0.0) / scale) ** power
        w_3 = (max(total_3, 0.0) / scale) ** power
        best, best_score = -1, -1.0
        for a in range(n_alive):
            t = alive[a]
            open_kinds[a] = t
            if start_with == 1:
                score = max(max(need_0[t], need_1[t]), max(need_2[t], need_3[t]))
            else:
                score = max(
                    max(w_0 * need_0[t], w_1 * need_1[t]), max(w_2 * need_2[t], w_3 * need_3[t])
                )
            if rule == 1:
                length[t] = np.sqrt(
                    1e-12 + w_0 * need_0[t] ** 2 + w_1 * need_1[t] ** 2
                    + w_2 * need_2[t] ** 2 + w_3 * need_3[t] ** 2
                )  # fmt: skip
            if score > best_score:
                best, best_score = t, score
        free_0 = free_1 = free_2 = free_3 = 1.0
        held[:] = False
        entry = starts[n_patterns]
        begin = entry
        n_open = n_alive  # kinds that still may fit: shrinks while the core fills
        while best >= 0:
            used[best] += 1
            free_0 -= need_0[best]
            free_1 -= need_1[best]
            free_2 -= need_2[best]
            free_3 -= need_3[best]
            for v in range(len(held)):
                held[v] = held[v] or holds[best, v]
            if entry > begin and kinds[entry - 1] == best:
                puts[entry - 1] += 1
            else:
                if entry == len(kinds):
                    kinds, puts = _twice_as_long(kinds), _twice_as_long(puts)
                kinds[entry], puts[entry] = best, 1
                entry += 1
            best, best_score = -1, -1e300
            keep = 0
            for a in range(n_open):
                t = open_kinds[a]
                rest_0, rest_1 = free_0 - need_0[t], free_1 - need_1[t]
                rest_2, rest_3 = free_2 - need_2[t], free_3 - need_3[t]
                least = min(min(rest_0, rest_1), min(rest_2, rest_3))
                if least < -_EXACT or used[t] >= left[t]:
                    continue
                open_kinds[keep] = t
                keep += 1
                if rule < 2:
                    score = (
                        w_0 * need_0[t] * free_0 + w_1 * need_1[t] * free_1
                        + w_2 * need_2[t] * free_2 + w_3 * need_3[t] * free_3
                    ) / length[t]  # fmt: skip
                else:
                    score = -(
                        w_0 * rest_0 * rest_0 + w_1 * rest_1 * rest_1
                        + w_2 * rest_2 * rest_2 + w_3 * rest_3 * rest_3
                    )  # fmt: skip
                if score > best_score and _suits(held, holds[t], most):
                    best, best_score = t, score
            n_open = keep
        repeat = left[kinds[begin]]
        for e in range(begin, entry):
            t = kinds[e]
            if used[t] > 0:
                repeat = min(repeat, left[t] // used[t])
        for e in range(begin, entry):
            t = kinds[e]
            if used[t] > 0:
                number = repeat * used[t]
                left[t] -= number
                total_0 -= number * need_0[t]
                total_1 -= number * need_1[t]
                total_2 -= number * need_2[t]
                total_3 -= number * need_3[t]
                used[t] = 0
        if n_patterns == len(times):
            times, starts = _twice_as_long(times), _twice_as_long(starts)
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


@helper(nogil=True, error_model="numpy")
def _twice_as_long(values):  # type: ignore[no-untyped-def]
    """The same values, with room for as many more."""
    longer = np.empty(2 * len(values), np.int64)
    for i in range(len(values)):
        longer[i] = values[i]
    return longer


@helper(nogil=True, error_model="numpy")
def _suits(held, more, most):  # type: ignore[no-untyped-def]
    """Whether a core that holds some things can hold more."""
    for g in range(len(most)):
        n_values = 0
        for v in range(most[g].first, most[g].end):
            n_values += held[v] or more[v]
        if n_values > most[g].limit:
            return False
    return True
