"""Recurrence and delays in the reference, next to the same network without.

``python benchmarks/delays.py [--quick] --json OUT``
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

# processor time of one thread: others on the machine disturb it less than the clock
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
from harness import arguments, write  # noqa: E402

from pmsm_hw import reference  # noqa: E402
from pmsm_hw.network import Dense, Input, Network, PolarityMultiSpike, Readout  # noqa: E402

BATCH, N_STEPS = 32, 64


def network(
    n: int,
    *,
    longest: int = 0,
    by_neuron: bool = False,
    right: int = 0,
    loop: bool = False,
    delay: int = 0,
) -> Network:
    """Three layers of ``n`` neurons, and a readout.

    ``longest``: of the delays of synapses, all as likely; ``by_neuron``: one for all synapses of a
    source neuron; ``right``: shift of sums; ``loop``: the second layer receives from itself, a step
    later; ``delay``: of the projections between layers.
    """
    rng = np.random.default_rng(0)
    populations = [
        Input(name="x", shape=(n,), levels=(0, 1)),
        *(
            PolarityMultiSpike(
                name=f"layer{i}", shape=(n,), theta=320 >> right, levels=(1, 1),
                overflow="saturate",
            )
            for i in range(3)
        ),
        Readout(name="y", shape=(10,), overflow="saturate"),
    ]  # fmt: skip

    def dense(source: str, target: str, n_post: int, later: int) -> Dense:
        weight = rng.integers(-40, 41, (n_post, n))
        delays = None
        if longest:
            drawn = rng.integers(0, longest + 1, (1 if by_neuron else n_post, n))
            delays = np.broadcast_to(drawn, weight.shape)
        return Dense(
            source=source, target=target, weight=weight, weight_exponent=-right, delay=later,
            delays=delays, name=f"{source} to {target}",
        )  # fmt: skip

    projections = [
        dense("x", "layer0", n, 0),
        dense("layer0", "layer1", n, delay),
        dense("layer1", "layer2", n, delay),
        dense("layer2", "y", 10, delay),
    ]
    if loop:
        projections.append(dense("layer1", "layer1", n, 1))
    return Network(populations=populations, projections=projections, max_steps=N_STEPS)


def least(runs: Mapping[str, Callable[[], object]], n_runs: int) -> dict[str, float]:
    """Least processor time of each function, in seconds, timed in turn after a warm-up."""
    seconds = {name: float("inf") for name in runs}
    for i in range(1 + n_runs):
        for name, function in runs.items():
            start = time.process_time()
            function()
            if i:
                seconds[name] = min(seconds[name], time.process_time() - start)
    return seconds


def main() -> None:
    options = arguments(__doc__ or "")
    rows = []
    for n in (128,) if options.quick else (128, 512):
        frames = np.random.default_rng(1).random((BATCH, N_STEPS, n)) < 0.1
        x = frames.astype(np.int64)
        networks = {
            "feed-forward": network(n),
            "shifted right by 3": network(n, right=3),
            "every projection later by 1": network(n, delay=1),
            "neurons delayed by 0 to 62": network(n, longest=62, by_neuron=True),
            "synapses delayed by 0 or 1": network(n, longest=1),
            "synapses delayed by 0 to 7": network(n, longest=7),
            "synapses delayed by 0 to 62": network(n, longest=62),
            "layer 1 recurrent": network(n, loop=True),
        }
        seconds = least(
            {
                name: lambda made=made, x=x: reference.run(made, x, N_STEPS, record=())
                for name, made in networks.items()
            },
            n_runs=2 if options.quick else 3,
        )
        for name, made in networks.items():
            fired = reference.run(made, x, N_STEPS, record=["layer1"]).spikes["layer1"]
            rows.append(
                {
                    "neurons per layer": n,
                    "network": name,
                    "ms": 1000 * seconds[name],
                    "ratio": seconds[name] / seconds["feed-forward"],
                    "ms per sample and step": 1000 * seconds[name] / BATCH / N_STEPS,
                    "fired": float(np.mean(fired != 0)),
                }
            )
            print(rows[-1])
    write(
        options.json,
        title="Reference: recurrence and delays",
        what=(
            f"Three dense layers, {BATCH} samples of {N_STEPS} steps, random weights, a tenth of "
            "the inputs 1 at each step; `reference.run` of the same network with shifts, delays or "
            "a loop. Processor time of one thread, the least of several runs. `ratio`: to the "
            "network without any. `fired`: share of the neurons and steps of the second layer."
        ),
        rows=rows,
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
