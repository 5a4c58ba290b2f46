"""What blocks need of a core: the exact counts, and how chip and network fit together at all.

Input axons, and plain ones
    See `axons`.
Synapse memory
    See `memory`.
Output axons
    A neuron has one entry per target core and sign (`population_axon_entries` of them where its
    axon there is a population axon).
Signs
    A graded spike on a chip that signs them needs one set of axons; anything else needs one per
    sign that can occur (`Network.bounds`), with the payload's gain folded into weight and exponent.
Parameter sets
    See `neurons`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import Range
from pmsm_hw.mapping.resources import neurons
from pmsm_hw.mapping.resources.axons import Axons
from pmsm_hw.mapping.resources.windows import Box, group_channels, source_range, union
from pmsm_hw.mapping.resources.wiring import remembered
from pmsm_hw.operators import WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.mapping.resources.wires import Wire

__all__ = ["Resources"]


class Resources(Axons):
    """Exact resource counts of blocks of one network on one chip.

    Answers questions and is never set to anything: what it was asked before it remembers, which
    changes no answer.
    """

    def needs_alone(self, block: Block) -> tuple[int, int]:
        """Input axons and synapse memory of a core that holds one block."""
        return self.once(
            ("needs_alone", *self.block_key(block)),
            lambda: (self.input_axons([block]), self.synapse_bits([block])),
        )

    def thresholds(self, blocks: Iterable[Block]) -> int:
        """Distinct thresholds of a core that holds these blocks."""
        return len({value for block in blocks for value in self.thresholds_of(block)})

    def thresholds_of(self, block: Block) -> tuple[neurons.ParameterSet, ...]:
        """Distinct parameter sets (thresholds) of a block, ascending."""
        if self.has_one_threshold(block.population):  # of any neuron
            return self._thresholds(block.population, (0, 1), (0, 1), (0, 1))
        return self._thresholds(block.population, block.channels, block.rows, block.columns)

    @remembered
    def _thresholds(self, population: str, *at: Range) -> tuple[neurons.ParameterSet, ...]:
        return neurons.thresholds_of(self.network[population], *at)

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
                self.by_population(wire, block, reached)
                for (wire, block), reached in zip(found, boxes, strict=True)
            ]
            need += union(more).mask * np.int64(signs * (entries - 1))
        return box, need
