"""Event data sets: where their recordings lie, which split they belong to, and frames of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.aedat import DVS128_SIZE, by_time, read_aedat2, read_aedat3
from pmsm_hw.datasets.arguments import whole
from pmsm_hw.datasets.array_files import read_npy
from pmsm_hw.datasets.cifar import CIFAR10_CLASSES
from pmsm_hw.datasets.download import Archive, fetch, unpack
from pmsm_hw.datasets.events import EVENT_DTYPE, to_frames
from pmsm_hw.datasets.labelled import Floats, first_folder, read_bytes
from pmsm_hw.datasets.nmnist import NMNIST_SIZE, read_nmnist
from pmsm_hw.errors import DatasetError, InputError

__all__ = [
    "GESTURES",
    "NCALTECH101_SIZE",
    "Recordings",
    "load_cifar10dvs",
    "load_dvsgesture",
    "load_ncaltech101",
    "load_nmnist",
]

Events: TypeAlias = NDArray[np.void]
Labelled: TypeAlias = tuple["Recordings", NDArray[np.int64], tuple[str, ...]]

NCALTECH101_SIZE = (240, 180, 2)
"""Sensor size of N-Caltech101: images were shown at up to 240x180 pixels."""

GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise",
    "right arm counter clockwise", "left arm clockwise", "left arm counter clockwise", "arm roll",
    "air drums", "air guitar", "other gestures",
)  # fmt: skip

_MENDELEY = "https://data.mendeley.com/public-files/datasets"
_NMNIST = {
    "train": Archive(
        url=f"{_MENDELEY}/468j46mzdv/files/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",
        file_name="train.zip",
        md5="20959b8e626244a1b502305a9e6e2031",
    ),
    "test": Archive(
        url=f"{_MENDELEY}/468j46mzdv/files/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",
        file_name="test.zip",
        md5="69ca8762b2fe404d9b9bad1103e97832",
    ),
}
_NCALTECH101 = Archive(
    url=f"{_MENDELEY}/cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded",
    file_name="N-Caltech101-archive.zip",
    md5="66201824eabb0239c7ab992480b50ba3",
)
_GESTURE = {
    "train": Archive(
        url="https://figshare.com/ndownloader/files/38022171",
        file_name="ibmGestureTrain.tar.gz",
        md5="3a8f0d4120a166bac7591f77409cb105",
    ),
    "test": Archive(
        url="https://figshare.com/ndownloader/files/38020584",
        file_name="ibmGestureTest.tar.gz",
        md5="56070e45dadaa85fff82e0fbfbc06de5",
    ),
}
_CIFAR10DVS = {
    "airplane": ("7712788", "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": ("7712791", "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": ("7712794", "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": ("7712812", "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": ("7712815", "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": ("7712818", "f379ebdf6703d16e0a690782e62639c3"),
    "frog": ("7712842", "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": ("7712851", "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": ("7712836", "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": ("7712839", "89f3922fd147d9aeff89e76a2b0b70a7"),
}
_LATEST_US = 1 << 53
_N_TEST_CIFAR10DVS = 100
_TEST_SHARE_NCALTECH101 = 10


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A recording, or the part of one with ``start_us <= t < end_us``."""

    path: Path
    start_us: int | None = None
    end_us: int | None = None


class Recordings:
    """Source of frames ``(n_steps, 2, height, width)``, event counts as float32.

    Parameters
    ----------
    pieces
        One per sample.
    read
        Reads the events of a file.
    sensor_size
        ``(width, height, 2)``.
    n_steps
        Frames of a sample.
    window_us
        Length of a frame, from the first event on; by default the sample is cut into equal parts.
    bin_pixels
        Count events of squares of so many pixels a side.
    """

    def __init__(
        self,
        pieces: tuple[Piece, ...],
        read: Callable[[Path], Events],
        sensor_size: tuple[int, int, int],
        *,
        n_steps: int,
        window_us: int | None,
        bin_pixels: int,
    ) -> None:
        width, height, _ = sensor_size
        bin_pixels = whole("event set", "bin_pixels", bin_pixels)
        if width % bin_pixels or height % bin_pixels:
            raise InputError(
                "bin_pixels",
                f"{bin_pixels} does not divide the sensor of {width}x{height} pixels",
                remedy="choose a divisor of both sides",
                actual=bin_pixels,
                limit=(width, height),
            )
        self.pieces, self.read, self.sensor_size = pieces, read, sensor_size
        self.n_steps, self.window_us, self.bin_pixels = n_steps, window_us, bin_pixels
        self._last: tuple[Path, Events] | None = None

    def events(self, index: int) -> Events:
        """Events of one sample, `EVENT_DTYPE`."""
        piece = self.pieces[index]
        if self._last is None or self._last[0] != piece.path:
            # several samples of DVS128 Gesture lie in one long file
            self._last = (piece.path, self.read(piece.path))
        events = self._last[1]
        if piece.start_us is not None and piece.end_us is not None:
            first, last = np.searchsorted(events["t"], [piece.start_us, piece.end_us])
            events = events[first:last]
        if not len(events):
            part = "" if piece.start_us is None else f" from {piece.start_us} to {piece.end_us} us"
            raise DatasetError(
                f"recording '{piece.path}'",
                f"has 0 events{part}, at least 1 is expected",
                remedy="get the file again",
                actual=0,
                limit=1,
            )
        return events

    def __call__(self, index: int, rng: np.random.Generator) -> Floats:
        """Frames of one sample."""
        events = self.events(index)
        width, height, n_polarities = self.sensor_size
        b = self.bin_pixels
        if b > 1:
            events = events.copy()
            events["x"] //= b
            events["y"] //= b
        try:
            return to_frames(
                events, self.n_steps, (width // b, height // b, n_polarities),
                window_us=self.window_us,
            )  # fmt: skip
        except InputError as error:
            raise DatasetError(
                f"recording '{self.pieces[index].path}'",
                error.problem,
                remedy=error.remedy,
                actual=error.actual,
                limit=error.limit,
            ) from error


def _recordings(
    pieces: list[Piece],
    labels: list[int],
    classes: tuple[str, ...],
    read: Callable[[Path], Events],
    sensor_size: tuple[int, int, int],
    binning: dict[str, int | None],
    folder: Path,
) -> Labelled:
    if not pieces:
        raise DatasetError(
            f"folder '{folder}'",
            "holds 0 recordings of the data set, at least 1 is needed",
            remedy="give the folder that holds the data set, or download=True",
            actual=0,
            limit=1,
        )
    source = Recordings(
        tuple(pieces),
        read,
        sensor_size,
        n_steps=int(binning["n_steps"] or 1),
        window_us=binning["window_us"],
        bin_pixels=int(binning["bin_pixels"] or 1),
    )
    return source, np.asarray(labels, np.int64), classes


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def _read_nmnist(path: Path) -> Events:
    return read_nmnist(path, sensor_size=NMNIST_SIZE)


def _read_ncaltech101(path: Path) -> Events:
    return read_nmnist(path, sensor_size=NCALTECH101_SIZE)


def load_nmnist(root: Path, split: str, download: bool, **binning: int | None) -> Labelled:
    """N-MNIST: ``Train/DIGIT/NUMBER.bin`` and ``Test/DIGIT/NUMBER.bin``; its own split."""
    name = split.capitalize()
    folder = first_folder(root, ("NMNIST", "N-MNIST"), name)
    if not (folder / name).is_dir() and download:
        folder.mkdir(parents=True, exist_ok=True)
        unpack(fetch(_NMNIST[split], folder), folder)
    pieces: list[Piece] = []
    labels: list[int] = []
    for digit in range(10):
        for path in sorted((folder / name / str(digit)).glob("*.bin")):
            pieces.append(Piece(path=path))
            labels.append(digit)
    classes = tuple(str(d) for d in range(10))
    return _recordings(pieces, labels, classes, _read_nmnist, NMNIST_SIZE, binning, folder / name)


def load_ncaltech101(root: Path, split: str, download: bool, **binning: int | None) -> Labelled:
    """N-Caltech101: ``Caltech101/CLASS/image_NUMBER.bin``.

    It has no official split: every tenth recording of a class, from the first on, is for testing.
    """
    folder = first_folder(root, ("Caltech101", "NCALTECH101/Caltech101"), "accordion")
    if not folder.is_dir() and download:
        unpack(fetch(_NCALTECH101, root), root)
        inner = sorted(root.rglob("Caltech101.zip"))
        if inner:
            unpack(inner[0], root)
    classes = tuple(p.name for p in _subfolders(folder))
    pieces: list[Piece] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        for i, path in enumerate(sorted((folder / name).glob("*.bin"))):
            if (i % _TEST_SHARE_NCALTECH101 == 0) == (split == "test"):
                pieces.append(Piece(path=path))
                labels.append(label)
    return _recordings(
        pieces, labels, classes, _read_ncaltech101, NCALTECH101_SIZE, binning, folder
    )


def load_cifar10dvs(root: Path, split: str, download: bool, **binning: int | None) -> Labelled:
    """CIFAR10-DVS: ``CLASS/cifar10_CLASS_NUMBER.aedat``, AEDAT 2.0.

    It has no official split: of each class the recordings 0 to 99 are for testing, 100 to 999 for
    training, as Duan et al. 2022 (TEBN) and many after them have it. Accuracy with a random split
    is lower.
    """
    folder = first_folder(root, ("CIFAR10DVS", "cifar10-dvs"), CIFAR10_CLASSES[0])
    for name, (number, md5) in _CIFAR10DVS.items():
        if download and not (folder / name).is_dir():  # each comes by itself
            url = f"https://ndownloader.figshare.com/files/{number}"
            unpack(fetch(Archive(url=url, file_name=f"{name}.zip", md5=md5), folder), folder)
    pieces: list[Piece] = []
    labels: list[int] = []
    for label, name in enumerate(CIFAR10_CLASSES):
        numbered = []
        for path in (folder / name).glob("*.aedat"):
            match = re.fullmatch(rf"cifar10_{name}_(\d+)", path.stem)
            if match is None:
                raise DatasetError(
                    f"recording '{path}'",
                    f"is not named cifar10_{name}_NUMBER.aedat, which tells its split",
                    remedy="give it its published name",
                    actual=path.name,
                )
            numbered.append((int(match[1]), path))
        for nth, path in sorted(numbered):
            if (nth < _N_TEST_CIFAR10DVS) == (split == "test"):
                pieces.append(Piece(path=path))
                labels.append(label)
    return _recordings(pieces, labels, CIFAR10_CLASSES, read_aedat2, DVS128_SIZE, binning, folder)


def load_dvsgesture(root: Path, split: str, download: bool, **binning: int | None) -> Labelled:
    """DVS128 Gesture, as published or as tonic publishes it; its own split of 23 and 6 users.

    As published: ``DvsGesture/userNN_LIGHT.aedat`` (AEDAT 3.1), beside each
    ``userNN_LIGHT_labels.csv`` (class from 1, start and end in us), and the lists
    ``trials_to_train.txt`` and ``trials_to_test.txt``. As tonic has it (which is what can be
    downloaded): ``ibmGestureTrain/userNN_LIGHT/CLASS.npy``, rows of x, y, polarity and
    milliseconds.
    """
    published = first_folder(root, ("DvsGesture", "DVSGesture"), "trials_to_train.txt")
    if (published / "trials_to_train.txt").exists():
        pieces, labels = _gesture_trials(published, split)
        return _recordings(pieces, labels, GESTURES, read_aedat3, DVS128_SIZE, binning, published)
    name = f"ibmGesture{split.capitalize()}"
    folder = first_folder(root, ("DVSGesture", "DvsGesture"), name)
    if not (folder / name).is_dir() and download:
        unpack(fetch(_GESTURE[split], folder), folder)
    pieces, labels = [], []
    for user in _subfolders(folder / name):
        for path in sorted(user.glob("*.npy")):
            pieces.append(Piece(path=path))
            labels.append(int(path.stem) if re.fullmatch("[0-9]{1,4}", path.stem) else -1)
    return _recordings(
        pieces, labels, GESTURES, _read_gesture_npy, DVS128_SIZE, binning, folder / name
    )


def _gesture_trials(folder: Path, split: str) -> tuple[list[Piece], list[int]]:
    pieces: list[Piece] = []
    labels: list[int] = []
    names = read_bytes(folder / f"trials_to_{split}.txt", largest=1 << 20).decode(
        "utf-8", "replace"
    )
    for name in names.split():
        path = folder / name
        table = folder / f"{path.stem}_labels.csv"
        text = read_bytes(table, largest=1 << 20).decode("utf-8", "replace")
        for row in _rows(table, text):
            try:
                label, start, end = (
                    int(row[key]) for key in ("class", "startTime_usec", "endTime_usec")
                )
            except (KeyError, TypeError, ValueError) as error:
                raise DatasetError(
                    f"labels '{table}'",
                    f"has the row {dict(row)}, class, startTime_usec and endTime_usec are expected",
                    remedy="get the file again",
                    actual=tuple(row),
                ) from error
            if not (1 <= label <= len(GESTURES) and 0 <= start < end <= _LATEST_US):
                raise DatasetError(
                    f"labels '{table}'",
                    f"has class {label} from {start} to {end} us, classes are 1 to 11",
                    remedy="get the file again",
                    actual=label,
                    limit=(1, len(GESTURES)),
                )
            pieces.append(Piece(path=path, start_us=start, end_us=end))
            labels.append(label - 1)
    return pieces, labels


def _rows(table: Path, text: str) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise DatasetError(
            f"labels '{table}'",
            f"is not a table with commas ({error})",
            remedy="get the file again",
            actual=str(error),
        ) from error


def _read_gesture_npy(path: Path) -> Events:
    rows = read_npy(path)
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind == "b":
        raise DatasetError(
            f"recording '{path}'",
            f"has shape {rows.shape} and type {rows.dtype}, (n_events, 4) numbers are expected",
            remedy="get the file again",
            actual=rows.shape,
            limit=4,
        )
    events = np.empty(len(rows), EVENT_DTYPE)
    for i, (name, largest) in enumerate(
        (("x", 127), ("y", 127), ("p", 1), ("t", _LATEST_US // 1000))
    ):
        column = rows[:, i]
        sound = (column >= 0) & (column <= largest)  # False for NaN
        if name != "t":
            sound &= column == np.floor(column)
        if not sound.all():
            worst = column[int(sound.argmin())]
            raise DatasetError(
                f"recording '{path}'",
                f"has an event of {name} = {worst}, limits: 0 and {largest}"
                + (", whole numbers" if name != "t" else " ms"),
                remedy="get the file again",
                actual=float(worst),
                limit=(0, largest),
            )
        # milliseconds with a fraction: to the microsecond
        events[name] = np.rint(column.astype(np.float64) * 1000) if name == "t" else column
    return by_time(path, events)
