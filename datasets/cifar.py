"""CIFAR-10 and CIFAR-100 in their binary versions.

The python versions are pickles, which run code when they are read; they are not read here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.download import Archive, fetch, unpack
from pmsm_hw.datasets.labelled import Memory, first_folder, read_bytes
from pmsm_hw.errors import DatasetError

__all__ = ["CIFAR10_CLASSES", "load_cifar10", "load_cifar100", "read_cifar"]

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

_SOURCE = "https://www.cs.toronto.edu/~kriz/"
_CIFAR10 = Archive(
    url=f"{_SOURCE}cifar-10-binary.tar.gz",
    file_name="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
)
_CIFAR100 = Archive(
    url=f"{_SOURCE}cifar-100-binary.tar.gz",
    file_name="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
)
_IMAGE_BYTES = 3 * 32 * 32
_COARSE_CLASSES = 20


def read_cifar(
    path: Path, n_labels: int, n_classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read one file of the binary version.

    Each record is ``n_labels`` bytes (CIFAR-10: the class; CIFAR-100: the coarse, then the fine
    class) and 3,072 bytes: the red, green and blue plane of a 32x32 image, row by row.

    Parameters
    ----------
    path
        A ``.bin`` file.
    n_labels
        1 or 2; the last label is returned.
    n_classes
        Labels must be below it.

    Returns
    -------
    tuple
        ``(n, 3, 32, 32)`` uint8 and ``(n,)`` int64.

    Raises
    ------
    DatasetError
        If the file is absent, not a whole number of records, or has a label that is too large.
    """
    data = read_bytes(path, largest=1 << 30)
    record = n_labels + _IMAGE_BYTES
    if not data or len(data) % record:
        raise DatasetError(
            f"file '{path}'",
            f"has {len(data):,} bytes, a positive multiple of {record:,} is expected",
            remedy="get the binary version again",
            actual=len(data),
            limit=record,
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    labels = rows[:, n_labels - 1].astype(np.int64)
    if n_labels > 1 and rows[:, 0].max() >= _COARSE_CLASSES:
        raise DatasetError(
            f"file '{path}'",
            f"has coarse label {rows[:, 0].max()}, the largest is {_COARSE_CLASSES - 1}",
            remedy="get the binary version again",
            actual=int(rows[:, 0].max()),
            limit=_COARSE_CLASSES - 1,
        )
    if labels.max() >= n_classes:
        raise DatasetError(
            f"file '{path}'",
            f"has label {labels.max()}, the largest is {n_classes - 1}",
            remedy="get the binary version again",
            actual=int(labels.max()),
            limit=n_classes - 1,
        )
    return rows[:, n_labels:].reshape(-1, 3, 32, 32), labels


def load_cifar10(root: Path, split: str, download: bool) -> tuple[Memory, NDArray[np.int64]]:
    """Images and labels of one split: five training files, or one test file."""
    files = (
        tuple(f"data_batch_{i}.bin" for i in range(1, 6))
        if split == "train"
        else ("test_batch.bin",)
    )
    folder = _folder(root, "cifar-10-batches-bin", "cifar-10-batches-py", files, _CIFAR10, download)
    parts = [read_cifar(folder / name, 1, 10) for name in files]
    return Memory(images=np.concatenate([p[0] for p in parts])), np.concatenate(
        [p[1] for p in parts]
    )


def load_cifar100(
    root: Path, split: str, download: bool
) -> tuple[Memory, NDArray[np.int64], tuple[str, ...]]:
    """Images, fine labels, and the names of the 100 fine classes."""
    files = (f"{split}.bin",)
    folder = _folder(root, "cifar-100-binary", "cifar-100-python", files, _CIFAR100, download)
    images, labels = read_cifar(folder / files[0], 2, 100)
    names = read_bytes(folder / "fine_label_names.txt", largest=1 << 16).decode("ascii", "replace")
    classes = tuple(names.split())
    if len(classes) != 100:
        raise DatasetError(
            f"file '{folder / 'fine_label_names.txt'}'",
            f"names {len(classes)} classes, 100 are expected",
            remedy="get the binary version again",
            actual=len(classes),
            limit=100,
        )
    return Memory(images=images), labels, classes


def _folder(
    root: Path, name: str, pickled: str, files: tuple[str, ...], archive: Archive, download: bool
) -> Path:
    folder = first_folder(root, (name,), files[0])
    if (folder / files[0]).exists():
        return folder
    if download:
        unpack(fetch(archive, root), root)
        return root / name
    if (root / pickled).exists():
        raise DatasetError(
            f"folder '{root}'",
            f"holds the pickled version '{pickled}', which runs code when it is read; "
            f"the binary version '{name}' is needed",
            remedy=f"get {archive.file_name} from the same page, or pass download=True",
            actual=pickled,
            limit=name,
        )
    return folder
