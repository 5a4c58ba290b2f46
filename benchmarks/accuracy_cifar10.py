"""Table A: from a full-precision network to PMSM and QCFS networks, CIFAR-10.

``python benchmarks/accuracy_cifar10.py --json benchmarks/results/accuracy_cifar10.json`` runs (or
goes on with) the small table on one core; ``--full`` trains VGG-16 and ResNet-20 at full size and
is meant for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import harness
import torch
from accuracy_common import (
    Batches,
    Cells,
    Mixed,
    as_input,
    fan_outs,
    jpeg_cifar10,
    load_weights,
    mean_and_spread,
    operations,
    outputs,
    parser,
    percent_right,
    prepare,
    save_weights,
    snn_percent,
)
from torch import Tensor, nn

from pmsm_hw import nn as pmsm
from pmsm_hw.nn.qcfs import qcfs_snn


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, how long, on what."""

    n_train: int
    n_test: int
    epochs: int
    fine_epochs: int
    batch_size: int
    shift_pixels: int
    learning_rate: float
    fine_learning_rate: float
    weight_decay: float
    n_calibration: int
    n_operations: int


SMALL = Recipe(
    n_train=25_000, n_test=10_000, epochs=4, fine_epochs=2, batch_size=128, shift_pixels=2,
    learning_rate=0.1, fine_learning_rate=0.05, weight_decay=5e-4, n_calibration=256,
    n_operations=250,
)  # fmt: skip
FULL = Recipe(
    n_train=50_000, n_test=10_000, epochs=200, fine_epochs=60, batch_size=128, shift_pixels=4,
    learning_rate=0.1, fine_learning_rate=0.02, weight_decay=5e-4, n_calibration=512,
    n_operations=500,
)  # fmt: skip
QUICK = Recipe(
    n_train=512, n_test=250, epochs=1, fine_epochs=1, batch_size=64, shift_pixels=2,
    learning_rate=0.1, fine_learning_rate=0.02, weight_decay=5e-4, n_calibration=64,
    n_operations=50,
)  # fmt: skip

QCFS_STEPS, PMSM_STEPS = (1, 2, 4, 8), (1, 2, 4)
INTEGERS = ("pmsm", "unsigned")
"""Variants that are converted to integers as well."""


def _conv(n_in: int, n_out: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(n_out), nn.ReLU()]


class Vgg(nn.Sequential):
    """Stages of 3x3 convolutions with average pooling after each, then one linear layer."""

    def __init__(self, stages: tuple[tuple[int, ...], ...]) -> None:
        layers: list[nn.Module] = []
        before, side = 3, 32
        for stage in stages:
            for width in stage:
                layers += _conv(before, width)
                before = width
            layers.append(nn.AvgPool2d(2))
            side //= 2
        layers += [nn.Flatten(), nn.Linear(before * side * side, 10)]
        super().__init__(*layers)


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_conv(n_in, n_out, stride))
        self.conv2 = nn.Sequential(*_conv(n_out, n_out)[:2])
        same = stride == 1 and n_in == n_out
        self.shortcut: nn.Module = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False), nn.BatchNorm2d(n_out)
        )  # fmt: skip
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv2(self.conv1(x)) + self.shortcut(x))


class ResNet(nn.Sequential):
    """ResNet-20 (He et al. 2016): 3 stages of 3 blocks; ``stem_stride=2`` quarters its cost."""

    def __init__(self, width: int, stem_stride: int) -> None:
        blocks = [
            _Block(
                width * 2 ** max(stage - (i == 0), 0),
                width * 2**stage,
                2 if stage and i == 0 else 1,
            )
            for stage in range(3)
            for i in range(3)
        ]
        super().__init__(
            *_conv(3, width, stem_stride),
            *blocks,
            nn.AvgPool2d(8 // stem_stride),
            nn.Flatten(),
            nn.Linear(width * 4, 10),
        )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "VGG-style, 5 convolutions, 24..96 channels": lambda: Vgg(((24,), (48, 48), (96, 96))),
    "ResNet-20-style, 16..64 channels, stem stride 2": lambda: ResNet(16, 2),
}
FULL_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "VGG-16": lambda: Vgg(
        ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    ),
    "ResNet-20": lambda: ResNet(16, 1),
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A quantized form of a trained network."""

    label: str
    levels: tuple[int, int]
    gains: tuple[int, int]
    init: str
    per_channel: bool
    lsq_gradient_scale: bool
    seeds: int | None = None  # only so many


VARIANTS = {
    "qcfs": Variant(
        label="QCFS p=4, lambda=8", levels=(0, 4), gains=(1, 1), init="qcfs", per_channel=False,
        lsq_gradient_scale=False,
    ),
    "pmsm": Variant(
        label="PMSM n=2 p=4 alpha=1/8", levels=(2, 4), gains=(8, 1), init="mse", per_channel=True,
        lsq_gradient_scale=True,
    ),
    "unsigned": Variant(
        label="multi-spike n=0 p=4, same initialization", levels=(0, 4), gains=(1, 1), init="mse",
        per_channel=True, lsq_gradient_scale=True,
    ),
    "quarter": Variant(
        label="PMSM n=2 p=4 alpha=1/4", levels=(2, 4), gains=(4, 1), init="mse", per_channel=True,
        lsq_gradient_scale=True, seeds=1,
    ),
    "plain": Variant(
        label="PMSM n=2 p=4 alpha=1 (plain)", levels=(2, 4), gains=(1, 1), init="entropy",
        per_channel=True, lsq_gradient_scale=True, seeds=1,
    ),
    "eight": Variant(
        label="PMSM n=2 p=8 alpha=1/8", levels=(2, 8), gains=(8, 1), init="mse", per_channel=True,
        lsq_gradient_scale=True, seeds=1,
    ),
    "eight-unsigned": Variant(
        label="multi-spike n=0 p=8, same initialization", levels=(0, 8), gains=(1, 1), init="mse",
        per_channel=True, lsq_gradient_scale=True, seeds=1,
    ),
}  # fmt: skip


class Table:
    """Computes the cells of one table."""

    def __init__(self, recipe: Recipe, data: Path, work: Path, cells: Cells) -> None:
        self.recipe, self.work, self.cells = recipe, work, cells
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        train, train_labels = jpeg_cifar10(data, "train")
        test, test_labels = jpeg_cifar10(data, "test")
        self.images = torch.from_numpy(train[: recipe.n_train])
        self.labels = torch.from_numpy(train_labels[: recipe.n_train])
        self.test_images = torch.from_numpy(test[: recipe.n_test])
        self.test_labels = torch.from_numpy(test_labels[: recipe.n_test])

    def train(
        self, model: nn.Module, seed: int, *, fine: bool, teacher: nn.Module | None = None
    ) -> float:
        """Train in place; return the training accuracy of the last epoch, in percent."""
        r = self.recipe
        batches = Batches(
            self.images, self.labels, batch_size=r.batch_size, seed=seed + 1000 * fine,
            shift=r.shift_pixels, mirror=True,
        )  # fmt: skip
        model.to(self.device, memory_format=torch.channels_last)
        history = pmsm.train(
            Mixed(model),
            batches,
            epochs=r.fine_epochs if fine else r.epochs,
            learning_rate=r.fine_learning_rate if fine else r.learning_rate,
            weight_decay=r.weight_decay,
            optimizer="sgd",
            teacher=Mixed(teacher.to(self.device)).eval() if teacher is not None else None,
            seed=seed,
            progress=False,
        )
        return round(100 * history.accuracy[-1], 2)

    def percent(self, model: nn.Module) -> float:
        """Test accuracy in percent, in float32."""
        return percent_right(outputs(model, self.test_images), self.test_labels)

    def float_network(self, key: str, make: Callable[[], nn.Module], seed: int) -> nn.Module:
        """Trained full-precision network."""
        path = self.work / f"{key}.pt"
        torch.manual_seed(seed)
        model = make()

        def compute() -> dict[str, Any]:
            seen = self.train(model, seed, fine=False)
            save_weights(path, model)
            return {"ann": self.percent(model), "train_accuracy": seen}

        self.cells.get(key, compute)
        if not path.exists():  # known from an earlier run whose --work is gone: the same again
            self.train(model, seed, fine=False)
            save_weights(path, model)
        return load_weights(path, model)

    def float_continued(self, key: str, ann: nn.Module, seed: int) -> None:
        """The same, trained on exactly as the quantized ones are."""
        import copy

        def compute() -> dict[str, Any]:
            model = copy.deepcopy(ann)
            seen = self.train(model, seed, fine=True, teacher=ann)
            return {"ann": self.percent(model), "train_accuracy": seen}

        self.cells.get(key, compute)

    def quantized(self, variant: Variant, ann: nn.Module) -> nn.Module:
        """Quantized, calibrated, not yet trained."""
        model: nn.Module = pmsm.quantize(
            ann.cpu(),
            levels=variant.levels,
            gains=variant.gains,
            init=variant.init,
            per_channel=variant.per_channel,
            lsq_gradient_scale=variant.lsq_gradient_scale,
            calibration=as_input(self.images[: self.recipe.n_calibration]),
            input_scale=1 / 255,
            input_levels=(0, 255),
        )
        return model

    def variant(self, key: str, variant: Variant, ann: nn.Module, seed: int) -> None:
        """Train a quantized form; measure it, its multi-spike SNN and, with n=0, its IF SNN."""
        path = self.work / f"{key}.pt"

        def compute() -> dict[str, Any]:
            model = self.quantized(variant, ann)
            before = self.percent(model)
            seen = self.train(model, seed, fine=True, teacher=ann)
            model.cpu()
            save_weights(path, model)
            model.to(self.device)
            logits = outputs(model, self.test_images)
            snn = pmsm.to_snn(model)
            steps, first = snn_percent(snn, self.test_images, self.test_labels, PMSM_STEPS)
            result: dict[str, Any] = {
                "quantized_before_training": before,
                "quantized": percent_right(logits, self.test_labels),
                "train_accuracy": seen,
                "multi_spike": steps,
                "differing_t1": int((first.argmax(1) != logits.argmax(1)).sum()),
            }
            sample = self.test_images[: self.recipe.n_operations]
            fan_out = fan_outs(model.cpu(), as_input(sample[:1]))
            snn = snn.cpu()
            result["operations"] = {str(t): operations(snn, fan_out, sample, t) for t in PMSM_STEPS}
            if variant.levels[0] == 0:
                single = qcfs_snn(model).to(self.device)
                result["one_spike"], _ = snn_percent(
                    single, self.test_images, self.test_labels, QCFS_STEPS
                )
                single = single.cpu()
                result["one_spike_operations"] = {
                    str(t): operations(single, fan_out, sample, t) for t in QCFS_STEPS
                }
            return result

        self.cells.get(key, compute)

    def integer(self, key: str, variant: Variant, ann: nn.Module) -> None:
        """Convert the trained PMSM form to 8-bit integers and run the integer network."""
        from pmsm_hw import reference
        from pmsm_hw.convert import convert

        def compute() -> dict[str, Any]:
            path = self.work / f"{key}.pt"
            if not path.exists():
                raise SystemExit(f"no weights {path}; remove the cell '{key}' to train them again")
            model = load_weights(path, self.quantized(variant, ann))
            example = as_input(self.images[: self.recipe.n_calibration])
            network, _ = convert(model, example, name="cifar10", weight_bits=8, max_steps=1)
            name = network.inputs[0].name
            right = differing = 0
            logits = outputs(model, self.test_images)
            for rows in torch.arange(len(self.test_labels)).split(250):
                answer = reference.run(network, {name: as_input(self.test_images[rows]).numpy()}, 1)
                found = torch.from_numpy(next(iter(answer.logits.values())).argmax(1))
                right += int((found == self.test_labels[rows]).sum())
                differing += int((found != logits[rows].argmax(1)).sum())
            n = len(self.test_labels)
            return {"integer": round(100 * right / n, 3), "differing_predictions": differing}

        self.cells.get(f"{key}/integer", compute)


def rows(cells: dict[str, Any], networks: dict[str, Any], n_seeds: int) -> list[dict[str, Any]]:
    """Table of what exists."""

    def over_seeds(network: str, cell: str, *path: str) -> list[float]:
        found = []
        for seed in range(n_seeds):
            value = cells.get(f"{network}/{seed}/{cell}")
            for part in path:
                value = value.get(part) if value is not None else None
            if value is not None:
                found.append(float(value))
        return found

    table: list[dict[str, Any]] = []

    def row(
        network: str, what: str, steps: object, cell: str, path: tuple[str, ...],
        energy: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        accuracies = over_seeds(network, cell, *path)
        if not accuracies:
            return
        line: dict[str, Any] = {
            "network": network, "what": what, "T": steps,
            "accuracy, %": mean_and_spread(accuracies),
        }  # fmt: skip
        for title, figure, digits in (
            ("SOP, unit spikes, M", "unit_sop_millions", 2),
            ("SOP, graded, M", "graded_sop_millions", 2),
            ("neurons active per step", "active_share", 3),
            ("energy, unit spikes, uJ", "energy_unit_uj", 2),
        ):
            values = over_seeds(network, cell, *energy, figure) if energy else []
            line[title] = f"{sum(values) / len(values):.{digits}f}" if values else ""
        table.append(line)

    for network in networks:
        row(network, "full precision", "", "ann", ("ann",))
        row(network, "full precision, trained on alike", "", "ann-continued", ("ann",))
        for key, variant in VARIANTS.items():
            row(
                network,
                f"{variant.label}: before training",
                "",
                key,
                ("quantized_before_training",),
            )
            row(network, f"{variant.label}: quantized ANN", "", key, ("quantized",))
            if key != "qcfs":
                for t in PMSM_STEPS:
                    row(
                        network, f"{variant.label}: SNN", t, key, ("multi_spike", str(t)),
                        ("operations", str(t)),
                    )  # fmt: skip
            if variant.levels[0] == 0:
                name = f"QCFS p={variant.levels[1]}, MSE initialization"
                name = variant.label if key == "qcfs" else name
                for t in QCFS_STEPS:
                    row(
                        network, f"{name}: one-spike SNN", t, key, ("one_spike", str(t)),
                        ("one_spike_operations", str(t)),
                    )  # fmt: skip
            row(network, f"{variant.label}: integer network", 1, f"{key}/integer", ("integer",))
    return table


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--full", action="store_true", help="VGG-16, ResNet-20; wants a GPU")
    options.add_argument("--network", default="", help="only networks whose name holds this text")
    args = options.parse_args()
    prepare(args)
    recipe = QUICK if args.quick else FULL if args.full else SMALL
    networks = FULL_NETWORKS if args.full else NETWORKS
    networks = {name: make for name, make in networks.items() if args.network in name}
    if not networks:
        raise SystemExit(f"no network's name holds '{args.network}'")
    n_seeds = 1 if args.quick else args.seeds
    variants = {k: asdict(v) for k, v in VARIANTS.items()}
    cells = Cells(args.json, {"recipe": asdict(recipe), "variants": variants})
    kind = "full" if args.full else "quick" if args.quick else "small"
    if not args.report_only:
        table = Table(recipe, args.data, args.work / f"cifar10-{kind}", cells)
        for seed in range(n_seeds):
            for network, make in networks.items():
                key = f"{network}/{seed}"
                ann = table.float_network(f"{key}/ann", make, seed)
                table.float_continued(f"{key}/ann-continued", ann, seed)
                for name, variant in VARIANTS.items():
                    if variant.seeds is None:
                        table.variant(f"{key}/{name}", variant, ann, seed)
                        if name in INTEGERS:
                            table.integer(f"{key}/{name}", variant, ann)
        for name, variant in VARIANTS.items():  # what is not run for every seed comes last
            for seed in range(min(n_seeds, variant.seeds or 0)):
                for network, make in networks.items():
                    key = f"{network}/{seed}"
                    ann = table.float_network(f"{key}/ann", make, seed)
                    table.variant(f"{key}/{name}", variant, ann, seed)
    once = sum(v.seeds or 0 for v in VARIANTS.values())
    always = sum(v.seeds is None for v in VARIANTS.values())
    expected = len(networks) * (n_seeds * (2 + always + len(INTEGERS)) + once)
    complete = len(cells.done) == expected
    seconds = sum(c["seconds"] for c in cells.done.values())
    harness.write(
        args.json,
        title="Accuracy on CIFAR-10: full precision, QCFS, PMSM, integers",
        what=(
            "Networks are trained in full precision, then quantized and trained on from these "
            "weights with distillation from them. PMSM is reconstructed from the abstract of arXiv "
            "2508.14520. Data: CIFAR-10 as JPEG of quality 75, slightly lossy: accuracies do not "
            "compare to published ones to the last tenth. Mean ± sample standard deviation "
            "(number of seeds). SOP: synaptic operations per image after the first layer; energy: "
            "4.6 pJ per MAC of the first layer at each step, 0.9 pJ per SOP (first test images)."
            + ("" if complete else f" PARTIAL: {len(cells.done)} of {expected} cells are there.")
        ),
        rows=rows(cells.done, networks, n_seeds),
        quick=args.quick,
        extra={"recipe": asdict(recipe), "training_and_measuring_seconds": round(seconds)},
    )


if __name__ == "__main__":
    main()
