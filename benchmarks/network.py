"""Networks of many populations: time to make one, to prove its bounds, to identify and to run it.

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


def chain(n: int) -> tuple[list[Any], list[Any]]:
    """Populations of one neuron, each joined to the next."""
    populations: list[Any] = [Input(name="x", shape=(1,), levels=(0, 9))]
    projections: list[Any] = []
    for i in range(n - 1):
        name = f"n{i}"
        source = populations[-1].name
        populations.append(PolarityMultiSpike(name=name, shape=(1,), theta=2, levels=(0, 3)))
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
    names = ("network_s", "fingerprint_s", "run_s")
    return {"populations": n, **dict(zip(names, np.diff(at).tolist(), strict=True))}


def main() -> None:
    """Measure, write."""
    given = arguments(__doc__ or "")
    sizes = (1_250, 5_000) if given.quick else (2_500, 10_000, 40_001)
    measure(100)  # imports
    rows = [measure(n) for n in sizes]
    exponents = {
        name: math.log(rows[-1][name] / rows[0][name]) / math.log(sizes[-1] / sizes[0])
        for name in ("network_s", "fingerprint_s", "run_s")
    }
    write(
        given.json,
        title="Networks of many populations",
        what="A chain of populations of one neuron: processor seconds to make the network (bounds "
        "proven), to identify it and to run one sample of two steps; exponents of growth between "
        "the first and the last row (1 is linear).",
        rows=rows,
        quick=given.quick,
        extra={f"exponent of {name}": value for name, value in exponents.items()},
    )
    for name, value in exponents.items():
        sys.stdout.write(f"exponent of {name}: {value:.2f}\n")


if __name__ == "__main__":
    main()
