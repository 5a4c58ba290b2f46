"""A run of counts mode: activity from the reference, counts and times from the compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.counts import Tally, empty_tally
from pmsm_hw.emulator.runs import Outcome, Run
from pmsm_hw.emulator.timing import CoreTimes
from pmsm_hw.network import Input
from pmsm_hw.reference import Activity, Carried, simulate
from pmsm_hw.workers import workers_for

__all__ = ["run_counts"]

_HELD_UPDATES = 1 << 22
"""Neuron updates whose activity the reference is asked for at once, and"""

_CHUNK_FRAMES = 64
"""steps x samples that it holds at least."""

_COUNTED_FRAMES = 64

_THREADED_UPDATES = 1 << 20
"""Neuron updates of a population from which threads pay."""


def run_counts(run: Run) -> Outcome:
    """Run all samples.

    Parameters
    ----------
    run
        What to run.
    """
    from pmsm_hw.emulator.counting.kernels import count_links

    layout, network = run.layout, run.layout.network
    n_steps, n_samples, n_recorded = run.n_steps, run.n_samples, run.n_recorded
    n_cores = len(layout.cores)
    arrays = empty_tally(layout, n_samples)
    generate_ps = np.zeros((n_cores + 1, run.n_hardware_steps), np.int64)
    receive_ps = np.zeros((n_cores + 1, run.n_hardware_steps), np.int64)
    n_updates = n_steps * sum(p.n_neurons for p in network)
    chunk = max(-(-_CHUNK_FRAMES // n_steps), _HELD_UPDATES // n_updates)
    sent = np.zeros(len(layout.count_plan.bundle_router), np.int64)
    blocks_of: dict[str, list[int]] = {}
    for i, name in enumerate(layout.block_populations):
        blocks_of.setdefault(name, []).append(i)
    spikes: dict[str, list[NDArray[np.int32]]] = {name: [] for name in run.names}
    readouts: dict[str, list[NDArray[np.int64]]] = {r.name: [] for r in network.readouts}
    states: dict[str, dict[str, list[NDArray[np.int32]]]] = {
        name: {variable: [] for variable in variables} for name, variables in run.probes.items()
    }
    carried = Carried() if run.carry_state else None
    for first in range(0, n_samples, chunk):
        part = {name: u[first : first + chunk] for name, u in run.units.items()}
        for activity in simulate(network, part, n_steps, probes=run.probes, carried=carried):
            name = activity.name
            blocks = np.array(blocks_of[name], np.int64)
            _count(run, arrays, blocks, activity, first, generate_ps, receive_ps, sent)
            if activity.saturations:
                # the reference knows how many, not where: the first block and sample stand for all
                arrays["saturations"][first, blocks_of[name][0]] += activity.saturations
            if first < n_recorded:
                left = n_recorded - first
                if name in spikes:
                    spikes[name].append(_first(activity.spikes, left))
                for variable, values in activity.probes.items():
                    states[name][variable].append(_first(values, left))
            if name in readouts:
                readouts[name].append(activity.state)
        if run.progress is not None:
            run.progress(min(first + chunk, n_samples), n_samples)
    count_links(layout.count_plan, layout.n_columns, sent, arrays["link_load"])
    work = np.maximum(generate_ps, receive_ps).max(axis=0)
    barrier = run.costs.barrier
    return Outcome(
        tally=arrays,
        spikes={name: _joined(parts) for name, parts in spikes.items()},
        readouts={name: _joined(parts) for name, parts in readouts.items()},
        states={
            name: {variable: _joined(parts) for variable, parts in mine.items()}
            for name, mine in states.items()
        },
        step_ps=work + barrier,
        cores=CoreTimes(
            update_ns=generate_ps[:n_cores].sum(axis=1) / 1000,
            blocked_ns=np.zeros(n_cores),
            receive_ns=receive_ps[:n_cores].sum(axis=1) / 1000,
            work_ns=int(work.sum()) / 1000,
            barrier_ns=barrier * run.n_hardware_steps / 1000,
        ),
    )


def _count(
    run: Run,
    arrays: dict[str, NDArray[np.int64]],
    blocks: NDArray[np.int64],
    activity: Activity,
    first: int,
    generate_ps: NDArray[np.int64],
    receive_ps: NDArray[np.int64],
    sent: NDArray[np.int64],
) -> None:
    """Count what one population did in samples from ``first`` on; threads take samples each."""
    from pmsm_hw.emulator.counting.kernels import count_population

    layout, n_steps = run.layout, run.n_steps
    plan, counted = layout.plan, layout.count_plan
    tally = Tally(**arrays)
    spikes, active = activity.channels_last
    population = layout.network[activity.name]
    n_samples, size = len(spikes), population.n_neurons
    index, unit = int(plan.block_population[blocks[0]]), bool(plan.block_unit[blocks[0]])
    workers = workers_for(spikes.size >= _THREADED_UPDATES)
    each = -(-n_samples // workers.n)
    bound = layout.network.bounds[activity.name]
    # two compiled forms are enough, and most networks need one
    dtype = np.int8 if -128 <= bound.k_min <= bound.k_max <= 127 else np.int32

    # a type that holds the largest count of a frame
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
            counted, tally, run.costs, blocks, plan.block_core, plan.block_slot, index,
            isinstance(population, Input), unit, max(-bound.k_min, bound.k_max) <= 1,
            int(plan.block_depth[blocks[0]]), int(plan.block_compartments[blocks[0]]),
            _read_only(np.ascontiguousarray(spikes[some], dtype).reshape(-1, size)),
            _read_only(np.ascontiguousarray(active[some]).reshape(-1, size).view(np.uint8)),
            first + begin, n_steps, generate_ps, receive_ps,
            received, received if unit else np.empty_like(received), sent_here,
        )  # fmt: skip
        return sent_here

    for sent_there in workers.map(count, range(0, n_samples, each)):
        sent += sent_there


def _first(values: NDArray[np.int32], n: int) -> NDArray[np.int32]:
    """So many samples: a copy, so that what is left out is not kept with what is not."""
    return values if len(values) <= n else values[:n].copy()


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view: the compiled loop has another form for arrays that can be written."""
    view = array.view()
    view.setflags(write=False)
    return view


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if array.flags.writeable:
        array.setflags(write=False)
    return array
