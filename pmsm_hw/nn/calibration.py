"""The steps of quantizers chosen from data, and the levels that they answer with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.batches import Batch, as_tensors
from pmsm_hw.nn.evaluation import answer, check_module, evaluating
from pmsm_hw.nn.initialization import choose_theta
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant

__all__ = ["calibrate", "recorded", "spikes"]


def calibrate(model: nn.Module, x: Batch, init: str = "mse", *, per_channel: bool = False) -> None:
    """Choose theta of every `PolarityQuant` again, in place, layer by layer.

    Parameters
    ----------
    model
        Has `PolarityQuant` modules.
    x
        A batch of inputs.
    init
        See `quantize`.
    per_channel
        One theta per channel.

    Raises
    ------
    QuantizationError
        If the activations are useless, or a quantizer is never reached.
    """
    check_module(model)
    quantizers = {n: m for n, m in model.named_modules() if isinstance(m, PolarityQuant)}
    seen: set[str] = set()

    def hook_of(name: str) -> Callable[[PolarityQuant, tuple[Tensor, ...]], None]:
        def hook(module: PolarityQuant, args: tuple[Tensor, ...]) -> None:
            if name in seen:
                return  # called again: keeps the step of the first call
            seen.add(name)
            (activation,) = args
            channels = activation.shape[1] if per_channel else None
            theta = module.theta.detach().reshape(-1)[0]
            module.theta = nn.Parameter(
                theta.expand(channels).clone() if channels is not None else theta.clone()
            )
            chosen = choose_theta(activation, module, init, f"quantizer '{name}'")
            with torch.no_grad():
                module.theta.copy_(chosen)

        return hook

    handles = [m.register_forward_pre_hook(hook_of(n)) for n, m in quantizers.items()]
    try:
        with evaluating(model), torch.no_grad():
            answer(model, *as_tensors(x))
    finally:
        for handle in handles:
            handle.remove()
    missed = sorted(set(quantizers) - seen)
    if missed:
        raise QuantizationError(
            f"quantizer '{missed[0]}'",
            f"{len(missed)} quantizers are never reached by the calibration batch, limit: 0",
            remedy="remove unused activations from the model",
            actual=len(missed),
            limit=0,
        )


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the levels ``k`` of every quantizer while the context is open.

    A module's second call in a forward pass is named ``path_1``, the third ``path_2``, and so on.
    """
    found: dict[str, Tensor] = {}

    def hook_of(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def hook(module: Any, args: tuple[Tensor, ...]) -> None:
            key, i = name, 0
            while key in found:
                i += 1
                key = f"{name}_{i}"
            quantizer = module.spikes if isinstance(module, PolarityQuant) else module.units
            found[key] = quantizer(args[0]).detach()

        return hook

    handles = [
        m.register_forward_pre_hook(hook_of(n))
        for n, m in model.named_modules()
        if isinstance(m, PolarityQuant | InputQuant)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def spikes(model: nn.Module, x: Batch) -> dict[str, NDArray[np.int32]]:
    """Levels ``k`` of every quantizer of a quantized model (units, for input quantizers).

    Parameters
    ----------
    model
        Quantized; run in evaluation mode.
    x
        A batch of inputs.

    Returns
    -------
    dict
        By module name, ``(batch, *shape)`` int32.
    """
    own = getattr(model, "spikes", None)
    if callable(own) and not isinstance(model, PolarityQuant):
        return cast("dict[str, NDArray[np.int32]]", own(x))
    with evaluating(model), recorded(model) as found, torch.no_grad():
        answer(model, *as_tensors(x))
    return {name: k.cpu().numpy().astype(np.int32) for name, k in found.items()}
