"""Output-axon entries of neurons whose targets are cut into grids, counted exactly and fast."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import Range
from pmsm_hw.mapping.partition.grids import Grid, grid_blocks, parts_of
from pmsm_hw.mapping.resources.windows import reach_mask, signatures, source_range
from pmsm_hw.operators import WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.resources import Resources, Wire
    from pmsm_hw.mapping.resources.axons import Plain, Reach
    from pmsm_hw.network import Population

__all__ = ["Entries", "grid_entries"]


def grid_entries(
    resources: Resources, population: str, grids: MappingType[str, Grid]
) -> NDArray[np.int64]:
    """Output-axon entries of each neuron if every block had its own core.

    As `Resources.output_entries`, but fast for grids: channels all of whose taps have a synapse
    into a part are counted for the whole cell at once. Channels that all have the same entries
    share memory, which is not to be written to.
    """
    network = resources.network
    shape = chw(network[population].shape)
    alike = np.zeros(shape[1:], np.int64)  # of each channel,
    own: NDArray[np.int64] | None = None  # and what differs
    by_target: dict[str, list[Wire]] = {}
    for wire in resources.out_of(population):
        if wire.projection.target in grids:
            by_target.setdefault(wire.projection.target, []).append(wire)
    for name, found in by_target.items():
        if len(found) > 1 or not isinstance(found[0].form, WindowForm):
            blocks = grid_blocks(network[name], grids[name])
            more = resources.output_entries(population, ([b] for b in blocks), targets={name})
            own = more if own is None else own + more
            continue
        products, rest = _window_entries(resources, found[0], grids[name])
        for whole, pixels in products:
            if whole.min() == whole.max():
                alike += whole[0] * pixels
            else:
                own = np.zeros(shape, np.int64) if own is None else own
                own += whole[:, None, None] * pixels
        for channels, (y0, y1), (x0, x1), some in rest:
            own = np.zeros(shape, np.int64) if own is None else own
            own[channels, y0:y1, x0:x1] += some
    return np.broadcast_to(alike, shape) if own is None else own + alike


class Entries:
    """`grid_entries` of several cuts: what they have in common is counted once."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._targets = {
            p.name: tuple(dict.fromkeys(w.projection.target for w in resources.out_of(p.name)))
            for p in resources.placed
        }
        # populations that are alike, and whose targets are, have the same entries
        self._kind = {p.name: self._kind_of(p) for p in resources.placed}
        self._known: dict[tuple[object, ...], NDArray[np.int64]] = {}

    def _kind_of(self, population: Population) -> tuple[object, ...]:
        resources, targets = self.resources, self._targets[population.name]
        at = {name: i for i, name in enumerate(targets)}
        wires = [
            (at[name], resources.like(name), [w is wire for w in resources.into(name)].index(True))
            for wire in resources.out_of(population.name)
            for name in [wire.projection.target]
        ]
        return (chw(population.shape), *wires)

    def of_targets(
        self, population: str, grids: MappingType[str, Grid], guess: MappingType[str, Grid]
    ) -> dict[str, Grid]:
        """Those of the grids that are of a population's targets; of others, the guess, if any."""
        found = {name: grids.get(name, guess.get(name)) for name in self._targets[population]}
        return {name: grid for name, grid in found.items() if grid is not None}

    def of(self, population: str, grids: MappingType[str, Grid]) -> NDArray[np.int64]:
        """Entries of a population, its targets being cut so."""
        cuts = (grids.get(name) for name in self._targets[population])
        key = (self._kind[population], *(None if cut is None else cut.how for cut in cuts))
        if key not in self._known:
            found = grid_entries(self.resources, population, grids)
            found.flags.writeable = False
            self._known[key] = found
        return self._known[key]


_Part = tuple[NDArray[np.int64], Range, Range, NDArray[np.int64]]


def _window_entries(
    resources: Resources, wire: Wire, grid: Grid
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], list[_Part]]:
    """Entries that one wire into a grid gives its source.

    Returns
    -------
    products
        Factors by channel and by pixel, to be multiplied and summed.
    rest
        Some channels, rows and columns, and their entries on top.
    """
    form = wire.form
    assert isinstance(form, WindowForm)
    ys, xs = (
        {part: source_range(form, axis, part) for part in parts_of(grid.shape[1 + axis], n)}
        for axis, n in ((0, grid.rows), (1, grid.columns))
    )
    products: dict[tuple[object, ...], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    rest: list[_Part] = []
    known: dict[tuple[object, ...], list[_CellEntries]] = {}  # cells that are alike: counted once
    for rows, columns, cuts in grid.cells():
        key = (cuts, *resources.cell_key(grid.population, rows, columns))
        if key not in known:
            parts = grid.along_channels(cuts)
            known[key] = _cell_entries(resources, wire, rows, columns, parts)
        y, x = ys[rows], xs[columns]
        for found in known[key]:
            at = (cuts, *found.parts)
            if at not in products:
                products[at] = (found.reach.whole, np.zeros(form.source[1:], np.int64))
            products[at][1][y[0] : y[1], x[0] : x[1]] += found.pixels
            rest += [(channels, y, x, some) for channels, some in found.rest]
    return list(products.values()), rest


class _CellEntries(NamedTuple):
    """Entries that the blocks of a cell give its source, those with equal plain axons.

    Attributes
    ----------
    parts
        Which; none, if all of the cell.
    reach
        Source channels that reach them.
    pixels
        ``(rows, columns)`` entries of each channel that reaches a block with every tap.
    rest
        Other channels, and their entries.
    """

    parts: tuple[Range, ...]
    reach: Reach
    pixels: NDArray[np.int64]
    rest: list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def _cell_entries(
    resources: Resources, wire: Wire, rows: Range, columns: Range, parts: Sequence[Range]
) -> list[_CellEntries]:
    """Entries that a cell's blocks, some channels each, give the source of a wire of windows."""
    alike = resources.all_channels_alike(wire.projection.target)
    # parts without a weight are left out
    groups: dict[int, tuple[Plain | None, list[Range]]] = {}
    for part in parts[:1] if alike else parts:
        if part[0] < wire.channels[1] and wire.channels[0] < part[1]:
            plain = resources.plain_pixels(wire, part, rows, columns)
            groups.setdefault(plain.n if plain else 0, (plain, []))[1].append(part)
    y, x = (signatures(*at) for at in zip(wire.windows, (rows, columns), strict=True))
    meets = np.outer(y.any(axis=1), x.any(axis=1))
    found = []
    for plain, some in groups.values():
        entries = np.full(meets.shape, np.int64(wire.entries * wire.n_signs))
        if plain is not None:
            entries[plain.mask] = wire.n_signs
        reach = resources.reach(wire, parts if alike else some)
        rest = [(channels, entries * reach_mask(taps, y, x)) for channels, taps in reach.rest]
        found.append(_CellEntries(() if alike else tuple(some), reach, entries * meets, rest))
    return found
