"""Polarity gains that are learned, then snapped to what chips can do."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.quantizer import PolarityQuant, check_levels
from pmsm_hw.nn.swapping import swap

__all__ = ["ALLOWED_GAINS", "LearnedGainQuant", "learn_gains", "snap_gains"]

ALLOWED_GAINS: tuple[tuple[int, int], ...] = (
    (1, 1), (2, 1), (4, 1), (8, 1), (8, -1), (4, -1), (2, -1), (1, -1),
)  # fmt: skip
"""``(gain_pos, gain_neg)`` with alpha = 1, 1/2, 1/4, 1/8 and their negatives: plus or minus powers
of two, which chips without signed spikes can do by a shift."""


class LearnedGainQuant(PolarityQuant):
    """`PolarityQuant` whose alpha is a parameter, for training only.

    ``Q(x) = theta * k`` for ``x >= 0`` and ``alpha * theta * k`` below; alpha's gradient is the sum
    over the negative side of ``theta * k``, with the same scale as theta's.

    Parameters
    ----------
    quantizer
        Gives everything; alpha starts at its value.
    """

    gain: nn.Parameter

    def __init__(self, quantizer: PolarityQuant) -> None:
        super().__init__(
            quantizer.levels,
            (1, 1),
            theta=quantizer.theta.detach(),
            phi=quantizer.phi,
            lsq_gradient_scale=quantizer.lsq_gradient_scale,
            limits=quantizer.limits,
        )
        # one axis: weight decay is for parameters with two or more
        self.gain = nn.Parameter(torch.tensor([quantizer.alpha], dtype=self.theta.dtype))
        self.gain.data = self.gain.data.to(self.theta.device)

    @property
    def alpha(self) -> float:
        """Weight of a negative level against a positive one, as learned so far."""
        return float(self.gain.detach())

    @property
    def max_theta(self) -> float:
        """As for `PolarityQuant` without negative levels, whose values `forward` limits."""
        return self.limits[1] / self.levels[1]

    def forward(self, x: Tensor) -> Tensor:
        """Quantize activations ``(batch, channels, ...)``."""
        plain = super().forward(x)
        scale = 1.0
        if self.lsq_gradient_scale:
            scale = 1.0 / math.sqrt(math.prod(x.shape[1:]) * self.levels[1])
        # value alpha, gradient times scale
        alpha = (self.gain * scale + (self.gain * (1 - scale)).detach()).to(plain.dtype)
        return torch.where(x >= 0, plain, plain * alpha).clamp(*self.limits)

    def extra_repr(self) -> str:
        """Alpha beside the rest."""
        return f"{super().extra_repr()}, alpha={self.alpha:.4g} (learned)"


def learn_gains(model: nn.Module) -> nn.Module:
    """Make alpha of every quantizer with negative levels a parameter.

    Parameters
    ----------
    model
        From `quantize`. Not changed.

    Returns
    -------
    nn.Module
        A copy, to be trained with `finetune` and then given to `snap_gains`; only that makes it a
        network that spikes.

    Raises
    ------
    QuantizationError
        If no quantizer has negative levels.
    """
    learning = copy.deepcopy(model)
    learned = swap(
        learning, PolarityQuant, lambda m: LearnedGainQuant(m) if m.levels[0] > 0 else None
    )
    if not learned:
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            "has 0 quantizers with negative levels, alpha means nothing without",
            remedy="quantize it with levels=(n, p), n >= 1",
            actual=0,
            limit=1,
        )
    return learning


def snap_gains(model: nn.Module, allowed: Sequence[tuple[int, int]] = ALLOWED_GAINS) -> nn.Module:
    """Give each learned alpha the nearest allowed value, as integers.

    Parameters
    ----------
    model
        From `learn_gains`, trained. Not changed.
    allowed
        Pairs ``(gain_pos, gain_neg)``.

    Returns
    -------
    nn.Module
        A copy with plain `PolarityQuant` modules, ready for `finetune` (worth a short one),
        `to_snn` and ``convert``.

    Raises
    ------
    QuantizationError
        If a pair is out of range, there are none, or the model learned no gain.
    """
    pairs = [check_levels("snap_gains", (0, 1), pair)[1] for pair in allowed]
    snapped = copy.deepcopy(model)
    n_swapped = len(swap(snapped, LearnedGainQuant, lambda m: _nearest(m, pairs)))
    if n_swapped == 0 or not pairs:
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            f"has {n_swapped} learned gains and {len(pairs)} are allowed, at least 1 is needed",
            remedy="train a model from nn.learn_gains(quantized), and allow a pair",
            actual=(n_swapped, len(pairs)),
            limit=1,
        )
    return snapped.eval()


def _nearest(module: LearnedGainQuant, pairs: Sequence[tuple[int, int]]) -> PolarityQuant:
    if not pairs:
        return module
    gains = min(pairs, key=lambda pair: abs(pair[1] / pair[0] - module.alpha))
    snapped = PolarityQuant(
        module.levels,
        gains,
        phi=module.phi,
        lsq_gradient_scale=module.lsq_gradient_scale,
        limits=module.limits,
    )
    snapped.theta = nn.Parameter(snapped.bounded(module.theta.detach().clone()))
    return snapped
