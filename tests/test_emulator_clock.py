"""Sums of times that leave 64 bits are an error, not another number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulator_cases import edit_chip, make_mapping, whole

from pmsm_hw import Dense, Input, Network, PolarityMultiSpike, Readout
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import EmulationError
from pmsm_hw.mapping import load_chip


@pytest.mark.parametrize("mode", ["counts", "cycle"])
def test_sums_of_times_end_before_they_wrap(mode: Any) -> None:
    """64 x 64 synaptic operations of a second each, 2,400 times: 2**63 ps are 9,223,372 s."""
    n = 64
    network = Network(
        populations=(
            Input(name="x", shape=(1,)),
            PolarityMultiSpike(
                name="a", shape=(n,), theta=1, bias=1, v_init=0, levels=(0, 1), rule="reset"
            ),
            Readout(name="y", shape=(n,)),
        ),
        projections=(
            Dense(source="x", target="a", weight=np.zeros((n, 1), np.int8)),
            Dense(source="a", target="y", weight=np.ones((n, n), np.int8)),
        ),
        max_steps=2400,
    )
    chip = edit_chip(load_chip("toy"), profiles__toy__time__synaptic_operation=1e9)
    mapping = make_mapping(network, chip, [whole(network, "a", 0), whole(network, "y", 1)])
    x = np.zeros((1, 1), int)
    report = emulate(network, mapping, x, 1000, mode=mode, record=())
    assert report.timing.step_ps.sum() > 4_000_000 * 10**12
    message = r"profile 'toy': times of all events add up to 9,\d{3},\d{3} s, the clock .* ends at"
    with pytest.raises(EmulationError, match=message):
        emulate(network, mapping, x, 2400, mode=mode, record=())
