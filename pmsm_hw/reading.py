"""What may be read: regular files, of a size that is known before they are opened.

A FIFO keeps its reader waiting, a device may never end: neither is data.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["read_regular", "regular_size"]

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def regular_size(path: str | os.PathLike[str]) -> int:
    """Size of a regular file in bytes; links are followed.

    Parameters
    ----------
    path
        The file; it is not opened.

    Raises
    ------
    OSError
        If it is absent or no regular file; its ``strerror`` says which.
    """
    try:
        status = os.stat(path)
    except ValueError:  # a zero byte
        raise OSError(errno.EINVAL, "not a file's name", str(path)) from None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))
    return status.st_size


def read_regular(path: str | os.PathLike[str], *, largest: int) -> bytes:
    """Content of a regular file.

    Parameters
    ----------
    path
        The file.
    largest
        Most bytes that are read.

    Raises
    ------
    OSError
        If it is absent, no regular file or larger; its ``strerror`` says which.
    """
    size = regular_size(path)
    if size > largest:
        reason = f"{size:,} bytes, at most {largest:,} are read"
        raise OSError(errno.EFBIG, reason, str(path))
    with Path(path).open("rb") as file:
        data = file.read(size)
        if len(data) < size or file.read(1):
            raise OSError(errno.EIO, "its size changed while it was read", str(path))
    return data
