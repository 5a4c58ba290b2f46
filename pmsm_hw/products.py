"""Sums over windows, computed in vector registers: convolution without gathering its windows.

Frames with many spikes go by their windows. A *tile* is a few target places times a few vectors of
target channels. Its sums stay in registers while the loop runs over the synapses; each weight that
is loaded serves all places, and each input all channels. That needs neither copies of windows nor
BLAS, holds no interpreter lock, and reaches the arithmetic's peak from 16 channels on.

Frames with few spikes go by these: each adds its weights to the places it reaches, a fraction of
the additions. All spikes of a row take the same ones, a *stamp* of whole vectors, however near the
border they are and whichever places a stride leaves out: sums have a margin on both sides, and
weights are zero where there is no synapse. So nothing has to be decided for each spike.

numba's vectoriser does not find these forms by itself, so tile and stamp are written as LLVM code
(`_tile_of`, `_add_stamp`); everything around them is plain numba. All of it stays in one file, as
numba compiles again only what stands in a file that changed.

Imports numba, so import it late, and only for work that outweighs that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numpy.typing import NDArray

from pmsm_hw.compiled import cgutils, intrinsic, njit, types
from pmsm_hw.workers import scratch

if TYPE_CHECKING:
    from pmsm_hw.operators import WindowForm

__all__ = ["Windows"]

_F = TypeVar("_F", bound=Callable[..., Any])

_WIDE = bool(get_host_cpu_features().get("avx512f", False))
LANES = 16 if _WIDE else 8
"""float32 values in a vector."""

PLACES = 12 if _WIDE else 6
"""Target places of a tile: with two vectors each, as many sums as the registers hold."""


SLACK = 2 * LANES
"""Values beyond the end of its input that a tile may read (and does not use)."""

TILE_COST = 200
"""Vector operations in which the beginning and end of a tile would be done."""

TILE = np.dtype([(name, np.int64) for name in ("source", "target", "n_targets")])
"""First source and target channel of a tile, and how many target channels it has."""

FRAME_VALUES = 1 << 16
"""Values of padded input that are worked on at a time: they stay in the cache."""


WORD_BYTES = 64
"""Payloads that are looked at together: one vector."""

UNITS = (8, 16)
"""Values in a vector,"""

MOST_UNITS = 8
"""and the most vectors in a piece of a stamp."""

SPIKE_COST = 12
UNIT_COST = {8: 2.0, 16: 3.3}
FAR_FACTOR = 2.5
CACHE_BYTES = 1 << 20
"""Measured times, where 1 is a multiplication and addition of a tile: of a spike; of a vector of a
stamp; and how much longer it takes where weights exceed so many bytes."""


def _jit(function: _F) -> _F:
    return cast(_F, njit(nogil=True, error_model="numpy")(function))


def _intrinsic(function: Any) -> Any:
    """`numba.extending.intrinsic`, without the hints that suit no call from compiled code."""
    return intrinsic(function)


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


class Scatter(NamedTuple):
    """A convolution, as its spikes need it; places in memory are counted in float32 values.

    A spike of row y, and with value i of that row, takes its weights from
    ``row_weight[y] + value_weight[i]`` on, and adds them from ``row_sum[y] + value_sum[i]`` on.
    """

    row_weight: Any  # (height,) int64
    row_sum: Any
    row_n: Any  # target rows that it reaches
    value_weight: Any  # (width * channels,) int64
    value_sum: Any
    weight: Any  # (channels * phases * target rows * target columns * lanes,) float32
    pieces: Any  # (n_pieces,) int64: where the pieces of a row of a stamp begin
    kind: int  # values in a vector * 16 + vectors in a piece
    row: int  # values of a row of sums, margin included
    row_step: int  # from a row of a stamp to the next
    size: int  # of all sums
    first: int  # where the sums of the first target place begin
    place: int  # from a target place to the next: lanes of all groups
    group: int  # lanes of a group
    shape: tuple[int, int, int, int]  # target rows, columns, groups, channels of each


def prepare(form: WindowForm) -> Scatter:
    """Lay out the weights of a convolution for its spikes.

    By source channel, what the stride leaves of the source's row and column (*phases*), target row
    and column, and target channel.
    """
    n_out, c_group, kh, kw = form.weight.shape
    channels, height, width = form.source
    _, h, w = form.target
    group_out = n_out // form.groups
    unit = UNITS[1] if (group_out - 1) % UNITS[1] >= UNITS[0] else UNITS[0]
    lanes = -(-group_out // unit) * unit
    place = lanes * form.groups
    geometry = zip((height, width), form.padding, (kh, kw), form.stride, form.dilation, strict=True)
    (y_phase, y_tap, y_target, y_step), (x_phase, x_tap, x_target, x_step) = (
        _axis(n, before, *others) for n, (before, _), *others in geometry
    )
    by_group = form.weight.reshape(form.groups, group_out, c_group, kh, kw)
    taps = np.zeros((channels, kh + 1, kw + 1, lanes), np.int8)  # the last ones: no synapse
    taps[:, :kh, :kw, :group_out] = by_group.transpose(0, 2, 3, 4, 1).reshape(
        channels, kh, kw, group_out
    )
    stamps = taps[:, y_tap[:, None, :, None], x_tap[None, :, None, :]]
    weight = aligned(stamps.size)
    weight[:] = stamps.reshape(-1)
    channel_size, y_size, x_size, row_size = (math.prod(stamps.shape[i:]) for i in (1, 2, 3, 4))
    # a row of a stamp is one run of memory, unless other groups or places lie between
    n_columns = x_tap.shape[1]
    whole = form.groups == 1 and x_step == 1
    length, n_runs = (n_columns * lanes, 1) if whole else (lanes, n_columns)
    together = max(n for n in range(1, MOST_UNITS + 1) if length // unit % n == 0)
    pieces = np.arange(n_runs)[:, None] * x_step * place + np.arange(0, length, together * unit)
    # rows of stamps with a synapse, inside the target; columns may reach into the margin
    y_targets = y_target[:, None] + np.arange(y_tap.shape[1]) * y_step
    inside = (y_tap[y_phase] >= 0) & (y_targets >= 0) & (y_targets < h)
    first = inside.argmax(axis=1)
    margin = max(0, -int(x_target.min()))
    last = int(x_target.max()) + (n_columns - 1) * x_step
    row = (margin + max(w, last + 1)) * place
    channel = np.arange(channels)
    return Scatter(
        row_weight=y_phase * y_size + first * row_size,
        row_sum=(y_target + first * y_step) * row,
        row_n=inside.sum(axis=1),
        value_weight=((x_phase * x_size)[:, None] + channel * channel_size).reshape(-1),
        value_sum=(((x_target + margin) * place)[:, None] + channel // c_group * lanes).reshape(-1),
        weight=weight,
        pieces=pieces.reshape(-1),
        kind=unit * 16 + together,
        row=row,
        row_step=y_step * row,
        size=h * row,
        first=margin * place,
        place=place,
        group=lanes,
        shape=(h, w, form.groups, group_out),
    )


def _axis(
    n: int, before: int, kernel: int, stride: int, dilation: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]:
    """One axis of a convolution, seen from its source.

    Returns
    -------
    phase
        ``(n,)``: remainder that the stride leaves of each source place.
    tap
        ``(phases, n_targets)``: place in the kernel for each target that the phase reaches, in
        ascending order of targets; -1 where there is no synapse.
    target
        ``(n,)``: the first target of each source place; may lie outside.
    step
        From one target to the next.
    """
    step = dilation // math.gcd(stride, dilation)
    kernels = [
        [k for k in range(kernel) if (phase - k * dilation) % stride == 0]
        for phase in range(stride)
    ]
    n_targets = max(map(len, kernels))
    tap = np.full((stride, n_targets), -1)
    first = np.zeros(stride, np.int64)
    for phase, taps in enumerate(kernels):
        if taps:
            tap[phase, n_targets - len(taps) :] = taps[::-1]
            first[phase] = (phase - taps[0] * dilation) // stride - (n_targets - 1) * step
    at = np.arange(n) + before
    return at % stride, tap, at // stride + first[at % stride], step


def costs(s: Scatter) -> tuple[float, float]:
    """Time of a frame without spikes, and of each spike, in vector operations of a tile."""
    unit, n = divmod(s.kind, 16)
    n_units = float(s.row_n.mean()) * len(s.pieces) * n
    each = UNIT_COST[unit] * (1 if s.weight.nbytes <= CACHE_BYTES else FAR_FACTOR)
    return s.size / 4, SPIKE_COST + n_units * each


def aligned(n: int) -> NDArray[np.float32]:
    """Room for values that begin at a vector: one that lies across two cache lines costs twice."""
    room = np.empty(n * 4 + WORD_BYTES, np.uint8)
    begin = -room.ctypes.data % WORD_BYTES
    return room[begin : begin + n * 4].view(np.float32)


@_intrinsic
def _fired(typing_context, values, at):  # type: ignore[no-untyped-def]
    """Which of the `WORD_BYTES` from ``values[at]`` on are not zero: a bit for each value."""

    def code(context, b, signature, given):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, b, given[0])
        position = context.cast(b, given[1], signature.args[1], types.int64)
        pointer = b.gep(array.data, [position])
        value = pointer.type.pointee
        n = WORD_BYTES * 8 // value.width
        vector = ir.VectorType(value, n)
        loaded = b.load(b.bitcast(pointer, vector.as_pointer()), align=1)
        bits = b.icmp_unsigned("!=", loaded, ir.Constant(vector, [0] * n))
        word = b.bitcast(bits, ir.IntType(n))
        return word if n == 64 else b.zext(word, ir.IntType(64))

    return types.uint64(values, at), code


def _of_bits(name: str) -> Any:
    @_intrinsic
    def function(typing_context, bits):  # type: ignore[no-untyped-def]
        def code(context, b, signature, given):  # type: ignore[no-untyped-def]
            if name == "ctpop":
                return b.ctpop(given[0])
            return b.cttz(given[0], ir.Constant(ir.IntType(1), 1))

        return types.uint64(types.uint64), code

    return function


_count_bits, _first_bit = _of_bits("ctpop"), _of_bits("cttz")


@_intrinsic
def _add_stamp(  # type: ignore[no-untyped-def]
    typing_context, sums, to, n_rows, row, pieces, weight, at, factor, kind
):
    """Add ``factor`` times a stamp's weights to sums.

    Each piece is ``kind % 16`` vectors of ``kind // 16`` values, one after the other; an
    instruction each, there is no loop in a piece.
    """

    def code(context, b, signature, given):  # type: ignore[no-untyped-def]
        real, index = ir.FloatType(), ir.IntType(64)

        def array(i: int) -> Any:
            return context.make_array(signature.args[i])(context, b, given[i])

        def number(i: int) -> Any:
            return context.cast(b, given[i], signature.args[i], types.int64)

        start = b.gep(array(0).data, [number(1)])
        n_rows, row = number(2), number(3)
        n_pieces = cgutils.unpack_tuple(b, array(4).shape)[0]
        pieces = array(4).data
        weights = cgutils.alloca_once_value(b, b.gep(array(5).data, [number(6)]))

        def stamp(unit: int, n: int) -> None:
            vector = ir.VectorType(real, unit)
            undefined = ir.Constant(vector, ir.Undefined)
            spread = b.insert_element(undefined, given[7], ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), unit), [0] * unit)
            factors = b.shuffle_vector(spread, undefined, zeros)
            with cgutils.for_range(b, n_rows) as y:
                in_row = b.gep(start, [b.mul(y.index, row)])
                with cgutils.for_range(b, n_pieces) as piece:
                    to = b.gep(in_row, [b.load(b.gep(pieces, [piece.index]))])
                    here = b.load(weights)
                    b.store(b.gep(here, [index(n * unit)]), weights)
                    for i in range(n):
                        place, from_ = (
                            b.bitcast(b.gep(p, [index(i * unit)]), vector.as_pointer())
                            for p in (to, here)
                        )
                        # integers: one rounding or two make no difference, there is none
                        part = b.fmul(b.load(from_, align=4), factors, flags=("contract",))
                        sum_ = b.fadd(b.load(place, align=4), part, flags=("contract",))
                        b.store(sum_, place, align=4)

        done = b.append_basic_block("done")
        switch = b.switch(number(8), done)
        for unit, n in product(UNITS, range(1, MOST_UNITS + 1)):
            block = b.append_basic_block(f"stamp{unit}.{n}")
            switch.add_case(index(unit * 16 + n), block)
            b.position_at_end(block)
            stamp(unit, n)
            b.branch(done)
        b.position_at_end(done)
        return context.get_dummy_value()

    return types.void(sums, to, n_rows, row, pieces, weight, at, types.float32, kind), code


@_jit
def n_spikes(payload: NDArray[Any]) -> int:
    """Count the values that are not zero; ``payload`` is flat."""
    per_word = WORD_BYTES // payload.itemsize
    whole = payload.size // per_word * per_word
    n = np.uint64(0)
    for at in range(0, whole, per_word):
        n += _count_bits(_fired(payload, at))
    for at in range(whole, payload.size):
        n += np.uint64(payload[at] != 0)
    return int(n)


@_intrinsic
def _move(typing_context, to, at, sums, from_):  # type: ignore[no-untyped-def]
    """Copy `UNITS[0]` values."""

    def code(context, b, signature, given):  # type: ignore[no-untyped-def]
        def pointer(i: int) -> Any:
            array = context.make_array(signature.args[i])(context, b, given[i])
            position = context.cast(b, given[i + 1], signature.args[i + 1], types.int64)
            vector = ir.VectorType(ir.FloatType(), UNITS[0])
            return b.bitcast(b.gep(array.data, [position]), vector.as_pointer())

        b.store(b.load(pointer(2), align=4), pointer(0), align=4)
        return context.get_dummy_value()

    return types.void(to, at, sums, from_), code


@_jit
def scatter(
    s: Scatter, payload: NDArray[Any], sums: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Add up what the spikes of one frame send.

    Parameters
    ----------
    s
        From `prepare`.
    payload
        ``(height, width, channels)``, flat.
    sums
        ``(s.size,)``, room to work in.
    out
        ``(target height, width, channels)``, flat, written.
    """
    sums[:] = 0
    per_row, size = s.value_sum.size, payload.size
    per_word = WORD_BYTES // payload.itemsize
    y: Any = np.uint64(0)
    row = 0
    bits: Any
    for word in range(0, size, per_word):
        if word + per_word <= size:
            bits = _fired(payload, word)
        else:
            bits = np.uint64(0)
            for i in range(size - word):
                bits |= np.uint64(payload[word + i] != 0) << np.uint64(i)
        while bits != 0:
            at = word + np.int64(_first_bit(bits))
            bits &= bits - np.uint64(1)
            while at >= row + per_row:
                y += np.uint64(1)
                row += per_row
            in_row = np.uint64(at - row)
            factor = np.float32(payload[np.uint64(at)])
            to = s.row_sum[y] + s.value_sum[in_row]
            from_ = s.row_weight[y] + s.value_weight[in_row]
            _add_stamp(sums, to, s.row_n[y], s.row_step, s.pieces, s.weight, from_, factor, s.kind)
    h, w, n_groups, n_channels = s.shape
    group, channels, vector = np.uint64(s.group), np.uint64(n_channels), np.uint64(UNITS[0])
    n_row, size_out = np.uint64(w * n_groups) * channels, np.uint64(out.size)
    for target_y in range(h):
        in_sums, in_out = np.uint64(target_y * s.row + s.first), np.uint64(target_y) * n_row
        if group == channels:
            for i in range(np.uint64(0), n_row, vector):
                _move(out, in_out + i, sums, in_sums + i)
            continue
        for _ in range(w * n_groups):
            if in_out + group <= size_out:
                # lanes beyond the channels are written over by those that follow
                for c in range(np.uint64(0), channels, vector):
                    _move(out, in_out + c, sums, in_sums + c)
            else:
                for c in range(np.uint64(0), channels, np.uint64(1)):
                    out[in_out + c] = sums[in_sums + c]
            in_sums += group
            in_out += channels


@_jit
def _pad(payload: NDArray[Any], top: int, left: int, out: NDArray[Any]) -> None:
    """Bring one frame's payloads into the middle of zeros."""
    height, width, channels = payload.shape
    out[:top] = 0
    out[top + height :] = 0
    for y in range(height):
        row = out[top + y]
        row[:left] = 0
        row[left + width :] = 0
        from_, to = payload[y].reshape(-1), row[left : left + width].reshape(-1)
        for i in range(width * channels):
            to[i] = from_[i]


@_jit
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
    blocks: NDArray[Any],
    one_by_one: bool,
    sparse: Scatter,
    most_spikes: int,
    sums: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Sum ``weight * payload`` over the windows of each target place.

    Frames without a spike are skipped, and those with few add up what these send.

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
        ``(n_blocks,)`` of `TILE`.
    one_by_one
        Whether each target channel reads its own source channel only.
    sparse
        The same convolution for its spikes,
    most_spikes
        which are this many at most in frames that are left to it.
    sums
        ``(sparse.size,)``, room to work in.
    out
        ``(n, target places, target channels)``, written.
    """
    n, _, _, channels = payload.shape
    n_places, n_out = out.shape[1], out.shape[2]
    frame = size[0] * size[1] * channels
    narrow = weight.shape[2] == LANES
    first = 0
    while first < n:
        m, spikes = 0, 0
        while m < n_frames and first + m < n:
            spikes = n_spikes(payload[first + m].reshape(-1))
            if spikes <= most_spikes:
                break
            room = padded[m * frame : (m + 1) * frame].reshape(size[0], size[1], channels)
            _pad(payload[first + m], top, left, room)
            m += 1
        if m == 0:
            if spikes == 0:
                out[first] = 0
            else:
                scatter(sparse, payload[first].reshape(-1), sums, out[first].reshape(-1))
            first += 1
            continue
        target = out[first : first + m].reshape(-1)
        for i in range(len(blocks)):
            from_, to, n_valid = blocks[i].source, blocks[i].target, blocks[i].n_targets
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
    """A convolution, made ready: its weights in the orders in which tiles and spikes read them.

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
        self._blocks = np.array(blocks, TILE)
        taps = form.weight.transpose(2, 3, 1, 0).reshape(kh * kw * c_group, n_out)
        self._weight = np.zeros((len(blocks), len(taps), tile), np.float32)
        for i, (_, to, n_valid) in enumerate(blocks):
            self._weight[i, :, :n_valid] = taps[:, to : to + n_valid]
        n_tiles = h * w / PLACES * len(blocks)
        cost = n_tiles * (len(taps) * PLACES * (tile // LANES) + TILE_COST)
        self._sparse = prepare(form)
        of_frame, of_spike = costs(self._sparse)
        self._most_spikes = max(0, int((cost - of_frame) / of_spike))

    def __call__(self, payload: NDArray[Any], out: NDArray[Any]) -> None:
        """Sum ``w * payload`` over each target place's synapses; see `_add_windows`.

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
            self._sparse, self._most_spikes, scratch("sums", (self._sparse.size,), np.float32),
            out.reshape(len(out), self._places_of_frame, -1),
        )  # fmt: skip
