"""The demo as a function, and with a network of one's own: neither needs torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
from in_process import call, refused
from random_networks import small_network

from pmsm_hw import PmsmHwError, io
from pmsm_hw.demo import run_demo
from pmsm_hw.network import Network


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1}, {"seed": 2.5}, {"network": "net.h5"}, {"save_dir": 5},
        {"save_dir": "zero\0byte"}, {"chip": 5}, {"chip": "loihi9"}, {"lava_images": -1},
        {"lava_images": 1.5}, {"lava_images": True}, {"lava_required": 1}, {"trace": -1},
        {"trace": "x"}, {"say": "x"}, {"bar": 5},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_arguments_are_refused_before_the_work(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    with pytest.raises(PmsmHwError) as caught:
        run_demo(**{"network": small_network(), "lava_images": 0, "say": said.append, **wrong})
    assert "\n" not in str(caught.value)
    assert not said
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    found = run_demo(network=small_network(), save_dir=str(folder / "new"), lava_images=0)
    assert sorted(p.name for p in (folder / "new").iterdir()) == ["mapped.h5", "network.h5"]
    return found


def test_readouts_that_differ_are_a_difference(result):
    assert not result.differs
    assert "differing spikes or readouts: 0 in 599 images" in result.table()
    assert result.to_dict()["differing_readouts"] == {"emulator": 0}
    other = replace(result, differing_readouts={"emulator": 3})
    assert other.differs
    assert "differing spikes or readouts: 3 in 599 images" in other.table()
    assert replace(result, differing_spikes={"emulator": 1}).differs


def test_a_network_of_ones_own(tmp_path):
    """Of any kind of file; what its inputs cannot hold is said, or refused."""
    network = small_network()
    few = [replace(p, levels=(0, 8)) if p.name == "input" else p for p in network.populations]
    clipped = Network(
        name="clipped", populations=tuple(few), projections=network.projections, max_steps=4
    )
    io.save(tmp_path / "clipped.h5", clipped)
    options = ("--no-lava", "--chip", "loihi2")
    done = call("demo", "--network", "clipped.h5", *options, cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert "lie outside its levels [0, 8]" in done.stderr
    pytest.importorskip("nir", reason="nir is not installed here: pip install 'pmsm-hw[nir]'")
    io.save_nir(tmp_path / "small.nir", network)
    done = call("demo", "--network", "small.nir", *options, cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert "differing spikes or readouts: 0 in 599 images" in done.stdout
    assert "is a torch model" in refused("demo", "--network", "m.pt", *options, cwd=tmp_path)
    whole = [replace(p, scale=1.0) if p.name == "input" else p for p in network.populations]
    io.save(
        tmp_path / "whole.h5",
        Network(populations=tuple(whole), projections=network.projections, max_steps=4),
    )
    line = refused("demo", "--network", "whole.h5", *options, cwd=tmp_path)
    assert "holds fractions" in line
