"""The compiled loops of counts mode; imports numba, so import it late.

Counts are integers and every loop visits its items in one order, so results repeat exactly.
`pmsm_hw.emulator.bundles` documents the arrays of `CountPlan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from pmsm_hw.emulator.bundles import CountPlan
from pmsm_hw.emulator.kernels import Costs, Tally

__all__ = ["count_links", "count_population"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _jit(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, error_model="numpy", nogil=True)(function))


def _inline(function: _F) -> _F:
    return cast(
        _F, numba.njit(cache=True, error_model="numpy", nogil=True, forceinline=True)(function)
    )


@_inline
def _sums(spikes: Any, active: Any, f: int, at: Any, n: int, kind: Any) -> Any:
    """Over one run of neurons: how many fired, the sum of ``|k|``, how many were active."""
    fired, units, updates = kind(0), kind(0), kind(0)
    first = np.uint64(at)
    for j in range(np.uint64(n)):
        k = kind(spikes[f, first + j])
        units = kind(units + (k if k >= 0 else -k))
        fired = kind(fired + (k != 0))
        updates = kind(updates + active[f, first + j])
    return fired, units, updates


@_inline
def _dots(spikes: Any, f: int, at: Any, synapses: Any, begin: Any, n: int, kind: Any) -> Any:
    """Over one run of neurons: synapses times firing, and times ``|k|``."""
    once, units = kind(0), kind(0)
    a, b = np.uint64(at), np.uint64(begin)
    for j in range(np.uint64(n)):
        k = kind(spikes[f, a + j])
        weight = kind(synapses[b + j])
        units = kind(units + weight * (k if k >= 0 else -k))
        once = kind(once + (weight if k != 0 else kind(0)))
    return once, units


@_inline
def _unit_dots(spikes: Any, f: int, at: Any, synapses: Any, begin: Any, n: int, kind: Any) -> Any:
    """Over one run of neurons, in four frames: synapses times ``|k|``."""
    s0, s1, s2, s3 = kind(0), kind(0), kind(0), kind(0)
    a, b = np.uint64(at), np.uint64(begin)
    for j in range(np.uint64(n)):
        weight = kind(synapses[b + j])
        k0, k1 = kind(spikes[f, a + j]), kind(spikes[f + 1, a + j])
        k2, k3 = kind(spikes[f + 2, a + j]), kind(spikes[f + 3, a + j])
        s0 = kind(s0 + weight * (k0 if k0 >= 0 else -k0))
        s1 = kind(s1 + weight * (k1 if k1 >= 0 else -k1))
        s2 = kind(s2 + weight * (k2 if k2 >= 0 else -k2))
        s3 = kind(s3 + weight * (k3 if k3 >= 0 else -k3))
    return s0, s1, s2, s3


@_jit
def count_population(
    plan: CountPlan,
    tally: Tally,
    costs: Costs,
    blocks: Any,
    block_core: Any,
    block_slot: Any,
    population: int,
    is_input: bool,
    unit: bool,
    depth: int,
    spikes: Any,
    active: Any,
    sample0: int,
    n_steps: int,
    generate_ps: Any,
    receive_ps: Any,
    received: Any,
    received_units: Any,
    sent: Any,
) -> None:
    """Count what one population did in some samples.

    Parameters
    ----------
    plan, tally, costs
        See there; counts are added.
    blocks, block_core, block_slot
        Blocks of the population; core and first slot of every block.
    population, is_input, unit, depth
        Its index and nature.
    spikes, active
        ``(frames, n)`` integer and uint8, neurons by row, column, channel; a frame is a step of a
        sample.
    sample0, n_steps
        First sample, and steps of each.
    generate_ps, receive_ps
        ``(n_cores + 1, n_hardware_steps)`` int64, to which times are added.
    received
        ``(pairs of the population, frames at once)`` of a type that holds any count of one frame,
        int32 or int64; overwritten.
    received_units
        The same for ``|k|`` messages for each spike; the same array where spikes are unit spikes.
    sent
        ``(n_bundles,)`` int64, to which messages of each neuron to each of its cores are added.
    """
    kind = received.dtype.type
    n_frames, width = spikes.shape[0], received.shape[1]
    pair0, pair1 = plan.population_pair[population], plan.population_pair[population + 1]
    bundle_run, run_at, run_length = plan.bundle_run, plan.run_at, plan.run_length
    bundle_target, target_pair, bundle_cost = (
        plan.bundle_target, plan.target_pair, plan.bundle_cost,
    )  # fmt: skip
    window_at, window_length, synapses = plan.window_at, plan.window_length, plan.synapses
    row_ps = costs.row
    n_active, n_spikes = np.empty(width, np.int64), np.empty(width, np.int64)
    n_fired, messages = np.empty(width, np.int64), np.empty(width, np.int64)
    spiked = np.empty(width, np.int64)
    cost = np.empty((width, 6), np.int64)
    once, units = np.empty(width, np.int64), np.empty(width, np.int64)
    step = np.empty(width, np.int64)
    sample = np.empty(width, np.int64)
    for f0 in range(0, n_frames, width):
        n = min(width, n_frames - f0)
        for f in range(n):
            sample[f] = sample0 + (f0 + f) // n_steps
            step[f] = sample0 * n_steps + f0 + f + depth
        received[:] = 0
        received_units[:] = 0
        for i in range(blocks.shape[0]):
            block = blocks[i]
            source = block_core[block]
            n_active[:] = 0
            n_fired[:] = 0
            n_spikes[:] = 0
            cost[:] = 0
            for bundle in range(plan.block_bundle[block], plan.block_bundle[block + 1]):
                for f in range(n):
                    bundle_fired, bundle_units = np.int64(0), np.int64(0)
                    for r in range(bundle_run[bundle], bundle_run[bundle + 1]):
                        a, b, c = _sums(spikes, active, f0 + f, run_at[r], run_length[r], kind)
                        bundle_fired += a
                        bundle_units += b
                        n_active[f] += c
                    n_fired[f] += bundle_fired
                    n_spikes[f] += bundle_units
                    messages[f] = bundle_units if unit else bundle_fired
                    spiked[f] = bundle_units
                first, last = bundle_target[bundle], bundle_target[bundle + 1]
                if first == last:
                    continue
                total = np.int64(0)
                for f in range(n):
                    total += messages[f]
                if total == 0:
                    continue
                sent[bundle] += total
                for f in range(n):
                    for d in range(6):
                        cost[f, d] += messages[f] * bundle_cost[bundle, d]
                for t in range(first, last):
                    pair = target_pair[t] - pair0
                    for f in range(n):
                        received[pair, f] += kind(messages[f])
                    if not unit:
                        for f in range(n):
                            received_units[pair, f] += kind(spiked[f])
            for f in range(n):
                s, out = sample[f], cost[f, 0]
                tally.fired[s, block] += n_fired[f]
                tally.spikes[s, block] += n_spikes[f]
                tally.messages_out[s, block] += out
                for d in range(4):
                    tally.hops[s, block, d] += cost[f, 1 + d]
                tally.crossings[s, block] += cost[f, 5]
                if not is_input:
                    n_idle = block_slot[block + 1] - block_slot[block] - n_active[f]
                    tally.updates_active[s, block] += n_active[f]
                    tally.updates_idle[s, block] += n_idle
                    generate_ps[source, step[f]] += (
                        n_active[f] * costs.update_active
                        + n_idle * costs.update_idle
                        + n_fired[f] * costs.spike
                        + out * costs.packet_out
                    )
        for pair in range(pair0, pair1):
            core = plan.pair_core[pair]
            first, last = plan.pair_run[pair], plan.pair_run[pair + 1]
            total = np.int64(0)
            for f in range(n):
                count = np.int64(received[pair - pair0, f])
                total += count
                tally.messages_in[sample[f], pair] += count
                receive_ps[core, step[f]] += count * costs.packet_in
            if total == 0:
                continue
            for row in range(plan.pair_row[pair], plan.pair_row[pair + 1]):
                constant, begin = plan.row_constant[row], plan.row_synapse[row]
                if constant != 0:
                    for f in range(n):
                        once[f] = constant * np.int64(received[pair - pair0, f])
                        units[f] = constant * np.int64(received_units[pair - pair0, f])
                else:
                    once[:] = 0
                    units[:] = 0
                    for r in range(first, last):
                        at, length = window_at[r], window_length[r]
                        f = 0
                        if unit:
                            while f + 4 <= n:
                                a, b, c, d = _unit_dots(
                                    spikes, f0 + f, at, synapses, begin, length, kind
                                )
                                once[f] += a
                                once[f + 1] += b
                                once[f + 2] += c
                                once[f + 3] += d
                                f += 4
                        while f < n:
                            a, b = _dots(spikes, f0 + f, at, synapses, begin, length, kind)
                            once[f] += b if unit else a
                            units[f] += b
                            f += 1
                        begin += length
                for f in range(n):
                    tally.synops[sample[f], row] += once[f]
                    tally.unit_synops[sample[f], row] += once[f] if unit else units[f]
                    receive_ps[core, step[f]] += once[f] * row_ps[row]


@_jit
def count_links(plan: CountPlan, columns: int, sent: Any, link_load: Any) -> None:
    """Add up the messages over each link, from those that each bundle sent to each of its cores.

    Routes go along x first: a message enters its links of a row (of a column) at one end and
    leaves them at the other, and sums along the row (the column) give what is on each.
    """
    router, target = plan.bundle_router, plan.target_router
    n_bundles, n_routers = sent.shape[0], link_load.shape[0] // 4
    n_rows = n_routers // columns
    change = np.zeros((4, n_rows + 2, columns + 2), np.int64)  # one line more on all sides
    flow = np.zeros(n_routers, np.int64)
    bundle = 0
    while bundle < n_bundles:
        source = router[bundle]
        while bundle < n_bundles and router[bundle] == source:
            n = sent[bundle]
            if n != 0:
                for t in range(plan.bundle_target[bundle], plan.bundle_target[bundle + 1]):
                    flow[target[t]] += n
            bundle += 1
        y0, x0 = source // columns, source % columns
        for goal in range(n_routers):
            n = flow[goal]
            if n == 0:
                continue
            flow[goal] = 0
            y1, x1 = goal // columns, goal % columns
            east, north = 0 if x1 > x0 else 1, 2 if y1 > y0 else 3
            change[east, y0 + 1, x0 + 1] += n
            change[east, y0 + 1, x1 + 1] -= n
            change[north, y0 + 1, x1 + 1] += n
            change[north, y1 + 1, x1 + 1] -= n
    for y in range(1, n_rows + 1):
        for x in range(1, columns + 1):
            change[0, y, x] += change[0, y, x - 1]
            change[2, y, x] += change[2, y - 1, x]
    for y in range(n_rows, 0, -1):
        for x in range(columns, 0, -1):
            change[1, y, x] += change[1, y, x + 1]
            change[3, y, x] += change[3, y + 1, x]
    for y in range(n_rows):
        for x in range(columns):
            for d in range(4):
                link_load[4 * (y * columns + x) + d] += change[d, y + 1, x + 1]
