"""Samples for the command line: a data set by name, or a file of the user's."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.digits import load_digits
from pmsm_hw.datasets.events import to_frames
from pmsm_hw.datasets.nmnist import NMNIST_SIZE, read_nmnist
from pmsm_hw.errors import DatasetError

if TYPE_CHECKING:
    from pmsm_hw.network import Network

__all__ = ["Samples", "load_samples", "random_samples"]

SOURCES = (
    "digits, digits-train, a file .npz (array 'x', or one for each input by name, and, if known, "
    "'labels'), .npy, or .bin (N-MNIST)"
)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Inputs, with labels where they are known.

    Parameters
    ----------
    x
        ``(n, *shape)``, or ``(n, n_steps, *shape)`` for one frame a step; floats are real values,
        integers are units. By input's name where a network has several.
    labels
        ``(n,)`` int64, or None.
    source
        Where they came from, for reports.
    """

    x: NDArray[Any] | dict[str, NDArray[Any]]
    labels: NDArray[np.int64] | None
    source: str

    @property
    def n_samples(self) -> int:
        """How many there are."""
        return len(next(iter(self.x.values())) if isinstance(self.x, dict) else self.x)


def load_samples(source: str, *, n_steps: int = 1, limit: int | None = None) -> Samples:
    """Load samples by name or path.

    Parameters
    ----------
    source
        ``"digits"``: the held-out third of scikit-learn's digits; ``"digits-train"``: the rest; a
        ``.npz`` file with ``x``, or with one array for each input by its name, and perhaps
        ``labels``; a ``.npy`` file with ``x``; a ``.bin`` file with one N-MNIST recording, which
        is binned into ``n_steps`` frames.
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
    x: NDArray[Any] | dict[str, NDArray[Any]]
    labels: NDArray[np.int64] | None = None
    path = Path(source)
    if source in ("digits", "digits-train"):
        digits = load_digits("test" if source == "digits" else "train")
        x, labels = digits.images, digits.labels
    elif path.suffix in (".npz", ".npy"):
        x, labels = _arrays(path)
    elif path.suffix == ".bin":
        events = read_nmnist(path)
        x = to_frames(events, n_steps, NMNIST_SIZE)[None]
    else:
        raise DatasetError(
            f"data {source!r}",
            "is no data set's name, and a file's suffix is unknown"
            if not path.suffix
            else f"suffix {path.suffix!r} is unknown",
            remedy=f"give {SOURCES}",
            actual=source,
            limit=SOURCES,
        )
    samples = Samples(x=x, labels=labels, source=source)
    for what, n in _lengths(samples):
        if n != samples.n_samples:
            raise DatasetError(
                f"data {source!r}",
                f"{n:,} {what} for {samples.n_samples:,} samples, the limit is one each",
                remedy="make the first axes agree",
                actual=n,
                limit=samples.n_samples,
            )
    if limit is None:
        return samples
    first = {k: v[:limit] for k, v in x.items()} if isinstance(x, dict) else x[:limit]
    return Samples(x=first, labels=None if labels is None else labels[:limit], source=source)


def random_samples(network: Network, *, n_samples: int, n_steps: int = 1, seed: int = 0) -> Samples:
    """Draw units that a network takes, uniformly from each input's levels.

    For time and energy before there is data; such figures say nothing of accuracy, and real inputs
    are often sparser.

    Parameters
    ----------
    network
        Says shapes and levels.
    n_samples, n_steps
        Samples, and frames of each.
    seed
        The same seed gives the same samples.

    Raises
    ------
    DatasetError
        If fewer than one sample or step is asked for.
    """
    for what, value in (("samples", n_samples), ("steps", n_steps)):
        if value < 1:
            raise DatasetError(
                "random data",
                f"{value} {what} were asked for, the least is 1",
                remedy="give a positive number",
                actual=value,
                limit=1,
            )
    rng = np.random.default_rng(seed)
    x: dict[str, NDArray[Any]] = {
        p.name: rng.integers(
            p.levels[0], p.levels[1], (n_samples, n_steps, *p.shape), dtype=np.int32, endpoint=True
        )
        for p in network.inputs
    }
    return Samples(x=x, labels=None, source=f"random, seed {seed}")


def _lengths(samples: Samples) -> Iterator[tuple[str, int]]:
    if samples.labels is not None:
        yield "labels", len(samples.labels)
    if isinstance(samples.x, dict):
        yield from ((f"samples of '{name}'", len(part)) for name, part in samples.x.items())


def _arrays(
    path: Path,
) -> tuple[NDArray[Any] | dict[str, NDArray[Any]], NDArray[np.int64] | None]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            arrays = {name: loaded[name] for name in loaded}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"data file '{path}'",
            f"cannot be read ({error})",
            remedy="give a file that numpy.save or numpy.savez wrote, without objects",
            actual=str(error),
        ) from error
    labels = arrays.pop("labels", None)
    if (
        not arrays
        or ("x" in arrays and len(arrays) > 1)
        or any(a.ndim < 1 for a in arrays.values())
    ):
        raise DatasetError(
            f"data file '{path}'",
            f"has arrays {', '.join(arrays) or '(none)'}; 'x', or one for each input, is needed",
            remedy="save the inputs as 'x' (several: by their names) and the labels as 'labels'",
            actual=tuple(arrays),
            limit="x",
        )
    if labels is not None:
        if labels.dtype.kind not in "iu":
            raise DatasetError(
                f"data file '{path}'",
                f"has labels of dtype {labels.dtype}, integers are needed",
                remedy="give one class per sample",
                actual=str(labels.dtype),
                limit="integers",
            )
        labels = labels.astype(np.int64)
    return arrays.get("x", arrays), labels
