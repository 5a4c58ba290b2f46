"""A network as the nodes and edges of a NIR graph, in the form that nir itself can follow."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.io.nir_neurons import NIR, check_models
from pmsm_hw.io.schema import (
    MAX_ITEMS,
    at_most,
    check_limits,
    check_work,
    text_bytes,
)
from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    Neurons,
    Pads,
    Population,
    Projection,
    Shape,
    SumPool,
)
from pmsm_hw.network.fields import arrays_of, attributes_of, fields_of

__all__ = ["PREFIX", "PlainGraph", "plain_graph", "shifted_type"]

PREFIX = "pmsm_hw_"
MAX_WRITTEN_OUT = 1 << 24
"""Most weights of a convolution whose groups and padding are written out with zeros."""


@dataclass(kw_only=True)
class PlainGraph:
    """Nodes as the dictionaries that a file holds, edges, and what plain readers get wrong."""

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=lambda: {".", ".."})

    def free(self, key: str) -> str:
        """A node key like this one that is not taken; takes it."""
        while key in self.taken:
            key += "_"
        self.taken.add(key)
        return key


def plain_graph(subject: str, network: Network) -> PlainGraph:
    """Nodes and edges of a network, with the metadata that carry it exactly.

    Raises
    ------
    FormatError
        If the network exceeds what files hold.
    """
    check_models(subject, network)
    items: list[Population | Projection] = [*network.populations, *network.projections]
    for what, group in (
        ("populations", network.populations),
        ("projections", network.projections),
    ):
        at_most(subject, f"number of {what}", len(group), MAX_ITEMS)
    fields = [fields_of(item) for item in items]
    for values in fields:
        check_limits(f"{values['kind']} '{values['name']}'", values)
        for name in ("name", "source", "target"):
            text_bytes(subject, name, values.get(name, ""))
    text_bytes(subject, "name", network.name)
    n = len(network.populations)
    check_work(subject, fields[:n], fields[n:], network.max_steps)
    graph = PlainGraph()
    keys = [graph.free(item.name) for item in items]
    key_of = {p.name: keys[i] for i, p in enumerate(network.populations)}
    # a shift that all projections into a population share is the resistance of its neurons
    shift_of = {
        p.name: min((q.weight_exponent for q in network.into(p.name)), default=0) for p in network
    }
    bias_left = {
        p.name: added / 2.0 ** shift_of[p.name]
        for p in network
        if isinstance(p, Neurons) and (added := NIR.of(p).bias(p)).any()
    }
    for i, item in enumerate(items):
        key, metadata = keys[i], _metadata(i, fields[i])
        if isinstance(item, Population):
            graph.nodes[key] = {
                **_population_node(item, shift_of[item.name]), "metadata": metadata
            }  # fmt: skip
            if isinstance(item, Neurons) and not item.fires:
                output = graph.free(f"{key}_output")
                graph.nodes[output] = {"type": "Output", "shape": np.array(item.shape)}
                graph.edges.append((key, output))
            if isinstance(item, Neurons):
                graph.notes += NIR.of(item).notes(item)
            continue
        shift = item.weight_exponent - shift_of[item.target]
        metadata[PREFIX + "shift"] = shift
        source, target = network[item.source], network[item.target]
        bias = bias_left.get(target.name)
        if bias is not None and _takes_bias(item, bias):
            bias_left.pop(target.name)
        else:
            bias = None
        node = _projection_node(item, source, target, shift, bias)
        if isinstance(item, Conv1d | Conv2d) and node["weight"].shape != item.weight.shape:
            metadata[PREFIX + "weight"] = item.weight  # the node's is written out
            metadata[PREFIX + "weight_axes"] = item.weight.ndim
        graph.nodes[key] = {**node, "metadata": metadata}
        way = [key_of[item.source], key, key_of[item.target]]
        if isinstance(item, Dense) and len(source.shape) > 1:
            way.insert(1, graph.free(f"{key}_flatten"))
            shape = np.array(source.shape)
            graph.nodes[way[1]] = {
                "type": "Flatten", "input_type": shape, "start_dim": 0, "end_dim": -1
            }  # fmt: skip
        if node["type"] == "SumPool2d" and (shift or (item.weight != 1).any()):
            way.insert(2, graph.free(f"{key}_scale"))
            graph.nodes[way[2]] = {
                "type": "Scale", "scale": _scale(item.weight, shift, target.shape)
            }  # fmt: skip
        graph.edges += itertools.pairwise(way)
        graph.notes += _projection_notes(item, node, target)
    graph.notes += [f"bias of '{name}' is in its metadata only" for name in bias_left]
    return graph


def _metadata(index: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an item as NIR keeps them: texts, integers, arrays of at least one axis."""
    kind = fields["kind"]
    found: dict[str, Any] = {"index": index}
    for name, spec in attributes_of(kind).items():
        value = fields[name]
        found[name] = np.asarray(value) if spec in ("ints", "pairs") else value
    for name, dtype in arrays_of(kind).items():
        if name == "weight" and kind not in ("sum_pool", "identity"):
            continue  # the node itself has it
        if fields[name] is None:
            continue
        found[name] = np.atleast_1d(fields[name]).astype(dtype)
        if name == "weight":
            found["weight_axes"] = int(np.ndim(fields[name]))
    return {PREFIX + name: value for name, value in found.items()}


def _population_node(item: Population, shift: int) -> dict[str, Any]:
    if isinstance(item, Input):
        return {"type": "Input", "shape": np.array(item.shape)}
    return NIR.of(item).node(item, np.full(item.shape, 2.0**shift, np.float32))


def _takes_bias(item: Projection, bias: NDArray[Any]) -> bool:
    if isinstance(item, Dense):
        return True
    per_channel = bias.ndim == 0 or all(n == 1 for n in bias.shape[1:])
    return isinstance(item, Conv1d | Conv2d) and per_channel


def _scale(weight: NDArray[Any], shift: int, shape: Shape) -> NDArray[np.float32]:
    """One factor per neuron, from one weight for all or one per channel."""
    factor = weight.astype(np.float32) * np.float32(1 << shift)
    factor = factor.reshape(-1, *(1,) * (len(shape) - 1)) if factor.ndim else factor
    return np.broadcast_to(factor, shape).copy()


def shifted_type(shift: int) -> type[np.signedinteger[Any]]:
    """Type of int8 weights that are shifted to the left, by up to 15 bits."""
    return np.int16 if shift <= 8 else np.int32


def _projection_node(
    item: Projection,
    source: Population,
    target: Population,
    shift: int,
    bias: NDArray[Any] | None,
) -> dict[str, Any]:
    weight: NDArray[Any] = item.weight
    if shift:
        weight = weight.astype(shifted_type(shift)) << shift
    if isinstance(item, Dense):
        if bias is None:
            return {"type": "Linear", "weight": weight}
        full = np.broadcast_to(bias, target.shape).reshape(-1).astype(np.float32)
        return {"type": "Affine", "weight": weight, "bias": full}
    if isinstance(item, Identity):
        return {"type": "Scale", "scale": _scale(item.weight, shift, source.shape)}
    channels = target.shape[0]
    if isinstance(item, SumPool):
        if len(item.kernel) == 2 and all(a == b for a, b in item.padding):
            return {
                "type": "SumPool2d",
                "kernel_size": np.array(item.kernel),
                "stride": np.array(item.stride),
                "padding": np.array([a for a, _ in item.padding]),
            }
        ones = (1,) * len(item.kernel)
        each = np.broadcast_to(weight.reshape(-1, 1, *ones), (channels, 1, *item.kernel))
        window = _Window(
            weight=each, groups=channels, padding=item.padding, dilation=ones, stride=item.stride
        )
    else:
        conv = cast(Conv2d, item)
        window = _Window(
            weight=weight, groups=conv.groups, padding=conv.padding, dilation=conv.dilation,
            stride=conv.stride,
        )  # fmt: skip
    window = window.readable()
    zeros = np.zeros(channels, np.float32)
    full = zeros if bias is None else np.broadcast_to(bias.reshape(-1), channels).astype(np.float32)
    spatial = source.shape[1:]
    input_shape = spatial[0] if len(spatial) == 1 else np.array(spatial)
    return {**window.node(), "input_shape": input_shape, "bias": full}


@dataclass(frozen=True, kw_only=True)
class _Window:
    """A convolution; each step of `readable` leaves what it computes as it is."""

    weight: NDArray[Any]
    groups: int
    padding: Pads
    dilation: Shape
    stride: Shape

    def readable(self) -> _Window:
        """The same with padding alike on both sides, a square kernel and one group.

        NIR pads both sides alike; nir 1.0.8 infers shapes from the first axis of the kernel alone,
        and takes the channels of a group for all. What would become too large stays as it is.
        """
        window = self
        for axis in range(len(self.stride)):
            window = window._padded_alike(axis)
        return window._square()._in_one_group()

    def _padded_alike(self, axis: int) -> _Window:
        before, after = self.padding[axis]
        if before == after:
            return self
        window = self
        if (after - before) % self.dilation[axis]:
            window = self._undilated(axis)
        n_zeros = (after - before) // window.dilation[axis]
        zeros = (max(n_zeros, 0), max(-n_zeros, 0))
        return window._grown(axis, zeros, (max(before, after),) * 2) or self

    def _square(self) -> _Window:
        kernel = self.weight.shape[2:]
        n_zeros = max(kernel) - min(kernel)
        if n_zeros % 2:  # an odd number cannot be alike on both sides
            return self
        axis, n = int(np.argmin(kernel)), n_zeros // 2
        before, after = (p + n * self.dilation[axis] for p in self.padding[axis])
        return self._grown(axis, (n, n), (before, after)) or self

    def _in_one_group(self) -> _Window:
        if self.groups == 1 or self.weight.size * self.groups > MAX_WRITTEN_OUT:
            return self
        c_out, c_in, *kernel = self.weight.shape
        full = np.zeros((c_out, c_in * self.groups, *kernel), self.weight.dtype)
        n = c_out // self.groups
        for group in range(self.groups):
            rows, columns = (
                slice(group * n, group * n + n),
                slice(group * c_in, group * c_in + c_in),
            )
            full[rows, columns] = self.weight[rows]
        return replace(self, weight=full, groups=1)

    def _undilated(self, axis: int) -> _Window:
        """Zeros between the weights of an axis, in place of its dilation."""
        shape = list(self.weight.shape)
        shape[axis + 2] = self.dilation[axis] * (shape[axis + 2] - 1) + 1
        if np.prod(shape, dtype=np.int64) > MAX_WRITTEN_OUT:
            return self
        full = np.zeros(shape, self.weight.dtype)
        at = [slice(None)] * len(shape)
        at[axis + 2] = slice(None, None, self.dilation[axis])
        full[tuple(at)] = self.weight
        return replace(self, weight=full, dilation=_changed(self.dilation, axis, 1))

    def _grown(self, axis: int, zeros: tuple[int, int], padding: tuple[int, int]) -> _Window | None:
        """Zeros around the weights of an axis, and the padding that goes with them."""
        size = self.weight.shape[axis + 2]
        if self.weight.size // size * (size + sum(zeros)) > MAX_WRITTEN_OUT:
            return None
        widths = [(0, 0)] * self.weight.ndim
        widths[axis + 2] = zeros
        return replace(
            self,
            weight=np.pad(self.weight, widths),
            padding=_changed(self.padding, axis, padding),
        )

    def node(self) -> dict[str, Any]:
        """Fields of a NIR node."""
        single = len(self.stride) == 1
        sizes = {
            "stride": self.stride,
            "padding": tuple(before for before, _ in self.padding),
            "dilation": self.dilation,
        }
        return {
            "type": "Conv1d" if single else "Conv2d",
            "weight": self.weight,
            "groups": self.groups,
            **{name: n[0] if single else np.array(n) for name, n in sizes.items()},
        }


def _changed(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _projection_notes(item: Projection, node: Mapping[str, Any], target: Population) -> list[str]:
    notes = []
    if isinstance(item, Conv1d | Conv2d | SumPool) and node["type"] != "SumPool2d":
        after = np.array([b for _, b in item.padding])
        before = np.array([a for a, _ in item.padding])
        if (before != after).any() and np.array_equal(np.atleast_1d(node["padding"]), before):
            notes.append(f"'{item.name}' pads by {item.padding}; NIR pads both sides alike")
    if item.delay:
        notes.append(f"'{item.name}' has a delay of {item.delay} steps, in its metadata only")
    if item.delays is not None:
        notes.append(
            f"'{item.name}' has delays of up to {int(item.delays.max())} steps by synapse, in its "
            "metadata only"
        )
    if item.weight_exponent < 0:
        notes.append(
            f"'{item.name}' rounds its sum down (weight_exponent {item.weight_exponent}); NIR does "
            "not round"
        )
    if isinstance(item, Dense) and len(target.shape) > 1:
        notes.append(f"'{item.name}' fills the shape {target.shape} of '{target.name}' in C order")
    return notes
