"""How windows meet their source along one axis, rows or columns, counted from shapes alone.

Everything about windows is a product of what one axis needs. Functions here are pure and
remembered, as the same parts of an axis are looked at again and again; what they return is not to
be written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import Range
from pmsm_hw.operators import WindowForm, exact_product

__all__ = [
    "Box",
    "Window",
    "distinct",
    "distinct_key",
    "from_key",
    "group_channels",
    "hits",
    "meets",
    "part_key",
    "reach_mask",
    "signatures",
    "singles",
    "source_range",
    "tap_sums",
    "union",
    "union_size",
    "window_of",
]


_REMEMBERED = 1 << 16
"""Parts of axes that are remembered, by function."""


class Window(NamedTuple):
    """A window along one axis; equal ones join the same rows (or columns).

    Attributes
    ----------
    kernel, stride, padding, dilation
        Of the window; padding before the first row.
    n_source
        Rows of the source.
    """

    kernel: int
    stride: int
    padding: int
    dilation: int
    n_source: int


def window_of(form: WindowForm, axis: int) -> Window:
    """Window of a form along rows (axis 0) or columns (axis 1)."""
    return Window(
        form.weight.shape[2 + axis], form.stride[axis], form.padding[axis][0], form.dilation[axis],
        form.source[1 + axis],
    )  # fmt: skip


def source_range(form: WindowForm, axis: int, targets: Range) -> Range:
    """Rows (axis 0) or columns (axis 1) of the source that the windows of some targets cover."""
    return _covered(window_of(form, axis), targets)


def _covered(window: Window, targets: Range) -> Range:
    first = targets[0] * window.stride - window.padding
    last = (targets[1] - 1) * window.stride - window.padding + (window.kernel - 1) * window.dilation
    first, last = max(first, 0), min(last, window.n_source - 1)
    return (first, last + 1) if first <= last else (0, 0)


def group_channels(form: WindowForm, channels: Range) -> Range:
    """Channels of the source that target channels read (all channels of their groups)."""
    per_group_out = form.target[0] // form.groups
    per_group_in = form.source[0] // form.groups
    return (
        channels[0] // per_group_out * per_group_in,
        ((channels[1] - 1) // per_group_out + 1) * per_group_in,
    )


@lru_cache(_REMEMBERED)
def signatures(window: Window, targets: Range) -> NDArray[np.bool_]:
    """Taps by which each source row of `source_range` meets a range of targets.

    Returns
    -------
    ndarray
        ``(source_range, kernel)`` bool.
    """
    first, end = _covered(window, targets)
    at = np.arange(first, end)[:, None] + window.padding
    offset = at - np.arange(window.kernel) * window.dilation
    row = offset // window.stride
    found: NDArray[np.bool_] = offset % window.stride == 0
    return _kept(found & (row >= targets[0]) & (row < targets[1]))


@lru_cache(_REMEMBERED)
def hits(window: Window, targets: Range) -> NDArray[np.bool_]:
    """Which source rows of `source_range` meet a range of targets."""
    return _kept(np.asarray(signatures(window, targets).any(axis=1)))


@lru_cache(_REMEMBERED)
def singles(window: Window, targets: Range) -> NDArray[np.bool_]:
    """Source rows that meet a range of targets like no other one."""
    codes = _row_codes(signatures(window, targets))
    return _kept((np.bincount(codes)[codes] == 1) & hits(window, targets))


@lru_cache(_REMEMBERED)
def distinct(window: Window, targets: Range) -> NDArray[np.bool_]:
    """Distinct rows of `signatures`."""
    found = signatures(window, targets)
    return _kept(found[np.unique(_row_codes(found), return_index=True)[1]])


@lru_cache(_REMEMBERED)
def meets(window: Window, targets: Range) -> bytes:
    """`signatures` as a key (`from_key` makes them of it): parts of one meet their source alike."""
    return signatures(window, targets).tobytes()


@lru_cache(_REMEMBERED)
def distinct_key(window: Window, targets: Range) -> bytes:
    """`distinct` as a key."""
    return distinct(window, targets).tobytes()


def from_key(key: bytes, kernel: int) -> NDArray[np.bool_]:
    """What a key of rows was made of, ``(rows, kernel)`` bool."""
    return np.frombuffer(key, bool).reshape(-1, kernel)


def _kept(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found.flags.writeable = False
    return found


def _row_codes(rows: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Small numbers of rows, equal for equal rows, and in their order."""
    packed = np.packbits(rows, axis=1)
    if packed.shape[1] == 1:
        return packed.reshape(-1)
    return np.unique(packed, axis=0, return_inverse=True)[1].reshape(-1)


def part_key(forms: Sequence[WindowForm], axis: int, part: Range) -> tuple[int, ...]:
    """Each window meets parts with equal keys alike: no edge of a source clips them, or all do."""
    key = [part[1] - part[0]]
    for form in forms:
        raw = part[0] * form.stride[axis] - form.padding[axis][0]
        end = (part[1] - 1) * form.stride[axis] - form.padding[axis][0]
        end += (form.weight.shape[2 + axis] - 1) * form.dilation[axis]
        key += [max(0, -raw), max(0, end - form.source[1 + axis] + 1)]
    return tuple(key)


def tap_sums(
    taps: NDArray[np.int64], y: NDArray[np.bool_], x: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Synapses of each source channel by row and column signature, channels first."""
    c, kh, kw = taps.shape
    pairs = (y[:, None, :, None] & x[None, :, None, :]).reshape(-1, kh * kw)
    # counts are far below 2**53, exact in float64
    sums = taps.reshape(c, -1).astype(np.float64) @ pairs.T.astype(np.float64)
    return sums.astype(np.int64).reshape(c, len(y), len(x))


def reach_mask(
    taps: NDArray[np.int64], y: NDArray[np.bool_], x: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Source neurons, ``(channels, rows, columns)``, that have a synapse."""
    c, kh, kw = taps.shape
    pairs = (y[:, None, :, None] & x[None, :, None, :]).reshape(-1, kh * kw)
    some = np.greater(taps.reshape(c, -1), 0)
    if kh * kw <= 32:  # a bit for each tap
        bits = np.int64(1) << np.arange(kh * kw)
        met: NDArray[np.bool_] = ((some @ bits)[:, None] & (pairs @ bits)) != 0
        return met.reshape(c, len(y), len(x))
    # counts below 2**24 are exact in float32
    found = exact_product(some.astype(np.float32), pairs.T.astype(np.float32)) > 0
    return found.reshape(c, len(y), len(x))


@dataclass(frozen=True)
class Box:
    """A mask over a box of source units (neurons, or pixels with one channel)."""

    channels: Range
    rows: Range
    columns: Range
    mask: NDArray[np.bool_]


def union(boxes: Sequence[Box]) -> Box:
    """Union of masks, on the box around them."""
    first, end, top, bottom, left, right = (
        fold(edges)
        for fold, edges in zip(
            (min, max) * 3, zip(*((*b.channels, *b.rows, *b.columns) for b in boxes), strict=True),
            strict=True,
        )
    )  # fmt: skip
    mask = np.zeros((end - first, bottom - top, right - left), bool)
    for b in boxes:
        mask[
            b.channels[0] - first : b.channels[1] - first,
            b.rows[0] - top : b.rows[1] - top,
            b.columns[0] - left : b.columns[1] - left,
        ] |= b.mask
    return Box((first, end), (top, bottom), (left, right), mask)


def union_size(boxes: Sequence[Box]) -> int:
    """Units of a union of masks."""
    box = boxes[0] if len(boxes) == 1 else union(boxes)
    return int(np.count_nonzero(box.mask))
