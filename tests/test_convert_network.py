"""Conversion of whole models: hand-computed integers, forms, reports, refusals, files, training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pmsm_hw import reference
from pmsm_hw.datasets import load_digits
from pmsm_hw.errors import ConversionError, FormatError, PmsmHwError, QuantizationError
from pmsm_hw.network import Conv2d, Dense, Identity, Network, PolarityMultiSpike, SumPool

torch = pytest.importorskip("torch", reason="needs torch")

import torch.nn.functional as F  # noqa: E402

from pmsm_hw import nn as pnn  # noqa: E402
from pmsm_hw.convert import convert, integer_model, load_model, save_model  # noqa: E402
from pmsm_hw.nn import InputQuant, PolarityQuant  # noqa: E402

torch.set_num_threads(1)  # tiny layers: threads only wait for each other


def linear(weight: list[list[float]], bias: list[float] | None = None) -> Any:
    layer = torch.nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def test_integers_by_hand() -> None:
    # one input unit is 0.5, so the scale of row i is max |w| * 0.5 / 127; 0.001 keeps the numbers
    # from being integers times a step
    model = torch.nn.Sequential(
        InputQuant(0.5, (0, 3)),
        linear([[1.0, -0.501], [0.25, 0.1252]], [0.251, -0.1251]),
        PolarityQuant((1, 3), (2, 1), theta=0.75),
        linear([[1.0, 0.9999]]),
    ).eval()
    network, report = convert(model, torch.zeros(1, 2), max_steps=1)
    (hidden,) = network.into("2")
    assert isinstance(hidden, Dense)
    assert hidden.weight.tolist() == [[127, -64], [127, 64]]
    assert hidden.weight_exponent == 6  # small network: all fractional bits fit
    neurons = network["2"]
    assert isinstance(neurons, PolarityMultiSpike)
    units = [0.5 / 127 / 64, 0.125 / 127 / 64]
    assert neurons.theta.reshape(-1).tolist() == [round(0.75 / u) for u in units]
    assert neurons.bias.reshape(-1).tolist() == [round(0.251 / units[0]), round(-0.1251 / units[1])]
    assert neurons.start.reshape(-1).tolist() == [t // 2 for t in neurons.theta.reshape(-1)]
    assert neurons.levels == (1, 3)
    assert neurons.gains == (2, 1)
    # payload 1 is theta / 2 = 0.375; both weights alike: 127
    (out,) = network.into("output")
    assert out.weight.tolist() == [[127, 127]]
    (readout,) = network.readouts
    assert float(readout.scale) == pytest.approx(0.375 / 127 / 2**out.weight_exponent)
    # x = (3, 0) units: z = (1.75, 0.25), k = (floor(2.83), floor(0.83)) = (2, 0)
    result = reference.run(network, np.array([[3, 0]]))
    assert result.spikes["2"][0, 0].tolist() == [2, 0]
    assert result.logits["output"][0, 0] == pytest.approx(1.5)
    assert report.populations[0].theta_error is not None
    assert report.populations[0].theta_error < 1e-4


def test_negative_spikes_carry_their_gain() -> None:
    model = torch.nn.Sequential(
        InputQuant(1.0, (-5, 5)), linear([[1.0]]), PolarityQuant((4, 4), (4, -1)), linear([[1.0]])
    ).eval()
    network, _ = convert(model, torch.zeros(1, 1))
    result = reference.run(network, np.array([[-3.0], [2.0]]))
    assert result.spikes["2"][:, 0, 0].tolist() == [-3, 2]
    assert result.logits["output"][:, 0] == pytest.approx([0.75, 2.0], rel=1e-2)


class Residual(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.quant = InputQuant(1 / 8, (0, 8))
        self.conv1 = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.act1 = PolarityQuant((1, 4), (2, 1), theta=0.4)
        self.conv2 = torch.nn.Conv2d(4, 4, (3, 1), padding=(1, 0))
        self.act2 = PolarityQuant((2, 4), theta=0.3)
        self.pool = torch.nn.AvgPool2d(2)
        self.fc = torch.nn.Linear(4 * 2 * 3, 5)

    def forward(self, x: Any) -> Any:
        x = self.act1(self.conv1(self.quant(x)))
        x = self.act2(self.conv2(x) + x)
        return self.fc(torch.flatten(self.pool(x), 1))


@pytest.fixture
def residual() -> Any:
    torch.manual_seed(3)
    return Residual().eval()


def test_forms_of_a_residual_network(residual: Any) -> None:
    x = torch.rand(8, 2, 4, 6)
    network, report = convert(residual, x, pooling="relay", name="res")
    kinds = {q.name: type(q) for q in network.projections}
    assert kinds == {
        "input->act1": Conv2d,
        "act1->act2": Conv2d,
        "act1->act2#2": Identity,
        "act2->act2.pool": SumPool,
        "act2.pool->output": Dense,
    }
    relay = network["act2.pool"]
    assert isinstance(relay, PolarityMultiSpike)
    assert relay.levels == (8, 16)
    assert int(relay.theta) == 1
    folded, _ = convert(residual, x, pooling="fold")
    assert "act2.pool" not in folded
    assert next(q for q in folded.projections if q.target == "output").weight.shape == (5, 96)
    data = report.to_dict()
    assert [p["name"] for p in data["populations"]] == ["act1", "act2", "act2.pool", "output"]
    assert data["populations"][2]["kind"] == "relay"
    assert "act2.pool" in str(report)
    assert all(0 <= p["weight_error"] < 0.02 for p in data["populations"] if p["weight_error"])


def test_pooling_is_relayed_where_spikes_are_graded(residual: Any) -> None:
    x = torch.rand(4, 2, 4, 6)
    graded, _ = convert(residual, x)
    unit, _ = convert(residual, x, target_spikes="unit")
    assert "act2.pool" in graded
    assert "act2.pool" not in unit
    first, second = (reference.run(n, x.numpy()) for n in (graded, unit))
    np.testing.assert_array_equal(first.spikes["act2"], second.spikes["act2"])
    with pytest.raises(ConversionError, match="target_spikes"):
        convert(residual, x, target_spikes="rate")  # type: ignore[arg-type]


def test_small_residual_branch_is_rounded_finer(residual: Any) -> None:
    with torch.no_grad():
        residual.conv2.weight *= 0.02  # the identity's weights set the scale
    network, _ = convert(residual, torch.rand(4, 2, 4, 6))
    conv, identity = (q for q in network.projections if q.target == "act2")
    assert conv.weight_exponent == 0 < identity.weight_exponent
    assert np.abs(conv.weight).max() > 20  # 1 at the identity's step


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_keep_within_their_bits(residual: Any, bits: int, per_channel: bool) -> None:
    network, _ = convert(
        residual, torch.rand(2, 2, 4, 6), weight_bits=bits, per_channel=per_channel, pooling="fold"
    )
    for name in ("act1", "act2", "output"):
        largest = max(int(np.abs(q.weight).max()) for q in network.into(name))
        assert largest == 2 ** (bits - 1) - 1


def test_report_is_the_same_in_parts(residual: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pmsm_hw.convert import proof as module

    x = torch.rand(23, 2, 4, 6)
    integer = integer_model(residual, x)
    whole = convert(integer).report
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1 << 13)
    parts = convert(integer).report
    for a, b in zip(whole.populations, parts.populations, strict=True):
        # sums of floats may depend on the batch, integers do not
        floats = {"differing_spikes": None, "drive_error": None}
        assert replace(a, **floats) == replace(b, **floats)
        assert a.differing_spikes == pytest.approx(b.differing_spikes, abs=0.01)
        if a.drive_error is not None:  # a relay has none
            assert a.drive_error == pytest.approx(b.drive_error, rel=1e-6)
    assert (whole.n_calibration, parts.n_calibration) == (23, 23)


def test_zero_weights_are_no_synapses(residual: Any) -> None:
    with torch.no_grad():
        residual.conv1.weight[1] = 0
    network, report = convert(residual, torch.rand(2, 2, 4, 6))
    (conv,) = network.into("act1")
    assert not conv.weight[1].any()
    assert report.populations[0].n_dead_channels >= 0


def test_max_steps_and_rule_reach_the_network(residual: Any) -> None:
    x = torch.rand(2, 2, 4, 6)
    one, _ = convert(residual, x, max_steps=1)
    many, _ = convert(residual, x, max_steps=6, rule="bounded")
    assert (one.max_steps, many.max_steps) == (1, 6)
    assert many["act1"].rule == "bounded"  # type: ignore[attr-defined]
    exponents = [n.into("output")[0].weight_exponent for n in (one, many)]
    assert exponents[0] > exponents[1]


def wide() -> Any:
    layer = torch.nn.Linear(4096, 1, bias=False)
    layer.weight.data.fill_(1.0)
    layer.weight.data[0, 0] = 0.7654321  # not integers times a step, which would fit
    return torch.nn.Sequential(
        InputQuant(1.0, (0, 255)), layer, PolarityQuant((0, 4), theta=1.0), torch.nn.Linear(1, 1)
    ).eval()


def test_state_that_does_not_fit_is_refused_or_saturates() -> None:
    x = torch.ones(1, 4096)
    with pytest.raises(ConversionError, match=r"population '2'.*24 bits") as caught:
        convert(wide(), x)
    assert caught.value.actual[1] > 2**23  # type: ignore[index]
    network, report = convert(wide(), x, overflow="saturate", max_steps=2)
    assert report.populations[0].saturates
    result = reference.run(network, np.full((1, 4096), 255), 2)
    assert result.saturations["2"] == 2


def test_weights_that_are_integers_need_less_state() -> None:
    model = wide()
    model[1].weight.data.fill_(1.0)
    network, report = convert(model, torch.ones(1, 4096))
    assert report.populations[0].weight_error == 0
    assert report.populations[0].fractional_bits == 0
    assert network.bounds["2"].u_max < 2**23


@pytest.mark.parametrize("pooling", ["fold", "relay"])
def test_user_model_through_the_whole_path(pooling: Any) -> None:
    """A plain nn.Module with functional forms; training with fake-quantized weights is exact."""

    class Plain(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.bn0 = torch.nn.BatchNorm2d(1)
            self.conv = torch.nn.Conv2d(1, 6, 3, stride=2, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(6)
            self.dw = torch.nn.Conv2d(6, 6, 3, groups=6)
            self.fc = torch.nn.Linear(9, 3)
            self.shift = 0.25

        def forward(self, x: Any) -> Any:
            x = F.relu(self.bn1(self.conv(F.pad(self.bn0(x), (0, 1, 2, 1)))))
            y = torch.relu(self.dw(x) * 2.0 - self.shift)
            y = torch.cat([y.mean(dim=(2, 3)), F.adaptive_avg_pool2d(x, 1)[:, :3].flatten(1)], 1)
            return self.fc(y.view(y.size(0), -1))

    torch.manual_seed(0)
    x = torch.rand(90, 1, 8, 8)
    labels = (x.mean((1, 2, 3)) * 30).long() % 3
    model = Plain()
    with pytest.raises(QuantizationError, match="getitem"):
        pnn.quantize(model, (1, 4), (2, 1), calibration=x)

    class Better(Plain):
        def forward(self, x: Any) -> Any:
            x = F.relu(self.bn1(self.conv(F.pad(self.bn0(x), (0, 1, 2, 1)))))
            y = torch.relu(self.dw(x) * 2.0 - self.shift)
            y = torch.cat([y.mean(dim=(2, 3)), F.avg_pool2d(x, 2).mean((2, 3))], 1)
            return self.fc(y.view(y.size(0), -1))

    model = Better()
    model.fc = torch.nn.Linear(12, 3)
    pnn.train(model, pnn.loader(x, labels), epochs=2)
    quantized = pnn.quantize(model, (1, 4), (2, 1), calibration=x)
    integer = integer_model(quantized, x, pooling=pooling, weight_bits=4, max_steps=4)
    before = [p.detach().clone() for p in integer.parameters()]
    pnn.finetune(integer, pnn.loader(x, labels), epochs=3, learning_rate=1e-2)
    changed = [not torch.equal(a, b) for a, b in zip(before, integer.parameters(), strict=True)]
    assert all(changed)  # weights, biases, batch norm and thetas all take part
    network, report = convert(integer)
    for n_steps in (1, 2, 4):
        ran = reference.run(network, x.numpy(), n_steps)
        snn = pnn.to_snn(integer).run(x, n_steps)
        for name, k in snn.spikes.items():
            np.testing.assert_array_equal(k, ran.spikes[name])
    quantized_spikes = pnn.spikes(integer, x)
    first = reference.run(network, x.numpy(), 1)
    for name, k in quantized_spikes.items():
        np.testing.assert_array_equal(k, first.spikes[name][:, 0])
    logits = pnn.predict(integer, x).numpy()
    np.testing.assert_array_equal(logits.argmax(1), first.predictions())
    assert report.max_steps == 4


def test_gradients_of_the_integer_model_follow_the_quantized_model() -> None:
    """With 8-bit weights both models are close, so their gradients must be too."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.AvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(72, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4),
    )  # fmt: skip
    x = torch.rand(256, 1, 8, 8)
    quantized = pnn.quantize(model, (2, 6), (2, 1), calibration=x)
    for name in ("1", "5"):  # many clipped levels, so that theta's gradient is no sum of noise
        quantized.get_submodule(name).theta.data *= 0.4
    integer = integer_model(quantized, x)
    target = torch.randint(0, 4, (256,))

    def gradients(which: Any) -> list[Any]:
        which.train()
        which.zero_grad()
        F.cross_entropy(which(x), target).backward()
        return [p.grad.clone().reshape(-1) for p in quantized.parameters()]

    for a, b in zip(gradients(quantized), gradients(integer), strict=True):
        cosine = float(F.cosine_similarity(a, b, dim=0)) if a.numel() > 1 else 1.0
        assert cosine > 0.97
        assert float(b.norm()) == pytest.approx(float(a.norm()), rel=0.2, abs=1e-4)


def test_torch_export_where_tracing_fails() -> None:
    class Shaped(torch.nn.Module):  # type: ignore[misc]
        """Branches on a shape, which torch.fx cannot trace."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 4, 3, padding=1)
            self.bn = torch.nn.BatchNorm2d(4)
            self.pool, self.mean = torch.nn.AvgPool2d(2), torch.nn.AdaptiveAvgPool2d(1)
            self.drop, self.fc = torch.nn.Dropout(), torch.nn.Linear(40, 3)

        def forward(self, x: Any) -> Any:
            if x.shape[1] > 3:
                raise ValueError("too many channels")
            x = torch.relu_(self.bn(self.conv(x)))
            x = torch.cat([self.pool(x).flatten(1), self.mean(F.pad(x, (1, 0))).flatten(1)], 1)
            return {"logits": self.fc(self.drop(x)) - 0.5}

    torch.manual_seed(0)
    model = Shaped()
    model.bn.running_mean = torch.rand(4)
    x = torch.rand(30, 2, 6, 6)
    quantized = pnn.quantize(model, (1, 6), (2, 1), calibration=x)
    assert set(quantized.state_dict()) >= set(model.state_dict()) - {"bn.num_batches_tracked"}
    wanted = model.eval()(x)["logits"]
    assert float((quantized(x)["logits"] - wanted).abs().max().detach()) < 0.3
    _, report = convert(quantized, x)
    assert report.populations[0].differing_spikes < 0.02
    integer = integer_model(quantized, x)
    ran = reference.run(convert(integer).network, x.numpy(), 3)
    snn = pnn.to_snn(integer).run(x, 3)
    np.testing.assert_array_equal(snn.spikes["relu"], ran.spikes["relu"])
    np.testing.assert_allclose(snn.logits["logits"], ran.logits["logits"], atol=1e-5)


def test_several_inputs_and_outputs() -> None:
    class Two(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Linear(3, 4), torch.nn.Linear(5, 4)
            self.heads = torch.nn.Linear(4, 2)
            self.other = torch.nn.Linear(4, 3)

        def forward(self, first: Any, second: Any) -> Any:
            h = F.relu(self.a(first) + self.b(second))
            return {"class": self.heads(h), "pose": self.other(h)}

    torch.manual_seed(0)
    xs = (torch.rand(16, 3), torch.rand(16, 5) - 0.5)
    quantized = pnn.quantize(Two(), (0, 4), calibration=xs)
    integer = integer_model(quantized, xs)
    network, report = convert(integer)
    assert report.differing_predictions is None
    assert "samples" in str(report)
    assert [p.name for p in network.inputs] == ["first", "second"]
    assert {p.name for p in network.readouts} == {"class", "pose"}
    units = {n: x.numpy() for n, x in zip(("first", "second"), xs, strict=True)}
    result = reference.run(network, units, 2)
    snn = pnn.to_snn(integer).run(*xs, n_steps=2)
    for name in ("class", "pose"):
        np.testing.assert_allclose(snn.logits[name].numpy(), result.logits[name], atol=1e-5)
    np.testing.assert_array_equal(snn.spikes["relu"], result.spikes["relu"])


def test_a_shared_layer_and_quantizer_become_two_populations() -> None:
    class Siamese(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.quant = InputQuant(0.1, (-9, 9))
            self.layer = torch.nn.Linear(4, 4)
            self.act = PolarityQuant((1, 3), theta=0.2)

        def forward(self, x: Any) -> Any:
            x = self.act(self.layer(self.quant(x)))
            return self.act(self.layer(x))

    torch.manual_seed(0)
    model = Siamese().eval()
    x = torch.randn(9, 4)
    network, _ = convert(model, x)
    assert [p.name for p in network.populations] == ["input", "act", "act_1", "output"]
    assert set(pnn.spikes(model, x)) == {"quant", "act", "act_1"}


def refused(make: Any) -> str:
    with pytest.raises(ConversionError) as caught:
        make()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refusals_name_module_reason_and_remedy() -> None:
    q = InputQuant(1.0, (0, 7))
    seq = torch.nn.Sequential
    x = torch.rand(1, 2, 6, 6)
    conv = torch.nn.Conv2d(2, 2, 3)
    act = PolarityQuant((0, 4))
    message = refused(lambda: convert(seq(q, conv, torch.nn.ReLU()), x))
    assert message.startswith("module '2' (ReLU)")
    assert "pmsm_hw.nn.quantize(model" in message
    assert "quantize" in refused(lambda: convert(seq(q, conv), x))
    message = refused(lambda: convert(seq(q, conv, act, torch.nn.MaxPool2d(2)), x))
    assert message.startswith("module '3' (MaxPool2d)")
    assert "AvgPool2d" in message
    message = refused(lambda: convert(seq(conv, act), x))
    assert "input_scale=1/255" in message
    convert(seq(conv, act), x, input_scale=1 / 255, input_levels=(0, 255))
    assert "'1' (Softmax)" in refused(lambda: convert(seq(q, torch.nn.Softmax(1), act), x))
    assert "'1' (Upsample)" in refused(lambda: convert(seq(q, torch.nn.Upsample(8), act), x))
    circular = torch.nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")
    assert "circular" in refused(lambda: convert(seq(q, circular, act), x))
    fresh = torch.nn.BatchNorm2d(2, track_running_stats=False)
    assert "running statistics" in refused(lambda: convert(seq(q, fresh, act), x))
    assert "6x6" in refused(lambda: convert(seq(q, conv, act, torch.nn.Linear(7, 2)), x))
    assert "9x9x9" in refused(lambda: convert(seq(q, conv, act), torch.rand(1, 9, 9, 9)))
    assert "0 examples" in refused(lambda: convert(seq(q, conv, act)))
    assert "weight_bits" in refused(lambda: convert(seq(q, conv, act), x, weight_bits=9))
    assert "pooling" in refused(lambda: convert(seq(q, conv, act), x, pooling="max"))  # type: ignore[arg-type]
    assert "overflow" in refused(lambda: convert(seq(q, conv, act), x, overflow="wrap"))  # type: ignore[arg-type]

    class Product(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.q, self.act = q, act

        def forward(self, x: Any) -> Any:
            y = self.act(self.q(x))
            return y * y

    assert "multiplies two activations" in refused(lambda: convert(Product(), x))

    class Branch(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    assert "'2' (Branch)" in refused(lambda: convert(seq(q, act, Branch()), x))


def test_constants_per_neuron_become_biases() -> None:
    class Embedded(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.conv = InputQuant(1 / 8, (0, 8)), torch.nn.Conv2d(1, 2, 3, padding=1)
            self.position = torch.nn.Parameter(torch.randn(1, 2, 4, 5) * 0.3)
            self.column = torch.nn.Parameter(torch.randn(5) * 0.3)
            self.act = PolarityQuant((2, 4), theta=0.1)

        def forward(self, x: Any) -> Any:
            return self.act(self.column + self.conv(self.quant(x)) + self.position)

    torch.manual_seed(0)
    model, x = Embedded().eval(), torch.rand(40, 1, 4, 5)
    network, report = convert(model, x)
    assert network["act"].bias.shape == (2, 4, 5)  # type: ignore[attr-defined]
    assert report.populations[0].differing_spikes < 0.01


def test_pool_without_padding_counts() -> None:
    """Divisors that differ by position are exact too: the map is written out as a matrix."""
    torch.manual_seed(0)
    pool = torch.nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False)
    model = torch.nn.Sequential(
        InputQuant(0.25, (0, 4)), torch.nn.Conv2d(1, 2, 3, padding=1), PolarityQuant((0, 4)), pool,
        torch.nn.Conv2d(2, 3, 2), PolarityQuant((1, 4), theta=0.1), torch.nn.Flatten(),
        torch.nn.Linear(12, 2),
    ).eval()  # fmt: skip
    x = torch.rand(20, 1, 6, 6)
    integer = integer_model(model, x[:, :, :5, :5])
    network, report = convert(integer)
    assert report.populations[1].differing_spikes < 0.02
    np.testing.assert_array_equal(
        pnn.spikes(integer, x[:, :, :5, :5])["5"],
        reference.run(network, x[:, :, :5, :5].numpy()).spikes["5"][:, 0],
    )


def digits() -> tuple[Any, Any, Any, Any]:
    x, labels = load_digits()
    order = np.random.default_rng(0).permutation(len(x))
    split = len(x) * 2 // 3
    train, test = order[:split], order[split:]
    return x[train], labels[train], x[test], labels[test]


@pytest.fixture(scope="module")
def trained() -> Any:
    x, y, x_test, y_test = digits()
    model = pnn.models.digits_cnn(seed=0)
    pnn.train(model, pnn.loader(x, y), epochs=15)
    quantized = pnn.quantize(
        model, (2, 4), (4, 1), "mse", x[:256], input_scale=1 / 16, input_levels=(0, 16)
    )
    pnn.finetune(quantized, pnn.loader(x, y), epochs=8)
    integer = integer_model(quantized, x[:256])
    pnn.finetune(integer, pnn.loader(x, y), epochs=5)
    return model, quantized, integer, x_test, y_test


def test_digits_reach_their_accuracy_and_agree(trained: Any) -> None:
    model, quantized, integer, x, y = trained
    assert pnn.accuracy(model, x, y) >= 0.97
    assert pnn.accuracy(quantized, x, y) >= 0.97
    network, report = convert(integer, name="digits")
    result = reference.run(network, x)
    ours = float((result.predictions() == y).mean())
    assert ours == pnn.accuracy(integer, x, y)
    assert ours >= pnn.accuracy(quantized, x, y) - 0.01
    for name, k in pnn.spikes(integer, x).items():
        np.testing.assert_array_equal(k, result.spikes[name][:, 0])
    snn = pnn.to_snn(quantized).run(x, 1)
    for name, k in pnn.spikes(quantized, x).items():
        np.testing.assert_array_equal(k, snn.spikes[name][:, 0])
    assert network.n_neurons <= 2000
    assert report.differing_predictions < 0.02


def test_training_is_deterministic() -> None:
    x, y, _, _ = digits()
    states = []
    for _ in range(2):
        model = pnn.models.digits_cnn(seed=1)
        torch.rand(3)  # other users of the global generator do not matter
        pnn.train(model, pnn.loader(x[:200], y[:200]), epochs=1, seed=5)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_training_resumes_where_it_stopped(tmp_path: Path) -> None:
    x, y, _, _ = digits()
    x, y = x[:256], y[:256]

    def fresh() -> tuple[Any, Any]:
        return pnn.models.digits_cnn(seed=1), pnn.loader(x, y)

    whole, data = fresh()
    history = pnn.train(whole, data, epochs=3)

    class Interrupted(Exception):
        pass

    class Stops:
        """Raises in the second epoch."""

        def __init__(self, data: Any) -> None:
            self.data, self.generator, self.epoch = data, data.generator, 0

        def __len__(self) -> int:
            return len(self.data)

        def __iter__(self) -> Any:
            self.epoch += 1
            for i, batch in enumerate(self.data):
                if self.epoch == 2 and i == 2:
                    raise Interrupted
                yield batch

    path = tmp_path / "training.pt"
    model, data = fresh()
    with pytest.raises(Interrupted):
        pnn.train(model, Stops(data), epochs=3, checkpoint=path)
    model, data = fresh()
    resumed = pnn.train(model, data, epochs=3, checkpoint=path)
    assert resumed == history
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True)
    )
    with pytest.raises(QuantizationError, match="3 epochs, 4"):
        pnn.train(model, data, epochs=4, checkpoint=path)
    path.write_bytes(b"nonsense")
    with pytest.raises(QuantizationError, match="cannot be resumed"):
        pnn.train(model, data, epochs=3, checkpoint=path)


def test_early_stop_and_teacher() -> None:
    x, y, x_test, y_test = digits()
    data = pnn.loader(x[:128], y[:128])
    held_out = pnn.loader(x_test[:64], y_test[:64], shuffle=False)
    teacher = pnn.models.digits_cnn(seed=2).eval()
    model = pnn.models.digits_cnn(seed=3)
    history = pnn.train(
        model, data, epochs=40, learning_rate=1e-5, validation=held_out, patience=2, teacher=teacher
    )
    assert history.stopped_early
    assert len(history.loss) < 40


def test_bad_training_data() -> None:
    x, y, _, _ = digits()
    model = pnn.models.digits_cnn()
    with pytest.raises(QuantizationError, match=r"labels.*\[0, 12\].*10 outputs"):
        pnn.train(model, pnn.loader(x[:4], np.array([0, 1, 2, 12])), epochs=1)
    with pytest.raises(QuantizationError, match="labels"):
        pnn.loader(x[:4], y[:3])
    with pytest.raises(QuantizationError, match="finite"):
        pnn.train(model, pnn.loader(np.full((8, 1, 8, 8), np.nan), np.zeros(8)), epochs=1)
    with pytest.raises(QuantizationError, match="PolarityQuant"):
        pnn.finetune(model, pnn.loader(x[:4], y[:4]), epochs=1)


def test_theta_stays_positive_in_training() -> None:
    x, y, _, _ = digits()
    quantized = pnn.quantize(pnn.models.digits_cnn(), calibration=x[:64])
    pnn.finetune(quantized, pnn.loader(x[:256], y[:256]), epochs=2, learning_rate=3.0)
    for module in quantized.modules():
        if isinstance(module, PolarityQuant):
            assert float(module.theta.detach().min()) > 0


def test_model_files(trained: Any, tmp_path: Path) -> None:
    model, quantized, integer, x, _ = trained
    path = tmp_path / "model.pt"
    for each in (model, quantized, integer):
        save_model(path, each)
        again = load_model(path)
        assert torch.equal(pnn.predict(again, x), pnn.predict(each, x))
    assert convert(again).network.fingerprint == convert(integer).network.fingerprint
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConversionError, match="not built by name"):
        save_model(path, torch.nn.Linear(2, 2))
    with pytest.raises(FormatError, match="cannot be written"):
        save_model(tmp_path / "absent" / "model.pt", model)


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", {"format": "other"}, {"format": "pmsm-hw-model", "format_version": 99}, [1],
     {"format": "pmsm-hw-model", "format_version": 1, "recipe": {"model": "nothing"}}],
)  # fmt: skip
def test_bad_model_files(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(FormatError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(FormatError):
        load_model(tmp_path / "absent.pt")


@pytest.mark.parametrize("name", ["lenet", "mlp", "resnet20", "vgg11"])
def test_models_convert(name: str) -> None:
    shape = {"lenet": (1, 28, 28), "mlp": (1, 28, 28)}.get(name, (3, 32, 32))
    model = pnn.models.build(name, **({"width": 4} if name == "resnet20" else {})).eval()
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    integer = integer_model(pnn.quantize(model, (1, 4), (2, 1), "lsq", x), x, max_steps=1)
    network, _ = convert(integer)
    assert isinstance(network, Network)
    ran = reference.run(network, x.numpy())
    for key, k in pnn.spikes(integer, x).items():
        np.testing.assert_array_equal(k, ran.spikes[key][:, 0])


def test_errors_share_one_root() -> None:
    assert issubclass(ConversionError, PmsmHwError)
    assert issubclass(QuantizationError, PmsmHwError)
