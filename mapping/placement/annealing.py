"""The inner loop of `placement`, compiled by numba.

Cores with the same partners and messages form a class, and see the same landscape: the cost of a
column is a sum of distances, so its slope between two columns is what counts. A swap is weighed by
summing a few slopes, and a swap that is made changes slopes between the old and the new column
only. That makes rejected swaps, most of them, cheap however many partners a core has.
"""

from __future__ import annotations

import numpy as np

from pmsm_hw.compiled import helper, njit

__all__ = ["anneal", "fill_slopes", "relieve"]


@helper(nogil=True, error_model="numpy")
def _random(state):  # type: ignore[no-untyped-def]
    """Next state of a xorshift generator (64 bits)."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@njit(nogil=True, error_model="numpy")
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


@helper(nogil=True, error_model="numpy")
def _climb(row, first, last):  # type: ignore[no-untyped-def]
    """Sum of slopes on the way from one column to another."""
    total = 0.0
    for c in range(first, last):
        total += row[c]
    for c in range(last, first):
        total -= row[c]
    return total


@helper(nogil=True, error_model="numpy")
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


@helper(nogil=True, error_model="numpy")
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


@helper(nogil=True, error_model="numpy")
def _wins(  # type: ignore[no-untyped-def]
    start, other, messages, group, slope, held, some, n, here_x, here_y, to_x, to_y, width
):
    """What it costs to move some entries' bundles together, all others staying where they are."""
    change = 0.0
    for i in range(n):
        row = slope[group[held[some[i]]]]
        change += _climb(row, here_x, to_x) + _climb(row, width + here_y, width + to_y)
    if n > 1:  # each took the others for staying
        apart = abs(to_x - here_x) + abs(to_y - here_y)
        for i in range(n):
            for j in range(i + 1, n):
                g, h = group[held[some[i]]], group[held[some[j]]]
                change -= 2.0 * apart * _between(start, other, messages, g, h)
    return change


@helper(nogil=True, error_model="numpy")
def _has_room(  # type: ignore[no-untyped-def]
    core, leave, n_leave, enter, n_enter, need, room, sources, first, held
):
    """Whether a core can take some entries' bundles in place of some of its own.

    It needs the room, and no other bundle of the core may hear a population that they hear: they
    would share axons and messages. One of its bundles has to stay or come.
    """
    for r in range(need.shape[1]):
        left = room[core, r]
        for i in range(n_leave):
            left += need[held[leave[i]], r]
        for i in range(n_enter):
            left -= need[held[enter[i]], r]
        if left < 0:
            return False
    free, stay = n_leave, 0
    for e in range(first[core], first[core + 1]):
        leaves = False
        for i in range(n_leave):
            leaves = leaves or leave[i] == e
        if held[e] < 0:
            free += 1
        elif not leaves:
            stay += 1
            for i in range(n_enter):
                for w in range(sources.shape[1]):
                    if sources[held[enter[i]], w] & sources[held[e], w]:
                        return False
    if n_enter == 2:
        for w in range(sources.shape[1]):
            if sources[held[enter[0]], w] & sources[held[enter[1]], w]:
                return False
    return free >= n_enter and stay + n_enter > 0


@helper(nogil=True, error_model="numpy")
def _take(core, some, n, need, room, held, taken):  # type: ignore[no-untyped-def]
    """Take the bundles of some entries off a core."""
    for i in range(n):
        taken[i] = held[some[i]]
        held[some[i]] = -1
        for r in range(need.shape[1]):
            room[core, r] += need[taken[i], r]


@helper(nogil=True, error_model="numpy")
def _give(core, taken, n, need, room, first, held, spot, home):  # type: ignore[no-untyped-def]
    """Give bundles to a core that has entries free for them."""
    e = first[core]
    for i in range(n):
        while held[e] >= 0:
            e += 1
        held[e] = taken[i]
        spot[taken[i]], home[taken[i]] = e, core
        for r in range(need.shape[1]):
            room[core, r] -= need[taken[i], r]


@njit(nogil=True, error_model="numpy")
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
    movable,
    box,
    done,
    until,
    budget,
    hot,
    cold,
):
    """Swap cores (or move one to a free slot), and bundles between cores, by simulated annealing.

    Everything from ``at`` to ``state`` is changed in place, and only what the box holds.

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
    movable
        Bundles on the cores in the box.
    box
        Columns from the first to the second (not included), rows from the third to the fourth.
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
    n_cores, n_movable = len(at), len(movable)
    height, width = tiles.shape
    left, right, low, high = box[0], box[1], box[2], box[3]
    random = state[0]
    cooling = np.log(cold / hot)
    temperature, reach = hot, max(width, height)
    most = 2
    for core in range(n_cores):
        most = max(most, first[core + 1] - first[core])
    mine, theirs = np.empty(most, np.int64), np.empty(most, np.int64)  # entries that swap
    taken, given = np.empty(most, np.int64), np.empty(most, np.int64)
    tries = 0
    while done < until and n_movable > 0:
        if tries % 256 == 0:
            share = done / budget
            temperature = hot * np.exp(cooling * share)
            reach = max(1, np.int64(max(width, height) ** (1.0 - share) + 0.5))
        tries += 1
        done += 10
        random = _random(random)
        item = movable[random % np.uint64(n_movable)]
        core = home[item]
        here = at[core]
        here_x, here_y = x[here], y[here]
        whole = exchanges == 0 or (random >> np.uint64(60)) % np.uint64(2) == 0  # of the core
        random = _random(random)
        like = not whole and (exchanges == 1 or (random >> np.uint64(60)) % np.uint64(2) == 0)
        entry = -1
        if like:  # one of its kind
            several = kind_start[kind[item] + 1] - kind_start[kind[item]]
            if several < 2:
                continue
            pick = kind_start[kind[item]] + np.int64(random % np.uint64(several))
            entry = spot[alike[pick]]
            rival = home[alike[pick]]
            slot = at[rival]
            to_x, to_y = x[slot], y[slot]
            if to_x < left or to_y < low or to_x >= right or to_y >= high:
                continue
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
            if to_x < left or to_y < low or to_x >= right or to_y >= high or tiles[to_y, to_x] < 0:
                continue
            slot = tiles[to_y, to_x] + np.int64((random >> np.uint64(32)) % np.uint64(per_tile))
            rival = holds[slot]
        if to_x == here_x and to_y == here_y:
            continue
        # which of the bundles of both cores are to swap
        n_mine = n_theirs = 0
        if whole:
            for e in range(first[core], first[core + 1]):
                if held[e] >= 0:
                    mine[n_mine] = e
                    n_mine += 1
            if rival >= 0:
                for e in range(first[rival], first[rival + 1]):
                    if held[e] >= 0:
                        theirs[n_theirs] = e
                        n_theirs += 1
        else:
            if rival < 0:
                continue
            mine[0], n_mine = spot[item], 1
            if like:
                theirs[0], n_theirs = entry, 1
            else:
                random = _random(random)
                several = first[rival + 1] - first[rival]
                e = first[rival] + np.int64((random >> np.uint64(8)) % np.uint64(several))
                if held[e] >= 0:
                    theirs[0], n_theirs = e, 1
                if random % np.uint64(2):
                    e = first[rival] + np.int64((random >> np.uint64(24)) % np.uint64(several))
                    if held[e] >= 0 and not (n_theirs == 1 and theirs[0] == e):
                        theirs[n_theirs] = e
                        n_theirs += 1
        if n_mine == 1 and n_theirs == 1:
            i, j = held[mine[0]], held[theirs[0]]
            if group[i] == group[j] and kind[i] == kind[j]:
                continue
        done += 30 + 10 * (n_mine + n_theirs)
        change = _wins(
            start, other, messages, group, slope, held, mine, n_mine, here_x, here_y, to_x, to_y,
            width,
        )  # fmt: skip
        change += _wins(
            start, other, messages, group, slope, held, theirs, n_theirs, to_x, to_y, here_x,
            here_y, width,
        )  # fmt: skip
        if change > 40.0 * temperature:
            continue
        random = _random(random)
        draw = (np.float64(random >> np.uint64(11)) + 1.0) / 9007199254740993.0
        limit = -temperature * np.log(draw)
        if change > limit:
            continue
        apart = abs(to_x - here_x) + abs(to_y - here_y)
        for i in range(n_mine):  # those that swap are as far apart as before
            for j in range(n_theirs):
                g, h = group[held[mine[i]]], group[held[theirs[j]]]
                change += 2.0 * apart * _between(start, other, messages, g, h)
        if change > limit:
            continue
        if not whole and exchanges == 2:
            done += 40
            if not _has_room(
                rival, theirs, n_theirs, mine, n_mine, need, room, sources, first, held
            ) or not _has_room(
                core, mine, n_mine, theirs, n_theirs, need, room, sources, first, held
            ):
                continue
        for i in range(n_mine):
            g = group[held[mine[i]]]
            done += _moved(start, other, messages, g, here_x, here_y, to_x, to_y, width, slope)
        for i in range(n_theirs):
            g = group[held[theirs[i]]]
            done += _moved(start, other, messages, g, to_x, to_y, here_x, here_y, width, slope)
        if whole:
            at[core] = slot
            holds[slot] = core
            holds[here] = rival
            if rival >= 0:
                at[rival] = here
        else:
            _take(core, mine, n_mine, need, room, held, taken)
            _take(rival, theirs, n_theirs, need, room, held, given)
            _give(rival, taken, n_mine, need, room, first, held, spot, home)
            _give(core, given, n_theirs, need, room, first, held, spot, home)
    state[0] = random
    return done


@helper(nogil=True, error_model="numpy")  # no zero divides: no check in the loop
def _power(value, top):  # type: ignore[no-untyped-def]
    """Eighth power of a load over a reference: sums of it are ruled by the fullest links."""
    share = value / top
    share *= share
    share *= share
    return share * share


@helper(nogil=True, error_model="numpy")
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


@helper(nogil=True, error_model="numpy")
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


@helper(nogil=True, error_model="numpy")
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


@helper(nogil=True, error_model="numpy")
def _crosses(sx, sy, tx, ty, lx, ly, d):  # type: ignore[no-untyped-def]
    """Whether the XY route between two tiles takes a link."""
    if d == 0:
        return sy == ly and sx <= lx and lx < tx
    if d == 1:
        return sy == ly and tx < lx and lx <= sx
    if d == 2:
        return tx == lx and sy <= ly and ly < ty
    return tx == lx and ty < ly and ly <= sy


@helper(nogil=True, error_model="numpy")
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


@helper(nogil=True, error_model="numpy")
def _largest(values):  # type: ignore[no-untyped-def]
    """Where the first of the largest values is."""
    best = 0
    for i in range(1, len(values)):
        if values[i] > values[best]:
            best = i
    return best


@njit(nogil=True, error_model="numpy")
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
    flat = loads.reshape(-1)
    top = flat[_largest(flat)]
    if top <= 0.0:
        return
    route = 2 * (width + height)  # of four routes, in the mean
    random = state[0]
    done, added = 0, 0.0
    while done < budget:
        link = _largest(flat)
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
