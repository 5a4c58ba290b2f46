"""Fetching archives on request: over HTTPS, checked by MD5, unpacked without leaving the folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pmsm_hw.errors import DatasetError

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
    """
    # 40 ms to import, and hardly ever needed
    from http.client import HTTPException
    from urllib.request import urlopen

    path = folder / archive.file_name
    if path.is_file() and _md5(path) == archive.md5:
        return path
    part = path.with_name(path.name + ".part")
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
        folder.mkdir(parents=True, exist_ok=True)
        # the addresses are constants of this package
        with urlopen(archive.url, timeout=_TIMEOUT_S) as response, part.open("wb") as out:  # noqa: S310
            shutil.copyfileobj(response, out, _CHUNK_BYTES)
        found = _md5(part)
        if found != archive.md5:
            raise DatasetError(
                subject,
                f"has MD5 {found}, {archive.md5} is published",
                remedy="try again; if it stays so, get it from its publisher",
                actual=found,
                limit=archive.md5,
            )
        os.replace(part, path)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise DatasetError(
            subject,
            f"{archive.url} cannot be reached ({reason})",
            remedy=f"go online, or put the file into '{folder}' yourself",
            actual=archive.url,
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def unpack(path: Path, folder: Path) -> None:
    """Unpack a .zip or .tar.gz: folders and plain files only, all of them inside ``folder``.

    Raises
    ------
    DatasetError
        If the archive is damaged, or a member is a link, a device or points elsewhere.
    """
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
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as out:
        shutil.copyfileobj(source, out, _CHUNK_BYTES)
    os.replace(part, target)
