"""Input axons: which source neurons reach a block, and whether pixel by pixel or one by one.

Input axons
    A core has one input axon per source and sign that reaches it. The source is a neuron; or, where
    the chip has population axons and the population has rows, a pixel whose channels share one (a
    *population axon*).
Plain axons
    Where a pixel's lists are not shared with another pixel's, its channels can have *plain* axons
    instead: an input axon each, but one output entry instead of `population_axon_entries`. A block
    gives them to as many pixels as leave its input axons within a core's limit
    (`Axons.plain_pixels`). A neuron that reaches several blocks of a core has a plain axon there if
    all of them give it one, so that blocks that share a core never need more than they need alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import Range
from pmsm_hw.mapping.resources.memory import Memory
from pmsm_hw.mapping.resources.windows import (
    Box,
    from_key,
    group_channels,
    hits,
    meets,
    reach_mask,
    signatures,
    singles,
    source_range,
    union,
    union_size,
)
from pmsm_hw.mapping.resources.wiring import overlap, remembered
from pmsm_hw.operators import DenseForm, WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.mapping.resources.wires import Wire

__all__ = ["Axons", "Plain", "Reach"]


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


class Axons(Memory):
    """Axons of a network on a chip."""

    def input_axons(self, blocks: Sequence[Block]) -> int:
        """Input axons of a core that holds these blocks."""
        parts: dict[str, list[tuple[Wire, Block]]] = {}
        for block in blocks:
            for wire in self.into(block.population):
                if overlap(wire.channels, block.channels):
                    parts.setdefault(wire.projection.source, []).append((wire, block))
        return sum(self._axons_of(found) * found[0][0].n_signs for found in parts.values())

    def _axons_of(self, found: Sequence[tuple[Wire, Block]]) -> int:
        """Input axons of one source and sign."""
        plain = [self.plain_pixels(w, b.channels, b.rows, b.columns) for w, b in found]
        if all(p is None for p in plain):
            return union_size([self.sources(w, b) for w, b in found])
        if len(found) == 1:
            (wire, block), only = found[0], plain[0]
            assert only is not None
            if wire.shares_lists and self.has_all(wire, block.channels):
                first, end = group_channels(wire.form, block.channels)  # type: ignore[arg-type]
                rows, columns = (
                    int(np.count_nonzero(hits(window, part)))
                    for window, part in zip(wire.windows, (block.rows, block.columns), strict=True)
                )
                return rows * columns + only.n * (end - first - 1)
            pixels = self.sources(wire, block).mask[0]
            alone = self.reached(wire, block).mask[:, only.mask]
            return int(np.count_nonzero(pixels & ~only.mask)) + int(np.count_nonzero(alone))
        boxes = [self.reached(w, b) for w, b in found]
        shared = union(
            [self.by_population(w, b, box) for (w, b), box in zip(found, boxes, strict=True)]
        ).mask
        n_plain = np.count_nonzero(union(boxes).mask & ~shared)
        return int(n_plain) + int(np.count_nonzero(shared.any(axis=0)))

    def sources(self, wire: Wire, block: Block) -> Box:
        """Source units (pixels or neurons) with a synapse into a block."""
        if wire.axons == "neuron" or isinstance(wire.form, DenseForm):
            box = self._fan_out(wire, block)
            mask = box.count > 0
            if wire.axons == "neuron":
                return Box(box.channels, box.rows, box.columns, mask)
            pixels: NDArray[np.bool_] = np.asarray(mask.any(axis=0, keepdims=True))
            return Box((0, 1), box.rows, box.columns, pixels)
        taps, all_taps = self.taps(wire, block.channels)
        if all_taps:
            return self._all_pixels(wire, block.rows, block.columns)
        at = zip(wire.windows, (block.rows, block.columns), strict=True)
        y, x = (signatures(*part).astype(np.int64) for part in at)
        some = taps.any(axis=0).astype(np.int64)
        mask = (y @ some @ x.T) > 0
        rows, columns = (
            source_range(wire.form, a, r) for a, r in ((0, block.rows), (1, block.columns))
        )
        return Box((0, 1), rows, columns, mask[None])

    @remembered
    def _all_pixels(self, wire: Wire, rows: Range, columns: Range) -> Box:
        """Pixels that windows of all taps cover."""
        form = wire.form
        assert isinstance(form, WindowForm)
        y, x = (hits(*part) for part in zip(wire.windows, (rows, columns), strict=True))
        at = source_range(form, 0, rows), source_range(form, 1, columns)
        return Box((0, 1), *at, np.outer(y, x)[None])

    # -- plain axons ----------------------------------------------------------------------

    def n_plain(
        self, population: str, channels: Range, rows: Range, columns: Range
    ) -> dict[str, int]:
        """Pixels with plain axons into a block, by wire; those without any are left out.

        Pixels whose lists are not shared get plain axons, as many as leave the block's input axons
        within a core's limit, were no weight zero.
        """
        if population not in self._has_choice:
            return {}
        # source channels of each window into the block; no target channel of others is reached
        sizes: list[int] = []
        if not self.all_channels_alike(population):
            for wire in self.into(population):
                if not overlap(wire.channels, channels):
                    sizes.append(0)
                elif isinstance(wire.form, WindowForm):
                    first, end = group_channels(wire.form, channels)
                    sizes.append(end - first)
        return self.once(
            (
                "n_plain", population, self.part_key(population, 0, rows),
                self.part_key(population, 1, columns), *sizes,
            ),
            lambda: self._count_plain(population, channels, rows, columns),
        )  # fmt: skip

    def _count_plain(
        self, population: str, channels: Range, rows: Range, columns: Range
    ) -> dict[str, int]:
        left = self.chip.limits.input_axons.value
        single: list[tuple[Wire, int, int]] = []  # wires, unshared pixels, channels of a pixel
        for wire in self.into(population):
            if not overlap(wire.channels, channels):
                continue
            if isinstance(wire.form, DenseForm):
                n_channels = chw(self.network[wire.projection.source].shape)[0]
                n_pixels = n_single = int(np.count_nonzero(wire.live))
            else:
                first, end = group_channels(wire.form, channels)
                n_channels = end - first
                at = tuple(zip(wire.windows, (rows, columns), strict=True))
                y, x = (hits(*part) for part in at)
                n_pixels = int(np.count_nonzero(y)) * int(np.count_nonzero(x))
                y, x = (singles(*part) for part in at)
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
        if self.all_channels_alike(wire.projection.target):
            channels = (0, self.n_channels(wire))  # which ones does not matter
        return self._plain_pixels(wire, channels, rows, columns)

    @remembered
    def _plain_pixels(
        self, wire: Wire, channels: Range, rows: Range, columns: Range
    ) -> Plain | None:
        n = self.n_plain(wire.projection.target, channels, rows, columns).get(
            wire.projection.name, 0
        )
        if n == 0:
            return None
        if isinstance(wire.form, DenseForm):
            _, height, width = chw(self.network[wire.projection.source].shape)
            rows, columns = (0, height), (0, width)
        return self._first_plain(wire, rows, columns, n)

    @remembered
    def _first_plain(self, wire: Wire, rows: Range, columns: Range, n: int) -> Plain:
        """Mask of the first pixels whose lists are not shared; rows and columns of windows."""
        if isinstance(wire.form, DenseForm):
            mask = wire.live.copy()
            box = (rows, columns)
        else:
            y, x = (singles(*part) for part in zip(wire.windows, (rows, columns), strict=True))
            box = (source_range(wire.form, 0, rows), source_range(wire.form, 1, columns))
            mask = np.outer(y, x)
        mask.reshape(-1)[np.flatnonzero(mask)[n:]] = False
        return Plain(n, *box, mask)

    def by_population(self, wire: Wire, block: Block, reached: Box) -> Box:
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
            y, x = wire.windows
            return Box(
                group_channels(wire.form, block.channels),
                source_range(wire.form, 0, block.rows),
                source_range(wire.form, 1, block.columns),
                self._reached(wire, block.channels, meets(y, block.rows), meets(x, block.columns)),
            )
        box = self._fan_out(wire, block)
        return Box(box.channels, box.rows, box.columns, box.count > 0)

    @remembered
    def _reached(self, wire: Wire, channels: Range, y: bytes, x: bytes) -> NDArray[np.bool_]:
        """Of windows that meet their source so (`windows.meets`), channels first."""
        rows, columns = (
            from_key(key, window.kernel) for key, window in zip((y, x), wire.windows, strict=True)
        )
        taps, all_taps = self.taps(wire, channels)
        if not all_taps:
            return reach_mask(taps, rows, columns)
        mask = np.outer(rows.any(axis=1), columns.any(axis=1))
        return np.broadcast_to(mask, (len(taps), *mask.shape))

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
            if any(all(map(overlap, box, other)) for other in boxes):
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

        def count() -> Reach:
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
            return Reach(whole, rest)

        return self.once(("reach", *(wire.geometry if wire.is_full else (wire,)), *parts), count)
