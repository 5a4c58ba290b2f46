"""Several window projections into one target: windows of one source share its axons."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from pmsm_hw import Conv2d, Input, Network, Readout, SumPool
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.mapping.chip import parse_chip


def test_windows_of_different_strides_move_apart():
    """Row r of the target reads rows r-1, r+1 and r+3 in two columns, and row 2r in the first."""
    ones = np.ones((1, 1, 3, 2), np.int8)
    network = Network(
        populations=(
            Input(name="in", shape=(1, 7, 3), levels=(0, 1)),
            Readout(name="out", shape=(1, 4, 1)),
        ),
        projections=(
            Conv2d(
                source="in", target="out", weight=ones, stride=(1, 2), dilation=2,
                padding=((1, 0), (0, 0)), name="conv",
            ),
            SumPool(source="in", target="out", kernel=(1, 1), stride=(2, 3), name="pool"),
        ),
    )  # fmt: skip
    data = load_chip("toy").to_dict()
    data["limits"]["neurons"]["value"] = 1
    mapping = map_network(network, parse_chip(data))
    axons = {b.rows: int(mapping.usage[mapping.cores.index(b.core), 1]) for b in mapping.blocks}
    # rows 1, 3 and 0; 0, 2, 4 (2 among them); 1, 3, 5 and 4; 2, 4, 6 (6 among them)
    assert axons == {(0, 1): 5, (1, 2): 6, (2, 3): 7, (3, 4): 6}
    mapping.check(network)


def test_random_windows_equal_brute_force_counts():
    """``python tests/fuzz_windows.py`` runs 2,900."""
    script = Path(__file__).with_name("fuzz_windows.py")
    done = subprocess.run(
        [sys.executable, str(script), "--cases", "25"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["several cores"] > 10
