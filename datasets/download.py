"""Fetching archives on request: over HTTPS, checked by MD5, unpacked without leaving the folder."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pmsm_hw.errors import DatasetError, FormatError
from pmsm_hw.files import made_folder, replacing
from pmsm_hw.temporary import temporary_folder

__all__ = ["Archive", "fetch", "unpack"]

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file that a data set's publisher offers.

    Parameters
    ----------
    url
        Where it is.
    file_name
        What to call it.
    md5
        As published: it finds damage, it does not prove origin.
    """

    url: str
    file_name: str
    md5: str


def fetch(archive: Archive, folder: Path) -> Path:
    """Download a file unless a sound copy is there.

    Returns
    -------
    Path
        The file, in ``folder``, with the published checksum.

    Raises
    ------
    DatasetError
        If it cannot be reached or arrives damaged; nothing is left behind then.
    FormatError
        If the folder does not take it.
    """
    path = folder / archive.file_name
    if path.is_file() and _md5(path) == archive.md5:
        return path
    with made_folder(folder), replacing(path, "download") as out:
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in _received(archive, folder):
            out.write(chunk)
            digest.update(chunk)
        found = digest.hexdigest()
        if found != archive.md5:
            raise DatasetError(
                f"download of '{archive.file_name}'",
                f"has MD5 {found}, {archive.md5} is published",
                remedy="try again; if it stays so, get it from its publisher",
                actual=found,
                limit=archive.md5,
            )
    return path


def _received(archive: Archive, folder: Path) -> Iterator[bytes]:
    """What comes over the network; what goes wrong there is no fault of the disk."""
    # 40 ms to import, and hardly ever needed
    from http.client import HTTPException
    from urllib.request import urlopen

    subject = f"download of '{archive.file_name}'"
    if not archive.url.startswith(("https://", "file://")):
        raise DatasetError(
            subject,
            f"{archive.url!r} is not an https address",
            remedy="get the file another way",
            actual=archive.url,
            limit="https",
        )
    try:
        # the addresses are constants of this package
        with urlopen(archive.url, timeout=_TIMEOUT_S) as response:  # noqa: S310
            while chunk := response.read(_CHUNK_BYTES):
                yield chunk
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise DatasetError(
            subject,
            f"{archive.url} cannot be reached ({reason})",
            remedy=f"go online, or put the file into '{folder}' yourself",
            actual=archive.url,
        ) from error


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def unpack(path: Path, folder: Path) -> None:
    """Unpack a .zip or .tar.gz: folders and plain files only, all of them inside ``folder``.

    What it holds appears in ``folder`` once all is there: half a data set would be taken for one.

    Raises
    ------
    DatasetError
        If the archive is damaged, or a member is a link, a device or points elsewhere.
    FormatError
        If the folder does not take it.
    """
    with _writing(folder), made_folder(folder), temporary_folder(".unpacking-", folder) as part:
        _unpack(path, part)
        _merge(part, folder)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Tell faults of the disk that is written to from those of an archive that is read."""
    try:
        yield
    except OSError as error:
        raise FormatError(
            f"folder '{folder}'",
            f"does not take what is unpacked ({error.strerror or error})",
            remedy="free some room, or choose another folder",
            actual=str(error),
            limit="a writable folder with enough room",
        ) from error


def _merge(source: Path, target: Path) -> None:
    """Move what a folder holds into another one; a folder that is not there yet comes whole."""
    for item in sorted(source.iterdir()):
        place = target / item.name
        if item.is_dir() and place.is_dir():
            _merge(item, place)
        else:
            item.replace(place)


def _unpack(path: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    target = _inside(path, folder, member.filename)
                    if not member.is_dir():
                        with archive.open(member) as source:
                            _write(source, target)
            return
        with tarfile.open(path, "r:*") as tar:
            for entry in tar:
                target = _inside(path, folder, entry.name)
                if entry.isdir():
                    continue
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is None:
                    raise DatasetError(
                        f"archive '{path}'",
                        f"member {entry.name!r} is neither a plain file nor a folder",
                        remedy="get the archive from the data set's publisher",
                        actual=entry.name,
                    )
                with content:
                    _write(content, target)
    except (
        zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError,
        NotImplementedError, RuntimeError,
    ) as error:  # fmt: skip
        raise DatasetError(
            f"archive '{path}'",
            f"cannot be unpacked ({error or type(error).__name__})",
            remedy="delete it and get it again",
        ) from error


def _inside(path: Path, folder: Path, name: str) -> Path:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise DatasetError(
            f"archive '{path}'",
            f"member {name!r} points outside the folder it is unpacked into",
            remedy="get the archive from the data set's publisher",
            actual=name,
        )
    return folder / parts


def _write(source: IO[bytes], target: Path) -> None:
    with _writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        out = target.open("wb")
    try:
        while chunk := source.read(_CHUNK_BYTES):
            with _writing(target.parent):
                out.write(chunk)
    finally:
        with _writing(target.parent):
            out.close()
