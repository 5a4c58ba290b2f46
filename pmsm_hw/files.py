"""Where files may be written, and how: whole or not at all, and never over what is no plain file.

Every file this package writes for a user goes through here.

- A plain file appears whole or not at all: it is written under another name in the same folder,
  flushed to disk, and renamed. Of several writers at the same time, the last one's file stands.
- A file that is replaced hands on its permissions, and its owner where the process may give it. It
  is a new file all the same: other hard links to the old one keep the old content.
- A symbolic link stays; what it points to is replaced. One that points to nothing is refused.
- What is no plain file (``/dev/null``, a terminal, a pipe, ``/dev/stdout``) is written through, in
  order, and never replaced. Folders, sockets and disks are refused.

Files are made in memory and written here in plain Python, as the libraries for HDF5 and torch's
archives do not survive a full disk; only traces, which can be long, are written piece by piece.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeAlias

from pmsm_hw.errors import FormatError, InputError

__all__ = [
    "check_folder",
    "check_output",
    "check_outputs",
    "is_standard_output",
    "made_folder",
    "replacing",
]

AnyPath: TypeAlias = "str | os.PathLike[str]"

_MAX_LINKS = 40
_FORBIDDEN = {stat.S_IFDIR: "a folder", stat.S_IFBLK: "a disk", stat.S_IFSOCK: "a socket"}
_DESCRIPTORS = re.compile(r"/proc/(\d+|self|thread-self)(/task/\d+)?/fd|/dev/fd")


@contextmanager
def replacing(path: AnyPath, what: str = "file") -> Iterator[BinaryIO]:
    """Give a file to write bytes into, in order; it stands under ``path`` on success alone.

    Parameters
    ----------
    path
        The file to make or to replace; a device or pipe is written through.
    what
        What errors call it.

    Raises
    ------
    FormatError
        If it cannot be written. A file that was there before is as it was.
    """
    place = _place(path, what)
    try:
        with _beside(place) if place.plain else _through(place) as file:
            yield file
    except OSError as error:
        raise _cannot(what, path, error) from error


def check_output(path: AnyPath, what: str = "file", *, suffixes: tuple[str, ...] = ()) -> None:
    """Refuse now what could not be written later; call this before the work.

    What remains is a disk that fills up, or a folder that changes meanwhile.

    Parameters
    ----------
    path
        The file that will be made or replaced.
    what
        What errors call it: ``option --report``.
    suffixes
        Those allowed, if not all are; what is no plain file needs none.

    Raises
    ------
    InputError
        If the suffix is another one.
    FormatError
        If it cannot be written.
    """
    place = _place(path, what)
    suffix = Path(path).suffix
    if suffixes and suffix.lower() not in suffixes and (place.plain or suffix):
        raise InputError(
            _subject(what, path),
            f"suffix {suffix!r} is unknown",
            remedy=f"use {' or '.join(suffixes)}",
            actual=suffix,
            limit=suffixes,
        )
    if place.plain:
        _probe(place.path.parent, what, path)


def check_outputs(
    outputs: Mapping[str, AnyPath | None],
    *,
    inputs: Iterable[AnyPath | None] = (),
    rewritten: Mapping[str, AnyPath] | None = None,
    suffixes: Mapping[str, tuple[str, ...]] | None = None,
    made: AnyPath | None = None,
) -> None:
    """Check several files before the work that makes them.

    Parameters
    ----------
    outputs
        Files by what errors call them; None is none.
    inputs
        Files that are read meanwhile: none of them may be replaced. Names that are no files do no
        harm.
    rewritten
        An input that an output may replace all the same, by what errors call the output.
    suffixes
        Those allowed, by what errors call the file.
    made
        A folder that the work makes, if it is absent: files may lie in it.

    Raises
    ------
    InputError
        If a suffix is another one.
    FormatError
        If one cannot be written, two are the same file, or one is an input.
    """
    read = set()
    for given in inputs:
        with suppress(OSError, ValueError):  # no file has such a name
            read.update([] if given is None else [os.path.realpath(given)])
    coming = None
    if made is not None:
        check_folder(made)
        coming = None if _exists(Path(made)) else _real(made, "folder")
    taken: dict[str, str] = {}
    for what, path in outputs.items():
        if path is None:
            continue
        target = _real(path, what)
        if coming is None or os.path.dirname(target) != coming:
            check_output(path, what, suffixes=(suffixes or {}).get(what, ()))
            if not _place(path, what).plain:
                continue
        may = (rewritten or {}).get(what)
        if target in read and _exists(Path(target)) and target != os.path.realpath(may or ""):
            _refuse(what, path, "it is read as well, and would be lost", "choose another name")
        if target in taken:
            _refuse(what, path, f"it is the file of {taken[target]} too", "choose another name")
        taken[target] = what


def check_folder(path: AnyPath, what: str = "folder") -> None:
    """Refuse now a folder that could not be made or written into later.

    Parameters
    ----------
    path
        The folder; it and its parents may be absent.
    what
        What errors call it.

    Raises
    ------
    FormatError
        If it, or what stands in its place, is no folder that may be written.
    """
    folder = Path(_real(path, what))
    try:
        while not _exists(folder):
            folder = folder.parent
    except OSError as error:
        raise _cannot(what, path, error) from error
    if not folder.is_dir():
        _refuse(what, path, f"'{folder}' is not a folder", "choose another place")
    _probe(folder, what, path)


@contextmanager
def made_folder(path: AnyPath) -> Iterator[Path]:
    """Make a folder and its parents; where what follows fails, remove those that are new and empty.

    Parameters
    ----------
    path
        The folder; it may be there.

    Raises
    ------
    FormatError
        If it cannot be made.
    """
    folder = Path(_real(path, "folder"))
    new = []
    try:
        while not _exists(folder):
            new.append(folder)
            folder = folder.parent
        for part in reversed(new):
            part.mkdir(exist_ok=True)
    except OSError as error:
        _remove_empty(new)
        raise _cannot("folder", path, error) from error
    try:
        yield Path(path)
    except BaseException:
        _remove_empty(new)
        raise


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # absent, not empty, or somebody else's by now
            folder.rmdir()


def is_standard_output(path: AnyPath) -> bool:
    """Tell whether a path, as ``/dev/stdout``, names the standard output of this process."""
    return _descriptor(Path(path)) == 1


# -- where ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a path leads.

    Parameters
    ----------
    path
        Without symbolic links.
    found
        What is there, None if nothing.
    descriptor
        The open file of this process that the path names, as ``/dev/stdout`` does.
    """

    path: Path
    found: os.stat_result | None
    descriptor: int | None = None

    @property
    def plain(self) -> bool:
        """Whether a plain file is or will be there, to be replaced as a whole."""
        if self.descriptor is not None:
            return False
        return self.found is None or stat.S_ISREG(self.found.st_mode)


def _path(path: AnyPath, what: str) -> Path:
    if isinstance(path, str | os.PathLike):
        return Path(path)
    raise FormatError(
        what,
        f"{path!r:.60} is not a path",
        remedy="give a str or a pathlib.Path",
        actual=type(path).__name__,
        limit="a path",
    )


def _real(path: AnyPath, what: str) -> str:
    """The path without links; a zero byte is in none."""
    try:
        return os.path.realpath(_path(path, what))
    except (OSError, ValueError) as error:
        raise _cannot(what, path, error) from error


def _place(path: AnyPath, what: str) -> _Place:
    """Follow links, and refuse where nothing can be written."""
    given = _path(path, what)
    try:
        descriptor = _descriptor(given)
        if descriptor is not None:
            return _Place(path=given, found=os.fstat(descriptor), descriptor=descriptor)
        target = Path(_real(given, what))
        found = os.stat(target) if _exists(target) else None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise _cannot(what, path, error) from error
    if found is None:
        if given.is_symlink():
            problem = f"it is a link to '{target}', which does not exist"
            _refuse(what, path, problem, "remove the link, or make what it points to")
        if not target.parent.is_dir():
            problem = f"folder '{target.parent}' does not exist"
            _refuse(what, path, problem, "make it first, or choose another place")
    elif _FORBIDDEN.get(stat.S_IFMT(found.st_mode)) is not None:
        problem = f"it is {_FORBIDDEN[stat.S_IFMT(found.st_mode)]}"
        _refuse(what, path, problem, "give the name of a file")
    elif _is_mounted(target):
        problem = "it is mounted by itself, and cannot be replaced"
        _refuse(what, path, problem, "choose another place, and copy it there afterwards")
    elif not os.access(target, os.W_OK):
        problem = "it is write-protected or on a read-only disk"
        _refuse(what, path, problem, "choose another place")
    return _Place(path=target, found=found)


def _exists(path: Path) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _is_mounted(target: Path) -> bool:
    """Tell whether a file, not its folder, was mounted, as containers do; Linux alone tells."""
    with suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
        name = os.fsencode(target)
        for byte in (b"\\", b" ", b"\t", b"\n"):  # written in octal there
            name = name.replace(byte, b"\\%03o" % byte[0])
        return any(line.split(b" ", 5)[4] == name for line in mounts)
    return False


def _descriptor(path: Path) -> int | None:
    """Number of the open file of this process that a path names, through links or not."""
    for _ in range(_MAX_LINKS):
        parent = os.path.realpath(path.parent)
        match = _DESCRIPTORS.fullmatch(parent)
        if match and path.name.isdecimal():
            own = match[1] in (None, "self", "thread-self", str(os.getpid()))
            return int(path.name) if own else None
        if not path.is_symlink():
            return None
        path = Path(parent, os.readlink(path))
    return None


# -- how -----------------------------------------------------------------------------------


def _temporary(folder: Path) -> Path:
    # short, and free of the target's name, which may be as long as the file system allows
    return folder / f".pmsm_hw.{secrets.token_hex(8)}.tmp"


@contextmanager
def _beside(place: _Place) -> Iterator[BinaryIO]:
    """Write another file, and rename it."""
    temporary = _temporary(place.path.parent)
    try:
        with temporary.open("xb") as file:
            if place.found is not None:
                _keep_access(file.fileno(), place.found)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place.path)
    finally:
        with suppress(OSError):  # a read-only disk; what went wrong is on its way already
            temporary.unlink(missing_ok=True)
    with suppress(OSError):  # some file systems cannot, and the file is there
        _sync_folder(place.path.parent)


@contextmanager
def _through(place: _Place) -> Iterator[BinaryIO]:
    """Write to what is there."""
    if place.descriptor is None:
        handle = os.open(place.path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))
    else:
        for stream in (sys.stdout, sys.stderr):  # what was printed before comes before
            if stream is not None:
                stream.flush()
        handle = os.dup(place.descriptor)
    with open(handle, "wb") as file:
        yield file


def _keep_access(handle: int, found: os.stat_result) -> None:
    """Give a new file the owner and the permissions of the one that it replaces."""
    if os.name == "nt":
        return
    with suppress(OSError):  # only some processes may give files away
        os.fchown(handle, found.st_uid, found.st_gid)
    os.fchmod(handle, stat.S_IMODE(found.st_mode) & 0o777)


def _probe(folder: Path, what: str, path: AnyPath) -> None:
    """Make an empty file and remove it: nothing else tells so surely that files can be made."""
    probe = _temporary(folder)
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as error:
        raise _cannot(what, path, error) from error


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- errors --------------------------------------------------------------------------------


def _subject(what: str, path: AnyPath) -> str:
    return f"{what} '{os.fspath(path)}'"


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200]


def _cannot(what: str, path: AnyPath, error: OSError | ValueError) -> FormatError:
    return FormatError(
        _subject(what, path),
        f"cannot be written ({_reason(error)})",
        remedy="choose a writable place with enough room",
        actual=str(error),
        limit="a writable file",
    )


def _refuse(what: str, path: AnyPath, problem: str, remedy: str) -> NoReturn:
    raise FormatError(
        _subject(what, path),
        f"cannot be written, {problem}",
        remedy=remedy,
        actual=problem,
        limit="a writable file",
    )
