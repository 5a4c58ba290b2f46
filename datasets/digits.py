"""The handwritten digits that come with the package: real, small, and there without a download.

``digits.npz`` beside this file holds the test set of UCI's "Optical Recognition of Handwritten
Digits" (E. Alpaydin and C. Kaynak, 1998, https://doi.org/10.24432/C50P49), in the order in which
scikit-learn has it: ``pixels`` (1797, 8, 8) and ``labels`` (1797,), uint8. Licence of the data:
Creative Commons Attribution 4.0 (CC BY 4.0).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.arguments import choice
from pmsm_hw.datasets.arguments import whole
from pmsm_hw.datasets.array_files import read_npz
from pmsm_hw.errors import DatasetError, InputError

__all__ = ["LabelledImages", "load_digits"]

Split: TypeAlias = Literal["train", "test", "all"]

_FILE = Path(__file__).with_name("digits.npz")
_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


class LabelledImages(NamedTuple):
    """Images with labels; unpacks as ``images, labels``.

    Attributes
    ----------
    images
        ``(n, channels, height, width)`` float32 in [0, 1].
    labels
        ``(n,)`` int64.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_digits(split: Split = "all", *, seed: int = 0) -> LabelledImages:
    """Load the 1,797 digits that come with the package (8x8, 17 grey levels, ten classes).

    Source: the test set of UCI's "Optical Recognition of Handwritten Digits", of 13 writers, CC BY
    4.0. Pixels are integers 0..16, divided by 16 here, so an input population with
    ``scale=1/16, levels=(0, 16)`` holds them exactly.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``: a third of each class is held out for testing, the same third for
        the same seed; ``"all"``: everything.
    seed
        Of the split and of the order of images in it.

    Returns
    -------
    LabelledImages
        ``images`` ``(n, 1, 8, 8)`` float32 in {0, 1/16, ..., 1}, ``labels`` ``(n,)`` int64 in 0..9.

    Raises
    ------
    InputError
        If ``split`` is unknown.
    DatasetError
        If the package's copy is missing or not what it should be.
    """
    splits = ("train", "test", "all")
    choice(InputError, "digits", "split", split, splits, remedy="choose one of them")
    seed = whole("digits", "seed", seed, 0)
    pixels, labels = _bundled()
    images = (pixels[:, None] / 16).astype(np.float32)
    chosen = np.arange(len(labels)) if split == "all" else _third(labels, seed, split == "test")
    return LabelledImages(images[chosen], labels[chosen])


def _bundled() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        arrays = read_npz(_FILE)
    except DatasetError as error:
        raise _not_whole(error.problem, error.actual, error.limit) from error
    if arrays.keys() != {"pixels", "labels"}:
        found = ", ".join(arrays) or "none"
        raise _not_whole(f"holds arrays {found}, not pixels and labels", found, "pixels, labels")
    pixels, labels = arrays["pixels"], arrays["labels"]
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if digest != _SHA256:
        raise _not_whole("holds other digits than the package came with", digest, _SHA256)
    return pixels, labels.astype(np.int64)


def _not_whole(problem: str, actual: object, limit: object) -> DatasetError:
    return DatasetError(
        f"digits '{_FILE}'",
        problem,
        remedy="install the package again",
        actual=actual,
        limit=limit,
    )


def _third(labels: NDArray[np.int64], seed: int, held_out: bool) -> NDArray[np.int64]:
    """Indices of a random third of each class, or of the other two thirds, shuffled."""
    rng = np.random.default_rng(seed)
    parts = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cut = round(len(members) / 3)
        parts.append(members[:cut] if held_out else members[cut:])
    return rng.permutation(np.concatenate(parts))
