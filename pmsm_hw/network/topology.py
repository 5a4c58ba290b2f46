"""In which order populations act: their depths, cycles, and cycles that have no order."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from pmsm_hw.errors import NetworkError
from pmsm_hw.network.populations import Input, Population
from pmsm_hw.network.validation import listed, refuse

if TYPE_CHECKING:
    from pmsm_hw.network.graph import Network

__all__ = ["check_delays", "components_of", "depths_of", "topological_order"]


def topological_order(network: Network) -> tuple[Population, ...]:
    """Populations in the order in which they act within a step.

    Parameters
    ----------
    network
        Its projections join populations that exist.

    Raises
    ------
    NetworkError
        If populations form a cycle without delay.
    """
    waiting = {p.name: 0 for p in network.populations}
    out: dict[str, list[str]] = {p.name: [] for p in network.populations}
    for projection in network.projections:
        if projection.delay == 0:
            waiting[projection.target] += 1
            out[projection.source].append(projection.target)
    ready = [p.name for p in network.populations if waiting[p.name] == 0]
    order: list[Population] = []
    for name in ready:  # grows while it is read
        order.append(network[name])
        for target in out[name]:
            waiting[target] -= 1
            if waiting[target] == 0:
                ready.append(target)
    if len(order) < len(network.populations):
        cycle = _cycle(network, {name for name, n in waiting.items() if n > 0})
        raise NetworkError(
            f"network '{network.name}'",
            f"populations {listed(cycle)} form a cycle without delay, limit: none",
            remedy="give one projection of the cycle delay >= 1",
            actual=cycle,
            limit="no cycle without delay",
        )
    return tuple(order)


def _cycle(network: Network, stuck: set[str]) -> list[str]:
    """One cycle among populations each of which waits for another of them, in its order."""
    index = {p.name: i for i, p in enumerate(network.populations)}
    way: dict[str, None] = {}
    name = next(p.name for p in network.populations if p.name in stuck)
    while name not in way:
        way[name] = None
        name = next(p.source for p in network.into(name) if p.delay == 0 and p.source in stuck)
    cycle = list(way)[list(way).index(name) :][::-1]
    first = cycle.index(min(cycle, key=index.__getitem__))
    return cycle[first:] + cycle[:first]


def components_of(network: Network) -> tuple[tuple[Population, ...], ...]:
    """See `Network.components`.

    Parameters
    ----------
    network
        As for `topological_order`.
    """
    order = network.topological
    if all(p.delay == 0 for p in network.projections):
        return tuple((p,) for p in order)
    component = _strong_components(network)
    members: dict[int, list[Population]] = {}
    for population in order:
        members.setdefault(component[population.name], []).append(population)
    place = {p.name: i for i, p in enumerate(order)}
    first = {c: place[group[0].name] for c, group in members.items()}
    joined = {(component[p.source], component[p.target]) for p in network.projections}
    out: dict[int, list[int]] = {c: [] for c in members}
    waiting = dict.fromkeys(members, 0)
    for source, target in joined:
        if source != target:
            out[source].append(target)
            waiting[target] += 1
    # of those that may come next, the one whose populations act first
    ready = [(first[c], c) for c, n in waiting.items() if n == 0]
    heapq.heapify(ready)
    found = []
    while ready:
        _, c = heapq.heappop(ready)
        found.append(tuple(members[c]))
        for target in out[c]:
            waiting[target] -= 1
            if waiting[target] == 0:
                heapq.heappush(ready, (first[target], target))
    return tuple(found)


def _strong_components(network: Network) -> dict[str, int]:
    """Number of each population's strongly connected component (Tarjan's algorithm)."""
    found: dict[str, int] = {}
    seen: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []  # those seen whose component is not found
    n_found = 0
    for root in network.populations:
        if root.name in seen:
            continue
        calls = [(root.name, iter(network.out_of(root.name)))]
        seen[root.name] = low[root.name] = len(seen)
        path.append(root.name)
        while calls:
            name, projections = calls[-1]
            for target in (p.target for p in projections):
                if target not in seen:
                    seen[target] = low[target] = len(seen)
                    path.append(target)
                    calls.append((target, iter(network.out_of(target))))
                    break
                if target not in found:
                    low[name] = min(low[name], seen[target])
            else:
                calls.pop()
                if calls:
                    caller = calls[-1][0]
                    low[caller] = min(low[caller], low[name])
                if low[name] == seen[name]:
                    while name not in found:
                        found[path.pop()] = n_found
                    n_found += 1
    return found


def depths_of(network: Network) -> dict[str, int]:
    """Depth of each population: 0 for inputs, else 1 + its deepest undelayed source's.

    Parameters
    ----------
    network
        As for `topological_order`.
    """
    depths: dict[str, int] = {}
    for population in network.topological:
        if isinstance(population, Input):
            depths[population.name] = 0
        else:
            depths[population.name] = 1 + max(
                (depths[p.source] for p in network.into(population.name) if p.delay == 0),
                default=0,
            )
    return depths


def check_delays(network: Network) -> None:
    """Raise `NetworkError` if a delay is shorter than the way through the depths between.

    Parameters
    ----------
    network
        As for `topological_order`.
    """
    depths = network.depths  # raises for cycles without delay
    for p in network.projections:
        need = depths[p.source] - depths[p.target] + 1
        if 0 < p.delay < need:
            refuse(
                p.subject,
                f"delay {p.delay} is too short: spikes of '{p.source}' (depth {depths[p.source]}) "
                f"reach '{p.target}' (depth {depths[p.target]}) after {need} steps at the earliest",
                f"use delay >= {need}",
                p.delay,
                need,
            )
