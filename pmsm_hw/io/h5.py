"""Networks as HDF5 files: own integer format version, reproducible, atomic, suspicious on reading.

``docs/format.md`` describes every group, attribute and dataset. A file read here may come from
anywhere: sizes are checked before anything is allocated, links and external storage are refused,
types and shapes are verified, and what is left must still pass the validation of `Network`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import ChipFileError, FormatError, MappingError
from pmsm_hw.files import check_output, replacing
from pmsm_hw.io.schema import (
    MAX_ITEMS,
    at_most,
    check_limits,
    check_work,
    network_from,
    one_line,
    refuse,
    subject_of,
    text_bytes,
)
from pmsm_hw.io.untrusted import Reader, open_untrusted, refuse_other_kinds
from pmsm_hw.network import POPULATION_KINDS, PROJECTION_KINDS, Network
from pmsm_hw.network.digest import has_fingerprint, is_digest_of
from pmsm_hw.network.fields import Spec, arrays_of, attributes_of, fields_of

if TYPE_CHECKING:
    import h5py

    import pmsm_hw.mapping as placement

__all__ = [
    "FORMAT_VERSION",
    "encoded",
    "has_mapping",
    "load",
    "load_mapping",
    "load_report",
    "save",
]

FORMAT = "pmsm-hw network"
FORMAT_VERSION = 1
_CHUNK_BYTES = 1 << 20
_GZIP_BYTES = 1 << 8  # smaller arrays do not gain

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
    not at all: it is made in memory, written under another name in the same folder, flushed to disk
    and renamed (to a device or pipe, plainly). The memory is that of the file, which is compressed.

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
    subject = subject_of(path, network)
    for what, value, kinds in (("mapping", mapping, ()), ("report", report, (Mapping,))):
        if value is not None and not isinstance(value, kinds) and not hasattr(value, "to_dict"):
            name = type(value).__name__
            refuse(subject, f"{what} is a {name}", f"give a {what}, or None", name, what)
    check_output(path)
    made = encoded(network, mapping=mapping, report=report, subject=subject)
    with replacing(path) as file:
        file.write(made.getbuffer())


def encoded(
    network: Network,
    *,
    mapping: _HasDict | None = None,
    report: _HasDict | Mapping[str, Any] | None = None,
    subject: str = "network file",
) -> BytesIO:
    """Make in memory what `save` writes: HDF5 does not survive a full disk.

    Parameters
    ----------
    network, mapping, report
        As for `save`.
    subject
        What errors call it.

    Raises
    ------
    FormatError
        As `save`, but for writing.
    """
    populations = [fields_of(p) for p in network.populations]
    projections = [fields_of(q) for q in network.projections]
    for what, items in (("populations", populations), ("projections", projections)):
        at_most(subject, f"number of {what}", len(items), MAX_ITEMS)
        for item in items:
            check_limits(f"{what[:-1]} '{item['name']}'", item)
    check_work(subject, populations, projections, network.max_steps)
    placed = None if mapping is None else mapping.to_dict()
    if placed is not None:
        _check_owner(subject, placed, network)
    text = None
    if report is not None:
        content = dict(report) if isinstance(report, Mapping) else report.to_dict()
        text = _json(f"{subject}: report", content)
    made = BytesIO()
    with _create(made) as file:
        _write_attribute(subject, file, "format", "text", FORMAT)
        _write_attribute(subject, file, "format_version", "int", FORMAT_VERSION)
        _write_attribute(subject, file, "producer", "text", _producer())
        _write_attribute(subject, file, "name", "text", network.name)
        _write_attribute(subject, file, "max_steps", "int", network.max_steps)
        _write_attribute(subject, file, "digest", "text", network.fingerprint)
        for what, items in (("populations", populations), ("projections", projections)):
            parent = _new_group(file, what)
            for i, item in enumerate(items):
                group = _new_group(parent, f"{i:04d}")
                for name, spec in attributes_of(item["kind"]).items():
                    _write_attribute(subject, group, name, spec, item[name])
                for name, dtype in arrays_of(item["kind"]).items():
                    if item[name] is not None:
                        _write_array(group, name, np.asarray(item[name]).astype(dtype))
        rows = [
            [getattr(network.bounds[p.name], f) for f in _BOUND_FIELDS] for p in network.populations
        ]
        _write_array(file, "bounds", np.array(rows, "<i8"))
        if placed is not None:
            _write_mapping(file, placed)
        if text is not None:
            _write_text(file, "report", text)
    return made


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


def _check_owner(subject: str, mapping: Mapping[str, Any], network: Network) -> None:
    owner = mapping.get("network_fingerprint")
    if not has_fingerprint(network, str(owner)):
        refuse(
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
        refuse(subject, f"is not representable as JSON ({error})", "use plain values", str(error))


def _create(made: BytesIO) -> h5py.File:
    import h5py

    # HDF5 1.10's format: compact, with checksums on its structure
    return h5py.File(made, "w", libver=("v110", "v110"))


def _new_group(parent: h5py.Group, name: str) -> h5py.Group:
    import h5py

    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_obj_track_times(False)
    properties.set_attr_phase_change(64, 0)  # attributes stay beside the group: compact
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=properties))


def _write_attribute(subject: str, group: h5py.Group, name: str, spec: Spec, value: Any) -> None:
    import h5py

    if spec == "text":
        data = text_bytes(subject, name, value)
        # fixed length: variable-length strings live in a heap that readers must trust
        dtype = h5py.string_dtype("utf-8", max(len(data), 1))
        group.attrs.create(name, data, dtype=dtype)
    else:
        group.attrs.create(name, np.asarray(value, "<f8" if spec == "float" else "<i8"))


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


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[Reader]:
    """Open a file of this format and version."""
    with open_untrusted(path) as reader:
        file = reader.file
        refuse_other_kinds(reader, "h5")
        if "format" not in file.attrs or reader.attribute(file, "format", "text") != FORMAT:
            refuse(
                reader.subject,
                f"is HDF5 of another kind, attribute 'format' is not {FORMAT!r}",
                "give a file written by pmsm_hw.io.save",
                None,
                FORMAT,
            )
        version = reader.attribute(file, "format_version", "int")
        if version != FORMAT_VERSION:
            refuse(
                reader.subject,
                f"has format_version {version}, this release reads {FORMAT_VERSION}",
                "use the release that wrote it, or a newer one",
                version,
                FORMAT_VERSION,
            )
        yield reader


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
        populations = _items(reader, "populations", POPULATION_KINDS)
        projections = _items(reader, "projections", PROJECTION_KINDS)
        bounds = reader.array(reader.file, "bounds", "<i8", max_axes=2)
        if bounds.shape != (len(populations), len(_BOUND_FIELDS)):
            reader.refuse(
                f"'/bounds' has shape {bounds.shape}, "
                f"{(len(populations), len(_BOUND_FIELDS))} is expected",
                bounds.shape,
            )
        content = (root["name"], root["max_steps"], populations, projections)
        if has_digest and not is_digest_of(root["digest"], *content):
            reader.refuse("content was changed, its digest does not match", None, root["digest"])
    subject = subject_of(path)
    return network_from(subject, root["name"], root["max_steps"], populations + projections)


_ROOT_ATTRIBUTES: dict[str, Spec] = {
    "format": "text",
    "format_version": "int",
    "producer": "text",
    "name": "text",
    "max_steps": "int",
}


def _items(reader: Reader, what: str, kinds: Mapping[str, type[Any]]) -> list[dict[str, Any]]:
    """Fields of all populations, or of all projections."""
    import h5py

    parent = reader.child(reader.file, what, h5py.Group)
    at_most(reader.subject, f"number of {what}", len(parent), MAX_ITEMS)
    reader.attributes(parent, {})
    reader.members(parent, {f"{i:04d}" for i in range(len(parent))}, set())
    found = []
    for i in range(len(parent)):
        group = reader.child(parent, f"{i:04d}", h5py.Group)
        kind = reader.attribute(group, "kind", "text")
        if kind not in kinds:
            reader.refuse(
                f"'{group.name}' is of kind {kind!r}, {', '.join(kinds)} are known",
                kind,
                tuple(kinds),
            )
        fields = reader.attributes(group, attributes_of(kind))
        check_limits(f"{reader.subject}: '{group.name}'", fields)
        arrays = arrays_of(kind)
        may_lack = {"delays"} & set(arrays)
        reader.members(group, set(arrays) - may_lack, may_lack)
        for name, dtype in arrays.items():
            fields[name] = reader.array(group, name, dtype) if name in group else None
        found.append(fields)
    return found


def _json_object(reader: Reader, name: str) -> dict[str, Any]:
    """JSON object of a dataset at the root."""
    text = reader.text(reader.file, name)
    try:
        content = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reader.refuse(f"'/{name}' is not JSON ({one_line(error)})")
    if not isinstance(content, dict):
        reader.refuse(f"'/{name}' holds a {type(content).__name__}, an object is expected")
    return content


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _mapping(reader: Reader) -> dict[str, Any]:
    """What `Mapping.to_dict` gave."""
    import h5py

    group = reader.child(reader.file, "mapping", h5py.Group)
    found: dict[str, Any] = reader.attributes(group, dict.fromkeys(_MAPPING_INTEGERS, "int"))
    reader.members(group, {*_MAPPING_TEXTS, *_MAPPING_ARRAYS}, set())
    for name in _MAPPING_TEXTS:
        found[name] = reader.text(group, name)
    for name, dtype in _MAPPING_ARRAYS.items():
        found[name] = reader.array(group, name, dtype)
    return found


def load_report(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read the conversion report of a file, as plain values; None if it has none.

    Parameters
    ----------
    path
        File to read.

    Raises
    ------
    FormatError
        As for `load`, or if the report is not a JSON object.
    """
    with _open(path) as reader:
        return _json_object(reader, "report") if "report" in reader.file else None


def has_mapping(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file holds a mapping beside its network.

    Parameters
    ----------
    path
        File to read.

    Raises
    ------
    FormatError
        As for `load`.
    """
    with _open(path) as reader:
        return "mapping" in reader.file


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
    from pmsm_hw.mapping.assignment import check_counts

    network = load(path)
    subject = subject_of(path)
    with _open(path) as reader:
        if "mapping" not in reader.file:
            refuse(subject, "holds no mapping", "map its network, and save both", None, "mapping")
        content = _mapping(reader)
    try:
        mapping = Placement.from_dict(content)
        check_counts(network, mapping, mapping.chip, count_neurons=False)
    except (MappingError, ChipFileError) as error:
        raise FormatError(
            subject,
            f"holds no valid mapping: {error.subject}: {error.problem}",
            remedy=error.remedy,
            actual=error.actual,
            limit=error.limit,
        ) from error
    except (KeyError, OverflowError, RecursionError) as error:  # from JSON of unexpected structure
        refuse(
            subject,
            f"holds no valid mapping ({type(error).__name__}: {one_line(error)})",
            "map the network again",
            type(error).__name__,
        )
    return mapping
