"""Samples for the command line: a data set by name, or a file of the user's."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.digits import load_digits
from pmsm_hw.datasets.events import to_frames
from pmsm_hw.datasets.nmnist import NMNIST_SIZE, read_nmnist
from pmsm_hw.errors import DatasetError

__all__ = ["Samples", "load_samples"]

SOURCES = "digits, a file .npz (arrays 'x' and, if known, 'labels'), .npy, or .bin (N-MNIST)"


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Inputs, with labels where they are known.

    Parameters
    ----------
    x
        ``(n, *shape)``, or ``(n, n_steps, *shape)`` for one frame a step; floats are real values,
        integers are units.
    labels
        ``(n,)`` int64, or None.
    source
        Where they came from, for reports.
    """

    x: NDArray[Any]
    labels: NDArray[np.int64] | None
    source: str


def load_samples(source: str, *, n_steps: int = 1, limit: int | None = None) -> Samples:
    """Load samples by name or path.

    Parameters
    ----------
    source
        ``"digits"``: the held-out third of scikit-learn's digits; a ``.npz`` file with ``x`` and
        perhaps ``labels``; a ``.npy`` file with ``x``; a ``.bin`` file with one N-MNIST recording,
        which is binned into ``n_steps`` frames.
    n_steps
        Frames of an event recording.
    limit
        Take the first samples only.

    Raises
    ------
    DatasetError
        If there is no such data, or it is damaged.
    """
    if limit is not None and limit < 1:
        raise DatasetError(
            "limit",
            f"{limit} samples were asked for, the least is 1",
            remedy="give a positive number",
            actual=limit,
            limit=1,
        )
    x: NDArray[Any]
    labels: NDArray[np.int64] | None = None
    path = Path(source)
    if source == "digits":
        digits = load_digits("test")
        x, labels = digits.images, digits.labels
    elif path.suffix in (".npz", ".npy"):
        x, labels = _arrays(path)
    elif path.suffix == ".bin":
        events = read_nmnist(path)
        x = to_frames(events, n_steps, NMNIST_SIZE)[None]
    else:
        raise DatasetError(
            f"data {source!r}",
            f"suffix {path.suffix!r} is unknown",
            remedy=f"give {SOURCES}",
            actual=source,
            limit=SOURCES,
        )
    if labels is not None and len(labels) != len(x):
        raise DatasetError(
            f"data {source!r}",
            f"{len(labels):,} labels for {len(x):,} samples, the limit is one each",
            remedy="make the first axes agree",
            actual=len(labels),
            limit=len(x),
        )
    if limit is not None:
        x, labels = x[:limit], None if labels is None else labels[:limit]
    return Samples(x=x, labels=labels, source=source)


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            if "x" not in loaded:
                raise DatasetError(
                    f"data file '{path}'",
                    f"has the arrays {', '.join(loaded) or '(none)'}, 'x' is needed",
                    remedy="save the inputs as 'x' and the labels as 'labels'",
                    actual=tuple(loaded),
                    limit="x",
                )
            labels = loaded["labels"].astype(np.int64) if "labels" in loaded else None
            return loaded["x"], labels
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"data file '{path}'",
            f"cannot be read ({error})",
            remedy="give a file that numpy.save or numpy.savez wrote, without objects",
            actual=str(error),
        ) from error
