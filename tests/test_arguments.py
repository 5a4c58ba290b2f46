"""Every argument of a network's parts, of runs and emulations: one error of ours if it is wrong.

And nothing is converted that would change: no 2.5 for 2, no "4" for 4, no True for 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from emulator_cases import make_mapping, whole

from pmsm_hw import arguments, lava, reference
from pmsm_hw.datasets.samples import Samples, check_labels
from pmsm_hw.emulator import Emulator, emulate
from pmsm_hw.errors import DatasetError, InputError, MappingError, NetworkError, PmsmHwError
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    CubaLif,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
    Readout,
    SumPool,
)

RAGGED = [[1, 2], [3]]
HUGE = 10**5000  # more digits than Python shows
NO_INTEGERS: tuple[Any, ...] = (
    2.5,
    2.0,
    "2",
    True,
    None,
    np.nan,
    np.True_,
    [2, 3, 4, 5],
    1 << 70,
    HUGE,
    {},
)
NO_NUMBERS: tuple[Any, ...] = ("1", True, None, np.nan, np.inf, 0, -1, [1.0], 1j, 10**400, HUGE)

PARTS: dict[type[Any], dict[str, Any]] = {
    Input: {"name": "x", "shape": (4,)},
    PolarityMultiSpike: {"name": "n", "shape": (4,), "theta": 3, "levels": (1, 2)},
    CubaLif: {"name": "n", "shape": (4,), "vth": 3},
    Readout: {"name": "y", "shape": (4,)},
    Dense: {"source": "x", "target": "n", "weight": np.ones((4, 4), np.int8)},
    Conv2d: {"source": "x", "target": "n", "weight": np.ones((4, 4, 2, 2), np.int8)},
    Conv1d: {"source": "x", "target": "n", "weight": np.ones((4, 4, 2), np.int8)},
    SumPool: {"source": "x", "target": "n", "kernel": (2, 2), "stride": 2},
    Identity: {"source": "x", "target": "n"},
}
WRONG: dict[str, tuple[Any, ...]] = {
    "name": (3, None, b"x", "a/b", ["x"], np.array(["x"]), np.array(["a", "b"])),
    "shape": ((HUGE,), HUGE, (1, HUGE),
              8, (3.7,), ("3",), (True,), None, "4", (1 << 40,), (1 << 20, 1 << 20), (0,), ()),
    "scale": NO_NUMBERS,
    "levels": ((0, HUGE), (-HUGE, 0), HUGE,
               4, (1,), (1, 2, 3), (0, 1.5), (0, True), "01", None, (0, "1"), (0, 1 << 40)),
    "gains": ((HUGE, 1), (1, -HUGE), 4, (1,), (1.0, 1), (True, 1), "11", None, (0, 1), (1, 128)),
    "spike_mode": ("GRADED", None, 3, ["unit"], np.array(["unit", "unit"])),
    "rule": ("leak", None, 0, ["carry"]),
    "overflow": ("wrap", None, True, ["error"]),
    "theta": (0, 2.5, 3.0, "3", True, None, RAGGED, [], [1, 2, 3], 1 << 70, np.uint64(1 << 63)),
    "bias": (2.5, "3", True, None, RAGGED, [1, 2, 3], 1 << 30),
    "v_init": (2.5, "3", True, RAGGED, [1, 2, 3], 1 << 30),
    "vth": (-1, 2.5, "3", True, None, RAGGED, [], [1, 2, 3], 131072),
    "du": (-1, 2.5, "3", True, None, RAGGED, [1, 2, 3], 4096),
    "dv": (-1, 2.5, "3", True, None, RAGGED, [1, 2, 3], 4097),
    "bias_exponent": (*NO_INTEGERS, -1, 8),
    "refractory": (*NO_INTEGERS, 0, 65),
    "reset": ("carry", None, True, ["zero"]),
    "payload_mode": ("unit", None, True, ["binary"]),
    "reset_interval": (*NO_INTEGERS, -1, 4097),
    "reset_offset": (*NO_INTEGERS, -1, 4097),
    "source": (3, None, ["x"]),
    "target": (3, None, ["n"]),
    "weight": (2.5, "3", None, RAGGED, [[1.0]], [[True]], [[200]], [[]], {}),
    "weight_exponent": (*NO_INTEGERS, 8, -9, 1.9),
    "delay": (*NO_INTEGERS, -1, 0.9, 1 << 62, 10**20, 4097),
    "delays": (2.5, "3", 1, RAGGED, [[1.0]], [[True]], [[63]], [[-1]], [[]], {}, [[1 << 70]]),
    "stride": (*NO_INTEGERS, 0, 1.5, (1.5, 1), ("1",), (True,)),
    "dilation": (*NO_INTEGERS, 0, 1.5, (1.5, 1)),
    "padding": (2.5, "2", True, None, -1, 1.5, ((1.5, 1), (0, 0)), ((-1, 0),), ((1, 2, 3),)),
    "groups": (*NO_INTEGERS, 0, 2.9, 3),
    "kernel": (2.5, "2", True, None, 0, (2.0, 2), (1, 2, 3), ()),
}  # fmt: skip
EXCEPTIONS = {
    (Readout, "scale"): ("1", True, None, np.nan, np.inf, 1j, RAGGED, 10**400),
    (Identity, "weight"): (2.5, "3", None, RAGGED, True, 200, [], {}),
    (SumPool, "weight"): (2.5, "3", None, RAGGED, True, 200, [], {}),
}  # fmt: skip


def cases() -> list[tuple[type[Any], str, Any]]:
    found = []
    for part in PARTS:
        for name in WRONG:
            if name not in part.__dataclass_fields__:
                continue
            wrong = EXCEPTIONS.get((part, name), WRONG[name])
            if name == "name" and issubclass(part, Projection):
                wrong = tuple(value for value in wrong if value is not None)
            found += [(part, name, value) for value in wrong]
    return found


def refusal(call: Callable[[], object], where: str, kind: type[PmsmHwError]) -> str:
    """Text of the error; anything else names the case."""
    try:
        found = call()
    except kind as error:
        text = str(error)
    except Exception as error:
        raise AssertionError(f"{where} escapes") from error
    else:
        raise AssertionError(f"{where} is accepted: {found!r}")
    assert "\n" not in text, where
    return text


def test_each_argument_of_a_part_is_refused_by_name() -> None:
    assert len(cases()) > 250
    for part, name, value in cases():
        where = f"{part.__name__}({name}={arguments.shown(value)})"
        text = refusal(lambda p=part, n=name, v=value: p(**PARTS[p] | {n: v}), where, NetworkError)
        assert name in text or name in ("source", "target"), f"{where}: {text}"


@pytest.mark.parametrize("part", list(PARTS))
def test_integers_of_numpy_are_integers(part: type[Any]) -> None:
    given = copy.copy(PARTS[part])
    for name, value in given.items():
        if name in ("shape", "levels", "kernel"):
            given[name] = np.array(value, np.int16)
        elif isinstance(value, int):
            given[name] = np.int16(value)
    assert part(**given) == part(**PARTS[part])


def small() -> Network:
    return Network(
        populations=(
            Input(name="x", shape=(2,), levels=(0, 3)),
            PolarityMultiSpike(name="n", shape=(2,), theta=1, levels=(0, 1)),
            Readout(name="y", shape=(2,)),
        ),
        projections=(Identity(source="x", target="n"), Identity(source="n", target="y")),
        max_steps=2,
    )


def test_each_argument_of_a_network_is_refused_by_name() -> None:
    network = small()
    good = {"populations": network.populations, "projections": network.projections, "max_steps": 2}
    wrong: dict[str, tuple[Any, ...]] = {
        "name": (3, None, ["a"]),
        "populations": (5, None, "xny", [3], network.projections, {"x": 1},
                        (*network.populations, Population(name="z", shape=(1,)))),
        "projections": (5, None, "ab", [3], network.populations),
        "max_steps": (*NO_INTEGERS, 0, 4097),
    }  # fmt: skip
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(NetworkError, match=name):
                Network(**good | {name: value})
    for look_up in (5, None, ["x"], "nowhere"):
        with pytest.raises(NetworkError, match="does not exist"):
            network[look_up]  # type: ignore[index]
        assert look_up not in network


def run_cases() -> dict[str, Callable[[Any], object]]:
    """By argument: a call that has it and is right in all else."""
    network, x = small(), np.array([[1, 2]])
    mapping = make_mapping(
        network, load_chip("toy"), [whole(network, "n", 0), whole(network, "y", 1)]
    )

    def emulated(**changes: Any) -> Callable[[Any], object]:
        (name,) = changes
        return lambda value: emulate(
            **{"network": network, "mapping": mapping, "x": x, name: value}
        )

    calls: dict[str, Callable[[Any], object]] = {
        "run network": lambda v: reference.run(v, x),
        "run x": lambda v: reference.run(network, v),
        "run n_steps": lambda v: reference.run(network, x, v),
        "run record": lambda v: reference.run(network, x, record=v),
        "run memory_mb": lambda v: reference.run(network, x, memory_mb=v),
        "evaluate dataset": lambda v: reference.evaluate(network, v),
        "evaluate labels": lambda v: reference.evaluate(network, (x, v)),
        "predictions readout": lambda v: reference.run(network, x).predictions(v),
        "lava network": lambda v: lava.run(v, x),
        "lava x": lambda v: lava.run(network, v),
        "lava n_steps": lambda v: lava.run(network, x, v),
        "lava record": lambda v: lava.run(network, x, record=v),
        "lava timeout_s": lambda v: lava.run(network, x, timeout_s=v),
        "lava python": lambda v: lava.run(network, x, python=v),
        "lava granularity": lambda v: lava.run(network, x, granularity=v),
        "lava tag": lambda v: lava.run(network, x, tag=v),
        "lava progress": lambda v: lava.run(network, x, progress=v),
        "lava jobs": lava.run_many,
        "emulator profile": lambda v: Emulator(network, mapping, profile=v),
    }
    for name in ("network", "mapping", "x", "n_steps", "mode", "profile", "labels", "record",
                 "record_samples", "probes", "carry_state", "clock_ns", "trace",
                 "progress"):  # fmt: skip
        calls[f"emulate {name}"] = emulated(**{name: None})
    return calls


NO_INPUTS: tuple[Any, ...] = (
    RAGGED, "1", None, {}, {"x": RAGGED}, {"z": [[1, 2]]}, np.array([[True, False]]), 3, 3.0,
    np.array([[1j, 2]]), [[np.nan, 1.0]], [[4, 0]], [[-1, 0]], [[1, 2, 3]], [["1", "2"]], object(),
)  # fmt: skip
NO_RECORD: tuple[Any, ...] = (5, "n", ["nowhere"], [3], [["n"]], {"n": 1})
WRONG_RUNS: dict[str, tuple[Any, ...]] = {
    "network": (None, "net", 5, (1, 2)),
    "x": NO_INPUTS,
    "n_steps": (*NO_INTEGERS, 0, 3),
    "record": NO_RECORD,
    "memory_mb": (*NO_INTEGERS, 0, -1),
    "dataset": (None, 5, (1,), np.array(3), "ab"),
    "labels": (RAGGED, "1", [1.0], [True], [1, 2], 1, object(), [-1], [2], [HUGE],
               np.array([1 << 63], np.uint64)),
    "record_samples": (2.5, 2.0, "2", True, False, np.True_, np.nan, [2], {}, -1, -HUGE),
    "probes": (5, ["n"], {"nowhere": ("v",)}, {"n": ("w",)}, {"n": 3}, {"x": ("v",)}),
    "carry_state": (1, "yes", None, [True]),
    "readout": (5, ["y"], "nowhere"),
    "timeout_s": (10**400, HUGE, "x", np.nan, np.inf, 0, -1, None, True, [1]),
    "python": (5, True, ["python"], "/no/such/python"),
    "granularity": ("medium", None, 3, ["coarse"], np.array(["coarse", "fine"])),
    "tag": ("float", None, 3, ["fixed_pt"]),
    "progress": (5, "bar"),
    "jobs": (5, [3], "ab", small()),
    "mapping": (None, "map", 5),
    "mode": ("fast", None, 3, ["counts"], np.array(["counts", "cycle"])),
    "profile": (5, "nowhere", True, ["toy"]),
    "clock_ns": ("1", np.nan, np.inf, 0, -1, None, True, [1.0], 10**400),
    "trace": (1, "yes", None, True),
}  # fmt: skip


def test_each_argument_of_a_run_is_refused_by_name() -> None:
    n_cases = 0
    for what, call in run_cases().items():
        for value in WRONG_RUNS[what.split()[1]]:
            n_cases += 1
            refusal(lambda c=call, v=value: c(v), f"{what} = {arguments.shown(value)}", PmsmHwError)
    assert n_cases > 150


def test_integers_are_units_floats_are_real_values_and_bools_neither() -> None:
    network = Network(
        populations=(
            Input(name="x", shape=(2,), levels=(0, 9), scale=0.5),
            Readout(name="y", shape=(2,)),
        ),
        projections=(Identity(source="x", target="y"),),
    )
    assert reference.run(network, [[1, 2]]).readouts["y"].tolist() == [[1, 2]]
    assert reference.run(network, [[1.0, 2.0]]).readouts["y"].tolist() == [[2, 4]]
    assert reference.run(network, [[1e300, -1e300]]).readouts["y"].tolist() == [[9, 0]]
    with pytest.raises(InputError, match="x has dtype bool"):
        reference.run(network, np.array([[True, False]]))


def test_values_are_shown_short() -> None:
    assert arguments.shown("a" * 1000) == repr("a" * 77 + "...")
    assert arguments.shown(np.zeros((1000, 2))) == "an array of shape (1000, 2)"
    assert len(arguments.shown(list(range(10**5)))) < 100
    assert arguments.shown(HUGE) == "an integer of 16,610 bits"
    assert arguments.shown((0, -HUGE)) == "(0, an integer of 16,610 bits)"
    nested: list[Any] = [1]
    for _ in range(9):
        nested = [nested] * 9
    assert len(arguments.shown(nested)) <= 120
    assert "HUGE" not in arguments.shown(NoRepr())


class NoRepr(str):
    """A text that cannot be shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError("HUGE")

    __len__ = __getitem__ = __repr__  # type: ignore[assignment]


def test_labels_are_classes_of_the_readout_wherever_they_are_given() -> None:
    """A label that is none would count as a wrong answer, without a word."""
    network, x = small(), np.array([[1, 2], [2, 1]])
    mapping = map_network(network, load_chip("toy"))
    for labels, message in (
        ([0, -1], r"lie in \[-1, 0\], readout 'y' has classes 0 to 1"),
        ([0, 2], r"lie in \[0, 2\], readout 'y' has classes 0 to 1"),
        ([0], r"have shape \(1,\), 2 samples need"),
        ([True, False], "labels has dtype bool, integers"),
        ([0.0, 1.0], "labels has dtype float64, integers"),
    ):
        given = np.array(labels)
        with pytest.raises(InputError, match=message):
            reference.evaluate(network, (x, given))
        with pytest.raises(InputError, match=message):
            emulate(network, mapping, x, labels=given)
        with pytest.raises(DatasetError, match=message):
            check_labels(network, Samples(x=x, labels=given, source="here"))
    right = np.array([1, 0], np.uint8)
    assert emulate(network, mapping, x, labels=right).accuracy == (
        reference.evaluate(network, (x, right)).accuracy
    )
    check_labels(network, Samples(x=x, labels=right, source="here"))


def test_a_network_of_inputs_alone_is_not_mapped() -> None:
    network = Network(populations=(Input(name="x", shape=(2,)),), projections=())
    for objective in ("latency", "energy", "cores"):
        with pytest.raises(MappingError, match="1 populations, all of them inputs"):
            map_network(network, load_chip("toy"), objective=objective)
