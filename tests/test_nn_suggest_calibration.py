"""Learned gains, and theta from batch-norm parameters alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch")

from torch import nn  # noqa: E402

from pmsm_hw import nn as pnn  # noqa: E402
from pmsm_hw.datasets import load_digits  # noqa: E402
from pmsm_hw.errors import QuantizationError  # noqa: E402
from pmsm_hw.nn import PolarityQuant  # noqa: E402
from pmsm_hw.nn.batch_norm import calibrate_from_batch_norm  # noqa: E402
from pmsm_hw.nn.entropy import entropy_report  # noqa: E402
from pmsm_hw.nn.gain import LearnedGainQuant, learn_gains, snap_gains  # noqa: E402


@given(
    n=st.integers(1, 4),
    p=st.integers(1, 6),
    gains=st.sampled_from([(1, 1), (2, 1), (4, 1), (4, -1), (1, -1)]),
    seed=st.integers(0, 1 << 16),
)
def test_learned_gain_equals_the_fixed_one(
    n: int, p: int, gains: tuple[int, int], seed: int
) -> None:
    fixed = PolarityQuant((n, p), gains, theta=0.7)
    learned = LearnedGainQuant(fixed)
    generator = torch.Generator().manual_seed(seed)
    x = (4 * torch.randn(6, 3, 2, generator=generator)).requires_grad_()
    weight = torch.randn(6, 3, 2, generator=generator)
    torch.testing.assert_close(learned(x), fixed(x))
    grads = []
    for quantizer in (fixed, learned):
        x.grad = quantizer.theta.grad = None
        (quantizer(x) * weight).sum().backward()
        grads.append((x.grad, quantizer.theta.grad))
    torch.testing.assert_close(grads[0][0], grads[1][0])
    torch.testing.assert_close(grads[0][1], grads[1][1], atol=1e-4, rtol=1e-4)
    k = fixed.spikes(x)
    below = (weight * 0.7 * torch.where(x < 0, k, 0 * k)).sum()
    torch.testing.assert_close(learned.gain.grad[0], below / (6 * p) ** 0.5)


def small() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def test_gains_are_learned_snapped_and_spike() -> None:
    x = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    # a target that needs the negative side, with the other sign
    y = (x.mean((1, 2, 3)) > 0.5).long() + (x[:, 0, 0, 0] > 0.7).long()
    quantized = pnn.quantize(small(), levels=(2, 4), gains=(4, 1), calibration=x)
    learning = learn_gains(quantized)
    assert not any(isinstance(m, LearnedGainQuant) for m in quantized.modules())
    layer = learning.get_submodule("2")
    assert layer.alpha == 0.25
    pnn.finetune(learning, pnn.loader(x, y, batch_size=8), epochs=3, learning_rate=0.1)
    assert layer.alpha != 0.25
    with pytest.raises(QuantizationError, match="still being learned"):
        pnn.to_snn(learning)
    snapped = snap_gains(learning)
    result = snapped.get_submodule("2")
    assert type(result) is PolarityQuant
    allowed = [1, 0.5, 0.25, 0.125, -0.125, -0.25, -0.5, -1]
    assert result.alpha == min(allowed, key=lambda a: abs(a - layer.alpha))
    assert torch.equal(result.theta, layer.theta)
    snn = pnn.to_snn(snapped)
    assert torch.equal(snn(x, 1), pnn.predict(snapped, x))


def test_gains_out_of_place() -> None:
    x = torch.rand(8, 1, 4, 4)
    unsigned = pnn.quantize(small(), levels=(0, 4), calibration=x)
    with pytest.raises(QuantizationError, match="has 0 quantizers with negative levels"):
        learn_gains(unsigned)
    with pytest.raises(QuantizationError, match="has 0 learned gains"):
        snap_gains(unsigned)
    signed = learn_gains(pnn.quantize(small(), levels=(1, 4), calibration=x))
    with pytest.raises(QuantizationError, match="0 are allowed"):
        snap_gains(signed, [])
    with pytest.raises(QuantizationError, match="not in"):
        snap_gains(signed, [(0, 1)])


def test_theta_from_batch_norm_is_that_of_gaussian_data() -> None:
    model = small()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, 1.0, 2.0, 0.1]))
        model[1].bias.copy_(torch.tensor([0.0, -1.0, 1.0, 0.3]))
    options = {"input_scale": 1 / 255, "input_levels": (0, 255), "per_channel": True}
    for init in ("mse", "entropy", "lsq", "percentile"):
        quantized = pnn.quantize(
            model, levels=(2, 4), gains=(4, 1), init=init, calibration="batch_norm", **options
        )
        z = torch.randn(8192, 4, generator=torch.Generator().manual_seed(0))
        z = z * model[1].weight + model[1].bias
        alone = pnn.choose_theta(z.detach(), quantized.get_submodule("2"), init, "z")
        torch.testing.assert_close(
            quantized.get_submodule("2").theta.detach(), alone, rtol=0.12, atol=0
        )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(a)) + a)


def test_theta_from_batch_norm_through_a_residual_connection() -> None:
    model = Residual()
    with torch.no_grad():
        model.bn1.bias.fill_(1.0)
    quantized = pnn.quantize(
        model, levels=(0, 4), init="lsq", calibration="batch_norm", input_scale=1.0,
        input_levels=(0, 1),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    z = rng.standard_normal((2, 200_000))
    first = 2 * np.abs(z[0] + 1).mean() / 2
    a = first * np.clip(np.floor((z[0] + 1) / first + 0.5), 0, 4)
    second = 2 * np.abs(z[1] + a).mean() / 2
    assert quantized.get_submodule("act1").theta.item() == pytest.approx(first, rel=0.02)
    assert quantized.get_submodule("act2").theta.item() == pytest.approx(second, rel=0.02)


def test_batch_norm_needs_batch_norm_and_the_input_scale() -> None:
    plain = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    options = {"input_scale": 1.0, "input_levels": (0, 1)}
    with pytest.raises(QuantizationError, match="no batch norm tells"):
        pnn.quantize(plain, calibration="batch_norm", **options)
    with pytest.raises(QuantizationError, match="with both given"):
        pnn.quantize(small(), calibration="batch_norm")
    with pytest.raises(QuantizationError, match="only 'batch_norm' is possible"):
        pnn.quantize(small(), calibration="none", **options)
    with pytest.raises(QuantizationError, match="not a traced graph"):
        calibrate_from_batch_norm(small())
    silent = small()
    nn.init.zeros_(silent[1].weight)
    with pytest.raises(QuantizationError, match="only zeros"):
        pnn.quantize(silent, calibration="batch_norm", **options)


def test_batch_norm_alone_comes_close_to_data() -> None:
    images, labels = load_digits("train")
    model = pnn.models.digits_cnn(seed=0)
    pnn.train(model, pnn.loader(images, labels, batch_size=64), epochs=3, progress=False)
    options = {"levels": (2, 4), "gains": (4, 1), "input_scale": 1 / 16, "input_levels": (0, 16)}
    by_data = pnn.quantize(model, calibration=images[:256], **options)
    by_norm = pnn.quantize(model, calibration="batch_norm", **options)
    for a, b in zip(entropy_report(by_data, images), entropy_report(by_norm, images), strict=True):
        assert b.bits == pytest.approx(a.bits, abs=0.5)
    assert pnn.accuracy(by_norm, images, labels) > 0.8 * pnn.accuracy(by_data, images, labels)
