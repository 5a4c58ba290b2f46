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
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.bundles import CountPlan, Window, build_count_plan
from pmsm_hw.errors import MappingError
from pmsm_hw.network import Input, Network, PolarityMultiSpike, Population, Readout
from pmsm_hw.operators import DenseForm, chw, lowered, magnitude

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Block, Mapping
    from pmsm_hw.mapping.chip import SynapticKind
    from pmsm_hw.network import Projection

__all__ = ["Layout", "Plan", "Row", "build_layout"]

_RULES = {"carry": 0, "reset": 1, "bounded": 2}
_READOUT, _INPUT = 3, 4
_N_GEO = 23


class Plan(NamedTuple):
    """Arrays of the compiled loops; see the module docstring."""

    block_population: Any  # (n_blocks,) int64, index into network.populations
    block_core: Any  # (n_blocks,) int64, index into the cores in use; n_cores is the I/O port
    block_depth: Any  # (n_blocks,) int64
    block_n: Any  # (n_blocks,) int64, levels
    block_p: Any
    block_rule: Any  # (n_blocks,) int64: carry, reset, bounded, readout, input
    block_unit: Any  # (n_blocks,) int64: spikes travel as unit spikes
    block_gain: Any  # (n_blocks, 2) int64
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
    deposit: Any  # (n_deposits, 23) int64, see `_deposits`
    weights: Any  # int8, all of them
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
    unit_stride: Any  # (n_populations, 2) int64: by sample, by step


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
    n_delays
        Longest hardware delay plus one.
    wide
        Whether the summed input of a step might leave 32 bits.
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
    n_delays: int
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
        from pmsm_hw.emulator.operations import dense_macs

        return dense_macs(self.network)

    @property
    def cores(self) -> tuple[int, ...]:
        """Cores in use, ascending."""
        return self.mapping.cores


class _Place(NamedTuple):
    """A block, or a whole input, with the index of its core."""

    population: Population
    channels: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    core: int


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
        If the mapping does not hold every neuron exactly once on cores that exist.
    """
    mapping.require(network)
    cores = mapping.cores
    _check_blocks(network, mapping)
    index = {core: i for i, core in enumerate(cores)}
    places = [
        _Place(network[b.population], b.channels, b.rows, b.columns, index[core])
        for core in cores
        for b in mapping.blocks_of(core)
    ]
    n_blocks = len(places)
    for population in network.inputs:
        c, h, w = chw(population.shape)
        places.append(_Place(population, (0, c), (0, h), (0, w), len(cores)))
    blocks, runs = _blocks(network, mapping, places, len(cores))
    routes, rows, pairs, windows = _entries(network, mapping, places, blocks, len(cores))
    deposits, n_delays = _deposits(network, places, blocks, pairs, rows, len(cores))
    mesh, link_tiles, n_columns = _mesh(mapping)
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
        unit_stride=np.zeros((n_populations, 2), np.int64),
    )
    return Layout(
        network=network,
        mapping=mapping,
        plan=plan,
        count_plan=build_count_plan(
            blocks, runs, routes, mesh, [chw(p.shape) for p in network.populations], pairs, windows
        ),
        rows=rows,
        pairs=pairs,
        block_populations=tuple(p.population.name for p in places),
        n_blocks=n_blocks,
        n_delays=n_delays,
        wide=_is_wide(network),
        link_tiles=link_tiles,
        row_synapses=np.array(
            [int(row.sum(dtype=np.int64)) for window in windows for row in window.synapses],
            np.int64,
        ),
        n_columns=n_columns,
    )


def _check_blocks(network: Network, mapping: Mapping) -> None:
    """Every neuron exactly once, on cores that exist and are not overfull."""
    n_cores = mapping.chip.n_cores
    limit = mapping.chip.limits.neurons.value
    held: dict[int, int] = {}
    for block in mapping.blocks:
        if block.population not in network or isinstance(network[block.population], Input):
            raise MappingError(
                f"mapping of '{mapping.network_name}'",
                f"places '{block.population}', which is no population on cores",
                remedy="map this network anew",
                actual=block.population,
                limit=tuple(p.name for p in network if not isinstance(p, Input)),
            )
        if not 0 <= block.core < n_cores:
            raise MappingError(
                f"mapping of '{mapping.network_name}'",
                f"places '{block.population}' on core {block.core}, chip '{mapping.chip.name}' has "
                f"cores 0 to {n_cores - 1}",
                remedy="map this network anew",
                actual=block.core,
                limit=n_cores,
            )
        held[block.core] = held.get(block.core, 0) + block.n_neurons
    for core, n in held.items():
        if n > limit:
            raise MappingError(
                f"core {core}",
                f"holds {n:,} neurons, chip '{mapping.chip.name}' has room for {limit:,}",
                remedy="map this network anew",
                actual=n,
                limit=limit,
            )
    _check_usage(mapping)
    for population in network:
        if isinstance(population, Input):
            continue
        times = np.zeros(chw(population.shape), np.int64)
        for block in mapping.blocks_in(population.name):
            ranges = (block.channels, block.rows, block.columns)
            if any(not 0 <= a < b <= n for (a, b), n in zip(ranges, times.shape, strict=True)):
                raise MappingError(
                    population.subject,
                    f"has a block {ranges}, its neurons are {times.shape}",
                    remedy="map this network anew",
                    actual=ranges,
                    limit=times.shape,
                )
            times[block.slices()] += 1
        wrong = int(np.count_nonzero(times != 1))
        if wrong:
            raise MappingError(
                population.subject,
                f"{wrong:,} of {population.n_neurons:,} neurons are not on exactly 1 core",
                remedy="map this network anew",
                actual=wrong,
                limit=0,
            )


def _check_usage(mapping: Mapping) -> None:
    from pmsm_hw.mapping.assignment import RESOURCES

    for core, used in zip(mapping.cores, mapping.usage.tolist(), strict=False):
        for resource, n in zip(RESOURCES, used, strict=True):
            limit = getattr(mapping.chip.limits, resource).value
            if n > limit:
                raise MappingError(
                    f"core {core}",
                    f"uses {n:,} {resource}, chip '{mapping.chip.name}' has {limit:,}",
                    remedy="map this network anew",
                    actual=n,
                    limit=limit,
                )


def _blocks(
    network: Network, mapping: Mapping, places: list[_Place], n_cores: int
) -> tuple[dict[str, Any], NDArray[np.int64]]:
    index = {p.name: i for i, p in enumerate(network.populations)}
    n = len(places)
    sizes = [
        (p.channels[1] - p.channels[0]) * (p.rows[1] - p.rows[0]) * (p.columns[1] - p.columns[0])
        for p in places
    ]
    slot = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    n_slots = int(slot[-1])
    out: dict[str, Any] = {
        name: np.zeros(n, np.int64)
        for name in (
            "block_population",
            "block_core",
            "block_depth",
            "block_n",
            "block_p",
            "block_rule",
            "block_unit",
            "block_saturate",
        )
    }
    out["block_gain"] = np.ones((n, 2), np.int64)
    out["block_slot"] = slot
    for name in ("block", "flat", "c", "y", "x", "bias", "start"):
        out[f"slot_{name}"] = np.zeros(n_slots, np.int32)
    out["slot_theta"] = np.ones(n_slots, np.int32)
    for i, place in enumerate(places):
        population = place.population
        out["block_population"][i] = index[population.name]
        out["block_core"][i] = place.core
        out["block_depth"][i] = network.depths[population.name]
        out["block_unit"][i] = not isinstance(population, Readout) and (
            mapping.spike_mode(population.name) == "unit"
        )
        here = slice(slot[i], slot[i + 1])
        _, h, w = chw(population.shape)
        y, x, c = (
            a.reshape(-1)
            for a in np.meshgrid(
                np.arange(*place.rows),
                np.arange(*place.columns),
                np.arange(*place.channels),
                indexing="ij",
            )
        )
        flat = (c * h + y) * w + x
        out["slot_block"][here] = i
        out["slot_flat"][here] = flat
        out["slot_c"][here], out["slot_y"][here], out["slot_x"][here] = c, y, x
        if isinstance(population, Input):
            out["block_rule"][i] = _INPUT
            continue
        assert isinstance(population, PolarityMultiSpike | Readout)
        out["block_saturate"][i] = population.overflow == "saturate"
        out["slot_bias"][here] = np.broadcast_to(population.bias, population.shape).reshape(-1)[
            flat
        ]
        if isinstance(population, Readout):
            out["block_rule"][i] = _READOUT
            continue
        out["block_rule"][i] = _RULES[population.rule]
        out["block_n"][i], out["block_p"][i] = population.levels
        out["block_gain"][i] = population.gains
        for name, value in (("theta", population.theta), ("start", population.start)):
            out[f"slot_{name}"][here] = np.broadcast_to(value, population.shape).reshape(-1)[flat]
    channels, _, columns = np.array([chw(p.population.shape) for p in places]).T
    of = out["slot_block"]
    last = (out["slot_y"].astype(np.int64) * columns[of] + out["slot_x"]) * channels[of] + out[
        "slot_c"
    ]
    starts = np.flatnonzero(np.diff(last, prepend=-2) != 1)
    starts = np.union1d(starts, slot[:-1])
    counts = np.bincount(out["block_core"], minlength=n_cores + 1)
    out["core_block"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    # runs of slots that also follow one another channels last: first slot, and place there
    return out, np.stack([np.append(starts, n_slots), np.append(last[starts], 0)])


def _entries(
    network: Network,
    mapping: Mapping,
    places: list[_Place],
    blocks: dict[str, Any],
    n_cores: int,
) -> tuple[dict[str, Any], tuple[Row, ...], tuple[tuple[int, int], ...], list[Window]]:
    """Which cores a spike goes to, and how many synapses it meets there."""
    from pmsm_hw.emulator.kernels import order_entries
    from pmsm_hw.mapping.resources import Resources
    from pmsm_hw.mapping.resources.connectivity import fan_out_box

    resources = Resources(network, mapping.chip)

    def kind_of(projection: Projection, block: Block) -> SynapticKind:
        wire = resources.wires[projection.name]
        if wire.shares_lists:
            return "conv"
        return resources.block_bits(wire, block)[1] if wire.widths else "dense"

    slot_of: dict[str, NDArray[np.int64]] = {}
    for i, place in enumerate(places):
        size = place.population.n_neurons
        where = slot_of.setdefault(place.population.name, np.empty(size, np.int64))
        first, last = int(blocks["block_slot"][i]), int(blocks["block_slot"][i + 1])
        where[blocks["slot_flat"][first:last]] = np.arange(first, last)

    rows: list[Row] = []
    pairs: list[tuple[int, int]] = []
    pair_row = [0]
    pair_of = np.full((len(network.populations), n_cores), -1, np.int32)
    entry_slot: list[NDArray[np.int64]] = []
    synapse_parts: list[NDArray[np.int32]] = []
    windows: list[Window] = []
    number = {q.name: i for i, q in enumerate(network.projections)}
    for p, population in enumerate(network.populations):
        out = network.out_of(population.name)
        by_core: dict[int, list[tuple[int, Block]]] = {}
        for r, projection in enumerate(out):
            for block in mapping.blocks_in(projection.target):
                by_core.setdefault(block.core, []).append((r, block))
        for core_index, core in enumerate(mapping.cores):
            if core not in by_core:
                continue
            stored = [
                (r, kind_of(out[r], block), fan_out_box(network, out[r], block))
                for r, block in by_core[core]
            ]
            used = sorted({(r, kind) for r, kind, _ in stored})
            # the smallest box that holds all sources
            ranges = [(box.channels, box.rows, box.columns) for *_, box in stored]
            low = [min(a for a, _ in axis) for axis in zip(*ranges, strict=True)]
            high = [max(b for _, b in axis) for axis in zip(*ranges, strict=True)]
            count = np.zeros(
                (len(used), *(b - a for a, b in zip(low, high, strict=True))), np.int32
            )
            for r, kind, box in stored:
                here = tuple(
                    slice(a - start, b - start)
                    for (a, b), start in zip(
                        (box.channels, box.rows, box.columns), low, strict=True
                    )
                )
                count[used.index((r, kind))][here] += box.count
            flat = count.reshape(len(used), -1)
            reached = np.flatnonzero(flat[0] if len(used) == 1 else flat.any(axis=0))
            c, y, x = np.unravel_index(reached, count.shape[1:])
            _, height, width = chw(population.shape)
            sources = ((c + low[0]) * height + y + low[1]) * width + x + low[2]
            if sources.size == 0:
                continue
            pair_of[p, core_index] = len(pairs)
            pairs.append((p, core_index))
            rows += [
                Row(projection=number[out[r].name], core=core_index, kind=kind) for r, kind in used
            ]
            pair_row.append(len(rows))
            entry_slot.append(slot_of[population.name][sources])
            channels, height_range, width_range = (
                (int(a), int(b)) for a, b in zip(low, high, strict=True)
            )
            windows.append(
                Window(
                    rows=height_range,
                    columns=width_range,
                    channels=channels,
                    synapses=np.ascontiguousarray(count.transpose(0, 2, 3, 1)),
                )
            )
            synapse_parts.append(np.ascontiguousarray(flat[:, reached].T).reshape(-1))
    n_slots = int(blocks["block_slot"][-1])
    slots = np.concatenate([np.zeros(0, np.int64), *entry_slot])
    synapses = np.concatenate([np.zeros(0, np.int32), *synapse_parts])
    entry = np.zeros(n_slots + 1, np.int64)
    np.cumsum(np.bincount(slots, minlength=n_slots), out=entry[1:])
    entry_core, entry_source, entry_offset, entry_synapses = order_entries(
        entry,
        slots,
        synapses,
        np.array([len(part) for part in entry_slot], np.int64),
        np.array([core for _, core in pairs], np.int64),
        np.diff(pair_row),
    )
    routes = {
        "entry": entry,
        "entry_core": entry_core,
        "entry_slot": entry_source,
        "entry_offset": entry_offset,
        "entry_synapses": entry_synapses,
    }
    routes |= {"pair_of": pair_of, "pair_row": np.array(pair_row, np.int64)}
    return routes, tuple(rows), tuple(pairs), windows


def _deposits(
    network: Network,
    places: list[_Place],
    blocks: dict[str, Any],
    pairs: tuple[tuple[int, int], ...],
    rows: tuple[Row, ...],
    n_cores: int,
) -> tuple[dict[str, Any], int]:
    """How each pair's messages become summed inputs.

    Columns of ``deposit``: 0 kind (0 matrix, 1 window), 1 first weight, 2 weight exponent, 3 first
    slot of the block, 4 neurons of the block, 5 to 10 its ranges (channels, rows, columns), 11 to
    18 kernel, stride, dilation, padding before (each vertical, horizontal), 19 and 20 channels out
    and in per group, 21 hardware delay, 22 algorithmic delay.
    """
    parts: list[NDArray[np.int8]] = []
    n_weights = 0
    window_at: dict[str, int] = {}
    table: list[list[int]] = []
    pair_deposit = [0]
    on_core: dict[int, list[int]] = {}
    for i, place in enumerate(places):
        on_core.setdefault(place.core, []).append(i)
    n_delays = 1 + max((network.hardware_delay(q) for q in network.projections), default=1)
    for p, core in pairs:
        for projection in network.out_of(network.populations[p].name):
            form = lowered(network, projection)
            for i in on_core[core]:
                place = places[i]
                if place.population.name != projection.target:
                    continue
                (c0, c1), (y0, y1), (x0, x1) = place.channels, place.rows, place.columns
                geo = [0] * _N_GEO
                geo[2] = projection.weight_exponent
                geo[3] = int(blocks["block_slot"][i])
                geo[4] = int(blocks["block_slot"][i + 1]) - geo[3]
                geo[5:11] = [c0, c1, y0, y1, x0, x1]
                geo[21] = network.hardware_delay(projection)
                geo[22] = projection.delay
                if isinstance(form, DenseForm):
                    shape = chw(place.population.shape)
                    weight = form.weight.reshape(*shape, -1)[c0:c1, y0:y1, x0:x1]
                    part = np.ascontiguousarray(weight.transpose(3, 1, 2, 0)).reshape(-1)
                    geo[1] = n_weights
                    parts.append(part)
                    n_weights += part.size
                else:
                    geo[0] = 1
                    c_out, c_in_group, kh, kw = form.weight.shape
                    c_out_group = c_out // form.groups
                    if projection.name not in window_at:
                        grouped = form.weight.reshape(form.groups, c_out_group, c_in_group, kh, kw)
                        part = np.ascontiguousarray(grouped.transpose(0, 2, 3, 4, 1)).reshape(-1)
                        window_at[projection.name] = n_weights
                        parts.append(part)
                        n_weights += part.size
                    geo[1] = window_at[projection.name]
                    geo[11:19] = [
                        kh,
                        kw,
                        *form.stride,
                        *form.dilation,
                        form.padding[0][0],
                        form.padding[1][0],
                    ]
                    geo[19:21] = [c_out_group, c_in_group]
                table.append(geo)
        pair_deposit.append(len(table))
    return {
        "pair_deposit": np.array(pair_deposit, np.int64),
        "deposit": np.array(table, np.int64).reshape(-1, _N_GEO),
        "weights": np.concatenate(parts) if parts else np.zeros(0, np.int8),
    }, n_delays


def _mesh(mapping: Mapping) -> tuple[dict[str, Any], NDArray[np.int64], int]:
    """Routers of the smallest rectangle that holds all traffic (XY routes never leave it)."""
    chip = mapping.chip
    tiles = [chip.tile_of(core) for core in mapping.cores] + [mapping.io_position]
    x0, x1 = min(x for x, _ in tiles), max(x for x, _ in tiles) + 1
    y0, y1 = min(y for _, y in tiles), max(y for _, y in tiles) + 1
    columns, n_rows = x1 - x0, y1 - y0
    n_routers = columns * n_rows
    core_router = np.array([(y - y0) * columns + x - x0 for x, y in tiles], np.int64)
    router = np.arange(n_routers)
    router_x, router_y = router % columns, router // columns
    # buffers: four per router, by the direction in which their messages travel; then injection
    link_target = np.full(4 * n_routers, -1, np.int64)
    link_crossing = np.zeros(4 * n_routers, np.int64)
    buffer_feeder = np.full(4 * n_routers, np.iinfo(np.int64).max, np.int64)
    for r in range(n_routers):
        for d, (dx, dy) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
            x, y = int(router_x[r]) + dx, int(router_y[r]) + dy
            if 0 <= x < columns and 0 <= y < n_rows:
                link_target[4 * r + d] = 4 * (y * columns + x) + d
                buffer_feeder[4 * (y * columns + x) + d] = 4 * r + d
                link_crossing[4 * r + d] = chip.chip_of(
                    x0 + int(router_x[r]), y0 + int(router_y[r])
                ) != chip.chip_of(x0 + x, y0 + y)
    n_generators = len(core_router)
    injection = 4 * n_routers + np.arange(n_generators)
    mesh = {
        "core_router": core_router,
        "router_x": router_x.astype(np.int64),
        "router_y": router_y.astype(np.int64),
        "router_chip_x": (router_x + x0) // chip.mesh.columns.value,
        "router_chip_y": (router_y + y0) // chip.mesh.rows.value,
        "link_target": link_target,
        "link_crossing": link_crossing,
        "buffer_router": np.concatenate([np.repeat(router, 4), core_router]).astype(np.int64),
        "buffer_feeder": np.concatenate([buffer_feeder, -1 - np.arange(n_generators)]),
        "injection_buffer": injection.astype(np.int64),
        "n_ports": 4 + int(np.bincount(core_router, minlength=n_routers).max()),
    }
    link_tiles = np.stack([np.repeat(router_x + x0, 4), np.repeat(router_y + y0, 4)], axis=1)
    return mesh, link_tiles.astype(np.int64), columns


def _is_wide(network: Network) -> bool:
    """Whether some neuron's summed input of a step might leave 32 bits."""
    for population in network:
        total = 0
        for projection in network.into(population.name):
            bound = network.bounds[projection.source]
            largest = max(abs(bound.payload_min), abs(bound.payload_max))
            total += magnitude(lowered(network, projection), largest) << projection.weight_exponent
        if total >= 1 << 31:
            return True
    return False
