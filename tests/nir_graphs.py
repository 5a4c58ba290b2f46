"""Random NIR graphs of small integers, and what they mean, step by step in plain loops.

``python tests/nir_graphs.py --cases 500`` compares what `pmsm_hw.io.import_nir` and the reference
give with the loops and prints one JSON line; the test suite runs some. Every case is seeded by its
number alone: ``--first N --cases 1`` repeats case N. ``--bits`` draws plain chains with weights of
2 to 8 bits, which must be taken over without one differing spike, in no more bits than they have.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nir
import numpy as np

from pmsm_hw import io, reference
from pmsm_hw.errors import FormatError
from pmsm_hw.network import Network

Rng = np.random.Generator
N_STEPS = 6
STEPS = (1.0, 0.5, 2.0**-7, 0.1, 1 / 3, 0.7, 1e-3, 3.0)
FACTORS = (1.0, 2.0, 3.0, -1.0, 0.5, 0.25, 0.0)


# -- what a graph means, in plain loops --------------------------------------------------------


def windows(x, kernel, stride, padding, dilation):
    """For each output position, the values under each position of a kernel; zeros around."""
    axes = range(len(kernel))
    n_out = [
        (x.shape[1 + a] + sum(padding[a]) - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1
        for a in axes
    ]
    for at in itertools.product(*map(range, n_out)):
        for tap in itertools.product(*map(range, kernel)):
            here = [at[a] * stride[a] + tap[a] * dilation[a] - padding[a][0] for a in axes]
            if all(0 <= here[a] < x.shape[1 + a] for a in axes):
                yield at, tap, tuple(here)


def per_axis(value, n):
    flat = np.atleast_1d(np.asarray(value)).astype(int).tolist()
    return flat * n if len(flat) == 1 else flat


def convolved(node, x):
    weight = np.asarray(node.weight, np.float64)
    n = weight.ndim - 2
    kernel, groups = weight.shape[2:], int(node.groups)
    stride, dilation = per_axis(node.stride, n), per_axis(node.dilation, n)
    if isinstance(node.padding, str):
        spare = [
            d * (k - 1) if node.padding == "same" else 0
            for d, k in zip(dilation, kernel, strict=True)
        ]
        padding = [(s // 2, s - s // 2) for s in spare]
    else:
        padding = [(p, p) for p in per_axis(node.padding, n)]
    size = [
        (x.shape[1 + a] + sum(padding[a]) - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1
        for a in range(n)
    ]
    y = np.zeros((len(weight), *size))
    n_in, n_out = weight.shape[1], len(weight) // groups
    for at, tap, here in windows(x, kernel, stride, padding, dilation):
        for o in range(len(weight)):
            for i in range(n_in):
                y[(o, *at)] += weight[(o, i, *tap)] * x[(o // n_out * n_in + i, *here)]
    return y + np.asarray(node.bias, np.float64).reshape(-1, *(1,) * n)


def pooled(node, x):
    kernel, stride = per_axis(node.kernel_size, 2), per_axis(node.stride, 2)
    padding = [(p, p) for p in per_axis(node.padding, 2)]
    size = [(x.shape[1 + a] + sum(padding[a]) - kernel[a]) // stride[a] + 1 for a in range(2)]
    y = np.zeros((len(x), *size))
    for at, _, here in windows(x, kernel, stride, padding, (1, 1)):
        for c in range(len(x)):
            y[(c, *at)] += x[(c, *here)]
    return y / np.prod(kernel) if isinstance(node, nir.AvgPool2d) else y


def loop_order(graph):
    done: list[str] = []
    while len(done) < len(graph.nodes):
        done += [
            n
            for n in graph.nodes
            if n not in done and all(a in done for a, b in graph.edges if b == n)
        ]
    return done


def meaning(graph, inputs):
    """Run a graph step by step: what each neuron sends, and the sum of what reaches each end.

    A neuron fires at the threshold and keeps the rest, as Sinabs and Loihi have it.
    """
    state = dict.fromkeys(graph.nodes, 0.0)
    spikes = {n: [] for n, node in graph.nodes.items() if isinstance(node, nir.IF)}
    order = loop_order(graph)
    for t in range(N_STEPS):
        sent = {}
        for name in order:
            node = graph.nodes[name]
            sources = [sent[a] for a, b in graph.edges if b == name]
            if isinstance(node, nir.Input):
                sent[name] = inputs[name][t].astype(np.float64)
                continue
            x = sources[0]
            for other in sources[1:]:
                x = x + (other if other.shape == x.shape else other.reshape(x.shape))
            if isinstance(node, nir.Affine | nir.Linear):
                y = np.asarray(node.weight, np.float64) @ x.reshape(-1)
                y = y + (np.asarray(node.bias, np.float64) if isinstance(node, nir.Affine) else 0)
            elif isinstance(node, nir.Conv1d | nir.Conv2d):
                y = convolved(node, x)
            elif isinstance(node, nir.SumPool2d | nir.AvgPool2d):
                y = pooled(node, x)
            elif isinstance(node, nir.Scale):
                y = x * np.asarray(node.scale, np.float64)
            elif isinstance(node, nir.Flatten):
                y = x.reshape(-1)
            elif isinstance(node, nir.IF):
                threshold = np.asarray(node.v_threshold, np.float64)
                v = state[name] + np.asarray(node.r, np.float64) * x.reshape(threshold.shape)
                y = (v >= threshold).astype(np.float64)
                state[name] = v - y * threshold
                spikes[name].append(y)
            else:  # I, Output: what reaches them adds up
                r = np.asarray(getattr(node, "r", 1.0), np.float64)
                y = x
                state[name] = state[name] + r * x.reshape(getattr(node, "r", x).shape)
            sent[name] = y
    ends = {n: state[n] for n, k in graph.nodes.items() if isinstance(k, nir.I | nir.Output)}
    return {n: np.stack(k) for n, k in spikes.items()}, ends


# -- random graphs ----------------------------------------------------------------------------


@dataclass
class Drawn:
    """A graph as it is stored, the same in integers, and what must become of it."""

    stored: nir.NIRGraph
    plain: nir.NIRGraph
    inputs: dict[str, Any]
    ends: dict[str, float]  # real value of one unit of what adds up there
    wrong: set[str] | None = None  # an error must name one of these nodes


@dataclass
class Drawing:
    rng: Rng
    step: float
    dtype: Any
    bits: int
    nodes: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    shape: dict[str, tuple[int, ...]] = field(default_factory=dict)
    linear: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def pick(self, *values):
        return values[int(self.rng.integers(len(values)))]

    def add(self, kind, shape, sources, **numbers):
        """Add a node; of its fields, those named ``real_`` are multiplied by the step if stored."""
        key = f"{kind.__name__.lower()}{len(self.nodes)}"
        plain = {k.removeprefix("real_"): v for k, v in numbers.items()}
        stored = {
            k.removeprefix("real_"): (np.asarray(v) * self.step).astype(self.dtype)
            if k.startswith("real_")
            else v
            for k, v in numbers.items()
        }
        self.nodes[key], self.plain[key] = kind(**stored), kind(**plain)
        self.edges += [(source, key) for source in sources]
        self.shape[key] = tuple(shape)
        return key

    def weights(self, *shape):
        top = 1 << (self.bits - 1)
        return self.rng.integers(-top, top, shape).astype(np.float64)

    def before(self, key, dense):
        """Maybe a scale or a pool in front of weights."""
        shape = self.shape[key]
        if self.rng.random() < 0.25:
            size = self.pick(shape if dense else (shape[0],) + (1,) * (len(shape) - 1), ())
            factor = self.rng.choice(FACTORS, size)
            full = np.broadcast_to(factor, shape).copy()
            key = self.add(nir.Scale, shape, [key], scale=full.astype(np.float32))
        if len(shape) == 3 and self.rng.random() < 0.25:
            key = self.pool(key)
        return key

    def pool(self, key):
        channels, height, width = self.shape[key]
        kernel = np.array([self.pick(1, 2), 2])
        stride, padding = self.rng.integers(1, 3, 2), self.rng.integers(0, 2, 2) * (kernel > 1)
        size = [
            (s + 2 * p - k) // t + 1
            for s, p, k, t in zip((height, width), padding, kernel, stride, strict=True)
        ]
        if min(size) < 1:
            return key
        kind = self.pick(nir.SumPool2d, nir.AvgPool2d)
        return self.add(
            kind, (channels, *size), [key], kernel_size=kernel, stride=stride, padding=padding
        )

    def dense(self, key, n_out=None):
        if len(self.shape[key]) > 1:
            n = int(np.prod(self.shape[key]))
            given = np.array(self.shape[key])
            key = self.add(
                nir.Flatten, (n,), [key], input_type={"input": given}, start_dim=0, end_dim=-1
            )
        n_out = n_out or int(self.rng.integers(1, 6))
        weight = self.weights(n_out, self.shape[key][0])
        if self.rng.random() < 0.5:
            return self.add(nir.Linear, (n_out,), [key], real_weight=weight)
        bias = self.rng.integers(-9, 10, n_out).astype(float)
        return self.add(nir.Affine, (n_out,), [key], real_weight=weight, real_bias=bias)

    def conv(self, key):
        shape = self.shape[key]
        n = len(shape) - 1
        groups = self.pick(*(g for g in (1, 2, 3, 4) if shape[0] % g == 0))
        kernel = [int(k) for k in self.rng.integers(1, 4, n)]
        weight = self.weights(groups * self.pick(1, 2), shape[0] // groups, *kernel)
        dilation = [int(d) for d in self.rng.integers(1, 3, n)]
        stride = [int(s) for s in self.rng.integers(1, 3, n)]
        named = self.pick("same", "valid", "", "")
        padding: Any = named or [int(p) for p in self.rng.integers(0, 3, n)]
        if named == "same":
            stride = [1] * n
        spare = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = spare if named == "same" else [0] * n if named else [2 * p for p in padding]
        size = [(shape[1 + a] + pads[a] - spare[a] - 1) // stride[a] + 1 for a in range(n)]
        if min(size) < 1:
            return self.dense(key)
        bias = self.rng.integers(-9, 10, len(weight)) * self.pick(0, 1)
        one = n == 1
        return self.add(
            nir.Conv1d if one else nir.Conv2d, (len(weight), *size), [key],
            input_shape=shape[1] if one else np.array(shape[1:]), real_weight=weight,
            stride=stride[0] if one else np.array(stride),
            padding=padding if named else padding[0] if one else np.array(padding),
            dilation=dilation[0] if one else np.array(dilation),
            groups=groups, real_bias=bias.astype(float),
        )  # fmt: skip

    def after(self, key):
        """Maybe a scale behind weights, one factor a channel."""
        shape = self.shape[key]
        if self.rng.random() < 0.2:
            channels = (shape[0],) + (1,) * (len(shape) - 1)
            factor = np.broadcast_to(self.rng.choice(FACTORS[:-1], channels), shape)
            key = self.add(nir.Scale, shape, [key], scale=factor.astype(np.float32))
        return key

    def way(self, key):
        """Linear nodes behind a population; the last one's key."""
        n_axes = len(self.shape[key])
        plain = self.step == 1.0  # ways without weights have no step of their own
        kind = self.pick("dense", "dense", *(["conv"] * 4 if n_axes > 1 else []),
                         *(["pool"] if n_axes == 3 and plain else []))  # fmt: skip
        if kind == "pool":
            return self.pool(key)
        key = self.before(key, kind == "dense")
        return self.after(self.conv(key) if kind == "conv" else self.dense(key))

    def neurons(self, sources):
        shape = self.shape[sources[0]]
        top = self.pick(3, 12, 60)
        size = self.pick(shape, (shape[0],) + (1,) * (len(shape) - 1), ())
        threshold = np.broadcast_to(self.rng.integers(1, top + 1, size), shape).astype(float)
        r = np.broadcast_to(2.0 ** self.rng.integers(-1, 2, self.pick((), (), size)), shape)
        return self.add(
            nir.IF, shape, sources, r=r.astype(self.dtype), real_v_threshold=threshold,
            v_reset=np.zeros(shape),
        )  # fmt: skip


def draw(seed: int) -> Drawn:
    """A graph with shared nodes and merges; in a third of the cases with one thing wrong."""
    rng = np.random.default_rng(seed)
    step = float(rng.choice(STEPS)) if rng.random() < 0.6 else 1.0
    dtype = [np.float32, np.float64][int(rng.integers(2))]
    d = Drawing(rng, step, dtype, int(rng.integers(2, 7)))
    populations, inputs = [], {}
    for _ in range(1 if rng.random() < 0.7 else 2):
        shape = (int(rng.integers(1, 5)), *(int(n) for n in rng.integers(2, 6, rng.integers(3))))
        key = d.add(nir.Input, shape, [], input_type=np.array(shape))
        inputs[key] = rng.integers(0, 4, (N_STEPS, *shape))
        populations.append(key)
    unused = list(populations)
    for _ in range(int(rng.integers(1, 4))):
        source = unused.pop() if unused else d.pick(*populations)
        n_edges = len(d.edges)
        sources = [d.way(source)]
        shape = d.shape[sources[0]]
        for other in populations:
            if rng.random() < 0.4:
                if d.step == 1.0 and d.shape[other] == shape and other not in sources:
                    sources.append(other)
                elif len(shape) == 1:
                    sources.append(d.dense(other, shape[0]))
        if len(d.edges) > n_edges and d.edges[n_edges][0] == source:
            first = d.edges[n_edges][1]
            d.edges += [
                (other, first)
                for other in populations
                if other != source and d.shape[other] == d.shape[source] and rng.random() < 0.4
            ]
        for known in d.linear:  # a linear node that feeds others already
            if d.shape[known] == shape and rng.random() < 0.5 and known not in sources:
                sources.append(known)
        d.linear.append(sources[0])
        populations.append(d.neurons(sources))
    last, ends = populations[-1], {}
    if rng.random() < 0.5:
        ends[d.add(nir.Output, d.shape[last], [last], output_type=np.array(d.shape[last]))] = 1.0
    if not ends or rng.random() < 0.5:
        way = d.dense(last)
        output = np.array(d.shape[way])
        if rng.random() < 0.5:
            way = d.add(nir.I, d.shape[way], [way], r=np.full(d.shape[way], 2.0))
            ends[way] = step
            d.add(nir.Output, d.shape[way], [way], output_type=output)
        else:
            ends[d.add(nir.Output, d.shape[way], [way], output_type=output)] = step
    wrong = spoil(d, populations, list(ends)) if rng.random() < 0.35 else None
    graphs = (nir.NIRGraph(n, d.edges, type_check=False) for n in (d.nodes, d.plain))
    return Drawn(*graphs, inputs, ends, wrong)


def small_chain(seed: int) -> tuple[Drawn, int]:
    """Weights of 2 to 8 bits, with the bits: one layer after the other, one step for each graph."""
    rng = np.random.default_rng(seed)
    d = Drawing(
        rng, float(rng.choice(STEPS)), [np.float32, np.float64][int(rng.integers(2))],
        int(rng.integers(2, 9)),
    )  # fmt: skip
    shape = (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(3, 7, rng.integers(3))))
    first = key = d.add(nir.Input, shape, [], input_type=np.array(shape))
    inputs = {first: rng.integers(0, 4, (N_STEPS, *shape))}
    for _ in range(int(rng.integers(1, 4))):
        convolve = len(d.shape[key]) > 1 and rng.random() < 0.7
        key = d.neurons([d.conv(key) if convolve else d.dense(key)])
    way = d.dense(key)
    end = d.add(nir.Output, d.shape[way], [way], output_type=np.array(d.shape[way]))
    graphs = (nir.NIRGraph(n, d.edges, type_check=False) for n in (d.nodes, d.plain))
    return Drawn(*graphs, inputs, {end: d.step}), d.bits


def reachable(edges, start: str) -> set[str]:
    """Nodes that edges lead to from a node, and itself."""
    found = {start}
    while more := {b for a, b in edges if a in found} - found:
        found |= more
    return found


def spoil(d: Drawing, populations: list[str], ends: list[str]) -> set[str]:
    """Do one thing wrong; the nodes of which an error must name one."""
    neurons = [p for p in populations if isinstance(d.nodes[p], nir.IF)]
    linear = [k for k, n in d.nodes.items() if not isinstance(n, nir.Input | nir.IF | nir.Output)]
    some, inner = d.pick(*neurons), d.pick(*neurons, *linear)
    kind = int(d.rng.integers(11))
    if kind == 0:  # a second edge between two
        edge = d.edges[int(d.rng.integers(len(d.edges)))]
        d.edges.append(edge)
        return set(edge)
    if kind == 1:
        d.edges.append((some, populations[0]))
        return {populations[0]}
    if kind == 2:
        d.edges.append((ends[0], some))
        return {ends[0]}
    if kind == 3:
        d.edges.append((inner, inner))
        return {inner}
    if kind == 4:  # recurrence: only nodes that are in a cycle may be named
        ahead = [n for n in neurons if n in reachable(d.edges, some)]
        other = d.pick(*ahead)
        n, m = (int(np.prod(d.shape[k])) for k in (other, some))
        back = d.add(nir.Linear, (m,), [other], real_weight=d.weights(m, n))
        d.edges.append((back, some))
        backwards = [(b, a) for a, b in d.edges]
        return reachable(d.edges, some) & reachable(backwards, some)
    if kind == 5:  # leads nowhere
        return {d.dense(some)}
    if kind == 6:  # comes from nowhere
        lost = d.add(nir.Affine, (2,), [], real_weight=d.weights(2, 3), real_bias=np.ones(2))
        d.neurons([lost])
        return {lost}
    if kind == 7:
        node = d.nodes[some]
        d.nodes[some] = nir.IF(node.r, node.v_threshold, np.full(d.shape[some], 0.5))
        return {some}
    if kind == 8:
        shape = d.shape[some]
        tau = np.ones(shape)
        d.nodes[some] = nir.LIF(tau, tau, tau * 0, d.nodes[some].v_threshold)
        return {some}
    if kind == 9:  # two weighted nodes in a row
        first = d.dense(some)
        second = d.dense(first)
        d.neurons([second])
        return {first, second}
    shape = (int(np.prod(d.shape[some])) + 1,)
    wide = d.add(nir.IF, shape, [some], r=np.ones(shape), v_threshold=np.ones(shape))
    return {wide}


# -- comparison -------------------------------------------------------------------------------


def spikes_differ(network: Network, drawn: Drawn) -> str:
    """Where the reference of an imported network differs from the loops; empty: nowhere."""
    units = {k: x[None] for k, x in drawn.inputs.items()}
    result = reference.run(network, units, N_STEPS)
    spikes, ends = meaning(drawn.plain, drawn.inputs)
    for name, expected in spikes.items():
        if not np.array_equal(result.spikes[name][0].reshape(expected.shape), expected):
            return f"spikes of '{name}'"
    for readout in network.readouts:
        got = result.logits[readout.name][0] * N_STEPS
        unit = drawn.ends[readout.name]
        expected = ends[readout.name].reshape(got.shape) * unit
        if not np.allclose(got, expected, rtol=1e-5, atol=1e-6 * unit):
            return f"readout '{readout.name}'"
    return ""


def outcome(drawn: Drawn, folder: Path) -> str:
    """How an import went; anything but these words is a fault."""
    path = folder / "g.nir"
    nir.write(path, drawn.stored)
    try:
        network, notes = io.import_nir(path, max_steps=N_STEPS, input_levels=(0, 3))
    except FormatError as error:
        message = str(error)
        named = {k for k in drawn.stored.nodes if f"'{k}'" in message}
        if drawn.wrong is None:
            return "refused, by node" if named else f"no node is named: {message}"
        if "cycle" in message and not named <= drawn.wrong:
            return f"{named - drawn.wrong} are in no cycle: {message}"
        if named & drawn.wrong:
            return "wrong, refused by node"
        return "refused, by node" if named else f"no node is named: {message}"
    if drawn.wrong is not None:
        return f"accepted, though {drawn.wrong} are wrong"
    if any("rounded" in note for note in notes):
        return "rounded, and said so"
    where = spikes_differ(network, drawn)
    return f"differs: {where}" if where else "equal"


GOOD = ("equal", "rounded, and said so", "refused, by node", "wrong, refused by node")


def bits_of(weight: np.ndarray) -> int:
    """Bits of the widest weight, in two's complement."""
    return max(int(w if w >= 0 else ~w).bit_length() + 1 for w in (weight.min(), weight.max()))


def small_outcome(drawn: Drawn, bits: int, folder: Path) -> str:
    """As `outcome`, and whether weights became wider than they were."""
    found = outcome(drawn, folder)
    if found != "equal":
        return found
    network = io.load_nir(folder / "g.nir", max_steps=N_STEPS, input_levels=(0, 3))
    wide = [q.name for q in network.projections if bits_of(q.weight) > bits]
    return f"wider than {bits} bits: {wide}" if wide else "equal"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--bits", action="store_true")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    n_spikes = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.first, options.first + options.cases):
            if options.bits:
                drawn, bits = small_chain(seed)
                found = small_outcome(drawn, bits, Path(folder))
            else:
                drawn = draw(seed)
                found = outcome(drawn, Path(folder))
            counts[found if found in GOOD else f"case {seed}: {found}"] += 1
            if found == "equal":
                n_spikes += sum(
                    int(k.sum()) for k in meaning(drawn.plain, drawn.inputs)[0].values()
                )
    print(json.dumps({"cases": options.cases, "spikes": n_spikes, "outcomes": counts}))
    if set(counts) - set(GOOD):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
