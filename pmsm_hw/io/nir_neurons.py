"""What stands for a neuron model in a NIR graph, and which nodes of other tools become one.

Fields of a model that NIR has no place for are carried by metadata of its node, whatever the model:
they follow from its declaration. Here stands what a reader without these metadata sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import FormatError, NeuronModelError
from pmsm_hw.network import Network, Neurons, PolarityMultiSpike, Readout, Shape
from pmsm_hw.neurons import Backend

__all__ = ["NIR", "NirNeurons", "check_models", "made_of"]


@dataclass(frozen=True, kw_only=True)
class NirNeurons:
    """A neuron model in NIR.

    Parameters
    ----------
    node
        Fields of the node, ``type`` among them, of a population and the resistance of its neurons
        (the shift that all its projections share).
    notes
        What a reader of that node alone gets wrong, one sentence each.
    bias
        What it adds each step, which goes to a projection into it.
    of_node
        By type of node of a graph of other origin: makes the population, of which thresholds,
        biases and scales follow from the node's numbers. Takes its name, its shape, and the levels
        that were asked for.
    """

    node: Callable[[Any, NDArray[np.float32]], dict[str, Any]]
    notes: Callable[[Any], list[str]]
    bias: Callable[[Any], NDArray[Any]]
    of_node: Mapping[str, Callable[[str, Shape, tuple[int, int]], Neurons]] = field(
        default_factory=dict
    )


NIR: Backend[NirNeurons] = Backend(
    "NIR", "save the network as .h5, or register a node in pmsm_hw.io.nir_neurons"
)


def check_models(subject: str, network: Network) -> None:
    """Raise `FormatError` if NIR has nothing for a population's model.

    Parameters
    ----------
    subject
        What errors call the file.
    network
        What is to be written.
    """
    for population in network:
        if isinstance(population, Neurons):
            try:
                NIR.of(population)
            except NeuronModelError as error:
                raise FormatError(
                    f"{subject}: {error.subject}",
                    error.problem,
                    remedy=error.remedy,
                    actual=error.actual,
                    limit=error.limit,
                ) from error


def made_of(node: str, name: str, shape: Shape, levels: tuple[int, int]) -> Neurons | None:
    """Population that a type of node becomes; None if no model takes it.

    Parameters
    ----------
    node
        Its type.
    name, shape
        Of the population.
    levels
        Negative and positive spikes a step that were asked for.
    """
    for model in NIR.values():
        if node in model.of_node:
            return model.of_node[node](name, shape, levels)
    return None


def _spiking_node(item: PolarityMultiSpike, resistance: NDArray[np.float32]) -> dict[str, Any]:
    threshold = np.broadcast_to(item.theta, item.shape).astype(np.float32)
    reset = np.zeros(item.shape, np.float32)
    return {"type": "IF", "r": resistance, "v_threshold": threshold, "v_reset": reset}


def _spiking_notes(item: PolarityMultiSpike) -> list[str]:
    notes = [
        f"'{item.name}' is a polarity multi-spike population (levels {item.levels}, rule "
        f"'{item.rule}', initial state, overflow '{item.overflow}'); NIR's IF sends one positive "
        "spike a step above, not at, its threshold and resets to 0"
    ]
    if item.gains != (1, 1):
        notes.append(f"spikes of '{item.name}' carry gains {item.gains}; NIR's carry 1")
    return notes


def _spiking(name: str, shape: Shape, levels: tuple[int, int]) -> Neurons:
    return PolarityMultiSpike(name=name, shape=shape, theta=1, levels=levels, v_init=0)


def _readout(name: str, shape: Shape, levels: tuple[int, int]) -> Neurons:
    return Readout(name=name, shape=shape)


NIR.register(
    PolarityMultiSpike.kind,
    NirNeurons(
        node=_spiking_node,
        notes=_spiking_notes,
        bias=lambda item: item.bias,
        of_node={"IF": _spiking},
    ),
)
NIR.register(
    Readout.kind,
    NirNeurons(
        node=lambda item, resistance: {"type": "I", "r": resistance},
        notes=lambda item: [],
        bias=lambda item: item.bias,
        of_node={"I": _readout, "Output": _readout},
    ),
)
