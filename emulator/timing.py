"""Time of each hardware step, and what follows from it: latency and throughput."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.records import Record

if TYPE_CHECKING:
    from pmsm_hw.network import Network

__all__ = ["CoreTimes", "Timing", "timing_of"]

PS_PER_NS = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class CoreTimes(Record):
    """What each core did, ns, over all hardware steps; arrays ``(n_cores,)`` float64.

    Parameters
    ----------
    update_ns
        Neuron updates, firing and packets out.
    blocked_ns
        Waiting for room in the router's buffer, in between.
    receive_ns
        Packets in and synaptic operations, which run beside the updates.
    work_ns
        Sum over the steps of the time from start to barrier, the same for all cores: a core's
        updates were idle for ``work_ns - update_ns - blocked_ns`` of it.
    barrier_ns
        Sum of the barriers.
    """

    update_ns: NDArray[np.float64]
    blocked_ns: NDArray[np.float64]
    receive_ns: NDArray[np.float64]
    work_ns: float
    barrier_ns: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Timing(Record):
    """When what was done.

    Parameters
    ----------
    model
        ``"simple"``: a step takes as long as the busiest core, which either updates (and sends) or
        receives longest, plus the barrier; ``"cycle"``: event by event.
    step_ps
        ``(n_hardware_steps + 1,)`` int64: each hardware step, barrier included. Step 0 brings the
        first input in.
    latency_ps
        From the first input to the end of the step in which the first sample's last readout is
        complete.
    interval_ps
        Time between two results: mean over the steps in which every population was at work, times
        the steps of a sample; the latency, where no step was that full.
    pipelined
        Whether there was such a step.
    clock_ns
        Declared clock, to express times in cycles.
    cores
        What each core did.
    missing, assumed
        Constants of time that were needed and unknown (taken as zero), and those assumed.
    """

    model: Literal["simple", "cycle"]
    step_ps: NDArray[np.int64]
    latency_ps: int
    interval_ps: float
    pipelined: bool
    clock_ns: float
    cores: CoreTimes
    missing: tuple[str, ...]
    assumed: tuple[str, ...]

    @property
    def latency_ns(self) -> float:
        """Latency of the first result, ns."""
        return self.latency_ps / PS_PER_NS

    @property
    def interval_ns(self) -> float:
        """Time between two results, ns."""
        return self.interval_ps / PS_PER_NS

    @property
    def latency_cycles(self) -> int:
        """Latency in cycles of the declared clock, rounded up."""
        clock_ps = round(self.clock_ns * PS_PER_NS)
        return -(-self.latency_ps // clock_ps)

    @property
    def inferences_per_s(self) -> float | None:
        """Throughput; ``None`` where no time is known."""
        return 1e9 / self.interval_ns if self.interval_ps else None


def timing_of(
    network: Network,
    model: Literal["simple", "cycle"],
    step_ps: NDArray[np.int64],
    cores: CoreTimes,
    n_steps: int,
    n_samples: int,
    clock_ns: float,
    missing: MappingType[str, None],
    assumed: MappingType[str, None],
) -> Timing:
    """Derive latency and throughput from the times of the steps."""
    step_ps.setflags(write=False)
    result_depth = max((network.depths[r.name] for r in network.readouts), default=network.depth)
    latency = int(step_ps[: result_depth + n_steps].sum())
    full = step_ps[network.depth : n_steps * n_samples]
    interval = int(full.sum()) * n_steps / full.size if full.size else float(latency)
    return Timing(
        model=model,
        step_ps=step_ps,
        latency_ps=latency,
        interval_ps=interval,
        pipelined=bool(full.size),
        clock_ns=clock_ns,
        cores=cores,
        missing=tuple(missing),
        assumed=tuple(assumed),
    )
