"""What the neurons of a population need of a core, by their model: spikes, thresholds, sets.

The one place that says what a neuron model costs on a core beside its axons and synapses: which
messages its spikes are (`spike_mode`, `axon_signs`), and which of a core's parameter sets it takes
(`thresholds_of`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import MappingError
from pmsm_hw.network import PolarityMultiSpike, Readout

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Mode
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.network import Network, Population

__all__ = [
    "axon_signs",
    "has_one_threshold",
    "most_thresholds",
    "spike_mode",
    "thresholds_of",
    "thresholds_vary_by_place",
]

Range = tuple[int, int]


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
            remedy="use spike_mode='auto' or another chip",
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
    if isinstance(population, Readout) or not signs:
        return ()
    graded = spike_mode(population, chip) == "graded"
    if graded and chip.spikes.signed.value:
        return (1,)
    gains = population.gains if isinstance(population, PolarityMultiSpike) else (1, 1)
    if graded:
        return tuple(signs)
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


def has_one_threshold(population: Population) -> bool:
    """Whether all neurons of a population have the same threshold, or none."""
    theta = getattr(population, "theta", None)
    return theta is None or bool((theta == theta.flat[0]).all())


def thresholds_vary_by_place(population: Population) -> bool:
    """Whether thresholds may differ between the rows and columns of one channel."""
    theta = getattr(population, "theta", None)
    return theta is not None and theta.ndim > 1 and theta[0].size > 1


def thresholds_of(
    population: Population, channels: Range, rows: Range, columns: Range
) -> tuple[int, ...]:
    """Distinct thresholds of some neurons, ascending."""
    if not isinstance(population, PolarityMultiSpike):
        return ()
    theta = population.theta
    if theta.ndim:
        theta = theta.reshape((*theta.shape, 1, 1)[:3])
        theta = theta[
            slice(*channels),
            slice(*rows) if theta.shape[1] > 1 else slice(None),
            slice(*columns) if theta.shape[2] > 1 else slice(None),
        ]
    return tuple(np.unique(theta).tolist())


def most_thresholds(population: Population, parts: Iterable[Range]) -> int:
    """Distinct thresholds of that part of a population's channels that has most of them."""
    if not isinstance(population, PolarityMultiSpike):
        return 0
    if has_one_threshold(population):
        return 1
    theta: NDArray[np.int64] = population.theta.reshape(population.theta.shape[0], -1)
    return max(len(np.unique(theta[a:b])) for a, b in parts)
