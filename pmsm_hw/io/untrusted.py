"""Reading HDF5 files that may come from anywhere: nothing is believed before it is checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.io.schema import MAX_ITEMS, MAX_TEXT_BYTES, one_line, refuse, subject_of
from pmsm_hw.network.fields import Spec

if TYPE_CHECKING:
    import h5py

__all__ = ["Reader", "open_untrusted", "refuse_other_kinds"]

MAX_ARRAY_BYTES = 1 << 34
"""Most bytes of all arrays together."""

MAX_TEXTS = 4 * MAX_ITEMS
"""Most texts of one dataset."""

_HEAP_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
_MAX_CHUNK_BYTES = 1 << 24
_MAX_DEFLATE = 1032  # deflate cannot shrink anything further


@dataclass
class Reader:
    """Reads one open file, checking each claim before believing it."""

    subject: str
    file: h5py.File
    n_bytes: int
    left: int = field(init=False)
    heaps: dict[int, dict[int, bytes]] = field(init=False, default_factory=dict)
    heap_bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.left = min(self.n_bytes * _MAX_DEFLATE, MAX_ARRAY_BYTES)

    def refuse(self, problem: str, actual: object = None, limit: object = None) -> NoReturn:
        """Raise `FormatError` about this file."""
        refuse(self.subject, problem, "get it, or write it, again", actual, limit)

    def members(self, group: h5py.Group, expected: set[str], optional: set[str]) -> None:
        """Refuse missing or unknown members."""
        names = set(group)
        for name in sorted(expected - names):
            self.refuse(f"'{_join(group, name)}' is missing", None, name)
        for name in sorted(names - expected - optional):
            self.refuse(f"'{_join(group, name)}' is unknown in this format version", name)

    def child(self, parent: h5py.Group, name: str, kind: type[Any] | tuple[type[Any], ...]) -> Any:
        """Member of a group; links other than hard ones, and other kinds, are refused."""
        import h5py

        if not isinstance(name, str):  # h5py gives bytes where they are not UTF-8
            self.refuse(f"'{parent.name}' has a member whose name is not UTF-8", repr(name))
        path = _join(parent, name)
        if not parent.id.links.exists(name.encode()):
            self.refuse(f"'{path}' is missing", None, path)
        if parent.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            self.refuse(f"'{path}' is a soft or external link, only hard ones are read", "link")
        item = parent[name]
        if not isinstance(item, kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(k.__name__ for k in kinds)
            self.refuse(
                f"'{path}' is a {type(item).__name__}, a {expected} is expected",
                type(item).__name__,
                expected,
            )
        return item

    def attributes(self, group: h5py.Group, specs: Mapping[str, Spec]) -> dict[str, Any]:
        """All attributes of a group, of exactly these names and types."""
        import h5py

        n_attributes = int(h5py.h5a.get_num_attrs(group.id))
        if n_attributes > len(specs):
            self.refuse(
                f"'{group.name}' has {n_attributes:,} attributes, "
                f"this format version has {len(specs)}",
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
        if dataset.dtype != np.dtype(dtype):
            self.refuse(
                f"dataset '{dataset.name}' has type {dataset.dtype}, {np.dtype(dtype)} is expected",
                str(dataset.dtype),
                str(np.dtype(dtype)),
            )
        return self.values(dataset, max_axes)

    def values(self, dataset: h5py.Dataset, max_axes: int) -> NDArray[Any]:
        """What a dataset of a plain type holds, once its size claim has been checked."""
        self._check_claim(dataset, max_axes)
        array = np.empty(dataset.shape, dataset.dtype)
        if array.size:
            dataset.read_direct(array)
        return array

    def texts(self, dataset: h5py.Dataset) -> str | list[Any]:
        """Text, or nested lists of texts, of a dataset of strings."""
        self._check_claim(dataset, 2)
        if dataset.size > MAX_TEXTS:
            self.refuse(
                f"dataset '{dataset.name}' holds {dataset.size:,} texts, at most {MAX_TEXTS:,} are "
                "read",
                dataset.size,
                MAX_TEXTS,
            )

        import h5py

        if dataset.size == 0:
            return []
        info = h5py.check_string_dtype(dataset.dtype)
        if info.length is None:
            flat = self._heap_texts(dataset)
        else:
            flat = self.values(dataset, 2).reshape(-1).tolist()
        texts = [self._text(dataset, value) for value in flat]
        if dataset.shape == ():
            return texts[0]
        if len(dataset.shape) == 1:
            return texts
        n_columns = dataset.shape[1]
        return [texts[i : i + n_columns] for i in range(0, len(texts), n_columns)]

    def _heap_texts(self, dataset: h5py.Dataset) -> list[bytes]:
        """Texts of variable length, from the file's global heap.

        HDF5 1.10 to 2.0 loop for ever on some damaged heaps, so they are walked here.
        """
        offset = dataset.id.get_offset()
        stored = dataset.id.get_storage_size()
        if offset is None or self.file.userblock_size or stored != 16 * dataset.size:
            self.refuse(
                f"dataset '{dataset.name}' holds texts of variable length in a layout that is not "
                "read, only plain contiguous ones are",
                "layout",
            )
        with open(self.file.filename, "rb") as file:
            file.seek(offset)
            raw = file.read(16 * dataset.size)
            if len(raw) != 16 * dataset.size:
                self.refuse(f"dataset '{dataset.name}' reaches beyond the end of the file")
            found = []
            for length, address, index in np.frombuffer(raw, _HEAP_REFERENCE).tolist():
                objects = self._heap(file, address) if length else {}
                text = objects.get(index, b"") if length else b""
                if len(text) < length:
                    self.refuse(f"dataset '{dataset.name}' refers to a text that is not there")
                found.append(text[:length])
        return found

    def _heap(self, file: BinaryIO, address: int) -> dict[int, bytes]:
        """Objects of one collection of the global heap, by index."""
        if address in self.heaps:
            return self.heaps[address]
        file.seek(min(address, self.n_bytes))
        header = file.read(16)
        size = int.from_bytes(header[8:], "little")
        self.heap_bytes += size
        if header[:5] != b"GCOL\x01" or not 16 <= size <= self.n_bytes - address:
            self.refuse(f"has no sound heap of texts at byte {address:,}", address)
        if self.heap_bytes > self.n_bytes:
            self.refuse("has heaps of texts that overlap", self.heap_bytes, self.n_bytes)
        data = header + file.read(size - 16)
        objects: dict[int, bytes] = {}
        at = 16
        while at + 16 <= size:
            index = int.from_bytes(data[at : at + 2], "little")
            length = int.from_bytes(data[at + 8 : at + 16], "little")
            if index == 0:  # the rest is free
                break
            if at + 16 + length > size:
                self.refuse(f"has no sound heap of texts at byte {address:,}", address)
            objects[index] = data[at + 16 : at + 16 + length]
            at += 16 + -(-length // 8) * 8
        self.heaps[address] = objects
        return objects

    def _text(self, dataset: h5py.Dataset, value: object) -> str:
        if not isinstance(value, bytes) or len(value) > MAX_TEXT_BYTES:
            length = len(value) if isinstance(value, bytes) else 0
            self.refuse(
                f"dataset '{dataset.name}' holds a text of {length:,} bytes, "
                f"at most {MAX_TEXT_BYTES:,} are read",
                length,
                MAX_TEXT_BYTES,
            )
        return value.decode()

    def _check_claim(self, dataset: h5py.Dataset, max_axes: int) -> None:
        """Refuse layouts that read other files, and sizes that the file does not back."""
        import h5py

        path, properties = dataset.name, dataset.id.get_create_plist()
        layout = properties.get_layout()
        if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            self.refuse(f"dataset '{path}' has a virtual layout, none is read", layout)
        if properties.get_external_count():
            self.refuse(f"dataset '{path}' is stored in another file, none is read", "external")
        shape = dataset.shape
        if shape is None or len(shape) > max_axes:
            self.refuse(f"dataset '{path}' has shape {shape}, at most {max_axes} axes are expected")
        n_bytes = dataset.id.get_type().get_size()
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

    def _check_chunks(self, path: str, dataset: h5py.Dataset, properties: Any) -> None:
        import h5py

        allowed = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
        for i in range(properties.get_nfilters()):
            code = properties.get_filter(i)[0]
            if code not in allowed:
                self.refuse(f"dataset '{path}' uses filter {code}, only gzip is read", code)
        chunk_bytes = dataset.id.get_type().get_size()
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


def _join(group: h5py.Group, name: str) -> str:
    return f"{(group.name or '').rstrip('/')}/{name}"


@contextmanager
def open_untrusted(path: str | os.PathLike[str]) -> Iterator[Reader]:
    """Open an HDF5 file for reading; what HDF5 complains about becomes `FormatError`."""
    import h5py

    subject = subject_of(path)
    if not os.path.isfile(path):
        refuse(subject, "is not an existing file", "give the path of a network file", "absent")
    try:
        with h5py.File(path, "r") as file:
            yield Reader(subject, file, os.path.getsize(path))
    # what h5py raises on damaged files; our own errors pass
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        refuse(
            subject,
            f"is damaged or not HDF5 ({one_line(error)})",
            "get it, or write it, again",
            type(error).__name__,
        )


def refuse_other_kinds(reader: Reader, expected: Literal["h5", "nir"]) -> None:
    """Refuse HDF5 files of a kind that is known, but not the one expected, by its name."""
    import h5py

    file = reader.file
    if h5py.h5a.exists(file.id, b"format"):
        found = "h5"
    elif "node" in file:
        found = "nir"
    elif "layer" in file:
        refuse(
            reader.subject,
            "is a netx network (lava-dl's .net), which is not supported yet",
            "give a NIR file (.nir) or a network file of pmsm-hw (.h5)",
            ".net",
            (".nir", ".h5"),
        )
    else:
        return
    if found != expected:
        kind = "NIR file" if found == "nir" else "network file of pmsm-hw"
        reads = f"read it with pmsm_hw.io.{'load_nir' if found == 'nir' else 'load'}"
        named = str(reader.file.filename).endswith(f".{found}")
        refuse(
            reader.subject,
            f"is a {kind}" if named else f"is a {kind}, its name should end in .{found}",
            reads if named else f"rename it, or {reads}",
            found,
            expected,
        )
