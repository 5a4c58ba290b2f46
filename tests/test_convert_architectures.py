"""Architectures as people write them convert without a differing spike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pmsm_hw import reference

torch = pytest.importorskip("torch", reason="needs torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from pmsm_hw import nn as pnn  # noqa: E402
from pmsm_hw.convert import convert, integer_model  # noqa: E402

torch.set_num_threads(1)  # tiny layers: threads only wait for each other


def block(n_in: int, n_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Any:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):  # type: ignore[misc]
    def __init__(self, n_in: int, n_out: int, stride: int, wider: int) -> None:
        super().__init__()
        wide = n_in * wider
        self.is_residual = stride == 1 and n_in == n_out
        self.conv = nn.Sequential(
            block(n_in, wide, 1),
            block(wide, wide, 3, stride, wide),
            nn.Conv2d(wide, n_out, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetLike(nn.Module):  # type: ignore[misc]
    """Depthwise convolutions; projections without activation run into expansions."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            block(3, 8, 3, 2),
            InvertedResidual(8, 8, 1, 2),
            InvertedResidual(8, 12, 2, 3),
            InvertedResidual(12, 12, 1, 3),
            block(12, 32, 1),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 10))

    def forward(self, x: Any) -> Any:
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class DenseLayer(nn.Module):  # type: ignore[misc]
    def __init__(self, n_in: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(n_in)
        self.conv = nn.Conv2d(n_in, growth, 3, padding=1, bias=False)

    def forward(self, x: Any) -> Any:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class DenseNetLike(nn.Module):  # type: ignore[misc]
    """Concatenations of values that are not spikes, normalised anew by each reader."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.block1 = nn.Sequential(DenseLayer(8, 4), DenseLayer(12, 4))
        self.norm, self.transition, self.pool = (
            nn.BatchNorm2d(16), nn.Conv2d(16, 8, 1), nn.AvgPool2d(2, 2),
        )  # fmt: skip
        self.block2 = DenseLayer(8, 4)
        self.norm2, self.fc = nn.BatchNorm2d(12), nn.Linear(12, 10)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.norm(self.block1(self.conv(x))))
        x = F.relu(self.norm2(self.block2(self.pool(self.transition(x)))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class PreActivation(nn.Module):  # type: ignore[misc]
    """A residual stream that is never quantized itself; one activation called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8, 8)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(8) for _ in range(3)])
        self.fc, self.act = nn.Linear(8, 10), nn.ReLU()

    def forward(self, x: Any) -> Any:
        x = self.convs[0](x)
        y = self.convs[1](self.act(self.norms[0](x)))
        x = x + self.convs[2](self.act(self.norms[1](y)))
        return self.fc(self.act(self.norms[2](x)).mean([2, 3]))


class Fire(nn.Module):  # type: ignore[misc]
    def __init__(self, n_in: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze, self.act = nn.Conv2d(n_in, squeeze, 1), nn.ReLU(inplace=True)
        self.expand1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = self.act(self.squeeze(x))
        return torch.cat([self.act(self.expand1(x)), self.act(self.expand3(x))], 1)


class SqueezeNetLike(nn.Module):  # type: ignore[misc]
    """Branches, max pooling with ceil_mode (swapped), a classifier that ends in pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(8, 4, 6),
            Fire(12, 4, 6),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(12, 10, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1))
        )

    def forward(self, x: Any) -> Any:
        return torch.flatten(self.classifier(self.features(x)), 1)


class Sequence1d(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(3, 8, 5, stride=2, padding=2),
            nn.BatchNorm1d(8),
            nn.LeakyReLU(0.1),
            nn.Conv1d(8, 8, 3, dilation=2),
            nn.ReLU(),
            nn.AvgPool1d(3),
            nn.Flatten(),
            nn.Linear(32, 6),
            nn.BatchNorm1d(6),
            nn.Hardtanh(0, 6),
            nn.Linear(6, 3),
        )

    def forward(self, x: Any) -> Any:
        return self.layers(x)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (MobileNetLike, (3, 16, 24)),
        (DenseNetLike, (3, 12, 10)),
        (PreActivation, (3, 9, 11)),
        (SqueezeNetLike, (3, 32, 29)),
        (Sequence1d, (3, 34)),
    ],
)
def test_architecture(kind: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = kind()
    x = torch.rand(6, *shape)
    with torch.no_grad():
        model(x)  # running statistics
    quantized = pnn.quantize(model.eval(), (1, 6), (4, 1), calibration=x, max_pool="average")
    integer = integer_model(quantized, x, max_steps=3)
    network, report = convert(integer)
    for n_steps in (1, 3):
        ran = reference.run(network, x.numpy(), n_steps)
        snn = pnn.to_snn(integer).run(x, n_steps)
        for name, k in snn.spikes.items():
            np.testing.assert_array_equal(k, ran.spikes[name])
    differing = [p.differing_spikes for p in report.populations if p.differing_spikes is not None]
    assert differing[0] < 0.01  # rounding alone; deeper layers add up what came before
    assert max(differing) < 0.1
