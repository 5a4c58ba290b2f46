"""The demo, and the same figures again through files and single commands."""

from __future__ import annotations

import command_line
import pytest
from in_process import answer, call, refused
from random_networks import small_network

pytest.importorskip("torch", reason="torch is not installed in this Python")

from pmsm_hw import io

STAGES = {"ann", "quantized", "snn_t1", "integer", "emulator", "lava"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(folder):
    """In a process of its own, as users run it; the commands below are called in this one."""
    return command_line.answer("demo", "--save-dir", folder, "--json")


def test_accuracy_and_equal_spikes(demo):
    accuracy = demo["accuracy"]
    assert set(accuracy) == STAGES
    assert accuracy["ann"] >= 0.97
    assert accuracy["snn_t1"] == accuracy["quantized"]
    assert accuracy["integer"] >= accuracy["quantized"] - 0.003
    assert accuracy["integer"] == accuracy["emulator"] == accuracy["lava"]
    assert demo["differing_spikes"] == {"emulator": 0, "lava": 0}
    assert demo["differing_readouts"] == {"emulator": 0, "lava": 0}
    assert demo["compared_images"] == {"emulator": 599, "lava": 599}


def test_figures(demo):
    energy = demo["energy_pj"]
    parts = [pj for name, pj in energy.items() if name != "total"]
    assert energy["total"] == pytest.approx(sum(parts))
    assert min(parts) > 0
    assert demo["latency_ns"] > 0
    assert demo["n_cores"] >= 1
    assert demo["n_steps"] == 1
    assert isinstance(demo["assumed"], list)
    assert {"train", "finetune", "map", "emulate", "lava"} <= set(demo["seconds"])


def test_the_same_figures_through_files(demo, folder):
    answer("convert", "model.pt", "-o", "net.h5", "--name", "digits", "--json", cwd=folder)
    described = answer("inspect", "net.h5", "--json", cwd=folder)
    assert (
        described["fingerprint"]
        == answer("inspect", "network.h5", "--json", cwd=folder)["fingerprint"]
    )
    mapped = answer("map", "net.h5", "--chip", "loihi1", "-o", "m.h5", "--json", cwd=folder)
    assert mapped["n_cores"] == demo["n_cores"]
    emulated = answer("emulate", "m.h5", "--json", cwd=folder)
    assert emulated["accuracy"] == demo["accuracy"]["emulator"]
    assert emulated["latency_ns"] == demo["latency_ns"]
    for part, pj in demo["energy_pj"].items():
        assert emulated["energy_pj"][part] == pj
    in_lava = answer("lava", "m.h5", "--limit", "64", "--json", cwd=folder)  # the demo runs all
    assert in_lava["differing_spikes"] == 0
    assert in_lava["n_samples"] == 64


def test_demo_says_at_once_that_lava_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PMSM_HW_LAVA_PYTHON", "/nowhere/python")
    line = refused("demo", "--lava", cwd=tmp_path)
    assert "/nowhere/python" in line


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_demo_without_lava_shows_the_rest_and_why(tmp_path, python, monkeypatch):
    monkeypatch.setenv("PMSM_HW_LAVA_PYTHON", python)
    io.save(tmp_path / "network.h5", small_network())
    done = call("demo", "--network", "network.h5", cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert "accuracy: emulator, cycle mode" in done.stdout
    assert "accuracy: Lava process graph" not in done.stdout
    (why,) = [line for line in done.stdout.splitlines() if line.startswith("Lava was left out: ")]
    assert python in why


MODELS = """
import torch
from torch import nn

def max_pooling():
    from pmsm_hw.nn import PolarityQuant
    layers = [nn.Conv2d(1, 2, 3), PolarityQuant((1, 4)), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(18, 10))

def plain():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))

def quantized():
    from pmsm_hw.nn import quantize
    torch.manual_seed(0)
    return quantize(plain(), levels=(1, 4), calibration=torch.rand(64, 1, 8, 8), input_scale=1 / 16)

def number():
    return 3
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MODELS)
    return folder


def test_own_model_by_factory(mine):
    report = answer("convert", "mine:quantized", "-o", "mine.h5", "--json", cwd=mine)
    assert report
    assert answer("inspect", "mine.h5", "--json", cwd=mine)["n_neurons"] == 82


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("mine:max_pooling", ("MaxPool2d",)),
        ("mine:plain", ("ReLU", "--levels")),
        ("mine:number", ("gives a int",)),
        ("mine:absent", ("mine:absent", "cannot be imported")),
        ("nowhere.pt", ("nowhere.pt",)),
        ("mine", ("package.module:function",)),
    ],
)
def test_refused_models(mine, model, words):
    line = refused("convert", model, "-o", "x.h5", cwd=mine)
    for word in words:
        assert word in line
