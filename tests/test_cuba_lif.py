"""Loihi's leaky integrate-and-fire neuron: its arithmetic by hand, its bounds."""

from __future__ import annotations

import os
from typing import Any

import fuzz_cuba_lif
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmsm_hw
from pmsm_hw import CubaLif, Dense, Identity, Input, Network, reference
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import MappingError, NetworkError
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.neurons.cuba_lif import STEPPED, decayed
from pmsm_hw.reference import engine


def alone(neurons: CubaLif, *, most: int = 1 << 17, n_steps: int = 64) -> Network:
    """Neurons with an input that reaches each of them as it is."""
    return Network(
        populations=(Input(name="x", shape=neurons.shape, levels=(-most, most)), neurons),
        projections=(Identity(source="x", target=neurons.name),),
        max_steps=n_steps,
    )


def stepped(neurons: CubaLif, drives: Any) -> tuple[list[int], list[int], list[int], int]:
    """``u``, ``v`` and spikes of one neuron after each step, and how much left its width."""
    state, us, vs, ks, outside = neurons.model.start(neurons), [], [], [], 0
    for t, drive in enumerate(drives):
        step = neurons.model.step(neurons, state, np.array([drive]), t)
        state, outside = step.state, outside + step.outside
        us.append(int(state["u"][0]))
        vs.append(int(state["v"][0]))
        ks.append(int(step.spikes[0]))
    return us, vs, ks, outside


def lif(**values: Any) -> CubaLif:
    return CubaLif(name="n", shape=(1,), **({"vth": 1000, "du": 4095} | values))


@pytest.mark.parametrize("x", [1, -1, 4095, -4095, 2**23 - 1, -(2**23)])
@pytest.mark.parametrize("decay", [0, 1, 2048, 4095, 4096])
def test_decay_rounds_towards_zero(x: int, decay: int):
    product = x * (4096 - decay)
    assert int(decayed(np.array(x), np.array(decay))) == int(product / 4096)


def test_chip_adds_one_to_the_decay_of_the_current_only():
    us, vs, _, _ = stepped(lif(du=1023, dv=1024, vth=131071), [64, 0, 0])
    assert us == [4096, 3072, 2304]
    assert vs == [4096, 3072 + 3072, 4608 + 2304]


def test_spike_is_strictly_above_the_threshold():
    assert stepped(lif(vth=10), [10])[2] == [0]
    assert stepped(lif(vth=10, bias=1), [10])[2] == [1]


def test_bias_is_shifted_by_its_exponent_only():
    assert stepped(lif(bias=-3, bias_exponent=6), [0, 0])[1] == [-192, -384]
    assert stepped(lif(bias=5), [0])[1] == [5]


def test_resets():
    assert stepped(lif(vth=10), [11, 0])[1:3] == ([0, 0], [1, 0])
    assert stepped(lif(vth=10, reset="subtract"), [25, 0, 0])[1:3] == ([960, 320, 320], [1, 1, 0])


@pytest.mark.parametrize("refractory", [1, 2, 5, 64])
def test_refractory_holds_v_for_one_step_less(refractory: int):
    us, vs, ks, _ = stepped(lif(vth=10, refractory=refractory), [11] * 70)
    assert us == [704] * 70
    assert np.flatnonzero(ks).tolist() == list(range(0, 70, refractory))
    assert not any(vs)


def test_current_goes_on_while_refractory():
    us, vs, ks, _ = stepped(lif(vth=10, du=2047, refractory=3), [11, 0, 0, 0])
    assert us == [704, 352, 176, 88]
    assert (vs, ks) == ([0, 0, 0, 88], [1, 0, 0, 0])


def test_current_wraps_in_twos_complement_and_is_counted():
    us, _, ks, outside = stepped(lif(du=0), [1 << 17])
    assert (us, ks, outside) == ([-(1 << 23)], [0], 1 + 1)  # and v saturates: its range is odd
    us, _, ks, outside = stepped(lif(du=0), [-(1 << 17) - 1])
    assert (us, ks, outside) == ([(1 << 23) - 64], [1], 1)


def test_voltage_saturates_and_is_counted():
    largest = (1 << 17) - 1
    _, vs, _, outside = stepped(lif(vth=131071, bias=4095, bias_exponent=7), [0] * 17)
    assert vs[:16] == [(4095 << 7) * (t + 1) for t in range(16)]
    assert (vs[16], outside) == (0, 1)  # saturated above the largest threshold: it fires
    _, vs, _, outside = stepped(lif(vth=0), [-largest, -largest])
    assert (vs, outside) == ([-(largest << 6), -(1 << 23) + 1], 1)


def test_graded_payload_is_the_voltage_in_units_of_the_threshold():
    _, _, ks, _ = stepped(lif(vth=10, payload_mode="graded", bias=63), [11])
    assert ks == [(704 + 63) >> 6]


def test_reset_interval_counts_the_steps_of_a_sample():
    reset = {"reset_interval": 3, "reset_offset": 5, "vth": 131071}
    assert stepped(lif(**reset), [1] * 7)[1] == [64, 128, 64, 128, 192, 64, 128]
    network = alone(lif(**reset), n_steps=7)
    result = reference.run(network, np.ones((2, 1)), 7)
    assert not result.spikes["n"].any()


def test_integrate_and_fire_is_the_special_case():
    neurons = pmsm_hw.integrate_and_fire(name="n", shape=(1,), vth=10)
    assert (int(neurons.du), int(neurons.dv), neurons.reset) == (4095, 0, "subtract")
    us, vs, ks, _ = stepped(neurons, [6, 6, 0, -9])
    assert (us, vs, ks) == ([384, 384, 0, -576], [384, 128, 128, -448], [0, 1, 0, 0])


def test_an_update_is_active_where_something_is_added_or_leaks():
    def active(drives: list[int], **values: Any) -> list[bool]:
        network = alone(lif(vth=131071, **values))
        units = {"x": np.array(drives, np.int32).reshape(1, -1, 1)}
        *_, done = reference.simulate(network, units, len(drives))
        found: list[bool] = done.active.reshape(-1).tolist()
        return found

    assert active([0, 5, 0]) == [False, True, False]
    assert active([0, 5, 0], dv=1) == [False, True, True]
    assert active([0, 5, 0], du=0) == [False, True, True]
    assert active([0, 0], bias=1) == [True, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vth": 131072}, "vth lies in .*, the limits are 0 and 131,071"),
        ({"du": 4096}, "du lies in .*, the limits are 0 and 4,095"),
        ({"dv": 4097}, "dv lies in .*, the limits are 0 and 4,096"),
        ({"bias": 4096}, "bias lies in .* use a mantissa of 13 bits"),
        ({"bias_exponent": 8}, "bias_exponent 8 is outside 0"),
        ({"refractory": 0}, "refractory 0 is outside 1"),
        ({"reset": "soft"}, "reset 'soft' is not one of zero, subtract"),
    ],
)
def test_what_the_chip_does_not_have_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(NetworkError, match=message):
        lif(**changes)


def test_graded_spikes_need_a_chip_that_has_them():
    network = alone(lif(payload_mode="graded"), n_steps=1)
    with pytest.raises(MappingError, match=r"'n': wants graded spikes, chip 'loihi1' has unit"):
        map_network(network, load_chip("loihi1"))


# -- bounds ---------------------------------------------------------------------------------------


def test_bounds_exclude_overflow_where_decays_keep_states_small():
    network = alone(lif(du=1023, dv=1023, vth=131071), most=100, n_steps=4096)
    bound = network.bounds["n"]
    assert bound.fits
    # 6,400 a step, of which a quarter goes: 25,600; and of that again
    assert -103_000 < bound.u_min < -101_000 < 101_000 < bound.u_max < 103_000


def test_networks_whose_states_may_leave_their_width_run_and_count():
    network = alone(lif(du=0, vth=131071), n_steps=4096)
    assert not network.bounds["n"].fits
    assert reference.run(network, np.full((1, 1), 1 << 17), 2).saturations["n"] > 0


@pytest.mark.parametrize("n_steps", [8, 400])
@pytest.mark.parametrize(
    ("most", "values"),
    [
        (1 << 17, {"dv": 4096, "bias": 0}),  # the current wraps, and v is no larger
        ((1 << 17) - 1, {"bias": -64}),  # v would be -2**23
    ],
)
def test_bounds_tell_what_leaves_its_width_by_one(most: int, values: Any, n_steps: int):
    network = alone(lif(vth=131071, **values), most=most, n_steps=n_steps)
    assert any(reference.run(network, np.full((1, 1), x)).saturations for x in (-most, most))
    assert not network.bounds["n"].fits


@given(data=st.data())
def test_bounds_by_series_hold_those_of_the_steps(data: Any):
    """And are hardly wider."""
    most = data.draw(st.sampled_from([10, 1000, 1 << 17]))
    low = data.draw(st.integers(-most, most))
    drive = np.array([low]), np.array([low + data.draw(st.integers(0, most))])
    neurons = lif(
        vth=data.draw(st.sampled_from([0, 10, 1000, 131071])),
        du=data.draw(st.sampled_from([0, 7, 200, 2000, 4095])),
        dv=data.draw(st.sampled_from([0, 7, 200, 2000, 4096])),
        bias=data.draw(st.integers(-4096, 4095)),
        bias_exponent=data.draw(st.integers(0, 7)),
        refractory=data.draw(st.sampled_from([1, 3])),
        reset=data.draw(st.sampled_from(["zero", "subtract"])),
        payload_mode=data.draw(st.sampled_from(["binary", "graded"])),
    )
    n_steps = data.draw(st.integers(STEPPED + 1, 3 * STEPPED))
    model: Any = neurons.model
    found = model.interval_steps(neurons, drive, n_steps)
    state = {name: (value, value) for name, value in model.start(neurons).items()}
    for t in range(n_steps):
        step = model.interval_step(neurons, state, drive, t)
        for mine, its in ((found.u, step.u), (found.spikes, step.spikes)):
            assert (mine[0] <= its[0]).all()
            assert (mine[1] >= its[1]).all()
        state = step.state


@given(data=st.data())
def test_bounds_hold_over_many_steps(data: Any):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n = 20
    neurons = CubaLif(
        name="n", shape=(n,), vth=rng.integers(0, 131072, n), du=rng.integers(0, 4096, n),
        dv=rng.integers(0, 4097, n), bias=rng.integers(-4096, 4096, n),
        bias_exponent=int(rng.integers(8)), reset=["zero", "subtract"][rng.integers(2)],
        payload_mode="graded", reset_interval=int(rng.choice([0, 0, 90])),
    )  # fmt: skip
    n_steps = 100
    network = Network(
        populations=(Input(name="x", shape=(3,), levels=(-9, 90)), neurons),
        projections=(Dense(source="x", target="n", weight=rng.integers(-128, 128, (n, 3))),),
        max_steps=n_steps,
    )
    most = np.where(rng.random((2, 1, 3)) < 0.5, -9, 90)
    units = {"x": np.broadcast_to(most, (2, n_steps, 3)).astype(np.int32)}
    *_, done = reference.simulate(network, units, n_steps)
    bound = network.bounds["n"]
    assert bound.k_min <= done.spikes.min() <= done.spikes.max() <= bound.k_max
    assert bound.u_max >= done.states["v"].max()
    assert bound.u_min <= done.states["v"].min()
    if bound.fits:
        assert not done.saturations


# -- compiled -------------------------------------------------------------------------------------

EDGES = [0, 1, (1 << 17) - 1, 1 << 17, (1 << 17) + 1, 1 << 18, 3 << 17, (1 << 23) - 1]


def at_the_edges(most: int, **values: Any) -> tuple[Network, Any, dict[str, Any]]:
    """Neurons of any decays and with the current of a step alone; input, and what to probe.

    Currents wrap and voltages saturate, by one more or less.
    """
    rng = np.random.default_rng(most)
    n, n_steps = 300, 12
    leaky = {"du": rng.choice([0, 1, 2047, 4095], n), "dv": rng.choice([0, 1, 2048, 4096], n)}
    # half of 128 and the third edge are one beyond the largest current; negative, the least one
    leaky["du"][:40] = 2047
    neurons = [
        CubaLif(
            name=f"n{i}", shape=(n,), vth=rng.choice([0, 9, 131071], n), bias_exponent=7,
            bias=rng.choice([0, 1, -4096, 4095], n), refractory=1 + 2 * i, reset_interval=5 * i,
            reset_offset=2, **decays, **values,
        )
        for i, decays in enumerate([leaky, {"du": 4095}])
    ]  # fmt: skip
    network = Network(
        populations=(Input(name="x", shape=(n,), levels=(-most, most)), *neurons),
        projections=tuple(Identity(source="x", target=p.name) for p in neurons),
        max_steps=n_steps,
    )
    x = rng.choice(EDGES, (1, n_steps, n)) * rng.choice([-1, 1], (1, n_steps, n))
    x[0, :2, :40] = np.repeat([[2, -2], [EDGES[2], -EDGES[2]]], 20, axis=1)
    return network, x.clip(-most, most), {p.name: ("u", "v") for p in neurons}


def assert_same(a: Any, b: Any, probes: dict[str, Any]) -> None:
    for name, variables in probes.items():
        np.testing.assert_array_equal(a.spikes[name], b.spikes[name])
        for variable in variables:
            np.testing.assert_array_equal(a.states[name][variable], b.states[name][variable])


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("payload_mode", ["binary", "graded"])
@pytest.mark.parametrize("most", [(1 << 17) - 1, (1 << 23) - 1])
def test_compiled_loops_take_the_step_at_the_edges(
    reset: Any, payload_mode: Any, most: int, monkeypatch: pytest.MonkeyPatch
):
    network, x, probes = at_the_edges(most, reset=reset, payload_mode=payload_mode)
    plain = reference.run(network, x, x.shape[1], probes=probes)
    monkeypatch.setattr(engine, "LARGE_UPDATES", 0)
    compiled = reference.run(network, x, x.shape[1], probes=probes)
    assert (plain.saturations, plain.saturations["n0"] > 100) == (compiled.saturations, True)
    assert_same(plain, compiled, probes)


def test_cycle_mode_takes_the_step_at_the_edges():
    network, x, probes = at_the_edges((1 << 17) - 1, reset="subtract")
    plain = reference.run(network, x, x.shape[1], probes=probes)
    mapping = map_network(network, load_chip("loihi2"), objective="cores")
    report = emulate(network, mapping, x, x.shape[1], mode="cycle", probes=probes)
    assert report.counts.saturated() == plain.saturations
    assert_same(plain, report, probes)


# -- every engine ---------------------------------------------------------------------------------

N_NETWORKS = 100 if os.environ.get("PMSM_HW_HYPOTHESIS") == "long" else 5


@pytest.mark.parametrize("number", range(N_NETWORKS))
def test_random_networks_equal_loops_over_integers_on_every_engine(number: int):
    found = fuzz_cuba_lif.case(number)
    assert found["equal in the reference"] == found["equal in counts and cycle mode"] == 1
