"""How a network meets a chip: its wires, and which populations, cells and blocks are alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from pmsm_hw.mapping.blocks import Range
from pmsm_hw.mapping.resources.neurons import (
    axon_signs,
    compartments_of,
    has_one_threshold,
    spike_mode,
)
from pmsm_hw.mapping.resources.windows import part_key
from pmsm_hw.mapping.resources.wires import Wire, wire_of
from pmsm_hw.network import Input
from pmsm_hw.operators import DenseForm, WindowForm, chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block, Mode
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.network import Network, Population

__all__ = ["Wiring", "overlap", "remembered"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def remembered(method: Callable[Concatenate[Any, _P], _R]) -> Callable[Concatenate[Any, _P], _R]:
    """Cache of a method of `Wiring` by its arguments, kept as long as the object is."""
    name = method.__name__

    @wraps(method)
    def known(self: Any, /, *given: _P.args, **options: _P.kwargs) -> _R:
        assert not options
        key = (name, *given)
        try:
            found: _R = self._known[key]
        except KeyError:
            found = self._known[key] = method(self, *given, **options)
        return found

    return known


def overlap(a: Range, b: Range) -> bool:
    """Whether two ranges share a number."""
    return a[0] < b[1] and b[0] < a[1]


class Wiring:
    """How a network meets a chip.

    Parameters
    ----------
    network, chip
        Which. Nothing of either is changed, and nothing of this.

    Attributes
    ----------
    spike_modes
        By population.
    wires
        By projection.

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
        signs = {p.name: axon_signs(network, p, chip) for p in network}
        self.wires: dict[str, Wire] = {
            q.name: wire_of(network, chip, q, signs[q.source]) for q in network.projections
        }
        spiking = {name: wire for name, wire in self.wires.items() if wire.widths}
        self._into, self._out_of = (
            {
                p.name: tuple(spiking[q.name] for q in projections(p.name) if q.name in spiking)
                for p in network
            }
            for projections in (network.into, network.out_of)
        )
        self._known: dict[tuple[object, ...], Any] = {}
        """What was counted before, by what it is and what it depends on (`remembered`)."""

    def once(self, key: tuple[object, ...], make: Callable[[], _R]) -> _R:
        """What was made before for an equal key; else it is made.

        Parameters
        ----------
        key
            What it is, and all that it depends on but network and chip.
        make
            A pure function.
        """
        try:
            found: _R = self._known[key]
        except KeyError:
            found = self._known[key] = make()
        return found

    def into(self, population: str) -> tuple[Wire, ...]:
        """Wires into a population whose sources can spike."""
        return self._into[population]

    def out_of(self, population: str) -> tuple[Wire, ...]:
        """Wires out of a population, if it can spike."""
        return self._out_of[population]

    @cached_property
    def placed(self) -> tuple[Population, ...]:
        """Populations that sit on cores, in topological order."""
        return tuple(p for p in self.network.topological if not isinstance(p, Input))

    def compartments(self, population: str) -> int:
        """Compartments of a core that each neuron of a population takes."""
        return compartments_of(self.network[population])

    def n_channels(self, wire: Wire) -> int:
        """Channels of the target."""
        return chw(self.network[wire.projection.target].shape)[0]

    # -- what is alike --------------------------------------------------------------------

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
                key = (chw(p.shape), p.kind, *sources, *kinds)
            found[p.name] = first.setdefault(key, p.name)
        return found

    @remembered
    def has_one_threshold(self, population: str) -> bool:
        """Whether all neurons of a population have the same threshold, or none."""
        return has_one_threshold(self.network[population])

    @remembered
    def all_channels_alike(self, population: str) -> bool:
        """Whether all channels of a population are reached by the same, were no weight zero."""
        return all(
            w.channels == (0, self.n_channels(w))
            and (isinstance(w.form, DenseForm) or w.form.groups == 1)
            for w in self.into(population)
        )

    def block_key(self, block: Block) -> tuple[object, ...]:
        """Blocks with equal keys have the same needs, output axons aside."""
        name = self.like(block.population)
        cell = self._cell_key(name, block.rows, block.columns)
        first, end = block.channels
        of_groups = self._periods(name)
        if of_groups is None:
            return (name, first, end, *cell)
        # which channels does not matter then, but how they lie in their groups
        return (name, end - first, *(first % period for period in of_groups), *cell)

    @remembered
    def _periods(self, population: str) -> tuple[int, ...] | None:
        """Channels of a group of each window with groups; ``None``: zeros may lie anywhere."""
        wires = self.into(population)
        if not all(w.is_full for w in wires):
            return None
        windows = [w.form for w in wires if isinstance(w.form, WindowForm)]
        return tuple(form.target[0] // form.groups for form in windows if form.groups > 1)

    def cell_key(self, population: str, rows: Range, columns: Range) -> tuple[object, ...]:
        """Cells of a population with equal keys have the same needs, output axons aside."""
        return self._cell_key(self.like(population), rows, columns)

    @remembered
    def _cell_key(self, population: str, rows: Range, columns: Range) -> tuple[object, ...]:
        wires = self.into(population)
        if any(not w.is_full and isinstance(w.form, DenseForm) for w in wires):
            return (rows, columns)  # zeros may lie anywhere
        return (self.part_key(population, 0, rows), self.part_key(population, 1, columns))

    @remembered
    def part_key(self, population: str, axis: int, part: Range) -> tuple[int, ...]:
        """Parts of an axis of a population with equal keys meet all of its sources alike."""
        windows = [w for w in self.into(population) if isinstance(w.form, WindowForm)]
        forms = [w.form for w in windows if isinstance(w.form, WindowForm)]
        # windows of one source share axons, by how they lie to each other, or to all of it
        firsts = {
            w.projection.source: 0 for w in self.into(population) if isinstance(w.form, DenseForm)
        }
        apart = []
        for wire, form in zip(windows, forms, strict=True):
            first = part[0] * form.stride[axis] - form.padding[axis][0]
            apart.append(first - firsts.setdefault(wire.projection.source, first))
        return (*part_key(forms, axis, part), *apart)
