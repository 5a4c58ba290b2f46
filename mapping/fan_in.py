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

On chips with unit spikes a sum of ``k`` is ``|k|`` messages: exact, and slow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError
from pmsm_hw.mapping.resources import Resources, list_bits
from pmsm_hw.mapping.tiling import single_neuron_excess
from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
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
        populations: list[Population] = []
        projections = list(network.projections)
        for population in network.populations:
            populations.append(population)
            if isinstance(population, Input):
                continue
            excess = single_neuron_excess(resources, population)
            if excess is None:
                continue
            parts = self._split(resources, population, excess)
            for old, relays, new in parts:
                at = projections.index(old)
                projections[at : at + 1] = new
                populations += relays
        if len(populations) == len(network.populations):
            return network
        split = replace(network, populations=tuple(populations), projections=tuple(projections))
        resources = Resources(split, self.chip)
        for population in resources.placed:
            excess = single_neuron_excess(resources, population)
            if excess is not None:
                raise excess
        return split

    def _split(
        self, resources: Resources, target: Population, excess: CapacityError
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
            relays, projections = self._parts(resources, target, q, n_before)
            n_before += len(relays)
            result.append((q, relays, projections))
        return result

    def _parts(
        self, resources: Resources, target: Population, q: Projection, n_before: int
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
        sizes, magnitude = _units(q, source)
        ranges = _ranges(target, q, sizes, magnitude * payload, most)
        sliced = len(ranges) * q.weight.size > _COPIES
        relays: list[Population] = []
        projections: list[Projection] = []
        for i, (a, b) in enumerate(ranges, start=n_before):
            before, weight = source.name, _masked(q, sizes, a, b)
            delay = q.delay
            if sliced:
                copy, select = _slice(network, source, q, f"{target.name}.slice{i}", sizes, a, b)
                relays.append(copy)
                projections.append(select)
                before, weight, delay = copy.name, _part(q, sizes, a, b), 0
            low, high = _reach(q, bound.payload_min, bound.payload_max, sizes, a, b)
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
                    q, source=before, target=name, weight=weight, weight_exponent=0, delay=delay,
                    name=f"{q.name}.part{i}",
                )
            )  # fmt: skip
            projections.append(
                Identity(
                    source=name, target=target.name, weight_exponent=q.weight_exponent,
                    name=f"{q.name}.sum{i}",
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
    return SplitFanIn(chip=chip)(network)


def _fan_in(q: Projection) -> int:
    return int(q.weight[0].size)


def _units(q: Projection, source: Population) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sizes of the units that are not split, and the largest absolute weight sum of each target.

    Returns
    -------
    sizes
        ``(n_units,)`` inputs of one target neuron.
    magnitude
        ``(n_units, channels or neurons of the target)`` int64.
    """
    weight = q.weight.reshape(len(q.weight), -1)
    n = weight.shape[1]
    if isinstance(q, Dense):
        channels = source.shape[0] if len(source.shape) > 1 else min(n, 4096)
        edges = np.arange(channels + 1) * n // channels
    else:
        edges = np.arange(q.weight.shape[1] + 1) * (n // q.weight.shape[1])
    sums = np.empty((len(edges) - 1, len(weight)), np.int64)
    for first in range(0, len(weight), 256):
        rows = np.abs(weight[first : first + 256].astype(np.int16))
        sums[:, first : first + 256] = np.add.reduceat(rows, edges[:-1], axis=1, dtype=np.int64).T
    return np.diff(edges), sums


def _ranges(
    target: Population,
    q: Projection,
    sizes: NDArray[np.int64],
    magnitude: NDArray[np.int64],
    most: int,
) -> list[tuple[int, int]]:
    """Ranges of units whose sums fit a spike and whose inputs fit a core."""
    ranges, first = [], 0
    total, count = np.zeros(magnitude.shape[1], np.int64), 0
    for u in range(len(sizes)):
        if int(magnitude[u].max()) > LARGEST_SPIKE or int(sizes[u]) > most:
            raise CapacityError(
                target.subject,
                f"projection '{q.name}' adds up to {int(magnitude[u].max()):,} over "
                f"{int(sizes[u]):,} inputs of one channel, a relay sends {LARGEST_SPIKE:,} at "
                f"most and takes {most:,}",
                remedy="use fewer spike levels, or smaller kernels",
                actual=max(int(magnitude[u].max()), int(sizes[u])),
                limit=min(LARGEST_SPIKE, most),
            )
        if u > first and (
            int((total + magnitude[u]).max()) > LARGEST_SPIKE or count + int(sizes[u]) > most
        ):
            ranges.append((first, u))
            first, count = u, 0
            total = np.zeros_like(total)
        total = total + magnitude[u]
        count += int(sizes[u])
    return [*ranges, (first, len(sizes))]


def _columns(sizes: NDArray[np.int64], a: int, b: int) -> slice:
    edges = np.concatenate([[0], np.cumsum(sizes)])
    return slice(int(edges[a]), int(edges[b]))


def _part(q: Projection, sizes: NDArray[np.int64], a: int, b: int) -> NDArray[np.int8]:
    """Weights of some units alone."""
    if isinstance(q, Dense):
        return q.weight[:, _columns(sizes, a, b)]
    return q.weight[:, a:b]


def _masked(q: Projection, sizes: NDArray[np.int64], a: int, b: int) -> NDArray[np.int8]:
    """Weights of some units, zero elsewhere."""
    weight = np.zeros_like(q.weight)
    at = (slice(None), _columns(sizes, a, b) if isinstance(q, Dense) else slice(a, b))
    weight[at] = q.weight[at]
    return weight


def _reach(
    q: Projection, payload_min: int, payload_max: int, sizes: NDArray[np.int64], a: int, b: int
) -> tuple[int, int]:
    """Smallest and largest sum that some units can reach."""
    weight = _part(q, sizes, a, b).reshape(len(q.weight), -1)
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
    sizes: NDArray[np.int64],
    a: int,
    b: int,
) -> tuple[Population, Projection]:
    """A population that copies the payloads of some units of a source, and its input."""
    bound = network.bounds[source.name]
    c, _, _ = chw(source.shape)
    selects: Projection
    if len(source.shape) > 1:
        # units are channels: a 1 x 1 convolution picks them
        eye = np.zeros((b - a, c) + (1,) * (len(source.shape) - 1), np.int8)
        eye[np.arange(b - a), np.arange(a, b)] = 1
        kind = Conv2d if len(source.shape) == 3 else Conv1d
        selects = kind(source=source.name, target=name, weight=eye, delay=q.delay)
        shape = (b - a, *source.shape[1:])
    else:
        columns = _columns(sizes, a, b)
        n = columns.stop - columns.start
        eye = np.zeros((n, c), np.int8)
        eye[np.arange(n), np.arange(columns.start, columns.stop)] = 1
        selects = Dense(source=source.name, target=name, weight=eye, delay=q.delay)
        shape = (n,)
    copy = PolarityMultiSpike(
        name=name,
        shape=shape,
        theta=np.ones((), np.int64),
        v_init=np.zeros((), np.int64),
        levels=(max(-bound.payload_min, 0), max(bound.payload_max, 1)),
    )
    return copy, selects
