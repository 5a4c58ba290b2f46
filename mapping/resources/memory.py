"""Synapse memory: behind each axon stand lists of synapses, whose lengths are counted here.

Lists are one per projection, block and (of a population axon) channel. Under population axons,
pixels whose windows meet the block in the same taps share their lists. A projection's lists into a
block are all dense (every neuron of the block, no indices) or all sparse (synapses other than zero,
with indices), whichever is smaller in total.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import Range
from pmsm_hw.mapping.resources.connectivity import FanOut, fan_out_box
from pmsm_hw.mapping.resources.lists import bits_by_length, list_rule
from pmsm_hw.mapping.resources.windows import (
    distinct,
    distinct_key,
    from_key,
    group_channels,
    hits,
    signatures,
    source_range,
    tap_sums,
)
from pmsm_hw.mapping.resources.wiring import Wiring, overlap, remembered
from pmsm_hw.operators import DenseForm, WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.mapping.chip import Chip, SynapticKind
    from pmsm_hw.mapping.resources.wires import Wire
    from pmsm_hw.network import Network

__all__ = ["Memory"]


class Memory(Wiring):
    """Lists of synapses of a network on a chip, and the memory that they take."""

    def __init__(self, network: Network, chip: Chip) -> None:
        super().__init__(network, chip)
        self._rule = list_rule(chip)
        self._last_fan_out: tuple[Wire, Block, FanOut] | None = None

    @remembered
    def taps(self, wire: Wire, channels: Range) -> tuple[NDArray[np.int64], bool]:
        """`tap_counts` of target channels, and whether every one is above zero."""
        assert isinstance(wire.form, WindowForm)
        form, below = wire.form, wire.weights_below
        if form.groups == 1:
            taps = below[channels[1]] - below[channels[0]]
        else:
            per_group = form.target[0] // form.groups
            groups = np.arange(channels[0] // per_group, (channels[1] - 1) // per_group + 1)
            ends = np.minimum((groups + 1) * per_group, channels[1])
            taps = below[ends] - below[np.maximum(groups * per_group, channels[0])]
            taps = taps.reshape(-1, *taps.shape[2:])
        return taps.astype(np.int64), bool(taps.all())

    def has_all(self, wire: Wire, channels: Range) -> bool:
        """Whether every tap of every source channel reaches some of the target channels."""
        return wire.is_full or self.taps(wire, channels)[1]

    def synapse_bits(self, blocks: Iterable[Block]) -> int:
        """Synapse memory of a core that holds these blocks."""
        return sum(
            self.block_bits(wire, block)[0]
            for block in blocks
            for wire in self.into(block.population)
            if overlap(wire.channels, block.channels)
        )

    def block_bits(self, wire: Wire, block: Block) -> tuple[int, SynapticKind]:
        """Synapse memory, and kind of list, of one projection into a block."""
        n = block.n_neurons
        if wire.shares_lists:
            rows, columns = wire.windows
            channels = block.channels
            if wire.is_full and wire.form.groups == 1:  # type: ignore[union-attr]
                channels = (0, channels[1] - channels[0])  # which ones does not matter
            y, x = distinct_key(rows, block.rows), distinct_key(columns, block.columns)
            return self._shared_bits(wire, y, x, channels, n), "conv"
        return self._smaller(wire, self._fan_out(wire, block).count, n)

    @remembered
    def _shared_bits(self, wire: Wire, y: bytes, x: bytes, channels: Range, n: int) -> int:
        """Bits of lists that pixels share, by the taps of distinct rows and columns."""
        taps, _ = self.taps(wire, channels)
        rows, columns = (
            from_key(key, window.kernel) for key, window in zip((y, x), wire.windows, strict=True)
        )
        return self._smaller(wire, tap_sums(taps, rows, columns), n)[0]

    def _smaller(self, wire: Wire, lengths: NDArray[np.int64], n: int) -> tuple[int, SynapticKind]:
        """Bits of lists of these lengths into ``n`` neurons, dense or sparse."""
        n_lists = int(np.count_nonzero(lengths))
        index = self.chip.limits.index_bits.value
        sparse = dense = 0
        for width in wire.widths:
            each = width + wire.delay_bits
            sparse += int(bits_by_length(self._rule, each + index, n)[lengths].sum())
            dense += n_lists * int(bits_by_length(self._rule, each, n)[n])
        return (dense, "dense") if dense <= sparse else (sparse, "sparse")

    def at_most(
        self, wire: Wire, rows: Range, columns: Range, n_channels: int, n_neurons: int
    ) -> tuple[int, int]:
        """Input axons and synapse memory of a block, were no weight zero.

        Parameters
        ----------
        wire
            Into its population.
        rows, columns
            Of the block.
        n_channels, n_neurons
            Of the block.
        """
        form, signs = wire.form, wire.n_signs
        if isinstance(form, DenseForm):
            units = wire.n_live_units
            lengths, n_lists = np.array([n_neurons]), wire.n_live
            times = wire.n_live
        else:
            n_sources = form.source[0]
            if form.groups > 1:
                per_group = form.target[0] // form.groups
                touched = min(-(-(n_channels - 1) // per_group) + 1, form.groups)
                n_sources = form.source[0] // form.groups * touched
            at = tuple(zip(wire.windows, (rows, columns), strict=True))
            y, x = (hits(*part) for part in at)
            pixels = int(np.count_nonzero(y)) * int(np.count_nonzero(x))
            units = pixels if wire.axons == "pixel" else pixels * n_sources
            y, x = ((distinct if wire.shares_lists else signatures)(*part) for part in at)
            lengths = np.multiply.outer(y.sum(axis=1), x.sum(axis=1))
            lengths *= (
                n_channels if form.groups == 1 else min(n_channels, form.target[0] // form.groups)
            )
            times, n_lists = n_sources, int(np.count_nonzero(lengths)) * n_sources
        index = self.chip.limits.index_bits.value
        sparse = dense = 0
        for width_bits in wire.widths:
            per_weight = width_bits + wire.delay_bits
            bits = bits_by_length(self._rule, per_weight + index, n_neurons)
            sparse += times * int(bits[lengths].sum())
            dense += n_lists * int(bits_by_length(self._rule, per_weight, n_neurons)[n_neurons])
        return units * signs, min(sparse, dense)

    def _fan_out(self, wire: Wire, block: Block) -> FanOut:
        """`fan_out_box`; the last one is kept, as axons and lists are counted from the same."""
        last_wire, last_block, found = self._last_fan_out or (None, None, None)
        if found is None or last_wire is not wire or last_block is not block:
            found = self._count_fan_out(wire, block)
            self._last_fan_out = (wire, block, found)
        return found

    def _count_fan_out(self, wire: Wire, block: Block) -> FanOut:
        if wire.is_full and isinstance(wire.form, DenseForm):
            c, h, w = chw(self.network[wire.projection.source].shape)
            count = np.broadcast_to(np.int64(block.n_neurons), (c, h, w))
            return FanOut(channels=(0, c), rows=(0, h), columns=(0, w), count=count)
        if isinstance(wire.form, WindowForm):
            taps, _ = self.taps(wire, block.channels)
            rows, columns = wire.windows
            return FanOut(
                channels=group_channels(wire.form, block.channels),
                rows=source_range(wire.form, 0, block.rows),
                columns=source_range(wire.form, 1, block.columns),
                count=tap_sums(
                    taps, signatures(rows, block.rows), signatures(columns, block.columns)
                ),
            )
        return fan_out_box(self.network, wire.projection, block)
