"""Feed damaged and hostile network files to the readers: each gives a network or a `FormatError`.

``python tests/fuzz_files.py --cases 20000`` prints one JSON line with the outcome; the test suite
runs 500. Every case is seeded by its number alone: ``--first N --cases 1`` repeats case N. A case
that takes longer than 300 s ends the run with a traceback, a crash with a signal.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import seeded_cases
from random_networks import random_network

from pmsm_hw import io as files
from pmsm_hw.errors import FormatError
from pmsm_hw.network import Network

Rng = np.random.Generator

INTEGERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 7, 255, 4096, 2**20, 2**31, 2**62, 2**63 - 1)
JSON_PARTS = (
    b"null", b"-1", b"0", b"1e999", b"1e308", b"9" * 400, b'"x"', b"[]", b"{}", b"true", b"2.5",
    b"\xff", b"[" * 2000,
)  # fmt: skip
TEXTS = (b"", b"input", b"readout", b"dense", b"conv2d", b"carry", b"\xff\xfe", b"a/b", b"x" * 999)
DTYPES = ("i1", "u1", "<i4", ">i4", "<i8", "<u8", "<f4", "<f8", "S4", "?", "<c8")


# -- bytes ------------------------------------------------------------------------------------


def truncate(rng: Rng, data: bytes) -> bytes:
    return data[: int(rng.integers(len(data)))]


def flip(rng: Rng, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwrite(rng: Rng, data: bytes) -> bytes:
    start, n = int(rng.integers(len(data))), int(rng.integers(1, 65))
    filler = rng.bytes(n) if rng.random() < 0.5 else bytes([int(rng.choice([0, 255]))]) * n
    return data[:start] + filler + data[start + n :]


def move(rng: Rng, data: bytes) -> bytes:
    a, b = (int(i) for i in rng.integers(len(data), size=2))
    n = int(rng.integers(1, 513))
    return data[:a] + data[b : b + n] + data[a + (n if rng.random() < 0.7 else 0) :]


def remove(rng: Rng, data: bytes) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 257)) :]


# -- structure, through h5py -------------------------------------------------------------------


def _edit(data: bytes, change: Callable[[h5py.File], None]) -> bytes:
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


def _groups(file: h5py.File) -> list[h5py.Group]:
    found = [file]
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Group) else None)
    return found


def _datasets(file: h5py.File) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def _pick(rng: Rng, items: Any) -> Any:
    items = list(items)
    return items[int(rng.integers(len(items)))]


def _value(rng: Rng) -> Any:
    """Any attribute value, hostile ones included."""
    shape = ((), (), (1,), (2,), (3,), (2, 2), (4,), (0,))[int(rng.integers(8))]
    kind = int(rng.integers(6))
    if kind <= 2:
        return rng.choice(np.array(INTEGERS, np.int64), shape)
    if kind == 3:
        return np.asarray(rng.choice([0.0, -1.0, 1e308, np.nan, np.inf, 1e-320]))
    if kind == 4:
        text = TEXTS[int(rng.integers(len(TEXTS)))]
        return np.array(text, f"S{max(len(text), 1)}")
    return "variable \u00fc"


def attribute(rng: Rng, data: bytes) -> bytes:
    def change(file: h5py.File) -> None:
        group = _pick(rng, (g for g in _groups(file) if len(g.attrs)))
        name = _pick(rng, group.attrs)
        old = group.attrs[name]
        if rng.random() < 0.6 and np.asarray(old).dtype.kind == "i":  # same type, other number
            value = np.array(old)
            value[...] = rng.choice(np.array(INTEGERS, np.int64), value.shape)
        else:
            value = _value(rng)
        del group.attrs[name]
        if rng.random() < 0.9:
            group.attrs[name] = value

    return _edit(data, change)


def extra_attribute(rng: Rng, data: bytes) -> bytes:
    def change(file: h5py.File) -> None:
        _pick(rng, _groups(file)).attrs[_pick(rng, ("new", "kind", "shape"))] = _value(rng)

    return _edit(data, change)


def dataset(rng: Rng, data: bytes) -> bytes:
    """Replace a dataset by one of another type, shape, layout or filter."""

    def change(file: h5py.File) -> None:
        old = _pick(rng, _datasets(file))
        group, name, value = old.parent, old.name.rsplit("/", 1)[1], old[()]
        del group[name]
        kind = int(rng.integers(9))
        if kind == 0:
            group[name] = np.asarray(value).astype(DTYPES[int(rng.integers(len(DTYPES)))])
        elif kind == 1:
            group[name] = np.asarray(value).reshape(-1)[: int(rng.integers(20))]
        elif kind == 2:
            group[name] = np.resize(value, [int(n) for n in rng.integers(0, 6, rng.integers(6))])
        elif kind == 3:  # claims much, stores nothing
            big = (int(rng.integers(1, 2**40)), int(rng.integers(1, 2**20)))
            group.create_dataset(name, big, np.asarray(value).dtype, chunks=(64, 64))
        elif kind == 4:  # one chunk that unpacks to much
            side = int(rng.integers(1, 3000))
            group.create_dataset(
                name, data=np.zeros((side, side), np.asarray(value).dtype), compression="gzip",
                chunks=(side, side),
            )  # fmt: skip
        elif kind == 5:
            group.create_dataset(name, (100,), "i1", external=[("/etc/hostname", 0, 100)])
        elif kind == 6:
            layout = h5py.VirtualLayout((4,), "i1")
            layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
            group.create_virtual_dataset(name, layout)
        elif kind == 7:
            flat = np.atleast_1d(value)
            group.create_dataset(name, data=flat, compression="lzf", chunks=flat.shape)
        else:
            values = np.asarray(value)
            if values.dtype.kind in "iu" and values.size:
                info = np.iinfo(values.dtype)
                values.reshape(-1)[int(rng.integers(values.size))] = _pick(
                    rng, (info.min, info.max, 0, 1)
                )
            group[name] = values

    return _edit(data, change)


def link(rng: Rng, data: bytes) -> bytes:
    """Replace, rename or remove a member; links of every kind."""

    def change(file: h5py.File) -> None:
        group = _pick(rng, (g for g in _groups(file) if len(g)))
        name = _pick(rng, group)
        other = _pick(rng, [*_groups(file), *_datasets(file)])
        kind = int(rng.integers(6))
        if kind == 0:
            del group[name]
        elif kind == 1:
            group.move(name, _pick(rng, ("zz", "0000", "0017", "weight", "mapping")) + "_")
        elif kind == 2:
            target = group[name].name
            del group[name]
            group[name] = h5py.SoftLink(_pick(rng, (target, "/", "/populations", "nowhere")))
        elif kind == 3:
            del group[name]
            group[name] = h5py.ExternalLink(_pick(rng, ("other.h5", "/dev/zero")), "/x")
        elif kind == 4:  # hard links may make cycles, and give one object two names
            del group[name]
            group[name] = other if other.id.valid else file
        else:
            group["another"] = other

    return _edit(data, change)


def text(rng: Rng, data: bytes) -> bytes:
    """Put something else into a JSON text: the parts of a mapping, its chip, or a report."""

    def change(file: h5py.File) -> None:
        old = _pick(rng, (d for d in _datasets(file) if d.dtype == np.uint8 and d.ndim == 1))
        content, parent, name = old[()].tobytes(), old.parent, old.name.rsplit("/", 1)[1]
        places = [m.span() for m in re.finditer(rb'[-\d.]+|"[^"]*"|true|false', content)]
        start, end = _pick(rng, places or [(0, len(content))])
        content = content[:start] + _pick(rng, JSON_PARTS) + content[end:]
        del parent[name]
        parent[name] = np.frombuffer(content, np.uint8)

    return _edit(data, change)


def mapping_numbers(rng: Rng, data: bytes) -> bytes:
    """Other numbers in the arrays of a mapping."""

    def change(file: h5py.File) -> None:
        name = _pick(rng, ("blocks", "usage", "link_load"))
        array = file["mapping"][name][()]
        at = tuple(int(rng.integers(n)) for n in array.shape)
        near = array[at] + int(rng.integers(-2, 3))
        wild = rng.choice([0.0, -1.0, np.nan, np.inf, 1e300])
        array[at] = wild if array.dtype.kind == "f" else _pick(rng, (near, near, *INTEGERS))
        del file["mapping"][name]
        file["mapping"][name] = array

    return _edit(data, change)


MUTATIONS: tuple[Callable[[Rng, bytes], bytes], ...] = (
    truncate,
    flip,
    overwrite,
    move,
    remove,
    attribute,
    attribute,
    extra_attribute,
    dataset,
    dataset,
    link,
    text,
    mapping_numbers,
    mapping_numbers,
)


def _old_layout(data: bytes) -> bytes:
    """The same content in HDF5's oldest file format, whose structure has no checksums."""
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(data), "r") as old, h5py.File(buffer, "w", libver="earliest") as new:
        for key, value in old.attrs.items():
            new.attrs.create(key, value, dtype=old.attrs.get_id(key).dtype)
        for key in old:
            old.copy(key, new)
    return buffer.getvalue()


def seeds(folder: Path) -> list[bytes]:
    """Sound files to start from."""
    from pmsm_hw.mapping import load_chip, map_network

    found = []
    for seed in range(12):
        network = random_network(seed)
        path = folder / f"seed{seed}.h5"
        report = {"seed": seed, "list": [1, 2.5, None]} if seed % 2 else None
        files.save(path, network, report=report)
        data = path.read_bytes()
        # without its digest, an edited file gets as far as the validation of its network
        bare = _edit(data, lambda file: file.attrs.__delitem__("digest"))
        found += [data, bare, bare]
        if seed % 2:
            found.append(_old_layout(bare))
    for seed in range(40, 46):
        network = random_network(seed, max_steps=2, n_layers=2)
        mapping = map_network(network, load_chip("loihi1"), objective="cores")
        files.save(folder / "mapped.h5", network, mapping=mapping)
        found += [(folder / "mapped.h5").read_bytes()] * 2
    return found + nir_seeds(folder)


def nir_seeds(folder: Path) -> list[bytes]:
    """Exported networks, and a general graph; none where nir is not installed."""
    try:
        import nir
    except ImportError:
        sys.stderr.write("no NIR files: nir is not installed\n")
        return []
    rng = np.random.default_rng(0)
    path = folder / "seed.nir"
    found = []
    for seed in range(20, 26):
        files.save_nir(path, random_network(seed))
        found.append(path.read_bytes())
    graph = nir.NIRGraph.from_list(
        nir.Input(np.array([2, 8, 8])),
        nir.Conv2d((8, 8), rng.normal(size=(4, 2, 3, 3)), 1, 1, 1, 1, rng.normal(size=4)),
        nir.IF(np.ones((4, 8, 8)), np.ones((4, 8, 8))),
        nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Flatten(np.array([4, 4, 4]), 0),
        nir.Scale(np.full(64, 0.5)),
        nir.Affine(rng.normal(size=(5, 64)), rng.normal(size=5)),
        nir.IF(np.ones(5), np.ones(5)),
        nir.Output(np.array([5])),
        type_check=False,
    )
    nir.write(path, graph)
    return [*found, *[path.read_bytes()] * 3]


def case(number: int, sources: list[bytes]) -> bytes:
    """Damaged bytes of one case."""
    rng = np.random.default_rng(number)
    data = _pick(rng, sources)
    for _ in range(1 if rng.random() < 0.7 else 2):
        mutation = _pick(rng, MUTATIONS)
        try:
            data = mutation(rng, data)
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError):
            data = flip(rng, data)  # h5py refused the edit: any other damage will do
        if not data:
            break
    return data


def read(path: Path) -> str:
    """Outcome of reading one file by everything that reads files."""
    outcome = "refused"
    for load in (files.load, files.load_nir):
        try:
            if not isinstance(load(path), Network):
                raise TypeError("no Network")
            outcome = "loaded"
        except FormatError as error:
            if "\n" in str(error):
                raise ValueError(f"more than one line: {error}") from error
    try:
        files.load_report(path)
    except FormatError:
        outcome += ", no report"
    try:
        files.load_mapping(path).summary()  # shows every part
    except FormatError as error:
        if "\n" in str(error):
            raise ValueError(f"more than one line: {error}") from error
    else:
        outcome += ", mapped"
    return outcome


def main(arguments: list[str] | None = None) -> None:
    """Run cases; print a JSON line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources, path = seeds(folder), folder / "case.h5"

        def run(number: int) -> str:
            path.write_bytes(case(number, sources))
            return read(path)

        def left() -> dict[str, list[str]]:
            others = {p.name for p in folder.iterdir() if p.suffix not in (".h5", ".nir")}
            return {"files_left": sorted(others)}

        seeded_cases.main(__doc__, run, cases=20_000, arguments=arguments, more=left)


if __name__ == "__main__":
    main()
