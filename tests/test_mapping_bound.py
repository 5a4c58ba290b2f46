"""The lower bound on cores: below what any cut takes, tried one by one on tiny networks."""

from __future__ import annotations

from itertools import pairwise, product
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmsm_hw import (
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
)
from pmsm_hw.errors import CapacityError
from pmsm_hw.mapping import Block, load_chip, map_network
from pmsm_hw.mapping.chip import parse_chip
from pmsm_hw.mapping.partition import bounding, tiling
from pmsm_hw.mapping.partition.bound_kernels import CUT
from pmsm_hw.mapping.partition.bounding import Backwards
from pmsm_hw.mapping.partition.candidates import candidates
from pmsm_hw.mapping.partition.grids import cut_choices, parts_of
from pmsm_hw.mapping.partition.tiling import cut_network
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.operators import chw


def weights(rng, *shape):
    """No zeros: they enter the bound by their share only."""
    return rng.choice([-100, -3, 1, 7, 90], shape).astype(np.int8)


@st.composite
def networks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = (draw(st.integers(2, 3)), draw(st.integers(1, 3)))
    levels = draw(st.sampled_from([(0, 3), (1, 2)]))

    def spiking(name, *shape):
        return PolarityMultiSpike(
            name=name, shape=shape, theta=np.array(300), levels=levels, overflow="saturate"
        )

    a = draw(st.integers(1, 2))
    populations = [
        Input(name="in", shape=(2, *size), levels=(0, 3)),
        spiking("a", a, *size),
    ]
    projections = [
        Conv2d(source="in", target="a", weight=weights(rng, a, 2, 3, 3), padding=1),
    ]
    kind = draw(st.sampled_from(["conv", "skip", "pool", "depthwise", "strided"]))
    if kind == "pool":
        shape = (a, 1, size[1])
        projections.append(SumPool(source="a", target="b", kernel=(2, 1), stride=(2, 1)))
    elif kind == "depthwise":
        shape = (2 * a, *size)
        projections.append(
            Conv2d(source="a", target="b", weight=weights(rng, 2 * a, 1, 3, 3), padding=1, groups=a)
        )
    elif kind == "strided":
        shape = (2, -(-size[0] // 2), -(-size[1] // 2))
        projections.append(
            Conv2d(source="a", target="b", weight=weights(rng, 2, a, 1, 1), stride=2, padding=0)
        )
    else:
        shape = (a if kind == "skip" else draw(st.integers(1, 3)), *size)
        weight = weights(rng, shape[0], a, 3, 3)
        projections.append(Conv2d(source="a", target="b", weight=weight, padding=1))
    populations.append(spiking("b", *shape))
    if kind == "skip":
        populations.append(spiking("c", *shape))
        projections += [
            Conv2d(source="b", target="c", weight=weights(rng, a, a, 1, 1)),
            Identity(source="a", target="c"),
        ]
    populations.append(Readout(name="out", shape=(2,), overflow="saturate"))
    last = populations[-2]
    projections.append(
        Dense(source=last.name, target="out", weight=weights(rng, 2, last.n_neurons))
    )
    return Network(populations=tuple(populations), projections=tuple(projections))


@st.composite
def chips(draw):
    data = load_chip("toy").model_dump(exclude_none=True)

    def put(**values):
        for key, value in values.items():
            data["limits"][key] = {**data["limits"][key], "value": value}

    put(
        neurons=draw(st.integers(2, 12)),
        input_axons=draw(st.integers(12, 60)),
        output_axons=draw(st.integers(8, 60)),
        synapse_memory_bits=draw(st.integers(1500, 12000)),
        synapse_block_weights=draw(st.integers(2, 8)),
        synapse_word_bits=draw(st.sampled_from([8, 64])),
        population_axons=draw(st.booleans()),
        population_axon_entries=draw(st.integers(1, 2)),
    )
    data["mesh"]["columns"]["value"] = data["mesh"]["rows"]["value"] = 16
    data["spikes"]["modes"]["value"] = draw(st.sampled_from([["unit"], ["graded"]]))
    return parse_chip(data)


def compositions(n):
    """All ways to cut channels into parts."""
    for inner in product((False, True), repeat=n - 1):
        edges = [0, *(i + 1 for i, cut in enumerate(inner) if cut), n]
        yield list(pairwise(edges))


def all_cuts(population):
    """Every grid, with every way to cut each of its cells along channels."""
    c, h, w = chw(population.shape)
    for rows, columns in product(cut_choices(h).tolist(), cut_choices(w).tolist()):
        cells = list(product(parts_of(h, rows), parts_of(w, columns)))
        if len(list(compositions(c))) ** len(cells) > 300:
            uneven = [[list(p)] * len(cells) for p in compositions(c)]  # all cells alike
        else:
            uneven = product(list(compositions(c)), repeat=len(cells))
        for ways in uneven:
            yield [
                Block(population=population.name, channels=part, rows=y, columns=x, core=-1)
                for (y, x), parts in zip(cells, ways, strict=True)
                for part in parts
            ]


def least_by_trial(network, chip):
    """Cores' worth of the scarcest resource, least over all cuts: no packing can do with less."""
    resources = Resources(network, chip)
    limits = chip.limits
    capacity = np.array(
        [
            limits.neurons.value, limits.input_axons.value, limits.output_axons.value,
            limits.synapse_memory_bits.value,
        ]
    )  # fmt: skip
    placed = list(resources.placed)
    best = np.inf
    needs = {}

    def alone(block):
        key = (block.population, block.channels, block.rows, block.columns)
        if key not in needs:
            needs[key] = np.array(
                [
                    block.n_neurons, resources.input_axons([block]), 0,
                    resources.synapse_bits([block]),
                ]
            )  # fmt: skip
        return needs[key]

    def visit(left, entries, total):
        """Cut populations from the last on; `entries` of those that are left, by name."""
        nonlocal best
        if (total / capacity).max() >= best:
            return
        if not left:
            best = (total / capacity).max()
            return
        population = left[-1]
        sent = entries.get(population.name, np.zeros(chw(population.shape), np.int64))
        for blocks in all_cuts(population):
            used = np.array([alone(b) for b in blocks])
            used[:, 2] = [int(sent[b.slices()].sum()) for b in blocks]
            if (used > capacity).any():
                continue
            more = dict(entries)
            for q in network.into(population.name):
                if q.source in {p.name for p in left[:-1]}:
                    given = resources.output_entries(
                        q.source, ([b] for b in blocks), targets={population.name}
                    )
                    more[q.source] = more.get(q.source, 0) + given
            visit(left[:-1], more, total + used.sum(axis=0))

    visit(placed, {}, np.zeros(4))
    return best


@given(networks(), chips())
def test_no_cut_of_a_tiny_network_goes_below_the_bound(network, chip):
    resources = Resources(network, chip)
    try:
        bounds = [cut_network(resources).bound.cores]
    except CapacityError:
        return
    counts = {p.name: candidates(resources, p) for p in resources.placed}
    for n_labels in (3, 48):  # few: cuts are joined
        backwards = Backwards(resources, counts, n_labels=n_labels)
        with patch.object(bounding, "_AT_A_TIME", 61):
            bounds.append(backwards.least_cores(1_000_000))  # far away: it looks again and again
    assert max(bounds) <= np.ceil(least_by_trial(network, chip) - 1e-6)


def two_layers():
    return Network(
        populations=(
            Input(name="in", shape=(4,), levels=(0, 1)),
            PolarityMultiSpike(name="a", shape=(16,), theta=np.array(9), levels=(0, 1)),
            Readout(name="out", shape=(2,)),
        ),
        projections=(
            Dense(source="in", target="a", weight=np.full((16, 4), 100, np.int8)),
            Dense(source="a", target="out", weight=np.full((2, 16), 100, np.int8)),
        ),
    )


@pytest.mark.parametrize(
    ("limits", "least"),
    [
        ({"neurons": 4}, 5),  # 16 + 2 neurons
        ({"synapse_memory_bits": 1024}, 2),  # 4 lists of 192 bits, 16 of 64
    ],
)
def test_bound_decided_by_one_resource(limits, least):
    data = load_chip("toy").model_dump(exclude_none=True)
    for key, value in limits.items():
        data["limits"][key]["value"] = value
    mapping = map_network(two_layers(), parse_chip(data), objective="cores")
    assert mapping.metrics["lower_bound"] == least <= len(mapping.cores)


def test_a_network_that_one_core_holds_is_not_searched(monkeypatch):
    monkeypatch.setattr(tiling, "Search", None)
    cut = cut_network(Resources(two_layers(), load_chip("loihi1")))
    assert cut.bound.cores == 1


def test_no_second_look_when_time_is_up(monkeypatch):
    resources = Resources(two_layers(), load_chip("toy"))
    counts = {p.name: candidates(resources, p) for p in resources.placed}
    backwards = Backwards(resources, counts)
    looks = []

    def sweep(n_labels, at_most, closely):
        looks.append((at_most, closely))
        return np.full((1, 1), 2.0), []

    monkeypatch.setattr(backwards, "_sweep", sweep)
    assert backwards.least_cores(8, lambda: True) == 2
    assert looks == [(8, False)]
    assert backwards.least_cores(8, lambda: False) == 2
    assert looks[1:] == [(8, False), (2 * 1.02, True)]


def test_the_last_batch_of_grids_may_be_any_size(monkeypatch):
    chip = load_chip("loihi1")
    shape, rng = (3, 6, 6), np.random.default_rng(0)
    convolutions = [
        Conv2d(source=a, target=b, weight=weights(rng, 3, 3, 3, 3), padding=1)
        for a, b in (("in", "a"), ("a", "b"), ("b", "c"), ("c", "d"))
    ]
    network = Network(
        populations=(
            Input(name="in", shape=shape, levels=(0, 1)),
            *(
                PolarityMultiSpike(name=name, shape=shape, theta=np.array(9), levels=(0, 1))
                for name in "abcd"
            ),
            Readout(name="out", shape=(2,), overflow="saturate"),
        ),
        projections=(
            *convolutions,
            Identity(source="a", target="d"),
            Dense(source="d", target="out", weight=weights(rng, 2, 108)),
        ),
    )
    resources = Resources(network, chip)
    counts = {p.name: candidates(resources, p) for p in resources.placed}
    backwards = Backwards(resources, counts)
    c = [p.name for p in resources.placed].index("c")
    nothing = np.zeros((1, 6, 6), np.int64)
    found = np.array([(0, 0, 0), (0, 0, 1), (0, 1, 0)], CUT)
    lines = []
    for size in (1, 2, 1024):
        monkeypatch.setattr(bounding, "_AT_A_TIME", size)
        lines.append(backwards._lines(c, nothing, {"a": nothing}, found)[0])
    assert lines[0].shape == (3, 12)  # rows and columns of b; those of a do not differ
    assert lines[0].any()
    np.testing.assert_array_equal(lines[0], lines[1])
    np.testing.assert_array_equal(lines[0], lines[2])
