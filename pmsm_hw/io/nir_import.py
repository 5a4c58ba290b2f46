"""General NIR graphs as integer networks: linear nodes between integrate-and-fire neurons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import FormatError, NetworkError
from pmsm_hw.io.nir_graph import LINEAR, MAX_LINEAR_IN_A_ROW, Graph, Node
from pmsm_hw.io.nir_neurons import made_of
from pmsm_hw.io.nir_rounding import Branch, Target, network_of, shortest
from pmsm_hw.io.schema import MAX_ITEMS, at_most, check_limits
from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    Pads,
    PolarityMultiSpike,
    Population,
    Projection,
    Shape,
    SumPool,
)

__all__ = ["ImportOptions", "network_from_graph"]

MAX_WEIGHTS = 1 << 26
"""Most weights of all branches together (a node that several branches share counts for each)."""
MAX_PATHS = MAX_ITEMS
_ONE = np.ones((), np.int8)


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a graph does not say; see `pmsm_hw.io.load_nir`."""

    name: str
    max_steps: int = 16
    input_scale: float | None = None
    input_levels: tuple[int, int] = (0, 255)
    levels: tuple[int, int] = (0, 1)


def network_from_graph(
    subject: str, graph: Node, options: ImportOptions
) -> tuple[Network, tuple[str, ...]]:
    """Turn a NIR graph (nested dictionaries, as read from a file) into a network.

    Returns
    -------
    Network
        What the graph means.
    tuple of str
        Where it is not exactly what the graph says, one sentence each.

    Raises
    ------
    FormatError
        If a node cannot be represented; it is named.
    """
    try:
        return _Import(Graph.checked(subject, graph), options).network()
    except NetworkError as error:
        raise FormatError(
            subject,
            f"gives no valid network: {error.subject}: {error.problem}",
            remedy=error.remedy,
            actual=error.actual,
            limit=error.limit,
        ) from error


class _Import:
    def __init__(self, graph: Graph, options: ImportOptions) -> None:
        self.graph, self.options = graph, options
        self.populations: dict[str, Population] = {}
        self.relays: list[Projection] = []
        self.relay_names: dict[tuple[str, str], str] = {}
        self.n_paths = self.n_weights = 0
        self.flattened: dict[str, Shape] = {}
        self.shapes: dict[str, Shape] = {}  # of what a node sends

    def network(self) -> tuple[Network, tuple[str, ...]]:
        graph = self.graph
        for key in graph.order:
            self.shapes[key] = self._output_shape(key)
        for key in graph.nodes:
            if graph.type_of(key) == "Input":
                self.populations[key] = Input(
                    name=key,
                    shape=self.shapes[key],
                    scale=1.0 if self.options.input_scale is None else self.options.input_scale,
                    levels=self.options.input_levels,
                )
        if not self.populations:
            raise FormatError(f"{graph.subject}: the graph", "has no Input", remedy="add one")
        ends = {k: p for k in graph.nodes if (p := self._target(k)) is not None}
        self.populations.update(ends)
        targets: dict[str, Target] = {}
        for key, population in ends.items():
            target = Target(population=population, threshold=self._threshold(key), r=self._r(key))
            targets[key] = target
            precisions = [self._precision(key)]
            for source in graph.into[key]:
                self._add_ways(target, key, source, [], precisions)
            target.precision = min(
                (p for p in precisions if p is not None), key=lambda p: p.itemsize, default=None
            )
        network, notes = network_of(
            graph, self.options.name, self.options.max_steps, self.populations, self.relays, targets
        )
        return network, (*self._notes(), *notes)

    def _notes(self) -> list[str]:
        notes = []
        if self.options.input_scale is None:
            lo, hi = self.options.input_levels
            notes.append(
                f"inputs are whole numbers from {lo} to {hi}, as no input_scale was given: the "
                "real value of one unit"
            )
        if any(self.graph.type_of(k) == "IF" for k in self.graph.nodes):
            notes.append(
                "IF neurons fire at the threshold and keep what exceeds it; NIR's definition has "
                "them fire above it and reset to 0"
            )
        notes += [
            f"node '{key}' takes what feeds it, of shape {shape}, flattened in C order"
            for key, shape in self.flattened.items()
        ]
        return notes

    # -- shapes ---------------------------------------------------------------------------

    def _output_shape(self, key: str) -> Shape:
        """Shape of what a node sends; what feeds it must fit it."""
        graph, kind = self.graph, self.graph.type_of(key)
        if kind == "Input":
            return self._stated_shape(key)
        sources = {source: self.shapes[source] for source in graph.into[key]}
        if kind in ("IF", "I", "Output"):
            shape = self._end_shape(key, kind, sources)
            for source, given in sources.items():
                if int(np.prod(given)) != int(np.prod(shape)):
                    graph.refuse(
                        key,
                        f"has shape {shape}, '{source}' feeds it {given}",
                        "make the shapes agree",
                        given,
                    )
            return shape
        shape = next(iter(sources.values()))
        if kind in ("Affine", "Linear"):
            rows, columns = self._weight(key, 2).shape
            for source, given in sources.items():
                if int(np.prod(given)) != columns:
                    graph.refuse(
                        key,
                        f"takes {columns:,} values, gets {int(np.prod(given)):,} from '{source}'",
                        "make the shapes agree",
                        given,
                    )
                if len(given) > 1:
                    self.flattened[key] = given
            return (rows,)
        for source, given in sources.items():
            if given != shape:
                graph.refuse(
                    key,
                    f"gets shapes {shape} and, from '{source}', {given}",
                    "make the shapes agree",
                    given,
                )
        if kind == "Flatten":
            return self._flattened_shape(key, shape)
        if kind == "Scale":
            self._scale(key, shape)
            return shape
        if kind in ("SumPool2d", "AvgPool2d"):
            kernel, stride, padding = self._pool_window(key, shape)
            pool = SumPool(source=key, target=key, name=key, kernel=kernel, stride=stride,
                           padding=padding)  # fmt: skip
            return pool.output_shape(shape)
        weight = self._weight(key, 3 if kind == "Conv1d" else 4)
        if graph.nodes[key].get("input_shape") is not None:
            stated = graph.sizes(key, "input_shape", weight.ndim - 2)
            if stated != shape[1:]:
                graph.refuse(
                    key, f"has input_shape {stated}, gets {shape}", "make the shapes agree", stated
                )
        return self._conv(key, key, key)(None, 0).output_shape(shape)

    def _weight(self, key: str, n_axes: int) -> NDArray[Any]:
        weight = self.graph.numbers(key, "weight", n_axes)
        at_most(
            f"{self.graph.subject}: node '{key}'", "number of weights", weight.size, MAX_WEIGHTS
        )
        return weight

    def _stated_shape(self, key: str) -> Shape:
        self.graph.numbers(key, "shape", 1)
        shape = self.graph.wholes(key, "shape", 1)
        check_limits(
            f"{self.graph.subject}: node '{key}'", {"kind": "input", "shape": shape, "name": key}
        )
        return shape

    def _end_shape(self, key: str, kind: str, sources: dict[str, Shape]) -> Shape:
        graph = self.graph
        if kind == "Output":
            shape = self._stated_shape(key)
            for source, given in sources.items():
                if graph.type_of(source) == "I" and given != shape:
                    graph.refuse(
                        key, f"has shape {shape}, '{source}' feeds it {given}",
                        "make the shapes agree", given,
                    )  # fmt: skip
            return shape
        fields = ("r", "v_threshold", "v_reset") if kind == "IF" else ("r",)
        shapes = {
            graph.numbers(key, f).shape
            for f in fields
            if f != "v_reset" or graph.nodes[key].get(f) is not None
        }
        arrays = shapes - {()}
        if len(arrays) > 1:
            graph.refuse(
                key,
                f"has parameters of shapes {', '.join(map(str, sorted(arrays)))}",
                "give one of each per neuron",
                sorted(arrays),
            )
        shape = next(iter(arrays), next(iter(sources.values())))
        if not 1 <= len(shape) <= 3:
            graph.refuse(key, f"has {len(shape)} axes, 1 to 3 are possible", "flatten it", shape)
        return shape

    def _flattened_shape(self, key: str, shape: Shape) -> Shape:
        start, end = (self.graph.wholes(key, f, -8)[0] for f in ("start_dim", "end_dim"))
        axes, batch = len(shape), 0
        stated = self.graph.nodes[key].get("input_type")
        if stated is not None:
            self.graph.numbers(key, "input_type", 1)
            given = self.graph.wholes(key, "input_type", 1)
            if given != shape and given[1:] != shape:
                self.graph.refuse(
                    key, f"has input_type {given}, gets {shape}", "make the shapes agree", given
                )
            batch = int(given != shape)  # a leading axis of the batch counts, but is not there
            if batch and (start == 0 or start == -axes - 1) and given[0] != 1:
                self.graph.refuse(
                    key, f"flattens a batch of {given[0]} into one", "flatten from axis 1 on", given
                )
        first, last = (n if n >= 0 else n + axes + batch for n in (start, end))
        first, last = max(first - batch, 0) if first >= 0 else first, last - batch
        if not 0 <= first <= last < axes:
            self.graph.refuse(
                key, f"flattens axes {start} to {end} of {shape}", "flatten existing axes",
                (start, end),
            )  # fmt: skip
        return (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])

    # -- populations ----------------------------------------------------------------------

    def _target(self, key: str) -> Population | None:
        """Population of a node that ends a branch; its numbers follow in `network_of`."""
        kind, sources = self.graph.type_of(key), self.graph.into[key]
        if kind == "Output" and [self.graph.type_of(s) for s in sources] == ["I"]:
            return None  # the integrator is the readout
        return made_of(kind, key, self.shapes[key], self.options.levels)

    def _threshold(self, key: str) -> NDArray[Any] | None:
        """Threshold over resistance: the input that makes a neuron fire."""
        graph = self.graph
        if graph.type_of(key) != "IF":
            return None
        threshold, r = graph.numbers(key, "v_threshold"), graph.numbers(key, "r")
        if graph.nodes[key].get("v_reset") is not None and graph.numbers(key, "v_reset").any():
            graph.refuse(key, "resets to other values than 0", "reset to 0", "v_reset")
        if (r <= 0).any() or (threshold <= 0).any():
            graph.refuse(
                key,
                "needs thresholds and resistances above 0",
                "scale the weights instead",
                (float(threshold.min()), float(r.min())),
            )
        return _compact(threshold).astype(np.float64) / _compact(r).astype(np.float64)

    def _r(self, key: str) -> NDArray[np.float64]:
        """What an integrator multiplies its input by."""
        if self.graph.type_of(key) != "I":
            return np.ones(())
        return _compact(self.graph.numbers(key, "r")).astype(np.float64)

    def _precision(self, key: str) -> np.dtype[Any] | None:
        """The coarsest float type of a node's numbers."""
        fields = ("weight", "bias", "scale", "v_threshold", "r")
        values = [self.graph.nodes[key].get(field) for field in fields]
        found = [v.dtype for v in values if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
        return min(found, key=lambda dtype: dtype.itemsize, default=None)

    # -- branches -------------------------------------------------------------------------

    def _add_ways(
        self,
        target: Target,
        end: str,
        key: str,
        after: list[str],
        precisions: list[np.dtype[Any] | None],
    ) -> None:
        """Add the ways from populations through ``key`` and then ``after`` into a target.

        A node's bias counts once for each way from the node on, however many lead to it.
        """
        self.n_paths += 1
        at_most(self.graph.subject, "number of paths", self.n_paths, MAX_PATHS)
        if self.graph.type_of(key) not in LINEAR:
            target.branches.append(self._branch(end, key, after))
            return
        if len(after) == MAX_LINEAR_IN_A_ROW:
            self.graph.refuse(
                key,
                f"is followed by {len(after)} linear nodes in a row, {MAX_LINEAR_IN_A_ROW - 1} "
                "are possible",
                "multiply them into one",
                len(after),
            )
        for source in self.graph.into[key]:
            self._add_ways(target, end, source, [key, *after], precisions)
        precisions.append(self._precision(key))
        bias = self._bias(key, after, self.shapes[end])
        if bias is not None:
            target.bias = target.bias + bias

    def _bias(self, key: str, after: list[str], goal: Shape) -> NDArray[np.float64] | None:
        """What a node's own bias adds to a target, through the nodes behind it."""
        kind = self.graph.type_of(key)
        has_none = kind not in ("Affine", "Conv1d", "Conv2d")
        if has_none or (kind != "Affine" and self.graph.nodes[key].get("bias") is None):
            return None
        bias = self.graph.numbers(key, "bias")
        shape = self.shapes[key]
        if bias.ndim and bias.shape != shape[:1]:
            self.graph.refuse(
                key, f"has a bias of shape {bias.shape}, {shape[:1]} is expected", "give one each",
                bias.shape,
            )  # fmt: skip
        found = bias.astype(np.float64)
        if found.ndim:
            found = found.reshape(-1, *(1,) * (len(shape) - 1))
        for behind in after:  # others than these are refused behind weights
            if self.graph.type_of(behind) == "Scale":
                found = found * self._scale(behind, self.shapes[behind])
            found = _reshaped(found, shape, self.shapes[behind])
            shape = self.shapes[behind]
        return _reshaped(found, shape, goal)

    def _scale(self, key: str, shape: Shape) -> NDArray[np.float64]:
        """Factors of a Scale node, broadcastable to a shape."""
        scale = self.graph.numbers(key, "scale").astype(np.float64)
        if scale.size == 1:
            return scale.reshape(())
        fits = scale.ndim == len(shape) and all(
            a in (1, b) for a, b in zip(scale.shape, shape, strict=True)
        )
        if not fits:
            self.graph.refuse(
                key, f"has shape {scale.shape}, its input {shape}", "make the shapes agree",
                scale.shape,
            )  # fmt: skip
        return _compact(scale)

    def _branch(self, target: str, source: str, nodes: list[str]) -> Branch:
        graph, start = self.graph, source
        shape = self.shapes[source]
        pending = np.ones(())  # scale in front of the weights, broadcastable to the shape
        found: Branch | None = None
        for position, key in enumerate(nodes):
            kind = graph.type_of(key)
            later = any(graph.type_of(k) not in ("Flatten", "Scale") for k in nodes[position + 1 :])
            if kind == "Flatten":
                pending = _reshaped(pending, shape, self.shapes[key])
            elif kind == "Scale":
                scale = self._scale(key, shape)
                if found is None:
                    pending = pending * scale
                else:
                    found = self._scaled(key, found, scale, shape)
            elif found is not None:
                graph.refuse(
                    key,
                    f"follows '{found.name}' without neurons between them",
                    "multiply the two into one",
                )
            elif kind in ("SumPool2d", "AvgPool2d") and later:
                start, factor = self._relay(key, start, shape)
                pending = self._per_channel(key, pending) * factor
                if pending.ndim:
                    pending = pending.reshape(-1, *(1,) * (len(shape) - 1))
            else:
                found = self._weighted(key, start, target, shape, pending)
            shape = self.shapes[key]
        if found is None:
            found = self._identity(source, start, target, shape, pending)
        self.n_weights += found.weight.size
        at_most(graph.subject, "number of weights", self.n_weights, MAX_WEIGHTS)
        goal = self.shapes[target]
        projection = found.make(None, 0)
        if not isinstance(projection, Dense):
            shape = projection.output_shape(self.populations[start].shape)
            if shape != goal:
                graph.refuse(
                    target,
                    f"has shape {goal}, '{found.name}' gives it {shape}",
                    "leave out what flattens it, or put an Affine or Linear node in between",
                    shape,
                )
        elif shape != goal:
            self.flattened[target] = shape
        return found

    def _scaled(self, key: str, found: Branch, scale: NDArray[np.float64], shape: Shape) -> Branch:
        """Scale behind the weights: each row is scaled."""
        rows = len(found.weight)
        if scale.ndim == 0:
            factor = np.full(rows, float(scale))
        else:
            full = np.broadcast_to(scale, shape).reshape(-1)
            per_row = full.reshape(rows, -1)
            if (per_row != per_row[:, :1]).any():
                self.graph.refuse(
                    key, "scales neurons of one channel differently", "scale channels"
                )
            factor = per_row[:, 0]
        weight = found.weight * factor.reshape(-1, *(1,) * (found.weight.ndim - 1))
        return replace(found, weight=weight)

    def _per_channel(self, key: str, scale: NDArray[np.float64]) -> NDArray[np.float64]:
        """One factor per channel ``(c,)``, or one for all ``()``."""
        if scale.ndim == 0:
            return scale
        flat = scale.reshape(len(scale), -1)
        if (flat != flat[:, :1]).any():
            self.graph.refuse(
                key, "gets neurons of one channel scaled differently", "scale channels"
            )
        return flat[:, 0] if len(flat) > 1 else flat[0, 0].reshape(())

    # -- windows --------------------------------------------------------------------------

    def _relay(self, key: str, source: str, shape: Shape) -> tuple[str, float]:
        """A population that passes on the sum over each window."""
        kernel, stride, padding = self._pool_window(key, shape)
        factor = 1.0 if self.graph.type_of(key) == "SumPool2d" else 1.0 / float(np.prod(kernel))
        name = self.relay_names.get((key, source))
        if name is None:
            name = key
            while name in self.populations or (name in self.graph.nodes and name != key):
                name += "_"
            self.relay_names[key, source] = name
            projection = SumPool(
                source=source, target=name, kernel=kernel, stride=stride, padding=padding
            )
            lo, hi = self._spike_range(self.populations[source])
            n = int(np.prod(kernel))
            self.populations[name] = PolarityMultiSpike(
                name=name, shape=self.shapes[key], theta=np.array(1), v_init=np.array(0),
                levels=(-lo * n, max(hi * n, 1)),
            )  # fmt: skip
            self.relays.append(projection)
        return name, factor

    @staticmethod
    def _spike_range(population: Population) -> tuple[int, int]:
        if isinstance(population, Input):
            lo, hi = population.levels
            return min(lo, 0), max(hi, 0)
        n, p = population.levels  # type: ignore[attr-defined]
        return -n, p

    def _pool_window(self, key: str, shape: Shape) -> tuple[Shape, Shape, Pads]:
        graph = self.graph
        if len(shape) != 3:
            graph.refuse(
                key, f"pools {shape}, (channels, height, width) is expected", "pool images", shape
            )
        kernel, stride = (graph.sizes(key, f, 2, 1) for f in ("kernel_size", "stride"))
        padding = tuple((p, p) for p in graph.sizes(key, "padding", 2))
        subject = f"{graph.subject}: node '{key}'"
        fields = {"kind": "sum_pool", "name": key, "kernel": kernel, "stride": stride,
                  "padding": padding}  # fmt: skip
        check_limits(subject, fields)
        at_most(subject, "channels x window", shape[0] * int(np.prod(kernel)), 1 << 23)
        return kernel, stride, padding

    def _conv(self, key: str, source: str, target: str) -> Callable[..., Projection]:
        """What makes the convolution of a node, from integer weights, or ones to see shapes."""
        graph = self.graph
        n_axes = 1 if graph.type_of(key) == "Conv1d" else 2
        weight = graph.numbers(key, "weight", n_axes + 2)
        stride, dilation = (graph.sizes(key, f, n_axes, 1) for f in ("stride", "dilation"))
        padding = self._padding(key, weight.shape[2:], stride, dilation)
        fields = {"kind": "conv2d", "name": key, "stride": stride, "dilation": dilation,
                  "padding": padding}  # fmt: skip
        check_limits(f"{graph.subject}: node '{key}'", fields)
        (groups,) = graph.sizes(key, "groups", 1, 1)
        conv = Conv1d if n_axes == 1 else Conv2d

        def make(integer: NDArray[np.int8] | None, exponent: int) -> Projection:
            return conv(
                name=key, source=source, target=target, weight_exponent=exponent, stride=stride,
                padding=padding, dilation=dilation, groups=groups,
                weight=np.ones(weight.shape, np.int8) if integer is None else integer,
            )  # fmt: skip

        return make

    def _padding(self, key: str, kernel: Shape, stride: Shape, dilation: Shape) -> Pads:
        value = self.graph.nodes[key].get("padding")
        if not isinstance(value, str):
            return tuple((p, p) for p in self.graph.sizes(key, "padding", len(kernel)))
        if value == "valid":
            return ((0, 0),) * len(kernel)
        if value != "same" or set(stride) != {1}:
            self.graph.refuse(
                key,
                f"has padding {value!r:.20} with stride {stride}; numbers, 'valid', and 'same' "
                "with stride 1 are possible",
                "give the padding as numbers",
                value,
            )
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)  # one more behind, as torch has it

    def _weighted(
        self, key: str, source: str, target: str, shape: Shape, pending: NDArray[np.float64]
    ) -> Branch:
        """The one node of a branch that has weights (or pools right into neurons)."""
        kind = self.graph.type_of(key)
        common: dict[str, Any] = {"source": source, "target": target, "name": key}
        if kind in ("Affine", "Linear"):
            weight = self.graph.numbers(key, "weight", 2)

            def dense(integer: NDArray[np.int8] | None, exponent: int) -> Projection:
                ones = np.ones(weight.shape, np.int8) if integer is None else integer
                return Dense(**common, weight_exponent=exponent, weight=ones)

            columns = _reshaped(pending, shape, (weight.shape[1],))
            return Branch(name=key, weight=weight.astype(np.float64) * columns, make=dense)
        factor = self._per_channel(key, pending)
        if kind in ("SumPool2d", "AvgPool2d"):
            kernel, stride, padding = self._pool_window(key, shape)
            scale = 1.0 if kind == "SumPool2d" else 1.0 / float(np.prod(kernel))

            def pool(integer: NDArray[np.int8] | None, exponent: int) -> Projection:
                return SumPool(
                    **common, kernel=kernel, stride=stride, padding=padding,
                    weight_exponent=exponent, weight=_ONE if integer is None else integer,
                )  # fmt: skip

            weight = np.broadcast_to(factor * scale, shape[:1]).copy()
            return Branch(name=key, weight=weight, make=pool)
        make = self._conv(key, source, target)
        weight = self.graph.numbers(key, "weight")
        if factor.ndim:  # each output channel sees the channels of its group
            c_out, c_group = weight.shape[:2]
            n_out = c_out // (shape[0] // c_group)  # of a group
            channels = np.arange(c_out)[:, None] // n_out * c_group + np.arange(c_group)
            factor = factor[channels].reshape(c_out, c_group, *(1,) * (weight.ndim - 2))
        return Branch(name=key, weight=weight.astype(np.float64) * factor, make=make)

    def _identity(
        self, origin: str, source: str, target: str, shape: Shape, pending: NDArray[np.float64]
    ) -> Branch:
        factor, name = self._per_channel(target, pending), f"{origin}->{target}"

        def make(integer: NDArray[np.int8] | None, exponent: int) -> Projection:
            return Identity(
                source=source, target=target, name=name, weight_exponent=exponent,
                weight=_ONE if integer is None else integer,
            )  # fmt: skip

        weight = np.broadcast_to(factor, shape[:1]).copy()
        return Branch(name=name, weight=weight, make=make)


def _compact(values: NDArray[Any]) -> NDArray[Any]:
    """The same values, broadcastable: one for all, or per channel, where that says it."""
    if values.ndim == 0:
        return values
    short = shortest(values)
    return short if short.ndim != 1 else short.reshape(-1, *(1,) * (values.ndim - 1))


def _reshaped(values: NDArray[np.float64], shape: Shape, to: Shape) -> NDArray[np.float64]:
    """Values that broadcast to a shape, in another shape of as many neurons."""
    if values.ndim == 0 or shape == to:
        return values
    return np.broadcast_to(values, shape).reshape(to)
