"""The front door: run a placed network on inputs, and report spikes, counts, time and energy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import check_progress, choice, instance, integer, number, shown
from pmsm_hw.class_labels import class_labels
from pmsm_hw.emulator.constants import DEFAULT_LINK_BUFFER, Constants, resolve
from pmsm_hw.emulator.counts import Counts, empty_tally
from pmsm_hw.emulator.energy import energy_of
from pmsm_hw.emulator.layout import Layout, build_layout
from pmsm_hw.emulator.operations import operations_of
from pmsm_hw.emulator.report import Report
from pmsm_hw.emulator.timing import CoreTimes, timing_of
from pmsm_hw.errors import EmulationError, InputError
from pmsm_hw.network import Input, Network, Readout
from pmsm_hw.reference import Activity, Inputs, recorded, simulate, units_of
from pmsm_hw.workers import workers_for

if TYPE_CHECKING:
    from pmsm_hw.emulator.kernels import Costs, Tally
    from pmsm_hw.mapping.assignment import Mapping
    from pmsm_hw.mapping.chip import Profile

__all__ = ["MODES", "Emulator", "emulate"]

Mode = Literal["counts", "cycle"]
Progress = Callable[[int, int], None]
MODES: tuple[Mode, ...] = ("counts", "cycle")

_HELD_UPDATES = 1 << 22
"""Neuron updates whose activity counts mode asks the reference for at once, and"""

_CHUNK_FRAMES = 64
"""steps x samples that it holds at least."""

_LARGEST_TRACE = 1 << 31
"""Bytes of what a trace keeps."""

_CHUNK_UPDATES = 1 << 20
"""Neuron updates of hardware steps between two chances to interrupt cycle mode, and"""

_CHUNK_STEPS = 256
"""the most steps."""


def emulate(
    network: Network,
    mapping: Mapping,
    x: Inputs,
    n_steps: int = 1,
    *,
    mode: Mode = "counts",
    profile: str | Profile | None = None,
    labels: ArrayLike | None = None,
    record: Iterable[str] | None = None,
    record_samples: int | None = None,
    clock_ns: float = 1.0,
    trace: bool | int = False,
    progress: Progress | None = None,
) -> Report:
    """Run a batch of samples on the chip that a network is placed on.

    Parameters
    ----------
    network
        What to run.
    mapping
        Where it sits; made for this network.
    x
        Inputs, see `pmsm_hw.reference.units_of`.
    n_steps
        Number of steps T of each sample. Samples enter one after the other, every T steps.
    mode
        ``"counts"``: the reference computes the spikes, and what follows on the chip is counted;
        time is the simple model's. ``"cycle"``: every message is sent, routed, delivered and
        looked up on its own, the spikes follow from what was delivered, and time is counted event
        by event.
    profile
        Constants of energy and time: name of a profile of the chip, or a `Profile`; by default the
        chip's first one.
    labels
        ``(batch,)`` integers, to have the accuracy in the report.
    record
        Populations whose spikes to return; all by default.
    record_samples
        Return the spikes of the first so many samples only; all by default. What is not returned
        takes no memory.
    clock_ns
        Declared clock, to express times in cycles (Loihi has none).
    trace
        Whether to keep what every core and link did in every step (cycle mode), for `write_trace`;
        a number: in the steps of the first so many samples.
    progress
        Called now and then with work done and work to do: hardware steps in cycle mode, samples
        in counts mode.

    Returns
    -------
    Report
        Spikes, logits, counts, time, energy.

    Raises
    ------
    MappingError
        If the mapping belongs to another network, or does not hold it.
    InputError
        If inputs, labels or steps do not suit the network.
    ChipFileError
        If the chip has no such profile.
    EmulationError
        If the mode is unknown, or a message was lost.
    """
    return Emulator(network, mapping, profile=profile).run(
        x,
        n_steps,
        mode=mode,
        labels=labels,
        record=record,
        record_samples=record_samples,
        clock_ns=clock_ns,
        trace=trace,
        progress=progress,
    )


class Emulator:
    """A placed network made ready to run, for several runs of the same one.

    Parameters
    ----------
    network, mapping, profile
        As for `emulate`.

    Raises
    ------
    MappingError
        If the mapping belongs to another network, or does not hold it.
    ChipFileError
        If the chip has no such profile.
    """

    def __init__(
        self, network: Network, mapping: Mapping, *, profile: str | Profile | None = None
    ) -> None:
        from pmsm_hw.mapping.assignment import Mapping
        from pmsm_hw.mapping.chip import Profile

        subject = "emulator"
        instance(EmulationError, subject, "network", network, Network, remedy="give a Network")
        instance(
            EmulationError, subject, "mapping", mapping, Mapping,
            remedy="give what map_network answers",
        )  # fmt: skip
        if profile is not None and not isinstance(profile, str | Profile):
            raise EmulationError(
                subject,
                f"profile {shown(profile)} is neither a name nor a Profile",
                remedy=f"choose one of {', '.join(mapping.chip.profiles)}",
                actual=type(profile).__name__,
                limit=tuple(mapping.chip.profiles),
            )
        mapping.require(network)
        # before the work of laying out: its errors are quick to find
        mapping.chip.profile(profile if isinstance(profile, str) else None)
        self.network, self.mapping = network, mapping
        self.layout = build_layout(network, mapping)
        self.constants = resolve(self.layout, profile)
        self._costs = _costs(self.layout, self.constants)

    def run(
        self,
        x: Inputs,
        n_steps: int = 1,
        *,
        mode: Mode = "counts",
        labels: ArrayLike | None = None,
        record: Iterable[str] | None = None,
        record_samples: int | None = None,
        clock_ns: float = 1.0,
        trace: bool | int = False,
        progress: Progress | None = None,
    ) -> Report:
        """Run a batch of samples; see `emulate`.

        Parameters
        ----------
        x, n_steps, mode, labels, record, record_samples, clock_ns, trace, progress
            As for `emulate`.
        """
        network, mapping, layout = self.network, self.mapping, self.layout
        choice(EmulationError, "emulate", "mode", mode, MODES, remedy="choose one of them")
        remedy = "give the length of a cycle in ns"
        clock_ns = number(
            EmulationError, "emulate", "clock_ns", clock_ns, at_least=0.001, remedy=remedy
        )
        check_progress(EmulationError, progress)
        n_traced = _n_traced(trace)
        if record_samples is not None:
            record_samples = integer(
                InputError, "emulate", "record_samples", record_samples, low=0, high=None,
                remedy="give a number of samples, or None for all",
            )  # fmt: skip
        if n_traced != 0 and mode != "cycle":
            raise EmulationError(
                "trace",
                f"is there in mode 'cycle' only, mode is {mode!r}",
                remedy="use mode='cycle'",
                actual=mode,
                limit="cycle",
            )
        units = units_of(network, x, n_steps)
        n_samples = len(next(iter(units.values()))) if units else 1
        if n_samples < 1:
            raise InputError(
                f"network '{network.name}'",
                "got 0 samples, at least 1 is needed",
                remedy="give a batch",
                actual=0,
                limit=1,
            )
        names = [p.name for p in network if not isinstance(p, Readout)]
        if record is not None:
            wanted = set(recorded(network, record))
            names = [name for name in names if name in wanted]
        n_recorded = n_samples if record_samples is None else min(record_samples, n_samples)
        if n_recorded == 0:
            names = []
        n_traced = n_samples if n_traced is None else min(n_traced, n_samples)
        label_array = None if labels is None else class_labels(network, None, labels, n_samples)
        n_steps = int(n_steps)
        constants = self.constants
        run = _run_cycle if mode == "cycle" else _run_counts
        outcome = run(
            layout, constants, self._costs, units, n_steps, n_samples, names, n_recorded, n_traced,
            progress,
        )  # fmt: skip
        counts = Counts(layout=layout, **outcome.tally)
        _check_clock(counts, constants, mode, len(outcome.step_ps))
        missing, assumed = _time_constants(counts, constants, mode)
        timing = timing_of(
            network,
            "cycle" if mode == "cycle" else "simple",
            outcome.step_ps,
            outcome.cores,
            n_steps,
            n_samples,
            clock_ns,
            missing,
            assumed,
        )
        logits = {r.name: outcome.readouts[r.name] * r.scale / n_steps for r in network.readouts}
        return Report(
            network=network,
            mapping=mapping,
            mode=mode,
            profile=constants.profile,
            n_samples=n_samples,
            n_steps=n_steps,
            spikes=outcome.spikes,
            readouts=outcome.readouts,
            logits=logits,
            labels=label_array,
            counts=counts,
            timing=timing,
            energy=energy_of(counts, constants, timing.interval_ns),
            operations=operations_of(counts, n_steps),
            queue_peak=outcome.queue_peak,
            trace=outcome.trace,
            link_trace=outcome.link_trace,
            message_trace=outcome.message_trace,
        )


def _n_traced(trace: object) -> int | None:
    """How many samples to trace; None: all."""
    if isinstance(trace, bool | np.bool_):
        return None if trace else 0
    return integer(
        InputError, "emulate", "trace", trace, low=0, high=None,
        remedy="give a number of samples, True for all or False for none",
    )  # fmt: skip


class _Outcome:
    """What both modes give."""

    def __init__(
        self,
        *,
        tally: dict[str, NDArray[np.int64]],
        spikes: dict[str, NDArray[np.int32]],
        readouts: dict[str, NDArray[np.int64]],
        step_ps: NDArray[np.int64],
        cores: CoreTimes,
        queue_peak: tuple[int, int] | None = None,
        traces: tuple[NDArray[np.int64] | None, ...] = (None, None, None),
    ) -> None:
        self.tally, self.spikes, self.readouts = tally, spikes, readouts
        self.step_ps, self.cores = step_ps, cores
        self.queue_peak = queue_peak
        self.trace, self.link_trace, self.message_trace = traces


def _costs(layout: Layout, constants: Constants) -> Costs:
    from pmsm_hw.emulator.kernels import Costs

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


_MESH = ("within_tile", "hop_east", "hop_west", "hop_north", "hop_south", "chip_crossing")
"""Events that the simple model does not look at."""

_LAST_PS = 1 << 62
"""The clock, and every sum of times, ends here."""


def _check_clock(counts: Counts, constants: Constants, mode: Mode, n_hardware: int) -> None:
    """Raise unless every sum of times fits: none exceeds that of all events one after another."""
    total = (constants.barrier_ps or 0) * n_hardware
    for event, values in counts.events.items():
        if mode == "cycle" or event not in _MESH:
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
    counts: Counts, constants: Constants, mode: Mode
) -> tuple[dict[str, None], dict[str, None]]:
    """Constants of time that mattered: those unknown, and those assumed."""
    missing: dict[str, None] = {}
    assumed: dict[str, None] = {}
    for event, values in counts.events.items():
        if mode == "counts" and event in _MESH:
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
    if mode == "cycle" and "mesh.link_buffer_messages" in constants.assumed:
        assumed["mesh.link_buffer_messages"] = None
    return missing, assumed


def _tally(arrays: dict[str, NDArray[np.int64]]) -> Tally:
    from pmsm_hw.emulator.kernels import Tally

    return Tally(**arrays)


def _run_counts(
    layout: Layout,
    constants: Constants,
    costs: Costs,
    units: dict[str, NDArray[np.int32]],
    n_steps: int,
    n_samples: int,
    names: list[str],
    n_recorded: int,
    n_traced: int,
    progress: Progress | None,
) -> _Outcome:
    from pmsm_hw.emulator.counting import count_links

    network = layout.network
    n_cores = len(layout.cores)
    arrays = empty_tally(layout, n_samples)
    n_hardware = network.hardware_steps(n_steps, n_samples) + 1
    generate_ps = np.zeros((n_cores + 1, n_hardware), np.int64)
    receive_ps = np.zeros((n_cores + 1, n_hardware), np.int64)
    n_updates = n_steps * sum(p.n_neurons for p in network)
    chunk = max(-(-_CHUNK_FRAMES // n_steps), _HELD_UPDATES // n_updates)
    sent = np.zeros(len(layout.count_plan.bundle_router), np.int64)
    blocks_of: dict[str, list[int]] = {}
    for i, name in enumerate(layout.block_populations):
        blocks_of.setdefault(name, []).append(i)
    spikes: dict[str, list[NDArray[np.int32]]] = {name: [] for name in names}
    readouts: dict[str, list[NDArray[np.int64]]] = {r.name: [] for r in network.readouts}
    for first in range(0, n_samples, chunk):
        part = {name: u[first : first + chunk] for name, u in units.items()}
        for activity in simulate(network, part, n_steps):
            name = activity.name
            _count(
                layout, arrays, costs, np.array(blocks_of[name], np.int64), activity, first,
                n_steps, generate_ps, receive_ps, sent,
            )  # fmt: skip
            if activity.saturations:
                # the reference knows how many, not where: the first block and sample stand for all
                arrays["saturations"][first, blocks_of[name][0]] += activity.saturations
            if name in spikes and first < n_recorded:
                k = activity.spikes
                # a copy, so that what is left out is not kept with what is not
                spikes[name].append(
                    k if first + len(k) <= n_recorded else k[: n_recorded - first].copy()
                )
            if name in readouts:
                readouts[name].append(activity.state)
        if progress is not None:
            progress(min(first + chunk, n_samples), n_samples)
    count_links(layout.count_plan, layout.n_columns, sent, arrays["link_load"])
    work = np.maximum(generate_ps, receive_ps).max(axis=0)
    barrier = constants.barrier_ps or 0
    return _Outcome(
        tally=arrays,
        spikes={name: _joined(parts) for name, parts in spikes.items()},
        readouts={name: _joined(parts) for name, parts in readouts.items()},
        step_ps=work + barrier,
        cores=CoreTimes(
            update_ns=generate_ps[:n_cores].sum(axis=1) / 1000,
            blocked_ns=np.zeros(n_cores),
            receive_ns=receive_ps[:n_cores].sum(axis=1) / 1000,
            work_ns=int(work.sum()) / 1000,
            barrier_ns=barrier * n_hardware / 1000,
        ),
    )


def _count(
    layout: Layout,
    arrays: dict[str, NDArray[np.int64]],
    costs: Costs,
    blocks: NDArray[np.int64],
    activity: Activity,
    first: int,
    n_steps: int,
    generate_ps: NDArray[np.int64],
    receive_ps: NDArray[np.int64],
    sent: NDArray[np.int64],
) -> None:
    """Count what one population did in samples from ``first`` on; threads take samples each."""
    from pmsm_hw.emulator.counting import count_population

    plan, counted = layout.plan, layout.count_plan
    tally = _tally(arrays)
    spikes, active = activity.channels_last
    population = layout.network[activity.name]
    n_samples, size = len(spikes), population.n_neurons
    index, unit = int(plan.block_population[blocks[0]]), bool(plan.block_unit[blocks[0]])
    workers = workers_for(spikes.size >= _THREADED_UPDATES)
    each = -(-n_samples // workers.n)
    # two compiled forms are enough
    dtype = np.int8 if spikes.dtype == np.int8 else np.int32

    # a type that holds the largest count of a frame
    bound = layout.network.bounds[activity.name]
    largest = max(abs(bound.k_min), abs(bound.k_max), 1) * max(
        int(layout.row_synapses.max(initial=0)), size
    )
    count_type = np.int32 if largest < 1 << 31 else np.int64
    n_pairs = int(counted.population_pair[index + 1] - counted.population_pair[index])
    width = min(each * n_steps, _COUNTED_FRAMES)

    def count(begin: int) -> NDArray[np.int64]:
        some = slice(begin, begin + each)
        sent_here = np.zeros_like(sent)
        received = np.empty((n_pairs, width), count_type)
        count_population(
            counted, tally, costs, blocks, plan.block_core, plan.block_slot, index,
            isinstance(population, Input), unit, max(-bound.k_min, bound.k_max) <= 1,
            int(plan.block_depth[blocks[0]]),
            np.ascontiguousarray(spikes[some], dtype).reshape(-1, size),
            np.ascontiguousarray(active[some]).reshape(-1, size).view(np.uint8),
            first + begin, n_steps, generate_ps, receive_ps,
            received, received if unit else np.empty_like(received), sent_here,
        )  # fmt: skip
        return sent_here

    for sent_there in workers.map(count, range(0, n_samples, each)):
        sent += sent_there


_COUNTED_FRAMES = 64

_THREADED_UPDATES = 1 << 20
"""Neuron updates of a population from which threads pay."""


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if array.flags.writeable:
        array.setflags(write=False)
    return array


def _traced_steps(layout: Layout, n_steps: int, n_samples: int, n_traced: int) -> int:
    """How many hardware steps are traced: those of the samples, and the one that clears up."""
    if n_traced == 0:
        return 0
    n = layout.network.hardware_steps(n_steps, n_traced) + 1
    n_bytes = n * (48 * len(layout.cores) + 24 * len(layout.plan.link_target) + 16)
    if n_bytes > _LARGEST_TRACE:
        raise EmulationError(
            "trace",
            f"of {n:,} hardware steps takes {n_bytes:,} bytes, the limit is {_LARGEST_TRACE:,}",
            remedy="trace fewer samples",
            actual=n_bytes,
            limit=_LARGEST_TRACE,
        )
    return n


def _run_cycle(
    layout: Layout,
    constants: Constants,
    costs: Costs,
    units: dict[str, NDArray[np.int32]],
    n_steps: int,
    n_samples: int,
    names: list[str],
    n_recorded: int,
    n_traced: int,
    progress: Progress | None,
) -> _Outcome:
    from pmsm_hw.emulator.kernels import CLOCK, LOST, Machine, run_steps

    network, plan = layout.network, layout.plan
    n_cores, n_slots = len(layout.cores), len(plan.slot_flat)
    arrays = empty_tally(layout, n_samples)
    n_hardware = network.hardware_steps(n_steps, n_samples) + 1
    buffer_quantity = layout.mapping.chip.mesh.link_buffer_messages
    size = DEFAULT_LINK_BUFFER if buffer_quantity is None else int(buffer_quantity.value)

    n_populations = len(network.populations)
    record_base = np.full(n_populations, -1, np.int64)
    readout_base = np.full(n_populations, -1, np.int64)
    unit_base = np.full(n_populations, -1, np.int64)
    unit_stride = np.zeros((n_populations, 2), np.int64)
    n_record = n_readout = n_unit = 0
    unit_parts: list[NDArray[np.int32]] = []
    for i, population in enumerate(network.populations):
        n = population.n_neurons
        if population.name in units:
            values = units[population.name]
            static = n_steps > 1 and values.strides[1] == 0
            part = np.ascontiguousarray(values[:, :1] if static else values).reshape(-1)
            unit_base[i] = n_unit
            unit_stride[i] = (n, 0) if static else (n * n_steps, n)
            unit_parts.append(part)
            n_unit += part.size
        elif isinstance(population, Readout):
            readout_base[i] = n_readout
            n_readout += n_samples * n
        elif population.name in names:
            record_base[i] = n_record
            n_record += n_recorded * n_steps * n
    plan = plan._replace(
        record_base=record_base,
        n_recorded=n_recorded * n_steps,
        readout_base=readout_base,
        unit_base=unit_base,
        unit_stride=unit_stride,
    )
    n_traced_steps = _traced_steps(layout, n_steps, n_samples, n_traced)
    record = np.zeros(n_record, np.int32)
    readout = np.zeros(n_readout, np.int64)
    flat_units = np.concatenate(unit_parts) if unit_parts else np.zeros(0, np.int32)
    machine = Machine(
        sums=np.zeros((layout.n_delays, n_slots), np.int64 if layout.wide else np.int32),
        v=np.zeros(n_slots, np.int64),
        sent=np.zeros(n_slots, np.int64),
        k=np.zeros(n_slots, np.int32),
        payload=np.zeros(n_slots, np.int64),
        active=np.zeros(n_slots, np.uint8),
        block_on=np.zeros(len(layout.block_populations), np.uint8),
        buffer=np.zeros((len(plan.buffer_router), 1 << (size - 1).bit_length()), np.int64),
        buffer_size=size,
        receive_ring=np.zeros((n_cores, size), np.int64),
        step_ps=np.zeros(n_hardware, np.int64),
        busy=np.zeros((n_cores, 4), np.int64),
        trace=np.zeros((n_traced_steps, n_cores, 6), np.int64),
        link_trace=np.zeros((n_traced_steps, len(plan.link_target), 3), np.int64),
        message_trace=np.zeros((n_traced_steps, 2), np.int64),
        queue_peak=np.zeros(2, np.int64),
    )
    tally = _tally(arrays)
    chunk = max(1, min(_CHUNK_STEPS, _CHUNK_UPDATES // max(n_slots, 1)))
    for h in range(0, n_hardware, chunk):
        status, step, n_sent, n_delivered = run_steps(
            plan, machine, tally, costs, h, min(h + chunk, n_hardware), n_steps, n_samples,
            flat_units, record, readout,
        )  # fmt: skip
        if status == LOST:
            raise EmulationError(
                f"hardware step {step}",
                f"{n_sent:,} messages were sent, {n_delivered:,} delivered, which must be equal",
                remedy="report this as a bug",
                actual=n_delivered,
                limit=n_sent,
            )
        if status == CLOCK:
            raise EmulationError(
                f"hardware step {step}",
                "lasts longer than the clock of the emulation counts",
                remedy="check the times in the profile",
                actual="overflow",
                limit="2**62 ps over the number of links and cores",
            )
        if progress is not None:
            progress(min(h + chunk, n_hardware), n_hardware)
    n_planned, n_taken = int(arrays["hops"].sum()), int(arrays["link_load"].sum())
    if n_planned != n_taken:
        raise EmulationError(
            "mesh",
            f"messages took {n_taken:,} hops, {n_planned:,} lie on their routes",
            remedy="report this as a bug",
            actual=n_taken,
            limit=n_planned,
        )
    spikes: dict[str, NDArray[np.int32]] = {}
    readouts: dict[str, NDArray[np.int64]] = {}
    for i, population in enumerate(network.populations):
        n, name = population.n_neurons, population.name
        if name in units and name in names:
            k = units[name]
            spikes[name] = k if n_recorded == n_samples else k[:n_recorded].copy()
        elif record_base[i] >= 0:
            values = record[record_base[i] : record_base[i] + n_recorded * n_steps * n]
            spikes[name] = values.reshape(n_recorded, n_steps, *population.shape)
        elif readout_base[i] >= 0:
            state = readout[readout_base[i] : readout_base[i] + n_samples * n]
            readouts[name] = state.reshape(n_samples, *population.shape)
    traces: tuple[NDArray[np.int64], ...] = (
        machine.trace, machine.link_trace, machine.message_trace,
    )  # fmt: skip
    for array in (*spikes.values(), *readouts.values(), machine.step_ps, *traces):
        if array.flags.writeable:
            array.setflags(write=False)
    barrier = constants.barrier_ps or 0
    return _Outcome(
        tally=arrays,
        spikes={p.name: spikes[p.name] for p in network.topological if p.name in spikes},
        readouts={p.name: readouts[p.name] for p in network.readouts},
        step_ps=machine.step_ps,
        cores=CoreTimes(
            update_ns=machine.busy[:, 0] / 1000,
            blocked_ns=machine.busy[:, 1] / 1000,
            receive_ns=machine.busy[:, 2] / 1000,
            work_ns=(int(machine.step_ps.sum()) - barrier * n_hardware) / 1000,
            barrier_ns=barrier * n_hardware / 1000,
        ),
        queue_peak=(int(machine.queue_peak[0]), int(machine.queue_peak[1])),
        traces=traces if n_traced else (None, None, None),
    )
