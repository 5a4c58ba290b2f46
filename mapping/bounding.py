"""Fewest cores that a network needs, however it is cut.

A core's weighted shares of neurons, input axons, output axons and memory are at most 1, for any
weights that add up to 1. So the weighted shares of all blocks, summed, bound the cores from below,
and so does the least that they can be over all cuts. That least sum is found from the readouts
backwards: what a population's targets are cut into gives its output entries, pixel by pixel, and
these and the other limits say into how many blocks each of its cells must be cut at least, whatever
their widths.

Cuts that differ in cost and entries are kept side by side as labels. Where there are too many,
those that send about the same are replaced by one label with the least cost and the least entries
of each pixel, which can only lower the bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.connectivity import source_range
from pmsm_hw.mapping.cut_search import each_of, shape_of
from pmsm_hw.mapping.grids import edges_of, parts_of
from pmsm_hw.network import Input
from pmsm_hw.operators import WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.resources import Resources, Wire
    from pmsm_hw.mapping.tiling import Candidates

__all__ = ["least_cores"]

Floats = NDArray[np.float64]

_LABELS = 12
"""Partial cuts that are kept side by side."""
_WORK = 6_000_000
"""Weights are tried while their number times grids and pixels stays below this."""


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """Parts of one axis, one number of cuts after the other."""

    edges: NDArray[np.int64]
    kinds: NDArray[np.int64]
    start: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Table:
    """What `bound_kernels` needs of a population."""

    axes: tuple[_Axis, _Axis]
    shapes: NDArray[np.int64]
    eachs: Floats
    tables: tuple[Any, ...]


def least_cores(
    resources: Resources,
    counts: MappingType[str, Candidates],
    scarcity: tuple[float, float, float],
    n_cores: int,
) -> int:
    """Fewest cores that any cut can do with.

    Cuts are grids of near-equal rows and columns, each cell cut along channels into any blocks that
    fit a core alone; cores may hold any blocks whose needs, each counted alone, add up to no more
    than the limits, as `packing.pack` sees to. Zeros among weights enter by their share.

    Parameters
    ----------
    resources, counts
        Of the network and the chip; all cuts of its populations.
    scarcity
        Weights of neurons, memory and output axons to start from.
    n_cores
        Cores that some such cut takes: cuts that cost more need no look.
    """
    tables = {name: _table(resources, name, counts[name]) for name in counts}
    hits: dict[tuple[str, int], tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}
    at = (scarcity[0], scarcity[2])
    best = 0.0
    tried: set[tuple[float, float]] = set()
    work = sum(
        len(c.choices[1]) * len(c.choices[2]) * math.prod(chw(resources.network[name].shape)[1:])
        for name, c in counts.items()
    )
    most = int(np.clip(_WORK // max(work, 1), 1, 16))
    for step in (0.125, 0.0625):
        around = [(0.0, 0.0), (0.0, step), (0.0, -step), (step, 0.0), (-step, 0.0)]
        for a, b in [(at[0] + i, at[1] + j) for i, j in around]:
            point = (round(a, 9), round(b, 9))
            if min(a, b) < 0 or a + b > 1 or point in tried or len(tried) >= most:
                continue
            tried.add(point)
            weights = (a, 0.0, b, 1 - a - b)
            value = _bound(resources, counts, tables, hits, weights, float(n_cores))
            if value > best:
                best, at = value, point
            if int(np.ceil(best - 1e-6)) >= n_cores:
                return n_cores
    return max(1, int(np.ceil(best - 1e-6)))


def _table(resources: Resources, name: str, counts: Candidates) -> _Table:
    from pmsm_hw.mapping.bound_kernels import cell_tables

    count_cells: Any = cell_tables
    wires = _wires(resources, name)
    shape = chw(resources.network[name].shape)
    axes = []
    for axis in (0, 1):
        choices = counts.choices[1 + axis].tolist()
        axes.append(
            _Axis(
                edges=np.concatenate([edges_of(shape[1 + axis], cuts) for cuts in choices]),
                kinds=np.concatenate(counts.classes[axis].kind),
                start=np.cumsum([0, *choices], dtype=np.int64),
            )
        )
    n_taps = 1 + max(
        (max(w.form.weight.shape[2:]) for w in wires if isinstance(w.form, WindowForm)), default=1
    )
    by_axis: list[NDArray[np.int64]] = []
    for what in ("hit", "single"):
        for axis in (0, 1):
            kinds = counts.classes[axis].n.shape
            table = np.zeros((len(wires), *kinds), np.int64)
            for w, wire in enumerate(wires):
                if isinstance(wire.form, WindowForm):
                    table[w] = getattr(counts.taps[axis][wire.projection.name], what)
            by_axis.append(table)
    for axis in (0, 1):
        table = np.zeros((len(wires), *counts.classes[axis].n.shape, n_taps), np.int64)
        for w, wire in enumerate(wires):
            if isinstance(wire.form, WindowForm):
                rows = counts.taps[axis][wire.projection.name].rows
                table[w, :, :, : rows.shape[2]] = rows
        by_axis.append(table)
    shapes = np.array([shape_of(resources, w) for w in wires], np.int64).reshape(-1, 10)
    eachs = np.array([each_of(resources, w) for w in wires], np.float64).reshape(-1, 3)
    limits = resources.chip.limits
    rule = np.array(
        [
            limits.synapse_block_weights.value,
            limits.synapse_word_bits.value,
            limits.synapse_block_header_bits.value,
        ],
        np.int64,
    )
    y, x = counts.classes
    return _Table(
        axes=(axes[0], axes[1]),
        shapes=shapes,
        eachs=eachs,
        tables=count_cells(
            shape[0], y.size, y.n, x.size, x.n, *by_axis, shapes, eachs,
            _capacity(resources), rule, int(limits.index_bits.value),
        ),
    )  # fmt: skip


def _wires(resources: Resources, name: str) -> list[Wire]:
    """Wires into a population; those that miss some of its channels are left out."""
    return [w for w in resources.into(name) if w.channels == (0, resources.n_channels(w))]


def _capacity(resources: Resources) -> Floats:
    limits = resources.chip.limits
    return np.array(
        [
            limits.neurons.value,
            limits.input_axons.value,
            limits.output_axons.value,
            limits.synapse_memory_bits.value,
        ],
        np.float64,
    )


@dataclass
class _Label:
    """Part of a cut: the populations decided so far."""

    cost: float
    entries: dict[str, Floats]


def _bound(
    resources: Resources,
    counts: MappingType[str, Candidates],
    tables: MappingType[str, _Table],
    hits: dict[tuple[str, int], tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    weights: tuple[float, float, float, float],
    at_most: float,
) -> float:
    undecided = [p.name for p in resources.placed]
    # what each population costs at least, were its entries none
    alone = {
        name: float(
            _grid_costs(resources, counts[name], tables[name], name, None, weights)[0].min()
        )
        for name in undecided
    }
    labels = [_Label(0.0, {})]
    while undecided:
        name = undecided.pop()
        height, width = chw(resources.network[name].shape)[1:]
        nothing = np.zeros((height, width))
        entries = np.stack([label.entries.pop(name, nothing) for label in labels])
        costs, sent = _grid_costs(
            resources, counts[name], tables[name], name, entries, weights
        )  # fmt: skip
        costs += np.array([label.cost for label in labels])[:, None, None]
        spent = np.array([sum(float(e.sum()) for e in label.entries.values()) for label in labels])
        sent = sent + spent[:, None, None] / _capacity(resources)[2]
        # the rest is known to cost so much that no cut that matters costs more
        matters = costs <= at_most - sum(alone[n] for n in undecided) + 1e-6
        if not matters.any():
            return at_most if np.isfinite(costs).any() else 0.0
        which = np.argwhere(matters)
        kept = [
            _merged([
                _extended(
                    resources, tables[name], name, labels[m].entries, entries[m], (j, k),
                    float(costs[m, j, k]), set(undecided), hits,
                )
                for m, j, k in which[group].tolist()
            ])
            for group in _groups(costs[matters], sent[matters])
        ]  # fmt: skip
        labels = [
            one for i, one in enumerate(kept)
            if not any(_dominates(other, one) for other in kept[:i])
        ]  # fmt: skip
    return min(at_most, *(label.cost for label in labels))


def _groups(costs: Floats, sent: Floats) -> list[NDArray[np.int64]]:
    """Grids by what they send: each that costs less than all that send less, and what follows."""
    order = np.lexsort((costs, sent))
    lowest = np.minimum.accumulate(costs[order])
    first = np.flatnonzero(np.append(True, lowest[1:] < lowest[:-1]))
    edges = np.unique(np.concatenate([first, first + 1]))
    if len(edges) > _LABELS:
        edges = edges[np.arange(_LABELS) * len(edges) // _LABELS]
    return [group for group in np.split(order, edges[1:]) if group.size]


def _grid_costs(
    resources: Resources,
    counts: Candidates,
    table: _Table,
    name: str,
    entries: Floats | None,
    weights: tuple[float, float, float, float],
) -> tuple[Floats, Floats]:
    """Costs of all grids of a population, and of their entries alone, for several labels."""
    from pmsm_hw.mapping.bound_kernels import grid_costs

    capacity = _capacity(resources)
    network = resources.network
    n_channels, height, width = chw(network[name].shape)
    out_cost = np.array(
        [
            weights[2] / capacity[2] * _channels(resources, i, table, w)
            if not isinstance(network[w.projection.source], Input)
            else 0.0
            for i, w in enumerate(_wires(resources, name))
        ],
        np.float64,
    )
    y, x = table.axes
    widest, memory, axons, sent, _ = table.tables
    costs, sending = grid_costs(
        np.zeros((1, height, width)) if entries is None else entries, n_channels, y.edges, y.kinds,
        y.start, x.edges, x.kinds, x.start, counts.classes[0].size, counts.classes[1].size, widest,
        memory, axons, sent, out_cost, table.shapes, np.array(weights), capacity,
    )  # fmt: skip
    return costs, sending


def _extended(
    resources: Resources,
    table: _Table,
    name: str,
    before: dict[str, Floats],
    entries: Floats,
    at: tuple[int, int],
    cost: float,
    undecided: set[str],
    hits: dict[tuple[str, int], tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> _Label:
    """Label of a population's grid, with the entries that it gives its sources."""
    found = dict(before)
    for i, wire in enumerate(_wires(resources, name)):
        if wire.projection.source in undecided:
            _add_entries(resources, table, i, wire, entries, at, found, hits)
    return _Label(cost, found)


def _merged(labels: Sequence[_Label]) -> _Label:
    """One label for many: the least cost, and the least entries of each pixel."""
    names = set.intersection(*(set(label.entries) for label in labels))
    least = {n: np.min([label.entries[n] for label in labels], axis=0) for n in sorted(names)}
    return _Label(min(label.cost for label in labels), least)


def _dominates(old: _Label, new: _Label) -> bool:
    """Whether a label costs no more, and no pixel has more entries."""
    return old.cost <= new.cost and all(
        name in new.entries and bool((entries <= new.entries[name] + 1e-9).all())
        for name, entries in old.entries.items()
    )


def _channels(resources: Resources, i: int, table: _Table, wire: Wire) -> float:
    """Source channels that an entry of each pixel stands for."""
    source = resources.network[wire.projection.source]
    if isinstance(wire.form, WindowForm):
        return float(table.shapes[i, 2])
    c, _, _ = chw(source.shape)
    return float(c if wire.axons == "pixel" else 1)


def _add_entries(
    resources: Resources,
    table: _Table,
    i: int,
    wire: Wire,
    entries: Floats,
    at: tuple[int, int],
    found: dict[str, Floats],
    hits: dict[tuple[str, int], tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> None:
    """Add what one wire of a grid gives its source's channels, to a copy."""
    from pmsm_hw.mapping.bound_kernels import entries_of

    source = wire.projection.source
    _, height, width = chw(resources.network[source].shape)
    dense = not isinstance(wire.form, WindowForm)
    both = []
    for axis, size in ((0, height), (1, width)):
        key = (wire.projection.name, axis)
        if key not in hits:
            hits[key] = _hits(resources, wire, axis, size, table.axes[axis])
        both.append(hits[key])
    out = found[source].copy() if source in found else np.zeros((height, width))
    y, x = table.axes
    entries_of(
        entries, resources.n_channels(wire), *at, y.edges, y.kinds, y.start, x.edges, x.kinds,
        x.start, table.tables[0], table.tables[4][i], both[0][0], both[1][0], both[0][1],
        both[1][1], dense,
        int(table.shapes[i, 1]), int(table.shapes[i, 6]), float(table.shapes[i, 9]),
        _capacity(resources)[2], out,
    )  # fmt: skip
    found[source] = out


def _hits(
    resources: Resources, wire: Wire, axis: int, size: int, parts: _Axis
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Source rows that meet each part, and those that do like no other one."""
    n = int(parts.start[-1])
    if not isinstance(wire.form, WindowForm):
        return np.zeros((1, size), bool), np.zeros((1, size), bool)
    meets, single = np.zeros((n, size), bool), np.zeros((n, size), bool)
    at = 0
    for cuts in np.diff(parts.start).tolist():
        for part in parts_of(wire.form.target[1 + axis], cuts):
            first, end = source_range(wire.form, axis, part)
            meets[at, first:end] = resources.signatures(wire, axis, part).any(axis=1)
            single[at, first:end] = resources.singles(wire, axis, part)
            at += 1
    return meets, single
