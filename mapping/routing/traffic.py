"""Messages between cores: who sends how much to whom."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.errors import MappingError
from pmsm_hw.mapping.blocks import Range
from pmsm_hw.mapping.resources.windows import group_channels, hits, source_range, union
from pmsm_hw.network import Input
from pmsm_hw.operators import WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.mapping.resources import Resources, Wire
    from pmsm_hw.mapping.resources.windows import Box
    from pmsm_hw.network import Network

__all__ = ["IO", "Traffic", "core_traffic", "measured_traffic", "pairs_of", "rates_of"]

IO = -1
"""Source index of messages that enter through the I/O port."""

_AT_ONCE = 500_000
"""How many sums wait to be sorted: fewer take longer, more take memory."""


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
        first, inverse = pairs_of(target, source * n_depths + self.depth)
        target, source, depth = target[first], source[first], self.depth[first]
        messages = np.bincount(inverse, self.messages, minlength=len(first))
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


def pairs_of(
    major: NDArray[np.int64], minor: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct pairs of two numbers, ascending.

    As of `np.unique`, but much faster for small numbers, which numpy sorts by their digits.

    Parameters
    ----------
    major, minor
        ``(n,)`` int64, at least 0.

    Returns
    -------
    first, inverse
        Of each distinct pair, where it stands first; ``(n,)`` int64, which of them each pair is.
    """

    def small(values: NDArray[np.int64]) -> NDArray[np.int64] | NDArray[np.uint16]:
        return values.astype(np.uint16) if values.max(initial=0) < 2**16 else values

    a, b = small(major), small(minor)
    order = np.argsort(b, kind="stable")
    order = order[np.argsort(a[order], kind="stable")]
    a, b = a[order], b[order]
    new = np.ones(len(order), bool)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.cumsum(new) - 1
    return order[new], inverse


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
    if traffic is not None and not isinstance(traffic, MappingType):
        raise MappingError(
            "traffic",
            f"{traffic!r:.80} is a {type(traffic).__name__}, numbers by population are needed",
            remedy="give a dictionary, as measured_traffic does",
            actual=type(traffic).__name__,
            limit="dict",
        )
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
        given = (traffic or {}).get(p.name, 1.0)
        try:
            value = np.asarray(given)
            if value.dtype.kind not in "iuf":
                raise TypeError(f"{value.dtype} are not real numbers")
            value = value.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise MappingError(
                "traffic",
                f"of {p.subject} is {given!r:.80} ({str(error)[:80]})",
                remedy="give one number, or one per neuron",
                actual=type(given).__name__,
                limit="numbers",
            ) from error
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
    homes = _Homes(resources, cores)
    n_groups = -(-len(cores) // group)
    n_depths = network.depth + 1
    deliveries = inter_core = inputs = 0.0
    known: dict[tuple[object, ...], _Sent] = {}
    summed = _Sums(n_groups, n_depths)

    def sent_to(name: str, found: list[tuple[Wire, Block]]) -> _Sent:
        depth = network.depths[name]
        is_input = isinstance(network[name], Input)
        rate = rates[name]
        if not is_input and rate.strides == (0, 0, 0):
            split = homes.split_alike(found, float(rate.flat[0]))
            if split is not None:
                home, amounts = split
                return _Sent(
                    home, amounts, home // group * n_depths + depth, amounts, float(amounts.sum())
                )
        boxes = [resources.reached(wire, block) for wire, block in found]
        box = boxes[0] if len(boxes) == 1 else union(boxes)
        if is_input:
            at = (slice(*box.channels), slice(*box.rows), slice(*box.columns))
            amounts = np.array([(rate[at] * box.mask).sum()])
            home, keys = np.array([IO]), np.array([n_groups * n_depths + depth])
        else:
            home, amounts = homes.split(name, box, rate)
            keys = home // group * n_depths + depth
        return _Sent(home, amounts, keys, amounts, float(amounts.sum()))

    for index, blocks in enumerate(cores):
        reaching: dict[str, list[tuple[Wire, Block]]] = {}
        for block in blocks:
            for wire in resources.into(block.population):
                reaching.setdefault(wire.projection.source, []).append((wire, block))
        own = {block.population for block in blocks}
        for name, found in reaching.items():
            key = resources.reach_key(*found[0]) if len(found) == 1 else None
            sent = known.get(key) if key is not None else None
            if sent is None:
                sent = sent_to(name, found)
                if key is not None:  # others will hear the same
                    if group > 1:
                        keys, inverse = np.unique(sent.keys, return_inverse=True)
                        sums = np.bincount(inverse.reshape(-1), sent.amounts)
                        sent = sent._replace(keys=keys, sums=sums.astype(np.float64))
                    known[key] = sent
            if isinstance(network[name], Input):
                inputs += sent.total
            else:
                deliveries += sent.total
                inter_core += sent.total
                if name in own:
                    inter_core -= float(sent.amounts[sent.home == index].sum())
            summed.add(index // group, sent.keys, sent.sums)
    source, target, depth, messages = summed.result()
    return Traffic(
        source=source,
        target=target,
        depth=depth,
        messages=messages,
        group=group,
        deliveries=deliveries,
        inter_core=inter_core,
        inputs=inputs,
    )


class _Sent(NamedTuple):
    """Messages to a core: by the core that sends, by its group and depth, and all of them."""

    home: NDArray[np.int64]
    amounts: NDArray[np.float64]
    keys: NDArray[np.int64]
    sums: NDArray[np.float64]
    total: float


class _Sums:
    """Adds up messages by who sends, depth and target, a part of the targets at a time."""

    def __init__(self, n_groups: int, n_depths: int) -> None:
        self.n_groups, self.n_depths = n_groups, n_depths
        self.keys: list[NDArray[np.int64]] = []
        self.amounts: list[NDArray[np.float64]] = []
        self.targets: list[int] = []
        self.ends: list[int] = []
        self.parts: list[tuple[NDArray[Any], ...]] = []

    def add(self, target: int, keys: NDArray[np.int64], amounts: NDArray[np.float64]) -> None:
        """Targets ascend."""
        waiting = self.ends[-1] if self.ends else 0
        if self.targets and target == self.targets[-1]:
            self.ends[-1] += len(keys)
        else:
            if waiting > _AT_ONCE:
                self.sum_up()
                waiting = 0
            self.targets.append(target)
            self.ends.append(waiting + len(keys))
        self.keys.append(keys)
        self.amounts.append(amounts)

    def sum_up(self) -> None:
        """Messages of all targets so far, so that their parts are given back."""
        if self.keys:
            keys = np.concatenate(self.keys)
            group = np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0))
            first, inverse = pairs_of(group, keys)
            total = np.bincount(inverse, np.concatenate(self.amounts), minlength=len(first))
            first, total = first[total > 0], total[total > 0].astype(np.float64)
            self.parts.append((np.array(self.targets)[group[first]], keys[first], total))
        self.keys, self.amounts, self.targets, self.ends = [], [], [], []

    def result(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Source, target, depth and messages."""
        self.sum_up()
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        target, keys, amounts = (
            np.concatenate(p) for p in zip(*(self.parts or [empty]), strict=True)
        )
        sender, depth = np.divmod(keys, self.n_depths)
        return np.where(sender == self.n_groups, IO, sender), target, depth, amounts


class _Overlap(NamedTuple):
    """Parts of an axis that a span overlaps: which, where they begin in it, and how much of it."""

    at: slice
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]


class _Homes:
    """Looks up which cores hold the neurons of a box."""

    def __init__(self, resources: Resources, cores: Sequence[Sequence[Block]]) -> None:
        self.resources = resources
        self.grids: dict[str, tuple[NDArray[np.int64], ...]] = {}
        self._overlaps: dict[tuple[int, int, int], _Overlap] = {}
        self._meets: dict[tuple[str, int, Range], tuple[slice, NDArray[np.float64]]] = {}
        found: dict[str, list[tuple[Block, int]]] = {}
        known: dict[bytes, NDArray[np.int64]] = {}
        for index, blocks in enumerate(cores):
            for block in blocks:
                found.setdefault(block.population, []).append((block, index))
        for name, items in found.items():
            # edges of the grid that the blocks form (or, for uneven cuts, of its refinement)
            spans = np.array([(b.channels, b.rows, b.columns) for b, _ in items], np.int64)
            edges = [np.unique(spans[:, axis]) for axis in range(3)]
            edges = [known.setdefault(edge.tobytes(), edge) for edge in edges]  # share overlaps
            at = [e.searchsorted(spans[:, axis]) for axis, e in enumerate(edges)]
            home = np.full(tuple(len(e) - 1 for e in edges), -2, np.int64)
            for (_, index), *ranges in zip(items, *(a.tolist() for a in at), strict=True):
                home[tuple(slice(*span) for span in ranges)] = index
            self.grids[name] = (*edges, home)

    def _overlap(self, name: str, axis: int, span: Range) -> _Overlap:
        """Parts of an axis of a population that a span overlaps."""
        edge = self.grids[name][axis]
        key = (id(edge), *span)
        if key not in self._overlaps:
            first = int(edge.searchsorted(span[0], side="right")) - 1
            last = int(edge.searchsorted(span[1], side="left"))
            starts = np.maximum(edge[first:last], span[0])
            sizes = np.minimum(edge[first + 1 : last + 1], span[1]) - starts
            self._overlaps[key] = _Overlap(slice(first, last), starts - span[0], sizes)
        return self._overlaps[key]

    def split_alike(
        self, found: Sequence[tuple[Wire, Block]], rate: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """As `split`, of what wires from one source bring blocks, its neurons having the same rate.

        ``None``: which neurons reach a block is no product of channels, rows and columns, or some
        reach two of them.
        """
        if not all(
            isinstance(w.form, WindowForm) and self.resources.has_all(w, b.channels)
            for w, b in found
        ):
            return None
        if len(found) > 1 and not (rate.is_integer() and self.resources.apart(found)):
            return None  # sums of whole numbers are the same in any order
        homes, sent = [], []
        for wire, block in found:
            name = wire.projection.source
            span = group_channels(wire.form, block.channels)  # type: ignore[arg-type]
            channels = self._overlap(name, 0, span)
            rows, y = self._met(wire, 0, block.rows)
            columns, x = self._met(wire, 1, block.columns)
            amounts = (rate * channels.sizes)[:, None, None] * (y[:, None] * x)
            homes.append(self.grids[name][3][channels.at, rows, columns].reshape(-1))
            sent.append(amounts.reshape(-1))
        if len(found) == 1:
            return homes[0], sent[0]
        return np.concatenate(homes), np.concatenate(sent)

    def _met(self, wire: Wire, axis: int, part: Range) -> tuple[slice, NDArray[np.float64]]:
        """Parts of the source that some rows or columns meet, and how many of theirs do."""
        key = (wire.projection.name, axis, part)
        if key not in self._meets:
            span = source_range(wire.form, axis, part)  # type: ignore[arg-type]
            found = self._overlap(wire.projection.source, 1 + axis, span)
            meets = hits(wire.windows[axis], part)
            self._meets[key] = (found.at, np.add.reduceat(meets.astype(np.float64), found.starts))
        return self._meets[key]

    def split(
        self, name: str, box: Box, rate: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Sum what the neurons of a mask send by the core that sends it."""
        bounds = (box.channels, box.rows, box.columns)
        found = [self._overlap(name, axis, span) for axis, span in enumerate(bounds)]
        if rate.strides == (0, 0, 0) and box.mask.strides[0] == 0:  # all channels alike
            pixels = _reduced(rate.flat[0] * box.mask[0], [part.starts for part in found[1:]])
            sent = found[0].sizes[:, None, None] * pixels
        else:
            sent = _reduced(
                rate[tuple(slice(*b) for b in bounds)] * box.mask, [part.starts for part in found]
            )
        home = self.grids[name][3][tuple(part.at for part in found)]
        return home.reshape(-1), sent.reshape(-1)


def _reduced(
    values: NDArray[np.float64], starts: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Sums over the cells that begin at some places along each axis."""
    for axis, places in enumerate(starts):
        if len(places) < values.shape[axis]:
            values = np.add.reduceat(values, places, axis=axis)
    return values


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
    from pmsm_hw.mapping.arguments import check_network_and_chip
    from pmsm_hw.mapping.resources import spike_mode

    check_network_and_chip(network, chip)
    units = reference.units_of(network, x, n_steps)
    traffic = {}
    for activity in reference.simulate(network, units, n_steps):
        population = network[activity.name]
        sent = np.abs(activity.spikes)
        if spike_mode(population, chip) == "graded":
            sent = np.minimum(sent, 1)
        traffic[activity.name] = sent.sum(axis=1).mean(axis=0).reshape(-1).astype(np.float64)
    return traffic
