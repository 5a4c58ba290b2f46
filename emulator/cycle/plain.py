"""Populations that the compiled loop of cycle mode does not update itself.

Those of neuron models that it does not know, those with sums that are shifted to the right, and
those whose states are recorded. They are stepped between its hardware steps, all blocks of a
population at once, by the kernel that the reference has for the model, or by the model's own step:
from what was delivered, as all others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.counts import Tally
from pmsm_hw.emulator.cycle.machine import Machine
from pmsm_hw.emulator.layout import Plan
from pmsm_hw.emulator.runs import Run
from pmsm_hw.errors import EmulationError
from pmsm_hw.network import Neurons, Readout
from pmsm_hw.neurons.codes import PLAIN
from pmsm_hw.reference.neurons import Sums, kernel_of

__all__ = ["PlainPopulation", "plain_populations"]

_ANY = Sums(1 << 62, 1 << 62, 1)
"""Sums of which nothing is known: kernels compute in int64."""


def plain_populations(run: Run, plan: Plan) -> list[PlainPopulation]:
    """Populations that have to be stepped outside of the compiled loop.

    Parameters
    ----------
    run, plan
        What runs, and where its populations are recorded.
    """
    indices = np.unique(plan.block_population[plan.block_rule == PLAIN]).tolist()
    return [PlainPopulation(run, plan, index) for index in indices]


class PlainPopulation:
    """The neurons of one population, block by block.

    Parameters
    ----------
    run, plan
        What runs, and where its populations are recorded.
    index
        Of the population.

    Attributes
    ----------
    states
        Those that are recorded, by name: ``(samples, steps, *shape)`` int32.

    Raises
    ------
    EmulationError
        If spikes could leave 32 bits.
    """

    def __init__(self, run: Run, plan: Plan, index: int) -> None:
        network = run.layout.network
        population = network.populations[index]
        assert isinstance(population, Neurons)
        bound = network.bounds[population.name]
        largest = max(-bound.k_min, bound.k_max)
        if largest >= 1 << 31:
            raise EmulationError(
                population.subject,
                f"may send {largest:,} in a step, messages carry less than 2**31",
                remedy="use smaller weights or levels",
                actual=largest,
                limit=(1 << 31) - 1,
            )
        self.population, self.index, self.run, self.plan = population, index, run, plan
        self.blocks = np.flatnonzero(plan.block_population == index)
        ranges = [range(plan.block_slot[i], plan.block_slot[i + 1]) for i in self.blocks]
        self.slots = np.concatenate([np.arange(r.start, r.stop) for r in ranges])
        starts = np.cumsum([0, *(len(r) for r in ranges)])
        self.starts, self.sizes = starts[:-1], np.diff(starts)
        at = dict(zip(self.blocks.tolist(), self.starts.tolist(), strict=True))
        size = dict(zip(self.blocks.tolist(), self.sizes.tolist(), strict=True))
        self.shifts = [
            (
                slice(at[shift.block], at[shift.block] + size[shift.block]),
                slice(shift.first_sum, shift.first_sum + size[shift.block]),
                shift.exponent,
            )
            for shift in run.layout.shifts
            if shift.block in at
        ]
        self.flat = plan.slot_flat[self.slots]
        self.depth = int(plan.block_depth[self.blocks[0]])
        self.is_unit = bool(plan.block_unit[self.blocks[0]])
        self.kernel = kernel_of(population)(
            population, self._arranged, _ANY, network.max_steps, False
        )
        n = len(self.slots)
        self.state = {name: np.zeros((1, 1, n), self.kernel.dtype) for name in self.kernel.start}
        self._k = np.zeros((1, 1, 1, n), np.int64)
        self._active = np.zeros((1, 1, 1, n), np.bool_)
        self.states = {
            name: np.zeros((run.n_recorded, run.n_steps, *population.shape), np.int32)
            for name in run.probes.get(population.name, ())
        }

    def _arranged(self, values: NDArray[Any], dtype: Any) -> NDArray[Any]:
        every = np.broadcast_to(values, self.population.shape).reshape(-1)
        mine: NDArray[Any] = every[self.flat].astype(dtype).reshape(1, -1)
        return mine

    def step(
        self,
        h: int,
        machine: Machine,
        tally: Tally,
        record: NDArray[np.int32],
        readout: NDArray[np.int64],
    ) -> None:
        """Take a hardware step, if the wave of a sample is here.

        Parameters
        ----------
        h
            Which step.
        machine, tally, record, readout
            Of the compiled loop: what was delivered, and what is sent and counted.
        """
        run, slots = self.run, self.slots
        frame = h - self.depth
        if not 0 <= frame < run.n_steps * run.n_samples:
            return
        sample, step = divmod(frame, run.n_steps)
        drive = self._drive(machine.sums[h % len(machine.sums)])
        k, active = self._k, self._active
        outside = self.kernel.advance(drive, self.state, frame % run.n_linked, k, active)
        spikes, is_active = k.reshape(-1), active.reshape(-1)
        machine.k[slots], machine.active[slots] = spikes, is_active
        sent = np.sign(k) if self.is_unit else k
        machine.payload[slots] = self.kernel.payload(sent, np.int64).reshape(-1)
        self._count(tally, sample, spikes, is_active, outside)
        n = self.population.n_neurons
        base = int(self.plan.record_base[self.index])
        if base >= 0 and frame < self.plan.n_recorded:
            record[base + frame * n + self.flat] = spikes
        if isinstance(self.population, Readout) and step == run.n_steps - 1:
            base = int(self.plan.readout_base[self.index])
            readout[base + sample * n + self.flat] = self.state["v"].reshape(-1)
        if sample < run.n_recorded:
            for name, recorded in self.states.items():
                recorded[sample, step].reshape(-1)[self.flat] = self.state[name].reshape(-1)

    def _drive(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Take what was delivered for this step, shifted and added up."""
        slots = self.slots
        drive: NDArray[Any] = sums[slots].astype(self.kernel.dtype)
        sums[slots] = 0
        for mine, apart, exponent in self.shifts:
            drive[mine] += sums[apart].astype(np.int64) >> exponent
            sums[apart] = 0
        return drive.reshape(1, 1, 1, -1)

    def _count(
        self,
        tally: Tally,
        sample: int,
        spikes: NDArray[Any],
        is_active: NDArray[np.bool_],
        outside: int,
    ) -> None:
        """Count block by block; the first one stands for all values that left their width."""
        at = sample, self.blocks
        n_active = np.add.reduceat(is_active, self.starts, dtype=np.int64)
        each = self.population.model.compartments
        tally.updates_active[at] += each * n_active
        tally.updates_idle[at] += each * (self.sizes - n_active)
        tally.fired[at] += np.add.reduceat(spikes != 0, self.starts, dtype=np.int64)
        tally.spikes[at] += np.add.reduceat(np.abs(spikes), self.starts, dtype=np.int64)
        tally.saturations[sample, self.blocks[0]] += outside
