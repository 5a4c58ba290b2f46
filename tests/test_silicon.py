"""What a Loihi 2 did, against what is computed here: zero differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import silicon

from pmsm_hw import reference


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    """Folder of what was read from chips; skips where it is absent."""
    found = shared_data / "silicon"
    if not found.is_dir():
        pytest.skip(f"nothing that was read from a chip at {found}")
    return found


@pytest.mark.parametrize("name", silicon.RECORDINGS)
def test_reference_equals_the_chip(name: str, folder: Path):
    recording = silicon.RECORDINGS[name](folder)
    probes = {name: tuple(states) for name, states in recording.states.items()}
    result = reference.run(recording.network, recording.x, recording.n_steps, probes=probes)
    found = recording.differences(result.spikes, result.states)
    assert found == dict.fromkeys(found, 0)
    assert sum(int(spikes.sum()) for spikes in recording.spikes.values()) > 0


def test_reference_equals_the_chip_as_a_wave(folder: Path):
    recording = silicon.pilotnet_wave(folder)
    probes = {name: tuple(states) for name, states in recording.states.items()}
    result = reference.run(recording.network, recording.x, recording.n_steps, probes=probes)
    for name, spikes in recording.spikes.items():
        n = len(spikes)  # of the last layers, not all steps of the sample were read
        np.testing.assert_array_equal(result.spikes[name][0][:n], spikes)
        for variable, values in recording.states.get(name, {}).items():
            np.testing.assert_array_equal(result.states[name][variable][0][:n], values)
