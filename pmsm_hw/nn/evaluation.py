"""Evaluation mode for a while, and what a model answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from pmsm_hw.errors import PmsmHwError, QuantizationError

__all__ = ["answer", "answers", "check_module", "evaluating"]


def check_module(
    model: object, what: str = "model", error: type[PmsmHwError] = QuantizationError
) -> None:
    """Raise unless it is a torch module.

    Parameters
    ----------
    model
        What was given.
    what
        Name for the error.
    error
        What to raise.
    """
    if not isinstance(model, nn.Module):
        raise error(
            what,
            f"is a {type(model).__name__}, a torch.nn.Module is needed",
            remedy="give the module itself",
            actual=type(model).__name__,
            limit="torch.nn.Module",
        )


def answer(
    model: nn.Module,
    *batch: Tensor,
    error: type[PmsmHwError] = QuantizationError,
    what: str = "batch",
) -> Any:
    """What a model returns; one error where it fails on the batch.

    Parameters
    ----------
    model
        Any module.
    batch
        One tensor per input.
    error
        What to raise where the model does not take the batch.
    what
        How the message names the batch.
    """
    # a GraphModule prints a traceback of its own
    call = nn.Module.__call__ if isinstance(model, fx.GraphModule) else type(model).__call__
    try:
        return call(model, *batch)
    except PmsmHwError:
        raise
    except Exception as cause:  # whatever the user's own operations raise
        shapes = ", ".join("x".join(map(str, x.shape)) for x in batch)
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
        raise error(
            what,
            f"of shape {shapes} is refused by {type(model).__name__}: {reason}"
            f"{_channels_last(reason, batch)}",
            remedy="give a batch as the model takes it, one array per input",
            actual=tuple(tuple(x.shape) for x in batch),
            limit="a batch that the model accepts",
        ) from cause


def answers(
    model: nn.Module, batch: Sequence[Tensor], error: type[PmsmHwError], *, what: str
) -> Any:
    """What a model returns for a batch, in evaluation mode; the batch stays as it is.

    Parameters
    ----------
    model, batch, error, what
        As for `answer`.
    """
    with evaluating(model), torch.no_grad(), plain_kernels():
        return answer(model, *(x.clone() for x in batch), error=error, what=what)


def _channels_last(reason: str, inputs: Sequence[Tensor]) -> str:
    """A hint where the channels seem to be the last axis."""
    for x in inputs:
        if x.ndim == 4 and f"to have {x.shape[3]} channels" in reason:
            return " (channels are its last axis? then give x.permute(0, 3, 1, 2))"
    return ""


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


@contextmanager
def plain_kernels() -> Iterator[None]:
    """No TF32 and no choice of kernels by timing: the same operations give the same values."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
