"""Time of Lava: milliseconds a step and start-up, for both granularities and for Lava's own layers.

    python benchmarks/lava.py [--quick] --json OUT

in a Python 3.10 that has lava-nc. Networks have the shapes of the digits network and of LeNet-5 and
random weights; the graph of Lava's own layers has the same shapes (``Conv`` or ``Dense`` with
``LIF``; pooling as a ``Conv`` with one group per channel).

Within a start, blocks of steps are timed, and the graphs take turns so that a busy machine slows
all of them. The median counts.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

for library in ("OMP", "OPENBLAS", "MKL"):  # one process per population already
    os.environ[f"{library}_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
from harness import arguments, write  # noqa: E402

# this file is called lava too, and its folder comes first in the path
sys.path.pop(0)

import pmsm_hw as p  # noqa: E402
from pmsm_hw import reference  # noqa: E402

SHAPES: dict[str, list[tuple[Any, ...]]] = {
    # layers: (kind, channels or neurons, kernel, padding); pools halve
    "digits": [
        ("input", 1, 8, 0), ("conv", 12, 3, 1), ("pool",), ("conv", 24, 3, 1), ("conv", 24, 3, 1),
        ("pool",), ("dense", 10),
    ],
    "lenet": [
        ("input", 1, 28, 0), ("conv", 6, 5, 2), ("pool",), ("conv", 16, 5, 0), ("pool",),
        ("dense", 120), ("dense", 84), ("dense", 10),
    ],
}  # fmt: skip


def build(name: str) -> p.Network:
    """Network of those layers with random weights; thresholds let a good part of neurons fire."""
    rng = np.random.default_rng(0)
    (_, channels, size, _), *layers = SHAPES[name]
    populations: list[p.Population] = [
        p.Input(name="input", shape=(channels, size, size), levels=(0, 16))
    ]
    projections: list[p.Projection] = []
    for i, layer in enumerate(layers):
        source = populations[-1]
        target = f"{layer[0]}{i}"
        ends = {"source": source.name, "target": target}
        projection: p.Projection
        if layer[0] == "conv":
            _, c_out, kernel, padding = layer
            weight = rng.integers(-127, 128, (c_out, source.shape[0], kernel, kernel))
            projection = p.Conv2d(weight=weight, padding=padding, **ends)
        elif layer[0] == "pool":
            projection = p.SumPool(kernel=(2, 2), stride=(2, 2), **ends)
        else:
            weight = rng.integers(-127, 128, (layer[1], source.n_neurons))
            projection = p.Dense(weight=weight, **ends)
        shape = projection.output_shape(source.shape)
        if i == len(layers) - 1:
            populations.append(p.Readout(name=target, shape=shape))
        else:
            fan_in = projection.weight[0].size if layer[0] != "pool" else 4
            scale = 127 if layer[0] != "pool" else 4
            theta = np.array(max(2, int(scale * np.sqrt(fan_in) / 2)))
            populations.append(
                p.PolarityMultiSpike(name=target, shape=shape, theta=theta, levels=(2, 4))
            )
        projections.append(projection)
    return p.Network(
        name=name, populations=tuple(populations), projections=tuple(projections), max_steps=4
    )


class Graph:
    """Something Lava runs: start it, time blocks of steps, stop it."""

    def __init__(self, make: Callable[[], tuple[Any, Any, Any]]) -> None:
        from lava.magma.core.run_conditions import RunSteps

        self.steps = RunSteps
        start = time.perf_counter()
        self.process, run_cfg, compile_config = make()
        self.process.run(
            condition=RunSteps(num_steps=1),
            run_cfg=run_cfg,
            compile_config=compile_config,
        )
        self.start_s = time.perf_counter() - start
        self.n_processes = len(self.process.runtime._messaging_infrastructure.actors) - 1

    def time_ms(self, n_steps: int) -> float:
        """Milliseconds a step over one block."""
        start = time.perf_counter()
        self.process.run(condition=self.steps(num_steps=n_steps))
        return (time.perf_counter() - start) / n_steps * 1e3

    def stop(self) -> None:
        """End its processes."""
        self.process.stop()


def ours(network: p.Network, x: np.ndarray, granularity: Any) -> tuple[Any, Any, Any]:
    """Our graph: a process of it, run and compile configuration."""
    from pmsm_hw.lava import to_lava

    graph = to_lava(network, x, granularity=granularity)
    return graph.components()[0], graph.run_config(), graph.compile_config()


def lavas_own(network: p.Network, x: np.ndarray) -> tuple[Any, Any, Any]:
    """Graph of Lava's own layers with the same shapes and weights; what it computes differs."""
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif.process import LIF

    data = x.reshape(len(x), *network.inputs[0].shape).transpose(3, 2, 1, 0)  # (W, H, C, time)
    port = RingBuffer(data=np.ascontiguousarray(data).astype(np.int32)).s_out
    for projection in network.projections:
        target = network[projection.target]
        if isinstance(projection, p.Dense):
            layer = Dense(weights=projection.weight.astype(np.int32), num_message_bits=24)
            port.flatten().connect(layer.s_in)
            shape: tuple[int, ...] = target.shape
        else:
            if isinstance(projection, p.Conv2d):
                weight, groups = projection.weight[..., ::-1, ::-1], 1
                padding, stride = projection.padding[0][0], 1
            else:
                groups = target.shape[0]
                weight, padding, stride = np.ones((groups, 1, 2, 2)), 0, 2
            layer = Conv(
                weight=np.ascontiguousarray(weight.transpose(0, 3, 2, 1)).astype(np.int32),
                input_shape=tuple(port.shape),
                padding=padding,
                stride=stride,
                groups=groups,
                num_message_bits=24,
            )
            port.connect(layer.s_in)
            shape = tuple(layer.output_shape)
        neurons = LIF(shape=shape, vth=100, du=4095, dv=0)
        layer.a_out.connect(neurons.a_in)
        port = neurons.s_out
    return neurons, Loihi2SimCfg(select_tag="fixed_pt"), {}


def measure(name: str, n_starts: int, n_blocks: int, block: dict[str, int]) -> dict[str, Any]:
    """Times of one network, graphs taking turns."""
    network = build(name)
    n = 1 + n_blocks * max(block.values())
    x = np.random.default_rng(1).integers(0, 17, (n, *network.inputs[0].shape))
    spikes = reference.run(network, x[:20], 1).spikes
    makers: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
        "coarse": lambda: ours(network, x, "coarse"),
        "fine": lambda: ours(network, x, "fine"),
        "lavas_own": lambda: lavas_own(network, x),
    }
    starts: dict[str, list[float]] = {kind: [] for kind in makers}
    steps: dict[str, list[float]] = {kind: [] for kind in makers}
    counts: dict[str, int] = {}
    for _ in range(n_starts):
        graphs = {}
        for kind, make in makers.items():
            graphs[kind] = graph = Graph(make)
            starts[kind].append(graph.start_s)
            counts[kind] = graph.n_processes
        for _ in range(n_blocks):
            for kind, graph in graphs.items():
                steps[kind].append(graph.time_ms(block[kind]))
        for graph in graphs.values():
            graph.stop()
    step_ms = {kind: statistics.median(times) for kind, times in steps.items()}
    return {
        "n_neurons": network.n_neurons,
        "n_synapses": network.n_synapses,
        "share_of_neurons_that_fire": {
            k: round(float((v != 0).mean()), 3) for k, v in spikes.items()
        },
        "n_processes": counts,
        "step_ms": step_ms,
        "step_ms_all": steps,
        "start_s": {kind: statistics.median(times) for kind, times in starts.items()},
        "fine_over_coarse": step_ms["fine"] / step_ms["coarse"],
        "lavas_own_over_coarse": step_ms["lavas_own"] / step_ms["coarse"],
        "lavas_own_over_fine": step_ms["lavas_own"] / step_ms["fine"],
    }


def end_to_end(name: str, n_images: int) -> dict[str, float]:
    """Seconds of `pmsm_hw.lava.run` for a batch, child, start-up and result included."""
    from pmsm_hw import lava

    network = build(name)
    x = np.random.default_rng(2).integers(0, 17, (n_images, *network.inputs[0].shape))
    expected = reference.run(network, x, 1)
    seconds = {}
    for granularity in ("coarse", "fine"):
        start = time.perf_counter()
        result = lava.run(network, x, 1, granularity=granularity, timeout_s=300)
        seconds[granularity] = time.perf_counter() - start
        for population, spikes in expected.spikes.items():
            np.testing.assert_array_equal(result.spikes[population], spikes)
    return seconds


LABELS = {
    "coarse": "coarse (default of run)",
    "fine": "fine",
    "lavas_own": "Lava's own Conv + LIF",
}


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    if sys.version_info[:2] != (3, 10):
        sys.exit("benchmarks/lava.py needs a Python 3.10 that has lava-nc")
    n_starts, n_blocks = (1, 3) if options.quick else (2, 6)
    blocks = {
        "digits": {"coarse": 400, "fine": 100, "lavas_own": 30},
        "lenet": {"coarse": 400, "fine": 100, "lavas_own": 30},
    }
    if options.quick:
        blocks = {name: {k: n // 3 for k, n in b.items()} for name, b in blocks.items()}
    n_images = 50 if options.quick else 200
    rows: list[dict[str, Any]] = []
    # waiting processes: what else the machine did meanwhile
    extra: dict[str, Any] = {"load average before": os.getloadavg()[0]}
    for name in SHAPES:
        times = measure(name, n_starts, n_blocks, blocks[name])
        run_s = end_to_end(name, n_images)
        extra |= {
            f"{name}: fine over coarse, a step": times["fine_over_coarse"],
            f"{name}: Lava's own over coarse, a step": times["lavas_own_over_coarse"],
            f"{name}: neurons": times["n_neurons"],
            f"{name}: share of neurons that fire": times["share_of_neurons_that_fire"],
        }
        for kind, label in LABELS.items():
            row = {
                "network": name,
                "graph": label,
                "lava processes": times["n_processes"][kind],
                "ms a step": times["step_ms"][kind],
                "start (s)": times["start_s"][kind],
                f"run, {n_images} images, T=1 (s)": run_s.get(kind, ""),
            }
            rows.append(row)
    write(
        options.json,
        title="Lava: time of a step and of the start",
        what="Random weights, shapes of the digits network and of LeNet-5. Lava's own: the same "
        "shapes from Lava's Conv, Dense and LIF (binary spikes, so it computes something else; its "
        "pooling is a Conv with one group per channel). Medians; graphs took turns. Start: build, "
        "compile, fork, first step. Run: pmsm_hw.lava.run, everything included, spikes of all "
        "populations recorded and compared with the reference.",
        rows=rows,
        quick=options.quick,
        extra=extra,
    )
    print(options.json.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
