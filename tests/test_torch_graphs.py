"""What of a torch model's graph counts: what inputs reach, hooks, defaults, and what cannot run."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from pmsm_hw import nn as pnn  # noqa: E402
from pmsm_hw import reference  # noqa: E402
from pmsm_hw.convert import convert  # noqa: E402
from pmsm_hw.errors import ConversionError, QuantizationError  # noqa: E402
from pmsm_hw.nn import InputQuant, PolarityMultiSpike, PolarityQuant  # noqa: E402

torch.set_num_threads(1)


def batch(*shape: int, n: int = 16) -> Any:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


class Own(nn.Module):
    """Layers with a forward pass of the test's own."""

    def __init__(self, forward: Any, **modules: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.l0, self.l1, self.act = nn.Linear(4, 5), nn.Linear(5, 3), nn.ReLU()
        for name, module in modules.items():
            self.add_module(name, module)
        self.function = forward
        self.eval()

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def quantizers(model: Any) -> list[str]:
    return [name for name, m in model.named_modules() if isinstance(m, PolarityQuant)]


# -- activations of parameters ---------------------------------------------------------------------

OF_PARAMETERS: dict[str, Any] = {
    "function": lambda s, x: F.linear(s.act(s.l0(x)), F.relu(s.l1.weight), s.l1.bias),
    "method": lambda s, x: F.linear(s.act(s.l0(x)), s.l1.weight.clamp(-0.3, 0.3)),
    "shared module": lambda s, x: F.linear(s.act(s.l0(x)), s.act(s.l1.weight)),
    "shared module, first": lambda s, x: s.l1(s.act(F.linear(x, s.act(s.l0.weight)))),
    "other kind": lambda s, x: F.linear(s.act(s.l0(x)), torch.sigmoid(s.l1.weight)),
    "module of another kind": lambda s, x: F.linear(s.act(s.l0(x)), s.tanh(s.l1.weight)),
    "max pooling": lambda s, x: F.linear(
        s.act(s.l0(x)), F.max_pool1d(s.l1.weight[None], 3, 1, 1)[0]
    ),
}


@pytest.mark.parametrize("name", OF_PARAMETERS)
def test_activations_of_parameters_stay_as_they_are(name: str) -> None:
    model, x = Own(OF_PARAMETERS[name], tanh=nn.Tanh()), batch(4)
    quantized = pnn.quantize(model, (0, 4095), calibration=x, init="lsq")
    assert len(quantizers(quantized)) == 1
    for path in quantizers(quantized):
        quantized.get_submodule(path).theta.data.fill_(2.0**-10)
    with torch.no_grad():
        wanted = model(x)
        torch.testing.assert_close(quantized(x), wanted, rtol=0, atol=0.02)
    network, _ = convert(quantized, x)
    found = reference.run(network, x.numpy(), 1).logits["output"]
    np.testing.assert_allclose(found, wanted.numpy(), atol=0.05)
    suggestion = pnn.suggest(model, x, target_agreement=0.1)
    assert suggestion.max_pool == "refuse"


def test_a_model_whose_only_activation_is_of_a_parameter_has_none() -> None:
    model = Own(lambda s, x: s.l1(F.linear(x, F.relu(s.l0.weight))))
    with pytest.raises(QuantizationError, match="has 0 activations"):
        pnn.quantize(model, calibration=batch(4))


# -- hooks -----------------------------------------------------------------------------------------


def seen(module: Any, args: Any, output: Any = None) -> None:
    """A hook that only looks."""


def doubled(module: Any, args: Any, output: Any = None) -> Any:
    """A hook that changes what it is given."""
    return (args[0] * 2,) if output is None else output * 2


def sequential() -> Any:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    return nn.Sequential(inner, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)).eval()


@pytest.mark.parametrize("path", ["", "0", "0.0", "0.1", "1", "2", "3", "4"])
@pytest.mark.parametrize("kind", ["hook", "pre-hook"])
def test_hooks_that_change_values_count_or_are_refused(path: str, kind: str) -> None:
    x = batch(1, 6, 6)

    def made(hook: Any) -> tuple[Any, Any]:
        model = sequential()
        module = model.get_submodule(path)
        if kind == "hook":
            module.register_forward_hook(hook)
        else:
            module.register_forward_pre_hook(hook)
        quantized = pnn.quantize(model, (0, 4095), max_pool="average", calibration=x)
        return quantized, convert(quantized, x).network

    plain, network = made(seen)
    if path == "0":  # a container: traced with its hooks
        quantized, found = made(doubled)
        assert found != network
        with torch.no_grad():
            wanted = quantized(x)
        got = reference.run(found, x.numpy(), 1).logits["output"]
        np.testing.assert_allclose(got, wanted.numpy(), atol=0.1)
        assert not torch.allclose(wanted, plain(x), atol=0.01)
    else:
        with pytest.raises((QuantizationError, ConversionError), match="computes something else"):
            made(doubled)


@pytest.mark.parametrize("path", ["", "q", "act", "fc"])
def test_hooks_on_a_module_with_quantizers_count_or_are_refused(path: str) -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.q, self.act = InputQuant(1 / 16, (0, 15)), PolarityQuant((0, 7), theta=0.1)
            self.fc, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.last(self.act(self.fc(self.q(x))))

    for register in ("register_forward_hook", "register_forward_pre_hook"):
        if path == "" and register == "register_forward_pre_hook":
            continue
        model = Mine()
        getattr(model.get_submodule(path), register)(seen)
        convert(model, batch(4))
        getattr(model.get_submodule(path), register)(doubled)
        with pytest.raises(ConversionError, match="computes something else"):
            convert(model, batch(4))


def test_a_hook_that_changes_what_is_returned_is_refused() -> None:
    model = nn.Sequential(InputQuant(1 / 16, (0, 15)), nn.Linear(4, 3), PolarityQuant((0, 7)))
    model.register_forward_hook(lambda module, args, output: {"logits": output})
    with pytest.raises(ConversionError, match="returns"):
        convert(model, batch(4))


# -- softmax ---------------------------------------------------------------------------------------


def image(s: Any, x: Any) -> Any:
    return s.conv(s.act(s.conv(x)))


@pytest.mark.parametrize(
    ("last", "shape", "is_dropped"),
    [(nn.Softmax(1), (4,), True), (nn.LogSoftmax(-1), (4,), True), (nn.Softmax(1), (2, 5), True),
     (nn.Softmax(-2), (2, 5), True), (nn.Softmax(-1), (2, 5), False),
     (nn.Softmax(2), (2, 5), False), (nn.Softmax(-1), (2, 5, 5), False),
     (nn.LogSoftmax(-3), (2, 5, 5), True), (nn.Softmax(0), (4,), False)],
)  # fmt: skip
def test_a_softmax_is_left_out_over_classes_alone(
    last: nn.Module, shape: tuple[int, ...], is_dropped: bool
) -> None:
    conv = {1: nn.Linear, 2: nn.Conv1d, 3: nn.Conv2d}[len(shape)]
    size = (4, 4) if len(shape) == 1 else (2, 2, 1)
    model = nn.Sequential(conv(*size), nn.ReLU(), conv(*size), last).eval()
    if is_dropped:
        quantized = pnn.quantize(model, calibration=batch(*shape))
        assert "is left out" in quantized.meta["notes"][0]
    else:
        with pytest.raises(QuantizationError, match="module '3'"):
            pnn.quantize(model, calibration=batch(*shape))


def test_an_implicit_softmax_takes_torchs_own_axis() -> None:
    """Of three axes the first, which is the batch."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.Conv1d(2, 2, 1), nn.ReLU(), nn.Conv1d(2, 2, 1), nn.Softmax())
        with pytest.raises(QuantizationError, match="another axis than the classes"):
            pnn.quantize(model, calibration=batch(2, 5))
        flat = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Softmax())
        pnn.quantize(flat, calibration=batch(4))


# -- parameters of the forward method --------------------------------------------------------------


class Defaults(nn.Module):
    """Parameters with defaults, of every kind."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.l0, self.l1 = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(
        self, x: Any, mask: Any = None, factor: float = 2.0, *more: Any, last: bool = True,
        **options: Any,
    ) -> Any:  # fmt: skip
        h = F.relu(self.l0(x))
        if mask is not None:
            h = h + mask
        for part in more:
            h = h + part
        h = h * options.get("scale", factor)
        return self.l1(h) if last else h


class Several(Defaults):
    """Any number of inputs."""

    def forward(self, *inputs: Any) -> Any:
        first, second = inputs
        return self.l1(F.relu(self.l0(first) + self.l0(second)))


def test_parameters_with_defaults_keep_them() -> None:
    x = batch(4)
    model = Defaults().eval()
    quantized = pnn.quantize(model, (0, 4095), calibration=x)
    with torch.no_grad():
        torch.testing.assert_close(quantized(x), model(x), atol=0.02, rtol=0)
    network, _ = convert(quantized)
    assert len(network.inputs) == 1
    masked = pnn.quantize(model, (0, 4095), calibration=(x, batch(5)))
    assert len(convert(masked).network.inputs) == 2
    assert pnn.suggest(model, x, target_agreement=0.1).levels
    options: dict[str, Any] = {"input_scale": 1 / 255, "input_levels": (0, 255)}
    with pytest.raises(QuantizationError, match="batch norm"):  # traced with one input, then
        pnn.quantize(model, calibration="batch_norm", **options)
    two = pnn.quantize(Several().eval(), calibration=(x, x))
    assert len(convert(two).network.inputs) == 2


# -- what does not run -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AssertionError, KeyError])
def test_whatever_tracing_raises_torch_export_gets_its_turn(error: type[Exception]) -> None:
    def forward(s: Any, x: Any) -> Any:
        if isinstance(x, torch.fx.Proxy):
            raise error("a proxy is no tensor")
        return s.l1(s.act(s.l0(x)))

    model, x = Own(forward), batch(4)
    quantized = pnn.quantize(model, calibration=x)
    assert len(quantizers(quantized)) == 1
    if error is AssertionError:
        assert pnn.suggest(model, x, target_agreement=0.1).levels
    options: dict[str, Any] = {"input_scale": 1 / 255, "input_levels": (0, 255)}
    with pytest.raises(QuantizationError, match="cannot be traced"):
        pnn.quantize(model, calibration="batch_norm", **options)


@pytest.mark.parametrize("error", [AssertionError, KeyError, IndexError, ZeroDivisionError])
def test_whatever_a_model_raises_is_one_line(error: type[Exception]) -> None:
    def forward(s: Any, x: Any) -> Any:
        if not isinstance(x, torch.fx.Proxy) and x.shape[1] != 4:
            raise error("two\nlines")
        return s.l1(s.act(s.l0(x)))

    model = Own(forward)
    quantized = pnn.quantize(Own(lambda s, x: s.l1(s.act(s.l0(x)))), calibration=batch(4))
    for call in (
        lambda: pnn.quantize(model, calibration=batch(3)),
        lambda: pnn.suggest(model, batch(3)),
        lambda: pnn.predict(model, batch(3)),
        lambda: pnn.calibrate(quantized, batch(3)),
        lambda: convert(quantized, batch(3)),
    ):
        with pytest.raises((QuantizationError, ConversionError)) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_probe_survives_what_a_model_asserts() -> None:
    class Asserts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()

        def forward(self, x: Any) -> Any:
            if not isinstance(x, torch.fx.Proxy):
                assert x.shape[2] == 9, "images of 9"
            return self.act(self.norm(self.conv(x)))

    options: dict[str, Any] = {"input_scale": 1 / 255, "input_levels": (0, 255)}
    pnn.quantize(Asserts().eval(), calibration="batch_norm", **options)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_parts_of_a_batch_and_types_that_a_model_refuses_are_no_traceback(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that squeezes, or asserts its type; and a batch that is compared in parts."""
    from pmsm_hw.convert import proof

    monkeypatch.setattr(proof, "_CHUNK_BYTES", 1)

    class Asserts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.act = InputQuant(1 / 16, (0, 15)), PolarityQuant((0, 7), theta=0.1)
            self.fc, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            if not isinstance(x, torch.fx.Proxy):
                assert x.dtype == torch.float32
                assert len(x) > 1
            return self.last(self.act(self.fc(self.q(x))).squeeze())

    convert(Asserts(), batch(4, n=n))


def test_nothing_is_printed_where_a_model_casts(capfd: pytest.CaptureFixture[str]) -> None:
    """Its float64 copy fails, and is not needed."""
    model = Own(lambda s, x: s.l1(s.act(s.l0(x)).double().float()))
    convert(pnn.quantize(model, calibration=batch(4)))
    assert capfd.readouterr() == ("", "")


# -- arrays ----------------------------------------------------------------------------------------


def test_arrays_of_any_strides_and_byte_order_are_taken() -> None:
    x = batch(4).numpy()
    model = Own(lambda s, x: s.l1(s.act(s.l0(x))))
    wanted = pnn.quantize(model, calibration=x).state_dict()
    read_only = x.copy()
    read_only.flags.writeable = False
    for same in (x[::-1].copy()[::-1], x.astype(">f4"), x.astype(">f8"), read_only,
                 np.asfortranarray(x)):  # fmt: skip
        found = pnn.quantize(model, calibration=same).state_dict()
        assert all(torch.equal(found[name], value) for name, value in wanted.items())
    labels = np.arange(16)[::-1] % 3
    for given in (labels, labels.astype(">i8")):
        assert pnn.accuracy(model, x, given) == pnn.accuracy(model, x, labels.copy())


# -- names -----------------------------------------------------------------------------------------


def test_a_method_is_not_taken_for_the_module_of_its_name() -> None:
    """A module called ``relu`` of another range, and the method ``relu`` after it."""
    model = Own(lambda s, x: s.l1(s.relu(s.l0(x)).mul(2).relu()), relu=nn.Hardtanh(-0.25, 0.25))
    with pytest.raises(QuantizationError, match="n = 0 and would drop"):
        pnn.quantize(model, calibration=batch(4))
    quantized = pnn.quantize(model, (15, 15), calibration=batch(4))
    assert [quantized.get_submodule(path).limits for path in quantizers(quantized)] == [
        (-0.25, 0.25), (-np.inf, np.inf),
    ]  # fmt: skip


# -- copies ----------------------------------------------------------------------------------------


def test_copies_of_a_quantized_model_know_where_they_come_from() -> None:
    model = pnn.models.build("mlp", sizes=[4, 5, 3], seed=0)
    quantized = pnn.quantize(model, (2, 4), (4, 1), calibration=batch(4))
    snapped = pnn.snap_gains(pnn.learn_gains(quantized))
    pickled = pickle.loads(pickle.dumps(quantized))
    for twin in (copy.deepcopy(quantized), copy.copy(quantized), snapped, pickled):
        assert twin.recipe == quantized.recipe
        assert torch.equal(twin.examples[0], quantized.examples[0])
        convert(twin)  # on the batch of quantize


@pytest.mark.parametrize("hook", [None, doubled])
def test_modules_of_two_names_and_hooks_are_kept_by_those_that_take_their_place(hook: Any) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc, self.first = nn.Linear(4, 4), PolarityQuant((2, 4), theta=0.2)
            self.second = self.first

        def forward(self, x: Any) -> Any:
            return self.fc(self.second(self.fc(self.first(self.fc(x)))))

    model, x = Twice().eval(), batch(4)
    if hook is not None:
        model.first.register_forward_hook(hook)
    with torch.no_grad():
        wanted = model(x)
    snn = pnn.to_snn(model)
    assert torch.equal(snn(x, 1), wanted)
    assert snn.run(x, n_steps=1).spikes.keys() == {"first", "first_1"}
    assert isinstance(snn.model.second, PolarityMultiSpike)
    learning = pnn.learn_gains(model)
    assert learning.first is learning.second is not model.first
    with torch.no_grad():
        assert torch.equal(pnn.snap_gains(learning)(x), wanted)
