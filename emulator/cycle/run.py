"""A run of cycle mode: spikes, counts and times come from what the compiled loop delivers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.counts import Tally, empty_tally
from pmsm_hw.emulator.cycle.machine import (
    CORE_TRACE,
    LINK_TRACE,
    MESSAGE_TRACE,
    Machine,
    machine_of,
)
from pmsm_hw.emulator.cycle.plain import PlainPopulation, plain_populations
from pmsm_hw.emulator.layout import Plan
from pmsm_hw.emulator.runs import Outcome, Run
from pmsm_hw.emulator.timing import CoreTimes
from pmsm_hw.errors import EmulationError
from pmsm_hw.network import Readout
from pmsm_hw.neurons.codes import PLAIN

__all__ = ["run_cycle"]

_LARGEST_TRACE = 1 << 31
"""Bytes of what a trace keeps."""

_CHUNK_UPDATES = 1 << 20
"""Neuron updates of hardware steps between two chances to interrupt, and"""

_CHUNK_STEPS = 256
"""the most steps."""


def run_cycle(run: Run) -> Outcome:
    """Run all samples.

    Parameters
    ----------
    run
        What to run.

    Raises
    ------
    EmulationError
        If a message was lost, a time does not fit, or the trace takes too much memory.
    """
    arrays = empty_tally(run.layout, run.n_samples)
    memory, plan = _memory(run)
    machine = machine_of(run, _traced_steps(run))
    plain = plain_populations(run, plan)
    _run_steps(run, plan, machine, Tally(**arrays), memory, plain)
    n_planned, n_taken = int(arrays["hops"].sum()), int(arrays["link_load"].sum())
    if n_planned != n_taken:
        raise EmulationError(
            "mesh",
            f"messages took {n_taken:,} hops, {n_planned:,} lie on their routes",
            remedy="report this as a bug",
            actual=n_taken,
            limit=n_planned,
        )
    spikes, readouts = _read(run, plan, memory)
    stepped = {found.population.name: found for found in plain}
    states = {name: stepped[name].states for name in run.probes}
    traces = machine.trace, machine.link_trace, machine.message_trace
    probed = (array for found in states.values() for array in found.values())
    for array in (*spikes.values(), *readouts.values(), *probed, machine.step_ps, *traces):
        if array.flags.writeable:
            array.setflags(write=False)
    trace, link_trace, message_trace = traces if run.n_traced else (None, None, None)
    barrier_ps = run.costs.barrier * run.n_hardware_steps
    busy = machine.busy
    (peak,) = machine.peak
    return Outcome(
        tally=arrays,
        spikes=spikes,
        readouts=readouts,
        states=states,
        step_ps=machine.step_ps,
        cores=CoreTimes(
            update_ns=busy["update"] / 1000,
            blocked_ns=busy["blocked"] / 1000,
            receive_ns=busy["receive"] / 1000,
            work_ns=(int(machine.step_ps.sum()) - barrier_ps) / 1000,
            barrier_ns=barrier_ps / 1000,
        ),
        queue_peak=(int(peak["link_buffer"]), int(peak["in_flight"])),
        trace=trace,
        link_trace=link_trace,
        message_trace=message_trace,
    )


class _Memory(NamedTuple):
    """What the loop reads and writes sample by sample, population after population."""

    units: NDArray[np.int32]
    record: NDArray[np.int32]
    readout: NDArray[np.int64]


def _memory(run: Run) -> tuple[_Memory, Plan]:
    """Memory for values of inputs, spikes and results; where each population's stand."""
    network = run.layout.network
    n_populations = len(network.populations)
    record_base, readout_base, unit_base, unit_sample, unit_step = np.full(
        (5, n_populations), -1, np.int64
    )
    n_record = n_readout = n_unit = 0
    unit_parts: list[NDArray[np.int32]] = []
    for i, population in enumerate(network.populations):
        n = population.n_neurons
        if population.name in run.units:
            values = run.units[population.name]
            static = run.n_steps > 1 and values.strides[1] == 0
            part = np.ascontiguousarray(values[:, :1] if static else values).reshape(-1)
            unit_base[i] = n_unit
            unit_sample[i], unit_step[i] = (n, 0) if static else (n * run.n_steps, n)
            unit_parts.append(part)
            n_unit += part.size
        elif isinstance(population, Readout):
            readout_base[i] = n_readout
            n_readout += run.n_samples * n
        elif population.name in run.names:
            record_base[i] = n_record
            n_record += run.n_recorded * run.n_steps * n
    memory = _Memory(
        units=np.concatenate(unit_parts) if unit_parts else np.zeros(0, np.int32),
        record=np.zeros(n_record, np.int32),
        readout=np.zeros(n_readout, np.int64),
    )
    # states are recorded where Python sees them
    rule, index = run.layout.plan.block_rule.copy(), run.layout.plan.block_population
    for i, population in enumerate(network.populations):
        if population.name in run.probes:
            rule[index == i] = PLAIN
    return memory, run.layout.plan._replace(
        block_rule=rule,
        record_base=record_base,
        n_recorded=run.n_recorded * run.n_steps,
        readout_base=readout_base,
        unit_base=unit_base,
        unit_sample=unit_sample,
        unit_step=unit_step,
    )


def _traced_steps(run: Run) -> int:
    """How many hardware steps are traced: those of the samples, and the one that clears up."""
    if run.n_traced == 0:
        return 0
    layout = run.layout
    n = layout.network.hardware_steps(run.n_steps, run.n_traced) + 1
    n_cores, n_links = len(layout.cores), len(layout.plan.link_target)
    n_bytes = n * (
        CORE_TRACE.itemsize * n_cores + LINK_TRACE.itemsize * n_links + MESSAGE_TRACE.itemsize
    )
    if n_bytes > _LARGEST_TRACE:
        raise EmulationError(
            "trace",
            f"of {n:,} hardware steps takes {n_bytes:,} bytes, the limit is {_LARGEST_TRACE:,}",
            remedy="trace fewer samples",
            actual=n_bytes,
            limit=_LARGEST_TRACE,
        )
    return n


def _run_steps(
    run: Run,
    plan: Plan,
    machine: Machine,
    tally: Tally,
    memory: _Memory,
    plain: Sequence[PlainPopulation],
) -> None:
    from pmsm_hw.emulator.cycle.kernels import CLOCK, LOST, run_steps

    n_hardware = run.n_hardware_steps
    chunk = max(1, min(_CHUNK_STEPS, _CHUNK_UPDATES // max(len(plan.slot_flat), 1)))
    if plain:
        chunk = 1
    for h in range(0, n_hardware, chunk):
        for population in plain:
            population.step(h, machine, tally, memory.record, memory.readout)
        status, step, n_sent, n_delivered = run_steps(
            plan, machine, tally, run.costs, h, min(h + chunk, n_hardware), run.n_steps,
            run.n_linked, run.n_samples, memory.units, memory.record, memory.readout,
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
        if run.progress is not None:
            run.progress(min(h + chunk, n_hardware), n_hardware)


def _read(
    run: Run, plan: Plan, memory: _Memory
) -> tuple[dict[str, NDArray[np.int32]], dict[str, NDArray[np.int64]]]:
    """Spikes and results by population."""
    network = run.layout.network
    spikes: dict[str, NDArray[np.int32]] = {}
    readouts: dict[str, NDArray[np.int64]] = {}
    for i, population in enumerate(network.populations):
        n, name = population.n_neurons, population.name
        record_base, readout_base = int(plan.record_base[i]), int(plan.readout_base[i])
        if name in run.units and name in run.names:
            k = run.units[name]
            spikes[name] = k if run.n_recorded == run.n_samples else k[: run.n_recorded].copy()
        elif record_base >= 0:
            values = memory.record[record_base : record_base + run.n_recorded * run.n_steps * n]
            spikes[name] = values.reshape(run.n_recorded, run.n_steps, *population.shape)
        elif readout_base >= 0:
            state = memory.readout[readout_base : readout_base + run.n_samples * n]
            readouts[name] = state.reshape(run.n_samples, *population.shape)
    return (
        {p.name: spikes[p.name] for p in network.topological if p.name in spikes},
        {p.name: readouts[p.name] for p in network.readouts},
    )
