"""Models to train, convert and measure; plain torch.nn modules with ReLU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from pmsm_hw.errors import QuantizationError

__all__ = ["DigitsCnn", "LeNet", "Mlp", "ResNet", "Vgg", "build", "digits_cnn", "names"]


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
        """Logits ``(batch, n_classes)`` of images ``(batch, 1, 8, 8)``.

        Parameters
        ----------
        x
            ``(batch, 1, 8, 8)`` float.
        """
        x = self.pool1(self.act1(self.bn1(self.conv1(x))))
        x = self.act2(self.bn2(self.conv2(x)))
        x = self.act3(self.bn3(self.conv3(x)) + x)
        return cast(Tensor, self.fc(self.flatten(self.pool2(x))))


def digits_cnn(*, seed: int = 0, width: int = 12, n_classes: int = 10) -> nn.Module:
    """Build a `DigitsCnn`.

    Parameters
    ----------
    seed
        Of the weights.
    width, n_classes
        As for `DigitsCnn`.
    """
    return build("digits_cnn", seed=seed, width=width, n_classes=n_classes)


class Mlp(nn.Module):
    """Linear layers with ReLU between them; flattens its input.

    Parameters
    ----------
    sizes
        Numbers of values: input, hidden layers, output.
    """

    def __init__(self, sizes: Sequence[int] = (784, 256, 128, 10)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            layers.append(nn.Linear(n_in, n_out))
            if i < len(sizes) - 2:
                layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of any shape.

        Parameters
        ----------
        x
            ``(batch, ...)`` float; flattened.
        """
        return cast(Tensor, self.layers(x))


class LeNet(nn.Module):
    """LeNet-5 with ReLU, for 28x28 images.

    Parameters
    ----------
    in_channels, n_classes
        Sizes.
    pool
        ``"average"`` or ``"max"``; only the first converts.
    """

    def __init__(self, in_channels: int = 1, n_classes: int = 10, pool: str = "average") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.act1 = nn.ReLU()
        self.pool1 = _pool(pool)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.act2 = nn.ReLU()
        self.pool2 = _pool(pool)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(400, 120)
        self.act3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.act4 = nn.ReLU()
        self.fc3 = nn.Linear(84, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, n_classes)`` of images ``(batch, in_channels, 28, 28)``.

        Parameters
        ----------
        x
            ``(batch, in_channels, 28, 28)`` float.
        """
        x = self.pool1(self.act1(self.conv1(x)))
        x = self.flatten(self.pool2(self.act2(self.conv2(x))))
        return cast(Tensor, self.fc3(self.act4(self.fc2(self.act3(self.fc1(x))))))


def _pool(kind: str) -> nn.Module:
    if kind == "average":
        return nn.AvgPool2d(2)
    if kind == "max":
        return nn.MaxPool2d(2)
    raise QuantizationError(
        "pool",
        f"{kind!r} is not one of average, max",
        remedy="choose one of them",
        actual=kind,
        limit=("average", "max"),
    )


_VGG_CHANNELS: dict[int, tuple[int, ...]] = {
    11: (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    16: (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
}


class Vgg(nn.Module):
    """VGG with batch norm; names of parameters are torchvision's.

    Parameters
    ----------
    depth
        11 or 16.
    n_classes
        Number of outputs.
    imagenet
        Head for 224x224 images (7x7 grid, two hidden layers of 4,096); else one linear layer on the
        mean over the grid, for 32x32 images.
    pool
        ``"average"`` or ``"max"``.
    """

    def __init__(
        self, depth: int = 16, n_classes: int = 10, imagenet: bool = False, pool: str = "average"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for wide in _VGG_CHANNELS[depth]:
            if wide == 0:
                layers.append(_pool(pool))
                continue
            layers += [
                nn.Conv2d(channels, wide, 3, padding=1),
                nn.BatchNorm2d(wide),
                nn.ReLU(inplace=True),
            ]
            channels = wide
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7 if imagenet else 1)
        if imagenet:
            self.classifier = nn.Sequential(
                nn.Linear(512 * 49, 4096), nn.ReLU(True), nn.Dropout(),
                nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(),
                nn.Linear(4096, n_classes),
            )  # fmt: skip
        else:
            self.classifier = nn.Sequential(nn.Linear(512, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, n_classes)``.

        Parameters
        ----------
        x
            ``(batch, in_channels, height, width)`` float.
        """
        return cast(Tensor, self.classifier(torch.flatten(self.avgpool(self.features(x)), 1)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; names are torchvision's.

    Parameters
    ----------
    n_in, n_out, stride
        Channels, and stride of the first convolution.
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """As in torchvision; the activation is called twice."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return cast(Tensor, self.relu(self.bn2(self.conv2(out)) + identity))


class ResNet(nn.Module):
    """Residual network of basic blocks; names are torchvision's.

    Parameters
    ----------
    blocks
        Number of blocks in each stage.
    width
        Channels of the first stage; each further stage has twice as many.
    n_classes
        Number of outputs.
    stem
        ``"cifar"``: one 3x3 convolution; ``"imagenet"``: a 7x7 one with stride 2, then pooling.
    pool
        Pooling of the ImageNet stem: ``"average"`` or ``"max"``.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (3, 3, 3),
        width: int = 16,
        n_classes: int = 10,
        stem: str = "cifar",
        pool: str = "average",
    ) -> None:
        super().__init__()
        large = stem == "imagenet"
        self.conv1 = nn.Conv2d(3, width, 7 if large else 3, 2 if large else 1, 3 if large else 1,
                               bias=False)  # fmt: skip
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.Identity()
        if large:
            self.maxpool = nn.MaxPool2d(3, 2, 1) if pool == "max" else nn.AvgPool2d(3, 2, 1)
        channels = width
        self.n_stages = len(blocks)
        for i, n in enumerate(blocks):
            wide = width << i
            stage = []
            for j in range(n):
                stage.append(BasicBlock(channels, wide, 2 if i and j == 0 else 1))
                channels = wide
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, n_classes)``.

        Parameters
        ----------
        x
            ``(batch, in_channels, height, width)`` float.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(self.n_stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return cast(Tensor, self.fc(torch.flatten(self.avgpool(x), 1)))


def _vgg(depth: int) -> Callable[..., nn.Module]:
    return lambda **arguments: Vgg(depth, **arguments)


def _resnet(blocks: Sequence[int], width: int, stem: str) -> Callable[..., nn.Module]:
    defaults: dict[str, Any] = {"width": width, "stem": stem}
    return lambda **arguments: ResNet(blocks, **(defaults | arguments))


_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "digits_cnn": DigitsCnn,
    "lenet": LeNet,
    "mlp": Mlp,
    "resnet18": _resnet((2, 2, 2, 2), 64, "imagenet"),
    "resnet20": _resnet((3, 3, 3), 16, "cifar"),
    "resnet34": _resnet((3, 4, 6, 3), 64, "imagenet"),
    "vgg11": _vgg(11),
    "vgg16": _vgg(16),
}


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
    model.__dict__["recipe"] = {"model": name, "arguments": arguments}
    return model
