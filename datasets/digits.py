"""The handwritten digits that come with scikit-learn: real, small, and there without a download."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.arguments import whole
from pmsm_hw.errors import DatasetError, InputError

__all__ = ["LabelledImages", "load_digits"]

Split: TypeAlias = Literal["train", "test", "all"]


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
    """Load the 1,797 digits of scikit-learn (8x8, 17 grey levels, ten classes).

    Source: the test set of UCI's "Optical Recognition of Handwritten Digits", of 13 writers, as
    bundled with scikit-learn. Pixels are integers 0..16, divided by 16 here, so an input population
    with ``scale=1/16, levels=(0, 16)`` holds them exactly.

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
        If scikit-learn is missing or its copy is not what it should be.
    """
    if split not in ("train", "test", "all"):
        raise InputError(
            "digits",
            f"split {split!r} is unknown",
            remedy="use 'train', 'test' or 'all'",
            actual=split,
            limit=("train", "test", "all"),
        )
    seed = whole("digits", "seed", seed, 0)
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise DatasetError(
            "digits",
            f"scikit-learn, which bundles them, cannot be imported ({error})",
            remedy="install scikit-learn",
        ) from error
    bundle = load()
    pixels, labels = np.asarray(bundle.images), np.asarray(bundle.target).astype(np.int64)
    if (
        pixels.shape != (1797, 8, 8)
        or labels.shape != (1797,)
        or not np.isin(pixels, np.arange(17)).all()
    ):
        raise DatasetError(
            "digits",
            f"scikit-learn gave images of shape {pixels.shape} "
            f"in [{pixels.min()}, {pixels.max()}], expected (1797, 8, 8) in 0..16",
            remedy="reinstall scikit-learn",
            actual=pixels.shape,
            limit=(1797, 8, 8),
        )
    images = (pixels[:, None] / 16).astype(np.float32)
    chosen = np.arange(len(labels)) if split == "all" else _third(labels, seed, split == "test")
    return LabelledImages(images[chosen], labels[chosen])


def _third(labels: NDArray[np.int64], seed: int, held_out: bool) -> NDArray[np.int64]:
    """Indices of a random third of each class, or of the other two thirds, shuffled."""
    rng = np.random.default_rng(seed)
    parts = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cut = round(len(members) / 3)
        parts.append(members[:cut] if held_out else members[cut:])
    return rng.permutation(np.concatenate(parts))
