"""Quantizer, neuron and torch SNN: equations, gradients, exactness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmsm_hw.errors import InputError, QuantizationError

torch = pytest.importorskip("torch", reason="needs torch")

from pmsm_hw import nn as pnn  # noqa: E402
from pmsm_hw.network import Input  # noqa: E402
from pmsm_hw.nn import InputQuant, PolarityMultiSpike, PolarityQuant  # noqa: E402

torch.set_num_threads(1)  # tiny layers: threads only wait for each other

LEVELS = st.tuples(st.integers(0, 4), st.integers(1, 8))
GAINS = st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([-2, -1, 0, 1, 2, 4]))


def test_levels_by_hand() -> None:
    quantizer = PolarityQuant((2, 3), (4, 1), theta=2.0)
    x = torch.tensor([[-9.0, -5.1, -3.0, -1.1, -1.0, 0.0, 0.99, 1.0, 2.99, 3.0, 99.0]])
    k = [-2, -2, -1, -1, 0, 0, 0, 1, 1, 2, 3]
    assert quantizer.spikes(x)[0].tolist() == k
    expected = [2.0 * v if v > 0 else 0.5 * v for v in k]  # alpha = 1/4
    assert quantizer(x)[0].tolist() == expected


def test_no_negative_levels_is_qcfs() -> None:
    quantizer = PolarityQuant((0, 4), theta=2.0)  # lambda = 8
    x = torch.linspace(-3, 12, 301)[None]
    qcfs = 8.0 * torch.clamp(torch.floor(x * 4 / 8.0 + 0.5) / 4, 0, 1)
    assert torch.equal(quantizer(x), qcfs)


def test_theta_per_channel_goes_along_axis_1() -> None:
    quantizer = PolarityQuant((1, 4), theta=torch.tensor([1.0, 2.0]))
    x = torch.full((3, 2, 2, 2), 3.2)
    k = quantizer.spikes(x)
    assert (k[:, 0] == 3).all()
    assert (k[:, 1] == 2).all()


def test_gradients_by_hand() -> None:
    quantizer = PolarityQuant((2, 3), (4, 1), theta=2.0, lsq_gradient_scale=False)
    # below, inside negative, inside positive, above
    x = torch.tensor([[-6.0, -3.4, 2.2, 7.5]], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad is not None
    assert x.grad[0].tolist() == [0.0, 0.25, 1.0, 0.0]
    # -alpha n, alpha (k - r), k - r, p
    expected = -0.25 * 2 + 0.25 * (-2 + 1.7) + (1 - 1.1) + 3
    assert quantizer.theta.grad is not None
    assert quantizer.theta.grad.item() == pytest.approx(expected, abs=1e-6)


def test_lsq_scale_of_the_gradient() -> None:
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    plain = PolarityQuant((1, 4), theta=0.3, lsq_gradient_scale=False)
    scaled = PolarityQuant((1, 4), theta=0.3)
    plain(x).sum().backward()
    scaled(x).sum().backward()
    assert plain.theta.grad is not None
    assert scaled.theta.grad is not None
    ratio = scaled.theta.grad.item() / plain.theta.grad.item()
    assert ratio == pytest.approx(1 / math.sqrt(12 * 4))


@given(LEVELS, GAINS, st.floats(0.05, 5), st.integers(0, 2**32 - 1))
def test_gradient_of_theta_sums_over_channels(
    levels: tuple[int, int], gains: tuple[int, int], theta: float, seed: int
) -> None:
    x = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(seed))
    shared = PolarityQuant(levels, gains, theta=theta, lsq_gradient_scale=False)
    each = PolarityQuant(levels, gains, theta=theta, channels=3, lsq_gradient_scale=False)
    shared(x).sum().backward()
    each(x).sum().backward()
    assert shared.theta.grad is not None
    assert each.theta.grad is not None
    assert each.theta.grad.sum().item() == pytest.approx(shared.theta.grad.item(), abs=1e-3)
    assert torch.equal(shared(x), each(x))


@given(
    st.floats(1e-3, 10),
    st.tuples(st.integers(-20, 0), st.integers(0, 20)),
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20),
)
def test_input_quantizer_equals_encode(
    scale: float, levels: tuple[int, int], values: list[float]
) -> None:
    x = np.array([values], np.float32)
    x[0, 0] = np.float32(scale) * 2.5  # near a tie
    units = InputQuant(scale, levels).units(torch.from_numpy(x)).numpy()
    encoded = Input(name="x", shape=(x.shape[1],), scale=scale, levels=levels).encode(x)
    np.testing.assert_array_equal(units, encoded)


def oracle(
    drive: np.ndarray[Any, Any], phi: float, levels: tuple[int, int], rule: str
) -> list[list[int]]:
    """Spikes of each neuron, one by one; ``drive`` (steps, neurons) float32 in units of theta."""
    n, p = levels
    spikes = []
    for neuron in range(drive.shape[1]):
        v, sent, row = np.float32(phi), 0, []
        for t in range(drive.shape[0]):
            u = np.float32(v + drive[t, neuron])
            low, high = -n, p
            if rule == "bounded":
                low, high = -n * (t + 1) - sent, p * (t + 1) - sent
            k = int(np.floor(u))
            k = low if k < low else high if k > high else k
            sent += k
            v = np.float32(phi) if rule == "reset" else np.float32(u - np.float32(k))
            row.append(k)
        spikes.append(row)
    return spikes


@given(
    LEVELS,
    GAINS,
    st.sampled_from(["carry", "reset", "bounded"]),
    st.sampled_from([0.0, 0.5, 0.25]),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
)
def test_neuron_equals_a_scalar_oracle_at_every_step(
    levels: tuple[int, int], gains: tuple[int, int], rule: str, phi: float, steps: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    theta = np.float32(rng.uniform(0.1, 3))
    x = (rng.normal(0, 3, (steps, 5)) * theta).astype(np.float32)
    quantizer = PolarityQuant(levels, gains, theta=float(theta), phi=phi)
    neuron = PolarityMultiSpike(quantizer, rule)
    expected = np.array(oracle(x / theta, phi, levels, rule)).T
    for t in range(steps):
        neuron.begin_step()
        out = neuron(torch.from_numpy(x[t : t + 1]))
        np.testing.assert_array_equal(neuron.last_spikes[0][0].detach().numpy(), expected[t])
        gain = np.where(expected[t] > 0, gains[0], gains[1])
        np.testing.assert_allclose(
            out[0].detach().numpy(), gain * expected[t] * theta / gains[0], rtol=1e-6
        )


def small_model(seed: int) -> Any:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(36, 8),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 3),
    )


@given(
    LEVELS,
    GAINS,
    st.sampled_from(["carry", "reset", "bounded"]),
    st.booleans(),
    st.integers(0, 2**31 - 1),
)
def test_one_step_equals_the_quantized_model(
    levels: tuple[int, int], gains: tuple[int, int], rule: str, per_channel: bool, seed: int
) -> None:
    model = small_model(seed)
    x = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    quantized = pnn.quantize(model, levels, gains, "lsq", x, per_channel=per_channel)
    snn = pnn.to_snn(quantized, rule)
    result = snn.run(x, 1)
    expected = pnn.spikes(quantized, x)
    assert set(result.spikes) == set(expected)
    for name, k in expected.items():
        np.testing.assert_array_equal(result.spikes[name][:, 0], k)
    assert torch.equal(result.logits, pnn.predict(quantized, x))
    assert torch.equal(snn(x, 1), result.logits)


def test_several_steps_carry_towards_the_unquantized_mean() -> None:
    quantizer = PolarityQuant((2, 4), theta=1.0)
    x = torch.tensor([[0.3, -0.7, 2.55, 9.0]])
    snn = pnn.to_snn(torch.nn.Sequential(quantizer), "carry")
    mean = snn(x, 64)[0].tolist()
    assert mean == pytest.approx([0.3, -0.7, 2.55, 4.0], abs=1 / 64)


def test_frames_are_shown_one_per_step() -> None:
    snn = pnn.to_snn(torch.nn.Sequential(PolarityQuant((2, 4), theta=1.0)), "reset")
    frames = torch.tensor([[[1.0], [3.0], [-2.0]]])
    assert snn.run(frames, 3, frames=True).spikes["0"][0, :, 0].tolist() == [1, 3, -2]
    with pytest.raises(InputError, match="one frame per step"):
        snn(frames, 4, frames=True)
    with pytest.raises(InputError, match="n_steps"):
        snn(frames, 0)


def test_runs_do_not_affect_each_other() -> None:
    quantized = pnn.quantize(small_model(0), (2, 4), (1, 1), "mse", torch.rand(4, 1, 6, 6))
    snn = pnn.to_snn(quantized)
    x = torch.rand(3, 1, 6, 6)
    first = snn(x, 3)
    snn(torch.rand(5, 1, 6, 6), 2)
    assert torch.equal(snn(x, 3), first)


class Shared(torch.nn.Module):  # type: ignore[misc]
    """One activation called twice, functional forms, in-place ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(4, 4)
        self.b = torch.nn.Linear(4, 4)
        self.act = torch.nn.ReLU(inplace=True)

    def forward(self, x: Any) -> Any:
        x = self.act(self.a(x))
        y = self.act(self.b(x))
        return torch.nn.functional.relu(x + y).relu()


def test_each_call_gets_a_quantizer_of_its_own() -> None:
    x = torch.rand(16, 4)
    quantized = pnn.quantize(Shared(), (0, 4), (1, 1), "mse", x)
    names = [n for n, m in quantized.named_modules() if isinstance(m, PolarityQuant)]
    assert sorted(names) == ["act", "act_1", "relu", "relu_1"]
    thetas = {float(quantized.get_submodule(n).theta.detach()) for n in names}
    assert len(thetas) > 1
    assert list(pnn.spikes(quantized, x)) == ["input_quant", "act", "act_1", "relu", "relu_1"]


def test_a_quantizer_called_twice_has_two_states() -> None:
    class Twice(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.act = PolarityQuant((2, 4), theta=1.0)

        def forward(self, x: Any) -> Any:
            return self.act(self.act(x) * 0.7)

    snn = pnn.to_snn(Twice())
    result = snn.run(torch.tensor([[1.3]]), 4)
    assert result.spikes["act"][0, :, 0].tolist() == [1, 2, 1, 1]
    first = np.array([[1], [2], [1], [1]], np.float32) * np.float32(0.7)
    assert result.spikes["act_1"][0, :, 0].tolist() == oracle(first, 0.5, (2, 4), "carry")[0]


@pytest.mark.parametrize("method", ["mse", "entropy", "lsq", "percentile", "qcfs"])
def test_initializations(method: str) -> None:
    x = torch.randn(64, 200, generator=torch.Generator().manual_seed(1))
    theta = float(pnn.choose_theta(x, PolarityQuant((0, 4)), method, "here"))
    # facts computed for z ~ N(0, 1), levels (0, 4); percentile: 3.29 / 4
    expected = {"mse": 0.539, "entropy": 0.289, "lsq": 0.798, "percentile": 0.82, "qcfs": 2.0}
    assert theta == pytest.approx(expected[method], rel=0.06)


def test_mse_initialization_is_the_best_step() -> None:
    x = torch.randn(1, 4096, generator=torch.Generator().manual_seed(2))
    quantizer = PolarityQuant((2, 4), (4, 1))
    theta = float(pnn.choose_theta(x, quantizer, "mse", "here"))

    def error(step: float) -> float:
        quantizer.theta.data.fill_(step)
        return float(((quantizer(x) - quantizer.target(x)) ** 2).mean().detach())

    assert all(error(theta) <= error(theta * f) + 1e-5 for f in (0.8, 0.9, 0.97, 1.03, 1.1, 1.25))


def test_per_channel_initialization_copes_with_a_silent_channel() -> None:
    x = torch.randn(8, 3, 5)
    x[:, 1] = 0
    theta = pnn.choose_theta(x, PolarityQuant((0, 4), channels=3), "mse", "here")
    assert theta.shape == (3,)
    assert bool((theta > 0).all())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PolarityQuant((0, 0)), "levels"),
        (lambda: PolarityQuant((0.5, 4)), "levels"),  # type: ignore[arg-type]
        (lambda: PolarityQuant((0, 4), (0, 1)), "gains"),
        (lambda: PolarityQuant((0, 4), theta=-1.0), "theta"),
        (lambda: PolarityQuant((0, 4), theta=float("nan")), "theta"),
        (lambda: PolarityQuant((0, 4), phi=2.0), "phi"),
        (lambda: InputQuant(0.0), "scale"),
        (lambda: InputQuant(1.0, (3, 1)), "levels"),
        (lambda: pnn.to_snn(torch.nn.Linear(2, 2)), "PolarityQuant"),
        (lambda: pnn.to_snn(torch.nn.Sequential(PolarityQuant()), "leak"), "rule"),
        (lambda: pnn.quantize(small_model(0)), "calibration"),
        (lambda: pnn.quantize(small_model(0), calibration=torch.zeros(2, 1, 6, 6)), "calibration"),
        (
            lambda: pnn.quantize(
                small_model(0), calibration=torch.full((2, 1, 6, 6), float("nan")), input_scale=1.0
            ),
            "not finite",
        ),
        (
            lambda: pnn.quantize(torch.nn.Linear(4, 2), calibration=torch.rand(2, 4)),
            "0 activations",
        ),
        (
            lambda: pnn.quantize(
                torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.GELU()),
                calibration=torch.rand(2, 4),
            ),
            "'1' (GELU)",
        ),
        (
            lambda: pnn.quantize(
                torch.nn.Sequential(torch.nn.MaxPool2d(2), torch.nn.ReLU()),
                calibration=torch.rand(2, 1, 4, 4),
            ),
            "max pooling",
        ),
        (
            lambda: pnn.quantize(small_model(0), init="best", calibration=torch.rand(2, 1, 6, 6)),
            "init",
        ),
        (lambda: pnn.models.build("alexnet"), "alexnet"),
    ],
)
def test_bad_input_is_one_clear_error(make: Any, words: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_negative_theta_in_a_state_dict() -> None:
    quantized = pnn.quantize(small_model(0), calibration=torch.rand(4, 1, 6, 6))
    state = quantized.state_dict()
    state["2.theta"] = torch.tensor(-0.5)
    with pytest.raises(QuantizationError, match=r"quantizer '2'.*-0.5"):
        quantized.load_state_dict(state)


def test_data_dependent_control_flow_is_named() -> None:
    class Branch(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return torch.relu(x) if x.sum() > 0 else x

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Branch())
    with pytest.raises(QuantizationError, match=r"module '1' \(Branch\)"):
        pnn.quantize(model, calibration=torch.rand(2, 4))


def test_max_pooling_is_swapped_on_request() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    quantized = pnn.quantize(model, calibration=torch.rand(2, 1, 6, 6), max_pool="average")
    kinds = [type(m).__name__ for m in quantized.modules()]
    assert "AvgPool2d" in kinds
    assert "MaxPool2d" not in kinds
