"""NIR: our networks come back without loss, general graphs become integers, refusals name nodes."""

from __future__ import annotations

import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_networks import random_network, random_units, with_delays

from pmsm_hw import io, reference
from pmsm_hw.datasets import NMNIST_SIZE, read_nmnist, to_frames
from pmsm_hw.errors import FormatError
from pmsm_hw.network import (
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

nir = pytest.importorskip("nir", reason="nir is not installed here")


def refusal(path, **options):
    with pytest.raises(FormatError) as caught:
        io.load_nir(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"file '{path}'")
    return message


def topological(graph):
    order, waiting = [], set(graph.nodes)
    while waiting:
        ready = [
            n for n in sorted(waiting) if all(a not in waiting for a, b in graph.edges if b == n)
        ]
        order += ready
        waiting -= set(ready)
    return order


def run_plain(graph, x, *, subtract):
    """Run a NIR graph in float64 as its nodes say; ``x`` (steps, ...); what each node sends."""
    import torch

    functional = torch.nn.functional
    states, record = {}, {name: [] for name in graph.nodes}
    for frame in x:
        values = {}
        for name in topological(graph):
            node = graph.nodes[name]
            sources = [a for a, b in graph.edges if b == name]
            total = sum(values[a] for a in sources) if sources else torch.tensor(frame)

            def array(field, node=node):
                return torch.tensor(np.asarray(getattr(node, field), np.float64))

            def ints(field, node=node):
                value = getattr(node, field)
                return value if isinstance(value, str) else tuple(map(int, np.atleast_1d(value)))

            kind = type(node).__name__
            if kind in ("Conv1d", "Conv2d"):
                conv = functional.conv1d if kind == "Conv1d" else functional.conv2d
                total = conv(
                    total[None], array("weight"), array("bias"), ints("stride"), ints("padding"),
                    ints("dilation"), int(node.groups),
                )[0]  # fmt: skip
            elif kind in ("SumPool2d", "AvgPool2d"):
                size = ints("kernel_size")
                total = functional.avg_pool2d(total[None], size, ints("stride"), ints("padding"))[0]
                total = total * (np.prod(size) if kind == "SumPool2d" else 1)
            elif kind in ("Affine", "Linear"):
                total = array("weight") @ total.reshape(-1)
                total = total + array("bias") if kind == "Affine" else total
            elif kind == "Flatten":
                total = total.reshape(-1)
            elif kind == "Scale":
                total = total * array("scale")
            elif kind in ("IF", "I"):
                v = states.get(name, 0) + array("r") * total.reshape(node.r.shape)
                if kind == "IF":
                    total = (v >= array("v_threshold")).double()
                    v = v - total * array("v_threshold") if subtract else v * (1 - total)
                else:
                    total = v
                states[name] = v
            values[name] = total
            record[name].append(total.numpy())
    return {name: np.stack(v) for name, v in record.items()}


# -- our own networks -------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6))
def test_round_trip_gives_the_same_network_and_spikes(seed, tmp_path_factory):
    network = random_network(seed)
    if seed % 2:
        network = with_delays(network, seed)
    path = tmp_path_factory.mktemp("nir") / "n.nir"
    io.save_nir(path, network)
    again = io.load_nir(path)
    assert again == network
    units = random_units(network, seed, n_steps=2)
    a, b = reference.run(network, units, 2), reference.run(again, units, 2)
    assert reference.differing_spikes(a.spikes, b.spikes) == 0
    # and the nir package reads what was written
    assert len(nir.read(path, type_check=False).nodes) >= len(network.populations)


def test_what_other_tools_will_get_wrong_of_delays_and_shifts_is_said(tmp_path):
    network = Network(
        populations=(Input(name="x", shape=(2,)), Readout(name="y", shape=(1,))),
        projections=(
            Dense(source="x", target="y", weight=[[1, 2]], delays=[[0, 3]], weight_exponent=-8),
            Dense(source="x", target="y", weight=[[1, -128]], weight_exponent=7, name="up"),
        ),
    )
    notes = io.save_nir(tmp_path / "n.nir", network)
    assert "'x->y' has delays of up to 3 steps by synapse, in its metadata only" in notes
    assert "'x->y' rounds its sum down (weight_exponent -8); NIR does not round" in notes
    assert io.load_nir(tmp_path / "n.nir") == network


def plain_network():
    """What NIR's own nodes can say: one positive level, plain gains, v from 0, one step."""
    rng = np.random.default_rng(0)
    neuron = {"levels": (0, 1), "v_init": np.array(0)}
    return Network(
        name="plain",
        populations=(
            Input(name="in", shape=(2, 8, 8), levels=(0, 3)),
            PolarityMultiSpike(
                name="a", shape=(4, 8, 8), theta=rng.integers(200, 400, 4),
                bias=rng.integers(-90, 90, 4), **neuron,
            ),
            PolarityMultiSpike(name="b", shape=(4, 4, 4), theta=np.array(2), **neuron),
            PolarityMultiSpike(name="c", shape=(4, 4, 4), theta=np.array(5), **neuron),
            PolarityMultiSpike(
                name="d", shape=(6,), theta=np.array(70), bias=rng.integers(-20, 20, 6), **neuron
            ),
            Readout(name="out", shape=(3,), bias=np.array([1, -2, 3])),
        ),
        projections=(
            Conv2d(
                source="in", target="a", weight=rng.integers(-40, 41, (4, 2, 3, 3)), padding=1,
                weight_exponent=2,
            ),
            SumPool(source="a", target="b", kernel=(2, 2), stride=(2, 2)),
            Identity(source="b", target="c", weight=np.array([3, 4, 5, 6], np.int8)),
            SumPool(source="a", target="c", kernel=(2, 2), stride=(2, 2), weight=np.int8(2)),
            Dense(source="c", target="d", weight=rng.integers(-20, 21, (6, 64)), weight_exponent=1),
            Dense(source="b", target="d", weight=rng.integers(-9, 10, (6, 64)), weight_exponent=3),
            Dense(source="d", target="out", weight=rng.integers(-9, 10, (3, 6))),
        ),
    )  # fmt: skip


@pytest.mark.torch
def test_readers_that_ignore_metadata_compute_the_same_where_nir_can_say_it(tmp_path):
    network = plain_network()
    notes = io.save_nir(tmp_path / "n.nir", network)
    assert all("polarity multi-spike" in note for note in notes)  # nothing else is lost
    # its type check takes the channels of a group for all channels
    graph = nir.read(tmp_path / "n.nir", type_check=False)
    for node in graph.nodes.values():
        node.metadata = {}
    rng = np.random.default_rng(1)
    n_fired = 0
    for _ in range(20):
        x = rng.integers(0, 4, (2, 8, 8))
        plain = run_plain(graph, x[None].astype(np.float64), subtract=False)
        exact = reference.run(network, x[None])
        for name in "abcd":
            np.testing.assert_array_equal(plain[name][0], exact.spikes[name][0, 0], err_msg=name)
            n_fired += int(exact.spikes[name].sum())
        np.testing.assert_array_equal(plain["out"][0], exact.readouts["out"][0])
    assert n_fired > 500


def test_nirs_own_type_check_accepts_what_it_can_follow(tmp_path):
    rng = np.random.default_rng(0)
    network = Network(
        populations=(
            Input(name="in", shape=(2, 8, 8), levels=(0, 3)),
            PolarityMultiSpike(name="a", shape=(4, 4, 4), theta=np.array(50), levels=(0, 1)),
            PolarityMultiSpike(name="b", shape=(4, 2, 2), theta=np.array(2), levels=(0, 1)),
            Readout(name="out", shape=(3,)),
        ),
        projections=(
            Conv2d(
                source="in", target="a", weight=rng.integers(-9, 10, (4, 2, 3, 3)), padding=1,
                stride=2,
            ),
            SumPool(source="a", target="b", kernel=(2, 2), stride=(2, 2)),
            Dense(source="b", target="out", weight=rng.integers(-9, 10, (3, 16))),
        ),
    )  # fmt: skip
    io.save_nir(tmp_path / "n.nir", network)
    assert nir.read(tmp_path / "n.nir", type_check=True).check_types()


def test_what_plain_readers_will_get_wrong_is_said(tmp_path):
    network = Network(
        populations=(
            Input(name="in", shape=(1, 5)),
            PolarityMultiSpike(
                name="n", shape=(2, 6), theta=np.array(9), levels=(2, 4), gains=(4, 1),
                bias=np.arange(12).reshape(2, 6),
            ),
        ),
        projections=(
            Conv1d(
                source="in", target="n", weight=np.ones((2, 1, 3), np.int8), padding=((1, 2),)
            ),
            Identity(source="n", target="n", delay=1, name="again"),
        ),
    )  # fmt: skip
    notes = "\n".join(io.save_nir(tmp_path / "n.nir", network))
    for part in (
        "'n' is a polarity multi-spike population (levels (2, 4)",
        "spikes of 'n' carry gains (4, 1)",
        "'again' has a delay of 1 steps",
        "bias of 'n' is in its metadata only",
    ):
        assert part in notes
    assert io.load_nir(tmp_path / "n.nir") == network


def test_odd_names_survive(tmp_path):
    network = Network(
        name="",
        populations=(
            Input(name="...", shape=(2,)),
            PolarityMultiSpike(name="metadata", shape=(2,), theta=np.array(3), levels=(0, 1)),
            Readout(name="\u00fc ->", shape=(1,)),
        ),
        projections=(
            Identity(source="...", target="metadata", name="metadata", weight=np.ones(2, np.int8)),
            Dense(
                source="metadata", target="\u00fc ->", weight=np.ones((1, 2), np.int8), name=".."
            ),
        ),
    )
    io.save_nir(tmp_path / "n.nir", network)
    assert io.load_nir(tmp_path / "n.nir") == network


def test_size_is_that_of_the_gzipped_weights(tmp_path):
    rng = np.random.default_rng(0)
    weight = np.clip(rng.normal(0, 20, (1500, 1200)), -128, 127).astype(np.int8)
    network = Network(
        populations=(
            Input(name="a", shape=(1200,), levels=(0, 1)),
            PolarityMultiSpike(
                name="b", shape=(1500,), theta=rng.integers(1, 999, 1500), levels=(0, 1)
            ),
        ),
        projections=(Dense(source="a", target="b", weight=weight, weight_exponent=3),),
    )
    io.save_nir(tmp_path / "n.nir", network)
    gzipped = len(zlib.compress(weight.tobytes(), 6))
    assert (tmp_path / "n.nir").stat().st_size <= 1.1 * gzipped + 100_000


def set_metadata(node, key, value):
    def change(file):
        group = file[f"node/nodes/{node}/metadata" if node else "node/metadata"]
        del group[f"pmsm_hw_{key}"]
        if value is not None:
            group[f"pmsm_hw_{key}"] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_metadata("", "version", 3), "has metadata version 3, this release reads 1 and 2;"),
        (set_metadata("", "max_steps", 2), "the digest does not match"),
        (set_metadata("", "name", None), "metadata of the graph are damaged"),
        (set_metadata("a", "rule", "leaky"), "rule 'leaky' is not one of"),
        (set_metadata("a", "rule", 3), "node 'a', field 'rule'"),
        (set_metadata("a", "levels", np.array([1.0, 2.0])), "node 'a', field 'levels'"),
        (set_metadata("a", "theta", np.zeros(4, np.int32)), "theta lies in [0, 0]"),
        (set_metadata("a", "theta", np.ones(4)), "node 'a', field 'theta'"),
        (set_metadata("a", "theta", None), "node 'a', field 'theta'"),
        (set_metadata("a", "shape", np.array([2**40, 1])), "size 1,099,511,627,776"),
        (set_metadata("a", "index", 0), "field 'index'"),
        (set_metadata("in->a", "shift", 7), "node 'in->a', field 'weight'"),
        (set_metadata("in->a", "kind", "lif"), "node 'in->a'"),
        (set_metadata("b->d", "shift", 0), "node 'b->d', field 'weight'"),
    ],
)
def test_damaged_metadata_are_refused(tmp_path, change, message):
    path = tmp_path / "n.nir"
    io.save_nir(path, plain_network())
    with h5py.File(path, "r+") as file:
        change(file)
    assert message in refusal(path)


# -- general graphs ---------------------------------------------------------------------------


def write(path, *nodes, edges=None, names=None):
    """A graph of nodes in a row, or with edges between names."""
    if edges is None:
        graph = nir.NIRGraph.from_list(*nodes, type_check=False)
    else:
        graph = nir.NIRGraph(dict(zip(names, nodes, strict=True)), edges, type_check=False)
    nir.write(path, graph)
    return graph


def if_neurons(*shape, threshold=1.0, r=1.0):
    return nir.IF(np.full(shape, float(r)), np.full(shape, float(threshold)))


@pytest.mark.torch
def test_integer_graphs_are_imported_exactly(tmp_path):
    # weights that 8 bits hold, thresholds and biases on the same grid: nothing is rounded
    rng = np.random.default_rng(0)
    conv = rng.integers(-127, 128, (3, 2, 3, 3)) / 64
    conv[:, 0, 0, 0] = 127 / 64
    dense = rng.integers(-127, 128, (5, 27)) / 32
    dense[:, 0] = 127 / 32
    graph = write(
        tmp_path / "g.nir",
        nir.Input(np.array([2, 6, 7])),
        nir.Conv2d(
            (6, 7), conv, np.array([2, 2]), np.array([1, 0]), np.array([1, 1]), 1,
            rng.integers(-64, 65, 3) / 64,
        ),
        nir.IF(np.full((3, 3, 3), 0.5), rng.integers(32, 256, (3, 3, 3)) / 64),
        nir.Flatten(np.array([3, 3, 3]), 0),
        nir.Affine(dense, rng.integers(-32, 33, 5) / 32),
        nir.IF(np.ones(5), rng.integers(16, 128, 5) / 32),
        nir.Output(np.array([5])),
    )  # fmt: skip
    network = io.load_nir(tmp_path / "g.nir", max_steps=6)
    assert network.name == "g"
    x = rng.integers(0, 3, (6, 2, 6, 7))
    result = reference.run(network, x[None], 6)
    expected = run_plain(graph, x.astype(np.float64), subtract=True)
    for name in ("if", "if_1"):
        np.testing.assert_array_equal(result.spikes[name][0], expected[name], err_msg=name)
        assert expected[name].sum() > 5
    # the readout counts spikes
    np.testing.assert_array_equal(result.readouts["output"][0], expected["if_1"].sum(axis=0))


@pytest.mark.torch
def test_pooling_scales_and_residuals(tmp_path):
    rng = np.random.default_rng(1)
    names = [
        "in",
        "conv",
        "n1",
        "avg",
        "half",
        "dense",
        "sum",
        "dense2",
        "n2",
        "last",
        "acc",
        "out",
    ]
    dense, dense2 = (rng.integers(-127, 128, (6, 16)) / 16.0 for _ in range(2))
    dense[:, 0] = 127 / 16
    dense2 /= 8
    conv = rng.integers(-127, 128, (4, 1, 3, 3)) / 32.0
    conv[:, 0, 1, 1] = 127 / 32
    last = rng.integers(-127, 128, (2, 6)) / 8.0
    last[:, 0] = 127 / 8
    graph = write(
        tmp_path / "g.nir",
        nir.Input(np.array([1, 4, 4])),
        nir.Conv2d((4, 4), conv, 1, "same", 1, 1, np.zeros(4)),
        if_neurons(4, 4, 4, threshold=2.0),
        nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Scale(np.full((4, 2, 2), 4.0)),
        nir.Linear(dense),
        nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Linear(dense2 * 8),
        if_neurons(6, threshold=8.0),
        nir.Affine(last, np.array([0.5, -1.0])),
        nir.I(np.ones(2)),
        nir.Output(np.array([2])),
        names=names,
        edges=[
            ("in", "conv"), ("conv", "n1"), ("n1", "avg"), ("avg", "half"), ("half", "dense"),
            ("n1", "sum"), ("sum", "dense2"), ("dense", "n2"), ("dense2", "n2"), ("n2", "last"),
            ("last", "acc"), ("acc", "out"),
        ],
    )  # fmt: skip
    network = io.load_nir(tmp_path / "g.nir", max_steps=5)
    x = rng.integers(0, 4, (5, 1, 4, 4))
    result = reference.run(network, x[None], 5)
    expected = run_plain(graph, x.astype(np.float64), subtract=True)
    for name in ("n1", "n2"):
        np.testing.assert_array_equal(result.spikes[name][0], expected[name], err_msg=name)
        assert expected[name].any()
    np.testing.assert_allclose(result.logits["acc"][0] * 5, expected["acc"][-1])
    # the relays pass on what they get
    np.testing.assert_array_equal(
        result.spikes["avg"][0],
        result.spikes["n1"][0].reshape(5, 4, 2, 2, 2, 2).sum(axis=(3, 5)),
    )


def test_more_levels_let_a_neuron_send_several_spikes(tmp_path):
    write(
        tmp_path / "g.nir",
        nir.Input(np.array([1])),
        nir.Linear(np.array([[1.0]])),
        if_neurons(1),
        nir.Output(np.array([1])),
    )
    x = np.array([[[3], [0], [0], [0]]])
    one = reference.run(io.load_nir(tmp_path / "g.nir"), x, 4).spikes["if"]
    four = reference.run(io.load_nir(tmp_path / "g.nir", levels=(0, 4)), x, 4).spikes["if"]
    assert one.reshape(-1).tolist() == [1, 1, 1, 0]
    assert four.reshape(-1).tolist() == [3, 0, 0, 0]


@pytest.mark.torch
def test_published_sinabs_network_runs_as_its_float_form(shared_data):
    path = shared_data / "nir" / "cnn_sinabs.nir"
    network = io.load_nir(path)
    frames = to_frames(read_nmnist(shared_data / "sample_nmnist.bin"), 16, NMNIST_SIZE)
    result = reference.run(network, frames[None], 16)
    assert result.logits["output"].shape == (1, 10)
    graph = nir.read(path, type_check=False)
    expected = run_plain(graph, frames.astype(np.float64), subtract=True)
    for name in ("1", "3", "6", "10", "12"):
        rate, same = expected[name].mean(), np.mean(expected[name] == result.spikes[name][0])
        print(f"population {name}: rate {rate:.3f}, {100 * same:.2f} % of spikes as in float")
        assert abs(result.spikes[name].mean() - rate) < 0.01
        assert same > 0.97
    assert result.predictions()[0] == np.argmax(expected["12"].sum(axis=0))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("braille_bias_zero", "node 'lif1.lif': of type 'CubaLIF' leaks and filters its input"),
        ("lif_norse", "node '1': of type 'LIF' leaks"),
    ],
)
def test_published_networks_with_leaks_are_refused_by_node(shared_data, name, message):
    assert message in refusal(shared_data / "nir" / f"{name}.nir")


UNITS = np.ones((3, 3))
REFUSED = {
    "two linear nodes": (
        [nir.Linear(UNITS), nir.Affine(UNITS, np.zeros(3)), if_neurons(3)],
        "node 'affine': follows 'linear' without neurons between them",
    ),
    "wrong width": (
        [nir.Linear(np.ones((3, 4))), if_neurons(3)], "node 'linear': takes 4 values, gets 3",
    ),
    "wrong neurons": (
        [nir.Linear(UNITS), if_neurons(4)], "node 'if': has shape (4,), 'linear' feeds it (3,)",
    ),
    "reset to other values": (
        [nir.Linear(UNITS), nir.IF(np.ones(3), np.ones(3), np.full(3, 0.5))],
        "node 'if': resets to other values than 0",
    ),
    "threshold 0": ([nir.Linear(UNITS), if_neurons(3, threshold=0)], "node 'if': needs thresholds"),
    "NaN": (
        [nir.Linear(UNITS * np.nan), if_neurons(3)], "node 'linear': field 'weight' is not finite",
    ),
    "threshold": ([nir.Linear(UNITS), nir.Threshold(np.ones(3))], "node 'threshold': of type"),
    "delay": ([nir.Delay(np.ones(3)), if_neurons(3)], "node 'delay': of type 'Delay'"),
    "leaky readout": (
        [nir.Linear(UNITS), nir.LI(np.ones(3), np.ones(3), np.zeros(3))], "node 'li': of type 'LI'",
    ),
    "fast bias": (
        [nir.Affine(UNITS * 1e-9, np.ones(3)), if_neurons(3)], "node 'if': has a bias far larger",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_represented_is_refused_by_node(tmp_path, case):
    nodes, message = REFUSED[case]
    write(tmp_path / "g.nir", nir.Input(np.array([3])), *nodes, nir.Output(np.array([3])))
    assert message in refusal(tmp_path / "g.nir")


def test_cycles_without_delay_are_refused(tmp_path):
    write(
        tmp_path / "g.nir",
        nir.Input(np.array([3])), nir.Linear(UNITS), if_neurons(3), nir.Linear(UNITS),
        nir.Output(np.array([3])),
        names=["in", "w", "n", "back", "out"],
        edges=[("in", "w"), ("w", "n"), ("n", "back"), ("back", "n"), ("n", "out")],
    )  # fmt: skip
    message = refusal(tmp_path / "g.nir")
    assert "node 'n': is in a cycle" in message
    assert "'n' -> 'back' -> 'n'" in message
    assert "'w'" not in message
    write(
        tmp_path / "g.nir",
        nir.Input(np.array([3])), nir.Scale(np.ones(3)), nir.Scale(np.ones(3)), if_neurons(3),
        names=["in", "a", "b", "n"],
        edges=[("in", "a"), ("a", "b"), ("b", "a"), ("b", "n")],
    )  # fmt: skip
    message = refusal(tmp_path / "g.nir")
    assert "is in a cycle of linear nodes" in message
    assert "'n'" not in message


# -- hostile files ----------------------------------------------------------------------------


def plain_file(path):
    write(
        path,
        nir.Input(np.array([3])),
        nir.Affine(UNITS, np.zeros(3)),
        if_neurons(3),
        nir.Output(np.array([3])),
    )


def cycle(file):
    file["node/nodes/again"] = file["node"]


def soft(file):
    del file["node/nodes/affine/weight"]
    file["node/nodes/affine/weight"] = h5py.SoftLink("/node/edges")


def huge(file):
    del file["node/nodes/affine/weight"]
    file["node/nodes/affine"].create_dataset("weight", (2**30, 2**30), "f4", chunks=(64, 64))


def deep(file):
    group = file["node"]
    for _ in range(20):
        group = group.create_group("node")


def external(file):
    del file["node/nodes/affine/weight"]
    file["node/nodes/affine"].create_dataset(
        "weight", (9,), "i1", external=[("/etc/hostname", 0, 9)]
    )


def name_of_bytes(file):
    file["node/nodes"].create_group(b"\xff\xfe")


def text(file):
    del file["node/type"]
    file["node/type"] = "x" * 5000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cycle, "is a second name of an object"),
        (soft, "is a soft or external link"),
        (huge, "claims 4,611,686,018,427,387,904 bytes"),
        (deep, "is nested deeper than 6 groups"),
        (external, "is stored in another file"),
        (text, "holds a text of 5,000 bytes"),
        (name_of_bytes, "has a member whose name is not UTF-8"),
        (lambda f: f.__delitem__("node/edges"), "has no nodes or no edges"),
        (lambda f: f.__delitem__("node"), "holds no NIR graph"),
        (lambda f: f.__delitem__("node/nodes/affine/type"), "node 'affine': has no type"),
        (lambda f: f["node/edges"].__setitem__((0, 0), "nobody"), "between unknown nodes"),
    ],
)
def test_hostile_files_are_refused(tmp_path, change, message):
    path = tmp_path / "g.nir"
    plain_file(path)
    io.load_nir(path)
    with h5py.File(path, "r+") as file:
        change(file)
    assert message in refusal(path)


def test_damaged_heaps_of_texts_are_refused(tmp_path):
    # HDF5 itself loops for ever on the first of these
    path = tmp_path / "g.nir"
    plain_file(path)
    sound = path.read_bytes()
    heap = sound.index(b"GCOL")
    for start, damage in (
        (16, bytes(16)),  # free space of size 0
        (16 + 8, b"\xff" * 8),  # an object larger than the file
        (8, b"\xff" * 8),  # a heap larger than the file
        (8, bytes(8)),
        (0, b"XXXX"),
        (4, b"\x02"),
    ):
        data = bytearray(sound)
        data[heap + start : heap + start + len(damage)] = damage
        path.write_bytes(data)
        refusal(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "g.nir"
    assert "is not an existing file" in refusal(path)
    path.write_bytes(b"\0" * 1000)
    assert "is damaged or not HDF5" in refusal(path)
    io.save(path, plain_network())
    assert "is a network file of pmsm-hw, its name should end in .h5" in refusal(path)
