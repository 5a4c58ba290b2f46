"""Files of models and state dicts: sound ones load as they were saved, others are one line."""

from __future__ import annotations

import copy
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed in this Python")
pytestmark = pytest.mark.torch

from pmsm_hw import nn  # noqa: E402
from pmsm_hw.convert import (  # noqa: E402
    build_model,
    convert,
    integer_model,
    load_model,
    save_model,
)
from pmsm_hw.errors import ConversionError, FormatError, QuantizationError  # noqa: E402


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the file of an integer model holds."""
    path = tmp_path_factory.mktemp("model") / "model.pt"
    x = np.random.default_rng(0).random((4, 6), np.float32)
    model = nn.models.build("mlp", seed=0, sizes=(6, 5, 3))
    save_model(path, integer_model(nn.quantize(model, levels=(2, 4), calibration=x), x))
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def refusal(path: Path, content: Any = None) -> str:
    if content is not None:
        torch.save(content, path)
    with pytest.raises(FormatError) as caught:  # warnings are errors in tests
        load_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


NAN = float("nan")
WRONG: dict[str, tuple[Any, ...]] = {
    "levels": ("quantize", "levels", [(NAN, 4), (2.5, 4), ("2", 4), (2,), (-1, 4), (2, 0), None,
                                      (2, 10**9), {}, [[2, 4]]]),
    "gains": ("quantize", "gains", [(NAN, 1), (0, 1), (1,), None, "11"]),
    "input scale": ("quantize", "input_scale", [NAN, 0.0, -1.0, "x", float("inf")]),
    "input levels": ("quantize", "input_levels", [(NAN, 4), (3, 1), (0,), "a", (0, 10**12)]),
    "pooling": ("quantize", "max_pool", ["other", 5]),
    "unknown option": ("quantize", "colour", [1]),
    "weight bits": ("integer", "weight_bits", [NAN, 99, -1, "8", None]),
    "steps": ("integer", "max_steps", [NAN, 0, -3, "4", None, 2.5, 10**12]),
    "rule": ("integer", "rule", ["other", 3, None]),
    "sizes": ("arguments", "sizes", [(6, NAN, 3), (6, 5, 3, 2), (6, 10**12, 3), (6, -5, 3), 5, None,
                                     [1] * 100_000, (6, 2**24, 3), "abc"]),
    "unknown argument": ("arguments", "depth", [1]),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_recipes_describe_no_model(
    kind: str, content: dict[str, Any], tmp_path: Path
) -> None:
    part, key, values = WRONG[kind]
    for value in values:
        changed = copy.deepcopy(content)
        changed["recipe"][part][key] = value
        start = time.perf_counter()
        assert "describes no model" in refusal(tmp_path / "model.pt", changed), value
        assert time.perf_counter() - start < 20


def test_wrong_content_describes_no_model(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"

    def without(key: str) -> dict[str, Any]:
        return {k: v for k, v in content.items() if k != key}

    first = next(iter(content["state"]))
    population = next(iter(content["exponents"]))
    small = torch.ones(1)
    for changed in (
        *(without(key) for key in ("recipe", "state", "examples", "exponents", "saturated")),
        {**content, "recipe": [1]},
        {**content, "recipe": {**content["recipe"], "more": 1}},
        {**content, "recipe": {**content["recipe"], "model": "vgg16"}},
        {**content, "recipe": {**content["recipe"], "model": ["mlp"]}},
        {**content, "state": {**content["state"], first: 5}},
        {**content, "state": {**content["state"], first: small}},
        {**content, "state": {**content["state"], first: content["state"][first].double()}},
        {**content, "state": {**content["state"], first: content["state"][first].to_sparse()}},
        {**content, "state": {**content["state"], 5: small}},
        {**content, "state": {**content["state"], "more": small}},
        {**content, "examples": [small.expand(10**9, 6)]},
        {**content, "examples": [content["examples"][0].int()]},
        {**content, "examples": 3},
        {**content, "exponents": {population: 2.5}},
        {**content, "exponents": {**content["exponents"], population: 10**6}},
        {**content, "exponents": {**content["exponents"], "more": 1}},
        {**content, "saturated": [population]},
        {**content, "saturated": [[population]]},
    ):
        assert "describes no model" in refusal(path, changed)
    for changed in ({**content, "format": "x\n" * 99}, {**content, "format_version": [1] * 99}):
        refusal(path, changed)


# -- archives ----------------------------------------------------------------------------------


def rezipped(source: Path, target: Path, change: Any, method: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive again, its members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for member in old.infolist():
            new.writestr(member.filename, change(member.filename, old.read(member)))
    return target


def test_archives_are_checked_before_torch_reads_them(
    content: dict[str, Any], tmp_path: Path
) -> None:
    path, other = tmp_path / "model.pt", tmp_path / "other.pt"
    torch.save(content, path)
    load_model(rezipped(path, other, lambda _, data: data))
    # values that are cut or longer: torch would read past their end, or leave the rest
    for change in (lambda data: data[:-4], lambda data: data + b"1234"):
        rezipped(path, other, lambda n, data, c=change: c(data) if n.endswith("data/0") else data)
        assert "their member has" in refusal(other)
    rezipped(path, other, lambda _, data: data, zipfile.ZIP_DEFLATED)
    assert "is compressed" in refusal(other)
    data = bytearray(path.read_bytes())
    weight = next(v for v in content["state"].values() if v.numel() > 8)
    at = bytes(data).index(weight.numpy().tobytes())
    data[at + 5] ^= 1
    other.write_bytes(bytes(data))
    assert "its checksum is another" in refusal(other)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a/text", b"no tensors")
    assert "0 members are named data.pkl" in refusal(other)


@pytest.mark.parametrize("n", [0, 1, 3, 100, -1, -30])
def test_cut_files(n: int, content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    path.write_bytes(path.read_bytes()[:n])
    refusal(path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.pt")
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "device.pt").symlink_to("/dev/zero")
    for name, reason in (("fifo", "a FIFO"), ("folder", "a folder"), ("device", "a device")):
        assert reason in refusal(tmp_path / f"{name}.pt")


def test_models_calibrated_without_data_load_as_saved(tmp_path: Path) -> None:
    model = nn.models.digits_cnn(width=2)
    quantized = nn.quantize(
        model, levels=(1, 4), calibration="batch_norm", input_scale=1 / 16, input_levels=(0, 16)
    )
    save_model(tmp_path / "model.pt", quantized)
    again = load_model(tmp_path / "model.pt")
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(again(x), quantized(x))
    with pytest.raises(ConversionError, match=r"is torch\.float64"):
        save_model(tmp_path / "double.pt", model.double())


# -- state dicts -------------------------------------------------------------------------------

FACTORY = """
from torch import nn
def make():
    return nn.Sequential(nn.Linear(3, 2))
"""


def test_state_dicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archives_factory.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    values = torch.nn.Sequential(torch.nn.Linear(3, 2)).state_dict()
    path = tmp_path / "w.pt"
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(values, path, **options)
        found = build_model("archives_factory:make", path).state_dict()
        assert all(torch.equal(found[name], values[name]) for name in values)
    rezipped_ = tmp_path / "short.pt"
    torch.save(values, path)
    rezipped(path, rezipped_, lambda n, data: data[:-4] if n.endswith("data/0") else data)
    for content in (b"", b"text", path.read_bytes()[:-40], rezipped_.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="as a state dict") as caught:
            build_model("archives_factory:make", path)
        assert "\n" not in str(caught.value)
    for wrong in ({"0.weight": 5, "0.bias": values["0.bias"]}, {5: values["0.bias"]}, {}):
        torch.save(wrong, path)
        with pytest.raises(ConversionError):
            build_model("archives_factory:make", path)


def test_checkpoints(tmp_path: Path) -> None:
    x, y = np.zeros((8, 3), np.float32), np.zeros(8, np.int64)
    path = tmp_path / "c.pt"

    def train() -> None:
        model = torch.nn.Sequential(torch.nn.Linear(3, 2))
        nn.train(model, nn.loader(x, y, batch_size=4, seed=0), epochs=1, seed=0,
                 progress=False, checkpoint=path)  # fmt: skip

    train()
    state = torch.load(path, weights_only=True)
    for key, value in (
        *((key, None) for key in ("schedule", "generator", "model", "optimizer")),
        ("generator", torch.zeros(3)),
        ("schedule", 5),
    ):
        torch.save({**state, key: value}, path)
        with pytest.raises(QuantizationError, match="cannot be resumed"):
            train()
    path.write_bytes(b"nonsense")
    with pytest.raises(
        QuantizationError, match="cannot be resumed: it is not an archive of tensors"
    ):
        train()


def test_a_model_that_was_saved_converts_as_before(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    once, twice = (convert(load_model(tmp_path / "model.pt")).network for _ in range(2))
    assert once.fingerprint == twice.fingerprint
