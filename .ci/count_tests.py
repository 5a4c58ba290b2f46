"""Sum the test reports of both environments; the last line counts them.

Ends non-zero if a report is missing, a test failed, nothing passed, a test that one environment
left to the other (tests/shares.py) did not pass there (nor was skipped for lack of published data),
one that is named for the long profile is none, or Lava went untested: a test skipped for lack of
lava-nc, or a file of Lava tests of which none passed in either environment.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from shares import LONG_ONLY  # noqa: E402

LACK_OF_LAVA = "to a Python 3.10 with lava-nc"
"""In the reason of a test that was skipped because no Lava was found."""

LACK_OF_DATA = "no published data at"
"""In that of one that needs data which are not part of the project (tests/conftest.py)."""


def in_report(nodeid: str) -> str:
    """Name of a test as reports have it."""
    test, bracket, parameters = nodeid.partition("[")
    *places, name = test.replace(".py::", "::").replace("/", ".").split("::")
    return f"{'.'.join(places)}::{name}{bracket}{parameters}"


def told(report: ET.Element, what: str) -> set[str]:
    """Tests that tests/conftest.py left out of a run."""
    return {p.get("value", "") for p in report.iter("property") if p.get("name") == what}


def main(paths: list[str]) -> int:
    """Print problems and the count; return the exit status."""
    passed = failed = skipped = 0
    problems = []
    left_out, long_only, all_passed, without_data = set(), set(), set(), set()
    lava_files = {path.stem for path in TESTS.glob("test_lava_*.py")}
    for path in paths:
        if not Path(path).is_file():
            problems.append(f"{path}: no test report was written")
            continue
        report = ET.parse(path).getroot()
        cases = list(report.iter("testcase"))
        left_out |= {in_report(nodeid) for nodeid in told(report, "left out")}
        long_only |= told(report, "long only")
        n_passed = 0
        for case in cases:
            name = f"{case.get('classname')}::{case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif (skip := case.find("skipped")) is not None:
                skipped += 1
                reason = f"{skip.get('message')} {skip.text or ''}".strip()
                print(f"skipped {name}: {reason}")
                if LACK_OF_DATA in reason:
                    without_data.add(name)
                if LACK_OF_LAVA in reason:
                    problems.append(f"{name}: Lava tests must not be skipped for lack of Lava")
            else:
                n_passed += 1
                all_passed.add(name)
                lava_files -= set(name.split("::")[0].split("."))
        if n_passed == 0:
            problems.append(f"{path}: no test passed")
        passed += n_passed
    problems += [
        f"{name}: left to the other environment, where it did not pass"
        for name in sorted(left_out - all_passed - without_data)
    ]
    listed = {f"tests/{name}" for names in LONG_ONLY.values() for name in names}
    problems += [
        f"{nodeid}: tests/shares.py leaves it to the long profile, and there is no such test"
        for nodeid in sorted(listed - long_only if long_only else ())
    ]
    problems += [f"tests/{name}.py: no test passed in any environment" for name in lava_files]
    for problem in problems:
        print(problem)
    if left_out:
        print(f"{len(left_out)} tests ran in one environment: tests/shares.py says why")
    for nodeid in sorted(long_only):
        print(f"in make test-long only: {nodeid}")
    print(f"{passed} passed, {failed + len(problems)} failed, {skipped} skipped")
    return 1 if failed or problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
