"""What cores hold of each resource, counted exactly, and what they can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import RESOURCES

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.mapping.resources.core import Resources

__all__ = ["capacity", "count_usage", "sums_in"]


def capacity(chip: Chip) -> tuple[int, ...]:
    """Limits of a core, in the order of `RESOURCES`."""
    return tuple(int(getattr(chip.limits, name).value) for name in RESOURCES)


def count_usage(resources: Resources, cores: Sequence[Sequence[Block]]) -> NDArray[np.int64]:
    """What each core holds, ``(n_cores, len(RESOURCES))`` int64, exactly."""
    holding: dict[str, list[Sequence[Block]]] = {}  # cores by population
    for blocks in cores:
        for name in dict.fromkeys(b.population for b in blocks):
            holding.setdefault(name, []).append(blocks)
    sent: dict[int, int] = {}  # by block
    for p in resources.placed:
        targets = dict.fromkeys(w.projection.target for w in resources.out_of(p.name))
        reached = {id(blocks): blocks for name in targets for blocks in holding.get(name, ())}
        entries = resources.output_entries(p.name, reached.values())
        mine = [b for blocks in holding.get(p.name, ()) for b in blocks if b.population == p.name]
        sent.update(zip(map(id, mine), sums_in(entries, mine).tolist(), strict=True))

    def axons_and_bits(blocks: Sequence[Block]) -> tuple[int, int]:
        each = [resources.needs_alone(b) for b in blocks]
        if len(blocks) > 1:
            sources = [w.projection.source for b in blocks for w in resources.into(b.population)]
            if len(set(sources)) < len(sources):  # two of them share axons
                return resources.input_axons(blocks), sum(bits for _, bits in each)
        return sum(axons for axons, _ in each), sum(bits for _, bits in each)

    usage = np.zeros((len(cores), len(RESOURCES)), np.int64)
    for i, blocks in enumerate(cores):
        axons, bits = axons_and_bits(blocks)
        neurons = sum(b.n_neurons * resources.compartments(b.population) for b in blocks)
        usage[i] = (neurons, axons, sum(sent[id(b)] for b in blocks), bits)
    return usage


def sums_in(values: NDArray[np.int64], blocks: Sequence[Block]) -> NDArray[np.int64]:
    """Sum of the values of each block's neurons, ``(n_blocks,)`` int64.

    Parameters
    ----------
    values
        ``(channels, rows, columns)``, of each neuron.
    blocks
        Of its population.
    """
    at = np.array([(b.channels, b.rows, b.columns) for b in blocks], np.int64).reshape(-1, 3, 2)
    alike = values.strides[0] == 0
    first = values[:1] if alike else values
    below = np.zeros(tuple(n + 1 for n in first.shape), np.int64)  # up to each corner
    inner = below[1:, 1:, 1:]
    np.cumsum(first, axis=0, out=inner)
    for axis in (1, 2):
        np.cumsum(inner, axis=axis, out=inner)
    n_channels = at[:, 0, 1] - at[:, 0, 0]
    if alike:
        at[:, 0] = (0, 1)
    total = np.zeros(len(at), np.int64)
    for c, y, x in np.ndindex(2, 2, 2):
        total += (-1) ** (c + y + x + 1) * below[at[:, 0, c], at[:, 1, y], at[:, 2, x]]
    return total * n_channels if alike else total
