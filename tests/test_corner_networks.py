"""Networks from the corners of the contract: every engine equals the loop oracle."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
from corner_networks import Case, check, check_lava, corner_case, features
from loop_oracle import oracle

from pmsm_hw import Dense, Identity, Input, Network, PolarityMultiSpike, Readout, reference
from pmsm_hw.lava.interpreter import VARIABLE

LONG = os.environ.get("PMSM_HW_HYPOTHESIS") == "long"

WANTED = {
    "rule carry", "rule reset", "rule bounded", "spikes graded", "spikes unit", "saturation",
    "dense", "conv1d", "conv2d", "sum_pool", "identity", "a dead row", "a frame a step",
    "a proven state", "a spike of 32,767 or more", "theta of 2**22 or more", "theta per neuron",
    "gain 0 or negative of many negative spikes", "delay within the sample",
    "delay beyond the sample", "a sum shifted to the right", "delays of synapses", "a cycle",
    "state carried on", "computed in float32", "computed in float64",
}  # fmt: skip


def test_every_engine_equals_the_loop_oracle_in_the_corners() -> None:
    """Its cases are also what `WANTED` says (long sums of spikes: the test below)."""
    covered: set[str] = set()
    for seed in range(500 if LONG else 13):
        case = corner_case(seed, most_steps=4096 if LONG else 40)
        covered |= features(case, check(case))
    assert covered >= WANTED


def test_lava_equals_the_loop_oracle_in_the_corners() -> None:
    if importlib.util.find_spec("lava") is None and VARIABLE not in os.environ:
        pytest.skip(f"set {VARIABLE} to a Python 3.10 with lava-nc")
    cases = [corner_case(seed, most_steps=40) for seed in range(100 if LONG else 8)]
    check_lava(
        [(case, oracle(case.network, case.units, case.n_steps, carry=case.carry)) for case in cases]
    )


def chain(n_steps: int, **neuron: object) -> Network:
    """An input of any value, one neuron, and a readout of its payload."""
    options: dict[str, object] = {"theta": 1, "levels": (32767, 32767), **neuron}
    return Network(
        populations=(
            Input(name="x", shape=(2,), levels=(-32_767, 32_767)),
            PolarityMultiSpike(name="n", shape=(2,), **options),  # type: ignore[arg-type]
            Readout(name="y", shape=(2,), overflow="saturate"),
        ),
        projections=(Identity(source="x", target="n"), Identity(source="n", target="y")),
        max_steps=n_steps,
    )


@pytest.mark.parametrize("rule", ["carry", "reset", "bounded"])
def test_gains_are_applied_where_products_fit(rule: str) -> None:
    """With gain 0 payloads fit into int8, the spikes do not: k = -200 became -200 + 256."""
    network = chain(2, gains=(1, 0), levels=(300, 1), rule=rule)
    case = Case(seed=0, network=network, units={"x": np.array([[-200, 5]])}, n_steps=2)
    check(case)
    result = reference.run(network, case.units, 1)
    assert result.spikes["n"].tolist() == [[[-200, 1]]]
    assert result.readouts["y"].tolist() == [[0, 1]]


def test_payloads_of_narrow_spikes_do_not_wrap() -> None:
    neurons = PolarityMultiSpike(name="n", shape=(2,), theta=1, levels=(9, 9), gains=(127, -127))
    payload = neurons.payload(np.array([9, -9, 0], np.int8))
    assert payload.tolist() == [1143, 1143, 0]


def test_sums_of_spikes_beyond_float32() -> None:
    """Rule "bounded" adds up 32,767 * 4,096 spikes: 124 of 4,096 differed in float32."""
    rng = np.random.default_rng(0)
    x = np.full((1, 4096, 2), 32_767)
    x[0, rng.integers(0, 4096, 40), 0] -= rng.integers(1, 9, 40)
    x[0, :, 1] = rng.integers(-100, 32_768, 4096)
    network = chain(4096, rule="bounded")
    case = Case(seed=0, network=network, units={"x": x}, n_steps=4096)
    spikes, _, _ = check(case)
    assert (spikes["n"].sum(axis=1) > 1 << 25).any()


def test_states_computed_in_int64_are_not_overwritten() -> None:
    """Populations use one buffer, one after the other; its type may be that of the result."""
    network = Network(
        populations=(
            Input(name="x", shape=(1,), levels=(0, 99)),
            Readout(name="y", shape=(1,)),
            Readout(name="z", shape=(1,)),
        ),
        projections=(
            Dense(source="x", target="y", weight=[[3]]),
            Dense(source="x", target="z", weight=[[5]]),
        ),
    )
    check(Case(seed=0, network=network, units={"x": np.arange(1, 5).reshape(-1, 1)}, n_steps=1))
