"""Sigma-delta networks against Lava's own processes, and both variants against a plain loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from quick import LONG
from sigma_delta_networks import Chain, Layer, in_lava, network_of, pilotnet, tinynet

from pmsm_hw import reference
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import MappingError, NetworkError
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.network import Delta, Dense, Identity, Input, Network, Neurons, Readout, SigmaDelta


def random_chain(seed: int = 5) -> Chain:
    """Kernels and strides that differ along the axes, 12 steps."""
    rng = np.random.default_rng(seed)
    even = lambda low, high, *shape: 2 * rng.integers(low, high, shape)  # noqa: E731
    x = rng.integers(-40, 41, (7, 5, 2, 12))
    x[rng.random(x.shape) < 0.5] = 0
    layers = [
        Layer(weight=even(-15, 16, 3, 3, 2, 2), shape=(4, 4, 3), vth=3, stride=(2, 1),
              padding=(1, 0), bias=rng.integers(-20, 20, 3)),
        Layer(weight=even(-9, 10, 6, 48), shape=(6,), vth=1, bias=rng.integers(-9, 9, 6)),
        Layer(weight=even(-60, 60, 2, 6), shape=(2,)),
    ]  # fmt: skip
    return Chain(vth=5, x=x, layers=layers)


def compared(chain: Chain, folder: Path) -> int:
    """Compare messages of all steps and states after the last one; how many values."""
    network, x = network_of(chain)
    n_steps = x.shape[1]
    theirs = in_lava(chain, folder, timeout_s=500)
    neurons = [p for p in network if isinstance(p, Neurons)]
    probes = {p.name: tuple(p.model.start(p)) for p in neurons}
    result = reference.run(network, x, n_steps, probes=probes)
    assert result.saturations == {}
    n = 0
    for population in neurons:
        name = population.name
        i = 0 if name == "input" else int(name.removeprefix("layer"))
        is_sum = isinstance(population, Readout)
        sent = result.states[name]["v"] if is_sum else result.spikes[name]
        assert np.count_nonzero(sent)
        np.testing.assert_array_equal(sent[0], theirs[f"s{i}"])
        n += sent.size
        for variable, values in result.states[name].items():
            last = theirs[f"{'sigma' if is_sum else variable}{i}"]
            np.testing.assert_array_equal(values[0, -1], last)
            n += last.size
    return n


def test_a_random_chain_equals_lavas_processes(tmp_path, lava_python):
    print(f"\n{compared(random_chain(), tmp_path):,} messages and states equal Lava's")


def test_tinynet_equals_lavas_processes(tmp_path, shared_data, lava_python):
    chain = tinynet(shared_data / "silicon" / "tinynet_sdnn.npz")
    print(f"\n{compared(chain, tmp_path):,} messages and states equal Lava's")


@pytest.mark.skipif(not LONG, reason="Lava's convolutions take a minute")
def test_pilotnet_equals_lavas_processes(tmp_path, shared_data, lava_python):
    chain = pilotnet(shared_data / "netx" / "pilotnet_sdnn.net", 16)
    print(f"\n{compared(chain, tmp_path):,} messages and states equal Lava's")


def test_tinynet_has_the_messages_that_it_was_published_with(shared_data):
    path = shared_data / "silicon" / "tinynet_sdnn.npz"
    network, x = network_of(tinynet(path))
    spikes = reference.run(network, x, 15).spikes
    with np.load(path) as published:
        np.testing.assert_array_equal(spikes["input"][0], published["input"].transpose(3, 2, 1, 0))
        # before anything arrives, the biases
        np.testing.assert_array_equal(
            spikes["layer1"][0, 0], published["layer1"][..., 0].transpose(2, 1, 0)
        )


def test_cycle_mode_of_the_emulator():
    assert_cycle_mode(random_chain())


def test_cycle_mode_of_the_emulator_on_tinynet(shared_data):
    assert_cycle_mode(tinynet(shared_data / "silicon" / "tinynet_sdnn.npz"))


def assert_cycle_mode(chain: Chain) -> None:
    """Messages and sums of the mapped network are the reference's."""
    network, x = network_of(chain)
    n_steps = x.shape[1]
    mapping = map_network(network, load_chip("loihi2"))
    report = emulate(network, mapping, x, n_steps, mode="cycle")
    expected = reference.run(network, x, n_steps)
    for name, spikes in report.spikes.items():
        np.testing.assert_array_equal(spikes, expected.spikes[name])
    for name, sums in report.readouts.items():
        np.testing.assert_array_equal(sums, expected.readouts[name])


# -- one neuron, by hand --------------------------------------------------------------------------


def one(drives: list[int], **parameters: object) -> tuple[list[int], int]:
    """What a neuron sends for these drives, and how many values left their width."""
    most = max(map(abs, drives))
    network = Network(
        populations=[
            Input(name="x", shape=(1,), levels=(-most, most)),
            SigmaDelta(name="n", shape=(1,), **parameters),  # type: ignore[arg-type]
        ],
        projections=[Identity(source="x", target="n")],
        max_steps=len(drives),
    )
    result = reference.run(network, np.array(drives).reshape(1, -1, 1), len(drives))
    return result.spikes["n"].reshape(-1).tolist(), result.saturations.get("n", 0)


def test_what_a_message_cuts_off_is_lost_or_kept():
    drives = [13, 1, 1, 1, -40, 30]
    # a: 13 14 15 16 0 6
    assert one(drives, vth=1, state_exp=2) == ([3, 0, 0, 0, -4, 1], 0)
    # told: 12 12 12 16 0 4
    assert one(drives, vth=1, state_exp=2, variant="fixed_corrected") == ([3, 0, 0, 1, -4, 1], 0)


def test_threshold_is_reached_by_equality_and_residue_adds_up():
    assert one([4, 1, 4, 0], vth=5, activation="none") == ([0, 5, 0, 0], 0)
    assert one([-4, -2, 0], vth=5, activation="none") == ([0, -6, 0], 0)
    assert one([-4, -2, 9], vth=3, bias=1) == ([0, 0, 4], 0)


@pytest.mark.parametrize(("variant", "later"), [("fixed", 0), ("fixed_corrected", 6)])
def test_beyond_its_width_a_message_saturates_and_is_counted(variant, later):
    sent, outside = one([9, 0, 0], vth=1, message_bits=3, variant=variant)
    assert sent == ([3, 0, 0] if variant == "fixed" else [3, 3, 3])
    assert sum(sent[1:]) == later
    assert outside == (1 if variant == "fixed" else 2)


def test_sums_wrap_and_activations_saturate():
    most = 2**23 - 1
    assert one([most, 1], vth=0, message_bits=24, activation="none") == ([most, -(2**23)], 2)
    assert one([most], vth=0, message_bits=24, bias=5) == ([most], 1)


def test_graded_spikes_are_needed():
    network, _ = network_of(random_chain())
    with pytest.raises(MappingError, match="wants graded spikes, chip 'loihi1' has unit"):
        map_network(network, load_chip("loihi1"))


def test_delta_saturates_in_its_width():
    network = Network(
        populations=[
            Input(name="x", shape=(1,), levels=(-32768, 32767)),
            Delta(name="n", shape=(1,), vth=1, spike_exp=5, state_exp=4, message_bits=24),
        ],
        projections=[Dense(source="x", target="n", weight=[[1]])],
        max_steps=2,
    )
    result = reference.run(network, np.array([32767, -5]).reshape(1, 2, 1), 2)
    most = 2**23 - 1
    assert result.spikes["n"].reshape(-1).tolist() == [most >> 4, (-5 * 2**9 - most) >> 4]
    assert result.saturations == {"n": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vth": -1}, r"vth lies in \[-1, -1\], the limits are 0 and 8,388,607"),
        ({"vth": 2**23}, "vth lies in"),
        ({"state_exp": 8}, "state_exp 8 is outside 0"),
        ({"message_bits": 1}, "message_bits 1 is outside 2"),
        ({"variant": "float"}, "variant 'float' is not one of fixed, fixed_corrected"),
        ({"activation": "tanh"}, "activation 'tanh' is not one of relu, none"),
    ],
)
def test_ranges_are_checked(changes, message):
    with pytest.raises(NetworkError, match=message):
        SigmaDelta(**({"name": "n", "shape": (2,), "vth": 1} | changes))
