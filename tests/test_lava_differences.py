"""``pmsm-hw lava`` does not end as if all were well where Lava's spikes differ."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec

import pytest
from command_line import cli
from random_networks import small_network

from pmsm_hw import io, lava
from pmsm_hw.errors import LavaError

pytestmark = pytest.mark.skipif(
    find_spec("lava") is not None, reason="this Python, not another one, has Lava itself"
)

ALTER = """
import json, sys
import numpy as np

path = sys.argv[1] + "/0.result.npz"
with np.load(path) as file:
    arrays = dict(file)
names = json.loads(str(arrays["__header__"]))[sys.argv[2]]
arrays[f"{sys.argv[2]}.{len(names) - 1}"].reshape(-1)[0] += 1
np.savez(path, **arrays)
"""


@pytest.mark.parametrize(("what", "n"), [("spikes", (1, 0)), ("readouts", (0, 1)), (None, (0, 0))])
def test_a_difference_is_an_exit_status_of_its_own(tmp_path, what, n):
    try:
        real = lava.find_python()
    except LavaError as error:
        pytest.skip(str(error))
    io.save(tmp_path / "net.h5", small_network())
    (tmp_path / "alter.py").write_text(ALTER)
    # runs the worker in Lava's own Python, then changes one number of its result
    wrapper = tmp_path / "python"
    alter = "" if what is None else f'"{sys.executable}" "{tmp_path}/alter.py" "$3" {what}\n'
    wrapper.write_text(f'#!/bin/sh\nset -e\n"{real}" "$@"\n{alter}')
    wrapper.chmod(0o755)
    done = cli(
        "lava", "net.h5", "--limit", 2, "--json", cwd=tmp_path, PMSM_HW_LAVA_PYTHON=str(wrapper)
    )
    values = json.loads(done.stdout)
    assert (values["differing_spikes"], values["differing_readouts"]) == n
    assert done.returncode == (0 if what is None else 3), done.stderr
