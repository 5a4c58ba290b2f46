"""Adaptive LIF: by hand, as CubaLif without adaptation, and in the LSNN that ran on a Loihi 1."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lsnn import N_PIXELS, N_STEPS, WEIGHT_AUX, lsnn, spikes_of
from quick import LONG

from pmsm_hw import reference
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import NetworkError
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.network import AdaptiveLif, CubaLif, Identity, Input, Network


def alone(neurons: Any, n_steps: int, most: int) -> Network:
    return Network(
        populations=[Input(name="x", shape=neurons.shape, levels=(-most, most)), neurons],
        projections=[Identity(source="x", target=neurons.name)],
        max_steps=n_steps,
    )


def test_a_spike_makes_the_next_ones_harder():
    neurons = AdaptiveLif(name="n", shape=(1,), vth=9, du=4095, dv=4096, adaptation=6, da=2048)
    drives = np.array([10, 12, 13, 20, 20, 10]).reshape(1, -1, 1)
    network = alone(neurons, 6, 20)
    # a, in units of 64:  0, -6, -3, -1.5 - 6 ...
    result = reference.run(network, drives, 6, probes={"n": ("a", "spiked")})
    assert result.spikes["n"].reshape(-1).tolist() == [1, 0, 1, 1, 1, 0]
    a = [0]
    for spiked in (1, 0, 1, 1, 1):
        a.append(-((-a[-1] * 2048) >> 12) - 384 * spiked)
    assert result.states["n"]["a"].reshape(-1).tolist() == a
    np.testing.assert_array_equal(result.states["n"]["spiked"], result.spikes["n"])


@pytest.mark.parametrize("refractory", [1, 4])
def test_without_adaptation_it_is_cuba_lif(refractory):
    rng = np.random.default_rng(0)
    shared: dict[str, Any] = {
        "name": "n", "shape": (9,), "vth": rng.integers(0, 40, 9), "du": 3000, "dv": 300,
        "bias": rng.integers(-50, 50, 9), "bias_exponent": 3, "refractory": refractory,
    }  # fmt: skip
    x = rng.integers(-30, 60, (3, 50, 9))
    results = []
    for model in (CubaLif, AdaptiveLif):
        network = alone(model(**shared), 50, 60)
        names = ("u", "v", "refractory_count")[: 3 if refractory > 1 else 2]
        results.append(reference.run(network, x, 50, probes={"n": names}))
    lif, adaptive = results
    assert lif.spikes["n"].any()
    np.testing.assert_array_equal(lif.spikes["n"], adaptive.spikes["n"])
    for name, values in lif.states["n"].items():
        np.testing.assert_array_equal(values, adaptive.states["n"][name])


def test_the_second_compartment_saturates_and_is_counted():
    neurons = AdaptiveLif(name="n", shape=(1,), vth=0, bias=4095, bias_exponent=7,
                          adaptation=255 << 7, dv=4096)  # fmt: skip
    # u grows by 64 * 120,000 a step (du 0), so that it fires although a falls
    network = alone(neurons, 8, 120_000)
    result = reference.run(network, np.full((1, 8, 1), 20_000), 8)
    assert result.saturations["n"] > 0
    assert network.bounds["n"].u_min < -(2**23)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adaptation": -1}, r"adaptation lies in \[-1, -1\], the limits are 0 and 32,640"),
        ({"da": 4097}, r"da lies in \[4,097, 4,097\], the limits are 0 and 4,096"),
        ({"refractory": 0}, "refractory 0 is outside 1"),
    ],
)
def test_ranges_are_checked(changes, message):
    with pytest.raises(NetworkError, match=message):
        AdaptiveLif(**({"name": "n", "shape": (2,), "vth": 1} | changes))


def test_bounds_of_many_steps_are_a_formula():
    neurons = AdaptiveLif(name="n", shape=(1,), vth=508, du=4095, dv=204, adaptation=6, da=5)
    bounds = [alone(neurons, n, 100).bounds["n"] for n in (1, 9, 4096)]
    assert bounds[0].u_max == 6400
    # (508 << 6) less its decay, and the input
    assert bounds[2].u_max == 32512 * 3892 // 4096 + 6400
    assert bounds[2].u_min == -(4096 * (6400 + 4096 * 384 // 5) // 204)
    assert bounds[2].u_min < bounds[1].u_min < bounds[0].u_min


# -- the LSNN for sequential MNIST ----------------------------------------------------------------


def images(shared_data: Any, n: int) -> tuple[Any, Any]:
    """Test images of MNIST, those that the module's own scripts choose."""
    chosen = np.random.RandomState(0).choice(10_000, 200, replace=False)[:n]
    with gzip.open(shared_data / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, N_PIXELS)
    with gzip.open(shared_data / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read()[8:], np.uint8)
    return pixels[chosen], labels[chosen]


def n_right(network: Network, pixels: Any, labels: Any) -> int:
    result = reference.run(network, spikes_of(pixels), N_STEPS, record=(), probes={"out": ("v",)})
    return int((result.states["out"]["v"][:, -1].argmax(axis=1) == labels).sum())


def test_lsnn_answers_about_as_often_right_as_on_the_chip(shared_data):
    assert WEIGHT_AUX == 96
    n = 200 if LONG else 40
    pixels, labels = images(shared_data, n)
    network = lsnn(shared_data / "silicon" / "lsnn_smnist.npz")
    right = n_right(network, pixels, labels)
    print(f"\n{right} of {n} right; on the chip 189 of 200")
    assert right >= 0.92 * n


@pytest.mark.skipif(not LONG, reason="the same in the quick profile, with the published value")
@pytest.mark.parametrize("adaptation", [3, 12])
def test_lsnn_with_another_adaptation_answers_wrong(shared_data, adaptation):
    network = lsnn(shared_data / "silicon" / "lsnn_smnist.npz")
    populations = [
        replace(p, adaptation=adaptation) if isinstance(p, AdaptiveLif) else p for p in network
    ]
    other = replace(network, populations=populations)
    assert n_right(other, *images(shared_data, 200)) < 100


def test_lsnn_in_cycle_mode(shared_data):
    n_steps = N_STEPS if LONG else 120
    network = lsnn(shared_data / "silicon" / "lsnn_smnist.npz", n_steps)
    first = 0 if LONG else 240
    x = spikes_of(images(shared_data, 1)[0])[:, first : first + n_steps]
    mapping = map_network(network, load_chip("loihi1"))
    expected = reference.run(network, x, n_steps)
    for mode in ("counts", "cycle"):
        report = emulate(network, mapping, x, n_steps, mode=mode)
        for name, spikes in report.spikes.items():
            np.testing.assert_array_equal(spikes, expected.spikes[name])
    assert all(expected.spikes[name].any() for name in ("regular", "adaptive"))
