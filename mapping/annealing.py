"""The inner loop of `placement`, compiled by numba.

Cores with the same partners and messages form a class, and see the same landscape: the cost of a
column is a sum of distances, so its slope between two columns is what counts. A swap is weighed by
summing a few slopes, and a swap that is made changes slopes between the old and the new column
only. That makes rejected swaps, most of them, cheap however many partners a core has.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["anneal", "fill_slopes", "relieve"]


@numba.njit(cache=True, nogil=True)
def _random(state):  # type: ignore[no-untyped-def]
    """Next state of a xorshift generator (64 bits)."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@numba.njit(cache=True, nogil=True)
def fill_slopes(  # type: ignore[no-untyped-def]
    start, other, messages, members_start, members, io, x, y, io_x, io_y, where, width, height
):
    """Slopes of each class's cost, ``(classes, width + height)`` float64.

    Entry ``c`` is the cost of column ``c + 1`` minus that of column ``c``; rows follow from entry
    ``width`` on. Parameters as in `anneal`; ``where`` is the slot of each bundle.
    """
    n_classes = len(start) - 1
    slope = np.zeros((n_classes, width + height))
    # messages per column and row of each class's members
    columns, rows = np.zeros((n_classes, width)), np.zeros((n_classes, height))
    for g in range(n_classes):
        for k in range(members_start[g], members_start[g + 1]):
            columns[g, x[where[members[k]]]] += 1.0
            rows[g, y[where[members[k]]]] += 1.0
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
def _has_room(core, leaves, enters, need, room, sources, first, held):  # type: ignore[no-untyped-def]
    """Whether a core can take a bundle in place of one of its own (-1: none).

    It needs the room, and no other bundle of the core may hear a population that it hears: they
    would share axons and messages.
    """
    for r in range(need.shape[1]):
        left = room[core, r] - need[enters, r]
        if leaves >= 0:
            left += need[leaves, r]
        if left < 0:
            return False
    for e in range(first[core], first[core + 1]):
        if held[e] >= 0 and held[e] != leaves:
            for w in range(sources.shape[1]):
                if sources[enters, w] & sources[held[e], w]:
                    return False
    return True


@numba.njit(cache=True, nogil=True)
def _is_alone(item, core, first, held):  # type: ignore[no-untyped-def]
    """Whether a core holds nothing but one bundle."""
    others = 0
    for e in range(first[core], first[core + 1]):
        others += held[e] >= 0 and held[e] != item
    return others == 0


@numba.njit(cache=True, nogil=True)
def _put(entry, item, core, need, room, held, spot, home, leaves):  # type: ignore[no-untyped-def]
    """Put a bundle (-1: none) into an entry of a core, in place of what was there (-1: nothing)."""
    held[entry] = item
    if item >= 0:
        spot[item], home[item] = entry, core
    for r in range(need.shape[1]):
        if item >= 0:
            room[core, r] -= need[item, r]
        if leaves >= 0:
            room[core, r] += need[leaves, r]


@numba.njit(cache=True, nogil=True)
def anneal(  # type: ignore[no-untyped-def]
    start,
    other,
    messages,
    group,
    partner_start,
    partner,
    kind,
    kind_start,
    alike,
    need,
    sources,
    x,
    y,
    tiles,
    per_tile,
    exchanges,
    at,
    holds,
    home,
    first,
    held,
    spot,
    room,
    slope,
    state,
    done,
    until,
    budget,
    hot,
    cold,
):
    """Swap cores (or move one to a free slot), and bundles between cores, by simulated annealing.

    Everything from ``at`` to ``state`` is changed in place.

    Parameters
    ----------
    start, other, messages
        Partners of each class of bundles in compressed rows, ascending: class, and messages to and
        from each of its members.
    group
        Class of each bundle.
    partner_start, partner
        Partners of each bundle, likewise.
    kind, kind_start, alike
        Kind of each bundle, and the bundles of each kind: they need the same.
    need, sources
        ``(bundles, resources)`` int64 what each bundle takes of a core, and ``(bundles, words)``
        uint64, bits of the populations that it hears.
    x, y
        Tile of each slot.
    tiles
        ``(rows, columns)``: first slot of each tile, -1: not in the region.
    per_tile
        Slots of a tile, consecutive.
    exchanges
        0: only cores are swapped; 1: bundles of a kind too; 2: any that have room.
    at, holds
        Slot of each core, core in each slot (-1: none).
    home
        Core of each bundle.
    first, held, spot
        Bundles of each core, ``held[first[core]:first[core + 1]]`` (-1: none), and where each is.
    room
        ``(cores, resources)`` int64, what each core has left.
    slope
        From `fill_slopes`.
    state
        ``(1,)`` uint64, odd at first.
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
    n_cores, n_items = len(at), len(group)
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
        one = exchanges > 0 and (random >> np.uint64(60)) % np.uint64(2) == 0  # of its bundles
        item = np.int64(random % np.uint64(n_items))
        if one:
            core = home[item]
        else:
            core = np.int64(random % np.uint64(n_cores))
            if held[first[core]] < 0:
                continue
            item = held[first[core]]
            if first[core + 1] - first[core] > 1:
                random = _random(random)
                pick = np.int64(random % np.uint64(first[core + 1] - first[core]))
                if held[first[core] + pick] >= 0:
                    item = held[first[core] + pick]
        here = at[core]
        here_x, here_y = x[here], y[here]
        random = _random(random)
        entry = -1
        if one and (exchanges == 1 or (random >> np.uint64(60)) % np.uint64(2)):
            k = kind[item]  # with any of its kind
            several = kind_start[k + 1] - kind_start[k]
            if several < 2:
                continue
            entry = spot[alike[kind_start[k] + np.int64(random % np.uint64(several))]]
            rival = home[held[entry]]
            slot = at[rival]
            to_x, to_y = x[slot], y[slot]
        else:
            near_x, near_y, span = here_x, here_y, reach
            begin, end = partner_start[item], partner_start[item + 1]
            if random % np.uint64(2) and end > begin:  # near a partner, chosen at random
                pick = begin + np.int64((random >> np.uint64(8)) % np.uint64(end - begin))
                near = at[home[partner[pick]]]
                near_x, near_y, span = x[near], y[near], 1
            random = _random(random)
            side = np.uint64(2 * span + 1)
            to_x = near_x + np.int64(random % side) - span
            to_y = near_y + np.int64((random >> np.uint64(16)) % side) - span
            if to_x < 0 or to_y < 0 or to_x >= width or to_y >= height or tiles[to_y, to_x] < 0:
                continue
            slot = tiles[to_y, to_x] + np.int64((random >> np.uint64(32)) % np.uint64(per_tile))
            rival = holds[slot]
            if one:
                if rival < 0:
                    continue
                several = first[rival + 1] - first[rival]
                entry = first[rival] + np.int64((random >> np.uint64(44)) % np.uint64(several))
        if to_x == here_x and to_y == here_y:
            continue
        # what the bundles gain, each taking all others for staying where they are
        change = 0.0
        if one:
            low, high, rival_low, rival_high = spot[item], spot[item] + 1, entry, entry + 1
            g = group[item]
            if held[entry] >= 0 and group[held[entry]] == g and kind[held[entry]] == kind[item]:
                continue
        else:
            low, high = first[core], first[core + 1]
            rival_low, rival_high = 0, 0
            if rival >= 0:
                rival_low, rival_high = first[rival], first[rival + 1]
        for e in range(low, high):
            if held[e] >= 0:
                g = group[held[e]]
                change += _climb(slope[g], here_x, to_x)
                change += _climb(slope[g], width + here_y, width + to_y)
        for e in range(rival_low, rival_high):
            if held[e] >= 0:
                g = group[held[e]]
                change += _climb(slope[g], to_x, here_x)
                change += _climb(slope[g], width + to_y, width + here_y)
        apart = abs(to_x - here_x) + abs(to_y - here_y)
        if high - low == 1 and rival_high - rival_low <= 1:
            if change > 40.0 * temperature:  # the correction below is not negative
                continue
        else:  # bundles that stay together are counted apart
            for e in range(low, high):
                for f in range(e + 1, high):
                    if held[e] >= 0 and held[f] >= 0:
                        change -= (
                            2.0
                            * apart
                            * _between(start, other, messages, group[held[e]], group[held[f]])
                        )
            for e in range(rival_low, rival_high):
                for f in range(e + 1, rival_high):
                    if held[e] >= 0 and held[f] >= 0:
                        change -= (
                            2.0
                            * apart
                            * _between(start, other, messages, group[held[e]], group[held[f]])
                        )
            if change > 40.0 * temperature:
                continue
        random = _random(random)
        draw = (np.float64(random >> np.uint64(11)) + 1.0) / 9007199254740993.0
        limit = -temperature * np.log(draw)
        if change > limit:
            continue
        for e in range(low, high):  # and those that swap are as far apart as before
            for f in range(rival_low, rival_high):
                if held[e] >= 0 and held[f] >= 0:
                    change += (
                        2.0
                        * apart
                        * _between(start, other, messages, group[held[e]], group[held[f]])
                    )
        if change > limit:
            continue
        if one:
            swapped = held[entry]
            if swapped < 0 or kind[swapped] != kind[item]:
                done += 20
                if swapped < 0 and _is_alone(item, core, first, held):
                    continue  # no core is left without bundles
                if not _has_room(rival, swapped, item, need, room, sources, first, held):
                    continue
                if swapped >= 0 and not _has_room(
                    core, item, swapped, need, room, sources, first, held
                ):
                    continue
        for e in range(low, high):
            if held[e] >= 0:
                done += _moved(
                    start, other, messages, group[held[e]], here_x, here_y, to_x, to_y, width, slope
                )
        for e in range(rival_low, rival_high):
            if held[e] >= 0:
                done += _moved(
                    start, other, messages, group[held[e]], to_x, to_y, here_x, here_y, width, slope
                )
        if one:
            swapped, mine = held[entry], spot[item]
            _put(entry, item, rival, need, room, held, spot, home, swapped)
            _put(mine, swapped, core, need, room, held, spot, home, item)
        else:
            at[core] = slot
            holds[slot] = core
            holds[here] = rival
            if rival >= 0:
                at[rival] = here
    state[0] = random
    return done


@numba.njit(cache=True, nogil=True)
def _power(value, top):  # type: ignore[no-untyped-def]
    """Eighth power of a load over a reference: sums of it are ruled by the fullest links."""
    share = value / top
    share *= share
    share *= share
    return share * share


@numba.njit(cache=True, nogil=True)
def _carry(loads, from_x, from_y, to_x, to_y, messages, top):  # type: ignore[no-untyped-def]
    """Add messages to all links of an XY route; returns by how much the sum of powers grows."""
    grown = 0.0
    x, y = from_x, from_y
    while x != to_x:
        d = 0 if to_x > x else 1
        old = loads[y, x, d]
        loads[y, x, d] = old + messages
        grown += _power(old + messages, top) - _power(old, top)
        x += 1 if to_x > x else -1
    while y != to_y:
        d = 2 if to_y > y else 3
        old = loads[y, x, d]
        loads[y, x, d] = old + messages
        grown += _power(old + messages, top) - _power(old, top)
        y += 1 if to_y > y else -1
    return grown


@numba.njit(cache=True, nogil=True)
def _further(start, other, messages, io, x, y, io_x, io_y, at, core, slot, skip):  # type: ignore[no-untyped-def]
    """Growth of messages times hops, were a core at another slot; one partner is left out."""
    old_x, old_y, new_x, new_y = x[at[core]], y[at[core]], x[slot], y[slot]
    total = io[core] * (
        abs(new_x - io_x) + abs(new_y - io_y) - abs(old_x - io_x) - abs(old_y - io_y)
    )
    for e in range(start[core], start[core + 1]):
        if other[e] != skip:
            far_x, far_y = x[at[other[e]]], y[at[other[e]]]
            total += messages[e] * (
                abs(new_x - far_x) + abs(new_y - far_y) - abs(old_x - far_x) - abs(old_y - far_y)
            )
    return total


@numba.njit(cache=True, nogil=True)
def _reroute(  # type: ignore[no-untyped-def]
    start, other, sent, messages, io, x, y, io_x, io_y, at, core, slot, loads, top
):
    """Move one core: loads follow. Returns by how much the sum of powers grows."""
    old_x, old_y = x[at[core]], y[at[core]]
    new_x, new_y = x[slot], y[slot]
    grown = 0.0
    if io[core] > 0.0:
        grown += _carry(loads, io_x, io_y, old_x, old_y, -io[core], top)
        grown += _carry(loads, io_x, io_y, new_x, new_y, io[core], top)
    for e in range(start[core], start[core + 1]):
        there = at[other[e]]
        far_x, far_y = x[there], y[there]
        received = messages[e] - sent[e]
        if sent[e] > 0.0:
            grown += _carry(loads, old_x, old_y, far_x, far_y, -sent[e], top)
            grown += _carry(loads, new_x, new_y, far_x, far_y, sent[e], top)
        if received > 0.0:
            grown += _carry(loads, far_x, far_y, old_x, old_y, -received, top)
            grown += _carry(loads, far_x, far_y, new_x, new_y, received, top)
    at[core] = slot
    return grown


@numba.njit(cache=True, nogil=True)
def _crosses(sx, sy, tx, ty, lx, ly, d):  # type: ignore[no-untyped-def]
    """Whether the XY route between two tiles takes a link."""
    if d == 0:
        return sy == ly and sx <= lx and lx < tx
    if d == 1:
        return sy == ly and tx < lx and lx <= sx
    if d == 2:
        return tx == lx and sy <= ly and ly < ty
    return tx == lx and ty < ly and ly <= sy


@numba.njit(cache=True, nogil=True)
def _user(start, other, sent, messages, io, x, y, io_x, io_y, at, first, link, columns):  # type: ignore[no-untyped-def]
    """A core whose messages cross a link, the search starting at one; -1: none. And work done."""
    n = len(at)
    lx, ly, d = link // 4 % columns, link // 4 // columns, link % 4
    done = 0
    for k in range(n):
        i = (first + k) % n
        here_x, here_y = x[at[i]], y[at[i]]
        if io[i] > 0.0 and _crosses(io_x, io_y, here_x, here_y, lx, ly, d):
            return i, done
        for e in range(start[i], start[i + 1]):
            done += 1
            far_x, far_y = x[at[other[e]]], y[at[other[e]]]
            out = sent[e] > 0.0 and _crosses(here_x, here_y, far_x, far_y, lx, ly, d)
            if out or (messages[e] > sent[e] and _crosses(far_x, far_y, here_x, here_y, lx, ly, d)):
                return i, done
    return -1, done


@numba.njit(cache=True, nogil=True)
def relieve(  # type: ignore[no-untyped-def]
    start,
    other,
    sent,
    messages,
    io,
    x,
    y,
    tiles,
    per_tile,
    io_x,
    io_y,
    at,
    holds,
    state,
    budget,
    slack,
):
    """Swap cores whose messages cross the fullest link while that lowers the loads.

    Parameters
    ----------
    start, other, sent, messages
        Partners of each core in compressed rows, messages to them, and in both directions.
    io
        Messages to each core from the I/O port.
    x, y, tiles, per_tile, at, holds, state
        As in `anneal`.
    io_x, io_y
        Tile of the I/O port.
    budget
        Work that may be done, a unit for each link of each route that changes.
    slack
        Messages times hops that may be added.
    """
    n = len(at)
    height, width = tiles.shape
    loads = np.zeros((max(height, io_y + 1), max(width, io_x + 1), 4))
    for i in range(n):
        _carry(loads, io_x, io_y, x[at[i]], y[at[i]], io[i], 1.0)
        for e in range(start[i], start[i + 1]):
            j = at[other[e]]
            _carry(loads, x[at[i]], y[at[i]], x[j], y[j], sent[e], 1.0)
    top = loads.max()
    if top <= 0.0:
        return
    route = 2 * (width + height)  # of four routes, in the mean
    random = state[0]
    done, added = 0, 0.0
    while done < budget:
        link = np.argmax(loads)
        random = _random(random)
        core, work = _user(
            start, other, sent, messages, io, x, y, io_x, io_y, at,
            np.int64(random % np.uint64(n)), link, loads.shape[1],
        )  # fmt: skip
        done += work + loads.size
        if core < 0:
            break
        for _ in range(16):
            here = at[core]
            random = _random(random)
            reach = 1 + np.int64((random >> np.uint64(40)) % np.uint64(4))
            side = np.uint64(2 * reach + 1)
            to_x = x[here] + np.int64(random % side) - reach
            to_y = y[here] + np.int64((random >> np.uint64(16)) % side) - reach
            if (random >> np.uint64(48)) % np.uint64(4) == 0:  # into the column where routes turn
                to_x = link // 4 % loads.shape[1]
            if to_x < 0 or to_y < 0 or to_x >= width or to_y >= height or tiles[to_y, to_x] < 0:
                continue
            if to_x == x[here] and to_y == y[here]:
                continue
            slot = tiles[to_y, to_x] + np.int64((random >> np.uint64(32)) % np.uint64(per_tile))
            rival = holds[slot]
            partners = start[core + 1] - start[core]
            hops = _further(start, other, messages, io, x, y, io_x, io_y, at, core, slot, rival)
            if rival >= 0:
                partners += start[rival + 1] - start[rival]
                hops += _further(
                    start, other, messages, io, x, y, io_x, io_y, at, rival, here, core
                )
            done += 2 * partners
            if added + hops > slack or 16.0 * hops > slack:
                continue
            done += route * partners
            grown = _reroute(
                start, other, sent, messages, io, x, y, io_x, io_y, at, core, slot, loads, top
            )
            if rival >= 0:
                grown += _reroute(
                    start, other, sent, messages, io, x, y, io_x, io_y, at, rival, here, loads, top
                )
            if grown < 0.0:
                added += hops
                holds[slot] = core
                holds[here] = rival
                break
            done += route * partners
            if rival >= 0:
                _reroute(
                    start, other, sent, messages, io, x, y, io_x, io_y, at, rival, slot, loads, top
                )
            _reroute(start, other, sent, messages, io, x, y, io_x, io_y, at, core, here, loads, top)
    state[0] = random
