"""Networks as HDF5 files: own integer format version, reproducible, atomic, suspicious on reading.

``docs/format.md`` describes every group, attribute and dataset. A file read here may come from
anywhere: sizes are checked before anything is allocated, links and external storage are refused,
types and shapes are verified, and what is left must still pass the validation of `Network`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import ChipFileError, FormatError, MappingError, NetworkError
from pmsm_hw.network import (
    POPULATION_KINDS,
    PROJECTION_KINDS,
    Input,
    Network,
    Population,
    Projection,
)
from pmsm_hw.operators import chw

if TYPE_CHECKING:
    import h5py

    import pmsm_hw.mapping as placement

__all__ = ["FORMAT_VERSION", "load", "load_mapping", "load_report", "save"]

FORMAT = "pmsm-hw network"
FORMAT_VERSION = 1

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
MAX_ARRAY_BYTES = 1 << 34
"""Most bytes of all arrays together."""

_CHUNK_BYTES = 1 << 20
_MAX_CHUNK_BYTES = 1 << 24
_GZIP_BYTES = 1 << 8  # smaller arrays do not gain
_MAX_DEFLATE = 1032  # deflate cannot shrink anything further

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
_MAPPING_INTEGERS = ("format_version", "seed")
_MAPPING_TEXTS = (
    "network_fingerprint",
    "network_name",
    "chip",
    "objective",
    "populations",
    "spike_modes",
    "metrics",
)
_MAPPING_ARRAYS = {"blocks": "<i8", "usage": "<i8", "link_load": "<f8"}
_BOUND_FIELDS = ("u_min", "u_max", "k_min", "k_max", "payload_min", "payload_max")


class _HasDict(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


def _attributes_of(kind: str) -> dict[str, Spec]:
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


def _arrays_of(kind: str) -> dict[str, str]:
    return _POPULATION_ARRAYS[kind] if kind in POPULATION_KINDS else {"weight": "|i1"}


# ---------------------------------------------------------------------------------------------
# Limits that hold before a Network is built, since building one allocates and computes
# ---------------------------------------------------------------------------------------------


def _refuse(
    subject: str, problem: str, remedy: str, actual: object = None, limit: object = None
) -> NoReturn:
    raise FormatError(subject, problem, remedy=remedy, actual=actual, limit=limit)


def _at_most(subject: str, what: str, actual: int, limit: int) -> None:
    if not 0 <= actual <= limit:
        _refuse(
            subject,
            f"{what} {actual:,} is outside 0..{limit:,}",
            "files hold no larger ones",
            actual,
            limit,
        )


def _check_limits(subject: str, fields: Mapping[str, Any]) -> None:
    """Check the size claims of one population or projection, given as its fields."""
    if fields["kind"] in POPULATION_KINDS:
        shape = [int(s) for s in fields["shape"]]
        for size in shape:
            _at_most(subject, "size", size, MAX_NEURONS)
        _at_most(subject, "number of neurons", math.prod(shape), MAX_NEURONS)
        _at_most(subject, "number of channels", shape[0], MAX_CHANNELS)
        return
    for what in ("kernel", "stride", "dilation"):
        for size in fields.get(what, ()):
            _at_most(subject, what, int(size), MAX_PADDING)
    for pair in fields.get("padding", ()):
        for size in pair:
            _at_most(subject, "padding", int(size), MAX_PADDING)


def _check_work(
    subject: str, populations: list[dict[str, Any]], projections: list[dict[str, Any]], steps: int
) -> None:
    """Check what the bound proof would have to allocate and to compute."""
    channels = {p["name"]: int(p["shape"][0]) for p in populations}
    n_neurons = sum(math.prod(int(s) for s in p["shape"]) for p in populations)
    _at_most(subject, "number of neurons", n_neurons, MAX_NEURONS)
    work = 0
    for p in populations:
        sizes = [np.size(p[a]) for a in ("theta", "bias", "v_init") if a in p]
        work += max([channels.get(p["name"], 0), *sizes])
    _at_most(subject, "number of parameters x max_steps", work * max(steps, 1), MAX_PROOF)
    for q in projections:
        if "kernel" in q:
            size = channels.get(q["source"], 0)
            for k in q["kernel"]:
                size *= int(k)
            _at_most(
                f"{subject}: projection '{q['name']}'", "channels x window", size, MAX_POOL_WEIGHTS
            )


# ---------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------


def save(
    path: str | os.PathLike[str],
    network: Network,
    *,
    mapping: _HasDict | None = None,
    report: _HasDict | Mapping[str, Any] | None = None,
) -> None:
    """Write a network, with a mapping and a conversion report if given, to an HDF5 file.

    The same arguments give the same bytes (with the same HDF5 library). The file appears whole or
    not at all: it is written under another name in the same folder, flushed to disk and renamed.

    Parameters
    ----------
    path
        File to write or replace.
    network
        What to store; its proven bounds are stored beside it, as information.
    mapping
        A `pmsm_hw.mapping.Mapping` of this network.
    report
        A conversion report: an object with ``to_dict()``, or a mapping that JSON can hold.

    Raises
    ------
    FormatError
        If the network exceeds what a file holds, the mapping belongs to another network, the
        report is not representable as JSON, or the file cannot be written.
    """
    subject = f"file '{os.fspath(path)}'"
    populations = [_fields(p) for p in network.populations]
    projections = [_fields(q) for q in network.projections]
    for what, items in (("populations", populations), ("projections", projections)):
        _at_most(subject, f"number of {what}", len(items), MAX_ITEMS)
        for item in items:
            _check_limits(f"{what[:-1]} '{item['name']}'", item)
    _check_work(subject, populations, projections, network.max_steps)
    placed = None if mapping is None else mapping.to_dict()
    if placed is not None:
        _check_owner(subject, placed, network)
    text = None
    if report is not None:
        content = dict(report) if isinstance(report, Mapping) else report.to_dict()
        text = _json(f"{subject}: report", content)
    with _atomic(path) as temporary, _create(temporary) as file:
        _write_attribute(subject, file, "format", "text", FORMAT)
        _write_attribute(subject, file, "format_version", "int", FORMAT_VERSION)
        _write_attribute(subject, file, "producer", "text", _producer())
        _write_attribute(subject, file, "name", "text", network.name)
        _write_attribute(subject, file, "max_steps", "int", network.max_steps)
        digest = _digest(network.name, network.max_steps, populations, projections)
        _write_attribute(subject, file, "digest", "text", digest)
        for what, items in (("populations", populations), ("projections", projections)):
            parent = _new_group(file, what)
            for i, item in enumerate(items):
                group = _new_group(parent, f"{i:04d}")
                for name, spec in _attributes_of(item["kind"]).items():
                    _write_attribute(subject, group, name, spec, item[name])
                for name, dtype in _arrays_of(item["kind"]).items():
                    _write_array(group, name, np.asarray(item[name]).astype(dtype))
        rows = [
            [getattr(network.bounds[p.name], f) for f in _BOUND_FIELDS] for p in network.populations
        ]
        _write_array(file, "bounds", np.array(rows, "<i8"))
        if placed is not None:
            _write_mapping(file, placed)
        if text is not None:
            _write_text(file, "report", text)


def _write_mapping(file: h5py.File, content: Mapping[str, Any]) -> None:
    """Integers become attributes, arrays and texts datasets."""
    group = _new_group(file, "mapping")
    for name, value in content.items():
        if isinstance(value, str):
            _write_text(group, name, value.encode())
        elif isinstance(value, np.ndarray):
            _write_array(group, name, value.astype("<f8" if value.dtype.kind == "f" else "<i8"))
        else:
            _write_attribute("", group, name, "int", value)


def _write_text(group: h5py.Group, name: str, text: bytes) -> None:
    _write_array(group, name, np.frombuffer(text, np.uint8))


def _producer() -> str:
    from pmsm_hw import __version__

    return f"pmsm-hw {__version__}"


def _digest(
    name: str, max_steps: int, populations: list[dict[str, Any]], projections: list[dict[str, Any]]
) -> str:
    """SHA-256 of all that makes up the network, as docs/format.md defines it, in hex."""
    digest = hashlib.sha256(_digest_text({"max_steps": max_steps, "name": name}))
    for item in (*populations, *projections):
        arrays = _arrays_of(item["kind"])
        digest.update(_digest_text({k: v for k, v in item.items() if k not in arrays}))
        for array_name, dtype in arrays.items():
            array = np.asarray(item[array_name]).astype(dtype, order="C", copy=False)
            digest.update(_digest_text({"shape": array.shape}))
            digest.update(array.data)
    return digest.hexdigest()


def _digest_text(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def _check_owner(subject: str, mapping: Mapping[str, Any], network: Network) -> None:
    owner = mapping.get("network_fingerprint")
    if owner != network.fingerprint:
        _refuse(
            subject,
            f"the mapping belongs to network {str(owner)[:12]}, "
            f"this is {network.fingerprint[:12]} ('{network.name}')",
            "map this network",
            owner,
            network.fingerprint,
        )


def _json(subject: str, content: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(
            content, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":")
        ).encode()
    except (TypeError, ValueError) as error:
        _refuse(subject, f"is not representable as JSON ({error})", "use plain values", str(error))


def _fields(item: Population | Projection) -> dict[str, Any]:
    names = (*_attributes_of(item.kind), *_arrays_of(item.kind))
    return {name: getattr(item, name) for name in names}


@contextmanager
def _atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a name in the same folder; rename it to ``path`` on success, else delete it."""
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        _refuse(
            f"file '{target}'",
            f"cannot be written ({_one_line(error)})",
            "choose a writable place with enough room",
            str(error),
        )
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _create(path: Path) -> h5py.File:
    import h5py

    # HDF5 1.10's format: compact, with checksums on its structure
    return h5py.File(path, "x", libver=("v110", "v110"))


def _new_group(parent: h5py.Group, name: str) -> h5py.Group:
    import h5py

    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_obj_track_times(False)
    properties.set_attr_phase_change(64, 0)  # attributes stay beside the group: compact
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=properties))


def _write_attribute(subject: str, group: h5py.Group, name: str, spec: Spec, value: Any) -> None:
    import h5py

    if spec == "text":
        data = _text_bytes(subject, name, value)
        # fixed length: variable-length strings live in a heap that readers must trust
        dtype = h5py.string_dtype("utf-8", max(len(data), 1))
        group.attrs.create(name, data, dtype=dtype)
    else:
        group.attrs.create(name, np.asarray(value, "<f8" if spec == "float" else "<i8"))


def _text_bytes(subject: str, name: str, value: object) -> bytes:
    data = value.encode(errors="replace") if isinstance(value, str) else b""
    good = isinstance(value, str) and data.decode() == value and "\0" not in value
    if not good or len(data) > MAX_TEXT_BYTES:
        _refuse(
            subject,
            f"{name} {value!r:.60} is not text of at most {MAX_TEXT_BYTES:,} bytes of UTF-8",
            "use a shorter, plain name",
            len(data),
            MAX_TEXT_BYTES,
        )
    return data


def _write_array(group: h5py.Group, name: str, array: NDArray[Any]) -> None:
    if array.size <= 1:
        group.create_dataset(name, data=array, track_times=False)
        return
    large = array.nbytes >= _GZIP_BYTES
    chunks = list(array.shape)
    while np.prod(chunks) * array.itemsize > _CHUNK_BYTES:
        axis = int(np.argmax(chunks))
        chunks[axis] = -(-chunks[axis] // 2)
    group.create_dataset(
        name,
        data=array,
        chunks=tuple(chunks),
        compression="gzip" if large else None,
        compression_opts=6 if large else None,
        shuffle=large and array.itemsize > 1,
        fletcher32=True,
        track_times=False,
    )


# ---------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """Reads one open file, checking each claim before believing it."""

    subject: str
    file: h5py.File
    n_bytes: int
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = min(self.n_bytes * _MAX_DEFLATE, MAX_ARRAY_BYTES)

    def refuse(self, problem: str, actual: object = None, limit: object = None) -> NoReturn:
        _refuse(self.subject, problem, "write it again with pmsm_hw.io.save", actual, limit)

    def members(self, group: h5py.Group, expected: set[str], optional: set[str]) -> None:
        """Refuse missing or unknown members."""
        names = set(group)
        for name in sorted(expected - names):
            self.refuse(f"'{_join(group, name)}' is missing", None, name)
        for name in sorted(names - expected - optional):
            self.refuse(
                f"'{_join(group, name)}' is unknown in format version {FORMAT_VERSION}", name
            )

    def child(self, parent: h5py.Group, name: str, kind: type[Any]) -> Any:
        """Member of a group; links other than hard ones, and other kinds, are refused."""
        import h5py

        path = _join(parent, name)
        if not parent.id.links.exists(name.encode()):
            self.refuse(f"'{path}' is missing", None, path)
        if parent.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            self.refuse(f"'{path}' is a soft or external link, only hard ones are read", "link")
        item = parent[name]
        if not isinstance(item, kind):
            self.refuse(
                f"'{path}' is a {type(item).__name__}, a {kind.__name__} is expected",
                type(item).__name__,
                kind.__name__,
            )
        return item

    def attributes(self, group: h5py.Group, specs: Mapping[str, Spec]) -> dict[str, Any]:
        """All attributes of a group, of exactly these names and types."""
        import h5py

        n_attributes = int(h5py.h5a.get_num_attrs(group.id))
        if n_attributes > len(specs):
            self.refuse(
                f"'{group.name}' has {n_attributes:,} attributes, "
                f"format version {FORMAT_VERSION} has {len(specs)}",
                n_attributes,
                len(specs),
            )
        return {name: self.attribute(group, name, spec) for name, spec in specs.items()}

    def attribute(self, group: h5py.Group, name: str, spec: Spec) -> Any:
        """One attribute, as int, float, str, or nested lists of ints."""
        import h5py

        path = f"{group.name}@{name}"
        if not h5py.h5a.exists(group.id, name.encode()):
            self.refuse(f"attribute '{path}' is missing", None, path)
        attribute = h5py.h5a.open(group.id, name.encode())
        dtype, shape = attribute.dtype, attribute.shape
        n_axes = {"ints": 1, "pairs": 2}.get(spec, 0)
        if spec == "text":
            good = dtype.kind == "S" and dtype.itemsize <= MAX_TEXT_BYTES
        else:
            good = dtype == np.dtype("<f8" if spec == "float" else "<i8")
        if not good or len(shape) != n_axes or any(not 1 <= n <= 3 for n in shape):
            self.refuse(
                f"attribute '{path}' has type {dtype} and shape {shape}, {spec} is expected",
                (str(dtype), shape),
                spec,
            )
        value = np.empty(shape, dtype)
        attribute.read(value)
        if spec == "text":
            return bytes(value[()]).decode()
        return value.tolist()

    def array(self, parent: h5py.Group, name: str, dtype: str, max_axes: int = 4) -> NDArray[Any]:
        """One dataset, of exactly this type; its size claim must be backed by the file."""
        import h5py

        dataset = self.child(parent, name, h5py.Dataset)
        path, properties = dataset.name, dataset.id.get_create_plist()
        if dataset.dtype != np.dtype(dtype):
            self.refuse(
                f"dataset '{path}' has type {dataset.dtype}, {np.dtype(dtype)} is expected",
                str(dataset.dtype),
                str(np.dtype(dtype)),
            )
        layout = properties.get_layout()
        if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            self.refuse(f"dataset '{path}' has a virtual layout, none is read", layout)
        if properties.get_external_count():
            self.refuse(f"dataset '{path}' is stored in another file, none is read", "external")
        shape = dataset.shape
        if shape is None or len(shape) > max_axes:
            self.refuse(f"dataset '{path}' has shape {shape}, at most {max_axes} axes are expected")
        n_bytes = np.dtype(dtype).itemsize
        for size in shape:  # Python integers: no overflow
            n_bytes *= int(size)
        stored = int(dataset.id.get_storage_size())
        possible = min(stored, self.n_bytes) * (_MAX_DEFLATE if layout == h5py.h5d.CHUNKED else 1)
        if n_bytes > min(possible, self.left):
            self.refuse(
                f"dataset '{path}' claims {n_bytes:,} bytes, its {stored:,} stored bytes give at "
                f"most {possible:,} ({self.left:,} are left of what the whole file can hold)",
                n_bytes,
                min(possible, self.left),
            )
        if layout == h5py.h5d.CHUNKED:
            self._check_chunks(path, dataset, properties)
        self.left -= n_bytes
        array = np.empty(shape, dtype)
        if array.size:
            dataset.read_direct(array)
        return array

    def _check_chunks(self, path: str, dataset: h5py.Dataset, properties: Any) -> None:
        import h5py

        allowed = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
        for i in range(properties.get_nfilters()):
            code = properties.get_filter(i)[0]
            if code not in allowed:
                self.refuse(f"dataset '{path}' uses filter {code}, only gzip is read", code)
        chunk_bytes = dataset.dtype.itemsize
        for size in dataset.chunks:
            chunk_bytes *= int(size)
        if chunk_bytes > _MAX_CHUNK_BYTES:
            self.refuse(
                f"dataset '{path}' has chunks of {chunk_bytes:,} bytes, "
                f"at most {_MAX_CHUNK_BYTES:,} are read",
                chunk_bytes,
                _MAX_CHUNK_BYTES,
            )

    def text(self, parent: h5py.Group, name: str) -> str:
        """Text of a dataset."""
        return self.array(parent, name, "|u1", max_axes=1).tobytes().decode()

    def json(self, name: str) -> dict[str, Any]:
        """JSON object of a dataset at the root."""
        text = self.text(self.file, name)
        try:
            content = json.loads(text, parse_constant=self._no_constant)
        except (ValueError, RecursionError) as error:
            self.refuse(f"'/{name}' is not JSON ({_one_line(error)})")
        if not isinstance(content, dict):
            self.refuse(f"'/{name}' holds a {type(content).__name__}, an object is expected")
        return content

    def mapping(self) -> dict[str, Any]:
        """What `Mapping.to_dict` gave."""
        import h5py

        group = self.child(self.file, "mapping", h5py.Group)
        found: dict[str, Any] = self.attributes(group, dict.fromkeys(_MAPPING_INTEGERS, "int"))
        self.members(group, {*_MAPPING_TEXTS, *_MAPPING_ARRAYS}, set())
        for name in _MAPPING_TEXTS:
            found[name] = self.text(group, name)
        for name, dtype in _MAPPING_ARRAYS.items():
            found[name] = self.array(group, name, dtype)
        return found

    def _no_constant(self, constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    def items(self, what: str, kinds: Mapping[str, type[Any]]) -> list[dict[str, Any]]:
        """Fields of all populations, or of all projections."""
        import h5py

        parent = self.child(self.file, what, h5py.Group)
        _at_most(self.subject, f"number of {what}", len(parent), MAX_ITEMS)
        self.attributes(parent, {})
        self.members(parent, {f"{i:04d}" for i in range(len(parent))}, set())
        found = []
        for i in range(len(parent)):
            group = self.child(parent, f"{i:04d}", h5py.Group)
            kind = self.attribute(group, "kind", "text")
            if kind not in kinds:
                self.refuse(
                    f"'{group.name}' is of kind {kind!r}, {', '.join(kinds)} are known",
                    kind,
                    tuple(kinds),
                )
            fields = self.attributes(group, _attributes_of(kind))
            _check_limits(f"{self.subject}: '{group.name}'", fields)
            arrays = _arrays_of(kind)
            self.members(group, set(arrays), set())
            for name, dtype in arrays.items():
                fields[name] = self.array(group, name, dtype)
            found.append(fields)
        return found


def _join(group: h5py.Group, name: str) -> str:
    return f"{(group.name or '').rstrip('/')}/{name}"


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[_Reader]:
    """Open a file of this format and version; what HDF5 complains about becomes `FormatError`."""
    import h5py

    subject = f"file '{os.fspath(path)}'"
    if not os.path.isfile(path):
        _refuse(subject, "is not an existing file", "give the path of a network file", "absent")
    try:
        n_bytes = os.path.getsize(path)
        with h5py.File(path, "r") as file:
            reader = _Reader(subject, file, n_bytes)
            if "format" not in file.attrs or reader.attribute(file, "format", "text") != FORMAT:
                _refuse(
                    subject,
                    f"is HDF5 of another kind, attribute 'format' is not {FORMAT!r}",
                    "give a file written by pmsm_hw.io.save",
                    None,
                    FORMAT,
                )
            version = reader.attribute(file, "format_version", "int")
            if version != FORMAT_VERSION:
                _refuse(
                    subject,
                    f"has format_version {version}, this release reads {FORMAT_VERSION}",
                    "use the release that wrote it, or a newer one",
                    version,
                    FORMAT_VERSION,
                )
            yield reader
    # what h5py raises on damaged files; our own errors pass
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        _refuse(
            subject,
            f"is damaged or not HDF5 ({_one_line(error)})",
            "write it again with pmsm_hw.io.save",
            type(error).__name__,
        )


def load(path: str | os.PathLike[str]) -> Network:
    """Read a network from an HDF5 file.

    Parameters
    ----------
    path
        A file that `save` wrote; it may be hostile.

    Returns
    -------
    Network
        Equal to the one that was saved.

    Raises
    ------
    FormatError
        If the file is absent, damaged, of another kind or version, or describes a network that
        breaks the contract.
    """
    with _open(path) as reader:
        has_digest = "digest" in reader.file.attrs
        root = reader.attributes(
            reader.file, {**_ROOT_ATTRIBUTES, **({"digest": "text"} if has_digest else {})}
        )
        reader.members(reader.file, {"populations", "projections", "bounds"}, {"mapping", "report"})
        populations = reader.items("populations", POPULATION_KINDS)
        projections = reader.items("projections", PROJECTION_KINDS)
        bounds = reader.array(reader.file, "bounds", "<i8", max_axes=2)
        if bounds.shape != (len(populations), len(_BOUND_FIELDS)):
            reader.refuse(
                f"'/bounds' has shape {bounds.shape}, "
                f"{(len(populations), len(_BOUND_FIELDS))} is expected",
                bounds.shape,
            )
        digest = _digest(root["name"], root["max_steps"], populations, projections)
        if has_digest and digest != root["digest"]:
            reader.refuse("content was changed, its digest does not match", digest, root["digest"])
    subject = f"file '{os.fspath(path)}'"
    _check_work(subject, populations, projections, root["max_steps"])
    try:
        return Network(
            name=root["name"],
            max_steps=root["max_steps"],
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


_ROOT_ATTRIBUTES: dict[str, Spec] = {
    "format": "text",
    "format_version": "int",
    "producer": "text",
    "name": "text",
    "max_steps": "int",
}


def _build(kinds: Mapping[str, Callable[..., Any]], fields: Mapping[str, Any]) -> Any:
    return kinds[fields["kind"]](**{k: v for k, v in fields.items() if k != "kind"})


def load_report(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read the conversion report of a file, as plain values; None if it has none.

    Raises
    ------
    FormatError
        As for `load`, or if the report is not a JSON object.
    """
    with _open(path) as reader:
        return reader.json("report") if "report" in reader.file else None


def load_mapping(path: str | os.PathLike[str]) -> placement.Mapping:
    """Read the mapping of a file.

    Parameters
    ----------
    path
        A file that `save` wrote with a mapping; it may be hostile.

    Returns
    -------
    Mapping
        Equal to the one that was saved; it belongs to the network in the same file.

    Raises
    ------
    FormatError
        As for `load`, or if the file has no mapping, or one that does not fit its network or chip.
    """
    from pmsm_hw.mapping import Mapping as Placement

    network = load(path)
    subject = f"file '{os.fspath(path)}'"
    with _open(path) as reader:
        if "mapping" not in reader.file:
            _refuse(subject, "holds no mapping", "map its network, and save both", None, "mapping")
        content = reader.mapping()
    try:
        mapping = Placement.from_dict(content)
        mapping.require(network)
    except (MappingError, ChipFileError) as error:
        raise FormatError(
            subject,
            f"holds no valid mapping: {error.subject}: {error.problem}",
            remedy=error.remedy,
            actual=error.actual,
            limit=error.limit,
        ) from error
    except (KeyError, OverflowError, RecursionError) as error:  # from JSON of unexpected structure
        _refuse(
            subject,
            f"holds no valid mapping ({type(error).__name__}: {_one_line(error)})",
            "map the network anew",
            type(error).__name__,
        )
    _check_blocks(subject, mapping, network)
    return mapping


def _check_blocks(subject: str, mapping: placement.Mapping, network: Network) -> None:
    """Every neuron sits in exactly one block, every block on a core that the chip has."""
    n_cores = mapping.chip.n_cores
    held = {p.name: np.zeros(chw(p.shape), np.uint8) for p in network if not isinstance(p, Input)}
    for block in mapping.blocks:
        ranges = (block.channels, block.rows, block.columns)
        good = block.population in held and 0 <= block.core < n_cores
        if good:
            shape = held[block.population].shape
            good = all(0 <= a < b <= n for (a, b), n in zip(ranges, shape, strict=True))
        if not good:
            _refuse(
                subject,
                f"the mapping puts channels, rows, columns {ranges} of population "
                f"'{block.population}' on core {block.core}, which do not all exist",
                "map the network anew",
                ranges,
                n_cores,
            )
        part = held[block.population][block.slices()]
        if part.any():
            _refuse(
                subject,
                f"the mapping holds neurons of '{block.population}' twice, again on core "
                f"{block.core}",
                "map the network anew",
                block.core,
                1,
            )
        part[...] = 1
    for name, marks in held.items():
        if not marks.all():
            missing = int(marks.size - np.count_nonzero(marks))
            _refuse(
                subject,
                f"the mapping misses {missing:,} of {marks.size:,} neurons of '{name}'",
                "map the network anew",
                missing,
                0,
            )
