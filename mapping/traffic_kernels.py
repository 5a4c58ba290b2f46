"""Summing messages by who sends them, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["sum_by_key"]


@njit(cache=True, nogil=True)
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
