"""What lowering makes of a model: populations joined by linear maps, still in real numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from torch import Tensor

from pmsm_hw.network import Shape
from pmsm_hw.nn.expressions import Expression, Pool
from pmsm_hw.nn.quantizer import PolarityQuant

__all__ = [
    "Builder", "InputPlan", "NeuronPlan", "NotSupportedError", "Plan", "Pooling", "PopulationPlan",
    "ReadoutPlan", "RelayPlan",
]  # fmt: skip


class NotSupportedError(Exception):
    """A call that no linear map of spikes computes; says why."""


Pooling: TypeAlias = Literal["auto", "fold", "relay"]


@dataclass(frozen=True, kw_only=True)
class InputPlan:
    """An input population: see `pmsm_hw.network.Input`."""

    name: str
    shape: Shape
    scale: float
    levels: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class NeuronPlan:
    """A population of polarity multi-spike neurons, in real numbers.

    Parameters
    ----------
    name, shape
        As in the network.
    drive
        What reaches it; its maps turn payloads (integers) into real values.
    quantizer
        Gives levels, gains and phi.
    theta
        ``()`` or ``(channels,)`` float64.
    """

    name: str
    shape: Shape
    drive: Expression
    quantizer: PolarityQuant
    theta: Tensor


@dataclass(frozen=True, kw_only=True)
class RelayPlan:
    """A population that sends the sum of a pooling window of payloads, unchanged."""

    name: str
    shape: Shape
    source: str
    pool: Pool


@dataclass(frozen=True, kw_only=True)
class ReadoutPlan:
    """A readout population, in real numbers."""

    name: str
    shape: Shape
    drive: Expression


PopulationPlan: TypeAlias = "InputPlan | NeuronPlan | RelayPlan | ReadoutPlan"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Populations in topological order, and what the model returns.

    Parameters
    ----------
    populations
        By name.
    output
        The model's output with names of readouts in place of tensors.
    """

    populations: Mapping[str, PopulationPlan]
    output: Any


@dataclass
class Builder:
    """What one evaluation of the graph has found so far."""

    populations: dict[str, PopulationPlan] = field(default_factory=dict)
    relays: dict[tuple[Any, ...], str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    """Names in use."""
