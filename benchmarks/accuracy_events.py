"""Table C: event data at T = 1, 2, 4, 8 under three rules, and a directly trained LIF network.

Events are made from the digits that come with the package, by a model of a camera's three saccades
(`pmsm_hw.datasets.events_from_images`): no recorded event set can be had without a download. The
LIF network needs snntorch, which this package does not: ``pip install snntorch``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import harness
import numpy as np
import torch
from accuracy_common import Cells, mean_and_spread, parser, percent_right, prepare
from torch import Tensor, nn

from pmsm_hw import nn as pmsm
from pmsm_hw.datasets import events_from_images, load_digits, to_frames

STEPS = (1, 2, 4, 8)
RULES = ("carry", "bounded", "reset")
DURATION_US, SIZE = 300_000, (8, 8, 2)
INPUT_LEVELS = (0, 15)
FORMS = {"PMSM n=2 p=4 alpha=1/4": ((2, 4), (4, 1)), "multi-spike n=0 p=4": ((0, 4), (1, 1))}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, how long."""

    n_train: int
    epochs: int
    fine_epochs: int
    lif_epochs: int
    batch_size: int
    learning_rate: float
    fine_learning_rate: float
    width: int


SMALL = Recipe(
    n_train=1198, epochs=20, fine_epochs=10, lif_epochs=30, batch_size=64, learning_rate=1e-2,
    fine_learning_rate=3e-3, width=16,
)  # fmt: skip
QUICK = Recipe(
    n_train=256, epochs=2, fine_epochs=1, lif_epochs=2, batch_size=64, learning_rate=1e-2,
    fine_learning_rate=3e-3, width=8,
)  # fmt: skip


class PerFrame(nn.Module):
    """Applies a network to each frame and averages its logits: what an SNN with rule reset does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits of frames ``(batch, n_steps, ...)``."""
        n_steps = x.shape[1]
        logits: Tensor = self.model(x.flatten(0, 1))
        return logits.unflatten(0, (-1, n_steps)).mean(1)


class Lif(nn.Module):
    """The same layers with leaky integrate-and-fire neurons, trained through time."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        import snntorch
        from snntorch import surrogate

        self.layers = nn.ModuleList()
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                self.layers.append(
                    snntorch.Leaky(
                        beta=0.5, learn_beta=True, spike_grad=surrogate.fast_sigmoid(slope=5),
                        init_hidden=False,
                    )
                )  # fmt: skip
            else:
                self.layers.append(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Mean logits of frames ``(batch, n_steps, ...)``."""
        import snntorch

        states = [m.reset_mem() if isinstance(m, snntorch.Leaky) else None for m in self.layers]
        total: Tensor | None = None
        for t in range(x.shape[1]):
            y = x[:, t]
            for i, layer in enumerate(self.layers):
                if isinstance(layer, snntorch.Leaky):
                    y, states[i] = layer(y, states[i])
                else:
                    y = layer(y)
            total = y if total is None else total + y
        assert total is not None
        return total / x.shape[1]


def layers(width: int) -> nn.Sequential:
    """Three convolutions and a linear layer for 2x8x8 frames."""

    def conv(n_in: int, n_out: int) -> list[nn.Module]:
        return [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]

    return nn.Sequential(
        *conv(2, width),
        *conv(width, width),
        nn.AvgPool2d(2),
        *conv(width, 2 * width),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * 4, 10),
    )


def frames_of(split: str, n_steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Frames ``(n, n_steps, 2, 8, 8)``, clipped to the input's levels, and labels."""
    images, labels = load_digits(split, seed=0)  # type: ignore[arg-type]
    events = events_from_images(images, seed=seed)
    frames = np.stack(
        [to_frames(e, n_steps, SIZE, window_us=DURATION_US // n_steps, start_us=0) for e in events]
    )
    return torch.from_numpy(np.clip(frames, *INPUT_LEVELS)), torch.from_numpy(labels)


def lif_available() -> bool:
    try:
        import snntorch  # noqa: F401
    except ImportError:
        return False
    return True


def run(n_steps: int, seed: int, recipe: Recipe, cells: Cells) -> None:
    """All cells of one number of steps and seed."""
    data: dict[str, tuple[Tensor, Tensor]] = {}

    def of(split: str) -> tuple[Tensor, Tensor]:
        if split not in data:
            x, y = frames_of(split, n_steps, seed + 1000 * (split == "test"))
            data[split] = (x[: recipe.n_train], y[: recipe.n_train])
        return data[split]

    def batches() -> Any:
        return pmsm.loader(*of("train"), batch_size=recipe.batch_size, seed=seed)

    def percent(model: nn.Module) -> float:
        x, y = of("test")
        return percent_right(pmsm.predict(model, x), y)

    def conversions() -> dict[str, Any]:
        torch.manual_seed(seed)
        model = layers(recipe.width)
        pmsm.train(
            PerFrame(model), batches(), epochs=recipe.epochs, learning_rate=recipe.learning_rate,
            seed=seed, progress=False,
        )  # fmt: skip
        result: dict[str, Any] = {"float": percent(PerFrame(model))}
        x, y = of("test")
        for name, (levels, gains) in FORMS.items():
            quantized = pmsm.quantize(
                model, levels=levels, gains=gains, init="mse", per_channel=True,
                calibration=of("train")[0][:256].flatten(0, 1), input_scale=1.0,
                input_levels=INPUT_LEVELS,
            )  # fmt: skip
            pmsm.finetune(
                PerFrame(quantized), batches(), epochs=recipe.fine_epochs,
                learning_rate=recipe.fine_learning_rate, teacher=PerFrame(model).eval(),
                seed=seed, progress=False,
            )  # fmt: skip
            result[name] = {"quantized": percent(PerFrame(quantized))}
            for rule in RULES:
                answer = pmsm.to_snn(quantized, rule).run(x, n_steps, frames=True)
                active = [
                    float((k != 0).mean()) for n, k in answer.spikes.items() if "input" not in n
                ]
                negative = [
                    float((k < 0).sum() / max(int((k != 0).sum()), 1))
                    for n, k in answer.spikes.items()
                    if "input" not in n
                ]
                result[name][rule] = {
                    "accuracy": percent_right(answer.logits, y),
                    "active_share": float(np.mean(active)),
                    "negative_share": float(np.mean(negative)),
                }
        return result

    def direct() -> dict[str, Any]:
        torch.manual_seed(seed)
        model = Lif(layers(recipe.width))
        pmsm.train(
            model, batches(), epochs=recipe.lif_epochs, learning_rate=recipe.learning_rate,
            seed=seed, progress=False,
        )  # fmt: skip
        return {"accuracy": percent(model)}

    cells.get(f"{n_steps}/{seed}/conversion", conversions)
    if lif_available():
        cells.get(f"{n_steps}/{seed}/lif", direct)


def rows(cells: dict[str, Any], n_seeds: int) -> list[dict[str, Any]]:
    """Table of what exists."""

    def cell(n_steps: int, kind: str, *path: str) -> list[float]:
        found = []
        for seed in range(n_seeds):
            value = cells.get(f"{n_steps}/{seed}/{kind}")
            for part in path:
                value = value.get(part) if value is not None else None
            if value is not None:
                found.append(float(value))
        return found

    table = []
    for what, kind, path in (
        ("float network per frame, mean of logits", "conversion", ("float",)),
        *(
            (f"{name}, {kind}", "conversion", (name, *path))
            for name in FORMS
            for kind, path in (
                ("quantized ANN per frame", ("quantized",)),
                *((f"SNN, rule {rule}", (rule, "accuracy")) for rule in RULES),
                *((f"active share, rule {rule}", (rule, "active_share")) for rule in RULES[:1]),
            )
        ),
        ("LIF trained directly (snntorch)", "lif", ("accuracy",)),
    ):
        row: dict[str, Any] = {"what": what}
        share = path[-1] == "active_share"
        for t in STEPS:
            row[f"T={t}"] = mean_and_spread(cell(t, kind, *path), 3 if share else 2)
        if any(row[f"T={t}"] for t in STEPS):
            table.append(row)
    return table


def main() -> None:
    args = parser(__doc__ or "").parse_args()
    prepare(args)
    recipe = QUICK if args.quick else SMALL
    n_seeds, steps = (1, STEPS[:2]) if args.quick else (args.seeds, STEPS)
    cells = Cells(args.json, {"recipe": asdict(recipe)})
    if not args.report_only:
        for seed in range(n_seeds):
            for n_steps in steps:
                run(n_steps, seed, recipe, cells)
    expected = n_seeds * len(steps) * 2
    note = ""
    if len(cells.done) < expected:
        note = f" PARTIAL: {len(cells.done)} of {expected} cells are there."
        if not lif_available():
            note += " Without snntorch there is no LIF network."
    harness.write(
        args.json,
        title="Accuracy on event data: three rules at T = 1, 2, 4, 8, and a LIF network",
        what=(
            "Accuracy in percent on 599 test digits, as saccade events made from UCI's "
            "8x8 digits by a model of a camera (not recorded): 300 ms cut into T frames. Three "
            "convolutions and a linear layer. The quantized networks are trained per frame, which "
            "is rule reset exactly; carry and bounded run the same weights. The LIF network has "
            "the same layers and is trained through time with a surrogate gradient, a leak that is "
            "learned, and as many epochs. Mean ± sample standard deviation (number of seeds)."
            + note
        ),
        rows=rows(cells.done, n_seeds),
        quick=args.quick,
        extra={"recipe": asdict(recipe)},
    )


if __name__ == "__main__":
    main()
