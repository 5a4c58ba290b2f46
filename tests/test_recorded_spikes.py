"""What a report keeps: spikes and traces of the samples that were asked for, and no memory more."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from command_line import answer, cli, refused
from emulator_cases import random_case
from random_networks import random_units, small_network

from pmsm_hw import io
from pmsm_hw.emulator import emulate, plots, write_trace
from pmsm_hw.emulator.counting import run as counting
from pmsm_hw.errors import EmulationError, InputError
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.network import Dense, Identity, Input, Network, PolarityMultiSpike, Readout


@pytest.mark.parametrize("mode", ["counts", "cycle"])
@pytest.mark.parametrize("n", [0, 1, 3, 99, None])
def test_spikes_of_the_first_samples(mode, n):
    for seed in (3, 8, 11):
        network, mapping = random_case(seed)
        n_steps = 1 + seed % network.max_steps
        x = random_units(network, seed, n_steps=n_steps)
        whole = emulate(network, mapping, x, n_steps, mode=mode)
        part = emulate(network, mapping, x, n_steps, mode=mode, record_samples=n)
        assert set(part.spikes) == (set() if n == 0 else set(whole.spikes))
        for name, k in part.spikes.items():
            np.testing.assert_array_equal(k, whole.spikes[name][:n])
        assert part.to_dict() == whole.to_dict()
        for name, logits in whole.logits.items():
            np.testing.assert_array_equal(part.logits[name], logits)


def chain(n_neurons):
    weight = np.ones((2, n_neurons), np.int8)
    return Network(
        populations=(
            Input(name="input", shape=(n_neurons,), levels=(0, 3)),
            *(PolarityMultiSpike(name=n, shape=(n_neurons,), theta=2, levels=(1, 2)) for n in "ab"),
            Readout(name="output", shape=(2,)),
        ),
        projections=(
            Identity(source="input", target="a", weight=1),
            Identity(source="a", target="b", weight=1),
            Dense(source="b", target="output", weight=weight),
        ),
        max_steps=8,
    )


@pytest.mark.parametrize("mode", ["counts", "cycle"])
def test_memory_does_not_grow_with_spikes_that_nobody_asked_for(mode, monkeypatch):
    monkeypatch.setattr(counting, "_HELD_UPDATES", 1 << 18)  # some 20 samples at a time
    network, n_steps = chain(500), 8
    mapping = map_network(network, load_chip("loihi2"))
    x = np.random.default_rng(0).integers(0, 4, (300, 500)).astype(np.int32)
    emulate(network, mapping, x[:1], n_steps, mode=mode)  # compiles

    def peak(n, **options):
        tracemalloc.start()
        emulate(network, mapping, x[:n], n_steps, mode=mode, **options)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    spikes = 200 * n_steps * 2 * 500 * 4  # 200 samples of the two populations, int32
    recorded = peak(300) - peak(100)
    assert recorded > spikes
    assert peak(300, record_samples=1) - peak(100, record_samples=1) < recorded - 0.9 * spikes


def test_a_trace_of_the_first_samples_is_the_beginning_of_the_whole_one():
    network, mapping = random_case(11)
    n_steps = 1 + 11 % network.max_steps
    x = random_units(network, 11, n_steps=n_steps)
    whole = emulate(network, mapping, x, n_steps, mode="cycle", trace=True)
    assert whole.n_samples > 1
    for n in (1, 2, 99):
        part = emulate(network, mapping, x, n_steps, mode="cycle", trace=n)
        steps = network.hardware_steps(n_steps, min(n, whole.n_samples)) + 1
        for name in ("trace", "link_trace", "message_trace"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:steps])
        plots.latency_waterfall(part)
        assert part.to_dict() == whole.to_dict()


def traced(path, report, **options):
    shown = write_trace(path, report, **options)
    data = json.loads(path.read_text())
    about = data["otherData"]
    steps = {
        e["args"]["step"] for e in data["traceEvents"] if e["ph"] == "X" and "step" in e["args"]
    }
    assert about["samples"] == list(shown)
    assert len(steps) <= about["n_traced_steps"]
    return shown, steps, data["traceEvents"]


def test_a_large_trace_shows_the_first_and_the_slowest_samples(tmp_path: Path):
    network = chain(100)
    mapping = map_network(network, load_chip("loihi2"))
    x = np.zeros((1500, 100), np.int32)
    x[700], x[900] = 1, 3  # the more spikes, the slower
    report = emulate(network, mapping, x, 8, mode="cycle", trace=True)
    path = tmp_path / "t.json"
    everything, steps, events = traced(path, report, samples="all")
    assert everything == tuple(range(1500))
    assert path.stat().st_size > 12_000_000
    whole = {json.dumps(e) for e in events}
    shown, some, events = traced(path, report)
    assert 4_000_000 < path.stat().st_size < 10_000_000
    assert {0, 700, 900} <= set(shown)
    assert {json.dumps(e) for e in events if e["ph"] != "M"} <= whole
    n_each = network.hardware_steps(8, 1)
    assert some == {s * 8 + i for s in shown for i in range(n_each)} & steps
    shown, some, _ = traced(path, report, samples=(900, 3, 3))
    assert shown == (3, 900)
    assert some == {s * 8 + i for s in shown for i in range(n_each)}


@pytest.mark.parametrize("samples", [(-1,), (99,), (1.0,), "some", ()])
def test_samples_that_were_not_traced(samples, tmp_path):
    network, mapping = random_case(11)
    x = random_units(network, 11)
    report = emulate(network, mapping, x, 1, mode="cycle", trace=2)
    assert write_trace(tmp_path / "t.json", report, samples="all") == (0, 1)
    (tmp_path / "t.json").unlink()
    for wrong in (samples, (2,), (True,), (10**5000,)):
        with pytest.raises(InputError, match="that were traced"):
            write_trace(tmp_path / "t.json", report, samples=wrong)
    with pytest.raises(InputError, match="samples are 0, at least 1 of the 2"):
        write_trace(tmp_path / "t.json", report, samples=[])
    assert list(tmp_path.iterdir()) == []


def test_wrong_numbers_of_samples():
    network, mapping = random_case(3)
    x = random_units(network, 3)
    for name in ("record_samples", "trace"):
        for value in (-1, 1.5, "2", [1]):
            with pytest.raises(InputError, match=name):
                emulate(network, mapping, x, mode="cycle", **{name: value})
    for value in (True, False):
        with pytest.raises(InputError, match="record_samples"):
            emulate(network, mapping, x, record_samples=value)
    for mode in ("counts", "cycle"):  # None is no word for all, nor for none
        with pytest.raises(InputError, match="trace None is not an integer"):
            emulate(network, mapping, x, mode=mode, trace=None)
    with pytest.raises(EmulationError, match="mode 'cycle' only"):
        emulate(network, mapping, x, mode="counts", trace=3)
    report = emulate(network, mapping, x, record_samples=1)
    for sample in (1, -1, "x", True, None):
        with pytest.raises(InputError, match="whose spikes the report has"):
            plots.spike_raster(report, sample=sample)
    for options in ({"record_samples": 0}, {"record": ()}):
        report = emulate(network, mapping, x, **options)
        with pytest.raises(InputError, match="has spikes of 0 samples"):
            plots.spike_raster(report)


# -- command line --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    network = small_network()
    io.save(folder / "net.h5", network, mapping=map_network(network, load_chip("loihi1")))
    return folder


def test_trace_options(files, tmp_path):
    done = cli("emulate", files / "net.h5", "--limit", 3, "--trace", "t.json", "--trace-all",
               cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wrote t.json (3 of 3 samples)" in done.stderr
    assert "outside" not in done.stderr
    assert json.loads((tmp_path / "t.json").read_text())["otherData"]["samples"] == [0, 1, 2]
    assert "--trace" in refused("emulate", files / "net.h5", "--trace-all", cwd=tmp_path)


def test_values_that_levels_cannot_hold_are_counted(files, tmp_path):
    x = np.zeros((2, 1, 8, 8))
    x[0, 0, 0] = -0.5, 0.01, 0.5, 1.0, 1.01, 1.1, 0.0, 0.0  # levels (0, 16) of scale 1/16
    np.savez(tmp_path / "x.npz", x=x)
    done = cli("emulate", files / "net.h5", "--data", "x.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1.56% of the values (2) lie outside its levels [0, 16]" in done.stderr


def test_labels_that_are_no_classes(files, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 1, 8, 8)), labels=[3, 10])
    for command in ("emulate", "lava"):
        line = refused(command, files / "net.h5", "--data", "x.npz", cwd=tmp_path)
        assert "labels of data 'x.npz': lie in [3, 10], readout" in line
    assert answer("emulate", files / "net.h5", "--data", "x.npz", "--limit", 1, "--json",
                  cwd=tmp_path)["n_samples"] == 1  # fmt: skip


def test_the_command_line_keeps_no_spikes_but_those_it_draws():
    from pmsm_hw.cli.emulation import emulate_with_bar
    from pmsm_hw.datasets import load_samples

    network = small_network()
    mapping = map_network(network, load_chip("loihi1"))
    samples = load_samples("digits", limit=3)
    options = {"mode": "counts", "profile": None}
    assert emulate_with_bar(network, mapping, samples, 1, **options).spikes == {}
    drawn = emulate_with_bar(network, mapping, samples, 1, record_samples=1, **options)
    assert {len(k) for k in drawn.spikes.values()} == {1}
