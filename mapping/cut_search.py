"""Search for the cut of a whole network that takes the fewest cores.

The compiled search (`cut_kernels`) changes one population's cut at a time, and fills cores with the
blocks of every cut it looks at. It counts three kinds of parts along each axis: the first, the
last, and those in between as if all were alike. What it proposes is then made and counted exactly.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.grids import edges_of
from pmsm_hw.operators import WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.resources import Resources, Wire
    from pmsm_hw.mapping.tiling import Candidates

__all__ = ["Search", "each_of", "shape_of"]

_MOVES = 3000
"""Changes that a search tries,"""
_MOVES_OF_ALL = 120_000
"""times the number of populations, each of which a change looks at: at most so many."""


class Search:
    """Compiled search for cuts.

    Parameters
    ----------
    resources, counts
        Of the network and the chip; all cuts of its populations.
    """

    def __init__(self, resources: Resources, counts: MappingType[str, Candidates]) -> None:
        self.names = [p.name for p in resources.placed]
        self.counts = counts
        limits = resources.chip.limits
        index = {name: i for i, name in enumerate(self.names)}
        self.channels = np.array(
            [chw(resources.network[name].shape)[0] for name in self.names], np.int64
        )
        axis_start = np.zeros((len(self.names), 3), np.int64)
        many: list[NDArray[np.int64]] = []
        size: list[NDArray[np.float64]] = []
        whole_size: list[NDArray[np.int64]] = []
        fit_start: list[int] = []
        fit: list[NDArray[np.int64]] = []
        n_axis = n_fit = 0
        kinds: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        for p, name in enumerate(self.names):
            found = counts[name]
            shape = chw(resources.network[name].shape)
            both = []
            for axis in (0, 1):
                axis_start[p, axis] = n_axis
                number, mean, largest, kind = _parts(
                    shape[1 + axis], found.choices[1 + axis], found.classes[axis].kind
                )
                many.append(number)
                size.append(mean)
                whole_size.append(largest)
                both.append(kind)
                n_axis += len(number)
            axis_start[p, 2] = n_axis
            kinds[name] = (both[0], both[1])
            # widest blocks of each kind of cell, output axons aside
            rows, columns = both
            at = found.cell_parts[
                np.arange(len(rows))[:, None, None, None], rows[:, None, :, None],
                np.arange(len(columns))[None, :, None, None], columns[None, :, None, :],
            ]  # fmt: skip
            widths = np.append(-(-shape[0] // found.choices[0]), 0)[at]
            fit_start.append(n_fit)
            fit.append(widths.reshape(-1, 3, 3))
            n_fit += len(fit[-1])
        wires = [w for name in self.names for w in resources.into(name)]
        n_taps = 1 + max(
            (max(w.form.weight.shape[2:]) for w in wires if isinstance(w.form, WindowForm)),
            default=1,
        )
        wire_axis = np.zeros((len(wires), 2), np.int64)
        hit: list[NDArray[np.int64]] = []
        single: list[NDArray[np.int64]] = []
        taps: list[NDArray[np.int64]] = []
        n_hit = 0
        reach_start = np.zeros((len(wires), 2), np.int64)
        reach: list[NDArray[np.float64]] = []
        n_reach = 0
        out: list[list[int]] = [[] for _ in self.names]
        tables: dict[tuple[object, ...], NDArray[np.float64]] = {}
        for w, wire in enumerate(wires):
            target = wire.projection.target
            found = counts[target]
            source = index.get(wire.projection.source)
            if source is not None and source <= index[target]:
                out[source].append(w)
            for axis in (0, 1):
                kind = kinds[target][axis]
                wire_axis[w, axis] = n_hit
                n_hit += len(kind)
                if isinstance(wire.form, WindowForm):
                    table = found.taps[axis][wire.projection.name]
                    rows_of = np.arange(len(kind))[:, None]
                    hit.append(table.hit[rows_of, kind])
                    single.append(table.single[rows_of, kind])
                    some = table.rows[rows_of, kind]
                    taps.append(np.pad(some, ((0, 0), (0, 0), (0, n_taps - some.shape[2]))))
                else:
                    hit.append(np.zeros((len(kind), 3), np.int64))
                    single.append(hit[-1])
                    taps.append(np.zeros((len(kind), 3, n_taps), np.int64))
                if source is not None:
                    reach_start[w, axis] = n_reach
                    table_of = _reach_table(
                        wire, axis, chw(resources.network[wire.projection.source].shape)[1 + axis],
                        chw(resources.network[target].shape)[1 + axis],
                        counts[self.names[source]].choices[1 + axis], found.choices[1 + axis],
                        tables,
                    )  # fmt: skip
                    reach.append(table_of)
                    n_reach += len(table_of)
        self._table: tuple[Any, ...] = (
            self.channels,
            axis_start,
            _stacked(many, (3,), np.int64),
            _stacked(size, (3,), np.float64),
            _stacked(whole_size, (3,), np.int64),
            np.array(fit_start, np.int64),
            _stacked(fit, (3, 3), np.int64),
            np.cumsum([0, *(len(resources.into(n)) for n in self.names)], dtype=np.int64),
            wire_axis,
            _stacked(hit, (3,), np.int64),
            _stacked(single, (3,), np.int64),
            _stacked(taps, (3, n_taps), np.int64),
            np.array([shape_of(resources, w) for w in wires], np.int64).reshape(-1, 10),
            np.array([each_of(resources, w) for w in wires], np.float64).reshape(-1, 3),
            np.cumsum([0, *map(len, out)], dtype=np.int64),
            np.array([w for some in out for w in some], np.int64),
            np.array([index[w.projection.target] for w in wires], np.int64),
            reach_start,
            _stacked(reach, (3, 3), np.float64),
            np.array(
                [
                    limits.neurons.value,
                    limits.input_axons.value,
                    limits.output_axons.value,
                    limits.synapse_memory_bits.value,
                ],
                np.float64,
            ),
            np.array(
                [
                    limits.synapse_block_weights.value,
                    limits.synapse_word_bits.value,
                    limits.synapse_block_header_bits.value,
                ],
                np.int64,
            ),
            int(limits.index_bits.value),
        )

    def state(self, cut: MappingType[str, tuple[int, int, int]]) -> NDArray[np.int64]:
        """State of a cut: by population, numbers of rows and columns, channels of a block."""
        return np.array(
            [
                (
                    np.searchsorted(self.counts[name].choices[1], rows),
                    np.searchsorted(self.counts[name].choices[2], columns),
                    width,
                )
                for name, (rows, columns, width) in ((name, cut[name]) for name in self.names)
            ],
            np.int64,
        ).reshape(-1, 3)

    def cut(self, state: NDArray[np.int64]) -> dict[str, tuple[int, int, int]]:
        """Numbers of rows and columns, and channels of a block, by population."""
        return {
            name: (int(self.counts[name].choices[1][j]), int(self.counts[name].choices[2][k]), w)
            for name, (j, k, w) in zip(self.names, state.tolist(), strict=True)
        }

    def value(self, state: NDArray[np.int64]) -> tuple[int, float, int]:
        """Cores, a finer measure of them, and kinds of blocks."""
        from pmsm_hw.mapping.cut_kernels import cores_of_cut

        n = len(self.names) * 18 + 1
        cores, value, kinds = cores_of_cut(
            state,
            self._table,
            np.zeros((len(self.names), 3, 3)),
            np.zeros((len(self._table[12]), 3, 3)),
            np.empty((n, 4)),
            np.empty(n, np.int64),
            np.zeros((n, 0), bool),
            np.zeros((0, 3), np.int64),
        )
        return int(cores), float(value), int(kinds)

    def improve(
        self,
        starts: Sequence[NDArray[np.int64]],
        options: MappingType[str, Sequence[tuple[int, int, int]]],
        n_searches: int,
        effort: float = 1.0,
    ) -> list[NDArray[np.int64]]:
        """Better states, the best first, by several annealing searches, two at a time.

        Parameters
        ----------
        starts
            States; searches start from them in turn.
        options
            Entries of states to try, by population.
        n_searches
            How many. The result does not depend on how many run at the same time.
        effort
            Changes that each search tries, in multiples of the usual number.
        """
        from pmsm_hw.mapping.cut_kernels import anneal_cuts

        short = [options[name] for name in self.names]
        short_start = np.cumsum([0, *map(len, short)], dtype=np.int64)
        flat = np.array([o for each in short for o in each], np.int64).reshape(-1, 3)

        moves = int(min(_MOVES, _MOVES_OF_ALL / max(len(self.names), 1)) * effort)

        def run(i: int) -> tuple[float, int, NDArray[np.int64]]:
            best, value = anneal_cuts(
                starts[i % len(starts)], self._table, short_start, flat, moves,
                0.004, 1e-4, i,
            )  # fmt: skip
            return float(value), i, np.asarray(best)

        with ThreadPoolExecutor(2) as pool:
            found = sorted(pool.map(run, range(n_searches)), key=lambda one: one[:2])
        return [state for _, _, state in found]


def _stacked(arrays: Sequence[NDArray[Any]], tail: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.zeros((0, *tail), dtype), *arrays]).astype(dtype)


def _parts(
    n: int, choices: NDArray[np.int64], kinds: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """First part, those in between, and the last, for each number of cuts.

    Returns
    -------
    tuple
        How many, mean and largest size, and kind of the largest, each ``(len(choices), 3)``.
    """
    shape = (len(choices), 3)
    many, largest, kind = (np.zeros(shape, np.int64) for _ in range(3))
    mean = np.ones(shape)
    for i, cuts in enumerate(choices.tolist()):
        sizes = np.diff(edges_of(n, cuts))
        for slot, part in enumerate(_slots(cuts)):
            if part.start < part.stop:
                some = sizes[part]
                at = part.start + int(some.argmax())
                many[i, slot], mean[i, slot] = len(some), some.mean()
                largest[i, slot], kind[i, slot] = sizes[at], kinds[i][at]
    return many, mean, largest, kind


def _slots(cuts: int) -> tuple[slice, slice, slice]:
    return slice(0, 1), slice(1, max(cuts - 1, 1)), slice(max(cuts - 1, 1), cuts)


def shape_of(resources: Resources, wire: Wire) -> tuple[int, ...]:
    """Dense? Groups, source channels, those of a group in and out, axons, signs, plain axons."""
    source = resources.network[wire.projection.source]
    c, h, w = chw(source.shape)
    pixel = wire.axons == "pixel"
    form = wire.form
    if not isinstance(form, WindowForm):
        units = h * w if pixel else source.n_neurons
        return (
            1, 1, source.n_neurons, 0, 0, units, wire.n_signs, pixel,
            wire.has_plain, wire.entries,
        )  # fmt: skip
    groups = form.groups
    return (
        0, groups, c, c // groups, form.target[0] // groups, 0, wire.n_signs, pixel,
        wire.has_plain, wire.entries,
    )  # fmt: skip


def each_of(resources: Resources, wire: Wire) -> tuple[float, float, float]:
    """Bits of a weight, share of weights other than zero, and of the channels that it reaches."""
    weight = wire.form.weight
    if wire.is_full:
        return max(wire.widths, default=0) + wire.delay_bits, 1.0, 1.0
    reaching = (wire.channels[1] - wire.channels[0]) / resources.n_channels(wire)
    density = float(np.count_nonzero(weight)) / max(weight.size * reaching, 1.0)
    return max(wire.widths, default=0) + wire.delay_bits, density, reaching


def _reach_table(
    wire: Wire,
    axis: int,
    n_source: int,
    n_target: int,
    source_choices: NDArray[np.int64],
    target_choices: NDArray[np.int64],
    known: dict[tuple[object, ...], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Source rows that each kind of part of the target reaches, by kind of part of the source.

    Returns
    -------
    ndarray
        ``(source cuts * target cuts, 3, 3)``: mean over parts of the source's kind of the sum over
        parts of the target's kind.
    """
    form = wire.form
    key: tuple[object, ...] = (n_source, n_target)
    if isinstance(form, WindowForm):
        kernel = form.weight.shape[2 + axis]
        key += (kernel, form.stride[axis], form.padding[axis][0], form.dilation[axis])
    if key in known:
        return known[key]
    hits = np.ones((n_target, n_source), bool)
    if isinstance(form, WindowForm):
        hits[:] = False
        at = np.arange(n_target)[:, None] * form.stride[axis] - form.padding[axis][0]
        at = at + np.arange(kernel) * form.dilation[axis]
        inside = (at >= 0) & (at < n_source)
        rows = np.broadcast_to(np.arange(n_target)[:, None], at.shape)
        hits[rows[inside], at[inside]] = True
    table = np.zeros((len(source_choices), len(target_choices), 3, 3))
    for t, cuts in enumerate(target_choices.tolist()):
        reached = np.logical_or.reduceat(hits, edges_of(n_target, cuts)[:-1], axis=0)
        by_class = np.stack([reached[part].sum(axis=0) for part in _slots(cuts)], axis=1)
        for s, parts in enumerate(source_choices.tolist()):
            sums = np.add.reduceat(by_class, edges_of(n_source, parts)[:-1], axis=0)
            for slot, part in enumerate(_slots(parts)):
                if part.start < part.stop:
                    table[s, t, slot] = sums[part].mean(axis=0)
    known[key] = table.reshape(-1, 3, 3)
    return known[key]
