"""What changes in cycle mode, step by step, and what a trace keeps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["BUSY", "CORE_TRACE", "LINK_TRACE", "MESSAGE_TRACE", "PEAK", "Machine"]


def _int64(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in names])


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

    sums: Any  # (n_delays, n_slots) int32 or int64: summed input, by hardware step modulo n_delays
    v: Any  # (n_slots,) int64
    sent: Any  # (n_slots,) int64, running sum S
    k: Any  # (n_slots,) int32, of this step
    payload: Any  # (n_slots,) int64: payload of one message
    active: Any  # (n_slots,) uint8
    block_on: Any  # (n_blocks,) uint8: does its population act in this step?
    buffer: Any  # (n_buffers, a power of two) int64: target core << 32 | entry
    buffer_size: int  # how many messages each holds
    receive_ring: Any  # (n_cores, queue_size) int64: start of the last messages' service
    step_ps: Any  # (n_hardware_steps,) int64, barrier included
    busy: Any  # (n_cores,) `BUSY`
    trace: Any  # (n_traced_steps, n_cores) `CORE_TRACE`
    link_trace: Any  # (n_traced_steps, n_links) `LINK_TRACE`
    message_trace: Any  # (n_traced_steps,) `MESSAGE_TRACE`
    peak: Any  # (1,) `PEAK`
