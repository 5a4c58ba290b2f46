"""Models to train, convert and measure; plain torch.nn modules with ReLU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from pmsm_hw.errors import QuantizationError

__all__ = ["DigitsCnn", "build", "digits_cnn", "names"]


class DigitsCnn(nn.Module):
    """Small residual network for 8x8 images: some 1,600 neurons.

    Parameters
    ----------
    width
        Channels of the first convolution; the others have twice as many.
    n_classes
        Number of outputs.
    """

    def __init__(self, width: int = 12, n_classes: int = 10) -> None:
        super().__init__()
        wide = 2 * width
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.pool1 = nn.AvgPool2d(2)
        self.conv2 = nn.Conv2d(width, wide, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.act2 = nn.ReLU()
        self.conv3 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.act3 = nn.ReLU()
        self.pool2 = nn.AvgPool2d(2)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(wide * 4, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, n_classes)`` of images ``(batch, 1, 8, 8)``."""
        x = self.pool1(self.act1(self.bn1(self.conv1(x))))
        x = self.act2(self.bn2(self.conv2(x)))
        x = self.act3(self.bn3(self.conv3(x)) + x)
        return cast(Tensor, self.fc(self.flatten(self.pool2(x))))


def digits_cnn(*, seed: int = 0, width: int = 12, n_classes: int = 10) -> nn.Module:
    """Build a `DigitsCnn`."""
    return build("digits_cnn", seed=seed, width=width, n_classes=n_classes)


_BUILDERS: dict[str, Callable[..., nn.Module]] = {"digits_cnn": DigitsCnn}


def names() -> tuple[str, ...]:
    """Names that `build` knows."""
    return tuple(_BUILDERS)


def build(name: str, *, seed: int = 0, **arguments: Any) -> nn.Module:
    """Build a model by name, with seeded weights.

    Parameters
    ----------
    name
        One of `names`.
    seed
        Of the initial weights; torch's global generator is left as it was.
    arguments
        For the model's class.

    Raises
    ------
    QuantizationError
        If the name is unknown.
    """
    if name not in _BUILDERS:
        raise QuantizationError(
            f"model {name!r}",
            f"is unknown, there are {', '.join(_BUILDERS)}",
            remedy="choose one of them",
            actual=name,
            limit=names(),
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _BUILDERS[name](**arguments)
    model.recipe = {"model": name, "arguments": arguments}  # type: ignore[assignment]
    return model
