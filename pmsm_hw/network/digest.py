"""SHA-256 of everything that decides what a network computes.

Version 2, written ``2:`` and 64 hexadecimal digits. Fields that have their default are left out, so
that a field that comes later, with a default that means what was before, changes no digest.
``docs/format.md`` defines it. Before it there were two, one of a network and one of its file, which
took every field: mappings and files that were made then name their network by those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pmsm_hw.network.fields import arrays_of, defaults_of, fields_of

if TYPE_CHECKING:
    from pmsm_hw.network.graph import Network
    from pmsm_hw.network.populations import Population
    from pmsm_hw.network.projections import Projection

__all__ = ["content_digest", "has_fingerprint", "is_digest_of", "network_digest"]

PREFIX = "2:"

Fields: TypeAlias = Mapping[str, Any]


def content_digest(
    max_steps: int, populations: Sequence[Fields], projections: Sequence[Fields]
) -> str:
    """Digest of a network given as the fields of its parts.

    Parameters
    ----------
    max_steps
        Of the network.
    populations, projections
        From `pmsm_hw.network.fields.fields_of`, in order.
    """
    digest = hashlib.sha256(_line({"max_steps": max_steps}))
    for item in (*populations, *projections):
        arrays, defaults = arrays_of(item["kind"]), defaults_of(item["kind"])
        said = {k: v for k, v in item.items() if not _is(v, defaults.get(k))}
        digest.update(_line({k: v for k, v in said.items() if k not in arrays}))
        for name, dtype in arrays.items():
            if name in said:
                array = np.asarray(said[name]).astype(dtype, order="C", copy=False)
                digest.update(_line({"array": name, "shape": array.shape}))
                digest.update(array.data)
    return PREFIX + digest.hexdigest()


def network_digest(network: Network) -> str:
    """See `Network.fingerprint`.

    Parameters
    ----------
    network
        Which.
    """
    populations, projections = (
        [fields_of(item) for item in items] for items in (network.populations, network.projections)
    )
    return content_digest(network.max_steps, populations, projections)


def has_fingerprint(network: Network, fingerprint: str) -> bool:
    """Whether a network is the one of a fingerprint, of this version or of the one before.

    Parameters
    ----------
    network
        Which.
    fingerprint
        From `Network.fingerprint`, perhaps of an earlier release.
    """
    if fingerprint.startswith(PREFIX):
        return fingerprint == network.fingerprint
    if any(q.delays is not None for q in network.projections):
        return False  # there were none
    return fingerprint == _fingerprint_1(network)


def is_digest_of(
    digest: str,
    name: str,
    max_steps: int,
    populations: Sequence[Fields],
    projections: Sequence[Fields],
) -> bool:
    """Whether a digest that a file states is that of what the file holds.

    Parameters
    ----------
    digest
        What it states, of this version or of the one before.
    name
        Of the network.
    max_steps, populations, projections
        As for `content_digest`.
    """
    if digest.startswith(PREFIX):
        return digest == content_digest(max_steps, populations, projections)
    if any(q.get("delays") is not None for q in projections):
        return False  # there were none
    return digest == _file_digest_1(name, max_steps, populations, projections)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _line(values: Fields) -> bytes:
    return _encode(values).encode()


def _is(value: Any, default: Any) -> bool:
    """Whether a field has its default; a default of one number may stand for one per axis."""
    if default is None or value is None:
        return value is default
    if isinstance(value, np.ndarray):
        return value.shape == np.shape(default) and bool((value == default).all())
    if isinstance(value, str | int | float):
        return bool(value == default)
    if value == default:  # what follows is slow
        return True
    given, wanted = np.ravel(value), np.ravel(default)
    return wanted.size in (1, given.size) and bool((given == wanted).all())


# -- version 1 ---------------------------------------------------------------------------------

_CONV_1 = ("weight", "stride", "padding", "dilation", "groups")
_FIELDS_1 = {
    "input": ("scale", "levels", "spike_mode"),
    "polarity_multi_spike": (
        "theta", "levels", "bias", "v_init", "gains", "rule", "spike_mode", "overflow",
    ),
    "readout": ("scale", "bias", "overflow"),
    "dense": ("weight",),
    "conv1d": _CONV_1,
    "conv2d": _CONV_1,
    "sum_pool": ("weight", "kernel", "stride", "padding"),
    "identity": ("weight",),
}  # fmt: skip
"""Fields of each kind when the digests were two, beside these:"""

_POPULATION_1 = ("name", "shape")
_PROJECTION_1 = ("source", "target", "weight_exponent", "delay", "name")


def _fields_1(kind: str) -> tuple[str, ...]:
    is_projection = "weight" in _FIELDS_1.get(kind, ())
    return (*(_PROJECTION_1 if is_projection else _POPULATION_1), *_FIELDS_1.get(kind, ()))


def _fingerprint_1(network: Network) -> str:
    digest = hashlib.sha256()
    items: tuple[Population | Projection, ...] = (*network.populations, *network.projections)
    for item in items:
        digest.update(f"{item.kind};".encode())
        for name in _fields_1(item.kind):
            value = getattr(item, name)
            if isinstance(value, np.ndarray):
                digest.update(f"{name}:{value.dtype.str}{value.shape};".encode())
                digest.update(value.tobytes())
            else:
                digest.update(f"{name}={value!r};".encode())
    digest.update(f"max_steps={network.max_steps}".encode())
    return digest.hexdigest()


def _file_digest_1(
    name: str, max_steps: int, populations: Sequence[Fields], projections: Sequence[Fields]
) -> str:
    digest = hashlib.sha256(_line({"max_steps": max_steps, "name": name}))
    for item in (*populations, *projections):
        arrays = {k: v for k, v in arrays_of(item["kind"]).items() if k in _fields_1(item["kind"])}
        texts = (*(k for k in _fields_1(item["kind"]) if k not in arrays), "kind")
        digest.update(_line({k: item[k] for k in texts}))
        for array_name, dtype in arrays.items():
            array = np.asarray(item[array_name]).astype(dtype, order="C", copy=False)
            digest.update(_line({"shape": array.shape}))
            digest.update(array.data)
    return digest.hexdigest()
