"""Splitting a fan-out that no core can take, through relay populations that change no spike.

A neuron has output-axon entries for each core that it reaches. Where one alone needs more than a
core has, its population gets *relays*: copies of it that each serve a part of what it projects to,
whole targets or ranges of their channels. A relay is a polarity multi-spike population of the same
shape with ``theta = d``, ``v_init = 0`` and gains ``(d, d)``, ``d`` the greatest common divisor of
the payloads that occur: it takes a payload and sends the same one on, no state is left. The
population itself then reaches its relays alone, one neuron each; where those are too many, they get
relays in turn.

Topological order within a step does the rest: targets, spikes and logits stay the same, the network
gets deeper where no slack was (a projection that skips depths has some). A delayed projection
without slack, one hardware step from source to target, cannot be relayed.

A spike ``k`` of a population whose gains have one magnitude is relayed as ``k``, or ``|k|`` where
both signs excite; of other gains, ``(4, 1)`` say, as its payload over ``d``: on chips with unit
spikes that is as many messages, exact all the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, islice, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError, NetworkError
from pmsm_hw.mapping.arguments import check_network_and_chip
from pmsm_hw.mapping.blocks import Range
from pmsm_hw.mapping.partition.entries import grid_entries
from pmsm_hw.mapping.partition.excess import FanOutError, check_formats
from pmsm_hw.mapping.partition.tiling import cut_network
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.mapping.transforms.fan_in import LARGEST_SPIKE
from pmsm_hw.network import (
    Dense,
    Identity,
    Network,
    Neurons,
    PolarityMultiSpike,
    Population,
    Projection,
)
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Chip

__all__ = ["SplitFanOut", "split_fan_out"]

_SHARES = (4, 2, 1)
"""A relay neuron may need this part of a core's output axons: the fuller, the fewer relays."""
_MAX_ROUNDS = 64


@dataclass(frozen=True)
class _Unit:
    """What one relay serves: projections into a range of channels of one target."""

    target: str
    channels: Range
    need: int


@dataclass(frozen=True, kw_only=True)
class SplitFanOut:
    """The pass: a network goes in, one whose output axons fit comes out.

    Parameters
    ----------
    chip
        Whose cores to fit.
    """

    chip: Chip

    def __call__(self, network: Network) -> Network:
        """Split every fan-out that no core can take.

        Parameters
        ----------
        network
            Any; fan-ins that no core can take are to be split before (`split_fan_in`).

        Returns
        -------
        Network
            The same one, if nothing had to be split; else one with the same populations, and relays
            named ``SOURCE.relayN``.

        Raises
        ------
        CapacityError
            If a neuron exceeds a limit of a core, and relays do not help.
        MappingError
            If the chip cannot express the network.
        """
        first: FanOutError | None = None  # of the network as it was given: what errors tell
        for _ in range(_MAX_ROUNDS):
            try:
                resources = Resources(network, self.chip)
                check_formats(resources)
                cut_network(resources)
            except FanOutError as excess:
                first = first or excess
                split = self._split(resources, excess)
                if split is None:
                    break
                network = split
            except CapacityError:
                if first is None:
                    raise
                break
            else:
                return network
        assert first is not None
        raise CapacityError(
            first.subject,
            first.problem,
            remedy="splitting its fan-out does not help: use a chip with larger cores, or fewer "
            "neurons after it",
            actual=first.actual,
            limit=first.limit,
        )

    def _split(self, resources: Resources, excess: FanOutError) -> Network | None:
        """Put relays behind one population; ``None``: that does not help."""
        network = resources.network
        source = network[excess.population]
        assert isinstance(source, Neurons)
        limit = self.chip.limits.output_axons.value
        needs = {
            name: int(grid_entries(resources, source.name, {name: grid}).max())
            for name, grid in excess.grids.items()
        }
        movable = [q for q in network.out_of(source.name) if _has_slack(network, q)]
        able = {q.target for q in movable}
        stay = sum(need for name, need in needs.items() if name not in able)
        # what a neuron needs for one relay: an identity reaches one core
        wires = resources.out_of(source.name)
        each = wires[0].entries * wires[0].n_signs
        needs = {name: need for name, need in needs.items() if name in able and need}
        bins: list[list[_Unit]] = []
        for share in _SHARES:
            bins = _bins(network, needs, limit // share)
            if bins and stay + each * len(bins) <= limit:
                break
        most = max((unit.need for units in bins for unit in units), default=0)
        helps = each * len(bins) < sum(needs.values()) and most <= limit
        relay = _relay(network, source)
        if not bins or not helps or relay is None:
            return None
        numbered = (f"{source.name}.relay{i}" for i in count())
        names = list(islice((name for name in numbered if name not in network), len(bins)))
        at = network.populations.index(source) + 1
        relays: list[Population] = []
        added: list[Projection] = []
        for units, name in zip(bins, names, strict=True):
            relays.append(replace(relay, name=name))
            added.append(Identity(source=source.name, target=name))
            for unit in units:
                size = chw(network[unit.target].shape)
                added += [
                    _part(q, name, size, unit.channels) for q in movable if q.target == unit.target
                ]
        moved = {q.name for q in movable if q.target in needs}
        try:
            return replace(
                network,
                populations=(*network.populations[:at], *relays, *network.populations[at:]),
                projections=(*(q for q in network.projections if q.name not in moved), *added),
            )
        except NetworkError:  # a loop with too little delay for one more step
            return None


def split_fan_out(network: Network, chip: Chip) -> Network:
    """Split every fan-out that no core of a chip can take (`SplitFanOut`).

    Parameters
    ----------
    network
        What is to be placed.
    chip
        What it is to be placed on.
    """
    check_network_and_chip(network, chip)
    return SplitFanOut(chip=chip)(network)


def _has_slack(network: Network, q: Projection) -> bool:
    """Whether a relay can stand in a projection: targets of undelayed ones act later as needed."""
    return q.delay == 0 or network.hardware_delay(q) > 1


def _bins(network: Network, needs: dict[str, int], most: int) -> list[list[_Unit]]:
    """Share out targets, or ranges of their channels, over relays of at most so many entries."""
    if most < 1:
        return []
    bins: list[list[_Unit]] = []
    room: list[int] = []
    for target, need in needs.items():
        n_channels = chw(network[target].shape)[0]
        n_parts = min(-(-need // most), n_channels)
        edges = [n_channels * i // n_parts for i in range(n_parts + 1)]
        for a, b in pairwise(edges):
            unit = _Unit(target, (a, b), -(-need * (b - a) // n_channels))
            at = next((i for i, left in enumerate(room) if left >= unit.need), None)
            if at is None:
                bins.append([unit])
                room.append(most - unit.need)
            else:
                bins[at].append(unit)
                room[at] -= unit.need
    return bins


def _relay(network: Network, source: Neurons) -> PolarityMultiSpike | None:
    """A population that sends each payload of the source on; ``None``: it is too large."""
    bound = network.bounds[source.name]
    used = (bound.k_max > 0, bound.k_min < 0)
    gains = [abs(gain) for gain, on in zip(source.unit_gains, used, strict=True) if on]
    unit = max(math.gcd(*gains), 1) if gains else 1
    n, p = max(-bound.payload_min, 0) // unit, max(bound.payload_max, 0) // unit
    if max(n, p) > LARGEST_SPIKE:
        return None
    return PolarityMultiSpike(
        name=source.name,
        shape=source.shape,
        theta=np.full((), unit, np.int64),
        v_init=np.zeros((), np.int64),
        levels=(n, max(p, 1)),
        gains=(unit, unit),
        spike_mode=getattr(source, "spike_mode", "auto"),
    )


def _part(q: Projection, relay: str, size: Sequence[int], channels: Range) -> Projection:
    """A projection out of a relay, into some channels of its target."""
    first, end = channels
    if (first, end) == (0, size[0]):
        return replace(q, source=relay, name=f"{q.name}.whole")
    old = q.weight
    if isinstance(q, Dense):
        pixels = size[1] * size[2]
        first, end = first * pixels, end * pixels
    elif old.ndim == 0:
        old = np.broadcast_to(old, (size[0],))
    weight: NDArray[np.int8] = np.zeros(old.shape, np.int8)
    weight[first:end] = old[first:end]
    return replace(q, source=relay, weight=weight, name=f"{q.name}.{channels[0]}to{channels[1]}")
