"""Recordings: what the format means, or one `DatasetError`; frames are real values."""

from __future__ import annotations

import gzip
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmsm_hw import reference
from pmsm_hw.datasets import (
    EVENT_DTYPE,
    LabelledSet,
    Normalize,
    Shift,
    events_from_images,
    load,
    load_digits,
    load_samples,
    read_nmnist,
    to_frames,
)
from pmsm_hw.datasets.aedat import read_aedat2, read_aedat3
from pmsm_hw.datasets.cifar import read_cifar
from pmsm_hw.datasets.mnist import read_idx
from pmsm_hw.errors import DatasetError, InputError
from pmsm_hw.network import Dense, Input, Network, PolarityMultiSpike, Readout

HEADER2 = b"#!AER-DAT2.0\r\n# a recording\r\n"
HEADER3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"


def aedat2(path, words):
    path.write_bytes(HEADER2 + np.array(words, ">u4").tobytes())
    return path


def aedat3(path, words, kind=1, size=8, overflow=0):
    """Words: (address word, time)."""
    n = len(words)
    packet = struct.pack("<hhiiiiii", kind, 0, size, 4, overflow, n, n, n)
    path.write_bytes(HEADER3 + packet + np.array(words, "<u4").tobytes())
    return path


# -- AEDAT 2.0 -----------------------------------------------------------------------------------


def test_events_of_other_cameras_are_no_pixels(tmp_path):
    # an event of a DAVIS346: y in bits 22..30, x in bits 12..21, polarity in bit 11
    davis = (130 << 22) | (200 << 12) | (1 << 11)
    aps = (1 << 31) | davis  # and a sample of its image sensor
    for foreign in (davis, aps, 1 << 16):
        path = aedat2(tmp_path / "a.aedat", [(0, 5), (foreign, 6), (foreign, 7)])
        with pytest.raises(DatasetError, match=rf"2 of 3 events .*0x{foreign:08x}.*DVS128"):
            read_aedat2(path)


def test_marks_from_outside_the_camera_are_passed_over(tmp_path):
    path = aedat2(tmp_path / "a.aedat", [(0x8000, 1), (0x0102, 2), (0x8102, 3), (0x0103, 4)])
    events = read_aedat2(path)
    assert events[["x", "y", "t", "p"]].tolist() == [(126, 126, 2, True), (126, 126, 4, False)]
    with pytest.raises(DatasetError, match="0 events of pixels"):
        read_aedat2(aedat2(tmp_path / "b.aedat", [(0x8000, 1)]))


@given(
    start=st.integers(0, 2**32 - 1),
    gaps=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9),
)
def test_time_goes_on_where_the_clock_wraps(start, gaps, tmp_path_factory):
    t = start + np.concatenate([[0], np.cumsum(np.array(gaps, np.int64))])
    path = aedat2(tmp_path_factory.mktemp("wrap") / "a.aedat", [(0, v % 2**32) for v in t.tolist()])
    assert read_aedat2(path)["t"].tolist() == t.tolist()


@pytest.mark.parametrize(("write", "read"), [(aedat2, read_aedat2), (aedat3, read_aedat3)])
def test_a_clock_that_was_set_back_is_refused(write, read, tmp_path):
    path = write(tmp_path / "a.aedat", [(1, 100_000), (1, 95_000), (1, 120_000)])
    assert read(path)["t"].tolist() == [95_000, 100_000, 120_000]
    path = write(tmp_path / "a.aedat", [(1, 100_000), (1, 120_000), (1, 109_999)])
    with pytest.raises(DatasetError, match="goes back in time by 10,001 us at event 2"):
        read(path)


# -- AEDAT 3.1 -----------------------------------------------------------------------------------


def test_packets_that_are_not_what_they_should_be(tmp_path):
    path = aedat3(tmp_path / "a.aedat", [(1, 1), (1, 2)], size=4)
    with pytest.raises(DatasetError, match="polarity events of 4 bytes, 8 are expected"):
        read_aedat3(path)
    path = aedat3(tmp_path / "a.aedat", [(1, 2**32 - 5)])
    with pytest.raises(DatasetError, match="an event at -5 us"):
        read_aedat3(path)


# -- other recordings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ((128, 0, 1, 5), "x = 128"),
        ((65_541, 0, 1, 5), "x = 65541"),
        ((0, -1, 1, 5), "y = -1"),
        ((0.5, 0, 1, 5), r"x = 0\.5"),
        ((0, 0, 2, 5), "p = 2"),
        ((0, 0, 1, -1), "t = -1"),
        ((0, 0, 1, 2.0**60), r"t = 1\.15"),
        ((0, 0, 1, np.nan), "t = nan"),
        ((np.inf, 0, 1, 5), "x = inf"),
    ],
)
def test_arrays_of_gestures_are_checked(row, problem, tmp_path):
    folder = tmp_path / "ibmGestureTest" / "user24_led"
    folder.mkdir(parents=True)
    np.save(folder / "3.npy", np.array([(1, 2, 0, 0.25), (1, 2, 0, 2)]))
    data = load("dvsgesture", tmp_path, 1, split="test", window_us=10_000)
    assert data.source.events(0)["t"].tolist() == [250, 2000]  # fractions of a millisecond count
    np.save(folder / "3.npy", np.array([(1, 2, 0, 0), row]))
    with pytest.raises(DatasetError, match=problem):
        data[0], load("dvsgesture", tmp_path, 1, split="test")[0]


def test_a_trial_without_events_is_refused(tmp_path):
    words = [(1, 100), (1, 200)]
    aedat3(tmp_path / "user01_led.aedat", words)
    table = tmp_path / "user01_led_labels.csv"
    (tmp_path / "trials_to_train.txt").write_text("user01_led.aedat\n")
    header = "class,startTime_usec,endTime_usec\n"
    table.write_text(f"{header}1,300,400\n")
    with pytest.raises(DatasetError, match="0 events from 300 to 400 us"):
        load("dvsgesture", tmp_path, 1, window_us=10)[0]
    for text in (f"{header}1,5,{10**40}\n", header + "x" * 200_000 + ",1,1\n"):
        table.write_text(text)
        with pytest.raises(DatasetError):
            load("dvsgesture", tmp_path, 1, window_us=10)


def test_a_recording_of_marks_alone_is_refused(tmp_path):
    (tmp_path / "r.bin").write_bytes(bytes([0, 240, 0, 0, 0]) * 3)
    with pytest.raises(DatasetError, match="0 events"):
        load_samples(str(tmp_path / "r.bin"), n_steps=2)


def test_a_short_recording_names_its_file(tmp_path):
    (tmp_path / "r.bin").write_bytes(bytes([0, 0, 0, 0, 1]))
    with pytest.raises(DatasetError, match=r"r\.bin.*use fewer steps"):
        load_samples(str(tmp_path / "r.bin"), n_steps=2)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for read in (read_aedat2, read_aedat3, read_idx, lambda path: read_cifar(path, 1, 10)):
        with pytest.raises(DatasetError, match="a FIFO, not a regular file"):
            read(tmp_path / "fifo")


def test_no_more_is_unpacked_than_the_header_says(tmp_path):
    bomb = gzip.compress(b"\0\0\x08\x01\0\0\0\x05" + bytes(300 << 20), 1)
    (tmp_path / "a.gz").write_bytes(bomb)
    with pytest.raises(DatasetError, match="more bytes of values"):
        read_idx(tmp_path / "a.gz")
    huge = b"\0\0\x08\x03" + b"\xff" * 12
    for name, data in (("b.gz", gzip.compress(huge)), ("c", huge)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DatasetError, match="at most 1,073,741,824 are read"):
            read_idx(tmp_path / name)


def test_coarse_labels_are_checked(tmp_path):
    (tmp_path / "c.bin").write_bytes(bytes([20, 5]) + bytes(3072))
    with pytest.raises(DatasetError, match="coarse label 20"):
        read_cifar(tmp_path / "c.bin", 2, 100)


# -- images --------------------------------------------------------------------------------------


def test_images_of_16_bits_are_not_clipped_to_8(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed here")
    folder = tmp_path / "train" / "cat"
    folder.mkdir(parents=True)
    image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(folder / "a.png")
    with pytest.raises(DatasetError, match="8 bits a channel"):
        load("imagenet", tmp_path, image_size=4)[0]
    image.fromarray(np.full((8, 8), 51, np.uint8)).save(folder / "a.png")
    np.testing.assert_array_equal(load("imagenet", tmp_path, image_size=4)[0].x, np.float32(0.2))


def test_an_image_that_claims_much_is_refused(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed here")
    folder = tmp_path / "train" / "cat"
    folder.mkdir(parents=True)
    path = folder / "a.bmp"
    image.new("RGB", (4, 4)).save(path)
    data = bytearray(path.read_bytes())
    for width in (12_000, 60_000):  # Pillow would warn of the first, and refuses the second
        data[18:26] = struct.pack("<ii", width, 10_000)
        path.write_bytes(bytes(data))
        with pytest.raises(DatasetError, match="cannot be decoded"):
            load("imagenet", tmp_path, image_size=4)[0]


# -- frames --------------------------------------------------------------------------------------


def frames(n, n_steps):
    events = events_from_images(load_digits("test").images[:n])
    return np.stack([to_frames(e, n_steps, (8, 8, 2)) for e in events])


def test_frames_are_real_values():
    x = frames(20, 3)
    assert x.dtype == np.float32
    network = Network(
        populations=(
            Input(name="input", shape=(2, 8, 8), levels=(0, 8), scale=0.5),
            PolarityMultiSpike(name="hidden", shape=(9,), theta=40, levels=(2, 4)),
            Readout(name="output", shape=(4,)),
        ),
        projections=(
            Dense(
                source="input", target="hidden",
                weight=np.random.default_rng(0).integers(-30, 40, (9, 128)).astype(np.int8),
            ),
            Dense(source="hidden", target="output", weight=np.ones((4, 9), np.int8)),
        ),
        max_steps=3,
    )  # fmt: skip
    # two units for each event: counts are no units
    units = np.clip(2 * x, 0, 8).astype(np.int32)
    expected = reference.run(network, units, 3)
    np.testing.assert_array_equal(reference.run(network, x, 3).spikes["hidden"],
                                  expected.spikes["hidden"])  # fmt: skip
    assert np.abs(expected.spikes["hidden"]).sum() > 0


@pytest.mark.torch
def test_one_meaning_from_calibration_to_run():
    torch = pytest.importorskip("torch", reason="torch is not installed here")
    from pmsm_hw import nn
    from pmsm_hw.convert import convert

    x = frames(150, 1)[:, 0]
    labels = load_digits("test").labels[:150]
    model = nn.models.build("mlp", seed=0, sizes=(128, 32, 10))
    nn.train(model, nn.loader(x, labels, seed=0), epochs=6, seed=0, progress=False)
    quantized = nn.quantize(model, levels=(0, 15), calibration=x)
    network, _ = convert(quantized, x, name="events")
    with torch.no_grad():
        expected = quantized(torch.from_numpy(x)).argmax(1).numpy()
    # the frames as they are, to the network as to the model
    assert (reference.run(network, x).predictions() == expected).mean() > 0.9
    assert (expected == labels).mean() > 0.3
    with pytest.raises(InputError, match="levels"):
        reference.run(network, np.full((1, 2, 8, 8), 300))  # integers would be units


def test_a_recording_may_start_at_any_time():
    events = np.array([(0, 0, 10**6 + t, 1) for t in (0, 9, 10, 25)], EVENT_DTYPE)
    assert to_frames(events, 3, (1, 1, 2), window_us=10)[:, 1, 0, 0].tolist() == [2, 1, 1]
    late = to_frames(events, 3, (1, 1, 2), window_us=10, start_us=10**6 + 10)
    assert late[:, 1, 0, 0].tolist() == [1, 1, 0]


def test_windows_start_at_the_first_event_as_tonics(tmp_path):
    transforms = pytest.importorskip("tonic.transforms", reason="tonic is not installed here")
    events = np.array([(0, 0, 777 + t, t % 2) for t in range(0, 100, 3)], EVENT_DTYPE)
    expected = transforms.ToFrame(sensor_size=(1, 1, 2), time_window=20)(events.copy())
    found = to_frames(events, len(expected), (1, 1, 2), window_us=20)
    np.testing.assert_array_equal(found, expected)


GOOD = {"events": np.array([(0, 0, 5, 1), (1, 1, 9, 0)], EVENT_DTYPE), "n_steps": 2,
        "sensor_size": (4, 4, 2)}  # fmt: skip


def floats(name):
    events = np.zeros(2, [(n, "f8" if n == name else "i8") for n in "xytp"])
    events[name] = -0.5
    return events


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"events": {"x": [0], "y": [0], "t": [0], "p": [0]}}, "are a dict"),
        ({"events": None}, "are a NoneType"),
        ({"events": [(0, 0, 5, 1)]}, "are a list"),
        ({"events": np.zeros((2, 2), EVENT_DTYPE)}, r"shape \(2, 2\)"),
        ({"events": np.zeros(2, [("x", "i2", 2), *((n, "i8") for n in "ytp")])}, "field x"),
        *(({"events": floats(name)}, f"field {name} has dtype float64") for name in "xytp"),
        ({"events": np.array([(0, 0, 5, 2)], [(n, "i8") for n in "xytp"])}, r"p lies in \[2, 2\]"),
        ({"events": np.array([(0, 0, 5, -1)], [(n, "i8") for n in "xytp"])}, r"p lies in \[-1, -1"),
        ({"events": np.array([(0, 0, 2**63, 1)], [(n, "u8") for n in "xytp"])}, "t lies in"),
        ({"window_us": 1e1}, r"window_us 10\.0 is not an integer"),
        ({"window_us": 2**70}, "window_us"),
        ({"window_us": 5, "start_us": 0.0}, r"start_us 0\.0"),
        ({"start_us": 0}, "without window_us"),
        ({"n_steps": 2.0}, r"n_steps 2\.0"),
        ({"n_steps": 2**31}, "takes 549,755,813,888 bytes"),
        ({"n_steps": True}, "n_steps True"),
        ({"n_steps": None}, "n_steps None"),
        ({"sensor_size": (4, 4)}, r"is not \(width, height, 2\)"),
        ({"sensor_size": 4}, r"is not \(width, height, 2\)"),
        ({"sensor_size": (4.0, 4, 2)}, r"width 4\.0"),
        ({"sensor_size": (10**6, 4, 2)}, "width 1000000"),
    ],
)  # fmt: skip
def test_wrong_arguments_of_to_frames(change, message):
    to_frames(**GOOD)
    with pytest.raises(InputError, match=message):
        to_frames(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {"a": 1}}, "dtype object"),
        ({"images": [[1.0], [1.0, 2.0]]}, "dtype object"),
        ({"images": "abc"}, "dtype <U3"),
        ({"images": np.zeros((1, 4, 4), complex)}, "dtype complex128"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 1.5}, "seed 1.5"),
        ({"threshold": "x"}, "threshold 'x'"),
        ({"n_samples_per_saccade": 2.5}, "n_samples_per_saccade 2.5"),
        ({"mismatch": None}, "mismatch None"),
    ],
)
def test_wrong_arguments_of_the_encoder(change, message):
    with pytest.raises(InputError, match=message):
        events_from_images(**{"images": np.zeros((1, 4, 4)), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": 5}, "is not the name of a folder"),
        ({"root": "a\0b"}, "is not the name of a folder"),
        ({"transform": 5}, "5 cannot be called"),
        ({"transform": [lambda x, rng: x, "y"]}, "'y' cannot be called"),
        ({"n_steps": "3"}, "n_steps '3'"),
        ({"image_size": 2**20, "name": "imagenet"}, "takes 13,194,139,533,312 bytes"),
        ({"name": ["mnist"]}, r"name \['mnist'\] is not one of cifar10"),
    ],
)
def test_wrong_arguments_of_load(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load(**{"name": "mnist", "root": tmp_path, **change})
    with pytest.raises(InputError, match="pixels -1"):
        Shift(-1)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (1.0, 1.0, "std > 0"),
        ((np.nan,), (1.0,), "std > 0"),
        (("a",), ("b",), "std > 0"),
        ((0.5,), (0.5,), "1 means, the sample of shape .* has 3 channels"),
    ],
)
def test_normalize_has_one_value_per_channel(mean, std, message):
    with pytest.raises(InputError, match=message):
        Normalize(mean, std)(np.zeros((3, 4, 4), np.float32), np.random.default_rng(0))


@pytest.mark.parametrize("labels", [[0.0, 1.5], [[0], [1]], ["a", "b"]])
def test_labels_are_integers(labels):
    with pytest.raises(DatasetError, match="one integer for each sample"):
        LabelledSet(name="mine", split="test", class_names=("a", "b"), labels=labels,
                    source=lambda i, rng: np.zeros((1, 2, 2), np.float32))  # fmt: skip


@pytest.mark.parametrize(
    ("path", "size"), [(5, (34, 34, 2)), (None, (34, 34, 2)), ("a.bin", 34), ("a.bin", (34, 34, 1))]
)
def test_wrong_arguments_of_read_nmnist(path, size):
    with pytest.raises(InputError):
        read_nmnist(path, sensor_size=size)


def test_a_folder_that_cannot_be_listed(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "cat").mkdir()
    (tmp_path / "train" / ("x" * 200)).mkdir()
    with pytest.raises(DatasetError):
        load("imagenet", tmp_path)
    with pytest.raises(DatasetError):
        load("mnist", tmp_path / ("x" * 300))
