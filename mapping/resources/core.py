"""What blocks need of a core: the exact counts, and how chip and network fit together at all.

Input axons
    A core has one input axon per source and sign that reaches it. The source is a neuron; or, where
    the chip has population axons and the population has rows, a pixel whose channels share one (a
    *population axon*).
Plain axons
    Where a pixel's lists are not shared with another pixel's, its channels can have *plain* axons
    instead: an input axon each, but one output entry instead of `population_axon_entries`. A block
    gives them to as many pixels as leave its input axons within a core's limit
    (`Resources.plain_pixels`). A neuron that reaches several blocks of a core has a plain axon
    there if all of them give it one, so that blocks that share a core never need more than they
    need alone.
Synapse memory
    Behind each axon stand lists of synapses, one per projection, block and (of a population axon)
    channel. Under population axons, pixels whose windows meet the block in the same taps share
    their lists. A projection's lists into a block are all dense (every neuron of the block, no
    indices) or all sparse (synapses other than zero, with indices), whichever is smaller in total.
Output axons
    A neuron has one entry per target core and sign (`population_axon_entries` of them where its
    axon there is a population axon).
Signs
    A graded spike on a chip that signs them needs one set of axons; anything else needs one per
    sign that can occur (`Network.bounds`), with the payload's gain folded into weight and exponent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError, MappingError
from pmsm_hw.mapping.resources.connectivity import (
    FanOut,
    fan_out_box,
    group_channels,
    source_range,
)
from pmsm_hw.network import Input, PolarityMultiSpike, Readout
from pmsm_hw.operators import DenseForm, Form, WindowForm, chw, exact_product, lowered

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Block, Mode
    from pmsm_hw.mapping.chip import Chip, SynapticKind
    from pmsm_hw.network import Network, Population, Projection

__all__ = ["Box", "Plain", "Reach", "Resources", "Wire", "list_bits", "list_kind", "spike_mode"]

Range = tuple[int, int]
_SHORT = 64
"""Numbers in a row: rows of fewer are summed faster by numpy than one by one."""


def spike_mode(population: Population, chip: Chip) -> Mode:
    """How spikes of a population travel on a chip.

    Raises
    ------
    MappingError
        If the population insists on a mode that the chip does not have.
    """
    modes = chip.spikes.modes.value
    wanted = getattr(population, "spike_mode", "auto")  # readouts never spike
    if wanted == "auto":
        return "graded" if "graded" in modes else "unit"
    if wanted not in modes:
        raise MappingError(
            population.subject,
            f"wants {wanted} spikes, chip '{chip.name}' has {', '.join(modes)}",
            remedy="use spike_mode='auto' or another chip",
            actual=wanted,
            limit=modes,
        )
    mode: Mode = wanted
    return mode


@dataclass(frozen=True)
class Box:
    """A mask over a box of source units (neurons, or pixels with one channel)."""

    channels: Range
    rows: Range
    columns: Range
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Plain:
    """Pixels of a source whose channels have plain axons into a block.

    Parameters
    ----------
    n
        How many.
    rows, columns
        Ranges of `mask` in the source.
    mask
        ``(rows, columns)`` bool.
    """

    n: int
    rows: Range
    columns: Range
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Reach:
    """Source channels that reach some parts of the target's.

    Parameters
    ----------
    whole
        ``(channels,)`` int64: parts that a channel reaches with every tap.
    rest
        Of each part, the other channels and their taps.
    """

    whole: NDArray[np.int64]
    rest: list[tuple[NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A projection as a chip realises it.

    Parameters
    ----------
    projection, form
        The projection, plain and lowered.
    axons
        ``"pixel"``: population axons; ``"neuron"``: one axon per source neuron.
    widths
        Bits of a weight, for each set of axons (sign); empty if the source never spikes.
    formats
        ``(bits, exponent, delay)`` of each set.
    delay_bits
        Bits of delay beside each weight.
    entries
        Output-axon entries per neuron, target core and sign, its axon there being a population one
        (`Resources.plain_pixels` need one each).
    hardware_delay
        See `Network.hardware_delay`.
    geometry
        Wires with equal ones join the same neurons, were no weight zero.
    n_weights
        Weights other than zero.
    channels
        Range of the target's channels outside of which every weight is zero.
    has_plain
        Whether plain axons save entries: the source sits on cores, and population axons cost more.
    live
        Of a dense form, ``(rows, columns)`` bool: pixels of the source some neuron of which has a
        weight other than zero; the others cost nothing.
    n_live
        Of a dense form, source neurons that have a weight other than zero.
    """

    projection: Projection
    form: Form
    axons: Literal["pixel", "neuron"]
    widths: tuple[int, ...]
    formats: tuple[tuple[int, int, int], ...]
    delay_bits: int
    entries: int
    hardware_delay: int
    geometry: tuple[object, ...]
    n_weights: int
    channels: Range
    has_plain: bool
    live: NDArray[np.bool_]
    n_live: int

    @property
    def n_signs(self) -> int:
        """Sets of axons."""
        return len(self.widths)

    @cached_property
    def is_full(self) -> bool:
        """Whether no weight is zero."""
        return self.n_weights == self.form.weight.size

    @cached_property
    def kind(self) -> tuple[object, ...]:
        """Wires with equal ones need the same, wherever their zeros lie."""
        return (
            *self.geometry, self.axons, self.widths, self.delay_bits, self.entries,
            self.n_weights, self.channels, self.has_plain, self.n_live, self.n_live_units,
        )  # fmt: skip

    @cached_property
    def windows(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Wires of windows with equal ones along an axis join the same rows (or columns)."""
        form = self.form
        assert isinstance(form, WindowForm)
        rows, columns = (
            (
                form.weight.shape[2 + axis], form.stride[axis], form.padding[axis][0],
                form.dilation[axis], form.source[1 + axis],
            )
            for axis in (0, 1)
        )  # fmt: skip
        return rows, columns

    @cached_property
    def n_live_units(self) -> int:
        """Of a dense form, axons of one sign that it needs at most."""
        return int(np.count_nonzero(self.live)) if self.axons == "pixel" else self.n_live

    @property
    def shares_lists(self) -> bool:
        """Whether pixels that meet a block alike share their lists."""
        return self.axons == "pixel" and isinstance(self.form, WindowForm)


def list_bits(chip: Chip, n: NDArray[np.int64] | int, bits_each: int) -> NDArray[np.int64]:
    """Synapse memory of lists of ``n`` weights, 0 for none.

    Parameters
    ----------
    chip
        Gives the block rule (`Limits`).
    n
        Any shape, weights of each list.
    bits_each
        Bits of one weight with its index and delay.

    Returns
    -------
    ndarray
        As ``n``, int64, bits.
    """
    limits = chip.limits
    per_block, word = limits.synapse_block_weights.value, limits.synapse_word_bits.value
    header = limits.synapse_block_header_bits.value

    def rounded(bits: NDArray[np.int64]) -> NDArray[np.int64]:
        return -(-bits // word) * word

    n = np.asarray(n, np.int64)
    whole, rest = np.divmod(n, per_block)
    full = rounded(np.int64(per_block * bits_each + header))  # type: ignore[arg-type]
    return whole * full + np.where(rest > 0, rounded(rest * bits_each + header), 0)


class Resources:
    """Exact resource counts of blocks of one network on one chip.

    Raises
    ------
    MappingError
        If spikes, gains, weights or exponents have no form on the chip.
    CapacityError
        If a delay is longer than the chip can hold.
    """

    def __init__(self, network: Network, chip: Chip) -> None:
        self.network, self.chip = network, chip
        self.spike_modes: dict[str, Mode] = {p.name: spike_mode(p, chip) for p in network}
        self.factors = {p.name: self._factors(p) for p in network}
        self.wires: dict[str, Wire] = {q.name: self._wire(q) for q in network.projections}
        spiking = {name: wire for name, wire in self.wires.items() if wire.widths}
        self._into, self._out_of = (
            {
                p.name: tuple(spiking[q.name] for q in projections(p.name) if q.name in spiking)
                for p in network
            }
            for projections in (network.into, network.out_of)
        )
        self._bits: dict[tuple[object, ...], tuple[int, SynapticKind]] = {}
        # of windows, by how they lie along an axis, and range of targets
        self._signatures: dict[tuple[object, ...], NDArray[np.bool_]] = {}
        self._hits: dict[tuple[object, ...], NDArray[np.bool_]] = {}
        self._singles: dict[tuple[object, ...], NDArray[np.bool_]] = {}
        self._distinct_rows: dict[tuple[object, ...], tuple[NDArray[np.bool_], bytes]] = {}
        self._met: dict[tuple[object, ...], bytes] = {}
        self._pixels: dict[tuple[str, Range, Range], Box] = {}
        self._reached: dict[tuple[object, ...], NDArray[np.bool_]] = {}
        self._prefix: dict[str, NDArray[np.int32]] = {}
        self.fitting: dict[tuple[object, ...], bool] = {}
        """Cells and channel cuts that were found to fit, or not (`tiling`)."""
        self._part_keys: dict[tuple[str, int, Range], tuple[int, ...]] = {}
        self._cell_keys: dict[tuple[str, Range, Range], tuple[object, ...]] = {}
        self._periods: dict[str, tuple[int, ...] | None] = {}
        self._list_bits: dict[int, NDArray[np.int64]] = {}
        self._needs: dict[tuple[object, ...], tuple[int, int]] = {}
        self._reach: dict[tuple[object, ...], Reach] = {}
        self.block_limits: dict[str, int] = {}
        """Neurons that a block of a population may have, where that is less than a core's limit."""
        self._taps: dict[tuple[str, Range], tuple[NDArray[np.int64], bool]] = {}
        self._plain: dict[tuple[str, Range, Range, int], Plain] = {}
        self._plain_of: dict[tuple[object, ...], Plain | None] = {}
        self._n_plain: dict[tuple[object, ...], dict[str, int]] = {}
        self._alike: dict[str, bool] = {}
        self._one_threshold: dict[str, bool] = {}
        self._thresholds: dict[tuple[object, ...], tuple[int, ...]] = {}
        self._last_fan_out: tuple[Wire, Block, FanOut] | None = None

    def most_neurons(self, population: str) -> int:
        """Neurons that a block of a population may have: a core's limit, or `block_limits`."""
        limit = self.chip.limits.neurons.value
        return min(limit, self.block_limits.get(population, limit))

    def into(self, population: str) -> tuple[Wire, ...]:
        """Wires into a population whose sources can spike."""
        return self._into[population]

    def out_of(self, population: str) -> tuple[Wire, ...]:
        """Wires out of a population, if it can spike."""
        return self._out_of[population]

    # -- how the network meets the chip ---------------------------------------------------

    def _factors(self, population: Population) -> tuple[int, ...]:
        """Payload of one message on each set of axons; ``()`` if the population never spikes."""
        bound = self.network.bounds[population.name]
        signs = [s for s, on in ((1, bound.k_max > 0), (-1, bound.k_min < 0)) if on]
        if isinstance(population, Readout) or not signs:
            return ()
        graded = self.spike_modes[population.name] == "graded"
        if graded and self.chip.spikes.signed.value:
            return (1,)
        gains = population.gains if isinstance(population, PolarityMultiSpike) else (1, 1)
        if graded:
            return tuple(signs)
        factors = tuple(s * gains[0 if s > 0 else 1] for s in signs)
        for factor in factors:
            if factor == 0 or abs(factor) & (abs(factor) - 1):
                raise MappingError(
                    population.subject,
                    f"gains {gains} are not plus or minus powers of two, as the weights of unit "
                    f"spikes on chip '{self.chip.name}' must be",
                    remedy="use such gains, or a chip with graded spikes",
                    actual=gains,
                    limit="plus or minus powers of two",
                )
        return factors

    def _wire(self, projection: Projection) -> Wire:
        limits = self.chip.limits
        form = lowered(self.network, projection)
        has_rows = len(self.network[projection.source].shape) > 1
        pixel = limits.population_axons.value and has_rows
        delay = self.network.hardware_delay(projection)
        if delay > limits.max_delay_steps.value:
            raise CapacityError(
                projection.subject,
                f"holds its spikes for {delay} steps, chip '{self.chip.name}' delays by at most "
                f"{limits.max_delay_steps.value}",
                remedy="insert relay populations that shorten the way it skips",
                actual=delay,
                limit=limits.max_delay_steps.value,
            )
        lo, hi = int(projection.weight.min()), int(projection.weight.max())
        widths, formats = [], []
        for factor in self.factors[projection.source]:
            low, high = (lo, hi) if factor > 0 else (-hi, -lo)
            need = max((-low - 1).bit_length() if low < 0 else 0, max(high, 0).bit_length()) + 1
            width = min((w for w in limits.weight_bits.value if w >= need), default=None)
            if width is None:
                raise MappingError(
                    projection.subject,
                    f"weights in [{low}, {high}] need {need} bits, chip '{self.chip.name}' has "
                    f"at most {max(limits.weight_bits.value)}",
                    remedy="quantize to fewer bits",
                    actual=need,
                    limit=max(limits.weight_bits.value),
                )
            exponent = projection.weight_exponent + abs(factor).bit_length() - 1
            if exponent > limits.max_weight_exponent.value:
                raise MappingError(
                    projection.subject,
                    f"weight exponent {exponent} (payload gain {abs(factor)} included) exceeds "
                    f"{limits.max_weight_exponent.value} of chip '{self.chip.name}'",
                    remedy="use smaller gains or a smaller weight_exponent",
                    actual=exponent,
                    limit=limits.max_weight_exponent.value,
                )
            widths.append(width)
            formats.append((width, exponent, delay))
        n_weights = int(np.count_nonzero(form.weight))
        source = chw(self.network[projection.source].shape)
        lives: NDArray[np.bool_] = np.ones(source, bool)
        if isinstance(form, DenseForm) and n_weights < form.weight.size:
            lives = np.asarray(form.weight.any(axis=0)).reshape(source)
        return Wire(
            projection=projection,
            form=form,
            axons="pixel" if pixel else "neuron",
            widths=tuple(widths),
            formats=tuple(formats),
            delay_bits=limits.delay_bits.value if delay > 1 else 0,
            entries=limits.population_axon_entries.value if pixel else 1,
            hardware_delay=delay,
            geometry=_geometry(form, source),
            n_weights=n_weights,
            channels=self._reaching(projection, form, n_weights == form.weight.size),
            has_plain=pixel
            and limits.population_axon_entries.value > 1
            and not isinstance(self.network[projection.source], Input),
            live=np.asarray(lives.any(axis=0)),
            n_live=int(np.count_nonzero(lives)),
        )

    def _reaching(self, projection: Projection, form: Form, is_full: bool) -> Range:
        shape = chw(self.network[projection.target].shape)
        if is_full:
            return (0, shape[0])
        rows = np.flatnonzero(form.weight.reshape(len(form.weight), -1).any(axis=1))
        if rows.size == 0:
            return (0, 0)
        per_channel = len(form.weight) // shape[0]  # rows of a dense form are neurons
        return (int(rows[0]) // per_channel, int(rows[-1]) // per_channel + 1)

    def n_channels(self, wire: Wire) -> int:
        """Channels of the target."""
        return chw(self.network[wire.projection.target].shape)[0]

    # -- lists ----------------------------------------------------------------------------

    def signatures(self, wire: Wire, axis: int, targets: Range) -> NDArray[np.bool_]:
        """Taps by which each source row (axis 0) or column (1) meets a range of targets.

        Returns
        -------
        ndarray
            ``(source_range, kernel)`` bool.
        """
        key = (wire.windows[axis], targets)
        if key not in self._signatures:
            form = wire.form
            assert isinstance(form, WindowForm)
            first, end = source_range(form, axis, targets)
            kernel, stride = form.weight.shape[2 + axis], form.stride[axis]
            at = np.arange(first, end)[:, None] + form.padding[axis][0]
            offset = at - np.arange(kernel) * form.dilation[axis]
            row = offset // stride
            meets: NDArray[np.bool_] = offset % stride == 0
            self._signatures[key] = meets & (row >= targets[0]) & (row < targets[1])
        return self._signatures[key]

    def hits(self, wire: Wire, axis: int, targets: Range) -> NDArray[np.bool_]:
        """Which source rows (axis 0) or columns (1) of `source_range` meet a range of targets."""
        key = (wire.windows[axis], targets)
        if key not in self._hits:
            self._hits[key] = np.asarray(self.signatures(wire, axis, targets).any(axis=1))
        return self._hits[key]

    def block_bits(self, wire: Wire, block: Block) -> tuple[int, SynapticKind]:
        """Synapse memory, and kind of list, of one projection into a block."""
        n = block.n_neurons
        if wire.shares_lists:
            form = wire.form
            assert isinstance(form, WindowForm)
            rows, row_key = self._distinct(wire, 0, block.rows)
            columns, column_key = self._distinct(wire, 1, block.columns)
            channels: object = block.channels
            if wire.is_full and form.groups == 1:
                channels = block.channels[1] - block.channels[0]
            key = (wire.projection.name, row_key, column_key, channels, n)
            if key not in self._bits:
                taps, _ = self.taps(wire, block.channels)
                lengths = tap_sums(taps, rows, columns)
                self._bits[key] = self._smaller(wire, lengths, n)
            return self._bits[key][0], "conv"
        return self._smaller(wire, self._fan_out(wire, block).count, n)

    def _distinct(self, wire: Wire, axis: int, targets: Range) -> tuple[NDArray[np.bool_], bytes]:
        """Distinct rows of `signatures`, and a key of them."""
        key = (wire.windows[axis], targets)
        if key not in self._distinct_rows:
            meets = self.signatures(wire, axis, targets)
            rows = meets[np.unique(_row_codes(meets), return_index=True)[1]]
            self._distinct_rows[key] = (rows, rows.tobytes())
        return self._distinct_rows[key]

    def taps(self, wire: Wire, channels: Range) -> tuple[NDArray[np.int64], bool]:
        """`tap_counts` of target channels, and whether every one is above zero."""
        key = (wire.projection.name, channels)
        if key not in self._taps:
            assert isinstance(wire.form, WindowForm)
            form, below = wire.form, self._below(wire)
            if form.groups == 1:
                taps = below[channels[1]] - below[channels[0]]
            else:
                per_group = form.target[0] // form.groups
                groups = np.arange(channels[0] // per_group, (channels[1] - 1) // per_group + 1)
                ends = np.minimum((groups + 1) * per_group, channels[1])
                taps = below[ends] - below[np.maximum(groups * per_group, channels[0])]
                taps = taps.reshape(-1, *taps.shape[2:])
            self._taps[key] = (taps.astype(np.int64), bool(taps.all()))
        return self._taps[key]

    def has_all(self, wire: Wire, channels: Range) -> bool:
        """Whether every tap of every source channel reaches some of the target channels."""
        return wire.is_full or self.taps(wire, channels)[1]

    def _below(self, wire: Wire) -> NDArray[np.int32]:
        """Weights other than zero in the channels below each, ``(c_out + 1, c_in, kh, kw)``."""
        name = wire.projection.name
        if name not in self._prefix:
            weight = wire.form.weight
            prefix = np.zeros((len(weight) + 1, *weight.shape[1:]), np.int32)
            np.not_equal(weight, 0, out=prefix[1:], casting="unsafe")
            if prefix[0].size < _SHORT:
                np.cumsum(prefix, axis=0, out=prefix)
            else:
                for below, here in pairwise(prefix):
                    here += below
            self._prefix[name] = prefix
        return self._prefix[name]

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
            at = ((0, rows), (1, columns))
            y, x = (self.hits(wire, a, r) for a, r in at)
            pixels = int(np.count_nonzero(y)) * int(np.count_nonzero(x))
            units = pixels if wire.axons == "pixel" else pixels * n_sources
            if wire.shares_lists:
                y, x = (self._distinct(wire, a, r)[0] for a, r in at)
            else:
                y, x = (self.signatures(wire, a, r) for a, r in at)
            lengths = np.multiply.outer(y.sum(axis=1), x.sum(axis=1))
            lengths *= (
                n_channels if form.groups == 1 else min(n_channels, form.target[0] // form.groups)
            )
            times, n_lists = n_sources, int(np.count_nonzero(lengths)) * n_sources
        index = self.chip.limits.index_bits.value
        sparse = dense = 0
        for width_bits in wire.widths:
            per_weight = width_bits + wire.delay_bits
            bits = self._bits_by_length(per_weight + index, n_neurons)
            sparse += times * int(bits[lengths].sum())
            dense += n_lists * int(self._bits_by_length(per_weight, n_neurons)[n_neurons])
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
            y, x = (self.signatures(wire, a, r) for a, r in ((0, block.rows), (1, block.columns)))
            return FanOut(
                channels=group_channels(wire.form, block.channels),
                rows=source_range(wire.form, 0, block.rows),
                columns=source_range(wire.form, 1, block.columns),
                count=tap_sums(taps, y, x),
            )
        return fan_out_box(self.network, wire.projection, block)

    def _smaller(self, wire: Wire, lengths: NDArray[np.int64], n: int) -> tuple[int, SynapticKind]:
        """Bits of lists of these lengths into ``n`` neurons, dense or sparse."""
        n_lists = int(np.count_nonzero(lengths))
        index = self.chip.limits.index_bits.value
        sparse = dense = 0
        for width in wire.widths:
            each = width + wire.delay_bits
            sparse += int(self._bits_by_length(each + index, n)[lengths].sum())
            dense += n_lists * int(self._bits_by_length(each, n)[n])
        return (dense, "dense") if dense <= sparse else (sparse, "sparse")

    def _bits_by_length(self, bits_each: int, longest: int) -> NDArray[np.int64]:
        """`list_bits` of lists of 0, 1, ... weights, up to so many or more."""
        known = self._list_bits.get(bits_each)
        if known is None or len(known) <= longest:
            known = list_bits(self.chip, np.arange(2 * longest + 1), bits_each)
            self._list_bits[bits_each] = known
        return known

    def sources(self, wire: Wire, block: Block) -> Box:
        """Source units (pixels or neurons) with a synapse into a block."""
        if wire.axons == "neuron" or isinstance(wire.form, DenseForm):
            box = self._fan_out(wire, block)
            mask = box.count > 0
            if wire.axons == "neuron":
                return Box(box.channels, box.rows, box.columns, mask)
            pixels: NDArray[np.bool_] = np.asarray(mask.any(axis=0, keepdims=True))
            return Box((0, 1), box.rows, box.columns, pixels)
        form = wire.form
        assert isinstance(form, WindowForm)
        rows, columns = (source_range(form, a, r) for a, r in ((0, block.rows), (1, block.columns)))
        taps, all_taps = self.taps(wire, block.channels)
        if all_taps:
            key = (wire.projection.name, block.rows, block.columns)
            if key not in self._pixels:
                y, x = (self.hits(wire, a, r) for a, r in ((0, block.rows), (1, block.columns)))
                self._pixels[key] = Box((0, 1), rows, columns, np.outer(y, x)[None])
            return self._pixels[key]
        y = self.signatures(wire, 0, block.rows)
        x = self.signatures(wire, 1, block.columns)
        some = taps.any(axis=0).astype(np.int64)
        mask = (y.astype(np.int64) @ some @ x.T.astype(np.int64)) > 0
        return Box((0, 1), rows, columns, mask[None])

    # -- plain axons ----------------------------------------------------------------------

    def singles(self, wire: Wire, axis: int, targets: Range) -> NDArray[np.bool_]:
        """Source rows (axis 0) or columns (1) that meet a range of targets like no other one."""
        key = (wire.windows[axis], targets)
        if key not in self._singles:
            codes = _row_codes(self.signatures(wire, axis, targets))
            self._singles[key] = (np.bincount(codes)[codes] == 1) & self.hits(wire, axis, targets)
        return self._singles[key]

    def n_plain(
        self, population: str, channels: Range, rows: Range, columns: Range
    ) -> dict[str, int]:
        """Pixels with plain axons into a block, by wire; those without any are left out.

        Pixels whose lists are not shared get plain axons, as many as leave the block's input axons
        within a core's limit, were no weight zero.
        """
        if population not in self._has_choice:
            return {}
        sizes: list[int] = []
        if not self.all_channels_alike(population):
            for wire in self.into(population):
                if not _overlap(wire.channels, channels):
                    sizes.append(0)
                elif isinstance(wire.form, WindowForm):
                    first, end = group_channels(wire.form, channels)
                    sizes.append(end - first)
        exact = (population, rows, columns, *sizes)
        if exact not in self._n_plain:
            at = (self._part_key(population, a, part) for a, part in ((0, rows), (1, columns)))
            key = (population, *at, *sizes)
            if key not in self._n_plain:
                self._n_plain[key] = self._count_plain(population, channels, rows, columns)
            self._n_plain[exact] = self._n_plain[key]
        return self._n_plain[exact]

    def all_channels_alike(self, population: str) -> bool:
        """Whether all channels of a population are reached by the same, were no weight zero."""
        if population not in self._alike:
            self._alike[population] = all(
                w.channels == (0, self.n_channels(w))
                and (isinstance(w.form, DenseForm) or w.form.groups == 1)
                for w in self.into(population)
            )
        return self._alike[population]

    def _count_plain(
        self, population: str, channels: Range, rows: Range, columns: Range
    ) -> dict[str, int]:
        left = self.chip.limits.input_axons.value
        single: list[tuple[Wire, int, int]] = []  # wires, unshared pixels, channels of a pixel
        for wire in self.into(population):
            if not _overlap(wire.channels, channels):
                continue
            if isinstance(wire.form, DenseForm):
                n_channels = chw(self.network[wire.projection.source].shape)[0]
                n_pixels = n_single = int(np.count_nonzero(wire.live))
            else:
                first, end = group_channels(wire.form, channels)
                n_channels = end - first
                at = ((0, rows), (1, columns))
                y, x = (self.hits(wire, a, r) for a, r in at)
                n_pixels = int(np.count_nonzero(y)) * int(np.count_nonzero(x))
                y, x = (self.singles(wire, a, r) for a, r in at)
                n_single = int(np.count_nonzero(y)) * int(np.count_nonzero(x))
            if wire.axons == "pixel":
                left -= n_pixels * wire.n_signs
                if wire.has_plain:
                    single.append((wire, n_single, n_channels))
            elif isinstance(wire.form, DenseForm):
                left -= wire.n_live * wire.n_signs
            else:
                left -= n_pixels * n_channels * wire.n_signs
        found = {}
        for wire, n, n_channels in single:
            more = (n_channels - 1) * wire.n_signs
            n = min(n, max(left, 0) // more) if more else n
            left -= n * more
            if n:
                found[wire.projection.name] = n
        return found

    @cached_property
    def _has_choice(self) -> set[str]:
        """Populations into which plain axons may lead."""
        return {p.name for p in self.network if any(w.has_plain for w in self.into(p.name))}

    def plain_pixels(
        self, wire: Wire, channels: Range, rows: Range, columns: Range
    ) -> Plain | None:
        """Pixels whose channels have plain axons into a block, in the order of rows.

        Parameters
        ----------
        wire
            Into the block's population.
        channels, rows, columns
            Of the block.
        """
        if not wire.has_plain:
            return None
        target = wire.projection.target
        key: tuple[object, ...] = (wire.projection.name, rows, columns)
        if not self.all_channels_alike(target):
            key = (*key, channels)
        if key not in self._plain_of:
            n = self.n_plain(target, channels, rows, columns).get(wire.projection.name, 0)
            self._plain_of[key] = self._first_plain(wire, rows, columns, n) if n else None
        return self._plain_of[key]

    def _first_plain(self, wire: Wire, rows: Range, columns: Range, n: int) -> Plain:
        """Mask of the first pixels whose lists are not shared."""
        if isinstance(wire.form, DenseForm):
            _, height, width = chw(self.network[wire.projection.source].shape)
            rows, columns = (0, height), (0, width)
        key = (wire.projection.name, rows, columns, n)
        if key not in self._plain:
            if isinstance(wire.form, DenseForm):
                mask = wire.live.copy()
                box = (rows, columns)
            else:
                y, x = (self.singles(wire, a, r) for a, r in ((0, rows), (1, columns)))
                box = (source_range(wire.form, 0, rows), source_range(wire.form, 1, columns))
                mask = np.outer(y, x)
            mask.reshape(-1)[np.flatnonzero(mask)[n:]] = False
            self._plain[key] = Plain(n, *box, mask)
        return self._plain[key]

    def _by_population(self, wire: Wire, block: Block, reached: Box) -> Box:
        """Of the source neurons that reach a block, those without a plain axon there."""
        if wire.axons == "neuron":
            return replace(reached, mask=np.zeros_like(reached.mask))
        plain = self.plain_pixels(wire, block.channels, block.rows, block.columns)
        if plain is None:
            return reached
        return replace(reached, mask=reached.mask & ~plain.mask)

    # -- reach ----------------------------------------------------------------------------

    def reach_key(self, wire: Wire, block: Block) -> tuple[str, Range, Range] | None:
        """Blocks with equal keys are reached by the same source neurons; ``None``: look."""
        form = wire.form
        if isinstance(form, DenseForm):
            return (wire.projection.name, (0, 0), (0, 0)) if wire.is_full else None
        if form.groups == 1 and self.has_all(wire, block.channels):
            return (wire.projection.name, block.rows, block.columns)
        return None

    def reached(self, wire: Wire, block: Block) -> Box:
        """Source neurons with a synapse into a block."""
        if isinstance(wire.form, WindowForm):
            channels = group_channels(wire.form, block.channels)
            rows, columns = (
                source_range(wire.form, a, r) for a, r in ((0, block.rows), (1, block.columns))
            )
            key = (wire.projection.name, block.channels, *self._meets(wire, block))
            if key not in self._reached:
                at = ((0, block.rows), (1, block.columns))
                taps, all_taps = self.taps(wire, block.channels)
                if all_taps:
                    mask = np.outer(*(self.hits(wire, a, r) for a, r in at))
                    mask = np.broadcast_to(mask, (len(taps), *mask.shape))
                else:
                    mask = reach_mask(taps, *(self.signatures(wire, a, r) for a, r in at))
                self._reached[key] = mask
            return Box(channels, rows, columns, self._reached[key])
        box = self._fan_out(wire, block)
        return Box(box.channels, box.rows, box.columns, box.count > 0)

    def apart(self, found: Sequence[tuple[Wire, Block]]) -> bool:
        """Whether no neuron of a source reaches two of these blocks, by the windows of its wires.

        It may say no where they only share rows and columns of the box around them.
        """
        boxes: list[tuple[Range, Range, Range]] = []
        for wire, block in found if len(found) > 1 else ():
            form = wire.form
            assert isinstance(form, WindowForm)
            box = (
                group_channels(form, block.channels),
                source_range(form, 0, block.rows),
                source_range(form, 1, block.columns),
            )
            if any(all(map(_overlap, box, other)) for other in boxes):
                return False
            boxes.append(box)
        return True

    def reach(self, wire: Wire, parts: Sequence[Range]) -> Reach:
        """Source channels that reach some parts of the target's channels, of windows.

        Parameters
        ----------
        wire
            Between them.
        parts
            Ranges of channels, which are counted one by one.
        """
        form = wire.form
        assert isinstance(form, WindowForm)
        key = (*(wire.geometry if wire.is_full else (wire.projection.name,)), *parts)
        if key not in self._reach:
            whole = np.zeros(form.source[0], np.int64)
            rest = []
            for part in parts:
                c0, c1 = group_channels(form, part)
                taps, every = self.taps(wire, part)
                full = np.full(c1 - c0, True) if every else (taps > 0).all(axis=(1, 2))
                whole[c0:c1] += full
                others = np.flatnonzero(~full & taps.any(axis=(1, 2)))
                if others.size:
                    rest.append((c0 + others, taps[others]))
            self._reach[key] = Reach(whole, rest)
        return self._reach[key]

    def _meets(self, wire: Wire, block: Block) -> tuple[bytes, bytes]:
        """Of windows: blocks of the same channels with equal keys meet their source box alike."""
        found = []
        for axis, targets in ((0, block.rows), (1, block.columns)):
            key = (wire.windows[axis], targets)
            if key not in self._met:
                self._met[key] = self.signatures(wire, axis, targets).tobytes()
            found.append(self._met[key])
        return found[0], found[1]

    def like(self, population: str) -> str:
        """First population whose blocks have the same needs, cut the same; it may be itself."""
        return self._like[population]

    @cached_property
    def _like(self) -> dict[str, str]:
        first: dict[tuple[object, ...], str] = {}
        found = {}
        for p in self.placed:
            wires = self.into(p.name)
            key: tuple[object, ...] = (p.name,)  # zeros and thresholds may lie anywhere
            if all(w.is_full for w in wires) and self.has_one_threshold(p.name):
                at: dict[str, int] = {}  # wires of one source share axons
                sources = [at.setdefault(w.projection.source, len(at)) for w in wires]
                kinds = [w.kind for w in wires]
                key = (chw(p.shape), isinstance(p, PolarityMultiSpike), *sources, *kinds)
            found[p.name] = first.setdefault(key, p.name)
        return found

    def block_key(self, block: Block) -> tuple[object, ...]:
        """Blocks with equal keys have the same needs, output axons aside."""
        name = self.like(block.population)
        cell = self.cell_key(name, block.rows, block.columns)
        first, end = block.channels
        if name not in self._periods:
            wires = self.into(name)
            windows = [w.form for w in wires if isinstance(w.form, WindowForm)]
            periods = tuple(form.target[0] // form.groups for form in windows if form.groups > 1)
            self._periods[name] = periods if all(w.is_full for w in wires) else None
        of_groups = self._periods[name]
        if of_groups is None:
            return (name, first, end, *cell)
        # which channels does not matter then, but how they lie in their groups
        return (name, end - first, *(first % period for period in of_groups), *cell)

    def cell_key(self, population: str, rows: Range, columns: Range) -> tuple[object, ...]:
        """Cells of a population with equal keys have the same needs, output axons aside."""
        population = self.like(population)
        key = (population, rows, columns)
        if key not in self._cell_keys:
            wires = self.into(population)
            found: tuple[object, ...] = (rows, columns)  # zeros may lie anywhere
            if not any(not w.is_full and isinstance(w.form, DenseForm) for w in wires):
                at = ((0, rows), (1, columns))
                found = tuple(self._part_key(population, axis, part) for axis, part in at)
            self._cell_keys[key] = found
        return self._cell_keys[key]

    def _part_key(self, population: str, axis: int, part: Range) -> tuple[int, ...]:
        key = (population, axis, part)
        if key not in self._part_keys:
            windows = [w for w in self.into(population) if isinstance(w.form, WindowForm)]
            forms = [w.form for w in windows if isinstance(w.form, WindowForm)]
            # windows of one source share axons, by how they lie to each other, or to all of it
            firsts = {
                w.projection.source: 0
                for w in self.into(population)
                if isinstance(w.form, DenseForm)
            }
            apart = []
            for wire, form in zip(windows, forms, strict=True):
                first = part[0] * form.stride[axis] - form.padding[axis][0]
                apart.append(first - firsts.setdefault(wire.projection.source, first))
            self._part_keys[key] = (*part_key(forms, axis, part), *apart)
        return self._part_keys[key]

    # -- cores ----------------------------------------------------------------------------

    def needs_alone(self, block: Block) -> tuple[int, int]:
        """Input axons and synapse memory of a core that holds one block."""
        key = self.block_key(block)
        if key not in self._needs:
            self._needs[key] = (self.input_axons([block]), self.synapse_bits([block]))
        return self._needs[key]

    def input_axons(self, blocks: Sequence[Block]) -> int:
        """Input axons of a core that holds these blocks."""
        parts: dict[str, list[tuple[Wire, Block]]] = {}
        for block in blocks:
            for wire in self.into(block.population):
                if _overlap(wire.channels, block.channels):
                    parts.setdefault(wire.projection.source, []).append((wire, block))
        return sum(self._axons_of(found) * found[0][0].n_signs for found in parts.values())

    def _axons_of(self, found: Sequence[tuple[Wire, Block]]) -> int:
        """Input axons of one source and sign."""
        plain = [self.plain_pixels(w, b.channels, b.rows, b.columns) for w, b in found]
        if all(p is None for p in plain):
            return _union_size([self.sources(w, b) for w, b in found])
        if len(found) == 1:
            (wire, block), only = found[0], plain[0]
            assert only is not None
            if wire.shares_lists and self.has_all(wire, block.channels):
                first, end = group_channels(wire.form, block.channels)  # type: ignore[arg-type]
                rows, columns = (
                    int(np.count_nonzero(self.hits(wire, a, r)))
                    for a, r in ((0, block.rows), (1, block.columns))
                )
                return rows * columns + only.n * (end - first - 1)
            pixels = self.sources(wire, block).mask[0]
            alone = self.reached(wire, block).mask[:, only.mask]
            return int(np.count_nonzero(pixels & ~only.mask)) + int(np.count_nonzero(alone))
        boxes = [self.reached(w, b) for w, b in found]
        shared = union(
            [self._by_population(w, b, box) for (w, b), box in zip(found, boxes, strict=True)]
        ).mask
        n_plain = np.count_nonzero(union(boxes).mask & ~shared)
        return int(n_plain) + int(np.count_nonzero(shared.any(axis=0)))

    def synapse_bits(self, blocks: Iterable[Block]) -> int:
        """Synapse memory of a core that holds these blocks."""
        return sum(
            self.block_bits(wire, block)[0]
            for block in blocks
            for wire in self.into(block.population)
            if _overlap(wire.channels, block.channels)
        )

    def thresholds(self, blocks: Iterable[Block]) -> int:
        """Distinct thresholds of a core that holds these blocks."""
        return len({value for block in blocks for value in self.thresholds_of(block)})

    def has_one_threshold(self, population: str) -> bool:
        """Whether all neurons of a population have the same threshold, or none."""
        if population not in self._one_threshold:
            theta = getattr(self.network[population], "theta", None)
            self._one_threshold[population] = theta is None or bool((theta == theta.flat[0]).all())
        return self._one_threshold[population]

    def thresholds_of(self, block: Block) -> tuple[int, ...]:
        """Distinct thresholds of a block, ascending."""
        name = block.population
        key: tuple[object, ...] = (name,)
        if not self.has_one_threshold(name):
            key = (name, block.channels, block.rows, block.columns)
        if key not in self._thresholds:
            population = self.network[name]
            found: tuple[int, ...] = ()
            if isinstance(population, PolarityMultiSpike):
                found = tuple(np.unique(theta_of(population, block)).tolist())
            self._thresholds[key] = found
        return self._thresholds[key]

    def formats(self, blocks: Iterable[Block]) -> int:
        """Distinct synapse formats of a core that holds these blocks."""
        return len({f for b in blocks for w in self.into(b.population) for f in w.formats})

    def output_entries(
        self,
        population: str,
        cores: Iterable[Sequence[Block]],
        *,
        targets: set[str] | None = None,
    ) -> NDArray[np.int64]:
        """Output-axon entries that each neuron of a population needs.

        Parameters
        ----------
        population
            The source.
        cores
            Blocks of each core, or blocks one by one for an upper bound.
        targets
            Populations to count; all by default.

        Returns
        -------
        ndarray
            ``operators.chw(shape)`` int64.
        """
        total = np.zeros(chw(self.network[population].shape), np.int64)
        pixels = np.zeros(total.shape[1:], np.int64)  # of all channels
        wires = self.out_of(population)
        if not wires:
            return total
        by_target: dict[str, list[Wire]] = {}
        for wire in wires:
            if targets is None or wire.projection.target in targets:
                by_target.setdefault(wire.projection.target, []).append(wire)
        alone: dict[tuple[str, Range, Range], list[Block]] = {}  # on a core: by window
        for blocks in cores:
            found = [
                (wire, block) for block in blocks for wire in by_target.get(block.population, ())
            ]
            if all(isinstance(wire.form, WindowForm) for wire, _ in found) and self.apart(found):
                for wire, block in found:
                    key = (wire.projection.name, block.rows, block.columns)
                    alone.setdefault(key, []).append(block)
            else:
                box, need = self._entries(found)
                total[slice(*box.channels), slice(*box.rows), slice(*box.columns)] += need
        for (name, rows, columns), mine in alone.items():
            wire = self.wires[name]
            form = wire.form
            assert isinstance(form, WindowForm)
            y, x = source_range(form, 0, rows), source_range(form, 1, columns)
            alike: dict[int, list[Block]] = {}  # all taps reach them, by plain axons
            for block in mine:
                if self.has_all(wire, block.channels):
                    plain = self.plain_pixels(wire, block.channels, rows, columns)
                    alike.setdefault(0 if plain is None else plain.n, []).append(block)
                else:
                    box, need = self._entries([(wire, block)])
                    total[slice(*box.channels), slice(*y), slice(*x)] += need
            for some in alike.values():
                need = self._entries([(wire, some[0])], pixels=True)[1]
                if form.groups == 1:
                    pixels[slice(*y), slice(*x)] += len(some) * need[0]
                else:
                    spans = [group_channels(form, block.channels) for block in some]
                    low, high = min(a for a, _ in spans), max(b for _, b in spans)
                    many = np.zeros(high - low, np.int64)
                    for a, b in spans:
                        many[a - low : b - low] += 1
                    total[low:high, slice(*y), slice(*x)] += many[:, None, None] * need
        total += pixels
        return total

    def _entries(
        self, found: Sequence[tuple[Wire, Block]], *, pixels: bool = False
    ) -> tuple[Box, NDArray[np.int64]]:
        """Output-axon entries of the neurons of a source for one core, on a box that holds them.

        Of pixels: those of the first channel, where all are alike.
        """
        boxes = [self.reached(wire, block) for wire, block in found]
        if pixels:
            boxes = [replace(b, channels=(0, 1), mask=b.mask[:1]) for b in boxes]
        signs, entries = found[0][0].n_signs, found[0][0].entries
        if len(found) == 1:
            (wire, block), box = found[0], boxes[0]
            plain = self.plain_pixels(wire, block.channels, block.rows, block.columns)
            if plain is None:
                return box, box.mask * np.int64(signs * entries)
            each = np.full(plain.mask.shape, np.int64(signs * entries))
            each[plain.mask] = signs
            return box, box.mask * each
        box = union(boxes)
        need: NDArray[np.int64] = box.mask * np.int64(signs)
        if entries > 1:
            more = [
                self._by_population(wire, block, reached)
                for (wire, block), reached in zip(found, boxes, strict=True)
            ]
            need += union(more).mask * np.int64(signs * (entries - 1))
        return box, need

    @cached_property
    def placed(self) -> tuple[Population, ...]:
        """Populations that sit on cores, in topological order."""
        return tuple(p for p in self.network.topological if not isinstance(p, Input))


def _geometry(form: Form, source: tuple[int, int, int]) -> tuple[object, ...]:
    if isinstance(form, DenseForm):
        return (*form.weight.shape, source)
    return (
        *form.weight.shape, form.stride, form.padding, form.dilation, form.groups, source,
        form.target,
    )  # fmt: skip


def _overlap(a: Range, b: Range) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _row_codes(rows: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Small numbers of rows, equal for equal rows, and in their order."""
    packed = np.packbits(rows, axis=1)
    if packed.shape[1] == 1:
        return packed[:, 0]
    return np.unique(packed, axis=0, return_inverse=True)[1].reshape(-1)


def tap_sums(
    taps: NDArray[np.int64], y: NDArray[np.bool_], x: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Synapses of each source channel by row and column signature, channels first."""
    c, kh, kw = taps.shape
    pairs = (y[:, None, :, None] & x[None, :, None, :]).reshape(-1, kh * kw)
    # counts are far below 2**53, exact in float64
    sums = taps.reshape(c, -1).astype(np.float64) @ pairs.T.astype(np.float64)
    return sums.astype(np.int64).reshape(c, len(y), len(x))


def reach_mask(
    taps: NDArray[np.int64], y: NDArray[np.bool_], x: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Source neurons, ``(channels, rows, columns)``, that have a synapse."""
    c, kh, kw = taps.shape
    pairs = (y[:, None, :, None] & x[None, :, None, :]).reshape(-1, kh * kw)
    some = np.greater(taps.reshape(c, -1), 0)
    if kh * kw <= 32:  # a bit for each tap
        bits = np.int64(1) << np.arange(kh * kw)
        met: NDArray[np.bool_] = ((some @ bits)[:, None] & (pairs @ bits)) != 0
        return met.reshape(c, len(y), len(x))
    # counts below 2**24 are exact in float32
    hits = exact_product(some.astype(np.float32), pairs.T.astype(np.float32)) > 0
    return hits.reshape(c, len(y), len(x))


def part_key(forms: Sequence[WindowForm], axis: int, part: Range) -> tuple[int, ...]:
    """Each window meets parts with equal keys alike: no edge of a source clips them, or all do."""
    key = [part[1] - part[0]]
    for form in forms:
        raw = part[0] * form.stride[axis] - form.padding[axis][0]
        end = (part[1] - 1) * form.stride[axis] - form.padding[axis][0]
        end += (form.weight.shape[2 + axis] - 1) * form.dilation[axis]
        key += [max(0, -raw), max(0, end - form.source[1 + axis] + 1)]
    return tuple(key)


def theta_of(population: PolarityMultiSpike, block: Block) -> NDArray[np.int64]:
    """Thresholds of a block, broadcastable to it."""
    theta = population.theta
    if theta.ndim == 0:
        return theta
    theta = theta.reshape((*theta.shape, 1, 1)[:3])
    channels, rows, columns = block.slices()
    return theta[
        channels,
        rows if theta.shape[1] > 1 else slice(None),
        columns if theta.shape[2] > 1 else slice(None),
    ]


def union(boxes: Sequence[Box]) -> Box:
    """Union of masks, on the box around them."""
    first, end, top, bottom, left, right = (
        fold(edges)
        for fold, edges in zip(
            (min, max) * 3, zip(*((*b.channels, *b.rows, *b.columns) for b in boxes), strict=True),
            strict=True,
        )
    )  # fmt: skip
    mask = np.zeros((end - first, bottom - top, right - left), bool)
    for b in boxes:
        mask[
            b.channels[0] - first : b.channels[1] - first,
            b.rows[0] - top : b.rows[1] - top,
            b.columns[0] - left : b.columns[1] - left,
        ] |= b.mask
    return Box((first, end), (top, bottom), (left, right), mask)


def _union_size(boxes: Sequence[Box]) -> int:
    box = boxes[0] if len(boxes) == 1 else union(boxes)
    return int(np.count_nonzero(box.mask))


def list_kind(network: Network, chip: Chip, projection: Projection, block: Block) -> SynapticKind:
    """How the synapses of a projection into a block are stored, which decides what one costs.

    Parameters
    ----------
    network
        Holds the projection.
    chip
        Its limits and memory rule decide.
    projection
        One of the network's.
    block
        Of the projection's target.
    """
    resources = Resources(network, chip)
    wire = resources.wires[projection.name]
    return resources.block_bits(wire, block)[1]
