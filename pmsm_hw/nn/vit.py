"""Vision transformers with a polarity multi-spike quantizer at every linear input.

They train, and run as torch SNNs: `to_snn` works on them as on any other model. Attention and
layer norm stay what they are, in full precision, so these models are not converted to integer
networks. Names of parameters are those of timm's ``vit_tiny_patch16_224`` and
``vit_small_patch16_224``, whose state dicts load.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.calibration import calibrate
from pmsm_hw.nn.quantizer import PolarityQuant

__all__ = ["Vit", "quantize_vit", "vit_small", "vit_tiny"]


class Slot(nn.Identity):
    """Where a quantizer goes: the input of a linear layer. Has no parameters."""


class PatchEmbedding(nn.Module):
    """Cuts an image into patches and maps each to a token."""

    def __init__(self, patch_size: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(batch, channels, height, width)`` to tokens ``(batch, n, width)``."""
        return cast(Tensor, self.proj(x).flatten(2).transpose(1, 2))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv_in = Slot()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj_in = Slot()
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(batch, n, width)`` to tokens."""
        batch, n, width = x.shape
        qkv = self.qkv(self.qkv_in(x)).reshape(batch, n, 3, self.n_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.proj(self.proj_in(mixed.transpose(1, 2).reshape(batch, n, width))))


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1_in = Slot()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2_in = Slot()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens."""
        return cast(Tensor, self.fc2(self.fc2_in(self.act(self.fc1(self.fc1_in(x))))))


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and around it a residual connection."""

    def __init__(self, width: int, n_heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, n_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, ratio * width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens."""
        x = x + self.attn(self.norm1(x))
        return cast(Tensor, x + self.mlp(self.norm2(x)))


class Vit(nn.Module):
    """Vision transformer (Dosovitskiy et al. 2021), classifying by a class token.

    Parameters
    ----------
    image_size, patch_size
        Pixels; the patch divides the image.
    width, depth, n_heads, ratio
        Width of a token, number of blocks, attention heads (dividing the width), and the MLP's
        hidden width relative to it.
    in_channels, n_classes
        Of the input and the output.

    Raises
    ------
    QuantizationError
        If patches do not tile the image or heads do not divide the width.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 16,
        width: int = 192,
        depth: int = 12,
        n_heads: int = 3,
        ratio: int = 4,
        in_channels: int = 3,
        n_classes: int = 1000,
    ) -> None:
        super().__init__()
        for what, whole, part in (
            ("image_size and patch_size", image_size, patch_size),
            ("width and n_heads", width, n_heads),
        ):
            if part < 1 or whole < 1 or whole % part:
                raise QuantizationError(
                    "Vit",
                    f"{what} are {whole} and {part}, the second has to divide the first",
                    remedy="choose a divisor",
                    actual=(whole, part),
                    limit="a divisor",
                )
        self.patch_embed = PatchEmbedding(patch_size, in_channels, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        n_tokens = (image_size // patch_size) ** 2 + 1
        self.pos_embed = nn.Parameter(torch.empty(1, n_tokens, width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        self.blocks = nn.Sequential(*(Block(width, n_heads, ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head_in = Slot()
        self.head = nn.Linear(width, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, n_classes)`` of images ``(batch, channels, height, width)``.

        Parameters
        ----------
        x
            ``(batch, channels, height, width)`` float.
        """
        tokens = self.patch_embed(x)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = self.norm(self.blocks(tokens + self.pos_embed))
        return cast(Tensor, self.head(self.head_in(tokens[:, 0])))


def vit_tiny(*, seed: int = 0, **arguments: Any) -> Vit:
    """Build ViT-Ti: width 192, 3 heads, 12 blocks; arguments as for `Vit`.

    Parameters
    ----------
    seed
        Of the weights.
    arguments
        As for `Vit`.
    """
    return _build(seed, {"width": 192, "n_heads": 3} | arguments)


def vit_small(*, seed: int = 0, **arguments: Any) -> Vit:
    """Build ViT-S: width 384, 6 heads, 12 blocks; arguments as for `Vit`.

    Parameters
    ----------
    seed
        Of the weights.
    arguments
        As for `Vit`.
    """
    return _build(seed, {"width": 384, "n_heads": 6} | arguments)


def _build(seed: int, arguments: dict[str, Any]) -> Vit:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Vit(**arguments)


def quantize_vit(
    model: Vit,
    levels: Sequence[int] = (4, 4),
    gains: Sequence[int] = (1, 1),
    init: str = "mse",
    calibration: Any = None,
    *,
    lsq_gradient_scale: bool = True,
) -> Vit:
    """Put a calibrated `PolarityQuant` at the input of every linear layer.

    Layer norm's output is as often negative as positive and the layer that follows is linear, so
    negative levels with alpha = 1 fit here, other than after the batch norm of a ReLU network.

    Parameters
    ----------
    model
        Full precision. Not changed.
    levels, gains, init, calibration, lsq_gradient_scale
        See `quantize`.

    Returns
    -------
    Vit
        In evaluation mode; for `finetune`, `entropy_report` and `to_snn`.

    Raises
    ------
    QuantizationError
        If the model has quantizers already, or the calibration batch is missing or useless.
    """
    if calibration is None:
        raise QuantizationError(
            "Vit",
            "no calibration batch was given, 1 is needed to choose theta",
            remedy="pass calibration=x, some hundred training images",
            actual=None,
            limit="a batch of images",
        )
    quantized = copy.deepcopy(model).eval()
    slots = [name for name, module in quantized.named_modules() if isinstance(module, Slot)]
    if not slots:
        raise QuantizationError(
            "Vit",
            "has 0 free linear inputs",
            remedy="give the full-precision model",
            actual=0,
            limit=1,
        )
    for name in slots:
        quantizer = PolarityQuant(levels, gains, lsq_gradient_scale=lsq_gradient_scale)
        quantized.set_submodule(name, quantizer)
    quantized.to(model.cls_token.device)
    calibrate(quantized, calibration, init)
    return quantized
