"""Summing messages by who sends them, and who holds what; compiled by numba."""

from __future__ import annotations

import numpy as np

from pmsm_hw.compiled import njit

__all__ = ["fill_boxes", "join_pairs", "sum_by_key", "times_hops", "times_rank"]


@njit(nogil=True)
def sum_by_key(keys, amounts, ends, n_keys):  # type: ignore[no-untyped-def]
    """Sum amounts with equal keys within each group.

    Parameters
    ----------
    keys, amounts
        ``(n,)`` int64 in ``[0, n_keys)``, and float64, group after group.
    ends
        ``(n_groups,)`` int64: where each group ends.
    n_keys
        How many keys there are.

    Returns
    -------
    group, key, total
        ``(n_found,)`` each, in ascending order; sums of zero are left out.
    """
    sums = np.zeros(n_keys)
    seen = np.zeros(n_keys, np.bool_)
    found = np.empty(min(n_keys, len(keys)), np.int64)
    group = np.empty(len(keys), np.int64)
    key = np.empty(len(keys), np.int64)
    total = np.empty(len(keys))
    n, first = 0, 0
    for g in range(len(ends)):
        n_found = 0
        for i in range(first, ends[g]):
            k = keys[i]
            if not seen[k]:
                seen[k] = True
                found[n_found] = k
                n_found += 1
            sums[k] += amounts[i]
        first = ends[g]
        found[:n_found].sort()
        for k in found[:n_found]:
            if sums[k] > 0:
                group[n], key[n], total[n] = g, k, sums[k]
                n += 1
            sums[k] = 0.0
            seen[k] = False
    return group[:n].copy(), key[:n].copy(), total[:n].copy()


@njit(nogil=True)
def join_pairs(source, target, messages, n):  # type: ignore[no-untyped-def]
    """Partners of each of ``n`` cores that send to or hear from each other, in compressed rows.

    Parameters
    ----------
    source, target, messages
        ``(m,)`` int64, int64 and float64; a pair may come several times.
    n
        How many cores there are.

    Returns
    -------
    start, other, both, sent
        Partners of core ``i`` are ``other[start[i]:start[i + 1]]``, ascending; messages in both
        directions, and those that core ``i`` sends.
    """
    first = np.zeros(n + 1, np.int64)
    for i in range(len(source)):
        first[source[i] + 1] += 1
        first[target[i] + 1] += 1
    first = np.cumsum(first)
    end = first[:-1].copy()
    partner = np.empty(2 * len(source), np.int64)
    amount = np.empty(len(partner))
    for i in range(len(source)):
        at = end[source[i]]
        partner[at], amount[at] = target[i], messages[i]
        end[source[i]] = at + 1
    sent_end = end.copy()  # what comes first is sent
    for i in range(len(source)):
        at = end[target[i]]
        partner[at], amount[at] = source[i], messages[i]
        end[target[i]] = at + 1
    start = np.zeros(n + 1, np.int64)
    both, sent = np.empty(len(partner)), np.empty(len(partner))
    sums, sums_sent, seen = np.zeros(n), np.zeros(n), np.zeros(n, np.bool_)
    found = np.empty(n, np.int64)
    at = 0
    for core in range(n):
        n_found = 0
        for i in range(first[core], end[core]):
            k = partner[i]
            if not seen[k]:
                seen[k] = True
                found[n_found] = k
                n_found += 1
            sums[k] += amount[i]
            if i < sent_end[core]:
                sums_sent[k] += amount[i]
        found[:n_found].sort()
        for k in found[:n_found]:
            # no later than where it was read: rows only get shorter
            partner[at], both[at], sent[at] = k, sums[k], sums_sent[k]
            at += 1
            sums[k] = sums_sent[k] = 0.0
            seen[k] = False
        start[core + 1] = at
    return start, partner[:at].copy(), both[:at].copy(), sent[:at].copy()


@njit(nogil=True)
def fill_boxes(table, boxes, values):  # type: ignore[no-untyped-def]
    """Write values into boxes of a table, ``(n, 3, 2)`` int64 ranges along its axes."""
    for i in range(len(boxes)):
        for c in range(boxes[i, 0, 0], boxes[i, 0, 1]):
            for y in range(boxes[i, 1, 0], boxes[i, 1, 1]):
                for x in range(boxes[i, 2, 0], boxes[i, 2, 1]):
                    table[c, y, x] = values[i]


@njit(nogil=True)
def times_rank(start, messages, factors):  # type: ignore[no-untyped-def]
    """Messages of each row, the most first, times factors for the first, the second, ..."""
    out = np.empty(len(messages))
    for core in range(len(start) - 1):
        row = np.sort(messages[start[core] : start[core + 1]])
        for i in range(len(row)):
            out[start[core] + i] = row[len(row) - 1 - i] * factors[i]
    return out


@njit(nogil=True)
def times_hops(start, other, messages, x, y):  # type: ignore[no-untyped-def]
    """Messages of each core to and from its partners, times the hops between them."""
    out = np.empty(len(messages))
    for core in range(len(start) - 1):
        for i in range(start[core], start[core + 1]):
            out[i] = messages[i] * (abs(x[core] - x[other[i]]) + abs(y[core] - y[other[i]]))
    return out
