"""What a network computes, in loops over plain Python integers.

Shares no arithmetic with the rest: written from the contract in `pmsm_hw.network` alone, sample by
sample, step by step, neuron by neuron.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmsm_hw.network import (
    STATE_MAX,
    STATE_MIN,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
    Readout,
    SumPool,
)

Taps = list[tuple[int, int, int, int]]
Arrays = dict[str, np.ndarray]


def oracle_connections(projection: Projection, source: Population, target: Population) -> Taps:
    """(pre, post, weight, delay) of every tap, from the definition of each kind, in plain loops."""
    taps: Taps = []
    index_in = np.arange(source.n_neurons).reshape(source.shape)
    index_out = np.arange(target.n_neurons).reshape(target.shape)
    w: Any = projection.weight.tolist()
    delays: Any = getattr(projection, "delays", None)
    if isinstance(projection, Dense):
        for post in range(target.n_neurons):
            for pre in range(source.n_neurons):
                delay = 0 if delays is None else int(delays[post, pre])
                taps.append((pre, post, w[post][pre], delay))
    elif isinstance(projection, Identity):
        for c in range(source.shape[0]):
            weight = w if isinstance(w, int) else w[c]
            taps += [(int(i), int(i), weight, 0) for i in index_in[c].reshape(-1)]
    else:
        options: Any = projection
        kernel: tuple[int, ...]
        if isinstance(projection, SumPool):
            kernel, dilation, c_in_group = projection.kernel, (1,) * len(projection.kernel), 1
            c_out_group = 1
        else:
            kernel, dilation = projection.weight.shape[2:], options.dilation
            c_in_group = projection.weight.shape[1]
            c_out_group = projection.weight.shape[0] // options.groups
        for out in np.ndindex(*target.shape):
            group = out[0] // c_out_group
            for ci in range(c_in_group):
                for tap in np.ndindex(*kernel):
                    at = [
                        o * s - p[0] + t * d
                        for o, s, p, t, d in zip(
                            out[1:], options.stride, options.padding, tap, dilation, strict=True
                        )
                    ]
                    sizes = source.shape[1:]
                    if any(a < 0 or a >= size for a, size in zip(at, sizes, strict=True)):
                        continue
                    delay = 0
                    if isinstance(projection, SumPool):
                        weight = w if isinstance(w, int) else w[out[0]]
                    else:
                        weight = int(projection.weight[(out[0], ci, *tap)])
                        delay = 0 if delays is None else int(delays[(out[0], ci, *tap)])
                    pre = int(index_in[(group * c_in_group + ci, *at)])
                    taps.append((pre, int(index_out[out]), weight, delay))
    return taps


def _each(parameter: np.ndarray, population: Population) -> list[int]:
    """A per-population, per-channel or per-neuron parameter, neuron by neuron."""
    return [int(x) for x in np.broadcast_to(parameter, population.shape).reshape(-1)]


def oracle(
    network: Network,
    units: Arrays,
    n_steps: int,
    *,
    carry: bool = False,
    traces: Arrays | None = None,
) -> tuple[Arrays, Arrays, dict[str, int]]:
    """Run a network.

    Parameters
    ----------
    network, units, n_steps
        What to run.
    carry
        Whether samples begin where those before them ended.
    traces
        Filled with ``v`` of neurons and readouts after each step, as `spikes` below.

    Returns
    -------
    spikes
        By population, ``(n_samples, n_steps, n_neurons)``.
    states
        By readout, ``(n_samples, n_neurons)``.
    saturations
        By population, where there were any: states that were clipped.
    """
    n_samples = len(next(iter(units.values())))
    spikes = {p.name: np.zeros((n_samples, n_steps, p.n_neurons), int) for p in network}
    states = {p.name: np.zeros((n_samples, p.n_neurons), int) for p in network.readouts}
    traces = {} if traces is None else traces
    traces.update({name: np.zeros_like(k) for name, k in spikes.items()})
    saturations: dict[str, int] = {}
    # by delay and source neuron: what it reaches
    reach: dict[str, dict[int, dict[int, list[tuple[int, int]]]]] = {}
    for q in network.projections:
        by_delay = reach.setdefault(q.name, {})
        taps = oracle_connections(q, network[q.source], network[q.target])
        for pre, post, weight, delay in taps:
            if weight != 0:
                by_pre = by_delay.setdefault(q.delay + delay, {})
                by_pre.setdefault(pre, []).append((post, weight))
    neurons: list[Any] = [p for p in network if not isinstance(p, Input)]
    bias = {p.name: _each(p.bias, p) for p in neurons}
    spiking = [p for p in network if isinstance(p, PolarityMultiSpike)]
    theta = {p.name: _each(p.theta, p) for p in spiking}
    start = {p.name: _each(p.start, p) for p in spiking}
    for b in range(n_samples):
        if b == 0 or not carry:
            v = {p.name: list(start[p.name]) for p in spiking}
            v |= {p.name: [0] * p.n_neurons for p in network.readouts}
            sent = {name: [0] * len(values) for name, values in v.items()}
            payloads: dict[str, list[list[int]]] = {p.name: [] for p in network}
        for t in range(n_steps):
            now = t + b * n_steps if carry else t
            for population in network.topological:
                p: Any = population
                name = p.name
                if isinstance(p, Input):
                    x = units[name][b]
                    frame = x[t] if x.ndim > len(p.shape) else x
                    values = [int(i) for i in frame.reshape(-1)]
                    spikes[name][b, t] = values
                    payloads[name].append(values)
                    continue
                drive = list(bias[name])
                for q in network.into(name):
                    arrived: dict[int, int] = {}
                    for delay, by_pre in reach[q.name].items():
                        if now - delay < 0:
                            continue
                        for pre, payload in enumerate(payloads[q.source][now - delay]):
                            if payload != 0:
                                for post, weight in by_pre.get(pre, ()):
                                    arrived[post] = arrived.get(post, 0) + weight * payload
                    e = q.weight_exponent
                    for post, total in arrived.items():
                        drive[post] += total * 2**e if e >= 0 else total // 2**-e
                sends = [0] * p.n_neurons
                payloads[name].append(sends)
                v_ = v[name]
                for i in range(p.n_neurons):
                    u = v_[i] + drive[i]
                    if not STATE_MIN <= u <= STATE_MAX:
                        if p.overflow != "saturate":
                            raise AssertionError(f"{name}: u = {u} was proven to be impossible")
                        u = STATE_MIN if u < STATE_MIN else STATE_MAX
                        saturations[name] = saturations.get(name, 0) + 1
                    if isinstance(p, Readout):
                        v_[i] = u
                        continue
                    n, pos = p.levels
                    lo, hi = -n, pos
                    if p.rule == "bounded":
                        lo = -n * (now + 1) - sent[name][i]
                        hi = pos * (now + 1) - sent[name][i]
                    k = min(max(u // theta[name][i], lo), hi)
                    sent[name][i] += k
                    v_[i] = start[name][i] if p.rule == "reset" else u - k * theta[name][i]
                    if k != 0:
                        spikes[name][b, t, i] = k
                        sends[i] = k * (p.gains[0] if k > 0 else p.gains[1])
                traces[name][b, t] = v_
        for p in network.readouts:
            states[p.name][b] = v[p.name]
    return spikes, states, saturations
