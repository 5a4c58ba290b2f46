"""Matrix products that add to their target, without the interpreter's lock.

``scipy.linalg.blas`` has such products but holds the lock while they run, so that threads wait for
each other; ``numpy.matmul`` lets go of it but cannot add. This calls the same BLAS through the
pointers that scipy exports for compiled code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["multiply_add"]

_PROTOTYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)


@lru_cache(maxsize=2)
def _routine(name: str) -> Callable[..., None]:
    from numba.extending import get_cython_function_address

    return _PROTOTYPE(get_cython_function_address("scipy.linalg.cython_blas", name))


def multiply_add(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any], *, accumulate: bool) -> None:
    """``out = a @ b``, or ``out += a @ b``.

    Parameters
    ----------
    a, b, out
        ``(m, k)``, ``(k, n)``, ``(m, n)``, contiguous, all float32 or all float64.
    accumulate
        Whether to add to what ``out`` holds.
    """
    (m, k), n = a.shape, b.shape[1]
    assert b.shape == (k, n)
    assert out.shape == (m, n)
    assert a.dtype == b.dtype == out.dtype
    assert all(x.flags.c_contiguous for x in (a, b, out))
    single = out.dtype == np.float32
    real = ctypes.c_float if single else ctypes.c_double
    # BLAS counts columns first: to it these are the transposed matrices, and out.T = b.T @ a.T
    plain = ctypes.c_char(b"N")
    rows, columns, inner = ctypes.c_int(n), ctypes.c_int(m), ctypes.c_int(k)
    one, beta = real(1.0), real(float(accumulate))
    _routine("sgemm" if single else "dgemm")(
        *map(ctypes.addressof, (plain, plain, rows, columns, inner, one)),
        b.ctypes.data, ctypes.addressof(rows), a.ctypes.data, ctypes.addressof(inner),
        ctypes.addressof(beta), out.ctypes.data, ctypes.addressof(rows),
    )  # fmt: skip
