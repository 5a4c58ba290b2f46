"""A network of integers as a torch module: to run it in torch, and to train it on."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pmsm_hw.arguments import instance, integer, shown
from pmsm_hw.errors import QuantizationError
from pmsm_hw.network import (
    MAX_STEPS,
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    Neurons,
    Projection,
    SumPool,
)
from pmsm_hw.nn.batches import as_tensor
from pmsm_hw.nn.loihi.neurons import STATE, TORCH, LoihiNeuron, States
from pmsm_hw.nn.loihi.readout import LoihiReadout
from pmsm_hw.nn.loihi.synapses import (
    LoihiConv1d,
    LoihiConv2d,
    LoihiLinear,
    LoihiOneToOne,
    LoihiSumPool,
    LoihiSynapses,
)
from pmsm_hw.nn.quantizer import InputQuant

__all__ = ["LoihiNetwork", "LoihiRun", "from_network"]


class LoihiRun(NamedTuple):
    """What a network did in torch."""

    payloads: dict[str, Tensor]
    """By population, inputs among them, what spikes carried: ``(batch, n_steps, *shape)``."""
    states: dict[str, dict[str, Tensor]]
    """By population of neurons and state variable, ``(batch, *shape)`` after the last step."""
    logits: dict[str, Tensor]
    """By readout, ``(batch, *shape)``."""


def from_network(network: Network, *, scale: float = 64) -> LoihiNetwork:
    """A torch module that computes what a network does, spike for spike, and can be trained on.

    `pmsm_hw.convert.convert` takes it back to a network, with the weights of then.

    Parameters
    ----------
    network
        Of populations that torch has a module for: Loihi's neurons and readouts.
    scale
        The integer that a weight of 1.0 is, for training: a power of two, so that all are exact.

    Raises
    ------
    NeuronModelError
        If torch has nothing for a neuron model.
    """
    instance(
        QuantizationError, "from_network", "network", network, Network, remedy="give a network"
    )
    if not isinstance(scale, int | float) or scale <= 0 or math.frexp(scale)[0] != 0.5:
        raise QuantizationError(
            "from_network",
            f"scale {shown(scale)} is no power of two, some weights would be rounded",
            remedy="use 64, or another power of two",
            actual=scale,
            limit="a power of two",
        )
    return LoihiNetwork(network, float(scale))


class LoihiNetwork(nn.Module):
    """See `from_network`.

    Parameters
    ----------
    network, scale
        As there.
    """

    def __init__(self, network: Network, scale: float = 64) -> None:
        super().__init__()
        self.network = network
        self.populations = nn.ModuleList()
        self.place: dict[str, int] = {}
        order = {p.name: i for i, p in enumerate(network.topological)}
        for p in network.topological:
            if isinstance(p, Neurons):
                self.place[p.name] = len(self.populations)
                self.populations.append(TORCH.of(p).from_population(p))
        self.synapses = nn.ModuleList(layer_of(q, scale) for q in network.projections)
        self.has_feedback = any(order[q.source] >= order[q.target] for q in network.projections)

    def forward(self, *x: Any, n_steps: int | None = None) -> Any:
        """Logits: a tensor, or a dictionary where the network has several readouts, or none.

        Parameters
        ----------
        x, n_steps
            As for `run`.
        """
        logits = self.run(*x, n_steps=n_steps).logits
        return next(iter(logits.values())) if len(logits) == 1 else logits

    def run(self, *x: Any, n_steps: int | None = None) -> LoihiRun:
        """Run a batch of samples, each from rest.

        Parameters
        ----------
        x
            Real values of each input, in the network's order: static ones ``(batch, *shape)`` with
            ``n_steps``, or frames ``(batch, n_steps, *shape)``.
        n_steps
            Number of steps; by default that of the frames.
        """
        payloads = self._encoded(x, n_steps)
        steps = next(iter(payloads.values())).shape[1]
        states: dict[str, States] = {}
        if self.has_feedback:
            self._step_by_step(payloads, states, steps)
        else:
            self._at_once(payloads, states)
        logits = {
            p.name: module.logits(states[p.name][0], steps)
            for p in self.network.readouts
            if isinstance(module := self.module_of(p.name), LoihiReadout)
        }
        named = {
            name: dict(zip(self.module_of(name).state_names, values, strict=True))
            for name, values in states.items()
        }
        return LoihiRun(payloads, named, logits)

    def module_of(self, population: str) -> LoihiNeuron:
        """The module of a population of neurons.

        Parameters
        ----------
        population
            Its name.
        """
        module = self.populations[self.place[population]]
        assert isinstance(module, LoihiNeuron)
        return module

    def into(self, population: str) -> list[tuple[Projection, LoihiSynapses]]:
        """Projections into a population, each with its layer.

        Parameters
        ----------
        population
            Its name.
        """
        pairs: Any = zip(self.network.projections, self.synapses, strict=True)
        return [(q, layer) for q, layer in pairs if q.target == population]

    def _at_once(self, payloads: dict[str, Tensor], states: dict[str, States]) -> None:
        """One population after the other, all steps of each."""
        like = next(iter(payloads.values()))
        for p in self.network.topological:
            if not isinstance(p, Neurons):
                continue
            drive = like.new_zeros((*like.shape[:2], *p.shape), dtype=STATE)
            for q, layer in self.into(p.name):
                drive = drive + layer(layer.as_source(payloads[q.source])).reshape(drive.shape)
            module = self.module_of(p.name)
            payloads[p.name], states[p.name] = module.advance(drive, module.rest(drive[:, 0]), 0)

    def _step_by_step(
        self, payloads: dict[str, Tensor], states: dict[str, States], steps: int
    ) -> None:
        like = next(iter(payloads.values()))
        sent = {name: list(x.unsqueeze(2).unbind(1)) for name, x in payloads.items()}
        neurons = [p for p in self.network.topological if isinstance(p, Neurons)]
        into = {
            p.name: [(q.source, layer.stepwise()) for q, layer in self.into(p.name)]
            for p in neurons
        }
        for p in neurons:
            sent[p.name] = []
            states[p.name] = self.module_of(p.name).rest(
                like.new_zeros((len(like), *p.shape), dtype=STATE)
            )
        for t in range(steps):
            for p in neurons:
                drive = like.new_zeros((len(like), 1, *p.shape), dtype=STATE)
                for source, deliver in into[p.name]:
                    arriving = deliver(sent[source], t)
                    if arriving is not None:
                        drive = drive + arriving.reshape(drive.shape)
                payload, states[p.name] = self.module_of(p.name).advance(drive, states[p.name], t)
                sent[p.name].append(payload)
        payloads.update((p.name, torch.cat(sent[p.name], 1)) for p in neurons)

    def _encoded(self, x: tuple[Any, ...], n_steps: int | None) -> dict[str, Tensor]:
        """Units of each input, ``(batch, n_steps, *shape)``."""
        if n_steps is not None:
            n_steps = integer(
                QuantizationError, "n_steps", "number of steps", n_steps, low=1, high=MAX_STEPS,
                remedy="give the number of time steps",
            )  # fmt: skip
        inputs = self.network.inputs
        tensors = [as_tensor(part, "x") for part in x]
        if len(tensors) != len(inputs) or not inputs:
            raise QuantizationError(
                f"network '{self.network.name}'",
                f"has {len(inputs)} inputs and is given {len(tensors)} arrays",
                remedy="give one array per input, in the network's order",
                actual=len(tensors),
                limit=len(inputs),
            )
        found: dict[str, Tensor] = {}
        for p, values in zip(inputs, tensors, strict=True):
            found[p.name] = self._frames(p, values, n_steps)
        if len({tuple(v.shape[:2]) for v in found.values()}) > 1:
            raise QuantizationError(
                "x",
                "the inputs differ in their numbers of samples or steps",
                remedy="give as many of each",
                actual=[tuple(v.shape[:2]) for v in found.values()],
                limit="equal",
            )
        return found

    @staticmethod
    def _frames(p: Input, values: Tensor, n_steps: int | None) -> Tensor:
        shape, steps = tuple(values.shape), 1 if n_steps is None else n_steps
        units = InputQuant(p.scale, p.levels).units(values)
        if shape[1:] == p.shape and n_steps is not None:
            return units[:, None].expand(len(units), steps, *p.shape)
        if shape[2:] != p.shape or (n_steps is not None and shape[1] != n_steps):
            raise QuantizationError(
                p.subject,
                f"is given {shown(shape)}, (batch, {n_steps or 'n_steps'}, {shown(p.shape)[1:]} is "
                "needed",
                remedy="give frames, or n_steps with samples that stay",
                actual=shape,
                limit=p.shape,
            )
        return units


def layer_of(projection: Projection, scale: float) -> LoihiSynapses:
    """The layer that a projection is, with the same integers.

    Parameters
    ----------
    projection
        Any.
    scale
        The integer that a weight of 1.0 is.
    """
    q: Any = projection
    options: dict[str, Any] = {
        "scale": scale,
        "sign_mode": "int8",
        "weight_exponent": q.weight_exponent,
        "delay": q.delay,
    }
    real = q.weight.astype(np.float64) * (2.0**q.weight_exponent / scale)
    if isinstance(projection, SumPool):
        return LoihiSumPool(q.kernel, q.stride, q.padding, weight=real, **options)
    if isinstance(projection, Identity):
        return LoihiOneToOne(real, **options)
    options["delays"] = q.delays
    layer: LoihiSynapses
    if isinstance(projection, Dense):
        layer = LoihiLinear(q.weight.shape[1], q.weight.shape[0], **options)
    else:
        assert isinstance(projection, Conv1d | Conv2d)
        conv: Any = LoihiConv1d if isinstance(projection, Conv1d) else LoihiConv2d
        n_out, n_in, *kernel = q.weight.shape
        layer = conv(
            n_in * q.groups, n_out, tuple(kernel), q.stride, q.padding, q.dilation, q.groups,
            **options,
        )  # fmt: skip
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(real))
    return layer
