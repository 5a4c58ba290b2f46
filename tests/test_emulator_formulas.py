"""Every figure of counts mode, computed anew by what docs/emulator.md and docs/energy.md say.

From spikes of the reference and lists of synapses alone; no table of the emulator is looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulator_cases import random_case
from random_networks import random_units

from pmsm_hw import reference
from pmsm_hw.emulator import emulate
from pmsm_hw.network import Input, PolarityMultiSpike, Readout
from pmsm_hw.operators import lowered, synapses


class ByTheText:
    """Times and counts of one case."""

    def __init__(self, seed: int, n_steps: int, n_samples: int) -> None:
        self.network, self.mapping = network, mapping = random_case(seed)
        self.x = random_units(network, seed, n_samples=n_samples, n_steps=n_steps)
        self.n_steps, self.n_samples = n_steps, n_samples
        result = reference.run(network, self.x, n_steps)
        self.spikes: dict[str, Any] = {
            p.name: np.zeros((n_samples, n_steps, p.n_neurons), np.int64)
            if isinstance(p, Readout)
            else result.spikes[p.name].reshape(n_samples, n_steps, -1).astype(np.int64)
            for p in network
        }
        self.lists = {q.name: synapses(lowered(network, q)) for q in network.projections}
        profile = mapping.chip.profile(None)
        self.ps = {
            name: round(1000 * getattr(profile.time, name).value)
            for name in ("neuron_idle", "neuron_active", "spike", "packet_out", "packet_in",
                         "synaptic_operation")
        }  # fmt: skip
        self.barrier_ps = round(1000 * profile.time.barrier_ns(mapping.n_tiles))
        n_hardware = network.depth + n_steps * n_samples
        self.generate = np.zeros((mapping.chip.n_cores, n_hardware), np.int64)
        self.receive = np.zeros_like(self.generate)
        self.n_idle = self.n_active = self.macs = self.acs = self.spike_acs = self.messages = 0
        for population in network:
            self.run(population)

    def run(self, population: Any) -> None:
        network, mapping, ps = self.network, self.mapping, self.ps
        name, depth = population.name, network.depths[population.name]
        k = self.spikes[name]
        is_input, unit = isinstance(population, Input), mapping.spike_modes[name] == "unit"
        steps = depth + np.arange(self.n_samples * self.n_steps).reshape(k.shape[:2])
        if not is_input:
            home = mapping.core_of(network, name)
            active = (self.drive(population) != 0) | (k != 0)
            self.n_active += int(active.sum())
            self.n_idle += int((~active).sum())
            each = np.where(active, ps["neuron_active"], ps["neuron_idle"]) + (k != 0) * ps["spike"]
            for i, core in enumerate(home.tolist()):
                np.add.at(self.generate[core], steps, each[:, :, i])
        if isinstance(population, Readout):
            return
        times = np.abs(k) if unit else (k != 0).astype(np.int64)
        bound = network.bounds[name]
        multiplies = not unit and (bound.payload_min < -1 or bound.payload_max > 1)
        # synapses of each neuron on each core, over all projections out of the population
        lists: dict[tuple[int, int], int] = {}
        for q in network.out_of(name):
            core_of = mapping.core_of(network, q.target)
            pre, post, _ = self.lists[q.name]
            for i, j in zip(pre.tolist(), post.tolist(), strict=True):
                key = (i, int(core_of[j]))
                lists[key] = lists.get(key, 0) + 1
        for (i, core), n_synapses in lists.items():
            sent = times[:, :, i]
            self.messages += int(sent.sum())
            synops = int(sent.sum()) * n_synapses
            self.macs += synops if multiplies else 0
            self.acs += 0 if multiplies else synops
            self.spike_acs += 0 if is_input else int(np.abs(k[:, :, i]).sum()) * n_synapses
            if not is_input:
                np.add.at(self.generate[home[i]], steps, sent * ps["packet_out"])
            price = ps["packet_in"] + n_synapses * ps["synaptic_operation"]
            np.add.at(self.receive[core], steps, sent * price)

    def drive(self, population: Any) -> Any:
        """Summed input plus bias, ``(n_samples, n_steps, n)``."""
        bias = np.broadcast_to(population.bias, population.shape).reshape(-1)
        total = np.zeros((self.n_samples, self.n_steps, population.n_neurons), np.int64) + bias
        for q in self.network.into(population.name):
            source: Any = self.network[q.source]
            payload = self.spikes[q.source]
            if isinstance(source, PolarityMultiSpike):
                payload = payload * np.where(payload > 0, *source.gains)
            pre, post, weight = self.lists[q.name]
            for t in range(q.delay, self.n_steps):
                sent = (payload[:, t - q.delay, pre] * weight) << q.weight_exponent
                np.add.at(total[:, t], (slice(None), post), sent)
        return total


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 8])
def test_figures_follow_from_the_text(seed: int) -> None:
    found = ByTheText(seed, n_steps=1 + seed % 4, n_samples=1 + seed % 3)
    report = emulate(found.network, found.mapping, found.x, found.n_steps)
    work = np.maximum(found.generate, found.receive).max(axis=0)
    assert report.timing.step_ps.tolist() == (work + found.barrier_ps).tolist()
    counts, operations, n = report.counts.total(), report.operations, found.n_samples
    assert counts["neuron_updates_active"] == found.n_active
    assert counts["neuron_updates_idle"] == found.n_idle
    assert counts["messages"] == found.messages
    assert operations.effective_macs == found.macs / n
    assert operations.effective_acs == found.acs / n
    assert operations.spike_acs == found.spike_acs / n
    weights = np.concatenate([q.weight.reshape(-1) for q in found.network.projections])
    assert operations.connection_sparsity == np.count_nonzero(weights == 0) / weights.size


def test_blocked_is_what_updates_end_later_than_they_take() -> None:
    blocked = 0
    for seed in range(12):
        network, mapping = random_case(seed)
        x = random_units(network, seed, n_samples=2, n_steps=2)
        report = emulate(network, mapping, x, 2, mode="cycle", trace=True)
        trace: Any = report.trace
        assert np.array_equal(trace["update_end"] - trace["update"], trace["blocked"])
        assert (report.timing.cores.blocked_ns * 1000).round().tolist() == trace["blocked"].sum(
            axis=0
        ).tolist()
        blocked += int(trace["blocked"].sum())
    assert blocked > 0


def test_the_cases_have_what_the_text_is_about() -> None:
    networks = [random_case(seed)[0] for seed in (0, 1, 2, 3, 4, 8)]
    assert any(q.delay for n in networks for q in n.projections)
    assert any(len(p.shape) == 2 for n in networks for p in n)
    assert any(q.kind in ("conv1d", "conv2d") for n in networks for q in n.projections)
