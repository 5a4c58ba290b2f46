"""Cutting populations into blocks that fit a core, under every limit at once.

Cuts are chosen backwards, from the readouts on, when the output axons of a population are known
exactly; recurrent ones are cut again until they agree. Several cuts are made that differ in what
they weigh most, a search improves on them, and the best one is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError
from pmsm_hw.mapping.partition.bounding import Backwards
from pmsm_hw.mapping.partition.building import best_grid, build_runs
from pmsm_hw.mapping.partition.candidates import all_candidates
from pmsm_hw.mapping.partition.costs import Costs, Steps, scarcity, shares_of
from pmsm_hw.mapping.partition.cut_search import FEW, MANY, MIXED, NEAR, Plan, Search, plan_for
from pmsm_hw.mapping.partition.entries import Entries, grid_entries
from pmsm_hw.mapping.partition.excess import fan_out_excess
from pmsm_hw.mapping.partition.grids import Grid, Target, grid_blocks
from pmsm_hw.mapping.partition.packing import count_cores
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block, Objective
    from pmsm_hw.mapping.partition.candidates import Candidates
    from pmsm_hw.mapping.resources import Resources

__all__ = ["Bound", "Cut", "cut_network", "cut_once", "cut_within"]

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
    *,
    objective: Objective = "cores",
    progress: Callable[[str], None] | None = None,
    deadline: Callable[[], bool] | None = None,
) -> Cut:
    """Cut every population but inputs.

    Several cuts are made that differ in what they weigh most, and searched for from them; the best
    one is taken. Networks of more than 2,048 populations are not searched.

    Parameters
    ----------
    resources
        Of the network and the chip.
    objective
        The cut with fewest cores is taken; for others than ``"cores"``, `Cut.frugal` is made too.
    progress
        Called with a line about what is done.
    deadline
        Says whether time is up: the best cut so far is then taken.

    Raises
    ------
    CapacityError
        If a single neuron of a population exceeds a limit of a core.
    """
    counts = all_candidates(resources, progress)
    steps = Steps(resources, counts)
    n, b, e = scarce = scarcity(steps)
    entries = Entries(resources)
    cuts: list[dict[str, Grid]] = []
    failure: CapacityError | None = None

    def take(weights: Sequence[float], targets: MappingType[str, Target] | None = None) -> None:
        nonlocal failure
        if cuts and deadline is not None and deadline():
            return
        if progress is not None:
            progress("cutting" if targets is None else "cutting, improved")
        try:
            grids = cut_once(resources, steps, entries, weights, targets)
        except CapacityError as error:
            failure = error
        else:
            if grids not in cuts:
                cuts.append(grids)

    weights = ((0.1, 0.2, 0.2, 0.6), (0.02, n, b, e), (1.0, 0.0, 0.0, 0.0))
    for some in weights:
        take(some)
    if not cuts:
        assert failure is not None
        raise failure
    if sum(counts[name].n_neurons for name in counts) <= resources.chip.limits.neurons.value:
        fewest = min((_counted(resources, grids, entries) for grids in cuts), key=_cores_and_sent)
        if fewest[0] == 1:  # there is nothing to search for
            return _cut_of(resources, fewest, Bound(cores=1, weights=scarce))
    if len(counts) > _MOST_SEARCHED:
        ranked = [_counted(resources, grids, entries) for grids in cuts]
        most = min(ranked, key=_cores_and_sent)[0]
        if progress is not None:
            progress("bounding the cores from below")
        least = Backwards(resources, counts).least_cores(most, deadline)
        return _best_of(resources, ranked, Bound(cores=least, weights=scarce), objective)
    search = Search(resources, counts)

    def state_of(grids: MappingType[str, Grid]) -> NDArray[np.int64]:
        return search.state({name: _target_of(grid) for name, grid in grids.items()})

    found: list[NDArray[np.int64]] = []
    least, plan = 0, Plan()
    starts = [state_of(grids) for grids in cuts]
    starts.sort(key=lambda state: search.value(state)[1])
    backwards = Backwards(resources, counts)
    if deadline is None or not deadline():
        widest = {name: chw(resources.network[name].shape)[0] for name in search.names}
        frugal = [
            np.array([(*axes[name], widest[name], 1) for name in search.names], np.int64)
            for axes in backwards.frugal_cuts(min(search.value(state)[0] for state in starts))
        ]
        starts = [*frugal, starts[0]]
        options = {
            name: _options(resources, counts[name], tuple(starts[0][i].tolist()))
            for i, name in enumerate(search.names)
        }
        n_cores = search.value(starts[-1])[0]
        plan = plan_for(n_cores)
        enough = backwards.least_cores(n_cores, deadline) if n_cores <= FEW else 0
        if progress is not None:
            progress("searching for better cuts")
        found = search.improve(starts, options, plan, enough=enough)
        if progress is not None:
            progress("bounding the cores from below")
        n_cores = search.value(found[0])[0]
        least = backwards.least_cores(n_cores, deadline)
        late = deadline is not None and deadline()
        if not late and FEW < n_cores <= MANY and n_cores > _WIDE * least:
            found += search.improve(found, options, plan._replace(weights=MIXED), longer=_LONGER)
            found.sort(key=lambda state: search.value(state)[1])
        for state in found[: plan.n_made]:
            take((0.02, n, b, e), search.cut(state))
    estimates = [search.value(state_of(grids))[0] for grids in cuts]
    ranked = [
        _counted(resources, grids, entries)
        for grids, n_cores in zip(cuts, estimates, strict=True)
        if n_cores <= _NEAR * min(estimates)
    ]
    best = min(ranked, key=_cores_and_sent)
    if not least:
        least = backwards.least_cores(best[0], deadline)
    bound = Bound(cores=min(least, best[0]), weights=scarce)

    def others(most: int) -> Iterator[Cut]:
        more = search.improve(found, options, plan._replace(weights=NEAR), longer=2, seed=1_000_003)
        for cut in ranked:
            if cut is not best and cut[0] <= most:
                yield _cut_of(resources, cut, bound)
        for state in sorted([*found, *more], key=lambda s: search.value(s, _FEW_BLOCKS)[1]):
            n_before = len(cuts)
            if search.value(state)[0] <= most:
                take((0.02, n, b, e), search.cut(state))
            if len(cuts) > n_before:
                cut = _counted(resources, cuts[-1], entries)
                if cut[0] <= most:
                    yield _cut_of(resources, cut, bound)

    return _best_of(resources, ranked, bound, objective, others if found else None)


def _best_of(
    resources: Resources,
    ranked: Sequence[_Counted],
    bound: Bound,
    objective: Objective,
    others: Callable[[int], Iterator[Cut]] | None = None,
) -> Cut:
    """The cut with fewest cores, and where it matters the one with fewest output axons near it."""
    best = min(ranked, key=_cores_and_sent)
    near = [cut for cut in ranked if cut[0] <= _NEAR * best[0]]
    fewest = min(near, key=lambda cut: (cut[1], cut[0]))
    frugal = None
    if objective != "cores" and fewest[1] < best[1]:
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


_Counted: TypeAlias = tuple[int, int, MappingType[str, Grid], dict[str, NDArray[np.int64]]]
"""Cores that a cut takes, its output axons, itself, and the entries of its neurons."""


def _cores_and_sent(cut: _Counted) -> tuple[int, int]:
    return cut[:2]


def _cut_of(
    resources: Resources,
    counted: _Counted,
    bound: Bound,
    *,
    frugal: Cut | None = None,
    others: Callable[[int], Iterator[Cut]] | None = None,
) -> Cut:
    return Cut(
        blocks={p.name: grid_blocks(p, counted[2][p.name]) for p in resources.placed},
        entries=counted[3],
        bound=bound,
        frugal=frugal,
        others=others,
    )


def _counted(resources: Resources, grids: MappingType[str, Grid], entries: Entries) -> _Counted:
    """A cut, counted exactly."""
    found = {p.name: entries.of(p.name, grids) for p in resources.placed}
    sent = sum(int(e.sum()) for e in found.values())
    return count_cores(resources, grids, found), sent, grids, found


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
