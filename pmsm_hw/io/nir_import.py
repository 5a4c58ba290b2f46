"""General NIR graphs as integer networks: linear nodes between integrate-and-fire neurons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import FormatError, NetworkError
from pmsm_hw.io.schema import MAX_ITEMS, at_most, check_limits, check_work, fields_of
from pmsm_hw.network import (
    MAX_WEIGHT_EXPONENT,
    STATE_MAX,
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
    Readout,
    Shape,
    SumPool,
)

__all__ = ["ImportOptions", "network_from_graph"]

Node: TypeAlias = Mapping[str, Any]

LINEAR = ("Affine", "Linear", "Conv1d", "Conv2d", "Flatten", "SumPool2d", "AvgPool2d", "Scale")
ENDS = ("IF", "I", "Output")
WEIGHT_LIMIT = 127
MAX_WEIGHTS = 1 << 26
"""Most weights of all branches together (a node that several branches share counts for each)."""
MAX_PATHS = MAX_ITEMS


_ONE = np.ones((), np.int8)


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a graph does not say; see `pmsm_hw.io.load_nir`."""

    name: str
    max_steps: int = 16
    input_scale: float = 1.0
    input_levels: tuple[int, int] = (0, 255)
    levels: tuple[int, int] = (0, 1)


@dataclass(frozen=True, kw_only=True)
class _Branch:
    """One linear way from a population to the next, with real weights.

    ``make(weight, exponent)`` builds the projection from integer weights.
    """

    name: str
    source: str
    weight: NDArray[np.float64]  # rows: target channels, or neurons if dense
    bias: NDArray[np.float64]  # broadcasts to the target's shape
    make: Callable[..., Projection]


def network_from_graph(subject: str, graph: Node, options: ImportOptions) -> Network:
    """Turn a NIR graph (nested dictionaries, as read from a file) into a network.

    Raises
    ------
    FormatError
        If a node cannot be represented; it is named.
    """
    try:
        return _Import(subject, graph, options).network()
    except NetworkError as error:
        raise FormatError(
            subject,
            f"gives no valid network: {error.subject}: {error.problem}",
            remedy=error.remedy,
            actual=error.actual,
            limit=error.limit,
        ) from error


class _Import:
    def __init__(self, subject: str, graph: Node, options: ImportOptions) -> None:
        self.subject, self.options = subject, options
        nodes, edges = graph.get("nodes"), graph.get("edges")
        if not isinstance(nodes, dict) or not isinstance(edges, list) or not nodes:
            self._refuse("the graph", "has no nodes or no edges", "give a complete NIR graph")
        at_most(subject, "number of nodes", len(nodes), MAX_ITEMS)
        at_most(subject, "number of edges", len(edges), 2 * MAX_ITEMS)
        self.nodes: dict[str, Node] = {}
        for key, node in nodes.items():
            if not isinstance(node, dict) or not isinstance(node.get("type"), str):
                self._refuse(f"node '{key}'", "has no type", "give a complete NIR graph")
            self.nodes[key] = node
        self.into: dict[str, list[str]] = {key: [] for key in self.nodes}
        for edge in edges:
            if not isinstance(edge, list) or len(edge) != 2 or not all(e in nodes for e in edge):
                self._refuse("the graph", f"has an edge {edge!r:.80} between unknown nodes",
                             "give a complete NIR graph")  # fmt: skip
            self.into[edge[1]].append(edge[0])
        for key, node in self.nodes.items():
            self._check_kind(key, node)
        self.populations: dict[str, Population] = {}
        self.relays: list[Projection] = []
        self.relay_names: dict[tuple[str, str], str] = {}
        self.n_paths = self.n_weights = 0
        self._last_shape: Shape = ()

    # -- nodes ----------------------------------------------------------------------------

    def _refuse(self, what: str, problem: str, remedy: str, actual: object = None) -> NoReturn:
        raise FormatError(f"{self.subject}: {what}", problem, remedy=remedy, actual=actual)

    def _type(self, key: str) -> str:
        return str(self.nodes[key]["type"])

    def _check_kind(self, key: str, node: Node) -> None:
        kind = node["type"]
        if kind in (*LINEAR, *ENDS, "Input"):
            return
        reason = {
            "LIF": "leaks, polarity multi-spike neurons do not",
            "CubaLIF": "leaks and filters its input, polarity multi-spike neurons do neither",
            "LI": "leaks, readouts do not",
            "CubaLI": "leaks and filters its input, readouts do neither",
            "Delay": "delays in continuous time, projections delay by steps",
            "Threshold": "has no state, polarity multi-spike neurons have one",
            "NIRGraph": "is a graph inside a graph",
        }.get(kind, "is unknown")
        self._refuse(
            f"node '{key}'",
            f"of type {kind!r:.40} {reason}",
            f"use {', '.join(('Input', *LINEAR, *ENDS))}",
            kind,
        )

    def _numbers(self, key: str, field: str, n_axes: int | None = None) -> NDArray[np.float64]:
        value = self.nodes[key].get(field)
        if (
            not isinstance(value, np.ndarray)
            or value.dtype.kind not in "iuf"
            or (n_axes is not None and value.ndim != n_axes)
            or value.size == 0
        ):
            shape = getattr(value, "shape", None)
            self._refuse(
                f"node '{key}'",
                f"field '{field}' (shape {shape}) is not an array of numbers"
                + (f" with {n_axes} axes" if n_axes is not None else ""),
                "give a complete NIR graph",
                shape,
            )
        numbers = np.asarray(value, np.float64)
        if not np.isfinite(numbers).all():
            self._refuse(f"node '{key}'", f"field '{field}' is not finite", "train it again")
        return numbers

    def _sizes(self, key: str, field: str, n_axes: int) -> tuple[int, ...]:
        value = self.nodes[key].get(field)
        if field == "padding" and isinstance(value, str):
            return self._named_padding(key, value, n_axes)
        numbers = self._numbers(key, field).reshape(-1)
        sizes = tuple(int(n) for n in numbers) if np.abs(numbers).max() < 2**31 else ()
        if len(sizes) not in (1, n_axes) or tuple(numbers) != sizes or min(sizes) < 0:
            self._refuse(
                f"node '{key}'",
                f"field '{field}' is {numbers.tolist()!r:.80}, {n_axes} sizes are expected",
                "give a complete NIR graph",
                numbers.tolist(),
            )
        return sizes if len(sizes) == n_axes else sizes * n_axes

    def _named_padding(self, key: str, value: str, n_axes: int) -> tuple[int, ...]:
        if value == "valid":
            return (0,) * n_axes
        kernel = self._numbers(key, "weight", n_axes + 2).shape[2:]
        dilation, stride = (self._sizes(key, f, n_axes) for f in ("dilation", "stride"))
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if value != "same" or any(t % 2 for t in total) or set(stride) != {1}:
            self._refuse(
                f"node '{key}'",
                f"padding {value!r:.20}, kernel {kernel}, stride {stride} differs between sides",
                "give the padding as numbers",
                value,
            )
        return tuple(t // 2 for t in total)

    # -- populations ----------------------------------------------------------------------

    def _shape(self, key: str, field: str = "shape") -> Shape:
        shape = tuple(int(n) for n in self._numbers(key, field, 1))
        check_limits(
            f"{self.subject}: node '{key}'", {"kind": "input", "shape": shape, "name": key}
        )
        return shape

    def _neurons(self, key: str) -> NDArray[np.float64]:
        """Threshold over resistance: the input that makes a neuron fire."""
        threshold, resistance = self._numbers(key, "v_threshold"), self._numbers(key, "r")
        reset = self.nodes[key].get("v_reset")
        if reset is not None and np.any(self._numbers(key, "v_reset") != 0):
            self._refuse(f"node '{key}'", "resets to other values than 0", "reset to 0", "v_reset")
        if resistance.shape != threshold.shape or (resistance <= 0).any() or (threshold <= 0).any():
            self._refuse(
                f"node '{key}'",
                "needs thresholds and resistances above 0, one of each per neuron",
                "scale the weights instead",
                (threshold.shape, resistance.shape),
            )
        if not 1 <= threshold.ndim <= 3:
            self._refuse(
                f"node '{key}'", f"has {threshold.ndim} axes, 1 to 3 are possible", "flatten it"
            )
        return threshold / resistance

    def network(self) -> Network:
        inputs = [k for k in self.nodes if self._type(k) == "Input"]
        if not inputs:
            self._refuse("the graph", "has no Input", "add one")
        for key in inputs:
            self.populations[key] = Input(
                name=key,
                shape=self._shape(key),
                scale=self.options.input_scale,
                levels=self.options.input_levels,
            )
        targets = {k: self._target(k) for k in self.nodes if self._type(k) in ENDS}
        for key, population in targets.items():
            if population is not None:
                self.populations[key] = population
        branches = {
            key: [branch for source in self.into[key] for branch in self._branches(key, source, [])]
            for key, population in targets.items()
            if population is not None
        }
        exponents = dict.fromkeys(branches, MAX_WEIGHT_EXPONENT)
        while True:  # at most once for each bit: those that do not fit all lose one at a time
            trial = self._build(branches, exponents, overflow="saturate")
            tight = [k for k, e in exponents.items() if e and not trial.bounds[k].fits]
            if not tight:
                return self._build(branches, exponents, overflow="error")
            for key in tight:
                exponents[key] -= 1

    def _target(self, key: str) -> Population | None:
        """Population of a node that ends a branch; its numbers follow in `_build`."""
        kind = self._type(key)
        if kind == "IF":
            shape = self._neurons(key).shape
            return PolarityMultiSpike(
                name=key, shape=shape, theta=np.array(1), levels=self.options.levels,
                v_init=np.array(0),
            )  # fmt: skip
        if kind == "I":
            if (self._numbers(key, "r") != 1).any():
                self._refuse(f"node '{key}'", "has a resistance other than 1", "scale the weights")
            return Readout(name=key, shape=self._numbers(key, "r").shape)
        sources = self.into[key]
        if len(sources) == 1 and self._type(sources[0]) == "I":
            return None  # the integrator is the readout
        return Readout(name=key, shape=self._shape(key))

    # -- branches -------------------------------------------------------------------------

    def _branches(self, target: str, key: str, after: list[str]) -> list[_Branch]:
        """Ways from populations through ``key`` and then ``after`` into ``target``."""
        if len(after) > 64 or key in after:
            self._refuse(f"node '{key}'", "is in a cycle of linear nodes", "add neurons")
        self.n_paths += 1
        at_most(self.subject, "number of paths", self.n_paths, MAX_PATHS)
        kind = self._type(key)
        if kind in ("Input", "IF"):
            return [self._branch(target, key, after)]
        if kind not in LINEAR:
            self._refuse(f"node '{key}'", f"of type {kind} feeds '{target}', it has no spikes",
                         "connect neurons or inputs")  # fmt: skip
        if not self.into[key]:
            self._refuse(f"node '{key}'", "has no input", "connect it")
        return [
            branch
            for source in self.into[key]
            for branch in self._branches(target, source, [key, *after])
        ]

    def _branch(self, target: str, source: str, nodes: list[str]) -> _Branch:
        shape: Shape = self.populations[source].shape
        start, pending = source, 1.0 + np.zeros(())  # scale in front of the weights
        found: _Branch | None = None
        goal = self.populations[target].shape
        for position, key in enumerate(nodes):
            kind = self._type(key)
            later = any(self._type(k) not in ("Flatten", "Scale") for k in nodes[position + 1 :])
            if kind == "Flatten":
                shape = self._flattened(key, shape)
                pending = _spread(pending, shape)
                if found is not None:
                    found = replace(found, bias=_spread(found.bias, shape))
            elif kind == "Scale":
                scale = self._numbers(key, "scale")
                if scale.size not in (1, int(np.prod(shape))):
                    self._refuse(f"node '{key}'", f"has shape {scale.shape}, its input {shape}",
                                 "make the shapes agree")  # fmt: skip
                scale = scale.reshape(()) if scale.size == 1 else scale.reshape(shape)
                if found is None:
                    pending = _spread(pending, shape) * scale
                else:
                    found = self._scaled(key, found, scale, shape)
            elif kind in ("SumPool2d", "AvgPool2d") and later and found is None:
                start, shape, factor = self._relay(key, start, shape)
                pending = self._per_channel(key, pending) * factor
            elif found is not None:
                self._refuse(
                    f"node '{key}'",
                    f"follows '{found.name}' without neurons between them",
                    "multiply the two into one",
                )
            else:
                found = self._weights(key, start, target, shape, pending)
                shape = self._last_shape
        if found is None:
            found = self._identity(source, start, target, shape, pending)
        self.n_weights += found.weight.size
        at_most(self.subject, "number of weights", self.n_weights, MAX_WEIGHTS)
        if int(np.prod(shape)) != int(np.prod(goal)):
            self._refuse(f"node '{target}'", f"has shape {goal}, what feeds it {shape}",
                         "make the shapes agree")  # fmt: skip
        if shape != goal and not isinstance(found.make(None, 0), Dense):
            self._refuse(f"node '{target}'", f"has shape {goal}, what feeds it {shape}",
                         "put an Affine or Linear node in between")  # fmt: skip
        return replace(found, bias=_spread(found.bias, goal))

    def _flattened(self, key: str, shape: Shape) -> Shape:
        node = self.nodes[key]
        start, end = (int(self._numbers(key, f).item()) for f in ("start_dim", "end_dim"))
        # a leading axis in input_type is a batch axis only if it does not fit without
        given = node.get("input_type")
        if isinstance(given, np.ndarray) and given.ndim == 1 and len(given) == len(shape) + 1:
            start, end = start - 1, end - 1 if end > 0 else end
        n = len(shape)
        first, last = start % n if -n <= start < n else -1, end % n if -n <= end < n else -1
        if first < 0 or last < first:
            self._refuse(f"node '{key}'", f"flattens axes {start} to {end} of {shape}",
                         "flatten existing axes")  # fmt: skip
        return (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])

    def _scaled(
        self, key: str, found: _Branch, scale: NDArray[np.float64], shape: Shape
    ) -> _Branch:
        """Scale behind the weights: each row is scaled."""
        rows = len(found.weight)
        if scale.ndim == 0:
            factor = np.full(rows, float(scale))
        elif rows == scale.size:
            factor = scale.reshape(-1)
        else:
            per_channel = (
                scale.reshape(rows, -1) if scale.size % rows == 0 else scale.reshape(1, -1)
            )
            if len(per_channel) != rows or (per_channel != per_channel[:, :1]).any():
                self._refuse(f"node '{key}'", "scales neurons of one channel differently",
                             "scale channels")  # fmt: skip
            factor = per_channel[:, 0]
        weight = found.weight * factor.reshape(-1, *(1,) * (found.weight.ndim - 1))
        bias = found.bias * (scale if scale.ndim == 0 else scale.reshape(shape))
        return replace(found, weight=weight, bias=bias)

    def _per_channel(self, key: str, scale: NDArray[np.float64]) -> NDArray[np.float64]:
        """One factor per channel ``(c,)``, or one for all ``()``."""
        if scale.ndim == 0:
            return scale
        flat = scale.reshape(len(scale), -1)
        if (flat != flat[:, :1]).any():
            self._refuse(f"node '{key}'", "gets neurons of one channel scaled differently",
                         "scale channels")  # fmt: skip
        return flat[:, 0]

    def _relay(self, key: str, source: str, shape: Shape) -> tuple[str, Shape, float]:
        """A population that passes on the sum over each window."""
        kernel, stride, padding = self._window(key, shape)
        factor = 1.0 if self._type(key) == "SumPool2d" else 1.0 / float(np.prod(kernel))
        name = self.relay_names.get((key, source))
        if name is None:
            name = key
            while name in self.populations or (name in self.nodes and name != key):
                name += "_"
            self.relay_names[key, source] = name
            projection = SumPool(
                source=source, target=name, kernel=kernel, stride=stride,
                padding=tuple((p, p) for p in padding),
            )  # fmt: skip
            lo, hi = self._spike_range(self.populations[source])
            n = int(np.prod(kernel))
            self.populations[name] = PolarityMultiSpike(
                name=name, shape=projection.output_shape(shape), theta=np.array(1),
                v_init=np.array(0), levels=(-lo * n, max(hi * n, 1)),
            )  # fmt: skip
            self.relays.append(projection)
        return name, self.populations[name].shape, factor

    @staticmethod
    def _spike_range(population: Population) -> tuple[int, int]:
        if isinstance(population, Input):
            lo, hi = population.levels
            return min(lo, 0), max(hi, 0)
        n, p = population.levels  # type: ignore[attr-defined]
        return -n, p

    def _window(self, key: str, shape: Shape) -> tuple[Shape, Shape, Shape]:
        if len(shape) != 3:
            self._refuse(f"node '{key}'", f"pools {shape}, (channels, height, width) is expected",
                         "pool images")  # fmt: skip
        kernel, stride, padding = (
            self._sizes(key, f, 2) for f in ("kernel_size", "stride", "padding")
        )
        fields = {"kind": "sum_pool", "name": key, "kernel": kernel, "stride": stride,
                  "padding": [padding]}  # fmt: skip
        check_limits(f"{self.subject}: node '{key}'", fields)
        at_most(f"{self.subject}: node '{key}'", "channels x window",
                shape[0] * int(np.prod(kernel)), 1 << 23)  # fmt: skip
        return kernel, stride, padding

    def _weights(
        self, key: str, source: str, target: str, shape: Shape, pending: NDArray[np.float64]
    ) -> _Branch:
        """The one node of a branch that has weights (or pools right into neurons)."""
        kind = self._type(key)
        common: dict[str, Any] = {"source": source, "target": target, "name": key}
        zero = np.zeros(())
        if kind in ("Affine", "Linear"):
            weight = self._numbers(key, "weight", 2)
            n_pre = int(np.prod(shape))
            if weight.shape[1] != n_pre:
                self._refuse(f"node '{key}'", f"takes {weight.shape[1]:,} values, gets {n_pre:,}",
                             "make the shapes agree")  # fmt: skip
            bias = self._numbers(key, "bias", 1) if kind == "Affine" else zero
            if bias.ndim and len(bias) != len(weight):
                self._refuse(f"node '{key}'", f"has {len(bias):,} biases for {len(weight):,} rows",
                             "give one each")  # fmt: skip
            if pending.ndim:  # one factor per neuron, or per channel of the relay in front
                pending = _spread(pending, (n_pre,))
            self._last_shape = (len(weight),)
            return _Branch(
                name=key, source=source, weight=weight * pending, bias=bias,
                make=lambda w, e: Dense(**common, weight_exponent=e, weight=_or_one(w, weight)),
            )  # fmt: skip
        factor = self._per_channel(key, pending)
        if kind in ("SumPool2d", "AvgPool2d"):
            kernel, stride, padding = self._window(key, shape)
            scale = 1.0 if kind == "SumPool2d" else 1.0 / float(np.prod(kernel))
            window: dict[str, Any] = {
                "kernel": kernel, "stride": stride, "padding": tuple((p, p) for p in padding),
            }  # fmt: skip
            self._last_shape = SumPool(**common, **window).output_shape(shape)
            return _Branch(
                name=key, source=source, bias=zero,
                weight=np.broadcast_to(factor * scale, (shape[0],)).copy(),
                make=lambda w, e: SumPool(
                    **common, **window, weight_exponent=e, weight=_ONE if w is None else w
                ),
            )  # fmt: skip
        n_axes = 1 if kind == "Conv1d" else 2
        weight = self._numbers(key, "weight", n_axes + 2)
        stride, padding, dilation = (
            self._sizes(key, f, n_axes) for f in ("stride", "padding", "dilation")
        )
        fields = {"kind": "conv2d", "name": key, "stride": stride, "dilation": dilation,
                  "padding": [padding]}  # fmt: skip
        check_limits(f"{self.subject}: node '{key}'", fields)
        (groups,) = self._sizes(key, "groups", 1)
        bias = self._numbers(key, "bias", 1)
        if len(bias) != len(weight):
            self._refuse(f"node '{key}'", f"has {len(bias):,} biases for {len(weight):,} channels",
                         "give one each")  # fmt: skip
        conv = Conv1d if n_axes == 1 else Conv2d
        window = {"stride": stride, "padding": tuple((p, p) for p in padding),
                  "dilation": dilation, "groups": groups}  # fmt: skip

        def make(w: NDArray[Any] | None, e: int) -> Projection:
            return conv(**common, **window, weight_exponent=e, weight=_or_one(w, weight))

        self._last_shape = make(None, 0).output_shape(shape)
        if factor.ndim:  # each output channel sees the channels of its group
            c_out, c_group = weight.shape[:2]
            channels = np.arange(c_out)[:, None] // (c_out // groups) * c_group + np.arange(c_group)
            factor = factor[channels].reshape(c_out, c_group, *(1,) * n_axes)
        bias = bias.reshape(-1, *(1,) * n_axes)
        return _Branch(name=key, source=source, weight=weight * factor, bias=bias, make=make)

    def _identity(
        self, origin: str, source: str, target: str, shape: Shape, pending: NDArray[np.float64]
    ) -> _Branch:
        factor = self._per_channel(target, pending)
        name = f"{source}->{target}"
        return _Branch(
            name=name, source=source, bias=np.zeros(()),
            weight=np.broadcast_to(factor, (shape[0],)).copy(),
            make=lambda w, e: Identity(
                source=source, target=target, name=name, weight_exponent=e,
                weight=_ONE if w is None else w,
            ),
        )  # fmt: skip

    # -- integers -------------------------------------------------------------------------

    def _build(
        self,
        branches: Mapping[str, list[_Branch]],
        exponents: Mapping[str, int],
        overflow: Literal["error", "saturate"],
    ) -> Network:
        populations = dict(self.populations)
        projections: list[Projection] = list(self.relays)
        taken = {q.name for q in projections}
        for key, into in branches.items():
            population, exponent = populations[key], exponents[key]
            rounded, made = self._rounded(key, population, into, exponent)
            populations[key] = replace(rounded, overflow=overflow)  # type: ignore[call-arg]
            for projection in made:
                while projection.name in taken:
                    projection = replace(projection, name=projection.name + "_")
                taken.add(projection.name)
                projections.append(projection)
        check_work(
            self.subject,
            [fields_of(p) for p in populations.values()],
            [fields_of(q) for q in projections],
            self.options.max_steps,
        )
        return Network(
            name=self.options.name,
            max_steps=self.options.max_steps,
            populations=tuple(populations.values()),
            projections=tuple(projections),
        )

    def _rounded(
        self, key: str, population: Population, into: list[_Branch], exponent: int
    ) -> tuple[Population, list[Projection]]:
        """Round weights to 8 bits per channel, the rest to ``exponent`` bits more."""
        shape = population.shape
        unit = np.zeros(shape[0])  # real value of weight 1, per channel
        for branch in into:
            rows = np.abs(branch.weight).reshape(len(branch.weight), -1).max(axis=1)
            unit = np.maximum(unit, rows.reshape(shape[0], -1).max(axis=1))
        counts = isinstance(population, Readout) and all(
            isinstance(b.make(None, 0), Identity) and (b.weight == 1).all() for b in into
        )
        unit = np.where(unit == 0, 1.0, unit / WEIGHT_LIMIT)
        if counts:  # spikes are counted as they are
            unit, exponent = np.ones(shape[0]), 0
        made = []
        for branch in into:
            rows = np.repeat(unit, len(branch.weight) // shape[0])
            integer = np.rint(branch.weight / rows.reshape(-1, *(1,) * (branch.weight.ndim - 1)))
            made.append(branch.make(integer.astype(np.int8), exponent))
        fine = unit.reshape(-1, *(1,) * (len(shape) - 1)) / 2**exponent
        bias = sum((b.bias for b in into), np.zeros(())) / fine
        if np.abs(bias).max(initial=0) > STATE_MAX:
            self._refuse(f"node '{key}'", "has a bias far larger than its weights", "rescale it")
        bias = _shortest(np.rint(np.broadcast_to(bias, shape)).astype(np.int64))
        if isinstance(population, Readout):
            scale = _shortest(np.broadcast_to(fine, shape))
            return replace(population, bias=bias, scale=scale), made
        theta = np.rint(np.broadcast_to(self._neurons(key) / fine, shape))
        if theta.max() > STATE_MAX:
            self._refuse(
                f"node '{key}'", "has a threshold far larger than its weights", "remove it"
            )
        theta = _shortest(np.maximum(theta, 1).astype(np.int64))
        return replace(population, bias=bias, theta=theta), made  # type: ignore[call-arg]


def _spread(values: NDArray[np.float64], shape: Shape) -> NDArray[np.float64]:
    """Values of a shape, from one for all, one per neuron or one per channel."""
    if values.ndim == 0:
        return values
    return np.repeat(values.reshape(-1), int(np.prod(shape)) // values.size).reshape(shape)


def _or_one(integer: NDArray[Any] | None, like: NDArray[Any]) -> NDArray[Any]:
    """Integer weights, or ones of the shape of the real ones to look at shapes."""
    return np.ones(like.shape, np.int8) if integer is None else integer


def _shortest(values: NDArray[Any]) -> NDArray[Any]:
    """One value for all, or per channel, where that says the same."""
    flat = values.reshape(len(values), -1)
    if (flat == flat[0, 0]).all():
        return np.asarray(flat[0, 0])
    return flat[:, 0].copy() if (flat == flat[:, :1]).all() else np.ascontiguousarray(values)
