"""Views of a network: as a table, as plain values, as a graph of networkx."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pmsm_hw.network.populations import Input

if TYPE_CHECKING:
    import networkx as nx

    from pmsm_hw.network.graph import Network

__all__ = ["describe", "graph_of", "one_line", "summary"]


def graph_of(network: Network) -> nx.MultiDiGraph[str]:
    """See `Network.to_networkx`.

    Parameters
    ----------
    network
        Which.
    """
    import networkx as nx

    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(name=network.name)
    for p in network.populations:
        graph.add_node(
            p.name, population=p, kind=p.kind, shape=p.shape, depth=network.depths[p.name]
        )
    for q in network.projections:
        graph.add_edge(q.source, q.target, key=q.name, projection=q, kind=q.kind, delay=q.delay,
                       max_delay=q.max_delay)  # fmt: skip
    return graph


def describe(network: Network) -> dict[str, Any]:
    """See `Network.describe`.

    Parameters
    ----------
    network
        Which.
    """
    populations = [
        {
            "name": p.name,
            "kind": p.kind,
            "shape": list(p.shape),
            "n_neurons": p.n_neurons,
            "depth": network.depths[p.name],
            **dataclasses.asdict(network.bounds[p.name]),
        }
        for p in network.topological
    ]
    projections = [
        {
            "name": q.name,
            "kind": q.kind,
            "source": q.source,
            "target": q.target,
            "n_parameters": q.n_parameters,
            "weight_exponent": q.weight_exponent,
            "delay": q.delay,
            "max_delay": q.max_delay,
        }
        for q in network.projections
    ]
    return {
        "name": network.name,
        "fingerprint": network.fingerprint,
        "max_steps": network.max_steps,
        "depth": network.depth,
        "n_neurons": network.n_neurons,
        "n_synapses": network.n_synapses,
        "n_parameters": network.n_parameters,
        "populations": populations,
        "projections": projections,
    }


def summary(network: Network) -> str:
    """See `Network.summary`.

    Parameters
    ----------
    network
        Which.
    """
    from pmsm_hw.operators import count_synapses, fan_in
    from pmsm_hw.tables import table

    rows = []
    for p in network.topological:
        into = network.into(p.name)
        bound = network.bounds[p.name]
        rows.append(
            (
                p.name,
                p.kind,
                "x".join(map(str, p.shape)),
                p.n_neurons,
                max((int(f.max()) for f in (fan_in(network, p.name),) if into), default=0),
                sum(count_synapses(network, q) for q in into),
                p.n_parameters + sum(q.n_parameters for q in into),
                network.depths[p.name],
                f"[{bound.k_min}, {bound.k_max}]",
                f"[{bound.u_min:,}, {bound.u_max:,}]" if not isinstance(p, Input) else "",
            )
        )
    title = (
        f"{network.name}: {network.n_neurons:,} neurons, {network.n_synapses:,} synapses, "
        f"{network.n_parameters:,} parameters, depth {network.depth}, "
        f"max_steps {network.max_steps}"
    )
    header = (
        "population", "kind", "shape", "neurons", "fan-in", "synapses", "parameters", "depth",
        "spikes", "state",
    )  # fmt: skip
    return table(header, rows, title=title)


def one_line(network: Network) -> str:
    """What ``repr`` says.

    Parameters
    ----------
    network
        Which.
    """
    chain = " ".join(f"{p.name}[{'x'.join(map(str, p.shape))}]" for p in network.topological)
    return (
        f"<Network '{network.name}': {len(network.populations)} populations, "
        f"{len(network.projections)} projections, {network.n_neurons:,} neurons, "
        f"depth {network.depth}, max_steps {network.max_steps}: {chain}>"
    )
