"""Counts of events: what happened, per sample, population and core, in integers.

Counts mode takes the activity of every neuron from the reference and counts what follows from it on
the chip; cycle mode counts events as they happen. Both fill one `Counts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.records import Record

if TYPE_CHECKING:
    from pmsm_hw.emulator.layout import Layout

__all__ = ["Counts", "Tally", "empty_tally"]

IntArray = NDArray[np.int64]


class Tally(NamedTuple):
    """What the compiled loops count; the first axis of all but the last is the sample."""

    updates_idle: Any  # (batch, n_blocks) int64
    updates_active: Any  # (batch, n_blocks)
    fired: Any  # (batch, n_blocks) neurons x steps that fired; inputs: values other than zero
    spikes: Any  # (batch, n_blocks) sum of |k|
    messages_out: Any  # (batch, n_blocks)
    hops: Any  # (batch, n_blocks, 4) east, west, north, south
    crossings: Any  # (batch, n_blocks) hops from chip to chip
    messages_in: Any  # (batch, n_pairs)
    synops: Any  # (batch, n_rows)
    unit_synops: Any  # (batch, n_rows) the same if every spike were |k| unit spikes
    saturations: Any  # (batch, n_blocks)
    link_load: Any  # (n_links,) messages over each link


_SHAPES = {
    "updates_idle": "block",
    "updates_active": "block",
    "fired": "block",
    "spikes": "block",
    "messages_out": "block",
    "hops": "direction",
    "crossings": "block",
    "messages_in": "pair",
    "synops": "row",
    "unit_synops": "row",
    "saturations": "block",
}

EVENTS = (
    "neuron_updates_idle",
    "neuron_updates_active",
    "neurons_fired",
    "spikes",
    "messages",
    "synaptic_operations",
    "hops_east",
    "hops_west",
    "hops_north",
    "hops_south",
    "chip_crossings",
)
"""Names of the counts in tables and files."""


def empty_tally(layout: Layout, n_samples: int) -> dict[str, IntArray]:
    """Arrays of zeros for `Tally`."""
    sizes = {
        "block": (n_samples, len(layout.block_populations)),
        "direction": (n_samples, len(layout.block_populations), 4),
        "pair": (n_samples, len(layout.pairs)),
        "row": (n_samples, len(layout.rows)),
    }
    tally = {name: np.zeros(sizes[kind], np.int64) for name, kind in _SHAPES.items()}
    tally["link_load"] = np.zeros(len(layout.plan.link_target), np.int64)
    return tally


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts(Record):
    """Integer counts of events; read-only arrays.

    Parameters
    ----------
    layout
        Says which block, pair and row is what.
    updates_idle, updates_active
        ``(batch, n_blocks)``: neuron updates, one for each of a neuron's compartments; inputs (the
        last blocks) have none.
    fired, spikes
        ``(batch, n_blocks)``: neurons x steps with ``k != 0``, and the sum of ``|k|``.
    messages_out
        ``(batch, n_blocks)``: messages sent; inputs send theirs from the I/O port.
    hops
        ``(batch, n_blocks, 4)``: messages x links, by direction (east, west, north, south).
    crossings
        ``(batch, n_blocks)``: those hops that lead to another chip.
    messages_in
        ``(batch, n_pairs)``: messages received, by source population and core.
    synops
        ``(batch, n_rows)``: synaptic operations, by projection and core.
    unit_synops
        ``(batch, n_rows)``: the same, had every spike been sent as ``|k|`` unit spikes.
    saturations
        ``(batch, n_blocks)``: values x steps that left their state's width. Of some populations it
        is only known how many there were, and they stand at the first block; in counts mode, of all
        populations, and at the first sample too.
    link_load
        ``(n_links,)``: messages over each link, over all samples.
    """

    layout: Layout
    updates_idle: IntArray
    updates_active: IntArray
    fired: IntArray
    spikes: IntArray
    messages_out: IntArray
    hops: IntArray
    crossings: IntArray
    messages_in: IntArray
    synops: IntArray
    unit_synops: IntArray
    saturations: IntArray
    link_load: IntArray

    def __post_init__(self) -> None:
        for name in (*_SHAPES, "link_load"):
            getattr(self, name).setflags(write=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts):
            return NotImplemented
        # saturations by sample are known in cycle mode only
        return self.saturated() == other.saturated() and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in (*_SHAPES, "link_load")
            if name != "saturations"
        )

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.fired)

    @cached_property
    def _on_core(self) -> int:
        return self.layout.n_blocks

    # -- sums -----------------------------------------------------------------------------

    def per_sample(self) -> dict[str, IntArray]:
        """Each of `EVENTS` by sample, ``(batch,)`` int64.

        Spikes and fired neurons are those of populations on cores; messages, synaptic operations
        and hops include those of inputs.
        """
        n = self._on_core
        hops = self.hops.sum(axis=1)
        return {
            "neuron_updates_idle": self.updates_idle.sum(axis=1),
            "neuron_updates_active": self.updates_active.sum(axis=1),
            "neurons_fired": self.fired[:, :n].sum(axis=1),
            "spikes": self.spikes[:, :n].sum(axis=1),
            "messages": self.messages_out.sum(axis=1),
            "synaptic_operations": self.synops.sum(axis=1),
            **{f"hops_{d}": hops[:, i] for i, d in enumerate(("east", "west", "north", "south"))},
            "chip_crossings": self.crossings.sum(axis=1),
        }

    def total(self) -> dict[str, int]:
        """Each of `EVENTS`, over all samples."""
        return {name: int(values.sum()) for name, values in self.per_sample().items()}

    def by_population(self) -> dict[str, dict[str, int]]:
        """Counts of each population over all samples.

        Updates, spikes, messages and hops are those of the population's own neurons; synaptic
        operations are those that it receives.
        """
        network = self.layout.network
        out: dict[str, dict[str, int]] = {p.name: dict.fromkeys(EVENTS, 0) for p in network}
        sums = {name: getattr(self, name).sum(axis=0) for name in _SHAPES}
        for i, name in enumerate(self.layout.block_populations):
            entry = out[name]
            entry["neuron_updates_idle"] += int(sums["updates_idle"][i])
            entry["neuron_updates_active"] += int(sums["updates_active"][i])
            entry["neurons_fired"] += int(sums["fired"][i])
            entry["spikes"] += int(sums["spikes"][i])
            entry["messages"] += int(sums["messages_out"][i])
            for d, direction in enumerate(("east", "west", "north", "south")):
                entry[f"hops_{direction}"] += int(sums["hops"][i, d])
            entry["chip_crossings"] += int(sums["crossings"][i])
        for i, row in enumerate(self.layout.rows):
            target = network.projections[row.projection].target
            out[target]["synaptic_operations"] += int(sums["synops"][i])
        return out

    def by_core(self) -> dict[int, dict[str, int]]:
        """Counts of each core in use over all samples.

        Keys: ``neuron_updates_idle``, ``neuron_updates_active``, ``neurons_fired``, ``spikes``,
        ``messages_out``, ``messages_in``, ``synaptic_operations``.
        """
        names = (
            "neuron_updates_idle", "neuron_updates_active", "neurons_fired", "spikes",
            "messages_out", "messages_in", "synaptic_operations",
        )  # fmt: skip
        out = {core: dict.fromkeys(names, 0) for core in self.layout.cores}
        cores = self.layout.cores
        sums = {name: getattr(self, name).sum(axis=0) for name in _SHAPES}
        for i in range(self._on_core):
            entry = out[cores[int(self.layout.plan.block_core[i])]]
            entry["neuron_updates_idle"] += int(sums["updates_idle"][i])
            entry["neuron_updates_active"] += int(sums["updates_active"][i])
            entry["neurons_fired"] += int(sums["fired"][i])
            entry["spikes"] += int(sums["spikes"][i])
            entry["messages_out"] += int(sums["messages_out"][i])
        for i, (_, core) in enumerate(self.layout.pairs):
            out[cores[core]]["messages_in"] += int(sums["messages_in"][i])
        for i, row in enumerate(self.layout.rows):
            out[cores[row.core]]["synaptic_operations"] += int(sums["synops"][i])
        return out

    def links(self) -> Iterator[tuple[tuple[int, int], str, int]]:
        """Links that carried a message: tile ``(x, y)`` that it leaves, direction, messages."""
        for i in np.flatnonzero(self.link_load):
            x, y = (int(v) for v in self.layout.link_tiles[i])
            yield (x, y), ("east", "west", "north", "south")[int(i) % 4], int(self.link_load[i])

    def saturated(self) -> dict[str, int]:
        """Neurons x steps that were clipped, by population, where there were any."""
        sums = self.saturations.sum(axis=0)
        out: dict[str, int] = {}
        for i, name in enumerate(self.layout.block_populations):
            if sums[i]:
                out[name] = out.get(name, 0) + int(sums[i])
        return out

    @cached_property
    def events(self) -> dict[str, IntArray]:
        """Counts per sample, of the events that profiles price, ``(batch,)`` int64 each."""
        n = self._on_core
        hops = self.hops.sum(axis=1)
        received = self.messages_in.sum(axis=1)
        events: dict[str, IntArray] = {
            "neuron_idle": self.updates_idle.sum(axis=1),
            "neuron_active": self.updates_active.sum(axis=1),
            "spike": self.fired[:, :n].sum(axis=1),
            "packet_out": self.messages_out[:, :n].sum(axis=1),
            "packet_in": received,
        }
        for kind, rows in self.layout.rows_by_kind.items():
            events[f"synaptic_operation_{kind}"] = self.synops[:, rows].sum(axis=1)
        events["within_tile"] = received
        for d, direction in enumerate(("east", "west", "north", "south")):
            events[f"hop_{direction}"] = hops[:, d]
        events["chip_crossing"] = self.crossings.sum(axis=1)
        return events
