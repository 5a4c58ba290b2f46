"""What network files hold: limits of each kind, and the network made of its fields."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from pmsm_hw.errors import FormatError, NetworkError
from pmsm_hw.network import (
    POPULATION_KINDS,
    PROJECTION_KINDS,
    Network,
)

__all__ = [
    "MAX_ITEMS",
    "MAX_TEXT_BYTES",
    "at_most",
    "check_limits",
    "check_work",
    "network_from",
    "one_line",
    "refuse",
    "subject_of",
    "text_bytes",
]

MAX_ITEMS = 10_000
"""Largest number of populations, and of projections, in a file."""
MAX_TEXT_BYTES = 1_000
"""Longest name in a file, in bytes of UTF-8."""
MAX_NEURONS = 1 << 27
"""Most neurons (values, for inputs) of one population, and of all together."""
MAX_CHANNELS = 1 << 20
"""Most channels (neurons, where the shape has one axis) of one population."""
MAX_POOL_WEIGHTS = 1 << 23
"""Most channels x window positions of one pooling projection."""
MAX_PADDING = 1 << 12
"""Largest padding, stride, dilation or kernel size."""
MAX_PROOF = 1 << 28
"""Most parameters x steps that the bound proof is asked to step through."""

_NOT_SAVED = object()


def subject_of(path: object, network: object = _NOT_SAVED) -> str:
    """How error messages name a file; a path that is none, or no network to save, is refused."""
    if not isinstance(path, str | os.PathLike):
        refuse(
            f"path {path!r:.60}", "is not a path", "give a str or a pathlib.Path", path, "a path"
        )
    subject = f"file '{os.fspath(path)}'"
    if network is not _NOT_SAVED and not isinstance(network, Network):
        refuse(
            subject,
            f"a {type(network).__name__} was given to save, a Network is expected",
            "give a Network",
            type(network).__name__,
            "Network",
        )
    return subject


def refuse(
    subject: str, problem: str, remedy: str, actual: object = None, limit: object = None
) -> NoReturn:
    """Raise `FormatError`."""
    raise FormatError(subject, problem, remedy=remedy, actual=actual, limit=limit)


def at_most(subject: str, what: str, actual: int, limit: int) -> None:
    """Refuse a size that is negative or above a limit."""
    if not 0 <= actual <= limit:
        refuse(
            subject,
            f"{what} {actual:,} is outside 0..{limit:,}",
            "files hold no larger ones",
            actual,
            limit,
        )


def one_line(error: BaseException) -> str:
    """Message of an error, short enough for one line."""
    return " ".join(str(error).split())[:200]


def text_bytes(subject: str, name: str, value: object) -> bytes:
    """UTF-8 of a name, or a refusal."""
    data = value.encode(errors="replace") if isinstance(value, str) else b""
    good = isinstance(value, str) and data.decode() == value and "\0" not in value
    if not good or len(data) > MAX_TEXT_BYTES:
        refuse(
            subject,
            f"{name} {value!r:.60} is not text of at most {MAX_TEXT_BYTES:,} bytes of UTF-8",
            "use a shorter, plain name",
            len(data),
            MAX_TEXT_BYTES,
        )
    return data


def check_limits(subject: str, fields: Mapping[str, Any]) -> None:
    """Check the size claims of one population or projection, given as its fields."""
    if fields["kind"] in POPULATION_KINDS:
        shape = [int(s) for s in fields["shape"]]
        for size in shape:
            at_most(subject, "size", size, MAX_NEURONS)
        at_most(subject, "number of neurons", math.prod(shape), MAX_NEURONS)
        at_most(subject, "number of channels", shape[0], MAX_CHANNELS)
        return
    for what in ("kernel", "stride", "dilation"):
        for size in fields.get(what, ()):
            at_most(subject, what, int(size), MAX_PADDING)
    for pair in fields.get("padding", ()):
        for size in pair:
            at_most(subject, "padding", int(size), MAX_PADDING)


def check_work(
    subject: str, populations: list[dict[str, Any]], projections: list[dict[str, Any]], steps: int
) -> None:
    """Check what the bound proof would have to allocate and to compute."""
    channels = {p["name"]: int(p["shape"][0]) for p in populations}
    n_neurons = sum(math.prod(int(s) for s in p["shape"]) for p in populations)
    at_most(subject, "number of neurons", n_neurons, MAX_NEURONS)
    work = 0
    for p in populations:
        sizes = [np.size(p[a]) for a in ("theta", "bias", "v_init") if a in p]
        work += max([channels.get(p["name"], 0), *sizes])
    at_most(subject, "number of parameters x max_steps", work * max(steps, 1), MAX_PROOF)
    for q in projections:
        if "kernel" in q:
            size = channels.get(q["source"], 0)
            for k in q["kernel"]:
                size *= int(k)
            at_most(
                f"{subject}: projection '{q['name']}'", "channels x window", size, MAX_POOL_WEIGHTS
            )


def network_from(subject: str, name: str, max_steps: int, items: list[dict[str, Any]]) -> Network:
    """Build a network from the checked fields of its populations and projections."""
    populations = [item for item in items if item["kind"] in POPULATION_KINDS]
    projections = [item for item in items if item["kind"] in PROJECTION_KINDS]
    check_work(subject, populations, projections, max_steps)
    try:
        return Network(
            name=name,
            max_steps=max_steps,
            populations=tuple(_build(POPULATION_KINDS, p) for p in populations),
            projections=tuple(_build(PROJECTION_KINDS, q) for q in projections),
        )
    except NetworkError as error:
        raise FormatError(
            subject,
            f"holds no valid network: {error.subject}: {error.problem}",
            remedy=error.remedy,
            actual=error.actual,
            limit=error.limit,
        ) from error


def _build(kinds: Mapping[str, Callable[..., Any]], fields: Mapping[str, Any]) -> Any:
    return kinds[fields["kind"]](**{k: v for k, v in fields.items() if k != "kind"})
