"""Torch networks made of small integers times arbitrary steps: converted without a differing spike.

``python tests/fuzz_small_integers.py --cases 150`` prints one JSON line; the test suite runs a few.
Every case is seeded by its number: ``--first N --cases 1`` repeats case N. The integers are the
source, simulated here by their definition; torch sees them as float32 numbers, each layer in a unit
of its own. Stored weights must need no more bits than the source's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import seeded_cases
import torch
from numpy.typing import NDArray
from torch import nn

import pmsm_hw.nn as pnn
from pmsm_hw import reference
from pmsm_hw.convert import convert
from pmsm_hw.nn import InputQuant, PolarityQuant

Ints = NDArray[np.int64]
GAINS = ((1, 1), (4, 1), (2, -1), (1, 1), (3, 5), (1, 0))


@dataclass
class Layer:
    """One population in integers: ``theta`` and ``bias`` by channel, None for a readout's theta."""

    weight: Ints  # (out, in) or (out, in, 3, 3)
    skip: Ints | None  # (out, in of the population before the last)
    theta: Ints | None
    bias: Ints | None
    levels: tuple[int, int]
    gains: tuple[int, int]
    unit: NDArray[np.float64]  # real value of one unit of state, by channel


@dataclass
class Source:
    """A network of integers."""

    layers: list[Layer]
    bits: int
    rule: str
    n_steps: int
    input_levels: tuple[int, int]
    input_scale: float
    is_binary: bool  # units and thresholds are powers of two, so that float32 computes exactly


def source(rng: np.random.Generator) -> Source:
    """A random network."""
    bits = int(rng.integers(2, 9))
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    is_binary, is_image = rng.random() < 0.3, rng.random() < 0.4
    lo = int(rng.choice([0, 0, -7]))

    def unit(n: int) -> NDArray[np.float64]:
        if is_binary:
            return 2.0 ** rng.integers(-6, 3, n)
        return rng.uniform(0.001, 3.0, n)

    channels = [int(n) for n in rng.integers(1, 12, int(rng.integers(3, 6)))]
    layers: list[Layer] = []
    for i, (n_in, n_out) in enumerate(pairwise(channels)):
        is_last, is_conv = i == len(channels) - 2, is_image and i == 0
        shape = (
            (n_out, n_in, 3, 3) if is_conv else (n_out, n_in * 16 if is_image and i == 1 else n_in)
        )
        weight = rng.integers(low, high + 1, shape)
        weight[rng.random(shape) < 0.2] = 0
        if n_out > 1 and rng.random() < 0.2:
            weight[int(rng.integers(n_out))] = 0  # a dead row
        if rng.random() < 0.2:
            weight = np.sign(weight) * (high if bits > 2 else 1)
        skip = None
        if i >= 2 and not is_image and rng.random() < 0.5:
            skip = rng.integers(low, high + 1, (n_out, channels[i - 1])) << int(rng.integers(0, 4))
        reach = max(int(np.abs(weight).reshape(n_out, -1).sum(1).max()), 1)
        one = is_last or rng.random() < 0.5  # one step for the whole layer, or one per channel
        step = unit(1).repeat(n_out) if one else unit(n_out)
        theta = rng.integers(1, 2 * reach + 1, n_out)
        if is_binary:
            theta = 1 << np.log2(theta).astype(np.int64)
        bias = rng.integers(-reach, reach + 1, n_out) if rng.random() < 0.6 else None
        if not is_last and rng.random() < 0.3:
            theta = np.full(n_out, theta[0])
        layers.append(
            Layer(
                weight, skip, None if is_last else theta, bias,
                (int(rng.integers(0, 4)), int(rng.integers(1, 9))),
                GAINS[int(rng.integers(3 if is_binary else len(GAINS)))], step,
            )
        )  # fmt: skip
    return Source(
        layers, bits, str(rng.choice(["carry", "reset", "bounded"])), int(rng.integers(1, 5)),
        (lo, int(rng.integers(1, 16))), float(unit(1)[0]), is_binary,
    )  # fmt: skip


class Model(nn.Module):  # type: ignore[misc]
    """The source as real numbers."""

    def __init__(self, given: Source) -> None:
        super().__init__()
        self.input_quant = InputQuant(given.input_scale, given.input_levels)
        self.layers, self.skips, self.quants = nn.ModuleList(), nn.ModuleDict(), nn.ModuleList()
        before: list[NDArray[np.float64]] = []  # real value of payload 1, by channel
        unit = np.full(given.layers[0].weight.shape[1], given.input_scale)
        for i, layer in enumerate(given.layers):
            self.layers.append(_linear(layer.weight, layer.bias, layer.unit, unit))
            if layer.skip is not None:
                self.skips[str(i)] = _linear(layer.skip, None, layer.unit, before[-2])
            if layer.theta is None:
                break
            real = layer.theta * layer.unit
            theta = torch.tensor(real if len(set(real)) > 1 else real[0], dtype=torch.float32)
            self.quants.append(PolarityQuant(layer.levels, layer.gains, theta=theta))
            unit = real / layer.gains[0]
            before.append(unit)

    def forward(self, x: Any) -> Any:
        sent = [self.input_quant(x)]
        for i, layer in enumerate(self.layers):
            last = sent[-1].flatten(1) if isinstance(layer, nn.Linear) else sent[-1]
            z = layer(last)
            if str(i) in self.skips:
                z = z + self.skips[str(i)](sent[-2])
            if i == len(self.layers) - 1:
                return z
            sent.append(self.quants[i](z))
        raise AssertionError


def _linear(
    weight: Ints, bias: Ints | None, unit: NDArray[np.float64], sent: NDArray[np.float64]
) -> nn.Module:
    is_conv = weight.ndim == 4
    layer: nn.Module = (
        nn.Conv2d(weight.shape[1], len(weight), 3, padding=1, bias=bias is not None)
        if is_conv
        else nn.Linear(weight.shape[1], len(weight), bias=bias is not None)
    )
    columns = sent.repeat(weight.shape[1] // len(sent))
    trailing = (1, 1) if is_conv else ()
    real = weight * unit.reshape(-1, 1, *trailing) / columns.reshape(1, -1, *trailing)
    layer.weight.data = torch.tensor(real, dtype=torch.float32)
    if bias is not None:
        layer.bias.data = torch.tensor(bias * unit, dtype=torch.float32)
    return layer


def simulate(given: Source, units: Ints) -> tuple[list[Ints], Ints]:
    """Spikes of each population, ``(batch, n_steps, ...)``, and the sum of the readout."""
    state = [None if layer.theta is None else layer.theta // 2 for layer in given.layers]
    sums: dict[int, Any] = {}
    spikes: list[list[Ints]] = [[] for _ in given.layers[:-1]]
    readout: Any = 0
    for t in range(1, given.n_steps + 1):
        sent = [units]
        for i, layer in enumerate(given.layers):
            drive = _applied(layer.weight, sent[-1])
            if layer.skip is not None:
                drive = drive + _applied(layer.skip, sent[-2])
            column = (-1,) + (1,) * (drive.ndim - 2)
            if layer.bias is not None:
                drive = drive + layer.bias.reshape(column)
            if layer.theta is None:
                readout = readout + drive
                continue
            n, p = layer.levels
            theta = layer.theta.reshape(column)
            start = (layer.theta // 2).reshape(column)
            u = (start if t == 1 else state[i]) + drive
            k = u // theta
            if given.rule == "bounded":
                total = sums.get(i, 0)
                k = np.maximum(np.minimum(k, p * t - total), -n * t - total)
                sums[i] = total + k
            else:
                k = np.clip(k, -n, p)
            state[i] = start if given.rule == "reset" else u - k * theta
            spikes[i].append(k)
            sent.append(np.where(k > 0, layer.gains[0] * k, layer.gains[1] * k))
    return [np.stack(k, 1) for k in spikes], readout


def _applied(weight: Ints, sent: Ints) -> Ints:
    if weight.ndim == 2:
        return sent.reshape(len(sent), -1) @ weight.T
    padded = np.pad(sent, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return np.einsum("bchwij,ocij->bohw", windows, weight)


def bits_of(weight: NDArray[Any]) -> int:
    """Bits of two's complement that hold all weights."""
    low, high = int(weight.min()), int(weight.max())
    return max((-low - 1).bit_length() if low < 0 else 0, max(high, 0).bit_length()) + 1


def check(number: int) -> dict[str, int]:
    """Convert case ``number`` and compare; raise AssertionError at the first difference."""
    rng = np.random.default_rng(number)
    given = source(rng)
    shape = given.layers[0].weight.shape
    lo, hi = given.input_levels
    units = rng.integers(lo, hi + 1, (16, shape[1], 4, 4) if len(shape) == 4 else (16, shape[1]))
    x = torch.tensor(units * given.input_scale, dtype=torch.float32)
    model = Model(given).eval()
    network, report = convert(
        model, x, weight_bits=int(rng.choice([given.bits, 8])), per_channel=True,
        max_steps=given.n_steps, rule=given.rule,
    )  # fmt: skip
    wanted, readout = simulate(given, units)
    ran = reference.run(network, units, given.n_steps)
    n_spikes = 0
    for i, k in enumerate(wanted):
        np.testing.assert_array_equal(ran.spikes[f"quants.{i}"], k, f"case {number}, quants.{i}")
        n_spikes += int(np.count_nonzero(k))
    real = readout * given.layers[-1].unit / given.n_steps
    np.testing.assert_allclose(ran.logits["output"], real, rtol=1e-5, atol=1e-12)
    if given.is_binary:
        for i, k in enumerate(wanted):
            np.testing.assert_array_equal(pnn.spikes(model, x)[f"quants.{i}"], k[:, 0])
    assert all(p.weight_error is None or p.weight_error < 1e-6 for p in report.populations)
    n_sources = sum(2 if layer.skip is not None else 1 for layer in given.layers)
    assert len(network.projections) == n_sources
    stored = sum(q.weight.size * bits_of(q.weight) for q in network.projections)
    size = sum(
        w.size for layer in given.layers for w in (layer.weight, layer.skip) if w is not None
    )
    assert all(bits_of(q.weight) <= given.bits for q in network.projections), f"case {number}"
    return {"spikes": n_spikes, "stored_bits": stored, "source_bits": size * given.bits}


def main(arguments: list[str] | None = None) -> None:
    """Run cases; print a JSON line."""
    seeded_cases.main(
        __doc__, check, cases=150, arguments=arguments, more=lambda: {"differing_spikes": 0}
    )


if __name__ == "__main__":
    main()
