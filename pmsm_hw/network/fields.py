"""What populations and projections consist of: numbers, texts and arrays, as files hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pmsm_hw.network.populations import POPULATION_KINDS, Input, Population
from pmsm_hw.network.projections import PROJECTION_KINDS, Projection

if TYPE_CHECKING:
    from pmsm_hw.neurons.model import Parameter

__all__ = ["Spec", "arrays_of", "attributes_of", "defaults_of", "fields_of"]

Spec: TypeAlias = Literal["int", "ints", "pairs", "float", "text"]

_INPUT: dict[str, Spec] = {"scale": "float", "levels": "ints", "spike_mode": "text"}
_SPEC_OF: dict[str, Spec] = {
    "integer": "int",
    "integers": "ints",
    "real": "float",
    "choice": "text",
}
_WINDOW: dict[str, Spec] = {
    "stride": "ints",
    "padding": "pairs",
    "dilation": "ints",
    "groups": "int",
}
_PROJECTION_ATTRIBUTES: dict[str, dict[str, Spec]] = {
    "dense": {},
    "conv1d": _WINDOW,
    "conv2d": _WINDOW,
    "sum_pool": {"kernel": "ints", "stride": "ints", "padding": "pairs"},
    "identity": {},
}


def attributes_of(kind: str) -> Mapping[str, Spec]:
    """Fields of a kind that are numbers or text, in the order of files.

    Parameters
    ----------
    kind
        Of a population or projection.
    """
    return _attributes(_class(kind))


@cache
def _attributes(made: Any) -> dict[str, Spec]:
    kind, common = made.kind, dict[str, Spec](name="text", kind="text")
    if issubclass(made, Population):
        own = (
            _INPUT
            if kind == Input.kind
            else {p.name: _SPEC_OF[p.type] for p in _parameters(made) if not p.is_array}
        )
        return {**common, "shape": "ints", **own}
    return {
        **common,
        "source": "text",
        "target": "text",
        "weight_exponent": "int",
        "delay": "int",
        **_PROJECTION_ATTRIBUTES[kind],
    }


def arrays_of(kind: str) -> Mapping[str, str]:
    """Fields of a kind that are arrays, with their type in files; ``delays`` may be None.

    Parameters
    ----------
    kind
        Of a population or projection.
    """
    return _arrays(_class(kind))


@cache
def _arrays(made: Any) -> dict[str, str]:
    if not issubclass(made, Population):
        has_delays = "delays" in _defaults(made)
        return {"weight": "|i1", **({"delays": "|u1"} if has_delays else {})}
    return {p.name: _dtype(p) for p in _parameters(made) if p.is_array}


def _class(kind: str) -> Any:
    return POPULATION_KINDS[kind] if kind in POPULATION_KINDS else PROJECTION_KINDS[kind]


def _parameters(made: type[Any]) -> tuple[Parameter, ...]:
    model = getattr(made, "model", None)
    return () if model is None else model.parameters


def _dtype(parameter: Parameter) -> str:
    """Type of an array in files."""
    if parameter.type == "real":
        return "<f8"
    ((low, high),) = parameter.limits
    return "<i4" if low >= -(1 << 31) and high < 1 << 31 else "<i8"


def fields_of(item: Population | Projection) -> dict[str, Any]:
    """All fields of a population or projection, and its kind.

    Parameters
    ----------
    item
        Which.
    """
    made: Any = type(item)
    return {name: getattr(item, name) for name in (*_attributes(made), *_arrays(made))}


def defaults_of(kind: str) -> Mapping[str, Any]:
    """Values that fields of a kind have if nothing is said; those that must be said are left out.

    Parameters
    ----------
    kind
        Of a population or projection.
    """
    return _defaults(_class(kind))


@cache
def _defaults(made: Any) -> dict[str, Any]:
    return {f.name: _default(f) for f in fields(made) if _default(f) is not MISSING}


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
