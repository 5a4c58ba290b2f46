"""The compiled loops of cycle mode; imports numba, so import it late.

Times are integer picoseconds, counts are int64, and every loop visits its items in one order, so
results repeat exactly. `pmsm_hw.emulator.layout.plan` documents the arrays of `Plan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from pmsm_hw.compiled import njit
from pmsm_hw.emulator.costs import Costs
from pmsm_hw.emulator.counts import Tally
from pmsm_hw.emulator.cycle.machine import Machine
from pmsm_hw.emulator.layout.plan import Plan
from pmsm_hw.network.limits import STATE_MAX, STATE_MIN
from pmsm_hw.neurons.codes import BOUNDED, INPUT, PLAIN, READOUT, RESET

__all__ = ["CLOCK", "LOST", "run_steps"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _jit(function: _F) -> _F:
    return cast(_F, njit(error_model="numpy")(function))


def _inline(function: _F) -> _F:
    """Compile into the caller: a call would hand over every array of a plan one by one."""
    return cast(_F, njit(error_model="numpy", forceinline=True)(function))


# what `run_steps` answers
OK, LOST, CLOCK = 0, 1, 2


@_inline
def _push(heap: Any, n: int, key: int) -> int:
    i = n
    while i > 0:
        parent = (i - 1) >> 1
        if heap[parent] <= key:
            break
        heap[i] = heap[parent]
        i = parent
    heap[i] = key
    return n + 1


@_inline
def _pop(heap: Any, n: int) -> int:
    """Drop the least key (read it from ``heap[0]`` first)."""
    n -= 1
    key = heap[n]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = key
    return n


@_inline
def _update_block(
    plan: Plan,
    machine: Machine,
    tally: Tally,
    block: int,
    h: int,
    n_steps: int,
    units: Any,
    record: Any,
    readout: Any,
) -> None:
    """One step of the neurons of one block: those of `pmsm_hw.emulator.layout.neurons`."""
    f = h - plan.block_depth[block]
    sample = f // n_steps
    t = f - sample * n_steps
    first, last = plan.block_slot[block], plan.block_slot[block + 1]
    rule = plan.block_rule[block]
    n, p = plan.block_n[block], plan.block_p[block]
    unit = plan.block_unit[block] != 0
    gain_pos, gain_neg = plan.block_gain_pos[block], plan.block_gain_neg[block]
    pop = plan.block_population[block]
    size = plan.population_size[pop]
    out = plan.record_base[pop]
    if out >= 0:
        out = out + f * size if f < plan.n_recorded else np.int64(-1)
    flat, theta, bias, start = plan.slot_flat, plan.slot_theta, plan.slot_bias, plan.slot_start
    v, ks, payload, active, sent = (
        machine.v, machine.k, machine.payload, machine.active, machine.sent,
    )  # fmt: skip
    n_active, n_fired, n_spikes, n_saturated = 0, 0, 0, 0
    if rule == INPUT:
        base = plan.unit_base[pop] + sample * plan.unit_sample[pop] + t * plan.unit_step[pop]
        for s in range(first, last):
            k: Any = np.int64(units[base + flat[s]])
            ks[s] = k
            if k != 0:
                n_fired += 1
                n_spikes += abs(k)
                payload[s] = k if not unit else (1 if k > 0 else -1)
                if out >= 0:
                    record[out + flat[s]] = k
        tally.fired[sample, block] += n_fired
        tally.spikes[sample, block] += n_spikes
        return
    if rule == PLAIN:
        return  # stepped already
    sums = machine.sums[h % machine.sums.shape[0]]
    saturate = plan.block_saturate[block] != 0
    if t == 0:
        for s in range(first, last):
            v[s] = start[s]
            sent[s] = 0
    for s in range(first, last):
        change = np.int64(sums[s]) + bias[s]
        sums[s] = 0
        u = v[s] + change
        if saturate and (u < STATE_MIN or u > STATE_MAX):
            n_saturated += 1
            u = STATE_MIN if u < STATE_MIN else STATE_MAX
        k = np.int64(0)
        if rule != READOUT:
            th = np.int64(theta[s])
            if u < 0 or u >= th:
                k = u // th
            lo, hi = -n, p
            if rule == BOUNDED:
                lo = -n * (t + 1) - sent[s]
                hi = p * (t + 1) - sent[s]
            k = lo if k < lo else (hi if k > hi else k)
            if rule == BOUNDED:
                sent[s] += k
            u = np.int64(start[s]) if rule == RESET else u - k * th
        v[s] = u
        ks[s] = k
        is_active = change != 0 or k != 0
        active[s] = is_active
        n_active += is_active
        if k != 0:
            n_fired += 1
            n_spikes += abs(k)
            if unit:
                payload[s] = gain_pos if k > 0 else -gain_neg
            else:
                payload[s] = k * gain_pos if k > 0 else k * gain_neg
            if out >= 0:
                record[out + flat[s]] = k
    if rule == READOUT and t == n_steps - 1:
        base = plan.readout_base[pop] + sample * size
        for s in range(first, last):
            readout[base + flat[s]] = v[s]
    tally.updates_active[sample, block] += n_active
    tally.updates_idle[sample, block] += last - first - n_active
    tally.fired[sample, block] += n_fired
    tally.spikes[sample, block] += n_spikes
    tally.saturations[sample, block] += n_saturated


@_inline
def _add(sums: Any, first: int, weights: Any, w0: int, n: int, value: Any) -> None:
    """``sums[first + j] += weights[w0 + j] * value``; unsigned indices let the loop use SIMD."""
    a, w = np.uint64(first), np.uint64(w0)
    for j in range(np.uint64(n)):
        sums[a + j] += weights[w + j] * value


@_inline
def _deposit_matrix(
    deposit: Any, weights: Any, sums: Any, base: int, flat: Any, value: Any
) -> None:
    """Add a message's synapses of a matrix; ``base`` is where this step's sums start."""
    n = deposit.n_neurons
    _add(sums, base + deposit.first_slot, weights, deposit.first_weight + flat * n, n, value)


@_inline
def _deposit_window(
    deposit: Any, weights: Any, sums: Any, base: int, c: Any, y0: Any, x0: Any, value: Any
) -> None:
    """Add a message's synapses of a window: for each tap, a run of channels of one pixel."""
    c_first, c_last = deposit.channel_first, deposit.channel_end
    y_first, y_last = deposit.row_first, deposit.row_end
    x_first, x_last = deposit.column_first, deposit.column_end
    kh, kw = deposit.kernel_rows, deposit.kernel_columns
    sy, sx = deposit.stride_rows, deposit.stride_columns
    dy, dx = deposit.dilation_rows, deposit.dilation_columns
    top, left = y0 + deposit.padding_rows, x0 + deposit.padding_columns
    c_out_group, c_in_group = deposit.group_outputs, deposit.group_inputs
    group = c // c_in_group
    o0 = max(c_first, group * c_out_group)
    o1 = min(c_last, (group + 1) * c_out_group)
    n = o1 - o0
    if n <= 0:
        return
    width, depth = x_last - x_first, c_last - c_first
    a0 = base + deposit.first_slot + (o0 - c_first)
    w0 = deposit.first_weight + c * kh * kw * c_out_group + (o0 - group * c_out_group)
    for i in range(kh):
        y = top - i * dy
        if sy > 1:
            if y % sy != 0:
                continue
            y //= sy
        if y < y_first or y >= y_last:
            continue
        for j in range(kw):
            x = left - j * dx
            if sx > 1:
                if x % sx != 0:
                    continue
                x //= sx
            if x < x_first or x >= x_last:
                continue
            a = a0 + ((y - y_first) * width + (x - x_first)) * depth
            _add(sums, a, weights, w0 + (i * kw + j) * c_out_group, n, value)


@_inline
def _next_message(
    g: int,
    at: Any,
    ks: Any,
    active: Any,
    on: Any,
    entry: Any,
    block_slot: Any,
    block_unit: Any,
    last_block: int,
    idle_ps: int,
    active_ps: int,
    spike_ps: int,
    out_ps: int,
) -> Any:
    """Advance a core to its next message; answer the ps until it is ready.

    ``at[g]`` holds (slot, entry, spikes left, block, end of the entries). When no message is left
    the slot is -1 and the answer is the time of the remaining updates.
    """
    slot, left, block = at[g, 0], at[g, 2], at[g, 3]
    if left > 0:
        e = at[g, 1] + 1
        if e < at[g, 4]:
            at[g, 1] = e
            return out_ps
        left -= 1
        if left > 0:
            at[g, 1] = entry[slot]
            at[g, 2] = left
            return out_ps
        slot += 1
    ps: Any = 0
    while block < last_block:
        stop = block_slot[block + 1]
        if on[block] != 0:
            while slot < stop:
                ps += active_ps if active[slot] != 0 else idle_ps
                k = np.int64(ks[slot])
                if k != 0:
                    ps += spike_ps
                    first, end = entry[slot], entry[slot + 1]
                    if first < end:
                        at[g, 0] = slot
                        at[g, 1] = first
                        at[g, 2] = abs(k) if block_unit[block] != 0 else 1
                        at[g, 3] = block
                        at[g, 4] = end
                        return ps + out_ps
                slot += 1
        slot = stop
        block += 1
    at[g, 0] = -1
    at[g, 2] = 0
    at[g, 3] = block
    return ps


@_jit
def run_steps(
    plan: Plan,
    machine: Machine,
    tally: Tally,
    costs: Costs,
    h0: int,
    h1: int,
    n_steps: int,
    n_samples: int,
    units: Any,
    record: Any,
    readout: Any,
) -> Any:
    """Run hardware steps ``h0 <= h < h1``; answer ``(status, step, n_sent, n_delivered)``."""
    # into local variables: an array taken from a tuple inside a loop costs a reference count
    block_population, block_depth = plan.block_population, plan.block_depth
    block_unit, block_slot, core_block = plan.block_unit, plan.block_slot, plan.core_block
    slot_block, slot_flat = plan.slot_block, plan.slot_flat
    slot_c, slot_y, slot_x = plan.slot_c, plan.slot_y, plan.slot_x
    entry, entry_core, entry_slot = plan.entry, plan.entry_core, plan.entry_slot
    entry_offset, entry_synapses = plan.entry_offset, plan.entry_synapses
    pair_of, pair_row, pair_deposit = plan.pair_of, plan.pair_row, plan.pair_deposit
    deposit, weights = plan.deposit, plan.weights
    core_router, router_x, router_y = plan.core_router, plan.router_x, plan.router_y
    chip_x, chip_y, link_target = plan.router_chip_x, plan.router_chip_y, plan.link_target
    buffer_router, buffer_feeder = plan.buffer_router, plan.buffer_feeder
    injection_buffer = plan.injection_buffer
    ks, payload, active, on = machine.k, machine.payload, machine.active, machine.block_on
    sums = machine.sums.reshape(machine.sums.size)
    n_delays, n_slots = machine.sums.shape
    messages_out, messages_in = tally.messages_out, tally.messages_in
    synops, unit_synops = tally.synops, tally.unit_synops
    hops, crossings, link_load = tally.hops, tally.crossings, tally.link_load
    row_ps, queue_ps, link_queue = costs.row, costs.link_queue_ps, costs.link_queue
    peak, busy, trace, step_ps = machine.peak, machine.busy, machine.trace, machine.step_ps
    link_trace, message_trace = machine.link_trace, machine.message_trace
    sample_of = np.zeros(block_depth.shape[0], np.int64)
    step_of = np.zeros(block_depth.shape[0], np.int64)

    n_cores = core_router.shape[0] - 1
    n_generators = n_cores + 1
    n_blocks = block_population.shape[0]
    n_links = link_target.shape[0]
    n_buffers, size = machine.buffer.shape[0], machine.buffer_size
    place = machine.buffer.shape[1] - 1  # a power of two, less one
    queue_size = machine.receive_ring.shape[1]
    n_outputs = n_links + n_cores
    n_ports = 4
    while n_ports < plan.n_ports:
        n_ports *= 2
    port = n_ports - 1
    buffer, ring = machine.buffer, machine.receive_ring

    n_entities = n_generators + 2 * n_cores + n_links
    shift = 1
    while (1 << shift) < n_entities:
        shift += 1
    mask = (1 << shift) - 1
    limit = np.int64(1) << (62 - shift)
    # Pending events, (time << shift) | entity. Those that come a fixed time after their cause are
    # in order as they are made: a queue for each such time (links; the last one for delivery in a
    # tile), and a heap for the rest.
    heap = np.empty(n_generators + n_cores + 1, np.int64)
    n_queues = queue_ps.shape[0] + 1
    n_places = 1
    while n_places < max(n_links, n_cores):
        n_places *= 2
    around = n_places - 1
    queue = np.empty((n_queues, n_places), np.int64)
    first = np.zeros(n_queues, np.int64)
    last = np.zeros(n_queues, np.int64)
    stack = np.empty(4 * (n_buffers + n_outputs) + 64, np.int64)

    count = np.zeros(n_buffers, np.int32)
    head = np.zeros(n_buffers, np.int32)
    wait = np.zeros((n_outputs, n_ports), np.int32)
    n_wait = np.zeros(n_outputs, np.int32)
    head_wait = np.zeros(n_outputs, np.int32)
    link_message = np.full(n_links, -1, np.int64)
    local_message = np.full(n_cores, -1, np.int64)
    wake = np.zeros(n_cores, np.uint8)
    received = np.zeros(n_cores, np.int64)
    ring_at = np.zeros(n_cores, np.int64)
    receive_free = np.zeros(n_cores, np.int64)
    receive_busy = np.zeros(n_cores, np.int64)
    receive_start = np.zeros(n_cores, np.int64)
    at = np.zeros((n_generators, 5), np.int64)
    blocked_since = np.full(n_generators, -1, np.int64)
    blocked = np.zeros(n_generators, np.int64)
    update_busy = np.zeros(n_generators, np.int64)
    update_end = np.zeros(n_generators, np.int64)
    # inputs enter in no time
    generator_ps = np.zeros((n_generators, 4), np.int64)
    for g in range(n_cores):
        generator_ps[g, 0] = costs.update_idle
        generator_ps[g, 1] = costs.update_active
        generator_ps[g, 2] = costs.spike
        generator_ps[g, 3] = costs.packet_out
    within_tile, packet_in, barrier = costs.within_tile, costs.packet_in, costs.barrier
    never = np.int64(0x7FFFFFFFFFFFFFFF)

    for h in range(h0, h1):
        tracing = h < trace.shape[0]
        for block in range(n_blocks):
            f = h - block_depth[block]
            acts = 0 <= f < n_steps * n_samples
            on[block] = acts
            if acts:
                sample_of[block] = f // n_steps
                step_of[block] = f - sample_of[block] * n_steps
                _update_block(plan, machine, tally, block, h, n_steps, units, record, readout)
        received[:] = 0
        receive_free[:] = 0
        receive_busy[:] = 0
        receive_start[:] = 0
        ring[:] = 0
        blocked[:] = 0
        n_heap, n_sent, n_delivered, n_peak = 0, 0, 0, 0
        for g in range(n_generators):
            at[g, 0] = block_slot[core_block[g]]
            at[g, 2] = 0
            at[g, 3] = core_block[g]
            ps = _next_message(
                g,
                at,
                ks,
                active,
                on,
                entry,
                block_slot,
                block_unit,
                core_block[g + 1],
                generator_ps[g, 0],
                generator_ps[g, 1],
                generator_ps[g, 2],
                generator_ps[g, 3],
            )
            update_busy[g] = ps
            update_end[g] = ps
            if ps >= limit:
                return CLOCK, h, n_sent, n_delivered
            if at[g, 0] >= 0:
                n_heap = _push(heap, n_heap, (ps << shift) | g)
        while True:
            key, chosen = never, -1
            if n_heap > 0:
                key = heap[0]
            for q in range(n_queues):
                if first[q] != last[q] and queue[q, first[q] & around] < key:
                    key, chosen = queue[q, first[q] & around], q
            if chosen >= 0:
                first[chosen] += 1
            elif n_heap > 0:
                n_heap = _pop(heap, n_heap)
            else:
                break
            now = key >> shift
            entity = key & mask
            n_stack = 0
            inject: Any = -1
            arrived = np.int64(-1)
            b: Any = np.int64(-1)
            if entity < n_generators:
                # a core has a message ready
                b = injection_buffer[entity]
                if count[b] == size:
                    blocked_since[entity] = now
                else:
                    inject = entity
            elif entity < n_generators + n_cores:
                # room in a core's input queue
                core = entity - n_generators
                wake[core] = 0
                stack[0] = n_links + core
                n_stack = 1
            elif entity < n_generators + 2 * n_cores:
                # a message reaches a core of its tile
                core = entity - n_generators - n_cores
                arrived = local_message[core]
                local_message[core] = -1
            else:
                # a message reaches the end of a link
                link = entity - n_generators - 2 * n_cores
                b = link_target[link]
                buffer[b, (head[b] + count[b]) & place] = link_message[link]
                count[b] += 1
                link_message[link] = -1
                if n_wait[link] > 0:
                    stack[0] = link
                    n_stack = 1
                if count[b] == 1:
                    stack[n_stack] = -1 - b
                    n_stack += 1
                if count[b] > peak[0].link_buffer:
                    peak[0].link_buffer = count[b]
            while True:
                if arrived >= 0:
                    # look up the message's synapses and add them to the summed inputs
                    e, core = arrived & 0xFFFFFFFF, arrived >> 32
                    slot = np.int64(entry_slot[e])
                    arrived = np.int64(-1)
                    block = slot_block[slot]
                    sample, t = sample_of[block], step_of[block]
                    pair = pair_of[block_population[block], core]
                    times = 1 if block_unit[block] != 0 else abs(np.int64(ks[slot]))
                    service = packet_in
                    messages_in[sample, pair] += 1
                    offset = entry_offset[e]
                    for r in range(pair_row[pair], pair_row[pair + 1]):
                        n = np.int64(entry_synapses[offset])
                        offset += 1
                        service += n * row_ps[r]
                        synops[sample, r] += n
                        unit_synops[sample, r] += n * times
                    value = payload[slot]
                    for d in range(pair_deposit[pair], pair_deposit[pair + 1]):
                        here = deposit[d]
                        if t + here.delay >= n_steps:
                            continue  # the sample ends before: nothing reaches the next one
                        base = ((h + here.hardware_delay) % n_delays) * n_slots
                        scaled = sums.dtype.type(value << here.weight_exponent)
                        if here.is_window == 0:
                            flat = np.int64(slot_flat[slot])
                            _deposit_matrix(here, weights, sums, base, flat, scaled)
                        else:
                            c, y, x = slot_c[slot], slot_y[slot], slot_x[slot]
                            _deposit_window(
                                here, weights, sums, base, np.int64(c), np.int64(y), np.int64(x),
                                scaled,
                            )  # fmt: skip
                    begin = max(now, receive_free[core])
                    if received[core] == 0:
                        receive_start[core] = begin
                    ring[core, ring_at[core]] = begin
                    ring_at[core] = ring_at[core] + 1 if ring_at[core] + 1 < queue_size else 0
                    received[core] += 1
                    receive_free[core] = begin + service
                    receive_busy[core] += service
                    n_delivered += 1
                    stack[n_stack] = n_links + core
                    n_stack += 1
                if inject >= 0:
                    g = inject
                    inject = -1
                    b = injection_buffer[g]
                    slot = at[g, 0]
                    core = np.int64(entry_core[at[g, 1]])
                    buffer[b, (head[b] + count[b]) & place] = (core << 32) | at[g, 1]
                    count[b] += 1
                    n_sent += 1
                    block = slot_block[slot]
                    sample = sample_of[block]
                    messages_out[sample, block] += 1
                    router, goal = core_router[g], core_router[core]
                    dx, dy = router_x[goal] - router_x[router], router_y[goal] - router_y[router]
                    hops[sample, block, 0 if dx > 0 else 1] += abs(dx)
                    hops[sample, block, 2 if dy > 0 else 3] += abs(dy)
                    crossings[sample, block] += abs(chip_x[goal] - chip_x[router]) + abs(
                        chip_y[goal] - chip_y[router]
                    )
                    if n_sent - n_delivered > n_peak:
                        n_peak = n_sent - n_delivered
                    if count[b] == 1:
                        stack[n_stack] = -1 - b
                        n_stack += 1
                    ps = _next_message(
                        g,
                        at,
                        ks,
                        active,
                        on,
                        entry,
                        block_slot,
                        block_unit,
                        core_block[g + 1],
                        generator_ps[g, 0],
                        generator_ps[g, 1],
                        generator_ps[g, 2],
                        generator_ps[g, 3],
                    )
                    update_busy[g] += ps
                    update_end[g] = now + ps
                    if now + ps >= limit:
                        return CLOCK, h, n_sent, n_delivered
                    if at[g, 0] >= 0:
                        n_heap = _push(heap, n_heap, ((now + ps) << shift) | g)
                if n_stack == 0:
                    break
                n_stack -= 1
                item = stack[n_stack]
                if item < 0:
                    # a new head of a buffer asks for its output
                    b = -1 - np.int64(item)
                    core = buffer[b, head[b]] >> 32
                    router, goal = buffer_router[b], core_router[core]
                    if router == goal:
                        item = n_links + core
                    else:
                        dx = router_x[goal] - router_x[router]
                        if dx > 0:
                            item = 4 * router
                        elif dx < 0:
                            item = 4 * router + 1
                        elif router_y[goal] > router_y[router]:
                            item = 4 * router + 2
                        else:
                            item = 4 * router + 3
                    if n_wait[item] > 0:  # behind the others
                        wait[item, (head_wait[item] + n_wait[item]) & port] = b
                        n_wait[item] += 1
                        b = np.int64(-1)
                elif n_wait[item] > 0:
                    b = np.int64(-1)
                else:
                    continue
                # b is the buffer that asks, where no other waits; else the first that waits is next
                if item < n_links:
                    is_free = link_message[item] < 0 and count[link_target[item]] < size
                else:
                    core = item - n_links
                    is_free = local_message[core] < 0
                    free_at = ring[core, ring_at[core]]
                    if is_free and free_at > now:
                        is_free = False
                        if wake[core] == 0:
                            wake[core] = 1
                            if free_at >= limit:
                                return CLOCK, h, n_sent, n_delivered
                            n_heap = _push(heap, n_heap, (free_at << shift) | (n_generators + core))
                if not is_free:
                    if b >= 0:
                        wait[item, head_wait[item] & port] = b
                        n_wait[item] = 1
                    continue
                if b < 0:
                    b = np.int64(wait[item, head_wait[item]])
                    head_wait[item] = (head_wait[item] + 1) & port
                    n_wait[item] -= 1
                message = buffer[b, head[b]]
                head[b] = (head[b] + 1) & place
                count[b] -= 1
                if item < n_links:
                    link_message[item] = message
                    q = link_queue[item]
                    arrival = now + queue_ps[q]
                    queue[q, last[q] & around] = (arrival << shift) | (
                        n_generators + 2 * n_cores + item
                    )
                    last[q] += 1
                    link_load[item] += 1
                    if tracing:
                        traced = link_trace[h, item]
                        if traced.messages == 0:
                            traced.departure = now
                        traced.messages += 1
                        traced.arrival = arrival
                elif within_tile > 0:
                    local_message[core] = message
                    queue[n_queues - 1, last[n_queues - 1] & around] = (
                        (now + within_tile) << shift
                    ) | (n_generators + n_cores + core)
                    last[n_queues - 1] += 1
                else:
                    arrived = message
                # one place in buffer b is free
                if count[b] > 0:
                    stack[n_stack] = -1 - b
                    n_stack += 1
                feeder = buffer_feeder[b]
                if feeder >= 0:
                    if n_wait[feeder] > 0:
                        stack[n_stack] = feeder
                        n_stack += 1
                elif blocked_since[-1 - feeder] >= 0:
                    inject = -1 - feeder
                    blocked[inject] += now - blocked_since[inject]
                    blocked_since[inject] = -1
        if n_sent != n_delivered:
            return LOST, h, n_sent, n_delivered
        work = np.int64(0)
        for c in range(n_cores):
            work = max(work, receive_free[c], update_end[c])
        work = max(work, update_end[n_cores])
        step_ps[h] = work + barrier
        peak[0].in_flight = max(peak[0].in_flight, n_peak)
        if tracing:
            message_trace[h].sent = n_sent
            message_trace[h].in_flight = n_peak
        for c in range(n_cores):
            busy[c].update += update_busy[c]
            busy[c].blocked += blocked[c]
            busy[c].receive += receive_busy[c]
            busy[c].work += work
            if tracing:
                done = trace[h, c]
                done.update = update_busy[c]
                done.blocked = blocked[c]
                done.update_end = update_end[c]
                done.receive = receive_busy[c]
                done.receive_start = receive_start[c]
                done.receive_end = receive_free[c]
    return OK, h1, 0, 0
