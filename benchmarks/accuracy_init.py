"""Table B: initialization against levels and polarity gain, after the same short training.

On UCI's digits with a small residual network, so that 70 trainings fit into minutes. The test set
is small (599 images, one image is 0.17 points) and the task easy; accuracy before any
training tells most about an initialization.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import harness
import numpy as np
from accuracy_common import Cells, mean_and_spread, parser, prepare
from torch import nn

from pmsm_hw import nn as pmsm
from pmsm_hw.datasets import load_digits
from pmsm_hw.nn.entropy import entropy_report
from pmsm_hw.nn.gain import LearnedGainQuant, learn_gains, snap_gains
from pmsm_hw.nn.initialization import INITIALIZATIONS

LEVELS = ((0, 4), (1, 4), (2, 4), (4, 4), (0, 8), (2, 8))
ALPHAS = {"1": (1, 1), "1/4": (4, 1), "learned": (4, 1)}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, how long."""

    epochs: int
    fine_epochs: int
    batch_size: int
    learning_rate: float
    fine_learning_rate: float
    n_calibration: int


SMALL = Recipe(
    epochs=15, fine_epochs=3, batch_size=64, learning_rate=1e-2, fine_learning_rate=2e-3,
    n_calibration=256,
)  # fmt: skip
QUICK = Recipe(
    epochs=2, fine_epochs=1, batch_size=64, learning_rate=1e-2, fine_learning_rate=2e-3,
    n_calibration=64,
)  # fmt: skip


def run(recipe: Recipe, seed: int, cells: Cells, levels: tuple[tuple[int, int], ...]) -> None:
    """All cells of one seed."""
    x, y = load_digits("train")
    test = load_digits("test")

    def batches() -> Any:
        return pmsm.loader(x, y, batch_size=recipe.batch_size, seed=seed)

    def percent(model: nn.Module) -> float:
        return round(100 * pmsm.accuracy(model, *test), 3)

    ann = pmsm.models.digits_cnn(seed=seed)
    pmsm.train(
        ann, batches(), epochs=recipe.epochs, learning_rate=recipe.learning_rate, seed=seed,
        progress=False,
    )  # fmt: skip
    cells.get(f"{seed}/float", lambda: {"float": percent(ann)})

    def compute(pair: tuple[int, int], alpha: str, init: str) -> dict[str, Any]:
        model: nn.Module = pmsm.quantize(
            ann, levels=pair, gains=ALPHAS[alpha] if pair[0] else (1, 1), init=init,
            calibration=x[: recipe.n_calibration], input_scale=1 / 16, input_levels=(0, 16),
        )  # fmt: skip
        bits = [layer.bits for layer in entropy_report(model, test.images)]
        result: dict[str, Any] = {"bits_before": float(np.mean(bits)), "before": percent(model)}
        if alpha == "learned":
            model = learn_gains(model)
        pmsm.finetune(
            model, batches(), epochs=recipe.fine_epochs, learning_rate=recipe.fine_learning_rate,
            seed=seed, progress=False,
        )  # fmt: skip
        if alpha == "learned":
            result["alphas"] = [m.alpha for m in model.modules() if isinstance(m, LearnedGainQuant)]
            result["before_snapping"] = percent(model)
            model = snap_gains(model)
        report = entropy_report(model, test.images)
        result["bits"] = float(np.mean([layer.bits for layer in report]))
        result["active_share"] = float(np.mean([layer.active_share for layer in report]))
        result["after"] = percent(model)
        return result

    for pair in levels:
        for alpha in ALPHAS if pair[0] else ("1",):
            for init in INITIALIZATIONS:
                cells.get(
                    f"{seed}/{pair[0]},{pair[1]}/{alpha}/{init}",
                    lambda pair=pair, alpha=alpha, init=init: compute(pair, alpha, init),
                )


def rows(cells: dict[str, Any], n_seeds: int) -> list[dict[str, Any]]:
    """One row per levels, alpha and initialization, and the mean over rows per initialization."""

    def values(key: str, figure: str) -> list[float]:
        found = (cells.get(f"{seed}/{key}", {}).get(figure) for seed in range(n_seeds))
        return [float(v) for v in found if v is not None]

    table: list[dict[str, Any]] = []
    by_init: dict[str, dict[str, list[float]]] = {
        init: {"before": [], "after": []} for init in INITIALIZATIONS
    }
    for pair in LEVELS:
        for alpha in ALPHAS if pair[0] else ("1",):
            for init in INITIALIZATIONS:
                key = f"{pair[0]},{pair[1]}/{alpha}/{init}"
                after = values(key, "after")
                if not after:
                    continue
                before = values(key, "before")
                by_init[init]["before"] += [float(np.mean(before))]
                by_init[init]["after"] += [float(np.mean(after))]
                bits = values(key, "bits_before"), values(key, "bits")
                table.append(
                    {
                        "(n, p)": f"({pair[0]}, {pair[1]})",
                        "alpha": alpha if pair[0] else "",
                        "init": init,
                        "untrained, %": mean_and_spread(before),
                        "trained, %": mean_and_spread(after),
                        "H before, bits": f"{np.mean(bits[0]):.3f}",
                        "H after, bits": f"{np.mean(bits[1]):.3f}",
                        "active": f"{np.mean(values(key, 'active_share')):.3f}",
                    }
                )
    for init, found in by_init.items():
        if found["after"]:
            before, after = np.array(found["before"]), np.array(found["after"])
            spread = [f"{v.mean():.2f} ± {v.std(ddof=len(v) > 1):.2f}" for v in (before, after)]
            table.append(
                {
                    "(n, p)": "all rows, mean ± spread over rows",
                    "init": init,
                    "untrained, %": spread[0],
                    "trained, %": spread[1],
                }
            )
    return table


def main() -> None:
    args = parser(__doc__ or "").parse_args()
    prepare(args)
    recipe = QUICK if args.quick else SMALL
    n_seeds = 1 if args.quick else args.seeds
    levels = LEVELS[:2] if args.quick else LEVELS
    cells = Cells(args.json, {"recipe": asdict(recipe)})
    if not args.report_only:
        for seed in range(n_seeds):
            run(recipe, seed, cells, levels)
    per_seed = 1 + len(INITIALIZATIONS) * sum(len(ALPHAS) if n else 1 for n, _ in levels)
    whole = len(cells.done) >= n_seeds * per_seed
    floats = [
        cells.done[f"{s}/float"]["float"] for s in range(n_seeds) if f"{s}/float" in cells.done
    ]
    harness.write(
        args.json,
        title="Initialization of theta against levels (n, p) and alpha",
        what=(
            "A residual network on UCI's 8x8 digits, quantized from the same trained "
            "weights, before and after a short training; 599 test images. H: mean entropy over the "
            "layers. Learned alpha starts at 1/4 and is snapped to plus or minus 1, 1/2, 1/4, 1/8. "
            "Mean ± sample standard deviation over seeds (number of seeds)."
            + ("" if whole else " PARTIAL: not all cells are there.")
        ),
        rows=rows(cells.done, n_seeds),
        quick=args.quick,
        extra={"recipe": asdict(recipe), "float_percent": mean_and_spread(floats)},
    )


if __name__ == "__main__":
    main()
