"""Level chooser, suggestions, and the five lines that turn a user's model into a PMSM network."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from torch import nn  # noqa: E402

from pmsm_hw import nn as pnn  # noqa: E402
from pmsm_hw.errors import QuantizationError  # noqa: E402
from pmsm_hw.nn.suggest import LEVELS, choose_levels, suggest  # noqa: E402

Z = torch.randn(1 << 14, generator=torch.Generator().manual_seed(0))


def test_candidates_come_in_order() -> None:
    assert [sum(lv) for lv in LEVELS] == sorted(sum(lv) for lv in LEVELS)
    assert len(set(LEVELS)) == len(LEVELS)


def test_smallest_levels_for_an_entropy() -> None:
    # facts of a unit Gaussian under the MSE step: (0, 4) keeps 1.65 bits, (2, 4) 2.39, (4, 4) 2.90
    assert choose_levels(Z, target_bits=1.6, candidates=((0, 4), (2, 4))).levels == (0, 4)
    assert choose_levels(Z, target_bits=1.8, candidates=((0, 4), (2, 4))).levels == (2, 4)
    choice = choose_levels(Z, target_bits=2.85, candidates=((0, 4), (2, 4), (4, 4)))
    assert choice.levels == (4, 4)
    assert choice.bits == pytest.approx(2.90, abs=0.05)
    assert choice.theta == pytest.approx(0.539, rel=0.05)
    assert choice.spikes_per_neuron == pytest.approx(1.44, abs=0.05)
    # nothing before it reaches the target
    smallest = choose_levels(Z, target_bits=2.5)
    for levels in LEVELS[: LEVELS.index(smallest.levels)]:
        with pytest.raises(QuantizationError, match="none of 1 candidates"):
            choose_levels(Z, target_bits=2.5, candidates=(levels,))


def test_most_bits_for_a_spike_budget() -> None:
    choice = choose_levels(Z, max_spikes=1.1)
    assert choice.spikes_per_neuron <= 1.1
    others = [choose_levels(Z, max_spikes=99, candidates=(lv,)) for lv in LEVELS]
    assert choice.bits == max(c.bits for c in others if c.spikes_per_neuron <= 1.1)
    both = choose_levels(Z, max_spikes=1.1, target_bits=1.0)
    assert both.spikes_per_neuron <= 1.1
    assert both.bits >= 1.0
    assert sum(both.levels) <= sum(choice.levels)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, "1 is needed"),
        ({"target_bits": 9.0}, "none of 20 candidates"),
        ({"max_spikes": 0.001}, "none of 20 candidates"),
        ({"target_bits": 2.5, "max_spikes": 0.5}, "closest is"),
    ],
)
def test_limits_that_cannot_be_kept(limits: dict[str, float], words: str) -> None:
    with pytest.raises(QuantizationError, match=words):
        choose_levels(Z, **limits)


def mlp(activation: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 24), nn.BatchNorm1d(24), activation, nn.Linear(24, 24), nn.BatchNorm1d(24),
        activation, nn.Linear(24, 4),
    ).eval()  # fmt: skip


X = torch.rand(96, 6, generator=torch.Generator().manual_seed(3))


def test_suggestion_for_a_relu_network() -> None:
    model = mlp(nn.ReLU())
    suggestion = suggest(model, X)
    assert suggestion.levels[0] == 0
    assert suggestion.gains == (1, 1)
    assert any("ReLU discard negative values" in reason for reason in suggestion.reasons)
    assert suggestion.agreement >= 0.9
    quantized = pnn.quantize(model, calibration=X, **suggestion.options)
    agreement = (pnn.predict(quantized, X).argmax(1) == model(X).argmax(1)).double().mean()
    assert float(agreement) == pytest.approx(suggestion.agreement)
    # no smaller levels of the kind were good enough
    smaller = [row for row in suggestion.tried if row[1] == "mse" and not row[2]]
    assert all(row[3] < 0.9 for row in smaller[:-1])
    text = str(suggestion)
    assert "agreement" in text
    assert all(reason in text for reason in suggestion.reasons)
    assert not any(isinstance(m, pnn.PolarityQuant) for m in model.modules())


@pytest.mark.parametrize(
    ("activation", "gains"), [(nn.LeakyReLU(0.25), (4, 1)), (nn.Hardtanh(), (1, 1))]
)
def test_activations_that_pass_negative_values_get_negative_levels(
    activation: nn.Module, gains: tuple[int, int]
) -> None:
    suggestion = suggest(mlp(activation), X)
    assert suggestion.levels[0] > 0
    assert suggestion.gains == gains
    assert all(layer.negative_share > 0 for layer in suggestion.entropy)
    with pytest.raises(QuantizationError, match=r"have n = 0 and would drop all of them"):
        suggest(mlp(activation), X, signed=False)


def test_suggestion_within_limits() -> None:
    model = mlp(nn.ReLU())
    assert suggest(model, X, signed=True).gains == (8, 1)
    bits = suggest(model, X, target_bits=2.0)
    assert sum(layer.bits for layer in bits.entropy) / 2 >= 2.0 or bits.init != "mse"
    frugal = suggest(model, X, max_spikes=0.5, target_agreement=1.1)
    assert sum(layer.spikes_per_neuron for layer in frugal.entropy) / 2 <= 0.5
    with pytest.raises(QuantizationError, match=r"none of .* candidates keeps max_spikes 0\.01"):
        suggest(model, X, max_spikes=0.01)
    with pytest.raises(QuantizationError, match="target_bits 7"):
        suggest(model, X, target_bits=7.0)
    with pytest.raises(QuantizationError, match="has 0 activations"):
        suggest(nn.Sequential(nn.Linear(6, 4)), X)


class TorchvisionBlock(nn.Module):
    """BasicBlock of torchvision's ResNet, as users write it: one in-place ReLU, called twice."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample = None
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: Any) -> Any:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class TorchvisionResNet18(nn.Module):
    """Layout and names of torchvision.models.resnet18; ``width`` is 64 there."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        n_in = width
        for i, stride in enumerate((1, 2, 2, 2)):
            n_out = width << i
            layer = nn.Sequential(
                TorchvisionBlock(n_in, n_out, stride), TorchvisionBlock(n_out, n_out, 1)
            )
            setattr(self, f"layer{i + 1}", layer)
            n_in = n_out
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(n_in, n_classes)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x)


class TorchvisionVgg11(nn.Module):
    """Layout and names of torchvision.models.vgg11; ``width`` is 64 and hidden 4096 there."""

    def __init__(self, width: int, hidden: int, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 3
        for v in (1, "M", 2, "M", 4, 4, "M", 8, 8, "M", 8, 8, "M"):
            if v == "M":
                layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
            else:
                n_out = width * int(v)
                layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(inplace=True)]
                n_in = n_out
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(
            nn.Linear(n_in, hidden), nn.ReLU(True), nn.Dropout(), nn.Linear(hidden, hidden),
            nn.ReLU(True), nn.Dropout(), nn.Linear(hidden, n_classes),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


@pytest.mark.parametrize(
    "build",
    [lambda: TorchvisionResNet18(8, 10), lambda: TorchvisionVgg11(8, 32, 10)],
    ids=["ResNet-18", "VGG-11"],
)
def test_five_lines_turn_a_users_module_into_a_network(build: Any) -> None:
    from pmsm_hw import nn, reference
    from pmsm_hw.convert import convert

    torch.manual_seed(0)
    model = build()
    x = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loader = nn.loader(x, torch.arange(16) % 10, batch_size=8)

    quantized = nn.quantize(model, levels=(2, 4), gains=(4, 1), calibration=x, max_pool="average")
    nn.finetune(quantized, loader, epochs=1)
    snn = nn.to_snn(quantized)
    network, report = convert(quantized, x, weight_bits=8, max_steps=2)
    result = reference.run(network, {network.inputs[0].name: x.numpy()}, n_steps=2)

    assert torch.equal(snn(x, 1), nn.predict(quantized, x))
    assert next(iter(result.logits.values())).shape == (16, 10)
    n_quantizers = sum(isinstance(m, nn.PolarityQuant) for m in quantized.modules())
    assert n_quantizers == (17 if hasattr(model, "layer4") else 10)
    assert str(report)
