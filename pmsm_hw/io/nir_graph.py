"""The structure of a NIR graph: nodes and edges that have no meaning here are refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import FormatError
from pmsm_hw.io.schema import MAX_ITEMS, at_most

__all__ = ["LINEAR", "MAX_LINEAR_IN_A_ROW", "Graph", "Node"]

Node: TypeAlias = Mapping[str, Any]

LINEAR = ("Affine", "Linear", "Conv1d", "Conv2d", "Flatten", "SumPool2d", "AvgPool2d", "Scale")
ENDS = ("IF", "I", "Output")
MAX_LINEAR_IN_A_ROW = 64

_CONV = frozenset({"weight", "bias", "stride", "padding", "dilation", "groups", "input_shape"})
_POOL = frozenset({"kernel_size", "stride", "padding"})
_FIELDS: dict[str, frozenset[str]] = {
    "Input": frozenset({"shape"}),
    "Output": frozenset({"shape"}),
    "Affine": frozenset({"weight", "bias"}),
    "Linear": frozenset({"weight"}),
    "Conv1d": _CONV,
    "Conv2d": _CONV,
    "Flatten": frozenset({"start_dim", "end_dim", "input_type"}),
    "SumPool2d": _POOL,
    "AvgPool2d": _POOL,
    "Scale": frozenset({"scale"}),
    "IF": frozenset({"r", "v_threshold", "v_reset"}),
    "I": frozenset({"r"}),
}
_ABOUT = frozenset({"type", "metadata"})
_REASONS = {
    "LIF": "leaks, polarity multi-spike neurons do not",
    "CubaLIF": "leaks and filters its input, polarity multi-spike neurons do neither",
    "LI": "leaks, readouts do not",
    "CubaLI": "leaks and filters its input, readouts do neither",
    "Delay": "delays in continuous time, projections delay by steps",
    "Threshold": "has no state, polarity multi-spike neurons have one",
    "NIRGraph": "is a graph inside a graph",
}


@dataclass(frozen=True)
class Graph:
    """Nodes and edges of a NIR graph, checked: acyclic, connected, of types that are known.

    Parameters
    ----------
    subject
        How error messages name the file.
    nodes
        By key, in the order of the file.
    into
        Sources of the edges into each node.
    order
        Keys, sources before targets.
    """

    subject: str
    nodes: dict[str, Node]
    into: dict[str, list[str]]
    order: list[str]

    @classmethod
    def checked(cls, subject: str, graph: Node) -> Graph:
        """Check a graph given as nested dictionaries, as read from a file.

        Raises
        ------
        FormatError
            If a node or an edge has no meaning here; it is named.
        """
        nodes, edges = graph.get("nodes"), graph.get("edges")
        if not isinstance(nodes, dict) or not isinstance(edges, list) or not nodes:
            _refuse(subject, "the graph", "has no nodes or no edges", "give a complete NIR graph")
        at_most(subject, "number of nodes", len(nodes), MAX_ITEMS)
        at_most(subject, "number of edges", len(edges), 2 * MAX_ITEMS)
        for key, node in nodes.items():
            _check_node(subject, key, node)
        into: dict[str, list[str]] = {key: [] for key in nodes}
        out: dict[str, list[str]] = {key: [] for key in nodes}
        for edge in edges:
            if not isinstance(edge, list) or len(edge) != 2 or not all(e in nodes for e in edge):
                _refuse(
                    subject,
                    "the graph",
                    f"has an edge {edge!r:.80} between unknown nodes",
                    "give a complete NIR graph",
                )
            source, target = edge
            _check_edge(subject, source, nodes[source]["type"], target, nodes[target]["type"])
            into[target].append(source)
            out[source].append(target)
        for key, sources in into.items():
            if len(set(sources)) < len(sources):
                twice = next(s for s in sources if sources.count(s) > 1)
                _refuse(
                    subject,
                    f"node '{key}'",
                    f"has {sources.count(twice)} edges from '{twice}', 1 is possible",
                    "remove the others, or scale the weights",
                    sources.count(twice),
                    1,
                )
        for key, node in nodes.items():
            _check_connected(subject, key, node["type"], into[key], out[key])
        return cls(subject, nodes, into, _ordered(subject, nodes, into, out))

    def refuse(self, key: str, problem: str, remedy: str, actual: object = None) -> NoReturn:
        """Raise `FormatError` about a node."""
        _refuse(self.subject, f"node '{key}'", problem, remedy, actual)

    def type_of(self, key: str) -> str:
        """Type of a node."""
        return str(self.nodes[key]["type"])

    def numbers(self, key: str, field: str, n_axes: int | None = None) -> NDArray[Any]:
        """Finite numbers of a field, float or integer as they are stored."""
        value = self.nodes[key].get(field)
        if (
            not isinstance(value, np.ndarray)
            or value.dtype.kind not in "iuf"
            or (n_axes is not None and value.ndim != n_axes)
            or value.size == 0
        ):
            shape = getattr(value, "shape", None)
            self.refuse(
                key,
                f"field '{field}' (shape {shape}) is not an array of numbers"
                + (f" with {n_axes} axes" if n_axes is not None else ""),
                "give a complete NIR graph",
                shape,
            )
        if not np.isfinite(value).all():
            self.refuse(key, f"field '{field}' is not finite", "train it again")
        if value.dtype.kind in "iu" and (np.abs(value.astype(np.float64)) > 2.0**53).any():
            self.refuse(key, f"field '{field}' goes beyond 2^53", "rescale it")
        return value

    def wholes(self, key: str, field: str, lowest: int = 0) -> tuple[int, ...]:
        """Whole numbers of a field, flat."""
        numbers = self.numbers(key, field).reshape(-1)
        good = len(numbers) <= 4 and bool((np.abs(numbers.astype(np.float64)) < 2**31).all())
        wholes = tuple(int(n) for n in numbers) if good else ()
        if not good or tuple(numbers.tolist()) != wholes or min(wholes) < lowest:
            self.refuse(
                key,
                f"field '{field}' is {numbers.tolist()!r:.80}, whole numbers from {lowest} on are "
                "expected",
                "give a complete NIR graph",
                numbers[:4].tolist(),
            )
        return wholes

    def sizes(self, key: str, field: str, n_axes: int, lowest: int = 0) -> tuple[int, ...]:
        """Whole numbers of a field, one per axis; one number stands for all."""
        sizes = self.wholes(key, field, lowest)
        if len(sizes) not in (1, n_axes):
            self.refuse(
                key,
                f"field '{field}' is {list(sizes)!r:.80}, {n_axes} sizes are expected",
                "give a complete NIR graph",
                sizes,
            )
        return sizes if len(sizes) == n_axes else sizes * n_axes


def _refuse(
    subject: str,
    what: str,
    problem: str,
    remedy: str,
    actual: object = None,
    limit: object = None,
) -> NoReturn:
    raise FormatError(f"{subject}: {what}", problem, remedy=remedy, actual=actual, limit=limit)


def _check_node(subject: str, key: str, node: object) -> None:
    if not isinstance(node, dict) or not isinstance(node.get("type"), str):
        _refuse(subject, f"node '{key}'", "has no type", "give a complete NIR graph")
    kind = node["type"]
    if kind not in _FIELDS:
        _refuse(
            subject,
            f"node '{key}'",
            f"of type {kind!r:.40} {_REASONS.get(kind, 'is unknown')}",
            f"use {', '.join(('Input', *LINEAR, *ENDS))}",
            kind,
            tuple(_FIELDS),
        )
    for field in node:
        if field not in _FIELDS[kind] and field not in _ABOUT:
            _refuse(
                subject,
                f"node '{key}'",
                f"of type {kind} has a field {field!r:.40} of unknown meaning",
                f"give it {', '.join(sorted(_FIELDS[kind]))} alone",
                field,
                tuple(sorted(_FIELDS[kind])),
            )


def _check_edge(subject: str, source: str, source_kind: str, target: str, target_kind: str) -> None:
    if target_kind == "Input":
        _refuse(
            subject,
            f"node '{target}'",
            f"of type Input has an edge from '{source}', inputs take none",
            "connect it to the node behind the Input",
            source,
        )
    if source_kind == "Output":
        _refuse(
            subject,
            f"node '{source}'",
            f"of type Output has an edge to '{target}', outputs lead nowhere",
            "connect the node in front of the Output",
            target,
        )
    if source_kind == "I" and target_kind != "Output":
        _refuse(
            subject,
            f"node '{source}'",
            f"of type I feeds '{target}', it has no spikes",
            "connect neurons or inputs, or lead it to an Output",
            target,
        )


def _check_connected(
    subject: str, key: str, kind: str, into: Sequence[str], out: Sequence[str]
) -> None:
    """What has an effect or takes one only if it is connected is connected."""
    if kind != "Input" and not into:
        _refuse(subject, f"node '{key}'", f"of type {kind} has no input", "connect or remove it")
    if kind in LINEAR and not out:
        _refuse(
            subject,
            f"node '{key}'",
            f"of type {kind} leads nowhere",
            "connect it, if need be to an Output, or remove it",
        )


def _ordered(
    subject: str,
    nodes: Mapping[str, Node],
    into: Mapping[str, Sequence[str]],
    out: Mapping[str, Sequence[str]],
) -> list[str]:
    """Keys, sources before targets; a cycle is refused by the nodes that are in it."""
    waiting = {key: len(sources) for key, sources in into.items()}
    order = [key for key, n in waiting.items() if n == 0]
    for key in order:  # grows while it is read
        for target in out[key]:
            waiting[target] -= 1
            if waiting[target] == 0:
                order.append(target)
    if len(order) == len(nodes):
        return order
    key = next(key for key, n in waiting.items() if n > 0)
    way: dict[str, None] = {}
    while key not in way:  # each of those left waits for another of those left
        way[key] = None
        key = next(source for source in into[key] if waiting[source] > 0)
    cycle = list(way)[list(way).index(key) :][::-1]
    shown = " -> ".join(f"'{k}'" for k in (*cycle, cycle[0])[:12])
    if all(nodes[k]["type"] in LINEAR for k in cycle):
        _refuse(
            subject,
            f"node '{cycle[0]}'",
            f"is in a cycle of linear nodes: {shown}",
            "put neurons in between",
            cycle,
        )
    _refuse(
        subject,
        f"node '{cycle[0]}'",
        f"is in a cycle, and NIR does not say after how many steps a spike comes back: {shown}",
        "unroll it, or build the Network in Python with a delay",
        cycle,
    )
