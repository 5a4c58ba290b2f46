"""The torch spiking network of a quantized model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pmsm_hw.errors import InputError, QuantizationError
from pmsm_hw.nn.batches import Batch, as_tensors
from pmsm_hw.nn.evaluation import check_module
from pmsm_hw.nn.gain import LearnedGainQuant
from pmsm_hw.nn.neuron import PolarityMultiSpike, check_rule
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant
from pmsm_hw.nn.swapping import swap
from pmsm_hw.records import Comparable

__all__ = ["Snn", "SnnResult", "check_steps", "split_frames", "to_snn"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SnnResult(Comparable):
    """What a torch SNN answered.

    Parameters
    ----------
    logits
        Mean over the steps of what the model returns.
    spikes
        By layer, ``(batch, n_steps, *shape)`` int32: the ``k``; units for input quantizers.
    """

    logits: Any
    spikes: Mapping[str, NDArray[np.int32]]


def to_snn(model: nn.Module, rule: str | None = None) -> Any:
    """Torch SNN of a quantized model.

    Parameters
    ----------
    model
        From `quantize`, or any module that has `PolarityQuant` activations, or an integer model of
        ``pmsm_hw.convert``. Not changed; the SNN has a copy of its parameters.
    rule
        What the neurons do with their state: ``"carry"``, ``"reset"`` or ``"bounded"``. By default
        ``"carry"``; for an integer model, the rule that it was made for.

    Returns
    -------
    module
        ``snn(x, n_steps)`` gives the mean logits, ``snn.run(x, n_steps)`` also all spikes. At
        ``n_steps=1`` both equal the quantized model, bit for bit.

    Raises
    ------
    QuantizationError
        If the model has no quantizer, or one whose gain is still being learned, or the rule is
        unknown.
    """
    if rule is not None:
        check_rule(rule)
    check_module(model)
    for name, module in model.named_modules():
        if isinstance(module, LearnedGainQuant):
            raise QuantizationError(
                f"module '{name}' (LearnedGainQuant)",
                f"has a gain that is still being learned ({module.alpha:.4g}), spikes carry small "
                "integers",
                remedy="snap it first: model = pmsm_hw.nn.snap_gains(model)",
                actual=module.alpha,
                limit="a ratio of small integers",
            )
    own = getattr(model, "to_snn", None)
    return own(rule) if callable(own) else Snn(model, rule or "carry")


def check_steps(n_steps: int) -> None:
    """Raise `InputError` unless ``n_steps`` is a positive integer."""
    if isinstance(n_steps, bool) or not isinstance(n_steps, int) or n_steps < 1:
        raise InputError(
            "n_steps",
            f"{n_steps!r} is not a positive integer, the limit is 1",
            remedy="give the number of time steps",
            actual=n_steps,
            limit=1,
        )


def split_frames(batch: tuple[Tensor, ...], n_steps: int, frames: bool) -> list[tuple[Tensor, ...]]:
    """Inputs of each step: the same each time, or ``(batch, n_steps, ...)`` taken apart."""
    check_steps(n_steps)
    if not frames:
        return [batch] * n_steps
    for x in batch:
        if x.ndim < 2 or x.shape[1] != n_steps:
            raise InputError(
                "frames",
                f"input has shape {tuple(x.shape)}, (batch, {n_steps}, ...) is needed",
                remedy="give one frame per step along axis 1",
                actual=tuple(x.shape),
                limit=n_steps,
            )
    return [tuple(x[:, t] for x in batch) for t in range(n_steps)]


class Snn(nn.Module):
    """Runs a model step by step with spiking neurons in place of its quantizers.

    Parameters
    ----------
    model
        Has `PolarityQuant` modules. Copied.
    rule
        See `to_snn`.
    """

    def __init__(self, model: nn.Module, rule: str = "carry") -> None:
        super().__init__()
        self.rule = check_rule(rule)
        self.model = copy.deepcopy(model).eval()
        if not any(isinstance(m, PolarityQuant) for m in self.model.modules()):
            raise QuantizationError(
                f"model '{type(model).__name__}'",
                "has 0 PolarityQuant modules, at least 1 is needed",
                remedy="quantize it first: pmsm_hw.nn.quantize(model, calibration=x)",
                actual=0,
                limit=1,
            )
        if isinstance(self.model, PolarityQuant):
            self.model = PolarityMultiSpike(self.model, rule)
            self._neurons = {"": self.model}
        else:
            self._neurons = swap(
                self.model, PolarityQuant, lambda quantizer: PolarityMultiSpike(quantizer, rule)
            )

    def forward(self, *x: Tensor, n_steps: int | None = None, frames: bool = False) -> Any:
        """Mean over the steps of what the model returns.

        Parameters
        ----------
        x
            Inputs, ``(batch, ...)``, shown at each step; the number of steps may be the last one:
            ``snn(x, 4)``.
        n_steps
            Number of steps T; 1 by default.
        frames
            Whether inputs are ``(batch, n_steps, ...)``, one frame a step.
        """
        batch, steps = _inputs_and_steps(x, n_steps)
        return self.run(*batch, n_steps=steps, frames=frames, record=False).logits

    def run(
        self,
        *x: Batch | int,
        n_steps: int | None = None,
        frames: bool = False,
        record: bool = True,
    ) -> SnnResult:
        """As `forward`, with the spikes of every layer beside the logits.

        Parameters
        ----------
        x, n_steps, frames
            As for `forward`.
        record
            Whether to keep the spikes of every layer.
        """
        batch, steps = _inputs_and_steps(x, n_steps)
        spikes: dict[str, list[Tensor]] = {}
        total: Any = None
        for neuron in self._neurons.values():
            neuron.reset()
        handles = []
        if record:
            handles = [
                m.register_forward_pre_hook(_record_input(n, spikes))
                for n, m in self.model.named_modules()
                if isinstance(m, InputQuant)
            ]
        try:
            with torch.no_grad():
                for inputs in split_frames(batch, steps, frames):
                    for neuron in self._neurons.values():
                        neuron.begin_step()
                    total = _add(total, self.model(*inputs))
                    if record:
                        self._collect(spikes)
        finally:
            for handle in handles:
                handle.remove()
        return SnnResult(
            logits=_over(total, steps),
            spikes={n: torch.stack(k, 1).cpu().numpy().astype(np.int32) for n, k in spikes.items()},
        )

    def _collect(self, spikes: dict[str, list[Tensor]]) -> None:
        for name, neuron in self._neurons.items():
            for i, k in enumerate(neuron.last_spikes):
                spikes.setdefault(f"{name}_{i}" if i else name, []).append(k)


def _record_input(name: str, spikes: dict[str, list[Tensor]]) -> Any:
    def hook(module: InputQuant, args: tuple[Tensor, ...]) -> None:
        spikes.setdefault(name, []).append(module.units(args[0]))

    return hook


def _inputs_and_steps(x: tuple[Any, ...], n_steps: int | None) -> tuple[tuple[Tensor, ...], int]:
    """Take ``snn(x, 4)`` and ``snn(x, n_steps=4)`` alike."""
    if n_steps is None and x and isinstance(x[-1], int):
        x, n_steps = x[:-1], x[-1]
    return as_tensors(x), 1 if n_steps is None else n_steps


def _add(total: Any, out: Any) -> Any:
    if total is None:
        return out
    if isinstance(out, Tensor):
        return total + out
    if isinstance(out, Mapping):
        return {name: _add(total[name], value) for name, value in out.items()}
    return tuple(_add(a, b) for a, b in zip(total, out, strict=True))


def _over(total: Any, n: int) -> Any:
    if isinstance(total, Tensor):
        return total if n == 1 else total / n
    if isinstance(total, Mapping):
        return {name: _over(value, n) for name, value in total.items()}
    return tuple(_over(value, n) for value in total)
