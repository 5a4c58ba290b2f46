"""Time of PilotNet LIF, 118,909 of Loihi's neurons, 16 steps of one image: here and in Lava.

    python benchmarks/loihi.py [--quick] --json OUT

The network and its image are published data (CONTRIBUTING.md); without them there is nothing to
measure, and it says so. In a Python 3.10 that has lava-nc, Lava's own ``LIF``, ``Conv`` and
``Dense`` processes run the same network, compared spike for spike.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, write

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT / "tests")  # its loader; and this folder's lava.py is not Lava

import silicon  # noqa: E402

from pmsm_hw import Conv2d, CubaLif, Network, reference  # noqa: E402
from pmsm_hw.emulator import emulate  # noqa: E402
from pmsm_hw.mapping import load_chip, map_network  # noqa: E402

N_STEPS = 16
DATA = ROOT.parent / "shared" / "data" / "silicon"


def times_ms(run: Callable[[], object], n: int) -> list[float]:
    """Milliseconds of each of so many runs, after one that is not counted."""
    run()
    found = []
    for _ in range(n):
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) * 1e3)
    return found


def in_lava(network: Network, image: Any, n_steps: int) -> tuple[float, float, dict[str, Any]]:
    """Seconds of start and first step, of the other steps, and spikes, in Lava's own processes."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense
    from lava.proc.io.sink import RingBuffer
    from lava.proc.lif.process import LIF

    def lif(population: CubaLif, bias: Any) -> Any:
        """Axes are width, height, channels."""
        shape = population.shape
        values = np.broadcast_to(bias, shape).transpose(range(len(shape))[::-1]).astype(int)
        return LIF(
            shape=shape[::-1], du=int(population.du), dv=int(population.dv),
            vth=int(population.vth), bias_mant=values, bias_exp=population.bias_exponent,
        )  # fmt: skip

    first: Any = network["input"]
    neurons = LIF(
        shape=first.shape[::-1], du=4095, dv=int(first.dv), vth=int(first.vth),
        bias_mant=image.transpose(2, 1, 0).astype(int), bias_exp=6,
    )  # fmt: skip
    start = time.perf_counter()
    sinks = {}
    for projection in network.projections[1:]:
        target: Any = network[projection.target]
        weight = projection.weight.astype(np.int32) << projection.weight_exponent
        port = neurons.s_out
        if isinstance(projection, Conv2d):
            layer = Conv(
                weight=np.ascontiguousarray(weight[..., ::-1, ::-1].transpose(0, 3, 2, 1)),
                input_shape=tuple(port.shape),
                stride=projection.stride[::-1],
                padding=tuple(before for before, _ in projection.padding[::-1]),
            )
        else:
            if len(port.shape) == 3:  # flattened as (channels, height, width)
                port = port.transpose([2, 1, 0]).flatten()
            layer = Dense(weights=weight)
        port.connect(layer.s_in)
        neurons = lif(target, target.bias)
        layer.a_out.connect(neurons.a_in)
        sinks[target.name] = sink = RingBuffer(shape=neurons.s_out.shape, buffer=n_steps)
        neurons.s_out.connect(sink.a_in)
    neurons.run(condition=RunSteps(num_steps=1), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    begin = time.perf_counter()
    neurons.run(condition=RunSteps(num_steps=n_steps - 1))
    done = time.perf_counter()
    spikes = {name: sink.data.get() for name, sink in sinks.items()}
    neurons.stop()
    return begin - start, done - begin, spikes


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    if not (DATA / "pilotnet_lif.net").is_file():
        print(f"not measured: the published network and image are not at {DATA}")
        return
    n_runs = 5 if options.quick else 21
    network = silicon.pilotnet_network(DATA, native=False, n_steps=N_STEPS)
    x = silicon.pilotnet_image(DATA)
    rows, load = [], os.getloadavg()[0]

    def add(engine: str, ms: list[float]) -> None:
        rows.append(
            {"engine": engine, "ms": statistics.median(ms), "least ms": min(ms), "runs": len(ms)}
        )

    add("reference", times_ms(lambda: reference.run(network, x, N_STEPS, record=()), n_runs))
    add("reference, all spikes recorded", times_ms(lambda: reference.run(network, x, N_STEPS), 5))
    mapping = map_network(network, load_chip("loihi2"), objective="cores", seed=0)
    for mode in ("counts", "cycle"):
        runs = times_ms(lambda: emulate(network, mapping, x, N_STEPS, mode=mode), 3)  # noqa: B023
        add(f"emulator, {mode} mode", runs)
    extra: dict[str, Any] = {
        "neurons": network.n_neurons,
        "synapses": network.n_synapses,
        "cores": len(mapping.cores),
        "load average before": load,
    }
    if find_spec("lava"):
        # as Lava runs it: each spike acts a step later, and nothing is reset
        native = silicon.pilotnet_network(DATA, native=True, n_steps=N_STEPS, period=0)
        start_s, steps_s, spikes = in_lava(native, x["image"][0], N_STEPS)
        expected = reference.run(native, x, N_STEPS).spikes
        differing = 0
        for name, its in spikes.items():
            mine = np.moveaxis(expected[name][0], 0, -1)
            mine = mine.transpose(2, 1, 0, 3) if mine.ndim == 4 else mine
            differing += int((mine != its).sum())
        add("Lava's own LIF, Conv and Dense", [steps_s * 1e3 * N_STEPS / (N_STEPS - 1)])
        extra |= {"Lava: start (s)": start_s, "Lava: differing spikes": differing}
        for row in rows:
            row["Lava takes (times)"] = rows[-1]["ms"] / row["ms"]
    else:
        extra["Lava"] = "not measured: this Python has no lava-nc"
    write(
        options.json,
        title="PilotNet LIF: one image, 16 steps",
        what="118,909 of Loihi's neurons, and 39,600 that encode the image; medians, after a "
        "run that prepares and compiles. Cycle mode on Loihi 2, mapped with objective cores. "
        "Lava: a process for each layer and its neurons, start-up left out, without reset and with "
        "a step from layer to layer, as on the chip; its spikes are compared with the reference's.",
        rows=rows,
        quick=options.quick,
        extra=extra,
    )
    print(options.json.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
