"""Hypothesis profiles and shared fixtures.

``PMSM_HW_HYPOTHESIS=long`` runs the long profile of every property test (``make test-long``).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# deadline off: compilation and process starts make single examples slow, and no test is timed
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=25, derandomize=True, **_common)
settings.register_profile("long", max_examples=1000, **_common)
settings.load_profile(os.environ.get("PMSM_HW_HYPOTHESIS", "quick"))

# plain `pytest` finds the Python that `make setup` made for Lava
_lava_python = Path(__file__).resolve().parents[1] / ".venv-lava" / "bin" / "python"
if _lava_python.is_file():
    os.environ.setdefault("PMSM_HW_LAVA_PYTHON", str(_lava_python))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real inputs beside the checkout; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
