"""Data-driven initialization of the quantizer's step theta."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.quantizer import PolarityQuant, payload, quantize_levels

__all__ = ["INITIALIZATIONS", "Initialization", "choose_theta", "entropy_bits"]

Initialization: TypeAlias = Literal["mse", "entropy", "lsq", "percentile", "qcfs"]
INITIALIZATIONS: tuple[Initialization, ...] = get_args(Initialization)

QCFS_LAMBDA = 8.0
"""Initial clipping value of QCFS (Bu et al. 2022)."""

_N_SAMPLES = 1 << 14
"""Values that the searches look at: enough for three digits of theta."""


def entropy_bits(k: Tensor) -> float:
    """Entropy in bits of the histogram of integer-valued ``k``.

    Parameters
    ----------
    k
        Any shape, at least one value.
    """
    index = (k - k.min()).long()
    counts = torch.bincount(index.reshape(-1))
    share = counts[counts > 0].to(torch.float64) / k.numel()
    return float(-(share * torch.log2(share)).sum())


def choose_theta(x: Tensor, quantizer: PolarityQuant, method: str, subject: str) -> Tensor:
    """Choose theta from activations that reach the quantizer.

    Parameters
    ----------
    x
        ``(batch, channels, ...)``, values before quantization.
    quantizer
        Gives levels, gains, phi, and whether theta is per channel.
    method
        ``"mse"`` (least squared error against the target), ``"entropy"`` (most even use of the
        levels), ``"lsq"`` (``2 mean|x| / sqrt(p)``), ``"percentile"`` (99.9th of ``|x|`` over
        ``p``) or ``"qcfs"`` (``8 / p``).
    subject
        Name for errors.

    Returns
    -------
    Tensor
        Shape of ``quantizer.theta``.

    Raises
    ------
    QuantizationError
        If the activations are empty, not finite or all the same.
    """
    if method not in INITIALIZATIONS:
        raise QuantizationError(
            "init",
            f"{method!r} is not one of {', '.join(INITIALIZATIONS)}",
            remedy="choose one of them",
            actual=method,
            limit=INITIALIZATIONS,
        )
    values = x.detach().to(torch.float64)
    n_bad = int((~torch.isfinite(values)).sum())
    if values.numel() == 0 or n_bad:
        raise QuantizationError(
            subject,
            f"{n_bad:,} of {values.numel():,} activations on the calibration batch are not finite, "
            "limit: none of at least 1",
            remedy="calibrate with clean data",
            actual=n_bad,
            limit=0,
        )
    if values.numel() > 1 and bool(values.max() == values.min()) and bool(values.any()):
        value = float(values.reshape(-1)[0])
        raise QuantizationError(
            subject,
            f"all activations on the calibration batch are {value:.6g}, 2 values are needed",
            remedy="calibrate with different inputs, or look for a dead layer before it",
            actual=value,
            limit="2 values",
        )
    values = _felt(values, quantizer)
    if quantizer.theta.ndim == 0:
        rows = values.reshape(1, -1)
    else:
        rows = values.transpose(0, 1).reshape(values.shape[1], -1)
    shared = _one_theta(_thinned(values.reshape(-1)), quantizer, method, subject)
    if quantizer.theta.ndim == 0:
        theta = torch.tensor(shared)
    else:
        # a channel that is constant on this batch tells nothing: it gets the layer's step
        theta = torch.tensor(
            [
                _one_theta(_thinned(row), quantizer, method, subject)
                if bool(row.max() > row.min())
                else shared
                for row in rows
            ]
        )
    return quantizer.bounded(theta.to(quantizer.theta.dtype))


def _felt(values: Tensor, quantizer: PolarityQuant) -> Tensor:
    """Values as far as the quantizer's limits tell them apart."""
    low, high = quantizer.limits
    has_negative = quantizer.levels[0] > 0 and quantizer.alpha > 0
    return values.clamp(low / quantizer.alpha if has_negative else -math.inf, high)


def _thinned(values: Tensor) -> Tensor:
    if values.numel() <= _N_SAMPLES:
        return values
    index = torch.arange(_N_SAMPLES, dtype=torch.float64) * (values.numel() / _N_SAMPLES)
    return values[index.long()]


def _one_theta(values: Tensor, quantizer: PolarityQuant, method: str, subject: str) -> float:
    p = quantizer.levels[1]
    largest = float(values.abs().max())
    if largest == 0.0:
        raise QuantizationError(
            subject,
            "all activations on the calibration batch are 0, at least one other value is needed",
            remedy="calibrate with data that reach this layer",
            actual=0.0,
            limit="> 0",
        )
    if method == "qcfs":
        return QCFS_LAMBDA / p
    if method == "lsq":
        return 2.0 * float(values.abs().mean()) / math.sqrt(p)
    if method == "percentile":
        return max(float(torch.quantile(values.abs(), 0.999)), largest * 1e-3) / p
    # coarse search over two and a half decades, then two refinements
    high = min(2 * largest, quantizer.max_theta)
    low = high / (p * 512)
    best = low
    for _ in range(3):
        grid = torch.logspace(math.log10(low), math.log10(high), 40, dtype=torch.float64)
        costs = [_cost(values, float(theta), quantizer, method) for theta in grid]
        index = min(range(len(costs)), key=costs.__getitem__)
        best = float(grid[index])
        low, high = float(grid[max(index - 1, 0)]), float(grid[min(index + 1, len(grid) - 1)])
    limit = quantizer.max_theta
    if math.isfinite(limit):  # the top level right at the limit, where that costs hardly more
        least = _cost(values, best, quantizer, method)
        if _cost(values, limit, quantizer, method) <= least + 0.05 * abs(least):
            return limit
    return best


def _cost(values: Tensor, theta: float, quantizer: PolarityQuant, method: str) -> float:
    step = torch.tensor(theta, dtype=values.dtype)
    k = quantize_levels(values, step, quantizer.phi, quantizer.levels)
    if method == "entropy":
        return -entropy_bits(k)
    y = payload(k, quantizer.gains) * (theta / quantizer.gains[0])
    return float(((y - quantizer.target(values)) ** 2).mean())
