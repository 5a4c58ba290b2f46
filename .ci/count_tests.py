"""Sum the test reports of both environments; the last line counts them.

Ends non-zero if a report is missing, a test failed, nothing passed, or a Lava test was skipped.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ALLOWED = ("torch", "needs lava-nc, that is Python 3.10")
"""Reasons why a Lava test may be skipped in one environment: the other one runs it."""


def main(paths: list[str]) -> int:
    """Print problems and the count; return the exit status."""
    passed = failed = skipped = 0
    problems = []
    for path in paths:
        if not Path(path).is_file():
            problems.append(f"{path}: no test report was written")
            continue
        cases = list(ET.parse(path).getroot().iter("testcase"))
        n_passed = 0
        for case in cases:
            name = f"{case.get('classname')}::{case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif (skip := case.find("skipped")) is not None:
                skipped += 1
                reason = f"{skip.get('message')} {skip.text or ''}".strip()
                print(f"skipped {name}: {reason}")
                if "test_lava" in name and not any(r in reason for r in ALLOWED):
                    problems.append(f"{name}: Lava tests must not be skipped")
            else:
                n_passed += 1
        if n_passed == 0:
            problems.append(f"{path}: no test passed")
        passed += n_passed
    for problem in problems:
        print(problem)
    print(f"{passed} passed, {failed + len(problems)} failed, {skipped} skipped")
    return 1 if failed or problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
