"""The compiled loops of counts mode; imports numba, so import it late.

Counts are integers and every loop visits its items in one order, so results repeat exactly.
`pmsm_hw.emulator.layout.bundles` documents the arrays of `CountPlan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir

from pmsm_hw.compiled import cgutils, helper, intrinsic, njit, types
from pmsm_hw.emulator.costs import Costs
from pmsm_hw.emulator.counts import Tally
from pmsm_hw.emulator.layout.bundles import CountPlan

__all__ = ["count_links", "count_population"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _jit(function: _F) -> _F:
    return cast(_F, njit(error_model="numpy", nogil=True)(function))


def _inline(function: _F) -> _F:
    return cast(_F, helper(error_model="numpy", nogil=True, forceinline=True)(function))


# numba's vectoriser leaves the ends of such short runs to single steps: they are LLVM code instead


def _counting(n_lanes: int) -> Any:
    """Make the function that counts those of some neighbours that are not zero."""

    @intrinsic
    def count(typing_context, values, at):  # type: ignore[no-untyped-def]
        def code(context, b, signature, given):  # type: ignore[no-untyped-def]
            array = context.make_array(signature.args[0])(context, b, given[0])
            start = b.gep(array.data, [given[1]])
            vector = ir.VectorType(start.type.pointee, n_lanes)
            loaded = b.load(b.bitcast(start, vector.as_pointer()), align=1)
            fired = b.icmp_unsigned("!=", loaded, ir.Constant(vector, [0] * n_lanes))
            n = b.ctpop(b.bitcast(fired, ir.IntType(n_lanes)))
            return n if n_lanes == 64 else b.zext(n, ir.IntType(64))

        return types.int64(values, types.int64), code

    return count


_count64, _count8 = _counting(64), _counting(8)


@_inline
def _n_fired(values: Any, at: Any, n: Any) -> Any:
    """How many of a run are not zero; ``values`` are flat."""
    total, end = np.int64(0), at + n
    while at + 64 <= end:
        total += _count64(values, at)
        at += 64
    while at + 8 <= end:
        total += _count8(values, at)
        at += 8
    while at < end:
        total += np.int64(values[np.uint64(at)] != 0)
        at += 1
    return total


def _adding(n_lanes: int, with_synapses: bool, with_once: bool, with_units: bool) -> Any:
    """Make the function that sums over some neighbours, ``n`` times as many as lanes.

    It gives the sum of synapses of those that fired, and the sum of synapses times absolute spikes,
    or zero for what is not asked for; without synapses, ones take their place. Sums are of the type
    of ``like``.
    """

    @intrinsic
    def add(typing_context, spikes, at, synapses, begin, n, like):  # type: ignore[no-untyped-def]
        def code(context, b, signature, given):  # type: ignore[no-untyped-def]
            total, index = context.get_value_type(like), ir.IntType(64)
            vector = ir.VectorType(total, n_lanes)
            zeros, ones = (ir.Constant(vector, [value] * n_lanes) for value in (0, 1))
            spikes, synapses = (
                b.gep(context.make_array(signature.args[i])(context, b, given[i]).data, [at])
                for i, at in ((0, given[1]), (2, given[3]))
            )

            def load(pointer: Any, turn: Any) -> Any:
                place = b.gep(pointer, [b.mul(turn, index(n_lanes))])
                narrow = ir.VectorType(place.type.pointee, n_lanes)
                loaded = b.load(b.bitcast(place, narrow.as_pointer()), align=1)
                return b.sext(loaded, vector) if narrow.element.width < total.width else loaded

            once, units = (cgutils.alloca_once_value(b, zeros) for _ in range(2))
            with cgutils.for_range(b, given[4]) as turn:
                k = load(spikes, turn.index)
                each = load(synapses, turn.index) if with_synapses else ones
                if with_once:
                    part = b.select(b.icmp_signed("!=", k, zeros), each, zeros)
                    b.store(b.add(b.load(once), part), once)
                if with_units:
                    k = b.select(b.icmp_signed("<", k, zeros), b.sub(zeros, k), k)
                    part = b.mul(k, each) if with_synapses else k
                    b.store(b.add(b.load(units), part), units)
            reduce_ = cgutils.get_or_insert_function(
                b.module,
                ir.FunctionType(total, [vector]),
                f"llvm.vector.reduce.add.v{n_lanes}i{total.width}",
            )
            sums = [b.call(reduce_, [b.load(part)]) for part in (once, units)]
            return context.make_tuple(b, signature.return_type, sums)

        pair: Any = types.UniTuple
        arguments = (spikes, types.int64, synapses, types.int64, types.int64, like)
        return pair(like, 2)(*arguments), code

    return add


_add_units16, _add_units8 = (_adding(n, False, False, True) for n in (16, 8))
_add_once16, _add_once8 = (_adding(n, True, True, False) for n in (16, 8))
_add_sizes16, _add_sizes8 = (_adding(n, True, False, True) for n in (16, 8))
_add_both16, _add_both8 = (_adding(n, True, True, True) for n in (16, 8))


@_inline
def _n_units(spikes: Any, at: Any, n: Any, kind: Any) -> Any:
    """Sum of ``|k|`` over a run."""
    many, few = n // 16, n % 16 // 8
    units = kind(0)
    if many:
        _, units = _add_units16(spikes, at, spikes, at, many, kind(0))
    done = many * 16
    if few:
        _, part = _add_units8(spikes, at + done, spikes, at + done, few, kind(0))
        units = kind(units + part)
        done += 8
    for j in range(np.uint64(done), np.uint64(n)):
        k = kind(spikes[np.uint64(at) + j])
        units = kind(units + (k if k >= 0 else -k))
    return units


@_inline
def _dots(
    spikes: Any, at: Any, synapses: Any, begin: Any, n: Any, kind: Any, unit: bool, is_binary: bool
) -> Any:
    """Over a run: synapses times messages, and times ``|k|``."""
    many, few = n // 16, n % 16 // 8
    done = many * 16
    if is_binary:
        once, units = _add_once16(spikes, at, synapses, begin, many, kind(0))
        if few:
            part, _ = _add_once8(spikes, at + done, synapses, begin + done, few, kind(0))
            once = kind(once + part)
    elif unit:
        once, units = _add_sizes16(spikes, at, synapses, begin, many, kind(0))
        if few:
            _, more = _add_sizes8(spikes, at + done, synapses, begin + done, few, kind(0))
            units = kind(units + more)
    else:
        once, units = _add_both16(spikes, at, synapses, begin, many, kind(0))
        if few:
            part, more = _add_both8(spikes, at + done, synapses, begin + done, few, kind(0))
            once, units = kind(once + part), kind(units + more)
    for j in range(np.uint64(done + few * 8), np.uint64(n)):
        k = kind(spikes[np.uint64(at) + j])
        weight = kind(synapses[np.uint64(begin) + j])
        units = kind(units + weight * (k if k >= 0 else -k))
        once = kind(once + (weight if k != 0 else kind(0)))
    if is_binary:
        return once, once
    return units if unit else once, units


@_jit
def count_population(
    plan: CountPlan,
    tally: Tally,
    costs: Costs,
    blocks: Any,
    block_core: Any,
    block_slot: Any,
    population: int,
    is_input: bool,
    unit: bool,
    is_binary: bool,
    depth: int,
    compartments: int,
    spikes: Any,
    active: Any,
    sample0: int,
    n_steps: int,
    generate_ps: Any,
    receive_ps: Any,
    received: Any,
    received_units: Any,
    sent: Any,
) -> None:
    """Count what one population did in some samples.

    Parameters
    ----------
    plan, tally, costs
        See there; counts are added.
    blocks, block_core, block_slot
        Blocks of the population; core and first slot of every block.
    population, is_input, unit, is_binary, depth, compartments
        Its index and nature; ``is_binary`` if no spike exceeds 1 and -1. An update costs as much as
        one of each of a neuron's compartments.
    spikes, active
        ``(frames, n)`` integer and uint8, neurons by row, column, channel; a frame is a step of a
        sample.
    sample0, n_steps
        First sample, and steps of each.
    generate_ps, receive_ps
        ``(n_cores + 1, n_hardware_steps)`` int64, to which times are added.
    received
        ``(pairs of the population, frames at once)`` of a type that holds any count of one frame,
        int32 or int64; overwritten.
    received_units
        The same for ``|k|`` messages for each spike; the same array where spikes are unit spikes.
    sent
        ``(n_bundles,)`` int64, to which messages of each neuron to each of its cores are added.
    """
    kind = received.dtype.type
    n_frames, width = spikes.shape[0], received.shape[1]
    n_neurons = spikes.shape[1]
    spikes_, active_ = spikes.reshape(-1), active.reshape(-1)
    pair0, pair1 = plan.population_pair[population], plan.population_pair[population + 1]
    bundle_run, run_at, run_length = plan.bundle_run, plan.run_at, plan.run_length
    bundle_target, target_pair = plan.bundle_target, plan.target_pair
    bundle_messages, bundle_hops, bundle_crossings = (
        plan.bundle_messages, plan.bundle_hops, plan.bundle_crossings,
    )  # fmt: skip
    window_at, window_length, synapses = plan.window_at, plan.window_length, plan.synapses
    row_ps = costs.row
    n_active, n_spikes = np.empty(width, np.int64), np.empty(width, np.int64)
    n_fired, messages = np.empty(width, np.int64), np.empty(width, np.int64)
    spiked = np.empty(width, np.int64)
    out, crossings = np.empty(width, np.int64), np.empty(width, np.int64)
    hops = np.empty((4, width), np.int64)
    once, units = np.empty(width, np.int64), np.empty(width, np.int64)
    step = np.empty(width, np.int64)
    sample = np.empty(width, np.int64)
    for f0 in range(0, n_frames, width):
        n = min(width, n_frames - f0)
        for f in range(n):
            sample[f] = sample0 + (f0 + f) // n_steps
            step[f] = sample0 * n_steps + f0 + f + depth
        received[:] = 0
        received_units[:] = 0
        for i in range(blocks.shape[0]):
            block = blocks[i]
            source = block_core[block]
            n_active[:] = 0
            n_fired[:] = 0
            n_spikes[:] = 0
            out[:] = 0
            hops[:] = 0
            crossings[:] = 0
            for bundle in range(plan.block_bundle[block], plan.block_bundle[block + 1]):
                for f in range(n):
                    bundle_fired, bundle_units = np.int64(0), np.int64(0)
                    for r in range(bundle_run[bundle], bundle_run[bundle + 1]):
                        at, length = (f0 + f) * n_neurons + run_at[r], run_length[r]
                        fired = _n_fired(spikes_, at, length)
                        bundle_fired += fired
                        if is_binary:
                            bundle_units += fired
                        else:
                            bundle_units += np.int64(_n_units(spikes_, at, length, kind))
                        if not is_input:
                            n_active[f] += _n_fired(active_, at, length)
                    n_fired[f] += bundle_fired
                    n_spikes[f] += bundle_units
                    messages[f] = bundle_units if unit else bundle_fired
                    spiked[f] = bundle_units
                first, last = bundle_target[bundle], bundle_target[bundle + 1]
                if first == last:
                    continue
                total = np.int64(0)
                for f in range(n):
                    total += messages[f]
                if total == 0:
                    continue
                sent[bundle] += total
                for f in range(n):
                    out[f] += messages[f] * bundle_messages[bundle]
                for d in range(4):
                    each = bundle_hops[bundle, d]
                    if each != 0:
                        for f in range(n):
                            hops[d, f] += messages[f] * each
                each = bundle_crossings[bundle]
                if each != 0:
                    for f in range(n):
                        crossings[f] += messages[f] * each
                for t in range(first, last):
                    pair = target_pair[t] - pair0
                    for f in range(n):
                        received[pair, f] += kind(messages[f])
                    if not unit:
                        for f in range(n):
                            received_units[pair, f] += kind(spiked[f])
            for f in range(n):
                s = sample[f]
                tally.fired[s, block] += n_fired[f]
                tally.spikes[s, block] += n_spikes[f]
                tally.messages_out[s, block] += out[f]
                for d in range(4):
                    tally.hops[s, block, d] += hops[d, f]
                tally.crossings[s, block] += crossings[f]
                if not is_input:
                    n_idle = block_slot[block + 1] - block_slot[block] - n_active[f]
                    n_idle *= compartments
                    n_updated = n_active[f] * compartments
                    tally.updates_active[s, block] += n_updated
                    tally.updates_idle[s, block] += n_idle
                    generate_ps[source, step[f]] += (
                        n_updated * costs.update_active
                        + n_idle * costs.update_idle
                        + n_fired[f] * costs.spike
                        + out[f] * costs.packet_out
                    )
        for pair in range(pair0, pair1):
            core = plan.pair_core[pair]
            first, last = plan.pair_run[pair], plan.pair_run[pair + 1]
            total = np.int64(0)
            for f in range(n):
                count = np.int64(received[pair - pair0, f])
                total += count
                tally.messages_in[sample[f], pair] += count
                receive_ps[core, step[f]] += count * costs.packet_in
            if total == 0:
                continue
            for row in range(plan.pair_row[pair], plan.pair_row[pair + 1]):
                constant, begin = plan.row_constant[row], plan.row_synapse[row]
                if constant != 0:
                    for f in range(n):
                        once[f] = constant * np.int64(received[pair - pair0, f])
                        units[f] = constant * np.int64(received_units[pair - pair0, f])
                else:
                    once[:] = 0
                    units[:] = 0
                    for r in range(first, last):
                        at, length = window_at[r], window_length[r]
                        for f in range(n):
                            a, b = _dots(
                                spikes_, (f0 + f) * n_neurons + at, synapses, begin, length, kind,
                                unit, is_binary,
                            )  # fmt: skip
                            once[f] += a
                            units[f] += b
                        begin += length
                for f in range(n):
                    tally.synops[sample[f], row] += once[f]
                    tally.unit_synops[sample[f], row] += once[f] if unit else units[f]
                    receive_ps[core, step[f]] += once[f] * row_ps[row]


@_jit
def count_links(plan: CountPlan, columns: int, sent: Any, link_load: Any) -> None:
    """Add up the messages over each link, from those that each bundle sent to each of its cores.

    Routes go along x first: a message enters its links of a row (of a column) at one end and
    leaves them at the other, and sums along the row (the column) give what is on each.
    """
    router, target = plan.bundle_router, plan.target_router
    n_bundles, n_routers = sent.shape[0], link_load.shape[0] // 4
    n_rows = n_routers // columns
    change = np.zeros((4, n_rows + 2, columns + 2), np.int64)  # one line more on all sides
    flow = np.zeros(n_routers, np.int64)
    bundle = 0
    while bundle < n_bundles:
        source = router[bundle]
        while bundle < n_bundles and router[bundle] == source:
            n = sent[bundle]
            if n != 0:
                for t in range(plan.bundle_target[bundle], plan.bundle_target[bundle + 1]):
                    flow[target[t]] += n
            bundle += 1
        y0, x0 = source // columns, source % columns
        for goal in range(n_routers):
            n = flow[goal]
            if n == 0:
                continue
            flow[goal] = 0
            y1, x1 = goal // columns, goal % columns
            east, north = 0 if x1 > x0 else 1, 2 if y1 > y0 else 3
            change[east, y0 + 1, x0 + 1] += n
            change[east, y0 + 1, x1 + 1] -= n
            change[north, y0 + 1, x1 + 1] += n
            change[north, y1 + 1, x1 + 1] -= n
    for y in range(1, n_rows + 1):
        for x in range(1, columns + 1):
            change[0, y, x] += change[0, y, x - 1]
            change[2, y, x] += change[2, y - 1, x]
    for y in range(n_rows, 0, -1):
        for x in range(columns, 0, -1):
            change[1, y, x] += change[1, y, x + 1]
            change[3, y, x] += change[3, y + 1, x]
    for y in range(n_rows):
        for x in range(columns):
            for d in range(4):
                link_load[4 * (y * columns + x) + d] += change[d, y + 1, x + 1]
