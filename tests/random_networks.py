"""Random networks for property tests, from a seed: small, varied, valid.

They hold what the contract allows: dense, one- and two-dimensional convolution with stride,
asymmetric padding, dilation and groups, pooling, residual and skip connections, several inputs and
readouts, recurrence, all rules, polarity gains, thresholds per population, channel and neuron.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pmsm_hw.errors import NetworkError
from pmsm_hw.network import (
    RULES,
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
    SumPool,
)

GAINS = ((1, 1), (4, 1), (2, 1), (1, -1), (2, -1), (1, 0), (3, 2))
UNIT_GAINS = ((1, 1), (4, 1), (2, 1), (1, -1), (2, -1))


def _int(rng: np.random.Generator, lo: int, hi: int) -> int:
    """Random integer, both ends included."""
    return int(rng.integers(lo, hi + 1))


def _weight(rng: np.random.Generator, *shape: int) -> np.ndarray:
    weight = rng.integers(-128, 128, shape).astype(np.int8)
    if rng.random() < 0.3:  # pruned
        weight[rng.random(shape) < 0.5] = 0
    return weight


def _window(rng: np.random.Generator, size: int) -> tuple[int, int, tuple[int, int], int]:
    """Kernel, stride, padding, dilation that fit one axis."""
    while True:
        kernel, stride, dilation = _int(rng, 1, 3), _int(rng, 1, 2), _int(rng, 1, 2)
        pad = (_int(rng, 0, 2), _int(rng, 0, 2))
        if size + sum(pad) >= dilation * (kernel - 1) + 1:
            return kernel, stride, pad, dilation


def random_projection(
    rng: np.random.Generator, source: Population, target: str, name: str
) -> tuple[Projection, tuple[int, ...]]:
    """A projection out of ``source`` and the shape of the target that it gives."""
    shape = source.shape
    common: dict[str, Any] = {
        "source": source.name,
        "target": target,
        "name": name,
        "weight_exponent": _int(rng, 0, 2),
    }
    kinds = ["dense", "identity", *(["conv", "conv", "pool"] if len(shape) > 1 else ["dense"])]
    kind = str(rng.choice(kinds))
    projection: Projection
    if kind == "dense":
        n_post = _int(rng, 1, 6)
        weight = _weight(rng, n_post, int(np.prod(shape)))
        return Dense(**common, weight=weight), (n_post,)
    if kind == "identity":
        weight = _weight(rng, *(() if rng.random() < 0.5 else (shape[0],)))
        return Identity(**common, weight=weight), shape
    axes = [_window(rng, size) for size in shape[1:]]
    kernel, stride, padding, dilation = (tuple(a[i] for a in axes) for i in range(4))
    if kind == "pool":
        kernel = tuple(
            min(k, s + sum(p)) for k, s, p in zip(kernel, shape[1:], padding, strict=True)
        )
        weight = _weight(rng, *(() if rng.random() < 0.5 else (shape[0],)))
        projection = SumPool(**common, kernel=kernel, stride=stride, padding=padding, weight=weight)
        return projection, projection.output_shape(shape)
    groups = int(rng.choice([g for g in range(1, shape[0] + 1) if shape[0] % g == 0]))
    c_out = groups * _int(rng, 1, max(1, 4 // groups))
    conv = Conv1d if len(shape) == 2 else Conv2d
    projection = conv(
        **common,
        weight=_weight(rng, c_out, shape[0] // groups, *kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    return projection, projection.output_shape(shape)


def _per(rng: np.random.Generator, shape: tuple[int, ...], lo: int, hi: int) -> np.ndarray:
    """Integers per population, channel or neuron."""
    size = ((), (shape[0],), shape)[_int(rng, 0, 2)]
    return rng.integers(lo, hi + 1, size)


def random_neurons(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], gains: Any, rules: Any
) -> PolarityMultiSpike:
    """A population of random parameters."""
    top = int(rng.choice([20, 300, 3000]))
    return PolarityMultiSpike(
        name=name,
        shape=shape,
        theta=_per(rng, shape, 1, top),
        bias=_per(rng, shape, -top, top),
        v_init=None if rng.random() < 0.7 else _per(rng, shape, -top, top),
        levels=(_int(rng, 0, 4), _int(rng, 1, 8)),
        gains=gains[_int(rng, 0, len(gains) - 1)],
        rule=rules[_int(rng, 0, len(rules) - 1)],
    )


def random_network(
    seed: int,
    *,
    max_steps: int = 4,
    n_layers: int = 4,
    gains: tuple[tuple[int, int], ...] = GAINS,
    rules: tuple[str, ...] = RULES,
    recurrence: bool = True,
    input_levels: tuple[int, int] | None = None,
) -> Network:
    """A valid random network; equal seeds give equal networks.

    Parameters
    ----------
    seed
        Decides everything.
    max_steps
        As in `Network`.
    n_layers
        Largest number of populations between inputs and readouts.
    gains, rules
        What to draw from (`UNIT_GAINS` suits chips that send unit spikes).
    recurrence
        Whether projections may have delays.
    input_levels
        Levels of every input; random by default.
    """
    rng = np.random.default_rng(seed)
    try:
        return _draw(rng, seed, max_steps, n_layers, gains, rules, recurrence, input_levels)
    except NetworkError as error:
        # the state left 24 bits: the one thing that the drawing does not rule out
        if "state can reach" not in error.problem:
            raise
    return random_network(
        seed + 10**9,
        max_steps=max_steps,
        n_layers=n_layers,
        gains=gains,
        rules=rules,
        recurrence=recurrence,
        input_levels=input_levels,
    )


def _draw(
    rng: np.random.Generator,
    seed: int,
    max_steps: int,
    n_layers: int,
    gains: Any,
    rules: Any,
    recurrence: bool,
    input_levels: tuple[int, int] | None,
) -> Network:
    populations: list[Population] = []
    projections: list[Projection] = []
    for i in range(1 if rng.random() < 0.8 else 2):
        n_axes = _int(rng, 1, 3)
        shape = (_int(rng, 1, 4), *(_int(rng, 2, 6) for _ in range(n_axes - 1)))
        levels = input_levels or [(0, 15), (-8, 7), (0, 255), (0, 1)][_int(rng, 0, 3)]
        populations.append(Input(name=f"in{i}", shape=shape, scale=0.5, levels=levels))
    for i in range(_int(rng, 1, n_layers)):
        name = f"layer{i}"
        # mostly a chain, sometimes a branch
        back = 1 if rng.random() < 0.7 else _int(rng, 1, len(populations))
        source = populations[-back]
        first, shape = random_projection(rng, source, name, f"p{len(projections)}")
        projections.append(first)
        for other in populations:
            if rng.random() < 0.25:  # residual or dense skip
                projections.append(random_join(rng, other, name, shape, f"p{len(projections)}"))
        populations.append(random_neurons(rng, name, shape, gains, rules))
    if recurrence and rng.random() < 0.3:
        layers = [p for p in populations if isinstance(p, PolarityMultiSpike)]
        a, b = layers[_int(rng, 0, len(layers) - 1)], layers[_int(rng, 0, len(layers) - 1)]
        feed_forward = Network(populations=tuple(populations), projections=tuple(projections))
        depths = feed_forward.depths
        earliest = max(1, depths[a.name] - depths[b.name] + 1)
        back_projection = random_join(
            rng, a, b.name, b.shape, f"p{len(projections)}", delay=earliest + _int(rng, 0, 1)
        )
        projections.append(back_projection)
    layers = [p for p in populations if isinstance(p, PolarityMultiSpike)]
    for i in range(1 if rng.random() < 0.8 else 2):
        source = layers[-1] if i == 0 else layers[_int(rng, 0, len(layers) - 1)]
        name = f"out{i}"
        projection, shape = random_projection(rng, source, name, f"p{len(projections)}")
        projections.append(projection)
        bias = _per(rng, shape, -50, 50)
        populations.append(Readout(name=name, shape=shape, scale=np.float64(0.25), bias=bias))
    return Network(
        name=f"random{seed}",
        populations=tuple(populations),
        projections=tuple(projections),
        max_steps=max_steps,
    )


def random_join(
    rng: np.random.Generator,
    source: Population,
    target: str,
    shape: tuple[int, ...],
    name: str,
    delay: int = 0,
) -> Projection:
    """A projection between two given shapes: identity where they agree, else dense."""
    common: dict[str, Any] = {
        "source": source.name,
        "target": target,
        "name": name,
        "delay": delay,
        "weight_exponent": _int(rng, 0, 2),
    }
    if source.shape == shape and rng.random() < 0.7:
        return Identity(**common, weight=_weight(rng, *(() if rng.random() < 0.5 else shape[:1])))
    return Dense(**common, weight=_weight(rng, int(np.prod(shape)), source.n_neurons))


def with_delays(network: Network, seed: int) -> Network:
    """The same network with other weight exponents, delays of synapses, and loops at times.

    One of four has every spike between neurons act one step later.
    """
    rng = np.random.default_rng(seed)
    later = rng.random() < 0.25
    neurons = [p for p in network if isinstance(p, PolarityMultiSpike)]
    highest = 7
    while True:
        projections: list[Projection] = []
        for q in network.projections:
            changes: dict[str, Any] = {}
            if rng.random() < 0.6:
                changes["weight_exponent"] = _int(rng, -8, highest)
            if isinstance(q, Dense | Conv1d | Conv2d) and rng.random() < 0.6:
                longest = int(rng.choice([1, 2, 3, 62]))
                shape = [1] * q.weight.ndim if rng.random() < 0.4 else list(q.weight.shape)
                shape[1] = q.weight.shape[1]  # or one for all synapses of a source neuron
                drawn = rng.integers(0, longest + 1, shape)
                changes["delays"] = np.broadcast_to(drawn, q.weight.shape)
            if later and not isinstance(network[q.source], Input):
                changes["delay"] = 1
            projections.append(replace(q, **changes))
        if rng.random() < 0.5:  # a loop of its own, or between two
            a, b = (neurons[_int(rng, 0, len(neurons) - 1)] for _ in range(2))
            delay = 1 if later else 1 + network.depth + _int(rng, 0, 1)
            loop = random_join(rng, a, b.name, b.shape, "loop", delay=delay)
            projections.append(replace(loop, weight_exponent=_int(rng, -8, highest)))
        try:
            return replace(network, projections=tuple(projections))
        except NetworkError as error:
            if "state can reach" not in error.problem or highest <= -8:
                raise
            highest -= 3


def random_units(
    network: Network, seed: int, *, n_samples: int = 3, n_steps: int = 1
) -> dict[str, np.ndarray]:
    """Random inputs in units, static or one frame a step, by input name."""
    rng = np.random.default_rng(seed)
    units = {}
    for population in network.inputs:
        lo, hi = population.levels
        steps = (n_steps,) if rng.random() < 0.5 else ()
        values = rng.integers(lo, hi + 1, (n_samples, *steps, *population.shape))
        if rng.random() < 0.5:  # sparse
            values[rng.random(values.shape) < 0.7] = min(max(0, lo), hi)
        units[population.name] = values
    return units


def small_network() -> Network:
    """Fixed network on images of 8x8 pixels: a convolution and ten outputs, random weights."""
    rng = np.random.default_rng(1)
    return Network(
        name="small",
        populations=(
            Input(name="input", shape=(1, 8, 8), scale=1 / 16, levels=(0, 16)),
            PolarityMultiSpike(name="conv", shape=(4, 6, 6), theta=400, levels=(1, 4)),
            Readout(name="output", shape=(10,)),
        ),
        projections=(
            Conv2d(source="input", target="conv", weight=rng.integers(-99, 99, (4, 1, 3, 3))),
            Dense(source="conv", target="output", weight=rng.integers(-99, 99, (10, 144))),
        ),
        max_steps=4,
    )
