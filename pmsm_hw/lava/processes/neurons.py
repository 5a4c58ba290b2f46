"""Populations as Lava Processes: polarity multi-spike neurons and readouts.

Two kinds of Process stand for a population. *Fine*: `PolarityMultiSpike` and `Readout` take the
sum of their inputs on the port ``a_in``; projections are Processes of their own. *Coarse*: the
classes that `coarse` makes take spikes of each source and apply the projections themselves.

Time. A population at depth ``d`` acts in hardware steps ``d, d + 1, ...``; Lava's ``time_step`` is
the hardware step plus one, since the input is sent in hardware step 0. Every ``interval`` steps
from ``offset = d`` on a new sample begins and the state starts anew; before, the population is
silent.

The equations are those of `pmsm_hw.network`, a reconstruction from the abstract of
arXiv 2508.14520.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyAsyncProcessModel, PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.async_protocol import AsyncProtocol
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from pmsm_hw import network
from pmsm_hw.lava.arithmetic import kernel
from pmsm_hw.neurons import Step

# -- Processes ------------------------------------------------------------------------------------


def _var(value: Any) -> Var:
    array = np.atleast_1d(np.asarray(value))
    return Var(shape=array.shape, init=array)


class PolarityMultiSpike(AbstractProcess):
    """Neurons that send several positive or negative spikes a step.

    Per step ``u = v + a_in + bias``; ``k = clip(floor(u / theta), -n, p)``; the rule decides what
    remains in ``v`` (see `pmsm_hw.network`).

    Ports
    -----
    a_in
        Sum of the inputs.
    s_out
        Payload of the graded spikes: ``gain_pos * k`` or ``gain_neg * k``.
    s_pos_out, s_neg_out
        Number of positive and of negative unit spikes, for ``spike_mode="unit"``.

    Vars
    ----
    v
        State after the step.
    u
        State after integration, before the spikes are taken off.
    k
        Spikes of the step.
    theta, bias, v_init
        Parameters, broadcastable to the population.
    sent
        Sum of the spikes of this sample.
    n_saturated
        Neurons x steps whose ``u`` was clipped to the state's width.

    Parameters
    ----------
    shape
        Of the population.
    theta, bias, v_init
        Integers, broadcastable to ``shape``.
    levels
        ``(n, p)``.
    gains
        ``(gain_pos, gain_neg)``.
    rule
        ``"carry"``, ``"reset"`` or ``"bounded"``.
    saturates
        Whether ``u`` is clipped to the state's width (fixed-point models).
    interval, offset
        Steps per sample, and hardware step of the first one (module docstring).
    until
        Number of steps after which it is silent again; None: never.
    record
        Files to write to, see `_Recorder`.
    name
        Of the Process.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        theta: Any,
        bias: Any = 0,
        v_init: Any = 0,
        levels: tuple[int, int],
        gains: tuple[int, int] = (1, 1),
        rule: str = "carry",
        saturates: bool = False,
        interval: int = 1,
        offset: int = 0,
        until: int | None = None,
        record: dict[str, str] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            shape=shape, levels=levels, gains=gains, rule=rule, saturates=saturates,
            interval=interval, offset=offset, until=until, record=record or {}, name=name, **kwargs,
        )  # fmt: skip
        self.s_out = OutPort(shape=shape)
        self.s_pos_out = OutPort(shape=shape)
        self.s_neg_out = OutPort(shape=shape)
        self.theta = _var(theta)
        self.bias = _var(bias)
        self.v_init = _var(v_init)
        self.v = Var(shape=shape, init=np.broadcast_to(np.asarray(v_init), shape).copy())
        self.u = Var(shape=shape, init=0)
        self.k = Var(shape=shape, init=0)
        self.sent = Var(shape=shape, init=0)
        self.n_saturated = Var(shape=(1,), init=0)
        self._add_inputs(shape)

    def _add_inputs(self, shape: tuple[int, ...]) -> None:
        self.a_in = InPort(shape=shape)


class Readout(AbstractProcess):
    """Neurons that add up their input and never fire: ``v' = v + a_in + bias``.

    Ports
    -----
    a_in
        Sum of the inputs.
    v_out
        State after the step, for sinks.

    Vars
    ----
    v, bias, n_saturated
        As for `PolarityMultiSpike`; ``v`` starts at 0.

    Parameters
    ----------
    shape, bias, saturates, interval, offset, until, record, name
        As for `PolarityMultiSpike`.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        bias: Any = 0,
        saturates: bool = False,
        interval: int = 1,
        offset: int = 0,
        until: int | None = None,
        record: dict[str, str] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            shape=shape, saturates=saturates, interval=interval, offset=offset, until=until,
            record=record or {}, name=name, **kwargs,
        )  # fmt: skip
        self.v_out = OutPort(shape=shape)
        self.bias = _var(bias)
        self.v = Var(shape=shape, init=0)
        self.n_saturated = Var(shape=(1,), init=0)
        self._add_inputs(shape)

    def _add_inputs(self, shape: tuple[int, ...]) -> None:
        self.a_in = InPort(shape=shape)


# -- models ---------------------------------------------------------------------------------------


class _Recorder:
    """Rows of the files named in ``record``, written as the steps go by.

    ``spikes``: ``(n_steps, *shape)``, the ``k`` of each step; ``state``: ``(n_samples, *shape)``,
    ``v`` at the end of each sample; ``saturations`` and ``progress``: one int64. All ``.npy``,
    mapped into memory: they outlive the Process, and reading a Var takes a message per value.
    """

    def __init__(self, record: dict[str, str]) -> None:
        self.files = {what: np.load(path, mmap_mode="r+") for what, path in record.items()}

    def write(self, what: str, row: int, value: Any) -> None:
        file = self.files.get(what)
        if file is not None and row < len(file):
            file[row] = value


class _PopulationModel:
    """What neurons and readouts have in common: samples, width, recording."""

    fixed = True

    # made by Lava
    time_step: int
    v: Any
    bias: Any
    n_saturated: Any

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)  # type: ignore[call-arg]
        self.shape = tuple(proc_params["shape"])
        self.interval = int(proc_params["interval"])
        self.offset = int(proc_params["offset"])
        until = proc_params["until"]
        self.until = sys.maxsize if until is None else int(until)
        self.saturates = bool(proc_params["saturates"]) and self.fixed
        self.recorder = _Recorder(proc_params["record"])
        self.silence = np.zeros(self.shape, np.int32)

    @property
    def step(self) -> int:
        """Steps since the wave of the first sample arrived, from 0; -1 before and after all."""
        step = int(self.time_step) - 1 - self.offset
        return step if 0 <= step < self.until else -1

    @property
    def overflow(self) -> str:
        return "saturate" if self.saturates else "error"

    def take(self, model: type[network.Neurons], drive: NDArray[Any], in_sample: int) -> Step:
        """Take a step as the neuron model defines it, from the state variables that it has."""
        model_ = model.model
        start = model_.start(self)
        if in_sample == 0:
            for name, values in start.items():
                getattr(self, name)[...] = values
        step = model_.step(self, {name: getattr(self, name) for name in start}, drive, in_sample)
        for name, values in step.state.items():
            getattr(self, name)[...] = values
        if step.outside:
            self.n_saturated[0] += step.outside
            self.recorder.write("saturations", 0, self.n_saturated[0])
        return step


class _NeuronModel(_PopulationModel):
    s_out: Any
    s_pos_out: Any
    s_neg_out: Any
    theta: Any
    v_init: Any
    u: Any
    k: Any
    sent: Any

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.levels = proc_params["levels"]
        self.gains = proc_params["gains"]
        self.rule = proc_params["rule"]

    def update(self, drive: NDArray[Any]) -> None:
        """Take one step and send its spikes."""
        step = self.step
        if step < 0:
            k = self.silence
        else:
            k = self.act(step, drive)
            self.recorder.write("spikes", step, k)
            self.recorder.write("progress", 0, step + 1)
        self.s_out.send(network.PolarityMultiSpike.model.payload(self, k))
        if self.s_pos_out.csp_ports:
            self.s_pos_out.send(np.maximum(k, 0))
        if self.s_neg_out.csp_ports:
            self.s_neg_out.send(np.maximum(-k, 0))

    def act(self, step: int, drive: NDArray[Any]) -> NDArray[Any]:
        in_sample = step % self.interval
        if in_sample == 0:
            self.sent[...] = 0
        taken = self.take(network.PolarityMultiSpike, drive, in_sample)
        if self.rule != "bounded":
            self.sent += taken.spikes
        self.u[...], self.k[...] = taken.u, taken.spikes
        return taken.spikes


class _ReadoutModel(_PopulationModel):
    v_out: Any

    def update(self, drive: NDArray[Any]) -> None:
        """Take one step and send the state."""
        step = self.step
        if step >= 0:
            sample, in_sample = divmod(step, self.interval)
            self.take(network.Readout, drive, in_sample)
            if in_sample == self.interval - 1:
                self.recorder.write("state", sample, self.v)
            self.recorder.write("progress", 0, step + 1)
        if self.v_out.csp_ports:
            self.v_out.send(self.v)


class _FineModel(PyLoihiProcessModel):
    def run_spk(self) -> None:
        self.update(self.a_in.recv())


@implements(proc=PolarityMultiSpike, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PolarityMultiSpikeFixed(_NeuronModel, _FineModel):
    """Fixed-point model: integers as the contract has them, ``u`` and ``v`` 24 bits wide."""

    a_in = LavaPyType(PyInPort.VEC_DENSE, np.int64, precision=24)
    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    s_pos_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    s_neg_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    theta = LavaPyType(np.ndarray, np.int64, precision=24)
    bias = LavaPyType(np.ndarray, np.int64, precision=24)
    v_init = LavaPyType(np.ndarray, np.int64, precision=24)
    v = LavaPyType(np.ndarray, np.int64, precision=24)
    u = LavaPyType(np.ndarray, np.int64, precision=24)
    k = LavaPyType(np.ndarray, np.int64, precision=24)
    sent = LavaPyType(np.ndarray, np.int64, precision=24)
    n_saturated = LavaPyType(np.ndarray, np.int64, precision=24)


@implements(proc=PolarityMultiSpike, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PolarityMultiSpikeFloat(_NeuronModel, _FineModel):
    """Floating-point twin: the same equations on float64, no limit of width."""

    fixed = False
    a_in = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out = LavaPyType(PyOutPort.VEC_DENSE, float)
    s_pos_out = LavaPyType(PyOutPort.VEC_DENSE, float)
    s_neg_out = LavaPyType(PyOutPort.VEC_DENSE, float)
    theta = LavaPyType(np.ndarray, float)
    bias = LavaPyType(np.ndarray, float)
    v_init = LavaPyType(np.ndarray, float)
    v = LavaPyType(np.ndarray, float)
    u = LavaPyType(np.ndarray, float)
    k = LavaPyType(np.ndarray, float)
    sent = LavaPyType(np.ndarray, float)
    n_saturated = LavaPyType(np.ndarray, np.int64)


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ReadoutFixed(_ReadoutModel, _FineModel):
    """Fixed-point model: ``v`` is 24 bits wide."""

    a_in = LavaPyType(PyInPort.VEC_DENSE, np.int64, precision=24)
    v_out = LavaPyType(PyOutPort.VEC_DENSE, np.int64, precision=24)
    bias = LavaPyType(np.ndarray, np.int64, precision=24)
    v = LavaPyType(np.ndarray, np.int64, precision=24)
    n_saturated = LavaPyType(np.ndarray, np.int64, precision=24)


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ReadoutFloat(_ReadoutModel, _FineModel):
    """Floating-point twin, no limit of width."""

    fixed = False
    a_in = LavaPyType(PyInPort.VEC_DENSE, float)
    v_out = LavaPyType(PyOutPort.VEC_DENSE, float)
    bias = LavaPyType(np.ndarray, float)
    v = LavaPyType(np.ndarray, float)
    n_saturated = LavaPyType(np.ndarray, np.int64)


# -- coarse: a population with the projections into it --------------------------------------------


class _CoarseModel(PyAsyncProcessModel):
    """Applies the projections to spikes of earlier steps, acts, then takes this step's spikes.

    Asynchronous: models of the Loihi protocol report to a runtime service in each step, which costs
    most of their time. These run ahead as far as their channels allow, and the spikes that pass
    through the channels keep them in step. Sending before receiving keeps recurrent networks from
    waiting for themselves.
    """

    dtype: Any = np.int64

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.time_step = 0
        shape = tuple(proc_params["shape"])
        self.incoming = [
            (source, hardware_delay, delay, kernel(form, payload_max, shape, exponent, self.dtype))
            for source, hardware_delay, delay, form, payload_max, exponent in proc_params[
                "incoming"
            ]
        ]
        depth = [0] * len(proc_params["sources"])
        for source, hardware_delay, *_ in self.incoming:
            depth[source] = max(depth[source], hardware_delay)
        # history[source][h % length] is what the source sent in hardware step h
        self.history: list[list[NDArray[Any] | None]] = [[None] * n for n in depth]

    def run_async(self) -> None:
        ports = [getattr(self, f"s_in_{i}") for i in range(len(self.history))]
        for _ in range(self.num_steps):
            now = self.time_step
            self.time_step += 1
            self.update(self._drive(now))
            for ring, port in zip(self.history, ports, strict=True):
                ring[now % len(ring)] = port.recv()

    def _drive(self, now: int) -> Any:
        total: Any = self.dtype(0)
        if self.step < 0:
            return total
        in_sample = self.step % self.interval
        for source, hardware_delay, delay, apply in self.incoming:
            if in_sample < delay or now < hardware_delay:
                continue
            ring = self.history[source]
            sent = ring[(now - hardware_delay) % len(ring)]
            if sent is not None and sent.any():
                total = total + apply(sent)
        return total


@cache
def coarse(kind: type[AbstractProcess], n_sources: int) -> type[AbstractProcess]:
    """Class of Processes that hold a population and the projections into it.

    Parameters
    ----------
    kind
        A Process of neurons; beside it stand its models, named as it is, and ``Fixed`` or
        ``Float``.
    n_sources
        Number of populations it receives spikes from: ports ``s_in_0``, ``s_in_1``, ...

    Returns
    -------
    type
        Takes the parameters of ``kind`` and ``sources`` (shapes, in order) and ``incoming``, a list
        of ``(source index, hardware delay, delay, form, payload_max, weight_exponent)``. Its models
        stand beside ``kind`` in its module, where Lava looks for them.
    """
    name = f"Coarse{kind.__name__}{n_sources}"

    def add_inputs(self: Any, shape: tuple[int, ...]) -> None:
        for i, source in enumerate(self.proc_params["sources"]):
            setattr(self, f"s_in_{i}", InPort(shape=source))

    module = sys.modules[kind.__module__]
    members = {"_add_inputs": add_inputs, "__module__": module.__name__, "__doc__": kind.__doc__}
    process = type(name, (kind,), members)
    setattr(module, name, process)
    for twin in (getattr(module, kind.__name__ + suffix) for suffix in ("Fixed", "Float")):
        base = twin.__bases__[0]
        fixed = twin.fixed
        attributes: dict[str, Any] = {
            key: value
            for key, value in vars(twin).items()
            if isinstance(value, LavaPyType) and key != "a_in"
        }
        number = np.int32 if fixed else float
        for i in range(n_sources):
            attributes[f"s_in_{i}"] = LavaPyType(PyInPort.VEC_DENSE, number, precision=24)
        attributes |= {
            "fixed": fixed,
            "dtype": np.int64 if fixed else np.float64,
            "__module__": module.__name__,
            "__doc__": twin.__doc__,
        }
        model_name = name + ("Fixed" if fixed else "Float")
        model = type(model_name, (base, _CoarseModel), attributes)
        model = tag("fixed_pt" if fixed else "floating_pt")(model)
        model = requires(CPU)(model)
        setattr(module, model_name, implements(proc=process, protocol=AsyncProtocol)(model))
    return process
