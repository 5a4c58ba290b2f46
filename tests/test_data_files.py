"""Files given as --data: values as numpy reads them, or one `DatasetError` and no memory taken."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from random_networks import small_network

from pmsm_hw import io as network_files
from pmsm_hw.datasets import load_samples, random_samples
from pmsm_hw.errors import DatasetError, InputError


def npy(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True, **options)
    return file.getvalue()


def with_header(text, values=b"", version=1):
    text = text.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + values


def header(descr="'<f4'", shape="(2, 3)", fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def write_zip(path, *members, method=zipfile.ZIP_STORED):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that stand twice
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members:
                archive.writestr(name, content)


DTYPES = ("?", "i1", "u1", "<i2", ">i4", "<i8", "u8", "<f2", ">f4", "<f8", ">f8")


@settings(max_examples=40)
@given(
    array=st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(
            dtype, arrays.array_shapes(min_dims=1, max_dims=4, max_side=5),
            elements=None if dtype == "?" else st.integers(0, 100),
        )
    ),
    fortran=st.booleans(), version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    limit=st.one_of(st.none(), st.integers(1, 6)), deflated=st.booleans(),
)  # fmt: skip
def test_what_is_read_is_what_numpy_reads(
    array, fortran, version, limit, deflated, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("arrays")
    given_ = np.asfortranarray(array) if fortran else array
    data = npy(given_, version=version)
    (folder / "a.npy").write_bytes(data)
    np.testing.assert_array_equal(np.load(folder / "a.npy"), array)
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    labels = np.arange(len(array))
    write_zip(folder / "a.npz", ("x.npy", data), ("labels.npy", npy(labels)), method=method)
    for name in ("a.npy", "a.npz"):
        samples = load_samples(str(folder / name), limit=limit)
        np.testing.assert_array_equal(samples.x, array[:limit])
        assert samples.x.dtype == array.dtype.newbyteorder("=")
        assert samples.x.flags.c_contiguous
    np.testing.assert_array_equal(samples.labels, labels[:limit])
    assert samples.n_samples == len(array[:limit])


BAD_NPY = {
    "nothing": (b"", "begins with nothing"),
    "text": (b"1, 2, 3\n", "begins with 31"),
    "version": (b"\x93NUMPY\x09\x00" + bytes(100), "which numpy.save does not write"),
    "cut": (npy(np.zeros(5))[:-1], "39 bytes of values, its header says"),
    "longer": (npy(np.zeros(5)) * 2, "bytes of values, its header says"),
    "claims 32 GiB": (with_header(header(shape="(2, 4294967296)"), b"1234"), "its header says"),
    "claims more than there is": (with_header(header(shape=f"({10**30},)")), "header.*damaged"),
    "token": (with_header("{'descr': '''<f4, ]\n"), "header that is damaged"),
    "nested": (with_header("(" * 9000), "header that is damaged"),
    "call": (with_header("__import__('os')"), "header that is damaged"),
    "no dictionary": (with_header("[1]"), "header that is damaged"),
    "long header": (with_header(header() + " " * 20_000), "header of 20"),
    "endless header": (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "header of 2,147,483,647"),
    "cut header": (with_header(header())[:30], "header that is damaged"),
    "negative": (with_header(header(shape="(-1, 2)")), "header that is damaged"),
    "true": (with_header(header(shape="(True, 2)")), "header that is damaged"),
    "list": (with_header(header(shape="[2, 3]"), bytes(24)), "header that is damaged"),
    "further key": (with_header(header()[:-2] + "'a': 1}", bytes(24)), "header that is damaged"),
    "objects": (npy(np.array([{}, 1], object)), "values of type .*O"),
    "complex": (npy(np.zeros(3, complex)), "values of type '<c16'"),
    "strings": (npy(np.array(["a", "b"])), "values of type '<U1'"),
    "bytes": (npy(np.array([b"a"])), "values of type '.S1'"),
    "times": (npy(np.zeros(2, "M8[s]")), "values of type"),
    "structured": (npy(np.zeros(2, "i4,f4")), "values of type"),
    "no dtype": (with_header(header(descr="'bogus'")), "values of type"),
    "parts": (with_header(header(descr="'3f4'")), "values of type"),
    "0-d": (npy(np.array(3.0)), r"shape \(\), which holds no samples"),
    "empty": (npy(np.zeros((0, 3))), r"shape \(0, 3\), which holds no samples"),
    "no values": (npy(np.zeros((3, 0))), r"shape \(3, 0\), which holds no samples"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_NPY)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damaged_arrays_are_one_line(kind, suffix, tmp_path):
    content, problem = BAD_NPY[kind]
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        path.write_bytes(content)
    else:
        write_zip(path, ("x.npy", content))
    with pytest.raises(DatasetError, match=problem) as caught:
        load_samples(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


X = ("x.npy", npy(np.ones((4, 3))))


def labels(value):
    return ("labels.npy", npy(np.asarray(value)))


BAD_NPZ = {
    "no archive": ([], b"PK\x03\x04 and no more", "is damaged"),
    "no arrays": ([], None, "has arrays \\(none\\)"),
    "text beside": ([X, ("read.me", b"text")], None, "something else than arrays: 'read.me'"),
    "twice": ([X, X], None, "two arrays of the name 'x'"),
    "other array beside": ([X, ("y.npy", X[1])], None, "has arrays 'x', 'y'"),
    "0-d labels": ([X, labels(3)], None, "labels'.* has 0 samples, 'x' has 4"),
    "few labels": ([X, labels([1, 2, 3])], None, "has 3 samples, 'x' has 4"),
    "more labels": ([X, labels([1] * 5)], None, "has 5 samples, 'x' has 4"),
    "real labels": ([X, labels([1.0] * 4)], None, "dtype float64, one integer"),
    "labels of two axes": ([X, labels([[1]] * 4)], None, r"labels of shape \(., 1\)"),
    "negative labels": ([X, labels([-1, 0, 1, 2])], None, r"labels in \[-1, "),
    "huge labels": ([X, labels(np.full(4, 2**64 - 1, np.uint64))], None, "18446744073709551615"),
    "name": ([X, ("a\n\x1b[1m.npy", X[1])], None, "has arrays"),
}


@pytest.mark.parametrize("kind", BAD_NPZ)
@pytest.mark.parametrize("limit", [None, 1])
def test_wrong_archives_are_one_line(kind, limit, tmp_path):
    members, content, problem = BAD_NPZ[kind]
    path = tmp_path / "x.npz"
    write_zip(path, *members)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=problem) as caught:
        load_samples(str(path), limit=limit)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_does_not_write_is_refused(method, tmp_path):
    write_zip(tmp_path / "x.npz", X, method=method)
    with pytest.raises(DatasetError, match="compressed in a way"):
        load_samples(str(tmp_path / "x.npz"))


def test_a_changed_value_is_found_even_past_the_limit(tmp_path):
    path = tmp_path / "x.npz"
    write_zip(path, ("x.npy", npy(np.arange(1000.0))))
    data = bytearray(path.read_bytes())
    at = data.index(np.float64(700).tobytes())
    data[at + 6] ^= 1
    path.write_bytes(bytes(data))
    for limit in (None, 2):
        with pytest.raises(DatasetError, match="is damaged"):
            load_samples(str(path), limit=limit)


def test_every_cut_of_an_archive_is_one_line(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.arange(50.0), labels=np.arange(50))
    data = path.read_bytes()
    for n in range(0, len(data), 7):
        path.write_bytes(data[:n])
        with pytest.raises(DatasetError):
            load_samples(str(path))


# -- memory --------------------------------------------------------------------------------------

LIMITED = """
import json, resource, sys
from pmsm_hw.datasets import load_samples
from pmsm_hw.errors import DatasetError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
said = []
for name, limit in json.loads(sys.argv[1]):
    try:
        said.append(list(load_samples(name, limit=limit).x.shape))
    except DatasetError as error:
        said.append(str(error))
print(json.dumps([said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]))
"""


def zeros(path, member, shape, fortran="False"):
    """A member of an archive that unpacks to an array of zeros, written piece by piece."""
    text = header("'<f8'", str(shape), fortran)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(member, "w") as file,
    ):
        file.write(with_header(text))
        n, piece = 8 * int(np.prod(shape)), bytes(1 << 20)
        while n:
            n -= file.write(piece[: min(n, len(piece))])


def test_few_samples_of_a_large_file_take_little_memory(tmp_path):
    zeros(tmp_path / "c.npz", "x.npy", (1000, 12_500))  # 100 MB
    zeros(tmp_path / "fortran.npz", "x.npy", (12_500, 1000), "True")
    np.savez(tmp_path / "beside.npz", x=np.zeros((5, 2)))
    zeros(tmp_path / "beside.npz", "unused.npy", (1000, 12_500))
    with (tmp_path / "sparse.npy").open("wb") as file:
        file.write(with_header(header("'<f8'", "(1000000, 1000000)")))
        file.truncate(file.tell() + 8 * 10**12)
    files = [("c.npz", 2), ("fortran.npz", 2), ("beside.npz", 2), ("sparse.npy", None)]
    asked = json.dumps([(str(tmp_path / name), limit) for name, limit in files])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, asked], capture_output=True, text=True, check=True
    )
    (c, fortran, beside, sparse), grown_mb = json.loads(done.stdout)
    assert c == [2, 12_500]
    assert fortran == [2, 1000]
    assert "has arrays 'x', 'unused'" in beside
    assert "8,000,000,000,000 bytes, at most 4,294,967,296 are read" in sparse
    assert grown_mb < 40


# -- what is no file -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".bin"])
def test_what_is_no_regular_file_is_refused_at_once(suffix, tmp_path):
    network_files.save(tmp_path / "net.h5", small_network())
    os.mkfifo(tmp_path / f"fifo{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    for name, problem in (
        ("fifo", "a FIFO, not a regular file"),
        ("folder", "a folder, not a file"),
        ("device", "a device, not a regular file"),
        ("absent", "No such file"),
    ):
        with pytest.raises(DatasetError, match=problem):
            load_samples(str(tmp_path / (name + suffix)))
    line = refused("run", "net.h5", "--data", f"fifo{suffix}", cwd=tmp_path)
    assert "a FIFO, not a regular file" in line


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit 0 is below 1"),
        ({"limit": -1}, "limit -1"),
        ({"limit": 2.0}, "limit 2.0"),
        ({"limit": True}, "limit True"),
        ({"limit": "3"}, "limit '3'"),
        ({"n_steps": 0}, "n_steps 0"),
        ({"n_steps": 1e1}, "n_steps 10.0"),
        ({"n_steps": None}, "n_steps None"),
        ({"source": None}, "a name or a path is needed"),
        ({"source": {"x": 1}}, "a name or a path is needed"),
    ],
)
def test_wrong_arguments_of_load_samples(arguments, message):
    with pytest.raises(InputError, match=message):
        load_samples(**{"source": "digits", **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 2**31}, "takes 549,755,813,888 bytes"),
        ({"n_samples": 1, "n_steps": 2**31}, "takes 549,755,813,888 bytes"),
        ({"n_samples": 0}, "number of samples 0"),
        ({"n_samples": 1.0}, "number of samples 1.0"),
        ({"n_samples": 1, "n_steps": "2"}, "number of steps '2'"),
        ({"n_samples": 1, "seed": -1}, "seed -1"),
        ({"n_samples": 1, "seed": None}, "seed None"),
    ],
)
def test_wrong_arguments_of_random_samples(arguments, message):
    with pytest.raises(InputError, match=message):
        random_samples(small_network(), **arguments)


def test_a_limit_beyond_the_data_is_all_of_it():
    assert load_samples("digits", limit=2**31).n_samples == 599


# -- fuzzing -------------------------------------------------------------------------------------


def test_200_damaged_files_are_read_or_refused():
    script = Path(__file__).with_name("fuzz_data.py")
    done = subprocess.run(
        [sys.executable, str(script), "--cases", "200"],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert done.stderr == ""
    counts = {key: n for key, n in outcome.items() if key.endswith((" read", " refused"))}
    assert sum(counts.values()) == 200
    assert sum(n for key, n in counts.items() if key.endswith("read")) > 10
    assert outcome["peak_mb"] < 1024
