"""Delays of synapses, shifts to the right, loops, carried state and probes, on the chip.

Cycle mode, counts mode and the reference agree with plain steps over lists of synapses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from delayed_networks import MAX_STEPS, Plain, delayed_case, plainly
from emulator_cases import counts_by_list, make_mapping, whole
from hypothesis import given
from hypothesis import strategies as st
from in_process import answer, call
from quick import examples
from random_networks import random_units

from pmsm_hw import AdaptiveLif, integrate_and_fire, io, reference
from pmsm_hw.emulator import Report, emulate
from pmsm_hw.errors import InputError
from pmsm_hw.mapping import load_chip
from pmsm_hw.network import (
    Conv1d,
    CubaLif,
    Dense,
    Identity,
    Input,
    Network,
    Neurons,
    Readout,
)

TOY = load_chip("toy")


def assert_plain(network: Network, report: Report, want: Plain) -> None:
    """A report says what plain steps do."""
    for name, spikes in report.spikes.items():
        assert np.array_equal(spikes, want.spikes[name]), f"{name} in {report.mode} mode"
    for name, v in report.readouts.items():
        assert np.array_equal(v, want.states[name]["v"][:, -1])
    for name, states in report.states.items():
        for variable, values in states.items():
            assert values.dtype == np.int32
            assert np.array_equal(values, want.states[name][variable]), f"{name}.{variable}"
    assert report.saturations == want.outside
    counts = report.counts.by_population()
    for p in network:
        if isinstance(p, Neurons):
            assert counts[p.name]["neuron_updates_active"] == want.active[p.name].sum()


@examples(15)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_steps=st.integers(1, 6),
    n_samples=st.integers(1, 3),
    carry_state=st.booleans(),
)
def test_modes_reference_and_plain_steps_agree(
    seed: int, n_steps: int, n_samples: int, carry_state: bool
) -> None:
    network, mapping = delayed_case(seed)
    carry_state &= n_steps * n_samples <= MAX_STEPS
    x = random_units(network, seed, n_samples=n_samples, n_steps=n_steps)
    rng = np.random.default_rng(seed)
    probes = {
        p.name: tuple(p.model.start(p))
        for p in network
        if isinstance(p, Neurons) and rng.random() < 0.5
    }
    options: dict[str, Any] = {"probes": probes, "carry_state": carry_state}
    want = plainly(network, x, n_steps, carry_state=carry_state)
    cycled = emulate(network, mapping, x, n_steps, mode="cycle", **options)
    counted = emulate(network, mapping, x, n_steps, **options)
    result = reference.run(network, x, n_steps, **options)
    for report in (cycled, counted):
        assert_plain(network, report, want)
        assert [*report.states] == [*result.states]
    assert cycled.counts == counted.counts
    assert reference.differing_spikes(result.spikes, cycled.spikes) == 0
    assert reference.differing_readouts(result.readouts, cycled.readouts) == 0
    assert cycled.counts.messages_out.sum() == cycled.counts.messages_in.sum()
    found = cycled.counts.total()
    totals, into = counts_by_list(network, mapping, dict(result.spikes))
    assert {name: found[name] for name in totals} == totals
    operations = cycled.counts.by_population()
    assert {name: n["synaptic_operations"] for name, n in operations.items()} == into


def test_the_random_cases_cover_what_there_is() -> None:
    seen: set[str] = set()
    for seed in range(40):
        network, mapping = delayed_case(seed)
        x = random_units(network, seed, n_samples=2, n_steps=5)
        report = emulate(network, mapping, x, 5)
        fired = {name for name, k in report.spikes.items() if 0 < k.mean() < 1}
        found = {
            "delays": any(q.delays is not None and q.source in fired for q in network.projections),
            "shifts to the right": any(
                q.weight_exponent < 0 and q.source in fired for q in network.projections
            ),
            "both": any(
                q.weight_exponent < 0 and q.delays is not None for q in network.projections
            ),
            "loops": any(q.source == q.target and q.source in fired for q in network.projections),
            "Loihi's neurons": any(isinstance(network[name], CubaLif) for name in fired),
            "values out of their width": bool(report.saturations),
        }
        seen |= {name for name, is_there in found.items() if is_there}
    assert set(found) == seen


# -- by hand -------------------------------------------------------------------------------------


def chain(projection: Any, shape: tuple[int, ...], target: Any, **options: Any) -> Any:
    """Emulate an input and what it projects to, on core 0; all spikes and states."""
    network = Network(
        populations=(Input(name="x", shape=shape, levels=(0, 99)), target),
        projections=(projection,),
        max_steps=12,
    )
    mapping = make_mapping(network, TOY, [whole(network, target.name, 0)])
    return lambda x, n_steps: emulate(network, mapping, x, n_steps, mode="cycle", **options)


def test_each_synapse_delivers_after_its_own_delay() -> None:
    # weights 1, 10 and 100 after 0, 2 and 3 steps
    dense = Dense(source="x", target="o", weight=[[1, 10, 100]], delays=[[0, 2, 3]])
    run = chain(dense, (3,), Readout(name="o", shape=(1,)), probes={"o": ("v",)})
    x = np.zeros((2, 4, 3), np.int64)
    x[:, 0] = 1
    x[:, 1, 1] = 2  # due in step 3, the last one
    x[:, 2, 1] = 5  # the sample ends before
    report = run(x, 4)
    assert report.states["o"]["v"][:, :, 0].tolist() == [[1, 1, 11, 131]] * 2
    # a message for each value, one operation for each: those that arrive too late are looked up too
    assert report.counts.total()["messages"] == 2 * 5
    assert report.counts.total()["synaptic_operations"] == 2 * 5


def test_taps_of_a_convolution_have_delays() -> None:
    conv = Conv1d(source="x", target="o", weight=[[[1, 10]]], delays=[[[1, 0]]])
    run = chain(conv, (1, 3), Readout(name="o", shape=(1, 2)), probes={"o": ("v",)})
    x = np.zeros((1, 2, 1, 3), np.int64)
    x[0, 0] = [[1, 2, 3]]
    report = run(x, 2)
    assert report.states["o"]["v"][0, :, 0].tolist() == [[20, 30], [21, 32]]


def test_a_sum_is_shifted_when_all_of_it_has_arrived() -> None:
    # three times 3 >> 2 is 2, not 0; -9 >> 2 is -3; what arrives one step later is shifted apart
    dense = Dense(
        source="x", target="o", weight=[[3, 3, 3], [-3, -3, -3]], weight_exponent=-2,
        delays=[[0, 0, 0], [0, 0, 1]],
    )  # fmt: skip
    run = chain(dense, (3,), Readout(name="o", shape=(2,)), probes={"o": ("v",)})
    x = np.zeros((1, 2, 3), np.int64)
    x[0, 0] = 1
    assert run(x, 2).states["o"]["v"][0].tolist() == [[2, -2], [2, -3]]


def test_two_projections_are_shifted_apart() -> None:
    network = Network(
        populations=(
            Input(name="x", shape=(1,), levels=(0, 9)),
            Input(name="y", shape=(1,), levels=(0, 9)),
            Readout(name="o", shape=(1,)),
        ),
        projections=tuple(
            Dense(source=name, target="o", weight=[[3]], weight_exponent=-2) for name in "xy"
        ),
    )
    mapping = make_mapping(network, TOY, [whole(network, "o", 0)])
    for x, want in ((1, 0), (2, 2), (3, 4)):  # 3 >> 2 twice, 6 >> 2 twice, 9 >> 2 twice
        units = {"x": np.array([[x]]), "y": np.array([[x]])}
        assert emulate(network, mapping, units, mode="cycle").readouts["o"].tolist() == [[want]]


def loop() -> tuple[Network, Any]:
    """A neuron that starts at the input and then keeps itself going; each spike is one message."""
    network = Network(
        populations=(
            Input(name="x", shape=(1,), levels=(0, 1)),
            integrate_and_fire(name="a", shape=(1,), vth=9, reset="zero"),
        ),
        projections=(
            Identity(source="x", target="a", weight=np.int8(10)),
            Identity(source="a", target="a", weight=np.int8(10), delay=1, name="loop"),
        ),
        max_steps=12,
    )
    return network, make_mapping(network, TOY, [whole(network, "a", 0)])


def test_time_and_energy_of_a_loop_by_hand() -> None:
    network, mapping = loop()
    x = np.zeros((2, 3, 1), np.int64)
    x[0, 1] = 1
    report = emulate(network, mapping, x, 3, mode="cycle", probes={"a": ("u", "v")})
    # of sample 0 steps 1 and 2; sample 1 starts anew, and without input
    assert report.spikes["a"].tolist() == [[[0], [1], [1]], [[0], [0], [0]]]
    assert report.states["a"]["u"][:, :, 0].tolist() == [[0, 640, 640], [0, 0, 0]]
    assert report.states["a"]["v"].tolist() == np.zeros((2, 3, 1), int).tolist()
    total = report.counts.total()
    assert (total["neuron_updates_active"], total["neuron_updates_idle"]) == (2, 4)
    assert (total["neurons_fired"], total["messages"], total["synaptic_operations"]) == (2, 3, 3)
    # barrier 100; step 1 receives the input's message (within the tile 1, in 4, operation 1).
    # Steps 2 and 3 update (3), fire and send (2), and receive: 1 + 4 + 1; others update (2)
    idle, sending = 100 + 2, 100 + 3 + 1 + 2 + 1 + 4 + 1
    steps = report.timing.step_ps / 1000
    assert steps.tolist() == [100, 100 + 6, sending, sending, idle, idle, idle]
    # of both samples, pJ: operations of 10; updates of 30 and 20; spikes of 5, packets out of 7 and
    # in of 3; within the tile 1 each
    expected = {"synapses": 30, "neurons": 140, "spikes": 10, "packets": 14 + 9, "mesh": 3}
    found = report.energy.parts
    assert {name: 2 * found[name] for name in expected} == expected


@pytest.mark.parametrize("mode", ["counts", "cycle"])
def test_two_compartments_are_updated_twice(mode: str) -> None:
    network = Network(
        populations=(
            Input(name="x", shape=(1,), levels=(0, 1)),
            AdaptiveLif(name="a", shape=(2,), vth=9, du=4095, adaptation=1, da=1),
        ),
        projections=(Dense(source="x", target="a", weight=[[10], [0]]),),
        max_steps=2,
    )
    mapping = make_mapping(network, TOY, [whole(network, "a", 0)])
    x = np.array([[[1], [0]]])
    report = emulate(network, mapping, x, 2, mode=mode)  # type: ignore[arg-type]
    # neuron 0 is active in both steps: it fires, then adapts; the other one never is
    assert report.counts.total()["neuron_updates_active"] == 2 * 2
    assert report.counts.total()["neuron_updates_idle"] == 2 * 2
    assert report.energy.parts["neurons"] == 4 * 30 + 4 * 20
    # its messages have no target; active updates take 3 twice, idle ones 2 twice, firing 1
    assert report.timing.step_ps[1:].tolist() == [111_000, 110_000]


def test_state_that_is_carried_on() -> None:
    network, mapping = loop()
    x = np.zeros((3, 2, 1), np.int64)
    x[0, 1] = 1
    for mode in ("counts", "cycle"):
        alone = emulate(network, mapping, x, 2, mode=mode)  # type: ignore[arg-type]
        assert alone.spikes["a"].sum() == 1
        carried = emulate(network, mapping, x, 2, mode=mode, carry_state=True)  # type: ignore[arg-type]
        assert carried.spikes["a"].reshape(-1).tolist() == [0, 1, 1, 1, 1, 1]
        assert carried.counts.per_sample()["messages"].tolist() == [2, 2, 2]
        with pytest.raises(InputError, match="20 steps and exceed max_steps 12"):
            emulate(network, mapping, np.zeros((10, 1), int), 2, mode=mode, carry_state=True)  # type: ignore[arg-type]


def test_the_command_carries_state_on(tmp_path: Path) -> None:
    network, mapping = loop()
    io.save(tmp_path / "loop.h5", network, mapping=mapping)
    np.save(tmp_path / "x.npy", np.eye(3, 1, dtype=np.int64)[:, None, :].repeat(2, axis=1))
    options = ("emulate", "loop.h5", "--data", "x.npy", "--n-steps", 2, "--json")
    alone = answer(*options, cwd=tmp_path)
    assert "carry_state" not in alone
    assert alone["counts"]["spikes"] == 2
    carried = answer(*options, "--carry-state", cwd=tmp_path)
    assert carried["carry_state"] is True
    assert carried["counts"]["spikes"] == 6
    done = call(
        "emulate", "loop.h5", "--data", "x.npy", "--n-steps", 5, "--carry-state", cwd=tmp_path
    )
    assert (done.status, done.stdout) == (2, "")


def test_probes_of_the_first_samples() -> None:
    network, mapping = loop()
    x = np.ones((3, 1), np.int64)
    for mode in ("counts", "cycle"):
        some = emulate(network, mapping, x, 2, mode=mode, probes={"a": ["v"]}, record_samples=2)  # type: ignore[arg-type]
        assert {name: list(found) for name, found in some.states.items()} == {"a": ["v"]}
        assert some.states["a"]["v"].shape == (2, 2, 1)
        none = emulate(network, mapping, x, 2, mode=mode, probes={"a": ["v"]}, record_samples=0)  # type: ignore[arg-type]
        assert none.states == {}
