"""Exact integer inference against torch's float32 forward of the same layers.

``python benchmarks/reference.py [--quick] --json OUT``
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, interleaved, write

from pmsm_hw import reference
from pmsm_hw.network import (
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
    Readout,
    SumPool,
)

BATCH = 32
CLASSES = 10


class Builder:
    """Adds layers to an integer network and remembers the float layers that they stand for."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.populations: list[Population] = [
            Input(name="input", shape=(3, 32, 32), scale=1 / 255, levels=(0, 255))
        ]
        self.projections: list[Projection] = []
        self.rms = 127.0  # of the payloads of the last population

    def conv(
        self, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1, skip: str = ""
    ) -> str:
        """Convolution and neurons; ``skip`` names a population that is added (as it is)."""
        source = self.populations[-1]
        c, name = source.shape[0], f"layer{len(self.populations)}"
        shape = (channels, c // groups, kernel, kernel)
        weight = np.clip(self.rng.normal(0, 25, shape), -127, 127).round().astype(np.int8)
        projection = Conv2d(
            source=source.name, target=name, weight=weight, stride=stride, padding=kernel // 2,
            groups=groups,
        )  # fmt: skip
        self.projections.append(projection)
        if skip:
            self.projections.append(
                Identity(source=skip, target=name, weight=np.int8(100), name=f"{skip}->{name}")
            )
        deviation = 25 * self.rms * np.sqrt(c // groups * kernel * kernel)
        self._neurons(name, projection.output_shape(source.shape), max(1, int(deviation / 2)))
        return name

    def pool(self, size: int) -> str:
        """Average pooling: a sum that a relay population passes on."""
        source = self.populations[-1]
        name = f"pool{len(self.populations)}"
        projection = SumPool(
            source=source.name, target=name, kernel=(size, size), stride=(size, size)
        )
        self.projections.append(projection)
        self._neurons(name, projection.output_shape(source.shape), size * size)
        return name

    def _neurons(self, name: str, shape: tuple[int, ...], theta: int) -> None:
        self.populations.append(
            PolarityMultiSpike(name=name, shape=shape, theta=np.array(theta), levels=(2, 4))
        )
        self.rms = 1.5

    def network(self, name: str) -> Network:
        """Finish with a readout."""
        source = self.populations[-1]
        weight = self.rng.integers(-50, 51, (CLASSES, source.n_neurons))
        self.projections.append(Dense(source=source.name, target="output", weight=weight))
        self.populations.append(Readout(name="output", shape=(CLASSES,)))
        return Network(
            name=name, populations=tuple(self.populations), projections=tuple(self.projections)
        )


def vgg16() -> Network:
    """VGG-16 in its usual CIFAR shape: 13 convolutions, five poolings, one dense layer."""
    builder = Builder()
    for channels, n in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(n):
            builder.conv(channels)
        builder.pool(2)
    return builder.network("VGG-16")


def resnet20() -> Network:
    """ResNet-20 for CIFAR: three stages of three blocks, identity shortcuts within a stage."""
    builder = Builder()
    last = builder.conv(16)
    for channels, first_stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            stride = first_stride if block == 0 else 1
            builder.conv(channels, stride=stride)
            last = builder.conv(channels, skip=last if stride == 1 else "")
    builder.pool(8)
    return builder.network("ResNet-20")


def depthwise() -> Network:
    """MobileNet-like: depthwise 3x3 and pointwise layers in turn."""
    builder = Builder()
    builder.conv(32)
    channels = 32
    for wider, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        builder.conv(channels, stride=stride, groups=channels)
        builder.conv(wider, kernel=1)
        channels = wider
    builder.pool(4)
    return builder.network("depthwise (MobileNet-like)")


NETWORKS: dict[str, Callable[[], Network]] = {
    "VGG-16": vgg16,
    "ResNet-20": resnet20,
    "depthwise": depthwise,
}


def float_forward(network: Network, x: np.ndarray, *, folded: bool) -> Callable[[], object]:
    """Float32 forward of the same network in torch: Conv2d, BatchNorm2d, ReLU, AvgPool2d, Linear.

    ``folded``: batch norm folded into the convolutions.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    layers: dict[str, Any] = {}
    for q in network.projections:
        weight = torch.tensor(q.weight / np.float32(100))
        if isinstance(q, Conv2d):
            c_out, c_in = q.weight.shape[0], q.weight.shape[1] * q.groups
            layer = nn.Conv2d(
                c_in, c_out, q.weight.shape[2], q.stride[0], q.padding[0][0], groups=q.groups,
                bias=folded,
            )  # fmt: skip
            layer.weight.data = weight
            norm = nn.Identity() if folded else nn.BatchNorm2d(c_out)
            layers[q.name] = nn.Sequential(layer, norm).eval()
        elif isinstance(q, Dense):
            layer = nn.Linear(q.weight.shape[1], q.weight.shape[0])
            layer.weight.data = weight
            layers[q.name] = nn.Sequential(nn.Flatten(), layer)
        elif isinstance(q, SumPool):
            layers[q.name] = nn.AvgPool2d(q.kernel[0])
        else:
            layers[q.name] = nn.Identity()
    images = torch.from_numpy(x.astype(np.float32) / 255)
    plan = [
        (p.name, [(q.source, layers[q.name]) for q in network.into(p.name)], p)
        for p in network.topological
        if not isinstance(p, Input)
    ]

    def forward() -> object:
        with torch.inference_mode():
            values = {"input": images}
            for name, sources, population in plan:
                total = None
                for source, layer in sources:
                    part = layer(values[source])
                    total = part if total is None else total + part
                relu = isinstance(population, PolarityMultiSpike) and not name.startswith("pool")
                values[name] = functional.relu(total) if relu else total
            return values["output"]

    return forward


def images(n: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)


def peak_mb(name: str) -> float:
    """Peak memory of a process that only builds and runs the network."""
    reference.run(NETWORKS[name](), images(BATCH), 1, record=())
    status = Path("/proc/self/status").read_text()  # getrusage would count the parent's peak
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextmanager
def single_threaded() -> Iterator[None]:
    """Processes started in here use one thread for matrix products."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def cpu_ratios(name: str) -> tuple[float, float]:
    """Processor time against torch and torch folded, one thread each: the least of five runs.

    Other processes on the machine disturb it less than they disturb the clock.
    """
    import torch

    torch.set_num_threads(1)
    network, x = NETWORKS[name](), images(BATCH)
    least = []
    for function in (
        lambda: reference.run(network, x, 1, record=()),
        float_forward(network, x, folded=False),
        float_forward(network, x, folded=True),
    ):
        function()
        seconds = []
        for _ in range(5):
            start = time.process_time()
            function()
            seconds.append(time.process_time() - start)
        least.append(min(seconds))
    return least[0] / least[1], least[0] / least[2]


def main() -> None:
    options = arguments(__doc__ or "")
    rows = []
    for name, build in NETWORKS.items():
        network, x = build(), images(BATCH)
        seconds = interleaved(
            {
                "torch": float_forward(network, x, folded=False),
                "folded": float_forward(network, x, folded=True),
                "integer": lambda network=network, x=x: reference.run(network, x, 1, record=()),
            },
            n_runs=3 if options.quick else 11,
            warm_up=1,
        )
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak = pool.apply(peak_mb, (name,))
        with single_threaded(), multiprocessing.get_context("spawn").Pool(1) as pool:
            cpu_ratio, cpu_ratio_folded = pool.apply(cpu_ratios, (name,))
        result = reference.evaluate(network, (x, np.zeros(BATCH, np.int64)), progress=False)
        layers = [result.sparsity[p.name] for p in network if isinstance(p, PolarityMultiSpike)]
        rows.append(
            {
                "network": network.name,
                "ratio_vs_torch": seconds["integer"] / seconds["torch"],
                "images_per_s": BATCH / seconds["integer"],
                "peak_mb": round(peak),
                "integer_ms": 1000 * seconds["integer"],
                "torch_ms": 1000 * seconds["torch"],
                "torch_folded_ms": 1000 * seconds["folded"],
                "ratio_vs_folded": seconds["integer"] / seconds["folded"],
                "cpu_ratio_vs_torch": cpu_ratio,
                "cpu_ratio_vs_folded": cpu_ratio_folded,
                "fired": 1 - float(np.mean(layers)),
            }
        )
        print(rows[-1])
    write(
        options.json,
        title="Reference: exact integers against float32",
        what=(
            f"Batch {BATCH} of 3x32x32 images, T = 1, random weights; `reference.run` against "
            "torch's float32 forward of the same network (convolution, batch norm, ReLU, average "
            "pooling; `folded`: without batch norm, which is folded into the convolutions), timed "
            "in turn in one process, medians. `cpu_ratio`: the same in processor time, one thread "
            "each, least of five. `peak_mb`: resident memory of a process that only "
            "builds and runs the integer network. `fired`: mean share of neurons that fired."
        ),
        rows=rows,
        quick=options.quick,
        extra={"load_average_at_the_end": os.getloadavg()[0]},
    )


if __name__ == "__main__":
    main()
