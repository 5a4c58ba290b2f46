"""The process graph in this interpreter: its parts, one's own ports, monitors, twins, sources."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pmsm_hw as p
from pmsm_hw import datasets, reference
from pmsm_hw.errors import InputError, LavaError

pytest.importorskip("lava.magma", reason="needs lava-nc, that is Python 3.10")

from lava.magma.core.run_conditions import RunSteps
from lava.proc.dense.models import PyDelayDenseModelBitAcc
from lava.proc.dense.process import Dense as LavaDense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF
from lava.proc.monitor.process import Monitor
from lava.proc.sparse.process import Sparse as LavaSparse
from lava.utils.weightutils import SignMode

from pmsm_hw.lava import LavaNetwork, processes, to_lava
from pmsm_hw.lava.processes import polarity_multi_spike, sources, synapses

pytestmark = [
    pytest.mark.lava,
    # of networkx, which Lava pins
    pytest.mark.filterwarnings("ignore:pandas not found:ImportWarning"),
]


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Lava waits for ever when a model fails: then end the test, and its processes."""

    def late(*_: object) -> None:
        raise TimeoutError("Lava does not answer")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(100)
    yield
    signal.alarm(0)
    for process in multiprocessing.active_children():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)


def network(**options: Any) -> p.Network:
    rng = np.random.default_rng(0)
    options = {"rule": "carry", "gains": (1, 1), **options}
    return p.Network(
        populations=(
            p.Input(name="x", shape=(6,), levels=(-7, 7)),
            p.PolarityMultiSpike(
                name="a",
                shape=(5,),
                theta=np.array(60),
                levels=(2, 3),
                bias=np.arange(5),
                **options,
            ),
            p.PolarityMultiSpike(name="b", shape=(4,), theta=np.array(90), levels=(2, 3)),
            p.Readout(name="out", shape=(3,)),
        ),
        projections=(
            p.Dense(source="x", target="a", weight=rng.integers(-20, 21, (5, 6))),
            p.Dense(source="a", target="b", weight=rng.integers(-60, 61, (4, 5))),
            p.Dense(source="x", target="b", weight=rng.integers(-9, 10, (4, 6)), name="skip"),
            p.Dense(
                source="b", target="b", weight=rng.integers(-9, 10, (4, 4)), delay=1, name="rec"
            ),
            p.Dense(source="b", target="out", weight=rng.integers(-60, 61, (3, 4))),
        ),
        max_steps=8,
    )


X = np.random.default_rng(1).integers(-7, 8, (3, 4, 6))
N_SAMPLES, T = X.shape[:2]


def test_one_process_per_population_and_projection() -> None:
    graph = to_lava(network(), n_steps=T)
    assert isinstance(graph, LavaNetwork)
    assert graph.granularity == "fine"
    assert set(graph.populations) == {"a", "b", "out"}
    assert set(graph.projections) == {"x->a", "a->b", "skip", "rec", "b->out"}
    assert graph.populations["a"].name == "a"
    assert graph.projections["a->b"][0].name == "a->b"
    kinds = {name: [type(q) for q in chain] for name, chain in graph.projections.items()}
    assert kinds["a->b"] == [LavaDense]
    assert kinds["skip"] == [synapses.DelayLine, LavaDense]  # skips a depth
    assert kinds["rec"] == [synapses.DelayLine, LavaDense]  # stops spikes of another sample
    coarse = to_lava(network(), n_steps=T, granularity="coarse")
    assert coarse.projections == {}
    assert isinstance(coarse.populations["a"], polarity_multi_spike.PolarityMultiSpike)


def test_lavas_own_dense_and_sparse_are_used_where_they_are_exact() -> None:
    def kind_of(weight: np.ndarray, source: p.Population, exponent: int = 0) -> type:
        projection = p.Dense(source="x", target="n", weight=weight, weight_exponent=exponent)
        target = p.Readout(name="n", shape=(len(weight),), overflow="saturate")
        made = to_lava(p.Network(populations=(source, target), projections=(projection,)))
        return type(made.projections["x->n"][-1])

    x = p.Input(name="x", shape=(40,), levels=(-128, 127))
    some = np.zeros((20, 40), np.int8)
    some[3, 5] = -128
    assert kind_of(np.full((20, 40), -128), x) is LavaDense
    assert kind_of(some, x) is LavaSparse
    # 64 * 40 * 128 * 2**23 takes more than the 32 bits that Lava's Dense adds in
    wide = p.Input(name="x", shape=(40,), levels=(-(2**23), 2**23 - 1))
    assert kind_of(np.full((20, 40), -128), wide) is synapses.Synapses


def collect(graph: LavaNetwork, names: list[str], n_steps: int) -> dict[str, np.ndarray]:
    """Run with Lava's own sinks attached, return what they got: ``(n_steps, *shape)``."""
    sinks = {}
    for name in names:
        port = graph.spikes(name)
        sinks[name] = Sink(shape=tuple(port.shape), buffer=n_steps)
        graph.attach_sink(name, sinks[name].a_in)
    graph.run(N_SAMPLES)
    got = {name: np.moveaxis(sink.data.get(), -1, 0) for name, sink in sinks.items()}
    graph.stop()
    return got


@pytest.mark.parametrize("granularity", ["fine", "coarse"])
@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@pytest.mark.parametrize("rule", ["carry", "reset", "bounded"])
def test_own_sources_and_sinks(granularity: Any, tag: Any, rule: Any) -> None:
    """Lava's ring buffers feed and read the graph; spikes arrive in their hardware step."""
    net = network(rule=rule, gains=(3, -1))
    graph = to_lava(net, n_steps=T, granularity=granularity, tag=tag)
    with pytest.raises(LavaError, match="has no source"):
        graph.spikes("x")
    source = Source(data=np.ascontiguousarray(X.reshape(-1, 6).T))
    graph.attach_source("x", source.s_out)
    n_steps = net.hardware_steps(T, N_SAMPLES) + 1
    got = collect(graph, ["x", "a", "b", "out"], n_steps)
    expected = reference.run(net, X, T)
    for name in ("x", "a", "b"):
        first = net.depths[name]
        ours = got[name][first : first + N_SAMPLES * T].reshape(N_SAMPLES, T, -1)
        payload = expected.spikes[name]
        population = net[name]
        if isinstance(population, p.PolarityMultiSpike):
            payload = population.payload(payload)
        np.testing.assert_array_equal(ours, payload)
        assert not got[name][:first].any()  # silent before its wave arrives
    last = net.depths["out"] + T * np.arange(1, N_SAMPLES + 1) - 1
    np.testing.assert_array_equal(got["out"][last], expected.readouts["out"])


def test_unit_spikes_have_a_port_per_polarity() -> None:
    net = network(spike_mode="unit", gains=(4, 1))
    graph = to_lava(net, X, T)
    positive, negative = graph.projections["a->b"]
    assert (positive.name, negative.name) == ("a->b+", "a->b-")
    n_steps = net.hardware_steps(T, N_SAMPLES) + 1
    sinks = [Sink(shape=(5,), buffer=n_steps) for _ in range(2)]
    graph.populations["a"].s_pos_out.connect(sinks[0].a_in)
    graph.populations["a"].s_neg_out.connect(sinks[1].a_in)
    graph.run(N_SAMPLES)
    up, down = (sink.data.get().T[1 : 1 + N_SAMPLES * T] for sink in sinks)
    graph.stop()
    k = reference.run(net, X, T).spikes["a"].reshape(-1, 5)
    assert k.min() < 0 < k.max()
    np.testing.assert_array_equal(up, np.maximum(k, 0))
    np.testing.assert_array_equal(down, np.maximum(-k, 0))


def test_lavas_monitor_sees_the_membrane() -> None:
    net = network()
    graph = to_lava(net, X, T)
    n_steps = net.hardware_steps(T, N_SAMPLES) + 1
    monitor = Monitor()
    monitor.probe(graph.populations["a"].v, n_steps)
    graph.run(N_SAMPLES)
    v = monitor.get_data()["a"]["v"]
    graph.stop()
    assert v.shape == (n_steps, 5)
    activity = next(
        a for a in reference.simulate(net, reference.units_of(net, X, T), T) if a.name == "a"
    )
    last = net.depths["a"] + T * np.arange(1, N_SAMPLES + 1) - 1
    np.testing.assert_array_equal(v[last], activity.state)


def test_a_run_goes_on_where_it_was() -> None:
    net = network()
    graph = to_lava(net, n_steps=T)
    graph.attach_source("x", Source(data=np.ascontiguousarray(X.reshape(-1, 6).T)).s_out)
    sink = Sink(shape=(4,), buffer=net.hardware_steps(T, N_SAMPLES) + 1)
    graph.attach_sink("b", sink.a_in)
    graph.run(1)
    graph.run(N_SAMPLES - 1)
    b = sink.data.get().T
    graph.stop()
    first = net.depths["b"]
    np.testing.assert_array_equal(
        b[first : first + N_SAMPLES * T].reshape(N_SAMPLES, T, 4),
        reference.run(net, X, T).spikes["b"],
    )


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_recordings_are_played_step_by_step(tag: Any) -> None:
    rng = np.random.default_rng(2)
    net = p.Network(
        populations=(
            p.Input(name="camera", shape=(2, 9, 7), levels=(0, 3)),
            p.PolarityMultiSpike(name="n", shape=(3, 4, 3), theta=np.array(40), levels=(3, 3)),
        ),
        projections=(
            p.Conv2d(
                source="camera", target="n", weight=rng.integers(-30, 31, (3, 2, 3, 2)), stride=2,
                padding=((0, 1), (0, 0)),
            ),
        ),
        max_steps=5,
    )  # fmt: skip
    recordings = []
    for n in (400, 0, 900):
        events = np.zeros(n, datasets.EVENT_DTYPE)
        events["x"], events["y"] = rng.integers(0, 7, n), rng.integers(0, 9, n)
        events["p"], events["t"] = rng.integers(0, 2, n), np.sort(rng.integers(0, 50_000, n))
        recordings.append(events)
    graph = to_lava(net, n_steps=5, tag=tag)
    with pytest.raises(InputError, match=r"its levels are \[0, 3\]"):
        graph.attach_events("camera", recordings)
    graph.attach_events("camera", recordings, clip=3)
    assert isinstance(graph.sources["camera"], sources.EventSource)
    got = collect(graph, ["camera", "n"], net.hardware_steps(5, 3) + 1)
    frames = np.stack([datasets.to_frames(e, 5, (7, 9, 2)) for e in recordings])
    frames = np.minimum(frames, 3)
    np.testing.assert_array_equal(got["camera"][:15].reshape(frames.shape), frames)
    expected = reference.run(net, frames, 5).spikes["n"]
    assert np.abs(expected).sum() > 0
    np.testing.assert_array_equal(got["n"][1:16].reshape(expected.shape), expected)


def test_a_wrong_use_is_refused() -> None:
    graph = to_lava(network(), n_steps=T)
    source = Source(data=np.zeros((5, 1), np.int32))
    with pytest.raises(LavaError, match=r"port sends shape \(5,\), the input has \(6,\)"):
        graph.attach_source("x", source.s_out)
    with pytest.raises(LavaError, match="sources feed inputs"):
        graph.attach_source("a", source.s_out)
    with pytest.raises(LavaError, match=r"events have \(2, height, width\)"):
        graph.attach_events("x", [])
    with pytest.raises(LavaError, match="has a source already"):
        to_lava(network(), X, T).attach_source("x", Source(data=np.zeros((6, 1))).s_out)
    for options in ({"granularity": "medium"}, {"tag": "int8"}, {"n_steps": 9}, {"n_steps": 0}):
        with pytest.raises(InputError):
            to_lava(network(), **{"n_steps": T, **options})


def test_lavas_delay_dense_shifts_the_sum_of_each_delay_by_itself() -> None:
    """The chip, and ours, shift the sum of all that arrives: (1 + 1) >> 1 is 1."""
    from test_cuba_lif_differences import Port

    model: Any = PyDelayDenseModelBitAcc({"weight_exp": -2, "sign_mode": SignMode.MIXED})
    model.weights, model.delays = np.array([[2, 2]]), np.array([[0, 1]])
    model.a_buff, model.num_message_bits = np.zeros((1, 2), np.int32), np.array([1])
    model.s_in, model.a_out = Port(np.array([0, 1]), np.array([1, 0]), np.array([0, 0])), Port()
    for _ in range(3):
        model.run_spk()
    assert [int(a[0]) for a in model.a_out.sent] == [0, 0, 0]
    net = p.Network(
        populations=(p.Input(name="x", shape=(2,)), p.Readout(name="y", shape=(1,))),
        projections=(
            p.Dense(source="x", target="y", weight=[[1, 1]], delays=[[0, 1]], weight_exponent=-1),
        ),
        max_steps=2,
    )
    x = np.array([[[0, 1], [1, 0]]])
    graph = to_lava(net, x, 2)
    assert [type(q) for q in graph.projections["x->y"]] == [synapses.DelayedSynapses]
    sink = Sink(shape=(1,), buffer=3)
    graph.attach_sink("y", sink.a_in)
    graph.run(1)
    assert sink.data.get().tolist() == [[0, 0, 1]]
    graph.stop()
    assert reference.run(net, x, 2).readouts["y"].tolist() == [[1]]


def test_a_graph_in_the_chips_own_time_has_no_wave() -> None:
    """Lava's own neurons act from the first step on, also on their bias."""
    net = p.Network(
        populations=(
            p.Input(name="x", shape=(3,)),
            p.CubaLif(name="a", shape=(3,), vth=2, du=4095, bias=150),
            p.CubaLif(name="b", shape=(2,), vth=2, du=4095, bias=99),
        ),
        projections=(
            p.Identity(source="x", target="a"),
            p.Dense(source="a", target="b", weight=[[1, 0, -1], [1, 1, 1]], delay=1),
        ),
        max_steps=6,
    )
    x = np.random.default_rng(0).integers(0, 3, (1, 6, 3))
    graph = to_lava(net, x, 6)
    assert [type(graph.populations[name]) for name in "ab"] == [LIF, LIF]
    assert graph.kinds == dict.fromkeys("ab", "lava.proc.lif.process.LIF")
    assert graph.projections["x->a"] == ()
    assert [type(q) for q in graph.projections["a->b"]] == [LavaDense]
    sinks = {name: Sink(shape=net[name].shape, buffer=6) for name in "ab"}
    for name, sink in sinks.items():
        graph.attach_sink(name, sink.a_in)
    graph.run(1)
    expected = reference.run(net, x, 6).spikes
    for name, sink in sinks.items():
        np.testing.assert_array_equal(sink.data.get().T, expected[name][0])
        assert expected[name].any()
    graph.stop()
    kinds = to_lava(net, x, 6, neurons="own").kinds
    assert set(kinds.values()) == {"pmsm_hw.lava.processes.cuba_lif.CubaLif"}
    for granularity, tag in (("coarse", "fixed_pt"), ("fine", "floating_pt")):
        other = to_lava(net, x, 6, granularity=granularity, tag=tag)  # type: ignore[arg-type]
        assert other.kinds == kinds


@pytest.mark.parametrize("granularity", ["fine", "coarse"])
def test_twins_of_loihis_neurons_compute_integers(granularity: Any) -> None:
    net = p.Network(
        populations=(
            p.Input(name="x", shape=(3,), levels=(-9, 9)),
            p.CubaLif(name="a", shape=(3,), vth=2, du=[9], dv=99, bias=150, refractory=2),
            p.SigmaDelta(name="b", shape=(2,), vth=[3, 4], bias=-1, state_exp=1),
        ),
        projections=(
            p.Dense(source="x", target="a", weight=np.eye(3, dtype=int), weight_exponent=-1),
            p.Dense(source="a", target="b", weight=[[9, 0, -7], [1, 8, 1]], delays=[[0, 1, 2]] * 2),
        ),
        max_steps=6,
    )
    x = np.random.default_rng(0).integers(-9, 10, (2, 6, 3))
    graph = to_lava(net, x, 6, granularity=granularity, tag="floating_pt")
    sink = Sink(shape=(2,), buffer=net.hardware_steps(6, 2) + 1)
    graph.attach_sink("b", sink.a_in)
    graph.run(2)
    got = sink.data.get().T[2:].reshape(2, 6, 2)
    graph.stop()
    expected = reference.run(net, x, 6).spikes["b"]
    assert np.count_nonzero(expected) > 3
    np.testing.assert_array_equal(got, expected)


def test_lava_executes_no_file_when_it_looks_for_models() -> None:
    """It would execute each file beside that of a Process, and only warn when one fails."""
    folder = Path(processes.__file__).parent
    assert {f.parent.parent for f in folder.rglob("*.py")} == {folder, folder.parent}
    assert {file.name for file in folder.rglob("*.py")} == {"__init__.py"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "pandas not found", ImportWarning)
        graph = to_lava(network(), X[:1], T)
        for process in graph.components():
            process.run(condition=RunSteps(num_steps=1), run_cfg=graph.run_config())
        graph.stop()
