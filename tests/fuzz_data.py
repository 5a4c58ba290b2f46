"""Feed damaged and hostile data, recordings and torch files to their readers: one line or values.

``python tests/fuzz_data.py --cases 5000`` prints one JSON line with the outcome by kind of file;
the test suite runs some. Every case is seeded by its number alone: ``--first N --cases 1`` repeats
case N. Memory is limited to what the process has at the start and 1 GiB more, warnings are errors,
a case that takes longer than 300 s ends the run with a traceback, a crash with a signal.
"""

from __future__ import annotations

import copy
import gzip
import io
import resource
import struct
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import seeded_cases
from fuzz_files import INTEGERS, flip, move, overwrite, remove, truncate
from random_networks import small_network

from pmsm_hw.datasets import load, load_samples
from pmsm_hw.datasets.aedat import read_aedat2, read_aedat3
from pmsm_hw.errors import PmsmHwError
from pmsm_hw.reference import units_of

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]

Rng = np.random.Generator
BYTES = (truncate, flip, flip, overwrite, move, remove)
MEMORY_BYTES = 1 << 30
NETWORK = small_network()

HOSTILE = (
    None, True, False, 0, -1, 1, 3, 10**6, 10**12, 2**63, -(2**70), 0.0, -2.5, 1e300, float("nan"),
    float("inf"), "", "x", "a\nb\x1b[1m", "9", [], [1], [0, 0], (2, 4), [float("nan"), 4],
    [1] * 10_000, {}, {"a": 1}, "digits_cnn", "reset", "vgg16",
)  # fmt: skip


def pick(rng: Rng, items: Any) -> Any:
    items = list(items)
    return items[int(rng.integers(len(items)))]


def some_bytes(rng: Rng, data: bytes) -> bytes:
    return pick(rng, BYTES)(rng, data) if data else data


# -- arrays --------------------------------------------------------------------------------------

DESCRS = ("'<f4'", "'<f8'", "'>f8'", "'<i8'", "'|u1'", "'|b1'", "'|O'", "'<c16'", "'<U5'", "'|S3'",
          "'<M8[s]'", "'|V8'", "'<f16'", "[('a', '<f4')]", "'bogus'", "'3f4'", "5", "None", "'<f4",
          "'''<f4")  # fmt: skip
SHAPES = ("()", "(0,)", "(3,)", "(2, 1, 8, 8)", "(4, 64)", "(-1, 4)", "(True,)", "(2, 4294967296)",
          "(99999999999999999999999,)", "[2, 2]", "5", "None", "(2.0,)", "(2, 0)", "((2,), 3)",
          "(1, 1, 8, 8)" * 50, "(" * 3000, "(1,) * 10**9")  # fmt: skip


def npy_bytes(array: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def arrays() -> list[Any]:
    rng = np.random.default_rng(0)
    x = rng.random((3, 1, 8, 8))
    return [x, x.astype(np.float32), np.asfortranarray(x), rng.integers(0, 17, (4, 1, 8, 8)),
            x.astype(">f8"), rng.random((2, 3, 1, 8, 8)).astype(np.float16)]  # fmt: skip


def hostile_npy(rng: Rng) -> bytes:
    """A header of parts that do not suit each other, and values of some length."""
    fortran = pick(rng, ("True", "False", "1", "'no'"))
    text = f"{{'descr': {pick(rng, DESCRS)}, 'fortran_order': {fortran}, "
    text += f"'shape': {pick(rng, SHAPES)}, {pick(rng, ('', '', 'x', repr('a') + ': 1'))}}}\n"
    raw, version = text.encode(), int(pick(rng, (1, 1, 1, 2, 3, 4, 0)))
    length = len(raw) if rng.random() < 0.8 else int(pick(rng, (0, 1, 65_535, 10_001)))
    size = struct.pack("<H", length % 65_536) if version == 1 else struct.pack("<I", length)
    values = bytes(int(pick(rng, (0, 1, 24, 64 * 8, 2 * 64 * 8, 10_000))))
    return b"\x93NUMPY" + bytes([version, 0]) + size + raw + values


def npy(rng: Rng, folder: Path) -> bytes:
    kind = int(rng.integers(5))
    if kind < 2:
        return some_bytes(rng, npy_bytes(pick(rng, arrays())))
    if kind == 2:
        return npy_bytes(
            pick(
                rng,
                (
                    np.array([{}, 1], object),
                    np.array(3.0),
                    np.array(["a"]),
                    np.zeros((0, 4)),
                    np.zeros(3, "i4,f8"),
                    np.full((1, 1, 8, 8), np.nan),
                    np.full((1, 1, 8, 8), np.inf),
                    np.full((2, 1, 8, 8), -(2**40)),
                    np.full((2, 1, 8, 8), 2**64 - 1, np.uint64),
                    np.zeros((2, 1, 8, 8), complex),
                    np.zeros(2, "M8[s]"),
                    np.full((1, 1, 8, 8), 1e308),
                ),
            )
        )
    return hostile_npy(rng)


def npz(rng: Rng, folder: Path) -> bytes:
    file = io.BytesIO()
    x = pick(rng, arrays())
    labels = np.arange(len(x))
    if rng.random() < 0.2:
        labels = pick(rng, (
            np.arange(len(x) + 1), np.zeros(len(x)), 3, np.full(len(x), 2**64 - 1, np.uint64),
            np.full(len(x), -1), np.array([None] * len(x), object),
        ))  # fmt: skip
    members = {"x.npy": npy_bytes(x), "labels.npy": npy_bytes(labels)}
    kind = int(rng.integers(9))
    if kind == 0:
        members["x.npy"] = npy(rng, folder)
    elif kind == 1:
        members["labels.npy"] = npy(rng, folder)
    elif kind == 2:
        members[pick(rng, ("read.me", "y.npy", "a\nb.npy", "../x.npy", ".npy", "\u00fc.npy"))] = (
            b"z"
        )
    elif kind == 3:  # unpacks to much
        n = int(pick(rng, (10**3, 10**5)))
        header = npy_bytes(np.zeros((1, 64))).replace(b"(1, 64)", f"({n}, 64)".encode())
        members["x.npy"] = header[: len(header) - 512] + bytes(n * 512)
    elif kind == 4:
        members = {f"{i}.npy": members["x.npy"] for i in range(3)}
    method = pick(rng, (0, 0, 0, 8, 8, 8, 12, 14))
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            archive.writestr(name, content)
        if kind == 5:
            archive.writestr("x.npy", content)
    data = file.getvalue()
    if kind in (6, 7):
        data = directory(rng, data)
    return some_bytes(rng, data) if rng.random() < 0.4 else data


def directory(rng: Rng, data: bytes) -> bytes:
    """Change a field of the directory of an archive, or of the header of a member."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 3))):
        central = rng.random() < 0.7
        start = data.find(b"PK\x01\x02" if central else b"PK\x03\x04")
        if start < 0:
            break
        # version, flags, method, time, date, crc, sizes, lengths of name and extra, offset
        offsets = (
            (4, 6, 8, 10, 16, 20, 24, 28, 30, 34, 42) if central else (4, 6, 8, 14, 18, 22, 26)
        )
        at = start + int(pick(rng, offsets))
        value = int(pick(rng, INTEGERS)) % 2**16 if rng.random() < 0.5 else 1
        changed[at : at + 2] = struct.pack("<H", value)
    return bytes(changed)


def read_samples(path: Path, rng: Rng) -> None:
    limit = pick(rng, (None, None, 1, 2))
    samples = load_samples(path, n_steps=int(rng.integers(1, 4)), limit=limit)
    if path.suffix != ".bin":
        units_of(NETWORK, samples.x, int(rng.integers(1, 4)))


# -- recordings ----------------------------------------------------------------------------------


def nmnist(rng: Rng, folder: Path) -> bytes:
    n = int(rng.integers(1, 60))
    t = np.sort(rng.integers(0, 2**23, n))
    rows = np.stack(
        [rng.integers(0, 34, n), rng.integers(0, 34, n), rng.integers(0, 2, n) << 7 | t >> 16,
         t >> 8 & 255, t & 255], axis=1,
    ).astype(np.uint8)  # fmt: skip
    rows[rng.random(n) < 0.2, 1] = 240
    data = rows.tobytes()
    return some_bytes(rng, data) if rng.random() < 0.7 else data


def aedat(rng: Rng, folder: Path) -> bytes:
    n = int(rng.integers(1, 40))
    t = (int(pick(rng, (0, 2**31 - 50, 2**32 - 50))) + np.sort(rng.integers(0, 100, n))) % 2**32
    if rng.random() < 0.5:
        address = rng.integers(0, 2 ** int(pick(rng, (15, 15, 16, 32))), n)
        data = b"#!AER-DAT2.0\r\n# x\r\n" + np.stack([address, t], axis=1).astype(">u4").tobytes()
        if rng.random() < 0.2:
            data = data.replace(b"2.0", b"3.1")
    else:
        words = rng.integers(0, 128, n) << 17 | rng.integers(0, 128, n) << 2 | rng.integers(0, 4, n)
        packet = [1, 0, 8, 4, 0, n, n, n]
        if rng.random() < 0.5:
            at = int(rng.integers(8))
            bits = 15 if at < 2 else 31
            packet[at] = int(np.clip(pick(rng, INTEGERS), -(2**bits), 2**bits - 1))
        data = b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + struct.pack("<hhiiiiii", *packet)
        data += np.stack([words, t], axis=1).astype("<u4").tobytes()
    return some_bytes(rng, data) if rng.random() < 0.6 else data


def read_aedat(path: Path, rng: Rng) -> None:
    reader = read_aedat3 if b"DAT3" in path.read_bytes()[:12] else read_aedat2
    reader(path)


def gestures(rng: Rng, folder: Path) -> bytes:
    n = int(rng.integers(1, 30))
    rows: Any = np.stack([rng.integers(0, 128, n), rng.integers(0, 128, n), rng.integers(0, 2, n),
                          np.sort(rng.integers(0, 5000, n))], axis=1)  # fmt: skip
    rows = rows.astype(pick(rng, (np.int64, np.float64, np.uint16, np.int32)))
    if rng.random() < 0.5:
        with np.errstate(all="ignore"):
            rows[int(rng.integers(n)), int(rng.integers(4))] = np.asarray(
                pick(rng, (-1, 127, 128, 40_000, 0.5, np.nan, np.inf, 1e300))
            ).astype(rows.dtype)
    data = npy_bytes(rows)
    return some_bytes(rng, data) if rng.random() < 0.5 else data


def read_gestures(path: Path, rng: Rng) -> None:
    folder = path.parent / "ibmGestureTest" / "user24_led"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "3.npy").write_bytes(path.read_bytes())
    load("dvsgesture", path.parent, int(rng.integers(1, 5)), split="test")[0]


# -- images --------------------------------------------------------------------------------------


def idx(rng: Rng, array: Any) -> bytes:
    data = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data += array.astype(np.uint8).tobytes()
    if rng.random() < 0.4:
        at = int(rng.integers(4 + 4 * array.ndim))
        data = data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :]
    return some_bytes(rng, data) if rng.random() < 0.4 else data


def mnist(rng: Rng, folder: Path) -> bytes:
    data = idx(rng, rng.integers(0, 256, (3, 28, 28)))
    if rng.random() < 0.15:
        data += bytes(64 << 20)  # unpacks to much
    packed = gzip.compress(data, 1)
    return some_bytes(rng, packed) if rng.random() < 0.4 else packed


def read_mnist(path: Path, rng: Rng) -> None:
    (path.parent / "t10k-images-idx3-ubyte.gz").write_bytes(path.read_bytes())
    (path.parent / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(idx(rng, rng.integers(0, 11, 3)))
    )
    load("mnist", path.parent, split="test")[0]


def cifar(rng: Rng, folder: Path) -> bytes:
    n_labels = int(rng.integers(1, 3))
    rows = rng.integers(0, 256, (int(rng.integers(1, 4)), n_labels + 3072))
    rows[:, :n_labels] = rng.integers(0, pick(rng, (10, 10, 256)), (len(rows), n_labels))
    data = rows.astype(np.uint8).tobytes()
    return some_bytes(rng, data) if rng.random() < 0.5 else data


def read_cifar(path: Path, rng: Rng) -> None:
    for name in ("test_batch.bin", "test.bin"):
        (path.parent / name).write_bytes(path.read_bytes())
    names = "\n".join(map(str, range(int(pick(rng, (100, 100, 99))))))
    (path.parent / "fine_label_names.txt").write_text(names)
    load(pick(rng, ("cifar10", "cifar100")), path.parent, split="test")[0]


def image(rng: Rng, folder: Path) -> bytes:
    file = io.BytesIO()
    mode = pick(rng, ("RGB", "RGB", "L", "RGBA", "P", "1", "I", "I;16", "CMYK", "F"))
    formats = {"RGBA": ("PNG", "WEBP"), "P": ("PNG", "BMP"), "I": ("TIFF",), "I;16": ("PNG",),
               "CMYK": ("JPEG",), "F": ("TIFF",), "1": ("PNG", "PPM")}  # fmt: skip
    suffix = pick(rng, formats.get(mode, ("PNG", "JPEG", "BMP", "PPM", "WEBP")))
    Image.new(mode, (int(rng.integers(1, 40)), int(rng.integers(1, 40)))).save(file, suffix)
    data = file.getvalue()
    if rng.random() < 0.3:  # of the size, in most formats
        at = int(rng.integers(min(len(data), 40)))
        data = data[:at] + struct.pack(pick(rng, "<>") + "i", 2**14) + data[at + 4 :]
    return some_bytes(rng, data) if rng.random() < 0.7 else data


def read_image(path: Path, rng: Rng) -> None:
    folder = path.parent / "train" / "cat"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"a.{pick(rng, ('png', 'jpg', 'bmp', 'webp', 'ppm'))}").write_bytes(path.read_bytes())
    data = load("imagenet", path.parent, image_size=16, augment=bool(rng.random() < 0.5))
    data[0]
    for file in folder.iterdir():
        file.unlink()


# -- torch ---------------------------------------------------------------------------------------


def models(folder: Path) -> list[Any]:
    """What files of models hold."""
    from pmsm_hw import nn
    from pmsm_hw.convert import integer_model, save_model

    found = []
    x = np.random.default_rng(0).random((4, 6), np.float32)
    mlp = nn.models.build("mlp", seed=0, sizes=(6, 5, 3))
    images = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    cnn = nn.models.digits_cnn(width=2)
    quantized = nn.quantize(mlp, levels=(2, 4), calibration=x)
    for model in (
        mlp, quantized, integer_model(quantized, x),
        nn.quantize(cnn, levels=(0, 4), gains=(4, 1), calibration=images, per_channel=True),
    ):  # fmt: skip
        save_model(folder / "seed.pt", model)
        found.append(torch.load(folder / "seed.pt", weights_only=True))
    return found


def hostile_tensor(rng: Rng, tensor: Any) -> Any:
    kind = int(rng.integers(9))
    if kind == 0:
        return tensor.double()
    if kind == 1:
        return tensor.reshape(-1)[:0]
    if kind == 2:
        return torch.ones(1).expand(10**9, 8)
    if kind == 3:
        value = float(pick(rng, ("nan", "inf", "-1", "0", "1e30")))
        return torch.full_like(tensor.float(), value)
    if kind == 4:
        return tensor.to_sparse() if tensor.ndim else tensor
    if kind == 5:
        return tensor.reshape(-1)
    if kind == 6:
        return tensor.to(torch.int64) if tensor.is_floating_point() else tensor.float()
    if kind == 7:
        return torch.randn(3, 2, 2)
    return pick(rng, HOSTILE)


def changed_tree(rng: Rng, tree: Any) -> Any:
    """Replace, remove or add one entry somewhere."""
    node, parents = tree, []
    while isinstance(node, dict | list) and len(node):
        key = pick(rng, node if isinstance(node, dict) else range(len(node)))
        parents.append((node, key))
        node = node[key]
        if rng.random() < 0.15:
            break
    parent, key = parents[-1]
    kind = rng.random()
    if isinstance(node, torch.Tensor) and kind < 0.8:
        parent[key] = hostile_tensor(rng, node)
    elif kind < 0.7:
        parent[key] = pick(rng, HOSTILE)
    elif kind < 0.85 and isinstance(parent, dict):
        del parent[key]
    elif isinstance(parent, dict):
        parent[pick(rng, ("new", "levels", 5, "a\nb"))] = pick(rng, HOSTILE)
    return tree


def rezipped(rng: Rng, data: bytes) -> bytes:
    """Change a member of an archive, with checksums that are right again."""
    out = io.BytesIO()
    method = int(pick(rng, (0, 0, 0, 8)))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        members = {m.filename: old.read(m) for m in old.infolist()}
        # what describes the tensors, more often than their values
        name = (
            pick(rng, members)
            if rng.random() < 0.5
            else pick(rng, [m for m in members if m.endswith("data.pkl")])
        )
        kind = rng.random()
        if kind < 0.15:
            del members[name]
        elif members[name]:
            members[name] = some_bytes(rng, members[name])
        for member, content in members.items():
            new.writestr(member, content)
    return out.getvalue()


def archive(rng: Rng, tree: Any) -> bytes:
    """A torch archive of changed content, or damaged."""
    kind = rng.random()
    if kind < 0.55:
        tree = changed_tree(rng, copy.deepcopy(tree))
    file = io.BytesIO()
    torch.save(tree, file, _use_new_zipfile_serialization=bool(rng.random() < 0.9))
    data = file.getvalue()
    if kind < 0.55:
        return data
    if kind < 0.8 and data.startswith(b"PK"):
        return rezipped(rng, data)
    return some_bytes(rng, data)


_MODELS: list[Any] = []


def model(rng: Rng, folder: Path) -> bytes:
    if not _MODELS:
        _MODELS.extend(models(folder))
    return archive(rng, pick(rng, _MODELS))


def read_model(path: Path, rng: Rng) -> None:
    from pmsm_hw.convert import load_model

    load_model(path)


def state_dict(rng: Rng, folder: Path) -> bytes:
    tree = dict(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)).state_dict())
    return archive(rng, pick(rng, (tree, {"state_dict": tree})))


def read_state_dict(path: Path, rng: Rng) -> None:
    from pmsm_hw.convert import build_model

    build_model("fuzz_data:factory", path)


def factory() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))


# -- run -----------------------------------------------------------------------------------------

Kind = tuple[str, Callable[[Rng, Path], bytes], Callable[[Path, Rng], None]]


def kinds() -> list[Kind]:
    """Suffix, maker of bytes, and reader; as far as packages are installed."""
    found: list[Kind] = [
        (".npy", npy, read_samples), (".npz", npz, read_samples), (".npz", npz, read_samples),
        (".bin", nmnist, read_samples), (".aedat", aedat, read_aedat),
        (".rows.npy", gestures, read_gestures), (".gz", mnist, read_mnist),
        (".cifar", cifar, read_cifar),
    ]  # fmt: skip
    if Image is not None:
        found.append((".image", image, read_image))
    if torch is not None:
        found += [(".pt", model, read_model)] * 3 + [(".state.pt", state_dict, read_state_dict)]
    return found


def run(number: int, folder: Path, known: list[Kind]) -> str:
    """Outcome of one case: kind of file, and whether it was read or refused."""
    rng = np.random.default_rng(number)
    suffix, make, read = known[number % len(known)]
    path = folder / f"case{suffix}"
    data = make(rng, folder)
    path.write_bytes(data)
    try:
        read(path, rng)
    except PmsmHwError as error:
        if "\n" in str(error) or not str(error).isprintable():
            raise ValueError(f"no line of printable text: {error!r}") from error
        return f"{suffix[1:]} refused"
    finally:
        path.unlink()
    return f"{suffix[1:]} read"


def main(arguments: list[str] | None = None) -> None:
    """Run cases; print a JSON line."""
    warnings.simplefilter("error")
    sys.path.insert(0, str(Path(__file__).parent))
    known = kinds()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(len(known)):  # imports, before memory is limited
            run(number, folder, known)
        status = Path("/proc/self/statm")
        if status.exists():
            size = int(status.read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, resource.RLIM_INFINITY))
        seeded_cases.main(
            __doc__, lambda number: run(number, folder, known), cases=5_000, arguments=arguments
        )


if __name__ == "__main__":
    main()
