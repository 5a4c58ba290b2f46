"""What a network is run on: samples, read or drawn, that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmsm_hw.cli.models import Opened
from pmsm_hw.cli.options import refuse_given
from pmsm_hw.cli.torch_models import real_values
from pmsm_hw.errors import InputError

if TYPE_CHECKING:
    from pmsm_hw.datasets import Samples

__all__ = ["calibration_for", "needs_random", "require_inputs", "samples_for"]

RANDOM_SAMPLES = 16
"""Samples of ``--data random`` without ``--limit``."""


def samples_for(
    opened: Opened, data: str, n_steps: int, limit: int | None, seed: int | None
) -> Samples:
    """Read or draw what a network is run on."""
    from pmsm_hw.datasets import load_samples, random_samples

    network = opened.network
    if n_steps > network.max_steps:
        raise InputError(
            f"network '{network.name}'",
            f"{n_steps} steps exceed max_steps {network.max_steps}, up to which overflow is "
            "excluded",
            remedy="use a smaller --n-steps, or make the network again with a larger --max-steps "
            "(of pmsm-hw convert, of pmsm-hw map for a .nir file)",
            actual=n_steps,
            limit=network.max_steps,
        )
    if data == "random":
        n = RANDOM_SAMPLES if limit is None else limit
        return random_samples(network, n_samples=n, n_steps=n_steps, seed=seed or 0)
    samples = load_samples(data, n_steps=n_steps, limit=limit)
    samples = real_values(samples) if opened.stages else samples
    require_inputs(opened, samples, n_steps)
    return samples


def require_inputs(opened: Opened, samples: Samples, n_steps: int) -> None:
    """Refuse samples that are no inputs of the network, and fractions where one unit is 1.

    They would be rounded to whole numbers, as 0 and 1. One unit is 1 where nobody says otherwise;
    a conversion, which has a report, chose its scales for the samples that it saw.
    """
    import numpy as np

    from pmsm_hw.datasets.samples import check_labels
    from pmsm_hw.reference import inputs_of

    arrays = inputs_of(opened.network, samples.x, n_steps)
    check_labels(opened.network, samples)
    if opened.conversion is not None:
        return
    for p in opened.network.inputs:
        if arrays[p.name].dtype.kind != "f" or p.scale != 1:
            continue
        for part in arrays[p.name]:  # sample by sample: no copy of everything
            fractions = part[np.isfinite(part) & (part != np.rint(part))]
            if fractions.size:
                fraction = float(fractions[0])
                raise InputError(
                    f"data '{samples.source}'",
                    f"holds fractions ({fraction:.4g}), input '{p.name}' of network "
                    f"'{opened.network.name}' takes whole numbers: its scale is 1",
                    remedy="give whole numbers, or make the network again with the real value of "
                    "one unit (--input-scale of pmsm-hw map for a .nir file, Input(scale=...) in "
                    "Python)",
                    actual=fraction,
                    limit="whole numbers",
                )


def needs_random(seed: int | None, data: str) -> None:
    """Refuse a seed where nothing is random."""
    if data != "random":
        refuse_given({"seed": seed}, f"has no effect: nothing is drawn for --data {data}")


def calibration_for(data: str) -> str:
    """Samples that a torch model is calibrated on where none are named."""
    return "digits-train" if data == "digits" else data
