"""Entropy: hand-computed cases, published-by-ourselves table of a unit Gaussian, and the report."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from pmsm_hw import nn as pnn  # noqa: E402
from pmsm_hw.errors import FormatError, InputError, QuantizationError  # noqa: E402
from pmsm_hw.nn import PolarityQuant  # noqa: E402
from pmsm_hw.nn.entropy import entropy_report, gaussian_bits, histogram_bits  # noqa: E402


def test_histogram_by_hand() -> None:
    counts = np.array([[1, 1, 1, 1], [2, 1, 1, 0], [5, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(histogram_bits(counts), [2.0, 1.5, 0.0, 0.0])


def test_gaussian_by_hand() -> None:
    # one edge at the mean: two equal halves
    assert gaussian_bits(0.5, 3.0, (0, 1)) == pytest.approx(1.0)
    # phi = 1/2 and one level each side: P(|z| < 1/2) = erf(1 / (2 sqrt 2))
    middle = math.erf(0.5 / math.sqrt(2))
    side = (1 - middle) / 2
    expected = -middle * math.log2(middle) - 2 * side * math.log2(side)
    assert gaussian_bits(0.0, 1.0, (1, 1)) == pytest.approx(expected)
    assert gaussian_bits(0.3, 0.0, (1, 1)) == 0.0


@pytest.mark.parametrize(
    ("levels", "theta", "bits"),
    [
        ((0, 4), 0.539, 1.65),
        ((0, 8), 0.180, 2.36),
        ((2, 4), 0.389, 2.69),
        ((4, 4), 0.539, 2.90),
        ((8, 8), 0.564, 2.89),
        ((0, 4), 2.0, 0.64),  # QCFS's lambda = 8
        ((0, 8), 1.0, 1.16),
    ],
)
def test_unit_gaussian(levels: tuple[int, int], theta: float, bits: float) -> None:
    assert gaussian_bits(0.0, 1 / theta, levels) == pytest.approx(bits, abs=0.011)
    z = np.random.default_rng(0).standard_normal(400_000)
    k = np.clip(np.floor(z / theta + 0.5), -levels[0], levels[1]).astype(int) + levels[0]
    assert histogram_bits(np.bincount(k)) == pytest.approx(bits, abs=0.02)


def two_layers() -> torch.nn.Module:
    model = torch.nn.Sequential(
        PolarityQuant((2, 3), theta=1.0),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3, bias=False),
        PolarityQuant((0, 1), theta=torch.tensor([1.0, 1.0, 100.0])),
    )
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]]))
    return model


def test_report_by_hand() -> None:
    # two channels of two values; four inputs
    x = torch.tensor(
        [
            [[-2.0, -1.0], [3.0, 3.0]],
            [[0.0, 1.0], [3.0, 9.0]],
            [[-2.0, -1.0], [3.0, 3.0]],
            [[0.0, 1.0], [3.0, 3.0]],
        ]
    )
    report = entropy_report(two_layers(), x)
    first, second = report
    assert report.n_samples == 4
    assert [layer.name for layer in report] == ["0", "3"]
    assert first.counts.tolist() == [[2, 2, 2, 2, 0, 0], [0, 0, 0, 0, 0, 8]]
    np.testing.assert_allclose(first.by_channel, [2.0, 0.0])
    # over both channels: four levels of 1/8 and one of 1/2
    assert first.bits == pytest.approx(4 * 3 / 8 + 0.5)
    assert first.maximum == pytest.approx(math.log2(6))
    assert first.loss == pytest.approx(math.log2(6) - 2.0)
    # levels up to 0 merged: 3/8, 1/8, 1/2
    assert first.relu_bits == pytest.approx(3 / 8 * math.log2(8 / 3) + 3 / 8 + 0.5)
    np.testing.assert_allclose(first.relu_by_channel, [0.25 * 2 + 0.75 * math.log2(4 / 3), 0.0])
    assert first.negative_share == pytest.approx((2 * 3 / 8) / 2.0)
    assert first.active_share == pytest.approx(14 / 16)
    assert first.spikes_per_neuron == pytest.approx((2 * 2 + 2 * 1 + 2 * 1 + 8 * 3) / 16)
    np.testing.assert_allclose(first.mean, [-0.5, (7 * 3 + 9) / 8])
    np.testing.assert_allclose(first.std[0], math.sqrt((4 + 1 + 0 + 1) / 4 - 0.25))
    assert first.gaussian_by_channel[0] == pytest.approx(
        float(gaussian_bits(-0.5, math.sqrt(1.25), (2, 3)))
    )
    # the second sees -2, 0, -2, 0; -1, 1, -1, 1; and 3 / 100
    assert second.counts.tolist() == [[4, 0], [2, 2], [4, 0]]
    assert second.n_silent_channels == 2
    assert second.negative_share == 0.0
    assert second.relu_bits == second.bits


def test_report_is_the_same_by_array_and_by_loader() -> None:
    x = torch.randn(300, 2, 2, generator=torch.Generator().manual_seed(0))
    model = two_layers().train()
    whole = entropy_report(model, x.numpy())
    loader = pnn.loader(x, torch.zeros(300), batch_size=7)
    parts = entropy_report(model, loader)
    alone = entropy_report(model, [x[:100], x[100:]])
    assert model.training
    for a, b, c in zip(whole, parts, alone, strict=True):
        assert a.counts.tolist() == b.counts.tolist() == c.counts.tolist()
        np.testing.assert_allclose(a.std, b.std)
        np.testing.assert_allclose(a.std, c.std)


def test_report_of_a_network(tmp_path: Any) -> None:
    model = pnn.models.digits_cnn(seed=0)
    x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    signed = entropy_report(pnn.quantize(model, levels=(2, 4), gains=(4, 1), calibration=x), x)
    unsigned = entropy_report(pnn.quantize(model, levels=(0, 4), calibration=x), x)
    for a, b in zip(signed, unsigned, strict=True):
        assert a.bits > b.bits
        assert 0 < a.negative_share < 1
        assert a.relu_bits < a.bits <= a.maximum
        assert abs(a.bits - a.gaussian) < 0.5
    text = str(signed)
    assert text.splitlines()[0] == "Entropy over 64 inputs"
    assert "act1" in text
    again = json.loads(signed.to_json())
    assert again["layers"][0]["histogram_bits"] == signed.layers[0].bits
    assert len(again["layers"][0]["channels"]["counts"]) == 12
    pytest.importorskip("matplotlib")
    signed.plot(tmp_path / "entropy.png")
    assert (tmp_path / "entropy.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(FormatError, match="cannot be written"):
        signed.plot(tmp_path / "absent" / "entropy.png")
    with pytest.raises(InputError, match="bmp"):
        signed.plot(tmp_path / "entropy.bmp")
    assert [p.name for p in tmp_path.iterdir()] == ["entropy.png"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (torch.zeros(0, 2, 2), "0 inputs went in"),
        ([], "0 inputs went in"),
        (torch.full((1, 2, 2), float("nan")), "not finite"),
    ],
)
def test_bad_data(data: Any, words: str) -> None:
    with pytest.raises(QuantizationError, match=words):
        entropy_report(two_layers(), data)


def test_model_without_quantizers() -> None:
    with pytest.raises(QuantizationError, match="has 0 PolarityQuant modules"):
        entropy_report(torch.nn.Linear(2, 2), torch.zeros(1, 2))
