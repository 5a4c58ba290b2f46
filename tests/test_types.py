"""A user's script, outside the checkout, is typed: mypy and pyright see what a record takes.

Both look along the path and know no import hooks; `pmsm_hw.records.Given` says to them what a field
takes and what it keeps.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RIGHT = """
import numpy as np
from pmsm_hw import Conv2d, Dense, Input, Network, PolarityMultiSpike, Readout, reference
from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import load_chip, map_network

rng = np.random.default_rng(0)
network = Network(
    populations=[
        Input(name="image", shape=(1, 8, 8), levels=[0, 15]),
        PolarityMultiSpike(name="conv", shape=[4, 8, 8], theta=300, levels=(1, 2), v_init=None),
        Readout(name="classes", shape=(10,), bias=[0] * 10),
    ],
    projections=(
        Conv2d(source="image", target="conv", weight=rng.integers(-9, 9, (4, 1, 3, 3)), padding=1),
        Dense(source="conv", target="classes", weight=np.ones((10, 256), np.int64)),
    ),
)
x = np.zeros((1, 1, 8, 8))
mapping = map_network(network, load_chip("loihi2"))
report = emulate(network, mapping, x, n_steps=1)
for part in network.populations:
    if isinstance(part, PolarityMultiSpike):
        reveal_type(part.theta)  # <<ndarray>>
reveal_type(report)  # <<Report>>
reveal_type(mapping)  # <<Mapping>>
reveal_type(reference.run(network, x, n_steps=1))  # <<Result>>
"""

WRONG = """
from pmsm_hw import Conv2d, Dense, PolarityMultiSpike
Dense(source="a", target="b")  # weight
Dense(source="a", target="b", weight=[[1]], exponent=1)  # exponent
Conv2d(source="a", target="b", weight=[[[[1]]]], padding="same")  # padding
PolarityMultiSpike(name="a", shape=3, theta=1, levels=(0, 1))  # shape
"""


def _answers(checker: str, script: Path) -> str:
    command = {
        "mypy": [sys.executable, "-m", "mypy", "--strict", "--no-incremental", script.name],
        "pyright": ["pyright", "--pythonpath", sys.executable, script.name],
    }[checker]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=script.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(params=("mypy", "pyright"))
def checker(request):
    if request.param == "mypy":
        pytest.importorskip("mypy", reason="linters are in .venv: run it there")
    elif shutil.which("pyright") is None:
        pytest.skip("pyright is not on the path: pip install 'pyright[nodejs]'")
    return request.param


def test_a_right_script_has_no_errors_and_known_types(checker, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(RIGHT)
    told = _answers(checker, script)
    assert "error:" not in told, told
    revealed = {
        int(m[1]): m[2]
        for m in re.finditer(r":(\d+)[^\n]*?(?:Revealed type is|Type of [^\n]*? is) (.*)", told)
    }
    for number, line in enumerate(RIGHT.splitlines(), start=1):
        if expected := re.search("<<(.*)>>", line):
            assert expected[1] in revealed[number], told


def test_every_wrong_line_is_found(checker, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(WRONG)
    told = _answers(checker, script)
    for number, line in enumerate(WRONG.splitlines(), start=1):
        if "  # " in line:
            word = line.split("  # ")[1]
            assert re.search(rf":{number}\b[^\n]*error[^\n]*{word}", told), told
