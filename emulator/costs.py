"""Times of events as the compiled loops of both modes read them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pmsm_hw.emulator.constants import Constants
from pmsm_hw.emulator.layout import Layout

__all__ = ["Costs", "costs_of"]


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
    link_queue: Any  # (n_links,) int8: which of the times below one message takes over a link
    link_queue_ps: Any  # int64


def costs_of(layout: Layout, constants: Constants) -> Costs:
    """Look the times up; an unknown one is zero.

    Parameters
    ----------
    layout
        The network on its chip.
    constants
        Of the profile.
    """
    time = constants.time_ps
    link_times, link_queue = np.unique(constants.link_ps(layout), return_inverse=True)
    return Costs(
        update_idle=time.get("neuron_idle", 0),
        update_active=time.get("neuron_active", 0),
        spike=time.get("spike", 0),
        packet_out=time.get("packet_out", 0),
        packet_in=time.get("packet_in", 0),
        within_tile=time.get("within_tile", 0),
        barrier=constants.barrier_ps or 0,
        row=constants.row_ps(layout),
        link_queue=link_queue.astype(np.int8).reshape(-1),
        link_queue_ps=link_times.astype(np.int64),
    )
