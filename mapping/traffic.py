"""Messages between cores: who sends how much to whom."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.errors import MappingError
from pmsm_hw.mapping.resources import union
from pmsm_hw.network import Input
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Block
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.mapping.resources import Box, Resources, Wire
    from pmsm_hw.network import Network

__all__ = ["IO", "Traffic", "core_traffic", "measured_traffic", "rates_of"]

IO = -1
"""Source index of messages that enter through the I/O port."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Messages between cores, or between groups of cores that share a tile.

    A pair of groups has an entry for each depth of what sends.

    Parameters
    ----------
    source, target
        ``(n,)`` int64: indices of groups (`IO`: the I/O port).
    depth
        ``(n,)`` int64: depth of the populations that send.
    messages
        ``(n,)`` float64.
    group
        Cores of a group: core ``i`` is in group ``i // group``.
    deliveries, inter_core, inputs
        Messages to all cores from neurons, those of them that leave their core, and from inputs.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    depth: NDArray[np.int64]
    messages: NDArray[np.float64]
    group: int = 1
    deliveries: float = 0.0
    inter_core: float = 0.0
    inputs: float = 0.0

    def gathered(self, home: NDArray[np.int64]) -> Traffic:
        """The same messages between cores, where this is traffic between bundles of blocks.

        Parameters
        ----------
        home
            ``(n_bundles,)`` int64: core of each.
        """
        n_cores = int(home.max(initial=-1)) + 1
        n_depths = int(self.depth.max(initial=0)) + 1
        source = np.where(self.source == IO, n_cores, home[self.source])
        target = home[self.target]
        key = (target * (n_cores + 1) + source) * n_depths + self.depth
        unique, inverse = np.unique(key, return_inverse=True)
        pair, depth = unique // n_depths, unique % n_depths
        target, source = pair // (n_cores + 1), pair % (n_cores + 1)
        messages = np.bincount(inverse.reshape(-1), self.messages, minlength=len(unique))
        leave = (source != n_cores) & (source != target)
        return Traffic(
            source=np.where(source == n_cores, IO, source),
            target=target,
            depth=depth,
            messages=messages.astype(np.float64),
            deliveries=self.deliveries,
            inter_core=float(messages[leave].sum()),
            inputs=self.inputs,
        )


def rates_of(
    network: Network, traffic: MappingType[str, ArrayLike] | None
) -> dict[str, NDArray[np.float64]]:
    """Messages that each neuron sends, per population (inputs too), as ``operators.chw`` arrays.

    Parameters
    ----------
    network
        Whose populations.
    traffic
        By population, a number or one per neuron, in any unit that is the same for all; ``None``,
        or a population that is missing: one message per neuron.

    Raises
    ------
    MappingError
        If a name is unknown, a shape is wrong, or a value is negative or not finite.
    """
    known = {p.name for p in network}
    for name in traffic or {}:
        if name not in known:
            raise MappingError(
                "traffic",
                f"names population {name!r}, network '{network.name}' has "
                f"{', '.join(sorted(known))}",
                remedy="use its names",
                actual=name,
                limit=tuple(sorted(known)),
            )
    rates = {}
    for p in network:
        shape = chw(p.shape)
        value = np.asarray((traffic or {}).get(p.name, 1.0), np.float64)
        if value.ndim and value.size != p.n_neurons:
            raise MappingError(
                "traffic",
                f"of {p.subject} has {value.size:,} values, it has {p.n_neurons:,} neurons",
                remedy="give one number, or one per neuron",
                actual=value.size,
                limit=p.n_neurons,
            )
        if not np.isfinite(value).all() or (value < 0).any():
            raise MappingError(
                "traffic",
                f"of {p.subject} holds negative or infinite values, the limit is 0",
                remedy="give messages per neuron",
                actual=float(value.min()),
                limit=0,
            )
        rates[p.name] = np.broadcast_to(value.reshape(shape) if value.ndim else value, shape)
    return rates


def core_traffic(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    rates: MappingType[str, NDArray[np.float64]],
    *,
    group: int = 1,
) -> Traffic:
    """Count messages between cores: one per source neuron, message and target core.

    Parameters
    ----------
    resources
        Of network and chip.
    cores
        Blocks of each core.
    rates
        From `rates_of`.
    group
        Cores that will share a tile, and are counted as one.
    """
    network = resources.network
    homes = _Homes(cores)
    n_groups = -(-len(cores) // group)
    n_depths = network.depth + 1
    sources, targets, depths, messages = [], [], [], []
    deliveries = inter_core = inputs = 0.0
    known: dict[tuple[object, ...], tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for first in range(0, len(cores), group):
        keys: list[NDArray[np.int64]] = []  # of a group that sends (the port: the last) and depth
        sums: list[NDArray[np.float64]] = []
        for index in range(first, min(first + group, len(cores))):
            reaching: dict[str, list[tuple[Wire, Block]]] = {}
            for block in cores[index]:
                for wire in resources.into(block.population):
                    reaching.setdefault(wire.projection.source, []).append((wire, block))
            for name, found in reaching.items():
                is_input = isinstance(network[name], Input)
                key = resources.reach_key(*found[0]) if len(found) == 1 else None
                if key is not None and key in known:
                    home, amounts = known[key]
                else:
                    boxes = [resources.reached(wire, block) for wire, block in found]
                    box = boxes[0] if len(boxes) == 1 else union(boxes)
                    at = (slice(*box.channels), slice(*box.rows), slice(*box.columns))
                    sent = rates[name][at] * box.mask
                    if is_input:
                        home, amounts = np.array([IO]), np.array([sent.sum()])
                    else:
                        home, amounts = homes.split(name, box, sent)
                    if key is not None:
                        known[key] = (home, amounts)
                total = float(amounts.sum())
                if is_input:
                    inputs += total
                    keys.append(np.array([n_groups * n_depths + network.depths[name]]))
                else:
                    deliveries += total
                    inter_core += total - float(amounts[home == index].sum())
                    keys.append(home // group * n_depths + network.depths[name])
                sums.append(amounts)
        if not keys:
            continue
        unique, inverse = np.unique(np.concatenate(keys), return_inverse=True)
        amount = np.bincount(inverse.reshape(-1), np.concatenate(sums), minlength=len(unique))
        unique, amount = unique[amount > 0], amount[amount > 0]
        sender = unique // n_depths
        sources.append(np.where(sender == n_groups, IO, sender))
        depths.append(unique % n_depths)
        messages.append(amount)
        targets.append(np.full(len(unique), first // group, np.int64))
    empty = [np.zeros(0, np.int64)]
    return Traffic(
        source=np.concatenate(sources or empty),
        target=np.concatenate(targets or empty),
        depth=np.concatenate(depths or empty),
        messages=np.concatenate(messages or empty).astype(np.float64),
        group=group,
        deliveries=deliveries,
        inter_core=inter_core,
        inputs=inputs,
    )


class _Homes:
    """Looks up which cores hold the neurons of a box."""

    def __init__(self, cores: Sequence[Sequence[Block]]) -> None:
        self.grids: dict[str, tuple[NDArray[np.int64], ...]] = {}
        found: dict[str, list[tuple[Block, int]]] = {}
        for index, blocks in enumerate(cores):
            for block in blocks:
                found.setdefault(block.population, []).append((block, index))
        for name, items in found.items():
            # edges of the grid that the blocks form (or, for uneven cuts, of its refinement)
            edges = [
                np.unique([e for b, _ in items for e in getattr(b, axis)])
                for axis in ("channels", "rows", "columns")
            ]
            home = np.full(tuple(len(e) - 1 for e in edges), -2, np.int64)
            for block, index in items:
                at = tuple(
                    slice(*np.searchsorted(e, getattr(block, axis)))
                    for e, axis in zip(edges, ("channels", "rows", "columns"), strict=True)
                )
                home[at] = index
            self.grids[name] = (*edges, home)

    def split(
        self, name: str, box: Box, sent: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Sum what is sent from a box by the core that sends it."""
        *edges, home = self.grids[name]
        at = []
        for axis, (edge, bounds) in enumerate(
            zip(edges, (box.channels, box.rows, box.columns), strict=True)
        ):
            first = int(np.searchsorted(edge, bounds[0], side="right")) - 1
            last = int(np.searchsorted(edge, bounds[1], side="left"))
            at.append(slice(first, last))
            starts = np.maximum(edge[first:last], bounds[0]) - bounds[0]
            sent = np.add.reduceat(sent, starts, axis=axis)
        return home[tuple(at)].reshape(-1), sent.reshape(-1)


def measured_traffic(
    network: Network, x: ArrayLike | MappingType[str, ArrayLike], n_steps: int, chip: Chip
) -> dict[str, NDArray[np.float64]]:
    """Messages of each neuron per sample, from a run of the reference.

    Parameters
    ----------
    network
        What to run.
    x, n_steps
        Inputs and steps, as for `reference.run`.
    chip
        Says how spikes travel: one message per spike, or one per unit.

    Returns
    -------
    dict
        By population, ``(n_neurons,)`` float64: what `map_network` takes as ``traffic``.
    """
    from pmsm_hw import reference
    from pmsm_hw.mapping.resources import spike_mode

    units = reference.units_of(network, x, n_steps)
    traffic = {}
    for activity in reference.simulate(network, units, n_steps):
        population = network[activity.name]
        sent = np.abs(activity.spikes)
        if spike_mode(population, chip) == "graded":
            sent = np.minimum(sent, 1)
        traffic[activity.name] = sent.sum(axis=1).mean(axis=0).reshape(-1).astype(np.float64)
    return traffic
