"""QCFS's one-spike network, and calibration data that tell nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch")

from torch import nn  # noqa: E402

from pmsm_hw import nn as pnn  # noqa: E402
from pmsm_hw.errors import QuantizationError  # noqa: E402
from pmsm_hw.nn import PolarityQuant  # noqa: E402


@given(
    p=st.integers(1, 8),
    theta=st.floats(0.25, 3.0, width=16),
    z=st.lists(st.floats(-9, 25, width=16), min_size=1, max_size=8),
    n_steps=st.integers(1, 9),
)
def test_qcfs_snn_is_integrate_and_fire(p: int, theta: float, z: list[float], n_steps: int) -> None:
    x = torch.tensor([z])
    snn = pnn.qcfs_snn(nn.Sequential(PolarityQuant((0, p), theta=theta)))
    result = snn.run(x, n_steps)
    threshold = np.float32(np.float32(theta) * p)
    for i, value in enumerate(z):
        v, drive = np.float32(0.5), np.float32(np.float32(value) / threshold)
        spikes = []
        for _ in range(n_steps):
            v = np.float32(v + drive)
            fired = int(v >= 1)
            v = np.float32(v - fired)
            spikes.append(fired)
        assert result.spikes["0"][0, :, i].tolist() == spikes
        assert result.logits[0, i] == pytest.approx(float(threshold) * sum(spikes) / n_steps)


def test_qcfs_snn_approaches_the_quantizer_and_pmsm_is_there_at_once() -> None:
    x = torch.linspace(0.1, 3.9, 39)[None]  # inside lambda = 4
    model = nn.Sequential(PolarityQuant((0, 4), theta=1.0))
    wanted = model(x).detach()
    one_spike = pnn.qcfs_snn(model)
    errors = [float((one_spike(x, t) - wanted).abs().mean()) for t in (1, 2, 4)]
    assert errors[0] > errors[1] > errors[2] == pytest.approx(0, abs=1e-6)
    assert torch.equal(pnn.to_snn(model)(x, 1), wanted)


def test_qcfs_has_no_negative_levels() -> None:
    with pytest.raises(QuantizationError, match="has 2 negative levels, QCFS has 0"):
        pnn.qcfs_snn(nn.Sequential(PolarityQuant((2, 4))))
    with pytest.raises(QuantizationError, match="has 0 PolarityQuant"):
        pnn.qcfs_snn(nn.Linear(2, 2))


def constant() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    nn.init.zeros_(model[0].weight)
    nn.init.constant_(model[0].bias, 1.5)
    return model


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("init", ["mse", "entropy", "lsq", "percentile", "qcfs"])
def test_a_constant_layer_is_named(init: str, per_channel: bool) -> None:
    x = torch.rand(8, 3)
    with pytest.raises(QuantizationError, match=r"quantizer '1': all activations .* are 1\.5"):
        pnn.quantize(constant(), init=init, calibration=x, per_channel=per_channel)


@pytest.mark.parametrize("candidates", [4, None, (), "ab", [(0, 4, 5)]])
def test_candidates_that_are_no_pairs(candidates: object) -> None:
    with pytest.raises(QuantizationError, match=r"candidates|levels"):
        pnn.choose_levels(torch.rand(9), target_bits=1, candidates=candidates)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_a_constant_channel_gets_the_step_of_its_layer(value: float) -> None:
    x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0)) * 3
    x[:, 1] = value
    each = pnn.choose_theta(x, PolarityQuant((0, 4), channels=2), "mse", "here")
    shared = pnn.choose_theta(x, PolarityQuant((0, 4)), "mse", "here")
    alone = pnn.choose_theta(x[:, :1], PolarityQuant((0, 4)), "mse", "here")
    assert each.tolist() == [alone.item(), shared.item()]


def test_mixed_precision_trains_alike_and_leaves_float32_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 1, 4, 4, generator=generator)
    y = (x.sum((1, 2, 3)) > 0).long()
    seen: list[torch.dtype] = []
    models = []
    for mixed in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)
        )
        quantized = pnn.quantize(model, levels=(2, 4), gains=(4, 1), calibration=x)
        hook = quantized.get_submodule("0").register_forward_hook(
            lambda m, a, out: seen.append(out.dtype)
        )
        data = pnn.loader(x, y, batch_size=32)
        pnn.finetune(quantized, data, epochs=4, learning_rate=0.02, mixed_precision=mixed)
        hook.remove()
        assert all(p.dtype == torch.float32 for p in quantized.parameters())
        models.append(quantized)
    assert set(seen[: len(seen) // 2]) == {torch.float32}
    assert set(seen[len(seen) // 2 :]) == {torch.bfloat16}
    plain, mixed_model = (pnn.accuracy(m, x, y) for m in models)
    assert min(plain, mixed_model) > 0.85
