"""The constants of a chip's profile that an emulation needs, and those that it lacks."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import EmulationError

if TYPE_CHECKING:
    from pmsm_hw.emulator.layout import Layout
    from pmsm_hw.mapping.chip import Profile, Quantity, SynapticKind

__all__ = ["DIRECTIONS", "Constants", "resolve"]

DIRECTIONS = ("east", "west", "north", "south")

PS_PER_NS = 1000

DEFAULT_LINK_BUFFER = 16
"""Messages before a link where the chip file does not say: as SANA-FE has for Loihi."""


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Energies in pJ and times in ps, by event; an event without a known constant is absent.

    Parameters
    ----------
    profile
        Name of the profile.
    energy_pj, time_ps
        Keys: ``neuron_idle``, ``neuron_active``, ``spike``, ``packet_out``, ``packet_in``,
        ``within_tile``, ``hop_east`` … ``hop_south``, ``chip_crossing``,
        ``synaptic_operation_dense`` (``_sparse``, ``_conv``). Times are rounded to whole ps.
    barrier_ps
        End of a step for the tiles in use; ``None``: unknown.
    static_power_mw
        Of all chips of the board; ``None``: unknown.
    assumed
        Names (``energy.…``, ``time.…``) of the constants whose kind is "assumed".
    """

    profile: str
    energy_pj: MappingType[str, float]
    time_ps: MappingType[str, int]
    barrier_ps: int | None
    static_power_mw: float | None
    assumed: frozenset[str]

    def row_ps(self, layout: Layout) -> NDArray[np.int64]:
        """Time of one synaptic operation of each row, ``(n_rows,)`` int64."""
        return np.array(
            [self.time_ps.get(f"synaptic_operation_{row.kind}", 0) for row in layout.rows], np.int64
        )

    def link_ps(self, layout: Layout) -> NDArray[np.int64]:
        """Time of one message over each link, ``(n_links,)`` int64."""
        hop = [self.time_ps.get(f"hop_{d}", 0) for d in DIRECTIONS]
        n_routers = len(layout.plan.link_target) // 4
        crossing = self.time_ps.get("chip_crossing", 0)
        crossings: NDArray[np.int64] = crossing * layout.plan.link_crossing
        return np.tile(np.array(hop, np.int64), n_routers) + crossings


_EVENTS = (
    "neuron_idle", "neuron_active", "spike", "packet_out", "packet_in", "within_tile",
    "hop_east", "hop_west", "hop_north", "hop_south", "chip_crossing",
)  # fmt: skip
_KINDS: tuple[SynapticKind, ...] = ("dense", "sparse", "conv")


def resolve(layout: Layout, profile: str | Profile | None) -> Constants:
    """Look a profile up.

    Parameters
    ----------
    layout
        Says chip, tiles in use and number of chips.
    profile
        Name of a profile of the chip, a profile of one's own, or ``None``: the chip's first one.

    Raises
    ------
    ChipFileError
        If the chip has no such profile.
    EmulationError
        If a time is too long for whole picoseconds in 64 bits.
    """
    chip = layout.mapping.chip
    if profile is None or isinstance(profile, str):
        name = chip.default_profile if profile is None else profile
        found = chip.profile(name)
    else:
        name, found = "own", profile
    assumed: set[str] = set()

    def known(key: str, quantity: Quantity[float] | None) -> float | None:
        if quantity is None:
            return None
        if quantity.kind == "assumed":
            assumed.add(key)
        return float(quantity.value)

    energy_pj: dict[str, float] = {}
    time_ps: dict[str, int] = {}
    for event in _EVENTS:
        energy = known(f"energy.{event}", getattr(found.energy, event))
        if energy is not None:
            energy_pj[event] = energy
        time = known(f"time.{event}", getattr(found.time, event))
        if time is not None:
            time_ps[event] = _ps(f"time.{event}", time)
    for kind in _KINDS:
        event = f"synaptic_operation_{kind}"
        energy = known(f"energy.{event}", found.energy.synaptic(kind))
        if energy is not None:
            energy_pj[event] = energy
        time = known(f"time.{event}", found.time.synaptic(kind))
        if time is not None:
            time_ps[event] = _ps(f"time.{event}", time)
    barrier_ns = found.time.barrier_ns(layout.mapping.n_tiles)
    if found.time.barrier is not None and found.time.barrier.kind == "assumed":
        assumed.add("time.barrier")
    power = known("static_power_mw", found.static_power_mw)
    if chip.mesh.link_buffer_messages is None or chip.mesh.link_buffer_messages.kind == "assumed":
        assumed.add("mesh.link_buffer_messages")
    return Constants(
        profile=name,
        energy_pj=energy_pj,
        time_ps=time_ps,
        barrier_ps=None if barrier_ns is None else _ps("time.barrier", barrier_ns),
        static_power_mw=None if power is None else power * chip.n_chips,
        assumed=frozenset(assumed),
    )


def _ps(key: str, ns: float) -> int:
    if ns > 1e9:
        raise EmulationError(
            f"constant '{key}'",
            f"{ns:g} ns exceed {1e9:g} ns, a second",
            remedy="give nanoseconds",
            actual=ns,
            limit=1e9,
        )
    return round(ns * PS_PER_NS)
