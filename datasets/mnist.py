"""MNIST: IDX files, plain or gzipped."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.download import Archive, fetch
from pmsm_hw.datasets.labelled import Memory, first_folder, read_bytes
from pmsm_hw.errors import DatasetError

__all__ = ["load_mnist", "read_idx"]

_SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
_UINT8 = 8
_LARGEST_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped if its name ends in ``.gz``.

    Layout: two zero bytes, type (8: unsigned byte), number of axes, each axis's length as 32-bit
    big-endian, then the data, last axis fastest.

    Raises
    ------
    DatasetError
        If the file is absent, damaged, of another type, or not as long as its header says. No more
        is unpacked than the header says.
    """
    data = io.BytesIO(read_bytes(path, largest=_LARGEST_BYTES))
    if path.suffix != ".gz":
        return _idx(path, data)
    try:
        with gzip.GzipFile(fileobj=data) as file:
            return _idx(path, file)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(
            f"file '{path}'", f"is not a gzip file ({error})", remedy="get the file again"
        ) from error


def _idx(path: Path, file: io.BytesIO | gzip.GzipFile) -> NDArray[np.uint8]:
    subject = f"file '{path}'"
    begin = file.read(4)
    n_axes = begin[3] if len(begin) == 4 else 0
    sizes = file.read(4 * n_axes)
    if begin[:3] != b"\0\0" + bytes([_UINT8]) or not 1 <= n_axes <= 4 or len(sizes) < 4 * n_axes:
        raise DatasetError(
            subject,
            f"begins with {begin.hex(' ') or 'nothing'}, 00 00 08 and 1 to 4 axes are expected",
            remedy="get the file again",
            actual=begin.hex(),
            limit="000008",
        )
    shape = struct.unpack(f">{n_axes}I", sizes)
    n_expected = math.prod(shape)
    if n_expected > _LARGEST_BYTES:
        raise DatasetError(
            subject,
            f"has shape {shape}, which takes {n_expected:,} bytes, at most {_LARGEST_BYTES:,} are "
            "read",
            remedy="get the file again",
            actual=n_expected,
            limit=_LARGEST_BYTES,
        )
    values = bytearray()
    while len(values) <= n_expected and (
        part := file.read(min(_CHUNK_BYTES, n_expected + 1 - len(values)))
    ):
        values += part
    if len(values) != n_expected:
        less = len(values) < n_expected
        raise DatasetError(
            subject,
            f"has {f'{len(values):,}' if less else 'more'} bytes of values, shape {shape} takes "
            f"{n_expected:,}",
            remedy="get the file again",
            actual=len(values),
            limit=n_expected,
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def load_mnist(root: Path, split: str, download: bool) -> tuple[Memory, NDArray[np.int64]]:
    """Images ``(n, 1, 28, 28)`` and labels of one split."""
    names = _FILES[split]
    folder = first_folder(root, ("mnist", "MNIST/raw"), names[0] + ".gz")
    if not (folder / f"{names[0]}.gz").exists():
        folder = first_folder(root, ("mnist", "MNIST/raw"), names[0])
    arrays = []
    for name in names:
        path = folder / name
        if not path.exists():
            path = folder / f"{name}.gz"
            if download:
                archive = Archive(url=f"{_SOURCE}{path.name}", file_name=path.name, md5=_MD5[name])
                fetch(archive, folder)
        arrays.append(read_idx(path))
    images, labels = arrays
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise DatasetError(
            f"MNIST in '{folder}'",
            f"images have shape {images.shape} and labels {labels.shape}, "
            "(n, 28, 28) and (n,) are expected",
            remedy="get the files again",
            actual=images.shape,
            limit=(28, 28),
        )
    return Memory(images=images[:, None]), labels.astype(np.int64)
