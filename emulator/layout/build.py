"""A network on its chip, made ready for both modes of emulation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.layout.bundles import CountPlan, build_count_plan
from pmsm_hw.emulator.layout.deposits import deposits_of
from pmsm_hw.emulator.layout.macs import dense_macs
from pmsm_hw.emulator.layout.mesh import mesh_of
from pmsm_hw.emulator.layout.plan import Plan, Row, Shift
from pmsm_hw.emulator.layout.routes import routes_of
from pmsm_hw.emulator.layout.slots import fill_slots, places_of, runs_of
from pmsm_hw.network import Network, Projection
from pmsm_hw.neurons.codes import PLAIN
from pmsm_hw.operators import chw, lowered, magnitude

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Mapping
    from pmsm_hw.mapping.chip import SynapticKind

__all__ = ["Layout", "build_layout"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A network on its chip.

    Parameters
    ----------
    network, mapping
        What it was built from.
    plan
        Arrays of the compiled loops of cycle mode.
    count_plan
        Arrays of the compiled loops of counts mode.
    rows
        By number of the row.
    pairs
        ``(index of the source population, index of the core)`` by number of the pair.
    block_populations
        Name of the population of each block, inputs included.
    n_blocks
        Blocks on cores (inputs excluded).
    n_rows
        Steps whose sums are kept: the longest delay of a synapse in hardware steps, plus one.
    n_sums
        Sums of a step.
    shifts
        Which of them are shifted before they are added to a block's.
    wide
        Whether a sum of a step might leave 32 bits.
    link_tiles
        ``(n_links, 2)`` int64: board-wide tile that each link leaves.
    row_synapses
        ``(n_rows,)`` int64: synapses of each row.
    n_columns
        Routers in a row.
    """

    network: Network
    mapping: Mapping
    plan: Plan
    count_plan: CountPlan
    rows: tuple[Row, ...]
    pairs: tuple[tuple[int, int], ...]
    block_populations: tuple[str, ...]
    n_blocks: int
    n_rows: int
    n_sums: int
    shifts: tuple[Shift, ...]
    wide: bool
    link_tiles: NDArray[np.int64]
    row_synapses: NDArray[np.int64]
    n_columns: int

    @cached_property
    def rows_by_kind(self) -> dict[SynapticKind, NDArray[np.int64]]:
        """Numbers of the rows whose synapses are stored in each way."""
        kinds: tuple[SynapticKind, ...] = ("dense", "sparse", "conv")
        return {
            kind: np.array([i for i, row in enumerate(self.rows) if row.kind == kind], np.int64)
            for kind in kinds
        }

    @cached_property
    def row_ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """By row: indices of the source and target population, and of the core."""
        index = {p.name: i for i, p in enumerate(self.network.populations)}
        ends = [(index[q.source], index[q.target]) for q in self.network.projections]
        numbers = np.array([row.projection for row in self.rows], np.int64)
        source, target = np.array(ends, np.int64).reshape(-1, 2)[numbers].T
        return source, target, np.array([row.core for row in self.rows], np.int64)

    @cached_property
    def n_zero_weights(self) -> int:
        """Stored weights that are zero."""
        return sum(int(np.count_nonzero(q.weight == 0)) for q in self.network.projections)

    @cached_property
    def ann_macs(self) -> int:
        """Multiply-accumulates of one pass of the ANN of the same shape."""
        return dense_macs(self.network)

    @property
    def cores(self) -> tuple[int, ...]:
        """Cores in use, ascending."""
        return self.mapping.cores


def build_layout(network: Network, mapping: Mapping) -> Layout:
    """Flatten a network on its chip.

    Parameters
    ----------
    network
        The network.
    mapping
        A mapping of it.

    Raises
    ------
    MappingError
        If the mapping does not hold every neuron exactly once on cores that exist and have room.
    """
    from pmsm_hw.mapping import check

    check(network, mapping, mapping.chip)
    cores = mapping.cores
    places = places_of(network, mapping)
    blocks = fill_slots(network, mapping, places, len(cores))
    routes, rows, pairs, windows = routes_of(network, mapping, places, blocks, len(cores))
    deposits, shifts, n_sums = deposits_of(network, places, blocks, pairs)
    for shift in shifts:  # the compiled loop does not know of them
        population = blocks["block_population"][shift.block]
        blocks["block_rule"][blocks["block_population"] == population] = PLAIN
    mesh, link_tiles, n_columns = mesh_of(mapping)
    n_populations = len(network.populations)
    none = np.full(n_populations, -1, np.int64)
    plan = Plan(
        **blocks,
        **routes,
        **deposits,
        **mesh,
        population_size=np.array([p.n_neurons for p in network.populations], np.int64),
        record_base=none,
        n_recorded=0,
        readout_base=none,
        unit_base=none,
        unit_sample=none,
        unit_step=none,
    )
    return Layout(
        network=network,
        mapping=mapping,
        plan=plan,
        count_plan=build_count_plan(
            blocks,
            runs_of(blocks, places),
            routes,
            mesh,
            [chw(p.shape) for p in network.populations],
            pairs,
            windows,
        ),
        rows=rows,
        pairs=pairs,
        block_populations=tuple(p.population.name for p in places),
        n_blocks=sum(place.core < len(cores) for place in places),
        n_rows=1 + max((_longest_delay(network, q) for q in network.projections), default=1),
        n_sums=n_sums,
        shifts=shifts,
        wide=_is_wide(network),
        link_tiles=link_tiles,
        row_synapses=np.array(
            [int(row.sum(dtype=np.int64)) for window in windows for row in window.synapses],
            np.int64,
        ),
        n_columns=n_columns,
    )


def _longest_delay(network: Network, projection: Projection) -> int:
    """Hardware steps after which the last synapse of a projection delivers."""
    return network.hardware_delay(projection) + projection.max_delay - projection.delay


def _is_wide(network: Network) -> bool:
    """Whether some sum of a step might leave 32 bits."""
    for population in network:
        total = 0
        for projection in network.into(population.name):
            bound = network.bounds[projection.source]
            largest = max(abs(bound.payload_min), abs(bound.payload_max))
            most = magnitude(lowered(network, projection), largest)
            if projection.weight_exponent >= 0:
                total += most << projection.weight_exponent
            elif most >= 1 << 31:  # it is kept apart
                return True
        if total >= 1 << 31:
            return True
    return False
