"""ViT: names and sizes of timm's models, quantizers at every linear input, training, torch SNN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from pmsm_hw import nn as pnn  # noqa: E402
from pmsm_hw.datasets import load_digits  # noqa: E402
from pmsm_hw.errors import PmsmHwError, QuantizationError  # noqa: E402
from pmsm_hw.nn import PolarityQuant  # noqa: E402
from pmsm_hw.nn.entropy import entropy_report  # noqa: E402
from pmsm_hw.nn.vit import Vit, quantize_vit, vit_small, vit_tiny  # noqa: E402

SMALL: dict[str, Any] = {
    "image_size": 8, "patch_size": 2, "width": 16, "depth": 2, "n_heads": 2, "in_channels": 1,
    "n_classes": 10,
}  # fmt: skip


@pytest.mark.parametrize(
    ("build", "width", "parameters"), [(vit_tiny, 192, 5_717_416), (vit_small, 384, 22_050_664)]
)
def test_names_and_sizes_are_timms(build: Any, width: int, parameters: int) -> None:
    model = build()
    state = model.state_dict()
    block = {
        "norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight",
        "attn.proj.bias", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias",
        "mlp.fc2.weight", "mlp.fc2.bias",
    }  # fmt: skip
    expected = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias",
                "norm.weight", "norm.bias", "head.weight", "head.bias"}  # fmt: skip
    expected |= {f"blocks.{i}.{name}" for i in range(12) for name in block}
    assert set(state) == expected
    # the figures of timm's vit_tiny_patch16_224 and vit_small_patch16_224
    assert sum(v.numel() for v in state.values()) == parameters
    assert state["pos_embed"].shape == (1, 197, width)
    assert state["blocks.3.attn.qkv.weight"].shape == (3 * width, width)


def test_attention_by_hand() -> None:
    model = Vit(**SMALL)
    attention = model.blocks[0].attn
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    qkv = attention.qkv(x).detach().numpy().reshape(2, 5, 3, 2, 8)
    mixed = np.zeros((2, 5, 2, 8))
    for b in range(2):
        for head in range(2):
            q, k, v = (qkv[b, :, i, head] for i in range(3))
            score = np.exp(q @ k.T / np.sqrt(8))
            mixed[b, :, head] = score / score.sum(1, keepdims=True) @ v
    expected = attention.proj(torch.from_numpy(mixed.reshape(2, 5, 16)).float())
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-4)


def test_every_linear_input_is_quantized() -> None:
    model = Vit(**SMALL)
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    quantized = quantize_vit(model, levels=(2, 4), calibration=x)
    assert not any(isinstance(m, PolarityQuant) for m in model.modules())
    assert sum(isinstance(m, PolarityQuant) for m in quantized.modules()) == 4 * 2 + 1
    thetas = {n: m.theta for n, m in quantized.named_modules() if isinstance(m, PolarityQuant)}
    inputs: dict[str, Any] = {}
    for name, module in quantized.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda m, a, name=name: inputs.update({name: a[0]}))
    with torch.no_grad():
        quantized(x)
    assert len(inputs) == 4 * 2 + 1
    for name, values in inputs.items():
        k = (values / thetas[f"{name}_in"]).detach()
        torch.testing.assert_close(k, k.round(), atol=1e-5, rtol=0)
        assert k.min() > -2.5
        assert k.max() < 4.5
    signed = entropy_report(quantized, x)
    assert all(layer.negative_share > 0 for layer in signed)


def test_many_levels_are_nearly_lossless() -> None:
    model = Vit(**SMALL)
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        coarse, fine = (
            quantize_vit(model, levels=(n, n), calibration=x)(x) - model(x) for n in (2, 127)
        )
    assert fine.abs().max() < 0.05 * coarse.abs().max()


def test_trains_and_runs_as_an_snn() -> None:
    images, labels = load_digits("train")
    torch.manual_seed(0)
    model = Vit(**SMALL | {"patch_size": 4, "width": 32})
    data = pnn.loader(images, labels, batch_size=64)
    pnn.train(model, data, epochs=12, learning_rate=3e-3, progress=False)
    quantized = quantize_vit(model, levels=(4, 4), calibration=images[:128])
    pnn.finetune(quantized, data, epochs=2, learning_rate=1e-3, progress=False)
    test = load_digits("test")
    assert pnn.accuracy(quantized, *test) > 0.6  # chance is 0.1
    x = torch.as_tensor(test.images[:32])
    snn = pnn.to_snn(quantized)
    assert torch.equal(snn(x, 1), pnn.predict(quantized, x))
    answer = snn.run(x, 3)
    assert answer.spikes["blocks.1.mlp.fc2_in"].shape == (32, 3, 5, 128)
    assert {int(answer.spikes["head_in"].min()), int(answer.spikes["head_in"].max())} <= set(
        range(-4, 5)
    )
    right = (answer.logits.argmax(1) == torch.as_tensor(test.labels[:32])).float().mean()
    assert right > 0.5


def test_bad_arguments() -> None:
    x = torch.rand(4, 1, 8, 8)
    model = Vit(**SMALL)
    with pytest.raises(QuantizationError, match="no calibration batch"):
        quantize_vit(model)
    quantized = quantize_vit(model, calibration=x)
    with pytest.raises(QuantizationError, match="0 free linear inputs"):
        quantize_vit(quantized, calibration=x)
    with pytest.raises(QuantizationError, match="has to divide"):
        Vit(image_size=9, patch_size=2)
    with pytest.raises(QuantizationError, match="has to divide"):
        Vit(width=10, n_heads=3)
    with pytest.raises(PmsmHwError, match="not finite"):
        quantize_vit(model, calibration=x * float("nan"))
