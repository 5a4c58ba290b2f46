"""Blocks of neuron models that the compiled loop of cycle mode does not know.

They are stepped between its hardware steps, by the kernel that the reference has for the model, or
by the model's own step: from what was delivered, as all others.
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

__all__ = ["PlainBlock", "plain_blocks"]

_ANY = Sums(1 << 62, 1 << 62, 1)
"""Sums of which nothing is known: kernels compute in int64."""


def plain_blocks(run: Run, plan: Plan) -> list[PlainBlock]:
    """Blocks that have to be stepped outside of the compiled loop.

    Parameters
    ----------
    run, plan
        What runs, and where its populations are recorded.
    """
    return [PlainBlock(run, plan, int(i)) for i in np.flatnonzero(plan.block_rule == PLAIN)]


class PlainBlock:
    """The neurons of one block.

    Parameters
    ----------
    run, plan
        What runs, and where its populations are recorded.
    block
        Number of the block.

    Raises
    ------
    EmulationError
        If spikes could leave 32 bits.
    """

    def __init__(self, run: Run, plan: Plan, block: int) -> None:
        network = run.layout.network
        self.number, self.index = block, int(plan.block_population[block])
        population = network.populations[self.index]
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
        self.population, self.run, self.plan = population, run, plan
        self.here = slice(int(plan.block_slot[block]), int(plan.block_slot[block + 1]))
        self.flat = plan.slot_flat[self.here]
        self.depth, self.is_unit = int(plan.block_depth[block]), bool(plan.block_unit[block])
        self.kernel = kernel_of(population)(
            population, self._arranged, _ANY, network.max_steps, False
        )
        shape = (1, 1, len(self.flat))
        self.state = {name: np.zeros(shape, self.kernel.dtype) for name in self.kernel.start}

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
        run, here = self.run, self.here
        frame = h - self.depth
        if not 0 <= frame < run.n_steps * run.n_samples:
            return
        sample, t = divmod(frame, run.n_steps)
        sums = machine.sums[h % len(machine.sums)]
        drive = sums[here].astype(self.kernel.dtype).reshape(1, 1, 1, -1)
        sums[here] = 0
        k = np.zeros(drive.shape, np.int64)
        active = np.zeros(drive.shape, np.bool_)
        outside = self.kernel.advance(drive, self.state, t, k, active)
        spikes, is_active = k.reshape(-1), active.reshape(-1)
        machine.k[here], machine.active[here] = spikes, is_active
        sent = np.sign(k) if self.is_unit else k
        machine.payload[here] = self.kernel.payload(sent, np.int64).reshape(-1)
        n_active = int(np.count_nonzero(is_active))
        at = sample, self.number
        tally.updates_active[at] += n_active
        tally.updates_idle[at] += len(spikes) - n_active
        tally.fired[at] += np.count_nonzero(spikes)
        tally.spikes[at] += int(np.abs(spikes).sum())
        tally.saturations[at] += outside
        n = self.population.n_neurons
        base = int(self.plan.record_base[self.index])
        if base >= 0 and frame < self.plan.n_recorded:
            record[base + frame * n + self.flat] = spikes
        if isinstance(self.population, Readout) and t == run.n_steps - 1:
            base = int(self.plan.readout_base[self.index])
            readout[base + sample * n + self.flat] = self.state["v"].reshape(-1)
