"""The command line: chained through files, and one line with exit status 2 for bad input.

What is called `cli` here is a process of its own; the rest runs in this one.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import h5py
import numpy as np
import pytest
from command_line import CLI, cli
from in_process import answer, call, refused
from random_networks import random_network, small_network

import pmsm_hw
from pmsm_hw import io, reference
from pmsm_hw.datasets import load_digits
from pmsm_hw.network import Dense, Input, Network, PolarityMultiSpike


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture(scope="module")
def files(tmp_path_factory, network):
    folder = tmp_path_factory.mktemp("cli")
    io.save(folder / "net.h5", network)
    done = cli("map", "net.h5", "--chip", "loihi1", "-o", "mapped.h5", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_version():
    assert cli("--version").stdout.strip() == f"pmsm-hw {pmsm_hw.__version__}"


def test_inspect(files, network):
    described = answer("inspect", "net.h5", "--json", cwd=files)
    assert described["fingerprint"] == network.fingerprint
    assert network.summary() in cli("inspect", files / "net.h5").stdout


def test_emulate_after_map_gives_the_reference_accuracy(files, network):
    digits = load_digits("test")
    expected = reference.run(network, digits.images[:50], 2)
    figures = answer(
        "emulate", files / "mapped.h5", "--n-steps", 2, "--limit", 50, "--json", cwd=files
    )
    assert figures["accuracy"] == (expected.predictions() == digits.labels[:50]).mean()
    assert figures["energy_pj"]["total"] > 0
    table = cli("emulate", files / "mapped.h5", "--limit", 2)
    assert table.returncode == 0, table.stderr
    assert "energy" in table.stdout


def test_carry_state_makes_one_long_sample(files, network):
    """`run` and `emulate` hand the option on; more steps than are proven are refused."""
    x = np.random.default_rng(0).integers(0, 17, (4, *network.inputs[0].shape))
    np.save(files / "four.npy", x)
    expected, alone = (
        reference.run(network, x, 1, carry_state=carry).predictions().tolist()
        for carry in (True, False)
    )
    assert expected != alone
    options = ("mapped.h5", "--data", "four.npy", "--mode", "counts", "--carry-state")
    for command in ("emulate", "run"):
        assert answer(command, *options, "--json", cwd=files)["predictions"] == expected
    line = refused("emulate", *options, "--n-steps", 2, cwd=files)
    assert "4 samples of 2 steps, whose state is carried on, are 8 steps" in line


def test_only_json_reaches_stdout(files):
    done = cli("demo", "--network", files / "net.h5", "--no-lava", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["compared_images"] == {
        "emulator": len(load_digits("test").labels)
    }
    assert "emulating" in done.stderr


def test_own_data_file(files, network):
    x = np.random.default_rng(0).integers(0, 17, (5, 1, 8, 8))
    labels = reference.run(network, x, 1).predictions()
    np.savez(files / "own.npz", x=x, labels=labels)
    figures = answer("emulate", "mapped.h5", "--data", "own.npz", "--json", cwd=files)
    assert figures["accuracy"] == 1.0


def test_export(files, network):
    for suffix in ("nir", "h5"):
        done = call("export", "mapped.h5", "-o", f"exported.{suffix}", cwd=files)
        assert done.status == 0, done.stderr
    assert io.load(files / "exported.h5") == network
    assert io.load_nir(files / "exported.nir") == network
    assert ".png" in refused("export", "net.h5", "-o", "x.png", cwd=files)


def test_chips(files):
    names = [chip["name"] for chip in answer("chips", "list", "--json", cwd=files)["chips"]]
    assert {"loihi1", "toy"} <= set(names)
    shown = cli("chips", "show", "loihi1").stdout
    assert "Davies" in shown
    assert "pJ" in shown


def test_truncated_file(files):
    whole = (files / "net.h5").read_bytes()
    (files / "half.h5").write_bytes(whole[: len(whole) // 2])
    assert "half.h5" in refused("map", "half.h5", "-o", "x.h5", cwd=files)


def test_h5_of_another_kind(files):
    with h5py.File(files / "other.h5", "w") as file:
        file["weights"] = np.ones(3)
    assert "other.h5" in refused("inspect", "other.h5", cwd=files)


def test_unknown_format_version(files):
    (files / "future.h5").write_bytes((files / "net.h5").read_bytes())
    with h5py.File(files / "future.h5", "r+") as file:
        file.attrs["format_version"] = 999
    line = refused("inspect", "future.h5", cwd=files)
    assert "999" in line
    assert "future.h5" in line


def test_missing_file(files):
    assert "nowhere.h5" in refused("inspect", "nowhere.h5", cwd=files)


def test_inputs_of_the_wrong_shape(files):
    np.save(files / "wrong.npy", np.zeros((3, 1, 7, 8)))
    line = refused("emulate", "mapped.h5", "--data", "wrong.npy", cwd=files)
    assert "3x1x7x8" in line
    assert "batchx1x8x8" in line


def test_nan_inputs(files):
    np.save(files / "nan.npy", np.full((1, 1, 8, 8), np.nan))
    line = refused("emulate", "mapped.h5", "--data", "nan.npy", cwd=files)
    assert "64 of 64 values are not finite" in line


def test_unknown_data(files):
    assert "'cats'" in refused("emulate", "mapped.h5", "--data", "cats", cwd=files)
    assert "limit" in refused("emulate", "mapped.h5", "--limit", 0, cwd=files)


def test_file_without_mapping(files):
    assert "map" in refused("emulate", "net.h5", cwd=files)


def test_unknown_chip(files):
    line = refused("map", "net.h5", "--chip", "loihi9", "-o", "x.h5", cwd=files)
    assert "loihi9" in line
    assert "loihi1" in line


def test_chip_file_with_a_misspelt_key(files):
    from importlib.resources import files as resources

    text = resources("pmsm_hw.mapping.chips").joinpath("toy.toml").read_text()
    assert "neurons = " in text
    (files / "mine.toml").write_text(text.replace("neurons = ", "neuronz = ", 1))
    line = refused("map", "net.h5", "--chip", "mine.toml", "-o", "x.h5", cwd=files)
    assert "neuronz" in line
    assert "mine.toml" in line


def test_network_that_does_not_fit(files):
    big = Network(
        populations=(
            Input(name="input", shape=(4,), levels=(0, 1)),
            PolarityMultiSpike(name="wide", shape=(5000,), theta=9, levels=(0, 1)),
        ),
        projections=(Dense(source="input", target="wide", weight=np.ones((5000, 4), np.int8)),),
    )
    io.save(files / "big.h5", big)
    line = refused("map", "big.h5", "--chip", "toy", "-o", "x.h5", cwd=files)
    assert "wide" in line
    (files / "big.h5").unlink()


@pytest.mark.skipif(
    find_spec("lava") is not None, reason="this Python has Lava: run it in one without, as in .venv"
)
def test_lava_python_missing(files, monkeypatch):
    monkeypatch.setenv("PMSM_HW_LAVA_PYTHON", "/nowhere/bin/python")
    line = refused("lava", "net.h5", "--limit", 1, cwd=files)
    assert "/nowhere/bin/python" in line


def test_bad_steps_and_modes(files):
    assert "max_steps 4" in refused("emulate", "mapped.h5", "--n-steps", 5, cwd=files)
    assert "guess" in refused("emulate", "mapped.h5", "--mode", "guess", cwd=files)
    assert "guess" in refused("emulate", "mapped.h5", "--profile", "guess", cwd=files)


@pytest.mark.torch
def test_max_pooling_model_is_refused(files):
    torch = pytest.importorskip("torch", reason="torch is not installed in this Python")
    from pmsm_hw import nn

    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(18, 10),
    )  # fmt: skip
    with pytest.raises(pmsm_hw.PmsmHwError, match=r"MaxPool2d.*AvgPool2d"):
        nn.quantize(model, levels=(1, 4), calibration=load_digits("train").images[:32])


def test_run_does_in_one_go_what_the_chain_does(files):
    options = ("--limit", 20, "--json")
    chained = answer("emulate", "mapped.h5", *options, cwd=files)
    assert answer("run", "net.h5", *options, cwd=files) == chained
    assert answer("run", "mapped.h5", *options, cwd=files) == chained  # its own mapping
    other = answer("run", "mapped.h5", "--chip", "loihi2", *options, cwd=files)
    assert other["chip"] == "loihi2"
    done = cli("run", "net.h5", "--limit", 2, "-o", "kept.h5", cwd=files)
    assert done.returncode == 0, done.stderr
    assert io.load_mapping(files / "kept.h5") == io.load_mapping(files / "mapped.h5")


def test_run_reads_nir(files, network):
    io.save_nir(files / "net.nir", network)
    figures = answer("run", "net.nir", "--limit", 20, "--json", cwd=files)
    assert figures["fingerprint"] == network.fingerprint


def test_run_on_a_published_network(files, shared_data):
    nir, recording = shared_data / "nir" / "cnn_sinabs.nir", shared_data / "sample_nmnist.bin"
    figures = answer("run", nir, "--data", recording, "--n-steps", 4, "--json", cwd=files)
    assert figures["n_samples"] == 1
    assert figures["counts"]["spikes"] > 0
    assert "1x8x8" in refused("run", nir, cwd=files)  # digits are the default
    assert "lif1.lif" in refused("run", shared_data / "nir" / "braille_bias_zero.nir", cwd=files)


@pytest.mark.torch
def test_run_quantizes_a_plain_torch_model(files):
    torch = pytest.importorskip("torch", reason="torch is not installed in this Python")
    (files / "mine.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    convolution, layer = nn.Conv2d(1, 4, 3), nn.Linear(144, 10)\n"
        "    return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), layer)\n"
    )
    torch.manual_seed(0)
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10)
    )
    torch.save(plain.state_dict(), files / "mine.pt")
    given = ("mine:make", "--state-dict", "mine.pt")
    assert "quantize" in refused("run", *given, cwd=files)
    assert "2;4" in refused("run", *given, "--levels", "2;4", cwd=files)
    figures = answer(
        "run", *given, "--levels", "1,4", "--gains", "4,1", "--limit", 30, "--json", cwd=files
    )
    with torch.no_grad():
        expected = plain(torch.from_numpy(load_digits("test").images[:30])).argmax(1)
    assert (expected.numpy() == figures["predictions"]).mean() > 0.6


def test_random_data_is_seeded_and_within_levels(files, network):
    once = answer("run", "net.h5", "--data", "random", "--limit", 3, "--json", cwd=files)
    assert once == answer("run", "net.h5", "--data", "random", "--limit", 3, "--json", cwd=files)
    other = answer(
        "run", "net.h5", "--data", "random", "--limit", 3, "--seed", 1, "--json", cwd=files
    )
    assert once["n_samples"] == 3
    assert once["accuracy"] is None
    assert other["counts"] != once["counts"]
    assert "0 is outside 1" in refused("run", "net.h5", "--data", "random", "--limit", 0, cwd=files)


def test_several_inputs_by_name(tmp_path):
    network = Network(
        populations=(
            Input(name="left", shape=(3,), levels=(0, 3)),
            Input(name="right", shape=(2,), levels=(0, 3)),
            PolarityMultiSpike(name="sum", shape=(4,), theta=5, levels=(0, 3)),
        ),
        projections=(
            Dense(source="left", target="sum", weight=np.ones((4, 3), np.int8)),
            Dense(source="right", target="sum", weight=np.ones((4, 2), np.int8)),
        ),
    )
    io.save(tmp_path / "two.h5", network)
    np.savez(tmp_path / "two.npz", left=np.full((5, 3), 3), right=np.full((5, 2), 3))
    figures = answer("run", "two.h5", "--data", "two.npz", "--json", cwd=tmp_path)
    # every sum is 15: 3 spikes of each of 4 neurons; 9 + 6 units of the inputs
    assert figures["counts_by_population"]["sum"]["spikes"] == 5 * 4 * 3
    np.savez(tmp_path / "uneven.npz", left=np.full((5, 3), 3), right=np.full((4, 2), 3))
    assert "'right'" in refused("run", "two.h5", "--data", "uneven.npz", cwd=tmp_path)


def test_compare(files):
    runs = answer(
        "compare", "net.h5", "mapped.h5", "--n-steps", 1, "--n-steps", 2, "--limit", 10, "--json",
        cwd=files,
    )["runs"]  # fmt: skip
    assert [r["run"] for r in runs] == [
        "net.h5, T=1", "net.h5, T=2", "mapped.h5, T=1", "mapped.h5, T=2",
    ]  # fmt: skip
    assert [r["n_steps"] for r in runs] == [1, 2, 1, 2]
    assert runs[1]["energy_pj"]["total"] > runs[0]["energy_pj"]["total"]
    done = call(
        "compare", "net.h5", "--chip", "loihi1", "--chip", "loihi2", "--objective", "cores",
        "--limit", 2, cwd=files,
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert "net.h5, loihi2, cores" in done.stdout
    assert "twice" in refused("compare", "net.h5", "net.h5", "--limit", 1, cwd=files)
    assert "guess" in refused("compare", "net.h5", "--objective", "guess", cwd=files)


def test_usage_errors_are_one_line_and_status_2(files):
    assert "--nonsense" in refused("run", "net.h5", "--nonsense", cwd=files)
    assert "FILE" in refused("inspect", cwd=files)
    assert "integer" in refused("run", "net.h5", "--n-steps", "x", cwd=files)
    assert "model.onnx" in refused("run", "model.onnx", cwd=files)
    assert "--levels" in refused("run", "net.h5", "--levels", "1,4", cwd=files)
    assert "cycle" in refused(
        "emulate", "mapped.h5", "--mode", "counts", "--trace", "t.json", cwd=files
    )


def test_interrupted_run_leaves_nothing(files):
    options = ("run", "net.h5", "--data", "random", "--chip", "toy", "--objective", "cores")
    done = cli(*options, "--limit", 2, cwd=files)  # compiles what is not in the cache yet
    assert done.returncode == 0, done.stderr
    before = sorted(p.name for p in files.iterdir())
    # a shell starts what it runs in the background with interrupts ignored, and children inherit it
    heeding = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    child = subprocess.Popen(
        [
            sys.executable, "-c", heeding + "os.execv(sys.argv[1], sys.argv[1:])",
            str(CLI), *options, "--limit", "500000", "--n-steps", "4", "-o", "never.h5",
        ],
        cwd=files, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    out = err = ""
    for wait_s in (20, 20, 20, 20):  # an interrupt while libraries are loaded can be lost
        time.sleep(3)
        assert child.poll() is None, "it ended by itself: give it more to do"
        child.send_signal(signal.SIGINT)
        try:
            out, err = child.communicate(timeout=wait_s)
            break
        except subprocess.TimeoutExpired:
            continue
    else:
        child.kill()
        pytest.fail("not interrupted")
    assert child.returncode == 130, err
    assert out == ""
    assert "interrupted" in err
    assert sorted(p.name for p in files.iterdir()) == before


def test_random_network_survives_the_chain(tmp_path):
    network = random_network(7, recurrence=False)
    io.save(tmp_path / "random.h5", network)
    assert answer("inspect", "random.h5", "--json", cwd=tmp_path)["name"] == "random7"
