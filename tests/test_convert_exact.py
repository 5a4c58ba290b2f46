"""Numbers that are integers times a step stay what they are; one row does not spoil the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fuzz_small_integers  # noqa: E402
from hypothesis import settings  # noqa: E402

import pmsm_hw.nn as pnn  # noqa: E402
from pmsm_hw import reference  # noqa: E402
from pmsm_hw.convert import convert, integer_model, load_model, save_model  # noqa: E402
from pmsm_hw.errors import ConversionError  # noqa: E402
from pmsm_hw.mapping import load_chip  # noqa: E402
from pmsm_hw.mapping.blocks import Block  # noqa: E402
from pmsm_hw.mapping.resources import Resources  # noqa: E402
from pmsm_hw.network import (  # noqa: E402
    Dense,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
)
from pmsm_hw.nn import InputQuant, PolarityQuant  # noqa: E402

pytestmark = pytest.mark.torch

RNG = np.random.default_rng(0)


def linear(weight: Any, bias: Any = None) -> Any:
    weight = np.asarray(weight, np.float32)
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(np.asarray(bias, np.float32))
    return layer


def perceptron(first: Any, second: Any, *, theta: Any = 4.0, **options: Any) -> Any:
    """Input units 0..15 of 1.0, quantized neurons of ``first``, a readout of ``second``."""
    bias, out = options.get("bias"), options.get("out")
    quantizer = PolarityQuant(options.get("levels", (0, 4)), theta=theta)
    return torch.nn.Sequential(
        InputQuant(1.0, (0, 15)), linear(first, bias), quantizer, linear(second, out)
    ).eval()


def batch(n: int, n_samples: int = 64) -> Any:
    return torch.tensor(np.random.default_rng(1).integers(0, 16, (n_samples, n)).astype(np.float32))


def test_small_integers_are_converted_without_a_differing_spike() -> None:
    n_cases = 150 if settings().max_examples > 100 else 5
    fuzz_small_integers.main(["--cases", str(n_cases)])


def test_two_bits_hold_plus_and_minus_one() -> None:
    first, second = RNG.choice([-1, 1], (30, 20)), RNG.choice([-1, 1], (10, 30))
    by_hand = Network(
        name="by hand",
        max_steps=8,
        populations=(
            Input(name="input", shape=(20,), levels=(0, 15)),
            PolarityMultiSpike(name="2", shape=(30,), theta=np.array(4), levels=(0, 4)),
            Readout(name="output", shape=(10,)),
        ),
        projections=(
            Dense(source="input", target="2", name="a", weight=first.astype(np.int8)),
            Dense(source="2", target="output", name="b", weight=second.astype(np.int8)),
        ),
    )
    for bits in (2, 8):
        network, report = convert(perceptron(first, second), batch(20), weight_bits=bits)
        assert _memory(network) == _memory(by_hand)
        assert [p.weight_error for p in report.populations] == [0, 0]
        assert [p.fractional_bits for p in report.populations] == [0, 0]
        ran, wanted = (reference.run(n, batch(20).numpy(), 8) for n in (network, by_hand))
        np.testing.assert_array_equal(ran.spikes["2"], wanted.spikes["2"])
        np.testing.assert_allclose(ran.logits["output"], 4 * wanted.logits["output"])


def _memory(network: Network) -> int:
    """Synapse bits with each population on a core of its own."""
    resources = Resources(network, load_chip("loihi1"))
    one = (0, 1)
    blocks = [
        Block(population=p, channels=(0, n), rows=one, columns=one, core=0)
        for p, n in (("2", 30), ("output", 10))
    ]
    return sum(resources.synapse_bits([block]) for block in blocks)


def test_the_lowest_weight_of_eight_bits_and_steps_finer_than_weights() -> None:
    # 9 bits of which the last is 0, as Loihi's signed weights; a threshold and a bias in between
    first = np.array([[-256, 254, 2, 0], [6, -4, 100, 2]]) * 0.1
    network, report = convert(
        perceptron(first, [[1, -3]], theta=torch.tensor([30.1, 0.5]), bias=[12.3, -0.25]), batch(4)
    )
    (hidden,) = network.into("2")
    assert hidden.weight.tolist() == [[-128, 127, 1, 0], [6, -4, 100, 2]]
    assert hidden.weight_exponent == 1  # units of state are 0.1 and 0.05
    assert report.populations[0].weight_error < 1e-7
    assert network["2"].theta.tolist() == [301, 10]
    assert network["2"].bias.tolist() == [123, -5]


def test_exact_channels_stay_exact_beside_rounded_ones() -> None:
    first = np.array([[3.0, -7.0, 1.0, 0.0], [0.3, 0.7712345, 0.1234, 0.9], [0.5, -0.25, 0.0, 1.0]])
    model = perceptron(first, [[1.0, 0.2, -1.1]], theta=torch.tensor([5.0, 0.9, 0.75]))
    network, report = convert(model, batch(4))
    (hidden,) = network.into("2")
    np.testing.assert_array_equal(hidden.weight[0] % hidden.weight[0, 2], 0)
    wanted = pnn.spikes(model, batch(4))["2"]
    ran = reference.run(network, batch(4).numpy()).spikes["2"][:, 0]
    np.testing.assert_array_equal(ran[:, [0, 2]], wanted[:, [0, 2]])
    assert 0 < report.populations[0].weight_error < 0.005


def test_training_leaves_the_steps_and_files_keep_what_was_chosen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = pnn.models.build("mlp", sizes=[16, 8, 3], seed=0)
    x, labels = torch.rand(96, 16), torch.arange(96) % 3
    quantized = pnn.quantize(model, calibration=x, input_scale=1.0, input_levels=(0, 15))
    with torch.no_grad():
        for layer in quantized.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.copy_(torch.randint(-3, 4, layer.weight.shape))
                layer.bias.copy_(torch.randint(-3, 4, layer.bias.shape) * 2)
            if isinstance(layer, PolarityQuant):
                layer.theta.copy_(torch.tensor(2.0))
    integer = integer_model(quantized, x)
    before, report = convert(integer)
    assert all(p.weight_error == 0 for p in report.populations)
    save_model(tmp_path / "exact.pt", integer)
    _same(convert(load_model(tmp_path / "exact.pt")).network, before, x)
    pnn.finetune(integer, pnn.loader(x, labels), epochs=1, learning_rate=0.01)
    after, report = convert(integer)
    assert report.populations[0].weight_error > 0
    assert report.populations[0].fractional_bits > 0
    for name, k in integer.spikes(x).items():
        np.testing.assert_array_equal(reference.run(after, x.numpy()).spikes[name][:, 0], k)
    save_model(tmp_path / "trained.pt", integer)
    _same(convert(load_model(tmp_path / "trained.pt")).network, after, x)


def _same(a: Network, b: Network, x: Any) -> None:
    for p, q in zip(a.projections, b.projections, strict=True):
        np.testing.assert_array_equal(p.weight, q.weight)
        assert p.weight_exponent == q.weight_exponent
    ran, wanted = (reference.run(n, x.numpy(), 3) for n in (a, b))
    np.testing.assert_array_equal(ran.logits["output"], wanted.logits["output"])


# -- one row does not spoil the others --------------------------------------------------------


def random_weights() -> tuple[Any, Any]:
    rng = np.random.default_rng(2)
    return rng.normal(size=(12, 20)), rng.normal(size=(6, 12)) * 0.01


@pytest.mark.parametrize("is_live", [True, False])
def test_dead_readout_rows_leave_the_scale_to_the_live_ones(is_live: bool) -> None:
    first, second = random_weights()
    second[[1, 4]] = 0
    if not is_live:
        second[:] = 0
    out = [0.1, 0.0, -0.1, 0.0, 0.0, 0.1]
    model = perceptron(first, second, out=out)
    network, report = convert(model, batch(20))
    ran = reference.run(network, batch(20).numpy())
    sums = 4.0 * ran.spikes["2"][:, 0] @ second.T
    np.testing.assert_allclose(
        ran.logits["output"], sums + out, atol=0.01 * np.abs(sums).max() + 1e-6
    )
    if is_live:
        (projection,) = network.into("output")
        assert np.abs(projection.weight).max() > 100
        assert report.populations[1].weight_error < 0.01


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_dead_row_of_neurons_changes_no_other(per_channel: bool) -> None:
    first, second = random_weights()
    kept, _ = convert(perceptron(first, second), batch(20), per_channel=per_channel)
    dead = np.vstack([first, np.zeros((1, 20))])
    model = perceptron(dead, np.hstack([second, np.ones((6, 1)) * 0.001]), bias=[*[0.0] * 12, -3.0])
    network, _ = convert(model, batch(20), per_channel=per_channel)
    ran, wanted = (reference.run(n, batch(20).numpy(), 4) for n in (network, kept))
    np.testing.assert_array_equal(ran.spikes["2"][..., :12], wanted.spikes["2"])
    assert not ran.spikes["2"][..., 12].any()


@pytest.mark.parametrize("bias", [300.0, -300.0])
def test_a_large_bias_of_one_class_takes_no_bits_from_the_weights(bias: float) -> None:
    first, second = random_weights()
    model = perceptron(first, second, out=[0, 0, bias, 0, 0, 0])
    network, report = convert(model, batch(20))
    ran = reference.run(network, batch(20).numpy())
    sums = 4.0 * ran.spikes["2"][:, 0] @ second.T
    np.testing.assert_allclose(
        ran.logits["output"], sums + np.eye(6)[2] * bias, atol=0.01 * np.abs(sums).max()
    )
    assert report.populations[1].weight_error < 0.01


@pytest.mark.parametrize("overflow", ["error", "saturate"])
def test_a_bias_that_leaves_no_room_for_weights_is_refused(overflow: Any) -> None:
    first, second = random_weights()
    model = perceptron(first, second, out=[0, 0, -1e6, 0, 0, 0])
    with pytest.raises(ConversionError, match=r"'output', bias 2: -1e\+06 is so much larger"):
        convert(model, batch(20), overflow=overflow)


@pytest.mark.parametrize("rule", ["carry", "reset", "bounded"])
@pytest.mark.parametrize("levels", [(0, 4), (2, 3)])
def test_a_bias_that_no_input_outweighs_takes_no_state(levels: Any, rule: str) -> None:
    first, second = random_weights()
    bias = np.zeros(12)
    bias[[3, 7]] = -1e7, 1e9
    plain = perceptron(first, second, levels=levels)
    kept, _ = convert(plain, batch(20), rule=rule)
    model = perceptron(first, second, levels=levels, bias=bias)
    network, report = convert(model, batch(20), rule=rule)
    assert report.populations[0].fractional_bits >= kept_bits(kept) - 1
    ran = reference.run(network, batch(20).numpy(), 6)
    snn = pnn.to_snn(model, rule).run(batch(20), 6)
    np.testing.assert_array_equal(ran.spikes["2"][..., [3, 7]], snn.spikes["2"][..., [3, 7]])
    others = np.delete(np.arange(12), [3, 7])
    wanted = reference.run(kept, batch(20).numpy(), 6)
    differing = ran.spikes["2"][..., others] != wanted.spikes["2"][..., others]
    assert differing.mean() < 0.01


def kept_bits(network: Network) -> int:
    return max(q.weight_exponent for q in network.into("2"))
