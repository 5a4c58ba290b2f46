"""Reports warn of high loss; state dicts of training tools fit the model that they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import pmsm_hw.nn as pnn  # noqa: E402
from pmsm_hw import io  # noqa: E402
from pmsm_hw.convert import build_model, convert, integer_model  # noqa: E402
from pmsm_hw.errors import ConversionError  # noqa: E402
from pmsm_hw.nn import InputQuant, PolarityQuant  # noqa: E402

pytestmark = pytest.mark.torch


def trained() -> Any:
    torch.manual_seed(1)
    model = pnn.models.build("mlp", sizes=[16, 24, 10], seed=0)
    x = torch.rand(200, 16)
    return pnn.quantize(model, (0, 4), calibration=x), x


def test_high_loss_is_warned_of_in_print_dict_and_file(tmp_path: Path) -> None:
    model, x = trained()
    network, report = convert(model, weight_bits=2)
    assert report.differing_predictions > 0.05
    (warning,) = report.warnings
    assert f"{report.differing_predictions:.1%} of predictions" in warning
    assert "integer_model" in warning
    assert warning in str(report)
    assert report.to_dict()["warnings"] == (warning,)
    io.save(tmp_path / "a.h5", network, report=report)
    assert io.load_report(tmp_path / "a.h5")["warnings"] == [warning]
    _, fine = convert(model)
    assert fine.differing_predictions <= 0.05
    assert fine.warnings == ()
    assert "warning" not in str(fine)
    # an integer model is what its network is: the remedy has been taken
    _, own = convert(integer_model(model, x, weight_bits=2))
    assert own.differing_predictions == report.differing_predictions
    assert own.warnings == ()
    json.dumps(own.to_dict())


# -- inputs of many levels, weights and thresholds that rounding would lose -----------------------


def wide(levels: tuple[int, int], **options: Any) -> Any:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)
    ).eval()  # fmt: skip
    x = torch.rand(64, 8)
    return convert(pnn.quantize(model, calibration=x, input_levels=levels), x, **options)


def test_inputs_of_many_levels_keep_their_weights_or_are_refused() -> None:
    """A threshold of 2**16 units is too small beside payloads of 2**16."""
    for bits in (8, 12, 14):
        report = wide((0, 2**bits - 1)).report
        assert all(p.drive_error < 0.3 and p.weight_error < 0.05 for p in report.populations)
        assert report.warnings == ()
    for bits in (16, 18, 20, 22, 23):
        with pytest.raises(ConversionError, match=r"24 bits hold .* input levels"):
            wide((0, 2**bits - 1))
    for bits in (20, 23):  # neither can a threshold saturate
        with pytest.raises(ConversionError, match="24 bits hold"):
            wide((0, 2**bits - 1), overflow="saturate")
    saturating = wide((0, 2**16 - 1), overflow="saturate").report
    assert saturating.populations[0].saturates
    assert saturating.populations[0].weight_error < 0.05


@pytest.mark.parametrize("factor", [1e-5, 1e-7])
def test_weights_that_decide_nothing_may_round_to_zero(factor: float) -> None:
    model = torch.nn.Sequential(
        InputQuant(1 / 16, (0, 15)), torch.nn.Linear(4, 4, bias=False),
        PolarityQuant((0, 4), theta=1.0), torch.nn.Linear(4, 2),
    )  # fmt: skip
    model[1].weight.data.mul_(factor)
    report = convert(model, torch.rand(8, 4)).report
    assert report.populations[0].weight_error > 0.2
    assert report.warnings == ()


class Beside(torch.nn.Module):
    """An input of many levels beside spikes, onto neurons or a readout."""

    def __init__(self, last: Any, levels: tuple[int, int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.act = InputQuant(1 / levels[1], levels), PolarityQuant((0, 4), theta=0.3)
        self.l0, self.l1, self.l2 = (torch.nn.Linear(4, 4) for _ in range(3))
        self.few, self.last = InputQuant(1 / 15, (0, 15)), last

    def forward(self, x: Any, y: Any) -> Any:
        return self.last(self.l1(self.act(self.l0(self.few(y)))) + self.l2(self.q(x)))


@pytest.mark.parametrize("last", [torch.nn.Identity(), PolarityQuant((0, 4), theta=0.3)])
def test_a_projection_whose_weights_all_round_to_zero_is_refused(last: Any) -> None:
    x = torch.rand(16, 4), torch.rand(16, 4)
    convert(Beside(last, (0, 255)), x)
    with pytest.raises(ConversionError, match=r"all 16 weights from 'x' round to 0, .* of (a|its)"):
        convert(Beside(last, (0, 2**20 - 1)), x, overflow="saturate")


def test_thresholds_that_rounding_changes_are_warned_of_or_refused() -> None:
    def report(theta: float) -> Any:
        model = torch.nn.Sequential(
            InputQuant(1 / 16, (0, 255)), torch.nn.Linear(4, 2),
            PolarityQuant((0, 4), theta=torch.tensor([1.0, theta]), channels=2),
        )  # fmt: skip
        torch.nn.init.constant_(model[1].weight, 1.0)
        return convert(model, torch.rand(8, 4), per_channel=False).report

    assert report(0.1).warnings == ()
    (warning,) = report(9e-5).warnings
    assert "rounding changes a threshold by" in warning
    with pytest.raises(ConversionError, match=r"a threshold is .* steps away"):
        report(1e-7)


def make() -> Any:
    return pnn.models.build("mlp", sizes=[6, 5, 3], seed=0)


WRAPPED = {
    "plain": lambda state: state,
    "DataParallel": lambda state: torch.nn.DataParallel(filled(state)).state_dict(),
    "compile": lambda state: prefixed(state, "_orig_mod."),
    "both": lambda state: prefixed(state, "module._orig_mod."),
    "SWA": lambda state: torch.optim.swa_utils.AveragedModel(filled(state)).state_dict(),
    "Lightning": lambda state: {
        "epoch": 3,
        "state_dict": prefixed(state, "model."),
        "optimizer_states": [{"state": {}}],
        "pytorch-lightning_version": "2.0",
    },
    "checkpoint": lambda state: {"model_state_dict": state, "loss": 0.5, "epoch": 1},
    "nested": lambda state: {"model": {"state_dict": prefixed(state, "module.")}, "step": 3},
}


def filled(state: Any) -> Any:
    model = make()
    model.load_state_dict(state)
    return model


def prefixed(state: Any, prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize("kind", WRAPPED)
def test_state_dicts_as_training_tools_write_them(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "written_here.py").write_text(
        "from pmsm_hw.nn import models\n\n"
        "def make():\n    return models.build('mlp', sizes=[6, 5, 3], seed=0)\n"
    )
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    state = {name: torch.rand(value.shape) for name, value in make().state_dict().items()}
    torch.save(WRAPPED[kind](state), tmp_path / "w.pt")
    model = build_model("written_here:make", tmp_path / "w.pt")
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    # another model's values are refused as before, whatever is around them
    other = {name: value[:2] for name, value in state.items()}
    other["extra.weight"] = torch.zeros(3)
    torch.save({"state_dict": prefixed(other, "module.")}, tmp_path / "w.pt")
    with pytest.raises(ConversionError, match="does not take the values of") as caught:
        build_model("written_here:make", tmp_path / "w.pt")
    assert "extra.weight" in str(caught.value)
