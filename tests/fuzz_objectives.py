"""No objective is beaten by another one, or by round robin, at what it is for.

``python tests/fuzz_objectives.py --cases 200`` prints one JSON line; the test suite runs fewer.
Networks are chains, stars and mixtures of many small or a few large populations. What a mapping
costs is its estimate (`pmsm_hw.mapping.objectives.expect`), places and all. Every case is seeded by
its number alone.
"""

from __future__ import annotations

import numpy as np
import seeded_cases

from pmsm_hw import Dense, Input, Network, PolarityMultiSpike, Readout
from pmsm_hw.errors import CapacityError
from pmsm_hw.mapping import Chip, Mapping, load_chip, map_network
from pmsm_hw.mapping.objectives import Expected, expect, expected_rates
from pmsm_hw.mapping.partition.grouping import Grouping
from pmsm_hw.mapping.partition.tiling import cut_network
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.mapping.routing.traffic import core_traffic, rates_of

CHIPS = ("toy", "loihi1", "loihi2")


def random_network(rng: np.random.Generator) -> Network:
    """A chain, a star, or populations that each hear one of those before."""
    kind = str(rng.choice(["chain", "star", "tree"]))
    n = int(rng.choice([1, 2, 4, 10, 30, 100]))
    largest = int(rng.choice([3, 30, 200])) if n <= 30 else 3
    populations = [Input(name="in", shape=(int(rng.integers(1, 30)),), levels=(0, 3))]
    projections = []
    for i in range(n):
        size = int(rng.integers(1, largest + 1))
        back = {"chain": i, "star": 0, "tree": int(rng.integers(i + 1))}[kind]
        source = populations[back]
        populations.append(
            PolarityMultiSpike(
                name=f"p{i}", shape=(size,), theta=np.array(20), levels=(0, 1), overflow="saturate"
            )
        )
        weight = rng.integers(-3, 4, (size, source.n_neurons)).astype(np.int8)
        weight[rng.random(weight.shape) < rng.choice([0, 0.5])] = 0
        projections.append(Dense(source=source.name, target=f"p{i}", weight=weight, name=f"q{i}"))
    out = Readout(name="out", shape=(3,), overflow="saturate")
    weight = rng.integers(1, 3, (3, populations[-1].n_neurons))
    projections.append(Dense(source=populations[-1].name, target="out", weight=weight))
    return Network(
        populations=(*populations, out),
        projections=tuple(projections),
        max_steps=int(rng.choice([1, 2, 8])),
    )


def cost(resources: Resources, cores: list, places: np.ndarray) -> Expected:
    """What blocks on placed cores are expected to cost."""
    network = resources.network
    rates = expected_rates(network, resources.spike_modes, rates_of(network, None), False)
    return expect(resources, cores, rates, core_traffic(resources, cores, rates), places)


def cost_of(resources: Resources, mapping: Mapping) -> Expected:
    """What a mapping is expected to cost."""
    cores = [list(mapping.blocks_of(core)) for core in mapping.cores]
    return cost(resources, cores, np.array(mapping.cores))


def run(number: int) -> str:
    """Compare the objectives on one network."""
    network = random_network(np.random.default_rng(number))
    return compare(network, load_chip(CHIPS[number % 3]))


def compare(network: Network, chip: Chip) -> str:
    """Raise if an objective is beaten by another one or by round robin."""
    resources = Resources(network, chip)
    try:
        found = {
            objective: cost_of(resources, map_network(network, chip, objective=objective))
            for objective in ("latency", "energy", "cores")
        }
    except CapacityError:
        return "does not fit"
    cut = cut_network(resources)
    grouping = Grouping(resources, cut.blocks, dict.fromkeys(cut.blocks, 1.0))
    for n_cores in range(1, min(chip.n_cores, sum(map(len, cut.blocks.values()))) + 1):
        cores = grouping.round_robin(n_cores)
        if cores is not None:
            found[f"round robin on {n_cores}"] = cost(resources, cores, np.arange(len(cores)))
    for objective in ("latency", "energy"):
        mine = found[objective].of(objective)[0]
        for other, value in found.items():
            if value.of(objective)[0] < mine * (1 - 1e-9):
                raise AssertionError(
                    f"{objective} {mine:,.0f}, {other} {value.of(objective)[0]:,.0f}"
                )
    return "compared"


def main(arguments: list[str] | None = None) -> None:
    """Run cases; print a JSON line."""
    seeded_cases.main(__doc__, run, cases=200, arguments=arguments, longest_s=3_600)


if __name__ == "__main__":
    main()
