"""Projections as Lava Processes, where Lava's own are not exact or do not exist.

Lava's ``Dense`` is used where its 32-bit sums suffice; its ``Conv`` wraps modulo 2**24, takes no
more than 127 groups, pads symmetrically only and loops in Python, and pooling it does not have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from pmsm_hw.lava.arithmetic import Arrivals, Sent, SynapseSet, kernel, shifted_sum
from pmsm_hw.operators import Form


class Synapses(AbstractProcess):
    """A projection of any kind: dense, convolution, pooling, one to one.

    Like Lava's ``Dense`` it sends in a step what it made of the spikes of the step before.

    Ports
    -----
    s_in
        Payload of the source's spikes, in its shape.
    a_out
        ``w * payload`` summed over synapses, shifted by ``weight_exponent``, in the target's shape.

    Parameters
    ----------
    form
        `pmsm_hw.operators.DenseForm` or `WindowForm`; integer weights.
    payload_max
        Bound on the absolute payload.
    weight_exponent
        Left shift; negative: right shift of the sum, its floor.
    source, target
        Shapes.
    name
        Of the Process.
    """

    def __init__(
        self,
        *,
        form: Form,
        payload_max: int,
        weight_exponent: int,
        source: tuple[int, ...],
        target: tuple[int, ...],
        name: str | None = None,
    ) -> None:
        super().__init__(
            form=form, payload_max=payload_max, weight_exponent=weight_exponent,
            target=target, name=name,
        )  # fmt: skip
        self.s_in = InPort(shape=source)
        self.a_out = OutPort(shape=target)


class DelayedSynapses(AbstractProcess):
    """A projection whose synapses have delays of their own, with the delay of the projection.

    Remembers what the source sent; sends in a step what arrives in it.

    Ports
    -----
    s_in, a_out
        As for `Synapses`.

    Parameters
    ----------
    synapses
        `pmsm_hw.lava.arithmetic.SynapseSet`; a synapse brings nothing in as many first steps of a
        sample as its delay has.
    source, target
        Shapes.
    interval, offset
        Steps per sample, and hardware step in which the target of the projection begins.
    name
        Of the Process.
    """

    def __init__(
        self,
        *,
        synapses: SynapseSet,
        source: tuple[int, ...],
        target: tuple[int, ...],
        interval: int = 1,
        offset: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(
            synapses=synapses, target=target, interval=interval, offset=offset, name=name
        )
        self.s_in = InPort(shape=source)
        self.a_out = OutPort(shape=target)


class DelayLine(AbstractProcess):
    """Holds spikes for some steps, and stops those that belong to another sample, or to none.

    Ports
    -----
    s_in, s_out
        Payloads; ``s_out`` sends what came in ``n_steps`` steps before.

    Parameters
    ----------
    shape
        Of the source population.
    n_steps
        Steps to hold; with 0, spikes pass through within the step.
    delay
        Algorithmic delay of the projection: the target gets nothing in the first ``delay`` steps
        of a sample.
    interval, offset
        Steps per sample, and hardware step in which the target of the projection begins.
    name
        Of the Process.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        n_steps: int,
        delay: int = 0,
        interval: int = 1,
        offset: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(
            shape=shape, n_steps=n_steps, delay=delay, interval=interval, offset=offset, name=name
        )
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


class _SynapsesModel(PyLoihiProcessModel):
    dtype: Any = np.int64

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        target = tuple(proc_params["target"])
        self.apply = kernel(proc_params["form"], proc_params["payload_max"], target, self.dtype)
        self.exponent = int(proc_params["weight_exponent"])
        self.nothing = np.zeros(target, self.dtype)
        self.a_buff = self.nothing

    def run_spk(self) -> None:
        # sending first keeps recurrent networks from waiting for themselves
        self.a_out.send(self.a_buff)
        spikes = self.s_in.recv()
        self.a_buff = (
            shifted_sum(self.apply(spikes), self.exponent) if spikes.any() else self.nothing
        )


@implements(proc=Synapses, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SynapsesFixed(_SynapsesModel):
    """Fixed-point model: exact integers."""

    s_in = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a_out = LavaPyType(PyOutPort.VEC_DENSE, np.int64, precision=24)


@implements(proc=Synapses, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class SynapsesFloat(_SynapsesModel):
    """Floating-point twin."""

    dtype = np.float64
    s_in = LavaPyType(PyInPort.VEC_DENSE, float)
    a_out = LavaPyType(PyOutPort.VEC_DENSE, float)


class _DelayedSynapsesModel(PyLoihiProcessModel):
    dtype: Any = np.int64

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        target = tuple(proc_params["target"])
        self.interval = int(proc_params["interval"])
        self.offset = int(proc_params["offset"])
        self.arrivals = Arrivals(proc_params["synapses"], target, self.dtype)
        self.sent = Sent(self.arrivals.longest)
        self.nothing = np.zeros(target, self.dtype)
        self.a_buff = self.nothing

    def run_spk(self) -> None:
        self.a_out.send(self.a_buff)
        self.sent.add(self.s_in.recv())
        next_step = int(self.time_step) - self.offset
        if next_step >= 0:
            self.a_buff = self.nothing + self.arrivals(self.sent, next_step % self.interval)


@implements(proc=DelayedSynapses, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class DelayedSynapsesFixed(_DelayedSynapsesModel):
    """Fixed-point model: exact integers."""

    s_in = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a_out = LavaPyType(PyOutPort.VEC_DENSE, np.int64, precision=24)


@implements(proc=DelayedSynapses, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class DelayedSynapsesFloat(_DelayedSynapsesModel):
    """Floating-point twin."""

    dtype = np.float64
    s_in = LavaPyType(PyInPort.VEC_DENSE, float)
    a_out = LavaPyType(PyOutPort.VEC_DENSE, float)


class _DelayLineModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.n_held = int(proc_params["n_steps"])
        self.delay = int(proc_params["delay"])
        self.interval = int(proc_params["interval"])
        self.offset = int(proc_params["offset"])
        self.held: list[NDArray[Any]] = []

    def run_spk(self) -> None:
        now = int(self.time_step) - 1
        spikes = self.s_in.recv()
        self.held.append(spikes)
        sent = self.held.pop(0) if len(self.held) > self.n_held else np.zeros_like(spikes)
        # the target integrates it one step later, after the synapses
        step = now + 1 - self.offset
        if step < 0 or step % self.interval < self.delay:
            sent = np.zeros_like(spikes)
        self.s_out.send(sent)


@implements(proc=DelayLine, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class DelayLineFixed(_DelayLineModel):
    """Fixed-point model."""

    s_in = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)


@implements(proc=DelayLine, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class DelayLineFloat(_DelayLineModel):
    """Floating-point twin."""

    s_in = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out = LavaPyType(PyOutPort.VEC_DENSE, float)
