"""The update of Loihi's leaky integrate-and-fire neurons, compiled.

Imports numba, so import it late, and only for work that outweighs that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.compiled import njit
from pmsm_hw.neurons.cuba_lif import DECAY_BITS, STATE_SHIFT, U, V

__all__ = ["advance"]

_F = TypeVar("_F", bound=Callable[..., Any])

_PART, _PARTS = np.float32(2.0**-DECAY_BITS), np.float32(1 << DECAY_BITS)
_SHIFT = np.float32(1 << STATE_SHIFT)
_WIDTH, _HALF = np.float32(1 << U.bits), np.float32(1 << (U.bits - 1))
_LEAST, _MOST = (np.float32(limit) for limit in V.limits)
_INPUTS = np.float32(1 << (U.bits - STATE_SHIFT))
"""Inputs that differ by this much change u alike."""

_ZERO, _ONE, _HALF_ONE = np.float32(0), np.float32(1), np.float32(0.5)


def _jit(function: _F) -> _F:
    return cast(_F, njit(nogil=True, error_model="numpy")(function))


@_jit
def _decayed(x: Any, kept: Any) -> Any:
    """``x * kept / 4096`` towards zero: of the high bits exactly, of the 12 low ones rounded."""
    high = np.trunc(x * _PART)
    low = x - high * _PARTS
    return high * kept + np.trunc(low * kept * _PART)


@_jit
def advance(
    drive: NDArray[Any],
    u: NDArray[Any],
    v: NDArray[Any],
    count: NDArray[Any],
    kept_u: NDArray[Any],
    kept_v: NDArray[Any],
    threshold: NDArray[Any],
    bias: NDArray[Any],
    leaks: tuple[bool, bool],
    is_small: bool,
    subtracts: bool,
    is_graded: bool,
    refractory: int,
    resets: tuple[int, int],
    t0: int,
    k: NDArray[Any],
    active: NDArray[np.bool_],
) -> int:
    """Step some samples; return how many values wrapped or saturated.

    Parameters
    ----------
    drive
        ``(batch, 1 or n_steps, rows, row length)``, see `pmsm_hw.reference.neurons.NeuronKernel`.
    u, v, count
        ``(batch, rows, row length)`` float32, changed in place; set to 0 at the first step.
        ``count`` is used for ``refractory`` above 1 only.
    kept_u, kept_v, threshold, bias
        ``(1 or rows, row length)`` float32: what decays leave, of 4,096, and what is compared with
        ``v`` and added to it.
    leaks
        Whether any current stays for another step, and whether any voltage does not.
    is_small
        Whether no input alone makes a current wrap.
    subtracts, is_graded, refractory
        As `pmsm_hw.neurons.CubaLif` has them.
    resets
        Interval and offset.
    t0
        Steps taken before.
    k, active
        ``(batch, n_steps, rows, row length)``, written.
    """
    # several short loops over a row, of few arrays each: only then does the compiler vectorise them
    n_samples, n_steps, n_rows, length = k.shape
    every, first = resets
    outside = 0
    for i in range(n_samples):
        for t in range(n_steps):
            td = t if drive.shape[1] > 1 else 0
            starts = t0 + t == 0 or (every > 0 and (t0 + t) % every == first % every)
            for j in range(n_rows):
                u_, v_, k_, active_ = u[i, j], v[i, j], k[i, t, j], active[i, t, j]
                inputs, bias_ = drive[i, td, j], bias[j if bias.shape[0] > 1 else 0]
                threshold_ = threshold[j if threshold.shape[0] > 1 else 0]
                if starts:
                    u_[:] = _ZERO
                    v_[:] = _ZERO
                    if refractory > 1:
                        count[i, j, :] = _ZERO
                if is_small and not leaks[0]:
                    for c in range(length):
                        u_[c] = inputs[c] * _SHIFT
                else:
                    kept = kept_u[j if kept_u.shape[0] > 1 else 0]
                    for c in range(length):
                        rest, added = _decayed(u_[c], kept[c]), inputs[c]
                        # rest and near * 64 reach 2**23, their sum is exact
                        near = added - np.floor(added / _INPUTS + _HALF_ONE) * _INPUTS
                        wanted = rest + near * _SHIFT
                        wanted -= _WIDTH if wanted >= _HALF else _ZERO
                        wanted += _WIDTH if wanted < -_HALF else _ZERO
                        outside += wanted - rest != added * _SHIFT
                        u_[c] = wanted
                # what v becomes is exact up to 2**24, and beyond its width if it is rounded
                if leaks[1]:
                    kept = kept_v[j if kept_v.shape[0] > 1 else 0]
                    for c in range(length):
                        rest = _decayed(v_[c], kept[c])
                        active_[c] = (u_[c] != _ZERO) | (bias_[c] != _ZERO) | (rest != v_[c])
                        v_[c] = rest + u_[c] + bias_[c]
                else:
                    for c in range(length):
                        active_[c] = (u_[c] != _ZERO) | (bias_[c] != _ZERO)
                        v_[c] += u_[c] + bias_[c]
                if refractory > 1:
                    for c in range(length):
                        v_[c] = _ZERO if count[i, j, c] > _ZERO else v_[c]
                for c in range(length):
                    held = min(max(v_[c], _LEAST), _MOST)
                    outside += held != v_[c]
                    v_[c] = held
                    k_[c] = held > threshold_[c]
                    active_[c] |= held > threshold_[c]
                if refractory > 1:
                    for c in range(length):
                        n = np.float32(refractory) if k_[c] != 0 else count[i, j, c]
                        count[i, j, c] = max(n - _ONE, _ZERO)
                if is_graded:
                    for c in range(length):
                        left = v_[c] - threshold_[c] if subtracts else _ZERO
                        sent = np.floor(v_[c] / _SHIFT) if k_[c] != 0 else _ZERO
                        v_[c] = left if k_[c] != 0 else v_[c]
                        k_[c] = sent
                else:
                    for c in range(length):
                        left = v_[c] - threshold_[c] if subtracts else _ZERO
                        v_[c] = left if k_[c] != 0 else v_[c]
    return outside
