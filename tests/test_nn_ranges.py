"""Activations keep their range: limits of ReLU6 and Hardtanh, negative values of LeakyReLU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import pmsm_hw.nn as pnn  # noqa: E402
from pmsm_hw import reference  # noqa: E402
from pmsm_hw.convert import convert, integer_model, load_model, save_model  # noqa: E402
from pmsm_hw.errors import PmsmHwError, QuantizationError  # noqa: E402
from pmsm_hw.nn import PolarityQuant  # noqa: E402
from pmsm_hw.nn.initialization import INITIALIZATIONS, choose_theta  # noqa: E402

pytestmark = pytest.mark.torch


class Call(torch.nn.Module):  # type: ignore[misc]
    """One linear layer of weight 20 and an activation written as a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.layer = line(20.0)
        self.out = line(1.0)
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.out(self.function(self.layer(x)))


def line(weight: float) -> Any:
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(weight)
    return layer


def sequence(activation: Any) -> Any:
    return torch.nn.Sequential(line(20.0), activation, line(1.0))


SIX = {
    "ReLU6": lambda: sequence(torch.nn.ReLU6()),
    "ReLU6 inplace": lambda: sequence(torch.nn.ReLU6(inplace=True)),
    "Hardtanh": lambda: sequence(torch.nn.Hardtanh(0, 6)),
    "F.relu6": lambda: Call(F.relu6),
    "F.relu6 inplace": lambda: Call(lambda x: F.relu6(x, inplace=True)),
    "F.hardtanh": lambda: Call(lambda x: F.hardtanh(x, 0.0, 6.0)),
    "F.hardtanh max_val": lambda: Call(lambda x: F.hardtanh(x, max_val=6.0, min_val=0.0)),
}


@pytest.mark.parametrize("name", SIX)
def test_six_stays_six(name: str) -> None:
    x = torch.rand(100, 1)
    quantized = pnn.quantize(SIX[name](), levels=(0, 4), calibration=x)
    with torch.no_grad():
        assert float(quantized(torch.ones(1, 1))) == 6
    network, _ = convert(quantized)
    logits = reference.run(network, np.array([[1.0], [0.1]], np.float32)).logits["output"]
    assert logits[0, 0] == pytest.approx(6, rel=1e-6)
    assert logits[1, 0] == pytest.approx(1.5, rel=1e-6)  # 2 is nearer to 1.5 than to 3


@pytest.mark.parametrize("init", INITIALIZATIONS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_every_initialization_and_calibration_keeps_the_limit(init: Any, per_channel: bool) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Hardtanh(-1, 0.3),
        torch.nn.Flatten(), torch.nn.Linear(2 * 4, 3), torch.nn.ReLU6(), torch.nn.Linear(3, 2),
    )  # fmt: skip
    model[1].weight.data.fill_(3.0)
    x = torch.rand(24, 1, 4, 4) * 50
    quantized = pnn.quantize(
        model, (2, 3), (2, 1), init=init, calibration=x, per_channel=per_channel
    )
    assert_within(quantized, "2", x, -1, 0.3)
    assert_within(quantized, "5", x, -math.inf, 6)
    pnn.calibrate(quantized, x * 3, init, per_channel=not per_channel)
    assert_within(quantized, "2", x, -1, 0.3)
    model = model[:4].append(torch.nn.Linear(2 * 4, 2))
    blind = pnn.quantize(
        model, (2, 3), (2, -1), init=init, calibration="batch_norm", per_channel=per_channel,
        input_scale=0.1, input_levels=(0, 500),
    )  # fmt: skip
    assert_within(blind, "2", x, -1, 0.3)


def assert_within(model: Any, path: str, x: Any, low: float, high: float) -> None:
    values: list[Any] = []
    quantizer = model.get_submodule(path)
    handle = quantizer.register_forward_hook(lambda m, a, out: values.append(out))
    with torch.no_grad():
        model(x)
    handle.remove()
    assert quantizer.limits == (low, high)
    assert low <= float(values[0].min()) <= float(values[0].max()) <= high
    outermost = quantizer.theta.detach().double() * torch.tensor([quantizer.levels[1]])
    assert float(outermost.max()) <= high


@given(
    levels=st.tuples(st.integers(0, 9), st.integers(1, 40)),
    gains=st.sampled_from([(1, 1), (2, 1), (4, -1), (1, -1), (3, 5), (1, 0)]),
    low=st.sampled_from([-math.inf, -7.3, -0.11]),
    high=st.sampled_from([math.inf, 6.0, 0.7]),
    init=st.sampled_from(INITIALIZATIONS),
    scale=st.sampled_from([0.01, 1.0, 300.0]),
)
def test_no_level_outside_the_limits(
    levels: Any, gains: Any, low: float, high: float, init: Any, scale: float
) -> None:
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) * scale
    quantizer = PolarityQuant(levels, gains, channels=2, limits=(low, high))
    quantizer.theta.data = choose_theta(x, quantizer, init, "x")
    y = quantizer(torch.cat([x, 1e6 * x])).detach().double()
    assert low <= float(y.min()) <= float(y.max()) <= high
    again = torch.cat([quantizer.bounded(quantizer.theta.detach() * 100), torch.tensor([1e-9])])
    wide = PolarityQuant(levels, gains, theta=again[:2], limits=(low, high))
    y = wide(1e6 * x).detach().double()
    assert low <= float(y.min()) <= float(y.max()) <= high


def test_the_choice_of_theta_sees_the_limit() -> None:
    # nearly all values lie above 6: the best step has 6 at its top, not at the largest value
    x = torch.cat([torch.full((900, 1), 50.0), torch.rand(100, 1) * 6])
    quantizer = PolarityQuant((0, 4), limits=(-math.inf, 6))
    assert float(choose_theta(x, quantizer, "mse", "x")) == 1.5
    small = torch.rand(1000, 1)
    unlimited = float(choose_theta(small, PolarityQuant((0, 4)), "mse", "x"))
    assert float(choose_theta(small, quantizer, "mse", "x")) == pytest.approx(unlimited, rel=0.01)
    choice = pnn.choose_levels(x, target_bits=0.2, limits=(-math.inf, 6), candidates=[(0, 4)])
    assert choice.theta == 1.5


def test_training_keeps_the_limit() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.ReLU6(), torch.nn.Linear(16, 16),
        torch.nn.Hardtanh(-1, 1), torch.nn.Linear(16, 3),
    )  # fmt: skip
    for layer in model[::2]:
        layer.weight.data *= 8
    x, labels = torch.rand(64, 8), torch.arange(64) % 3
    quantized = pnn.quantize(model, (1, 4), calibration=x)
    integer = integer_model(quantized, x)
    for trained in (quantized, integer):
        for quantizer in (quantized.get_submodule("1"), quantized.get_submodule("3")):
            quantizer.theta.data = quantizer.bounded(torch.tensor(1e9))
        pnn.finetune(trained, pnn.loader(x, labels), epochs=3, learning_rate=0.3)
        assert_within(quantized, "1", x, -math.inf, 6)
        assert_within(quantized, "3", x, -1, 1)
    with torch.no_grad():
        quantized.get_submodule("1").theta.fill_(1.6)
    for use in (
        lambda: quantized(x),
        lambda: integer(x),
        lambda: convert(quantized),
        lambda: pnn.spikes(quantized, x),
        lambda: pnn.to_snn(quantized)(x),
    ):
        with pytest.raises(QuantizationError, match=r"theta 1\.6 puts levels .* limit: 1\.5"):
            use()


def test_learned_gains_keep_the_limits() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.Hardtanh(-0.5, 1), torch.nn.Linear(16, 3)
    )
    model[0].weight.data *= 20
    x, labels = torch.rand(128, 8) - 0.5, torch.arange(128) % 3
    learning = pnn.learn_gains(pnn.quantize(model, (2, 4), (4, 1), calibration=x))
    assert_within(learning, "1", x, -0.5, 1)
    for alpha in (-3.0, 3.0):
        learning.get_submodule("1").gain.data.fill_(alpha)
        assert_within(learning, "1", x, -0.5, 1)
        snapped = pnn.snap_gains(learning, [(1, 1), (1, -1)])
        assert_within(snapped, "1", x, -0.5, 1)
    pnn.finetune(learning, pnn.loader(x, labels), epochs=1)


def test_files_keep_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pnn.models.build("mlp", sizes=[8, 16, 3], seed=0)
    # a model of the zoo whose activation has a limit
    built = pnn.models.build

    def limited(name: str, **arguments: Any) -> Any:
        made = built(name, **arguments)
        made.layers[2] = torch.nn.ReLU6()
        return made

    monkeypatch.setattr(pnn.models, "build", limited)
    model.layers[2] = torch.nn.ReLU6()
    model.layers[1].weight.data *= 50
    x = torch.rand(64, 8)
    quantized = pnn.quantize(model, (0, 4), calibration=x)
    save_model(tmp_path / "a.pt", quantized)
    loaded = load_model(tmp_path / "a.pt")
    assert_within(loaded, "layers.2", x, -math.inf, 6)
    integer = integer_model(quantized, x)
    save_model(tmp_path / "b.pt", integer)
    again = convert(load_model(tmp_path / "b.pt")).network["layers.2"]
    np.testing.assert_array_equal(again.theta, convert(integer).network["layers.2"].theta)
    state = quantized.state_dict()
    state["layers.2.theta"] = torch.tensor(1.7)
    with pytest.raises(QuantizationError, match=r"'layers\.2': theta 1\.7 puts levels"):
        loaded.load_state_dict(state)


@pytest.mark.parametrize(
    ("activation", "levels", "message"),
    [
        (torch.nn.Hardtanh(), (0, 4), r"'1' \(Hardtanh\).*1 times their value.*n = 0"),
        (torch.nn.LeakyReLU(0.25), (0, 4), r"'1' \(LeakyReLU\).*0.25 times their value"),
        (torch.nn.LeakyReLU(-0.5), (0, 4), r"-0.5 times their value"),
        (torch.nn.Hardtanh(0.5, 2), (2, 4), r"\[0.5, 2\].*low <= 0 < high"),
        (torch.nn.Hardtanh(-2, -1), (2, 4), r"\[-2, -1\].*low <= 0 < high"),
    ],
)
def test_what_levels_cannot_say_is_refused(activation: Any, levels: Any, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        pnn.quantize(sequence(activation), levels, calibration=torch.rand(32, 1) - 0.5)


def test_what_levels_round_is_taken() -> None:
    x = torch.rand(64, 1) - 0.5
    for activation in (torch.nn.LeakyReLU(0.01), torch.nn.LeakyReLU(0.0), torch.nn.Hardtanh(0, 2)):
        pnn.quantize(sequence(activation), (0, 4), calibration=x)
    quantized = pnn.quantize(sequence(torch.nn.Hardtanh()), (4, 4), calibration=x)
    with torch.no_grad():
        assert quantized(torch.tensor([[0.5], [-0.5]])).tolist() == [[1], [-1]]


@pytest.mark.parametrize("value", [-0.1, 0.0, math.nan, math.inf])
def test_a_theta_out_of_range_is_the_quantizers_own_error_everywhere(value: float) -> None:
    x = torch.rand(32, 1)
    quantized = pnn.quantize(sequence(torch.nn.ReLU()), (1, 4), calibration=x)
    integer = integer_model(quantized, x)
    with torch.no_grad():
        quantized.get_submodule("1").theta.fill_(value)
    for use in (
        lambda: quantized(x),
        lambda: quantized.train()(x),
        lambda: pnn.predict(quantized, x),
        lambda: convert(quantized),
        lambda: integer_model(quantized, x),
        lambda: integer(x),
        lambda: convert(integer),
        lambda: pnn.spikes(quantized, x),
        lambda: pnn.to_snn(quantized)(x, 3),
        lambda: pnn.entropy_report(quantized, x),
        lambda: pnn.learn_gains(quantized),
    ):
        # what is not finite may be found among the parameters before
        with pytest.raises(PmsmHwError, match=r"theta.* (is not a finite positive number|NaN)"):
            use()
    pnn.calibrate(quantized, x)
    convert(quantized)


def test_suggest_knows_the_range() -> None:
    x = torch.rand(64, 1) - 0.5
    for activation, has_negative in (
        (torch.nn.Hardtanh(), True), (torch.nn.Hardtanh(0, 6), False), (torch.nn.ReLU6(), False),
    ):  # fmt: skip
        model = torch.nn.Sequential(line(20.0), activation, torch.nn.Linear(1, 3))
        suggestion = pnn.suggest(model, x)
        assert (suggestion.levels[0] > 0) == has_negative
    quantized = pnn.quantize(model, calibration=x, **suggestion.options)
    assert_within(quantized, "1", x, -math.inf, 6)
