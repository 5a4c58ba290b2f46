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
