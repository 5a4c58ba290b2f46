"""Costs of cuts along the network.

Which cut is best depends on the neighbours. Every delivery is an output-axon entry of its source,
so a cut of one population decides how small the blocks of its sources must be. Costs are therefore
added up along the network, from the inputs on.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import Input

if TYPE_CHECKING:
    from pmsm_hw.mapping.partition.candidates import Candidates
    from pmsm_hw.mapping.resources import Resources

__all__ = ["Costs", "Steps", "scarcity", "shares_of"]

_IMPOSSIBLE = 1e9


def shares_of(resources: Resources, counts: Candidates) -> NDArray[np.float64]:
    """Cores' worth of neurons, synapse memory and sources' output axons of each cut.

    Returns
    -------
    ndarray
        ``(3, *cuts)`` float64.
    """
    limits = resources.chip.limits
    entries = np.zeros(counts.n_blocks.shape)
    for name, needed in counts.entries.items():
        wire = resources.wires[name]
        if not isinstance(resources.network[wire.projection.source], Input):
            entries += needed / limits.output_axons.value
    neurons = np.full(counts.n_blocks.shape, counts.n_compartments / limits.neurons.value)
    return np.stack([neurons, counts.bits / limits.synapse_memory_bits.value, entries])


_Enough: TypeAlias = tuple[NDArray[np.int64], tuple[NDArray[np.bool_], NDArray[np.float64]] | None]


def _first_enough(needed: NDArray[np.float64], sizes: NDArray[np.int64], limit: int) -> _Enough:
    """Cuts of a source with as many blocks as its output axons need, see `Steps.sources`."""
    at_least = np.ceil(needed / limit - 1e-9)
    at = np.searchsorted(sizes, at_least)
    none = at == len(sizes)
    if not none.any():
        return at, None
    # more than one core's worth for a neuron: impossible, the fewer the better
    return np.minimum(at, len(sizes) - 1), (none, _IMPOSSIBLE * (1 + at_least / sizes[-1]))


class Steps:
    """What `Costs` needs of all cuts, whatever the weights.

    Parameters
    ----------
    resources, counts
        Of the network and the chip.

    Attributes
    ----------
    order
        Names of the populations.
    shares
        By population, `shares_of`; one array for those that are alike.
    unfit
        By population, cuts that do not fit; ``None``: all do.
    by_size
        By population, its cuts by the number of their blocks, and these numbers, ascending.
    sources
        By population, sources that are cut before it: for each of its cuts, the first one of the
        source (by size) that has enough blocks, or the last one; which have none, and what it costs
        then (``None``: all have one).
    """

    def __init__(self, resources: Resources, counts: MappingType[str, Candidates]) -> None:
        self.counts = counts
        self.order = [p.name for p in resources.placed]
        self.shares: dict[str, NDArray[np.float64]] = {}
        self.unfit: dict[str, NDArray[np.bool_] | None] = {}
        self.by_size: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self.sources: dict[str, list[tuple[str, _Enough]]] = {}
        # by arrays, which populations that are alike share
        shares: dict[tuple[object, ...], NDArray[np.float64]] = {}
        by_size: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        enough: dict[tuple[int, int], _Enough] = {}
        limit = resources.chip.limits.output_axons.value
        for name in self.order:
            found = counts[name]
            sources = [resources.wires[wire].projection.source for wire in found.entries]
            inputs = (isinstance(resources.network[source], Input) for source in sources)
            alike = (id(found.bits), *inputs)
            if alike not in shares:
                shares[alike] = shares_of(resources, found)
            self.shares[name] = shares[alike]
            self.unfit[name] = None if found.fits.all() else ~found.fits
            self.sources[name] = []
            for source, needed in zip(sources, found.entries.values(), strict=True):
                if source in self.by_size:  # not an input, or a recurrent source
                    sizes = self.by_size[source][1]
                    pair = (id(needed), id(sizes))
                    if pair not in enough:
                        enough[pair] = _first_enough(needed, sizes, limit)
                    self.sources[name].append((source, enough[pair]))
            if id(found.n_blocks) not in by_size:
                order = np.argsort(found.n_blocks, axis=None, kind="stable")
                by_size[id(found.n_blocks)] = (order, found.n_blocks.reshape(-1)[order])
            self.by_size[name] = by_size[id(found.n_blocks)]


class Costs:
    """Least cost of a population, and of all that feeds it, for each of its cuts.

    A cut costs its weighted shares (`shares_of`) and blocks, and more: every delivery is an output
    axon of its source, whose blocks must be so small that a core has room for theirs. That is
    known for each cut of the source, so the costs add up along the network, from the inputs on.

    Parameters
    ----------
    steps
        Of the network and the chip.
    weights
        Of blocks, neurons, synapse memory and output axons.
    shared
        Count a source's blocks for each of its targets (to choose cuts), or for one only (to
        bound from below).
    """

    def __init__(self, steps: Steps, weights: Sequence[float], *, shared: bool) -> None:
        self.total: dict[str, NDArray[np.float64]] = {}
        by_blocks, *by_share = weights
        least: dict[str, NDArray[np.float64]] = {}  # with at least so many blocks
        spent: set[str] = set()
        alone: dict[int, NDArray[np.float64]] = {}  # by shares: without what feeds it
        by = np.array(by_share)
        for name in steps.order:
            found, shares = steps.counts[name], steps.shares[name]
            if id(shares) not in alone:
                weighted = np.tensordot(by, shares, 1)
                alone[id(shares)] = np.asarray(by_blocks * found.n_blocks + weighted, np.float64)
            cost = alone[id(shares)]
            for source, (at, none) in steps.sources[name]:
                if source in spent and not shared:
                    continue  # counts already
                spent.add(source)
                some = least[source]
                extra = some[at]
                cost = cost + (extra if none is None else np.where(*none, extra))
                if shared:
                    cost = cost - some[0]
            unfit = steps.unfit[name]
            if unfit is not None:
                cost = np.where(unfit, np.inf, cost)
            if not np.isfinite(cost).any():
                # no cut seems to fit: the finest one will tell
                cost = cost.copy()
                cost[-1, -1, -1] = by_blocks * found.n_neurons
            self.total[name] = cost
            by_size = steps.by_size[name][0]
            least[name] = np.minimum.accumulate(cost.reshape(-1)[by_size][::-1])[::-1]
        self.bound = sum(float(least[name][0]) for name in steps.order if name not in spent)


def scarcity(steps: Steps) -> tuple[float, float, float]:
    """Weights of neurons, synapse memory and output axons, adding up to 1, by how scarce they are.

    Those by which the cheapest cut costs most (`Costs`).
    """
    best, at = -1.0, (1.0, 0.0, 0.0)
    step = 0.25
    tried: set[tuple[float, float, float]] = set()
    around = [(a / 4, b / 4) for a in range(5) for b in range(5 - a)]
    while step > 0.04:
        for a, b in around:
            point = (a, b, round(1 - a - b, 9))
            if min(point) < 0 or point in tried:
                continue
            tried.add(point)
            value = Costs(steps, (0.0, *point), shared=False).bound
            if value > best:
                best, at = value, point
        step /= 2
        around = [(at[0] + i * step, at[1] + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return at
