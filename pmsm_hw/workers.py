"""Threads for array work: each takes whole blocks, and matrix products inside use one thread.

That beats a threaded matrix product between single-threaded steps. Results do not depend on it, as
all arithmetic is exact.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["Workers", "one_blas_thread", "scratch", "workers_for"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Workers:
    """A number of threads.

    Parameters
    ----------
    n
        How many; with 1 everything runs in the calling thread.
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def map(self, function: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
        """Apply a function to each item, some at the same time; results in order."""
        if self.n == 1 or len(items) <= 1:
            return [function(item) for item in items]
        with one_blas_thread():
            return list(_pool(self.n).map(function, items))


def workers_for(large: bool) -> Workers:
    """As many threads as matrix products would use; one where the work is not large."""
    return Workers(_n_threads() if large else 1)


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    from scipy.linalg import blas  # noqa: F401 - its library is one of those to be limited
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _n_threads() -> int:
    libraries = _controller().select(user_api="blas").info()
    return max((library["num_threads"] for library in libraries), default=1)


@lru_cache(maxsize=4)
def _pool(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="pmsm_hw")


_local = threading.local()
_LINE_BYTES = 64


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Uninitialised array that the thread's next call with this name overwrites.

    Begins at a cache line, as vectors that lie across two of them cost twice. Spares the system
    from giving, clearing and taking back the same few megabytes again and again.
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    buffers: dict[str, NDArray[np.uint8]] = _local.__dict__.setdefault("buffers", {})
    buffer = buffers.get(name)
    if buffer is None or len(buffer) < n_bytes:
        room = np.empty(n_bytes + _LINE_BYTES, np.uint8)
        buffer = buffers[name] = room[-room.ctypes.data % _LINE_BYTES :]
    array: NDArray[Any] = buffer[:n_bytes].view(dtype)
    return array.reshape(shape)


# a child made by fork has none of the threads
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)

_lock = threading.Lock()
_limits: list[AbstractContextManager[object]] = []  # one entry per user; the first holds the limit


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit matrix products to one thread while any thread is in here."""
    with _lock:
        if not _limits:
            limit = _controller().limit(limits=1, user_api="blas")
            limit.__enter__()
            _limits.append(limit)
        else:
            _limits.append(_limits[0])
    try:
        yield
    finally:
        with _lock:
            limit = _limits.pop()
            if not _limits:
                limit.__exit__(None, None, None)
