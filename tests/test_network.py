"""Structure and validation of networks."""

from __future__ import annotations

import dataclasses

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_networks import random_network, with_delays

from pmsm_hw.errors import NetworkError
from pmsm_hw.network import (
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
    by_delay,
)
from pmsm_hw.operators import count_synapses, fan_in, lowered, synapses


def chain(*extra, max_steps=2, **neuron):
    neuron = {"theta": 5, "levels": (1, 2), **neuron}
    return Network(
        populations=(
            Input(name="x", shape=(4,), levels=(0, 3)),
            PolarityMultiSpike(name="a", shape=(3,), **neuron),
            PolarityMultiSpike(name="b", shape=(3,), **neuron),
            Readout(name="y", shape=(2,)),
        ),
        projections=(
            Dense(source="x", target="a", weight=np.ones((3, 4), np.int8)),
            Dense(source="a", target="b", weight=np.ones((3, 3), np.int8)),
            Dense(source="b", target="y", weight=np.ones((2, 3), np.int8)),
            *extra,
        ),
        max_steps=max_steps,
    )


def test_depth_delays_and_hardware_steps():
    network = chain(Dense(source="a", target="y", weight=np.ones((2, 3), np.int8)))
    assert network.depths == {"x": 0, "a": 1, "b": 2, "y": 3}
    assert network.depth == 3
    delays = {p.name: network.hardware_delay(p) for p in network.projections}
    assert delays == {"x->a": 1, "a->b": 1, "b->y": 1, "a->y": 2}
    assert network.hardware_steps(2) == 4
    assert network.hardware_steps(2, 5) == 12


def test_equal_seeds_give_equal_networks_and_any_change_is_seen():
    a, b = random_network(3), random_network(3)
    assert a == b
    assert a.fingerprint == b.fingerprint
    changed = dataclasses.replace(a, max_steps=a.max_steps + 1)
    assert a != changed
    assert a.fingerprint != changed.fingerprint
    renamed = dataclasses.replace(a, name="other")
    assert a != renamed
    assert a.fingerprint == renamed.fingerprint  # a name computes nothing


def test_one_weight_decides_equality():
    a, b = chain(), chain()
    weight = np.ones((3, 4), np.int8)
    weight[2, 3] = 2
    b = dataclasses.replace(
        b, projections=(Dense(source="x", target="a", weight=weight), *b.projections[1:])
    )
    assert a != b
    assert a.fingerprint != b.fingerprint


def test_delays_that_are_all_0_are_none():
    options = {"source": "x", "target": "a", "weight": [[1, 2]]}
    assert Dense(**options, delays=[[0, 0]]) == Dense(**options)
    delayed = Dense(**options, delays=[[0, 62]], delay=3)
    assert (delayed.delays.dtype, delayed.max_delay, delayed.n_parameters) == (np.uint8, 65, 4)
    assert Dense(**options, delay=3).max_delay == 3


@given(seed=st.integers(0, 10**6))
def test_parts_by_delay_are_the_projection(seed):
    for q in with_delays(random_network(seed), seed).projections:
        parts = by_delay(q)
        delays = [part.delay - q.delay for part in parts]
        assert delays == sorted(set(delays))
        assert all(part.delays is None for part in parts)
        assert len(parts) == 1 or all(part.weight.any() for part in parts)
        np.testing.assert_array_equal(sum(part.weight.astype(int) for part in parts), q.weight)
        if q.delays is not None:
            found = sum((part.weight != 0) * d for part, d in zip(parts, delays, strict=True))
            np.testing.assert_array_equal(found, (q.weight != 0) * q.delays)


@given(seed=st.integers(0, 10**6))
def test_components_are_the_strongly_connected_ones_in_order(seed):
    network = with_delays(random_network(seed, n_layers=6), seed)
    graph = network.to_networkx()
    components = [{p.name for p in component} for component in network.components]
    assert sorted(map(sorted, components)) == sorted(
        map(sorted, nx.strongly_connected_components(graph))
    )
    place = {name: i for i, component in enumerate(components) for name in component}
    assert all(place[q.source] <= place[q.target] for q in network.projections)
    cyclic = [network.is_cycle(component) for component in network.components]
    assert network.is_recurrent == any(cyclic) == (not nx.is_directed_acyclic_graph(graph))


def test_arrays_are_read_only_and_copied():
    weight = np.ones((3, 4), np.int8)
    projection = Dense(source="x", target="a", weight=weight)
    weight[0, 0] = 7
    assert projection.weight[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        projection.weight[0, 0] = 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        projection.delay = 1


def test_networkx_view():
    graph = chain().to_networkx()
    assert list(nx.topological_sort(graph)) == ["x", "a", "b", "y"]
    assert graph.nodes["a"]["shape"] == (3,)
    assert graph.edges["x", "a", "x->a"]["kind"] == "dense"


def test_summary_counts():
    text = chain().summary()
    assert "8 neurons, 27 synapses" in text
    row = next(line for line in text.splitlines() if line.strip().startswith("b "))
    assert row.split()[1:8] == ["polarity_multi_spike", "3", "3", "3", "9", "12", "2"]
    assert "depth 3" in repr(chain())


@given(seed=st.integers(0, 10**6))
def test_counts_equal_the_explicit_synapse_list(seed):
    network = random_network(seed)
    into = {p.name: np.zeros(p.n_neurons, int) for p in network}
    total = 0
    for projection in network.projections:
        pre, post, weight = synapses(lowered(network, projection))
        assert len(pre) == count_synapses(network, projection)
        assert (weight != 0).all()
        np.add.at(into[projection.target], post, 1)
        total += len(pre)
    assert total == network.n_synapses
    for population in network:
        np.testing.assert_array_equal(
            fan_in(network, population.name).reshape(-1), into[population.name]
        )


def neuron(**changes):
    return PolarityMultiSpike(
        **{"name": "n", "shape": (4, 2), "theta": 3, "levels": (1, 2)} | changes
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: neuron(theta=0), r"population 'n': theta lies in \[0, 0\], the limits are 1"),
        (lambda: neuron(theta=[1, 2, 3]), r"theta has shape \(3,\), the population takes"),
        (lambda: neuron(theta=1.5), r"theta has dtype float64"),
        (lambda: neuron(bias=1 << 24), r"bias lies in .*the limits are"),
        (lambda: neuron(levels=(-1, 2)), r"levels \(-1, 2\) are not within"),
        (lambda: neuron(levels=(0, 0)), r"are not within 0 to 32,767 and 1 to 32,767"),
        (lambda: neuron(levels=(0, 1.5)), r"not two integers"),
        (lambda: neuron(gains=(0, 1)), r"gains \(0, 1\)"),
        (lambda: neuron(rule="leak"), r"rule 'leak' is not one of carry, reset, bounded"),
        (lambda: neuron(name="a/b"), r"holds a slash"),
        (lambda: neuron(shape=()), r"shape \(\) is not 1 to 3 positive sizes"),
        (lambda: neuron(shape=(0, 2)), r"not 1 to 3 positive sizes"),
        (lambda: Input(name="x", shape=(1,), scale=0), r"scale 0 is not a finite number > 0"),
        (lambda: Input(name="x", shape=(1,), levels=(3, 2)), r"levels \(3, 2\)"),
        (lambda: Readout(name="y", shape=(1,), scale=np.nan), r"NaN or infinity"),
        (
            lambda: Dense(source="x", target="a", weight=[[-1, 128]]),
            r"projection 'x->a': weights lie in \[-1, 128\], int8 holds",
        ),
        (lambda: Dense(source="x", target="a", weight=[1]), r"2 non-empty axes"),
        (
            lambda: Dense(source="x", target="a", weight=[[1]], weight_exponent=8),
            r"weight_exponent 8 is outside -8..7",
        ),
        (
            lambda: Dense(source="x", target="a", weight=[[1, 2]], delays=[[0], [1]]),
            r"delays have shape \(2, 1\), the weights \(1, 2\)",
        ),
        (
            lambda: Dense(source="x", target="a", weight=[[1, 2]], delays=[[0, 63]]),
            r"delays lie in \[0, 63\], limits: 0 and 62",
        ),
        (
            lambda: Dense(source="x", target="a", weight=[[1]], delays=[[1]], delay=4096),
            r"delay 4096 and delays of up to 1 exceed 4096 together",
        ),
        (
            lambda: Dense(source="x", target="a", weight=[[1]], delay=-1),
            r"delay -1 is outside 0..4096",
        ),
        (
            lambda: Conv2d(source="x", target="a", weight=np.ones((3, 1, 1, 1), int), groups=2),
            r"2 groups do not divide 3",
        ),
        (
            lambda: Conv2d(source="x", target="a", weight=np.ones((3, 1, 1, 1), int), stride=0),
            r"stride 0 is not 2 integers >= 1",
        ),
        (
            lambda: SumPool(source="x", target="a", kernel=(2,), stride=2, padding=((0, -1),)),
            r"padding .* pairs \(before, after\) >= 0",
        ),
        (lambda: chain(max_steps=0), r"max_steps 0 is outside 1..4096"),
        (lambda: Network(populations=(), projections=()), r"has no population"),
        (
            lambda: chain(Identity(source="x", target="nowhere")),
            r"population 'nowhere' does not exist; the network has a, b, x, y",
        ),
        (
            lambda: chain(Dense(source="a", target="x", weight=np.ones((4, 3), int))),
            r"target 'x' is an input",
        ),
        (
            lambda: chain(Dense(source="y", target="a", weight=np.ones((3, 2), int))),
            r"source 'y' is a readout",
        ),
        (
            lambda: chain(Dense(source="a", target="b", weight=np.ones((3, 3), int))),
            r"projection name 'a->b' stands twice",
        ),
        (
            lambda: chain(Dense(source="x", target="y", weight=np.ones((2, 5), int))),
            r"weight has 5 columns, source 'x' has 4 neurons",
        ),
        (
            lambda: chain(Identity(source="x", target="b")),
            r"gives shape \(4,\) from \(4,\), target 'b' has \(3,\)",
        ),
        (
            lambda: chain(Identity(source="b", target="a")),
            r"populations a, b form a cycle without delay",
        ),
        (
            lambda: chain(Identity(source="b", target="a", delay=1)),
            r"delay 1 is too short.*use delay >= 2",
        ),
        (lambda: chain()["nowhere"], r"population 'nowhere' does not exist"),
    ],
)
def test_what_breaks_the_contract_is_refused(build, message):
    with pytest.raises(NetworkError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_long_enough_delay_is_accepted():
    network = chain(Identity(source="b", target="a", delay=2))
    assert network.is_recurrent
    assert network.hardware_delay(network.projections[-1]) == 1
