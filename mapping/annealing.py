"""The inner loop of `placement`, compiled by numba."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["anneal"]


@numba.njit(cache=True)
def _random(state):  # type: ignore[no-untyped-def]
    """Next state of a xorshift generator (64 bits)."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@numba.njit(cache=True)
def _cost(start, other, messages, io, x, y, io_x, io_y, at, core, slot, skip):  # type: ignore[no-untyped-def]
    """Messages times hops of one core, were it at a slot; one partner is left out."""
    total = io[core] * (abs(x[slot] - io_x) + abs(y[slot] - io_y))
    for e in range(start[core], start[core + 1]):
        partner = other[e]
        if partner != skip:
            there = at[partner]
            total += messages[e] * (abs(x[slot] - x[there]) + abs(y[slot] - y[there]))
    return total


@numba.njit(cache=True)
def anneal(  # type: ignore[no-untyped-def]
    start, other, messages, io, x, y, tiles, per_tile, io_x, io_y, at, moves, hot, cold, seed
):
    """Swap cores (or move one to a free slot) by simulated annealing, in place.

    Parameters
    ----------
    start, other, messages, io
        See `placement.Links`.
    x, y
        Tile of each slot.
    tiles
        ``(rows, columns)``: first slot of each tile, -1: not in the region.
    per_tile
        Slots of a tile, consecutive.
    io_x, io_y
        Tile of the I/O port.
    at
        Slot of each core; changed.
    moves
        Swaps that are tried.
    hot, cold
        Temperature at the start and the end, in messages times hops.
    seed
        Odd, uint64.
    """
    n, n_slots = len(at), len(x)
    height, width = tiles.shape
    holds = np.full(n_slots, -1, np.int64)
    for i in range(n):
        holds[at[i]] = i
    state = seed * np.uint64(0x9E3779B97F4A7C15)
    for _ in range(8):
        state = _random(state)
    factor = (cold / hot) ** (1.0 / max(moves, 1))
    temperature = hot
    for _ in range(moves):
        temperature *= factor
        state = _random(state)
        core = np.int64(state % np.uint64(n))
        here = at[core]
        state = _random(state)
        if state % np.uint64(4) and start[core + 1] > start[core]:
            # near a partner, chosen at random
            pick = start[core] + np.int64(
                (state >> np.uint64(8)) % np.uint64(start[core + 1] - start[core])
            )
            near = at[other[pick]]
            reach = 1
        else:
            near = np.int64(here)
            reach = 2
        state = _random(state)
        span = np.uint64(2 * reach + 1)
        tx = x[near] + np.int64(state % span) - reach
        ty = y[near] + np.int64((state >> np.uint64(16)) % span) - reach
        if tx < 0 or ty < 0 or tx >= width or ty >= height or tiles[ty, tx] < 0:
            continue
        slot = tiles[ty, tx] + np.int64((state >> np.uint64(32)) % np.uint64(per_tile))
        if x[slot] == x[here] and y[slot] == y[here]:
            continue
        rival = holds[slot]
        before = _cost(start, other, messages, io, x, y, io_x, io_y, at, core, here, rival)
        after = _cost(start, other, messages, io, x, y, io_x, io_y, at, core, slot, rival)
        if rival >= 0:
            before += _cost(start, other, messages, io, x, y, io_x, io_y, at, rival, slot, core)
            after += _cost(start, other, messages, io, x, y, io_x, io_y, at, rival, here, core)
        change = after - before
        if change > 0.0:
            if temperature <= 0.0:
                continue
            state = _random(state)
            draw = np.float64(state >> np.uint64(11)) / 9007199254740992.0
            if draw >= np.exp(-change / temperature):
                continue
        at[core] = slot
        holds[slot] = core
        holds[here] = rival
        if rival >= 0:
            at[rival] = here
