"""The integer network step by step, in torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pmsm_hw.convert.rounding import Rounded, RoundedNeurons, RoundedReadout
from pmsm_hw.convert.summing import summed
from pmsm_hw.nn.batches import as_tensors
from pmsm_hw.nn.lowering import InputPlan, RelayPlan
from pmsm_hw.nn.neuron import Rule, State
from pmsm_hw.nn.quantizer import InputQuant, payload
from pmsm_hw.nn.snn import SnnResult, split_frames

__all__ = ["IntegerSnn", "filled", "real"]


def real(v: Tensor, readout: RoundedReadout) -> Tensor:
    """State of a readout, in real values."""
    return v * readout.unit.to(v.dtype)


def filled(output: Any, answers: Mapping[str, Tensor]) -> Any:
    """A model's output with tensors in place of the names of readouts."""
    if isinstance(output, str):
        return answers[output]
    if isinstance(output, dict):
        return {k: filled(v, answers) for k, v in output.items()}
    return tuple(filled(v, answers) for v in output)


class IntegerSnn(nn.Module):
    """Runs integers step by step, as the network's reference does, in torch.

    Parameters
    ----------
    populations, output
        Rounded, and the structure of the output: what `IntegerModel.rounded` gives.
    rule
        What neurons do with their state.
    """

    def __init__(self, populations: Mapping[str, Rounded], output: Any, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.populations, self.output = populations, output
        self.inputs = [p for p in populations.values() if isinstance(p, InputPlan)]

    def forward(self, *x: Any, n_steps: int | None = None, frames: bool = False) -> Any:
        """Mean logits; arguments as for `pmsm_hw.nn.Snn`.

        Parameters
        ----------
        x, n_steps, frames
            As for `pmsm_hw.nn.Snn`.
        """
        return self.run(*x, n_steps=n_steps, frames=frames, record=False).logits

    def run(
        self, *x: Any, n_steps: int | None = None, frames: bool = False, record: bool = True
    ) -> SnnResult:
        """As `forward`, with the spikes of every population beside the logits.

        Parameters
        ----------
        x, n_steps, frames, record
            As for `pmsm_hw.nn.Snn`.
        """
        if n_steps is None and x and isinstance(x[-1], int):
            x, n_steps = x[:-1], x[-1]
        steps = 1 if n_steps is None else n_steps
        states: dict[str, State] = {}
        spikes: dict[str, list[Tensor]] = {}
        sums: dict[str, Tensor] = {}
        with torch.no_grad():
            for inputs in split_frames(as_tensors(x), steps, frames):
                payloads: dict[str, Tensor] = {}
                for p, part in zip(self.inputs, inputs, strict=True):
                    payloads[p.name] = InputQuant(p.scale, p.levels).units(part)
                    if record:
                        spikes.setdefault(p.name, []).append(payloads[p.name])
                for name, population in self.populations.items():
                    if isinstance(population, RoundedNeurons):
                        drive = summed(population, payloads)
                        if name not in states:
                            states[name] = State(
                                population.start.to(drive.dtype),
                                population.levels,
                                "carry" if isinstance(population.plan, RelayPlan) else self.rule,
                            )
                        k = states[name].step(drive, population.theta.to(drive.dtype))
                        payloads[name] = payload(k, population.gains)
                        if record:
                            spikes.setdefault(name, []).append(k)
                    elif isinstance(population, RoundedReadout):
                        drive = summed(population, payloads)
                        sums[name] = sums[name] + drive if name in sums else drive
            answers = {
                name: real(v, cast(RoundedReadout, self.populations[name])) / steps
                for name, v in sums.items()
            }
        return SnnResult(
            logits=filled(self.output, answers),
            spikes={n: torch.stack(k, 1).cpu().numpy().astype(np.int32) for n, k in spikes.items()},
        )
