"""Random torch graphs: torch, reference and a scalar oracle agree.

That lowering is exact, `integer_model` itself proves, on each of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from quick import examples

from pmsm_hw import reference
from pmsm_hw.network import Input, Network, PolarityMultiSpike, Readout
from pmsm_hw.operators import lowered, synapses

torch = pytest.importorskip("torch", reason="needs torch")

import torch.nn.functional as F  # noqa: E402

from pmsm_hw import nn as pnn  # noqa: E402
from pmsm_hw.convert import convert, integer_model  # noqa: E402
from pmsm_hw.nn import InputQuant, PolarityQuant  # noqa: E402

torch.set_num_threads(1)  # tiny layers: threads only wait for each other


class Pad(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = widths

    def forward(self, x: Any) -> Any:
        return F.pad(x, self.widths)


class Join(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, a: Any, b: Any) -> Any:
        return a + b if self.kind == "add" else torch.cat([a, b], dim=1)


class Affine(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("shift", torch.randn(1, shape[0], *(1,) * (len(shape) - 1)))

    def forward(self, x: Any) -> Any:
        return 0.25 - (x / 2.0 + self.shift) * 1.5


class OneInput(torch.nn.Module):  # type: ignore[misc]
    """Runs a list of (module name, input indices); returns the last value, or a tuple."""

    def __init__(
        self, modules: list[Any], reads: list[tuple[int, ...]], returns: tuple[int, ...]
    ) -> None:
        super().__init__()
        for i, module in enumerate(modules):
            self.add_module(f"m{i}", module)
        self.reads, self.returns = reads, returns

    def compute(self, *values: Any) -> Any:
        found = list(values)
        for i, read in enumerate(self.reads):
            found.append(getattr(self, f"m{i}")(*(found[j] for j in read)))
        answers = tuple(found[i] for i in self.returns)
        return answers if len(answers) > 1 else answers[0]

    def forward(self, x: Any) -> Any:
        return self.compute(x)


class TwoInputs(OneInput):
    def forward(self, x: Any, y: Any) -> Any:
        return self.compute(x, y)


def random_net(seed: int) -> tuple[Any, list[tuple[int, ...]], dict[str, Any]]:
    """A model, the shapes of its inputs, and settings."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    n_axes = rng.choice([0, 1, 2, 2, 2])
    channels = rng.choice([1, 2, 3, 4])
    spatial = tuple(rng.randint(4, 7) for _ in range(n_axes))
    if n_axes == 0:
        channels = rng.randint(3, 8)
    shape: tuple[int, ...] = (channels, *spatial)
    n_inputs = rng.choice([1, 1, 1, 2])
    modules: list[Any] = []
    reads: list[tuple[int, ...]] = []
    shapes: list[tuple[int, ...]] = [shape, (channels + 1, *spatial)][:n_inputs]
    inputs = list(shapes)
    spiking: list[int] = []  # values that are spikes: good sources
    for i in range(n_inputs):
        lo = rng.choice([0, 0, -3])
        modules.append(InputQuant(rng.choice([0.25, 0.1, 1 / 16]), (lo, rng.randint(1, 15))))
        reads.append((i,))
        shapes.append(shapes[i])
        spiking.append(len(shapes) - 1)
    per_channel = rng.random() < 0.3

    def add(module: Any, read: tuple[int, ...]) -> int:
        modules.append(module.eval())
        reads.append(read)
        with torch.no_grad():
            probe = module(*(torch.zeros(2, *shapes[j]) for j in read))
        shapes.append(tuple(probe.shape[1:]))
        return len(shapes) - 1

    def quantizer(at: int) -> int:
        levels = (rng.choice([0, 0, 1, 2, 3]), rng.randint(1, 5))
        gains = (rng.choice([1, 1, 2, 4]), rng.choice([-2, -1, 0, 1, 1, 2]))
        module = PolarityQuant(levels, gains)
        n = shapes[at][0]
        theta = torch.rand(n) + 0.1 if per_channel else torch.rand(()) + 0.1
        module.theta = torch.nn.Parameter(theta)
        index = add(module, (at,))
        spiking.append(index)
        return index

    def norm(at: int) -> int:
        n = shapes[at][0]
        bn = (torch.nn.BatchNorm1d if len(shapes[at]) < 3 else torch.nn.BatchNorm2d)(n)
        bn.running_mean = torch.randn(n) * 0.3
        bn.running_var = torch.rand(n) + 0.3
        bn.weight.data = torch.randn(n)
        bn.bias.data = torch.randn(n) * 0.3
        return add(bn, (at,))

    def layer(at: int) -> int:
        c, *rest = shapes[at]
        again = [m for m in modules if isinstance(m, torch.nn.Linear) and m.in_features == c]
        if again and not rest and rng.random() < 0.3:
            return add(rng.choice(again), (at,))  # a shared module
        if not rest:
            return add(torch.nn.Linear(c, rng.randint(1, 8), bias=rng.random() < 0.7), (at,))
        groups = rng.choice([g for g in (1, 1, c, 2) if c % g == 0])
        c_out = groups * rng.randint(1, max(1, 6 // groups))
        kernel = [rng.randint(1, min(3, s)) for s in rest]
        dilation = [rng.choice([1, 1, 2]) if k > 1 and 2 * (k - 1) < s else 1
                    for k, s in zip(kernel, rest, strict=True)]  # fmt: skip
        conv = torch.nn.Conv1d if len(rest) == 1 else torch.nn.Conv2d
        stride = [rng.choice([1, 1, 2]) for _ in rest]
        padding: Any = [rng.randint(0, 1) for _ in rest]
        if rng.random() < 0.1:
            padding, stride = "same", [1] * len(rest)
        return add(
            conv(c, c_out, kernel, stride, padding, dilation, groups, bias=rng.random() < 0.5),
            (at,),
        )

    def pool(at: int) -> int:
        rest = shapes[at][1:]
        if not rest or min(rest) < 2:
            return at
        one = len(rest) == 1
        kind = rng.random()
        if kind < 0.15:
            return add((torch.nn.AdaptiveAvgPool1d if one else torch.nn.AdaptiveAvgPool2d)(
                rng.randint(1, 2)), (at,))  # fmt: skip
        kernel = [rng.randint(1, min(3, s)) for s in rest]
        stride = [rng.randint(1, 2) for _ in rest]
        padding = [rng.randint(0, k // 2) for k in kernel]
        average = torch.nn.AvgPool1d if one else torch.nn.AvgPool2d
        return add(average(kernel, stride, padding, rng.random() < 0.3, rng.random() < 0.7), (at,))

    def pad(at: int) -> int:
        rest = shapes[at][1:]
        return add(Pad([rng.randint(0, 2) for _ in range(2 * len(rest))]), (at,)) if rest else at

    at = spiking[0]
    for _ in range(rng.randint(1, 4)):
        source = rng.choice(spiking[-3:])
        at = source
        if rng.random() < 0.15:
            at = norm(at)
        if rng.random() < 0.25:
            at = pool(at)
        if rng.random() < 0.2:
            at = pad(at)
        at = layer(at)
        if rng.random() < 0.5:
            at = norm(at)
        if rng.random() < 0.15:
            at = add(Affine(shapes[at]), (at,))
        if rng.random() < 0.1:
            at = layer(at)
        if rng.random() < 0.15:
            at = pool(at)
        # join with another value of the same shape, or alike in all but the channels
        mates = [j for j in range(n_inputs, len(shapes)) if j != at and shapes[j] == shapes[at]]
        if mates and rng.random() < 0.5:
            at = add(Join("add"), (at, rng.choice(mates)))
        mates = [j for j in spiking if j != at and shapes[j][1:] == shapes[at][1:]]
        if mates and rng.random() < 0.3:
            at = add(Join("cat"), (at, rng.choice(mates)))
        at = quantizer(at)
        if rng.random() < 0.1:
            at = add(torch.nn.Dropout(), (at,))
            spiking.append(at)
    if len(shapes[at]) > 1:
        if rng.random() < 0.4:
            at = pool(at)
        if rng.random() < 0.8:
            at = add(torch.nn.Flatten(), (at,))
    if rng.random() < 0.8:
        at = layer(at)
    returns = (at,) if rng.random() < 0.8 else (at, rng.choice(spiking))
    options = {
        "weight_bits": rng.choice([2, 4, 8, 8]),
        "per_channel": rng.random() < 0.7,
        "pooling": rng.choice(["auto", "fold", "relay"]),
        "rule": rng.choice(["carry", "reset", "bounded"]),
        "max_steps": 4,
    }
    kind = OneInput if n_inputs == 1 else TwoInputs
    return kind(modules, reads, returns).eval(), inputs, options


def oracle(network: Network, units: Mapping[str, Any], n_steps: int) -> dict[str, Any]:
    """Spikes (and readouts), neuron by neuron and synapse by synapse."""
    (batch,) = {len(u) for u in units.values()}
    found = {p.name: np.zeros((batch, n_steps, p.n_neurons), np.int64) for p in network.populations}
    incoming: dict[str, list[tuple[str, int, list[list[tuple[int, int]]]]]] = {}
    for p in network.populations:
        incoming[p.name] = []
        for q in network.into(p.name):
            lists: list[list[tuple[int, int]]] = [[] for _ in range(p.n_neurons)]
            for pre, post, w in zip(*synapses(lowered(network, q)), strict=True):
                lists[int(post)].append((int(pre), int(w)))
            incoming[p.name].append((q.source, q.weight_exponent, lists))

    def parameter(p: Any, what: str) -> list[int]:
        return np.broadcast_to(getattr(p, what), p.shape).reshape(-1).tolist()

    biases = {p.name: parameter(p, "bias") for p in network.populations if not isinstance(p, Input)}
    neurons = [p for p in network.populations if isinstance(p, PolarityMultiSpike)]
    thetas = {p.name: parameter(p, "theta") for p in neurons}
    starts = {p.name: parameter(p, "start") for p in neurons}
    for b in range(batch):
        state = {p.name: list(starts.get(p.name, [0] * p.n_neurons)) for p in network.populations}
        sent = {p.name: [0] * p.n_neurons for p in network.populations}
        for t in range(n_steps):
            carried: dict[str, list[int]] = {}
            for p in network.topological:
                if isinstance(p, Input):
                    values = units[p.name][b, t].reshape(-1).tolist()
                    found[p.name][b, t] = values
                    carried[p.name] = values
                    continue
                bias, v = biases[p.name], state[p.name]
                carried[p.name] = []
                for i in range(p.n_neurons):
                    u = v[i] + bias[i]
                    for source, exponent, lists in incoming[p.name]:
                        for pre, w in lists[i]:
                            u += (w * carried[source][pre]) << exponent
                    if isinstance(p, Readout):
                        v[i] = u
                        found[p.name][b, t, i] = u
                        continue
                    assert isinstance(p, PolarityMultiSpike)
                    theta = thetas[p.name][i]
                    n, top = p.levels
                    low, high = -n, top
                    if p.rule == "bounded":
                        low = -n * (t + 1) - sent[p.name][i]
                        high = top * (t + 1) - sent[p.name][i]
                    k = min(max(u // theta, low), high)
                    sent[p.name][i] += k
                    v[i] = starts[p.name][i] if p.rule == "reset" else u - k * theta
                    found[p.name][b, t, i] = k
                    carried[p.name].append(k * (p.gains[0] if k > 0 else p.gains[1]))
    return found


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@examples(150)
@given(st.integers(0, 2**31 - 1), st.integers(1, 4))
def test_torch_reference_and_oracle_agree(seed: int, n_steps: int) -> None:
    model, shapes, options = random_net(seed)
    note(f"{model} {shapes} {options}")
    generator = torch.Generator().manual_seed(seed)
    xs = [torch.randn(2, *shape, generator=generator) for shape in shapes]
    integer = integer_model(model, xs, **options)
    network, report = convert(integer)
    values = {p.name: x.numpy() for p, x in zip(network.inputs, xs, strict=True)}
    expected = oracle(network, reference.units_of(network, values, n_steps), n_steps)
    ran = reference.run(network, values, n_steps)
    snn = pnn.to_snn(integer).run(*xs, n_steps=n_steps)
    for p in network.populations:
        flat = expected[p.name]
        if isinstance(p, Readout):
            np.testing.assert_array_equal(ran.readouts[p.name].reshape(2, -1), flat[:, -1])
            continue
        np.testing.assert_array_equal(ran.spikes[p.name].reshape(flat.shape), flat)
        np.testing.assert_array_equal(snn.spikes[p.name].reshape(flat.shape), flat)
    logits = snn.logits if isinstance(snn.logits, tuple) else (snn.logits,)
    for ours, readout in zip(logits, network.readouts, strict=True):
        theirs = ran.logits[readout.name].reshape(ours.shape)
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-4)
    if n_steps == 1:
        with torch.no_grad():
            quantized = integer(*xs)
        quantized = quantized if isinstance(quantized, tuple) else (quantized,)
        assert all(torch.equal(a, b) for a, b in zip(quantized, logits, strict=True))
    assert report.n_neurons == network.n_neurons
