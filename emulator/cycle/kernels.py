"""The compiled loops of cycle mode; imports numba, so import it late.

Times are integer picoseconds, counts are int64, and every loop visits its items in one order, so
results repeat exactly. `pmsm_hw.emulator.layout.plan` documents the arrays of `Plan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from pmsm_hw.compiled import helper, njit
from pmsm_hw.emulator.costs import Costs
from pmsm_hw.emulator.counts import Tally
from pmsm_hw.emulator.cycle.machine import Machine
from pmsm_hw.emulator.layout.plan import Plan
from pmsm_hw.network.limits import STATE_MAX, STATE_MIN
from pmsm_hw.neurons.codes import BOUNDED, INPUT, PLAIN, READOUT, RESET

__all__ = ["CLOCK", "LOST", "run_steps"]

_F = TypeVar("_F", bound=Callable[..., Any])


# Without reference counts (`_nrt`): a function that takes arrays from a tuple would pay for each
# one, in every call. Nothing is allocated here, and callers hold what they hand over.


def _jit(function: _F) -> _F:
    return cast(_F, njit(error_model="numpy", _nrt=False)(function))


def _inline(function: _F) -> _F:
    return cast(_F, helper(error_model="numpy", forceinline=True, _nrt=False)(function))


# what `run_steps` answers
OK, LOST, CLOCK = 0, 1, 2

# whether an output takes a message, if not CLOCK
NO, YES = 0, 1


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
    sample, t = machine.block_sample[block], machine.block_step[block]
    step = f - sample * n_steps
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
        base = plan.unit_base[pop] + sample * plan.unit_sample[pop] + step * plan.unit_step[pop]
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
    if rule == READOUT and step == n_steps - 1:
        base = plan.readout_base[pop] + sample * size
        for s in range(first, last):
            readout[base + flat[s]] = v[s]
    each = plan.block_compartments[block]
    tally.updates_active[sample, block] += each * n_active
    tally.updates_idle[sample, block] += each * (last - first - n_active)
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
def _add_later(
    sums: Any, row: Any, n_rows: int, n_sums: int, first: int, weights: Any, w0: int, delays: Any,
    d0: int, n: int, value: Any, left: Any,
) -> None:  # fmt: skip
    """As `_add`, as many rows later as each delay says; nothing ``left`` rows later or more."""
    w, d = np.uint64(w0), np.uint64(d0)
    for j in range(np.uint64(n)):
        later = np.int64(delays[d + j])
        if later < left:
            at = row + later
            at = at if at < n_rows else at - n_rows
            sums[np.uint64(at * n_sums + first) + j] += weights[w + j] * value


@_inline
def _deposit_run(
    plan: Plan, deposit: Any, sums: Any, n_rows: int, n_sums: int, row: Any, first: int, w0: int,
    n: int, value: Any, left: Any,
) -> None:  # fmt: skip
    """Add synapses whose targets and weights stand side by side; see `_deposit`."""
    if deposit.first_delay < 0:
        _add(sums, row * n_sums + first, plan.weights, w0, n, value)
    else:
        d0 = w0 - deposit.first_weight + deposit.first_delay
        _add_later(
            sums, row, n_rows, n_sums, first, plan.weights, w0, plan.delays, d0, n, value, left
        )


@_inline
def _deposit(
    plan: Plan, deposit: Any, sums: Any, n_rows: int, n_sums: int, row: Any, slot: Any, value: Any,
    left: Any,
) -> None:  # fmt: skip
    """Add a message's synapses into a block, to the sums of a step, or of later ones.

    Those of a matrix are one run; those of a window, for each tap, a run of channels of one pixel.
    ``row`` of ``n_rows`` holds the ``n_sums`` of the step, ``left`` steps of the sample remain.
    """
    if deposit.is_window == 0:
        n = deposit.n_neurons
        w0 = deposit.first_weight + np.int64(plan.slot_flat[slot]) * n
        _deposit_run(
            plan, deposit, sums, n_rows, n_sums, row, deposit.first_sum, w0, n, value, left
        )
        return
    c, y0, x0 = (
        np.int64(plan.slot_c[slot]), np.int64(plan.slot_y[slot]), np.int64(plan.slot_x[slot]),
    )  # fmt: skip
    c_first, c_last = deposit.channel_first, deposit.channel_end
    y_first, y_last = deposit.row_first, deposit.row_end
    x_first, x_last = deposit.column_first, deposit.column_end
    kh, kw = deposit.kernel_rows, deposit.kernel_columns
    sy, sx = deposit.stride_rows, deposit.stride_columns
    dy, dx = deposit.dilation_rows, deposit.dilation_columns
    y_last_tap, x_last_tap = y0 + deposit.padding_rows, x0 + deposit.padding_columns
    c_out_group, c_in_group = deposit.group_outputs, deposit.group_inputs
    group = c // c_in_group
    o0 = max(c_first, group * c_out_group)
    o1 = min(c_last, (group + 1) * c_out_group)
    n = o1 - o0
    if n <= 0:
        return
    width, depth = x_last - x_first, c_last - c_first
    a0 = deposit.first_sum + (o0 - c_first)
    w0 = deposit.first_weight + c * kh * kw * c_out_group + (o0 - group * c_out_group)
    for i in range(kh):
        y = y_last_tap - i * dy
        if sy > 1:
            if y % sy != 0:
                continue
            y //= sy
        if y < y_first or y >= y_last:
            continue
        for j in range(kw):
            x = x_last_tap - j * dx
            if sx > 1:
                if x % sx != 0:
                    continue
                x //= sx
            if x < x_first or x >= x_last:
                continue
            a = a0 + ((y - y_first) * width + (x - x_first)) * depth
            w = w0 + (i * kw + j) * c_out_group
            _deposit_run(plan, deposit, sums, n_rows, n_sums, row, a, w, n, value, left)


@_inline
def _next_message(
    sender: Any, ks: Any, active: Any, on: Any, entry: Any, block_slot: Any, block_unit: Any,
    compartments: Any,
) -> Any:  # fmt: skip
    """Advance a core to its next message; answer the ps until it is ready.

    When no message is left the slot is -1 and the answer is the time of the remaining updates.
    """
    slot, left, block = sender.slot, sender.spikes_left, sender.block
    if left > 0:
        e = sender.entry + 1
        if e < sender.entry_end:
            sender.entry = e
            return sender.out_ps
        left -= 1
        if left > 0:
            sender.entry = entry[slot]
            sender.spikes_left = left
            return sender.out_ps
        slot += 1
    ps: Any = 0
    idle_ps, active_ps, spike_ps = sender.idle_ps, sender.active_ps, sender.spike_ps
    while block < sender.block_end:
        stop = block_slot[block + 1]
        if on[block] != 0:
            each = compartments[block]
            while slot < stop:
                ps += each * (active_ps if active[slot] != 0 else idle_ps)
                k = np.int64(ks[slot])
                if k != 0:
                    ps += spike_ps
                    first, end = entry[slot], entry[slot + 1]
                    if first < end:
                        sender.slot = slot
                        sender.entry = first
                        sender.spikes_left = abs(k) if block_unit[block] != 0 else 1
                        sender.block = block
                        sender.entry_end = end
                        return ps + sender.out_ps
                slot += 1
        slot = stop
        block += 1
    sender.slot = -1
    sender.spikes_left = 0
    sender.block = block
    return ps


# -- cores -------------------------------------------------------------------------------------


@_inline
def _start_step(plan: Plan, machine: Machine, n_senders: int, n_cores: int) -> None:
    """Cores before the first message of a step."""
    state = machine.state[0]
    state.n_heap, state.n_sent, state.n_delivered, state.n_peak = 0, 0, 0, 0
    state.arrived, state.inject = -1, -1
    machine.ring[:] = 0
    for g in range(n_senders):
        sender = machine.senders[g]
        sender.slot = plan.block_slot[sender.block_first]
        sender.spikes_left = 0
        sender.block = sender.block_first
        sender.busy_ps = 0
        sender.end_ps = 0
        sender.blocked_ps = 0
    for core in range(n_cores):
        receiver = machine.receivers[core]
        receiver.n_received = 0
        receiver.free_at = 0
        receiver.busy_ps = 0
        receiver.start_ps = 0


@_inline
def _put(plan: Plan, machine: Machine, tally: Tally, sender: Any) -> None:
    """Put a core's message into the buffer of its router, and count its way."""
    core = np.int64(plan.entry_core[sender.entry])
    buffer = machine.buffers[sender.buffer]
    at = (buffer.head + buffer.count) & machine.buffer_mask
    machine.messages[sender.buffer, at] = (core << 32) | sender.entry
    buffer.count += 1
    block = plan.slot_block[sender.slot]
    sample = machine.block_sample[block]
    tally.messages_out[sample, block] += 1
    router, goal = sender.router, machine.receivers[core].router
    dx = plan.router_x[goal] - plan.router_x[router]
    dy = plan.router_y[goal] - plan.router_y[router]
    tally.hops[sample, block, 0 if dx > 0 else 1] += abs(dx)
    tally.hops[sample, block, 2 if dy > 0 else 3] += abs(dy)
    tally.crossings[sample, block] += abs(
        plan.router_chip_x[goal] - plan.router_chip_x[router]
    ) + abs(plan.router_chip_y[goal] - plan.router_chip_y[router])


@_inline
def _look_up(
    plan: Plan,
    machine: Machine,
    tally: Tally,
    costs: Costs,
    sums: Any,
    message: Any,
    h: int,
    n_linked: int,
) -> Any:
    """Look a message's synapses up and add them to the summed inputs; answer the ps it takes."""
    e, core = message & 0xFFFFFFFF, message >> 32
    slot = np.int64(plan.entry_slot[e])
    block = plan.slot_block[slot]
    sample, t = machine.block_sample[block], machine.block_step[block]
    pair = plan.pair_of[plan.block_population[block], core]
    times = 1 if plan.block_unit[block] != 0 else abs(np.int64(machine.k[slot]))
    service = costs.packet_in
    tally.messages_in[sample, pair] += 1
    offset = plan.entry_offset[e]
    for r in range(plan.pair_row[pair], plan.pair_row[pair + 1]):
        n = np.int64(plan.entry_synapses[offset])
        offset += 1
        service += n * costs.row[r]
        tally.synops[sample, r] += n
        tally.unit_synops[sample, r] += n * times
    value = machine.payload[slot]
    n_rows, n_sums = machine.sums.shape
    for d in range(plan.pair_deposit[pair], plan.pair_deposit[pair + 1]):
        deposit = plan.deposit[d]
        left = n_linked - t - deposit.delay
        if left <= 0:
            continue  # the sample ends before: nothing reaches the next one
        row = (h + deposit.hardware_delay) % n_rows
        scaled = sums.dtype.type(value << deposit.weight_exponent)
        _deposit(plan, deposit, sums, n_rows, n_sums, row, slot, scaled, left)
    return service


@_inline
def _serve(receiver: Any, ring: Any, core: Any, now: Any, service: Any) -> None:
    """Let a core work on a message as soon as it is free."""
    begin = max(now, receiver.free_at)
    if receiver.n_received == 0:
        receiver.start_ps = begin
    at = receiver.ring_at
    ring[core, at] = begin
    receiver.ring_at = at + 1 if at + 1 < ring.shape[1] else 0
    receiver.n_received += 1
    receiver.free_at = begin + service
    receiver.busy_ps += service


@_inline
def _receive(
    plan: Plan,
    machine: Machine,
    tally: Tally,
    costs: Costs,
    sums: Any,
    now: Any,
    h: int,
    n_linked: int,
) -> None:
    """Let a core take the message that arrived; there may be room for one more."""
    state = machine.state[0]
    message = state.arrived
    state.arrived = -1
    core = message >> 32
    service = _look_up(plan, machine, tally, costs, sums, message, h, n_linked)
    _serve(machine.receivers[core], machine.ring, core, now, service)
    state.n_delivered += 1
    machine.stack[state.n_stack] = plan.link_target.shape[0] + core
    state.n_stack += 1


@_inline
def _send(plan: Plan, machine: Machine, tally: Tally, now: Any, shift: int, limit: Any) -> bool:
    """Let a core send its message and make the next one; false: the clock does not reach so far."""
    state = machine.state[0]
    g = state.inject
    state.inject = -1
    sender = machine.senders[g]
    _put(plan, machine, tally, sender)
    state.n_sent += 1
    state.n_peak = max(state.n_peak, state.n_sent - state.n_delivered)
    if machine.buffers[sender.buffer].count == 1:
        machine.stack[state.n_stack] = -1 - sender.buffer
        state.n_stack += 1
    ps = _next_message(
        sender, machine.k, machine.active, machine.block_on, plan.entry, plan.block_slot,
        plan.block_unit, plan.block_compartments,
    )  # fmt: skip
    sender.busy_ps += ps
    sender.end_ps = now + ps
    if sender.end_ps >= limit:
        return False
    if sender.slot >= 0:
        state.n_heap = _push(machine.heap, state.n_heap, (sender.end_ps << shift) | g)
    return True


# -- routers -----------------------------------------------------------------------------------


@_inline
def _output_of(plan: Plan, machine: Machine, b: Any, n_links: int) -> Any:
    """Output that the first message of a buffer asks for: along x first, then y, then its core."""
    buffer = machine.buffers[b]
    core = machine.messages[b, buffer.head] >> 32
    router, goal = buffer.router, machine.receivers[core].router
    if router == goal:
        return n_links + core
    dx = plan.router_x[goal] - plan.router_x[router]
    if dx > 0:
        return 4 * router
    if dx < 0:
        return 4 * router + 1
    if plan.router_y[goal] > plan.router_y[router]:
        return 4 * router + 2
    return 4 * router + 3


@_inline
def _arrive(machine: Machine, link: Any) -> Any:
    """Put the message of a link into the buffer at its end; answer the buffer."""
    output = machine.outputs[link]
    b = output.target
    buffer = machine.buffers[b]
    machine.messages[b, (buffer.head + buffer.count) & machine.buffer_mask] = output.message
    buffer.count += 1
    output.message = -1
    peak = machine.peak[0]
    if buffer.count > peak.link_buffer:
        peak.link_buffer = buffer.count
    return b


@_inline
def _wait(outputs: Any, waiting: Any, item: Any, b: Any) -> None:
    """Queue a buffer behind those that wait for an output."""
    output = outputs[item]
    waiting[item, (output.first_waiting + output.n_waiting) & (waiting.shape[1] - 1)] = b
    output.n_waiting += 1


@_inline
def _next_waiting(outputs: Any, waiting: Any, item: Any) -> Any:
    """Take the first buffer that waits for an output."""
    output = outputs[item]
    b = np.int64(waiting[item, output.first_waiting])
    output.first_waiting = (output.first_waiting + 1) & (waiting.shape[1] - 1)
    output.n_waiting -= 1
    return b


@_inline
def _schedule(queue: Any, queues: Any, q: Any, key: Any) -> None:
    """Append an event to a queue, where it is the latest."""
    queue[q, queues[q].last & (queue.shape[1] - 1)] = key
    queues[q].last += 1


@_inline
def _has_room(machine: Machine, item: Any, n_links: int, now: Any, shift: int, limit: Any) -> int:
    """Whether an output takes a message now (YES, NO); a core with a full queue will wake up.

    CLOCK: that takes longer than the clock.
    """
    output = machine.outputs[item]
    if output.message >= 0:
        return NO
    if item < n_links:
        return YES if machine.buffers[output.target].count < machine.buffer_size else NO
    core = item - n_links
    receiver = machine.receivers[core]
    free_at = machine.ring[core, receiver.ring_at]
    if free_at <= now:
        return YES
    if receiver.wakes == 0:
        receiver.wakes = 1
        if free_at >= limit:
            return CLOCK
        state = machine.state[0]
        key = (free_at << shift) | (machine.senders.shape[0] + core)
        state.n_heap = _push(machine.heap, state.n_heap, key)
    return NO


@_inline
def _forward(
    machine: Machine, tally: Tally, costs: Costs, item: Any, b: Any, n_links: int, now: Any, h: int,
    shift: int,
) -> None:  # fmt: skip
    """Move the first message of a buffer to an output; its place is free."""
    state, output, buffer = machine.state[0], machine.outputs[item], machine.buffers[b]
    message = machine.messages[b, buffer.head]
    buffer.head = (buffer.head + 1) & machine.buffer_mask
    buffer.count -= 1
    n_senders, n_cores = machine.senders.shape[0], machine.receivers.shape[0]
    if item < n_links:
        output.message = message
        arrival = now + costs.link_queue_ps[output.queue]
        key = (arrival << shift) | (n_senders + 2 * n_cores + item)
        _schedule(machine.queue, machine.queues, output.queue, key)
        tally.link_load[item] += 1
        if h < machine.trace.shape[0]:
            _trace_link(machine, h, item, now, arrival)
    elif costs.within_tile > 0:
        output.message = message
        key = ((now + costs.within_tile) << shift) | (n_senders + n_cores + item - n_links)
        _schedule(machine.queue, machine.queues, output.queue, key)
    else:
        state.arrived = message
    if buffer.count > 0:
        machine.stack[state.n_stack] = -1 - b
        state.n_stack += 1
    feeder = buffer.feeder
    if feeder >= 0:
        if machine.outputs[feeder].n_waiting > 0:
            machine.stack[state.n_stack] = feeder
            state.n_stack += 1
        return
    sender = machine.senders[-1 - feeder]
    if sender.blocked_since >= 0:
        state.inject = -1 - feeder
        sender.blocked_ps += now - sender.blocked_since
        sender.blocked_since = -1


# -- events and steps --------------------------------------------------------------------------


@_inline
def _earliest(heap: Any, n_heap: int, queue: Any, queues: Any) -> Any:
    """The first pending event, and the queue that it stands in; -1: the heap, -2: there is none."""
    key, chosen = np.int64(0x7FFFFFFFFFFFFFFF), -2
    if n_heap > 0:
        key, chosen = heap[0], -1
    for q in range(queues.shape[0]):
        first = queues[q].first
        if first != queues[q].last:
            found = queue[q, first & (queue.shape[1] - 1)]
            if found < key:
                key, chosen = found, q
    return key, chosen


@_inline
def _begin(plan: Plan, machine: Machine, entity: Any, now: Any) -> None:
    """What an event starts with: a message to send or that arrived, or outputs to look at."""
    state, outputs, stack = machine.state[0], machine.outputs, machine.stack
    n_senders, n_cores = machine.senders.shape[0], machine.receivers.shape[0]
    n_links = plan.link_target.shape[0]
    state.n_stack = 0
    if entity < n_senders:
        # a core has a message ready
        sender = machine.senders[entity]
        if machine.buffers[sender.buffer].count == machine.buffer_size:
            sender.blocked_since = now
        else:
            state.inject = entity
    elif entity < n_senders + n_cores:
        # room in a core's input queue
        core = entity - n_senders
        machine.receivers[core].wakes = 0
        stack[0] = n_links + core
        state.n_stack = 1
    elif entity < n_senders + 2 * n_cores:
        # a message reaches a core of its tile
        output = outputs[n_links + entity - n_senders - n_cores]
        state.arrived = output.message
        output.message = -1
    else:
        # a message reaches the end of a link
        link = entity - n_senders - 2 * n_cores
        b = _arrive(machine, link)
        if outputs[link].n_waiting > 0:
            stack[0] = link
            state.n_stack = 1
        if machine.buffers[b].count == 1:
            stack[state.n_stack] = -1 - b
            state.n_stack += 1


@_inline
def _settle(
    plan: Plan,
    machine: Machine,
    tally: Tally,
    costs: Costs,
    sums: Any,
    now: Any,
    h: int,
    n_linked: int,
    shift: int,
    limit: Any,
) -> bool:
    """All that follows from an event at once; false: a time is longer than the clock."""
    state, outputs, n_links = machine.state[0], machine.outputs, plan.link_target.shape[0]
    while True:
        if state.arrived >= 0:
            _receive(plan, machine, tally, costs, sums, now, h, n_linked)
        if state.inject >= 0 and not _send(plan, machine, tally, now, shift, limit):
            return False
        if state.n_stack == 0:
            return True
        state.n_stack -= 1
        item, b = machine.stack[state.n_stack], np.int64(-1)
        if item < 0:
            # a new head of a buffer asks for its output
            b = -1 - item
            item = _output_of(plan, machine, b, n_links)
            if outputs[item].n_waiting > 0:  # behind the others
                _wait(outputs, machine.waiting, item, b)
                b = np.int64(-1)
        elif outputs[item].n_waiting == 0:
            continue
        # b is the buffer that asks, where no other waits; else the first that waits is next
        room = _has_room(machine, item, n_links, now, shift, limit)
        if room == CLOCK:
            return False
        if room == NO:
            if b >= 0:
                _wait(outputs, machine.waiting, item, b)
            continue
        if b < 0:
            b = _next_waiting(outputs, machine.waiting, item)
        _forward(machine, tally, costs, item, b, n_links, now, h, shift)


@_inline
def _end_step(machine: Machine, costs: Costs, h: int, n_cores: int, n_sent: Any, peak: Any) -> None:
    """The barrier: how long the step took, and what each core did in it."""
    work = machine.senders[n_cores].end_ps
    for c in range(n_cores):
        work = max(work, machine.receivers[c].free_at, machine.senders[c].end_ps)
    machine.step_ps[h] = work + costs.barrier
    machine.peak[0].in_flight = max(machine.peak[0].in_flight, peak)
    tracing = h < machine.trace.shape[0]
    if tracing:
        machine.message_trace[h].sent = n_sent
        machine.message_trace[h].in_flight = peak
    for c in range(n_cores):
        sender, receiver, busy = machine.senders[c], machine.receivers[c], machine.busy[c]
        busy.update += sender.busy_ps
        busy.blocked += sender.blocked_ps
        busy.receive += receiver.busy_ps
        busy.work += work
        if tracing:
            done = machine.trace[h, c]
            done.update = sender.busy_ps
            done.blocked = sender.blocked_ps
            done.update_end = sender.end_ps
            done.receive = receiver.busy_ps
            done.receive_start = receiver.start_ps
            done.receive_end = receiver.free_at


@_inline
def _trace_link(machine: Machine, h: int, link: Any, now: Any, arrival: Any) -> None:
    traced = machine.link_trace[h, link]
    if traced.messages == 0:
        traced.departure = now
    traced.messages += 1
    traced.arrival = arrival


@_jit
def run_steps(
    plan: Plan,
    machine: Machine,
    tally: Tally,
    costs: Costs,
    h0: int,
    h1: int,
    n_steps: int,
    n_linked: int,
    n_samples: int,
    units: Any,
    record: Any,
    readout: Any,
) -> Any:
    """Run hardware steps ``h0 <= h < h1``; answer ``(status, step, n_sent, n_delivered)``.

    Samples have ``n_steps`` each; states and delays reach over ``n_linked``, one sample or all.

    Pending events are ``(time << shift) | entity``. Those that come a fixed time after their cause
    are in order as they are made: a queue for each such time (links; the last one for delivery in a
    tile), and a heap for the rest. Entities: senders; room in a core's input; delivery to a core of
    the tile; arrival at the end of a link.
    """
    state, heap, queues, on = machine.state[0], machine.heap, machine.queues, machine.block_on
    sums = machine.sums.reshape(machine.sums.size)
    n_cores, n_senders = machine.receivers.shape[0], machine.senders.shape[0]
    shift = 1
    while (1 << shift) < n_senders + 2 * n_cores + plan.link_target.shape[0]:
        shift += 1
    limit = np.int64(1) << (62 - shift)
    for h in range(h0, h1):
        for block in range(on.shape[0]):
            f = h - plan.block_depth[block]
            on[block] = 0 <= f < n_steps * n_samples
            if on[block] != 0:
                machine.block_sample[block] = f // n_steps
                machine.block_step[block] = f % n_linked
                _update_block(plan, machine, tally, block, h, n_steps, units, record, readout)
        _start_step(plan, machine, n_senders, n_cores)
        for g in range(n_senders):
            sender = machine.senders[g]
            ps = _next_message(
                sender, machine.k, machine.active, on, plan.entry, plan.block_slot,
                plan.block_unit, plan.block_compartments,
            )  # fmt: skip
            sender.busy_ps = ps
            sender.end_ps = ps
            if ps >= limit:
                return CLOCK, h, state.n_sent, state.n_delivered
            if sender.slot >= 0:
                state.n_heap = _push(heap, state.n_heap, (ps << shift) | g)
        while True:
            key, chosen = _earliest(heap, state.n_heap, machine.queue, queues)
            if chosen == -2:
                break
            if chosen >= 0:
                queues[chosen].first += 1
            else:
                state.n_heap = _pop(heap, state.n_heap)
            now = key >> shift
            _begin(plan, machine, key & ((1 << shift) - 1), now)
            if not _settle(plan, machine, tally, costs, sums, now, h, n_linked, shift, limit):
                return CLOCK, h, state.n_sent, state.n_delivered
        if state.n_sent != state.n_delivered:
            return LOST, h, state.n_sent, state.n_delivered
        _end_step(machine, costs, h, n_cores, state.n_sent, state.n_peak)
    return OK, h1, 0, 0
