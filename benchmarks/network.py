"""Networks of many populations: time to make one, to identify it, to run it and to map it.

``python benchmarks/network.py [--quick] --json OUT`` makes chains of growing length; the exponent
is the slope of log time over log populations between the shortest and the longest: 1 is linear.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import numpy as np
from harness import arguments, write

from pmsm_hw import Identity, Input, Network, PolarityMultiSpike, reference
from pmsm_hw.mapping import load_chip, map_network

CORE = 1_024
"""Neurons of a core of Loihi 1."""


def chain(n: int, n_neurons: int = 1) -> tuple[list[Any], list[Any]]:
    """Populations, each joined to the next."""
    populations: list[Any] = [Input(name="x", shape=(n_neurons,), levels=(0, 9))]
    projections: list[Any] = []
    for i in range(n - 1):
        name = f"n{i}"
        source = populations[-1].name
        populations.append(
            PolarityMultiSpike(name=name, shape=(n_neurons,), theta=2, levels=(0, 3))
        )
        projections.append(Identity(source=source, target=name, weight=2))
    return populations, projections


def measure(n: int) -> dict[str, Any]:
    """Seconds of each stage."""
    populations, projections = chain(n)
    at = [time.process_time()]
    network = Network(populations=tuple(populations), projections=tuple(projections), max_steps=2)
    at.append(time.process_time())
    network.fingerprint  # noqa: B018 - to be timed
    at.append(time.process_time())
    reference.run(network, np.array([[5]]), 2)
    at.append(time.process_time())
    return {
        "populations": n,
        **dict(zip(("network_s", "fingerprint_s", "run_s"), np.diff(at).tolist(), strict=True)),
        **mapped(n),
    }


def mapped(n: int) -> dict[str, Any]:
    """Seconds of mapping a chain each population of which fills a core; by the clock, and of cpus.

    The first population is the input, which takes none.
    """
    populations, projections = chain(n + 1, CORE)
    network = Network(populations=tuple(populations), projections=tuple(projections), max_steps=2)
    network.fingerprint  # noqa: B018 - not part of mapping
    start, start_cpu = time.perf_counter(), time.process_time()
    mapping = map_network(network, load_chip("pohoiki_springs"))
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    return {"cores": len(mapping.cores), "map_s": seconds, "map_cpu_s": cpu}


def main() -> None:
    """Measure, write."""
    given = arguments(__doc__ or "")
    sizes = (1_250, 5_000) if given.quick else (2_500, 10_000, 40_001)
    measure(100)  # imports
    rows = [measure(n) for n in sizes]
    exponents = {
        name: math.log(rows[-1][name] / rows[0][name]) / math.log(sizes[-1] / sizes[0])
        for name in ("network_s", "fingerprint_s", "run_s", "map_s", "map_cpu_s")
    }
    write(
        given.json,
        title="Networks of many populations",
        what="A chain of populations of one neuron: processor seconds to make the network (bounds "
        "proven), to identify it and to run one sample of two steps. A chain of populations of "
        f"{CORE:,} neurons, each of which fills a core of Pohoiki Springs: seconds to map it, by "
        "the clock (map_s, on a machine that other work may share) and of both processors "
        "(map_cpu_s). Exponents of growth between the first and the last row (1 is linear).",
        rows=rows,
        quick=given.quick,
        extra={f"exponent of {name}": value for name, value in exponents.items()},
    )
    for name, value in exponents.items():
        sys.stdout.write(f"exponent of {name}: {value:.2f}\n")


if __name__ == "__main__":
    main()
