"""How loops are compiled: by numba, kept on disk where that works, and never dependent on it.

Every module with compiled loops takes numba from here. Its own cache ends a run where no folder can
be written, the disk is full or a file of the cache is damaged; this one then compiles again.
Imports numba, so import it late.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pmsm_hw.errors import InputError

__all__ = ["cgutils", "intrinsic", "njit", "types"]


def _check_environment() -> None:
    given = os.environ.get(THREADS)
    if given is not None and not (given.strip().isdecimal() and int(given) > 0):
        raise InputError(
            f"environment variable {THREADS}",
            f"{given!r} is not a positive integer",
            remedy="set it to a number of threads, or unset it",
            actual=given,
            limit=">= 1",
        )


THREADS = "NUMBA_NUM_THREADS"
_check_environment()  # numba ends with a traceback, or warns with one

import numba  # noqa: E402
from numba.core import caching as _caching  # noqa: E402
from numba.core import cgutils as _cgutils  # noqa: E402
from numba.core import types  # noqa: E402
from numba.extending import intrinsic  # noqa: E402

cgutils: Any = _cgutils  # has no type hints
_FunctionCache: Any = _caching.FunctionCache


class _Cache(_FunctionCache):  # type: ignore[misc]
    """numba's cache of one function, whose files may be damaged, and its disk full."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None: it is then compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file fails in any way
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function; without room it is compiled again next time."""
        try:
            super().save_overload(sig, data)
        except OSError:
            return
        except Exception:  # the index is damaged: begin a new one
            with suppress(OSError):
                self.flush()
                super().save_overload(sig, data)


def njit(**options: Any) -> Any:
    """Compile a function on its first call; like `numba.njit` with a cache.

    Parameters
    ----------
    options
        As `numba.njit` takes them.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        # no locator (RuntimeError): no folder for the cache can be written
        with suppress(RuntimeError, OSError):
            cache: Any = _Cache
            dispatcher._cache = cache(function)
        return dispatcher

    return compiled
