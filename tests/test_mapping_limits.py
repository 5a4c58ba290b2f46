"""Boundaries of every limit, and the complaints of users of other mappers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
from emulator_cases import make_mapping

from pmsm_hw import (
    AdaptiveLif,
    Conv2d,
    CubaLif,
    Dense,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
)
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import CapacityError, MappingError
from pmsm_hw.mapping import Block, Mapping, load_chip, map_network
from pmsm_hw.mapping.partition import bound_kernels, cut_kernels
from pmsm_hw.mapping.resources import Resources, list_bits
from pmsm_hw.mapping.resources.lists import list_rule

fewest_cores = partial(map_network, objective="cores")


def ones(*shape):
    return np.ones(shape, np.int8)


def neurons(name, *shape, theta=1000, levels=(0, 1), **more):
    return PolarityMultiSpike(name=name, shape=shape, theta=np.array(theta), levels=levels, **more)


def two_layer(n_in, n_out, weight=None):
    """Input straight into a readout: one sign, no output axons."""
    weight = ones(n_out, n_in) if weight is None else weight
    return Network(
        name="two",
        populations=(
            Input(name="in", shape=(n_in,), levels=(0, 1)),
            Readout(name="out", shape=(n_out,)),
        ),
        projections=(Dense(source="in", target="out", weight=weight),),
    )  # fmt: skip


def with_limits(chip, **limits):
    data = chip.to_dict()
    for key, value in limits.items():
        data["limits"][key]["value"] = value
    return type(chip).model_validate(data)


@pytest.mark.parametrize(("n", "cores"), [(1023, 1), (1024, 1), (1025, 2), (2000, 2), (2049, 3)])
def test_neurons_per_core(n, cores):
    mapping = fewest_cores(two_layer(4, n), load_chip("loihi1"))
    assert len(mapping.cores) == cores
    assert mapping.usage[:, 0].sum() == n
    assert mapping.usage[:, 0].max() <= 1024


def test_input_axons_at_the_limit():
    mapping = fewest_cores(two_layer(4096, 2), load_chip("loihi1"))
    assert mapping.usage[:, 1].tolist() == [4096]
    with pytest.raises(CapacityError) as caught:
        fewest_cores(two_layer(4097, 2), load_chip("loihi1"))
    error = caught.value
    assert (error.actual, error.limit) == (4097, 4096)
    assert str(error).startswith("population 'out': one neuron needs 4,097 input axons")
    assert "split_fan_in(network, chip) splits its fan-in" in error.remedy


def test_synapse_memory_exactly_full_and_one_bit_more():
    chip = load_chip("loihi1")
    network = two_layer(100, 64, weight=np.full((64, 100), 100, np.int8))
    full = 100 * 576  # 64 dense weights of 8 bits and a header of 10: 522, rounded to 576
    exact = with_limits(chip, synapse_memory_bits=full)
    mapping = fewest_cores(network, exact)
    assert mapping.usage.tolist() == [[64, 100, 0, full]]
    tight = with_limits(chip, synapse_memory_bits=full - 1)
    mapping = fewest_cores(network, tight)
    assert len(mapping.cores) == 2
    mapping.check(network)


def test_output_axons_at_the_limit():
    # 2 targets cores x 1 entry x 1 sign each: 8 neurons need 16 entries
    toy = load_chip("toy")
    network = Network(
        populations=(
            Input(name="in", shape=(4,), levels=(0, 1)),
            neurons("a", 8, theta=1),
            Readout(name="out", shape=(128,)),
        ),
        projections=(
            Dense(source="in", target="a", weight=ones(8, 4)),
            Dense(source="a", target="out", weight=ones(128, 8)),
        ),
    )
    mapping = fewest_cores(network, with_limits(toy, output_axons=16))
    assert len({b.core for b in mapping.blocks_in("a")}) == 1
    assert mapping.usage[:, 2].max() == 16
    mapping = fewest_cores(network, with_limits(toy, output_axons=15))
    assert len(mapping.blocks_in("a")) == 2
    with pytest.raises(CapacityError, match="population 'a': one neuron needs 2 output axons"):
        fewest_cores(network, with_limits(toy, output_axons=1))


@pytest.mark.parametrize(
    ("n", "dense", "sparse"),
    [(64, 576, 1216), (65, 640, 1280), (200, 1856, 3840), (256, 2304, 4864)],
)
def test_block_rule_gives_the_measured_bits(n, dense, sparse):
    chip = load_chip("loihi1")
    assert int(list_bits(chip, n, 8)) == dense
    assert int(list_bits(chip, n, 18)) == sparse
    assert int(list_bits(chip, 0, 8)) == 0
    for kernels in (bound_kernels, cut_kernels):  # as compiled loops count them
        counted = [kernels.list_bits_of.py_func(n, each, list_rule(chip)) for each in (8, 18)]
        assert counted == [dense, sparse]


def test_shared_convolution_uses_what_was_measured():
    # a 12 -> 16 channel 3x3 kernel uses 18-24 % of a core where the bare kernel takes 1.3 %
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 127, (16, 12, 3, 3)).astype(np.int8)
    network = Network(
        populations=(
            Input(name="in", shape=(12, 8, 8), levels=(0, 1)),
            Readout(name="out", shape=(16, 8, 8)),
        ),
        projections=(Conv2d(source="in", target="out", weight=weight, padding=1),),
    )
    chip = load_chip("loihi1")
    mapping = fewest_cores(network, chip)
    assert mapping.usage[0, :2].tolist() == [1024, 64]  # one input axon per pixel
    share = mapping.usage[0, 3] / chip.limits.synapse_memory_bits.value
    assert 0.15 < share < 0.24
    resources = Resources(network, chip)
    wire = resources.wires[network.projections[0].name]
    assert resources.block_bits(wire, mapping.blocks[0])[1] == "conv"


def test_unit_spikes_of_both_signs_double_the_axons():
    def network(levels):
        return Network(
            populations=(
                Input(name="in", shape=(3,), levels=(-1, 1)),
                neurons("a", 5, levels=levels, theta=1),
                Readout(name="out", shape=(2,)),
            ),
            projections=(
                Dense(source="in", target="a", weight=ones(5, 3)),
                Dense(source="a", target="out", weight=ones(2, 5)),
            ),
        )

    loihi = load_chip("loihi1")
    one = fewest_cores(network((0, 1)), loihi)
    both = fewest_cores(network((1, 1)), loihi)
    # input: 3 values, both signs; a: 5 neurons, one or both signs
    assert one.usage[:, 1].sum() == 3 * 2 + 5
    assert both.usage[:, 1].sum() == 3 * 2 + 5 * 2
    assert one.usage[:, 2].sum() == 5
    assert both.usage[:, 2].sum() == 10
    toy = fewest_cores(network((1, 1)), load_chip("toy"))  # graded and signed: no doubling
    assert toy.usage[:, 1].sum() == 3 + 5


def test_negating_the_smallest_weight_takes_one_bit_more():
    def width(weight, lo):
        network = Network(
            populations=(
                Input(name="in", shape=(1,), levels=(lo, 1)),
                Readout(name="out", shape=(1,)),
            ),
            projections=(Dense(source="in", target="out", weight=np.array([[weight]], np.int8)),),
        )
        return Resources(network, load_chip("loihi1")).wires["in->out"].widths

    assert width(-128, 0) == (8,)
    assert width(-128, -1) == (8, 9)
    assert width(64, 0) == (8,)  # 7 bits do not exist
    assert width(1, -1) == (2, 1)  # -1 and 0 fit one bit


def test_delays_cost_bits_and_have_a_limit():
    def network(delay):
        return Network(
            populations=(
                Input(name="in", shape=(2,), levels=(0, 1)),
                Readout(name="out", shape=(2,)),
            ),
            projections=(Dense(source="in", target="out", weight=ones(2, 2), delay=delay),),
            max_steps=100,
        )  # fmt: skip

    toy = load_chip("toy")
    plain = fewest_cores(network(0), toy)
    held = fewest_cores(network(6), toy)
    # two lists of two dense weights of 2 bits (5 with delay) and a header of 4, words of 32
    assert plain.usage[0, 3] == held.usage[0, 3] == 64
    data = toy.to_dict()
    data["limits"]["synapse_word_bits"]["value"] = 1
    fine = type(toy).model_validate(data)
    assert fewest_cores(network(0), fine).usage[0, 3] == 2 * (2 * 2 + 4)
    assert fewest_cores(network(6), fine).usage[0, 3] == 2 * (2 * 5 + 4)
    with pytest.raises(CapacityError, match="projection 'in->out': holds its spikes for 8 steps"):
        fewest_cores(network(7), toy)


def delayed(n, n_in, longest, **more):
    """Weights of 8 bits, the first of which delays longest."""
    delays = np.zeros((n, n_in), int)
    delays[0, 0] = longest
    return Network(
        populations=(
            Input(name="in", shape=(n_in,), levels=(0, 1)),
            Readout(name="out", shape=(n,), overflow="saturate"),
        ),
        projections=(
            Dense(source="in", target="out", weight=np.full((n, n_in), 100), delays=delays, **more),
        ),
        max_steps=100,
    )


def test_one_synapse_that_delays_costs_bits_beside_each_weight():
    loihi = load_chip("loihi1")
    # an axon's list: 64 weights of 8 bits, and of 6 more for the delay, a header of 10, words of 64
    assert fewest_cores(delayed(64, 10, 0), loihi).usage.tolist() == [[64, 10, 0, 10 * 576]]
    assert fewest_cores(delayed(64, 10, 1), loihi).usage.tolist() == [[64, 10, 0, 10 * 960]]
    # 62 beyond the step that every spike takes is what 6 bits hold
    assert fewest_cores(delayed(64, 10, 62), loihi).usage.tolist() == [[64, 10, 0, 10 * 960]]
    metrics = fewest_cores(delayed(64, 10, 62), loihi).metrics
    assert metrics["longest_delay_steps"] == 63
    assert "longest_delay_steps" not in fewest_cores(delayed(64, 10, 0), loihi).metrics
    with pytest.raises(CapacityError, match="holds its spikes for 64 steps") as caught:
        fewest_cores(delayed(64, 10, 62, delay=1), loihi)
    assert (caught.value.actual, caught.value.limit) == (64, 63)
    assert caught.value.remedy == "use shorter delays"


def test_delays_of_a_shared_kernel_are_stored_once():
    """Pixels of an image that windows meet in the same taps share their lists."""
    loihi = load_chip("loihi1")

    def bits(delays):
        network = Network(
            populations=(
                Input(name="in", shape=(1, 9, 9), levels=(0, 1)),
                Readout(name="out", shape=(4, 7, 7), overflow="saturate"),
            ),
            projections=(
                Conv2d(source="in", target="out", weight=np.full((4, 1, 3, 3), 100), delays=delays),
            ),
            max_steps=9,
        )
        resources = Resources(network, loihi)
        found = fewest_cores(network, loihi).usage[0, 3]
        widths = resources.wires["in->out"]
        return int(found), widths.delay_bits

    plain, none = bits(None)
    held, six = bits(np.arange(36).reshape(4, 1, 3, 3) % 3)
    assert (none, six) == (0, 6)
    # rows meet 1, 2, 3, 2, 1 taps of windows (in the middle all 3), as columns do: 25 lists of
    # 4 channels times taps; synapses of 8 bits, 10 of index and 0 or 6 of delay
    taps = (1, 2, 3, 2, 1)
    for bits_each, total in ((18, plain), (24, held)):
        lists = [list_bits(loihi, 4 * y * x, bits_each) for y in taps for x in taps]
        assert total == sum(int(n) for n in lists)


def test_weight_exponents_have_two_limits():
    loihi = load_chip("loihi1")
    fewest_cores(delayed(2, 2, 0, weight_exponent=-8), loihi)
    narrow = with_limits(loihi, min_weight_exponent=-4)
    fewest_cores(delayed(2, 2, 0, weight_exponent=-4), narrow)
    with pytest.raises(MappingError, match=r"exponent -5 \(.*\) is below -4 of chip 'loihi1'"):
        fewest_cores(delayed(2, 2, 0, weight_exponent=-5), narrow)
    data = loihi.to_dict()
    del data["limits"]["min_weight_exponent"]  # of chip files that do not say
    fewest_cores(delayed(2, 2, 0, weight_exponent=-8), type(loihi).model_validate(data))


def test_unit_spikes_of_two_weights_cannot_share_a_shift_to_the_right():
    def network(gains, exponent):
        return Network(
            populations=(
                Input(name="in", shape=(2,), levels=(-1, 1)),
                neurons("a", 2, theta=1, levels=(1, 1), gains=gains),
                Readout(name="out", shape=(2,)),
            ),
            projections=(
                Dense(source="in", target="a", weight=ones(2, 2)),
                Dense(source="a", target="out", weight=ones(2, 2), weight_exponent=exponent),
            ),
        )

    loihi = load_chip("loihi1")
    for gains, exponent in (((4, 1), 0), ((4, -4), -3), ((1, 1), -8)):
        fewest_cores(network(gains, exponent), loihi)
    with pytest.raises(
        MappingError, match=r"sends payloads \(4, -1\) through formats of their own"
    ):
        fewest_cores(network((4, 1), -3), loihi)
    fewest_cores(network((4, 1), -3), load_chip("loihi2"))  # a message has its payload there


def adaptive(n, **more):
    return Network(
        populations=(
            Input(name="in", shape=(2,), levels=(0, 1)),
            AdaptiveLif(name="a", shape=(n,), vth=9, **more),
        ),
        projections=(Dense(source="in", target="a", weight=ones(n, 2)),),
    )


@pytest.mark.parametrize(("n", "cores"), [(512, 1), (513, 2), (1025, 3)])
def test_two_compartments_take_two_places(n, cores):
    loihi = load_chip("loihi1")
    network = adaptive(n)
    mapping = fewest_cores(network, loihi)
    assert len(mapping.cores) == cores
    assert mapping.usage[:, 0].sum() == 2 * n
    assert mapping.metrics["lower_bound"] == cores
    assert mapping.metrics["compartments"] == 2 * n
    mapping.check(network)
    lit = np.zeros((1, 2), int)
    assert emulate(network, mapping, lit, mode="cycle").n_samples == 1


def test_compartments_beyond_a_core_are_refused():
    loihi = load_chip("loihi1")
    network = adaptive(600)
    block = Block(population="a", channels=(0, 600), rows=(0, 1), columns=(0, 1), core=0)
    with pytest.raises(CapacityError, match="needs 1,200 neurons, chip 'loihi1' has 1,024"):
        emulate(network, make_mapping(network, loihi, [block]), np.zeros((1, 2), int))
    with pytest.raises(CapacityError, match="one neuron needs 2 compartments, a core of chip"):
        fewest_cores(adaptive(3), with_limits(loihi, neurons=1))


def test_sets_of_all_core_parameters_are_counted():
    """16 thresholds, each with two decays, are 32 sets; a core of Loihi 1 has 16."""
    thresholds = np.repeat(np.arange(1, 17), 2)
    decays = np.tile([0, 4095], 16)
    network = Network(
        populations=(
            Input(name="in", shape=(2,), levels=(0, 1)),
            CubaLif(name="a", shape=(32,), vth=thresholds, du=decays),
        ),
        projections=(Dense(source="in", target="a", weight=ones(32, 2)),),
    )
    loihi = load_chip("loihi1")
    assert len(fewest_cores(network, loihi).cores) == 2
    assert len(fewest_cores(network, with_limits(loihi, threshold_configurations=32)).cores) == 1


@pytest.mark.parametrize(
    "changes",
    [{"refractory": 2}, {"bias_exponent": 1}, {"reset": "subtract"}, {"reset_interval": 3}],
    ids=lambda changes: next(iter(changes)),
)
def test_populations_share_a_set_only_if_all_of_it_is_the_same(changes):
    def network(**changes):
        return Network(
            populations=(
                Input(name="in", shape=(2,), levels=(0, 1)),
                CubaLif(name="a", shape=(3,), vth=5),
                CubaLif(name="b", shape=(3,), vth=5, **changes),
            ),
            projections=[Dense(source="in", target=x, weight=ones(3, 2)) for x in "ab"],
        )

    chip = with_limits(load_chip("loihi1"), threshold_configurations=1)
    assert len(fewest_cores(network(), chip).cores) == 1
    assert len(fewest_cores(network(**changes), chip).cores) == 2


def test_thresholds_per_core_are_limited():
    population = PolarityMultiSpike(name="a", shape=(40,), theta=np.arange(1, 41), levels=(0, 1))
    network = Network(
        populations=(Input(name="in", shape=(2,), levels=(0, 1)), population),
        projections=(Dense(source="in", target="a", weight=ones(40, 2)),),
    )
    mapping = fewest_cores(network, load_chip("loihi1"))
    assert sorted(b.n_neurons for b in mapping.blocks) == [13, 13, 14]  # at most 16 thresholds
    assert len(fewest_cores(network, load_chip("toy")).cores) == 1


# -- complaints -------------------------------------------------------------------------------


def test_complaint_axon_slots_are_counted_before_upload():
    # a convolution whose pixels reach several cores in both signs: slots decide, and are counted
    rng = np.random.default_rng(1)
    network = Network(
        populations=(
            Input(name="in", shape=(3, 12, 12), levels=(-3, 3)),
            neurons("a", 16, 12, 12, levels=(1, 1), theta=50),
            neurons("b", 64, 12, 12, levels=(1, 1), theta=50),
        ),
        projections=(
            Conv2d(source="in", target="a", weight=rng.integers(1, 9, (16, 3, 3, 3)), padding=1),
            Conv2d(source="a", target="b", weight=rng.integers(1, 9, (64, 16, 3, 3)), padding=1),
        ),
    )
    mapping = fewest_cores(network, load_chip("loihi1"))
    # pixels of the source at each core: is what meets the blocks there another pixel's as well?
    alone: dict[tuple[int, int, int], list[bool]] = {}
    for block in mapping.blocks_in("b"):
        taps = []
        for first, end in (block.rows, block.columns):
            near = range(max(first - 1, 0), min(end + 1, 12))
            taps.append({at: {i for i in (0, 1, 2) if first <= at + 1 - i < end} for at in near})
        for y, x in product(*taps):
            single = [
                list(t.values()).count(t[at]) == 1 for t, at in zip(taps, (y, x), strict=True)
            ]
            alone.setdefault((block.core, y, x), []).append(all(single))
    slots = sum(1 if all(a) else 2 for a in alone.values())
    assert any(all(a) for a in alone.values())
    assert mapping.usage[:, 2].sum() == 16 * slots * 2  # two signs


def test_complaint_a_layer_over_1024_neurons_needs_no_hint():
    for n in (1025, 2000):
        mapping = fewest_cores(two_layer(8, n), load_chip("loihi1"))
        assert len(mapping.cores) == 2


def test_complaint_fan_in_over_the_axon_limit_is_diagnosed_by_name():
    with pytest.raises(CapacityError, match=r"population 'out'.*5,000 input axons.*4,096"):
        fewest_cores(two_layer(5000, 3), load_chip("loihi1"))


def test_a_network_larger_than_the_chip_names_its_largest_population():
    with pytest.raises(CapacityError) as caught:
        fewest_cores(two_layer(4, 16 * 64 + 1), load_chip("toy"))
    assert (caught.value.actual, caught.value.limit) == (17, 16)
    assert "population 'out' alone 17" in str(caught.value)


# -- the mapping object -----------------------------------------------------------------------


def test_tampered_mappings_are_refused():
    network = two_layer(4, 1500)
    mapping = fewest_cores(network, load_chip("loihi1"))
    data = mapping.to_dict()
    moved = {**data, "blocks": data["blocks"].copy()}
    moved["blocks"][:, 7] = moved["blocks"][0, 7]  # all on one core
    moved["usage"] = data["usage"].sum(axis=0, keepdims=True)
    with pytest.raises(MappingError):
        Mapping.from_dict(moved).check(network)
    lost = {**data, "blocks": data["blocks"][1:], "usage": data["usage"][1:]}
    with pytest.raises(MappingError, match="neurons without a core"):
        Mapping.from_dict(lost).check(network)
    with pytest.raises(MappingError, match="made for another network"):
        mapping.check(two_layer(4, 1501))
    with pytest.raises(MappingError, match="format_version 2"):
        Mapping.from_dict({**data, "format_version": 2})
    with pytest.raises(MappingError, match="has keys"):
        Mapping.from_dict({k: v for k, v in data.items() if k != "usage"})
    with pytest.raises(MappingError, match="is damaged"):
        Mapping.from_dict({**data, "populations": "[not json"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"usage": np.zeros((1, 4), np.int64)}, "usage is 1 x 4 of int64, 2 x 4 integers"),
        ({"usage": np.zeros((2, 3), np.int64)}, "usage is 2 x 3"),
        ({"usage": np.zeros(8, np.int64)}, "usage is 8 of int64"),
        ({"usage": np.zeros((2, 4))}, "usage is 2 x 4 of float64, 2 x 4 integers"),
        ({"usage": np.zeros((2, 4), bool)}, "of bool"),
        ({"usage": [[1, 2, 3, 4], [1, 2, 3, -4]]}, "usage holds -4"),
        ({"usage": np.full((2, 4), 2**63, np.uint64)}, "usage holds -9,223"),
        ({"link_load": np.zeros((4, 4))}, "link_load is 4 x 4"),
        ({"link_load": np.full((4, 8, 4), np.nan)}, "link_load holds nan"),
        ({"link_load": np.full((4, 8, 4), -1.0)}, "link_load holds -1.0"),
        ({"metrics": {"n_cores": float("nan")}}, "metric 'n_cores' is nan"),
        ({"metrics": {"n_cores": "2"}}, "metric 'n_cores' is '2'"),
        ({"objective": "speed"}, "objective 'speed' is not one of latency"),
        ({"spike_modes": {"in": "loud", "out": "unit"}}, "spike mode 'loud'"),
    ],
)
def test_a_mapping_that_cannot_be_is_not_made(changes, message):
    mapping = fewest_cores(two_layer(4, 1500), load_chip("loihi1"))
    with pytest.raises(MappingError) as caught:
        replace(mapping, **changes)
    assert message in str(caught.value)
    assert str(caught.value).startswith("mapping of 'two': ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("usage", np.zeros((1, 4), np.int64)),
        ("usage", np.full((2, 4), -1)),
        ("usage", np.zeros((2, 4))),
        ("blocks", np.array([[-1, 0, 750, 0, 1, 0, 1, 0], [1, 750, 1500, 0, 1, 0, 1, 1]])),
        ("blocks", np.zeros((2, 8))),
        ("seed", 1.5),
        ("metrics", '{"n_cores": NaN}'),
        ("metrics", "[" * 100_000),
        ("chip", "[" * 100_000),
        ("spike_modes", '["unit", "unit", "unit"]'),
    ],
)
def test_a_stored_mapping_that_cannot_be_is_refused(key, value):
    data = fewest_cores(two_layer(4, 1500), load_chip("loihi1")).to_dict()
    assert Mapping.from_dict(data).to_dict().keys() == data.keys()
    with pytest.raises(MappingError):
        Mapping.from_dict({**data, key: value})


def test_wrong_arguments():
    network, chip = two_layer(4, 4), load_chip("toy")
    with pytest.raises(MappingError, match="'speed' is not one of latency, energy, cores"):
        fewest_cores(network, chip, objective="speed")
    with pytest.raises(MappingError, match="names population 'x'"):
        fewest_cores(network, chip, traffic={"x": 1.0})
    with pytest.raises(MappingError, match="has 3 values, it has 4 neurons"):
        fewest_cores(network, chip, traffic={"in": [1.0, 2.0, 3.0]})
    with pytest.raises(MappingError, match="negative or infinite"):
        fewest_cores(network, chip, traffic={"in": -1.0})


def test_summary_shows_blocks_limits_and_metrics():
    mapping = fewest_cores(two_layer(4, 1500), load_chip("loihi1"))
    text = mapping.summary()
    assert "two on loihi1: 2 of 128 cores" in text
    assert "750x1x1" in text
    assert "synapse_memory_bits" in text
    assert "mean_hops" in text


@pytest.mark.parametrize(
    ("traffic", "message"),
    [
        (5, "traffic: 5 is a int"),
        ([1.0], "traffic: [1.0] is a list"),
        ({"in": "much"}, "traffic: of population 'in' is 'much'"),
        ({"in": [[1], [2, 3]]}, "traffic: of population 'in' is [[1], [2, 3]]"),
        ({"in": 1j}, "traffic: of population 'in' is 1j"),
        ({"in": None}, "traffic: of population 'in' is None"),
        ({5: 1.0}, "traffic: names population 5"),
    ],
)
def test_traffic_that_is_no_numbers_by_population_is_one_line(traffic, message):
    with pytest.raises(MappingError) as caught:
        map_network(two_layer(4, 4), load_chip("toy"), traffic=traffic)
    assert str(caught.value).startswith(message)


def test_a_summary_says_why_a_network_takes_more_cores_than_it_needs():
    network, chip = two_layer(4, 600), load_chip("loihi1")
    fast, few = (map_network(network, chip, objective=o) for o in ("latency", "cores"))
    assert len(fast.cores) > len(few.cores) == 1
    title = fast.summary().splitlines()[0]
    assert "cores, spread for low latency (1 or a few more would hold it: objective cores)" in title
    assert "no cut needs fewer than 1" in few.summary().splitlines()[0]
