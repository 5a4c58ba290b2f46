"""Hypothesis profiles and shared fixtures.

``PMSM_HW_HYPOTHESIS=long`` runs the long profile of every property test (``make test-long``).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from shares import SHARES, elsewhere, entry_of, long_only

# deadline off: compilation and process starts make single examples slow, and no test is timed
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=25, derandomize=True, **_common)
settings.register_profile("long", max_examples=1000, **_common)
settings.load_profile(os.environ.get("PMSM_HW_HYPOTHESIS", "quick"))

# plain `pytest` finds the Python that `make setup` made for Lava
_lava_python = Path(__file__).resolve().parents[1] / ".venv-lava" / "bin" / "python"
if _lava_python.is_file():
    os.environ.setdefault("PMSM_HW_LAVA_PYTHON", str(_lava_python))


# What needs a package that the other environment has is not collected here, and that is said once:
# files that begin with importorskip, and tests marked with the package's name.
_FIRST = re.compile(r'^(?:\w+ = )?pytest\.importorskip\("(torch|lava|nir|matplotlib)\b', re.M)
_MARKS = ("torch", "lava", "tonic")
_absent = {name for name in (*_MARKS, "nir", "matplotlib") if find_spec(name) is None}
_not_collected: Counter[str] = Counter()
collect_ignore = []
for _path in sorted(Path(__file__).parent.glob("test_*.py")):
    _found = _FIRST.search(_path.read_text(encoding="utf-8"))
    if _found and _found[1] in _absent:
        collect_ignore.append(_path.name)
        _not_collected[_found[1]] += 1


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--share", choices=sorted(SHARES),
        help="leave out what tests/shares.py gives to the other environment of `make test`",
    )  # fmt: skip


def pytest_report_header() -> list[str]:
    return [
        f"not collected, no {name} in this Python: {n} files (make test runs them where it is)"
        for name, n in _not_collected.items()
    ]


_left_out: dict[str, list[str]] = {}
_long_only: list[tuple[str, str]] = []


def pytest_collection_modifyitems(config, items) -> None:
    """Leave out tests marked with a package that is not here, and what the other half runs."""
    away = {i for i in items if any(i.get_closest_marker(m) for m in _MARKS if m in _absent)}
    if share := config.getoption("share"):
        names = elsewhere(share)
        for item in items:
            if item in away:
                continue
            if reason := long_only(item.nodeid):
                _long_only.append((item.nodeid, reason))
                away.add(item)
            elif name := entry_of(item.nodeid, names):
                _left_out.setdefault(name, []).append(item.nodeid)
                away.add(item)
    if away:
        items[:] = [i for i in items if i not in away]
        config.hook.pytest_deselected(items=away)


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Say by name what ran elsewhere, or runs in the long profile, and why that is enough."""
    if _left_out:
        terminalreporter.section("run in the other environment of make test")
        names = elsewhere(config.getoption("share"))
        for name, left in sorted(_left_out.items()):
            environment, reason = names[name]
            terminalreporter.write_line(f"{environment}: {name} ({len(left)}): {reason}")
    if _long_only:
        terminalreporter.section("run by make test-long only")
        for nodeid, reason in _long_only:
            terminalreporter.write_line(f"{nodeid}: {reason}")


@pytest.fixture(scope="session", autouse=True)
def _left_out_in_the_report(record_testsuite_property) -> None:
    """For ``.ci/count_tests.py``, which looks whether they passed in the other environment."""
    for nodeid in (n for left in _left_out.values() for n in left):
        record_testsuite_property("left out", nodeid)
    for nodeid, _ in _long_only:
        record_testsuite_property("long only", nodeid)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real inputs beside the checkout; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no published data at {folder}: CONTRIBUTING.md says where to get them")
    return folder


@pytest.fixture(scope="session")
def lava_python() -> None:
    """Skip, with a reason, where no Python with Lava is known; never in CI."""
    variable = "PMSM_HW_LAVA_PYTHON"
    if find_spec("lava") is None and not {variable, "CI"} & set(os.environ):
        pytest.skip(f"set {variable} to a Python 3.10 with lava-nc")
