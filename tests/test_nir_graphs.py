"""NIR graphs mean here what their nodes say: against plain loops, and by hand for each trap."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

nir = pytest.importorskip("nir", reason="nir is not installed here: pip install 'pmsm-hw[nir]'")

from nir_graphs import GOOD, draw, outcome, small_chain, small_outcome  # noqa: E402

from pmsm_hw import io, reference  # noqa: E402
from pmsm_hw.errors import FormatError  # noqa: E402


@given(seed=st.integers(0, 10**9))
def test_random_graphs_mean_what_plain_loops_say_or_a_node_is_named(seed, tmp_path_factory):
    assert outcome(draw(seed), tmp_path_factory.mktemp("nir")) in GOOD


@given(seed=st.integers(0, 10**9))
def test_small_integers_stay_exact_and_small(seed, tmp_path_factory):
    drawn, bits = small_chain(seed)
    assert small_outcome(drawn, bits, tmp_path_factory.mktemp("nir")) == "equal"


def test_the_generator_draws_good_and_wrong_graphs(tmp_path):
    found = Counter(outcome(draw(seed), tmp_path) for seed in range(12))
    assert found["equal"] >= 4
    assert found["wrong, refused by node"] >= 2


def neurons(*shape, threshold=1.0, **fields):
    fields = {"r": np.ones(shape), "v_threshold": np.full(shape, float(threshold)), **fields}
    return nir.IF(**fields)


def taken(path, nodes, edges, **options):
    """The imported network of a graph of named nodes, and the notes."""
    nir.write(path / "g.nir", nir.NIRGraph(nodes, edges, type_check=False))
    return io.import_nir(path / "g.nir", **options)


def refusal(path, nodes, edges):
    with pytest.raises(FormatError) as caught:
        taken(path, nodes, edges)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def chain(*nodes):
    names = ["in", *(f"n{i}" for i in range(1, len(nodes) - 1)), "out"]
    return dict(zip(names, nodes, strict=True)), list(pairwise(names))


def shape_of(*sizes):
    return np.array(sizes)


def total(network, x, n_steps=1):
    """What the readout adds up."""
    result = reference.run(network, x, n_steps)
    (readout,) = network.readouts
    return (result.logits[readout.name][0] * n_steps).tolist()


# -- exact integers ---------------------------------------------------------------------------


def test_integer_weights_fire_when_they_should(tmp_path):
    network, notes = taken(
        tmp_path,
        *chain(
            nir.Input(shape_of(2)),
            nir.Linear(np.array([[2.0, -1.0]])),
            neurons(1, threshold=5),
            nir.Output(shape_of(1)),
        ),
    )
    spikes = reference.run(network, np.ones((1, 2), int), 8).spikes["n2"].reshape(-1)
    assert spikes.tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert network.projections[0].weight.tolist() == [[2, -1]]
    assert network["n2"].theta == 5
    assert not any("rounded" in note for note in notes)


@pytest.mark.parametrize("step", [0.1, 1 / 3, 0.7])
def test_floats_that_are_multiples_of_one_step_are_exact(tmp_path, step):
    k = np.array([[2, -1], [5, 3]])
    network, notes = taken(
        tmp_path,
        *chain(
            nir.Input(shape_of(2)),
            nir.Affine((k * step).astype(np.float32), (np.array([1, -2]) * step).astype("f4")),
            nir.IF(np.ones(2, "f4"), (np.array([7, 9]) * step).astype("f4"), np.zeros(2, "f4")),
            nir.Output(shape_of(2)),
        ),
    )
    assert network.projections[0].weight.tolist() == k.tolist()
    assert network["n2"].theta.tolist() == [7, 9]
    assert network["n2"].bias.tolist() == [1, -2]
    assert not any("rounded" in note for note in notes)


def test_channels_may_have_steps_of_their_own(tmp_path):
    k, steps = np.array([[2, -1], [5, 127]]), np.array([[0.1], [0.0372]])
    network, notes = taken(
        tmp_path,
        *chain(
            nir.Input(shape_of(2)),
            nir.Linear((k * steps).astype(np.float32)),
            nir.IF(np.ones(2), (np.array([7, 9]) * steps[:, 0]).astype("f4"), np.zeros(2)),
            nir.Output(shape_of(2)),
        ),
    )
    assert network.projections[0].weight.tolist() == k.tolist()
    assert network["n2"].theta.tolist() == [7, 9]
    assert not any("rounded" in note for note in notes)


def test_weights_beyond_8_bits_are_rounded_and_that_is_said(tmp_path):
    network, notes = taken(
        tmp_path,
        *chain(
            nir.Input(shape_of(2)),
            nir.Linear(np.array([[1000.0, 1.0]])),
            neurons(1, threshold=500),
            nir.Output(shape_of(1)),
        ),
    )
    assert network.projections[0].weight.tolist() == [[127, 0]]
    assert any("1 of 2 populations ('n2') are rounded to 8 bits" in note for note in notes)


def test_weights_stay_exact_where_thresholds_are_no_multiple(tmp_path):
    k, step = np.array([[7, -3, 5], [1, 2, -6]]), 0.0372
    network, notes = taken(
        tmp_path,
        *chain(
            nir.Input(shape_of(3)),
            nir.Linear((k * step).astype(np.float32)),
            neurons(2, threshold=1),
            nir.Output(shape_of(2)),
        ),
    )
    weight = network.projections[0].weight
    assert (weight == k * (weight[0, 0] // 7)).all()
    assert [note for note in notes if "rounded" in note] == [
        "thresholds and biases of 1 of 2 populations ('n2') are rounded to up to 6 bits more than "
        "weights"
    ]
    unit = step / (weight[0, 0] // 7) / 2.0 ** network.projections[0].weight_exponent
    assert abs(network["n2"].theta * unit - 1).max() < 1e-4


def test_wide_weights_with_common_zeros_are_exact(tmp_path):
    # 64, 128 and -8192 are 1, 2 and -128 shifted left by 6: the exponent holds the shift
    network, notes = taken(
        tmp_path,
        *chain(
            nir.Input(shape_of(3)),
            nir.Linear(np.array([[64.0, 128.0, -8192.0]])),
            neurons(1, threshold=33),
            nir.Output(shape_of(1)),
        ),
        input_levels=(0, 3),
    )
    (projection, _) = network.projections
    assert projection.weight.tolist() == [[1, 2, -128]]
    assert projection.weight_exponent == 6
    assert network["n2"].theta == 33
    assert not any("rounded" in note for note in notes)


def test_a_dead_channel_keeps_its_threshold_and_bias(tmp_path):
    weight, bias = np.array([[0.0, 0.0], [0.731, -0.219]]), np.array([3e-4, 0.1234])
    network, _ = taken(
        tmp_path,
        *chain(
            nir.Input(shape_of(2)),
            nir.Affine(weight, bias),
            nir.IF(np.ones(2), np.array([1e-3, 0.9]), np.zeros(2)),
            nir.Output(shape_of(2)),
        ),
    )
    spikes = reference.run(network, np.zeros((1, 2), int), 8).spikes["n2"][0, :, 0]
    assert spikes.tolist() == [0, 0, 0, 1, 0, 0, 1, 0]  # 3e-4 a step reach 1e-3 at 4, then at 7


def test_a_threshold_that_rounds_to_0_is_refused(tmp_path):
    message = refusal(
        tmp_path,
        *chain(
            nir.Input(shape_of(2)),
            nir.Linear(np.array([[1.0, np.pi]])),
            neurons(1, threshold=1e-5),
            nir.Output(shape_of(1)),
        ),
    )
    assert "node 'n2': has a threshold far smaller than its weights" in message


# -- edges ------------------------------------------------------------------------------------


def test_a_bias_counts_once_however_many_edges_lead_to_its_node(tmp_path):
    nodes = {
        "a": nir.Input(shape_of(2)),
        "b": nir.Input(shape_of(2)),
        "affine": nir.Affine(np.eye(2), np.array([3.0, 5.0])),
        "out": nir.Output(shape_of(2)),
    }
    edges = [("a", "affine"), ("b", "affine"), ("affine", "out")]
    network, _ = taken(tmp_path, nodes, edges)
    x = {"a": np.array([[1, 0]]), "b": np.array([[1, 2]])}
    assert total(network, x) == [5, 7]


def test_a_bias_counts_once_on_each_way_behind_its_node(tmp_path):
    nodes = {
        "a": nir.Input(shape_of(2, 1, 2)),
        "b": nir.Input(shape_of(2, 1, 2)),
        "conv": nir.Conv2d((1, 2), np.ones((2, 2, 1, 1)), 1, 0, 1, 1, np.array([3.0, 5.0])),
        "twice": nir.Scale(np.full((2, 1, 2), 2.0)),
        "once": nir.Scale(np.ones((2, 1, 2))),
        "out": nir.Output(shape_of(2, 1, 2)),
    }
    edges = [
        ("a", "conv"), ("b", "conv"), ("conv", "once"), ("conv", "twice"), ("once", "out"),
        ("twice", "out"),
    ]  # fmt: skip
    network, _ = taken(tmp_path, nodes, edges)
    x = {name: np.zeros((1, 2, 1, 2), int) for name in "ab"}
    assert total(network, x) == [[[9, 9]], [[15, 15]]]


WEIGHT = np.array([[2.0, 1.0], [0.0, 3.0]])


def graph_of(**more):
    nodes = {
        "in": nir.Input(shape_of(2)),
        "w": nir.Linear(WEIGHT),
        "n": neurons(2, threshold=2),
        "out": nir.Output(shape_of(2)),
        **more,
    }
    return nodes, [("in", "w"), ("w", "n"), ("n", "out")]


MORE = {
    "lost": nir.Linear(WEIGHT),
    "late": neurons(2),
    "i": nir.I(np.ones(2)),
    "graph": nir.NIRGraph({"x": nir.Input(shape_of(2))}, [], type_check=False),
}


@pytest.mark.parametrize(
    ("more", "edges", "message"),
    [
        ((), [("n", "in")], "node 'in': of type Input has an edge from 'n'"),
        ((), [("in", "in")], "node 'in': of type Input has an edge from 'in'"),
        ((), [("out", "n")], "node 'out': of type Output has an edge to 'n'"),
        ((), [("w", "n")], "node 'n': has 2 edges from 'w'"),
        ((), [("n", "n")], "node 'n': is in a cycle, and NIR does not say after how many steps"),
        ((), [("w", "w")], "node 'w': is in a cycle of linear nodes: 'w' -> 'w'"),
        ((), [("n", "w")], "'w' -> 'n' -> 'w'"),
        (("lost",), [], "node 'lost': of type Linear has no input"),
        (("lost",), [("n", "lost")], "node 'lost': of type Linear leads nowhere"),
        (("late",), [], "node 'late': of type IF has no input"),
        (("i",), [], "node 'i': of type I has no input"),
        (("i", "late"), [("n", "i"), ("i", "late")], "node 'i': of type I feeds 'late'"),
        (("graph",), [("n", "graph")], "node 'graph': of type 'NIRGraph' is a graph inside a"),
    ],
)
def test_edges_without_a_meaning_are_refused_by_node(tmp_path, more, edges, message):
    nodes, plain = graph_of(**{name: MORE[name] for name in more})
    found = refusal(tmp_path, nodes, plain + edges)
    assert message in found
    if "cycle" in message or "->" in message:
        assert "'in'" not in found
        assert "'out'" not in found


def test_long_chains_of_linear_nodes_are_refused_as_such(tmp_path):
    scales = [nir.Scale(np.ones(2)) for _ in range(70)]
    found = refusal(tmp_path, *chain(nir.Input(shape_of(2)), *scales, nir.Output(shape_of(2))))
    assert "linear nodes in a row" in found
    assert "cycle" not in found


# -- what a node takes for granted --------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (nir.IF(np.ones(2), np.ones(2), np.array([0.0, 0.5])), "resets to other values than 0"),
        (neurons(2, r=np.array([1.0, 0.0])), "needs thresholds and resistances above 0"),
        (neurons(2, r=np.array([1.0, -1.0])), "needs thresholds and resistances above 0"),
        (neurons(2, threshold=-1), "needs thresholds and resistances above 0"),
        (neurons(1, 2, 1, 1), "has 4 axes"),
        (nir.Scale(np.ones(3)), "has shape (3,), its input (2,)"),
        (nir.Scale(np.ones((2, 1))), "has shape (2, 1), its input (2,)"),
        (nir.SumPool2d(shape_of(1, 1), shape_of(1, 1), shape_of(0, 0)), "pools (2,)"),
    ],
)
def test_neurons_and_scales_that_do_not_fit_are_refused(tmp_path, node, message):
    nodes, edges = graph_of(more=node, last=nir.Output(shape_of(2)))
    found = refusal(tmp_path, nodes, [*edges, ("n", "more"), ("more", "last")])
    assert f"node 'more': {message}" in found


def test_scalars_stand_for_all(tmp_path):
    nodes, edges = graph_of()
    nodes["n"].r, nodes["n"].v_threshold, nodes["n"].v_reset = 2.0, 4.0, 0.0
    network, _ = taken(tmp_path, nodes, edges)
    assert network["n"].shape == (2,)
    assert network["n"].theta == 2


def test_thresholds_and_resistances_are_those_of_each_neuron(tmp_path):
    nodes, edges = graph_of()
    nodes["n"] = nir.IF(np.array([0.5, 2.0]), np.array([3.0, 4.0]), np.zeros(2))
    network, _ = taken(tmp_path, nodes, edges)
    (projection, _) = network.projections
    real = projection.weight.astype(int) << projection.weight_exponent
    assert (network["n"].theta[:, None] / real[:, 1:]).tolist() == [[6.0], [2.0 / 3]]


def test_an_integrator_multiplies_by_its_resistance(tmp_path):
    nodes, _ = graph_of(i=nir.I(np.array([2.0, -3.0])), last=nir.Output(shape_of(2)))
    nodes.pop("out")
    edges = [("in", "w"), ("w", "i"), ("i", "last"), ("in", "n")]
    network, _ = taken(tmp_path, nodes, edges)
    assert total(network, np.array([[1, 1]])) == [6, -9]


def test_an_output_of_another_shape_is_refused(tmp_path):
    nodes, edges = graph_of(i=nir.I(np.ones(2)), last=nir.Output(shape_of(1, 2)))
    found = refusal(tmp_path, nodes, [*edges, ("n", "i"), ("i", "last")])
    assert "node 'last': has shape (1, 2), 'i' feeds it (2,)" in found


def image_graph(shape, *nodes, out):
    return chain(nir.Input(shape_of(*shape)), *nodes, nir.Output(shape_of(*out)))


def flatten(given, start, end):
    """A Flatten node as other packages write it, whatever nir itself makes of it."""
    node = nir.Flatten({"input": shape_of(2, 3, 4)}, 0, -1)
    fields = {"type": "Flatten", "start_dim": start, "end_dim": end}
    if given is not None:
        fields["input_type"] = np.array(given)
    node.to_dict = lambda: fields
    return node


@pytest.mark.parametrize(
    ("given", "start", "end", "out"),
    [
        (None, 0, -1, (24,)),
        (None, 1, -1, (2, 12)),
        ((2, 3, 4), 0, 1, (6, 4)),
        ((2, 3, 4), 1, -1, (2, 12)),
        ((2, 3, 4), -2, -1, (2, 12)),
        ((1, 2, 3, 4), 0, -1, (24,)),
        ((1, 2, 3, 4), 1, -1, (24,)),
        ((8, 2, 3, 4), 1, -1, (24,)),
        ((1, 2, 3, 4), 2, 3, (2, 12)),
    ],
)
def test_flatten_flattens_the_axes_it_names(tmp_path, given, start, end, out):
    factors = np.arange(24.0).reshape(out)  # taken only by what has this very shape
    nodes = (flatten(given, start, end), nir.Scale(factors), nir.Linear(np.eye(24)[5:7]))
    network, _ = taken(tmp_path, *image_graph((2, 3, 4), *nodes, out=(2,)))
    assert total(network, np.arange(24).reshape(1, 2, 3, 4)) == [25, 36]


def test_flattened_neurons_without_weights_are_refused_by_node(tmp_path):
    nodes = (flatten((2, 3, 4), 0, -1), neurons(24))
    found = refusal(tmp_path, *image_graph((2, 3, 4), *nodes, out=(24,)))
    assert "node 'n2': has shape (24,), 'in->n2' gives it (2, 3, 4)" in found


@pytest.mark.parametrize(
    ("given", "start", "end", "message"),
    [
        ((3, 2, 4), 0, -1, "has input_type (3, 2, 4), gets (2, 3, 4)"),
        ((8, 2, 3, 4), 0, -1, "flattens a batch of 8 into one"),
        ((2, 3, 4), 3, -1, "flattens axes 3 to -1"),
        ((2, 3, 4), 2, 1, "flattens axes 2 to 1"),
        ((1, 2, 3, 4), 0, 0, "flattens axes 0 to 0"),
    ],
)
def test_flatten_that_does_not_fit_is_refused(tmp_path, given, start, end, message):
    nodes = (flatten(given, start, end), neurons(24))
    found = refusal(tmp_path, *image_graph((2, 3, 4), *nodes, out=(24,)))
    assert f"node 'n1': {message}" in found


def conv(weight, *, padding=0, stride=1, groups=1, size=(3, 4)):
    return nir.Conv2d(size, weight, stride, padding, 1, groups, np.zeros(len(weight)))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (conv(np.ones((2, 2, 3, 3)), padding="same", stride=2), "has padding 'same' with stride"),
        (conv(np.ones((2, 2, 3, 3)), size=(4, 3)), "has input_shape (4, 3), gets (2, 3, 4)"),
        (conv(np.ones((2, 1, 3, 3))), "weight takes 1 channels (1 groups)"),
        (conv(np.ones((3, 1, 3, 3)), groups=2), "2 groups do not divide 3 output channels"),
    ],
)
def test_convolutions_that_do_not_fit_are_refused(tmp_path, node, message):
    found = refusal(tmp_path, *image_graph((2, 3, 4), node, neurons(2, 3, 4), out=(2, 3, 4)))
    assert "'n1'" in found
    assert message in found


def test_a_convolution_without_bias_has_none(tmp_path):
    node = conv(np.ones((1, 2, 1, 1)))
    plain = node.to_dict()
    del plain["bias"]
    node.to_dict = lambda: plain
    network, _ = taken(tmp_path, *image_graph((2, 3, 4), node, neurons(1, 3, 4), out=(1, 3, 4)))
    assert network["n2"].bias == 0


def test_average_pools_divide_by_the_whole_window(tmp_path):
    pool = nir.AvgPool2d(shape_of(3, 3), shape_of(3, 3), shape_of(1, 1))
    nodes = (pool, flatten((1, 1, 2), 0, -1), nir.Linear(np.array([[9.0, 9.0], [18.0, 18.0]])))
    network, notes = taken(tmp_path, *image_graph((1, 3, 4), *nodes, out=(2,)))
    # padded by 1, the two windows hold 4 and 4 of the 12 ones
    assert total(network, np.ones((1, 1, 3, 4), int)) == [8, 16]
    assert not any("rounded" in note for note in notes)


def test_shapes_are_whole_numbers(tmp_path):
    nodes, edges = graph_of()
    nodes["in"].input_type = {"input": np.array([2.5])}
    assert "node 'in': field 'shape' is [2.5], whole numbers" in refusal(tmp_path, nodes, edges)


def test_fields_of_unknown_meaning_are_refused(tmp_path):
    nodes, edges = graph_of()
    plain = {**nodes["n"].to_dict(), "refractory": np.ones(2)}
    nodes["n"].to_dict = lambda: plain
    found = refusal(tmp_path, nodes, edges)
    assert "node 'n': of type IF has a field 'refractory' of unknown meaning" in found


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": "4"}, {"max_steps": 2.5}, {"max_steps": 0}, {"max_steps": 10**30},
        {"input_scale": "x"}, {"input_scale": float("nan")}, {"input_levels": 5},
        {"input_levels": (3, 1)}, {"levels": (0, 1.5)}, {"levels": "ab"}, {"name": 5},
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(tmp_path, options):
    with pytest.raises(FormatError):
        taken(tmp_path, *graph_of(), **options)


def test_scales_around_a_pool_are_those_of_channels(tmp_path):
    channels = np.array([[[2.0]], [[3.0]]])  # as many as columns behind the pool
    nodes = (
        nir.Scale(np.broadcast_to(channels, (2, 2, 4)).copy()),
        nir.SumPool2d(shape_of(2, 2), shape_of(2, 2), shape_of(0, 0)),
        nir.Scale(np.broadcast_to(channels, (2, 1, 2)).copy()),
        flatten((2, 1, 2), 0, -1),
        nir.Linear(np.eye(4)),
    )
    network, _ = taken(tmp_path, *image_graph((2, 2, 4), *nodes, out=(4,)))
    assert total(network, np.ones((1, 2, 2, 4), int)) == [16, 16, 36, 36]


def test_pools_may_pad_more_than_half_of_their_window(tmp_path):
    pool = nir.SumPool2d(shape_of(2, 1), shape_of(2, 1), shape_of(2, 1))
    network, _ = taken(tmp_path, *image_graph((1, 2, 2), pool, out=(1, 3, 4)))
    expected = [[[0, 0, 0, 0], [0, 2, 2, 0], [0, 0, 0, 0]]]
    assert total(network, np.ones((1, 1, 2, 2), int)) == expected


def test_files_of_a_newer_nir_are_refused(tmp_path):
    taken(tmp_path, *graph_of())
    with h5py.File(tmp_path / "g.nir", "r+") as file:
        del file["version"]
        file["version"] = "2.0.1"
    with pytest.raises(FormatError, match=r"was written by nir 2\.0\.1, whose nodes may mean"):
        io.load_nir(tmp_path / "g.nir")


def test_what_is_taken_for_granted_is_said(tmp_path):
    node = nir.Linear(np.ones((1, 24)))
    _, notes = taken(tmp_path, *image_graph((2, 3, 4), node, neurons(1), out=(1,)))
    assert [note.split()[0] for note in notes] == ["inputs", "IF", "node"]
    assert notes[0].startswith("inputs are whole numbers from 0 to 255")
    assert "node 'n1' takes what feeds it, of shape (2, 3, 4), flattened in C order" in notes
