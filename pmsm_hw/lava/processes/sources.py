"""Sources of spikes."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray


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


class _FrameSourceModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.frames = proc_params["frames"]
        self.nothing = np.zeros(self.frames.shape[1:], self.frames.dtype)

    def run_spk(self) -> None:
        now = int(self.time_step) - 1
        self.s_out.send(self.frames[now] if now < len(self.frames) else self.nothing)


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
