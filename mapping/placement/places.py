"""Which core goes where on the mesh: short ways for much traffic.

Cores start along a Hilbert curve in the order of the network, drift towards those they talk to, and
are then swapped by simulated annealing, which lowers messages times hops; of many cores in both
halves of the mesh at the same time. The cores fill as few tiles and chips as can be, around the I/O
port.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.routing.traffic import IO, Traffic, pairs_of
from pmsm_hw.mapping.settings import Settings

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.mapping.placement.bundles import Bundles
    from pmsm_hw.workers import Workers

__all__ = [
    "Links",
    "curve_order",
    "gathered",
    "least_hops",
    "links_of",
    "mean_distance",
    "place",
    "place_bundles",
    "region",
    "total_hops",
]

_DEFAULT = Settings()
_DRIFTS = 2
_WORK = 200_000_000
_WORK_PER_CORE, _WORK_PER_PAIR = 320_000, 24_000
_WORK_PER_CORE_OF_MANY, _MOST_WORK = 140_000, 450_000_000
"""Work of the annealing (see there; a nanosecond or some each): at most, but for many cores, and
for each core, or pair of cores, of few. So much at most where bundles are exchanged, which soon
gains more than all of it without."""
_PARTS = 20
"""Time limits are looked at, and progress is told, so often."""
_HOT, _COLD = 2.0, 0.01
"""Temperatures at the start and the end, in units of the mean messages of a core."""
_RELIEF, _RELIEF_PER_CORE = 60_000_000, 300_000
"""Work of the pass that relieves links, at most, and for each core."""
_RELIEF_SLACK = 0.005
"""Share of messages times hops that it may add."""
_SMALL, _ATTEMPTS, _WORTH_THREADS = 256, 4, 10_000_000
"""Small networks are annealed several times, at the same time where one takes so much work."""


@dataclass(frozen=True, kw_only=True)
class Links:
    """Traffic between cores, both directions together, in compressed rows.

    Parameters
    ----------
    start, other, messages
        Partners of core ``i`` are ``other[start[i]:start[i + 1]]``; float64 messages.
    sent
        Those of the messages that core ``i`` sends.
    io
        ``(n_cores,)`` float64: messages that come in from the I/O port.
    """

    start: NDArray[np.int64]
    other: NDArray[np.int64]
    messages: NDArray[np.float64]
    sent: NDArray[np.float64]
    io: NDArray[np.float64]


def links_of(traffic: Traffic, n_cores: int) -> Links:
    """Join both directions of each pair of cores (or groups of them)."""
    inside = (traffic.source != IO) & (traffic.source != traffic.target)
    source, target, messages = (
        a[inside] for a in (traffic.source, traffic.target, traffic.messages)
    )
    core, partner = np.concatenate((source, target)), np.concatenate((target, source))
    first, inverse = pairs_of(core, partner)
    outside = traffic.source == IO
    io = np.bincount(traffic.target[outside], traffic.messages[outside], minlength=n_cores)
    return Links(
        start=_starts(core[first], n_cores),
        other=partner[first],
        messages=_summed(inverse, np.tile(messages, 2), len(first)),
        sent=_summed(inverse[: len(source)], messages, len(first)),
        io=io.astype(np.float64),
    )


def _starts(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Where each of ``n`` rows starts, given the row of each entry in ascending order."""
    start = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=n), out=start[1:])
    return start


def _summed(at: NDArray[np.int64], amounts: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    return np.bincount(at, amounts, minlength=n).astype(np.float64)


def _cores_of(links: Links) -> NDArray[np.int64]:
    """Core whose partner each entry is."""
    return np.repeat(np.arange(len(links.io)), np.diff(links.start))


def gathered(links: Links, home: NDArray[np.int64], n_cores: int) -> Links:
    """Traffic between cores from that between bundles, given the core of each bundle."""
    a = home[_cores_of(links)]
    b = home[links.other]
    apart = a != b
    a, b = a[apart], b[apart]
    first, inverse = pairs_of(a, b)
    return Links(
        start=_starts(a[first], n_cores),
        other=b[first],
        messages=_summed(inverse, links.messages[apart], len(first)),
        sent=_summed(inverse, links.sent[apart], len(first)),
        io=_summed(home, links.io, n_cores),
    )


def region(chip: Chip, n_cores: int, per_tile: int | None = None) -> NDArray[np.int64]:
    """Tiles that so many cores fill: whole chips near the I/O port first, then tiles near them.

    Returns
    -------
    ndarray
        ``(n_tiles,)`` int64, tile numbers (``y * columns + x``).
    """
    n_tiles = -(-n_cores // (per_tile or chip.mesh.cores_per_tile.value))
    width, height = chip.mesh.columns.value, chip.mesh.rows.value
    io_x, io_y = chip.mesh.io_position.value
    tiles = np.arange(chip.n_tiles)
    x, y = tiles % chip.columns, tiles // chip.columns
    # distance of chips and of tiles, as squares around the port
    chip_far = np.maximum(x // width * width, y // height * height)
    far = np.maximum(np.abs(x - io_x), np.abs(y - io_y))
    order = np.lexsort(
        (np.abs(x - io_x) + np.abs(y - io_y), far, x // width, y // height, chip_far)
    )
    return np.sort(order[:n_tiles])


def curve_order(
    chip: Chip, tiles: NDArray[np.int64], per_tile: int | None = None
) -> NDArray[np.int64]:
    """Cores of some tiles along a Hilbert curve that starts at the I/O port's corner.

    Returns
    -------
    ndarray
        ``(n_tiles * cores_per_tile,)`` int64.
    """
    x, y = tiles % chip.columns, tiles // chip.columns
    io_x, io_y = chip.mesh.io_position.value
    if io_x >= chip.mesh.columns.value - io_x:
        x = x.max() - x
    if io_y >= chip.mesh.rows.value - io_y:
        y = y.max() - y
    side = 1
    while side <= max(int(x.max()), int(y.max())):
        side *= 2
    order = tiles[np.argsort(hilbert_index(side, x, y), kind="stable")]
    per_tile = per_tile or chip.mesh.cores_per_tile.value
    cores: NDArray[np.int64] = (order[:, None] * per_tile + np.arange(per_tile)).reshape(-1)
    return cores


def hilbert_index(side: int, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position along the Hilbert curve of a square of a power of two."""
    x, y = x.astype(np.int64).copy(), y.astype(np.int64).copy()
    d = np.zeros_like(x)
    s = side // 2
    while s > 0:
        rx, ry = ((x & s) > 0).astype(np.int64), ((y & s) > 0).astype(np.int64)
        d += s * s * ((3 * rx) ^ ry)
        flip = (ry == 0) & (rx == 1)
        x[flip], y[flip] = side - 1 - x[flip], side - 1 - y[flip]
        swap = ry == 0
        x[swap], y[swap] = y[swap].copy(), x[swap].copy()
        s //= 2
    return d


def total_hops(
    chip: Chip, links: Links, places: NDArray[np.int64], per_tile: int | None = None
) -> float:
    """Messages times hops of placed cores, I/O included; places count ``per_tile`` to a tile."""
    tile = places // (per_tile or chip.mesh.cores_per_tile.value)
    x, y = tile % chip.columns, tile // chip.columns
    core, other = _cores_of(links), links.other
    moved = links.messages * (np.abs(x[core] - x[other]) + np.abs(y[core] - y[other]))
    io_x, io_y = chip.mesh.io_position.value
    return float(moved.sum() / 2 + (links.io * (np.abs(x - io_x) + np.abs(y - io_y))).sum())


def least_hops(links: Links, per_tile: int) -> float:
    """Messages times hops that no placement can go below, I/O not included.

    Each core has its partners as near as tiles of ``per_tile`` cores allow, the busiest ones
    nearest, as if it were alone on an endless mesh.

    Parameters
    ----------
    links
        Who talks to whom.
    per_tile
        How many of them a tile takes.
    """
    most = int(np.diff(links.start).max(initial=0))
    hops = np.zeros(most)
    taken, distance = per_tile - 1, 0
    while taken < most:
        distance += 1
        hops[taken : taken + 4 * distance * per_tile] = distance
        taken += 4 * distance * per_tile
    core = _cores_of(links)
    busiest = links.messages[np.lexsort((-links.messages, core))]
    rank = np.arange(len(core)) - links.start[core]
    return float((busiest * hops[rank]).sum() / 2)


def mean_distance(chip: Chip, tiles: NDArray[np.int64], per_tile: int) -> float:
    """Mean hops between two different places of some tiles: what chance would give.

    Parameters
    ----------
    chip
        Whose tiles.
    tiles
        ``(n_tiles,)`` int64, different ones, as in `region`.
    per_tile
        Places of a tile.
    """
    n = len(tiles) * per_tile
    if n < 2:
        return 0.0
    total = 0.0
    for at in (tiles % chip.columns, tiles // chip.columns):
        below = np.cumsum(np.bincount(at))  # tiles up to each column or row
        total += 2.0 * float((below * (len(tiles) - below)).sum())
    return total * per_tile**2 / (n * (n - 1))


def place(
    chip: Chip,
    links: Links,
    *,
    per_tile: int | None = None,
    effort: float = 1.0,
    settings: Settings = _DEFAULT,
) -> NDArray[np.int64]:
    """Find a place for each core.

    Parameters
    ----------
    chip
        With at least as many cores.
    links
        Who talks to whom.
    per_tile
        How many of them a tile takes; the chip's cores per tile by default.
    effort
        Scales the number of swaps that are tried.
    settings
        Seed, progress and deadline.

    Returns
    -------
    ndarray
        ``(n_cores,)`` int64, places, all different: ``per_tile`` times the tile, plus the place
        within it; the chip's core numbers by default.
    """
    return place_bundles(chip, links, None, per_tile=per_tile, effort=effort, settings=settings)[0]


def place_bundles(
    chip: Chip,
    links: Links,
    bundles: Bundles | None,
    *,
    any_kind: bool = False,
    per_tile: int | None = None,
    effort: float = 1.0,
    settings: Settings = _DEFAULT,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find a place for each core, and a core for each bundle.

    Parameters
    ----------
    chip, per_tile, effort, settings
        As in `place`.
    links
        Which bundle talks to which.
    bundles
        What may be exchanged; ``None``: every core is one bundle.
    any_kind
        Whether bundles may go wherever there is room. Otherwise those of a kind are exchanged.

    Returns
    -------
    places
        ``(n_cores,)`` int64, as in `place`.
    home
        ``(n_bundles,)`` int64, core of each bundle; no core is left without.
    """
    n_items = len(links.io)
    home = np.arange(n_items) if bundles is None else bundles.home
    n = int(home.max(initial=-1)) + 1
    per_tile = per_tile or chip.mesh.cores_per_tile.value
    slots = curve_order(chip, region(chip, n, per_tile), per_tile)
    best = (slots[:n].copy(), home)
    if n < 2 or not (links.messages.any() or links.io.any()):
        return best
    between = links if bundles is None else gathered(links, home, n)

    def cost_of(places: NDArray[np.int64], home: NDArray[np.int64]) -> float:
        return total_hops(chip, links, places[home], per_tile)

    cost = cost_of(*best)
    settings.say("placing: drifting")
    drifted = best[0]
    for _ in range(_DRIFTS):
        if settings.is_late:
            return best
        drifted = _drift(chip, between, drifted, slots, per_tile)
        new = cost_of(drifted, home)
        if new < cost:
            best, cost = (drifted, home), new
    start = best
    few = max(_WORK_PER_CORE, _WORK_PER_PAIR * n) * n
    many = _WORK_PER_CORE_OF_MANY * n
    if bundles is not None:
        many = min(many, _MOST_WORK)
    budget = int(effort * min(few, max(_WORK, many)))

    def anneal(attempt: int) -> _Search:
        search = _Search(
            chip,
            links,
            slots,
            *start,
            per_tile,
            settings.seed + 1_000_003 * attempt,
            bundles,
            any_kind,
        )  # fmt: skip
        for part in range(1, _PARTS + 1):
            if settings.is_late:
                break
            if attempt == 0:
                settings.say(f"placing: annealing, part {part} of {_PARTS}")
            if n <= _SMALL:
                search.run(budget * part // _PARTS, budget)
            else:
                search.run_halves(budget // 2 * part // _PARTS, budget // 2, by_rows=part % 2 == 0)
        return search

    attempts = range(_ATTEMPTS if n <= _SMALL and effort >= 1 else 1)
    for search in _workers(len(attempts) > 1 and budget > _WORTH_THREADS).map(anneal, attempts):
        found = (search.places(), search.home)
        new = cost_of(*found)
        if new < cost:
            best, cost = found, new
    if effort >= 1 and not settings.is_late:
        settings.say("placing: relieving the fullest links")
        places, home = best
        if bundles is not None:
            links = gathered(links, home, n)
        search = _Search(chip, links, slots, places, np.arange(n), per_tile, settings.seed)
        search.relieve(int(min(_RELIEF_PER_CORE * n, _RELIEF)), _RELIEF_SLACK * cost)
        best = (search.places(), home)
    return best


def _workers(several: bool) -> Workers:
    from pmsm_hw.workers import Workers, workers_for

    return workers_for(True) if several else Workers(1)


def _drift(
    chip: Chip,
    links: Links,
    places: NDArray[np.int64],
    slots: NDArray[np.int64],
    per_tile: int,
) -> NDArray[np.int64]:
    """Move every core towards those it talks to, then spread all over the slots again."""
    tile = places // per_tile
    xy = np.stack([tile % chip.columns, tile // chip.columns], axis=1).astype(np.float64)

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:  # over each core's partners
        below = np.concatenate([[0.0], np.cumsum(values)])
        total: NDArray[np.float64] = below[links.start[1:]] - below[links.start[:-1]]
        return total

    weight = summed(links.messages) + links.io
    pulled = np.stack(
        [
            summed(links.messages * xy[links.other, d]) + links.io * chip.mesh.io_position.value[d]
            for d in (0, 1)
        ],
        axis=1,
    )
    still = weight == 0
    centre = np.where(still[:, None], xy, pulled / np.where(still, 1.0, weight)[:, None])
    wish = 0.5 * xy + 0.5 * centre
    slot_tile = slots[: len(places)] // per_tile
    slot_xy = np.stack([slot_tile % chip.columns, slot_tile // chip.columns], axis=1)
    # halve the cores, and the slots, along the longer axis again and again, all parts at once
    result = np.empty(len(places), np.int64)
    cores = free = np.arange(len(places))
    sizes = np.array([len(places)])
    while True:
        start = np.cumsum(sizes) - sizes
        span = np.maximum.reduceat(slot_xy[free], start) - np.minimum.reduceat(slot_xy[free], start)
        open_parts = (sizes > 1) & span.any(axis=1)
        inside = np.repeat(open_parts, sizes)
        result[cores[~inside]] = slots[free[~inside]]
        if not open_parts.any():
            return result
        cores, free, sizes = cores[inside], free[inside], sizes[open_parts]
        part = np.repeat(np.arange(len(sizes)), sizes)
        axis = (span[open_parts, 1] > span[open_parts, 0]).astype(np.int64)[part]
        free = free[np.lexsort((slot_xy[free, 1 - axis], slot_xy[free, axis], part))]
        cores = cores[np.lexsort((wish[cores, 1 - axis], wish[cores, axis], part))]
        sizes = np.stack([sizes // 2, sizes - sizes // 2], axis=1).reshape(-1)


class _Search:
    """Simulated annealing that can stop in between.

    Parameters
    ----------
    chip, links, slots, start, home, per_tile, seed, bundles, any_kind
        As in `place_bundles`; ``slots`` are the places of the region, ``start`` those of the cores,
        ``home`` the core of each bundle.
    """

    def __init__(
        self,
        chip: Chip,
        links: Links,
        slots: NDArray[np.int64],
        start: NDArray[np.int64],
        home: NDArray[np.int64],
        per_tile: int,
        seed: int,
        bundles: Bundles | None = None,
        any_kind: bool = False,
    ) -> None:
        self._chip, self._links = chip, links
        n_items, n_cores = len(home), len(start)
        tile = slots // per_tile
        x, y = tile % chip.columns, tile // chip.columns
        tiles = np.full((int(y.max()) + 1, int(x.max()) + 1), -1, np.int64)
        index = np.empty(chip.n_tiles * per_tile, np.int64)  # of a place among the slots
        index[slots] = np.arange(len(slots))
        first = slots % per_tile == 0
        tiles[y[first], x[first]] = index[slots[first]]
        self._mesh = (x, y, tiles, per_tile)
        self.slots, self.at = slots, index[start]
        self.holds = np.full(len(slots), -1, np.int64)
        self.holds[self.at] = np.arange(n_cores)
        self.home = home.copy()
        # bundles of each core, and entries for two more where any may come
        n_spare = 2 if any_kind and bundles is not None else 0
        owner = np.concatenate([home, np.repeat(np.arange(n_cores), n_spare)])
        held = np.where(np.arange(len(owner)) < n_items, np.arange(len(owner)), -1)
        held = held[np.argsort(owner, kind="stable")]
        self.first = np.zeros(n_cores + 1, np.int64)
        np.cumsum(np.bincount(owner, minlength=n_cores), out=self.first[1:])
        self.held, self.spot = held, np.empty(n_items, np.int64)
        self.spot[held[held >= 0]] = np.flatnonzero(held >= 0)
        if bundles is None:
            kind, need = np.arange(n_items), np.zeros((n_items, 0), np.int64)
            sources = np.zeros((n_items, 0), np.uint64)
            self.room = np.zeros((n_cores, 0), np.int64)
            self._exchanges = 0
        else:
            kind, need = bundles.populations if any_kind else bundles.kind, bundles.need
            sources = bundles.sources
            self.room = np.tile(bundles.capacity, (n_cores, 1))
            np.subtract.at(self.room, home, need)
            self._exchanges = 2 if any_kind else int(n_items > n_cores)
        kind_start = np.zeros(int(kind.max(initial=-1)) + 2, np.int64)
        np.cumsum(np.bincount(kind), out=kind_start[1:])
        self._kinds = (kind, kind_start, np.argsort(kind, kind="stable"), need, sources)
        self._states = [
            np.array([(2 * (seed + 500_009 * i) + 1) * 0x9E3779B97F4A7C15 % 2**64], np.uint64)
            for i in (0, 1)
        ]
        self._done = 0
        self._mean = float(links.messages.sum() + links.io.sum()) / max(n_cores, 1)
        self._graph: tuple[Any, ...] | None = None

    def _fill(self) -> None:
        """Find classes of bundles, and what a step costs each: for annealing alone."""
        if self._graph is not None:
            return
        links, (x, y, tiles, _) = self._links, self._mesh
        group, (start, other, messages), member_start, members = twins(links)
        # as small as can be: most of the time is spent waiting for them
        self._slope = _compiled()[0](
            start, other, messages, member_start, members, links.io, x, y,
            *self._chip.mesh.io_position.value, self.at[self.home], tiles.shape[1], tiles.shape[0],
        ).astype(np.float32)  # fmt: skip
        self._graph = (
            start, other.astype(np.int32), messages.astype(np.float32), group, links.start,
            links.other.astype(np.int32), *self._kinds, *self._mesh, self._exchanges,
        )  # fmt: skip

    def run(self, until: int, budget: int) -> None:
        """Go on until so much work is done, of so much in all."""
        self._fill()
        height, width = self._mesh[2].shape
        self._run((0, width, 0, height), 0, until, budget)

    def run_halves(self, until: int, budget: int, *, by_rows: bool) -> None:
        """Go on with both halves of the mesh at the same time; the work is that of each.

        Nothing crosses the middle, and each half takes the other one for what it was at first.
        """
        self._fill()
        height, width = self._mesh[2].shape
        middle = int(np.median(self._mesh[int(by_rows)]))
        boxes = [(0, middle, 0, height), (middle, width, 0, height)]
        if by_rows:
            boxes = [(0, width, 0, middle), (0, width, middle, height)]
        halves = [copy(self), copy(self)]
        for half in halves:
            for name in ("at", "holds", "home", "held", "spot", "room", "_slope"):
                setattr(half, name, getattr(self, name).copy())
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda i: halves[i]._run(boxes[i], i, until, budget), (0, 1)))
        for half, box in zip(halves, boxes, strict=True):
            inside = self._inside(box)
            cores, items = self.holds[inside], inside[self.at[self.home]]
            cores = cores[cores >= 0]
            self.at[cores], self.room[cores] = half.at[cores], half.room[cores]
            self.home[items], self.spot[items] = half.home[items], half.spot[items]
            self.holds[inside] = half.holds[inside]
        self.held[:] = -1
        self.held[self.spot] = np.arange(len(self.spot))
        self._slope = halves[0]._slope + halves[1]._slope - self._slope  # changes add up
        self._done = until

    def _inside(self, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
        """Which slots lie within some columns and rows."""
        x, y = self._mesh[:2]
        inside: NDArray[np.bool_] = (x >= box[0]) & (x < box[1]) & (y >= box[2]) & (y < box[3])
        return inside

    def _run(self, box: tuple[int, int, int, int], stream: int, until: int, budget: int) -> None:
        assert self._graph is not None
        movable = np.flatnonzero(self._inside(box)[self.at[self.home]])
        self._done = _compiled()[1](
            *self._graph, self.at, self.holds, self.home, self.first, self.held, self.spot,
            self.room, self._slope, self._states[stream], movable, np.array(box), self._done,
            until, budget, _HOT * self._mean, _COLD * self._mean,
        )  # fmt: skip

    def relieve(self, budget: int, slack: float) -> None:
        """Take messages off the fullest links, for so much work and at most so many more hops."""
        links = self._links
        io = self._chip.mesh.io_position.value
        _compiled()[2](
            links.start, links.other, links.sent, links.messages, links.io,
            *self._mesh, *io, self.at, self.holds, self._states[0], budget, slack,
        )  # fmt: skip

    def places(self) -> NDArray[np.int64]:
        """Place of each core now."""
        return self.slots[self.at]


Rows: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def twins(
    links: Links,
) -> tuple[NDArray[np.int64], Rows, NDArray[np.int64], NDArray[np.int64]]:
    """Classes of cores with the same partners, messages and input.

    Returns
    -------
    group
        ``(n_cores,)`` int64, class of each core.
    rows
        Start, partner and messages of each class in compressed rows: its partners as classes,
        ascending, and the messages to and from each member of one.
    member_start, members
        Cores of each class, likewise.
    """
    n = len(links.io)
    found: dict[tuple[bytes, bytes, float], int] = {}
    group = np.empty(n, np.int64)
    first: list[int] = []
    for core in range(n):
        row = slice(links.start[core], links.start[core + 1])
        key = (links.other[row].tobytes(), links.messages[row].tobytes(), float(links.io[core]))
        at = found.setdefault(key, len(found))
        group[core] = at
        if at == len(first):
            first.append(core)
    # partners of an example of each class, and of those one of each class
    is_first = np.zeros(n, bool)
    is_first[first] = True
    sizes = np.diff(links.start)
    some = np.flatnonzero(np.repeat(is_first, sizes))
    of_class = np.repeat(group, sizes)[some]
    once = pairs_of(of_class, group[links.other[some]])[0]
    some, of_class = some[once], of_class[once]
    start, member_start = np.zeros((2, len(first) + 1), np.int64)
    np.cumsum(np.bincount(of_class, minlength=len(first)), out=start[1:])
    np.cumsum(np.bincount(group, minlength=len(first)), out=member_start[1:])
    rows = (start, group[links.other[some]], links.messages[some])
    return group, rows, member_start, np.argsort(group, kind="stable")


@cache
def _compiled() -> Any:
    """Compile on first use: numba takes its time to import."""
    from pmsm_hw.mapping.placement.annealing import anneal, fill_slopes, relieve

    return fill_slopes, anneal, relieve
