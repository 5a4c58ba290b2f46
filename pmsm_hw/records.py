"""Frozen dataclasses that hold arrays: what they are made from, equality, repr, pickling."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

if sys.version_info >= (3, 11):
    from typing import dataclass_transform
else:
    from typing_extensions import dataclass_transform

__all__ = ["Comparable", "Given", "Record", "default", "record", "same"]

_Given = TypeVar("_Given", contravariant=True)
_Kept = TypeVar("_Kept", covariant=True)
_Record = TypeVar("_Record")


class Given(Generic[_Given, _Kept]):
    """Type of a record's field that takes one type and keeps another, for type checkers only.

    ``weight: Given[ArrayLike, NDArray[np.int8]]`` may be given anything that numpy takes for an
    array, and is an int8 array once the record is made. Its ``__post_init__`` converts.
    """

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: type | None = None) -> _Kept: ...
        def __set__(self, instance: object, value: _Given) -> None: ...


def default(make: Callable[[], object]) -> Any:
    """What a `Given` field is given where nothing is.

    Parameters
    ----------
    make
        Makes the value, for each record anew.

    Returns
    -------
    dataclasses.Field
        In the type that type checkers take for any field.
    """
    return field(default_factory=make)


# not frozen_default: mypy then takes an inherited `Given` field for what it is given
@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
def record(cls: type[_Record]) -> type[_Record]:
    """Make a class a frozen dataclass with keyword arguments, as every `Record` is.

    Parameters
    ----------
    cls
        With annotated fields.

    Returns
    -------
    type
        The same class.
    """
    return dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)


def same(a: object, b: object) -> bool:
    """Whether two values are equal; arrays are if type, shape and every value are."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a_, b_ = np.asarray(a), np.asarray(b)
        return a_.dtype == b_.dtype and np.array_equal(a_, b_, equal_nan=a_.dtype.kind == "f")
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is not type(b) or getattr(a, "shape", None) != getattr(b, "shape", None):
        return bool(a == b) if not hasattr(a, "shape") else False
    equal: Any = a == b
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)  # a tensor, or one value


def _freeze(value: object) -> None:
    if isinstance(value, np.ndarray):
        value.setflags(write=False)
    elif isinstance(value, Mapping):
        for item in value.values():
            _freeze(item)


class Comparable:
    """Structural equality of frozen dataclasses that hold arrays."""

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(
            same(getattr(self, f.name), getattr(other, f.name))
            for f in fields(self)  # type: ignore[arg-type]
        )


class Record(Comparable):
    """And a readable repr and pickling, where arrays are read-only.

    What was kept for the next use (`functools.cached_property`) is no part of a pickle, and arrays
    come back read-only, as they were.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    def __setstate__(self, state: dict[str, Any]) -> None:
        for value in state.values():
            _freeze(value)
        self.__dict__.update(state)

    def __repr__(self) -> str:
        parts = []
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                if value.ndim == 0:
                    text = str(value.item())
                else:
                    shape = "x".join(map(str, value.shape))
                    text = f"<{value.dtype} {shape} in [{value.min()}, {value.max()}]>"
            else:
                text = repr(value)
            parts.append(f"{f.name}={text}")
        return f"{type(self).__name__}({', '.join(parts)})"
