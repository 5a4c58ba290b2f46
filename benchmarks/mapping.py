"""Mapping networks of many sizes onto Loihi 1 and 2, against four simple mappers.

    python benchmarks/mapping.py [--quick] --json OUT

Networks have the shapes of the published ones and random int8 weights; mapping looks at shapes,
zeros and spike ranges only.
"""

from __future__ import annotations

import numpy as np

from pmsm_hw import (
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
)

LEVELS = (0, 3)
"""Negative and positive spikes per step of every population."""


class Builder:
    """Appends layers with random int8 weights."""

    def __init__(self, name: str, shape: tuple[int, ...], seed: int = 0) -> None:
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.populations: list = [Input(name="input", shape=shape, levels=(0, 15))]
        self.projections: list = []
        self.last = self.populations[0]

    def _weight(self, *shape: int) -> np.ndarray:
        weight = self.rng.integers(-127, 128, shape, dtype=np.int8)
        # as a converted network has them, some weights are zero
        return weight

    def _add(self, name: str, projections: list, theta: int) -> PolarityMultiSpike:
        sizes = {p.name: p.shape for p in self.populations}
        shape = projections[0].output_shape(sizes[projections[0].source])
        population = PolarityMultiSpike(
            name=name, shape=shape, theta=np.array(theta), levels=LEVELS, overflow="saturate"
        )
        self.populations.append(population)
        self.projections += projections
        self.last = population
        return population

    def conv(self, channels, kernel=3, stride=1, padding=None, groups=1, *, skip=None, source=None):
        source = self.last if source is None else source
        name = f"conv{len(self.populations)}"
        padding = kernel // 2 if padding is None else padding
        weight = self._weight(channels, source.shape[0] // groups, kernel, kernel)
        projections = [
            Conv2d(source=source.name, target=name, weight=weight, stride=stride, padding=padding,
                   groups=groups)
        ]  # fmt: skip
        if skip is not None:
            projections.append(Identity(source=skip.name, target=name))
        return self._add(name, projections, 127 * int(np.sqrt(weight[0].size)))

    def pool(self, kernel=2):
        name = f"pool{len(self.populations)}"
        k = (kernel, kernel)
        return self._add(
            name, [SumPool(source=self.last.name, target=name, kernel=k, stride=k)], kernel**2
        )

    def dense(self, n):
        name = f"fc{len(self.populations)}"
        weight = self._weight(n, self.last.n_neurons)
        return self._add(
            name,
            [Dense(source=self.last.name, target=name, weight=weight)],
            127 * int(np.sqrt(weight.shape[1])),
        )

    def build(self, n_classes: int) -> Network:
        weight = self._weight(n_classes, self.last.n_neurons)
        self.projections.append(Dense(source=self.last.name, target="readout", weight=weight))
        self.populations.append(Readout(name="readout", shape=(n_classes,), overflow="saturate"))
        return Network(
            name=self.name, populations=tuple(self.populations), projections=tuple(self.projections)
        )


def digits_cnn() -> Network:
    b = Builder("digits-cnn", (1, 8, 8))
    b.conv(16)
    b.conv(32, stride=2)
    b.dense(64)
    return b.build(10)


def lenet() -> Network:
    b = Builder("lenet-5", (1, 28, 28))
    b.conv(6, 5)
    b.pool()
    b.conv(16, 5, padding=0)
    b.pool()
    b.dense(120)
    b.dense(84)
    return b.build(10)


VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def vgg(name: str, layers: tuple, size: int, hidden: tuple[int, ...], n_classes: int) -> Network:
    b = Builder(name, (3, size, size))
    for layer in layers:
        if layer == "M":
            b.pool()
        else:
            b.conv(layer)
    for n in hidden:
        b.dense(n)
    return b.build(n_classes)


def resnet(name, size, stem, widths, blocks, n_classes) -> Network:
    """Basic blocks; a strided 1x1 convolution joins stages of different width."""
    b = Builder(name, (3, size, size))
    kernel, stride, pooled = stem
    b.conv(widths[0], kernel, stride)
    if pooled:
        b.pool()
    for stage, width in enumerate(widths):
        for block in range(blocks):
            start = b.last
            step = 2 if stage and not block else 1
            b.conv(width, 3, step)
            if step == 1:
                b.conv(width, 3, skip=start)
            else:
                middle = b.last
                shortcut = b.conv(width, 1, 2, 0, source=start)
                b.conv(width, 3, source=middle, skip=shortcut)
    b.pool(b.last.shape[-1])
    return b.build(n_classes)


def mobilenet() -> Network:
    """Depthwise separable convolutions, MobileNet's first widths, 32 x 32."""
    b = Builder("mobilenet-like", (3, 32, 32))
    b.conv(32)
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        b.conv(b.last.shape[0], 3, stride, groups=b.last.shape[0])
        b.conv(width, 1)
    b.pool(b.last.shape[-1])
    return b.build(10)


NETWORKS = {
    "digits-cnn": digits_cnn,
    "lenet-5": lenet,
    "vgg-11-cifar": lambda: vgg("vgg-11-cifar", VGG11, 32, (), 10),
    "vgg-16-cifar": lambda: vgg("vgg-16-cifar", VGG16, 32, (), 10),
    "resnet-20": lambda: resnet("resnet-20", 32, (3, 1, False), (16, 32, 64), 3, 10),
    "mobilenet-like": mobilenet,
    "resnet-18-224": lambda: resnet(
        "resnet-18-224", 224, (7, 2, True), (64, 128, 256, 512), 2, 1000
    ),
    "vgg-16-224": lambda: vgg("vgg-16-224", VGG16, 224, (4096, 4096), 1000),
}
