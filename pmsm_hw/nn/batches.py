"""Arrays of real values, as every door of the torch side takes them.

One meaning for one array: floats are real values here and for a network, integers are units for a
network and are refused here, where they would be taken for real values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from pmsm_hw.arguments import shown
from pmsm_hw.errors import QuantizationError

__all__ = ["Batch", "as_classes", "as_tensor", "as_tensors", "check_real", "parts"]

Batch: TypeAlias = "Tensor | NDArray[Any] | Sequence[Tensor | NDArray[Any]]"


def as_tensors(batch: Batch, what: str = "batch") -> tuple[Tensor, ...]:
    """One tensor per model input, floats in torch's default dtype.

    Parameters
    ----------
    batch
        One array of floats, or one per input.
    what
        Name for errors.

    Raises
    ------
    QuantizationError
        If it holds no arrays, or arrays of integers, or values that are not finite.
    """
    is_one = isinstance(batch, Tensor | np.ndarray)
    if isinstance(batch, DataLoader | str | bytes | dict) or not (
        is_one or isinstance(batch, Sequence)
    ):
        raise _no_arrays(batch, what)
    parts: Any = (batch,) if is_one else tuple(batch)
    return tuple(as_tensor(part, what) for part in parts)


def as_tensor(array: Any, what: str = "batch") -> Tensor:
    """One array of finite floats, in torch's default dtype.

    Parameters
    ----------
    array
        Tensor, numpy array or nested lists.
    what
        Name for errors.

    Raises
    ------
    QuantizationError
        See `as_tensors`.
    """
    try:
        tensor = _as_torch(array)
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise TypeError
        check_real(tensor, what)
        tensor = tensor.to(torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError) as cause:
        raise _no_arrays(array, what) from cause
    n_bad = int((~torch.isfinite(tensor)).sum())
    if n_bad:
        raise QuantizationError(
            what,
            f"{n_bad:,} of {tensor.numel():,} values are not finite, limit: 0",
            remedy="give clean data",
            actual=n_bad,
            limit=0,
        )
    return tensor


def _as_torch(array: Any) -> Tensor:
    """A tensor of an array of any strides and byte order."""
    if isinstance(array, np.ndarray):
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        is_plain = native.flags.writeable and all(step >= 0 for step in native.strides)
        array = native if is_plain else native.copy()
    return torch.as_tensor(array)


def parts(n: int, size: int) -> Iterator[slice]:
    """``n`` samples in parts of ``size``; a single last one goes with those before.

    Models that squeeze their values take a batch of 1 for something else.

    Parameters
    ----------
    n, size
        Numbers of samples, ``size >= 1``.
    """
    start, least = 0, min(size, 2)
    while n - start >= size + least:
        yield slice(start, start + size)
        start += size
    yield slice(start, n)


def check_real(tensor: Tensor, what: str) -> None:
    """Raise `QuantizationError` unless a tensor holds floats.

    Parameters
    ----------
    tensor
        Any.
    what
        Name for errors.
    """
    if not tensor.is_floating_point():
        raise QuantizationError(
            what,
            f"holds {str(tensor.dtype).removeprefix('torch.')}, floats are needed: a network takes "
            "integers for units of its input, a torch model for real values",
            remedy="give real values as floats, x.astype('float32') or x.float()",
            actual=str(tensor.dtype),
            limit="floats",
        )


def as_classes(labels: Any, what: str = "labels") -> Tensor:
    """Labels as int64.

    Parameters
    ----------
    labels
        Whole numbers, one class per sample.
    what
        Name for errors.

    Raises
    ------
    QuantizationError
        If they are no whole numbers.
    """
    try:
        tensor = _as_torch(labels)
    except (TypeError, ValueError, RuntimeError) as cause:
        raise _no_arrays(labels, what) from cause
    if tensor.ndim != 1:
        raise QuantizationError(
            what,
            f"have shape {tuple(tensor.shape)}, one axis is needed",
            remedy="give the number of each sample's class",
            actual=tuple(tensor.shape),
            limit="(n,)",
        )
    is_whole = not tensor.is_floating_point() or bool((tensor == tensor.round()).all())
    if not is_whole or tensor.is_complex() or tensor.dtype == torch.bool:
        raise QuantizationError(
            what,
            f"are {str(tensor.dtype).removeprefix('torch.')}, whole numbers are needed",
            remedy="give the number of each sample's class",
            actual=str(tensor.dtype),
            limit="whole numbers",
        )
    return tensor.to(torch.int64)


def _no_arrays(batch: Any, what: str) -> QuantizationError:
    kind = type(batch).__name__
    return QuantizationError(
        what,
        f"{shown(batch)} ({kind}) holds no arrays of floats, one array or one per input is needed"
        if not isinstance(batch, DataLoader)
        else f"is a {kind} that holds no arrays, one array or one per input is needed",
        remedy="give arrays or tensors; of a DataLoader, next(iter(loader))[0]",
        actual=kind,
        limit="arrays",
    )
