"""Public values cross process borders: what is unpickled equals what was pickled."""

from __future__ import annotations

import multiprocessing
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from random_networks import random_network, random_units, small_network

from pmsm_hw import errors, reference
from pmsm_hw.datasets.samples import Samples
from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import chip_names, load_chip, map_network


def again(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    network = small_network()
    mapping = map_network(network, load_chip("loihi2"))
    rng = np.random.default_rng(0)
    x, labels = rng.random((3, 1, 8, 8)), np.array([1, 2, 3])
    report = emulate(network, mapping, x, 2, mode="cycle", trace=True, labels=labels)
    counted = emulate(network, mapping, x, 2, record=())
    found = {
        "network": network,
        "population": network.populations[1],
        "projection": network.projections[0],
        "bounds": network.bounds,
        "mapping": mapping,
        "block": mapping.blocks[0],
        "report": report,
        "report of counts": counted,
        "counts": report.counts,
        "timing": report.timing,
        "energy": report.energy,
        "operations": report.operations,
        "result": reference.run(network, x, 2),
        "evaluation": reference.evaluate(network, (x, labels), 2),
        "samples": Samples(x=x, labels=labels, source="here"),
        "samples by name": Samples(x={"a": x, "b": x}, labels=None, source="here"),
    }
    for name in chip_names():
        chip = load_chip(name)
        found |= {
            f"chip {name}": chip,
            f"limits of {name}": chip.limits,
            f"profile of {name}": chip.profile(None),
            f"neurons of {name}": chip.limits.neurons,
        }
    return found


def test_values_survive_pickling(values: dict[str, Any]) -> None:
    for name, value in values.items():
        copy = again(value)
        assert type(copy) is type(value), name
        assert copy == value, name
        assert repr(copy) == repr(value), name


def test_what_differs_is_not_equal(values: dict[str, Any]) -> None:
    result, samples, timing = values["result"], values["samples"], values["timing"]
    other = {**result.readouts, "output": result.readouts["output"] + 1}
    assert replace(result, readouts=other) != result
    assert replace(samples, x=samples.x + 1) != samples
    assert replace(samples, x=samples.x.astype(np.float32)) != samples
    assert replace(timing, step_ps=timing.step_ps + 1) != timing
    assert values["report"] != values["report of counts"]
    assert values["report"] != 5


def test_arrays_stay_read_only_and_caches_stay_behind(values: dict[str, Any]) -> None:
    network = again(values["network"])
    with pytest.raises(ValueError, match="read-only"):
        network.projections[0].weight[...] = 0
    with pytest.raises(ValueError, match="read-only"):
        again(values["mapping"]).usage[...] = 0
    with pytest.raises(ValueError, match="read-only"):
        again(values["report"]).spikes["conv"][...] = 0
    reference.run(network, np.zeros((2, 1, 8, 8)))
    assert len(pickle.dumps(network)) == len(pickle.dumps(values["network"]))


@pytest.mark.parametrize(
    "kind", [getattr(errors, name) for name in errors.__all__ if "Err" in name]
)
def test_errors_survive_pickling(kind: type[errors.PmsmHwError]) -> None:
    error = kind("chip 'x'", "has 1", remedy="have 2", actual=1, limit=2)
    copy = again(error)
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert (copy.subject, copy.problem, copy.remedy, copy.actual, copy.limit) == (
        "chip 'x'", "has 1", "have 2", 1, 2,
    )  # fmt: skip


def test_reports_come_back_from_other_processes() -> None:
    network = random_network(3)
    mapping = map_network(network, load_chip("loihi2"))
    x = random_units(network, 3)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        report = pool.apply(emulate, (network, mapping, x), {"record": ()})
    assert report == emulate(network, mapping, x, record=())


def test_conversions_survive_pickling() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    from pmsm_hw.convert import convert
    from pmsm_hw.nn import quantize, to_snn

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    x = torch.rand(20, 4)
    quantized = quantize(model, (0, 15), calibration=x)
    for value in (convert(quantized, x), to_snn(quantized).run(x, 2)):
        assert again(value) == value
