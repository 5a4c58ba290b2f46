"""Arrays from files ``.npy`` and ``.npz``, checked before they are read.

Header, size and compression of every array are known, and bounded, before its values are: a file of
few bytes cannot fill the memory, arrays that are not wanted are not unpacked, and of the others
only the wanted samples are kept. Nothing is unpickled.
"""

from __future__ import annotations

import ast
import math
import os
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.arguments import LARGEST_BYTES
from pmsm_hw.errors import DatasetError
from pmsm_hw.reading import regular_size

__all__ = ["npz_names", "read_npy", "read_npz"]

_MAGIC = b"\x93NUMPY"
_LARGEST_HEADER = 10_000  # as numpy has it: Python's parser takes memory for what is nested
_CHUNK_BYTES = 1 << 20
_STORED, _DEFLATED = 0, 8  # numpy.savez and numpy.savez_compressed
_ENCRYPTED = 1
_WANTED = "give numbers that numpy.save or numpy.savez wrote, without objects"


@dataclass(frozen=True, kw_only=True)
class _Header:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: str | os.PathLike[str], limit: int | None = None) -> NDArray[Any]:
    """Read a ``.npy`` file of real numbers.

    Parameters
    ----------
    path
        The file.
    limit
        Keep the first entries of the first axis only; the rest takes no memory.

    Returns
    -------
    ndarray
        Of the file's dtype, in native byte order and C order.

    Raises
    ------
    DatasetError
        If the file is absent, no regular file, damaged, not as long as its header says, too large,
        or holds anything but real numbers.
    """
    path = Path(path)
    subject = f"data file '{path}'"
    with _reading(subject):
        size = regular_size(path)
        with path.open("rb") as file:
            return _array(subject, file, size, limit)[0]


def read_npz(path: str | os.PathLike[str], limit: int | None = None) -> dict[str, NDArray[Any]]:
    """Read a ``.npz`` file of arrays that have one entry for each sample.

    Parameters
    ----------
    path
        The file.
    limit
        Keep the first samples only; the rest takes no memory.

    Returns
    -------
    dict
        By name, in the file's order.

    Raises
    ------
    DatasetError
        As for `read_npy`, or if it holds anything but arrays, two of one name, or arrays of
        different numbers of samples.
    """
    path = Path(path)
    subject = f"data file '{path}'"
    arrays: dict[str, NDArray[Any]] = {}
    n_samples: int | None = None
    with _reading(subject):
        regular_size(path)
        with zipfile.ZipFile(path) as archive:
            members = _members(subject, archive)
            for name, member in members.items():
                of = f"{subject}, array '{_printable(name)}'"
                with archive.open(member) as file:
                    arrays[name], shape = _array(of, file, member.file_size, limit)
                n = shape[0] if shape else 0
                n_samples = n if n_samples is None else n_samples
                if n != n_samples:
                    raise DatasetError(
                        of,
                        f"has {n:,} samples, '{_printable(next(iter(arrays)))}' has {n_samples:,}",
                        remedy="make the first axes agree",
                        actual=n,
                        limit=n_samples,
                    )
    return arrays


def npz_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names of the arrays of a ``.npz`` file; nothing is unpacked."""
    subject = f"data file '{path}'"
    with _reading(subject):
        regular_size(path)
        with zipfile.ZipFile(path) as archive:
            return tuple(_members(subject, archive))


def _members(subject: str, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name in members:
            what = "two arrays of the name" if name in members else "something else than arrays:"
            raise _refusal(subject, f"holds {what} '{_printable(name)}'", name)
        if member.compress_type not in (_STORED, _DEFLATED) or member.flag_bits & _ENCRYPTED:
            raise _refusal(
                subject,
                f"holds the array '{_printable(name)}' encrypted, or compressed in a way that "
                "numpy does not write",
                member.compress_type,
                (_STORED, _DEFLATED),
            )
        members[name] = member
    return members


@contextmanager
def _reading(subject: str) -> Iterator[None]:
    """Make one error of all that damaged files lead to."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise _refusal(subject, f"cannot be read ({reason})", type(error).__name__) from error
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
        struct.error, OverflowError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise _refusal(subject, f"is damaged ({reason})", type(error).__name__) from error
    except MemoryError as error:
        raise DatasetError(
            subject,
            "does not fit into memory",
            remedy="take fewer samples, as with limit=100",
            actual="MemoryError",
        ) from error


def _array(
    subject: str, file: IO[bytes], size: int, limit: int | None
) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Return the wanted samples, and the shape of all."""
    header, start = _header(subject, file)
    if start + header.n_bytes != size:
        raise _refusal(
            subject,
            f"has {size - start:,} bytes of values, its header says shape {header.shape} of "
            f"{header.dtype}, which take {header.n_bytes:,}",
            size - start,
            header.n_bytes,
        )
    shape, item = header.shape, header.dtype.itemsize
    kept = shape
    if limit is not None and shape:
        kept = (min(limit, shape[0]), *shape[1:])
    n_kept = math.prod(kept) * item
    if n_kept > LARGEST_BYTES:
        raise DatasetError(
            subject,
            f"has values of {n_kept:,} bytes, at most {LARGEST_BYTES:,} are read at once",
            remedy="take fewer samples, as with limit=100",
            actual=n_kept,
            limit=LARGEST_BYTES,
        )
    # the first axis runs slowest, or fastest in Fortran's order: then every run of it is cut
    n_runs = math.prod(shape[1:]) if header.fortran_order and n_kept else 1
    if kept == shape:
        n_runs = 1
    values = np.empty(n_kept, np.uint8)
    run_bytes, kept_bytes = header.n_bytes // n_runs, n_kept // n_runs
    for run in range(n_runs):
        _fill(file, values.data[run * kept_bytes : (run + 1) * kept_bytes])
        _skip(file, run_bytes - kept_bytes)
    if file.read(1):
        raise EOFError("more than its size says")
    flat: NDArray[Any] = values.view(header.dtype)
    array = flat.reshape(kept[::-1]).T if header.fortran_order else flat.reshape(kept)
    return np.ascontiguousarray(array, header.dtype.newbyteorder("=")).reshape(kept), shape


def _fill(file: IO[bytes], into: memoryview) -> None:
    done = 0
    while done < len(into):
        part = file.read(min(_CHUNK_BYTES, len(into) - done))
        if not part:
            raise EOFError("it ends early")
        into[done : done + len(part)] = part
        done += len(part)


def _skip(file: IO[bytes], n_bytes: int) -> None:
    # read, not sought: an archive's checksum is that of all of it
    while n_bytes:
        part = file.read(min(_CHUNK_BYTES, n_bytes))
        if not part:
            raise EOFError("it ends early")
        n_bytes -= len(part)


def _header(subject: str, file: IO[bytes]) -> tuple[_Header, int]:
    """Read the header, and tell where the values begin (the format is numpy's NEP 1)."""
    begin = file.read(8)
    if len(begin) < 8 or begin[:6] != _MAGIC or begin[6] not in (1, 2, 3):
        raise _refusal(
            subject,
            f"begins with {begin.hex(' ') or 'nothing'}, which numpy.save does not write",
            begin.hex(),
            _MAGIC.hex(),
        )
    length = struct.Struct("<H" if begin[6] == 1 else "<I")
    (n_bytes,) = length.unpack(file.read(length.size))
    if n_bytes > _LARGEST_HEADER:
        raise _refusal(
            subject,
            f"has a header of {n_bytes:,} bytes, the limit is {_LARGEST_HEADER:,}",
            n_bytes,
            _LARGEST_HEADER,
        )
    text = file.read(n_bytes)
    try:
        if len(text) < n_bytes:
            raise ValueError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's parser on what looks like escapes
            found = ast.literal_eval(text.decode("latin1" if begin[6] < 3 else "utf-8").strip())
        descr, fortran, shape = (found[key] for key in ("descr", "fortran_order", "shape"))
        plain = len(found) == 3 and isinstance(fortran, bool) and isinstance(shape, tuple)
        if not plain or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise _refusal(subject, "has a header that is damaged", str(text[:80])) from error
    dtype = _number(descr)
    if dtype is None:
        shown = _printable(str(descr))[:80]
        problem = f"holds values of type '{shown}', real numbers are needed"
        raise _refusal(subject, problem, descr, "biuf")
    if len(shape) > 32 or math.prod(n for n in shape if n) > (1 << 62) // dtype.itemsize:
        raise _refusal(subject, f"has a header that is damaged (shape {shape})"[:200], shape)
    header = _Header(dtype=dtype, shape=shape, fortran_order=fortran)
    return header, 8 + length.size + n_bytes


def _number(descr: Any) -> np.dtype[Any] | None:
    if not isinstance(descr, str) or re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248])", descr) is None:
        return None
    return np.dtype(descr)


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode() if not text.isprintable() else text


def _refusal(subject: str, problem: str, actual: object, limit: object = None) -> DatasetError:
    return DatasetError(
        subject, " ".join(problem.split()), remedy=_WANTED, actual=actual, limit=limit
    )
