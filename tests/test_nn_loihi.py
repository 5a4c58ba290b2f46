"""Loihi's neurons in torch: to the bit what a network computes, trained and converted so."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import fuzz_cuba_lif
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import call
from neuron_cases import cases, plainly
from quick import LONG, examples
from random_networks import small_network

torch = pytest.importorskip("torch", reason="torch is not installed in this Python")

from torch import nn  # noqa: E402

from pmsm_hw import io, reference  # noqa: E402
from pmsm_hw.convert import convert  # noqa: E402
from pmsm_hw.errors import (  # noqa: E402
    ConversionError,
    NetworkError,
    NeuronModelError,
    QuantizationError,
)
from pmsm_hw.network import loihi_weights  # noqa: E402
from pmsm_hw.neurons import models  # noqa: E402
from pmsm_hw.nn import (  # noqa: E402
    AdaptiveLif,
    CubaLif,
    Delta,
    LoihiConv1d,
    LoihiConv2d,
    LoihiInput,
    LoihiLinear,
    LoihiOneToOne,
    LoihiReadout,
    LoihiSumPool,
    PolarityQuant,
    SigmaDelta,
    current_decay,
    from_network,
    integrate_and_fire,
    voltage_decay,
    with_loihi_synapses,
)
from pmsm_hw.nn.loihi import TORCH  # noqa: E402
from pmsm_hw.nn.loihi.surrogate import SURROGATES  # noqa: E402

torch.set_num_threads(1)  # tiny layers: threads only wait for each other
pytestmark = pytest.mark.torch

# -- every model, against its own step ------------------------------------------------------------


@pytest.mark.parametrize("kind", TORCH.kinds)
@examples(15)
@given(data=st.data())
def test_torch_equals_the_step(kind, data):
    case = data.draw(cases(models()[kind]))
    module = from_network(case.network)
    with torch.no_grad():
        found = module.run(torch.from_numpy(case.units.astype(np.float32)))
    for name, done in plainly(case).items():
        population: Any = case.network[name]
        if population.fires:
            sent = found.payloads[name].numpy()
            np.testing.assert_array_equal(sent, population.payload(done.spikes))
        for state, values in done.states.items():
            np.testing.assert_array_equal(found.states[name][state].detach().numpy(), values)
        assert module.module_of(name).population(name, population.shape) == population


def test_the_page_says_which_models_torch_has():
    page = (Path(__file__).parents[1] / "docs" / "neurons.md").read_text(encoding="utf-8")
    (head,) = re.findall(r"^\| model \|.*", page, re.MULTILINE)
    column = [cell.strip() for cell in head.split("|")].index("torch")
    for kind in models():
        (row,) = re.findall(rf"^\| `{kind}` \|.*", page, re.MULTILINE)
        has = kind in (*TORCH.kinds, "polarity_multi_spike")
        assert row.split("|")[column].strip() == ("yes" if has else "refused")


# -- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign_mode", ["mixed", "excitatory", "inhibitory"])
def test_rounded_weights_are_those_of_a_loihi(sign_mode):
    for bits in range(1, 9):
        layer = LoihiLinear(40, 30, gain=40, weight_bits=bits, sign_mode=sign_mode)
        integers = layer.integer_weight().detach().numpy().astype(int)
        held, exponent = loihi_weights(integers, sign_mode=sign_mode, weight_bits=bits)
        np.testing.assert_array_equal(held.astype(int) << exponent, integers)
        assert len(np.unique(integers)) > 1 or bits == 1
        x = torch.ones(2, 3, 40)
        layer(x).sum().backward()  # straight through
        assert torch.all(layer.weight.grad == 6 * layer.scale)


def test_weights_of_a_scale_are_the_nearest_that_there_are():
    layer = LoihiLinear(4, 1, scale=64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.04, -0.05, 3.99, -9.0]]))
    assert layer.integer_weight().tolist() == [[2.0, -4.0, 254.0, -256.0]]
    coarse = LoihiLinear(4, 1, scale=64, weight_exponent=3)
    with torch.no_grad():
        coarse.weight.copy_(torch.tensor([[0.5, -0.3, 20.0, 0.0]]))
    assert coarse.integer_weight().tolist() == [[4.0, -2.0, 160.0, 0.0]]
    assert coarse(torch.ones(1, 1, 4)).item() == (4 - 2 + 160) << 3


def test_sums_are_shifted_not_products():
    layer = LoihiLinear(2, 1, scale=64, weight_exponent=-3, weight_bits=8)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[6.0, -18.0]]) / 512)
    assert layer.integer_weight().tolist() == [[6.0, -18.0]]
    assert layer(torch.ones(1, 1, 2)).item() == -2.0  # floor(-12 / 8); each shifted: 0 - 3


def test_a_decay_of_a_time_constant():
    assert voltage_decay(10) == round(4096 * (1 - np.exp(-0.1)))
    assert voltage_decay(np.inf) == 0
    assert current_decay(factor=0.0) == 4095
    assert current_decay(factor=0.5) == 2047  # the chip adds 1
    with pytest.raises(QuantizationError, match=r"one of them is needed"):
        voltage_decay()
    with pytest.raises(QuantizationError, match=r"factor 1.5 is outside 0..1"):
        voltage_decay(factor=1.5)


def test_the_gradient_of_a_neuron_is_that_of_its_equations():
    """Against autograd over the plain equations in real numbers."""
    torch.manual_seed(0)
    for options in ({}, {"reset": "subtract"}, {"reset_interval": 4, "reset_offset": 1}):
        neuron = CubaLif(64, 1000, 300, surrogate="triangle", slope=0.7, **options)
        drive = torch.randint(-20, 60, (3, 9, 5)).double().requires_grad_()
        factor = torch.randn(3, 9, 5)
        (neuron(drive) * factor).sum().backward()
        found, drive.grad = drive.grad.clone(), None
        u = v = torch.zeros(3, 5, dtype=torch.float64)
        total = torch.zeros(())
        for t in range(9):
            if options.get("reset_interval") and t % 4 == 1:
                u, v = torch.zeros_like(u), torch.zeros_like(v)
            u = _fixed(u * (3095 / 4096)) + 64 * drive[:, t]
            v = _fixed(v * (3796 / 4096)) + u
            x = (v - 4096) / 4096
            soft = torch.relu(1 - 0.7 * x.abs()).detach() * x  # its derivative is the surrogate
            fired = (v > 4096).double().detach()
            total = total + ((fired + soft - soft.detach()) * factor[:, t]).sum()
            v = v - 4096 * fired if options.get("reset") else v * (1 - fired)
        total.backward()
        torch.testing.assert_close(found, drive.grad, rtol=1e-5, atol=1e-7)
        assert found.abs().max() > 0


def _fixed(x: Any) -> Any:
    return x + (torch.trunc(x) - x).detach()


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_a_network_learns(surrogate):
    torch.manual_seed(0)
    model = nn.Sequential(
        LoihiInput(levels=(0, 1)),
        LoihiLinear(20, 16, gain=4),
        CubaLif(64, 2047, 400, learned_bias=16, surrogate=surrogate, slope=1.0),
        LoihiLinear(16, 2, gain=2),
        LoihiReadout(),
    )
    x = (torch.rand(64, 8, 20) < 0.3).float()
    labels = (x[:, :, :10].sum((1, 2)) > x[:, :, 10:].sum((1, 2))).long()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(25):
        loss = nn.functional.cross_entropy(model(x) * 4, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


# -- conversion -----------------------------------------------------------------------------------


class Everything(nn.Module):
    """Layers and neurons of all kinds, with two branches and a recurrence."""

    def __init__(self, rng: Any) -> None:
        super().__init__()
        delays = torch.from_numpy(rng.integers(0, 4, (3, 2, 3, 3)))
        self.input = LoihiInput(0.5, (0, 3))
        self.conv = LoihiConv2d(2, 3, 3, padding=1, gain=2, delays=delays)
        self.lif = CubaLif(64, current_decay(3), voltage_decay(5), learned_bias=3)
        self.pool = LoihiSumPool((2, 2), weight=0.4)
        self.soft = integrate_and_fire(64, reset="subtract")
        self.flatten = nn.Flatten(2)
        self.drop = nn.Dropout(0.2)
        self.first = LoihiLinear(12, 9, gain=3, weight_exponent=-2, weight_bits=5)
        self.second = LoihiLinear(12, 9, gain=3, delay=2, sign_mode="excitatory")
        recurrent = LoihiLinear(9, 9, delays=rng.integers(0, 3, (9, 9)), sign_mode="inhibitory")
        self.adaptive = AdaptiveLif(
            40, 1000, 200, adaptation=9, da=30, refractory=3, recurrent=recurrent
        )
        self.graded = CubaLif(
            30, 4095, 100, payload_mode="graded", reset_interval=5, reset_offset=2, bias=9
        )
        self.last = LoihiLinear(9, 4)
        self.readout = LoihiReadout(learned_bias=4, overflow="saturate")
        with torch.no_grad():
            self.lif.bias.uniform_(-0.2, 0.2)
            self.readout.bias.uniform_(-0.1, 0.1)

    def forward(self, x: Any) -> Any:
        x = self.lif(self.conv(self.input(x)))
        x = self.drop(self.flatten(self.soft(self.pool(x))))
        x = self.adaptive(self.first(x) + self.second(x))
        return self.readout(self.last(self.graded(x)))


def events(rng: Any, *shape: int) -> Any:
    return torch.from_numpy((rng.integers(0, 4, shape) * (rng.random(shape) < 0.4) / 2).astype("f"))


def test_a_model_of_everything_converts_without_a_difference():
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    model, x = Everything(rng), events(rng, 5, 12, 2, 4, 4)
    network, report = convert(model, x, name="everything")
    assert model.training
    assert [p.differing_spikes for p in report.populations] == [0.0] * 5
    assert all(p.spike_rate is None or 0.02 < p.spike_rate < 0.9 for p in report.populations)
    result = reference.run(network, x.numpy(), 12)
    with torch.no_grad():
        logits = model.eval()(x).numpy()
    np.testing.assert_array_equal(result.logits["readout"].astype(np.float32), logits)
    again = from_network(network)
    with torch.no_grad():
        np.testing.assert_array_equal(again(x).numpy(), logits)
    assert convert(again, x, name="everything").network == network
    assert "0 of" in str(report)
    assert report.to_dict()["populations"][0]["n_compared"] == 5 * 12 * 48


def test_static_samples_and_one_dimension():
    torch.manual_seed(1)
    model = nn.Sequential(
        LoihiInput(1 / 16, (0, 15), n_steps=6),
        LoihiConv1d(1, 3, 5, stride=2, padding=(1,), gain=0.3),
        CubaLif(64, 4095, 500),
        nn.Flatten(2),
        LoihiLinear(21, 3),
        LoihiReadout(),
    )
    x = torch.rand(7, 1, 16)
    network, _ = convert(model, x)
    result = reference.run(network, x.numpy(), 6)
    np.testing.assert_array_equal(result.logits["5"].astype("f"), model(x).detach().numpy())


def test_a_sigma_delta_model_trains_and_converts():
    torch.manual_seed(0)
    model = nn.Sequential(
        LoihiInput(1 / 16, (-16, 16)),
        Delta(2, spike_exp=2),
        LoihiLinear(8, 12, scale=16),
        SigmaDelta(20, learned_bias=12, state_exp=2, scale=16),
        LoihiLinear(12, 2, scale=16),
        LoihiReadout(),
    )
    x = torch.rand(4, 10, 8).cumsum(1) / 10
    loss = model(x).square().sum()
    loss.backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.parameters())
    _, report = convert(model, x)
    assert [p.kind for p in report.populations] == ["delta", "sigma_delta", "readout"]


def test_spikes_can_be_counted_and_returned():
    torch.manual_seed(0)
    counted = nn.Sequential(LoihiInput(), LoihiLinear(6, 4, gain=5), CubaLif(64), LoihiReadout(1.0))
    x = (torch.rand(3, 9, 6) < 0.5).float()
    network, _ = convert(counted, x)
    spikes = counted[:3](x).detach()
    np.testing.assert_array_equal(counted(x).detach(), spikes.mean(1))
    assert reference.run(network, x.numpy(), 9).readouts["3"].sum() == float(spikes.sum()) > 0
    without, report = convert(counted[:3], x)
    assert not without.readouts
    assert len(report.populations) == 1


def test_a_difference_is_an_error_that_says_where():
    torch.manual_seed(0)
    model = nn.Sequential(LoihiInput(), LoihiLinear(6, 4, gain=5), CubaLif(64), LoihiReadout(1.0))
    model[2].register_forward_hook(lambda module, args, output: None)  # changes nothing
    x = (torch.rand(3, 9, 6) < 0.5).float()
    convert(model, x)
    model[1].register_forward_hook(lambda module, args, output: output + 1)
    with pytest.raises(ConversionError, match=r"population '2': \d+ of 108 values differ .* step"):
        convert(model, x)


class Twice(nn.Module):
    """Two inputs, and a layer and neurons that are used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = LoihiInput(), LoihiInput(0.5, (-2, 2))
        self.layer, self.lif = LoihiLinear(6, 6, gain=4), CubaLif(64, 3000, 200)
        self.readout = LoihiReadout(1.0)

    def forward(self, a: Any, b: Any) -> Any:
        spikes = self.lif(self.layer(self.a(a)) + self.layer(self.b(b)))
        return {"logits": self.readout(spikes), "spikes": self.lif(self.layer(spikes))}


def test_modules_used_twice_and_several_inputs():
    torch.manual_seed(0)
    x, y = (torch.rand(3, 9, 6) < 0.5).float(), torch.rand(3, 9, 6)
    model = pickle.loads(pickle.dumps(Twice()))
    network, report = convert(model, (x, y))
    assert [p.name for p in network] == ["a", "b", "lif", "readout", "lif_1"]
    assert len({q.name for q in network.projections}) == 4
    assert report.populations[0].spike_rate > 0.05
    result = reference.run(network, {"a": x.numpy(), "b": y.numpy()}, 9)
    np.testing.assert_array_equal(result.spikes["lif_1"], model(x, y)["spikes"].detach())
    with torch.no_grad():
        model.layer.weight[0, 0] = torch.nan
    with pytest.raises(ConversionError, match=r"parameter 'layer.weight': holds 1 values that"):
        convert(model, (x, y))


# -- what cannot be is refused by name ------------------------------------------------------------

X = (torch.rand(2, 5, 6) < 0.5).float()


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ((nn.Linear(6, 4), CubaLif()), r"module '0' \(Linear\): takes the model's input"),
        ((LoihiInput(), nn.Linear(6, 4), CubaLif()), r"module '1' \(Linear\): has no counterpart"),
        ((LoihiInput(), LoihiLinear(6, 4), nn.ReLU()), r"module '2' \(ReLU\): has no counterpart"),
        ((LoihiInput(), LoihiLinear(6, 4), LoihiLinear(4, 2), CubaLif()), "follows another layer"),
        ((LoihiInput(), LoihiLinear(6, 4)), "returns something other than spikes"),
        ((LoihiLinear(6, 4), CubaLif()), r"module '0' \(LoihiLinear\): takes the model's input"),
        ((LoihiInput(), CubaLif(), nn.Flatten(1)), r"flattens axes 1 to -1, steps are axis 1"),
        ((LoihiInput(), CubaLif(), PolarityQuant((0, 4))), "has polarity quantizers"),
        ((LoihiInput(n_steps=2), LoihiLinear(6, 4), CubaLif()), "is given .* are needed"),
    ],
)
def test_what_has_no_counterpart_is_refused(modules, message):
    with pytest.raises((ConversionError, QuantizationError), match=message):
        convert(nn.Sequential(*modules), X)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CubaLif(vth=1 << 17), r"vth lies in \[131072, 131072\]|vth lies in"),
        (lambda: CubaLif(vth=0.5), "vth has dtype float64, integers of at most 64 bits"),
        (lambda: CubaLif(refractory=65), "refractory 65 is outside 1..64"),
        (lambda: CubaLif(surrogate="step"), "surrogate 'step' is not one of"),
        (lambda: CubaLif(recurrent=nn.Linear(2, 2)), "recurrent is a Linear, synapses are needed"),
        (lambda: LoihiLinear(2, 2, weight_bits=9), "weight_bits 9 is outside 1..8"),
        (lambda: LoihiLinear(2, 2, delays=[[0, 63], [0, 0]]), r"integers 0..62 of shape \(2, 2\)"),
        (lambda: LoihiLinear(2, 2)(torch.ones(2, 2)), "LoihiLinear: is given"),
        (lambda: CubaLif()(torch.ones(2, 2)), "CubaLif: is given"),
        (lambda: LoihiInput()(torch.ones(2, 3, 4, dtype=torch.int64)), "holds int64"),
        (lambda: LoihiInput()(torch.full((1, 2, 3), torch.nan)), "6 of 6 values that are not"),
        (lambda: LoihiConv2d(1, 1, 3, padding="same"), "padding is 'same', 2 integers"),
    ],
)
def test_modules_refuse_what_they_cannot_be(make, message):
    with pytest.raises((QuantizationError, NetworkError), match=message):
        make()


def test_options_without_effect_are_refused():
    model = nn.Sequential(LoihiInput(), LoihiLinear(6, 4, gain=5), CubaLif(64))
    with pytest.raises(ConversionError, match=r"weight_bits: 4 has no effect: a model of Loihi's"):
        convert(model, X, weight_bits=4)
    assert convert(model, X, max_steps=9).network.max_steps == 9
    with pytest.raises(ConversionError, match="holds no samples"):
        convert(model)
    with pytest.raises(ConversionError, match="model 'CubaLif': is one module, a network begins"):
        convert(CubaLif(), X)


def test_a_network_of_other_neurons_is_refused_by_name():
    with pytest.raises(NeuronModelError, match="torch has nothing for neuron model 'polarity"):
        from_network(small_network())
    with pytest.raises(QuantizationError, match="scale 3 is no power of two"):
        from_network(small_network(), scale=3)
    assert LoihiOneToOne(2.0)(torch.ones(1, 1, 2, 3)).shape == (1, 1, 2, 3)


# -- plain layers, files, the command line --------------------------------------------------------


def plain_model() -> Any:
    """Torch's own layers between Loihi's neurons, for digits."""
    torch.manual_seed(0)
    return with_loihi_synapses(
        nn.Sequential(
            LoihiInput(1 / 16, (0, 16), n_steps=6),
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            CubaLif(20, 1000, 300),
            nn.AvgPool2d(2),
            integrate_and_fire(10),
            nn.Flatten(2),
            nn.Linear(64, 10, bias=False),
            LoihiReadout(),
        )
    )


def test_plain_layers_become_synapses_with_their_weights():
    model = plain_model()
    assert [type(m).__name__ for m in model[1::2]] == [
        "LoihiConv2d", "LoihiSumPool", "Flatten", "LoihiReadout",
    ]  # fmt: skip
    assert model[3].integer_weight().tolist() == 16.0
    linear = nn.Linear(3, 2, bias=False)
    assert torch.equal(with_loihi_synapses(linear).weight, linear.weight)
    for layer, message in (
        (nn.Linear(2, 2), r"module '0' \(Linear\): has a bias"),
        (nn.Conv1d(1, 1, 3, bias=False, padding="same"), "has padding 'same'"),
        (nn.AvgPool2d(2, ceil_mode=True), "has ceil_mode=True"),
    ):
        with pytest.raises(QuantizationError, match=message):
            with_loihi_synapses(nn.Sequential(layer))


def test_the_command_line_takes_a_model(tmp_path):
    (tmp_path / "mine_loihi.py").write_text("from test_nn_loihi import plain_model\n")
    words = ["mine_loihi:plain_model", "--calibration", "digits-train"]
    done = call("convert", *words, "--json", "-o", "n.h5", cwd=tmp_path)
    assert done.status == 0, done.stderr
    found = json.loads(done.stdout)
    assert [p["differing_spikes"] for p in found["populations"]] == [0.0] * 3
    assert io.load(tmp_path / "n.h5").max_steps == 6
    assert io.load_report(tmp_path / "n.h5") == found
    done = call("convert", *words, "--weight-bits", "4", "-o", "m.h5", cwd=tmp_path)
    assert done.status == 2
    assert "weight_bits: 4 has no effect: a model of Loihi's neurons" in done.stderr


@pytest.mark.parametrize("number", range(300 if LONG else 4))
def test_random_networks_in_torch_equal_the_reference(number):
    """Delays, recurrence, exponents of both signs, out to the edge of wrap and saturation."""
    network, units, n_steps = fuzz_cuba_lif.random_network(number)
    module = from_network(network)
    probes = dict.fromkeys(module.place, ("v",))
    wanted = reference.run(network, units, n_steps, probes=probes)
    with torch.no_grad():
        found = module.run(torch.from_numpy(units["x"].astype(np.float32)))
    for name, states in found.states.items():
        population: Any = network[name]
        last = wanted.states[name]["v"][:, -1]
        np.testing.assert_array_equal(states["v"].numpy(), last)
        if population.fires:
            payload = population.payload(wanted.spikes[name])
            np.testing.assert_array_equal(found.payloads[name].numpy(), payload)
    x = units["x"].astype(np.float32)
    assert convert(module, x, name=network.name).network == network
