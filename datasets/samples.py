"""Samples for the command line: a data set by name, or a file of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.arguments import instance
from pmsm_hw.datasets.arguments import fits, whole
from pmsm_hw.datasets.array_files import npz_names, read_npy, read_npz
from pmsm_hw.datasets.digits import load_digits
from pmsm_hw.datasets.events import to_frames
from pmsm_hw.datasets.nmnist import NMNIST_SIZE, read_nmnist
from pmsm_hw.errors import DatasetError, InputError
from pmsm_hw.records import Comparable

if TYPE_CHECKING:
    from pmsm_hw.network import Network

__all__ = ["Samples", "check_labels", "clipping_notes", "load_samples", "random_samples"]

SOURCES = (
    "digits, digits-train, a file .npz (array 'x', or one for each input by name, and, if known, "
    "'labels'), .npy, or .bin (N-MNIST)"
)


LARGEST_LABEL = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples(Comparable):
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


def load_samples(source: str | Path, *, n_steps: int = 1, limit: int | None = None) -> Samples:
    """Load samples by name or path.

    Parameters
    ----------
    source
        ``"digits"``: the held-out third of the digits; ``"digits-train"``: the rest; a ``.npz``
        file with ``x``, or with one array for each input by its name, and perhaps ``labels``; a
        ``.npy`` file with ``x``; a ``.bin`` file with one N-MNIST recording, which is binned into
        ``n_steps`` frames.
    n_steps
        Frames of an event recording.
    limit
        Take the first samples only; others are not kept in memory.

    Raises
    ------
    DatasetError
        If there is no such data, it is damaged, or larger than 4 GiB an array.
    InputError
        If ``source``, ``n_steps`` or ``limit`` is none.
    """
    if isinstance(source, Path):
        source = str(source)
    if not isinstance(source, str):
        raise InputError(
            "data",
            f"{source!r} is a {type(source).__name__}, a name or a path is needed",
            remedy=f"give {SOURCES}",
            actual=type(source).__name__,
            limit="str",
        )
    n_steps = whole("data", "n_steps", n_steps)
    if limit is not None:
        limit = whole("data", "limit", limit)
    x: NDArray[Any] | dict[str, NDArray[Any]]
    labels: NDArray[np.int64] | None = None
    path = Path(source)
    if source in ("digits", "digits-train"):
        digits = load_digits("test" if source == "digits" else "train")
        x, labels = digits.images[:limit], digits.labels[:limit]
    elif path.suffix == ".npz":
        x, labels = _arrays(path, limit)
    elif path.suffix == ".npy":
        x = read_npy(path, limit)
    elif path.suffix == ".bin":
        x = _recording(path, n_steps)
    else:
        raise DatasetError(
            f"data {source!r}",
            "is not the name of a data set, and a file's suffix is unknown"
            if not path.suffix
            else f"suffix {path.suffix!r} is unknown",
            remedy=f"give {SOURCES}",
            actual=source,
            limit=SOURCES,
        )
    parts = x if isinstance(x, dict) else {"x": x}
    for name, part in parts.items():
        if part.size == 0 or part.ndim < 1:
            raise DatasetError(
                f"data {source!r}",
                f"'{name}' has shape {part.shape}, which holds no samples",
                remedy="save an array with one sample or more along its first axis",
                actual=part.shape,
                limit="(n, ...)",
            )
    return Samples(x=x, labels=labels, source=source)


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
    InputError
        If fewer than one sample or step, or more than 4 GiB of them, are asked for.
    """
    from pmsm_hw.network import Network as Kind

    instance(InputError, "random data", "network", network, Kind, remedy="give a Network")
    n_samples = whole("random data", "number of samples", n_samples)
    n_steps = whole("random data", "number of steps", n_steps)
    seed = whole("random data", "seed", seed, 0)
    for p in network.inputs:
        fits("random data", (n_samples, n_steps, *p.shape), 4, "ask for fewer samples or steps")
    rng = np.random.default_rng(seed)
    x: dict[str, NDArray[Any]] = {
        p.name: rng.integers(
            p.levels[0], p.levels[1], (n_samples, n_steps, *p.shape), dtype=np.int32, endpoint=True
        )
        for p in network.inputs
    }
    return Samples(x=x, labels=None, source=f"random, seed {seed}")


def check_labels(network: Network, samples: Samples) -> None:
    """Refuse labels that are no classes of a network with one readout.

    Parameters
    ----------
    network, samples
        What is run on what.

    Raises
    ------
    DatasetError
        If a label is the number of none of the readout's neurons.
    """
    if samples.labels is None or len(network.readouts) != 1:
        return
    from pmsm_hw.class_labels import class_labels

    try:
        class_labels(network, None, samples.labels, samples.n_samples)
    except InputError as error:
        raise DatasetError(
            f"labels of data {samples.source!r}",
            error.problem,
            remedy=f"{error.remedy}, or leave 'labels' out",
            actual=error.actual,
            limit=error.limit,
        ) from error


def clipping_notes(network: Network, samples: Samples) -> list[str]:
    """Say, input by input, what share of the real values its levels cannot hold, if any.

    The contract clips them: ``clip(round_half_even(x / scale), lo, hi)``.

    Parameters
    ----------
    network, samples
        What is run on what.
    """
    notes = []
    for p in network.inputs:
        x = samples.x.get(p.name) if isinstance(samples.x, dict) else samples.x
        if x is None or x.dtype.kind != "f":
            continue
        lo, hi = p.levels
        n = 0
        for part in x:  # sample by sample: no copy of everything
            with np.errstate(over="ignore"):
                units = np.rint(part.astype(np.float64) / p.scale)
            n += int(np.count_nonzero((units < lo) | (units > hi)))
        if n:
            notes.append(
                f"note: input '{p.name}': {n / x.size:.2%} of the values ({n:,}) lie outside its "
                f"levels [{lo}, {hi}] of scale {p.scale:.4g} and were clipped to them"
            )
    return notes


def _recording(path: Path, n_steps: int) -> NDArray[np.float32]:
    events = read_nmnist(path)
    if not len(events):
        raise DatasetError(
            f"recording '{path}'",
            "has 0 events, at least 1 is needed",
            remedy="give a recording with events",
            actual=0,
            limit=1,
        )
    try:
        return to_frames(events, n_steps, NMNIST_SIZE)[None]
    except InputError as error:
        raise DatasetError(
            f"recording '{path}'",
            error.problem,
            remedy=error.remedy,
            actual=error.actual,
            limit=error.limit,
        ) from error


def _arrays(
    path: Path, limit: int | None
) -> tuple[NDArray[Any] | dict[str, NDArray[Any]], NDArray[np.int64] | None]:
    names = npz_names(path)
    inputs = [name for name in names if name != "labels"]
    if not inputs or ("x" in inputs and len(inputs) > 1):
        raise DatasetError(
            f"data file '{path}'",
            f"has arrays {', '.join(map(ascii, inputs))[:200] or '(none)'}; 'x', or one for each "
            "input, is needed",
            remedy="save the inputs as 'x' (several: by their names) and the labels as 'labels'",
            actual=names,
            limit="x",
        )
    arrays = read_npz(path, limit)
    labels = arrays.pop("labels", None)
    if labels is not None:
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise DatasetError(
                f"data file '{path}'",
                f"has labels of shape {labels.shape} and dtype {labels.dtype}, one integer for "
                "each sample is needed",
                remedy="give one class per sample",
                actual=(labels.shape, str(labels.dtype)),
                limit="(n,) integers",
            )
        if int(labels.min(initial=0)) < 0 or int(labels.max(initial=0)) > LARGEST_LABEL:
            raise DatasetError(
                f"data file '{path}'",
                f"has labels in [{labels.min()}, {labels.max()}], the limits are 0 and "
                f"{LARGEST_LABEL:,}",
                remedy="number the classes from 0",
                actual=(int(labels.min()), int(labels.max())),
                limit=(0, LARGEST_LABEL),
            )
        labels = labels.astype(np.int64)
    return arrays.get("x", arrays), labels
