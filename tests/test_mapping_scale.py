"""Networks of many populations: what is counted once for those that are alike holds for each."""

from __future__ import annotations

import numpy as np
import pytest
from brute_counts import check

from pmsm_hw import Dense, Identity, Input, Network, PolarityMultiSpike
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.mapping.partition import packing, tiling
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.mapping.routing import traffic


def chain(n, **changed):
    """Populations of 64 neurons, a core of the toy chip, a connection of some changed."""
    populations = [Input(name="p0", shape=(64,), levels=(0, 3))]
    projections = []
    for i in range(1, n + 1):
        name = f"p{i}"
        populations.append(PolarityMultiSpike(name=name, shape=(64,), theta=2, levels=(0, 3)))
        common = {"source": f"p{i - 1}", "target": name, "name": f"q{i}"}
        projections += changed.get(name, lambda common: [Identity(**common)])(common)
    return Network(populations=populations, projections=projections, max_steps=2)


def with_zeros(common):
    weight = np.eye(64, dtype=np.int8) * 3
    weight[:, 0] = 1
    return [Dense(weight=weight, **common)]


def twice(common):
    """Two projections of one source, which share its axons."""
    return [Identity(**common), Identity(**{**common, "name": "more"})]


def from_two(common):
    """Two projections of different sources, which do not."""
    return [Identity(**common), Identity(source="p1", target=common["target"], name="skip")]


CHANGED = {"p3": with_zeros, "p5": twice, "p6": from_two}


def test_only_populations_that_need_the_same_are_alike():
    network = chain(8, **CHANGED)
    resources = Resources(network, load_chip("toy"))
    like = {p.name: resources.like(p.name) for p in resources.placed}
    assert {name for name, first in like.items() if first == name} >= {"p3", "p5", "p6"}
    assert like["p2"] == like["p4"] == like["p7"] == like["p8"] != like["p3"]


@pytest.mark.parametrize("objective", ["latency", "cores"])
def test_alike_populations_are_counted_as_one_by_one(objective):
    network, chip = chain(8, **CHANGED), load_chip("toy")
    check(network, chip, map_network(network, chip, objective=objective))


def test_networks_of_more_populations_than_are_searched_are_mapped(monkeypatch):
    network, chip = chain(8, **CHANGED), load_chip("toy")
    searched = map_network(network, chip)
    monkeypatch.setattr(tiling, "_MOST_SEARCHED", 4)
    monkeypatch.setattr(packing, "_MOST_KINDS", 4)
    mapping = map_network(network, chip)
    check(network, chip, mapping)
    assert len(mapping.cores) == len(searched.cores) == 8


def test_messages_that_are_summed_in_parts_are_alike(monkeypatch):
    network, chip = chain(8, **CHANGED), load_chip("toy")
    resources = Resources(network, chip)
    mapping = map_network(network, chip)
    cores = [mapping.blocks_of(core) for core in mapping.cores]
    rates = traffic.rates_of(network, None)
    found = traffic.core_traffic(resources, cores, rates)
    monkeypatch.setattr(traffic, "_AT_ONCE", 0)
    again = traffic.core_traffic(resources, cores, rates)
    for name in ("source", "target", "depth", "messages"):
        assert np.array_equal(getattr(found, name), getattr(again, name)), name


@pytest.mark.parametrize("most", [7, 4096])
def test_blocks_that_leave_no_room_are_packed_apart(monkeypatch, most):
    """Half of the kinds fill a core each, the others share cores in pairs."""
    shape = {True: (64,), False: (30,)}
    populations = [Input(name=f"x{i}", shape=shape[bool(i)], levels=(0, 3)) for i in (0, 1)]
    projections = []
    for i in range(8):
        large = i % 2
        populations.append(
            PolarityMultiSpike(name=f"p{i}", shape=shape[bool(large)], theta=2, levels=(0, 3))
        )
        projections.append(Identity(source=f"x{large}", target=f"p{i}", weight=1 + i))
    network = Network(populations=populations, projections=projections, max_steps=2)
    resources = Resources(network, load_chip("toy"))
    cut = tiling.cut_network(resources)
    blocks = [block for found in cut.blocks.values() for block in found]
    kind_of, needs, examples = packing._kinds(resources, blocks, cut.entries)
    counts = np.bincount(kind_of)
    monkeypatch.setattr(packing, "_MOST_KINDS", most)
    times, start, kinds, puts = packing._filled(resources, needs, counts, examples)
    assert times.sum() == 4 + 2
    held = np.zeros_like(counts)
    for i, n in enumerate(times):
        some, each = kinds[start[i] : start[i + 1]], puts[start[i] : start[i + 1]]
        assert (each @ needs[some] <= 1 + 1e-9).all()
        np.add.at(held, some, n * each)
    assert np.array_equal(held, counts)
