"""A network on its chip as flat arrays, the form that the compiled loops read.

Slots
    Every neuron has a *slot*. Slots run core by core, block by block in the order of updates, and
    within a block by row, column, channel (channels last, so that a message's synapses onto one
    pixel are one run of memory). Inputs come last, as blocks of a core of their own, the I/O port.
Entries
    ``entry[slot] : entry[slot + 1]`` are the messages of one spike of that neuron: one per core
    that holds at least one synapse (other than zero) of it, ascending by core.
Pairs, rows, deposits
    A *pair* is a source population and a target core that it reaches. A *row* is a projection, a
    target core and how the synapses are stored there, and counts synaptic operations; the rows of
    a pair stand together. A *deposit* is a projection and a target block: what to do with a
    message.
Sums
    What a message adds, and in which step: ``sums[step, first_sum + n]`` of neuron n of a block.
    Those of slot s stand at s. A projection that shifts its sum to the right (``weight_exponent``
    below 0) has sums of its own behind them, one `Shift` for each block, since it is rounded when
    all has arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import SynapticKind

__all__ = ["DEPOSIT", "Plan", "Row", "Runs", "Shift"]

DEPOSIT = np.dtype(
    [
        (name, np.int64)
        for name in (
            "is_window",  # else a matrix
            "first_weight",
            "first_delay",  # of its synapses, laid out as their weights; -1: they have none
            "weight_exponent",
            "first_sum",  # of the block, and how many neurons it has
            "n_neurons",
            *("channel_first", "channel_end"),  # the block's ranges
            *("row_first", "row_end"),
            *("column_first", "column_end"),
            # of a window
            *("kernel_rows", "kernel_columns"),
            *("stride_rows", "stride_columns"),
            *("dilation_rows", "dilation_columns"),
            *("padding_rows", "padding_columns"),  # before the first
            *("group_outputs", "group_inputs"),  # channels per group
            "hardware_delay",
            "delay",
        )
    ]
)
"""One deposit."""


class Plan(NamedTuple):
    """Arrays of the compiled loops; see the module docstring."""

    block_population: Any  # (n_blocks,) int64, index into network.populations
    block_core: Any  # (n_blocks,) int64, index into the cores in use; n_cores is the I/O port
    block_depth: Any  # (n_blocks,) int64
    block_compartments: Any  # (n_blocks,) int64, of each neuron: its updates cost so many
    block_n: Any  # (n_blocks,) int64, levels
    block_p: Any
    block_rule: Any  # (n_blocks,) int64, of `pmsm_hw.neurons.codes`
    block_unit: Any  # (n_blocks,) int64: spikes travel as unit spikes
    block_gain_pos: Any  # (n_blocks,) int64
    block_gain_neg: Any
    block_saturate: Any  # (n_blocks,) int64
    block_slot: Any  # (n_blocks + 1,) int64
    core_block: Any  # (n_cores + 2,) int64: blocks of each core, the I/O port last
    slot_block: Any  # (n_slots,) int32
    slot_flat: Any  # (n_slots,) int32: index in the population, C order
    slot_c: Any  # (n_slots,) int32: channel, row, column in the population
    slot_y: Any
    slot_x: Any
    slot_theta: Any  # (n_slots,) int32
    slot_bias: Any
    slot_start: Any
    entry: Any  # (n_slots + 1,) int64
    entry_core: Any  # (n_entries,) int32
    entry_slot: Any  # (n_entries,) int32
    entry_offset: Any  # (n_entries,) int64: where its synapses stand, one per row of its pair
    entry_synapses: Any  # int32
    pair_of: Any  # (n_populations, n_cores) int32, -1: none
    pair_row: Any  # (n_pairs + 1,) int64
    pair_deposit: Any  # (n_pairs + 1,) int64
    deposit: Any  # (n_deposits,) `DEPOSIT`
    weights: Any  # int8, all of them
    delays: Any  # uint8, of those synapses that have some
    core_router: Any  # (n_cores + 1,) int64
    router_x: Any  # (n_routers,) int64
    router_y: Any
    router_chip_x: Any  # (n_routers,) int64: column and row of its chip on the board
    router_chip_y: Any
    link_target: Any  # (n_links,) int64: buffer at the far end, -1: no such link
    link_crossing: Any  # (n_links,) int64: 1 if it joins two chips
    buffer_router: Any  # (n_buffers,) int64
    buffer_feeder: Any  # (n_buffers,) int64: link that fills it, or -1 - generator
    injection_buffer: Any  # (n_cores + 1,) int64
    n_ports: int  # most buffers of one router
    population_size: Any  # (n_populations,) int64
    # the rest depends on the run
    record_base: Any  # (n_populations,) int64: where its spikes are recorded, -1: not
    n_recorded: Any  # samples x steps that are recorded, the first ones
    readout_base: Any  # (n_populations,) int64
    unit_base: Any  # (n_populations,) int64: where its input values stand
    unit_sample: Any  # (n_populations,) int64: from one sample to the next
    unit_step: Any  # (n_populations,) int64: from one step to the next


class Shift(NamedTuple):
    """Sums of a projection into a block that are shifted to the right before they are added."""

    block: int
    first_sum: int
    exponent: int


class Runs(NamedTuple):
    """Slots that are neighbours in the memory of their population's spikes too, channels last."""

    slot: Any  # (n_runs,) int64: the first one
    place: Any  # (n_runs,) int64: of that one, there


@dataclass(frozen=True, kw_only=True)
class Row:
    """Synapses of a projection on a core that are stored in one way.

    Parameters
    ----------
    projection
        Index into ``network.projections``.
    core
        Index into the cores in use.
    kind
        How its synapses are stored, which decides their constants.
    """

    projection: int
    core: int
    kind: SynapticKind
