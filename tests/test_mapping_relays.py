"""Split fan-outs fit, and change no spike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from brute_counts import brute_usage
from emulator_cases import edit_chip
from hypothesis import given
from hypothesis import strategies as st
from quick import examples
from random_networks import UNIT_GAINS, random_network, random_units

from pmsm_hw import (
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
    reference,
)
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import CapacityError, MappingError
from pmsm_hw.mapping import load_chip, map_network, split_fan_out


def tiny(output_axons, **limits):
    """Toy chip with room for anything but output axons."""
    changes = {
        "output_axons": output_axons,
        "input_axons": 4096,
        "synapse_memory_bits": 1 << 20,
        "max_delay_steps": 63,
        "max_weight_exponent": 12,
        **limits,
    }
    return edit_chip(
        load_chip("toy").on_board(40), **{f"limits__{key}": v for key, v in changes.items()}
    )


def relays(network):
    return [p.name for p in network if ".relay" in p.name]


def same(before, after, units, n_steps, report=None):
    """Readouts and the spikes of all populations of the original; returns the original's."""
    want = reference.run(before, units, n_steps)
    got = report or reference.run(after, units, n_steps, record=list(want.spikes))
    for name, spikes in want.spikes.items():
        assert np.array_equal(spikes, got.spikes[name]), name
    for name, values in want.readouts.items():
        assert np.array_equal(values, got.readouts[name]), name
    return want


def explained(error):
    assert error.actual > error.limit
    assert error.subject.split(" ")[0] in ("population", "projection")


def output_axons_fit(error):
    assert "output axons" not in str(error)


@examples(6)
@given(st.data())
def test_split_networks_give_the_same_spikes_in_reference_and_emulator(data):
    seed = data.draw(st.integers(0, 2**31))
    network = random_network(seed, gains=UNIT_GAINS)
    n_steps = data.draw(st.integers(1, network.max_steps))
    chip = tiny(
        data.draw(st.sampled_from([3, 4, 6, 8, 12, 24])),
        neurons=data.draw(st.sampled_from([1, 2, 3, 5])),
        population_axons=data.draw(st.booleans()),
        population_axon_entries=data.draw(st.sampled_from([1, 2])),
    )
    chip = edit_chip(
        chip,
        spikes__modes=data.draw(st.sampled_from([["unit"], ["graded"]])),
        spikes__signed=data.draw(st.booleans()),
    )
    try:
        split = split_fan_out(network, chip)
    except CapacityError as error:
        explained(error)
        return
    assert set(relays(split)) == {p.name for p in split} - {p.name for p in network}
    units = random_units(network, seed, n_samples=2, n_steps=n_steps)
    want = same(network, split, units, n_steps)
    try:
        mapping = map_network(split, chip, objective="cores")
    except CapacityError as error:
        output_axons_fit(error)
        return
    mapping.check(split)
    assert np.array_equal(brute_usage(split, chip, mapping), mapping.usage)
    assert mapping.usage[:, 2].max() <= chip.limits.output_axons.value
    mode = data.draw(st.sampled_from(["counts", "cycle"]))
    report = emulate(split, mapping, units, n_steps, mode=mode, record=list(want.spikes))
    same(network, split, units, n_steps, report)


def neurons(name, *shape, theta=3, levels=(1, 2), **more):
    return PolarityMultiSpike(
        name=name, shape=shape, theta=np.array(theta), levels=levels, overflow="saturate", **more
    )


def wide(n_targets=1, n=24, gains=(1, 1), **source):
    """Four neurons that reach every neuron of each target."""
    rng = np.random.default_rng(5)
    names = [f"t{i}" for i in range(n_targets)]
    return Network(
        name="wide",
        populations=(
            Input(name="in", shape=(4,), levels=(-3, 3)),
            neurons("a", 4, gains=gains, **source),
            *(neurons(name, n, levels=(0, 2)) for name in names),
            Readout(name="out", shape=(2,), overflow="saturate"),
        ),
        projections=(
            Dense(source="in", target="a", weight=rng.integers(-9, 10, (4, 4))),
            *(
                Dense(
                    source="a", target=t, weight=rng.integers(1, 9, (n, 4)),
                    delay=0 if i != 1 else 3, name=f"to{t}",
                )
                for i, t in enumerate(names)
            ),
            *(
                Dense(source=t, target="out", weight=rng.integers(-9, 10, (2, n)), name=f"of{t}")
                for t in names
            ),
        ),
        max_steps=3,
    )  # fmt: skip


def both_ways(network, chip):
    """Split, map and emulate; spikes and readouts stay the same."""
    split = split_fan_out(network, chip)
    mapping = map_network(split, chip, objective="cores")
    mapping.check(split)
    x = {"in": np.random.default_rng(1).integers(-3, 4, (3, 3, *network["in"].shape))}
    want = same(network, split, x, 3)
    report = emulate(split, mapping, x, 3, mode="cycle", record=list(want.spikes))
    same(network, split, x, 3, report)
    assert any(np.any(want.spikes[p] < 0) for p in want.spikes if p != "in")
    return split, mapping


def test_what_fits_is_not_split():
    network = wide()
    assert split_fan_out(network, load_chip("toy")) is network


def test_a_neuron_that_reaches_24_cores_of_room_for_8_gets_relays():
    # one target neuron a core: 24 entries (toy: one each), a core has 8
    network, chip = wide(), tiny(8, neurons=1)
    with pytest.raises(CapacityError, match=r"'a': one neuron needs 24 output axons.* has 8.*spl"):
        map_network(network, chip, objective="cores")
    split, mapping = both_ways(network, chip)
    # shares of 8 // 2 = 4 of the 24 would be six relays of four, and fit beside each other
    assert relays(split) == [f"a.relay{i}" for i in range(6)]
    assert split.depth == network.depth + 1
    table = mapping.summary()
    assert all(name in table for name in relays(split))
    rows = [q.weight.any(axis=1) for q in split.into("t0")]
    assert np.array_equal(np.sum(rows, axis=0), np.ones(24))  # every target neuron has one relay
    again = split_fan_out(split, chip)
    assert again is split


def test_relays_of_relays_where_a_neuron_needs_too_many():
    # 60 entries in shares of at most 4: at least 15 relays, and those are too many for one core
    network, chip = wide(n=60), tiny(4, neurons=1)
    split, _ = both_ways(network, chip)
    assert split.depth >= network.depth + 2
    assert max(len(split.out_of(p.name)) for p in split if p.name == "a") <= 4


@pytest.mark.parametrize(
    ("gains", "mode"),
    [
        (gains, mode)
        for gains in [(1, 1), (2, 2), (1, -1), (4, 1), (2, -4), (8, 0)]
        for mode in ("unit", "graded")
        if mode == "graded" or 0 not in gains  # chips with unit spikes do not take such gains
    ],
)
def test_every_gain_and_spike_mode_is_relayed_exactly(gains, mode):
    chip = edit_chip(tiny(16, neurons=2), spikes__modes=[mode], spikes__signed=False)
    split, _ = both_ways(wide(3, gains=gains), chip)
    a, relay = split["a"], split["a.relay0"]
    if abs(gains[0]) == gains[1]:
        assert (relay.levels, relay.gains) == (a.levels, gains)
    assert len(split.into("a.relay0")) == 1


@pytest.mark.parametrize("rule", ["carry", "reset", "bounded"])
def test_several_targets_share_relays_and_slack_is_used(rule):
    network, chip = wide(3, n=4, rule=rule), tiny(6, neurons=1)
    split, _ = both_ways(network, chip)
    served = {r: {q.target for q in split.out_of(r)} for r in relays(split)}
    assert {t for targets in served.values() for t in targets} >= {"t0", "t1", "t2"}


def test_convolutions_are_shared_out_by_channels_and_skips_stay_aligned():
    rng = np.random.default_rng(2)
    w = lambda *s: rng.integers(-9, 10, s).astype(np.int8)  # noqa: E731
    network = Network(
        populations=(
            Input(name="in", shape=(2, 4, 4), levels=(-3, 3)),
            neurons("a", 3, 4, 4, theta=20, gains=(4, 1)),
            neurons("b", 8, 4, 4, theta=20),
            neurons("c", 8, 4, 4, theta=40),
            Readout(name="out", shape=(8, 2, 2), overflow="saturate"),
        ),
        projections=(
            Conv2d(source="in", target="a", weight=w(3, 2, 3, 3), padding=1),
            Conv2d(source="a", target="b", weight=w(8, 3, 3, 3), padding=1, weight_exponent=1),
            Conv2d(source="b", target="c", weight=w(8, 8, 1, 1)),
            Conv2d(source="a", target="c", weight=w(8, 3, 1, 1), name="skip"),
            Identity(source="c", target="c", delay=2, name="loop"),
            SumPool(source="c", target="out", kernel=(2, 2), stride=(2, 2)),
        ),
        max_steps=3,
    )
    chip = edit_chip(tiny(40, neurons=2), spikes__modes=["unit"], spikes__signed=False)
    chip = edit_chip(chip, limits__population_axons=True, limits__population_axon_entries=2)
    split, _ = both_ways(network, chip.on_board(200))
    assert any(name.startswith("a.relay") for name in relays(split))
    parts = [q for q in split.into("b") if ".relay" in q.source]
    assert len(parts) > 1
    assert np.array_equal(sum(q.weight.astype(int) for q in parts), network.into("b")[0].weight)


def test_where_no_relay_helps_the_error_is_that_of_the_network():
    # both signs need two entries a relay, a core has three: one relay, which is no better
    chip = edit_chip(tiny(3, neurons=1), spikes__modes=["unit"], spikes__signed=False)
    with pytest.raises(CapacityError) as caught:
        split_fan_out(wide(), chip)
    error = caught.value
    assert (error.subject, error.actual, error.limit) == ("population 'a'", 48, 3)
    assert "one neuron needs 48 output axons, a core of chip 'toy' has 3" in error.problem


def test_a_loop_without_slack_cannot_be_relayed():
    loop = Dense(source="a", target="a", weight=np.ones((12, 12), np.int8), delay=1)

    def network(delay):
        return Network(
            populations=(
                Input(name="in", shape=(12,), levels=(-3, 3)),
                neurons("a", 12, theta=9),
                Readout(name="out", shape=(2,), overflow="saturate"),
            ),
            projections=(
                Identity(source="in", target="a", weight=np.array(5, np.int8)),
                replace(loop, delay=delay),
                Dense(source="a", target="out", weight=np.ones((2, 12), np.int8)),
            ),
            max_steps=3,
        )

    chip = tiny(9, neurons=1)
    with pytest.raises(CapacityError, match=r"'a': one neuron needs 1\d output axons"):
        split_fan_out(network(1), chip)
    split, _ = both_ways(network(2), chip)
    assert relays(split)


def test_other_limits_are_told_as_they_are():
    with pytest.raises(CapacityError, match="input axons"):
        split_fan_out(wide(), tiny(8, neurons=1, input_axons=3))
    with pytest.raises(MappingError, match="powers of two"):
        split_fan_out(wide(gains=(3, 1)), edit_chip(tiny(8), spikes__modes=["unit"]))
