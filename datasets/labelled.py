"""What every data set of the catalogue is: inputs with labels, by index; and its augmentations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.arguments import fits, whole
from pmsm_hw.errors import DatasetError, InputError
from pmsm_hw.reading import read_regular

__all__ = ["Compose", "LabelledSet", "Mirror", "Normalize", "Sample", "Shift", "Transform"]

Floats: TypeAlias = NDArray[np.float32]
Transform: TypeAlias = Callable[[Floats, np.random.Generator], Floats]


class Source(Protocol):
    """Reads input ``index``; the generator is for readers that crop at random."""

    def __call__(self, index: int, rng: np.random.Generator) -> Floats:
        """Return the input, a new array."""


class Sample(NamedTuple):
    """One input with its label; unpacks as ``x, label``.

    Parameters
    ----------
    x
        ``(channels, height, width)``, or ``(n_steps, channels, height, width)``, float32.
    label
        From 0.
    """

    x: Floats
    label: int


class LabelledSet:
    """A data set: ``len(data)``, ``data[i] -> Sample``; a torch DataLoader takes it as it is.

    What is random in ``data[i]`` depends on the seed, the epoch and i only, so results do not
    depend on the number of worker processes. Call `set_epoch` before each epoch for new
    augmentations.

    Parameters
    ----------
    name, split
        As `pmsm_hw.datasets.load` has them.
    class_names
        By label.
    labels
        ``(n,)`` integers.
    source
        Gives the inputs.
    n_steps
        For still images: repeat the image so many times along a new first axis.
    transform
        Called with the input and a random generator, before the image is repeated.
    seed
        Of the transform.
    """

    def __init__(
        self,
        *,
        name: str,
        split: str,
        class_names: Sequence[str],
        labels: NDArray[np.int64],
        source: Source,
        n_steps: int | None = None,
        transform: Transform | None = None,
        seed: int = 0,
    ) -> None:
        self.name, self.split = name, split
        self.class_names = tuple(class_names)
        given = np.asarray(labels)
        if given.dtype.kind not in "iu" or given.ndim != 1:
            raise DatasetError(
                f"data set '{name}'",
                f"has labels of shape {given.shape} and dtype {given.dtype}, one integer for each "
                "sample is needed",
                remedy="give one class per sample, from 0",
                actual=str(given.dtype),
                limit="(n,) integers",
            )
        self.labels = given.astype(np.int64)
        self.labels.flags.writeable = False
        self.source, self.n_steps, self.transform = source, n_steps, transform
        self.seed, self.epoch = whole(f"data set '{name}'", "seed", seed, 0), 0
        lo, hi = int(self.labels.min(initial=0)), int(self.labels.max(initial=0))
        if len(self.labels) == 0 or lo < 0 or hi >= len(self.class_names):
            raise DatasetError(
                f"data set '{name}'",
                f"has {len(self.labels):,} labels in [{lo}, {hi}], {len(self.class_names)} classes",
                remedy="get the files again",
                actual=(lo, hi),
                limit=(0, len(self.class_names) - 1),
            )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; negative indices count from the end."""
        index = whole(f"data set '{self.name}'", "index", index, -(1 << 62))
        i = index + len(self) if index < 0 else index
        if not 0 <= i < len(self):
            # IndexError: iteration by index ends on it
            raise IndexError(f"sample {index} of {len(self):,}")
        rng = np.random.default_rng([self.seed, self.epoch, i])
        x = self.source(i, rng)
        if self.transform is not None:
            x = self.transform(x, rng)
        if self.n_steps is not None:
            shape = (self.n_steps, *x.shape)
            fits(f"data set '{self.name}'", shape, x.itemsize, "use fewer steps")
            x = np.repeat(x[None], self.n_steps, axis=0)
        return Sample(np.ascontiguousarray(x, np.float32), int(self.labels[i]))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that augmentations belong to.

        Parameters
        ----------
        epoch
            Counted from 0.
        """
        self.epoch = whole("set_epoch", "epoch", epoch, 0)

    def arrays(self, limit: int | None = None) -> tuple[Floats, NDArray[np.int64]]:
        """Read everything, or the first ``limit`` samples, into two arrays.

        Parameters
        ----------
        limit
            Number of samples; None: all.
        """
        n = len(self) if limit is None else min(whole("arrays", "limit", limit), len(self))
        return np.stack([self[i].x for i in range(n)]), self.labels[:n].copy()

    def __repr__(self) -> str:
        classes = len(self.class_names)
        return f"<{self.name} {self.split}: {len(self):,} samples, {classes} classes>"


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Source of images that are held in memory as bytes, ``(n, channels, height, width)`` uint8."""

    images: NDArray[np.uint8]

    def __call__(self, index: int, rng: np.random.Generator) -> Floats:
        """Pixel values / 255."""
        x: Floats = self.images[index].astype(np.float32) / np.float32(255)
        return x


@dataclass(frozen=True)
class Compose:
    """One transform after another.

    Parameters
    ----------
    transforms
        Applied in this order.
    """

    transforms: tuple[Transform, ...]

    def __call__(self, x: Floats, rng: np.random.Generator) -> Floats:
        """Apply all."""
        for transform in self.transforms:
            x = transform(x, rng)
        return x


@dataclass(frozen=True)
class Shift:
    """Move by up to ``pixels`` in each direction, zeros come in (padding and random crop).

    Parameters
    ----------
    pixels
        Largest move.
    """

    pixels: int

    def __post_init__(self) -> None:
        """Validate."""
        whole("Shift", "pixels", self.pixels, 0)

    def __call__(self, x: Floats, rng: np.random.Generator) -> Floats:
        """Same shift for all channels and steps."""
        height, width = x.shape[-2:]
        pad = [(0, 0)] * (x.ndim - 2) + [(self.pixels, self.pixels)] * 2
        down, right = rng.integers(0, 2 * self.pixels + 1, 2)
        return np.pad(x, pad)[..., down : down + height, right : right + width]


@dataclass(frozen=True)
class Mirror:
    """Mirror left to right in half of the cases."""

    def __call__(self, x: Floats, rng: np.random.Generator) -> Floats:
        """All channels and steps alike."""
        return x[..., ::-1] if rng.random() < 0.5 else x


@dataclass(frozen=True)
class Normalize:
    """``(x - mean) / std`` per channel (the third axis from the end).

    Parameters
    ----------
    mean, std
        One value per channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Validate."""
        lists = all(isinstance(values, tuple | list) for values in (self.mean, self.std))
        numbers = (*self.mean, *self.std) if lists else ("",)
        if (
            not all(isinstance(v, int | float | np.number) and np.isfinite(v) for v in numbers)
            or len(self.mean) != len(self.std)
            or not all(s > 0 for s in self.std)
        ):
            raise InputError(
                "Normalize",
                f"mean {self.mean} and std {self.std}: one of each per channel, std > 0",
                remedy="give as many positive deviations as means",
                actual=self.std,
                limit="> 0",
            )

    def __call__(self, x: Floats, rng: np.random.Generator) -> Floats:
        """Normalize."""
        if x.ndim < 3 or x.shape[-3] != len(self.mean):
            raise InputError(
                "Normalize",
                f"has {len(self.mean)} means, the sample of shape {x.shape} has "
                f"{x.shape[-3] if x.ndim > 2 else 0} channels",
                remedy="give one mean and one deviation per channel",
                actual=len(self.mean),
                limit=x.shape,
            )
        mean = np.asarray(self.mean, np.float32)[:, None, None]
        return (x - mean) / np.asarray(self.std, np.float32)[:, None, None]


def read_bytes(path: Path, *, largest: int = 1 << 32) -> bytes:
    """Read a file, or raise `DatasetError` naming it."""
    try:
        return read_regular(path, largest=largest)
    except OSError as error:
        raise DatasetError(
            f"file '{path}'",
            f"cannot be read ({error.strerror or error})",
            remedy="give the folder that holds the data set, or pass download=True",
            actual=str(path),
        ) from error


def first_folder(root: Path, names: Sequence[str], needed: str) -> Path:
    """Folder among ``root/name`` and ``root`` that holds ``needed``, else ``root/names[0]``."""
    for folder in (*(root / name for name in names), root):
        if (folder / needed).exists():
            return folder
    return root / names[0]
