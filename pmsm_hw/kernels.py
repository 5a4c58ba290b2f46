"""Compiled loops for where array operations lose: the neuron update and depthwise windows.

The same arithmetic as in `pmsm_hw.reference` and `pmsm_hw.operators`, fused into one pass over
memory. Imports numba, so import it late, and only for work that outweighs that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["advance", "depthwise"]

_F = TypeVar("_F", bound=Callable[..., Any])

CARRY, RESET, BOUNDED, READOUT = 0, 1, 2, 3
STATE_MIN = -(1 << 23)
STATE_MAX = (1 << 23) - 1


def _jit(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@_jit
def _floor_divide(u: Any, theta: Any) -> Any:
    # exact in either float type: see `pmsm_hw.reference._advance`
    return np.floor(u / theta)


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
    n_samples, n_steps, n_places, n_channels = k.shape
    zero = v.dtype.type(0)
    low, high = v.dtype.type(STATE_MIN), v.dtype.type(STATE_MAX)
    saturations = 0
    for i in range(n_samples):
        for t in range(n_steps):
            td = t if drive.shape[1] > 1 else 0
            steps = v.dtype.type(t0 + t + 1)
            for j in range(n_places):
                jt = j if theta.shape[0] > 1 else 0
                jb = j if bias.shape[0] > 1 else 0
                js = j if start.shape[0] > 1 else 0
                if saturate:
                    for c in range(n_channels):
                        u = v[i, j, c] + (drive[i, td, j, c] + bias[jb, c])
                        if u < low or u > high:
                            saturations += 1
                if rule == READOUT:
                    for c in range(n_channels):
                        change = drive[i, td, j, c] + bias[jb, c]
                        u = v[i, j, c] + change
                        if saturate:
                            u = min(max(u, low), high)
                        active[i, t, j, c] = change != zero
                        v[i, j, c] = u
                elif rule == BOUNDED:
                    for c in range(n_channels):
                        change = drive[i, td, j, c] + bias[jb, c]
                        u = v[i, j, c] + change
                        if saturate:
                            u = min(max(u, low), high)
                        fired = _floor_divide(u, theta[jt, c])
                        s = sent[i, j, c]
                        fired = min(max(fired, -n * steps - s), p * steps - s)
                        sent[i, j, c] = s + fired
                        v[i, j, c] = u - fired * theta[jt, c]
                        k[i, t, j, c] = fired
                        active[i, t, j, c] = (change != zero) | (fired != zero)
                elif rule == RESET:
                    for c in range(n_channels):
                        change = drive[i, td, j, c] + bias[jb, c]
                        u = v[i, j, c] + change
                        if saturate:
                            u = min(max(u, low), high)
                        fired = min(max(_floor_divide(u, theta[jt, c]), -n), p)
                        v[i, j, c] = start[js, c]
                        k[i, t, j, c] = fired
                        active[i, t, j, c] = (change != zero) | (fired != zero)
                else:
                    for c in range(n_channels):
                        change = drive[i, td, j, c] + bias[jb, c]
                        u = v[i, j, c] + change
                        if saturate:
                            u = min(max(u, low), high)
                        fired = min(max(_floor_divide(u, theta[jt, c]), -n), p)
                        v[i, j, c] = u - fired * theta[jt, c]
                        k[i, t, j, c] = fired
                        active[i, t, j, c] = (change != zero) | (fired != zero)
    return saturations


def advance(*arguments: Any) -> int:
    """`pmsm_hw.reference._advance`, compiled; float states only."""
    return int(_advance(*arguments))


@_jit
def _depthwise(
    x: NDArray[Any],
    weight: NDArray[Any],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    out: NDArray[Any],
) -> None:
    n, h_out, w_out, channels = out.shape
    h_in, w_in = x.shape[1:3]
    kh, kw = weight.shape[:2]
    for b in range(n):
        for y in range(h_out):
            for z in range(w_out):
                for c in range(channels):
                    out[b, y, z, c] = 0
                for i in range(kh):
                    row = y * stride[0] - padding[0] + i * dilation[0]
                    if row < 0 or row >= h_in:
                        continue
                    for j in range(kw):
                        column = z * stride[1] - padding[1] + j * dilation[1]
                        if column < 0 or column >= w_in:
                            continue
                        for c in range(channels):
                            out[b, y, z, c] += weight[i, j, c] * x[b, row, column, c]


def depthwise(
    x: NDArray[Any],
    weight: NDArray[Any],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    out: NDArray[Any],
) -> None:
    """One window per channel.

    Parameters
    ----------
    x
        ``(n, height, width, channels)`` integers of any dtype.
    weight
        ``(kernel height, kernel width, channels)`` of the dtype of ``out``.
    stride, dilation
        Per axis.
    padding
        ``(top, left)``; the other ends follow from the shape of ``out``.
    out
        ``(n, height, width, channels)``, written.
    """
    _depthwise(x, weight, stride, padding, dilation, out)
