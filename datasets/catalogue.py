"""All data sets by name: `load`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.arguments import choice
from pmsm_hw.datasets import cifar, event_sets, image_folder, mnist
from pmsm_hw.datasets.arguments import fits, whole
from pmsm_hw.datasets.labelled import Compose, LabelledSet, Mirror, Shift, Source, Transform
from pmsm_hw.errors import DatasetError, InputError

__all__ = ["NAMES", "load"]

IMAGE_SETS = ("cifar10", "cifar100", "imagenet", "mnist")
EVENT_SETS = ("cifar10dvs", "dvsgesture", "ncaltech101", "nmnist")
NAMES = tuple(sorted(IMAGE_SETS + EVENT_SETS))
"""Names that `load` knows; ``imagenet`` is any folder of images in ``train`` and ``val``."""

_EVENT_LOADERS = {
    "cifar10dvs": event_sets.load_cifar10dvs,
    "dvsgesture": event_sets.load_dvsgesture,
    "ncaltech101": event_sets.load_ncaltech101,
    "nmnist": event_sets.load_nmnist,
}

# The usual augmentations. Not mirrored: digits, and gestures of the left and the right hand.
_AUGMENTATIONS: dict[str, Transform] = {
    "cifar10": Compose((Shift(4), Mirror())),
    "cifar100": Compose((Shift(4), Mirror())),
    "imagenet": Mirror(),
    "mnist": Shift(2),
    "cifar10dvs": Compose((Shift(5), Mirror())),
    "dvsgesture": Shift(5),
    "ncaltech101": Compose((Shift(8), Mirror())),
    "nmnist": Shift(2),
}


def load(
    name: str,
    root: str | os.PathLike[str],
    n_steps: int | None = None,
    *,
    split: Literal["train", "test"] = "train",
    augment: bool = False,
    transform: Transform | Sequence[Transform] | None = None,
    image_size: int = 224,
    window_us: int | None = None,
    bin_pixels: int = 1,
    download: bool = False,
    seed: int = 0,
) -> LabelledSet:
    """Open a data set.

    ======================  ======================================  =====================
    name                    files under ``root``                    sample
    ======================  ======================================  =====================
    ``cifar10``             ``cifar-10-batches-bin/*.bin``          ``(3, 32, 32)``
    ``cifar100``            ``cifar-100-binary/*.bin``              ``(3, 32, 32)``
    ``imagenet``            ``train|val/CLASS/*.JPEG``              ``(3, size, size)``
    ``mnist``               ``*-ubyte[.gz]``                        ``(1, 28, 28)``
    ``cifar10dvs``          ``CLASS/cifar10_CLASS_N.aedat``         ``(T, 2, 128, 128)``
    ``dvsgesture``          ``DvsGesture/`` or tonic's form of it   ``(T, 2, 128, 128)``
    ``ncaltech101``         ``Caltech101/CLASS/*.bin``              ``(T, 2, 180, 240)``
    ``nmnist``              ``Train|Test/DIGIT/*.bin``              ``(T, 2, 34, 34)``
    ======================  ======================================  =====================

    CIFAR is read in its binary version only: the python version is a pickle, which runs code.

    Parameters
    ----------
    name
        See above.
    root
        Folder of the files, or the folder above the data set's own.
    n_steps
        Event sets: number of frames T, needed. Images: by default no step axis; with ``n_steps``
        the image is repeated, ``(T, channels, height, width)``.
    split
        ``"train"`` or ``"test"`` (ImageNet's ``val``). CIFAR10-DVS and N-Caltech101 have no
        official split: `pmsm_hw.datasets.event_sets` says which is used.
    augment
        The usual augmentation of the set: shifts (padding and random crop) and, where classes
        allow it, mirror images; for ``imagenet`` a random resized crop and mirror images.
    transform
        More of your own, after that: ``transform(x, rng) -> x``, for example `Normalize`.
    image_size
        Side of the crop for ``imagenet``.
    window_us, bin_pixels
        Event sets: length of a frame (else the recording is cut into T equal parts), and the side
        of the squares of pixels that are counted together.
    download
        Fetch what is missing, if the publisher's site allows it (not ``imagenet``); checked by MD5.
    seed
        Of the augmentations.

    Returns
    -------
    LabelledSet
        ``len(data)`` and ``data[i] -> (x, label)``, x float32: pixel values in [0, 1], or numbers
        of events. ``torch.utils.data.DataLoader(data, ...)`` takes it as it is.

    Raises
    ------
    InputError
        If a name or parameter is out of range.
    DatasetError
        If files are absent or damaged, or cannot be downloaded.
    """
    folder = _checked(name, root, n_steps, split, image_size, window_us, bin_pixels)
    steps = _steps(name, augment, transform)
    source: Source
    try:
        if name in EVENT_SETS:
            assert n_steps is not None
            source, labels, classes = _EVENT_LOADERS[name](
                folder, split, download, n_steps=n_steps, window_us=window_us, bin_pixels=bin_pixels
            )
        else:
            source, labels, classes = _images(name, folder, split, download, image_size, augment)
    except OSError as error:  # a folder that cannot be listed
        raise DatasetError(
            f"data set '{name}' in '{folder}'",
            f"cannot be read ({error.strerror or error})",
            remedy="give a folder that can be read",
            actual=type(error).__name__,
        ) from error
    return LabelledSet(
        name=name,
        split=split,
        class_names=classes,
        labels=labels,
        source=source,
        n_steps=None if name in EVENT_SETS else n_steps,
        transform=Compose(tuple(steps)) if steps else None,
        seed=seed,
    )


def _checked(
    name: str,
    root: str | os.PathLike[str],
    n_steps: int | None,
    split: str,
    image_size: int,
    window_us: int | None,
    bin_pixels: int,
) -> Path:
    """The folder; `InputError` if it is none, or the rest does not suit the data set."""
    remedy = "choose one of them"
    choice(InputError, "data set", "name", name, NAMES, remedy=remedy)
    choice(InputError, f"data set '{name}'", "split", split, ("train", "test"), remedy=remedy)
    for what, value in (
        ("n_steps", n_steps), ("window_us", window_us), ("image_size", image_size),
        ("bin_pixels", bin_pixels),
    ):  # fmt: skip
        if value is not None or what not in ("n_steps", "window_us"):
            whole(f"data set '{name}'", what, value)
    if not isinstance(root, str | os.PathLike) or "\0" in os.fspath(root):
        raise InputError(
            "root",
            f"{root!r} is not the name of a folder",
            remedy="give the folder that holds the data set",
            actual=root,
        )
    if name == "imagenet":
        fits("image_size", (3, image_size, image_size), 4, "give a smaller one")
    if name in EVENT_SETS:
        if n_steps is None:
            raise InputError(
                f"data set '{name}'",
                "holds events and n_steps is None, a number of frames is needed",
                remedy="give n_steps, for example 10",
                actual=None,
                limit=1,
            )
    elif window_us is not None or bin_pixels != 1:
        raise InputError(
            f"data set '{name}'",
            f"holds images; window_us {window_us}, bin_pixels {bin_pixels} are for events",
            remedy="leave them out",
            actual=(window_us, bin_pixels),
            limit=(None, 1),
        )
    return Path(root)


def _steps(
    name: str, augment: bool, transform: Transform | Sequence[Transform] | None
) -> list[Transform]:
    steps: list[Transform] = [_AUGMENTATIONS[name]] if augment else []
    if transform is not None:
        steps += transform if isinstance(transform, list | tuple) else (cast(Transform, transform),)
    for step in steps:
        if not callable(step):
            raise InputError(
                "transform",
                f"{step!r} cannot be called",
                remedy="give functions of an input and a random generator",
                actual=step,
                limit="transform(x, rng)",
            )
    return steps


def _images(
    name: str,
    folder: Path,
    split: Literal["train", "test"],
    download: bool,
    image_size: int,
    augment: bool,
) -> tuple[Source, NDArray[np.int64], tuple[str, ...]]:
    if name == "mnist":
        return *mnist.load_mnist(folder, split, download), tuple(str(d) for d in range(10))
    if name == "cifar10":
        return *cifar.load_cifar10(folder, split, download), cifar.CIFAR10_CLASSES
    if name == "cifar100":
        return cifar.load_cifar100(folder, split, download)
    return image_folder.load_image_folder(folder, split, image_size, random_crop=augment)
