"""Network files on the command line: .h5 and .nir are read, others named for what they are."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import answer, cli, refused
from random_networks import small_network

from pmsm_hw import io
from pmsm_hw.cli.models import TAKEN_BY, ModelOptions, open_model, open_network
from pmsm_hw.cli.work import samples_for
from pmsm_hw.errors import FormatError, InputError

nir = pytest.importorskip("nir", reason="nir is not installed here: pip install 'pmsm-hw[nir]'")

GIVEN = {
    "state_dict": Path("w.pt"),
    "levels": "0,4",
    "gains": "4,1",
    "name": "mine",
    "weight_bits": 4,
    "max_steps": 3,
    "calibration": "nofile.npz",
    "input_scale": 0.5,
    "input_levels": "0,15",
    "per_channel": True,
    "max_pool": "average",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    io.save(folder / "own.h5", small_network())
    io.save_nir(folder / "own.nir", small_network())
    graph = nir.NIRGraph.from_list(
        nir.Input(np.array([3])),
        nir.Linear(np.eye(3, dtype=np.float32)),
        nir.IF(np.ones(3), np.full(3, 2.0)),
        nir.Output(np.array([3])),
    )
    nir.write(folder / "general.nir", graph)
    with h5py.File(folder / "dense.net", "w") as file:
        file["layer/0/type"] = np.array([b"input"])
        file["layer/0/shape"] = np.array([3])
    return folder


@pytest.mark.parametrize("option", GIVEN)
@pytest.mark.parametrize("file", ["own.h5", "own.nir", "general.nir"])
def test_an_option_has_an_effect_or_is_refused(files, file, option):
    options = ModelOptions(**{option: GIVEN[option]})
    if file == "general.nir" and "a .nir file" in TAKEN_BY[option]:
        plain = open_model(str(files / file), ModelOptions()).network
        assert open_model(str(files / file), options).network != plain
        assert open_network(files / file, options).network != plain
        return
    for opened in (open_network, lambda path, given: open_model(str(path), given)):
        with pytest.raises((InputError, FormatError)) as caught:
            opened(files / file, options)
        assert option.replace("_", "-") in str(caught.value).replace("_", "-")
        assert "\n" not in str(caught.value)


def test_every_option_is_tried():
    assert set(GIVEN) == set(TAKEN_BY) == set(ModelOptions.__dataclass_fields__)


def test_run_refuses_what_has_no_effect(files):
    for file, option, value in (
        ("own.h5", "--gains", "nonsense"),
        ("own.h5", "--max-steps", 99),
        ("general.nir", "--calibration", "nofile.npz"),
    ):
        line = refused("run", file, option, value, "--data", "random", cwd=files)
        assert line.startswith(f"pmsm-hw: option {option}: ")
        assert "leave it out" in line


def test_torch_options_that_need_others_are_refused():
    with pytest.raises(InputError, match="option --gains: has an effect only with --levels"):
        open_model("pmsm_hw.nn.models:digits_cnn", ModelOptions(gains="4,1"))
    with pytest.raises(InputError, match=r"option --state-dict: has no effect, 'm.pt' has its own"):
        open_model("m.pt", ModelOptions(state_dict=Path("w.pt")))


def test_nir_files_go_wherever_network_files_go(files, tmp_path):
    shown = answer("inspect", "general.nir", "--max-steps", 3, "--json", cwd=files)
    assert shown["max_steps"] == 3
    own = small_network().fingerprint
    assert answer("inspect", "own.nir", "--json", cwd=files)["fingerprint"] == own
    mapped, plain = tmp_path / "mapped.h5", tmp_path / "plain.h5"
    options = ("--max-steps", 5, "--input-levels", "0,3", "--input-scale", 0.5, "--levels", "0,2")
    assert cli("map", "general.nir", *options, "-o", mapped, cwd=files).returncode == 0
    network = io.load(mapped)
    assert io.load_mapping(mapped).network_fingerprint == network.fingerprint
    assert (network.max_steps, network["if"].levels) == (5, (0, 2))
    assert (network["input"].levels, network["input"].scale) == ((0, 3), 0.5)
    done = cli("export", "general.nir", *options, "-o", plain, cwd=files)
    assert done.returncode == 0
    assert "note: IF neurons fire at the threshold and keep what exceeds it" in done.stderr
    assert io.load(plain) == network
    line = refused("emulate", "general.nir", cwd=files)
    assert "pmsm-hw map general.nir" in line


def test_fractions_need_a_scale(files, tmp_path):
    np.savez(files / "real.npz", x=np.array([[0.25, 0.5, 0.75]]))
    line = refused("run", "general.nir", "--data", "real.npz", cwd=files)
    assert "holds fractions (0.25)" in line
    assert "--input-scale" in line
    with pytest.raises(InputError, match="shape 1x1x8x8 is neither batchx3"):  # said before that
        samples_for(open_network(files / "general.nir", ModelOptions()), "digits", 1, 1, None)
    done = cli("run", "general.nir", "--data", "real.npz", "--input-scale", 0.25, cwd=files)
    assert done.returncode == 0
    np.savez(files / "whole.npz", x=np.array([[1.0, 2.0, 3.0]]))
    assert cli("run", "general.nir", "--data", "whole.npz", cwd=files).returncode == 0


def test_other_kinds_of_file_are_named(files, tmp_path):
    for read in (io.load, io.load_nir):
        with pytest.raises(
            FormatError, match=r"is a netx network \(lava-dl's .net\), which is not"
        ):
            read(files / "dense.net")
    (tmp_path / "x.h5").write_bytes((files / "general.nir").read_bytes())
    (tmp_path / "x.nir").write_bytes((files / "own.h5").read_bytes())
    with pytest.raises(FormatError, match=r"is a NIR file, its name should end in \.nir"):
        io.load(tmp_path / "x.h5")
    with pytest.raises(FormatError, match=r"is a network file of pmsm-hw, its name should end in"):
        io.load_nir(tmp_path / "x.nir")
    for command in (("inspect",), ("run",), ("map", "-o", "x.h5"), ("compare",)):
        assert "is a netx network" in refused(command[0], "dense.net", *command[1:], cwd=files)
    with pytest.raises(InputError, match="is a torch model, a network file"):
        open_network(Path("m.pt"), ModelOptions())
