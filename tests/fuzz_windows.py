"""Several window projections into one target: the mapper's counts against brute force.

``python tests/fuzz_windows.py --cases 2900`` prints one JSON line; the test suite runs fewer. The
windows come from one source or two, with kernels, strides, dilations, paddings and groups of their
own, beside dense and identity projections, on chips so small that populations are cut. Every case
is seeded by its number alone: ``--first N --cases 1`` repeats case N.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import seeded_cases
from brute_counts import check

from pmsm_hw import (
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
)
from pmsm_hw.errors import CapacityError
from pmsm_hw.mapping import Chip, Mapping, load_chip, map_network
from pmsm_hw.mapping.chip import parse_chip
from pmsm_hw.network import Population, Projection

Rng = np.random.Generator
OBJECTIVES = ("cores", "latency", "energy")


def _int(rng: Rng, lo: int, hi: int) -> int:
    """Random integer, both ends included."""
    return int(rng.integers(lo, hi + 1))


def _weight(rng: Rng, *shape: int) -> np.ndarray:
    weight = rng.integers(-8, 8, shape).astype(np.int8)
    weight[weight == 0] = 1
    kind = rng.random()
    if kind < 0.3:  # pruned
        weight[rng.random(shape) < rng.choice([0.3, 0.8])] = 0
    elif kind < 0.4:  # without some target channels
        weight[rng.random(shape[0]) < 0.5] = 0
    elif kind < 0.5 and len(shape) > 1:  # without some source channels, or inputs
        weight[:, rng.random(shape[1]) < 0.5] = 0
    return weight


def window(rng: Rng, size: int, target: int) -> tuple[int, int, int, tuple[int, int]]:
    """Kernel, stride, dilation and padding that bring ``size`` source rows to ``target`` rows."""
    while True:
        kernel, stride, dilation = _int(rng, 1, 4), _int(rng, 1, 3), _int(rng, 1, 3)
        least = (target - 1) * stride + dilation * (kernel - 1) + 1
        pad = least - size + (_int(rng, 0, stride - 1) if rng.random() < 0.5 else 0)
        if pad < 0:  # rows that no window reads
            if least - size + stride - 1 < 0:
                continue
            pad = 0
        if (size + pad - dilation * (kernel - 1) - 1) // stride + 1 == target:
            before = _int(rng, 0, pad)
            return kernel, stride, dilation, (before, pad - before)


def projection(rng: Rng, source: Population, target: Population, name: str) -> Projection:
    """Any projection between two populations with rows."""
    common: dict[str, Any] = {"source": source.name, "target": target.name, "name": name}
    kind = str(rng.choice(["conv", "conv", "conv", "pool", "dense", "identity"]))
    same = source.shape[0] == target.shape[0]
    if kind == "identity" and source.shape == target.shape:
        return Identity(**common)
    if kind == "dense":
        return Dense(weight=_weight(rng, target.n_neurons, source.n_neurons), **common)
    axes = [window(rng, a, b) for a, b in zip(source.shape[1:], target.shape[1:], strict=True)]
    kernel, stride, dilation, padding = zip(*axes, strict=True)
    if kind == "pool" and same and set(dilation) == {1}:
        return SumPool(kernel=kernel, stride=stride, padding=padding, **common)
    c_in, c_out = source.shape[0], target.shape[0]
    groups = [g for g in (1, 2, 3, 4) if c_in % g == 0 and c_out % g == 0]
    group = int(rng.choice(groups))
    return (Conv2d if len(kernel) == 2 else Conv1d)(
        weight=_weight(rng, c_out, c_in // group, *kernel),
        stride=stride, padding=padding, dilation=dilation, groups=group, **common,
    )  # fmt: skip


def random_windows(rng: Rng) -> Network:
    """An input, one or two populations after it, and a target of several projections from them."""
    nd = _int(rng, 1, 2)
    populations: list[Population] = [
        Input(
            name="in",
            shape=(_int(rng, 1, 2), *(_int(rng, 3, 7) for _ in range(nd))),
            levels=(int(rng.choice([0, 1])), 3),
        )
    ]
    projections: list[Projection] = []

    def neurons(name: str, *shape: int) -> PolarityMultiSpike:
        theta = rng.integers(20, 24, shape[0]) if rng.random() < 0.2 else np.array(20)
        population = PolarityMultiSpike(
            name=name, shape=shape, theta=theta, levels=(_int(rng, 0, 1), 1), overflow="saturate"
        )
        populations.append(population)
        return population

    sources = populations[:]
    for i in range(_int(rng, 1, 2)):
        found = neurons(f"a{i}", _int(rng, 1, 4), *(_int(rng, 3, 8) for _ in range(nd)))
        projections.append(projection(rng, populations[0], found, f"in->a{i}"))
        sources.append(found)
    target = neurons("b", _int(rng, 1, 6), *(_int(rng, 1, 5) for _ in range(nd)))
    main = sources[_int(rng, 0, len(sources) - 1)]
    for i in range(_int(rng, 2, 3)):
        source = main if i < 2 else sources[_int(rng, 0, len(sources) - 1)]
        projections.append(projection(rng, source, target, f"w{i}"))
    out = Readout(name="out", shape=(_int(rng, 1, 3),), overflow="saturate")
    projections.append(
        Dense(source="b", target="out", weight=_weight(rng, out.n_neurons, target.n_neurons))
    )
    return Network(
        populations=(*populations, out), projections=tuple(projections), max_steps=_int(rng, 1, 2)
    )


def random_chip(rng: Rng) -> Chip:
    """A chip of many small cores."""
    data = load_chip("toy").to_dict()

    def put(section: str, **values: Any) -> None:
        for key, value in values.items():
            data[section][key]["value"] = value

    put("mesh", columns=8, rows=8, cores_per_tile=4)
    put(
        "limits",
        neurons=_int(rng, 2, 40), input_axons=_int(rng, 10, 120), output_axons=_int(rng, 20, 400),
        synapse_memory_bits=_int(rng, 1_000, 30_000), synapse_block_weights=_int(rng, 1, 20),
        synapse_word_bits=int(rng.choice([1, 8, 64])),
        population_axons=bool(rng.random() < 0.8), population_axon_entries=_int(rng, 1, 2),
    )  # fmt: skip
    put("spikes", modes=[str(rng.choice(["graded", "unit"]))], signed=bool(rng.random() < 0.5))
    return parse_chip(data)


def run(number: int) -> str:
    """Map one network, and count anew in three ways."""
    rng = np.random.default_rng(number)
    network, chip = random_windows(rng), random_chip(rng)
    try:
        # most without a search: it takes most of the time, and what is found is counted alike
        limit = None if number % 10 == 0 else 1e-3
        mapping = map_network(network, chip, objective=OBJECTIVES[number % 3], time_limit_s=limit)
    except CapacityError:
        return "does not fit"
    check(network, chip, mapping)
    mapping.check(network)
    # in another order, from nothing that was counted before
    Mapping.from_dict({**mapping.to_dict(), "blocks": mapping.to_dict()["blocks"][::-1]}).check(
        network
    )
    if mapping.metrics["lower_bound"] > mapping.metrics["n_cores"]:
        raise AssertionError(f"bound {mapping.metrics}")
    return "one core" if len(mapping.cores) == 1 else "several cores"


def main(arguments: list[str] | None = None) -> None:
    """Run cases; print a JSON line."""
    seeded_cases.main(__doc__, run, cases=2_900, arguments=arguments)


if __name__ == "__main__":
    main()
