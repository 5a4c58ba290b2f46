"""Which blocks share a core: greedy first fit, in topological order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pmsm_hw.network import PolarityMultiSpike

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Block
    from pmsm_hw.mapping.resources import Resources

__all__ = ["pack"]

_OPEN_CORES = 64
"""How many cores that still have room are looked at for each block."""


@dataclass
class _Core:
    blocks: list[Block]
    need: tuple[int, int, int, int]
    populations: set[str]
    thresholds: set[int]
    formats: set[tuple[int, int, int]]


def pack(
    resources: Resources, blocks: dict[str, list[Block]], *, share: bool = True
) -> list[list[Block]]:
    """Put blocks onto cores.

    Parameters
    ----------
    resources
        Of network and chip.
    blocks
        By population, in topological order; each fits a core by itself.
    share
        Whether blocks may share a core.

    Returns
    -------
    list of lists
        Blocks of each core, cores in the order of their first block.
    """
    if not share:
        return [[block] for found in blocks.values() for block in found]
    limits = resources.chip.limits
    capacity = (
        limits.neurons.value,
        limits.input_axons.value,
        limits.output_axons.value,
        limits.synapse_memory_bits.value,
    )
    entries = {
        name: resources.output_entries(name, ([b] for bs in blocks.values() for b in bs))
        for name in blocks
    }
    cores: list[_Core] = []
    open_cores: list[_Core] = []
    for name, found in blocks.items():
        wires = resources.into(name)
        formats = {f for w in wires for f in w.formats}
        for block in found:
            need = (
                block.n_neurons,
                resources.input_axons([block]),
                int(entries[name][block.slices()].sum()),
                resources.synapse_bits([block]),
            )
            new = _Core([block], need, {name}, _thresholds(resources, block), formats)
            if max(n / c for n, c in zip(need, capacity, strict=True)) > 0.75:
                cores.append(new)
                continue
            for core in reversed(open_cores):
                if _fits(resources, core, new, capacity):
                    _join(core, new)
                    break
            else:
                cores.append(new)
                open_cores.append(new)
                if len(open_cores) > _OPEN_CORES:
                    fullest = max(
                        open_cores,
                        key=lambda c: max(n / m for n, m in zip(c.need, capacity, strict=True)),
                    )
                    open_cores.remove(fullest)
    return [core.blocks for core in cores]


def _thresholds(resources: Resources, block: Block) -> set[int]:
    from pmsm_hw.mapping.resources import theta_of

    if resources.chip.limits.threshold_configurations is None:
        return set()
    population = resources.network[block.population]
    if not isinstance(population, PolarityMultiSpike):
        return set()
    return set(np.unique(theta_of(population, block)).tolist())


def _fits(resources: Resources, core: _Core, new: _Core, capacity: Iterable[int]) -> bool:
    limits = resources.chip.limits
    configurations = (
        (limits.threshold_configurations, core.thresholds | new.thresholds),
        (limits.neuron_configurations, core.populations | new.populations),
        (limits.synapse_configurations, core.formats | new.formats),
    )
    return all(a + b <= c for a, b, c in zip(core.need, new.need, capacity, strict=True)) and all(
        limit is None or len(values) <= limit.value for limit, values in configurations
    )


def _join(core: _Core, new: _Core) -> None:
    core.blocks.extend(new.blocks)
    a, b, c, d = (m + n for m, n in zip(core.need, new.need, strict=True))
    core.need = (a, b, c, d)
    core.populations |= new.populations
    core.thresholds |= new.thresholds
    core.formats = core.formats | new.formats
