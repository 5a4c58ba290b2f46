"""Split fan-ins fit, and change no spike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quick import examples

from pmsm_hw import (
    Conv2d,
    CubaLif,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    reference,
)
from pmsm_hw.errors import CapacityError
from pmsm_hw.mapping import load_chip, map_network, split_fan_in
from pmsm_hw.mapping.transforms import fan_in as fan_in_module


def limited(chip, **limits):
    data = load_chip(chip).to_dict()
    for key, value in limits.items():
        data["limits"][key]["value"] = value
    return type(load_chip(chip)).model_validate(data)


def same(before, after, x, n_steps):
    a = reference.run(before, x, n_steps)
    b = reference.run(after, x, n_steps, record=list(a.spikes))
    for name, spikes in a.spikes.items():
        assert np.array_equal(spikes, b.spikes[name]), name
    for name, values in a.readouts.items():
        assert np.array_equal(values, b.readouts[name]), name
        assert np.array_equal(a.logits[name], b.logits[name]), name


def fan_in_fits(error):
    assert "input axons" not in str(error)


@pytest.mark.parametrize("sliced", [False, True])
@examples(6)
@given(st.data())
def test_split_networks_give_the_same_spikes_and_fit(sliced, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = data.draw(st.sampled_from([(70,), (6, 12), (3, 5, 5)]))
    levels = data.draw(st.sampled_from([(0, 3), (-3, 3)]))
    n = int(np.prod(shape))
    hidden = data.draw(st.integers(2, 12))
    delay = data.draw(st.integers(0, 1))
    exponent = data.draw(st.integers(0, 2))
    populations = [
        Input(name="in", shape=shape, levels=levels),
        PolarityMultiSpike(
            name="a", shape=(hidden,), theta=np.array(60), levels=(2, 3), gains=(2, 1),
            overflow="saturate",
        ),
        PolarityMultiSpike(
            name="b", shape=(hidden,), theta=np.array(200), levels=(1, 2),
            rule=data.draw(st.sampled_from(["carry", "reset"])), overflow="saturate",
        ),
        Readout(name="out", shape=(3,), overflow="saturate"),
    ]  # fmt: skip
    w = lambda *s: rng.integers(-128, 128, s).astype(np.int8)  # noqa: E731
    delays = rng.integers(0, 4, (hidden, n)) if data.draw(st.booleans()) else None
    projections = [
        Dense(source="in", target="a", weight=w(hidden, n), weight_exponent=exponent, delay=delay,
              delays=delays),
        Dense(source="a", target="b", weight=w(hidden, hidden)),
        Identity(source="b", target="b", delay=1),
        Dense(source="in", target="b", weight=w(hidden, n), name="skip"),
        Dense(source="b", target="out", weight=w(3, hidden)),
    ]  # fmt: skip
    network = Network(populations=tuple(populations), projections=tuple(projections), max_steps=3)
    chip = limited(
        "toy", input_axons=data.draw(st.sampled_from([30, 60])), synapse_memory_bits=6000,
        population_axons=data.draw(st.booleans()),
    )  # fmt: skip
    keep = fan_in_module._COPIES
    fan_in_module._COPIES = 0 if sliced else keep
    try:
        split = split_fan_in(network, chip)
    finally:
        fan_in_module._COPIES = keep
    if split is not network:
        assert any(".sum" in p.name for p in split)
        assert any(".slice" in p.name for p in split) == sliced
    x = rng.integers(levels[0], levels[1] + 1, (4, 3, *shape))
    same(network, split, x, 3)
    try:
        mapping = map_network(split, chip.on_board(50))
    except CapacityError as error:
        # fan-in fits now; other limits are not this pass's business
        fan_in_fits(error)
    else:
        mapping.check(split)


def test_5000_inputs_fit_loihi_1_after_the_split():
    rng = np.random.default_rng(0)
    network = Network(
        populations=(
            Input(name="in", shape=(5000,), levels=(0, 3)),
            PolarityMultiSpike(name="a", shape=(20,), theta=np.array(900), levels=(0, 1)),
            Readout(name="out", shape=(4,)),
        ),
        projections=(
            Dense(source="in", target="a", weight=rng.integers(-9, 10, (20, 5000))),
            Dense(source="a", target="out", weight=rng.integers(-9, 10, (4, 20))),
        ),
        max_steps=2,
    )
    chip = load_chip("loihi1")
    with pytest.raises(CapacityError, match=r"'a': one neuron needs 4,7\d\d input axons"):
        map_network(network, chip)
    split = split_fan_in(network, chip)
    map_network(split, chip).check(split)
    same(network, split, rng.integers(0, 4, (3, 5000)), 2)
    assert split.depth == network.depth + 1
    small = split_fan_in(split, chip)
    assert small is split


@pytest.mark.parametrize("shape", [(1, 14, 14), (2, 12, 11), (1, 150)])
def test_images_of_more_pixels_than_axons_are_split_by_pixels(shape):
    rng = np.random.default_rng(0)
    n = int(np.prod(shape))
    network = Network(
        populations=(
            Input(name="in", shape=shape, levels=(0, 1)),
            PolarityMultiSpike(name="a", shape=shape, theta=np.array(1), levels=(0, 1)),
            Readout(name="out", shape=(2,)),
        ),
        projections=(
            Identity(source="in", target="a"),
            Dense(source="a", target="out", weight=rng.integers(1, 3, (2, n))),
        ),
    )
    chip = limited("toy", input_axons=100)
    with pytest.raises(CapacityError, match=r"'out': one neuron needs .* input axons") as caught:
        map_network(network, chip)
    assert "in Python, pmsm_hw.mapping.split_fan_in(network, chip)" in caught.value.remedy
    split = split_fan_in(network, chip)
    map_network(split, chip.on_board(4), time_limit_s=0.01).check(split)
    same(network, split, rng.integers(0, 2, (2, *shape)), 1)


def looped(**loop):
    """Sixty neurons that all reach each other, too many for forty axons; their depth is 3."""
    rng = np.random.default_rng(0)
    common = {"weight": rng.integers(-9, 10, (60, 60))} | loop
    return Network(
        populations=(
            Input(name="in", shape=(4,), levels=(0, 3)),
            *(
                PolarityMultiSpike(name=name, shape=(4,), theta=np.array(1), levels=(0, 3))
                for name in "bc"
            ),
            CubaLif(name="a", shape=(60,), vth=20, du=1000, dv=100),
        ),
        projections=(
            Identity(source="in", target="b"),
            Identity(source="b", target="c"),
            Dense(source="c", target="a", weight=rng.integers(0, 30, (60, 4))),
            Dense(source="a", target="a", name="loop", **common),
        ),
        max_steps=6,
    )


@pytest.mark.parametrize("delays", [None, "each"])
def test_a_loop_with_a_step_to_spare_is_split(delays):
    rng = np.random.default_rng(1)
    network = looped(delay=2, delays=rng.integers(0, 3, (60, 60)) if delays else None)
    split = split_fan_in(network, limited("toy", input_axons=40))
    assert [p.name for p in split if ".sum" in p.name] == ["a.sum0", "a.sum1"]
    # the relays come after the neurons, and their delay behind them
    assert [split.depths[name] for name in ("a", "a.sum0", "a.sum1")] == [3, 4, 4]
    x = rng.integers(0, 4, (3, 6, 4))
    same(network, split, x, 6)
    assert 0 < reference.run(network, x, 6).spikes["a"].mean() < 1


def test_loops_and_sums_that_cannot_be_split_are_refused_by_name():
    chip = limited("toy", input_axons=40)
    with pytest.raises(CapacityError, match=r"64 input axons.*delay 1 is too short"):
        split_fan_in(looped(delay=1), chip)
    with pytest.raises(CapacityError, match="'loop' shifts its sum by -2, which its parts cannot"):
        split_fan_in(looped(delay=2, weight_exponent=-2), chip)


def test_what_no_split_helps_is_not_told_to_be_split():
    """A relay for every 8 inputs, 63 of them: their sums exceed 10 axons in turn."""
    network = Network(
        populations=(
            Input(name="in", shape=(500,), levels=(0, 1)),
            Readout(name="out", shape=(2,)),
        ),
        projections=(Dense(source="in", target="out", weight=np.ones((2, 500), np.int8)),),
    )
    with pytest.raises(CapacityError, match="input axons") as caught:
        split_fan_in(network, limited("toy", input_axons=8))
    assert caught.value.remedy.startswith("splitting its fan-in does not help")


def test_convolutions_are_split_along_channels():
    rng = np.random.default_rng(0)
    network = Network(
        populations=(
            Input(name="in", shape=(64, 6, 6), levels=(0, 3)),
            PolarityMultiSpike(name="a", shape=(8, 6, 6), theta=np.array(900), levels=(0, 1)),
        ),
        projections=(
            Conv2d(source="in", target="a", weight=rng.integers(-9, 10, (8, 64, 3, 3)), padding=1),
        ),
    )
    chip = limited("toy", input_axons=200, population_axons=False)
    with pytest.raises(CapacityError, match="input axons"):
        map_network(network, chip.on_board(20))
    split = split_fan_in(network, chip)
    map_network(split, chip.on_board(200)).check(split)
    same(network, split, rng.integers(0, 4, (2, 64, 6, 6)), 1)


def test_an_input_that_overflows_a_spike_cannot_be_split():
    network = Network(
        populations=(
            Input(name="in", shape=(1, 600), levels=(0, 1000)),
            Readout(name="out", shape=(2,), overflow="saturate"),
        ),
        projections=(Dense(source="in", target="out", weight=np.full((2, 600), 127, np.int8)),),
    )
    with pytest.raises(
        CapacityError, match=r"adds up to 127,000 over 1 inputs of one pixel, a relay sends 32,767"
    ):
        split_fan_in(network, limited("toy", population_axons=False))
