"""Conversion of published architectures: seconds, peak memory, and whether it is exact.

``python benchmarks/conversion.py [--quick] --json OUT``. Weights are random and batch norm has seen
one batch: what conversion costs depends on shapes only. Each network has a process of its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import harness

NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]] = {
    "resnet20": ("resnet20", {}, (3, 32, 32)),
    "vgg16": ("vgg16", {}, (3, 32, 32)),
    "resnet18": ("resnet18", {"stem": "cifar"}, (3, 32, 32)),
    "resnet18-imagenet": ("resnet18", {"n_classes": 1000}, (3, 224, 224)),
}
QUICK = ("resnet20",)


def measure(name: str) -> dict[str, Any]:
    """Convert one network in this process."""
    import numpy as np
    import torch

    from pmsm_hw import nn, reference
    from pmsm_hw.convert import convert, integer_model

    builder, arguments, shape = NETWORKS[name]
    model = nn.models.build(builder, **arguments)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    model.train()
    with torch.no_grad():
        model(x)
    quantize_cpu = time.process_time()
    quantized = nn.quantize(model, (1, 4), (2, 1), "lsq", x)
    quantize_cpu = time.process_time() - quantize_cpu
    forward_cpu = time.process_time()
    with torch.no_grad():
        model.eval()(x)
    forward_cpu = time.process_time() - forward_cpu
    before = peak_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    network, report = convert(quantized, x, name=name, max_steps=4)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = peak_mb()
    # what fake-quantized training computes, against the network made of it
    integer = integer_model(quantized, x, max_steps=4)
    proof_cpu = time.process_time()
    integer.prove()
    proof_cpu = time.process_time() - proof_cpu
    ours = nn.spikes(integer, x)
    theirs = reference.run(convert(integer).network, x.numpy()).spikes
    differing = sum(int(np.count_nonzero(ours[k] != theirs[k][:, 0])) for k in ours)
    return {
        "network": name,
        "input": "x".join(map(str, shape)),
        "neurons": network.n_neurons,
        "synapses": network.n_synapses,
        "weights": sum(q.weight.size for q in network.projections),
        "seconds": wall,
        "cpu_seconds": cpu,
        "quantize_cpu_seconds": quantize_cpu,
        "proof_cpu_seconds": proof_cpu,
        "forward_cpu_seconds": forward_cpu,
        "peak_mb": after,
        "peak_mb_before": before,
        "differing_spikes": differing,
        "coarser_populations": sum(p.fractional_bits < 0 for p in report.populations),
    }


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure all networks, print and write the table."""
    args = harness.arguments(__doc__.splitlines()[0])
    rows = []
    for name in QUICK if args.quick else NETWORKS:
        command = [sys.executable, __file__, "--network", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        print(rows[-1])
    harness.write(
        args.json,
        title="Conversion of published architectures",
        what="Time and peak memory of convert(): graph, rounding, proof, report on 2 samples. "
        "cpu_seconds is the work of all threads, which bounds the seconds on an idle machine; "
        "proof_cpu_seconds of them, three passes of which one is the model in float64, compare the "
        "result with the model; quantize_cpu_seconds is quantize() with its own three passes and a "
        "trial lowering, forward_cpu_seconds one float32 pass of the model; "
        "peak_mb_before is the process with torch and the quantized model loaded; "
        "differing_spikes: the fake-quantized torch model against the reference.",
        extra={"load average of the machine": os.getloadavg()[0]},
        rows=rows,
        quick=args.quick,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--network"]:
        print(json.dumps(measure(sys.argv[2])))
    else:
        main()
