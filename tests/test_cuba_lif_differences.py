"""Where implementations of Loihi's neuron differ: each row of docs/cuba-lif.md.

Lava's models take their steps here themselves, between ports of our own, where Lava is installed.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pmsm_hw import Conv2d, CubaLif, Dense, Identity, Input, Network, loihi_weights, reference
from pmsm_hw.errors import NetworkError

needs_lava = pytest.mark.skipif(not find_spec("lava"), reason="needs lava-nc")


class Port:
    """What a model receives, and what it sent."""

    def __init__(self, *values: Any) -> None:
        self.values, self.sent = list(values), []

    def recv(self) -> Any:
        """The next value."""
        return self.values.pop(0)

    def send(self, value: Any) -> None:
        """Keep a copy."""
        self.sent.append(np.array(value))


def ours(neurons: CubaLif, drives: list[int], weight: Any = 1, **projection: Any) -> Any:
    """Result of one neuron, with states of each step, for weighted input."""
    network = Network(
        populations=(Input(name="x", shape=(1,), levels=(-(1 << 17), 1 << 17)), neurons),
        projections=(Dense(source="x", target="n", weight=[[weight]], **projection),),
        max_steps=len(drives),
    )
    x = np.array(drives).reshape(1, -1, 1)
    return reference.run(network, x, len(drives), probes={"n": ("u", "v")})


def lif(**values: Any) -> CubaLif:
    return CubaLif(name="n", shape=(1,), **({"vth": 100, "du": 4095} | values))


def test_current_wraps_in_twos_complement():
    """As silicon; the least current, -2**23, is one."""
    result = ours(lif(dv=4096), [1 << 17, -(1 << 17), (1 << 17) - 1])
    assert result.states["n"]["u"][0, :, 0].tolist() == [-(1 << 23), -(1 << 23), (1 << 23) - 64]
    assert result.spikes["n"][0, :, 0].tolist() == [0, 0, 1]


@needs_lava
@pytest.mark.parametrize("drive", [1 << 17, -(1 << 17)])
def test_lava_turns_the_least_current_into_a_larger_one_than_there_is_and_fires(drive: int):
    from lava.proc.lif.models import PyLifModelBitAcc

    model = PyLifModelBitAcc({})
    model.u, model.v = np.zeros(1, np.int32), np.zeros(1, np.int32)
    model.du, model.dv, model.vth = 4095, 0, 100
    model.bias_mant, model.bias_exp = np.zeros(1, np.int16), np.zeros(1, np.int16)
    model.a_in, model.s_out = Port(np.array([drive], np.int32)), Port()
    model.run_spk()
    assert (model.u.tolist(), model.s_out.sent[0].tolist()) == ([1 << 23], [True])


def test_refractory_holds_the_voltage_for_one_step_less():
    """As two emulators of the chip have it."""
    result = ours(lif(refractory=3), [200] * 7)
    assert np.flatnonzero(result.spikes["n"]).tolist() == [0, 3, 6]


@needs_lava
def test_lava_blocks_one_step_more():
    from lava.proc.lif.models import PyLifRefractoryModelFloat

    model = PyLifRefractoryModelFloat({"refractory_period": 3})
    model.u, model.v, model.bias_mant = np.zeros(1), np.zeros(1), np.zeros(1)
    model.du, model.dv, model.vth, model.refractory_period_end = 1.0, 0.0, 100.0, np.zeros(1)
    model.a_in, model.s_out = Port(*[np.array([200.0])] * 9), Port()
    for step in range(1, 10):
        model.time_step = step
        model.run_spk()
    assert np.flatnonzero(model.s_out.sent).tolist() == [0, 4, 8]


def test_convolutions_have_exponents_and_truncated_weights():
    weight, exponent = loihi_weights([[[[3]]]], weight_exponent=2)
    network = Network(
        populations=(Input(name="x", shape=(1, 1, 1)), CubaLif(name="n", shape=(1, 1, 1), vth=99)),
        projections=(Conv2d(source="x", target="n", weight=weight, weight_exponent=exponent),),
    )
    result = reference.run(network, np.ones((1, 1, 1, 1)), probes={"n": ("u",)})
    assert result.states["n"]["u"].item() == ((3 >> 1 << 1) << 2) << 6


@needs_lava
def test_lava_convolves_with_weights_as_they_are_and_without_exponent():
    from lava.proc.conv.models import PyConvModelFixed

    model = PyConvModelFixed({})
    model.weight, model.weight_exp = np.full((1, 1, 1, 1), 3), np.array([2])
    model.kernel_size = model.stride = model.dilation = np.array([1, 1])
    model.padding, model.groups = np.array([0, 0]), np.array([1])
    model.num_message_bits, model.num_weight_bits = np.array([0]), np.array([8])
    model.s_in, model.a_out, model.a_buf = Port(np.ones((1, 1, 1))), Port(), np.zeros((1, 1, 1))
    model.run_spk()
    assert model.a_buf.item() == 3


def test_a_voltage_at_the_threshold_neither_fires_nor_resets():
    result = ours(lif(), [100, 0, 1])
    assert result.spikes["n"][0, :, 0].tolist() == [0, 0, 1]
    assert result.states["n"]["v"][0, :, 0].tolist() == [6400, 6400, 0]


def test_sums_are_shifted_not_weights():
    network = Network(
        populations=(Input(name="x", shape=(2,), levels=(0, 1)), lif()),
        projections=(Dense(source="x", target="n", weight=[[1, 1]], weight_exponent=-1),),
    )
    result = reference.run(network, np.ones((1, 2)), probes={"n": ("u",)})
    assert result.states["n"]["u"].item() == 1 << 6


def test_mixed_weights_are_cut_off_downwards():
    assert loihi_weights([-3])[0].tolist() == [-4]


def test_delays_beyond_the_chips_are_refused():
    with pytest.raises(NetworkError, match="62"):
        Dense(source="x", target="n", weight=[[1]], delays=[[63]])


def test_delays_and_recurrence_keep_the_exponent():
    network = Network(
        populations=(Input(name="x", shape=(1,), levels=(0, 1)), lif(vth=0)),
        projections=(
            Identity(source="x", target="n"),
            Dense(source="n", target="n", weight=[[3]], weight_exponent=2, delay=1, delays=[[1]]),
        ),
        max_steps=3,
    )
    result = reference.run(network, np.array([[[1], [0], [0]]]), 3, probes={"n": ("u",)})
    assert result.states["n"]["u"][0, :, 0].tolist() == [64, 0, (3 << 2) << 6]


def test_the_page_names_tests_that_exist():
    root = Path(__file__).resolve().parents[1]
    page = (root / "docs" / "cuba-lif.md").read_text()
    named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", page)
    assert len(named) >= 8
    for file, test in named:
        assert f"def {test}(" in (root / "tests" / f"{file}.py").read_text(), test
