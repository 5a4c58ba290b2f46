"""What a run of Lava may leave behind, and how it goes away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

__all__ = ["KILL_WAIT_S", "end_group", "members", "remove_shared_memory"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108

KILL_WAIT_S = 5.0
POLL_S = 0.02


def members(group: int) -> set[int]:
    """Processes of a group that run; the dead that nobody has reaped yet do not count."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # pid (command) state parent group ...; the command may hold anything
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in ("Z", "X"):
                found.add(int(path.parent.name))
    return found


def end_group(group: int, *, but: Collection[int] = ()) -> None:
    """Kill the processes of a group and wait until they are gone."""
    end = time.monotonic() + KILL_WAIT_S
    while time.monotonic() < end and (left := members(group) - set(but)):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def remove_shared_memory(token: str) -> None:
    """Remove shared memory whose name starts with the token of a run."""
    for path in SHARED_MEMORY.glob(f"{token}_*"):
        path.unlink(missing_ok=True)
