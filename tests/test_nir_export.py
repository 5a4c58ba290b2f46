"""What is written as NIR: nir reads it, plain readers compute the same, and changes are noticed."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_networks import random_network, random_projection

nir = pytest.importorskip("nir", reason="nir is not installed here: pip install 'pmsm-hw[nir]'")

from nir_graphs import N_STEPS, meaning  # noqa: E402

from pmsm_hw import io, reference  # noqa: E402
from pmsm_hw.errors import FormatError  # noqa: E402
from pmsm_hw.network import (  # noqa: E402
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
)


def is_refused_by_nir(notes):
    return any("type check" in note for note in notes)


@given(seed=st.integers(0, 10**9))
def test_files_that_nir_rewrote_give_the_same_network(seed, tmp_path_factory):
    network, path = random_network(seed), tmp_path_factory.mktemp("nir") / "n.nir"
    notes = io.save_nir(path, network)
    try:
        graph = nir.read(path)
    except ValueError:
        assert is_refused_by_nir(notes)
        graph = nir.read(path, type_check=False)
    else:
        assert not is_refused_by_nir(notes)
    nir.write(path, graph)
    assert io.load_nir(path) == network


def one_projection(projection, shape, target_shape):
    return Network(
        populations=(
            Input(name="in", shape=shape, levels=(-3, 3)),
            Readout(name="out", shape=target_shape),
        ),
        projections=(replace(projection, source="in", target="out", delay=0),),
        max_steps=N_STEPS,
    )


def plain_total(path, x):
    """What a reader that ignores metadata adds up in the readout."""
    graph = nir.read(path, type_check=False)
    _, ends = meaning(graph, {"in": x})
    return ends["out_output"], ends["out"]


@given(seed=st.integers(0, 10**9))
def test_plain_readers_compute_what_a_projection_does(seed, tmp_path_factory):
    rng, path = np.random.default_rng(seed), tmp_path_factory.mktemp("nir") / "n.nir"
    shape = (int(rng.integers(1, 5)), *(int(n) for n in rng.integers(2, 6, rng.integers(3))))
    source = Input(name="in", shape=shape, levels=(-3, 3))
    projection, target_shape = random_projection(rng, source, "out", "p")
    network = one_projection(projection, shape, target_shape)
    io.save_nir(path, network)
    x = rng.integers(-3, 4, (N_STEPS, *shape))
    result = reference.run(network, x[None], N_STEPS)
    expected = result.logits["out"][0] * N_STEPS
    plain, unscaled = plain_total(path, x)
    np.testing.assert_array_equal(unscaled, expected)
    assert plain.shape == target_shape
    # and as a graph of another origin, it means the same
    graph = nir.read(path, type_check=False)
    graph.metadata = {}
    for node in graph.nodes.values():
        node.metadata = {}
    nir.write(path, graph)
    again = io.load_nir(path, max_steps=N_STEPS, input_levels=(-3, 3))
    found = reference.run(again, x[None], N_STEPS).logits["out"][0] * N_STEPS
    np.testing.assert_allclose(found, expected)


def neurons(name, *shape):
    return PolarityMultiSpike(name=name, shape=shape, theta=np.array(9), levels=(0, 1))


def two_populations(projection, shape, target_shape):
    return Network(
        populations=(Input(name="in", shape=shape, levels=(0, 3)), neurons("n", *target_shape)),
        projections=(projection,),
    )


COMMON = {"source": "in", "target": "n"}


@pytest.mark.parametrize(
    ("projection", "shape"),
    [
        (Conv2d(**COMMON, weight=np.ones((6, 1, 3, 3), np.int8), padding=1, groups=6), (6, 5, 5)),
        (Conv2d(**COMMON, weight=np.ones((4, 2, 3, 3), np.int8), groups=2), (4, 5, 5)),
        (Conv1d(**COMMON, weight=np.ones((4, 2, 3), np.int8), groups=2), (4, 7)),
        (SumPool(**COMMON, kernel=2, stride=2), (3, 8)),
        (SumPool(**COMMON, kernel=(2, 2), stride=(2, 2), weight=np.arange(1, 4, dtype="i1")),
         (3, 8, 8)),
        (SumPool(**COMMON, kernel=(2, 2), stride=(1, 1), padding=((0, 1), (1, 0))), (3, 6, 6)),
        (Conv2d(**COMMON, weight=np.ones((2, 3, 2, 2), np.int8), padding=((0, 1), (0, 1))),
         (3, 6, 6)),
        (Conv2d(**COMMON, weight=np.ones((2, 3, 4, 4), np.int8), padding=((2, 1), (1, 2))),
         (3, 6, 6)),
        (Conv1d(**COMMON, weight=np.ones((2, 3, 4), np.int8), padding=((1, 2),)), (3, 6)),
        (Conv1d(**COMMON, weight=np.ones((2, 3, 2), np.int8), padding=((1, 2),), dilation=3),
         (3, 6)),
        (Conv2d(**COMMON, weight=np.ones((2, 3, 1, 3), np.int8), padding=((0, 0), (1, 1))),
         (3, 6, 5)),
        (Conv2d(**COMMON, weight=np.ones((2, 3, 5, 3), np.int8), dilation=(1, 2)), (3, 9, 9)),
    ],
)  # fmt: skip
def test_nir_reads_what_it_cannot_follow_written_out(tmp_path, projection, shape):
    network = two_populations(projection, shape, projection.output_shape(shape))
    notes = io.save_nir(tmp_path / "n.nir", network)
    assert all("polarity multi-spike" in note for note in notes)
    assert nir.read(tmp_path / "n.nir").check_types()
    assert io.load_nir(tmp_path / "n.nir") == network


@pytest.mark.parametrize(
    ("projection", "shape", "target_shape"),
    [
        (Dense(**COMMON, weight=np.ones((12, 4), np.int8)), (4,), (3, 2, 2)),
        (Conv2d(**COMMON, weight=np.ones((2, 3, 3, 2), np.int8)), (3, 6, 6), (2, 4, 5)),
    ],
)
def test_what_nir_still_cannot_follow_is_said(tmp_path, projection, shape, target_shape):
    network = two_populations(projection, shape, target_shape)
    notes = io.save_nir(tmp_path / "n.nir", network)
    assert is_refused_by_nir(notes)
    assert "read it with nir.read(path, type_check=False)" in notes[-1]
    with pytest.raises(ValueError, match="type"):
        nir.read(tmp_path / "n.nir")
    nir.write(tmp_path / "n.nir", nir.read(tmp_path / "n.nir", type_check=False))
    assert io.load_nir(tmp_path / "n.nir") == network


def test_convolutions_too_large_to_be_written_out_stay_as_they_are(tmp_path):
    weight = np.ones((2048, 1, 3, 3), np.int8)  # written out: 2048 x 2048 x 9
    projection = Conv2d(**COMMON, weight=weight, groups=2048)
    network = two_populations(projection, (2048, 3, 3), (2048, 1, 1))
    notes = io.save_nir(tmp_path / "n.nir", network)
    assert is_refused_by_nir(notes)
    assert (tmp_path / "n.nir").stat().st_size < 200_000
    assert io.load_nir(tmp_path / "n.nir") == network


def lone_populations():
    """Populations without an input, and without an output."""
    return Network(
        populations=(
            Input(name="in", shape=(2, 3)),
            Input(name="unused", shape=(4,)),
            neurons("lone", 2, 3),
            neurons("n", 2, 3),
            Readout(name="silent", shape=(5,)),
        ),
        projections=(
            Identity(source="in", target="n"),
            Identity(source="lone", target="n", weight=np.array([3, -2], np.int8)),
        ),
    )


def test_populations_without_input_survive_being_rewritten(tmp_path):
    path, network = tmp_path / "n.nir", lone_populations()
    io.save_nir(path, network)
    graph = nir.read(path)
    assert {"input_lone", "input_silent", "output_n"} <= set(graph.nodes)  # nir adds them
    nir.write(path, graph)
    assert io.load_nir(path) == network


def changed(path, change):
    with h5py.File(path, "r+") as file:
        change(file["node"])
    with pytest.raises(FormatError) as caught:
        io.load_nir(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(name, value):
    def change(node):
        if name in node:
            del node[name]
        node[name] = value

    return change


def edges(change):
    def put_edges(node):
        found = [tuple(e.decode() for e in pair) for pair in node["edges"][()]]
        del node["edges"]
        node.create_dataset("edges", data=change(found), dtype=h5py.string_dtype())

    return put_edges


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("nodes/n/v_threshold", np.full((2, 3), 7.0)), "node 'n': its field 'v_threshold' was"),
        (put("nodes/n/v_reset", np.ones((2, 3))), "node 'n': its field 'v_reset' was changed"),
        (put("nodes/n/r", np.ones((3, 2))), "node 'n': its field 'r' was changed"),
        (put("nodes/n/type", "LIF"), "node 'n': its field 'type' was changed"),
        (put("nodes/n/tau", 3.0), "node 'n': a field 'tau' was added"),
        (put("nodes/in->n/scale", np.full((2, 3), 2.0)), "node 'in->n': its field 'scale' was"),
        (put("nodes/in/shape", np.array([3, 2])), "node 'in': its field 'shape' was changed"),
        (lambda node: node["nodes"].__delitem__("silent_output"), "'silent_output': was removed"),
        (put("nodes/more/type", "Flatten"), "node 'more': was added"),
        (edges(lambda e: e[1:]), "was removed"),
        (edges(lambda e: [*e, e[0]]), "was added"),
        (edges(lambda e: [*e, ("in", "n")]), "node 'n': an edge from 'in' was added"),
        (edges(lambda e: [*e, ("n", "silent_output")]), "an edge from 'n' was added"),
    ],
)
def test_a_graph_that_no_longer_is_what_its_metadata_say_is_refused(tmp_path, change, message):
    path = tmp_path / "n.nir"
    io.save_nir(path, lone_populations())
    found = changed(path, change)
    assert message in found
    assert "but not the metadata of pmsm-hw" in found


def test_an_input_into_a_population_that_has_one_is_noticed(tmp_path):
    path = tmp_path / "n.nir"
    io.save_nir(path, lone_populations())
    graph = nir.read(path)
    graph.nodes["extra"] = nir.Input(np.array([2, 3]))
    graph.edges.append(("extra", "n"))
    nir.write(path, graph)
    with pytest.raises(FormatError, match="node 'n': an edge from 'extra' was added"):
        io.load_nir(path)
