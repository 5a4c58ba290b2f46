"""Search for the cut of a whole network that takes the fewest cores.

The compiled search (`cut_kernels`) changes one population's cut at a time, counts the output axons
of its sources pixel by pixel, and fills cores with the blocks of every cut it looks at. What it
proposes is then made and counted exactly, zeros among weights included.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.partition.cut_kernels import Cut, Table
from pmsm_hw.mapping.partition.grids import Target, edges_of
from pmsm_hw.mapping.partition.tables import CHOICE, POPULATION, WEIGHTS, WIRE
from pmsm_hw.operators import WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.partition.candidates import Candidates
    from pmsm_hw.mapping.resources import Resources, Wire

__all__ = [
    "FEW",
    "MANY",
    "MIXED",
    "NEAR",
    "Plan",
    "Search",
    "States",
    "each_of",
    "plan_for",
    "shape_of",
]

States: TypeAlias = NDArray[Any]
"""``(n_populations,)`` of `tables.CHOICE`."""
_PARTS = ("row_parts", "column_parts")
Weights: TypeAlias = tuple[float, float]
"""Of output axons, by which messages are few, and of a block and source: of few large blocks
messages go less far, and they are mapped faster."""
FEWEST: Weights = (0.06, 2e-4)
MIXED: tuple[Weights, ...] = ((0.02, 2e-4), (0.02, 0.003))
NEAR: tuple[Weights, ...] = ((0.02, 0.02), (0.3, 0.003), (0.2, 0.01), (0.4, 0.003))
"""For few cores above all, with fewer blocks in turn, and for messages that are few and near."""
_LEAST_MOVES = (300, 1_200)
"""Changes that a search of the first and of the second round tries at least."""
_COLD = (0.0006, 0.0003)
"""Temperatures in the end, by round, as shares of a cut's cores."""


class Plan(NamedTuple):
    """How to search.

    Attributes
    ----------
    searches
        Numbers of searches, by round.
    moves
        Changes that each tries, by round, times the populations that matter;
    most_moves
        at most so many.
    hot
        Temperatures that they start with in turn, by round, as shares of a cut's cores.
    power, evenly
        Populations are changed as often as the power of their share says; share of changes that
        fall on all alike, as a factor to that.
    weights
        Of the searches, in turn.
    n_made
        How many of the cuts found are made.
    """

    searches: tuple[int, int] = (8, 2)
    moves: tuple[int, int] = (17_500, 70_000)
    most_moves: tuple[int, int] = (1_250, 5_000)
    hot: tuple[tuple[float, ...], tuple[float, ...]] = ((0.012,), (0.006,))
    power: float = 0.5
    evenly: float = 1.0
    weights: tuple[Weights, ...] = ((0.06, 0.003),)
    n_made: int = 2


FEW, MANY, HUGE = 64, 8192, 16_384
"""Cores up to which, or (the last) from which on, networks are searched in another way."""


def plan_for(n_cores: int) -> Plan:
    """Plan for a network of about so many cores.

    Of few, one is a large part, and there is time; of many, counting takes long.
    """
    if n_cores <= FEW:
        return Plan(
            searches=(32, 8), moves=(35_000, 140_000), most_moves=(2_500, 10_000),
            weights=((0.02, 0.003),), n_made=8,
        )  # fmt: skip
    if n_cores <= MANY:
        return Plan()
    if n_cores <= HUGE:
        return Plan(weights=(FEWEST,))
    return Plan(
        searches=(6, 2), moves=(10_500, 32_000), hot=((0.05, 0.012), (0.006, 0.025)), power=1.0,
        evenly=0.2, weights=(FEWEST,),
    )  # fmt: skip


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
        index = {name: i for i, name in enumerate(self.names)}
        wires = [w for name in self.names for w in resources.into(name)]
        size = np.zeros(len(self.names), POPULATION)
        n_kinds, kind_start = (np.zeros((len(self.names), 2), np.int64) for _ in range(2))
        fit: list[NDArray[np.int64]] = []
        axes = (_Axes(), _Axes())
        for p, name in enumerate(self.names):
            found = counts[name]
            shape = chw(resources.network[name].shape)
            row = size[p]
            row["channels"], row["height"], row["width"] = shape
            row["compartments"] = resources.compartments(name)
            for axis in (0, 1):
                row[_PARTS[axis]] = len(axes[axis].start)
                row[("row_choices", "column_choices")[axis]] = len(found.choices[1 + axis])
                n_kinds[p, axis] = found.classes[axis].size.shape[1]
                kind_start[p, axis] = axes[axis].add(shape[1 + axis], found, axis)
            # blocks of each kind of cell that are as few as fit, and equal; output axons aside
            widths = np.append(-(-shape[0] // found.choices[0]), 0)[found.cell_parts]
            fit.append(widths.reshape(-1))
        n_cells = size["height"] * size["width"]
        size["first_cell"] = np.cumsum(n_cells) - n_cells
        size["first_fit"] = np.cumsum([0, *map(len, fit)])[:-1]
        n_taps = 1 + max(
            (max(w.form.weight.shape[2:]) for w in wires if isinstance(w.form, WindowForm)),
            default=1,
        )
        meets = (_Meets(n_taps), _Meets(n_taps))
        wire_kind, wire_part = (np.zeros((len(wires), 2), np.int64) for _ in range(2))
        out: list[list[int]] = [[] for _ in self.names]
        source = np.full(len(wires), -1, np.int64)
        for w, wire in enumerate(wires):
            target = wire.projection.target
            at = index.get(wire.projection.source, -1)
            if 0 <= at < index[target]:  # entries of recurrent ones are left to the exact count
                source[w] = at
                out[at].append(w)
            for axis in (0, 1):
                wire_kind[w, axis], wire_part[w, axis] = meets[axis].add(
                    resources, wire, axis, counts[target]
                )
                wire_part[w, axis] -= axes[axis].start[size[_PARTS[axis]][index[target]]]
        pixels = np.where(source >= 0, n_cells[source], 0)
        limits = resources.chip.limits
        self._table = Table(
            population=size,
            fit=_joined(fit),
            widest=np.zeros(sum(map(len, fit)), np.int64),
            part_start=tuple(np.array(a.start, np.int64) for a in axes),
            part_first=tuple(_joined(a.first) for a in axes),
            part_end=tuple(_joined(a.end) for a in axes),
            part_kind=tuple(_joined(a.kind) for a in axes),
            n_kinds=n_kinds,
            kind_start=kind_start,
            kind_size=tuple(_joined(a.size) for a in axes),
            out_start=np.cumsum([0, *map(len, out)], dtype=np.int64),
            out_wire=np.array([w for some in out for w in some], np.int64),
            wire_start=np.cumsum(
                [0, *(len(resources.into(name)) for name in self.names)], dtype=np.int64
            ),
            wire_source=source,
            wire_target=np.array([index[w.projection.target] for w in wires], np.int64),
            wire=np.array([shape_of(resources, w) for w in wires], WIRE),
            weights=np.array([each_of(resources, w) for w in wires], WEIGHTS),
            pixel_start=np.cumsum(pixels) - pixels,
            wire_kind=wire_kind,
            hit=tuple(_joined(m.hit) for m in meets),
            single=tuple(_joined(m.single) for m in meets),
            taps=tuple(np.concatenate([np.zeros((0, n_taps), np.int64), *m.taps]) for m in meets),
            wire_part=wire_part,
            low=tuple(_joined(m.low) for m in meets),
            high=tuple(_joined(m.high) for m in meets),
            how_start=tuple(_joined(m.how_start) for m in meets),
            how=tuple(np.concatenate([np.zeros(0, np.int8), *m.how]) for m in meets),
            capacity=np.array(
                [
                    limits.neurons.value,
                    limits.input_axons.value,
                    limits.output_axons.value,
                    limits.synapse_memory_bits.value,
                ],
                np.float64,
            ),
            rule=np.array(
                [
                    limits.synapse_block_weights.value,
                    limits.synapse_word_bits.value,
                    limits.synapse_block_header_bits.value,
                ],
                np.int64,
            ),
            index_bits=int(limits.index_bits.value),
        )

    def state(self, cut: MappingType[str, Target]) -> States:
        """State of a cut: by population, what is wanted (`grids.Target`)."""
        return np.array(
            [
                (
                    np.searchsorted(self.counts[name].choices[1], rows),
                    np.searchsorted(self.counts[name].choices[2], columns),
                    width,
                    equal,
                )
                for name, (rows, columns, width, equal) in (
                    (name, cut[name]) for name in self.names
                )
            ],
            CHOICE,
        )

    def cut(self, state: States) -> dict[str, Target]:
        """What is wanted of each population (`grids.Target`)."""
        return {
            name: Target(
                int(self.counts[name].choices[1][j]),
                int(self.counts[name].choices[2][k]),
                w,
                bool(equal),
            )
            for name, (j, k, w, equal) in zip(self.names, state.tolist(), strict=True)
        }

    def value(self, state: States, weights: Weights = (0.0, 0.0)) -> tuple[int, float]:
        """Cores, and a finer measure of them, output axons and blocks weighing as they say."""
        value, cores, _ = self._cut(state, weights)
        return cores, value

    def _cut(self, state: States, weights: Weights) -> tuple[float, int, Cut]:
        """Measure of a state, cores that it takes, and its blocks: a search without moves."""
        from pmsm_hw.mapping.partition.cut_kernels import anneal_cuts

        n = len(self.names)
        _, value, cores, cut = anneal_cuts(
            state, self._table, np.zeros(n + 1, np.int64), np.zeros(0, CHOICE), np.zeros(n),
            0, 1.0, 1.0, *weights, 0, 0,
        )  # fmt: skip
        return float(value), int(cores), cut

    def improve(
        self,
        starts: Sequence[States],
        options: MappingType[str, Sequence[tuple[int, ...]]],
        plan: Plan,
        *,
        longer: int = 1,
        enough: int = 0,
        seed: int = 0,
    ) -> list[States]:
        """Better states, the best first, by annealing searches in two rounds, two at a time.

        Parameters
        ----------
        starts
            States, the best first; searches of the first round start from them in turn.
        options
            Entries of states to try, by population.
        plan
            How to search; searches of the second round start from the best of the first. The result
            does not depend on how many run at the same time.
        longer
            Factor to the changes that each search tries, which starts hotter then.
        enough
            Cores with which a search ends.
        seed
            The same seed gives the same result.
        """
        from pmsm_hw.mapping.partition.cut_kernels import anneal_cuts

        short = [options[name] for name in self.names]
        short_start = np.cumsum([0, *map(len, short)], dtype=np.int64)
        flat = np.array([o for each in short for o in each], CHOICE)

        # large populations are changed more often than small ones
        cut = self._cut(starts[0], (0.0, 0.0))[2]
        shares = (cut.needs.max(axis=2) * cut.counts).sum(axis=1) ** plan.power
        often = shares / max(shares.sum(), 1e-9) + plan.evenly / max(len(shares), 1)
        n_matter = often.sum() ** 2 / max((often**2).sum(), 1e-9)
        often = np.cumsum(often / max(often.sum(), 1e-9))

        def run(
            start: States, moves: int, hot: float, cold: float, i: int
        ) -> tuple[float, int, States]:
            state, *_ = anneal_cuts(
                start, self._table, short_start, flat, often, moves, hot, cold,
                *plan.weights[i % len(plan.weights)], enough, seed + i,
            )  # fmt: skip
            return self.value(state)[1], i, np.asarray(state)

        found = list(starts)
        every: list[tuple[float, int, States]] = []
        with ThreadPoolExecutor(2) as pool:
            for n, some, least, most, hot, cold in zip(
                plan.searches,
                plan.moves,
                _LEAST_MOVES,
                plan.most_moves,
                plan.hot,
                _COLD,
                strict=True,
            ):
                moves = longer * int(np.clip(some / max(n_matter, 1.0), least, most))
                jobs = [
                    pool.submit(
                        run,
                        found[i % len(found)],
                        moves,
                        hot[i % len(hot)] * longer ** (1 / 3),
                        cold,
                        i,
                    )
                    for i in range(n)
                ]
                ranked = sorted((job.result() for job in jobs), key=lambda one: one[:2])
                found = [state for _, _, state in ranked]
                every += ranked
        return [state for _, _, state in sorted(every, key=lambda one: one[:2])]


class _Axes:
    """Parts along one axis of all populations, for each number of cuts, one after the other."""

    def __init__(self) -> None:
        self.start: list[int] = []
        self.first: list[NDArray[np.int64]] = []
        self.end: list[NDArray[np.int64]] = []
        self.kind: list[NDArray[np.int64]] = []
        self.size: list[NDArray[np.int64]] = []
        self._n_parts = self._n_kinds = 0

    def add(self, n: int, counts: Candidates, axis: int) -> int:
        """Append a population's; where its kinds start."""
        for cuts in counts.choices[1 + axis].tolist():
            edges = edges_of(n, cuts)
            self.first.append(edges[:-1])
            self.end.append(edges[1:])
            self.start.append(self._n_parts)
            self._n_parts += cuts
        self.start.append(self._n_parts)
        self.kind += counts.classes[axis].kind
        self.size.append(counts.classes[axis].size.reshape(-1))
        self._n_kinds += len(self.size[-1])
        return self._n_kinds - len(self.size[-1])


class _Meets:
    """What the parts along one axis meet of each wire's source, one wire after the other."""

    def __init__(self, n_taps: int) -> None:
        self.hit: list[NDArray[np.int64]] = []
        self.single: list[NDArray[np.int64]] = []
        self.taps: list[NDArray[np.int64]] = []
        self.low: list[NDArray[np.int64]] = []
        self.high: list[NDArray[np.int64]] = []
        self.how_start: list[NDArray[np.int64]] = []
        self.how: list[NDArray[np.int8]] = []
        self._n_taps = n_taps
        self._n_kinds = self._n_parts = self._n_rows = 0
        self._known: dict[tuple[object, ...], tuple[NDArray[Any], ...]] = {}

    def add(
        self, resources: Resources, wire: Wire, axis: int, counts: Candidates
    ) -> tuple[int, int]:
        """Append a wire's; where its kinds and its parts start."""
        from pmsm_hw.mapping.partition.cut_kernels import part_ranges

        form = wire.form
        if not isinstance(form, WindowForm):
            return 0, 0
        table = counts.taps[axis][wire.projection.name]
        self.hit.append(table.hit.reshape(-1))
        self.single.append(table.single.reshape(-1))
        taps = table.rows.reshape(-1, table.rows.shape[2])
        self.taps.append(np.pad(taps, ((0, 0), (0, self._n_taps - taps.shape[1]))))
        self._n_kinds += len(taps)
        n, n_source = form.target[1 + axis], form.source[1 + axis]
        window = (
            form.weight.shape[2 + axis], form.stride[axis], form.padding[axis][0],
            form.dilation[axis], n_source,
        )  # fmt: skip
        key = (n, *window)
        if key not in self._known:
            edges = [edges_of(n, cuts) for cuts in counts.choices[1 + axis].tolist()]
            self._known[key] = part_ranges(
                _joined([e[:-1] for e in edges]), _joined([e[1:] for e in edges]), *window
            )
        low, high, start, how = self._known[key]
        self.low.append(low)
        self.high.append(high)
        self.how_start.append(start + self._n_rows)
        self.how.append(how)
        self._n_parts += len(low)
        self._n_rows += len(how)
        return self._n_kinds - len(taps), self._n_parts - len(low)


def _joined(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def shape_of(resources: Resources, wire: Wire) -> tuple[int, ...]:
    """A row of `tables.WIRE`."""
    source = resources.network[wire.projection.source]
    c = chw(source.shape)[0]
    pixel = wire.axons == "pixel"
    form = wire.form
    if not isinstance(form, WindowForm):
        return (
            1, 1, wire.n_live, 0, 0, wire.n_live_units, wire.n_signs, pixel,
            wire.has_plain, wire.entries, source.n_neurons,
        )  # fmt: skip
    groups = form.groups
    return (
        0, groups, c, c // groups, form.target[0] // groups, 0, wire.n_signs, pixel,
        wire.has_plain, wire.entries, 0,
    )  # fmt: skip


def each_of(resources: Resources, wire: Wire) -> tuple[float, float, float]:
    """A row of `tables.WEIGHTS`."""
    weight = wire.form.weight
    if wire.is_full:
        return max(wire.widths, default=0) + wire.delay_bits, 1.0, 1.0
    reaching = (wire.channels[1] - wire.channels[0]) / resources.n_channels(wire)
    size = weight.size if isinstance(wire.form, WindowForm) else len(weight) * wire.n_live
    density = float(np.count_nonzero(weight)) / max(size * reaching, 1.0)
    return max(wire.widths, default=0) + wire.delay_bits, density, reaching
