"""What a run of Lava may leave behind, and how it goes away."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["KILL_WAIT_S", "end_group", "members", "remove_shared_memory", "temporary_folder"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108

NEW_S = 60.0
"""Younger folders are left alone: one that was just made is not locked yet."""

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


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that is removed at the end, or, if this process is killed, by the next one.

    Its owner holds a lock on it, which goes away with the process: what is not locked is left over.

    Parameters
    ----------
    prefix
        How its name begins; with the whole name begins that of shared memory which goes with it.
    parent
        Where to make it; by default where temporary files are.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    import fcntl  # not on Windows, where Lava does not run

    where = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_left_over(where, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _remove_left_over(where: Path, prefix: str) -> None:
    import fcntl

    for folder in where.glob(f"{prefix}*"):
        with suppress(OSError):  # locked, or gone by now
            found = folder.lstat()
            own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            if not own or time.time() - found.st_mtime < NEW_S:
                continue
            handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                remove_shared_memory(folder.name)
            finally:
                os.close(handle)
