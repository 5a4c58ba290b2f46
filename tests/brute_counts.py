"""What mapped blocks need of their cores, counted synapse by synapse: slow, and plain to see."""

from __future__ import annotations

from collections import Counter

import numpy as np

from pmsm_hw import Input
from pmsm_hw.mapping import RESOURCES, xy_route
from pmsm_hw.operators import DenseForm, WindowForm, chw, lowered, synapses


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
            taps = single = set((synapses(form)[0] % (h * w)).tolist())
            channels = c
        if isinstance(form, DenseForm) and not (
            limits.population_axons.value and len(source.shape) > 1
        ):
            left -= len(set(synapses(form)[0].tolist())) * signs
        elif limits.population_axons.value and len(source.shape) > 1:
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
        usage[block.core][0] += block.n_neurons * network[block.population].model.compartments
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
                beyond = 0 if q.delays is None else int(q.delays.max())
                if network.hardware_delay(q) + beyond > 1:
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
            sets = set()
            for b in blocks:
                p = network[b.population]
                each = []
                for name in p.model.core_parameters:
                    values = np.asarray(getattr(p, name))
                    shaped = values.reshape(values.shape + (1,) * (3 - values.ndim))
                    each.append(np.broadcast_to(shaped, chw(p.shape))[b.slices()].ravel().tolist())
                sets |= {(p.kind, *values) for values in zip(*each, strict=True)}
            assert len(sets) <= chip.limits.threshold_configurations.value
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
