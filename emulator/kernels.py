"""The compiled loops of both modes; imports numba, so import it late.

Times are integer picoseconds, counts are int64, and every loop visits its items in one order, so
results repeat exactly. `pmsm_hw.emulator.layout` documents the arrays of `Plan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np

from pmsm_hw.emulator.layout import Plan

__all__ = ["Costs", "Machine", "Tally", "count_population", "run_steps"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _jit(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, error_model="numpy")(function))


STATE_MIN = -(1 << 23)
STATE_MAX = (1 << 23) - 1

# rules, as `Plan.block_rule` has them
CARRY, RESET, BOUNDED, READOUT, INPUT = 0, 1, 2, 3, 4

# what `run_steps` answers
OK, LOST, CLOCK = 0, 1, 2


class Tally(NamedTuple):
    """Counts of events; the first axis of all but the last is the sample."""

    updates_idle: Any  # (batch, n_blocks) int64
    updates_active: Any  # (batch, n_blocks)
    fired: Any  # (batch, n_blocks) neurons x steps that fired; inputs: values other than zero
    spikes: Any  # (batch, n_blocks) sum of |k|
    messages_out: Any  # (batch, n_blocks)
    hops: Any  # (batch, n_blocks, 4) east, west, north, south
    crossings: Any  # (batch, n_blocks) hops from chip to chip
    messages_in: Any  # (batch, n_pairs)
    synops: Any  # (batch, n_rows)
    unit_synops: Any  # (batch, n_rows) the same if every spike were |k| unit spikes
    saturations: Any  # (batch, n_blocks)
    link_load: Any  # (n_links,) messages over each link


class Costs(NamedTuple):
    """Times of events in ps."""

    update_idle: int
    update_active: int
    spike: int
    packet_out: int
    packet_in: int
    within_tile: int
    barrier: int
    row: Any  # (n_rows,) int64: one synaptic operation
    link: Any  # (n_links,) int64: one message over a link


class Machine(NamedTuple):
    """What changes in cycle mode, step by step."""

    sums: Any  # (n_delays, n_slots) int32 or int64: summed input, by hardware step modulo n_delays
    v: Any  # (n_slots,) int64
    sent: Any  # (n_slots,) int64, running sum S
    k: Any  # (n_slots,) int32, of this step
    payload: Any  # (n_slots,) int64: payload of one message
    active: Any  # (n_slots,) uint8
    block_on: Any  # (n_blocks,) uint8: does its population act in this step?
    buffer: Any  # (n_buffers, buffer_size) int64: source slot << 32 | entry
    receive_ring: Any  # (n_cores, queue_size) int64: start of the last messages' service
    step_ps: Any  # (n_hardware_steps,) int64, barrier included
    busy: Any  # (n_cores, 4) int64: update, blocked, receive, and the step's work time
    trace: Any  # (n_hardware_steps or 0, n_cores, 6) int64, see `Report.trace`
    queue_peak: Any  # (2,) int64: fullest link buffer, most messages in flight


@_jit
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


@_jit
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


@_jit
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
    """One step of the neurons of one block: the contract's equations."""
    f = h - plan.block_depth[block]
    sample = f // n_steps
    t = f - sample * n_steps
    first, last = plan.block_slot[block], plan.block_slot[block + 1]
    rule = plan.block_rule[block]
    n, p = plan.block_n[block], plan.block_p[block]
    unit = plan.block_unit[block] != 0
    gain_pos, gain_neg = plan.block_gain[block, 0], plan.block_gain[block, 1]
    pop = plan.block_population[block]
    size = plan.population_size[pop]
    out = plan.record_base[pop]
    if out >= 0:
        out += f * size
    flat, theta, bias, start = plan.slot_flat, plan.slot_theta, plan.slot_bias, plan.slot_start
    v, ks, payload, active, sent = (
        machine.v, machine.k, machine.payload, machine.active, machine.sent,
    )  # fmt: skip
    n_active, n_fired, n_spikes, n_saturated = 0, 0, 0, 0
    if rule == INPUT:
        base = (
            plan.unit_base[pop] + sample * plan.unit_stride[pop, 0] + t * plan.unit_stride[pop, 1]
        )
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


@_jit
def _add(target: Any, weight: Any, value: int) -> None:
    for j in range(len(target)):
        target[j] += weight[j] * value


@_jit
def _deposit(plan: Plan, sums: Any, d: int, slot: int, value: int) -> None:
    """Add what one message brings through one projection to one block's summed inputs."""
    geo = plan.deposit[d]
    weights = plan.weights
    first = geo[3]
    if geo[0] == 0:
        n = geo[4]
        w0 = geo[1] + np.int64(plan.slot_flat[slot]) * n
        _add(sums[first : first + n], weights[w0 : w0 + n], value)
        return
    c0, c1, y0, y1, x0, x1 = geo[5], geo[6], geo[7], geo[8], geo[9], geo[10]
    kh, kw, sy, sx, dy, dx = geo[11], geo[12], geo[13], geo[14], geo[15], geo[16]
    c_out_group, c_in_group = geo[19], geo[20]
    c = np.int64(plan.slot_c[slot])
    top = np.int64(plan.slot_y[slot]) + geo[17]
    left = np.int64(plan.slot_x[slot]) + geo[18]
    group = c // c_in_group
    o0 = max(c0, group * c_out_group)
    o1 = min(c1, (group + 1) * c_out_group)
    n = o1 - o0
    if n <= 0:
        return
    width, depth = x1 - x0, c1 - c0
    for i in range(kh):
        y = top - i * dy
        if y < 0 or y % sy != 0:
            continue
        y //= sy
        if y < y0 or y >= y1:
            continue
        for j in range(kw):
            x = left - j * dx
            if x < 0 or x % sx != 0:
                continue
            x //= sx
            if x < x0 or x >= x1:
                continue
            a = first + ((y - y0) * width + (x - x0)) * depth + (o0 - c0)
            w0 = geo[1] + ((c * kh + i) * kw + j) * c_out_group + (o0 - group * c_out_group)
            _add(sums[a : a + n], weights[w0 : w0 + n], value)


@_jit
def _receive(
    plan: Plan,
    machine: Machine,
    tally: Tally,
    costs: Costs,
    h: int,
    n_steps: int,
    core: int,
    message: int,
) -> int:
    """Look up one message's synapses and add them; answer the service time in ps."""
    slot = message >> 32
    entry = message & 0xFFFFFFFF
    block = plan.slot_block[slot]
    f = h - plan.block_depth[block]
    sample = f // n_steps
    t = f - sample * n_steps
    pair = plan.pair_of[plan.block_population[block], core]
    value = machine.payload[slot]
    times = 1 if plan.block_unit[block] != 0 else abs(np.int64(machine.k[slot]))
    service = costs.packet_in
    tally.messages_in[sample, pair] += 1
    offset = plan.entry_offset[entry]
    row0 = plan.pair_row[pair]
    for r in range(row0, plan.pair_row[pair + 1]):
        n = np.int64(plan.entry_synapses[offset + r - row0])
        service += n * costs.row[r]
        tally.synops[sample, r] += n
        tally.unit_synops[sample, r] += n * times
    n_delays = machine.sums.shape[0]
    for d in range(plan.pair_deposit[pair], plan.pair_deposit[pair + 1]):
        geo = plan.deposit[d]
        if t + geo[22] >= n_steps:
            continue  # the sample ends before: nothing reaches the next one
        _deposit(plan, machine.sums[(h + geo[21]) % n_delays], d, slot, value << geo[2])
    return service


@_jit
def _next_message(
    plan: Plan, machine: Machine, costs: Costs, generator: int, at: Any, scale: int
) -> int:
    """Advance a core to its next message; answer the ps until it is ready.

    ``at`` holds (slot, entry, spikes left, block, tail). When no message is left the slot is -1 and
    the answer is the time of the remaining updates. ``scale`` is 0 for inputs: they cost no time.
    """
    slot, entry, left, block = at[0], at[1], at[2], at[3]
    if left > 0:
        entry += 1
        if entry < plan.entry[slot + 1]:
            at[1] = entry
            return scale * costs.packet_out
        left -= 1
        if left > 0:
            at[1] = plan.entry[slot]
            at[2] = left
            return scale * costs.packet_out
        slot += 1
    ps = 0
    ks, active = machine.k, machine.active
    last_block = plan.core_block[generator + 1]
    while block < last_block:
        if machine.block_on[block] == 0:
            block += 1
            slot = plan.block_slot[block]
            continue
        stop = plan.block_slot[block + 1]
        while slot < stop:
            ps += costs.update_active if active[slot] != 0 else costs.update_idle
            k = np.int64(ks[slot])
            if k != 0:
                ps += costs.spike
                first = plan.entry[slot]
                if first < plan.entry[slot + 1]:
                    at[0] = slot
                    at[1] = first
                    at[2] = abs(k) if plan.block_unit[block] != 0 else 1
                    at[3] = block
                    return scale * (ps + costs.packet_out)
            slot += 1
        block += 1
        slot = plan.block_slot[block]
    at[0] = -1
    return scale * ps


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
    n_cores = plan.core_router.shape[0] - 1
    n_generators = n_cores + 1
    n_blocks = plan.block_population.shape[0]
    n_links = plan.link_target.shape[0]
    n_buffers, size = machine.buffer.shape
    queue_size = machine.receive_ring.shape[1]
    n_outputs = n_links + n_cores
    n_ports = plan.n_ports
    buffer, ring = machine.buffer, machine.receive_ring

    n_entities = n_generators + 2 * n_cores + n_links
    shift = 1
    while (1 << shift) < n_entities:
        shift += 1
    mask = (1 << shift) - 1
    limit = np.int64(1) << (62 - shift)
    heap = np.empty(n_entities + 1, np.int64)
    stack = np.empty(4 * (n_buffers + n_outputs) + 64, np.int64)

    count = np.zeros(n_buffers, np.int64)
    head = np.zeros(n_buffers, np.int64)
    wait = np.zeros((n_outputs, n_ports), np.int32)
    n_wait = np.zeros(n_outputs, np.int32)
    head_wait = np.zeros(n_outputs, np.int32)
    link_message = np.full(n_links, -1, np.int64)
    local_message = np.full(n_cores, -1, np.int64)
    wake = np.zeros(n_cores, np.uint8)
    received = np.zeros(n_cores, np.int64)
    receive_free = np.zeros(n_cores, np.int64)
    receive_busy = np.zeros(n_cores, np.int64)
    receive_start = np.zeros(n_cores, np.int64)
    at = np.zeros((n_generators, 4), np.int64)
    blocked_since = np.full(n_generators, -1, np.int64)
    blocked = np.zeros(n_generators, np.int64)
    update_busy = np.zeros(n_generators, np.int64)
    update_end = np.zeros(n_generators, np.int64)
    is_input = np.zeros(n_generators, np.uint8)
    is_input[n_cores] = 1
    tracing = machine.trace.shape[0] > 0

    for h in range(h0, h1):
        for b in range(n_blocks):
            f = h - plan.block_depth[b]
            on = 0 <= f < n_steps * n_samples
            machine.block_on[b] = on
            if on:
                _update_block(plan, machine, tally, b, h, n_steps, units, record, readout)
        received[:] = 0
        receive_free[:] = 0
        receive_busy[:] = 0
        receive_start[:] = 0
        ring[:] = 0
        blocked[:] = 0
        n_heap, n_sent, n_delivered = 0, 0, 0
        for g in range(n_generators):
            at[g, 0] = plan.block_slot[plan.core_block[g]]
            at[g, 2] = 0
            at[g, 3] = plan.core_block[g]
            ps = _next_message(plan, machine, costs, g, at[g], 1 - is_input[g])
            update_busy[g] = ps
            update_end[g] = ps
            if ps >= limit:
                return CLOCK, h, n_sent, n_delivered
            if at[g, 0] >= 0:
                n_heap = _push(heap, n_heap, (ps << shift) | g)
        while n_heap > 0:
            key = heap[0]
            n_heap = _pop(heap, n_heap)
            now = key >> shift
            entity = key & mask
            n_stack = 0
            inject = -1
            if entity < n_generators:
                # a core has a message ready
                b = plan.injection_buffer[entity]
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
                service = _receive(
                    plan, machine, tally, costs, h, n_steps, core, local_message[core]
                )
                local_message[core] = -1
                begin = max(now, receive_free[core])
                if received[core] == 0:
                    receive_start[core] = begin
                ring[core, received[core] % queue_size] = begin
                received[core] += 1
                receive_free[core] = begin + service
                receive_busy[core] += service
                n_delivered += 1
                stack[0] = n_links + core
                n_stack = 1
            else:
                # a message reaches the end of a link
                link = entity - n_generators - 2 * n_cores
                b = plan.link_target[link]
                buffer[b, (head[b] + count[b]) % size] = link_message[link]
                count[b] += 1
                link_message[link] = -1
                stack[0] = link
                n_stack = 1
                if count[b] == 1:
                    stack[1] = -1 - b
                    n_stack = 2
                if count[b] > machine.queue_peak[0]:
                    machine.queue_peak[0] = count[b]
            while True:
                if inject >= 0:
                    g = inject
                    inject = -1
                    b = plan.injection_buffer[g]
                    slot = at[g, 0]
                    buffer[b, (head[b] + count[b]) % size] = (slot << 32) | at[g, 1]
                    count[b] += 1
                    n_sent += 1
                    block = plan.slot_block[slot]
                    sample = (h - plan.block_depth[block]) // n_steps
                    tally.messages_out[sample, block] += 1
                    if n_sent - n_delivered > machine.queue_peak[1]:
                        machine.queue_peak[1] = n_sent - n_delivered
                    if count[b] == 1:
                        stack[n_stack] = -1 - b
                        n_stack += 1
                    ps = _next_message(plan, machine, costs, g, at[g], 1 - is_input[g])
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
                    b = -1 - item
                    core = plan.entry_core[buffer[b, head[b]] & 0xFFFFFFFF]
                    router, goal = plan.buffer_router[b], plan.core_router[core]
                    if router == goal:
                        item = n_links + core
                    else:
                        dx = plan.router_x[goal] - plan.router_x[router]
                        if dx > 0:
                            item = 4 * router
                        elif dx < 0:
                            item = 4 * router + 1
                        elif plan.router_y[goal] > plan.router_y[router]:
                            item = 4 * router + 2
                        else:
                            item = 4 * router + 3
                    wait[item, (head_wait[item] + n_wait[item]) % n_ports] = b
                    n_wait[item] += 1
                if n_wait[item] == 0:
                    continue
                if item < n_links:
                    if link_message[item] >= 0 or count[plan.link_target[item]] == size:
                        continue
                else:
                    core = item - n_links
                    if local_message[core] >= 0:
                        continue
                    free_at = ring[core, received[core] % queue_size]
                    if free_at > now:
                        if wake[core] == 0:
                            wake[core] = 1
                            if free_at >= limit:
                                return CLOCK, h, n_sent, n_delivered
                            n_heap = _push(heap, n_heap, (free_at << shift) | (n_generators + core))
                        continue
                b = wait[item, head_wait[item]]
                head_wait[item] = (head_wait[item] + 1) % n_ports
                n_wait[item] -= 1
                message = buffer[b, head[b]]
                head[b] = (head[b] + 1) % size
                count[b] -= 1
                if item < n_links:
                    link_message[item] = message
                    arrival = now + costs.link[item]
                    n_heap = _push(
                        heap, n_heap, (arrival << shift) | (n_generators + 2 * n_cores + item)
                    )
                    block = plan.slot_block[message >> 32]
                    sample = (h - plan.block_depth[block]) // n_steps
                    tally.hops[sample, block, item & 3] += 1
                    tally.crossings[sample, block] += plan.link_crossing[item]
                    tally.link_load[item] += 1
                elif costs.within_tile > 0:
                    core = item - n_links
                    local_message[core] = message
                    n_heap = _push(
                        heap,
                        n_heap,
                        ((now + costs.within_tile) << shift) | (n_generators + n_cores + core),
                    )
                else:
                    core = item - n_links
                    service = _receive(plan, machine, tally, costs, h, n_steps, core, message)
                    begin = max(now, receive_free[core])
                    if received[core] == 0:
                        receive_start[core] = begin
                    ring[core, received[core] % queue_size] = begin
                    received[core] += 1
                    receive_free[core] = begin + service
                    receive_busy[core] += service
                    n_delivered += 1
                    stack[n_stack] = item
                    n_stack += 1
                # one place in buffer b is free
                if count[b] > 0:
                    stack[n_stack] = -1 - b
                    n_stack += 1
                feeder = plan.buffer_feeder[b]
                if feeder >= 0:
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
        machine.step_ps[h] = work + costs.barrier
        for c in range(n_cores):
            machine.busy[c, 0] += update_busy[c]
            machine.busy[c, 1] += blocked[c]
            machine.busy[c, 2] += receive_busy[c]
            machine.busy[c, 3] += work
            if tracing:
                machine.trace[h, c, 0] = update_busy[c]
                machine.trace[h, c, 1] = blocked[c]
                machine.trace[h, c, 2] = update_end[c]
                machine.trace[h, c, 3] = receive_busy[c]
                machine.trace[h, c, 4] = receive_start[c]
                machine.trace[h, c, 5] = receive_free[c]
    return OK, h1, 0, 0


@_jit
def count_population(
    plan: Plan,
    tally: Tally,
    costs: Costs,
    blocks: Any,
    spikes: Any,
    active: Any,
    sample0: int,
    n_steps: int,
    generate_ps: Any,
    receive_ps: Any,
) -> None:
    """Count what one population did: counts mode.

    ``spikes`` is ``(batch * n_steps, n)`` int32, ``active`` the same in bool; ``generate_ps`` and
    ``receive_ps`` are ``(n_cores + 1, n_hardware_steps)`` int64, to which the times are added.
    """
    n_cores = plan.core_router.shape[0] - 1
    meeting = np.zeros(n_cores, np.int64)
    touched = np.empty(n_cores, np.int64)
    for i in range(blocks.shape[0]):
        block = blocks[i]
        pop = plan.block_population[block]
        is_input = plan.block_rule[block] == INPUT
        unit = plan.block_unit[block] != 0
        source = plan.block_core[block]
        first, last = plan.block_slot[block], plan.block_slot[block + 1]
        for f in range(spikes.shape[0]):
            sample = sample0 + f // n_steps
            h = sample0 * n_steps + f + plan.block_depth[block]
            n_active, n_fired, n_spikes, n_out, n_touched = 0, 0, 0, 0, 0
            for s in range(first, last):
                j = plan.slot_flat[s]
                n_active += active[f, j]
                k: Any = abs(np.int64(spikes[f, j]))
                if k == 0:
                    continue
                n_fired += 1
                n_spikes += k
                times = k if unit else 1
                for e in range(plan.entry[s], plan.entry[s + 1]):
                    core = plan.entry_core[e]
                    if meeting[core] == 0:
                        touched[n_touched] = core
                        n_touched += 1
                    meeting[core] += times
                    n_out += times
                    pair = plan.pair_of[pop, core]
                    row0 = plan.pair_row[pair]
                    offset = plan.entry_offset[e]
                    for r in range(row0, plan.pair_row[pair + 1]):
                        n = np.int64(plan.entry_synapses[offset + r - row0])
                        tally.synops[sample, r] += n * times
                        tally.unit_synops[sample, r] += n * k
                        receive_ps[core, h] += n * times * costs.row[r]
            for m in range(n_touched):
                core = touched[m]
                n_messages = meeting[core]
                meeting[core] = 0
                tally.messages_in[sample, plan.pair_of[pop, core]] += n_messages
                receive_ps[core, h] += n_messages * costs.packet_in
                router, goal = plan.core_router[source], plan.core_router[core]
                while router != goal:
                    dx = plan.router_x[goal] - plan.router_x[router]
                    if dx > 0:
                        link = 4 * router
                    elif dx < 0:
                        link = 4 * router + 1
                    elif plan.router_y[goal] > plan.router_y[router]:
                        link = 4 * router + 2
                    else:
                        link = 4 * router + 3
                    tally.hops[sample, block, link & 3] += n_messages
                    tally.crossings[sample, block] += n_messages * plan.link_crossing[link]
                    tally.link_load[link] += n_messages
                    router = plan.buffer_router[plan.link_target[link]]
            tally.fired[sample, block] += n_fired
            tally.spikes[sample, block] += n_spikes
            tally.messages_out[sample, block] += n_out
            if not is_input:
                n_idle = last - first - n_active
                tally.updates_active[sample, block] += n_active
                tally.updates_idle[sample, block] += n_idle
                generate_ps[source, h] += (
                    n_active * costs.update_active
                    + n_idle * costs.update_idle
                    + n_fired * costs.spike
                    + n_out * costs.packet_out
                )
