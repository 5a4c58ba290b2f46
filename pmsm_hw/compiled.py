"""How loops are compiled: by numba, kept on disk where that works, and never dependent on it.

Every module with compiled loops takes numba from here. Its own cache ends a run where no folder can
be written, the disk is full or a file of the cache is damaged; this one then compiles again. It
also compiles again where a constant of the module changed, wherever it is defined: numba's looks at
the file of the function alone.

Compiling is most of the time of a first call, and half of it went into what Python and C need to
call a function. So `njit` is for what Python calls, and `helper` for what only loops call.
Imports numba, so import it late.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pmsm_hw.errors import InputError

__all__ = ["cgutils", "helper", "intrinsic", "njit", "types"]


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
import numpy as np  # noqa: E402
from numba.core import caching as _caching  # noqa: E402
from numba.core import cgutils as _cgutils  # noqa: E402
from numba.core import types  # noqa: E402
from numba.extending import intrinsic  # noqa: E402

cgutils: Any = _cgutils  # has no type hints
_FunctionCache: Any = _caching.FunctionCache
_njit: Any = numba.njit


def _is_constant(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_constant(v) for v in value)
    return isinstance(value, bool | int | float | str | np.generic | np.dtype)


class _Cache(_FunctionCache):  # type: ignore[misc]
    """numba's cache of one function, whose files may be damaged, and its disk full."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._globals = function.__globals__

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """What a compiled function depends on: constants, and the order of fields, are part of it.

        Both are part of the code, and may come from other files.
        """
        constants = sorted(
            (name, repr(value))
            for name, value in self._globals.items()
            if not name.startswith("__") and _is_constant(value)
        )
        fields = tuple(getattr(argument, "fields", None) for argument in sig)
        return (*super()._index_key(sig, codegen), tuple(constants), repr(fields))

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
    """Compile a function on its first call; like `numba.njit` with a cache, for calls from Python.

    Parameters
    ----------
    options
        As `numba.njit` takes them.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = _njit(no_cfunc_wrapper=True, **options)(function)
        # no locator (RuntimeError): no folder for the cache can be written
        with suppress(RuntimeError, OSError):
            cache: Any = _Cache
            dispatcher._cache = cache(function)
        return dispatcher

    return compiled


def helper(**options: Any) -> Any:
    """Compile a function that only compiled loops of the same file call; it is kept with these.

    Parameters
    ----------
    options
        As `numba.njit` takes them.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        def keep(result: Any) -> None:
            dispatcher.overloads[tuple(result.signature.args)] = result

        def refuse(*arguments: Any, **keywords: Any) -> None:
            raise TypeError(f"{function.__qualname__} can be called from compiled loops only")

        dispatcher = _njit(no_cfunc_wrapper=True, no_cpython_wrapper=True, **options)(function)
        # Python knows none of its compiled forms, and does not ask for one: a call would crash
        dispatcher.add_overload, dispatcher._compile_for_args = keep, refuse
        return dispatcher

    return compiled
