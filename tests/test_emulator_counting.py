"""Sums over runs of neurons: equal to numpy's for every length, place and type, and in use."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from emulator_cases import make_mapping, random_chip, split
from hypothesis import given
from hypothesis import strategies as st

from pmsm_hw import reference
from pmsm_hw.emulator import emulate
from pmsm_hw.emulator.counting import kernels as counting
from pmsm_hw.mapping import Block
from pmsm_hw.network import Conv2d, Dense, Input, Network, PolarityMultiSpike, Readout

LENGTHS = st.one_of(st.integers(0, 40), st.sampled_from([63, 64, 65, 71, 72, 127, 128, 200, 300]))


@numba.njit(error_model="numpy")  # without a cache, as that of the test would miss changes of them
def sums(spikes, at, n, kind, synapses, begin, unit, is_binary):
    """Those that fired, their spikes, and both times synapses."""
    return (
        counting._n_fired(spikes, at, n),
        counting._n_units(spikes, at, n, kind),
        counting._dots(spikes, at, synapses, begin, n, kind, unit, is_binary),
    )


@given(
    seed=st.integers(0, 2**32),
    n=LENGTHS,
    at=st.integers(0, 9),
    beyond=st.sampled_from([0, 1, 100]),
    types=st.sampled_from(
        [
            (np.int8, np.int16, np.int32),
            (np.int32, np.int16, np.int64),
            (np.int8, np.int32, np.int64),
        ]
    ),
    share=st.sampled_from([0.05, 0.5, 1.0]),
)
def test_sums_over_a_run(seed, n, at, beyond, types, share):
    k_type, synapse_type, kind = types
    rng = np.random.default_rng(seed)
    size = at + n + beyond
    spikes = (rng.integers(-128, 128, size) * (rng.random(size) < share)).astype(k_type)
    begin = int(rng.integers(0, 5))
    synapses = rng.integers(0, 30_000, begin + n + beyond).astype(synapse_type)
    k, weight = spikes[at : at + n].astype(np.int64), synapses[begin : begin + n].astype(np.int64)
    fired, size_of = (k != 0).astype(np.int64), np.abs(k)
    once, units = int(fired @ weight), int(size_of @ weight)
    n_fired, n_spikes = fired.sum(), size_of.sum()
    for unit, both in ((False, (once, units)), (True, (units, units))):
        found = sums(spikes, at, n, kind, synapses, begin, unit, False)
        assert found == (n_fired, n_spikes, both)
    binary = np.sign(spikes)
    found = sums(binary, at, n, kind, synapses, begin, True, True)
    assert found == (n_fired, n_fired, (once, once))


@pytest.mark.parametrize("mode", ["unit", "graded"])
@pytest.mark.parametrize("levels", [(0, 1), (1, 1), (3, 5), (0, 200)])
@pytest.mark.parametrize("seed", [0, 1])
def test_wide_populations_agree(mode, levels, seed):
    """Runs of many neurons, which random networks are too small for."""
    rng = np.random.default_rng(seed)
    network = Network(
        name="wide",
        max_steps=3,
        populations=(
            Input(name="in", shape=(5, 11, 11), levels=(-levels[0], levels[1]), spike_mode=mode),
            PolarityMultiSpike(
                name="a", shape=(24, 9, 9), theta=np.array(150), levels=levels, spike_mode=mode
            ),
            PolarityMultiSpike(
                name="b", shape=(19, 4, 4), theta=np.array(200), levels=levels, spike_mode=mode
            ),
            Readout(name="out", shape=(10,)),
        ),
        projections=(
            Conv2d(source="in", target="a", weight=rng.integers(-9, 10, (24, 5, 3, 3))),
            Conv2d(source="a", target="b", weight=rng.integers(-9, 10, (19, 24, 3, 3)), stride=2),
            Dense(source="b", target="out", weight=rng.integers(-9, 10, (10, 19 * 16))),
        ),
    )
    chip = random_chip(rng)
    blocks = [
        Block(
            population=name, channels=channels, rows=rows, columns=columns,
            core=int(rng.integers(chip.n_cores)),
        )
        for name, n in (("a", 4), ("b", 3), ("out", 1))
        for channels, rows, columns in split(rng, network[name].shape, n)
    ]  # fmt: skip
    mapping = make_mapping(network, chip, blocks, {p.name: mode for p in network})
    x = rng.integers(-levels[0], levels[1] + 1, (2, 3, 5, 11, 11))
    counted = emulate(network, mapping, x, 3)
    cycled = emulate(network, mapping, x, 3, mode="cycle")
    assert counted.counts == cycled.counts
    assert reference.differing_spikes(counted.spikes, cycled.spikes) == 0
    assert counted.counts.total()["spikes"] > 0
