"""What does not fit a core however it is cut, and what to do then."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError
from pmsm_hw.mapping.blocks import Block
from pmsm_hw.mapping.partition.grids import UNPLACED, Grid
from pmsm_hw.operators import DenseForm, WindowForm, apply, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.resources import Resources
    from pmsm_hw.network import Population

__all__ = ["FanOutError", "check_formats", "fan_out_excess", "single_neuron_excess"]


def single_neuron_excess(resources: Resources, population: Population) -> CapacityError | None:
    """Error that says which limit a neuron alone exceeds, output axons aside; ``None``: it fits."""
    limits = resources.chip.limits
    compartments = resources.compartments(population.name)
    if compartments > limits.neurons.value:
        return _too_much(resources, population, "compartments", compartments, limits.neurons.value)
    shape = chw(population.shape)
    most_axons = _axons_of_neurons(resources, population)
    worst = np.argsort(most_axons, axis=None)[::-1][:64]
    for flat in worst.tolist():
        c, y, x = (int(i) for i in np.unravel_index(flat, shape))
        block = Block(
            population=population.name, channels=(c, c + 1), rows=(y, y + 1), columns=(x, x + 1),
            core=UNPLACED,
        )  # fmt: skip
        for what, need, limit in (
            ("input axons", resources.input_axons([block]), limits.input_axons.value),
            (
                "bits of synapse memory",
                resources.synapse_bits([block]),
                limits.synapse_memory_bits.value,
            ),
        ):
            if need > limit:
                return _too_much(resources, population, what, need, limit)
    return None


def check_formats(resources: Resources) -> None:
    """Raise if the synapses into one population have more formats than a core can hold."""
    limit = resources.chip.limits.synapse_configurations
    if limit is None:
        return
    for population in resources.placed:
        need = len({f for w in resources.into(population.name) for f in w.formats})
        if need > limit.value:
            raise _too_much(resources, population, "synapse configurations", need, limit.value)


def _axons_of_neurons(resources: Resources, population: Population) -> NDArray[np.int64]:
    """Source units of each neuron, times signs (an upper bound, where sources coincide)."""
    total = np.zeros(chw(population.shape), np.int64)
    for wire in resources.into(population.name):
        form = wire.form
        source = resources.network[wire.projection.source]
        if isinstance(form, DenseForm):
            each = np.count_nonzero(form.weight, axis=1)
            if wire.axons == "pixel":
                some = (form.weight != 0).reshape(len(each), source.shape[0], -1).any(axis=1)
                each = np.count_nonzero(some, axis=1)
            total += each.reshape(total.shape) * wire.n_signs
            continue
        mask: NDArray[np.int8] = np.not_equal(form.weight, 0).astype(np.int8)
        groups, shape = form.groups, form.source
        if wire.axons == "pixel":
            # one channel of all ones stands for a pixel
            mask = np.asarray(mask.any(axis=1, keepdims=True), np.int8)
            groups, shape = 1, (1, *form.source[1:])
        flat = WindowForm(
            mask, form.stride, form.padding, form.dilation, groups, shape, form.target
        )
        ones = np.ones((1, *shape), np.int8)
        total += apply(flat, ones, 1).astype(np.int64).reshape(total.shape) * wire.n_signs
    return total


class FanOutError(CapacityError):
    """A neuron of a population needs more output axons than a core has.

    Attributes
    ----------
    population
        Which one.
    grids
        Cuts of its targets, by name.
    """

    population: str
    grids: dict[str, Grid]


def fan_out_excess(
    resources: Resources, population: str, need: int, grids: MappingType[str, Grid]
) -> FanOutError:
    """Error for a neuron that needs so many output axons, its targets being cut so."""
    limit = resources.chip.limits.output_axons.value
    error = FanOutError(
        resources.network[population].subject,
        f"one neuron needs {need:,} output axons, a core of chip '{resources.chip.name}' has "
        f"{limit:,}",
        remedy="use a chip with larger cores, or fewer neurons after it; in Python, "
        "pmsm_hw.mapping.split_fan_out(network, chip) splits its fan-out",
        actual=need,
        limit=limit,
    )
    targets = {w.projection.target for w in resources.out_of(population)}
    error.population = population
    error.grids = {name: grid for name, grid in grids.items() if name in targets}
    return error


def _too_much(
    resources: Resources, population: Population, what: str, need: int, limit: int
) -> CapacityError:
    split = "in Python, pmsm_hw.mapping.split_fan_in(network, chip) splits its fan-in"
    remedies = {
        "input axons": f"use a chip with larger cores, or fewer inputs; {split}",
        "bits of synapse memory": f"use a chip with larger cores, or fewer weight bits; {split}",
    }
    return CapacityError(
        population.subject,
        f"one neuron needs {need:,} {what}, a core of chip '{resources.chip.name}' has {limit:,}",
        remedy=remedies.get(what, "use a chip with larger cores"),
        actual=need,
        limit=limit,
    )
