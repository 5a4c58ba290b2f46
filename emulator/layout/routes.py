"""Which cores a spike goes to, and how many synapses it meets there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.layout.bundles import Window
from pmsm_hw.emulator.layout.plan import Row
from pmsm_hw.emulator.layout.slots import Place
from pmsm_hw.network import Network
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Mapping
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.mapping.chip import SynapticKind
    from pmsm_hw.network import Projection

__all__ = ["routes_of"]


def routes_of(
    network: Network,
    mapping: Mapping,
    places: list[Place],
    blocks: dict[str, Any],
    n_cores: int,
) -> tuple[dict[str, Any], tuple[Row, ...], tuple[tuple[int, int], ...], list[Window]]:
    """Which cores a spike goes to, and how many synapses it meets there."""
    from pmsm_hw.emulator.layout.entry_kernels import order_entries
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
