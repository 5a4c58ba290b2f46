"""Network files on the command line: .h5 and .nir are read, others named for what they are."""

from __future__ import annotations

from pathlib import Path

import h5py
import in_process
import numpy as np
import pytest
from command_line import answer, cli, refused
from in_process import call
from random_networks import small_network

from pmsm_hw import datasets, io
from pmsm_hw.cli.models import TAKEN_BY, ModelOptions, open_model, open_network
from pmsm_hw.cli.samples import samples_for
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


def test_a_network_of_a_nir_file_is_asked_for_its_scale_wherever_it_went(files, tmp_path):
    """The scale is what counts, not the suffix: fractions would be rounded to 0 or 1."""
    np.savez(tmp_path / "real.npz", x=np.array([[0.25, 0.5, 0.75]]))
    np.savez(tmp_path / "whole.npz", x=np.array([[1.0, 2.0, 3.0]]))
    (tmp_path / "general.nir").write_bytes((files / "general.nir").read_bytes())
    for command, output in (("map", "mapped.h5"), ("export", "plain.h5"), ("export", "own.nir")):
        assert call(command, "general.nir", "-o", output, cwd=tmp_path).status == 0
    for words in (
        ("emulate", "mapped.h5"), ("run", "mapped.h5"), ("compare", "mapped.h5", "plain.h5"),
        ("run", "plain.h5"), ("lava", "plain.h5"), ("run", "own.nir"),
    ):  # fmt: skip
        line = in_process.refused(*words, "--data", "real.npz", cwd=tmp_path)
        assert "holds fractions (0.25), input 'input' of network 'general'" in line
        assert "--input-scale of pmsm-hw map" in line
    assert call("emulate", "mapped.h5", "--data", "whole.npz", cwd=tmp_path).status == 0
    options = ("--input-scale", 0.25, "-o", "scaled.h5")
    assert call("map", "general.nir", *options, cwd=tmp_path).status == 0
    assert call("emulate", "scaled.h5", "--data", "real.npz", cwd=tmp_path).status == 0


def test_what_was_clipped_is_said_by_every_command(files, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([[1.0, 2.0, 300.0]] * 2))
    (tmp_path / "general.nir").write_bytes((files / "general.nir").read_bytes())
    assert call("map", "general.nir", "-o", "mapped.h5", cwd=tmp_path).status == 0
    note = "note: input 'input': 33.33% of the values (2) lie outside its levels [0, 255]"
    for words in (("run", "general.nir"), ("emulate", "mapped.h5"), ("compare", "mapped.h5")):
        done = call(*words, "--data", "x.npz", cwd=tmp_path)
        assert done.status == 0, done.stderr
        assert done.stderr.count(note) == 1, words
    chips = ("--chip", "toy", "--chip", "loihi2")
    done = call("compare", "mapped.h5", "general.nir", *chips, "--data", "x.npz", cwd=tmp_path)
    assert [line for line in done.stderr.splitlines() if "lie outside" in line] == [
        f"{model}: {note} of scale 1 and were clipped to them"
        for model in ("mapped.h5", "general.nir")
    ]


def test_lava_says_what_was_clipped(files, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([[1.0, 2.0, 300.0]] * 2))
    done = call("lava", files / "general.nir", "--data", "x.npz", cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert "(2) lie outside its levels [0, 255]" in done.stderr


def test_compare_reads_the_samples_once_for_each_number_of_steps(files, tmp_path, monkeypatch):
    io.save(tmp_path / "own.h5", small_network())
    np.savez(tmp_path / "x.npz", x=np.ones((2, 1, 8, 8), np.float32))
    read, load = [], datasets.load_samples

    def counted(*arguments, **options):
        read.append(options["n_steps"])
        return load(*arguments, **options)

    monkeypatch.setattr(datasets, "load_samples", counted)
    options = ("--chip", "loihi1", "--chip", "loihi2", "--objective", "cores", "--objective",
               "energy", "--n-steps", 1, "--n-steps", 2, "--data", "x.npz")  # fmt: skip
    done = call("compare", "own.h5", *options, "--mode", "counts", cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert read == [1, 2]


def test_other_kinds_of_file_are_named(files, tmp_path):
    for read in (io.load, io.load_nir):
        with pytest.raises(
            FormatError, match=r"is a netx network \(lava-dl's .net\), which is not"
        ):
            read(files / "dense.net")
    (tmp_path / "x.h5").write_bytes((files / "general.nir").read_bytes())
    (tmp_path / "x.nir").write_bytes((files / "own.h5").read_bytes())
    for read, name, words in (
        (io.load, "x.h5", "is a NIR file, its name should end in .nir; rename it, or read it with "
         "pmsm_hw.io.load_nir"),
        (io.load_nir, "x.nir", "is a network file of pmsm-hw, its name should end in .h5; rename "
         "it, or read it with pmsm_hw.io.load"),
    ):  # fmt: skip
        with pytest.raises(FormatError) as caught:
            read(tmp_path / name)
        assert str(caught.value).endswith(words)
    # well named: nothing to rename
    with pytest.raises(FormatError) as caught:
        io.load(files / "general.nir")
    assert str(caught.value).endswith(": is a NIR file; read it with pmsm_hw.io.load_nir")
    with pytest.raises(FormatError) as caught:
        io.load_nir(files / "own.h5")
    assert str(caught.value).endswith("is a network file of pmsm-hw; read it with pmsm_hw.io.load")
    for command in (
        ("inspect",), ("run",), ("map", "-o", "x.h5"), ("compare",), ("emulate",), ("lava",),
        ("convert", "-o", "x.h5"), ("export", "-o", "x.nir"), ("demo", "--no-lava", "--network"),
    ):  # fmt: skip
        words = (*command, "dense.net") if command[0] == "demo" else (
            command[0], "dense.net", *command[1:]
        )  # fmt: skip
        assert "is a netx network" in in_process.refused(*words, cwd=files)
    for command in ("inspect", "emulate", "lava"):
        line = in_process.refused(command, "m.pt", cwd=files)
        assert "is a torch model" in line
        assert line.endswith("convert it first: pmsm-hw convert")
