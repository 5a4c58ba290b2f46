"""Each objective is best at what it is for, by the emulator; what mappings are expected to cost."""

from __future__ import annotations

import math

import fuzz_objectives
import numpy as np
import pytest

from pmsm_hw import Conv2d, Dense, Input, Network, PolarityMultiSpike, Readout, SumPool
from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import Block, load_chip, map_network, measured_traffic
from pmsm_hw.mapping.objectives import block_limits, expect, expected_rates, spread, work_of
from pmsm_hw.mapping.partition.packing import pack
from pmsm_hw.mapping.partition.tiling import cut_network, cut_within
from pmsm_hw.mapping.passes import build_mapping
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.mapping.routing.traffic import core_traffic, rates_of
from pmsm_hw.mapping.settings import Settings


def chain(name, shape, layers, n_classes=10, max_steps=2):
    """Convolutions ``(channels, kernel, stride)``, pools ``"pool"`` and dense layers ``n``."""
    rng = np.random.default_rng(5)
    populations = [Input(name="in", shape=shape, levels=(0, 15))]
    projections = []
    for i, layer in enumerate([*layers, n_classes]):
        source, target = populations[-1], f"p{i}"
        if layer == "pool":
            q = SumPool(source=source.name, target=target, kernel=(2, 2), stride=(2, 2))
            theta = 4
        elif isinstance(layer, tuple):
            channels, kernel, stride = layer
            weight = rng.integers(-90, 91, (channels, source.shape[0], kernel, kernel))
            q = Conv2d(
                source=source.name, target=target, weight=weight, stride=stride, padding=kernel // 2
            )
            theta = 100 * int(np.sqrt(weight[0].size))
        else:
            weight = rng.integers(-90, 91, (layer, source.n_neurons))
            q = Dense(source=source.name, target=target, weight=weight)
            theta = 100 * int(np.sqrt(weight.shape[1]))
        projections.append(q)
        if i == len(layers):
            populations.append(Readout(name=target, shape=(n_classes,), overflow="saturate"))
        else:
            populations.append(
                PolarityMultiSpike(
                    name=target,
                    shape=q.output_shape(source.shape),
                    theta=np.array(theta),
                    levels=(0, 3),
                    overflow="saturate",
                )
            )
    return Network(
        name=name, populations=tuple(populations), projections=tuple(projections),
        max_steps=max_steps,
    )  # fmt: skip


NETWORKS = {
    "digits": chain("digits", (1, 8, 8), [(16, 3, 1), (32, 3, 2), 64]),
    "lenet": chain("lenet", (1, 28, 28), [(6, 5, 1), "pool", (16, 5, 1), "pool", 120, 84]),
    "conv": chain("conv", (2, 16, 16), [(12, 3, 1), (24, 3, 2), (32, 3, 1), 64]),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("chip_name", ["loihi1", "loihi2"])
def test_each_objective_is_best_at_what_it_is_for(name, chip_name):
    network, chip = NETWORKS[name], load_chip(chip_name)
    x = np.random.default_rng(0).integers(0, 16, (2, *network.populations[0].shape))
    traffic = measured_traffic(network, x, 2, chip)
    mappings = {
        o: map_network(network, chip, objective=o, traffic=traffic)
        for o in ("cores", "latency", "energy")
    }
    reports = {o: emulate(network, m, x, 2) for o, m in mappings.items()}
    logits = [r.logits[network.readouts[0].name] for r in reports.values()]
    assert all(np.array_equal(logits[0], other) for other in logits)
    assert min(mappings, key=lambda o: len(mappings[o].cores)) == "cores"
    assert reports["latency"].latency_ns == min(r.latency_ns for r in reports.values())
    assert reports["latency"].latency_ns < 0.5 * reports["cores"].latency_ns
    least = min(r.energy_pj["total"] for r in reports.values())
    assert reports["energy"].energy_pj["total"] <= 1.05 * least  # static power is an estimate
    assert reports["energy"].energy_pj["total"] < 0.7 * reports["cores"].energy_pj["total"]


def test_latency_holds_without_measured_traffic_and_in_cycle_mode():
    network, chip = NETWORKS["conv"], load_chip("loihi2")
    x = np.random.default_rng(0).integers(0, 16, (1, *network.populations[0].shape))
    fast, few = (map_network(network, chip, objective=o) for o in ("latency", "cores"))
    assert len(fast.cores) > len(few.cores)
    for mode in ("counts", "cycle"):
        assert (
            emulate(network, fast, x, 2, mode=mode).latency_ns
            < 0.5 * emulate(network, few, x, 2, mode=mode).latency_ns
        )


def test_spreading_powers_no_further_chip():
    network = NETWORKS["conv"]
    board = load_chip("kapoho_bay")
    mapping = map_network(network, board)
    assert mapping.metrics["n_chips"] == 1
    assert len(mapping.cores) > len(map_network(network, board, objective="cores").cores)


def test_chips_without_times_are_not_spread_over():
    chip = load_chip("loihi1")
    data = chip.to_dict()
    data["profiles"] = {"none": {"description": "no constants"}}
    unknown = type(chip).model_validate(data)
    network = NETWORKS["digits"]
    assert (
        map_network(network, unknown).cores
        == map_network(network, unknown, objective="cores").cores
    )


@pytest.mark.parametrize("n_cores", [20, 60])
def test_block_limits_hold_and_share_out_all_cores(n_cores):
    """Limits are those of the least time in which so many cores can share the work, by search."""
    network, chip = NETWORKS["lenet"], load_chip("loihi1")
    resources = Resources(network, chip)
    rates = expected_rates(network, resources.spike_modes, rates_of(network, None), False)
    work = work_of(resources, rates)

    def parts(time):
        return {name: max(1, math.ceil(w / time - 1e-9)) for name, w in work.items()}

    times = sorted(w / k for w in work.values() if w > 0 for k in range(1, n_cores + 1))
    least = next(time for time in times if sum(parts(time).values()) <= n_cores)
    limits = block_limits(resources, rates, n_cores)
    fewest = parts(least)
    assert limits == {p.name: -(-p.n_neurons // fewest[p.name]) for p in resources.placed}
    cut = cut_network(resources)
    cuts = cut_within(resources, cut.bound, limits)
    assert cuts
    for blocks in cuts:
        for p in resources.placed:
            sizes = [b.n_neurons for b in blocks[p.name]]
            assert sum(sizes) == p.n_neurons
            assert max(sizes) <= limits[p.name]
    # limits of one cut are none of the next, which has none
    again = cut_network(resources)
    assert (again.blocks, again.bound) == (cut.blocks, cut.bound)


def test_expected_rates_divide_measured_traffic_and_know_unit_inputs():
    network = NETWORKS["digits"]
    rates = rates_of(network, None)
    unit = expected_rates(
        network, Resources(network, load_chip("loihi1")).spike_modes, rates, False
    )
    assert np.all(unit["in"] == 7.5)  # the mean of 0 to 15
    assert np.all(unit["p0"] == 1)
    graded = expected_rates(
        network, Resources(network, load_chip("loihi2")).spike_modes, rates, False
    )
    assert np.all(graded["in"] == 1)
    halved = expected_rates(network, {}, rates, True)
    assert all(np.all(r == 0.5) for r in halved.values())  # max_steps is 2


def test_expected_latency_is_the_emulators_where_links_are_free():
    """One neuron of each of two layers, on two cores of one tile: counted by hand."""
    network = Network(
        populations=(
            Input(name="in", shape=(3,), levels=(0, 1)),
            PolarityMultiSpike(name="a", shape=(2,), theta=np.array(1), levels=(0, 1)),
            Readout(name="b", shape=(1,)),
        ),
        projections=(
            Dense(source="in", target="a", weight=np.ones((2, 3), np.int8)),
            Dense(source="a", target="b", weight=np.ones((1, 2), np.int8)),
        ),
    )
    chip = load_chip("loihi1")
    resources = Resources(network, chip)
    blocks = [
        [Block(population=n, channels=(0, c), rows=(0, 1), columns=(0, 1), core=-1)]
        for n, c in (("a", 2), ("b", 1))
    ]
    rates = {p.name: np.ones((p.shape[0], 1, 1)) for p in network}
    traffic = core_traffic(resources, blocks, rates)
    places = np.array([0, 1])
    found = expect(resources, blocks, rates, traffic, places)
    # in -> a: 6 operations of 3.5; a: 2 updates of 8.4 beside 2 operations of b; b: 1 update;
    # three steps with a barrier of 113 each; 5 messages within the tile
    work = 6 * 3.5 + max(2 * 8.4, 2 * 3.5) + 8.4
    assert found.latency_ns == pytest.approx(work + 3 * 113)
    static = 104.0 * found.latency_ns
    assert found.energy_pj == pytest.approx(5 * 1.7 + static)
    mapping = build_mapping(resources, blocks, places, traffic, Settings())
    report = emulate(network, mapping, np.ones((1, 3), int), 1)
    assert report.latency_ns == pytest.approx(found.latency_ns, abs=0.01)


def test_spreading_stops_at_a_deadline_with_the_start():
    network, chip = NETWORKS["digits"], load_chip("loihi1")
    resources = Resources(network, chip)
    cut = cut_network(resources)
    cores = pack(resources, cut.blocks, cut.entries)
    rates = expected_rates(network, resources.spike_modes, rates_of(network, None), False)
    found = spread(resources, [cores], cut, rates, Settings(deadline=lambda: True))
    assert found == [(cores, None)]


def test_energy_saves_messages_where_static_power_is_unknown():
    network = NETWORKS["conv"]
    data = load_chip("loihi1").to_dict()
    for profile in data["profiles"].values():
        profile.pop("static_power_mw", None)
    chip = type(load_chip("loihi1")).model_validate(data)
    x = np.random.default_rng(0).integers(0, 16, (2, *network.populations[0].shape))
    traffic = measured_traffic(network, x, 2, chip)
    fast, frugal = (
        map_network(network, chip, objective=o, traffic=traffic) for o in ("latency", "energy")
    )
    assert len(frugal.cores) < len(fast.cores)
    reports = [emulate(network, m, x, 2) for m in (fast, frugal)]
    assert reports[0].latency_ns < reports[1].latency_ns
    assert reports[1].energy_pj["total"] < reports[0].energy_pj["total"]


@pytest.mark.parametrize("number", [6, 9, 21])
def test_no_objective_is_beaten_by_another_or_by_round_robin(number):
    """``python tests/fuzz_objectives.py --cases 200`` compares more."""
    assert fuzz_objectives.run(number) == "compared"


def test_many_small_populations_share_cores_evenly():
    rng = np.random.default_rng(0)
    populations = [Input(name="in", shape=(4,), levels=(0, 3))]
    projections = []
    for i in range(300):
        populations.append(
            PolarityMultiSpike(
                name=f"p{i}", shape=(3,), theta=np.array(9), levels=(0, 1), overflow="saturate"
            )
        )
        weight = rng.integers(1, 4, (3, 4))
        projections.append(Dense(source="in", target=f"p{i}", weight=weight, name=f"q{i}"))
    network = Network(populations=tuple(populations), projections=tuple(projections))
    chip, x = load_chip("loihi2"), rng.integers(0, 4, (1, 4))
    few = map_network(network, chip, objective="cores")
    assert len(few.cores) == 1
    slow = emulate(network, few, x, 1)
    for objective in ("latency", "energy"):
        mapping = map_network(network, chip, objective=objective)
        report = emulate(network, mapping, x, 1)
        assert len(mapping.cores) > 8
        assert report.latency_ns < 0.7 * slow.latency_ns
        assert report.energy_pj["total"] < slow.energy_pj["total"]


def test_round_robin_on_any_number_of_cores_is_no_faster():
    """24 populations of 3 neurons are fastest two on a core, on 12 cores: not a power of two."""
    populations = [Input(name="in", shape=(8,), levels=(0, 3))]
    projections = []
    for i in range(24):
        populations.append(
            PolarityMultiSpike(
                name=f"p{i}", shape=(3,), theta=np.array(20), levels=(0, 1), overflow="saturate"
            )
        )
        weight = np.ones((3, 8), np.int8)
        projections.append(Dense(source="in", target=f"p{i}", weight=weight))
    populations.append(Readout(name="out", shape=(3,), overflow="saturate"))
    projections.append(Dense(source="p23", target="out", weight=np.ones((3, 3), np.int8)))
    network = Network(populations=tuple(populations), projections=tuple(projections))
    assert fuzz_objectives.compare(network, load_chip("loihi1")) == "compared"
