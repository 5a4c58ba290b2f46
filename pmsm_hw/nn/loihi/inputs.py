"""The input of a network of Loihi's neurons."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pmsm_hw.arguments import integer
from pmsm_hw.errors import QuantizationError
from pmsm_hw.network import MAX_STEPS
from pmsm_hw.nn.batches import check_real
from pmsm_hw.nn.quantizer import InputQuant

__all__ = ["LoihiInput"]


class LoihiInput(nn.Module):
    """Makes integers of a model's input, as the network's input population does.

    ``clip(round_half_even(x / scale), lo, hi)``: graded spikes, or binary ones with the levels
    (0, 1).

    Parameters
    ----------
    scale
        Real value of one unit, finite and positive.
    levels
        ``(lo, hi)``.
    n_steps
        Number of steps that static samples ``(batch, ...)`` are shown for; None: axis 1 of the
        samples is the step.
    """

    def __init__(
        self, scale: float = 1.0, levels: Sequence[int] = (0, 1), n_steps: int | None = None
    ) -> None:
        super().__init__()
        self.quantizer = InputQuant(scale, levels)
        self.scale, self.levels = self.quantizer.scale, self.quantizer.levels
        self.n_steps = n_steps
        if n_steps is not None:
            self.n_steps = integer(
                QuantizationError, "LoihiInput", "n_steps", n_steps, low=1, high=MAX_STEPS,
                remedy="give the number of time steps, or None for samples that have a step axis",
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Units, ``(batch, n_steps, ...)``.

        Parameters
        ----------
        x
            ``(batch, n_steps, ...)``, or static ``(batch, ...)``; floats.
        """
        least = 3 if self.n_steps is None else 2
        if isinstance(x, Tensor) and x.ndim < least:
            raise QuantizationError(
                "LoihiInput",
                f"is given {tuple(x.shape)}, (batch, {'n_steps, ' * (least == 3)}...) is needed",
                remedy="give one frame a step along axis 1"
                if self.n_steps is None
                else "give samples with an axis of their own",
                actual=tuple(x.shape),
                limit=least,
            )
        check_real(x, "input")
        n_bad = int((~torch.isfinite(x)).sum())
        if n_bad:
            raise QuantizationError(
                "LoihiInput",
                f"is given {n_bad:,} of {x.numel():,} values that are not finite, limit: 0",
                remedy="give clean data",
                actual=n_bad,
                limit=0,
            )
        units = self.quantizer.units(x)
        if self.n_steps is None:
            return units
        return units[:, None].expand(len(x), self.n_steps, *x.shape[1:])

    def extra_repr(self) -> str:
        """Number of steps."""
        return "" if self.n_steps is None else f"n_steps={self.n_steps}"
