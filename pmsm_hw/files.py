"""Files that appear whole or not at all; every file this package writes for a user is one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pmsm_hw.errors import FormatError

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | os.PathLike[str], what: str = "file") -> Iterator[Path]:
    """Yield a name in the same folder; rename it to ``path`` on success, else delete it.

    Parameters
    ----------
    path
        The file to make or to replace.
    what
        What errors call it.

    Raises
    ------
    FormatError
        If it cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:200]
        raise FormatError(
            f"{what} '{target}'",
            f"cannot be written ({reason})",
            remedy="choose a writable place with enough room",
            actual=str(error),
            limit="a writable file",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
