"""The LSNN for sequential MNIST that ran on a Loihi 1, and how images became its spikes.

Constants, order of compartments and encoding are those of Intel's NxSDK models, module ``lsnn``
(src/lsnn.py, apps/seqmnist); weights are as published there. What it leaves open is taken so: an
input spike acts in the step in which it is sent, any other spike one step later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pmsm_hw.network import AdaptiveLif, CubaLif, Dense, Input, Network

N_REGULAR = 140
N_PIXELS, N_CUE = 784, 56
N_STEPS = N_PIXELS + N_CUE
VTH, DU, DV = 127, 4095, 4096 // 20
"""Currents last a step, voltages decay with 20 of them."""
SCALE = 2
"""Adaptive neurons compute in units of ``2**-2``: thrAdaScale 4."""
DA = 4096 // 700
WEIGHT_AUX = int(1_390_000 * (1 / (700 * 20) - 1 / 700**2))


def _projections(source: str, target: str, weight: Any, exponent: int, delay: int) -> list[Dense]:
    """Weights of 8 bits and a sign: the upper 7 bits and the lowest one."""
    weight = weight.T.astype(int)
    parts = (("upper", weight >> 1, exponent + 1), ("lowest", weight & 1, exponent))
    return [
        Dense(name=f"{source}-{target}-{name}", source=source, target=target, weight=part,
              weight_exponent=e, delay=delay)
        for name, part, e in parts
    ]  # fmt: skip


def lsnn(path: Path, max_steps: int = N_STEPS) -> Network:
    """80 inputs, 140 regular and 100 adaptive neurons, 10 outputs."""
    with np.load(path) as data:
        w_in, w_rec, w_out = (data[name] for name in ("w_in", "w_rec", "w_out"))
    n, m = N_REGULAR, w_rec.shape[0] - N_REGULAR
    decays = {"du": DU, "dv": DV}
    populations = (
        Input(name="x", shape=(w_in.shape[0],), levels=(0, 1)),
        CubaLif(name="regular", shape=(n,), vth=VTH, **decays),
        AdaptiveLif(name="adaptive", shape=(m,), vth=VTH << SCALE, da=DA,
                    adaptation=-(-WEIGHT_AUX >> 4), **decays),
        CubaLif(name="out", shape=(w_out.shape[1],), vth=(1 << 17) - 1, **decays),
    )  # fmt: skip
    groups = {"regular": (slice(None, n), 0), "adaptive": (slice(n, None), SCALE)}
    projections = []
    for target, (to, exponent) in groups.items():
        projections += _projections("x", target, w_in[:, to], exponent, 0)
        for source, (of, _) in groups.items():
            projections += _projections(source, target, w_rec[of, to], exponent, 1)
    for source, (of, _) in groups.items():
        projections += _projections(source, "out", w_out[of], 0, 1)
    return Network(
        name="lsnn", populations=populations, projections=projections, max_steps=max_steps
    )


def spikes_of(images: Any) -> Any:
    """``(n, 840, 80)``: a pixel a step, then the cue.

    For 38 thresholds a channel each for pixels after which the next reaches it, and after which it
    falls below it; one for the brightest pixels; one for the cue.
    """
    pixels = images.reshape(len(images), N_PIXELS).astype(int)
    thresholds = np.floor(np.linspace(0, 255, 40)).astype(int)[1:-1]
    above = pixels[:, :, None] >= thresholds
    x = np.zeros((len(images), N_STEPS, 80), np.int64)
    x[:, : N_PIXELS - 1, 2:78:2] = ~above[:, :-1] & above[:, 1:]
    x[:, : N_PIXELS - 1, 3:79:2] = above[:, :-1] & ~above[:, 1:]
    x[:, :N_PIXELS, 78] = pixels == 255
    x[:, N_PIXELS:, 79] = 1
    return x
