"""Temporary folders that do not stay for ever, even where their process is killed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["temporary_folder"]

NEW_S = 60.0
"""Younger folders are left alone: one that was just made is not locked yet."""


@contextmanager
def temporary_folder(
    prefix: str, parent: Path | None = None, *, removing: Callable[[Path], None] = lambda _: None
) -> Iterator[Path]:
    """Make a folder that is removed at the end, or, if this process is killed, by the next one.

    Its owner holds a lock on it, which goes away with the process: what is not locked is left over.

    Parameters
    ----------
    prefix
        How its name begins.
    parent
        Where to make it; by default where temporary files are.
    removing
        Called with a folder left over, to remove what goes with it.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    where = Path(tempfile.gettempdir()) if parent is None else parent
    if os.name == "nt":  # no locks on folders there
        with tempfile.TemporaryDirectory(prefix=prefix, dir=where) as name:
            yield Path(name)
        return
    import fcntl

    _remove_left_over(where, prefix, removing)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _remove_left_over(where: Path, prefix: str, removing: Callable[[Path], None]) -> None:
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
                removing(folder)
            finally:
                os.close(handle)
