"""Blocks of a core that belong together: what else may move to another core.

Populations of a core that hear the same source share axons and messages, and stay together: they
are a bundle. Between bundles nothing is shared, so that what cores need, output axons and messages
included, is the sum of what their bundles need, whichever cores these are on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import RESOURCES
from pmsm_hw.mapping.resources.usage import capacity, count_usage

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.mapping.resources import Resources
    from pmsm_hw.mapping.resources.neurons import ParameterSet

__all__ = ["Bundles", "bundles_of"]

_ENDLESS = 2**62


@dataclass(frozen=True, kw_only=True)
class Bundles:
    """Bundles, their cores, and what an exchange has to respect.

    Parameters
    ----------
    blocks
        Of each bundle.
    home
        ``(n,)`` int64, core of each.
    kind
        ``(n,)`` int64: bundles of a kind hold the same populations, and need the same of a core.
    need
        ``(n, 7)`` int64: `RESOURCES`, thresholds, populations and synapse formats.
    capacity
        ``(7,)`` int64, of a core.
    sources
        ``(n, words)`` uint64: bits of the populations that a bundle hears.
    populations
        ``(n,)`` int64: the same number for bundles of the same populations.
    """

    blocks: list[list[Block]]
    home: NDArray[np.int64]
    kind: NDArray[np.int64]
    need: NDArray[np.int64]
    capacity: NDArray[np.int64]
    sources: NDArray[np.uint64]
    populations: NDArray[np.int64]

    @property
    def usage(self) -> NDArray[np.int64]:
        """``(n, 4)``: what each takes of `RESOURCES`."""
        return self.need[:, : len(RESOURCES)]

    def cores(self, home: NDArray[np.int64], order: Sequence[str]) -> list[list[Block]]:
        """Blocks of each core with bundles at these homes, cores and populations in order.

        Parameters
        ----------
        home
            As ``self.home``.
        order
            Names of the populations.
        """
        rank = {name: i for i, name in enumerate(order)}
        found: list[list[Block]] = [[] for _ in range(int(home.max(initial=-1)) + 1)]
        for blocks, core in zip(self.blocks, home.tolist(), strict=True):
            found[core] += blocks
        return [sorted(blocks, key=lambda b: rank[b.population]) for blocks in found]


def bundles_of(resources: Resources, cores: Sequence[Sequence[Block]]) -> Bundles:
    """Take cores apart into bundles.

    Parameters
    ----------
    resources
        Of network and chip.
    cores
        Blocks of each core.
    """
    network, limits = resources.network, resources.chip.limits
    index = {p.name: i for i, p in enumerate(network)}
    hears: dict[str, int] = {
        p.name: sum({1 << index[w.projection.source] for w in resources.into(p.name)})
        for p in resources.placed
    }
    blocks: list[list[Block]] = []
    home: list[int] = []
    heard: list[int] = []
    for core, found in enumerate(cores):
        if len(found) == 1:
            blocks.append(list(found))
            home.append(core)
            heard.append(hears[found[0].population])
            continue
        parts: list[tuple[int, list[Block]]] = []
        for block in found:
            mask, mine = hears[block.population], [block]
            apart = []
            for other, others in parts:
                if other & mask or (others[0].population == block.population):
                    mask, mine = mask | other, others + mine
                else:
                    apart.append((other, others))
            parts = [*apart, (mask, mine)]
        order = {id(block): i for i, block in enumerate(found)}
        for mask, mine in sorted(parts, key=lambda part: min(order[id(b)] for b in part[1])):
            blocks.append(sorted(mine, key=lambda b: order[id(b)]))
            home.append(core)
            heard.append(mask)
    thresholds = _thresholds(resources, blocks)
    populations = [tuple(dict.fromkeys(b.population for b in mine)) for mine in blocks]
    formats: dict[tuple[str, ...], int] = {}  # of a core that holds some populations
    for names, mine in zip(populations, blocks, strict=True):
        if names not in formats:
            formats[names] = resources.formats(mine)
    need = np.concatenate(
        [
            count_usage(resources, blocks),
            [
                (len(theta), len(names), formats[names])
                for theta, names in zip(thresholds, populations, strict=True)
            ],
        ],
        axis=1,
    )
    kinds: dict[object, int] = {}
    kind = [
        kinds.setdefault((names, theta, *row), len(kinds))
        for names, theta, row in zip(populations, thresholds, need.tolist(), strict=True)
    ]
    most = [
        _ENDLESS if limit is None else limit.value
        for limit in (
            limits.threshold_configurations,
            limits.neuron_configurations,
            limits.synapse_configurations,
        )
    ]
    words = -(-len(index) // 64)
    same: dict[tuple[str, ...], int] = {}
    return Bundles(
        blocks=blocks,
        home=np.array(home, np.int64),
        kind=np.array(kind, np.int64),
        need=need.astype(np.int64),
        capacity=np.array([*capacity(resources.chip), *most], np.int64),
        sources=_words(heard, words),
        populations=np.array(
            [same.setdefault(names, len(same)) for names in populations], np.int64
        ),
    )


def _words(masks: Sequence[int], words: int) -> NDArray[np.uint64]:
    packed = b"".join(mask.to_bytes(8 * words, "little") for mask in masks)
    return np.frombuffer(packed, "<u8").astype(np.uint64).reshape(-1, words)


def _thresholds(
    resources: Resources, bundles: Sequence[Sequence[Block]]
) -> list[frozenset[ParameterSet]]:
    """Distinct thresholds of each bundle; none where the chip does not limit them."""
    if resources.chip.limits.threshold_configurations is None:
        return [frozenset() for _ in bundles]
    return [frozenset(v for b in blocks for v in resources.thresholds_of(b)) for blocks in bundles]
