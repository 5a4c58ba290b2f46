"""Mapping changes no spike: the emulator on any mapping gives the reference's spikes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from pmsm_hw import Conv2d, Dense, Identity, Input, Network, PolarityMultiSpike, Readout, reference
from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import load_chip, map_network, split_fan_in


def residual_network():
    rng = np.random.default_rng(11)

    def weight(*shape):
        return rng.integers(-60, 61, shape).astype(np.int8)

    def spiking(name, *shape, theta):
        return PolarityMultiSpike(
            name=name, shape=shape, theta=np.array(theta), levels=(1, 2), overflow="saturate"
        )

    return Network(
        name="residual",
        populations=(
            Input(name="in", shape=(2, 6, 6), levels=(-4, 4)),
            spiking("a", 6, 6, 6, theta=90),
            spiking("b", 6, 6, 6, theta=200),
            spiking("c", 6, 6, 6, theta=200),
            spiking("f", 30, theta=500),
            Readout(name="out", shape=(4,), overflow="saturate"),
        ),
        projections=(
            Conv2d(source="in", target="a", weight=weight(6, 2, 3, 3), padding=1),
            Conv2d(source="a", target="b", weight=weight(6, 6, 3, 3), padding=1),
            Conv2d(source="b", target="c", weight=weight(6, 6, 3, 3), padding=1),
            Identity(source="a", target="c", weight=np.array(50, np.int8)),
            Dense(source="c", target="f", weight=weight(30, 216)),
            Dense(source="f", target="out", weight=weight(4, 30)),
        ),
        max_steps=3,
    )


@cache
def mapped(chip_name, objective):
    network, chip = residual_network(), load_chip(chip_name)
    if chip_name == "toy":
        chip = chip.on_board(8)
    return network, map_network(network, chip, objective=objective)


@pytest.mark.parametrize("objective", ["cores", "energy"])
@pytest.mark.parametrize("mode", ["counts", "cycle"])
@pytest.mark.parametrize("chip_name", ["toy", "loihi1", "loihi2"])
def test_emulator_and_reference_agree_on_every_mapping(chip_name, mode, objective):
    network, mapping = mapped(chip_name, objective)
    x = np.random.default_rng(0).integers(-4, 5, (2, 3, 2, 6, 6))
    want = reference.run(network, x, 3)
    report = emulate(network, mapping, x, 3, mode=mode)
    for name, values in want.readouts.items():
        assert np.array_equal(report.readouts[name], values)


@pytest.mark.parametrize("mode", ["counts", "cycle"])
def test_split_fan_in_changes_no_spike_on_the_chip(mode):
    network = residual_network()
    data = load_chip("toy").to_dict()
    data["limits"]["population_axons"]["value"] = False
    data["limits"]["input_axons"]["value"] = 100
    chip = type(load_chip("toy")).model_validate(data).on_board(20)
    split = split_fan_in(network, chip)
    assert any(p.name.startswith("f.sum") for p in split)
    x = np.random.default_rng(0).integers(-4, 5, (2, 3, 2, 6, 6))
    want = reference.run(network, x, 3)
    report = emulate(split, map_network(split, chip), x, 3, mode=mode, record=["a", "c", "f"])
    assert np.array_equal(report.readouts["out"], want.readouts["out"])
    for name in ("a", "c", "f"):
        assert np.array_equal(report.spikes[name], want.spikes[name])
