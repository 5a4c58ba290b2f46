"""Blocks put onto a given number of cores, for speed: as many as share the work of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Mapping as MappingType
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.partition.packing import block_needs

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.mapping.resources import Resources

__all__ = ["Grouping"]

_ENDLESS = 2**62


class Grouping:
    """Puts the blocks of one cut onto any number of cores, no limit of which is exceeded.

    Parameters
    ----------
    resources
        Of network and chip.
    blocks
        By population, in topological order.
    work
        Time that a block keeps its core busy in a step, by population and neuron.
    """

    def __init__(
        self,
        resources: Resources,
        blocks: MappingType[str, Sequence[Block]],
        work: MappingType[str, float],
    ) -> None:
        network, limits = resources.network, resources.chip.limits
        self.blocks = list(chain.from_iterable(blocks.values()))
        entries: dict[str, NDArray[np.int64] | None] = {}
        for name in blocks:
            targets = dict.fromkeys(w.projection.target for w in resources.out_of(name))
            alone = [[block] for target in targets for block in blocks[target]]
            entries[name] = resources.output_entries(name, alone)
        self._needs = block_needs(resources, self.blocks, entries)
        self._capacity = np.array(
            [
                limits.neurons.value, limits.input_axons.value, limits.output_axons.value,
                limits.synapse_memory_bits.value,
            ]
        )  # fmt: skip
        self._held: list[tuple[frozenset[object], ...]] = [
            (
                frozenset(resources.thresholds_of(b) if limits.threshold_configurations else ()),
                frozenset([b.population]),
                frozenset(f for w in resources.into(b.population) for f in w.formats),
            )
            for b in self.blocks
        ]
        self._most = [
            _ENDLESS if limit is None else limit.value
            for limit in (
                limits.threshold_configurations,
                limits.neuron_configurations,
                limits.synapse_configurations,
            )
        ]
        self._depth = np.array([network.depths[b.population] for b in self.blocks])
        self._work = np.array([work[b.population] * b.n_neurons for b in self.blocks])

    def round_robin(self, n_cores: int) -> list[list[Block]] | None:
        """One block after the other onto the next core that has room; ``None``: none has."""
        cores = np.arange(n_cores)
        return self._put(n_cores, lambda i, _: (cores - i) % n_cores)

    def balanced(self, n_cores: int) -> list[list[Block]] | None:
        """Each block onto the core that has least to do in its wave, then in all waves."""
        return self._put(n_cores, lambda i, load: load[self._depth[i]] + 1e-3 * load.sum(axis=0))

    def _put(
        self, n_cores: int, rank: Callable[[int, NDArray[np.float64]], NDArray[Any]]
    ) -> list[list[Block]] | None:
        """Each block onto the first core with room, by rank."""
        used = np.zeros((n_cores, 4), np.int64)
        load = np.zeros((int(self._depth.max(initial=0)) + 1, n_cores))
        held: list[list[frozenset[object]]] = [[frozenset()] * 3 for _ in range(n_cores)]
        cores: list[list[Block]] = [[] for _ in range(n_cores)]
        for i, block in enumerate(self.blocks):
            fits = (used + self._needs[i] <= self._capacity).all(axis=1)
            for core in np.argsort(rank(i, load), kind="stable").tolist():
                if not fits[core]:
                    continue
                both = [a | b for a, b in zip(held[core], self._held[i], strict=True)]
                if all(len(some) <= n for some, n in zip(both, self._most, strict=True)):
                    held[core] = both
                    break
            else:
                return None
            used[core] += self._needs[i]
            load[self._depth[i], core] += self._work[i]
            cores[core].append(block)
        return [found for found in cores if found]
