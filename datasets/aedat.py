"""AEDAT files, versions 2.0 and 3.1, as the DVS128 data sets use them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.events import EVENT_DTYPE
from pmsm_hw.datasets.labelled import read_bytes
from pmsm_hw.errors import DatasetError

__all__ = ["DISORDER_US", "DVS128_SIZE", "by_time", "read_aedat2", "read_aedat3"]

DVS128_SIZE = (128, 128, 2)
"""Sensor size of the DVS128: width, height (pixels), polarities."""

_LARGEST_BYTES = 1 << 31
_PACKET = struct.Struct(
    "<hhiiiiii"
)  # type, source, size, ts offset, ts overflow, capacity, n, valid
_POLARITY_EVENT, _EVENT_BYTES = 1, 8
_ADDRESS_BITS, _EXTERNAL = 16, 1 << 15

DISORDER_US = 10_000
"""Furthest that an event may lie before one that was written earlier: rows of the sensor are read
out in turn. A clock that was set back is further off."""


def read_aedat2(path: Path) -> NDArray[np.void]:
    """Read a recording of CIFAR10-DVS (AEDAT 2.0, DVS128 addresses).

    After header lines that begin with ``#`` come events of two 32-bit big-endian words: address and
    time in microseconds. Address bits 1..7 and 8..14 are the two coordinates, bit 0 the polarity;
    the camera lay on its side, so ``x = 127 - bits 8..14``, ``y = 127 - bits 1..7``, and
    ``p = 1 - bit 0``, as the data set's Matlab reader and spikingjelly have it. Bit 15 marks what
    came from outside the camera: no pixel saw it, and it is passed over. Bits above are not the
    DVS128's (DAVIS cameras keep coordinates and image samples there): such files are refused.

    The clock has 32 bits; where it wraps, times go on.

    Returns
    -------
    ndarray
        ``(n_events,)`` `EVENT_DTYPE`, ordered by time.

    Raises
    ------
    DatasetError
        If the file is absent, of another version, cut short, empty, of another camera, or goes back
        in time by more than `DISORDER_US`.
    """
    data, start = _body(path, "2.0")
    body = data[start:]
    if not body or len(body) % _EVENT_BYTES:
        problem = f"has {len(body):,} bytes of events, a positive multiple of 8 is expected"
        raise _damaged(path, problem, len(body), _EVENT_BYTES)
    words = np.frombuffer(body, ">u4").reshape(-1, 2)
    address = words[:, 0]
    foreign = np.flatnonzero(address >> _ADDRESS_BITS)
    if len(foreign):
        raise DatasetError(
            f"recording '{path}'",
            f"has {len(foreign):,} of {len(address):,} events with address bits above 15 (the "
            f"first: 0x{int(address[foreign[0]]):08x}), which the DVS128 does not have",
            remedy="give recordings of a DVS128; those of DAVIS cameras are not read",
            actual=int(address[foreign[0]]),
            limit=(1 << _ADDRESS_BITS) - 1,
        )
    # differences of a clock that wraps are right modulo 2**32
    t = int(words[0, 1]) + np.cumsum(
        np.diff(words[:, 1].astype(np.uint32), prepend=words[:1, 1].astype(np.uint32)).view(
            np.int32
        ),
        dtype=np.int64,
    )
    pixel = (address & _EXTERNAL) == 0
    address, t = address[pixel], t[pixel]
    if not len(address):
        raise _damaged(path, "has 0 events of pixels, at least 1 is expected", 0, 1)
    events = np.empty(len(address), EVENT_DTYPE)
    events["x"] = 127 - ((address >> 8) & 0x7F)
    events["y"] = 127 - ((address >> 1) & 0x7F)
    events["t"] = t
    events["p"] = 1 - (address & 1)
    return by_time(path, events)


def read_aedat3(path: Path) -> NDArray[np.void]:
    """Read a recording of DVS128 Gesture (AEDAT 3.1).

    After the header come packets: 28 bytes that tell type, size and number of events, then the
    events, little-endian. Polarity events are a 32-bit word (bit 0: valid, bit 1: polarity, bits
    2..16: y, bits 17..31: x) and a 31-bit time, to which the packet's overflow adds multiples of
    2**31 us. Packets of other types, and events marked invalid, are passed over.

    Returns
    -------
    ndarray
        ``(n_events,)`` `EVENT_DTYPE`, ordered by time.

    Raises
    ------
    DatasetError
        If the file is absent, of another version, cut short, empty, has events off the sensor, or
        goes back in time by more than `DISORDER_US`.
    """
    data, at = _body(path, "3.1")
    parts: list[NDArray[np.void]] = []
    while at < len(data):
        if len(data) - at < _PACKET.size:
            problem = f"ends {len(data) - at} bytes into a packet header of 28 bytes"
            raise _damaged(path, problem, len(data) - at, _PACKET.size)
        kind, _, size, _, overflow, _, n_events, _ = _PACKET.unpack_from(data, at)
        at += _PACKET.size
        n_bytes = size * n_events
        if size < 1 or n_events < 0 or n_bytes > len(data) - at or not 0 <= overflow < 1 << 31:
            raise _damaged(
                path,
                f"has a packet of {n_events:,} events of {size:,} bytes, "
                f"{len(data) - at:,} bytes are left",
                n_bytes,
                len(data) - at,
            )
        if kind == _POLARITY_EVENT:
            if size != _EVENT_BYTES:
                problem = f"has polarity events of {size:,} bytes, {_EVENT_BYTES} are expected"
                raise _damaged(path, problem, size, _EVENT_BYTES)
            words = np.frombuffer(data, "<u4", 2 * n_events, at).reshape(-1, 2)
            words = words[(words[:, 0] & 1) == 1]
            found = np.empty(len(words), EVENT_DTYPE)
            for name, values in (
                ("x", words[:, 0] >> 17),
                ("y", (words[:, 0] >> 2) & 0x7FFF),
            ):
                largest = int(values.max(initial=0))
                if largest >= 128:
                    problem = f"has an event at {name} = {largest}, the sensor ends at 127"
                    raise _damaged(path, problem, largest, 127)
                found[name] = values
            latest = int(words[:, 1].max(initial=0))
            if latest >> 31:
                problem = f"has an event at {latest - (1 << 32):,} us, times are not negative"
                raise _damaged(path, problem, latest - (1 << 32), 0)
            found["p"] = (words[:, 0] >> 1) & 1
            found["t"] = words[:, 1].astype(np.int64) + (overflow << 31)
            parts.append(found)
        at += n_bytes
    if not any(len(part) for part in parts):
        raise _damaged(path, "has 0 events, at least 1 is expected", 0, 1)
    return by_time(path, np.concatenate(parts))


def _body(path: Path, version: str) -> tuple[bytes, int]:
    """Return a file's bytes, and where its header ends."""
    data = read_bytes(path, largest=_LARGEST_BYTES)
    wanted = f"#!AER-DAT{version}".encode()
    if not data.startswith(wanted):
        raise _damaged(
            path, f"begins with {data[:14]!r}, {wanted!r} is expected", data[:14], wanted
        )
    at = 0
    while data[at : at + 1] == b"#":
        end = data.find(b"\n", at)
        if end < 0:
            raise _damaged(path, "ends within its header", len(data), None)
        line = data[at:end].strip()
        at = end + 1
        if line == b"#!END-HEADER":
            break
    return data, at


def by_time(path: Path, events: NDArray[np.void]) -> NDArray[np.void]:
    """Order events by time, in which rows of the sensor may have been written a little out of.

    Raises
    ------
    DatasetError
        If one lies more than `DISORDER_US` before an earlier one.
    """
    late = np.maximum.accumulate(events["t"]) - events["t"]
    worst = int(late.argmax()) if len(late) else 0
    if len(late) and late[worst] > DISORDER_US:
        raise DatasetError(
            f"recording '{path}'",
            f"goes back in time by {int(late[worst]):,} us at event {worst:,}, at most "
            f"{DISORDER_US:,} us can be the order of reading out",
            remedy="cut it where its clock was set back",
            actual=int(late[worst]),
            limit=DISORDER_US,
        )
    return events[np.argsort(events["t"], kind="stable")]


def _damaged(path: Path, problem: str, actual: object, limit: object) -> DatasetError:
    return DatasetError(
        f"recording '{path}'", problem, remedy="get the file again", actual=actual, limit=limit
    )
