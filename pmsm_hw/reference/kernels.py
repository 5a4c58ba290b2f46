"""The neuron update, compiled: array operations lose there.

The same arithmetic as the steps of `pmsm_hw.neurons.PolarityMultiSpike` and `Readout`, fused into
one pass over memory. Imports numba, so import it late, and only for work that outweighs that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from pmsm_hw.compiled import cgutils, intrinsic, njit, types
from pmsm_hw.network.limits import STATE_MAX, STATE_MIN
from pmsm_hw.neurons.codes import BOUNDED, CARRY, READOUT, RESET

__all__ = ["advance"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _jit(function: _F) -> _F:
    return cast(_F, njit(nogil=True, error_model="numpy")(function))


VECTOR_BYTES = 64
"""Of states that are updated at once."""


def _update_of(n_bytes: int) -> Any:
    """Make the function that updates neurons so many bytes of states at a time, one at least."""

    @intrinsic
    def update(  # type: ignore[no-untyped-def]
        typing_context, like, like_k, n_times, drive, v, theta, inverse, bias, n, p, k, active
    ):
        """Update neurons by the rule "carry", without clipping of states.

        ``like`` and ``like_k`` give the types of states and spikes; other arrays are addresses.
        ``floor(u / theta)`` is the floor of ``u * inverse``, corrected by one where the rest is not
        between 0 and theta. It is never further off, and no product is rounded: ``u`` and ``theta``
        are integers up to ``2**23`` (in float64, with room to spare).
        """

        def code(context, b, signature, given):  # type: ignore[no-untyped-def]
            real, spike = (context.get_value_type(signature.args[i].dtype) for i in (0, 1))
            flag = ir.IntType(8)
            size = context.get_abi_sizeof(real)
            n_lanes = max(1, n_bytes // size)
            vector = ir.VectorType(real, n_lanes)
            low, high = b.fneg(given[8]), given[9]
            arrays = [
                b.inttoptr(given[i], ir.VectorType(value, n_lanes).as_pointer())
                for i, value in ((3, real), (4, real), (5, real), (6, real), (7, real),
                                 (10, spike), (11, flag))
            ]  # fmt: skip

            def spread(value: Any) -> Any:
                undefined = ir.Constant(vector, ir.Undefined)
                first = b.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), n_lanes), [0] * n_lanes)
                return b.shuffle_vector(first, undefined, zeros)

            floor = cgutils.get_or_insert_function(
                b.module, ir.FunctionType(vector, [vector]), f"llvm.floor.v{n_lanes}f{size * 8}"
            )
            zero, one = (ir.Constant(vector, [value] * n_lanes) for value in (0.0, 1.0))
            low, high = spread(low), spread(high)
            with cgutils.for_range(b, given[2]) as turn:
                *inputs, to_k, to_active = (b.gep(array, [turn.index]) for array in arrays)
                drive, v, theta, inverse, bias = (b.load(at, align=size) for at in inputs)
                change = b.fadd(drive, bias)
                u = b.fadd(v, change)
                fired = b.call(floor, [b.fmul(u, inverse)])
                rest = b.fsub(u, b.fmul(fired, theta))
                fired = b.select(b.fcmp_ordered(">=", rest, theta), b.fadd(fired, one), fired)
                fired = b.select(b.fcmp_ordered("<", rest, zero), b.fsub(fired, one), fired)
                fired = b.select(b.fcmp_ordered("<", fired, low), low, fired)
                fired = b.select(b.fcmp_ordered(">", fired, high), high, fired)
                b.store(b.fsub(u, b.fmul(fired, theta)), inputs[1], align=size)
                b.store(b.fptosi(fired, to_k.type.pointee), to_k, align=1)
                moved, fires = (b.fcmp_unordered("!=", values, zero) for values in (change, fired))
                is_active = b.zext(b.or_(moved, fires), to_active.type.pointee)
                b.store(is_active, to_active, align=1)
            return context.get_dummy_value()

        addresses = (drive, v, theta, inverse, bias)
        return types.void(like, like_k, types.int64, *addresses, n, p, k, active), code

    return update


_update_vectors, _update_ones = _update_of(VECTOR_BYTES), _update_of(0)


@_jit
def _advance_plainly(
    drive: NDArray[Any],
    v: NDArray[Any],
    theta: NDArray[Any],
    bias: NDArray[Any],
    start: NDArray[Any],
    n: Any,
    p: Any,
    is_reset: bool,
    t0: int,
    k: NDArray[Any],
    active: NDArray[np.bool_],
) -> None:
    """`_advance` for the rules "carry" and "reset", where states need no clipping.

    In each array the values of a row stand one after the other.
    """
    n_samples, n_steps, n_rows, length = k.shape
    per_vector = VECTOR_BYTES // v.itemsize
    n_vectors = length // per_vector
    whole, done = n_vectors * per_vector, n_vectors * VECTOR_BYTES
    inverse = v.dtype.type(1) / theta
    # addresses: views of rows would be counted by the compiler, at the price of the work itself
    for i in range(n_samples):
        for t in range(n_steps):
            td = t if drive.shape[1] > 1 else 0
            for j in range(n_rows):
                jt = j if theta.shape[0] > 1 else 0
                jb = j if bias.shape[0] > 1 else 0
                js = j if start.shape[0] > 1 else 0
                if t0 + t == 0 or is_reset:
                    for c in range(length):
                        v[i, j, c] = start[js, c]
                drive_ = drive.ctypes.data + (
                    i * drive.strides[0] + td * drive.strides[1] + j * drive.strides[2]
                )
                v_ = v.ctypes.data + i * v.strides[0] + j * v.strides[1]
                theta_ = theta.ctypes.data + jt * theta.strides[0]
                inverse_ = inverse.ctypes.data + jt * inverse.strides[0]
                bias_ = bias.ctypes.data + jb * bias.strides[0]
                k_ = k.ctypes.data + i * k.strides[0] + t * k.strides[1] + j * k.strides[2]
                active_ = active.ctypes.data + (
                    i * active.strides[0] + t * active.strides[1] + j * active.strides[2]
                )
                _update_vectors(
                    v, k, n_vectors, drive_, v_, theta_, inverse_, bias_, n, p, k_, active_
                )
                _update_ones(
                    v, k, length - whole, drive_ + done, v_ + done, theta_ + done, inverse_ + done,
                    bias_ + done, n, p, k_ + whole * k.itemsize, active_ + whole,
                )  # fmt: skip
    if is_reset:
        for i in range(n_samples):
            for j in range(n_rows):
                for c in range(length):
                    v[i, j, c] = start[j if start.shape[0] > 1 else 0, c]


@_jit
def _advance(
    drive: NDArray[Any],
    v: NDArray[Any],
    sent: NDArray[Any],
    theta: NDArray[Any],
    bias: NDArray[Any],
    start: NDArray[Any],
    n: Any,
    p: Any,
    rule: int,
    saturate: bool,
    t0: int,
    k: NDArray[Any],
    active: NDArray[np.bool_],
) -> int:
    # several short loops over a row, of few arrays each: only then does the compiler vectorise them
    n_samples, n_steps, n_rows, length = k.shape
    low, high = v.dtype.type(STATE_MIN), v.dtype.type(STATE_MAX)
    saturations = 0
    for i in range(n_samples):
        for t in range(n_steps):
            td = t if drive.shape[1] > 1 else 0
            steps = v.dtype.type(t0 + t + 1)
            for j in range(n_rows):
                u = v[i, j]
                inputs, active_ = drive[i, td, j], active[i, t, j]
                theta_ = theta[j if theta.shape[0] > 1 else 0]
                bias_ = bias[j if bias.shape[0] > 1 else 0]
                start_ = start[j if start.shape[0] > 1 else 0]
                if t0 + t == 0:
                    for c in range(length):
                        u[c] = start_[c]
                for c in range(length):
                    change = inputs[c] + bias_[c]
                    u[c] += change
                    active_[c] = change != 0
                if saturate:
                    for c in range(length):
                        if u[c] < low or u[c] > high:
                            saturations += 1
                            u[c] = min(max(u[c], low), high)
                if rule == READOUT:
                    continue
                k_ = k[i, t, j]
                if rule == BOUNDED:
                    sent_ = sent[i, j]
                    for c in range(length):
                        s = sent_[c]
                        fired = np.floor(u[c] / theta_[c])
                        fired = min(max(fired, -n * steps - s), p * steps - s)
                        sent_[c] = s + fired
                        u[c] -= fired * theta_[c]
                        k_[c] = fired
                else:
                    for c in range(length):
                        fired = min(max(np.floor(u[c] / theta_[c]), -n), p)
                        u[c] -= fired * theta_[c]
                        k_[c] = fired
                for c in range(length):
                    active_[c] |= k_[c] != 0
                if rule == RESET:
                    for c in range(length):
                        u[c] = start_[c]
    return saturations


def advance(
    drive: NDArray[Any],
    v: NDArray[Any],
    sent: NDArray[Any],
    theta: NDArray[Any],
    bias: NDArray[Any],
    start: NDArray[Any],
    n: Any,
    p: Any,
    rule: int,
    saturate: bool,
    t0: int,
    k: NDArray[Any],
    active: NDArray[np.bool_],
) -> int:
    """Step some samples of neurons or readouts; return how many states were clipped.

    Parameters
    ----------
    drive
        ``(batch, 1 or n_steps, rows, row length)``, see `pmsm_hw.reference.neurons.NeuronKernel`.
    v, sent
        ``(batch, rows, row length)``, float, changed in place; ``v`` is set to ``start`` at the
        first step, ``sent`` is used by rule "bounded" only.
    theta, bias, start
        ``(1 or rows, row length)``.
    n, p
        Levels.
    rule
        Of `pmsm_hw.neurons.codes`.
    saturate
        Whether to clip ``u`` to the state's width.
    t0
        Steps taken before.
    k, active
        ``(batch, n_steps, rows, row length)``, written (``k`` not by readouts).
    """
    if rule in (CARRY, RESET) and not saturate:
        _advance_plainly(drive, v, theta, bias, start, n, p, rule == RESET, t0, k, active)
        return 0
    return int(_advance(drive, v, sent, theta, bias, start, n, p, rule, saturate, t0, k, active))
