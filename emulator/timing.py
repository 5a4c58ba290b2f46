"""Time of each hardware step, and what follows from it: latency and throughput."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import EmulationError
from pmsm_hw.records import Record

if TYPE_CHECKING:
    from pmsm_hw.emulator.constants import Constants
    from pmsm_hw.emulator.counts import Counts

__all__ = ["CoreTimes", "Model", "Timing", "timing_of"]

Model = Literal["simple", "cycle"]

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

    model: Model
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
    counts: Counts,
    constants: Constants,
    model: Model,
    step_ps: NDArray[np.int64],
    cores: CoreTimes,
    n_steps: int,
    clock_ns: float,
) -> Timing:
    """Derive latency and throughput from the times of the steps.

    Parameters
    ----------
    counts, constants
        What happened, and what each event takes.
    model, step_ps, cores, clock_ns
        As in `Timing`.
    n_steps
        Steps of a sample.

    Raises
    ------
    EmulationError
        If a sum of times does not fit.
    """
    _check_clock(counts, constants, model, len(step_ps))
    missing, assumed = _time_constants(counts, constants, model)
    step_ps.setflags(write=False)
    network = counts.layout.network
    result_depth = max((network.depths[r.name] for r in network.readouts), default=network.depth)
    latency = int(step_ps[: result_depth + n_steps].sum())
    full = step_ps[network.depth : n_steps * counts.n_samples]
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


_MESH = ("within_tile", "hop_east", "hop_west", "hop_north", "hop_south", "chip_crossing")
"""Events that the simple model does not look at."""

_LAST_PS = 1 << 62
"""The clock, and every sum of times, ends here."""


def _check_clock(counts: Counts, constants: Constants, model: Model, n_hardware: int) -> None:
    """Raise unless every sum of times fits: none exceeds that of all events one after another."""
    total = (constants.barrier_ps or 0) * n_hardware
    for event, values in counts.events.items():
        if model == "cycle" or event not in _MESH:
            total += int(values.sum()) * constants.time_ps.get(event, 0)
    if total >= _LAST_PS:
        raise EmulationError(
            f"profile '{constants.profile}'",
            f"times of all events add up to {total / 1e12:,.0f} s, "
            f"the clock of the emulation ends at {_LAST_PS / 1e12:,.0f} s",
            remedy="check the times in the profile, or give fewer samples or steps",
            actual=total,
            limit=_LAST_PS,
        )


def _time_constants(
    counts: Counts, constants: Constants, model: Model
) -> tuple[dict[str, None], dict[str, None]]:
    """Constants of time that mattered: those unknown, and those assumed."""
    missing: dict[str, None] = {}
    assumed: dict[str, None] = {}
    for event, values in counts.events.items():
        if model == "simple" and event in _MESH:
            continue
        if int(values.sum()) == 0:
            continue
        key = f"time.{event}"
        if event not in constants.time_ps:
            missing[key] = None
        elif key in constants.assumed:
            assumed[key] = None
    if constants.barrier_ps is None:
        missing["time.barrier"] = None
    elif "time.barrier" in constants.assumed:
        assumed["time.barrier"] = None
    if model == "cycle" and "mesh.link_buffer_messages" in constants.assumed:
        assumed["mesh.link_buffer_messages"] = None
    return missing, assumed
