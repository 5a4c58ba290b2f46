"""Random networks with delays of synapses, sums shifted to the right, loops, and Loihi's neurons.

With what they compute, in plain steps and lists of synapses, and what their messages are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from emulator_cases import edit_chip, make_mapping, random_chip, split
from random_networks import UNIT_GAINS, random_join, random_network

from pmsm_hw.mapping import Block, Mapping
from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    CubaLif,
    Dense,
    Input,
    Network,
    Neurons,
    PolarityMultiSpike,
    Projection,
    Readout,
)
from pmsm_hw.operators import lower

MAX_STEPS = 12


def delayed_network(seed: int) -> Network:
    """A valid random network; equal seeds give equal networks."""
    rng = np.random.default_rng(seed)
    base = random_network(seed, max_steps=MAX_STEPS, gains=UNIT_GAINS)
    populations = tuple(_other_neurons(rng, p) for p in base.populations)
    network = replace(base, populations=populations)
    for _ in range(int(rng.integers(0, 3))):
        network = _with_loop(rng, network)
    native = int(rng.random() < 0.2)  # every spike acts a step later
    projections = tuple(
        replace(_otherwise(rng, network, q), delay=q.delay + native) for q in network.projections
    )
    return replace(network, projections=projections)


def _other_neurons(rng: np.random.Generator, p: Any) -> Any:
    if isinstance(p, Input):
        return p
    if isinstance(p, Readout) or rng.random() < 0.4:
        return replace(p, overflow="saturate")
    size = ((), p.shape[:1], p.shape)[int(rng.integers(3))]
    return CubaLif(
        name=p.name,
        shape=p.shape,
        vth=rng.integers(0, int(rng.choice([2, 200, 20_000])), size),
        du=rng.integers(0, 4096, size[:1]) if rng.random() < 0.5 else 4095,
        dv=rng.integers(0, 4097, size[:1]) if rng.random() < 0.5 else 0,
        bias=rng.integers(-4096, 4096, size),
        bias_exponent=int(rng.integers(0, 8)),
        refractory=int(rng.choice([1, 1, 2, 5])),
        reset=str(rng.choice(["zero", "subtract"])),  # type: ignore[arg-type]
        payload_mode=str(rng.choice(["binary", "binary", "graded"])),  # type: ignore[arg-type]
        reset_interval=int(rng.choice([0, 0, 3])),
        reset_offset=int(rng.integers(0, 4)),
    )


def _with_loop(rng: np.random.Generator, network: Network) -> Network:
    """Another projection between populations, back or onto one itself, as early as it can act."""
    layers = [p for p in network if isinstance(p, PolarityMultiSpike | CubaLif)]
    a, b = (layers[int(rng.integers(len(layers)))] for _ in range(2))
    earliest = max(1, network.depths[a.name] - network.depths[b.name] + 1)
    name = f"loop{len(network.projections)}"
    loop = random_join(rng, a, b.name, b.shape, name, delay=earliest)
    return replace(network, projections=(*network.projections, loop))


def _otherwise(rng: np.random.Generator, network: Network, q: Any) -> Any:
    """A projection with another exponent, and delays of its own."""
    source = network[q.source]
    gains = {abs(gain) for gain in getattr(source, "gains", (1, 1))}
    if len(gains) == 1 and rng.random() < 0.5:
        q = replace(q, weight_exponent=int(rng.integers(-8, 0)))
    if isinstance(q, Dense | Conv1d | Conv2d) and rng.random() < 0.6:
        most = int(rng.choice([1, 3, 62]))
        delays = rng.integers(0, most + 1, q.weight.shape)
        if rng.random() < 0.3:  # by axon
            delays[...] = delays[:1]
        q = replace(q, delays=delays)
    return q


def delayed_case(seed: int) -> tuple[Network, Mapping]:
    """Such a network on a random chip, in random blocks."""
    rng = np.random.default_rng([seed, 1])
    network = delayed_network(seed)
    chip = edit_chip(random_chip(rng), limits__max_delay_steps=1000)
    cores = rng.choice(chip.n_cores, min(chip.n_cores, int(rng.integers(1, 9))), replace=False)
    blocks = [
        Block(population=p.name, channels=c, rows=y, columns=x, core=int(rng.choice(cores)))
        for p in network
        if isinstance(p, Neurons)
        for c, y, x in split(rng, p.shape, int(rng.integers(1, 6)))
    ]
    modes = {
        p.name: "graded"
        if getattr(p, "payload_mode", "binary") == "graded"
        else str(rng.choice(["graded", "unit"]))
        for p in network
    }
    return network, make_mapping(
        network, chip, [blocks[i] for i in rng.permutation(len(blocks))], modes
    )


@dataclass
class Plain:
    """What a network does, step by step; arrays ``(n_samples, n_steps, *shape)`` by population."""

    spikes: dict[str, Any]
    active: dict[str, Any]
    states: dict[str, dict[str, Any]]
    outside: dict[str, int]


def synapse_list(network: Network, q: Projection) -> list[tuple[int, int, int, int]]:
    """(pre, post, weight, delay) of every synapse with a weight other than zero."""
    from pmsm_hw.operators import synapses

    shapes = network[q.source].shape, network[q.target].shape
    pre, post, weight = synapses(lower(q, *shapes))
    delays = np.zeros(len(pre), int)
    if q.delays is not None:  # number the weights, to see which one each synapse has
        for part in range(-(-q.weight.size // 100)):
            number = np.arange(q.weight.size) - 100 * part
            number[(number < 0) | (number >= 100) | (q.weight.reshape(-1) == 0)] = -1
            some = replace(q, weight=number.reshape(q.weight.shape) + 1, delays=None)
            its_pre, its_post, its_number = synapses(lower(some, *shapes))
            order = {
                (a, b): n - 1 + 100 * part
                for a, b, n in zip(its_pre, its_post, its_number, strict=True)
            }
            for i, end in enumerate(zip(pre, post, strict=True)):
                if end in order:
                    delays[i] = q.delays.reshape(-1)[order[end]]
    return list(zip(pre.tolist(), post.tolist(), weight.tolist(), delays.tolist(), strict=True))


def plainly(
    network: Network, units: dict[str, Any], n_steps: int, *, carry_state: bool = False
) -> Plain:
    """Run a network synapse by synapse, by the steps that the models define."""
    n_samples = len(next(iter(units.values())))
    lists = {q.name: synapse_list(network, q) for q in network.projections}
    n_linked, n_runs = (n_samples * n_steps, 1) if carry_state else (n_steps, n_samples)
    done = Plain({}, {}, {}, {})
    for p in network:
        shape = (n_samples * n_steps, *p.shape)
        done.spikes[p.name] = np.zeros(shape, int)
        done.active[p.name] = np.zeros(shape, bool)
        if isinstance(p, Neurons):
            done.states[p.name] = {name: np.zeros(shape, int) for name in p.model.start(p)}
    for run in range(n_runs):
        arriving = {
            (q.name, t): np.zeros(network[q.target].n_neurons, int)
            for q in network.projections
            for t in range(n_linked)
        }
        states = {p.name: p.model.start(p) for p in network if isinstance(p, Neurons)}
        for t in range(n_linked):
            at = run * n_linked + t
            sample, step = divmod(at, n_steps)
            for p in network.topological:
                if isinstance(p, Neurons):
                    drive = np.zeros(p.n_neurons, int)
                    for q in network.into(p.name):
                        e, total = q.weight_exponent, arriving[q.name, t]
                        drive += total << e if e >= 0 else np.floor_divide(total, 1 << -e)
                    made = p.model.step(p, states[p.name], drive.reshape(p.shape), t)
                    states[p.name] = made.state
                    k = np.broadcast_to(made.spikes, p.shape)
                    payload = p.payload(k).reshape(-1)
                    done.active[p.name][at] = made.active
                    done.outside[p.name] = done.outside.get(p.name, 0) + made.outside
                    for name, values in made.state.items():
                        done.states[p.name][name][at] = values
                else:
                    x = units[p.name][sample]
                    k = x[step] if x.ndim > len(p.shape) else x
                    payload = k.reshape(-1)
                done.spikes[p.name][at] = k
                for q in network.out_of(p.name):
                    for pre, post, weight, delay in lists[q.name]:
                        later = t + q.delay + delay
                        if payload[pre] and later < n_linked:
                            arriving[q.name, later][post] += weight * payload[pre]
    for arrays in (done.spikes, done.active, *done.states.values()):
        for name, values in arrays.items():
            arrays[name] = values.reshape(n_samples, n_steps, *values.shape[1:])
    done.outside = {name: n for name, n in done.outside.items() if n}
    return done
