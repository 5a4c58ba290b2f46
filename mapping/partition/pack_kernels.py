"""Filling cores, compiled by numba: one after the other, and as many alike as there can be."""

from __future__ import annotations

import numpy as np

from pmsm_hw.compiled import helper, njit
from pmsm_hw.mapping.blocks import INPUT_AXONS, NEURONS, OUTPUT_AXONS, SYNAPSE_MEMORY

__all__ = ["fill_cores"]

_EXACT = 1e-12
"""How far the needs of blocks may lie above a core's limits, for rounding."""


@njit(nogil=True, error_model="numpy")
def fill_cores(needs, counts, holds, most, power, rule, start_with, at_most=1e18):  # type: ignore[no-untyped-def]
    """Fill a core with whichever block suits its room best until none fits; again and again.

    Parameters
    ----------
    needs
        ``(n, 4)`` float64 needs of each kind of block, a column for each of `blocks.RESOURCES`, as
        shares of a core's limits.
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
    need_neurons, need_inputs = needs[:, NEURONS].copy(), needs[:, INPUT_AXONS].copy()
    need_outputs, need_memory = needs[:, OUTPUT_AXONS].copy(), needs[:, SYNAPSE_MEMORY].copy()
    total_neurons = total_inputs = total_outputs = total_memory = 0.0
    for t in range(n):
        total_neurons += left[t] * need_neurons[t]
        total_inputs += left[t] * need_inputs[t]
        total_outputs += left[t] * need_outputs[t]
        total_memory += left[t] * need_memory[t]
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
        scale = max(max(total_neurons, total_inputs), max(total_outputs, total_memory), 1e-12)
        if n_cores + scale - 1e-6 > at_most:  # what is left takes at least `scale`
            n_cores += int(np.ceil(scale - 1e-6))
            break
        w_neurons = (max(total_neurons, 0.0) / scale) ** power
        w_inputs = (max(total_inputs, 0.0) / scale) ** power
        w_outputs = (max(total_outputs, 0.0) / scale) ** power
        w_memory = (max(total_memory, 0.0) / scale) ** power
        best, best_score = -1, -1.0
        for a in range(n_alive):
            t = alive[a]
            open_kinds[a] = t
            if start_with == 1:
                score = max(
                    max(need_neurons[t], need_inputs[t]), max(need_outputs[t], need_memory[t])
                )
            else:
                score = max(
                    max(w_neurons * need_neurons[t], w_inputs * need_inputs[t]),
                    max(w_outputs * need_outputs[t], w_memory * need_memory[t]),
                )
            if rule == 1:
                length[t] = np.sqrt(
                    1e-12 + w_neurons * need_neurons[t] ** 2 + w_inputs * need_inputs[t] ** 2
                    + w_outputs * need_outputs[t] ** 2 + w_memory * need_memory[t] ** 2
                )  # fmt: skip
            if score > best_score:
                best, best_score = t, score
        free_neurons = free_inputs = free_outputs = free_memory = 1.0
        held[:] = False
        entry = starts[n_patterns]
        begin = entry
        n_open = n_alive  # kinds that still may fit: shrinks while the core fills
        while best >= 0:
            used[best] += 1
            free_neurons -= need_neurons[best]
            free_inputs -= need_inputs[best]
            free_outputs -= need_outputs[best]
            free_memory -= need_memory[best]
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
                rest_neurons, rest_inputs = (
                    free_neurons - need_neurons[t],
                    free_inputs - need_inputs[t],
                )
                rest_outputs, rest_memory = (
                    free_outputs - need_outputs[t],
                    free_memory - need_memory[t],
                )
                least = min(min(rest_neurons, rest_inputs), min(rest_outputs, rest_memory))
                if least < -_EXACT or used[t] >= left[t]:
                    continue
                open_kinds[keep] = t
                keep += 1
                if rule < 2:
                    score = (
                        w_neurons * need_neurons[t] * free_neurons
                        + w_inputs * need_inputs[t] * free_inputs
                        + w_outputs * need_outputs[t] * free_outputs
                        + w_memory * need_memory[t] * free_memory
                    ) / length[t]
                else:
                    score = -(
                        w_neurons * rest_neurons * rest_neurons
                        + w_inputs * rest_inputs * rest_inputs
                        + w_outputs * rest_outputs * rest_outputs
                        + w_memory * rest_memory * rest_memory
                    )
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
                total_neurons -= number * need_neurons[t]
                total_inputs -= number * need_inputs[t]
                total_outputs -= number * need_outputs[t]
                total_memory -= number * need_memory[t]
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
