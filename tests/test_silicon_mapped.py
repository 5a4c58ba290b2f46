"""What a Loihi 2 did, against cycle mode on a mapped network: zero differences.

As `test_silicon` does with the reference; here every spike is a message that finds its synapses.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import silicon

from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import load_chip, map_network


@pytest.mark.parametrize("name", silicon.RECORDINGS)
def test_cycle_mode_equals_the_chip(name: str, shared_data: Path):
    folder = shared_data / "silicon"
    if not folder.is_dir():
        pytest.skip(f"nothing that was read from a chip at {folder}")
    recording = silicon.RECORDINGS[name](folder)
    network = recording.network
    # no search for a better cut: any will do
    mapping = map_network(network, load_chip("loihi2"), objective="cores", time_limit_s=0.01)
    probes = {population: tuple(states) for population, states in recording.states.items()}
    report = emulate(network, mapping, recording.x, recording.n_steps, mode="cycle", probes=probes)
    found = recording.differences(report.spikes, report.states)
    assert found == dict.fromkeys(found, 0)
    assert sum(int(spikes.sum()) for spikes in recording.spikes.values()) > 0
