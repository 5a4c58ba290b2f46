"""CUBA-LIF networks trained in torch, converted, mapped, emulated, run in Lava: equal everywhere.

``python benchmarks/loihi_training.py [--quick] --json OUT``. Two data sets that come with the
package: its handwritten digits, shown as they are for some steps, and events of these digits as a
camera sees them that makes N-MNIST's three saccades (`pmsm_hw.datasets.events_from_images`).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import harness
import numpy as np
import torch
from numpy.typing import NDArray

from pmsm_hw import lava, nn, reference
from pmsm_hw.convert import convert
from pmsm_hw.datasets import events_from_images, load_digits, to_frames
from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.reference import differing_readouts, differing_spikes

EVENT_STEPS, IMAGE_STEPS = 10, 6
SENSOR = (8, 8, 2)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much is trained and compared."""

    n_train: int = 1198
    epochs: int = 12
    n_emulated: int = 100
    n_lava: int = 20


QUICK = Recipe(n_train=256, epochs=2, n_emulated=10, n_lava=2)


def images_of(split: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images ``(n, 1, 8, 8)``, sixteenths, and labels."""
    digits = load_digits(split)
    return digits.images, digits.labels


def events_of(split: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Whether each pixel had events of each polarity, ``(n, n_steps, 2, 8, 8)``, and labels."""
    images, labels = images_of(split)
    window_us = 300_000 // EVENT_STEPS
    frames = [
        to_frames(e, EVENT_STEPS, SENSOR, window_us=window_us, start_us=0)
        for e in events_from_images(images, seed=0)
    ]
    return np.minimum(np.stack(frames), 1), labels


def network_for(data: str) -> torch.nn.Sequential:
    """Two convolutions of CUBA-LIF neurons and a readout."""
    torch.manual_seed(0)
    du, dv = nn.current_decay(2), nn.voltage_decay(4)
    is_events = data == "saccade events"
    first = nn.LoihiInput() if is_events else nn.LoihiInput(1 / 16, (0, 16), n_steps=IMAGE_STEPS)
    return torch.nn.Sequential(
        first,
        nn.LoihiConv2d(2 if is_events else 1, 12, 3, padding=1, gain=2 if is_events else 0.4),
        nn.CubaLif(64, du, dv, learned_bias=12),
        nn.LoihiConv2d(12, 24, 3, stride=2, padding=1, gain=3),
        nn.CubaLif(64, du, dv, learned_bias=24, refractory=2),
        torch.nn.Flatten(2),
        nn.LoihiLinear(384, 10),
        nn.LoihiReadout(learned_bias=10),
    )


def measure(data: str, recipe: Recipe) -> dict[str, Any]:
    """Train, convert, map, emulate, run in Lava."""
    load = events_of if data == "saccade events" else images_of
    (x, labels), (x_test, labels_test) = load("train"), load("test")
    x, labels = x[: recipe.n_train], labels[: recipe.n_train]
    model, n_steps = network_for(data), EVENT_STEPS if load is events_of else IMAGE_STEPS
    cpu, wall = time.process_time(), time.perf_counter()
    nn.train(model, nn.loader(x, labels, seed=0), epochs=recipe.epochs, seed=0)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    network, report = convert(model, x[:256], name=data.replace(" ", "_"))
    # beyond the batch of the conversion: all held-out samples
    expected = reference.run(network, x_test, n_steps)
    logits = nn.predict(model, x_test).numpy()
    some = x_test[: recipe.n_emulated]
    first = reference.run(network, some, n_steps)
    mapping = map_network(network, load_chip("loihi2"), seed=0)
    emulated = emulate(
        network, mapping, some, n_steps, mode="cycle", labels=labels_test[: len(some)]
    )
    answered = lava.run(network, x_test[: recipe.n_lava], n_steps)
    few = reference.run(network, x_test[: recipe.n_lava], n_steps)
    differing = {
        "emulator": differing_spikes(emulated.spikes, first.spikes)
        + differing_readouts(emulated.readouts, first.readouts),
        "lava": differing_spikes(answered.spikes, few.spikes)
        + differing_readouts(answered.readouts, few.readouts),
    }
    return {
        "data": data,
        "neurons": network.n_neurons,
        "n_steps": n_steps,
        "training_cpu_seconds": cpu,
        "training_seconds": wall,
        "accuracy_torch": float((logits.argmax(1) == labels_test).mean()),
        "accuracy_network": float((expected.predictions() == labels_test).mean()),
        "differing_conversion": sum(p.differing_spikes for p in report.populations),
        "compared_conversion": sum(p.n_compared for p in report.populations),
        "differing_logits": int(
            np.count_nonzero(next(iter(expected.logits.values())).astype(np.float32) != logits)
        ),
        "differing_emulator": differing["emulator"],
        "differing_lava": differing["lava"],
        "spikes_compared": sum(int(np.count_nonzero(k)) for k in expected.spikes.values()),
        "cores": len(mapping.cores),
        "latency_us": emulated.latency_ns / 1000,
        "energy_uj": emulated.energy.total / 1e6,
    }


def main() -> None:
    """Both data sets; print and write the table."""
    args = harness.arguments(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    rows = []
    for data in ("saccade events", "digits"):
        rows.append(measure(data, QUICK if args.quick else Recipe()))
        print(rows[-1], flush=True)
    harness.write(
        args.json,
        title="CUBA-LIF networks from torch to the chip",
        what="Trained with the chip's integers in torch (one thread), converted on 256 training "
        "samples with a comparison spike by spike, run in the reference on all 599 held-out "
        "samples (differing_logits: against torch), mapped on loihi2 and emulated in cycle mode "
        "(100 samples), run in Lava (20 samples): differing_* count spikes and readouts that are "
        "not the reference's.",
        extra={"load average of the machine": os.getloadavg()[0]},
        rows=rows,
        quick=args.quick,
    )


if __name__ == "__main__":
    main()
