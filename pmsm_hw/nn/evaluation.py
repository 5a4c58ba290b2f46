"""Evaluation mode for a while, and what a model answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from pmsm_hw.arguments import instance
from pmsm_hw.errors import QuantizationError

__all__ = ["answer", "check_module", "evaluating"]


def check_module(model: object, what: str = "model") -> None:
    """Raise `QuantizationError` unless it is a torch module.

    Parameters
    ----------
    model
        What was given.
    what
        Name for the error.
    """
    remedy = "give a torch.nn.Module"
    instance(QuantizationError, what, "value", model, nn.Module, remedy=remedy)


def answer(model: nn.Module, *batch: Tensor) -> Any:
    """What a model returns; one `QuantizationError` where it fails on the batch.

    Parameters
    ----------
    model
        Any module.
    batch
        One tensor per input.
    """
    try:
        return model(*batch)
    except (RuntimeError, ValueError, IndexError, TypeError) as cause:
        shapes = ", ".join(str(tuple(part.shape)) for part in batch)
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            f"fails on a batch of shape {shapes}: {reason}",
            remedy="give inputs of the shape that the model was made for",
            actual=shapes,
            limit="the model's input",
        ) from cause


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; afterwards each module gets its own mode back."""
    check_module(model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
