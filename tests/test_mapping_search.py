"""Objectives, placement, traffic, bounds, time limits and pictures of mappings."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from quick import LONG

from pmsm_hw import Conv2d, Dense, Input, Network, PolarityMultiSpike, Readout, reference
from pmsm_hw.errors import CapacityError, MappingError
from pmsm_hw.mapping import load_chip, map_network, measured_traffic, xy_route
from pmsm_hw.mapping.blocks import Block
from pmsm_hw.mapping.chip import parse_chip
from pmsm_hw.mapping.partition import cut_kernels
from pmsm_hw.mapping.partition.candidates import candidates
from pmsm_hw.mapping.partition.costs import Steps
from pmsm_hw.mapping.partition.cut_search import Search
from pmsm_hw.mapping.partition.entries import Entries, grid_entries
from pmsm_hw.mapping.partition.grids import Target, grid_blocks
from pmsm_hw.mapping.partition.packing import block_needs, pack
from pmsm_hw.mapping.partition.tiling import cut_network, cut_once
from pmsm_hw.mapping.passes import Draft, PlaceFewest, most_cores, passes_for, verify
from pmsm_hw.mapping.placement.bundles import Bundles
from pmsm_hw.mapping.placement.metrics import measure
from pmsm_hw.mapping.placement.places import (
    _Search,
    curve_order,
    hilbert_index,
    least_hops,
    links_of,
    place,
    place_bundles,
    region,
    total_hops,
    twins,
)
from pmsm_hw.mapping.plots import plot_mapping, tile_utilisation
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.mapping.routing.traffic import IO, Traffic, core_traffic, rates_of
from pmsm_hw.mapping.routing.xy import link_loads
from pmsm_hw.mapping.settings import Settings


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(3)

    def weight(*shape):
        return rng.integers(-100, 101, shape).astype(np.int8)

    def spiking(name, *shape):
        return PolarityMultiSpike(
            name=name, shape=shape, theta=np.array(900), levels=(1, 2), overflow="saturate"
        )

    return Network(
        name="small-cnn",
        populations=(
            Input(name="in", shape=(2, 16, 16), levels=(0, 15)),
            spiking("c1", 12, 16, 16),
            spiking("c2", 24, 8, 8),
            spiking("f", 100),
            Readout(name="out", shape=(10,), overflow="saturate"),
        ),
        projections=(
            Conv2d(source="in", target="c1", weight=weight(12, 2, 3, 3), padding=1),
            Conv2d(source="c1", target="c2", weight=weight(24, 12, 3, 3), padding=1, stride=2),
            Dense(source="c2", target="f", weight=weight(100, 1536)),
            Dense(source="f", target="out", weight=weight(10, 100)),
        ),
        max_steps=2,
    )


@pytest.fixture(scope="module")
def mapping(network):
    return map_network(network, load_chip("loihi1"))


def test_no_mapping_beats_the_bound_and_all_objectives_hold(network):
    chip = load_chip("loihi1")
    mappings = {o: map_network(network, chip, objective=o) for o in ("cores", "latency", "energy")}
    for mapping in mappings.values():
        mapping.check(network)
        assert mapping.metrics["lower_bound"] <= mapping.metrics["n_cores"] == len(mapping.cores)
        assert len(mappings["cores"].cores) <= len(mapping.cores)


def test_bound_on_neurons_alone_is_their_ratio():
    network = Network(
        populations=(
            Input(name="in", shape=(1,), levels=(0, 1)), Readout(name="out", shape=(5000,)),
        ),
        projections=(Dense(source="in", target="out", weight=np.ones((5000, 1), np.int8)),),
    )  # fmt: skip
    resources = Resources(network, load_chip("loihi1"))
    assert cut_network(resources).bound.cores == 5  # 5000 / 1024


def test_same_seed_same_mapping(network):
    chip = load_chip("loihi1")
    assert map_network(network, chip, seed=5) == map_network(network, chip, seed=5)


def test_entries_of_grids_equal_the_general_count(network):
    resources = Resources(network, load_chip("toy"))
    cut = cut_network(resources)
    for name in cut.blocks:
        alone = [[block] for blocks in cut.blocks.values() for block in blocks]
        assert np.array_equal(cut.entries[name], resources.output_entries(name, alone))
    assert grid_entries(resources, "out", {}).sum() == 0


def test_traffic_equals_a_count_neuron_by_neuron(network, mapping):
    chip = load_chip("loihi1")
    resources = Resources(network, chip)
    cores = [mapping.blocks_of(core) for core in mapping.cores]
    rng = np.random.default_rng(0)
    rates = rates_of(network, {p.name: rng.random(p.n_neurons) for p in network})
    traffic = core_traffic(resources, cores, rates)
    want = {}
    for target, blocks in enumerate(cores):
        for q in network.projections:
            reached = np.zeros(network[q.source].n_neurons, bool)
            for block in blocks:
                if block.population == q.target:
                    from pmsm_hw.mapping import fan_out

                    reached |= fan_out(network, q, block) > 0
            home = (
                np.full(reached.size, IO)
                if q.source == "in"
                else np.searchsorted(mapping.cores, mapping.core_of(network, q.source))
            )
            for n in np.flatnonzero(reached):
                key = (int(home[n]), target)
                want[key] = want.get(key, 0.0) + rates[q.source].reshape(-1)[n]
    got = {
        (int(a), int(b)): m
        for a, b, m in zip(traffic.source, traffic.target, traffic.messages, strict=True)
    }
    assert got.keys() == want.keys()
    assert np.allclose([got[k] for k in want], list(want.values()))
    grouped = core_traffic(resources, cores, rates, group=4)
    assert grouped.messages.sum() == pytest.approx(traffic.messages.sum())
    assert grouped.inter_core == pytest.approx(traffic.inter_core)
    assert traffic.deliveries == pytest.approx(sum(m for (a, _), m in want.items() if a != IO))
    assert traffic.inter_core == pytest.approx(
        sum(m for (a, b), m in want.items() if a not in (IO, b))
    )


def test_measured_traffic_counts_messages_of_the_reference(network, mapping):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 16, (3, 2, 16, 16))
    result = reference.run(network, x, 2)
    unit = measured_traffic(network, x, 2, load_chip("loihi1"))
    graded = measured_traffic(network, x, 2, load_chip("toy"))
    spikes = result.spikes["c1"].reshape(3, 2, -1)
    assert np.allclose(unit["c1"], np.abs(spikes).sum(axis=1).mean(axis=0))
    assert np.allclose(graded["c1"], (spikes != 0).sum(axis=1).mean(axis=0))
    measured = map_network(network, load_chip("loihi1"), traffic=unit)
    assert measured.metrics["deliveries"] != mapping.metrics["deliveries"]


def ring(n):
    """Cores that talk to the next one only."""
    source = np.arange(n)
    return Traffic(
        source=source, target=(source + 1) % n, depth=np.ones(n, np.int64), messages=np.ones(n)
    )


@pytest.mark.parametrize("n", [200, 300])
def test_placement_is_a_permutation_much_better_than_chance_and_seeded(n):
    chip = load_chip("loihi1").on_board(3)
    links = links_of(ring(n), n)
    places = place(chip, links, settings=Settings(seed=1))
    assert len(np.unique(places)) == n
    assert 0 <= places.min() <= places.max() < chip.n_cores
    assert np.array_equal(places, place(chip, links, settings=Settings(seed=1)))
    slots = curve_order(chip, region(chip, n))
    chance = np.random.default_rng(0).permutation(slots)[:n]
    assert total_hops(chip, links, places) < 0.2 * total_hops(chip, links, chance)
    # tiles of 4 cores in a ring: at least one hop between neighbouring tiles
    assert total_hops(chip, links, places) >= n // 4


def test_placement_fills_as_few_tiles_as_can_be(mapping):
    assert mapping.metrics["n_tiles"] == -(-len(mapping.cores) // 4)


def mapped(network, chip, place_pass, settings):
    """A mapping by the passes, one of them another one."""
    draft = Draft(resources=Resources(network, chip), rates=rates_of(network, None))
    for step in passes_for(settings):
        draft = (place_pass if isinstance(step, PlaceFewest) else step).run(draft)
        verify(draft)
    assert draft.mapping is not None
    return draft.mapping


@pytest.mark.parametrize("most", [0, 1000])
def test_large_networks_are_placed_tile_by_tile(network, most):
    lines: list[str] = []
    settings = Settings(objective="cores", progress=lines.append)
    chip = load_chip("loihi1")
    mapping = mapped(network, chip, PlaceFewest(settings=settings, one_by_one=most), settings)
    mapping.check(network)
    assert ("counting every core" in lines) == (most == 0)


def test_what_a_pass_returns_is_verified(network):
    """Blocks that are lost or held twice, too many cores, and places that are not there."""
    chip = load_chip("loihi1")
    settings = Settings(objective="cores")
    draft = Draft(resources=Resources(network, chip), rates=rates_of(network, None))
    cut, packed, placed = (step.run for step in passes_for(settings)[:3])
    was_cut = cut(draft)
    name, (first, *rest) = next(iter(was_cut.cut.blocks.items()))
    for blocks in (rest, [first, first, *rest]):
        lost = replace(was_cut.cut, blocks={**was_cut.cut.blocks, name: blocks})
        with pytest.raises(MappingError, match=f"population '{name}': has blocks of"):
            verify(replace(was_cut, cut=lost))
    was_packed = packed(was_cut)
    with pytest.raises(MappingError, match="has blocks of"):
        verify(replace(was_packed, cores=was_packed.cores[1:]))
    data = chip.to_dict()
    for key, value in (("columns", 1), ("rows", 1), ("cores_per_tile", 1), ("io_position", (0, 0))):
        data["mesh"][key]["value"] = value
    one = Resources(network, parse_chip(data))
    with pytest.raises(CapacityError, match="has 1"):
        verify(replace(was_packed, resources=one))
    was_placed = placed(was_packed)
    verify(was_placed)
    there = was_placed.placed.places
    for places in (np.zeros_like(there), there - there.max() - 1, there + chip.n_cores):
        with pytest.raises(MappingError, match="places from"):
            verify(replace(was_placed, placed=was_placed.placed._replace(places=places)))


def test_region_fills_whole_chips_first():
    chip = load_chip("nahuku")
    tiles = region(chip, 256)
    chips = {chip.chip_of(int(t) % chip.columns, int(t) // chip.columns) for t in tiles}
    assert len(chips) == 2


def test_hilbert_curve_visits_neighbours():
    xy = np.array([(x, y) for y in range(8) for x in range(8)])
    order = np.argsort(hilbert_index(8, xy[:, 0], xy[:, 1]))
    steps = np.abs(np.diff(xy[order], axis=0)).sum(axis=1)
    assert (steps == 1).all()


def test_routes_go_along_x_first_and_loads_add_up():
    route = xy_route((1, 2), (3, 1))
    assert [(link.x, link.y, link.direction) for link in route] == [(1, 2, 0), (2, 2, 0), (3, 2, 3)]
    assert xy_route((2, 2), (2, 2)) == ()
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 5, (2, 100, 2))
    weight = rng.random(100)
    loads = link_loads(5, 5, source, target, weight)
    want = np.zeros((5, 5, 4))
    for s, t, w in zip(source.tolist(), target.tolist(), weight, strict=True):
        for link in xy_route(tuple(s), tuple(t)):
            want[link.y, link.x, link.direction] += w
    assert np.allclose(loads, want)


def test_metrics_follow_from_places():
    chip = load_chip("loihi1")
    traffic = Traffic(
        source=np.array([0, 1, IO]), target=np.array([1, 0, 1]), depth=np.array([1, 2, 0]),
        messages=np.array([3.0, 1.0, 2.0]),
        deliveries=4.0, inter_core=4.0, inputs=2.0,
    )  # fmt: skip
    places = np.array([0, 4 * 9])  # tiles (0, 0) and (1, 1)
    loads, metrics = measure(chip, places, traffic)
    assert metrics["mean_hops"] == 2.0
    assert metrics["total_hops"] == 2 * 3 + 2 * 1 + 2 * 2
    assert metrics["max_link_load"] == 5.0
    assert loads[0, 0, 0] == 5.0  # east from (0, 0): 3 + 2 inputs
    assert loads[0, 1, 2] == 5.0  # then north


def test_time_limit_gives_a_valid_mapping(network):
    mapping = map_network(network, load_chip("loihi1"), time_limit_s=1e-6)
    mapping.check(network)
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(MappingError, match="time limit"):
            map_network(network, load_chip("loihi1"), time_limit_s=bad)


def test_progress_names_the_stages(network):
    lines = []
    map_network(network, load_chip("loihi1"), progress=lines.append)
    text = "\n".join(lines)
    for stage in ("counting c1", "cutting", "packing", "placing", "checking"):
        assert stage in text


def test_heat_maps_show_usage_and_loads(network, mapping, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need matplotlib (extra 'plot')")
    share = tile_utilisation(mapping, "neurons")
    assert share.shape == (4, 8)
    assert share.sum() * 4 * 1024 == pytest.approx(network.n_neurons)
    assert mapping.link_load.max() == mapping.metrics["max_link_load"]
    figure = plot_mapping(mapping, tmp_path / "mesh.png")
    panels = [a for a in figure.axes if a.get_title()]
    assert [a.get_title() for a in panels] == [
        "neurons", "input axons", "output axons", "synapse memory", "links between tiles",
    ]  # fmt: skip
    assert all(a.get_xlabel() == "tile x" and a.get_ylabel() == "tile y" for a in panels)
    scales = [a.get_ylabel() for a in figure.axes if not a.get_title()]
    assert scales == 4 * ["used, % of limit"] + ["messages over the fuller direction"]
    assert np.allclose(panels[0].images[0].get_array(), 100 * share)
    lines = panels[-1].collections[0].get_array()
    assert lines.max() == mapping.metrics["max_link_load"]
    assert len(lines) == 4 * 7 + 3 * 8
    board = map_network(network, load_chip("nahuku"), objective="cores")
    assert plot_mapping(board).axes[0].get_xlim() == (-0.5, 7.5)  # one of its 8 x 4 chips is used
    assert (tmp_path / "mesh.png").read_bytes()[:4] == b"\x89PNG"
    assert [p.name for p in tmp_path.iterdir()] == ["mesh.png"]
    with pytest.raises(MappingError, match="'watts' is not one of neurons"):
        tile_utilisation(mapping, "watts")


def random_traffic(n, seed):
    rng = np.random.default_rng(seed)
    source = np.concatenate([rng.integers(0, n, 6 * n), np.full(n // 4, IO)])
    target = rng.integers(0, n, len(source))
    return Traffic(
        source=source, target=target, depth=np.zeros(len(source), np.int64),
        messages=rng.integers(1, 50, len(source)).astype(float),
        deliveries=1.0, inter_core=1.0, inputs=1.0,
    )  # fmt: skip


def test_relief_lowers_the_fullest_link_for_few_hops(monkeypatch):
    n, before, after = 250, [], []
    chip = load_chip("loihi1").on_board(2)
    cases = [(seed, random_traffic(n, seed)) for seed in range(3 if LONG else 1)]
    for seed, traffic in cases:
        places = place(chip, links_of(traffic, n), settings=Settings(seed=seed))
        assert len(np.unique(places)) == n
        after.append(measure(chip, places, traffic)[1])
    monkeypatch.setattr(_Search, "relieve", lambda *_: None)
    for seed, traffic in cases:
        before.append(
            measure(chip, place(chip, links_of(traffic, n), settings=Settings(seed=seed)), traffic)[
                1
            ]
        )
    for plain, relieved in zip(before, after, strict=True):
        assert relieved["max_link_load"] <= plain["max_link_load"]
        assert relieved["total_hops"] <= 1.005 * plain["total_hops"]
    assert sum(m["max_link_load"] for m in after) < 0.99 * sum(m["max_link_load"] for m in before)


@pytest.mark.parametrize("halves", [False, True])
def test_slopes_stay_right_and_twins_are_found(halves):
    """After annealing, slopes equal those filled anew, and places stay a permutation."""
    chip, n = load_chip("loihi1"), 60
    traffic = random_traffic(n, 3)
    links = links_of(traffic, n)
    slots = curve_order(chip, region(chip, n))
    search = _Search(chip, links, slots, slots[:n], np.arange(n), 4, 7)
    if halves:
        for by_rows in (False, True):
            search.run_halves(1_000_000 * (1 + by_rows), 2_000_000, by_rows=by_rows)
    else:
        search.run(2_000_000, 2_000_000)
    assert not np.array_equal(search.places(), slots[:n])
    again = _Search(chip, links, slots, search.places(), np.arange(n), 4, 7)
    again.run(0, 1)
    width = search._mesh[2].shape[1]
    assert np.allclose(search._slope[:, : width - 1], again._slope[:, : width - 1])
    assert np.allclose(search._slope[:, width:-1], again._slope[:, width:-1])
    held = np.flatnonzero(search.holds >= 0)
    assert np.array_equal(np.sort(search.at), held)
    assert np.array_equal(search.holds[search.at], np.arange(n))
    assert np.array_equal(search.held[search.spot], np.arange(n))
    star = Traffic(  # 0 talks to 1, 2 and 3 alike
        source=np.zeros(3, np.int64), target=np.arange(1, 4), depth=np.zeros(3, np.int64),
        messages=np.full(3, 2.0),
    )  # fmt: skip
    group, (start, other, messages), member_start, members = twins(links_of(star, 4))
    assert group.tolist() == [0, 1, 1, 1]
    assert start.tolist() == [0, 1, 2]
    assert other.tolist() == [1, 0]
    assert messages.tolist() == [2.0, 2.0]
    assert member_start.tolist() == [0, 1, 4]
    assert members.tolist() == [0, 1, 2, 3]


def test_exchanged_bundles_find_their_partners():
    """Pairs that talk to each other only, on cores of two that were filled at random."""
    chip, n_cores, n = load_chip("loihi1"), 64, 128
    order = np.random.default_rng(4).permutation(n)
    pairs = Traffic(
        source=order[: n // 2], target=order[n // 2 :], depth=np.ones(n // 2, np.int64),
        messages=np.ones(n // 2),
    )  # fmt: skip
    links = links_of(pairs, n)
    one = np.ones(n, np.int64)

    def bundles(kind, need, capacity, sources):
        return Bundles(
            blocks=[[] for _ in range(n)], home=np.arange(n) // 2, kind=kind,
            need=need[:, None], capacity=np.array([capacity]), sources=sources[:, None],
            populations=kind,
        )  # fmt: skip

    def hops(*arguments, **options):
        places, home = place_bundles(chip, links, bundles(*arguments), **options)
        assert (np.bincount(home, arguments[1], minlength=n_cores) <= arguments[2]).all()
        return total_hops(chip, links, places[home])

    nothing = np.zeros(n, np.uint64)
    assert hops(one * 0, one, 2, nothing) == 0
    assert hops(np.arange(n), one, 2, nothing, any_kind=True) == 0
    apart = hops(np.arange(n), one, 2, nothing)  # nothing may be exchanged: cores have two partners
    assert apart > 10
    # partners hear the same: they must not share a core, but may share a tile
    heard = np.empty(n, np.uint64)
    heard[order[: n // 2]] = heard[order[n // 2 :]] = 1 << np.arange(n // 2, dtype=np.uint64)
    assert hops(np.arange(n), one, 2, heard, any_kind=True) <= 8
    # large and small ones: those that fit
    need = np.where(np.arange(n) % 2, 3, 1)
    assert hops(np.arange(n), need, 4, nothing, any_kind=True) <= 8


def test_hops_at_random_and_at_least(network):
    chip, n = load_chip("loihi1"), 100
    traffic = random_traffic(n, 1)
    links = links_of(traffic, n)
    slots = curve_order(chip, region(chip, n))
    assert len(slots) == n
    rng = np.random.default_rng(0)
    chance = [measure(chip, rng.permutation(slots), traffic)[1]["mean_hops"] for _ in range(60)]
    _, metrics = measure(chip, place(chip, links), traffic)
    assert metrics["mean_hops_at_random"] == pytest.approx(np.mean(chance), rel=0.02)
    assert metrics["mean_hops_bound"] <= metrics["mean_hops"] < metrics["mean_hops_at_random"]
    # a ring of five on tiles of one, two and four cores
    five = links_of(ring(5), 5)
    assert least_hops(five, 1) == 5  # both partners are neighbours
    assert least_hops(five, 2) == 2.5  # one is on the same tile
    assert least_hops(five, 4) == 0


def test_small_placements_are_optimal():
    """Nine cores on three tiles, against every placement."""
    chip, n = load_chip("loihi1"), 9
    hops = np.array([[0, 1, 1], [1, 0, 2], [1, 2, 0]])  # the port's tile, and its neighbours
    homes = np.array(list(product(range(3), repeat=n)))
    homes = homes[(homes[:, :, None] == np.arange(3)).sum(axis=1).max(axis=1) <= 4]
    for seed in range(4):
        links = links_of(random_traffic(n, seed), n)
        core = np.repeat(np.arange(n), np.diff(links.start))
        between = hops[homes[:, core], homes[:, links.other]] @ links.messages / 2
        best = (between + hops[0][homes] @ links.io).min()
        assert total_hops(chip, links, place(chip, links, settings=Settings(seed=seed))) == best


def test_search_counts_blocks_as_they_are_made(network):
    """Numbers of blocks of a cut, as the compiled search has them and as it is built."""
    for chip in ("loihi1", "loihi2"):
        resources = Resources(network, load_chip(chip))
        counts = {p.name: candidates(resources, p) for p in resources.placed}
        search = Search(resources, counts)
        targets = {
            "c1": Target(2, 3, 5, False), "c2": Target(3, 2, 7, True),
            "f": Target(1, 1, 9, True), "out": Target(1, 1, 4, False),
        }  # fmt: skip
        steps = Steps(resources, counts)
        grids = cut_once(resources, steps, Entries(resources), (1.0, 0, 0, 0), targets)
        _, _, cut = search._cut(search.state(targets), (0.0, 0.0))
        for p in range(len(search.names)):
            made = grids[search.names[p]]
            assert cut.counts[p, : cut.n_kinds[p]].sum() == made.n_blocks
            need = cut.needs[p, : cut.n_kinds[p]].T @ cut.counts[p, : cut.n_kinds[p]]
            blocks = grid_blocks(network[made.population], made)
            entries = {q: grid_entries(resources, q, grids) for q in grids}
            exact = block_needs(resources, blocks, entries).sum(axis=0) / search._table.capacity
            assert np.allclose(need, exact, rtol=0.03, atol=0.01)


def test_edges_within_groups():
    """Parts of grouped channels that a group of them reaches, against a count one by one."""
    for n, group in product((1, 6, 12, 30), (1, 2, 3, 4, 6)):
        if n % group:
            continue
        for width in range(1, n + 1):
            edges = [at for at in range(width, n, width) if at % group]
            assert cut_kernels._cuts_in_groups.py_func(n, width, group) == len(edges)


def test_other_cuts_shorten_ways_within_limits(network):
    """Where ways are called far, other cuts are tried, and what is taken is no longer."""
    chip = load_chip("loihi1")
    cut = cut_network(Resources(network, chip))
    n_neurons = {p.name: p.n_neurons for p in network if p.name in cut.blocks}
    n_cores = len(pack(Resources(network, chip), cut.blocks, cut.entries))
    assert cut.others is not None
    others = list(cut.others(n_cores + 1))
    assert others
    for other in others:
        cores = pack(Resources(network, chip), other.blocks, other.entries)
        assert len(cores) <= n_cores + 1
        assert other.blocks != cut.blocks
        for name, blocks in other.blocks.items():
            assert sum(b.n_neurons for b in blocks) == n_neurons[name]
    hops = []
    for far in (1e9, 0.0):  # never, and always
        lines: list[str] = []
        settings = Settings(objective="cores", progress=lines.append)
        mapping = mapped(network, chip, PlaceFewest(settings=settings, far=far), settings)
        mapping.check(network)
        assert any("another cut" in line for line in lines) == (far == 0.0)
        assert len(mapping.cores) <= 1.04 * n_cores
        hops.append(mapping.metrics["mean_hops"] / mapping.metrics["mean_hops_at_random"])
    assert hops[1] < hops[0]
    lines = []  # no time to try others
    map_network(network, chip, objective="cores", progress=lines.append, time_limit_s=1e-6)
    assert not any("another cut" in line for line in lines)


def test_other_cuts_take_no_further_chip():
    """Cores that another cut may take, by hand: 4 % more, near the bound, on chips there are."""
    one, many = load_chip("loihi1"), load_chip("loihi1").on_board(100)
    assert most_cores(one, 100, 100) == 104
    assert most_cores(one, 126, 126) == 128  # of 131
    assert most_cores(many, 126, 126) == 128  # no second chip
    assert most_cores(many, 1000, 900) == 1024  # of 1035; of 1040, eight chips
    assert most_cores(many, 10_000, 9000) == 10_350  # 1.15 times the bound
    assert most_cores(many, 10_000, 8000) == 10_400
    assert most_cores(many, 20, 20) == 20


def test_blocks_of_a_core_come_from_the_same_part():
    """Rows of two layers each share cores with rows of a third: with those beside them."""
    layers = {"a": (75, 4, (2, 1)), "b": (37, 8, (1, 1)), "c": (87, 4, (2, 1))}
    network = Network(
        name="parts",
        populations=(
            Input(name="in", shape=(1, 8, 8), levels=(0, 1)),
            *(
                PolarityMultiSpike(
                    name=name,
                    shape=(c, h, 8),
                    theta=np.array(9),
                    levels=(0, 1),
                    overflow="saturate",
                )
                for name, (c, h, _) in layers.items()
            ),
        ),
        projections=tuple(
            Conv2d(source="in", target=name, weight=np.ones((c, 1, 1, 1), np.int8), stride=stride)
            for name, (c, _, stride) in layers.items()
        ),
    )
    resources = Resources(network, load_chip("loihi1"))
    blocks = {
        name: [
            Block(population=name, channels=(0, c), rows=(y, y + 1), columns=(0, 8), core=-1)
            for y in range(h)
        ]
        for name, (c, h, _) in layers.items()
    }
    entries = {name: np.zeros((c, h, 8), np.int64) for name, (c, h, _) in layers.items()}
    cores = pack(resources, blocks, entries)
    assert len(cores) == 8  # 600 or 696 neurons, and 296
    for core in cores:
        assert len(core) == 2
        top, other = ((b.rows[0] + 0.5) / layers[b.population][1] for b in core)
        assert abs(top - other) < 0.1
