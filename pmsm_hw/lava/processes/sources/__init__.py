"""Sources of spikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyAsyncProcessModel, PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.async_protocol import AsyncProtocol
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from pmsm_hw.datasets.events import to_frames


class FrameSource(AbstractProcess):
    """Sends one frame a step, then nothing.

    Ports
    -----
    s_out
        ``frames[h]`` in hardware step ``h``, zeros after the last.

    Parameters
    ----------
    frames
        ``(n_steps, *shape)`` integers: all steps of the first sample, then those of the second, ...
    name
        Of the Process.
    """

    def __init__(self, *, frames: NDArray[Any], name: str | None = None) -> None:
        super().__init__(frames=frames, name=name)
        self.s_out = OutPort(shape=frames.shape[1:])


class CoarseFrameSource(FrameSource):
    """`FrameSource` for coarse graphs, which run without a barrier at each step."""


class EventSource(AbstractProcess):
    """Plays recordings of an event camera step by step, one after the other.

    Ports
    -----
    s_out
        ``(2, height, width)``: how many events each pixel and polarity had in the step.

    Parameters
    ----------
    recordings
        Per sample ``(n_events,)`` with the fields x, y, t, p of tonic's event type, sorted by t.
    shape
        ``(2, height, width)``; polarity 0 is False (darker), 1 is True.
    n_steps
        Steps T that each recording is played in.
    window_us, start_us
        Length of a step and start of the first, see `pmsm_hw.datasets.to_frames`; by default the
        recording is cut into T equal steps.
    clip
        Largest number that is sent; further events of the pixel in the step are dropped. None:
        all are sent.
    name
        Of the Process.
    """

    def __init__(
        self,
        *,
        recordings: Sequence[NDArray[Any]],
        shape: tuple[int, int, int],
        n_steps: int,
        window_us: int | None = None,
        start_us: int | None = None,
        clip: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            recordings=tuple(recordings), shape=shape, n_steps=n_steps, window_us=window_us,
            start_us=start_us, clip=clip, name=name,
        )  # fmt: skip
        self.s_out = OutPort(shape=shape)


class _Frames:
    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)  # type: ignore[call-arg]
        self.frames = proc_params["frames"]
        self.nothing = np.zeros(self.frames.shape[1:], self.frames.dtype)

    def send(self, now: int) -> None:
        frame = self.frames[now] if now < len(self.frames) else self.nothing
        self.s_out.send(frame)  # type: ignore[attr-defined]


class _FrameSourceModel(_Frames, PyLoihiProcessModel):
    def run_spk(self) -> None:
        self.send(int(self.time_step) - 1)


class _CoarseFrameSourceModel(_Frames, PyAsyncProcessModel):
    n_sent = 0

    def run_async(self) -> None:
        for now in range(self.n_sent, self.n_sent + self.num_steps):
            self.send(now)
        self.n_sent += self.num_steps


@implements(proc=FrameSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class FrameSourceFixed(_FrameSourceModel):
    """Fixed-point model."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)


@implements(proc=FrameSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class FrameSourceFloat(_FrameSourceModel):
    """Floating-point twin."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, float)


@implements(proc=CoarseFrameSource, protocol=AsyncProtocol)
@requires(CPU)
@tag("fixed_pt")
class CoarseFrameSourceFixed(_CoarseFrameSourceModel):
    """Fixed-point model."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)


@implements(proc=CoarseFrameSource, protocol=AsyncProtocol)
@requires(CPU)
@tag("floating_pt")
class CoarseFrameSourceFloat(_CoarseFrameSourceModel):
    """Floating-point twin."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, float)


class _EventSourceModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.recordings = proc_params["recordings"]
        _, height, width = proc_params["shape"]
        self.sensor_size = (width, height, 2)
        self.n_steps = int(proc_params["n_steps"])
        self.window = {"window_us": proc_params["window_us"], "start_us": proc_params["start_us"]}
        self.clip = proc_params["clip"]
        self.frames = np.zeros((self.n_steps, *proc_params["shape"]), np.int32)

    def run_spk(self) -> None:
        sample, step = divmod(int(self.time_step) - 1, self.n_steps)
        if step == 0:  # a recording is cut up when its turn comes
            events = self.recordings[sample] if sample < len(self.recordings) else None
            self.frames = (
                np.zeros_like(self.frames)
                if events is None
                else to_frames(events, self.n_steps, self.sensor_size, **self.window).astype(
                    np.int32
                )
            )
            if self.clip is not None:
                self.frames = np.minimum(self.frames, self.clip)
        self.s_out.send(self.frames[step])


@implements(proc=EventSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class EventSourceFixed(_EventSourceModel):
    """Fixed-point model."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)


@implements(proc=EventSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class EventSourceFloat(_EventSourceModel):
    """Floating-point twin."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, float)
