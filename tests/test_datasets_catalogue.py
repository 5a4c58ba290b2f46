"""Every data set of the catalogue, on files of its real on-disk format that the tests write."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from scarce import no_file_above

from pmsm_hw.datasets import Compose, Mirror, Normalize, Shift, download, event_sets, load
from pmsm_hw.datasets.aedat import read_aedat2, read_aedat3
from pmsm_hw.datasets.cifar import CIFAR10_CLASSES
from pmsm_hw.datasets.download import Archive, fetch, unpack
from pmsm_hw.errors import DatasetError, FormatError, InputError, PmsmHwError

RNG = np.random.default_rng(0)


def write_idx(path, array):
    data = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data += array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_nmnist(path, events):
    """Times in us; an overflow record stands for 2**13 us."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = bytearray()
    for x, y, t, p in events:
        out += bytes([x, y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255])
    path.write_bytes(bytes(out))


def write_aedat2(path, raw):
    """Raw: (bits 1..7, bits 8..14, bit 0, time)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = [((b << 8) | (a << 1) | p, t) for a, b, p, t in raw]
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n"
    path.write_bytes(header + np.array(words, ">u4").tobytes())


def write_aedat3(path, packets):
    """Packets: (type, overflow, events as (x, y, p, t, valid))."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    for kind, overflow, events in packets:
        n = len(events)
        out += struct.pack("<hhiiiiii", kind, 1, 8, 4, overflow, n, n, n)
        for x, y, p, t, valid in events:
            out += struct.pack("<II", (x << 17) | (y << 2) | (p << 1) | valid, t)
    path.write_bytes(out)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
def test_mnist(tmp_path, suffix, folder):
    for part, n in (("train", 5), ("t10k", 3)):
        images = RNG.integers(0, 256, (n, 28, 28))
        write_idx(tmp_path / folder / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(tmp_path / folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(n))
    data = load("mnist", tmp_path, split="test")
    assert len(data) == 3
    x, label = data[2]
    assert (x.shape, x.dtype, label) == ((1, 28, 28), np.float32, 2)
    np.testing.assert_array_equal(x[0], (images[2] / np.float32(255)).astype(np.float32))
    assert data[-1].label == 2
    with pytest.raises(IndexError):
        data[3]
    repeated = load("mnist", tmp_path, 4, split="test")[2].x
    assert repeated.shape == (4, 1, 28, 28)
    assert all((repeated[t] == x).all() for t in range(4))
    assert len(load("mnist", tmp_path)) == 5


def test_mnist_as_published(shared_data):
    data = load("mnist", shared_data, split="test")
    assert len(data) == 10_000
    assert np.bincount(data.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[:-1], "takes"),
        (lambda d: d + b"x", "takes"),
        (lambda d: b"\0\0\x0d" + d[3:], "begins with"),
        (lambda d: b"", "begins with"),
        (lambda d: d[:2], "begins with"),
    ],
)
def test_damaged_idx(tmp_path, change, message):
    path = tmp_path / "t10k-images-idx3-ubyte"
    write_idx(path, np.zeros((2, 28, 28)))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.zeros(2))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DatasetError, match=message):
        load("mnist", tmp_path, split="test")


def test_idx_of_other_sizes_and_damaged_gzip(tmp_path):
    write_idx(tmp_path / "t10k-images-idx3-ubyte", np.zeros((2, 27, 28)))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.zeros(2))
    with pytest.raises(DatasetError, match=r"\(2, 27, 28\)"):
        load("mnist", tmp_path, split="test")
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bno")
    with pytest.raises(DatasetError, match="not a gzip file"):
        load("mnist", tmp_path, split="test")


def write_cifar(path, images, *labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.stack(labels, axis=1).astype(np.uint8)
    rows = np.concatenate([columns, images.reshape(len(images), -1)], axis=1)
    path.write_bytes(rows.astype(np.uint8).tobytes())


def test_cifar10(tmp_path):
    images = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    folder = tmp_path / "cifar-10-batches-bin"
    for i in range(5):
        write_cifar(folder / f"data_batch_{i + 1}.bin", images[i : i + 1], [i])
    write_cifar(folder / "test_batch.bin", images[5:], [9])
    for root in (tmp_path, folder):
        data = load("cifar10", root)
        assert data.labels.tolist() == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(data[3].x, images[3].astype(np.float32) / np.float32(255))
    test = load("cifar10", tmp_path, split="test")
    assert test.class_names[test[0].label] == "truck"
    assert repr(test) == "<cifar10 test: 1 samples, 10 classes>"
    write_cifar(folder / "test_batch.bin", images[5:], [10])
    with pytest.raises(DatasetError, match="label 10, the largest is 9"):
        load("cifar10", tmp_path, split="test")
    (folder / "test_batch.bin").write_bytes(b"\0" * 3072)
    with pytest.raises(DatasetError, match="3,072 bytes, a positive multiple of 3,073"):
        load("cifar10", tmp_path, split="test")


def test_cifar100_gives_fine_labels(tmp_path):
    images = RNG.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    folder = tmp_path / "cifar-100-binary"
    write_cifar(folder / "train.bin", images, [3, 19], [99, 41])
    names = folder / "fine_label_names.txt"
    names.write_text("\n".join(f"class{i}" for i in range(100)) + "\n")
    data = load("cifar100", tmp_path)
    assert [(s.label, s.x.shape) for s in data] == [(99, (3, 32, 32)), (41, (3, 32, 32))]
    assert data.class_names[41] == "class41"
    names.write_text("one two")
    with pytest.raises(DatasetError, match="names 2 classes"):
        load("cifar100", tmp_path)


@pytest.mark.parametrize(
    ("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")]
)
def test_pickled_cifar_is_never_opened(tmp_path, name, folder):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    path = tmp_path / folder
    path.mkdir()
    for file in ("data_batch_1", "train"):
        (path / file).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DatasetError, match="runs code when it is read; the binary version"):
        load(name, tmp_path)


def test_image_folder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for split, name, size, colour in (
        ("train", "b_dog", (40, 20), (255, 0, 0)),
        ("train", "a_cat", (20, 50), (0, 255, 0)),
        ("val", "a_cat", (8, 8), (0, 0, 255)),
        ("val", "b_dog", (9, 8), (9, 9, 9)),
    ):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        image.new("RGB", size, colour).save(folder / "x.png")
        (folder / "notes.txt").write_text("no image")
    data = load("imagenet", tmp_path, image_size=16)
    assert data.class_names == ("a_cat", "b_dog")
    x, label = data[1]
    assert (x.shape, x.dtype, label) == ((3, 16, 16), np.float32, 1)
    np.testing.assert_array_equal(x, np.array([1, 0, 0], np.float32)[:, None, None] + 0 * x)
    assert load("imagenet", tmp_path, split="test", image_size=4)[0].x[2].min() == 1.0
    augmented = load("imagenet", tmp_path, image_size=16, augment=True, seed=3)
    np.testing.assert_array_equal(augmented[0].x, augmented[0].x)


def test_image_folder_crops_the_centre(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[16:240, 144:368] = 255  # the centre, 224 of 256
    (tmp_path / "val" / "a").mkdir(parents=True)
    image.fromarray(pixels).save(tmp_path / "val" / "a" / "x.png")
    assert load("imagenet", tmp_path, split="test", image_size=224)[0].x.min() == 1.0
    pixels[17:240, 144:368] = 255
    pixels[16] = 0
    image.fromarray(pixels).save(tmp_path / "val" / "a" / "x.png")
    x = load("imagenet", tmp_path, split="test", image_size=224)[0].x
    assert x[:, 0].max() == 0.0
    assert x[:, 1:].min() == 1.0


def test_bad_image_folders(tmp_path):
    pytest.importorskip("PIL.Image")
    with pytest.raises(DatasetError, match="does not exist"):
        load("imagenet", tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DatasetError, match="0 subfolders"):
        load("imagenet", tmp_path)
    (tmp_path / "train" / "a").mkdir()
    with pytest.raises(DatasetError, match="has 0 files that end in"):
        load("imagenet", tmp_path)
    (tmp_path / "train" / "a" / "x.jpg").write_bytes(b"not a picture")
    data = load("imagenet", tmp_path)
    with pytest.raises(DatasetError, match=r"x\.jpg'.*cannot be decoded"):
        data[0]


def test_nmnist(tmp_path):
    for i, digit in enumerate((7, 2)):
        events = [(3, 4, 10, 1), (3, 4, 20, 1), (33, 0, 300, 0), (0, 0, 999, 1)]
        write_nmnist(tmp_path / "NMNIST" / "Train" / str(digit) / f"0000{i}.bin", events)
    write_nmnist(tmp_path / "NMNIST" / "Test" / "5" / "00001.bin", [(0, 0, 1, 0), (1, 1, 9, 1)])
    data = load("nmnist", tmp_path, 3)
    assert data.labels.tolist() == [2, 7]
    x = data[0].x
    assert (x.shape, x.dtype) == ((3, 2, 34, 34), np.float32)
    assert x.sum() == 3  # steps of floor(989 / 3) us: the last event falls after them
    assert x[0, 1, 4, 3] == 2
    assert x[0, 0, 0, 33] == 1
    windows = load("nmnist", tmp_path, 3, window_us=400)[0].x
    assert windows.sum() == 4
    assert windows[2, 1, 0, 0] == 1
    assert load("nmnist", tmp_path, 2, bin_pixels=17)[0].x.shape == (2, 2, 2, 2)
    assert load("nmnist", tmp_path, 1, split="test").labels.tolist() == [5]
    np.testing.assert_array_equal(data.source.events(1)["t"], [10, 20, 300, 999])


@pytest.mark.tonic
def test_nmnist_equals_tonic(tmp_path):
    tonic = pytest.importorskip("tonic")
    path = tmp_path / "Test" / "3" / "00001.bin"
    t = np.sort(RNG.integers(0, 300_000, 200))
    events = [(*RNG.integers(0, 34, 2).tolist(), int(u), int(RNG.integers(2))) for u in t]
    write_nmnist(path, events)
    theirs = tonic.io.read_mnist_file(str(path), dtype=tonic.datasets.NMNIST.dtype)
    frames = tonic.transforms.ToFrame(sensor_size=(34, 34, 2), n_time_bins=5)(theirs)
    np.testing.assert_array_equal(load("nmnist", tmp_path, 5, split="test")[0].x, frames)


def test_ncaltech101_split_and_classes(tmp_path):
    for name, n in (("accordion", 12), ("zebra", 3)):
        for i in range(1, n + 1):
            path = tmp_path / "Caltech101" / name / f"image_{i:04}.bin"
            write_nmnist(path, [(239, 179, i, 1), (0, 0, 5000, 0)])
    train = load("ncaltech101", tmp_path, 2)
    test = load("ncaltech101", tmp_path, 2, split="test")
    assert np.bincount(train.labels).tolist() == [10, 2]
    assert np.bincount(test.labels).tolist() == [2, 1]
    assert train[0].x.shape == (2, 2, 180, 240)
    assert train[0].x[0, 1, 179, 239] == 1
    assert train.class_names == ("accordion", "zebra")
    names = {p.path for p in train.source.pieces} | {p.path for p in test.source.pieces}
    assert len(names) == 15


def test_cifar10dvs(tmp_path):
    for name in CIFAR10_CLASSES:
        for number in (0, 99, 100, 999):
            raw = [(10, 20, 0, 5), (127, 0, 1, 3), (0, 127, 1, 1005)]
            write_aedat2(tmp_path / name / f"cifar10_{name}_{number}.aedat", raw)
    train = load("cifar10dvs", tmp_path, 2)
    test = load("cifar10dvs", tmp_path, 1, split="test", bin_pixels=2)
    assert (len(train), len(test)) == (20, 20)
    assert train.class_names[train[-1].label] == "truck"
    assert (
        sorted(int(p.path.stem.split("_")[2]) for p in test.source.pieces) == [0] * 10 + [99] * 10
    )
    events = train.source.events(0)
    assert events["t"].tolist() == [3, 5, 1005]
    assert events["x"].tolist() == [127, 107, 0]
    assert events["y"].tolist() == [0, 117, 127]
    assert events["p"].tolist() == [False, True, False]
    assert train[0].x.shape == (2, 2, 128, 128)
    assert test[0].x.shape == (1, 2, 64, 64)
    (tmp_path / "dog" / "other.aedat").write_bytes(b"")
    with pytest.raises(DatasetError, match="is not named cifar10_dog_NUMBER"):
        load("cifar10dvs", tmp_path, 2)


@pytest.mark.tonic
def test_aedat2_words_equal_tonics(tmp_path):
    tonic = pytest.importorskip("tonic")
    path = tmp_path / "a.aedat"
    raw = [(*RNG.integers(0, 128, 2).tolist(), int(RNG.integers(2)), t) for t in range(50)]
    write_aedat2(path, raw)
    # tonic 1.7's read_dvs_128 fails on any file; what it is made of works
    *_, start, _ = (None, *tonic.io.read_aedat_header_from_file(str(path)))
    theirs = tonic.io.get_aer_events_from_file(str(path), 2.0, start)
    ours = read_aedat2(path)
    np.testing.assert_array_equal(ours["x"], 127 - ((theirs["address"] >> 8) & 127))
    np.testing.assert_array_equal(ours["y"], 127 - ((theirs["address"] >> 1) & 127))
    np.testing.assert_array_equal(ours["p"], (theirs["address"] & 1) == 0)
    np.testing.assert_array_equal(ours["t"], theirs["timeStamp"])


GESTURE = [
    (1, 0, [(1, 2, 1, 100, 1), (3, 4, 0, 150, 1), (9, 9, 0, 160, 0)]),
    (0, 0, [(0, 0, 0, 0, 1)]),  # a special event
    (1, 1, [(127, 127, 1, 7, 1)]),
]


def test_dvsgesture_as_published(tmp_path):
    folder = tmp_path / "DvsGesture"
    write_aedat3(folder / "user01_led.aedat", GESTURE)
    write_aedat3(folder / "user24_led.aedat", GESTURE)
    header = "class,startTime_usec,endTime_usec\n"
    (folder / "user01_led_labels.csv").write_text(header + f"1,100,150\n11,150,{(1 << 31) + 8}\n")
    (folder / "user24_led_labels.csv").write_text(header + "8,0,200\n")
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\n\n")
    (folder / "trials_to_test.txt").write_text("user24_led.aedat\n")
    train = load("dvsgesture", tmp_path, 1, window_us=1 << 32)
    assert [s.label for s in train] == [0, 10]
    assert train.source.events(0)["t"].tolist() == [100]
    assert train.source.events(1)["t"].tolist() == [150, (1 << 31) + 7]
    assert train[1].x[0, 0, 4, 3] == 1
    assert train[1].x[0, 1, 127, 127] == 1
    assert train[1].x.sum() == 2
    test = load("dvsgesture", tmp_path, 1, split="test")
    assert test.class_names[test[0].label] == "arm roll"
    for row, message in (
        ("12,0,5", "class 12"),
        ("1,9,5", "from 9 to 5"),
        ("one,0,5", "has the row"),
        ("1,0", "has the row"),
    ):
        (folder / "user24_led_labels.csv").write_text(header + row + "\n")
        with pytest.raises(DatasetError, match=message):
            load("dvsgesture", tmp_path, 1, split="test")


@pytest.mark.tonic
def test_aedat3_equals_tonic(tmp_path):
    tonic = pytest.importorskip("tonic")
    path = tmp_path / "a.aedat"
    t = np.sort(RNG.integers(0, 1000, 60))
    events = [(*RNG.integers(0, 128, 2).tolist(), int(RNG.integers(2)), int(u), 1) for u in t]
    write_aedat3(path, [(1, 0, events[:40]), (1, 0, events[40:])])
    # tonic 1.7's read_dvs_ibm fails on any file; what it is made of works
    version, start, _ = tonic.io.read_aedat_header_from_file(str(path))
    theirs = tonic.io.get_aer_events_from_file(str(path), version, start)
    ours = read_aedat3(path)
    np.testing.assert_array_equal(ours["x"], (theirs["address"] >> 17) & 0x1FFF)
    np.testing.assert_array_equal(ours["y"], (theirs["address"] >> 2) & 0x1FFF)
    np.testing.assert_array_equal(ours["p"], (theirs["address"] >> 1) & 1)
    np.testing.assert_array_equal(ours["t"], theirs["timeStamp"])


def test_dvsgesture_as_tonic_has_it(tmp_path):
    folder = tmp_path / "DVSGesture" / "ibmGestureTest" / "user24_led"
    folder.mkdir(parents=True)
    rows = np.array([[1, 2, 1, 13], [3, 4, 0, 10]])
    np.save(folder / "10.npy", rows)
    data = load("dvsgesture", tmp_path, 2, split="test")
    assert data.labels.tolist() == [10]
    assert data.source.events(0)["t"].tolist() == [10_000, 13_000]
    assert data[0].x[0, 0, 4, 3] == 1
    np.save(folder / "10.npy", rows[:, :3])
    with pytest.raises(DatasetError, match="shape"):
        load("dvsgesture", tmp_path, 2, split="test")[0]
    np.save(folder / "10.npy", np.array([{}], dtype=object))
    with pytest.raises(DatasetError, match="real numbers are needed"):
        load("dvsgesture", tmp_path, 2, split="test")[0]
    np.save(folder / "11.npy", rows)
    with pytest.raises(DatasetError, match=r"labels in \[0, 11\]"):
        load("dvsgesture", tmp_path, 2, split="test")


@pytest.mark.parametrize(
    ("reader", "good"),
    [
        (read_aedat2, lambda p: write_aedat2(p, [(1, 2, 1, 3)])),
        (read_aedat3, lambda p: write_aedat3(p, GESTURE)),
    ],
)
def test_damaged_recordings(tmp_path, reader, good):
    path = tmp_path / "a.aedat"
    with pytest.raises(DatasetError, match="cannot be read"):
        reader(path)
    good(path)
    data = path.read_bytes()
    assert len(reader(path)) >= 1
    for n in range(len(data) - 1):
        path.write_bytes(data[:n])
        # cut after a whole event or packet, the rest is a shorter recording; else an error
        try:
            assert len(reader(path)) >= 1
        except DatasetError:
            continue
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x81]) + data[at + 1 :])
        try:
            reader(path)
        except DatasetError:
            continue


def test_events_off_the_sensor(tmp_path):
    write_aedat3(tmp_path / "a.aedat", [(1, 0, [(128, 0, 0, 0, 1)])])
    with pytest.raises(DatasetError, match="x = 128, the sensor ends at 127"):
        read_aedat3(tmp_path / "a.aedat")


def test_too_short_a_recording_names_its_file(tmp_path):
    write_nmnist(tmp_path / "Test" / "1" / "00001.bin", [(0, 0, 5, 1), (0, 0, 6, 1)])
    with pytest.raises(DatasetError, match=r"00001\.bin'.*5 steps"):
        load("nmnist", tmp_path, 5, split="test")[0]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cifar10dvs", "dvsgesture", "mnist",
                                  "ncaltech101", "nmnist"])  # fmt: skip
def test_absent_files(tmp_path, name):
    steps = 2 if name not in ("cifar10", "cifar100", "mnist") else None
    with pytest.raises(DatasetError, match=r"download=True") as found:
        load(name, tmp_path, steps)
    assert str(tmp_path) in str(found.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar"}, "'cifar' is not one of cifar10, cifar100"),
        ({"name": "mnist", "split": "val"}, "split 'val'"),
        ({"name": "nmnist"}, "number of frames is needed"),
        ({"name": "nmnist", "n_steps": 0}, "n_steps 0"),
        ({"name": "nmnist", "n_steps": 1.5}, "n_steps 1.5"),
        ({"name": "mnist", "n_steps": True}, "n_steps True"),
        ({"name": "mnist", "window_us": 5}, "are for events"),
        ({"name": "mnist", "bin_pixels": 2}, "are for events"),
        ({"name": "imagenet", "image_size": -1}, "image_size -1"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        load(root=tmp_path, **arguments)


def test_bins_must_divide_the_sensor(tmp_path):
    write_nmnist(tmp_path / "Test" / "1" / "00001.bin", [(0, 0, 5, 1), (0, 0, 6, 1)])
    with pytest.raises(InputError, match="3 does not divide the sensor of 34x34"):
        load("nmnist", tmp_path, 1, split="test", bin_pixels=3)


def test_transforms():
    x = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4) + 1
    rng = np.random.default_rng(0)
    shifted = [Shift(1)(x, rng) for _ in range(50)]
    assert {s.shape for s in shifted} == {x.shape}
    assert len({s.tobytes() for s in shifted}) == 9
    down = next(s for s in shifted if (s[:, 0] == 0).all() and (s[:, 1:] == x[:, :-1]).all())
    assert down.max() == x[:, :-1].max()
    mirrored = {Mirror()(x, rng).tobytes() for _ in range(20)}
    assert mirrored == {x.tobytes(), x[..., ::-1].tobytes()}
    both = Compose((Normalize((1.0, 2.0), (0.5, 4.0)), Mirror()))(x, rng)
    assert sorted(both[0].ravel()) == sorted((x[0].ravel() - 1) / 0.5)
    with pytest.raises(InputError, match="std > 0"):
        Normalize((0.0,), (0.0,))


def test_augmentation_depends_on_seed_epoch_and_index_only(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", RNG.integers(0, 256, (8, 28, 28)))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(8))
    data = load("mnist", tmp_path, augment=True, seed=5)
    forwards = [data[i].x for i in range(8)]
    backwards = [data[i].x for i in reversed(range(8))][::-1]
    assert all((a == b).all() for a, b in zip(forwards, backwards, strict=True))
    data.set_epoch(1)
    assert any((data[i].x != forwards[i]).any() for i in range(8))
    plain = load("mnist", tmp_path)
    assert any((plain[i].x != forwards[i]).any() for i in range(8))
    images, labels = plain.arrays(limit=3)
    assert images.shape == (3, 1, 28, 28)
    assert labels.tolist() == [0, 1, 2]
    doubled = load("mnist", tmp_path, transform=[lambda x, rng: x * 2])
    np.testing.assert_array_equal(doubled[1].x, plain[1].x * 2)


@pytest.mark.torch
@pytest.mark.parametrize("workers", [0, 2])
def test_torch_dataloader(tmp_path, workers):
    torch = pytest.importorskip("torch", reason="DataLoader is torch's")
    for i in range(5):
        write_nmnist(tmp_path / "Test" / str(i) / "00001.bin", [(0, i, 5, 1), (0, 0, 600, 1)])
    data = load("nmnist", tmp_path, 3, split="test", augment=True)
    loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=workers)
    batches = list(loader)
    assert [tuple(x.shape) for x, _ in batches] == [(2, 3, 2, 34, 34)] * 2 + [(1, 3, 2, 34, 34)]
    assert torch.cat([y for _, y in batches]).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(batches[0][0][1].numpy(), data[1].x)


def archive_of(path, members):
    """A .zip or .tar.gz with the given (name, bytes) members."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, content in members:
                file.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as file:
            for name, content in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                file.addfile(entry, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_download_checks_and_unpacks(tmp_path, suffix):
    served = tmp_path / f"served{suffix}"
    md5 = archive_of(served, [("a/b.bin", b"content"), ("c.txt", b"")])
    archive = Archive(url=served.as_uri(), file_name=f"local{suffix}", md5=md5)
    folder = tmp_path / "root"
    path = fetch(archive, folder)
    unpack(path, folder)
    assert (folder / "a" / "b.bin").read_bytes() == b"content"
    served.unlink()
    assert fetch(archive, folder) == path  # there already
    path.write_bytes(b"damaged")
    with pytest.raises(DatasetError, match="cannot be reached"):
        fetch(archive, folder)
    served.write_bytes(b"another file")
    with pytest.raises(DatasetError, match="is published"):
        fetch(archive, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(DatasetError, match="not an https address"):
        fetch(Archive(url="http://x/y", file_name="y", md5=""), tmp_path)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:\\evil", "..\\evil"])
def test_archives_cannot_write_elsewhere(tmp_path, suffix, name):
    path = tmp_path / f"x{suffix}"
    archive_of(path, [(name, b"evil")])
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(DatasetError, match="outside the folder"):
        unpack(path, tmp_path / "inside")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_links_and_damaged_archives_are_refused(tmp_path):
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(entry)
    with pytest.raises(DatasetError, match="neither a plain file nor a folder"):
        unpack(path, tmp_path / "inside")
    for content in (b"", b"no archive", path.read_bytes()[:30]):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="cannot be unpacked"):
            unpack(path, tmp_path / "inside")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_half_an_archive_is_not_taken_for_a_data_set(tmp_path, suffix):
    """Where the disk fills up, or the archive ends early, nothing of it appears."""
    members = [(f"Test/{i}.bin", bytes([i]) * 3000) for i in range(3)]
    members.append(("Test/large.bin", np.random.default_rng(0).bytes(20_000)))
    path = tmp_path / f"x{suffix}"
    md5 = archive_of(path, members)
    folder = tmp_path / "root"
    archive = Archive(url=path.as_uri(), file_name="copy", md5=md5)
    with no_file_above(10_000):
        with pytest.raises(FormatError, match=r"does not take what is unpacked \(File too large"):
            unpack(path, folder)
        with pytest.raises(FormatError, match=r"download .*cannot be written \(File too large"):
            fetch(archive, folder)
    assert not folder.exists()
    folder.mkdir()
    (folder / "Test").mkdir()
    (folder / "Test" / "mine.txt").touch()
    with no_file_above(10_000), pytest.raises(FormatError):
        unpack(path, folder)
    half = tmp_path / f"half{suffix}"
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        unpack(half, folder)
    assert [p.name for p in folder.rglob("*")] == ["Test", "mine.txt"]
    unpack(path, folder)
    assert len(list((folder / "Test").iterdir())) == 5


def test_classes_that_are_missing_are_downloaded(tmp_path, monkeypatch):
    """As after a download of several archives that was interrupted."""
    served = {}
    for name in ("airplane", "bird"):
        path = tmp_path / f"{name}.zip"
        served[name] = (path.name, archive_of(path, [(f"{name}/x", b"")]))
    monkeypatch.setattr(event_sets, "_CIFAR10DVS", served)
    monkeypatch.setattr(
        event_sets, "Archive", lambda url, file_name, md5: Archive(
            url=(tmp_path / file_name).as_uri(), file_name=file_name, md5=md5
        ),
    )  # fmt: skip
    root = tmp_path / "root"
    (root / "airplane").mkdir(parents=True)
    with pytest.raises(DatasetError, match="0 recordings"):
        load("cifar10dvs", root, 3, split="test", download=True)
    assert (root / "bird" / "x").is_file()


def test_load_downloads_where_asked(tmp_path, monkeypatch):
    bin_file = tmp_path / "1.bin"
    write_nmnist(bin_file, [(0, 0, 5, 1), (0, 0, 600, 1)])
    served = tmp_path / "served.zip"
    md5 = archive_of(served, [("Test/4/00001.bin", bin_file.read_bytes())])
    archive = Archive(url=served.as_uri(), file_name="test.zip", md5=md5)
    monkeypatch.setitem(event_sets._NMNIST, "test", archive)
    data = load("nmnist", tmp_path / "data", 1, split="test", download=True)
    assert data.labels.tolist() == [4]
    served.unlink()
    again = load("nmnist", tmp_path / "data", 1, split="test", download=True)
    assert len(again) == 1


def test_published_checksums_are_well_formed():
    archives = [
        *event_sets._NMNIST.values(),
        *event_sets._GESTURE.values(),
        event_sets._NCALTECH101,
    ]
    for archive in archives:
        assert archive.url.startswith("https://")
        assert len(bytes.fromhex(archive.md5)) == 16
    assert set(event_sets._CIFAR10DVS) == set(CIFAR10_CLASSES)
    assert len({md5 for _, md5 in event_sets._CIFAR10DVS.values()}) == 10
    assert issubclass(DatasetError, PmsmHwError)
    assert download.Archive is Archive
