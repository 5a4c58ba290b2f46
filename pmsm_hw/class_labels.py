"""What labels may be: classes of one readout, one for each sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import array_of, shown
from pmsm_hw.errors import InputError
from pmsm_hw.network import Network

__all__ = ["class_labels"]


def class_labels(
    network: Network, readout: str | None, labels: ArrayLike, n_samples: int
) -> NDArray[np.int64]:
    """Labels as an array, each of them the index of a neuron of a readout.

    Parameters
    ----------
    network
        Whose classes they are.
    readout
        Name of the readout; may be left out where the network has one.
    labels
        ``(n_samples,)`` integers.
    n_samples
        Samples that have them, at least one.

    Raises
    ------
    InputError
        If they are something else, or there is no such readout.
    """
    sizes = {p.name: p.n_neurons for p in network.readouts}
    if readout is None and len(sizes) == 1:
        (readout,) = sizes
    if not isinstance(readout, str) or readout not in sizes:
        listed = ", ".join(sizes) or "(none)"
        raise InputError(
            "labels",
            f"need 1 readout to compare with, readout {shown(readout)} was named, "
            f"network '{network.name}' has {len(sizes)}: {listed}",
            remedy="name one of these to evaluate; or compare logits yourself, without labels",
            actual=readout,
            limit=tuple(sizes),
        )
    remedy = "give one class per sample"
    array = array_of(
        InputError, f"network '{network.name}'", "labels", labels, kinds="iu", remedy=remedy
    )
    if array.shape != (n_samples,) or n_samples < 1:
        raise InputError(
            "labels",
            f"have shape {array.shape}, {n_samples:,} samples need ({n_samples},) integers, and "
            "there must be one at least",
            remedy=remedy,
            actual=array.shape,
            limit=(n_samples,),
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= sizes[readout]:
        raise InputError(
            "labels",
            f"lie in [{low}, {high}], readout '{readout}' has classes 0 to {sizes[readout] - 1}",
            remedy="number the classes from 0, as the network does",
            actual=(low, high),
            limit=(0, sizes[readout] - 1),
        )
    return array.astype(np.int64)
