"""What changes in cycle mode, step by step, and what a trace keeps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pmsm_hw.emulator.constants import DEFAULT_LINK_BUFFER
from pmsm_hw.emulator.runs import Run

__all__ = ["CORE_TRACE", "LINK_TRACE", "MESSAGE_TRACE", "Machine", "machine_of"]


def _int64(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in names])


SENDER = _int64(
    "block_first", "block_end",  # blocks of the core
    "slot", "entry", "entry_end", "spikes_left", "block",  # of the next message; slot -1: none
    "idle_ps", "active_ps", "spike_ps", "out_ps",  # times of updates, spikes, packets out
    "router", "buffer",  # where it sends to
    "busy_ps", "end_ps",  # of updates in this step
    "blocked_since", "blocked_ps",
)  # fmt: skip
"""Updates and sending of a core; the last one is the I/O port, whose inputs take no time."""

RECEIVER = _int64(
    "router",
    "wakes",  # whether it will look for room in its input queue by itself
    "ring_at", "n_received", "free_at",  # last messages; end of the last one's service
    "start_ps", "busy_ps",  # of this step
)  # fmt: skip
"""Receiving of a core."""

BUFFER = _int64(
    "router",
    "feeder",  # output that fills it, or -1 - sender
    "head", "count",
)  # fmt: skip
"""Messages before a router."""

OUTPUT = _int64(
    "target",  # buffer at a link's end
    "queue",  # of its events
    "message",  # on its way, -1: none
    "first_waiting", "n_waiting",  # buffers
)  # fmt: skip
"""A link, or the delivery to a core of the tile; these stand behind the links."""

QUEUE = _int64("first", "last")

STATE = _int64(
    "n_sent", "n_delivered", "n_peak",  # messages of this step; most in flight
    "n_heap", "n_stack",
    "inject",  # sender whose message goes into its router now, -1: none
    "arrived",  # message that a core takes now, -1: none
)  # fmt: skip

BUSY = _int64("update", "blocked", "receive", "work")
"""Times of a core in ps: neuron updates, blocked, receiving, and the work times of the steps."""

PEAK = _int64("link_buffer", "in_flight")
"""Fullest link buffer, most messages in flight."""

CORE_TRACE = _int64("update", "blocked", "update_end", "receive", "receive_start", "receive_end")
"""What a core did in a step, see `Report.trace`."""

LINK_TRACE = _int64("messages", "departure", "arrival")
"""What a link carried in a step, see `Report.link_trace`."""

MESSAGE_TRACE = _int64("sent", "in_flight")
"""Messages of a step, see `Report.message_trace`."""


class Machine(NamedTuple):
    """What changes in cycle mode, step by step."""

    # neurons
    sums: Any  # (n_rows, n_sums) int32 or int64: what arrives, by hardware step modulo n_rows
    v: Any  # (n_slots,) int64
    sent: Any  # (n_slots,) int64, running sum S
    k: Any  # (n_slots,) int32, of this step
    payload: Any  # (n_slots,) int64: payload of one message
    active: Any  # (n_slots,) uint8
    block_on: Any  # (n_blocks,) uint8: does its population act in this step?
    block_sample: Any  # (n_blocks,) int64: in which sample, and
    block_step: Any  # (n_blocks,) int64: step of it
    # cores
    senders: Any  # (n_cores + 1,) `SENDER`
    receivers: Any  # (n_cores,) `RECEIVER`
    ring: Any  # (n_cores, buffer_size) int64: start of the last messages' service
    # routers
    buffers: Any  # (n_buffers,) `BUFFER`
    buffer_size: int  # how many messages each holds
    buffer_mask: int  # a power of two, at least that, less one
    messages: Any  # (n_buffers, buffer_mask + 1) int64: target core << 32 | entry
    outputs: Any  # (n_links + n_cores,) `OUTPUT`
    waiting: Any  # (n_outputs, a power of two) int32: buffers that ask for it
    # events
    state: Any  # (1,) `STATE`
    heap: Any  # int64
    queues: Any  # (n_queues,) `QUEUE`
    queue: Any  # (n_queues, a power of two) int64
    stack: Any  # int64: outputs that may be free, -1 - buffers with a new head
    # results
    step_ps: Any  # (n_hardware_steps,) int64, barrier included
    busy: Any  # (n_cores,) `BUSY`
    trace: Any  # (n_traced_steps, n_cores) `CORE_TRACE`
    link_trace: Any  # (n_traced_steps, n_links) `LINK_TRACE`
    message_trace: Any  # (n_traced_steps,) `MESSAGE_TRACE`
    peak: Any  # (1,) `PEAK`


def machine_of(run: Run, n_traced_steps: int) -> Machine:
    """A machine before its first step.

    Parameters
    ----------
    run
        What it will run.
    n_traced_steps
        Hardware steps that its trace keeps.
    """
    layout, plan, costs = run.layout, run.layout.plan, run.costs
    n_cores, n_slots, n_blocks = len(layout.cores), len(plan.slot_flat), len(plan.block_core)
    n_links, n_buffers = len(plan.link_target), len(plan.buffer_router)
    quantity = layout.mapping.chip.mesh.link_buffer_messages
    size = DEFAULT_LINK_BUFFER if quantity is None else int(quantity.value)

    senders = np.zeros(n_cores + 1, SENDER)
    senders["block_first"], senders["block_end"] = plan.core_block[:-1], plan.core_block[1:]
    senders["router"], senders["buffer"] = plan.core_router, plan.injection_buffer
    senders["blocked_since"] = -1
    for name in ("idle", "active", "spike", "out"):
        senders[f"{name}_ps"][:n_cores] = getattr(costs, _TIMES[name])
    receivers = np.zeros(n_cores, RECEIVER)
    receivers["router"] = plan.core_router[:n_cores]
    buffers = np.zeros(n_buffers, BUFFER)
    buffers["router"], buffers["feeder"] = plan.buffer_router, plan.buffer_feeder
    outputs = np.zeros(n_links + n_cores, OUTPUT)
    outputs["target"][:n_links], outputs["queue"][:n_links] = plan.link_target, costs.link_queue
    outputs["queue"][n_links:] = len(costs.link_queue_ps)
    outputs["message"] = -1
    n_queues = len(costs.link_queue_ps) + 1
    return Machine(
        sums=np.zeros((layout.n_rows, layout.n_sums), np.int64 if layout.wide else np.int32),
        v=np.zeros(n_slots, np.int64),
        sent=np.zeros(n_slots, np.int64),
        k=np.zeros(n_slots, np.int32),
        payload=np.zeros(n_slots, np.int64),
        active=np.zeros(n_slots, np.uint8),
        block_on=np.zeros(n_blocks, np.uint8),
        block_sample=np.zeros(n_blocks, np.int64),
        block_step=np.zeros(n_blocks, np.int64),
        senders=senders,
        receivers=receivers,
        ring=np.zeros((n_cores, size), np.int64),
        buffers=buffers,
        buffer_size=size,
        buffer_mask=_power(size) - 1,
        messages=np.zeros((n_buffers, _power(size)), np.int64),
        outputs=outputs,
        waiting=np.zeros((len(outputs), _power(max(plan.n_ports, 4))), np.int32),
        state=np.zeros(1, STATE),
        heap=np.zeros(2 * n_cores + 2, np.int64),
        queues=np.zeros(n_queues, QUEUE),
        queue=np.zeros((n_queues, _power(max(n_links, n_cores))), np.int64),
        stack=np.zeros(4 * (n_buffers + len(outputs)) + 64, np.int64),
        step_ps=np.zeros(run.n_hardware_steps, np.int64),
        busy=np.zeros(n_cores, BUSY),
        trace=np.zeros((n_traced_steps, n_cores), CORE_TRACE),
        link_trace=np.zeros((n_traced_steps, n_links), LINK_TRACE),
        message_trace=np.zeros(n_traced_steps, MESSAGE_TRACE),
        peak=np.zeros(1, PEAK),
    )


_TIMES = {
    "idle": "update_idle", "active": "update_active", "spike": "spike", "out": "packet_out",
}  # fmt: skip


def _power(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()
