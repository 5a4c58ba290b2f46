"""Events from images, frames from events, recordings from files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pmsm_hw.datasets import (
    EVENT_DTYPE,
    NMNIST_SIZE,
    events_from_images,
    load_digits,
    read_nmnist,
    to_frames,
)
from pmsm_hw.errors import DatasetError, InputError

SACCADE_US = 100_000


def make_events(rows):
    """Rows of (x, y, t, p)."""
    return np.array([tuple(row) for row in rows], EVENT_DTYPE)


def signed_sum(events, height, width):
    total = np.zeros((height, width), int)
    np.add.at(total, (events["y"], events["x"]), np.where(events["p"], 1, -1))
    return total


# -- encoder ----------------------------------------------------------------------------------


@pytest.mark.tonic
def test_event_type_is_tonics():
    tonic_io = pytest.importorskip("tonic.io", reason="tonic is not installed here")
    assert tonic_io.events_struct == EVENT_DTYPE


def test_events_add_up_to_the_moved_image():
    images = np.random.default_rng(0).random((3, 9, 11))
    threshold, side = 0.1, 2.6
    for image, events in zip(
        images,
        events_from_images(images, threshold=threshold, amplitude_pixels=side, mismatch=0.0),
        strict=True,
    ):
        corners = [(side * np.sqrt(3) / 2, side / 2), (0, side), (0, 0)]
        for i, corner in enumerate(corners):
            moved = ndimage.shift(image, corner, order=1, mode="grid-constant")
            seen = signed_sum(events[events["t"] < (i + 1) * SACCADE_US], 9, 11)
            # each pixel's memory is less than one threshold away from what it sees
            assert np.abs(seen * threshold - (moved - image)).max() < threshold + 1e-9
        assert not signed_sum(events, 9, 11).any()  # back where it began


def test_one_pixel_moving_half_a_pixel():
    # corners: sqrt(3)/2 down and 1/2 right; 1 right; back
    image = np.zeros((1, 1, 3))
    image[0, 0, 0] = 1.0
    (events,) = events_from_images(
        image, threshold=0.25, amplitude_pixels=1.0, mismatch=0.0, n_samples_per_saccade=1
    )
    first = events[events["t"] < SACCADE_US]
    # brightness after the first: (1 - 0.866) * (0.5, 0.5, 0) = (0.067, 0.067, 0): -3 events at x=0
    assert [tuple(e) for e in first[["x", "y", "p"]]] == [(0, 0, False)] * 3
    second = events[(events["t"] >= SACCADE_US) & (events["t"] < 2 * SACCADE_US)]
    # (0, 1, 0) from memories (0.25, 0, 0): one more down at x=0, four up at x=1
    assert sorted(tuple(map(int, e)) for e in second[["x", "p"]]) == [(0, 0)] + [(1, 1)] * 4


def test_events_of_an_image_depend_on_seed_and_index_only():
    images = load_digits("test").images[:4]
    four, two = events_from_images(images, seed=5), events_from_images(images[:2], seed=5)
    for a, b in zip(four[:2], two, strict=True):
        np.testing.assert_array_equal(a, b)
    other = events_from_images(images[:2], seed=6)
    assert not np.array_equal(other[0], two[0])
    np.testing.assert_array_equal(events_from_images(images[:2, 0], seed=5)[1], two[1])


def test_events_are_sorted_and_in_range():
    for events in events_from_images(load_digits("test").images[:20]):
        assert events.dtype == EVENT_DTYPE
        assert len(events) > 50
        assert (np.diff(events["t"]) >= 0).all()
        assert events["t"].min() >= 0
        assert events["t"].max() < 3 * SACCADE_US
        assert to_frames(events, 6, (8, 8, 2), window_us=50_000).sum() == len(events)


def test_a_black_image_sends_nothing():
    (events,) = events_from_images(np.zeros((1, 4, 4)))
    assert len(events) == 0
    assert not to_frames(events, 2, (4, 4, 2)).any()


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (np.zeros((4, 4)), {}, r"shape \(4, 4\)"),
        (np.zeros((0, 4, 4)), {}, r"shape \(0, 4, 4\)"),
        (np.zeros((1, 3, 4, 4)), {}, r"shape \(1, 3, 4, 4\)"),
        (np.full((1, 4, 4), 16.0), {}, r"lie in \[16.0, 16.0\], the limits are 0 and 1"),
        (np.full((1, 4, 4), np.nan), {}, r"lie in \[nan"),
        (np.zeros((1, 4, 4)), {"threshold": 0.0}, r"threshold 0.0 is outside"),
        (np.zeros((1, 4, 4)), {"mismatch": 0.5}, r"mismatch 0.5 is outside"),
        (np.zeros((1, 4, 4)), {"n_samples_per_saccade": 0}, r"n_samples_per_saccade 0"),
        (np.zeros((1, 4, 4)), {"amplitude_pixels": float("nan")}, r"amplitude_pixels nan"),
    ],
)
def test_encoder_refuses(images, arguments, message):
    with pytest.raises(InputError, match=message):
        events_from_images(images, **arguments)


# -- frames -----------------------------------------------------------------------------------


def test_frames_by_window_by_hand():
    events = make_events([(0, 0, 0, 1), (2, 1, 9, 0), (2, 1, 10, 0), (2, 1, 19, 0), (0, 0, 20, 1)])
    frames = to_frames(events, 2, (3, 2, 2), window_us=10)
    expected = np.zeros((2, 2, 2, 3), int)
    expected[0, 1, 0, 0] = 1
    expected[0, 0, 1, 2] = 1
    expected[1, 0, 1, 2] = 2
    np.testing.assert_array_equal(frames, expected)
    later = to_frames(events, 1, (3, 2, 2), window_us=10, start_us=15)
    assert later.sum() == 2


@st.composite
def recordings(draw):
    n = draw(st.integers(1, 60))
    times = np.cumsum(draw(st.lists(st.integers(0, 40), min_size=n, max_size=n)))
    rows = [
        (draw(st.integers(0, 4)), draw(st.integers(0, 6)), t, draw(st.booleans())) for t in times
    ]
    return make_events(rows)


@pytest.mark.tonic
@given(events=recordings(), n_steps=st.integers(1, 7))
def test_equal_steps_are_tonics(events, n_steps):
    transforms = pytest.importorskip("tonic.transforms", reason="tonic is not installed here")
    if (events["t"][-1] - events["t"][0]) // n_steps == 0:
        with pytest.raises(InputError, match="use fewer steps"):
            to_frames(events, n_steps, (5, 7, 2))
        return
    expected = transforms.ToFrame(sensor_size=(5, 7, 2), n_time_bins=n_steps)(events.copy())
    np.testing.assert_array_equal(to_frames(events, n_steps, (5, 7, 2)), expected)


@pytest.mark.tonic
@given(events=recordings(), window=st.integers(1, 50), start=st.integers(0, 30))
def test_windows_are_tonics(events, window, start):
    transforms = pytest.importorskip("tonic.transforms", reason="tonic is not installed here")
    n_steps = 4
    expected = transforms.ToFrame(
        sensor_size=(5, 7, 2),
        time_window=window,
        start_time=start,
        end_time=start + n_steps * window,
    )(events.copy())
    frames = to_frames(events, n_steps, (5, 7, 2), window_us=window, start_us=start)
    np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize(
    ("events", "arguments", "message"),
    [
        (make_events([(5, 0, 0, 1)]), {}, r"x lies in \[5, 5\], the limits are 0 and 4"),
        (make_events([(0, -1, 0, 1)]), {}, r"y lies in \[-1, -1\]"),
        (make_events([(0, 0, 5, 1), (0, 0, 4, 1)]), {}, r"go back in time 1 times"),
        (np.zeros(3), {}, r"fields none"),
        (make_events([(0, 0, 0, 1)]), {"window_us": 0}, r"window_us 0"),
        (make_events([(0, 0, 0, 1)]), {"n_steps": 0}, r"n_steps 0"),
        (make_events([(0, 0, 0, 1)]), {"sensor_size": (5, 7, 1)}, r"2 polarities"),
    ],
)
def test_frames_refuse(events, arguments, message):
    given_ = {"n_steps": 2, "sensor_size": (5, 7, 2), "window_us": 10, **arguments}
    with pytest.raises(InputError, match=message):
        to_frames(events, **given_)


# -- recordings -------------------------------------------------------------------------------


def raw(x, y, t, p=0):
    return bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255])


def test_recording_by_hand(tmp_path):
    path = tmp_path / "r.bin"
    path.write_bytes(
        raw(1, 2, 0x012345, 1) + raw(0, 240, 0) + raw(33, 33, 0x012345) + raw(9, 240, 0) * 2
        + raw(0, 0, 0x7FFFFF, 1)
    )  # fmt: skip
    t = 0x012345
    expected = make_events([(1, 2, t, 1), (33, 33, t + 8192, 0), (0, 0, 0x7FFFFF + 3 * 8192, 1)])
    np.testing.assert_array_equal(read_nmnist(path), expected)


def test_real_recording(shared_data):
    events = read_nmnist(shared_data / "sample_nmnist.bin")
    assert len(events) == 4325
    assert tuple(events[0]) == (7, 15, 654, True)
    assert int(events["t"][-1]) == 311175
    frames = to_frames(events, 5, NMNIST_SIZE)
    assert frames.shape == (5, 2, 34, 34)
    assert frames.sum(axis=(1, 2, 3)).tolist() == [987, 564, 1041, 627, 1105]


@pytest.mark.tonic
def test_real_recording_is_tonics(shared_data):
    tonic_io = pytest.importorskip("tonic.io", reason="tonic is not installed here")
    path = shared_data / "sample_nmnist.bin"
    expected = tonic_io.read_mnist_file(str(path), dtype=tonic_io.events_struct)
    np.testing.assert_array_equal(read_nmnist(path), expected)


@pytest.mark.tonic
@given(
    events=st.lists(
        st.tuples(
            st.integers(0, 33),
            st.one_of(st.integers(0, 33), st.just(240)),
            st.integers(0, 50),
            st.integers(0, 1),
        ),
        min_size=1,
    )
)
def test_any_recording_is_tonics(events, tmp_path_factory):
    tonic_io = pytest.importorskip("tonic.io", reason="tonic is not installed here")
    t, data = 0, b""
    for x, y, dt, p in events:
        t += dt
        data += raw(x, y, t, p)
    path = tmp_path_factory.mktemp("recording") / "r.bin"
    path.write_bytes(data)
    expected = tonic_io.read_mnist_file(str(path), dtype=tonic_io.events_struct)
    np.testing.assert_array_equal(read_nmnist(path), expected)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"has 0 bytes, a positive multiple of 5"),
        (raw(1, 1, 5)[:-1], r"has 4 bytes"),
        (raw(34, 1, 5), r"event at x = 34, the sensor ends at 33"),
        (raw(1, 239, 5), r"event at y = 239"),
        (raw(1, 1, 5) + raw(1, 1, 4), r"goes back in time 1 times, first after event 0"),
    ],
)
def test_damaged_recordings_are_refused(tmp_path, data, message):
    path = tmp_path / "r.bin"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=message) as caught:
        read_nmnist(path)
    assert "\n" not in str(caught.value)


def test_absent_recordings_are_refused(tmp_path):
    for path in (tmp_path / "no.bin", tmp_path):
        with pytest.raises(DatasetError, match="cannot be read"):
            read_nmnist(path)


def test_front_door_is_light():
    import subprocess
    import sys

    code = (
        "import sys, pmsm_hw.datasets; "
        "print([m for m in ('sklearn', 'tonic', 'torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
