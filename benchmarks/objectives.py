"""What each objective of the mapper buys, by the emulator.

    python benchmarks/objectives.py [--quick] --json OUT

Networks of the mapping benchmark with random weights; random inputs, two steps. Every objective
gets the traffic of a run on other inputs.
"""

from __future__ import annotations

from dataclasses import replace

import harness
import numpy as np

from mapping import NETWORKS, Builder
from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import load_chip, map_network, measured_traffic

WHAT = (
    "Latency of the first of four random samples, and energy of each, static power of the chip "
    "included, as emulated with the chip's first profile; spikes are the same under every "
    "objective. The mapper was given the messages of a run on other samples (measured_traffic). "
    "Where static power is known it rules the energy, and what is fast is frugal; 'no static' is "
    "the chip without it."
)
N_STEPS = 2


def small_conv():
    """Three convolutions and two dense layers."""
    b = Builder("conv-16x16", (2, 16, 16))
    b.conv(12)
    b.conv(24, stride=2)
    b.conv(32)
    b.dense(64)
    return b.build(10)


def without_static(chip):
    """The same chip, static power unknown."""
    data = chip.to_dict()
    for profile in data["profiles"].values():
        profile.pop("static_power_mw", None)
    return type(chip).model_validate(data)


def main() -> None:
    options = harness.arguments(__doc__.splitlines()[0])
    networks = {
        "digits-cnn": NETWORKS["digits-cnn"],
        "lenet-5": NETWORKS["lenet-5"],
        "conv-16x16": small_conv,
    }
    modes = ("counts",) if options.quick else ("counts", "cycle")
    rows = []
    for name, build in networks.items():
        network = replace(build(), max_steps=N_STEPS)
        rng = np.random.default_rng(0)
        shape = network.populations[0].shape
        x, profiled = rng.integers(0, 16, (4, *shape)), rng.integers(0, 16, (4, *shape))
        for chip_name in ("loihi1", "loihi2", "loihi1, no static"):
            chip = load_chip(chip_name.split(",")[0])
            if "," in chip_name:
                chip = without_static(chip)
            traffic = measured_traffic(network, profiled, N_STEPS, chip)
            for objective in ("cores", "latency", "energy"):
                mapping = map_network(network, chip, objective=objective, traffic=traffic)
                row = {
                    "network": name,
                    "chip": chip_name,
                    "objective": objective,
                    "n_cores": len(mapping.cores),
                    "mean_hops": mapping.metrics["mean_hops"],
                }
                for mode in modes:
                    report = emulate(network, mapping, x, N_STEPS, mode=mode)
                    row[f"latency_us_{mode}"] = report.latency_ns / 1e3
                    row[f"energy_uj_{mode}"] = report.energy_pj["total"] / 1e6
                rows.append(row)
    harness.write(options.json, title="Objectives", what=WHAT, rows=rows, quick=options.quick)


if __name__ == "__main__":
    main()
