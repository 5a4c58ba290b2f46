"""Inputs of a dense layer whose weights are all zero cost nothing: no axon, memory or message."""

from __future__ import annotations

import numpy as np
import pytest
from brute_counts import brute_usage

from pmsm_hw import Dense, Identity, Input, Network, PolarityMultiSpike, Readout, reference
from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.mapping.chip import parse_chip
from pmsm_hw.mapping.resources import Resources

LIVE = np.random.default_rng(0).permutation(400)[:200]
"""Half of the source's neurons, anywhere."""


def layer(n_out, *, live_only=False, shape=(400,), hidden=False):
    """A dense layer of 400 inputs, 200 of which have weights; or without the other ones."""
    rng = np.random.default_rng(1)
    weight = np.zeros((n_out, 400), np.int8)
    weight[:, np.sort(LIVE)] = rng.integers(1, 8, (n_out, 200))
    weight[::7] = 0  # outputs without a weight take a neuron each, as any
    if live_only:
        weight, shape = weight[:, np.sort(LIVE)], (200,)
    populations = [Input(name="in", shape=shape, levels=(0, 1))]
    projections = []
    if hidden:
        populations.append(
            PolarityMultiSpike(name="a", shape=shape, theta=np.array(1), levels=(0, 1))
        )
        projections.append(Identity(source="in", target="a"))
    projections.append(Dense(source=populations[-1].name, target="out", weight=weight))
    populations.append(Readout(name="out", shape=(n_out,)))
    return Network(populations=tuple(populations), projections=tuple(projections))


def chip_with(**limits):
    data = load_chip("toy").to_dict()
    data["limits"].update(
        {key: {**data["limits"][key], "value": value} for key, value in limits.items()}
    )
    return parse_chip(data)


@pytest.mark.parametrize("chip", [chip_with(), chip_with(input_axons=200)])
def test_a_layer_takes_the_cores_that_it_takes_without_its_dead_inputs(chip):
    """With 256 axons a core, 400 inputs fit none: 200 do."""
    mapping = map_network(layer(100), chip, objective="cores")
    without = map_network(layer(100, live_only=True), chip, objective="cores")
    assert np.array_equal(mapping.usage, without.usage)
    assert mapping.metrics == without.metrics


@pytest.mark.parametrize("shape", [(400,), (4, 10, 10), (1, 20, 20)])
@pytest.mark.parametrize("entries", [1, 2])
def test_dead_neurons_cost_an_update_but_no_axon_entry_or_message(shape, entries):
    chip = chip_with(population_axon_entries=entries, input_axons=200, neurons=400)
    network = layer(40, shape=shape, hidden=True)
    mapping = map_network(network, chip, objective="cores")
    mapping.check(network)
    assert np.array_equal(brute_usage(network, chip, mapping), mapping.usage)
    assert mapping.metrics["lower_bound"] <= mapping.metrics["n_cores"]
    n_out = len({b.core for b in mapping.blocks_in("out")})
    assert mapping.metrics["deliveries"] == 200 * n_out
    x = np.ones((2, *shape), np.int64)  # every neuron of a fires once
    report = emulate(network, mapping, x, 1)
    counted = emulate(network, mapping, x, 1, mode="cycle")
    for one in (report, counted):
        counts = one.counts
        assert counts.fired.sum() == 2 * 800  # inputs too
        assert counts.messages_in.sum() == 2 * (200 * n_out + 400)  # and those of the input
        assert counts.messages_out.sum() == counts.messages_in.sum()
        assert np.array_equal(one.readouts["out"], reference.run(network, x, 1).readouts["out"])


def test_a_layer_without_any_weight_is_placed():
    network = layer(8)
    projection = network.projections[0]
    empty = Network(
        populations=network.populations,
        projections=(Dense(source="in", target="out", weight=np.zeros_like(projection.weight)),),
    )
    mapping = map_network(empty, load_chip("toy"))
    assert mapping.usage[:, 1:].sum() == 0
    assert Resources(empty, load_chip("toy")).wires["in->out"].n_live == 0
