"""N-MNIST recordings: 40 bits an event, big-endian."""

from __future__ import annotations

import os
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.events import EVENT_DTYPE, sensor
from pmsm_hw.errors import DatasetError, InputError
from pmsm_hw.reading import read_regular

__all__ = ["NMNIST_SIZE", "read_nmnist"]

NMNIST_SIZE = (34, 34, 2)
"""Sensor size of N-MNIST: width, height (pixels), polarities."""

EVENT_BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13
MAX_FILE_BYTES = 1 << 26


def read_nmnist(
    path: str | os.PathLike[str], *, sensor_size: tuple[int, int, int] = NMNIST_SIZE
) -> NDArray[np.void]:
    """Read one recording of N-MNIST (or N-Caltech101, which has the same format).

    Each event is five bytes: x; y; polarity (bit 7) and the upper 7 bits of the time; the middle
    and the lower 8 bits of the time, in microseconds. An event with y = 240 is none: it adds
    2**13 us to the time of what follows (as ``tonic.io.read_mnist_file`` reads it).

    Source: Orchard et al. 2015, doi:10.3389/fnins.2015.00437, and its Matlab reader.

    Parameters
    ----------
    path
        The ``.bin`` file.
    sensor_size
        ``(width, height, 2)`` that events must lie in.

    Returns
    -------
    ndarray
        ``(n_events,)`` `EVENT_DTYPE`, in the file's order, which is that of time.

    Raises
    ------
    DatasetError
        If the file is absent, no regular file, empty, cut short, or holds events outside the sensor
        or going back in time.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(
            "recording",
            f"{path!r} is not the name of a file",
            remedy="give the path of a .bin file",
            actual=path,
        )
    subject = f"recording '{os.fspath(path)}'"

    def refuse(problem: str, actual: object, limit: object) -> NoReturn:
        raise DatasetError(
            subject, problem, remedy="get the file again", actual=actual, limit=limit
        )

    width, height = sensor(sensor_size)
    try:
        data = read_regular(path, largest=MAX_FILE_BYTES)
    except OSError as error:
        refuse(f"cannot be read ({error.strerror or error})", type(error).__name__, None)
    if not data or len(data) % EVENT_BYTES:
        refuse(
            f"has {len(data):,} bytes, a positive multiple of {EVENT_BYTES} is expected",
            len(data),
            EVENT_BYTES,
        )
    raw = np.frombuffer(data, np.uint8).reshape(-1, EVENT_BYTES)
    x, y = raw[:, 0], raw[:, 1]
    overflow = y == OVERFLOW_ROW
    t = np.cumsum(overflow, dtype=np.int64) * OVERFLOW_US
    for byte, shift in ((raw[:, 2] & 127, 16), (raw[:, 3], 8), (raw[:, 4], 0)):
        t += byte.astype(np.int64) << shift
    real = ~overflow
    events = np.empty(int(real.sum()), EVENT_DTYPE)
    events["x"], events["y"], events["t"] = x[real], y[real], t[real]
    events["p"] = raw[real, 2] >> 7
    for name, limit in (("x", width), ("y", height)):
        largest = int(events[name].max(initial=0))
        if largest >= limit:
            refuse(f"has an event at {name} = {largest}, the sensor ends at {limit - 1}", largest,
                   limit - 1)  # fmt: skip
    backwards = np.flatnonzero(np.diff(events["t"]) < 0)
    if len(backwards):
        refuse(
            f"goes back in time {len(backwards):,} times, first after event {int(backwards[0]):,}",
            len(backwards),
            0,
        )
    return events
