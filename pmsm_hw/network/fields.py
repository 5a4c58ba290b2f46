"""What populations and projections consist of: numbers, texts and arrays, as files hold them."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, Literal, TypeAlias

from pmsm_hw.network.populations import POPULATION_KINDS, Population
from pmsm_hw.network.projections import PROJECTION_KINDS, Projection

__all__ = ["Spec", "arrays_of", "attributes_of", "defaults_of", "fields_of"]

Spec: TypeAlias = Literal["int", "ints", "pairs", "float", "text"]

_POPULATION_ATTRIBUTES: dict[str, dict[str, Spec]] = {
    "input": {"scale": "float", "levels": "ints", "spike_mode": "text"},
    "polarity_multi_spike": {
        "levels": "ints",
        "gains": "ints",
        "rule": "text",
        "spike_mode": "text",
        "overflow": "text",
    },
    "readout": {"overflow": "text"},
}
_POPULATION_ARRAYS: dict[str, dict[str, str]] = {
    "input": {},
    "polarity_multi_spike": {"theta": "<i4", "bias": "<i4", "v_init": "<i4"},
    "readout": {"scale": "<f8", "bias": "<i4"},
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


def attributes_of(kind: str) -> dict[str, Spec]:
    """Fields of a kind that are numbers or text, in the order of files.

    Parameters
    ----------
    kind
        Of a population or projection.
    """
    common: dict[str, Spec] = {"name": "text", "kind": "text"}
    if kind in POPULATION_KINDS:
        return {**common, "shape": "ints", **_POPULATION_ATTRIBUTES[kind]}
    return {
        **common,
        "source": "text",
        "target": "text",
        "weight_exponent": "int",
        "delay": "int",
        **_PROJECTION_ATTRIBUTES[kind],
    }


def arrays_of(kind: str) -> dict[str, str]:
    """Fields of a kind that are arrays, with their type in files.

    Parameters
    ----------
    kind
        Of a population or projection.
    """
    return _POPULATION_ARRAYS[kind] if kind in POPULATION_KINDS else {"weight": "|i1"}


def fields_of(item: Population | Projection) -> dict[str, Any]:
    """All fields of a population or projection, and its kind.

    Parameters
    ----------
    item
        Which.
    """
    names = (*attributes_of(item.kind), *arrays_of(item.kind))
    return {name: getattr(item, name) for name in names}


@cache
def defaults_of(kind: str) -> dict[str, Any]:
    """Values that fields of a kind have if nothing is said; those that must be said are left out.

    Parameters
    ----------
    kind
        Of a population or projection.
    """
    made: type[Any] = {**POPULATION_KINDS, **PROJECTION_KINDS}[kind]
    return {f.name: _default(f) for f in fields(made) if _default(f) is not MISSING}


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
