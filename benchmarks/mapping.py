"""Mapping networks of many sizes onto Loihi 1 and 2, against four simple mappers.

    python benchmarks/mapping.py [--quick] --json OUT

Networks have the shapes of the published ones and random int8 weights; mapping looks at shapes,
zeros and spike ranges only.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import time

import harness
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
from pmsm_hw.errors import PmsmHwError
from pmsm_hw.mapping import Block, load_chip, map_network, split_fan_in
from pmsm_hw.mapping.partition.grids import parts_of
from pmsm_hw.mapping.placement.metrics import measure
from pmsm_hw.mapping.placement.places import curve_order, region
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.mapping.resources.usage import capacity, count_usage
from pmsm_hw.mapping.routing.traffic import Traffic, core_traffic, rates_of
from pmsm_hw.operators import chw

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
        return self.rng.integers(-127, 128, shape, dtype=np.int8)

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
        """Append a convolution (batch norm is folded), and an identity from `skip`."""
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
        """Append sum pooling: a population that relays sums."""
        name = f"pool{len(self.populations)}"
        k = (kernel, kernel)
        return self._add(
            name, [SumPool(source=self.last.name, target=name, kernel=k, stride=k)], kernel**2
        )

    def dense(self, n):
        """Append a fully connected layer."""
        name = f"fc{len(self.populations)}"
        weight = self._weight(n, self.last.n_neurons)
        return self._add(
            name,
            [Dense(source=self.last.name, target=name, weight=weight)],
            127 * int(np.sqrt(weight.shape[1])),
        )

    def build(self, n_classes: int) -> Network:
        """Append the readout, and validate."""
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


# -- rivals ---------------------------------------------------------------------------------------


def equal_slices(resources: Resources) -> list[list[Block]]:
    """As nengo-loihi: equal slices, as many as the largest of the ratios of need to limit."""
    limits = capacity(resources.chip)
    cores = []
    for p in resources.placed:
        c, h, w = chw(p.shape)
        whole = Block(population=p.name, channels=(0, c), rows=(0, h), columns=(0, w), core=-1)
        need = (p.n_neurons, resources.input_axons([whole]), 0, resources.synapse_bits([whole]))
        n = max(math.ceil(a / b) for a, b in zip(need, limits, strict=True))
        rows = math.ceil(n / c) if n > c else 1
        for channels in parts_of(c, min(n, c)):
            cores += [
                [Block(population=p.name, channels=channels, rows=ys, columns=(0, w), core=-1)]
                for ys in parts_of(h, min(rows, h))
            ]
    return cores


def first_fit(resources: Resources) -> list[list[Block]]:
    """Greedy first fit, pixel by pixel with all its channels, into the current core.

    Looks at neurons, input axons and memory as it goes; output axons turn out later.
    """
    limits = np.array(capacity(resources.chip))

    def needs(block: Block) -> np.ndarray:
        axons, bits = resources.input_axons([block]), resources.synapse_bits([block])
        return np.array([block.n_neurons, axons, 0, bits])

    cores: list[list[Block]] = [[]]
    room = limits.copy()
    for p in resources.placed:
        c, h, w = chw(p.shape)

        def run(part, y, x0, x1, name=p.name):
            return Block(population=name, channels=part, rows=(y, y + 1), columns=(x0, x1), core=-1)

        channels = c
        while (
            channels > 1 and (needs(run((0, channels), h // 2, w // 2, w // 2 + 1)) > limits).any()
        ):
            channels = -(-channels // 2)
        for first in range(0, c, channels):
            part = (first, min(first + channels, c))
            for y in range(h):
                x = 0
                while x < w:
                    low, high = x, w
                    while low < high:  # as many pixels of the row as the core has room for
                        middle = (low + high + 1) // 2
                        fits = (needs(run(part, y, x, middle)) <= room).all()
                        low, high = (middle, high) if fits else (low, middle - 1)
                    if low == x and not cores[-1]:
                        raise RuntimeError(f"a pixel of {p.name} does not fit an empty core")
                    if low == x:
                        cores.append([])
                        room = limits.copy()
                        continue
                    cores[-1].append(run(part, y, x, low))
                    room = room - needs(cores[-1][-1])
                    x = low
    return cores


def traffic_of(resources: Resources, cores: list[list[Block]]) -> Traffic:
    """One message per neuron, between cores or, of large mappings, tiles."""
    rates = rates_of(resources.network, None)
    return core_traffic(resources, cores, rates, group=tiled(resources.chip, len(cores)))


def figures(chip, n_cores: int, between: Traffic, places: list[np.ndarray]) -> dict:
    """Metrics of any assignment, as a mean over several placements."""
    found = [measure(chip, some, between)[1] for some in places]
    return {
        "n_cores": n_cores,
        "deliveries": int(found[0]["deliveries"]),
        "mean_hops": float(np.mean([m["mean_hops"] for m in found])),
        "max_link_load": int(np.mean([m["max_link_load"] for m in found])),
    }


def over_limit(resources: Resources, cores: list[list[Block]]) -> int:
    """Cores that exceed a limit."""
    usage = count_usage(resources, cores)
    return int((usage > np.array(capacity(resources.chip))).any(axis=1).sum())


def tiled(chip, n: int) -> int:
    """Cores that stay together: those of a tile, in large mappings."""
    return chip.mesh.cores_per_tile.value if n > 2048 else 1


def along_curve(chip, n: int, shuffles: int = 0) -> list[np.ndarray]:
    """Places of a board along the Hilbert curve, or several shuffles of them."""
    slots = curve_order(chip, region(chip, n)).reshape(-1, tiled(chip, n))
    shuffled = [np.random.default_rng(seed).permutation(slots) for seed in range(shuffles)]
    return [some.reshape(-1)[:n] for some in shuffled or [slots]]


def board_for(chip, n: int):
    """A board of the chip with room for so many cores."""
    per_chip = chip.n_cores // chip.n_chips
    return chip.on_board(max(1, -(-n // per_chip)))


def compare(name: str, chip_name: str, rivals: bool) -> list[dict]:
    """All rows of one network on one chip."""
    chip = load_chip(chip_name)
    base = {"network": name, "chip": chip_name}
    network = NETWORKS[name]()
    try:
        network = split_fan_in(network, chip)
    except PmsmHwError as error:
        return [{**base, "method": "ours", "problem": str(error)}]
    base["neurons"] = network.n_neurons
    network.fingerprint  # noqa: B018 - computed once, not part of mapping
    board = board_for(chip, 1_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, start_cpu = time.perf_counter(), time.process_time()
    try:
        mapping = map_network(network, board, objective="cores")
    except PmsmHwError as error:
        return [{**base, "method": "ours", "problem": str(error)}]
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    at_random = mapping.metrics["mean_hops_at_random"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ours = {
        **base,
        "method": "ours",
        "n_cores": int(mapping.metrics["n_cores"]),
        "lower_bound": int(mapping.metrics["lower_bound"]),
        "cores_over_bound": mapping.metrics["n_cores"] / mapping.metrics["lower_bound"],
        "deliveries": int(mapping.metrics["deliveries"]),
        "mean_hops": mapping.metrics["mean_hops"],
        "hops_over_random": mapping.metrics["mean_hops"] / at_random if at_random else 0.0,
        "hops_bound": mapping.metrics["mean_hops_bound"],
        "max_link_load": int(mapping.metrics["max_link_load"]),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": peak,
        "of_which_network_mb": before,
        "n_over_limit": 0,
    }
    rows = [ours]
    resources = Resources(network, board)
    # in the order of the network
    packed = [list(mapping.blocks_of(c)) for c in dict.fromkeys(b.core for b in mapping.blocks)]
    between, n = traffic_of(resources, packed), len(packed)
    for method, shuffles in (
        ("random placement", max(1, min(20, 4000 // n))),
        ("Hilbert order", 0),
    ):
        row = figures(board, n, between, along_curve(board, n, shuffles))
        rows.append({**base, "method": method, **row, "n_over_limit": 0})
    if rivals:
        for method, function in (("equal slices", equal_slices), ("first fit", first_fit)):
            start = time.perf_counter()
            cores = function(resources)
            took = time.perf_counter() - start
            wide = board_for(chip, len(cores))
            rivalling = Resources(network, wide)
            row = figures(
                wide, len(cores), traffic_of(rivalling, cores), along_curve(wide, len(cores))
            )
            row |= {"seconds": took, "n_over_limit": over_limit(rivalling, cores)}
            rows.append({**base, "method": method, **row})
    return rows


def _work(pipe, function, arguments) -> None:
    pipe.send(function(*arguments))
    pipe.close()


def isolated(function, *arguments):
    """Run in a process of its own, so that its peak memory is its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(theirs, function, arguments))
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return [{"network": arguments[0], "chip": arguments[1], "problem": "the process died"}]
    finally:
        child.join()


def scaled(side: int) -> Network:
    """Four convolutions and a readout; neurons grow with the square of the side."""
    b = Builder(f"scaled-{side}", (3, side, side))
    for channels, stride in ((16, 1), (16, 1), (32, 2), (32, 1)):
        b.conv(channels, 3, stride)
    b.pool(min(8, b.last.shape[-1]))
    return b.build(10)


def growth(sides: tuple[int, ...]) -> list[tuple[int, float]]:
    """Neurons and processor seconds of mapping, over a family of networks."""
    chip = load_chip("loihi1").on_board(200)
    found = []
    for i, side in enumerate((sides[0], *sides)):
        network = scaled(side)
        network.fingerprint  # noqa: B018
        start = time.process_time()
        map_network(network, chip, objective="cores")
        if i:  # the first one only loads and compiles
            found.append((network.n_neurons, time.process_time() - start))
    return found


WHAT = (
    "Networks of the published shapes with random int8 weights and spikes of 0 to 3 a step (one "
    "sign), objective 'cores', on boards of the chip with room enough. `lower_bound`: no cut of "
    "the kind that is searched can do with fewer cores (Lagrangian bound). Every neuron sends one "
    "message. `n_over_limit`: cores that exceed a limit: the mapping could not be loaded. "
    "Rivals: equal slices by the largest ratio (as nengo-loihi), greedy first fit of pixels, and "
    "our own blocks placed at random (mean of up to 20 shuffles) or along a Hilbert curve. "
    "`hops_over_random`: against the mean over all shuffles, which is known exactly; "
    "`hops_bound`: no placement of these cores has a lower mean_hops, though none need reach it. "
    "Seconds are of map_network alone, on a machine that other work may share; cpu_seconds do not "
    "count that."
)


def main() -> None:
    options = harness.arguments(__doc__.splitlines()[0])
    if options.quick:
        cases = [(n, c, True) for n in ("digits-cnn", "lenet-5", "resnet-20") for c in CHIPS]
        cases.append(("mobilenet-like", "loihi2", False))
        sides: tuple[int, ...] = (8, 32, 128)
    else:
        cases = [
            (n, c, n not in ("resnet-18-224", "vgg-16-224", "vgg-16-cifar"))
            for n in NETWORKS
            for c in CHIPS
            if (n, c) != ("vgg-16-224", "loihi1")
        ]
        sides = (8, 16, 32, 64, 128, 256)
    map_network(digits_cnn(), load_chip("loihi1"))  # loads and compiles, before the forks
    points = isolated(growth, sides)
    sizes, seconds = np.log([n for n, _ in points]), np.log([s for _, s in points])
    exponent = float(np.polyfit(sizes, seconds, 1)[0])
    rows: list[dict] = []
    for case in cases:
        rows += isolated(compare, *case)
        print(rows[-1]["network"], rows[-1]["chip"], flush=True)
        harness.write(
            options.json,
            title="Mapping",
            what=WHAT,
            rows=rows,
            quick=options.quick,
            extra={
                "growth_exponent": exponent,
                "growth": [{"neurons": n, "cpu_seconds": round(s, 4)} for n, s in points],
            },
        )
    print(f"growth exponent {exponent:.3f} over {points[0][0]:,} to {points[-1][0]:,} neurons")


CHIPS = ("loihi1", "loihi2")
# VGG-16 at 224 is mapped to Loihi 2 only: on Loihi 1 it takes 659,739 cores, 5,155 chips, more than
# were ever built into one system, and takes seven minutes and 9 GB to map

if __name__ == "__main__":
    main()
