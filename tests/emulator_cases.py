"""Chips, mappings and networks for the tests of the emulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from random_networks import UNIT_GAINS, random_network

from pmsm_hw.mapping import Block, Chip, Mapping, load_chip
from pmsm_hw.mapping.chip import parse_chip
from pmsm_hw.network import Input, Network, Readout
from pmsm_hw.operators import chw, lowered, synapses

TIMES = (
    "synaptic_operation", "neuron_idle", "neuron_active", "spike", "packet_out", "packet_in",
    "within_tile", "hop_east", "hop_west", "hop_north", "hop_south",
)  # fmt: skip


def edit_chip(chip: Chip, **changes: Any) -> Chip:
    """A chip with other values; keys are dotted, with ``__`` for the dots."""
    data = chip.model_dump(exclude_none=True)
    for key, value in changes.items():
        *path, last = key.split("__")
        node = data
        for part in path:
            node = node[part]
        if value is None:
            del node[last]
        else:
            node[last]["value"] = value
    return parse_chip(data)


def random_chip(rng: np.random.Generator) -> Chip:
    """Toy chip of another mesh, board, port, buffer and other times (some of them zero)."""
    toy = load_chip("toy")
    columns, rows = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    changes: dict[str, Any] = {
        "mesh__columns": columns,
        "mesh__rows": rows,
        "mesh__cores_per_tile": int(rng.integers(1, 4)),
        "mesh__link_buffer_messages": int(rng.choice([1, 1, 2, 3, 16])),
        "mesh__io_position": (int(rng.integers(columns)), int(rng.integers(rows))),
        "board__columns": int(rng.integers(1, 3)),
        "board__rows": int(rng.integers(1, 3)),
        "limits__neurons": 100_000,
        "limits__max_weight_exponent": 12,
        "limits__max_delay_steps": 63,
    }
    for name in TIMES:
        changes[f"profiles__toy__time__{name}"] = float(rng.choice([0.0, 0.5, 1.0, 2.0, 3.7, 10.0]))
    return edit_chip(toy, **changes)


def split(rng: np.random.Generator, shape: tuple[int, ...], n: int) -> list[Any]:
    """Cut a population into at most ``n`` boxes."""
    boxes = [tuple((0, s) for s in chw(shape))]
    for _ in range(n - 1):
        i = int(rng.integers(len(boxes)))
        axis = int(rng.integers(3))
        a, b = boxes[i][axis]
        if b - a > 1:
            cut = int(rng.integers(a + 1, b))
            box = list(boxes.pop(i))
            for part in ((a, cut), (cut, b)):
                box[axis] = part
                boxes.append(tuple(box))
    return boxes


def make_mapping(
    network: Network, chip: Chip, blocks: list[Block], modes: dict[str, str] | None = None
) -> Mapping:
    """A mapping by hand, without checks of resources."""
    modes = modes or {}
    default = "graded" if "graded" in chip.spikes.modes.value else "unit"
    n_cores = len({b.core for b in blocks})
    return Mapping(
        network_fingerprint=network.fingerprint,
        network_name=network.name,
        chip=chip,
        blocks=tuple(blocks),
        spike_modes={p.name: modes.get(p.name, default) for p in network},  # type: ignore[misc]
        usage=np.zeros((n_cores, 4), np.int64),
        link_load=np.zeros((chip.rows, chip.columns, 4)),
        metrics={},
    )


def whole(network: Network, name: str, core: int) -> Block:
    """A whole population on one core."""
    c, h, w = chw(network[name].shape)
    return Block(population=name, channels=(0, c), rows=(0, h), columns=(0, w), core=core)


def random_mapping(rng: np.random.Generator, network: Network, chip: Chip) -> Mapping:
    """Random boxes on random cores, in random order."""
    blocks = []
    n_cores = min(chip.n_cores, int(rng.integers(1, 9)))
    cores = rng.choice(chip.n_cores, n_cores, replace=False)
    for population in network:
        if isinstance(population, Input):
            continue
        for channels, rows, columns in split(rng, population.shape, int(rng.integers(1, 6))):
            blocks.append(
                Block(
                    population=population.name,
                    channels=channels,
                    rows=rows,
                    columns=columns,
                    core=int(rng.choice(cores)),
                )
            )
    order = rng.permutation(len(blocks))
    modes = {
        p.name: p.spike_mode  # type: ignore[attr-defined]
        for p in network
        if not isinstance(p, Readout)
    }
    return make_mapping(network, chip, [blocks[i] for i in order], modes)


def random_modes(rng: np.random.Generator, network: Network) -> Network:
    """The same network with each population's spikes declared graded or unit."""
    populations = tuple(
        p if isinstance(p, Readout) else replace(p, spike_mode=str(rng.choice(["graded", "unit"])))  # type: ignore[call-arg]
        for p in network
    )
    return replace(network, populations=populations)


def random_saturation(rng: np.random.Generator, network: Network) -> Network:
    """The same network with some populations allowed to saturate, and reason to."""
    populations = []
    for p in network.populations:
        if isinstance(p, Input) or rng.random() < 0.5:
            populations.append(p)
            continue
        bias = rng.integers(-(1 << 23), 1 << 23, p.bias.shape)  # type: ignore[attr-defined]
        populations.append(replace(p, overflow="saturate", bias=bias))  # type: ignore[call-arg]
    return replace(network, populations=tuple(populations))


def random_case(
    seed: int, *, max_steps: int = 4, saturate: bool = False
) -> tuple[Network, Mapping]:
    """A random network on a random chip."""
    rng = np.random.default_rng(seed)
    network = random_network(seed, max_steps=max_steps, gains=UNIT_GAINS)
    network = random_modes(rng, network)
    if saturate:
        network = random_saturation(rng, network)
    return network, random_mapping(rng, network, random_chip(rng))


def counts_by_list(
    network: Network, mapping: Mapping, sent: dict[str, Any]
) -> tuple[dict[str, int], dict[str, int]]:
    """Messages, synaptic operations and hops from lists of synapses; operations by target.

    ``sent`` has the spikes of each population, ``(n_samples, n_steps, *shape)``.
    """
    totals = dict.fromkeys(
        ("messages", "synaptic_operations", "hops_east", "hops_west", "hops_north", "hops_south"), 0
    )
    into = {p.name: 0 for p in network}
    for population in network:
        if population.name not in sent:
            continue
        spikes = sent[population.name].reshape(-1, population.n_neurons)
        unit = mapping.spike_mode(population.name) == "unit"
        messages = (np.abs(spikes) if unit else (spikes != 0).astype(np.int64)).sum(axis=0)
        reached: set[tuple[int, int]] = set()
        for projection in network.out_of(population.name):
            core_of = mapping.core_of(network, projection.target)
            pre, post, _ = synapses(lowered(network, projection))
            for i, j in zip(pre.tolist(), post.tolist(), strict=True):
                reached.add((i, int(core_of[j])))
                totals["synaptic_operations"] += int(messages[i])
                into[projection.target] += int(messages[i])
        if isinstance(population, Input):
            tile_of = dict.fromkeys(range(population.n_neurons), mapping.io_position)
        else:
            tile_of = {
                i: mapping.position(int(c))[1:]
                for i, c in enumerate(mapping.core_of(network, population.name))
            }
        for i, core in reached:
            (x0, y0), (_, x1, y1) = tile_of[i], mapping.position(core)
            totals["messages"] += int(messages[i])
            for name, links in (
                ("hops_east", x1 - x0), ("hops_west", x0 - x1),
                ("hops_north", y1 - y0), ("hops_south", y0 - y1),
            ):  # fmt: skip
                totals[name] += int(messages[i]) * max(links, 0)
    return totals, into
