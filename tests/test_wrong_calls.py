"""What entry points refuse: each wrong argument is one error of the package, at once."""

from __future__ import annotations

import os

import fuzz_calls
import numpy as np
import pytest
from random_networks import small_network

from pmsm_hw import PmsmHwError, io
from pmsm_hw.datasets import random_samples
from pmsm_hw.emulator import emulate, write_trace
from pmsm_hw.files import check_output
from pmsm_hw.lava import find_python
from pmsm_hw.mapping import (
    load_chip,
    map_network,
    measured_traffic,
    split_fan_in,
    split_fan_out,
    xy_route,
)
from pmsm_hw.report import write_html

N_CASES = 2000 if os.environ.get("PMSM_HW_HYPOTHESIS") == "long" else 80

NETWORK, CHIP = small_network(), load_chip("toy")
X = np.zeros((1, 1, 8, 8))
MAPPING = map_network(NETWORK, CHIP, objective="cores")
PAGE = {"report": emulate(NETWORK, MAPPING, X), "network": NETWORK, "mapping": MAPPING}
CALLS = [
    *(
        call
        for wrong in (None, 5, "text")
        for call in (
            (map_network, (wrong, CHIP), {}),
            (map_network, (NETWORK, wrong), {}),
            (split_fan_in, (NETWORK, wrong), {}),
            (split_fan_out, (wrong, CHIP), {}),
            (measured_traffic, (NETWORK, X, 1, wrong), {}),
            (write_trace, ("x.json", wrong), {}),
            (xy_route, ((0, 0), wrong), {}),
        )
    ),
    *((map_network, (NETWORK, CHIP), {"seed": s}) for s in (2.5, "4", None, [1], float("nan"), -1)),
    *((map_network, (NETWORK, CHIP), {"time_limit_s": s}) for s in ("x", [1.0], float("nan"), 0)),
    (xy_route, ((0, 0), (float("nan"), 1)), {}),
    (xy_route, ((0, 0), (1.5, 1)), {}),
    *((io.save, ("x.h5", wrong), {}) for wrong in (None, 5)),
    *((random_samples, (wrong,), {"n_samples": 1}) for wrong in (None, 5)),
    *(
        (write_html, ("x.html",), PAGE | {name: wrong})
        for name, values in {
            "report": (None, 5, "text", MAPPING),
            "network": (None, 5, "text", CHIP),
            "mapping": (None, 5, "text", NETWORK),
            "conversion": (5, "text", [1], {}, {"populations": 5}, {"populations": [1]}),
            "entropy": (5, "text"),
            "accuracy_by_steps": (
                5,
                "text",
                [1],
                {1: 5},
                {"x": PAGE["report"]},
                {2: PAGE["report"]},
            ),
            "command": (5, ["a"], b"a"),
            "title": (5, ["a"], b"a"),
        }.items()
        for wrong in values
    ),
    *((plot, (5,), {}) for plot in (check_output, find_python)),
]


@pytest.mark.parametrize(("function", "arguments", "options"), CALLS)
def test_wrong_arguments_are_one_line(function, arguments, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PmsmHwError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_calls_that_are_right_but_for_one_argument(tmp_path, monkeypatch):
    """And without the wrong argument each succeeds: it is what the error is about."""
    monkeypatch.chdir(tmp_path)
    fuzz_calls.prepare(tmp_path)
    fuzz_calls.things()
    wanted = fuzz_calls.chosen(N_CASES, seed=0)
    problems = {
        f"{call.name}({call.parameter}={call.value!r})": fuzz_calls.problem(call, tmp_path)
        for call in wanted
    }
    assert {call: text for call, text in problems.items() if text is not None} == {}
    assert fuzz_calls.failing(wanted) == {}
