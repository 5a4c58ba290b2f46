"""Fewest cores that a network needs, however it is cut, and a cut that needs few.

A core's weighted shares of neurons, input axons, output axons and memory are at most 1, for any
weights that add up to 1. So the weighted shares of all blocks, summed, bound the cores from below,
and so does the least that they can be over all cuts. That least sum is found from the readouts
backwards: what a population's targets are cut into gives its output entries, pixel by pixel, and
these and the other limits say into how many blocks each of its cells must be cut at least, whatever
their widths.

Partial cuts are kept side by side as labels, with their sums for several weights at once: a cut
needs at least the largest of its sums, and the least of these over all cuts is the bound. Where
labels are too many, those that cost and send about the same are replaced by one with the least
sums and the least entries of each pixel, which can only lower the bound.

If one of them is kept as it is instead, what remains at the end is a cut that needs few cores: a
start for `cut_search`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping as MappingType
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.partition.cut_search import each_of, shape_of
from pmsm_hw.mapping.partition.grids import edges_of, parts_of
from pmsm_hw.mapping.partition.tables import WEIGHTS, WIRE
from pmsm_hw.mapping.resources.windows import hits, singles, source_range
from pmsm_hw.network import Input
from pmsm_hw.operators import WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.partition.candidates import Candidates
    from pmsm_hw.mapping.resources import Resources, Wire

__all__ = ["Backwards"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Cuts = NDArray[Any]
"""Of `bound_kernels.CUT`."""

_WEIGHTS = np.array(
    [
        *((0.0, 0.0, e, 1.0 - e) for e in (0.3, 0.4, 0.5, 0.0, 0.1, 0.2, 0.6, 0.8, 1.0)),
        (0.25, 0.0, 0.25, 0.5),
        (1.0, 0.0, 0.0, 0.0),
    ]
)
"""Ways to weigh neurons, input axons, output axons and memory."""
_FINE, _COARSE = 3, 10.0
"""Labels may differ more, by this factor, in the sums for other weights than the first ones."""
_LABELS = (4, 48)
"""Labels that are kept: at least and at most, and as many as keep"""
_WORK = 500_000_000
"""labels times grids times pixels below this."""
_FAR, _CLOSER, _GAIN = 1.135, 1.02, 1.002
"""Bounds exceeded by the first factor are looked for again, among cuts that cost at most the second
one times the bound, as long as that raises it by the third."""
_AT_A_TIME = 1024
"""Grids whose output axons are held at a time."""


@dataclass(frozen=True, kw_only=True)
class _Table:
    """What `bound_kernels` needs of a population.

    Parameters
    ----------
    n_channels
        Of the population.
    wires, shapes
        Those into it that reach all of its channels; of each, `tables.WIRE`.
    sources
        Where they come from, each once.
    axes
        Edges, kinds and starts of parts of rows, then of columns.
    start, widest, costs, sending, plain
        See `bound_kernels.cell_tables`.
    """

    n_channels: int
    wires: list[Wire]
    shapes: NDArray[Any]
    sources: list[str]
    axes: tuple[Ints, ...]
    start: Ints
    widest: Ints
    costs: Floats
    sending: Floats
    plain: Ints


@dataclass(frozen=True)
class _Labels:
    """Cuts of the populations decided so far.

    Parameters
    ----------
    costs
        ``(labels, ways)``.
    entries
        By undecided population, ``(labels or 1, height, width)`` output entries of a channel's
        neurons; one, where all labels have the same.
    """

    costs: Floats
    entries: dict[str, Ints]


class Backwards:
    """All cuts of a network, looked at from the readouts on.

    Cuts are grids of near-equal rows and columns, each cell cut along channels into any blocks that
    fit a core alone; cores may hold any blocks whose needs, each counted alone, add up to no more
    than the limits, as `packing.pack` sees to. Zeros among weights enter by their share.

    Parameters
    ----------
    resources, counts
        Of the network and the chip; all cuts of its populations.
    n_labels
        Partial cuts that are kept side by side; by default, fewer for larger networks.
    """

    def __init__(
        self,
        resources: Resources,
        counts: MappingType[str, Candidates],
        *,
        n_labels: int | None = None,
    ) -> None:
        self._resources = resources
        self._counts = counts
        self._names = [p.name for p in resources.placed]
        self._index = {name: i for i, name in enumerate(self._names)}
        self._hits: dict[tuple[object, ...], tuple[Bools, Bools]] = {}
        self._tables = self._filled_tables()
        self._limit = int(resources.chip.limits.output_axons.value)
        work = sum(
            c.n_blocks[0].size * math.prod(chw(resources.network[name].shape)[1:])
            for name, c in counts.items()
        )
        self._n_labels = n_labels or int(np.clip(_WORK // max(work, 1), *_LABELS))
        # one label for all: what every population costs at least, after those that follow
        costs: dict[str, Floats] = {}
        self._sweep(1, np.inf, costs)
        self._before = np.zeros((len(self._names), len(_WEIGHTS)))
        if len(costs) == len(self._names):
            of_each = np.array([costs[name] for name in self._names])
            np.cumsum(of_each[:-1], axis=0, out=self._before[1:])

    def least_cores(self, n_cores: int, deadline: Callable[[], bool] | None = None) -> int:
        """Fewest cores that any cut can do with.

        Parameters
        ----------
        n_cores
            Cores that some cut takes: those that cost more need no look.
        deadline
            Says whether time is up: it does not look again then.
        """
        least = max(self._least(float(n_cores)), 1.0)
        gain = np.inf
        while _FAR * least < n_cores and gain >= _GAIN:
            if deadline is not None and deadline():
                break
            # cuts that cost much more need no look: of fewer labels, less is joined
            more = self._least(min(_CLOSER * least, float(n_cores)), closely=True)
            gain = more / least
            least = max(least, more)
        return int(np.clip(math.ceil(least - 1e-6), 1, n_cores))

    def _least(self, at_most: float, *, closely: bool = False) -> float:
        """Cores that any cut needs at least, or `at_most` if that is less."""
        found = self._sweep(self._n_labels, at_most, closely=closely)
        return at_most if found is None else min(float(found[0].max(axis=1).min()), at_most)

    def frugal_cuts(self, n_cores: int) -> list[dict[str, tuple[int, int]]]:
        """Cuts that need few cores: indices of row and column cuts by population.

        Blocks are taken to be as wide as they can. There may be none that seems to fit.

        Parameters
        ----------
        n_cores
            Cores that some cut takes.
        """
        cuts: list[dict[str, tuple[int, int]]] = []
        with ThreadPoolExecutor(2) as pool:
            sweeps = pool.map(
                lambda more: self._sweep(more * self._n_labels, float(n_cores), merge=False), (1, 2)
            )
        for found in sweeps:
            if found is None or len(found[1]) < len(self._names):
                continue
            costs, steps = found
            at = int(costs.max(axis=1).argmin())
            cut = {}
            for name, of_label in reversed(steps):
                label, j, k = of_label[at].item()
                cut[name] = (j, k)
                at = label
            if cut not in cuts:
                cuts.append(cut)
        return cuts

    def _sweep(
        self,
        n_labels: int,
        at_most: float,
        costs: dict[str, Floats] | None = None,
        *,
        merge: bool = True,
        closely: bool = False,
    ) -> tuple[Floats, list[tuple[str, Cuts]]] | None:
        """Decide one population after the other, the last one first.

        Parameters
        ----------
        n_labels
            Labels that are kept.
        at_most
            Cuts that cost more are left out.
        costs
            Of each population, is filled if given.
        merge
            Whether labels that are too many are joined; if not, some of them are dropped.
        closely
            Tell labels apart by what they send to each row and column, too.

        Returns
        -------
        tuple
            Costs of the labels; by population, the label before, and the grid, of each.
            ``None``: nothing costs so little.
        """
        from pmsm_hw.mapping.partition.bound_kernels import grid_costs

        n_ways = len(_WEIGHTS)
        labels = _Labels(np.zeros((1, n_ways)), {})
        steps: list[tuple[str, Cuts]] = []
        for i in range(len(self._names) - 1, -1, -1):
            name = self._names[i]
            table = self._tables[name]
            height, width = chw(self._resources.network[name].shape)[1:]
            entries = labels.entries.pop(name, np.zeros((1, height, width), np.int64))
            before = at_most - self._before[i] if costs is None else np.full(n_ways, np.inf)
            found, cost_of, fits = grid_costs(
                entries, labels.costs, before, self._limit, table.axes, table.start, table.widest,
                table.costs, table.sending,
            )  # fmt: skip
            if len(found) == 0:
                return None if fits else (np.zeros((1, n_ways)), steps)
            if costs is not None:
                costs[name] = cost_of[:, :n_ways].min(axis=0) - labels.costs[0]
            group, first = self._groups(
                i, entries, labels, found, cost_of, n_labels, closely=closely
            )
            by_group = np.argsort(group, kind="stable") if merge else first
            found, cost_of, group = found[by_group], cost_of[by_group], group[by_group]
            edges = np.searchsorted(group, np.arange(len(first) + 1))
            new = _Labels(
                np.minimum.reduceat(cost_of[:, :n_ways], edges[:-1], axis=0),
                self._entries(i, entries, labels.entries, found, group, edges),
            )
            keep = _useful(new)
            labels = _Labels(
                new.costs[keep],
                {n: e if len(e) == 1 else e[keep] for n, e in new.entries.items()},
            )
            steps.append((name, found[edges[:-1]][keep]))
        return labels.costs, steps

    def _groups(
        self,
        i: int,
        entries: Ints,
        labels: _Labels,
        found: Cuts,
        cost_of: Floats,
        at_most: int,
        *,
        closely: bool,
    ) -> tuple[Ints, Ints]:
        """Group of each grid that was found, and the first of each group."""
        from pmsm_hw.mapping.partition.bound_kernels import group_alike

        n_ways = len(_WEIGHTS)
        dearest = cost_of[:, :n_ways].max(axis=1)
        if at_most == 1:
            return np.zeros(len(found), np.int64), np.array([int(dearest.argmin())])
        costs = np.ascontiguousarray(cost_of[:, :n_ways])
        scale = np.full(n_ways, max(float(dearest.min()), 1.0))
        scale[_FINE:] *= _COARSE
        if closely:
            sent, starts = self._lines(i, entries, labels.entries, found)
        else:
            sent = self._totals(i, labels.entries, found, cost_of[:, n_ways:])
            starts = np.arange(sent.shape[1] + 1)
        order = np.argsort(dearest, kind="stable")
        group, first = group_alike(costs, sent, starts, order, scale, at_most)
        return np.asarray(group), np.asarray(first)

    def _totals(
        self, i: int, before: MappingType[str, Ints], found: Cuts, sending: Floats
    ) -> Floats:
        """Output axons of undecided populations after each grid of population ``i``, in cores."""
        table = self._tables[self._names[i]]
        totals = []
        for name, entries in before.items():
            if name in table.sources or len(entries) > 1:
                sent = entries.sum(axis=(1, 2)) * self._n_sending(name) / self._limit
                sent = sent[found["label"]] if len(sent) > 1 else np.repeat(sent, len(found))
                if name in table.sources:
                    sent = sent + sending[:, table.sources.index(name)]
                totals.append(sent)
        totals += [sending[:, s] for s, name in enumerate(table.sources) if name not in before]
        return np.column_stack([np.zeros((len(found), 0)), *totals])

    def _lines(
        self, i: int, entries: Ints, before: MappingType[str, Ints], found: Cuts
    ) -> tuple[Floats, Ints]:
        """The same by row and by column.

        Returns
        -------
        tuple
            ``(grids, lines)`` float64; where the lines of each axis start.
        """
        sources = self._tables[self._names[i]].sources
        parts: list[list[Floats]] = []
        for a in range(0, len(found), _AT_A_TIME):
            some = found[a : a + _AT_A_TIME]
            each = np.arange(len(some) + 1)
            kept = self._entries(i, entries, before, some, each[:-1], each)
            parts.append(
                [
                    one.sum(axis=axis) * (self._n_sending(name) / self._limit)
                    for name, one in kept.items()
                    if name in sources or len(before[name]) > 1
                    for axis in (2, 1)
                ]
            )
        lines = [np.concatenate(same) for same in zip(*parts, strict=True)]
        starts = np.cumsum([0, *(line.shape[1] for line in lines)], dtype=np.int64)
        return np.concatenate([np.zeros((len(found), 0)), *lines], axis=1), starts

    def _n_sending(self, source: str) -> int:
        """Channels of a population whose pixels send their entries one by one."""
        return int(chw(self._resources.network[source].shape)[0])

    def _entries(
        self,
        i: int,
        entries: Ints,
        before: MappingType[str, Ints],
        found: Cuts,
        group: Ints,
        edges: Ints,
    ) -> dict[str, Ints]:
        """Least entries of undecided populations in each group of grids of population ``i``."""
        from pmsm_hw.mapping.partition.bound_kernels import least_entries

        entries_of: Any = least_entries

        table = self._tables[self._names[i]]
        kept = {}
        for name, base in before.items():
            if name in table.sources:
                continue
            if len(base) > 1:
                pairs = np.unique(group * len(base) + found["label"])
                starts = np.searchsorted(pairs // len(base), np.arange(len(edges) - 1))
                base = np.minimum.reduceat(base[pairs % len(base)], starts, axis=0)
            kept[name] = base
        for source in table.sources:
            if not self._index.get(source, i) < i:
                continue
            wires = [w for w, wire in enumerate(table.wires) if wire.projection.source == source]
            _, height, width = chw(self._resources.network[source].shape)
            both = [[self._met(table.wires[w], axis) for w in wires] for axis in (0, 1)]
            kept[source] = entries_of(
                entries, before.get(source, np.zeros((1, height, width), np.int64)), found, edges,
                table.n_channels, self._limit, table.axes, table.widest, table.plain[wires],
                *((_padded([m[what] for m in both[0]]), _padded([m[what] for m in both[1]]))
                  for what in (0, 1)),
                table.shapes[wires],
            )  # fmt: skip
        return kept

    def _met(self, wire: Wire, axis: int) -> tuple[Bools, Bools]:
        """Source rows that meet each part of each number of cuts, and those like no other one."""
        form = wire.form
        size = chw(self._resources.network[wire.projection.source].shape)[1 + axis]
        if not isinstance(form, WindowForm):
            return np.zeros((1, size), bool), np.zeros((1, size), bool)
        key = (
            axis, size, form.target[1 + axis], form.weight.shape[2 + axis], form.stride[axis],
            form.padding[axis], form.dilation[axis],
        )  # fmt: skip
        if key not in self._hits:
            choices = self._counts[wire.projection.target].choices[1 + axis].tolist()
            meets, single = np.zeros((2, sum(choices), size), bool)
            at = 0
            for cuts in choices:
                for part in parts_of(form.target[1 + axis], cuts):
                    first, end = source_range(form, axis, part)
                    meets[at, first:end] = hits(wire.windows[axis], part)
                    single[at, first:end] = singles(wire.windows[axis], part)
                    at += 1
            self._hits[key] = (meets, single)
        return self._hits[key]

    def _filled_tables(self) -> dict[str, _Table]:
        """Tables of all populations, two at a time; parts of split populations are alike."""
        from pmsm_hw.mapping.partition.bound_kernels import cell_tables

        arguments: dict[tuple[object, ...], tuple[Any, ...]] = {}
        keys: dict[str, tuple[object, ...]] = {}
        known: dict[tuple[object, ...], str] = {}  # populations that are alike
        for name in self._names:
            sources = (w.projection.source for w in self._resources.into(name))
            inputs = (isinstance(self._resources.network[source], Input) for source in sources)
            like = (self._resources.like(name), id(self._counts[name].bits), *inputs)
            if known.setdefault(like, name) != name:
                keys[name] = keys[known[like]]
                continue
            given = self._given(name)
            keys[name] = tuple(
                (a.shape, a.tobytes()) if isinstance(a, np.ndarray) else a for a in given
            )
            arguments.setdefault(keys[name], given)
        with ThreadPoolExecutor(2) as pool:
            filled = pool.map(lambda given: cell_tables(*given), arguments.values())
            found = dict(zip(arguments, filled, strict=True))
        tables = {first: self._table(first, found[keys[first]]) for first in known.values()}
        firsts = {id(keys[first]): first for first in known.values()}
        return {name: self._renamed(tables[firsts[id(keys[name])]], name) for name in self._names}

    def _renamed(self, table: _Table, name: str) -> _Table:
        """The table of a population that is like that of the given one."""
        wires = self._wires(name)
        sources = list(dict.fromkeys(w.projection.source for w in wires))
        return replace(table, wires=wires, sources=sources)

    def _wires(self, name: str) -> list[Wire]:
        """Wires into a population; those that miss some of its channels are left out."""
        resources = self._resources
        return [w for w in resources.into(name) if w.channels == (0, resources.n_channels(w))]

    def _table(self, name: str, filled: tuple[Any, ...]) -> _Table:
        counts, wires = self._counts[name], self._wires(name)
        shape = chw(self._resources.network[name].shape)
        axes: list[Ints] = []
        for axis in (0, 1):
            choices = counts.choices[1 + axis].tolist()
            axes += [
                np.concatenate([edges_of(shape[1 + axis], cuts) for cuts in choices]),
                np.concatenate(counts.classes[axis].kind),
                np.cumsum([0, *choices], dtype=np.int64),
            ]
        start, widest, costs, sending, plain = filled
        return _Table(
            n_channels=shape[0],
            wires=wires,
            shapes=self._shapes(wires),
            sources=list(dict.fromkeys(w.projection.source for w in wires)),
            axes=tuple(axes),
            start=start,
            widest=widest,
            costs=costs,
            sending=sending,
            plain=plain,
        )

    def _shapes(self, wires: list[Wire]) -> NDArray[Any]:
        return np.array([shape_of(self._resources, w) for w in wires], WIRE)

    def _given(self, name: str) -> tuple[Any, ...]:
        """What `bound_kernels.cell_tables` takes."""
        resources, counts, wires = self._resources, self._counts[name], self._wires(name)
        y, x = counts.classes
        eachs = np.array([each_of(resources, w) for w in wires], WEIGHTS)
        sources = list(dict.fromkeys(w.projection.source for w in wires))
        limits = resources.chip.limits
        return (
            chw(resources.network[name].shape)[0], y.size, y.n, x.size, x.n,
            *_taps(counts, wires), self._shapes(wires), eachs,
            np.array(
                [
                    limits.neurons.value / resources.compartments(name),
                    limits.input_axons.value, limits.output_axons.value,
                    limits.synapse_memory_bits.value,
                ],
                np.float64,
            ),
            np.array(
                [
                    limits.synapse_block_weights.value, limits.synapse_word_bits.value,
                    limits.synapse_block_header_bits.value,
                ],
                np.int64,
            ),
            int(limits.index_bits.value),
            np.array([self._channels(wire) for wire in wires], np.float64),
            np.array([sources.index(w.projection.source) for w in wires], np.int64),
            len(sources),
            _WEIGHTS,
        )  # fmt: skip

    def _channels(self, wire: Wire) -> float:
        """Source channels that send an entry of each pixel; 0: of an input."""
        source = self._resources.network[wire.projection.source]
        if isinstance(source, Input):
            return 0
        if isinstance(wire.form, WindowForm):
            return chw(source.shape)[0]
        return wire.n_live / max(wire.n_live_units, 1)


def _taps(counts: Candidates, wires: list[Wire]) -> list[Ints]:
    """What the parts of both axes meet of each wire: all, single ones, and by number of taps."""
    n_taps = 1 + max(
        (max(w.form.weight.shape[2:]) for w in wires if isinstance(w.form, WindowForm)), default=1
    )
    found = []
    for what in ("hit", "single", "rows"):
        for axis in (0, 1):
            tail = (n_taps,) if what == "rows" else ()
            table = np.zeros((len(wires), *counts.classes[axis].n.shape, *tail), np.int64)
            for w, wire in enumerate(wires):
                if isinstance(wire.form, WindowForm):
                    some = getattr(counts.taps[axis][wire.projection.name], what)
                    if tail:
                        table[w, :, :, : some.shape[2]] = some
                    else:
                        table[w] = some
            found.append(table)
    return found


def _padded(arrays: list[Bools]) -> Bools:
    """Stack arrays of different lengths."""
    out = np.zeros((len(arrays), max(map(len, arrays)), arrays[0].shape[1]), bool)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out


def _useful(labels: _Labels) -> Bools:
    """Labels that no other one is as cheap as, with no more entries at any pixel."""
    costs = labels.costs
    n = len(costs)
    cheaper: Bools = np.all(costs[:, None] <= costs[None] + 1e-9, axis=2)
    for entries in labels.entries.values():
        if len(entries) > 1:
            flat = entries.reshape(n, -1)
            for a, b in np.argwhere(cheaper & ~np.eye(n, dtype=bool)):
                cheaper[a, b] = bool((flat[a] <= flat[b]).all())
    keep = np.ones(n, bool)
    for label in range(n):
        others = cheaper[:, label] & keep
        others[label] = False
        keep[label] = not others.any()
    return keep
