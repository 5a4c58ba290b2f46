"""Splitting a fan-in that no core can take, through relay populations that change no spike.

A population whose neurons have more inputs than a core has axons, or memory, gets *relays*: each
adds up a part of the inputs and sends the sum on, unchanged. A relay is a polarity multi-spike
population with ``theta = 1``, ``v_init = 0`` and levels that hold every reachable sum, so that
``k = u`` and no state is left; its spikes reach the target with weight 1 and the projection's
exponent. Topological order within a step does the rest: target, spikes and logits stay the same,
the network gets deeper.

Where copies of the weights for each part would be large, a second kind of relay stands before the
sums: *slices*, which copy some channels of the source (``theta = 1``, one spike in, one spike out),
so that each part holds only its own weights.

Of a delayed projection either the part before a relay or the one behind it has the delay, whichever
leaves room for the step that a relay takes. A loop whose delay leaves none, and a projection that
shifts its sum to the right (``weight_exponent`` below 0: sums of parts would be rounded apart)
cannot be split.

On chips with unit spikes a sum of ``k`` is ``|k|`` messages: exact, and slow.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError, NetworkError
from pmsm_hw.mapping.arguments import check_network_and_chip
from pmsm_hw.mapping.partition.excess import single_neuron_excess
from pmsm_hw.mapping.resources import Resources, list_bits
from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
)
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Chip

__all__ = ["SplitFanIn", "split_fan_in"]

LARGEST_SPIKE = (1 << 15) - 1
"""Largest level that the contract allows."""
_MOST_UNITS = 4096
"""Units that inputs are cut into, at most: sources of more have groups of inputs as units."""
_COPIES = 1 << 26
"""Weights that may be stored for zero-padded parts before slices are used."""


@dataclass(frozen=True, kw_only=True)
class SplitFanIn:
    """The pass: a network goes in, one that fits as far as fan-in goes comes out.

    Parameters
    ----------
    chip
        Whose cores to fit.
    """

    chip: Chip

    def __call__(self, network: Network) -> Network:
        """Split every fan-in that no core can take.

        Parameters
        ----------
        network
            Any.

        Returns
        -------
        Network
            The same one, if nothing had to be split; else one with the same populations, and relays
            named ``TARGET.sumN`` and ``TARGET.sliceN``.

        Raises
        ------
        CapacityError
            If a population cannot be split so that it fits.
        MappingError
            If the chip cannot express the network.
        """
        resources = Resources(network, self.chip)
        found = {
            population.name: excess
            for population in resources.placed
            if (excess := single_neuron_excess(resources, population)) is not None
        }
        if not found:
            return network
        split = self._with_relays(resources, found)
        resources = Resources(split, self.chip)
        for population in resources.placed:
            excess = single_neuron_excess(resources, population)
            if excess is not None:
                raise _last(excess)
        return split

    def _with_relays(self, resources: Resources, found: MappingType[str, CapacityError]) -> Network:
        """Put relays before populations that do not fit; delays before them, or behind."""
        network = resources.network
        problem: NetworkError | None = None
        for behind in (False, True):
            populations: list[Population] = []
            projections = list(network.projections)
            for population in network.populations:
                populations.append(population)
                if population.name not in found:
                    continue
                excess = _last(found[population.name])
                for old, relays, new in self._split(resources, population, excess, behind):
                    at = projections.index(old)
                    projections[at : at + 1] = new
                    populations += relays
            try:
                return replace(
                    network, populations=tuple(populations), projections=tuple(projections)
                )
            except NetworkError as error:  # a loop with too little delay for one more step
                problem = error
        excess = next(iter(found.values()))
        assert problem is not None
        raise CapacityError(
            excess.subject,
            f"{excess.problem}; with relays, {problem.subject}: {problem.problem}",
            remedy="use a chip with larger cores, or longer delays around the loop",
            actual=excess.actual,
            limit=excess.limit,
        ) from problem

    def _split(
        self, resources: Resources, target: Population, excess: CapacityError, behind: bool
    ) -> list[tuple[Projection, list[Population], list[Projection]]]:
        """Split the largest projections into a population, until it fits."""
        network = resources.network
        into = [
            q
            for q in network.into(target.name)
            if isinstance(q, Dense) or (isinstance(q, Conv1d | Conv2d) and q.groups == 1)
        ]
        if not into:
            raise excess
        largest = max(_fan_in(q) for q in into)
        # all of at least half the largest one's size: smaller ones do not help
        chosen = [q for q in into if 2 * _fan_in(q) >= largest and _fan_in(q) > 1]
        if not chosen:
            raise excess
        n_before = 0
        result: list[tuple[Projection, list[Population], list[Projection]]] = []
        for q in chosen:
            if q.weight_exponent < 0:
                raise CapacityError(
                    target.subject,
                    f"{excess.problem}; projection '{q.name}' shifts its sum by "
                    f"{q.weight_exponent}, which its parts cannot do apart",
                    remedy="use a chip with larger cores, fewer inputs, or a weight_exponent from "
                    "0",
                    actual=excess.actual,
                    limit=excess.limit,
                )
            relays, projections = self._parts(resources, target, q, n_before, behind)
            n_before += len(relays)
            result.append((q, relays, projections))
        return result

    def _parts(
        self, resources: Resources, target: Population, q: Projection, n_before: int, behind: bool
    ) -> tuple[list[Population], list[Projection]]:
        network = resources.network
        source = network[q.source]
        wire = resources.wires[q.name]
        limits = self.chip.limits
        signs = max(wire.n_signs, 1)
        smallest_list = max(
            sum(int(list_bits(self.chip, 1, w + wire.delay_bits)) for w in wire.widths), 1
        )
        most = limits.synapse_memory_bits.value // smallest_list
        if wire.axons == "neuron":
            most = min(most, limits.input_axons.value // signs)
        bound = network.bounds[source.name]
        payload = max(abs(bound.payload_min), abs(bound.payload_max), 1)
        units = _units(q, source)
        axons = limits.input_axons.value // signs
        by_pixels = len(source.shape) > 1 and isinstance(q, Dense)
        if by_pixels and (
            int(units.sizes.max()) > most
            or int(units.magnitude.max()) * payload > LARGEST_SPIKE
            or (wire.axons == "pixel" and wire.n_live_units > axons)
        ):  # channels are too large, or share the axons of too many pixels
            units = _pixel_units(q, source, axons if wire.axons == "pixel" else None)
        ranges = _ranges(target, q, units, payload, most)
        sliced = len(ranges) * q.weight.size > _COPIES
        relays: list[Population] = []
        projections: list[Projection] = []
        for i, (a, b) in enumerate(ranges, start=n_before):
            before, delay = source.name, 0 if behind else q.delay
            synapses: dict[str, Any] = {"weight": _masked(q, units, a, b)}
            if sliced:
                name = f"{target.name}.slice{i}"
                copy, select = _slice(network, source, q, name, units, a, b, delay)
                relays.append(copy)
                projections.append(select)
                before, delay = copy.name, 0
                synapses = {"weight": _part(q, q.weight, units, a, b)}
                if q.delays is not None:
                    synapses["delays"] = _part(q, q.delays, units, a, b)
            low, high = _reach(q, bound.payload_min, bound.payload_max, units, a, b)
            name = f"{target.name}.sum{i}"
            relays.append(
                PolarityMultiSpike(
                    name=name,
                    shape=target.shape,
                    theta=np.ones((), np.int64),
                    v_init=np.zeros((), np.int64),
                    levels=(max(-low, 0), max(high, 1)),
                )
            )
            projections.append(
                replace(
                    q, source=before, target=name, **synapses, weight_exponent=0, delay=delay,
                    name=f"{q.name}.part{i}",
                )
            )  # fmt: skip
            projections.append(
                Identity(
                    source=name, target=target.name, weight_exponent=q.weight_exponent,
                    delay=q.delay if behind else 0, name=f"{q.name}.sum{i}",
                )
            )  # fmt: skip
        return relays, projections


def split_fan_in(network: Network, chip: Chip) -> Network:
    """Split every fan-in that no core of a chip can take (`SplitFanIn`).

    Parameters
    ----------
    network
        What is to be placed.
    chip
        What it is to be placed on.
    """
    check_network_and_chip(network, chip)
    return SplitFanIn(chip=chip)(network)


def _last(excess: CapacityError) -> CapacityError:
    """The same error where a split does not help: its remedy must not be to split."""
    return CapacityError(
        excess.subject,
        excess.problem,
        remedy="splitting its fan-in does not help: use a chip with larger cores, or fewer inputs",
        actual=excess.actual,
        limit=excess.limit,
    )


def _fan_in(q: Projection) -> int:
    return int(q.weight[0].size)


@dataclass(frozen=True, kw_only=True)
class _Units:
    """Inputs of a projection that are not split: channels, pixels or neurons of its source.

    Parameters
    ----------
    what
        What a unit is.
    sizes
        ``(n,)`` int64, inputs that a target neuron has of each.
    magnitude
        ``(n, channels or neurons of the target)`` int64, absolute weights summed.
    columns
        ``(n inputs,)`` int64: of a dense projection, its columns unit by unit; of others ``None``.
    at_most
        So many units share a part; ``None``: no limit.
    """

    what: str
    sizes: NDArray[np.int64]
    magnitude: NDArray[np.int64]
    columns: NDArray[np.int64] | None
    at_most: int | None = None

    def columns_of(self, a: int, b: int) -> NDArray[np.int64]:
        """Columns of units a to b of a dense projection, ascending."""
        assert self.columns is not None
        edges = np.concatenate([[0], np.cumsum(self.sizes)])
        return np.sort(self.columns[int(edges[a]) : int(edges[b])])


def _units(q: Projection, source: Population) -> _Units:
    """Channels of a source with rows, neurons of a flat one (4,096 groups of them at most)."""
    weight = q.weight.reshape(len(q.weight), -1)
    n = weight.shape[1]
    if not isinstance(q, Dense):
        edges = np.arange(q.weight.shape[1] + 1) * (n // q.weight.shape[1])
        return _Units(
            what="channel", sizes=np.diff(edges), magnitude=_summed(weight, edges), columns=None
        )
    flat = len(source.shape) == 1
    n_units = min(n, _MOST_UNITS) if flat else source.shape[0]
    edges = np.arange(n_units + 1) * n // n_units
    return _Units(
        what="input" if flat else "channel",
        sizes=np.diff(edges),
        magnitude=_summed(weight, edges),
        columns=np.arange(n),
    )


def _pixel_units(q: Projection, source: Population, axons: int | None) -> _Units:
    """Pixels of a source with rows, all channels of each (4,096 groups of them at most)."""
    c, h, w = chw(source.shape)
    columns = np.arange(c * h * w).reshape(c, h * w).T.reshape(-1)
    n_units = min(h * w, _MOST_UNITS)
    pixels = np.arange(n_units + 1) * (h * w) // n_units
    return _Units(
        what="pixel",
        sizes=np.diff(pixels) * c,
        magnitude=_summed(q.weight[:, columns], pixels * c),
        columns=columns,
        at_most=None if axons is None else max(axons // int(np.diff(pixels).max()), 1),
    )


def _summed(weight: NDArray[np.int8], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Absolute weights of each row between edges, ``(edges - 1, rows)`` int64."""
    sums = np.empty((len(edges) - 1, len(weight)), np.int64)
    for first in range(0, len(weight), 256):
        rows = np.abs(weight[first : first + 256].astype(np.int16))
        sums[:, first : first + 256] = np.add.reduceat(rows, edges[:-1], axis=1, dtype=np.int64).T
    return sums


def _ranges(
    target: Population, q: Projection, units: _Units, payload: int, most: int
) -> list[tuple[int, int]]:
    """Ranges of units whose sums fit a spike and whose inputs fit a core."""
    ranges, first = [], 0
    sizes, magnitude = units.sizes, units.magnitude * payload
    total, count = np.zeros(magnitude.shape[1], np.int64), 0
    for u in range(len(sizes)):
        if int(magnitude[u].max()) > LARGEST_SPIKE or int(sizes[u]) > most:
            raise CapacityError(
                target.subject,
                f"projection '{q.name}' adds up to {int(magnitude[u].max()):,} over "
                f"{int(sizes[u]):,} inputs of one {units.what}, a relay sends {LARGEST_SPIKE:,} at "
                f"most and takes {most:,}",
                remedy="use fewer spike levels, or smaller kernels",
                actual=max(int(magnitude[u].max()), int(sizes[u])),
                limit=min(LARGEST_SPIKE, most),
            )
        if u > first and (
            int((total + magnitude[u]).max()) > LARGEST_SPIKE
            or count + int(sizes[u]) > most
            or u - first == units.at_most
        ):
            ranges.append((first, u))
            first, count = u, 0
            total = np.zeros_like(total)
        total = total + magnitude[u]
        count += int(sizes[u])
    return [*ranges, (first, len(sizes))]


def _part(q: Projection, values: NDArray[Any], units: _Units, a: int, b: int) -> NDArray[Any]:
    """Weights, or delays, of some units alone."""
    if isinstance(q, Dense):
        return values[:, units.columns_of(a, b)]
    return values[:, a:b]


def _masked(q: Projection, units: _Units, a: int, b: int) -> NDArray[np.int8]:
    """Weights of some units, zero elsewhere."""
    weight = np.zeros_like(q.weight)
    some = units.columns_of(a, b) if isinstance(q, Dense) else slice(a, b)
    weight[:, some] = q.weight[:, some]
    return weight


def _reach(
    q: Projection, payload_min: int, payload_max: int, units: _Units, a: int, b: int
) -> tuple[int, int]:
    """Smallest and largest sum that some units can reach."""
    weight = _part(q, q.weight, units, a, b).reshape(len(q.weight), -1)
    low, high = min(payload_min, 0), max(payload_max, 0)
    least, most = 0, 0
    for first in range(0, len(weight), 256):
        rows = weight[first : first + 256].astype(np.int64)
        positive, negative = np.maximum(rows, 0).sum(axis=1), np.minimum(rows, 0).sum(axis=1)
        least = min(least, int((positive * low + negative * high).min()))
        most = max(most, int((positive * high + negative * low).max()))
    return least, most


def _slice(
    network: Network,
    source: Population,
    q: Projection,
    name: str,
    units: _Units,
    a: int,
    b: int,
    delay: int,
) -> tuple[Population, Projection]:
    """A population that copies the payloads of some units of a source, and its input."""
    bound = network.bounds[source.name]
    c, _, _ = chw(source.shape)
    selects: Projection
    if units.what == "channel":  # a 1 x 1 convolution picks them
        eye = np.zeros((b - a, c) + (1,) * (len(source.shape) - 1), np.int8)
        eye[np.arange(b - a), np.arange(a, b)] = 1
        kind = Conv2d if len(source.shape) == 3 else Conv1d
        selects = kind(source=source.name, target=name, weight=eye, delay=delay)
        shape = (b - a, *source.shape[1:])
    else:
        columns = units.columns_of(a, b)
        n = len(columns)
        eye = np.zeros((n, source.n_neurons), np.int8)
        eye[np.arange(n), columns] = 1
        selects = Dense(source=source.name, target=name, weight=eye, delay=delay)
        shape = (n,)
    copy = PolarityMultiSpike(
        name=name,
        shape=shape,
        theta=np.ones((), np.int64),
        v_init=np.zeros((), np.int64),
        levels=(max(-bound.payload_min, 0), max(bound.payload_max, 1)),
    )
    return copy, selects
