"""What is given to the torch side: arrays of real values, scales, levels and options."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import pmsm_hw.nn as pnn  # noqa: E402
from pmsm_hw import reference  # noqa: E402
from pmsm_hw.convert import convert, integer_model, load_model, save_model  # noqa: E402
from pmsm_hw.convert.settings import DEFAULTS  # noqa: E402
from pmsm_hw.errors import PmsmHwError  # noqa: E402
from pmsm_hw.nn import InputQuant, PolarityQuant  # noqa: E402

pytestmark = pytest.mark.torch

X = torch.rand(24, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3


def plain() -> Any:
    return pnn.models.build("mlp", sizes=[6, 5, 3], seed=0)


def quantized(**options: Any) -> Any:
    return pnn.quantize(plain(), calibration=X, **options)


def without_input() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 5), PolarityQuant((0, 4), theta=0.3), torch.nn.Linear(5, 3)
    ).eval()


# -- integers are units for a network, and nothing here -----------------------------------------

DOORS = {
    "quantize": lambda x: pnn.quantize(plain(), calibration=x),
    "calibrate": lambda x: pnn.calibrate(quantized(), x),
    "suggest": lambda x: pnn.suggest(plain(), x),
    "choose_levels": lambda x: pnn.choose_levels(x, target_bits=1.0),
    "entropy_report": lambda x: pnn.entropy_report(quantized(), x),
    "spikes": lambda x: pnn.spikes(quantized(), x),
    "spikes of integers": lambda x: integer_model(quantized(), X).spikes(x),
    "model": lambda x: quantized()(torch.as_tensor(x)),
    "integer model": lambda x: integer_model(quantized(), X)(torch.as_tensor(x)),
    "snn": lambda x: pnn.to_snn(quantized()).run(x, n_steps=2),
    "snn frames": lambda x: pnn.to_snn(quantized())(
        torch.stack([torch.as_tensor(x)] * 2, 1), n_steps=2, frames=True
    ),
    "snn of integers": lambda x: pnn.to_snn(integer_model(quantized(), X)).run(x, n_steps=2),
    "loader": lambda x: pnn.loader(x, LABELS),
    "predict": lambda x: pnn.predict(quantized(), x),
    "accuracy": lambda x: pnn.accuracy(quantized(), x, LABELS),
    "finetune": lambda x: pnn.finetune(quantized(), [(torch.as_tensor(x), LABELS)], epochs=1),
    "convert": lambda x: convert(quantized(), x),
    "integer_model": lambda x: integer_model(quantized(), x),
}


@pytest.mark.parametrize("door", DOORS)
def test_integers_and_bools_are_refused_at_every_door(door: str) -> None:
    DOORS[door](X)
    for wrong in (torch.ones(24, 6, dtype=torch.int32), torch.ones(24, 6, dtype=torch.bool)):
        with pytest.raises(PmsmHwError, match=r"floats are needed.* a network takes integers for"):
            DOORS[door](wrong)
    if door not in ("model", "integer model", "snn frames", "finetune"):
        with pytest.raises(PmsmHwError, match="holds uint8, floats are needed"):
            DOORS[door](np.ones((24, 6), np.uint8))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "door", [d for d in DOORS if d not in ("model", "integer model", "finetune")]
)
def test_what_is_not_finite_is_refused(door: str, value: float) -> None:
    x = X.clone()
    x[3, 2] = value
    with pytest.raises(PmsmHwError, match="values are not finite, limit: 0"):
        DOORS[door](x)


def test_one_array_means_the_same_to_model_and_network() -> None:
    model = quantized(input_scale=0.25, input_levels=(0, 15))
    network, _ = convert(model)
    real = torch.randint(0, 4, (24, 6)).float()
    ran = reference.run(network, real.numpy())
    np.testing.assert_array_equal(ran.spikes["input"][:, 0], pnn.spikes(model, real)["input_quant"])


# -- scale and levels ---------------------------------------------------------------------------


def test_a_scale_alone_takes_the_levels_of_the_data() -> None:
    sixteenths = torch.randint(0, 17, (24, 6)) / 16
    sixteenths[0, 0] = 1.0
    model = pnn.quantize(plain(), calibration=sixteenths, input_scale=1 / 16)
    assert model.input_quant.levels == (0, 16)
    signed = pnn.quantize(plain(), calibration=sixteenths - 0.25, input_scale=1 / 16)
    assert signed.input_quant.levels == (int((sixteenths.min() - 0.25) * 16), 12)
    for own in (convert(model), convert(without_input(), sixteenths, input_scale=1 / 16)):
        (population,) = own.network.inputs
        assert (population.scale, population.levels) == (1 / 16, (0, 16))
    (population,) = convert(without_input(), X, input_levels=(0, 10)).network.inputs
    assert population.scale == pytest.approx(float(X.max()) / 10)


def test_a_file_keeps_the_scale_and_levels_of_the_whole_batch(tmp_path: Path) -> None:
    x = torch.rand(300, 6)
    x[280] = 4.0  # beyond the samples that a file has
    for options in ({}, {"input_scale": 1 / 16}, {"input_levels": (0, 16)}):
        model = pnn.quantize(plain(), calibration=x, **options)
        save_model(tmp_path / "a.pt", model)
        loaded: Any = load_model(tmp_path / "a.pt")
        assert loaded.input_quant.scale == model.input_quant.scale
        assert loaded.input_quant.levels == model.input_quant.levels


def test_a_scale_that_does_not_suit_the_data_is_refused() -> None:
    for scale in (1e-9, 1e9):
        with pytest.raises(PmsmHwError, match=r"input_scale .* puts the calibration batch"):
            quantized(input_scale=scale)


# -- options without effect ---------------------------------------------------------------------


def test_options_without_effect_are_refused_by_name() -> None:
    for options in (
        {"input_scale": 3.0}, {"input_levels": (0, 9)},
        {"input_scale": 1 / 255, "input_levels": (0, 255)},
    ):  # fmt: skip
        with pytest.raises(PmsmHwError, match="have no effect: the model has an InputQuant"):
            convert(quantized(), X, **options)
        with pytest.raises(PmsmHwError, match="have no effect: the model has an InputQuant"):
            integer_model(quantized(), X, **options)
    integer = integer_model(quantized(), X, weight_bits=5)
    for option, value in {**DEFAULTS, "weight_bits": 5, "input_scale": 0.1}.items():
        if value is not None:
            with pytest.raises(PmsmHwError, match=rf"{option}: .* has no effect: an integer model"):
                convert(integer, **{option: value})
    with pytest.raises(PmsmHwError, match=r"example_input: .* has no effect"):
        convert(integer, X)
    given = inspect.signature(integer_model).parameters
    assert {k: given[k].default for k in DEFAULTS} == DEFAULTS


# -- types --------------------------------------------------------------------------------------

WRONG: dict[str, list[Any]] = {
    "weight_bits": [2.5, "8", True, 1, 9, 1 << 70, [8]],
    "max_steps": [2.5, "4", True, 0, -1, float("nan")],
    "spare_bits": [0.5, -1, "1"],
    "per_channel": [1, "yes", 0.0],
    "rule": ["no", 3, np.array(["carry"])],
    "pooling": ["no", 3, np.array(["auto", "fold"])],
    "target_spikes": ["no", 3],
    "overflow": ["no", 3],
    "input_scale": [0, -1.0, float("nan"), float("inf"), "1", True],
    "input_levels": [
        4,
        (1,),
        (1, 2, 3),
        (3, 1),
        (0.5, 2),
        "ab",
        (0, 1 << 40),
        (0, 0),
        (5, 9),
        (-9, -5),
    ],
}


@pytest.mark.parametrize("option", WRONG)
def test_wrong_options_of_conversion(option: str) -> None:
    for value in WRONG[option]:
        options = {"input_levels": (0, 9), "input_scale": 0.1} | {option: value}
        with pytest.raises(PmsmHwError) as caught:
            integer_model(without_input(), X, **options)
        assert "\n" not in str(caught.value)
        if option != "spare_bits":
            with pytest.raises(PmsmHwError):
                convert(without_input(), X, **options)


QUANTIZE: dict[str, list[Any]] = {
    "levels": [4, (0,), (0, 4, 1), (0.5, 4), "ab", (True, 4), None, (0, 0), (-1, 4), (0, 1 << 15)],
    "gains": [1, (1,), (1.5, 1), "ab", (True, 1), (0, 1), (1, 1 << 70), {1: 2}],
    "init": ["no", 3, None, ["mse"]],
    "per_channel": [1, "yes", None],
    "max_pool": ["no", 3, None],
    "lsq_gradient_scale": [1, None],
    "input_scale": WRONG["input_scale"],
    "input_levels": WRONG["input_levels"],
    "calibration": [
        3.0, "no", [], X[:0], {"x": X}, [["a"]], X.to(torch.complex64), iter([X]), [X, X],
        X.to_sparse(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("option", QUANTIZE)
def test_wrong_options_of_quantize(option: str) -> None:
    for value in QUANTIZE[option]:
        with pytest.raises(PmsmHwError) as caught:
            pnn.quantize(plain(), **({"calibration": X} | {option: value}))
        assert "\n" not in str(caught.value), value


@pytest.mark.parametrize(
    "call",
    [
        lambda: convert(quantized(), X[:0]),
        lambda: convert(quantized(), []),
        lambda: convert(quantized(), 3.0),
        lambda: convert(quantized(), "x"),
        lambda: convert(quantized(), [X, X]),
        lambda: convert(quantized(), X[:, :4]),
        lambda: convert(quantized(), name=3),
        lambda: convert(3),
        lambda: convert(None, X),
        lambda: integer_model(quantized(), None),
        lambda: integer_model("x", X),
        lambda: PolarityQuant(4),
        lambda: PolarityQuant((0, 4), 1),
        lambda: PolarityQuant((0, 4), phi="x"),
        lambda: PolarityQuant((0, 4), phi=float("nan")),
        lambda: PolarityQuant((0, 4), limits=(1, 2)),
        lambda: PolarityQuant((0, 4), limits=(float("nan"), 2)),
        lambda: InputQuant("x"),
        lambda: InputQuant(True),
        lambda: InputQuant(0.1, 4),
        lambda: InputQuant(0.1, (0.5, 3)),
        lambda: pnn.loader(X, LABELS.float() + 0.5),
        lambda: pnn.loader(X, LABELS > 1),
        lambda: pnn.accuracy(quantized(), X, ["a"] * 24),
        lambda: pnn.predict(quantized(), "x"),
        lambda: pnn.predict(quantized(), X, batch_size=2.5),
        lambda: pnn.loader(X, LABELS, batch_size=0),
        lambda: pnn.loader(X, LABELS, seed=None),
        lambda: pnn.loader(X, LABELS, shuffle="no"),
        lambda: pnn.finetune(quantized(), pnn.loader(X, LABELS), epochs=1.5),
        lambda: pnn.finetune(quantized(), pnn.loader(X, LABELS), epochs=1, seed=None),
        lambda: pnn.finetune(quantized(), pnn.loader(X, LABELS), epochs=1, learning_rate="x"),
        lambda: pnn.finetune(quantized(), pnn.loader(X, LABELS), epochs=1, patience=True),
    ],
)
def test_wrong_arguments_are_errors_of_ours(call: Any) -> None:
    with pytest.raises(PmsmHwError) as caught:
        call()
    assert "\n" not in str(caught.value)


# -- what is wrong in kind ------------------------------------------------------------------------

DATA = [(X, LABELS)]
WRONG_KINDS = {
    "train model": lambda: pnn.train(5, DATA, epochs=1),
    "train data": lambda: pnn.train(plain(), "text", epochs=1),
    "train data of one pass": lambda: pnn.train(plain(), iter(DATA), epochs=1),
    "train batches": lambda: pnn.train(plain(), [X, X], epochs=1),
    "train validation": lambda: pnn.train(plain(), DATA, epochs=1, validation=5),
    "train teacher": lambda: pnn.train(plain(), DATA, epochs=1, teacher="text"),
    "train smoothing": lambda: pnn.train(plain(), DATA, epochs=1, label_smoothing=float("nan")),
    "train smoothing high": lambda: pnn.train(plain(), DATA, epochs=1, label_smoothing=1.5),
    "train checkpoint": lambda: pnn.train(plain(), DATA, epochs=1, checkpoint=5),
    "finetune model": lambda: pnn.finetune(None, DATA, epochs=1),
    "loader labels": lambda: pnn.loader(X, torch.zeros(24, 2)),
    "accuracy of nothing": lambda: pnn.accuracy(plain(), X[:0], LABELS[:0]),
    "accuracy labels": lambda: pnn.accuracy(plain(), X, LABELS[:1]),
    "predict shape": lambda: pnn.predict(plain(), X[:, :2]),
    "predict model": lambda: pnn.predict("text", X),
    "calibrate shape": lambda: pnn.calibrate(quantized(), X[:, :2]),
    "calibrate model": lambda: pnn.calibrate(None, X),
    "spikes shape": lambda: pnn.spikes(quantized(), X[:, :2]),
    "spikes model": lambda: pnn.spikes(None, X),
    "entropy_report shape": lambda: pnn.entropy_report(quantized(), X[:, :2]),
    "entropy_report model": lambda: pnn.entropy_report(5, X),
    "to_snn model": lambda: pnn.to_snn("text"),
    "suggest model": lambda: pnn.suggest(5, X),
    "suggest shape": lambda: pnn.suggest(plain(), X[:, :2]),
    "suggest agreement": lambda: pnn.suggest(plain(), X, target_agreement=float("nan")),
    "suggest spikes": lambda: pnn.suggest(plain(), X, max_spikes=float("nan")),
    "choose_levels bits": lambda: pnn.choose_levels(X, target_bits="x"),
    "quantizer channels": lambda: PolarityQuant(channels=[1]),
    "quantizer theta": lambda: PolarityQuant(theta="text"),
    "quantizer thetas": lambda: PolarityQuant(theta=torch.ones(3), channels=4),
    "load_model path": lambda: load_model(5),
    **{
        f"integer_model {option}": lambda option=option: integer_model(
            quantized(), X, **{option: None}
        )
        for option in ("weight_bits", "max_steps", "overflow", "target_spikes", "spare_bits")
    },
}


@pytest.mark.parametrize("case", WRONG_KINDS)
def test_what_is_wrong_in_kind_is_one_line(case: str) -> None:
    with pytest.raises(PmsmHwError) as caught:
        WRONG_KINDS[case]()
    assert "\n" not in str(caught.value)


def test_nothing_in_gives_nothing_out() -> None:
    assert pnn.predict(plain(), X[:0]).shape == (0, 3)
    assert all(len(k) == 0 for k in pnn.spikes(quantized(), X[:0]).values())
