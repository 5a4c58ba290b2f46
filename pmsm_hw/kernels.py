"""The neuron update, compiled: array operations lose there.

The same arithmetic as in `pmsm_hw.reference` and `pmsm_hw.operators`, fused into one pass over
memory. Imports numba, so import it late, and only for work that outweighs that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["advance"]

_F = TypeVar("_F", bound=Callable[..., Any])

CARRY, RESET, BOUNDED, READOUT = 0, 1, 2, 3
STATE_MIN = -(1 << 23)
STATE_MAX = (1 << 23) - 1


def _jit(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


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


def advance(*arguments: Any) -> int:
    """`pmsm_hw.reference._advance`, compiled; float states only."""
    return int(_advance(*arguments))
