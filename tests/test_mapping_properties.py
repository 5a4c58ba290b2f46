"""Random networks on random chips: all limits hold by brute-force recount, or a CapacityError."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmsm_hw import (
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
)
from pmsm_hw.errors import CapacityError, MappingError
from pmsm_hw.mapping import RESOURCES, Mapping, fan_out, load_chip, map_network, xy_route
from pmsm_hw.mapping.bundles import bundles_of
from pmsm_hw.mapping.chip import parse_chip
from pmsm_hw.mapping.mapper import count_usage
from pmsm_hw.mapping.packing import pack
from pmsm_hw.mapping.placement import links_of, place_bundles
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.mapping.tiling import cut_network
from pmsm_hw.mapping.traffic import core_traffic, rates_of
from pmsm_hw.operators import WindowForm, chw, lowered, synapses


def weights(rng, density, *shape):
    lo, hi = [(-128, 1), (-3, 4), (0, 2), (-120, 128)][rng.integers(4)]
    return (rng.integers(lo, hi, shape) * (rng.random(shape) < density)).astype(np.int8)


@st.composite
def networks(draw):
    """Chains of random projections with skips, recurrence, groups, strides and gains."""
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
        if draw(st.booleans()) and len(shape) > 1:
            theta = rng.integers(100, 110, shape[0])
        else:
            theta = np.array(300)
        populations.append(
            PolarityMultiSpike(
                name=name,
                shape=shape,
                theta=theta,
                levels=(draw(st.integers(0, 2)), draw(st.integers(1, 3))),
                gains=draw(st.sampled_from([(1, 1), (4, 1), (1, -1), (2, 1)])),
                overflow="saturate",
            )
        )
        projections.append(p)
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


def rounded(bits, word):
    return (bits + word - 1) // word * word


def brute_list_bits(limits, n, each):
    total = 0
    while n > 0:
        part = min(n, limits.synapse_block_weights.value)
        total += rounded(
            part * each + limits.synapse_block_header_bits.value, limits.synapse_word_bits.value
        )
        n -= part
    return total


def brute_signs(network, chip, name):
    bound = network.bounds[name]
    signs = [s for s, on in ((1, bound.k_max > 0), (-1, bound.k_min < 0)) if on]
    if "graded" in chip.spikes.modes.value:
        return [1] if chip.spikes.signed.value and signs else signs
    gains = getattr(network[name], "gains", (1, 1))
    return [s * gains[0 if s > 0 else 1] for s in signs]


def brute_taps(form, block):
    """Taps by which each source pixel meets the block, from geometry, one by one."""
    _, h, w = form.source
    kh, kw = form.weight.shape[2:]
    found = {}
    for ty in range(*block.rows):
        for tx in range(*block.columns):
            for i in range(kh):
                for j in range(kw):
                    y = ty * form.stride[0] - form.padding[0][0] + i * form.dilation[0]
                    x = tx * form.stride[1] - form.padding[1][0] + j * form.dilation[1]
                    if 0 <= y < h and 0 <= x < w:
                        found.setdefault(y * w + x, set()).add((i, j))
    return found


def brute_plain(network, chip, block):
    """Pixels of each projection into a block whose channels have plain axons, pixel by pixel."""
    limits = chip.limits
    left = limits.input_axons.value
    unshared = []
    for q in network.into(block.population):
        signs = len(brute_signs(network, chip, q.source))
        source = network[q.source]
        # no axon for a projection whose weights reach channels below or above the block only
        height, width = chw(network[q.target].shape)[1:]
        reached = synapses(lowered(network, q))[1] // (height * width)
        if not reached.size or not block.channels[0] <= reached.max():
            continue
        if not reached.min() < block.channels[1]:
            continue
        c, h, w = chw(source.shape)
        form = lowered(network, q)
        if isinstance(form, WindowForm):
            taps = brute_taps(form, block)
            same = Counter(frozenset(t) for t in taps.values())
            single = [at for at, t in taps.items() if same[frozenset(t)] == 1]
            group_out, group_in = form.target[0] // form.groups, c // form.groups
            channels = len({ch // group_out for ch in range(*block.channels)}) * group_in
        else:
            taps = single = range(h * w)
            channels = c
        if limits.population_axons.value and len(source.shape) > 1:
            left -= len(taps) * signs
            if limits.population_axon_entries.value > 1 and not isinstance(source, Input):
                unshared.append((q.name, sorted(single), (channels - 1) * signs))
        else:
            left -= len(taps) * channels * signs
    found = {}
    for name, single, more in unshared:
        n = 0
        while n < len(single) and (more == 0 or left >= more):
            n, left = n + 1, left - more
        found[name] = set(single[:n])
    return found


def brute_usage(network, chip, mapping):
    """Resources of every core, from explicit synapse lists."""
    limits = chip.limits
    lists = {q.name: synapses(lowered(network, q)) for q in network.projections}
    usage = {core: [0, 0, 0, 0] for core in mapping.cores}
    # by core and source neuron: whether its axon is plain, for each projection and block it reaches
    reach = {core: {} for core in mapping.cores}
    for block in mapping.blocks:
        plain = brute_plain(network, chip, block)
        usage[block.core][0] += block.n_neurons
        mine = block.neurons(network[block.population].shape)
        for q in network.into(block.population):
            signs = brute_signs(network, chip, q.source)
            if not signs:
                continue
            pixel = limits.population_axons.value and len(network[q.source].shape) > 1
            _, h, w = chw(network[q.source].shape)
            pre, post, _ = lists[q.name]
            pre = pre[np.isin(post, mine)]
            for n in np.unique(pre).tolist():
                alone = not pixel or n % (h * w) in plain.get(q.name, ())
                reach[block.core].setdefault((q.source, n), []).append(alone)
            form = lowered(network, q)
            if pixel and isinstance(form, WindowForm):
                by_taps = {}
                for at, taps in brute_taps(form, block).items():
                    by_taps.setdefault(frozenset(taps), at)
                representatives = set(by_taps.values())
                lengths = [
                    c
                    for n, c in zip(*np.unique(pre, return_counts=True), strict=True)
                    if n % (h * w) in representatives
                ]
            else:
                lengths = np.unique(pre, return_counts=True)[1].tolist()
            index = limits.index_bits.value
            sparse = bits_dense = 0
            for s in signs:
                lo, hi = int(q.weight.min()), int(q.weight.max())
                if s < 0:
                    lo, hi = -hi, -lo
                width = min(
                    b
                    for b in limits.weight_bits.value
                    if -(2 ** (b - 1)) <= lo and hi <= 2 ** (b - 1) - 1
                )
                if network.hardware_delay(q) > 1:
                    width += limits.delay_bits.value
                sparse += sum(brute_list_bits(limits, int(n), width + index) for n in lengths)
                bits_dense += len(lengths) * brute_list_bits(limits, block.n_neurons, width)
            usage[block.core][3] += min(sparse, bits_dense)
    home = {p.name: mapping.core_of(network, p.name) for p in network if p.kind != "input"}
    for core, found in reach.items():
        axons = set()
        for (name, n), alone in found.items():
            _, h, w = chw(network[name].shape)
            signs = len(brute_signs(network, chip, name))
            axon = ("neuron", name, n) if all(alone) else ("pixel", name, n % (h * w))
            axons |= {(*axon, i) for i in range(signs)}
            if name in home:
                entries = 1 if all(alone) else limits.population_axon_entries.value
                usage[int(home[name][n])][2] += entries * signs
        usage[core][1] = len(axons)
    return np.array([usage[core] for core in mapping.cores])


def check(network, chip, mapping):
    for p in network:
        if not isinstance(p, Input):
            count = np.zeros(p.n_neurons, int)
            for block in mapping.blocks_in(p.name):
                count[block.neurons(p.shape)] += 1
            assert (count == 1).all(), p.name
    usage = brute_usage(network, chip, mapping)
    assert np.array_equal(usage, mapping.usage)
    for i, name in enumerate(RESOURCES):
        assert usage[:, i].max() <= getattr(chip.limits, name).value, name
    for core in mapping.cores:
        blocks = mapping.blocks_of(core)
        if chip.limits.neuron_configurations:
            assert len({b.population for b in blocks}) <= chip.limits.neuron_configurations.value
        if chip.limits.threshold_configurations:
            thetas = set()
            for b in blocks:
                p = network[b.population]
                if isinstance(p, PolarityMultiSpike):
                    shaped = p.theta.reshape(p.theta.shape + (1,) * (3 - p.theta.ndim))
                    thetas |= set(
                        np.broadcast_to(shaped, chw(p.shape))[b.slices()].ravel().tolist()
                    )
            assert len(thetas) <= chip.limits.threshold_configurations.value
    for a in mapping.cores[:4]:
        for b in mapping.cores[:4]:
            (_, *s), (_, *t) = mapping.position(a), mapping.position(b)
            at = tuple(s)
            for link in xy_route(tuple(s), tuple(t)):
                assert (link.x, link.y) == at
                at = link.end
                assert 0 <= at[0] < chip.columns
                assert 0 <= at[1] < chip.rows
            assert at == tuple(t)


def explain(error):
    """A capacity error names its object, the need and the limit."""
    assert error.actual is not None
    assert error.limit is not None
    assert error.actual > error.limit
    assert error.subject.split(" ")[0] in ("population", "network", "projection")


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
        cut = cut_network(resources, objective="cores")
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


@settings(max_examples=30)
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
