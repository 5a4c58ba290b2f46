"""Derivatives that stand in for that of a spike, which is 0 or infinite."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pmsm_hw.arguments import choice, number
from pmsm_hw.errors import QuantizationError

__all__ = ["SURROGATES", "Derivative", "Surrogate", "derivative_of"]

Derivative: TypeAlias = "Callable[[Tensor], Tensor]"
"""Of ``x = (v - threshold) / threshold``: 0 at the threshold, -1 at rest."""

Surrogate: TypeAlias = "str | Derivative"
"""Name of one of `SURROGATES`, or a derivative of your own."""


def _fast_sigmoid(x: Tensor, slope: float) -> Tensor:
    return 1 / (1 + slope * x.abs()) ** 2


def _atan(x: Tensor, slope: float) -> Tensor:
    return 1 / (1 + (math.pi / 2 * slope * x) ** 2)


def _triangle(x: Tensor, slope: float) -> Tensor:
    return torch.relu(1 - slope * x.abs())


def _exponential(x: Tensor, slope: float) -> Tensor:
    return torch.exp(-slope * x.abs())


SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "fast_sigmoid": _fast_sigmoid,
    "atan": _atan,
    "triangle": _triangle,
    "exponential": _exponential,
}
"""As snnTorch (fast_sigmoid), SpikingJelly (atan), Norse and slayer (exponential) have them; 1 at
the threshold, narrower with a larger slope."""


def derivative_of(subject: str, surrogate: Surrogate, slope: float) -> Derivative:
    """The function that a choice names.

    Parameters
    ----------
    subject
        What has it, for errors.
    surrogate
        A name, or a function.
    slope
        How narrow it is, > 0; a function of your own has its own.
    """
    slope = number(QuantizationError, subject, "slope", slope, above=0, remedy="give a number > 0")
    if callable(surrogate):
        return surrogate
    choice(
        QuantizationError, subject, "surrogate", surrogate, tuple(SURROGATES),
        remedy="choose one of them, or give a function of (v - threshold) / threshold",
    )  # fmt: skip
    chosen: Any = SURROGATES[surrogate]
    return partial(chosen, slope=slope)  # unlike a lambda, it can be pickled
