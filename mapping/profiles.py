"""Energies and times of events, by the source that gives them."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import model_validator

from pmsm_hw.mapping.quantities import BarrierNs, EnergyPj, Frozen, PowerMw, Quantity, Text, TimeNs

__all__ = ["Energies", "Profile", "SynapticKind", "Times"]

SynapticKind = Literal["dense", "sparse", "conv"]


class _Events(Frozen):
    def synaptic(self, kind: SynapticKind) -> Quantity[float] | None:
        """Constant of a synaptic operation of one kind: its variant, else the general one."""
        variant: Quantity[float] | None = getattr(self, f"synaptic_operation_{kind}")
        general: Quantity[float] | None = getattr(self, "synaptic_operation")  # noqa: B009
        return variant if variant is not None else general


class Energies(_Events):
    """Energy of each event, pJ; absent: unknown.

    Parameters
    ----------
    synaptic_operation
        One message meeting one synapse; ``_dense``, ``_sparse``, ``_conv`` where a source has them.
    neuron_idle, neuron_active
        One neuron update, in total, that is idle or active.
    spike
        Extra, when a neuron fires (once per neuron and step).
    packet_out, packet_in
        One message leaving and entering a core.
    within_tile
        One message delivered to a core of its tile, routers excluded.
    hop_east, hop_west, hop_north, hop_south
        One message over one link of the mesh (north: y grows).
    chip_crossing
        Extra, where the link joins two chips.
    """

    synaptic_operation: EnergyPj | None = None
    synaptic_operation_dense: EnergyPj | None = None
    synaptic_operation_sparse: EnergyPj | None = None
    synaptic_operation_conv: EnergyPj | None = None
    neuron_idle: EnergyPj | None = None
    neuron_active: EnergyPj | None = None
    spike: EnergyPj | None = None
    packet_out: EnergyPj | None = None
    packet_in: EnergyPj | None = None
    within_tile: EnergyPj | None = None
    hop_east: EnergyPj | None = None
    hop_west: EnergyPj | None = None
    hop_north: EnergyPj | None = None
    hop_south: EnergyPj | None = None
    chip_crossing: EnergyPj | None = None


class Times(_Events):
    """Time of each event, ns; absent: unknown. Names as in `Energies`, and a barrier.

    Parameters
    ----------
    barrier
        ``((n_tiles, ns), ...)``: end of a step by the number of tiles in use, ascending; between
        two entries linear.
    """

    synaptic_operation: TimeNs | None = None
    synaptic_operation_dense: TimeNs | None = None
    synaptic_operation_sparse: TimeNs | None = None
    synaptic_operation_conv: TimeNs | None = None
    neuron_idle: TimeNs | None = None
    neuron_active: TimeNs | None = None
    spike: TimeNs | None = None
    packet_out: TimeNs | None = None
    packet_in: TimeNs | None = None
    within_tile: TimeNs | None = None
    hop_east: TimeNs | None = None
    hop_west: TimeNs | None = None
    hop_north: TimeNs | None = None
    hop_south: TimeNs | None = None
    chip_crossing: TimeNs | None = None
    barrier: BarrierNs | None = None

    @model_validator(mode="after")
    def _ascending(self) -> Times:
        if self.barrier is not None:
            tiles = [n for n, _ in self.barrier.value]
            if tiles != sorted(set(tiles)):
                raise ValueError(f"barrier table is not ascending in tiles: {tiles}")
        return self

    def barrier_ns(self, n_tiles: int) -> float | None:
        """Duration of the barrier of a step with ``n_tiles`` tiles in use; ``None``: unknown.

        Linear between the entries of the table; the first and last entry hold beyond its ends
        (published tables end at or near the size of the chip).
        """
        if self.barrier is None:
            return None
        points = self.barrier.value
        if n_tiles <= points[0][0]:
            return float(points[0][1])
        for (n0, t0), (n1, t1) in pairwise(points):
            if n_tiles <= n1:
                return float(t0 + (t1 - t0) * (n_tiles - n0) / (n1 - n0))
        return float(points[-1][1])


class Profile(Frozen):
    """One set of event constants, from one source.

    Parameters
    ----------
    description
        What it is, in a sentence.
    energy, time
        Constants of events.
    static_power_mw
        Power of one chip that does nothing; absent: unknown.
    """

    description: Text
    energy: Energies = Energies()
    time: Times = Times()
    static_power_mw: PowerMw | None = None
