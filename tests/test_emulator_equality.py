"""Cycle mode, counts mode and reference agree on every spike and every count."""

from __future__ import annotations

import numpy as np
import pytest
from emulator_cases import counts_by_list, random_case
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import random_units

from pmsm_hw import reference
from pmsm_hw.emulator import Report, emulate
from pmsm_hw.errors import NetworkError
from pmsm_hw.network import Input, Network
from pmsm_hw.operators import chw


def assert_equal(
    network: Network, counted: Report, cycled: Report, result: reference.Result
) -> None:
    for name, spikes in result.spikes.items():
        assert np.array_equal(spikes, cycled.spikes[name]), f"{name} in cycle mode"
        assert np.array_equal(spikes, counted.spikes[name]), f"{name} in counts mode"
    for name, readout in result.readouts.items():
        assert np.array_equal(readout, cycled.readouts[name])
        assert np.array_equal(readout, counted.readouts[name])
        assert np.array_equal(result.logits[name], cycled.logits[name])
    assert counted.counts == cycled.counts
    assert cycled.saturations == result.saturations == counted.saturations
    # the same integers times the same constants: equal to the last digit
    for part, value in counted.energy.parts.items():
        if part != "static":
            assert cycled.energy.parts[part] == value
    assert np.array_equal(counted.energy.per_sample, cycled.energy.per_sample)
    assert counted.energy.by_population == cycled.energy.by_population
    assert counted.energy.by_core == cycled.energy.by_core


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), n_steps=st.integers(1, 4), n_samples=st.integers(1, 4))
def test_modes_and_reference_agree(seed: int, n_steps: int, n_samples: int) -> None:
    network, mapping = random_case(seed)
    x = random_units(network, seed, n_samples=n_samples, n_steps=n_steps)
    result = reference.run(network, x, n_steps)
    counted = emulate(network, mapping, x, n_steps)
    cycled = emulate(network, mapping, x, n_steps, mode="cycle")
    assert_equal(network, counted, cycled, result)
    check_times(cycled)
    check_bounds(counted, cycled)


def check_bounds(counted: Report, cycled: Report) -> None:
    """No step ends before its busiest core, nor later than if everything came after everything."""
    assert (cycled.timing.step_ps >= counted.timing.step_ps).all()
    profile = cycled.mapping.chip.profile(cycled.profile)
    hops = cycled.counts.hops.sum(axis=(0, 1))
    serial = sum(
        int(n) * round(getattr(profile.time, f"hop_{d}").value * 1000)
        for n, d in zip(hops, ("east", "west", "north", "south"), strict=True)
    )
    assert profile.time.within_tile is not None
    serial += int(cycled.counts.messages_in.sum()) * round(profile.time.within_tile.value * 1000)
    cores = counted.timing.cores
    serial += round(1000 * float((cores.update_ns + cores.receive_ns).sum()))
    assert round(1000 * cycled.timing.cores.work_ns) <= serial


def check_times(cycled: Report) -> None:
    """What must hold for any chip: cores never do more than time passes, messages all arrive."""
    cores = cycled.timing.cores
    assert (cores.update_ns + cores.blocked_ns <= cores.work_ns + 1e-6).all()
    assert (cores.receive_ns <= cores.work_ns + 1e-6).all()
    assert cycled.timing.step_ps.sum() == round((cores.work_ns + cores.barrier_ns) * 1000)
    assert cycled.counts.messages_out.sum() == cycled.counts.messages_in.sum()
    assert cycled.queue_peak is not None
    buffer = cycled.mapping.chip.mesh.link_buffer_messages
    assert buffer is not None
    assert cycled.queue_peak[0] <= buffer.value


@given(seed=st.integers(0, 2**32 - 1), n_steps=st.integers(1, 4))
def test_saturating_populations_agree(seed: int, n_steps: int) -> None:
    try:
        network, mapping = random_case(seed, saturate=True)
    except NetworkError:  # a population that may not saturate would overflow
        return
    x = random_units(network, seed, n_samples=2, n_steps=n_steps)
    result = reference.run(network, x, n_steps)
    counted = emulate(network, mapping, x, n_steps)
    cycled = emulate(network, mapping, x, n_steps, mode="cycle")
    assert_equal(network, counted, cycled, result)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), n_steps=st.integers(1, 3))
def test_counts_by_brute_force(seed: int, n_steps: int) -> None:
    """Every message and synaptic operation, listed one by one from the lists of synapses."""
    network, mapping = random_case(seed)
    x = random_units(network, seed, n_samples=2, n_steps=n_steps)
    result = reference.run(network, x, n_steps)
    report = emulate(network, mapping, x, n_steps, mode="cycle")
    totals, into = counts_by_list(network, mapping, result.spikes)
    found = report.counts.total()
    assert {name: found[name] for name in totals} == totals
    by_population = report.counts.by_population()
    assert {k: v["synaptic_operations"] for k, v in by_population.items()} == into
    assert sum(load for *_, load in report.counts.links()) == sum(
        totals[f"hops_{d}"] for d in ("east", "west", "north", "south")
    )


def test_every_neuron_is_updated_once_per_step_of_its_sample() -> None:
    for seed in range(5):
        network, mapping = random_case(seed)
        x = random_units(network, seed, n_samples=3, n_steps=4)
        for mode in ("counts", "cycle"):
            report = emulate(network, mapping, x, 4, mode=mode)  # type: ignore[arg-type]
            for population in network:
                counts = report.counts.by_population()[population.name]
                updates = counts["neuron_updates_idle"] + counts["neuron_updates_active"]
                expected = 0 if isinstance(population, Input) else population.n_neurons * 4 * 3
                assert updates == expected


def test_samples_never_affect_each_other() -> None:
    """Each sample alone gives the counts that it gives in a batch."""
    for seed in range(5):
        network, mapping = random_case(seed)
        x = random_units(network, seed, n_samples=3, n_steps=3)
        together = emulate(network, mapping, x, 3, mode="cycle")
        for b in range(3):
            alone = emulate(
                network, mapping, {k: v[b : b + 1] for k, v in x.items()}, 3, mode="cycle"
            )
            assert np.array_equal(alone.counts.hops[0], together.counts.hops[b])
            assert np.array_equal(alone.counts.synops[0], together.counts.synops[b])
            assert np.array_equal(alone.counts.updates_active[0], together.counts.updates_active[b])
            for name, spikes in alone.spikes.items():
                assert np.array_equal(spikes[0], together.spikes[name][b])


def test_equal_samples_take_equal_steady_steps() -> None:
    """With one input over and over, every step of the full pipeline repeats T steps later."""
    network, mapping = random_case(3)
    x = random_units(network, 3, n_samples=1, n_steps=2)
    report = emulate(
        network, mapping, {k: np.repeat(v, 12, axis=0) for k, v in x.items()}, 2, mode="cycle"
    )
    full = report.timing.step_ps[network.depth : 2 * 12]
    assert report.timing.pipelined
    assert np.array_equal(full[2:], full[:-2])
    assert report.interval_ns == pytest.approx(int(full[:2].sum()) / 1000)


def test_wide_sums_agree() -> None:
    """Summed inputs beyond 32 bits take another loop, with equal results."""
    from emulator_cases import make_mapping, whole

    from pmsm_hw import Dense, PolarityMultiSpike, Readout
    from pmsm_hw.emulator.layout import build_layout
    from pmsm_hw.mapping import load_chip

    rng = np.random.default_rng(0)
    network = Network(
        name="wide",
        populations=(
            Input(name="in", shape=(64,), levels=(-(1 << 23), (1 << 23) - 1)),
            PolarityMultiSpike(
                name="a", shape=(4,), theta=np.array(1000), levels=(7, 7), overflow="saturate"
            ),
            Readout(name="out", shape=(2,)),
        ),
        projections=(
            Dense(
                source="in", target="a", weight=rng.integers(-128, 128, (4, 64)), weight_exponent=6
            ),
            Dense(source="a", target="out", weight=rng.integers(-128, 128, (2, 4))),
        ),
    )
    mapping = make_mapping(
        network, load_chip("toy"), [whole(network, "a", 0), whole(network, "out", 5)]
    )
    assert build_layout(network, mapping).wide
    x = rng.integers(-(1 << 23), 1 << 23, (3, 64))
    cycled = emulate(network, mapping, x, mode="cycle")
    assert cycled.saturations["a"] > 0
    assert_equal(network, emulate(network, mapping, x), cycled, reference.run(network, x))


def test_layout_holds_each_synapse_once() -> None:
    for seed in range(10):
        network, mapping = random_case(seed)
        from pmsm_hw.emulator.layout import build_layout

        plan = build_layout(network, mapping).plan
        assert int(plan.entry_synapses.sum()) == network.n_synapses
        for population in network:
            chosen = plan.block_population[plan.slot_block] == list(network).index(population)
            flat = np.sort(plan.slot_flat[chosen])
            assert np.array_equal(flat, np.arange(population.n_neurons))
            _, h, w = chw(population.shape)
            found = (plan.slot_c[chosen] * h + plan.slot_y[chosen]) * w + plan.slot_x[chosen]
            assert np.array_equal(found, plan.slot_flat[chosen])


def test_the_random_cases_cover_what_there_is() -> None:
    seen: set[str] = set()
    for seed in range(40):
        network, mapping = random_case(seed)
        x = random_units(network, seed, n_samples=2, n_steps=3)
        report = emulate(network, mapping, x, 3, mode="cycle")
        assert report.queue_peak is not None
        buffer = mapping.chip.mesh.link_buffer_messages
        assert buffer is not None
        counts = report.counts
        found = {
            "a full buffer": report.queue_peak[0] == buffer.value and buffer.value > 1,
            "a blocked core": bool(report.timing.cores.blocked_ns.any()),
            "all directions": bool((counts.hops.sum(axis=(0, 1)) > 0).all()),
            "a chip crossing": bool(counts.crossings.any()),
            "unit spikes": any(
                mapping.spike_mode(name) == "unit" and np.abs(s).max(initial=0) > 1
                for name, s in report.spikes.items()
            ),
            "recurrence": network.is_recurrent,
            "a delay line": any(network.hardware_delay(q) > 2 for q in network.projections),
            "two projections from one source on a core": bool(
                (np.diff(report.counts.layout.plan.pair_row) > 1).any()
            ),
            "synapses kept dense, sparse and by pixel": len(
                {row.kind for row in counts.layout.rows}
            )
            > 1,
            "idle updates": bool(counts.updates_idle.any()),
        }
        seen |= {name for name, is_there in found.items() if is_there}
    assert set(found) == seen


def test_bundles_are_neurons_that_send_alike() -> None:
    """Bundles hold every neuron once, and send where its entries say."""
    from pmsm_hw.emulator.layout import build_layout

    for seed in range(10):
        network, mapping = random_case(seed)
        layout = build_layout(network, mapping)
        plan, counted = layout.plan, layout.count_plan
        for block, name in enumerate(layout.block_populations):
            c, _, w = chw(network[name].shape)
            first, last = plan.block_slot[block], plan.block_slot[block + 1]
            expected = {}
            for slot in range(first, last):
                y, x, z = plan.slot_y[slot], plan.slot_x[slot], plan.slot_c[slot]
                cores = plan.entry_core[plan.entry[slot] : plan.entry[slot + 1]]
                expected[(int(y) * w + int(x)) * c + int(z)] = cores.tolist()
            found = {}
            for bundle in range(counted.block_bundle[block], counted.block_bundle[block + 1]):
                pairs = counted.target_pair[
                    counted.bundle_target[bundle] : counted.bundle_target[bundle + 1]
                ]
                cores = counted.pair_core[pairs].tolist()
                for run in range(counted.bundle_run[bundle], counted.bundle_run[bundle + 1]):
                    for at in range(counted.run_length[run]):
                        place = int(counted.run_at[run]) + at
                        assert place not in found
                        found[place] = cores
            assert found == expected
