"""Event data: an encoder that makes events from images, and binning of events into steps.

Events are structured arrays of tonic's type, `EVENT_DTYPE`: ``x``, ``y`` (pixels), ``t``
(microseconds, ascending) and ``p`` (True: brighter, False: darker). They can be given to tonic's
transforms, and the events of tonic's data sets can be given to `to_frames`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.datasets.arguments import fits, whole
from pmsm_hw.errors import InputError

__all__ = ["EVENT_DTYPE", "events_from_images", "to_frames"]

EVENT_DTYPE = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
"""tonic's event type (``tonic.io.events_struct``)."""

SACCADE_US = 100_000
"""Duration of one saccade, as in N-MNIST."""

N_SACCADES = 3

_MAX_PIXELS = 1 << 15  # coordinates are int16

_LATEST = 1 << 62
"""Times beyond it, in either direction, are refused: differences of others fit in 64 bits."""

_MOST_EVENTS = 1 << 24
"""Of a pixel, polarity and step: float32 holds every whole number up to it."""


def events_from_images(
    images: ArrayLike,
    *,
    seed: int = 0,
    threshold: float = 0.15,
    amplitude_pixels: float = 1.5,
    n_samples_per_saccade: int = 20,
    mismatch: float = 0.03,
) -> list[NDArray[np.void]]:
    """Turn still images into events, as an event camera that makes three saccades would see them.

    The image moves along the sides of a triangle, in three saccades of 100 ms, as the camera did
    when N-MNIST was recorded (Orchard et al. 2015, doi:10.3389/fnins.2015.00437). The motion is
    sampled ``n_samples_per_saccade`` times a saccade; between pixels the brightness is bilinear,
    outside the image it is 0. Each pixel remembers a brightness, at first the one it starts with;
    whenever the brightness is ``threshold`` or more away from it, the pixel sends one event for
    each whole threshold and moves its memory by as much. This is a model, not a recording: no noise
    events, no refractory time, linear instead of logarithmic brightness.

    Parameters
    ----------
    images
        ``(n, height, width)`` or ``(n, 1, height, width)``, real numbers in [0, 1].
    seed
        Of the threshold mismatch and of event times. The events of image i depend on the seed, i
        and that image only.
    threshold
        Change of brightness that makes an event, > 0.
    amplitude_pixels
        Length of a side of the triangle, in pixels, >= 0.
    n_samples_per_saccade
        Samples of the motion in a saccade, >= 1.
    mismatch
        Standard deviation of the pixels' thresholds, relative, in [0, 0.2].

    Returns
    -------
    list of ndarray
        Per image ``(n_events,)`` `EVENT_DTYPE`, sorted by time; times in [0, 300,000) us;
        sensor size ``(width, height, 2)``.

    Raises
    ------
    InputError
        If a shape, value or parameter is out of range.
    """
    stack = _images(images)
    seed = whole("events_from_images", "seed", seed, 0)
    n_samples_per_saccade = whole(
        "events_from_images", "n_samples_per_saccade", n_samples_per_saccade, 1, 10_000
    )
    for what, value, low, high in (
        ("threshold", threshold, 1e-6, np.inf),
        ("amplitude_pixels", amplitude_pixels, 0, _MAX_PIXELS),
        ("mismatch", mismatch, 0, 0.2),
    ):
        if not (isinstance(value, int | float | np.number) and low <= value <= high):
            raise InputError(
                "events_from_images",
                f"{what} {value!r} is outside [{low:g}, {high:g}]",
                remedy="choose a value in that range",
                actual=value,
                limit=(low, high),
            )
    n, height, width = stack.shape
    rngs = [np.random.default_rng([seed, i]) for i in range(n)]
    limits = np.empty_like(stack)
    for i, rng in enumerate(rngs):
        limits[i] = threshold * np.clip(
            1 + mismatch * rng.standard_normal((height, width)), 0.5, 1.5
        )
    offsets = _path(amplitude_pixels, n_samples_per_saccade)
    memory = _shifted(stack, *offsets[0])
    found: list[NDArray[np.int64]] = []  # rows: image, y, x, sample, polarity
    for sample, offset in enumerate(offsets[1:]):
        change = (_shifted(stack, *offset) - memory) / limits
        # a pixel that comes back to where it began is a whole number of thresholds away: a tie
        count = np.trunc(change + np.copysign(1e-9, change)).astype(np.int64)
        memory += count * limits
        where = np.stack(np.nonzero(count))
        value = count[tuple(where)]
        row = np.concatenate((where, np.full((1, len(value)), sample), [value > 0]))
        found.append(np.repeat(row, np.abs(value), axis=1))
    image, y, x, sample_of, polarity = np.concatenate(found, axis=1)
    order = np.argsort(image, kind="stable")
    ends = np.cumsum(np.bincount(image, minlength=n))
    result = []
    for i, rng in enumerate(rngs):
        mine = order[ends[i - 1] if i else 0 : ends[i]]
        span = SACCADE_US / n_samples_per_saccade
        times = (sample_of[mine] + rng.random(len(mine))) * span
        events = np.empty(len(mine), EVENT_DTYPE)
        events["x"], events["y"], events["p"] = x[mine], y[mine], polarity[mine]
        events["t"] = np.minimum(times, N_SACCADES * SACCADE_US - 1)
        result.append(events[np.argsort(events["t"], kind="stable")])
    return result


def _images(images: ArrayLike) -> NDArray[np.float64]:
    try:
        given = np.asarray(images)
    except ValueError:  # ragged
        given = np.asarray(images, object)
    if given.dtype.kind not in "biuf":
        raise InputError(
            "images",
            f"have dtype {given.dtype}, real numbers are expected",
            remedy="give one array of grey images",
            actual=str(given.dtype),
            limit="real numbers",
        )
    stack = given.astype(np.float64)
    if stack.ndim == 4 and stack.shape[1] == 1:
        stack = stack[:, 0]
    if stack.ndim != 3 or stack.size == 0 or max(stack.shape[1:]) > _MAX_PIXELS:
        raise InputError(
            "images",
            f"have shape {stack.shape}, (n, height, width) or (n, 1, height, width) is expected",
            remedy="give grey images, at least one",
            actual=stack.shape,
            limit="(n, height, width)",
        )
    if not (np.isfinite(stack).all() and stack.min() >= 0 and stack.max() <= 1):
        raise InputError(
            "images",
            f"lie in [{stack.min()}, {stack.max()}], the limits are 0 and 1",
            remedy="divide by the largest possible value",
            actual=(float(stack.min()), float(stack.max())),
            limit=(0, 1),
        )
    return stack


def _path(side: float, n_samples: int) -> NDArray[np.float64]:
    """Offsets ``(3 * n_samples + 1, 2)`` (down, right) along a triangle, pixels."""
    half, height = side / 2, side * np.sqrt(3) / 2
    corners = np.array([[0, 0], [height, half], [0, side], [0, 0]])
    steps = np.arange(N_SACCADES * n_samples + 1) / n_samples
    return np.stack(
        [np.interp(steps, np.arange(N_SACCADES + 1), corners[:, axis]) for axis in (0, 1)], axis=1
    )


def _shifted(stack: NDArray[np.float64], down: float, right: float) -> NDArray[np.float64]:
    """Images moved by a non-negative part of pixels, bilinear, zeros outside."""
    for axis, offset in ((1, down), (2, right)):
        whole, part = divmod(offset, 1)
        near, far = _moved(stack, axis, int(whole)), _moved(stack, axis, int(whole) + 1)
        stack = near * (1 - part) + far * part
    return stack


def _moved(stack: NDArray[np.float64], axis: int, by: int) -> NDArray[np.float64]:
    size = stack.shape[axis]
    result = np.zeros_like(stack)
    if by < size:
        to = (slice(None),) * axis
        result[(*to, slice(by, None))] = stack[(*to, slice(None, size - by))]
    return result


def to_frames(
    events: NDArray[np.void],
    n_steps: int,
    sensor_size: tuple[int, int, int],
    *,
    window_us: int | None = None,
    start_us: int | None = None,
) -> NDArray[np.float32]:
    """Count the events of each step, polarity and pixel.

    Counts are real values, as floats are wherever this package takes inputs: an input population's
    scale turns them into units (integers would be taken for units).

    Without ``window_us`` the recording itself is cut into equal steps, exactly as tonic's
    ``ToFrame(n_time_bins=n_steps)`` does: steps start at the first event and last
    ``floor((t_last - t_first) / n_steps)``, so the last event, and those in the rest of that
    division, belong to no step. With ``window_us`` step i holds the events with
    ``start_us + i * window_us <= t < start_us + (i + 1) * window_us``, and others are not counted;
    ``start_us`` is the time of the first event where it is not given, as in tonic.

    Parameters
    ----------
    events
        ``(n_events,)`` with integer fields x, y, t, p; sorted by t.
    n_steps
        Number of steps T, >= 1.
    sensor_size
        ``(width, height, 2)`` in pixels, as tonic has it.
    window_us, start_us
        Length of a step and start of the first, in the unit of ``t`` (microseconds), integers.

    Returns
    -------
    ndarray
        ``(n_steps, 2, height, width)`` float32 counts; polarity 0 is False (darker), 1 is True.

    Raises
    ------
    InputError
        If the events are not what they should be, a parameter is out of range, or the recording is
        too short for so many steps.
    """
    n_steps = whole("to_frames", "n_steps", n_steps)
    width, height = sensor(sensor_size)
    if window_us is not None:
        window_us = whole("to_frames", "window_us", window_us, 1, _LATEST)
    if start_us is not None:
        start_us = whole("to_frames", "start_us", start_us, -_LATEST, _LATEST)
        if window_us is None:
            raise InputError(
                "to_frames",
                f"start_us {start_us} is given without window_us, the steps start at the first "
                "event then",
                remedy="give window_us as well, or leave start_us out",
                actual=start_us,
                limit=None,
            )
    shape = (n_steps, 2, height, width)
    fits("to_frames", shape, 8, "use fewer steps")
    x, y, t, p = _columns(events, width, height)
    if len(t) == 0:
        return np.zeros(shape, np.float32)
    if start_us is None:
        start_us = int(t[0])
    if window_us is None:
        window_us = (int(t[-1]) - start_us) // n_steps
        if window_us == 0:
            raise InputError(
                "events",
                f"last {int(t[-1]) - int(t[0])} us, {n_steps} steps need at least {n_steps} us",
                remedy="use fewer steps, or give window_us",
                actual=int(t[-1]) - int(t[0]),
                limit=n_steps,
            )
    step = (t - start_us) // window_us
    inside = (step >= 0) & (step < n_steps)
    x, y, p, step = x[inside], y[inside], p[inside], step[inside]
    flat = ((step * 2 + p) * height + y) * width + x
    counts = np.bincount(flat, minlength=n_steps * 2 * height * width)
    most = int(counts.max())
    if most > _MOST_EVENTS:
        raise InputError(
            "events",
            f"are {most:,} of one pixel and polarity in one step, at most {_MOST_EVENTS:,} are "
            "counted",
            remedy="use more steps",
            actual=most,
            limit=_MOST_EVENTS,
        )
    return counts.reshape(shape).astype(np.float32)


def sensor(sensor_size: Any) -> tuple[int, int]:
    """Width and height of a sensor, checked; `InputError` if it has no such size."""
    if not isinstance(sensor_size, tuple | list) or len(sensor_size) != 3:
        raise InputError(
            "sensor_size",
            f"{sensor_size!r} is not (width, height, 2)",
            remedy="give the size of the sensor that recorded the events",
            actual=sensor_size,
            limit=3,
        )
    width, height, n_polarities = sensor_size
    if n_polarities != 2:
        raise InputError(
            "sensor_size",
            f"{sensor_size!r} has {n_polarities!r} polarities, there are 2 polarities",
            remedy="give (width, height, 2)",
            actual=n_polarities,
            limit=2,
        )
    return (
        whole("sensor_size", "width", width, 1, _MAX_PIXELS),
        whole("sensor_size", "height", height, 1, _MAX_PIXELS),
    )


def _columns(events: Any, width: int, height: int) -> tuple[NDArray[np.int64], ...]:
    if not isinstance(events, np.ndarray):
        raise InputError(
            "events",
            f"are a {type(events).__name__}, a structured array is expected",
            remedy="give an array with the fields x, y, t and p, as EVENT_DTYPE has them",
            actual=type(events).__name__,
            limit="numpy.ndarray",
        )
    names = events.dtype.names or ()
    if events.ndim != 1 or not {"x", "y", "t", "p"} <= set(names):
        raise InputError(
            "events",
            f"have shape {events.shape} and fields {', '.join(names) or 'none'}, "
            "(n_events,) with x, y, t, p is expected",
            remedy="give a structured array of tonic's event type",
            actual=names,
            limit=("x", "y", "t", "p"),
        )
    for name, low, high in (
        ("x", 0, width - 1),
        ("y", 0, height - 1),
        ("p", 0, 1),
        ("t", -_LATEST, _LATEST),
    ):
        values = events[name]
        if values.dtype.kind not in "biu" or values.ndim != 1:
            raise InputError(
                "events",
                f"field {name} has dtype {values.dtype}, integers are expected",
                remedy="round it to whole pixels (x, y) or microseconds (t)",
                actual=str(values.dtype),
                limit="integers",
            )
        least, most = (int(values.min()), int(values.max())) if len(values) else (low, high)
        if least < low or most > high:
            raise InputError(
                "events",
                f"{name} lies in [{least}, {most}], the limits are {low} and {high}",
                remedy="give the size of the sensor that recorded them"
                if name in "xy"
                else "p is 0 or 1 (darker, brighter), t in microseconds",
                actual=(least, most),
                limit=(low, high),
            )
    x, y, t, p = (events[name].astype(np.int64) for name in ("x", "y", "t", "p"))
    backwards = np.flatnonzero(np.diff(t) < 0)
    if len(backwards):
        raise InputError(
            "events",
            f"go back in time {len(backwards):,} times, first after event {int(backwards[0]):,}",
            remedy="sort them by t",
            actual=len(backwards),
            limit=0,
        )
    return x, y, t, p
