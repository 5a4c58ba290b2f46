"""Blocks of neurons, and the slot of each neuron: who is updated where, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pmsm_hw.emulator.layout.neurons import FUSED
from pmsm_hw.emulator.layout.plan import Runs
from pmsm_hw.network import Input, Network, Neurons, Population
from pmsm_hw.neurons.codes import INPUT, PLAIN
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Mapping

__all__ = ["Place", "fill_slots", "places_of", "runs_of"]


class Place(NamedTuple):
    """A block, or a whole input, with the index of its core."""

    population: Population
    channels: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    core: int


def places_of(network: Network, mapping: Mapping) -> list[Place]:
    """Blocks core by core, in the order of updates, then the inputs.

    Parameters
    ----------
    network, mapping
        The network on its chip.
    """
    places = [
        Place(network[b.population], b.channels, b.rows, b.columns, index)
        for index, core in enumerate(mapping.cores)
        for b in mapping.blocks_of(core)
    ]
    for population in network.inputs:
        c, h, w = chw(population.shape)
        places.append(Place(population, (0, c), (0, h), (0, w), len(mapping.cores)))
    return places


def fill_slots(
    network: Network, mapping: Mapping, places: list[Place], n_cores: int
) -> dict[str, Any]:
    """Arrays of blocks and slots of `pmsm_hw.emulator.layout.plan.Plan`.

    Parameters
    ----------
    network, mapping
        The network on its chip.
    places
        From `places_of`.
    n_cores
        Cores in use.
    """
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
            "block_compartments",
            "block_n",
            "block_p",
            "block_rule",
            "block_unit",
            "block_saturate",
        )
    }
    for name in ("block_gain_pos", "block_gain_neg"):
        out[name] = np.ones(n, np.int64)
    out["block_slot"] = slot
    for name in ("block", "flat", "c", "y", "x", "bias", "start"):
        out[f"slot_{name}"] = np.zeros(n_slots, np.int32)
    out["slot_theta"] = np.ones(n_slots, np.int32)
    for i, place in enumerate(places):
        population = place.population
        out["block_population"][i] = index[population.name]
        out["block_core"][i] = place.core
        out["block_depth"][i] = network.depths[population.name]
        out["block_compartments"][i] = (
            population.model.compartments if isinstance(population, Neurons) else 1
        )
        sends = not isinstance(population, Neurons) or population.fires
        out["block_unit"][i] = sends and mapping.spike_mode(population.name) == "unit"
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
            out["block_rule"][i] = INPUT
            continue
        make = FUSED.find(population)
        if make is None:
            out["block_rule"][i] = PLAIN
            continue
        fused = make(population)
        out["block_rule"][i], out["block_saturate"][i] = fused.rule, fused.saturates
        out["block_n"][i], out["block_p"][i] = fused.levels
        out["block_gain_pos"][i], out["block_gain_neg"][i] = fused.gains
        for name in ("theta", "bias", "start"):
            values = np.broadcast_to(getattr(fused, name), population.shape)
            out[f"slot_{name}"][here] = values.reshape(-1)[flat]
    counts = np.bincount(out["block_core"], minlength=n_cores + 1)
    out["core_block"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return out


def runs_of(blocks: dict[str, Any], places: list[Place]) -> Runs:
    """Runs of slots that are neighbours in a population too, channels last.

    Parameters
    ----------
    blocks
        From `fill_slots`.
    places
        From `places_of`.
    """
    channels, _, columns = np.array([chw(p.population.shape) for p in places]).T
    of = blocks["slot_block"]
    at = blocks["slot_y"].astype(np.int64) * columns[of] + blocks["slot_x"]
    at = at * channels[of] + blocks["slot_c"]
    starts = np.union1d(np.flatnonzero(np.diff(at, prepend=-2) != 1), blocks["block_slot"][:-1])
    return Runs(slot=starts, place=at[starts])
