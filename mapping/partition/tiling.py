"""Cutting populations into blocks that fit a core, under every limit at once.

Cuts are chosen backwards, from the readouts on, when the output axons of a population are known
exactly; recurrent ones are cut again until they agree. Several cuts are made that differ in what
they weigh most, a search improves on them, and the best one is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError
from pmsm_hw.mapping.partition.bounding import Backwards
from pmsm_hw.mapping.partition.building import best_grid, build_runs
from pmsm_hw.mapping.partition.candidates import all_candidates
from pmsm_hw.mapping.partition.costs import Costs, Steps, scarcity, shares_of
from pmsm_hw.mapping.partition.cut_search import (
    FEW,
    MANY,
    MIXED,
    NEAR,
    Plan,
    Search,
    States,
    plan_for,
)
from pmsm_hw.mapping.partition.entries import Entries, grid_entries
from pmsm_hw.mapping.partition.excess import fan_out_excess
from pmsm_hw.mapping.partition.grids import Grid, Target, grid_blocks
from pmsm_hw.mapping.partition.packing import count_cores
from pmsm_hw.mapping.partition.tables import CHOICE
from pmsm_hw.mapping.settings import Settings
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block, Objective
    from pmsm_hw.mapping.partition.candidates import Candidates
    from pmsm_hw.mapping.resources import Resources

__all__ = ["Bound", "Cut", "cut_network", "cut_once", "cut_within"]

_FEWEST = Settings(objective="cores")
_MAX_ROUNDS = 12
_MOST_SEARCHED = 2048
"""Networks of more populations are not searched: it would change few of them."""
_WIDE, _LONGER = 1.135, 8
"""Cuts of up to `MANY` cores, so many times the bound, are searched again, and longer."""
_FEW_BLOCKS = (0.02, 0.1)
"""Weights (`cut_search.Weights`) by which cuts are tried for short ways."""
_NEAR = 1.1
"""Cuts that take more cores than the best one, by this factor, are out of the question."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Fewest cores that any such cut can do with.

    Parameters
    ----------
    cores
        The bound (`bounding.Backwards`).
    weights
        Of neurons, synapse memory and output axons: how scarce they are.
    """

    cores: int
    weights: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A whole network, cut.

    Parameters
    ----------
    blocks
        By population, in topological order; none has a core yet.
    entries
        By population, output-axon entries of each neuron if every block had its own core.
    bound
        Fewest cores that any cut can do with.
    frugal
        The cut with fewest deliveries among those that took at most a tenth more cores; ``None``:
        this one, or nobody asked.
    others
        Makes other cuts, given how many cores they may take, those with few large blocks first;
        ``None``: there was no time to search.
    """

    blocks: dict[str, list[Block]]
    entries: dict[str, NDArray[np.int64]]
    bound: Bound
    frugal: Cut | None = None
    others: Callable[[int], Iterator[Cut]] | None = None


def cut_network(
    resources: Resources,
    settings: Settings = _FEWEST,
) -> Cut:
    """Cut every population but inputs.

    Several cuts are made that differ in what they weigh most, and searched for from them; the best
    one is taken. Networks of more than 2,048 populations are not searched.

    Parameters
    ----------
    resources
        Of the network and the chip.
    settings
        The cut with fewest cores is taken; for other objectives than ``"cores"``, `Cut.frugal` is
        made too.

    Raises
    ------
    CapacityError
        If a single neuron of a population exceeds a limit of a core.
    """
    cutting = _Cutting(resources, settings)
    cutting.take_first()
    if cutting.may_fit_one_core():
        fewest = min(map(cutting.counted, cutting.cuts), key=_cores_and_sent)
        if fewest.n_cores == 1:  # there is nothing to search for
            return _cut_of(resources, fewest, Bound(cores=1, weights=cutting.scarce))
    if len(cutting.counts) <= _MOST_SEARCHED:
        return cutting.searched()
    ranked = [cutting.counted(grids) for grids in cutting.cuts]
    most = min(ranked, key=_cores_and_sent).n_cores
    settings.say("bounding the cores from below")
    least = Backwards(resources, cutting.counts).least_cores(most, settings.deadline)
    bound = Bound(cores=least, weights=cutting.scarce)
    return _best_of(resources, ranked, bound, settings.objective)


class _Cutting:
    """Cuts of a network that were made so far.

    Parameters
    ----------
    resources, settings
        As for `cut_network`.
    """

    def __init__(self, resources: Resources, settings: Settings) -> None:
        self.resources, self.settings = resources, settings
        self.counts = all_candidates(resources, settings.progress)
        self.steps = Steps(resources, self.counts)
        self.scarce = scarcity(self.steps)
        self.entries = Entries(resources)
        self.cuts: list[dict[str, Grid]] = []
        self.failure: CapacityError | None = None

    def take(
        self, weights: Sequence[float], targets: MappingType[str, Target] | None = None
    ) -> None:
        """Make a cut, unless it was made before or time is up."""
        if self.cuts and self.settings.is_late:
            return
        self.settings.say("cutting" if targets is None else "cutting, improved")
        try:
            grids = cut_once(self.resources, self.steps, self.entries, weights, targets)
        except CapacityError as error:
            self.failure = error
        else:
            if grids not in self.cuts:
                self.cuts.append(grids)

    def take_first(self) -> None:
        """Make cuts that weigh blocks, what is scarce, and all alike."""
        for weights in ((0.1, 0.2, 0.2, 0.6), (0.02, *self.scarce), (1.0, 0.0, 0.0, 0.0)):
            self.take(weights)
        if not self.cuts:
            assert self.failure is not None
            raise self.failure

    def may_fit_one_core(self) -> bool:
        """Whether all neurons together are no more than a core's."""
        n_compartments = sum(found.n_compartments for found in self.counts.values())
        return n_compartments <= int(self.resources.chip.limits.neurons.value)

    def counted(self, grids: MappingType[str, Grid]) -> _Counted:
        """A cut, counted exactly."""
        found = {p.name: self.entries.of(p.name, grids) for p in self.resources.placed}
        sent = sum(int(e.sum()) for e in found.values())
        return _Counted(count_cores(self.resources, grids, found), sent, grids, found)

    def searched(self) -> Cut:
        """The best cut that a search from those made finds in time."""
        resources, settings, counts = self.resources, self.settings, self.counts
        search, backwards = Search(resources, counts), Backwards(resources, counts)

        def state_of(grids: MappingType[str, Grid]) -> States:
            return search.state({name: _target_of(grid) for name, grid in grids.items()})

        found = _Found([], Plan(), {}, 0)
        starts = [state_of(grids) for grids in self.cuts]
        starts.sort(key=lambda state: search.value(state)[1])
        if not settings.is_late:
            found = self._search(search, backwards, starts)
            for state in found.states[: found.plan.n_made]:
                self.take((0.02, *self.scarce), search.cut(state))
        estimates = [search.value(state_of(grids))[0] for grids in self.cuts]
        ranked = [
            self.counted(grids)
            for grids, n_cores in zip(self.cuts, estimates, strict=True)
            if n_cores <= _NEAR * min(estimates)
        ]
        best = min(ranked, key=_cores_and_sent)
        least = found.least or backwards.least_cores(best.n_cores, settings.deadline)
        bound = Bound(cores=min(least, best.n_cores), weights=self.scarce)

        def others(most: int) -> Iterator[Cut]:
            plan = found.plan._replace(weights=NEAR)
            more = search.improve(found.states, found.options, plan, longer=2, seed=1_000_003)
            for cut in ranked:
                if cut is not best and cut.n_cores <= most:
                    yield _cut_of(resources, cut, bound)
            states = [*found.states, *more]
            for state in sorted(states, key=lambda s: search.value(s, _FEW_BLOCKS)[1]):
                n_before = len(self.cuts)
                if search.value(state)[0] <= most:
                    self.take((0.02, *self.scarce), search.cut(state))
                if len(self.cuts) > n_before:
                    cut = self.counted(self.cuts[-1])
                    if cut.n_cores <= most:
                        yield _cut_of(resources, cut, bound)

        return _best_of(
            resources, ranked, bound, settings.objective, others if found.states else None
        )

    def _search(self, search: Search, backwards: Backwards, starts: list[States]) -> _Found:
        """Improve on cuts that the bound leads to, and on the best of the given ones."""
        resources, settings = self.resources, self.settings
        widest = {name: chw(resources.network[name].shape)[0] for name in search.names}
        frugal = [
            np.array([(*axes[name], widest[name], 1) for name in search.names], CHOICE)
            for axes in backwards.frugal_cuts(min(search.value(state)[0] for state in starts))
        ]
        starts = [*frugal, starts[0]]
        options = {
            name: _options(resources, self.counts[name], starts[0][i].item())
            for i, name in enumerate(search.names)
        }
        n_cores = search.value(starts[-1])[0]
        plan = plan_for(n_cores)
        enough = backwards.least_cores(n_cores, settings.deadline) if n_cores <= FEW else 0
        settings.say("searching for better cuts")
        found = search.improve(starts, options, plan, enough=enough)
        settings.say("bounding the cores from below")
        n_cores = search.value(found[0])[0]
        least = backwards.least_cores(n_cores, settings.deadline)
        if not settings.is_late and FEW < n_cores <= MANY and n_cores > _WIDE * least:
            found += search.improve(found, options, plan._replace(weights=MIXED), longer=_LONGER)
            found.sort(key=lambda state: search.value(state)[1])
        return _Found(found, plan, options, least)


class _Found(NamedTuple):
    """What a search found: states, best first, how and among what, and the fewest cores."""

    states: list[States]
    plan: Plan
    options: dict[str, list[tuple[int, ...]]]
    least: int


class _Counted(NamedTuple):
    """A cut, the cores that it takes, its output axons, and the entries of its neurons."""

    n_cores: int
    n_sent: int
    grids: MappingType[str, Grid]
    entries: dict[str, NDArray[np.int64]]


def _best_of(
    resources: Resources,
    ranked: Sequence[_Counted],
    bound: Bound,
    objective: Objective,
    others: Callable[[int], Iterator[Cut]] | None = None,
) -> Cut:
    """The cut with fewest cores, and where it matters the one with fewest output axons near it."""
    best = min(ranked, key=_cores_and_sent)
    near = [cut for cut in ranked if cut.n_cores <= _NEAR * best.n_cores]
    fewest = min(near, key=lambda cut: (cut.n_sent, cut.n_cores))
    frugal = None
    if objective != "cores" and fewest.n_sent < best.n_sent:
        frugal = _cut_of(resources, fewest, bound)
    return _cut_of(resources, best, bound, frugal=frugal, others=others)


def cut_within(
    resources: Resources, bound: Bound, block_limits: MappingType[str, int]
) -> list[dict[str, list[Block]]]:
    """Cuts into blocks of at most so many neurons, not improved, that will not share cores.

    Parameters
    ----------
    resources
        Of the network and the chip.
    bound
        Of the network, without such limits.
    block_limits
        Neurons that a block may have, by population.

    Returns
    -------
    list
        Blocks by population, in topological order, for several weights; different ones only.
    """
    steps = Steps(resources, all_candidates(resources, block_limits=block_limits))
    entries = Entries(resources)
    found: list[dict[str, Grid]] = []
    for weights in ((0.02, *bound.weights), (0.1, 0.2, 0.2, 0.6), (1.0, 0.0, 0.0, 0.0)):
        try:
            grids = cut_once(resources, steps, entries, weights)
        except CapacityError:  # finer blocks of targets can need too many output axons
            continue
        if grids not in found:
            found.append(grids)
    return [{p.name: grid_blocks(p, grids[p.name]) for p in resources.placed} for grids in found]


def _cores_and_sent(cut: _Counted) -> tuple[int, int]:
    return cut.n_cores, cut.n_sent


def _cut_of(
    resources: Resources,
    counted: _Counted,
    bound: Bound,
    *,
    frugal: Cut | None = None,
    others: Callable[[int], Iterator[Cut]] | None = None,
) -> Cut:
    return Cut(
        blocks={p.name: grid_blocks(p, counted.grids[p.name]) for p in resources.placed},
        entries=counted.entries,
        bound=bound,
        frugal=frugal,
        others=others,
    )


def _target_of(grid: Grid) -> Target:
    """What was wanted of a grid that exists."""
    widest = max(grid.channels) if grid.runs else -(-grid.shape[0] // min(grid.channels))
    return Target(grid.rows, grid.columns, widest, not grid.runs)


def _options(
    resources: Resources, counts: Candidates, now: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """Cuts worth trying, as states of `Search`: the cheapest ones, and finer ones."""
    shares = shares_of(resources, counts)
    shape = counts.n_blocks.shape
    found: dict[tuple[int, int, int], None] = {}
    for weights in (
        (0.01, 0.0, 1.0, 0.0), (0.01, 0.0, 0.0, 1.0), (0.01, 0.0, 0.5, 0.5), (1.0, 0.0, 0.0, 0.0),
        (0.2, 0.0, 0.5, 0.3), (0.2, 0.0, 0.2, 0.6),
    ):  # fmt: skip
        by_blocks, *by_share = weights
        cost = by_blocks * counts.n_blocks + np.tensordot(np.array(by_share), shares, 1)
        cost = np.where(counts.fits, cost, np.inf)
        for flat in np.argsort(cost, axis=None, kind="stable")[:2].tolist():
            i, j, k = (int(v) for v in np.unravel_index(flat, shape))
            if np.isfinite(cost[i, j, k]):
                found[i, j, k] = None
    for i, j, k in list(found):
        fewest = int(counts.n_blocks[i, j, k])
        for finer in range(i + 1, shape[0]):
            if counts.n_blocks[finer, j, k] > 4 * fewest:
                break
            if counts.n_blocks[finer, j, k] > counts.n_blocks[finer - 1, j, k]:
                found[finer, j, k] = None
    n_channels = int(counts.choices[0][-1])
    states = [(j, k, -(-n_channels // int(counts.choices[0][i])), 1) for i, j, k in found]
    return list(dict.fromkeys([now, *states]))


def cut_once(
    resources: Resources,
    steps: Steps,
    entries: Entries,
    weights: Sequence[float],
    targets: MappingType[str, Target] | None = None,
) -> dict[str, Grid]:
    """Grids of all populations, chosen from the readouts on.

    Parameters
    ----------
    resources, steps, entries
        Of the network and the chip; what is known of their cuts.
    weights
        Of blocks, neurons, synapse memory and output axons.
    targets
        What is wanted of each grid, if it can be made so.
    """
    counts, order = steps.counts, steps.order
    position = {name: i for i, name in enumerate(order)}
    # targets that are cut after their source: the recurrent ones
    backward = {
        name: {
            w.projection.target
            for w in resources.out_of(name)
            if position[w.projection.target] <= position[name]
        }
        for name in order
    }
    costs = Costs(steps, weights, shared=True)
    limit = resources.chip.limits.output_axons.value
    guess: dict[str, Grid] = {}
    known_grids: dict[tuple[object, ...], Grid] = {}  # populations that are alike are cut alike
    for _ in range(_MAX_ROUNDS):
        done: dict[str, Grid] = {}
        for name in reversed(order):
            known = entries.of_targets(name, done, guess)
            needed = entries.of(name, known)
            if needed.max() > limit:
                raise fan_out_excess(resources, name, int(needed.max()), known)
            target = None if targets is None else targets[name]
            cost = costs.total[name]
            # `entries` keeps what is needed, and the arrays of counts are shared by those alike
            key = (
                resources.like(name), id(counts[name].bits), id(needed), target, cost.tobytes(),
            )  # fmt: skip
            if key not in known_grids:
                population, grid = resources.network[name], None
                if target is not None:
                    grid = build_runs(resources, population, counts[name], target, needed)
                known_grids[key] = grid or best_grid(
                    resources, population, counts[name], needed, cost
                )
            done[name] = replace(known_grids[key], population=name)
        if not any(backward.values()) or done == guess:
            return {name: done[name] for name in order}
        guess = done
    _check_recurrent(resources, done, backward)
    return {name: done[name] for name in order}


def _check_recurrent(
    resources: Resources, done: dict[str, Grid], backward: dict[str, set[str]]
) -> None:
    """Raise unless the output axons of recurrent populations fit, counted on the final blocks."""
    limit = resources.chip.limits.output_axons.value
    for name, targets in backward.items():
        if not targets:
            continue
        entries = grid_entries(resources, name, done)
        for block in grid_blocks(resources.network[name], done[name]):
            need = int(entries[block.slices()].sum())
            if need > limit:
                raise fan_out_excess(resources, name, need, done)
