"""Sums over windows, computed in vector registers: convolution without gathering its windows.

A *tile* is a few target places times a few vectors of target channels. Its sums stay in registers
while the loop runs over the synapses; each weight that is loaded serves all places, and each input
all channels. That needs neither copies of windows nor BLAS, holds no interpreter lock, and reaches
the arithmetic's peak from 16 channels on. numba's vectoriser does not find this form by itself, so
the tile is written as LLVM code (`_tile_of`); everything around it is plain numba.

Imports numba, so import it late, and only for work that outweighs that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pmsm_hw.workers import scratch

if TYPE_CHECKING:
    from pmsm_hw.operators import WindowForm

__all__ = ["Windows"]

cgutils: Any = _cgutils  # has no type hints
_WIDE = bool(get_host_cpu_features().get("avx512f", False))
LANES = 16 if _WIDE else 8
"""float32 values in a vector."""

PLACES = 12 if _WIDE else 6
"""Target places of a tile: with two vectors each, as many sums as the registers hold."""


SLACK = 2 * LANES
"""Values beyond the end of its input that a tile may read (and does not use)."""

FRAME_VALUES = 1 << 16
"""Values of padded input that are worked on at a time: they stay in the cache."""


def _tile_of(n_vectors: int, one_by_one: bool) -> Callable[..., None]:
    """Make the function that adds up one tile.

    Parameters
    ----------
    n_vectors
        Vectors of channels.
    one_by_one
        Whether each target channel reads its own source channel only (depthwise), or all read all.
    """

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typing_context, x, offset, places, first, n_places, runs, length, weight, out, to, n_out,
        n_valid,
    ):  # fmt: skip
        arguments = (
            x, offset, places, first, n_places, runs, length, weight, out, to, n_out, n_valid,
        )  # fmt: skip
        return types.void(*arguments), _code_of_tile(n_vectors, one_by_one)

    tile_: Callable[..., None] = tile
    return tile_


def _code_of_tile(n_vectors: int, one_by_one: bool) -> Callable[..., Any]:
    real, index, position = ir.FloatType(), ir.IntType(64), ir.IntType(32)
    vector = ir.VectorType(real, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(position, LANES), [0] * LANES)

    def code(context, b, signature, given):  # type: ignore[no-untyped-def]
        def array(i: int) -> Any:
            return context.make_array(signature.args[i])(context, b, given[i])

        def number(i: int) -> Any:
            return context.cast(b, given[i], signature.args[i], types.int64)

        def vector_at(pointer: Any, v: int) -> Any:
            at = b.gep(pointer, [index(v * LANES)])
            return b.bitcast(at, ir.VectorType(at.type.pointee, LANES).as_pointer())

        x, places, runs, weight, out = (array(i).data for i in (0, 2, 5, 7, 8))
        offset, first, n_places, length, to, n_out, n_valid = map(number, (1, 3, 4, 6, 9, 10, 11))
        n_runs = cgutils.unpack_tuple(b, array(5).shape)[0]
        all_valid = b.icmp_signed("==", n_valid, index(n_vectors * LANES))
        last = b.sub(n_places, index(1))
        # beyond the last place, the last one again: the same sums are written twice
        which = [b.add(first, index(p)) for p in range(PLACES)]
        which = [b.select(b.icmp_signed("<", i, last), i, last) for i in which]
        sources = [b.gep(x, [b.add(b.load(b.gep(places, [i])), offset)]) for i in which]
        targets = [b.gep(out, [b.add(b.mul(i, n_out), to)]) for i in which]
        sums = [[cgutils.alloca_once(b, vector) for _ in range(n_vectors)] for _ in range(PLACES)]
        # where not all channels are valid, targets are read and written through this
        edge = cgutils.alloca_once(b, ir.ArrayType(real, n_vectors * LANES))
        edge = b.bitcast(edge, real.as_pointer())
        n_bytes = b.mul(n_valid, index(4))

        for sums_ in sums:
            for s in sums_:
                b.store(ir.Constant(vector, [0.0] * LANES), s)

        next_weights = cgutils.alloca_once_value(b, weight)
        with cgutils.for_range(b, n_runs) as run:
            begin = b.load(b.gep(runs, [run.index]))
            starts = [b.gep(source, [begin]) for source in sources]
            with cgutils.for_range(b, length) as k:
                at = b.load(next_weights)
                weights = [b.load(vector_at(at, v), align=1) for v in range(n_vectors)]
                if weight.type.pointee != real:
                    weights = [b.sitofp(w, vector) for w in weights]
                b.store(b.gep(at, [index(n_vectors * LANES)]), next_weights)
                for start, sums_ in zip(starts, sums, strict=True):
                    here = b.gep(start, [k.index])
                    if one_by_one:
                        inputs = [b.load(vector_at(here, v), align=4) for v in range(n_vectors)]
                    else:
                        spread = b.insert_element(undefined, b.load(here), position(0))
                        inputs = [b.shuffle_vector(spread, undefined, zeros)] * n_vectors
                    for w, value, s in zip(weights, inputs, sums_, strict=True):
                        # integers: one rounding or two make no difference, there is none
                        product = b.fmul(w, value, flags=("contract",))
                        b.store(b.fadd(b.load(s), product, flags=("contract",)), s)

        for sums_, target in zip(sums, targets, strict=True):
            with b.if_else(all_valid) as (whole, part):
                with whole:
                    for v, s in enumerate(sums_):
                        b.store(b.load(s), vector_at(target, v), align=4)
                with part:
                    for v, s in enumerate(sums_):
                        b.store(b.load(s), vector_at(edge, v), align=4)
                    cgutils.raw_memcpy(b, target, edge, n_bytes, index(1))
        return context.get_dummy_value()

    return code


_narrow, _broad = _tile_of(1, False), _tile_of(2, False)
_narrow_by_channel, _broad_by_channel = _tile_of(1, True), _tile_of(2, True)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _pad(payload: NDArray[Any], top: int, left: int, out: NDArray[Any]) -> bool:
    """Bring one frame's payloads into the middle of zeros; say whether there are any."""
    height, width, channels = payload.shape
    seen = False
    out[:top] = 0
    out[top + height :] = 0
    for y in range(height):
        row = out[top + y]
        row[:left] = 0
        row[left + width :] = 0
        from_, to = payload[y].reshape(-1), row[left : left + width].reshape(-1)
        any_ = payload.dtype.type(0)
        for i in range(width * channels):
            any_ |= from_[i]
            to[i] = from_[i]
        seen |= any_ != 0
    return seen


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_windows(
    payload: NDArray[Any],
    top: int,
    left: int,
    padded: NDArray[np.float32],
    n_frames: int,
    size: tuple[int, int],
    places: NDArray[np.int64],
    runs: NDArray[np.int64],
    length: int,
    weight: NDArray[Any],
    blocks: NDArray[np.int64],
    one_by_one: bool,
    out: NDArray[np.float32],
) -> None:
    """Sum ``weight * payload`` over the windows of each target place.

    Frames without a spike are skipped.

    Parameters
    ----------
    payload
        ``(n, height, width, channels)`` integers.
    top, left
        Rows and columns of zeros before the first.
    padded
        Room for ``n_frames`` padded frames, and `SLACK`.
    n_frames
        Frames to take at a time.
    size
        Height and width of a padded frame.
    places
        ``(n_frames * target places,)``: where in ``padded`` the window of each target begins.
    runs
        ``(n_runs,)``: where in a window its runs of memory begin.
    length
        Of each run.
    weight
        ``(n_blocks, n_runs * length, channels of a tile)`` float32 or int8.
    blocks
        ``(n_blocks, 3)``: source channel, target channel, number of target channels of a tile.
    one_by_one
        Whether each target channel reads its own source channel only.
    out
        ``(n, target places, target channels)``, written.
    """
    n, _, _, channels = payload.shape
    n_places, n_out = out.shape[1], out.shape[2]
    frame = size[0] * size[1] * channels
    narrow = weight.shape[2] == LANES
    first = 0
    while first < n:
        m = 0
        while m < n_frames and first + m < n:
            room = padded[m * frame : (m + 1) * frame].reshape(size[0], size[1], channels)
            if not _pad(payload[first + m], top, left, room):
                break
            m += 1
        if m == 0:
            out[first] = 0
            first += 1
            continue
        target = out[first : first + m].reshape(-1)
        for i in range(len(blocks)):
            from_, to, n_valid = blocks[i, 0], blocks[i, 1], blocks[i, 2]
            w = weight[i]
            for p in range(0, m * n_places, PLACES):
                if one_by_one:
                    if narrow:
                        _narrow_by_channel(
                            padded, from_, places, p, m * n_places, runs, length, w,
                            target, to, n_out, n_valid,
                        )  # fmt: skip
                    else:
                        _broad_by_channel(
                            padded, from_, places, p, m * n_places, runs, length, w,
                            target, to, n_out, n_valid,
                        )  # fmt: skip
                elif narrow:
                    _narrow(
                        padded, from_, places, p, m * n_places, runs, length, w,
                        target, to, n_out, n_valid,
                    )  # fmt: skip
                else:
                    _broad(
                        padded, from_, places, p, m * n_places, runs, length, w,
                        target, to, n_out, n_valid,
                    )  # fmt: skip
        first += m


class Windows:
    """A convolution, made ready: its weights in the order in which tiles read them.

    Parameters
    ----------
    form
        The convolution; its sums must be exact in float32.
    """

    def __init__(self, form: WindowForm) -> None:
        n_out, c_group, kh, kw = form.weight.shape
        channels, height, width = form.source
        (top, bottom), (left, right) = form.padding
        self._before = (top, left)
        self._size = (height + top + bottom, width + left + right)
        row = self._size[1] * channels
        frame = self._size[0] * row
        self._n_frames = max(1, FRAME_VALUES // frame)
        self._room = self._n_frames * frame + SLACK
        _, h, w = form.target
        self._places_of_frame = h * w
        y = np.arange(h)[:, None] * form.stride[0] * row
        x = np.arange(w)[None, :] * form.stride[1] * channels
        frames = np.arange(self._n_frames)[:, None] * frame
        self._places = (frames + (y + x).reshape(1, -1)).reshape(-1)
        self._by_channel = form.is_depthwise
        group_out = n_out // form.groups
        whole_rows = form.groups == 1 and form.dilation[1] == 1
        tap_rows = np.arange(kh) * form.dilation[0] * row
        tap_columns = np.arange(kw) * form.dilation[1] * channels
        if whole_rows:
            self._runs, self._length = tap_rows, kw * c_group
        else:
            self._runs = (tap_rows[:, None] + tap_columns).reshape(-1)
            self._length = c_group
        blocks = []
        tile = LANES if (n_out if self._by_channel else group_out) <= LANES else 2 * LANES
        if self._by_channel:
            blocks = [(to, to, min(tile, n_out - to)) for to in range(0, n_out, tile)]
        else:
            for g in range(form.groups):
                blocks += [
                    (g * c_group, g * group_out + to, min(tile, group_out - to))
                    for to in range(0, group_out, tile)
                ]
        self._blocks = np.array(blocks, np.int64)
        taps = form.weight.transpose(2, 3, 1, 0).reshape(kh * kw * c_group, n_out)
        self._weight = np.zeros((len(blocks), len(taps), tile), np.float32)
        for i, (_, to, n_valid) in enumerate(blocks):
            self._weight[i, :, :n_valid] = taps[:, to : to + n_valid]

    def __call__(self, payload: NDArray[Any], out: NDArray[Any]) -> None:
        """Sum ``w * payload`` over the windows; frames without a spike are skipped.

        Parameters
        ----------
        payload
            ``(n, height, width, channels)`` integers.
        out
            ``(n, height, width, channels)`` of the target, float32, contiguous, written.
        """
        # two compiled forms are enough
        dtype = np.int8 if payload.dtype == np.int8 else np.int32
        _add_windows(
            np.ascontiguousarray(payload, dtype), *self._before,
            scratch("padded", (self._room,), np.float32), self._n_frames, self._size,
            self._places, self._runs, self._length, self._weight, self._blocks, self._by_channel,
            out.reshape(len(out), self._places_of_frame, -1),
        )  # fmt: skip
