"""The compiled loop of the layout; imports numba, so import it late."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmsm_hw.compiled import njit

__all__ = ["order_entries"]


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def order_entries(
    entry: Any, slots: Any, synapses: Any, n_sources: Any, core: Any, n_rows: Any
) -> Any:
    """Bring entries from the order of pairs into the order of slots.

    Pair i has ``n_sources[i]`` of the ``slots``, and for each of these ``n_rows[i]`` of the
    ``synapses``. Answers ``entry_core``, ``entry_slot``, ``entry_offset`` and ``entry_synapses``.
    """
    n_entries = slots.shape[0]
    entry_core = np.empty(n_entries, np.int32)
    entry_slot = np.empty(n_entries, np.int32)
    entry_offset = np.zeros(n_entries, np.int64)
    origin = np.empty(n_entries, np.int64)
    length = np.empty(n_entries, np.int32)
    cursor = entry.copy()
    i, at = 0, 0
    for pair in range(n_sources.shape[0]):
        for _ in range(n_sources[pair]):
            place = cursor[slots[i]]
            cursor[slots[i]] += 1
            entry_core[place] = core[pair]
            entry_slot[place] = slots[i]
            origin[place] = at
            length[place] = n_rows[pair]
            at += n_rows[pair]
            i += 1
    entry_synapses = np.empty_like(synapses)
    at = 0
    for e in range(n_entries):
        entry_offset[e] = at
        for j in range(length[e]):
            entry_synapses[at] = synapses[origin[e] + j]
            at += 1
    return entry_core, entry_slot, entry_offset, entry_synapses
