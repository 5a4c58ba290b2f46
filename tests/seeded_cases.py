"""Cases seeded by their numbers, run one after the other from a command line."""

from __future__ import annotations

import argparse
import faulthandler
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["main", "peak_mb"]


def main(
    doc: str,
    run: Callable[[int], str | Mapping[str, int]],
    *,
    cases: int,
    arguments: list[str] | None = None,
    more: Callable[[], Mapping[str, object]] = dict,
    longest_s: int = 300,
) -> None:
    """Run cases; print a JSON line of what became of them.

    ``--cases N`` says how many, ``--first N`` where to begin. What a case raises ends the run with
    the case's number; so does a case that takes too long.

    Parameters
    ----------
    doc
        Of the script, for ``--help``.
    run
        Outcome of the case of a number, to be counted, or what to add to sums.
    cases
        How many by default.
    arguments
        Of the command line.
    more
        Called after the cases: what to print beside their outcomes.
    longest_s
        How long a case may take.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args(arguments)
    outcomes: Counter[str] = Counter()
    start, slowest = time.perf_counter(), (0.0, given.first)
    for number in range(given.first, given.first + given.cases):
        faulthandler.dump_traceback_later(longest_s, exit=True)
        begin = time.perf_counter()
        try:
            outcome = run(number)
        except Exception as error:
            raise RuntimeError(f"case {number} failed") from error
        outcomes.update([outcome] if isinstance(outcome, str) else outcome)
        slowest = max(slowest, (round(time.perf_counter() - begin, 2), number))
    faulthandler.cancel_dump_traceback_later()
    result = {
        "cases": given.cases,
        **dict(sorted(outcomes.items())),
        **more(),
        "peak_mb": peak_mb(),
        "slowest_s, case": slowest,
        "seconds": round(time.perf_counter() - start, 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")


def peak_mb() -> int:
    """Peak resident memory of this process (getrusage would count that of its parent)."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
