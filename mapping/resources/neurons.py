"""What the neurons of a population need of a core, by their model: spikes, thresholds, sets.

The one place that says what a neuron model costs on a core beside its axons and synapses: which
messages its spikes are (`spike_mode`, `axon_signs`), how many compartments its neurons take
(`compartments_of`), and which of a core's parameter sets (`thresholds_of`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import MappingError
from pmsm_hw.mapping.blocks import Range
from pmsm_hw.network import Neurons

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Mode
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.network import Network, Population

__all__ = [
    "ParameterSet",
    "axon_signs",
    "compartments_of",
    "has_one_threshold",
    "most_thresholds",
    "spike_mode",
    "thresholds_of",
    "thresholds_vary_by_place",
]

ParameterSet: TypeAlias = tuple[str | int | float, ...]
"""Kind of a neuron model, and values of the parameters that a core holds sets of."""


def spike_mode(population: Population, chip: Chip) -> Mode:
    """How spikes of a population travel on a chip.

    Raises
    ------
    MappingError
        If the population insists on a mode that the chip does not have.
    """
    modes = chip.spikes.modes.value
    wanted = getattr(population, "spike_mode", "auto")  # readouts never spike
    if wanted == "auto":
        return "graded" if "graded" in modes else "unit"
    if wanted not in modes:
        raise MappingError(
            population.subject,
            f"wants {wanted} spikes, chip '{chip.name}' has {', '.join(modes)}",
            remedy="use a spike_mode (or payload_mode) that it has, or another chip",
            actual=wanted,
            limit=modes,
        )
    mode: Mode = wanted
    return mode


def axon_signs(network: Network, population: Population, chip: Chip) -> tuple[int, ...]:
    """Payload of one message on each set of axons; ``()`` if the population never spikes.

    Raises
    ------
    MappingError
        If gains have no form on the chip.
    """
    bound = network.bounds[population.name]
    signs = [s for s, on in ((1, bound.k_max > 0), (-1, bound.k_min < 0)) if on]
    if not signs:
        return ()
    graded = spike_mode(population, chip) == "graded"
    if graded and chip.spikes.signed.value:
        return (1,)
    if graded:
        return tuple(signs)
    gains = population.unit_gains if isinstance(population, Neurons) else (1, 1)
    factors = tuple(s * gains[0 if s > 0 else 1] for s in signs)
    for factor in factors:
        if factor == 0 or abs(factor) & (abs(factor) - 1):
            raise MappingError(
                population.subject,
                f"gains {gains} are not plus or minus powers of two, as the weights of unit "
                f"spikes on chip '{chip.name}' must be",
                remedy="use such gains, or a chip with graded spikes",
                actual=gains,
                limit="plus or minus powers of two",
            )
    return factors


def compartments_of(population: Population) -> int:
    """Compartments of a core that each neuron of a population takes."""
    return population.model.compartments if isinstance(population, Neurons) else 1


def has_one_threshold(population: Population) -> bool:
    """Whether all neurons of a population have the same parameter set, or none."""
    return all(bool((values == values.flat[0]).all()) for values in _core_parameters(population))


def thresholds_vary_by_place(population: Population) -> bool:
    """Whether parameter sets may differ between the rows and columns of one channel."""
    return any(values.ndim > 1 and values[0].size > 1 for values in _core_parameters(population))


def thresholds_of(
    population: Population, channels: Range, rows: Range, columns: Range
) -> tuple[ParameterSet, ...]:
    """Distinct parameter sets of some neurons, ascending."""
    parts = []
    for values in _core_parameters(population):
        if values.ndim:
            values = values.reshape((*values.shape, 1, 1)[:3])
            values = values[
                slice(*channels),
                slice(*rows) if values.shape[1] > 1 else slice(None),
                slice(*columns) if values.shape[2] > 1 else slice(None),
            ]
        parts.append(values)
    return tuple((population.kind, *values) for values in _distinct(parts))


def most_thresholds(population: Population, parts: Iterable[Range]) -> int:
    """Distinct parameter sets of that part of a population's channels that has most of them."""
    parameters = _core_parameters(population)
    if not parameters:
        return 0
    if has_one_threshold(population):
        return 1
    by_channel = [
        values.reshape(len(values), -1) if values.ndim else values for values in parameters
    ]
    return max(len(_distinct([v[a:b] if v.ndim else v for v in by_channel])) for a, b in parts)


def _core_parameters(population: Population) -> list[NDArray[np.int64]]:
    """Parameters that a core holds sets of."""
    if not isinstance(population, Neurons):
        return []
    parameters = {p.name: p for p in population.model.parameters}
    found = []
    for name in population.model.core_parameters:
        value, parameter = getattr(population, name), parameters[name]
        if parameter.type == "choice":
            value = parameter.choices.index(value)
        # several integers are as many parameters
        found += [np.asarray(v) for v in (value if isinstance(value, tuple) else (value,))]
    return found


def _distinct(parameters: list[NDArray[np.int64]]) -> list[list[int]]:
    """Distinct combinations of values, ascending."""
    if len(parameters) <= 1:
        return [[n] for values in parameters for n in np.unique(values).tolist()]
    together = np.stack(np.broadcast_arrays(*parameters), axis=-1)
    found: list[list[int]] = np.unique(together.reshape(-1, len(parameters)), axis=0).tolist()
    return found
