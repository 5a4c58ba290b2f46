"""Random networks on random chips: all limits hold by brute-force recount, or a CapacityError."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from brute_counts import check
from hypothesis import given
from hypothesis import strategies as st
from quick import examples

from pmsm_hw import (
    AdaptiveLif,
    Conv1d,
    Conv2d,
    CubaLif,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
)
from pmsm_hw.errors import CapacityError, MappingError
from pmsm_hw.mapping import Mapping, fan_out, load_chip, map_network
from pmsm_hw.mapping.chip import parse_chip
from pmsm_hw.mapping.partition.packing import pack
from pmsm_hw.mapping.partition.tiling import cut_network
from pmsm_hw.mapping.placement.bundles import bundles_of
from pmsm_hw.mapping.placement.places import links_of, place_bundles
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.mapping.resources.usage import count_usage
from pmsm_hw.mapping.routing.traffic import core_traffic, rates_of
from pmsm_hw.operators import chw, lowered, synapses


def otherwise(draw, rng, projection, gains):
    """At times with delays of its synapses, or shifted to the right."""
    if isinstance(projection, Dense | Conv1d | Conv2d) and draw(st.integers(0, 3)) == 0:
        most = draw(st.integers(1, 4))
        projection = replace(projection, delays=rng.integers(0, most + 1, projection.weight.shape))
    if draw(st.integers(0, 3)) == 0 and len({abs(gain) for gain in gains}) == 1:
        projection = replace(projection, weight_exponent=draw(st.integers(-8, -1)))
    return projection


def neurons(draw, rng, name, shape):
    """Of one of three models, which differ in what they take of a core."""
    size = draw(st.sampled_from([(), shape[:1] if len(shape) > 1 else ()]))
    kind = draw(st.sampled_from(["polarity", "polarity", "cuba", "adaptive"]))
    if kind == "polarity":
        return PolarityMultiSpike(
            name=name,
            shape=shape,
            theta=rng.integers(100, 110, size),
            levels=(draw(st.integers(0, 2)), draw(st.integers(1, 3))),
            gains=draw(st.sampled_from([(1, 1), (4, 1), (1, -1), (2, 1)])),
            overflow="saturate",
        )
    model = {"cuba": CubaLif, "adaptive": AdaptiveLif}[kind]
    return model(
        name=name, shape=shape, vth=rng.integers(100, 103, size), du=rng.integers(0, 2, size)
    )


def weights(rng, density, *shape):
    lo, hi = [(-128, 1), (-3, 4), (0, 2), (-120, 128)][rng.integers(4)]
    return (rng.integers(lo, hi, shape) * (rng.random(shape) < density)).astype(np.int8)


@st.composite
def networks(draw):
    """Chains of random projections: skips, loops, groups, strides, gains, delays, three models."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.1, 0.5, 1.0]))
    three = draw(st.booleans())
    shape = (draw(st.integers(1, 4)), draw(st.integers(3, 7)))
    if three:
        shape += (draw(st.integers(3, 7)),)
    lo = draw(st.sampled_from([0, 0, -7]))
    populations = [Input(name="p0", shape=shape, levels=(lo, 15))]
    projections = []
    for i in range(1, draw(st.integers(2, 5))):
        source = populations[-1]
        name = f"p{i}"
        kind = draw(st.sampled_from(["dense", "conv", "pool", "identity", "depthwise"]))
        if len(source.shape) == 1:
            kind = "dense"
        nd = len(source.shape) - 1
        common = {"source": source.name, "target": name}
        if kind == "dense":
            n = draw(st.integers(1, 40))
            p = Dense(weight=weights(rng, density, n, source.n_neurons), **common)
        elif kind in ("conv", "depthwise"):
            c = source.shape[0]
            groups = c if kind == "depthwise" else 1
            c_out = draw(st.integers(1, 3)) * groups if groups > 1 else draw(st.integers(1, 9))
            k = tuple(min(draw(st.integers(1, 3)), s) for s in source.shape[1:])
            p = (Conv2d if nd == 2 else Conv1d)(
                weight=weights(rng, density, c_out, c // groups, *k),
                stride=draw(st.integers(1, 2)),
                padding=draw(st.integers(0, 2)),
                groups=groups,
                **common,
            )
        elif kind == "pool":
            k = tuple(min(2, s) for s in source.shape[1:])
            p = SumPool(kernel=k, stride=k, **common)
        else:
            p = Identity(**common)
        shape = p.output_shape(source.shape)
        populations.append(neurons(draw, rng, name, shape))
        projections.append(otherwise(draw, rng, p, getattr(source, "gains", (1, 1))))
        if draw(st.booleans()) and i >= 2:  # skip from further up
            back = draw(st.integers(0, i - 2))
            far = populations[back]
            n_post = populations[-1].n_neurons
            projections.append(
                Dense(
                    source=far.name,
                    target=name,
                    weight=weights(rng, density, n_post, far.n_neurons),
                    name=f"skip{i}",
                )
            )
        if draw(st.integers(0, 3)) == 0:  # recurrence
            projections.append(
                Identity(source=name, target=name, delay=draw(st.integers(1, 2)), name=f"loop{i}")
            )
    readout = Readout(name="out", shape=(draw(st.integers(1, 5)),), overflow="saturate")
    projections.append(
        Dense(
            source=populations[-1].name,
            target="out",
            weight=weights(rng, density, readout.n_neurons, populations[-1].n_neurons),
        )
    )
    return Network(populations=(*populations, readout), projections=tuple(projections), max_steps=2)


@st.composite
def chips(draw):
    data = load_chip("toy").model_dump(exclude_none=True)

    def put(section, **values):
        for key, value in values.items():
            data[section][key] = {
                **data[section].get(
                    key, {"unit": "configurations", "source": "t", "kind": "assumed"}
                ),
                "value": value,
            }

    put("mesh", columns=draw(st.integers(1, 8)), rows=draw(st.integers(1, 8)))
    put("mesh", cores_per_tile=draw(st.integers(1, 4)))
    put("board", columns=draw(st.integers(1, 2)), rows=draw(st.integers(1, 2)))
    put(
        "limits",
        neurons=draw(st.integers(4, 100)),
        input_axons=draw(st.integers(8, 300)),
        output_axons=draw(st.integers(8, 600)),
        synapse_memory_bits=draw(st.integers(1000, 60000)),
        synapse_block_weights=draw(st.integers(1, 20)),
        synapse_block_header_bits=draw(st.integers(0, 10)),
        synapse_word_bits=draw(st.sampled_from([1, 8, 64])),
        population_axons=draw(st.booleans()),
        population_axon_entries=draw(st.integers(1, 2)),
    )
    if draw(st.booleans()):
        put(
            "limits",
            threshold_configurations=draw(st.integers(1, 5)),
            neuron_configurations=draw(st.integers(1, 3)),
            synapse_configurations=draw(st.integers(2, 5)),
        )
    put("spikes", modes=draw(st.sampled_from([["unit"], ["graded"], ["graded", "unit"]])))
    put("spikes", signed=draw(st.booleans()))
    return parse_chip(data)


def explain(error):
    """A capacity error names its object, the need and the limit."""
    assert error.actual is not None
    assert error.limit is not None
    assert error.actual > error.limit
    assert error.subject.split(" ")[0] in ("population", "network", "projection")


@examples(8)
@given(networks(), chips(), st.sampled_from(["cores", "latency", "energy"]))
def test_random_networks_on_random_chips(network, chip, objective):
    try:
        mapping = map_network(network, chip, objective=objective)
    except CapacityError as error:
        explain(error)
        return
    check(network, chip, mapping)
    mapping.check(network)
    assert Mapping.from_dict(mapping.to_dict()) == mapping
    assert map_network(network, chip, objective=objective) == mapping


@given(networks(), chips(), st.booleans())
def test_bundles_add_up_on_whichever_cores_they_are(network, chip, any_kind):
    try:
        resources = Resources(network, chip)
        cut = cut_network(resources)
    except CapacityError:
        return
    cores = pack(resources, cut.blocks, cut.entries)
    chip = chip.on_board(-(-len(cores) // (chip.n_cores // chip.n_chips)))
    bundles = bundles_of(resources, cores)
    traffic = core_traffic(resources, bundles.blocks, rates_of(network, None))
    links = links_of(traffic, len(bundles.blocks))
    _, home = place_bundles(chip, links, bundles, any_kind=any_kind, effort=0.02)
    if not any_kind:
        assert [sorted(bundles.kind[bundles.home == c].tolist()) for c in range(len(cores))] == [
            sorted(bundles.kind[home == c].tolist()) for c in range(len(cores))
        ]
    for where in (bundles.home, home):
        found = bundles.cores(where, [p.name for p in resources.placed])
        assert len(found) == len(cores)
        assert all(found)
        if where is bundles.home:
            assert found == cores
        usage = np.zeros((len(cores), 4), np.int64)
        np.add.at(usage, where, bundles.need[:, :4])
        assert np.array_equal(count_usage(resources, found), usage)
        assert (usage <= bundles.capacity[:4]).all()
        direct = core_traffic(resources, found, rates_of(network, None))
        summed = traffic.gathered(where)
        for one, other in ((direct, summed), (summed, direct)):
            mine = list(zip(one.source, one.target, one.depth, one.messages, strict=True))
            theirs = list(zip(other.source, other.target, other.depth, other.messages, strict=True))
            assert sorted(mine) == sorted(theirs)
        assert direct.deliveries == summed.deliveries
        assert direct.inter_core == summed.inter_core
        assert direct.inputs == summed.inputs


@examples(20)
@given(networks(), st.data())
def test_fan_out_equals_the_synapse_list(network, data):
    projection = data.draw(st.sampled_from(network.projections))
    shape = network[projection.target].shape
    ranges = []
    for n in chw(shape):
        a = data.draw(st.integers(0, n - 1))
        ranges.append((a, data.draw(st.integers(a + 1, n))))
    from pmsm_hw.mapping import Block

    block = Block(
        population=projection.target, channels=ranges[0], rows=ranges[1], columns=ranges[2], core=0
    )
    pre, post, _ = synapses(lowered(network, projection))
    want = np.bincount(
        pre[np.isin(post, block.neurons(shape))], minlength=network[projection.source].n_neurons
    )
    assert np.array_equal(fan_out(network, projection, block), want)


def test_gains_that_are_no_powers_of_two_need_graded_spikes():
    network = Network(
        populations=(
            Input(name="in", shape=(2,), levels=(0, 3)),
            PolarityMultiSpike(
                name="a", shape=(2,), theta=np.array(2), levels=(1, 1), gains=(3, 1),
            ),
            Readout(name="out", shape=(2,)),
        ),
        projections=(
            Dense(source="in", target="a", weight=np.array([[1, -1], [2, 1]], np.int8)),
            Dense(source="a", target="out", weight=np.eye(2, dtype=np.int8)),
        ),
    )  # fmt: skip
    with pytest.raises(MappingError, match=r"population 'a': gains \(3, 1\).*powers of two"):
        map_network(network, load_chip("loihi1"))
    map_network(network, load_chip("toy"))
