"""The reference against a loop-written oracle that shares no arithmetic with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loop_oracle import oracle
from random_networks import random_network, random_units, with_delays

from pmsm_hw import reference
from pmsm_hw.errors import InputError, NetworkError
from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
)
from pmsm_hw.reference import engine


def assert_equals_oracle(network, units, n_steps, **options):
    result = reference.run(network, units, n_steps, **options)
    carry = options.get("carry_state", False)
    traces = {}
    spikes, states, saturations = oracle(network, units, n_steps, carry=carry, traces=traces)
    for name, k in result.spikes.items():
        np.testing.assert_array_equal(k.reshape(*k.shape[:2], -1), spikes[name], err_msg=name)
    for name, v in result.readouts.items():
        np.testing.assert_array_equal(v.reshape(len(v), -1), states[name], err_msg=name)
    for name in options.get("probes", ()):
        v = result.states[name]["v"]
        assert v.dtype == np.int32
        np.testing.assert_array_equal(v.reshape(*v.shape[:2], -1), traces[name], err_msg=name)
    assert result.saturations == saturations
    return result


@given(seed=st.integers(0, 10**6), n_steps=st.integers(1, 4))
def test_reference_equals_the_loop_oracle(seed, n_steps):
    network = random_network(seed)
    assert_equals_oracle(network, random_units(network, seed, n_steps=n_steps), n_steps)


@given(seed=st.integers(0, 10**6), n_steps=st.integers(1, 7), carry=st.booleans())
def test_delays_exponents_loops_carried_state_and_probes_equal_the_loop_oracle(
    seed, n_steps, carry
):
    network = with_delays(random_network(seed, max_steps=21), seed)
    units = random_units(network, seed, n_steps=n_steps)
    rng = np.random.default_rng(seed)
    probes = {p.name: ("v",) for p in network if not isinstance(p, Input) and rng.random() < 0.5}
    with pytest.MonkeyPatch.context() as patch:  # all at once, or two samples at a time
        if rng.random() < 0.7:
            patch.setattr(engine, "bytes_per_sample", lambda *_, **__: 500_000)
        result = assert_equals_oracle(
            network, units, n_steps, carry_state=carry, probes=probes, memory_mb=1
        )
    assert result.states.keys() == probes.keys()


@given(seed=st.integers(0, 10**6), n_steps=st.integers(1, 4))
def test_reached_states_and_spikes_stay_within_the_proven_bounds(seed, n_steps):
    network = random_network(seed)
    if seed % 2:
        network = with_delays(network, seed)
    units = random_units(network, seed, n_steps=n_steps)
    for activity in reference.simulate(
        network, reference.units_of(network, units, n_steps), n_steps
    ):
        bound = network.bounds[activity.name]
        assert bound.k_min <= activity.spikes.min(initial=bound.k_max)
        assert activity.spikes.max(initial=bound.k_min) <= bound.k_max
        assert activity.saturations == 0
        if isinstance(network[activity.name], Readout):
            assert bound.u_min <= activity.state.min(initial=bound.u_max)
            assert activity.state.max(initial=bound.u_min) <= bound.u_max


def single(rule="carry", n_steps=4, **neuron):
    """One input value, one neuron, one readout, all weights 1."""
    neuron = {"theta": 4, "levels": (2, 3), **neuron}
    return Network(
        populations=(
            Input(name="x", shape=(1,), levels=(-100, 100)),
            PolarityMultiSpike(name="n", shape=(1,), rule=rule, **neuron),
            Readout(name="y", shape=(1,), scale=np.float64(0.5)),
        ),
        projections=(
            Dense(source="x", target="n", weight=[[1]]),
            Dense(source="n", target="y", weight=[[1]]),
        ),
        max_steps=n_steps,
    )


@pytest.mark.parametrize(
    ("rule", "inputs", "expected"),
    [
        # theta 4, v(0) 2, levels (2, 3); u: 12 -> k 3 (clip), v 0 | -1 -> k -1, v 3 | 3 -> 0
        ("carry", [10, -1, 0], [3, -1, 0]),
        # u: 102 -> 3, v 90 | 90 -> 3, v 78
        ("carry", [100, 0], [3, 3]),
        # reset: v back to 2 each step; u: 102 -> 3 | 2 -> 0
        ("reset", [100, 0], [3, 0]),
        # u: 22 -> 3 (S <= 3), v 10 | u 0 -> 0, so S = 3 | u -20 -> -5 retracts beyond n: S = -2
        ("bounded", [20, -10, -20], [3, 0, -5]),
        # S is bounded by p * t: 3, then 6
        ("bounded", [100, 0, 0], [3, 3, 3]),
    ],
)
def test_hand_computed_rules(rule, inputs, expected):
    network = single(rule)
    x = np.array(inputs).reshape(1, -1, 1)
    result = reference.run(network, x, len(inputs))
    assert result.spikes["n"].reshape(-1).tolist() == expected
    assert result.readouts["y"].tolist() == [[sum(expected)]]
    assert result.logits["y"].tolist() == [[sum(expected) * 0.5 / len(inputs)]]


def test_polarity_gain_weighs_negative_spikes():
    network = single(gains=(4, 1))
    result = reference.run(network, np.array([[10], [-100]]), 1)
    assert result.spikes["n"].reshape(-1).tolist() == [3, -2]
    assert result.readouts["y"].reshape(-1).tolist() == [12, -2]


def test_saturation_is_counted_and_equals_the_oracle():
    rng = np.random.default_rng(0)
    network = Network(
        populations=(
            Input(name="x", shape=(40,), levels=(0, 255)),
            PolarityMultiSpike(name="n", shape=(3,), theta=9, levels=(1, 1), overflow="saturate"),
            Readout(name="y", shape=(2,), overflow="saturate"),
        ),
        projections=(
            Dense(
                source="x",
                target="n",
                weight=np.full((3, 40), 127, np.int8) * np.array([[1], [-1], [0]], np.int8),
                weight_exponent=6,
            ),
            Dense(source="n", target="y", weight=rng.integers(-9, 9, (2, 3))),
        ),
        max_steps=4,
    )
    x = np.full((2, 40), 255)
    result = assert_equals_oracle(network, {"x": x}, 4)
    assert result.saturations == {"n": 2 * 2 * 4}  # two of three neurons, two samples, four steps


def test_unprovable_state_is_refused():
    with pytest.raises(NetworkError, match=r"population 'n'.*24 bits hold.*overflow='saturate'"):
        Network(
            populations=(
                Input(name="x", shape=(600,), levels=(0, 255)),
                PolarityMultiSpike(name="n", shape=(1,), theta=1, levels=(0, 1)),
            ),
            projections=(
                Dense(source="x", target="n", weight=np.full((1, 600), 127), weight_exponent=6),
            ),
        )


def test_bound_is_reached_by_the_worst_input():
    network = single("carry", n_steps=4)
    result = reference.run(network, np.full((1, 1), 100), 4)
    # v(0) 2, +100 and -12 each step: the largest u is 2 + 4 * 100 - 3 * 12
    assert network.bounds["n"].u_max == 2 + 400 - 36
    assert result.spikes["n"].reshape(-1).tolist() == [3, 3, 3, 3]


def test_samples_do_not_affect_each_other():
    network = random_network(11)
    units = random_units(network, 5, n_samples=4, n_steps=3)
    together = reference.run(network, units, 3)
    for i in range(4):
        alone = reference.run(network, {k: v[i : i + 1] for k, v in units.items()}, 3)
        for name, k in alone.spikes.items():
            np.testing.assert_array_equal(k[0], together.spikes[name][i])


def test_encode_rounds_half_to_even_and_clips():
    population = Input(name="x", shape=(6,), scale=0.5, levels=(-1, 3))
    x = [0.25, 0.75, 1.25, -9.0, 9.0, 0.0]
    assert population.encode(x).tolist() == [0, 2, 2, -1, 3, 0]


def small():
    return Network(
        populations=(
            Input(name="x", shape=(2, 3), levels=(0, 3)),
            PolarityMultiSpike(name="n", shape=(2, 3), theta=1, levels=(0, 1)),
        ),
        projections=(Identity(source="x", target="n"),),
        max_steps=2,
    )


@pytest.mark.parametrize(
    ("x", "n_steps", "message"),
    [
        (np.zeros((4, 2, 2)), 1, r"input 'x': shape 4x2x2 is neither batchx2x3 nor batchx1x2x3"),
        (np.zeros((4, 5, 2, 3)), 2, r"shape 4x5x2x3 is neither"),
        (np.full((1, 2, 3), np.nan), 1, r"input 'x': 6 of 6 values are not finite"),
        (np.full((1, 2, 3), 4), 1, r"integer values lie in \[4, 4\], its levels are \[0, 3\]"),
        (np.full((1, 2, 3), "a"), 1, r"x has dtype <U1, floats and integers"),
        (np.zeros((1, 2, 3)), 0, r"n_steps: 0 is not a positive integer"),
        (np.zeros((1, 2, 3)), 1.5, r"n_steps: 1.5 is not a positive integer"),
        (np.zeros((1, 2, 3)), 3, r"3 steps exceed max_steps 2"),
        ({"z": np.zeros((1, 2, 3))}, 1, r"takes inputs x, got z"),
    ],
)
def test_bad_inputs_get_one_clear_error(x, n_steps, message):
    with pytest.raises(InputError, match=message):
        reference.run(small(), x, n_steps)


def test_unknown_recorded_population_is_refused():
    with pytest.raises(NetworkError, match="population 'z' does not exist"):
        reference.run(small(), np.zeros((1, 2, 3)), 1, record=["z"])


def test_record_selects_populations():
    assert set(reference.run(small(), np.zeros((1, 2, 3)), 1, record=["n"]).spikes) == {"n"}


def test_asymmetric_kernel_on_a_non_square_input_is_cross_correlation():
    network = Network(
        populations=(
            Input(name="x", shape=(1, 2, 3), levels=(0, 9)),
            Readout(name="y", shape=(1, 2, 2)),
            Readout(name="z", shape=(2, 2)),
            Input(name="s", shape=(1, 3), levels=(0, 9)),
        ),
        projections=(
            Conv2d(source="x", target="y", weight=[[[[1, 2]]]]),
            Conv1d(source="s", target="z", weight=[[[1, 2]], [[0, -1]]]),
        ),
    )
    x = {"x": np.arange(6).reshape(1, 1, 2, 3), "s": np.array([[[1, 2, 3]]])}
    result = reference.run(network, x, 1)
    assert result.readouts["y"].tolist() == [[[[2, 5], [11, 14]]]]
    assert result.readouts["z"].tolist() == [[[5, 8], [-2, -3]]]


def test_bounds_round_down_as_sums_do():
    network = Network(
        populations=(Input(name="x", shape=(2,), levels=(0, 1)), Readout(name="y", shape=(1,))),
        projections=(Dense(source="x", target="y", weight=[[-3, 5]], weight_exponent=-1),),
        max_steps=1,
    )
    assert (network.bounds["y"].u_min, network.bounds["y"].u_max) == (-2, 2)
    result = reference.run(network, np.array([[1, 0], [0, 1], [1, 1]]))
    assert result.readouts["y"].ravel().tolist() == [-2, 2, 1]


def test_a_delayed_source_outside_of_a_cycle_is_bounded_by_what_it_can_send():
    """Not by all that its levels allow: the state of the readout would not fit."""
    network = Network(
        populations=(
            Input(name="x", shape=(1,), levels=(0, 1)),
            PolarityMultiSpike(name="a", shape=(1,), theta=4, levels=(30000, 30000)),
            Readout(name="y", shape=(1,)),
        ),
        projections=(
            Dense(source="x", target="a", weight=[[8]]),
            Dense(source="a", target="y", weight=[[127]], delay=3),
        ),
        max_steps=9,
    )
    assert not network.is_recurrent
    assert network.bounds["y"].u_max == 9 * 127 * network.bounds["a"].k_max
    assert network.bounds["a"].k_max <= 3


def test_samples_that_carry_their_state_on_are_one():
    network = single("bounded", n_steps=8)
    x = np.random.default_rng(0).integers(-30, 31, (4, 2, 1))
    parts = reference.run(network, x, 2, carry_state=True, probes={"y": ("v",)})
    whole = reference.run(network, x.reshape(1, 8, 1), 8, probes={"y": ("v",)})
    np.testing.assert_array_equal(parts.spikes["n"].reshape(-1), whole.spikes["n"].reshape(-1))
    np.testing.assert_array_equal(parts.states["y"]["v"].ravel(), whole.states["y"]["v"].ravel())
    np.testing.assert_array_equal(
        parts.readouts["y"].ravel(), whole.states["y"]["v"][0, 1::2].ravel()
    )
    found = reference.evaluate(network, (x, np.zeros(4, int)), 2, carry_state=True, progress=False)
    assert found.spikes_per_sample["n"] * 4 == np.abs(whole.spikes["n"]).sum()
    with pytest.raises(
        InputError, match=r"5 samples of 2 steps.* are 10 steps and exceed max_steps 8"
    ):
        reference.run(network, np.zeros((5, 1)), 2, carry_state=True)
    with pytest.raises(InputError, match="carry_state 1 is neither True nor False"):
        reference.run(network, x, 2, carry_state=1)


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ({"n": ("u",)}, "'n': has no state 'u' to probe; choose from v"),
        ({"x": ("v",)}, "'x': has no state 'v' to probe; choose from .none"),
        ({"q": ("v",)}, "population 'q' does not exist"),
        ({"n": 3}, "probes"),
        (("n",), "are no mapping"),
    ],
)
def test_what_cannot_be_probed_is_refused(probes, message):
    with pytest.raises((InputError, NetworkError), match=message):
        reference.run(single(), np.zeros((1, 1)), probes=probes)
