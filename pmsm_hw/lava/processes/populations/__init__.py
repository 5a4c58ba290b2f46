"""Populations of neurons as Lava Processes: what all neuron models have in common.

Two kinds of Process stand for a population. *Fine*: a `NeuronProcess` takes the sum of its inputs
on the port ``a_in``; projections are Processes of their own. *Coarse*: the classes that `coarse`
makes take spikes of each source and apply the projections themselves.

Time. A population at depth ``d`` acts in hardware steps ``d, d + 1, ...``; Lava's ``time_step`` is
the hardware step plus one, since the input is sent in hardware step 0. Every ``interval`` steps
from ``offset = d`` on a new sample begins and the state starts anew; before, the population is
silent.

The arithmetic is the step that the neuron model declares, see `pmsm_hw.neurons.model`.
"""

from __future__ import annotations

import sys
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

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
from pmsm_hw.lava.arithmetic import Arrivals, Sent
from pmsm_hw.lava.recording import Recorder
from pmsm_hw.neurons import Step

# -- Processes ------------------------------------------------------------------------------------


class NeuronProcess(AbstractProcess):
    """A population of a neuron model; subclasses say of which.

    Ports
    -----
    a_in
        Sum of the inputs.
    s_out
        Payload of the spikes (models that fire).
    v_out
        State ``v`` after the step (models that do not fire), for sinks.

    Vars
    ----
    (parameters)
        Those of which channels or neurons may have values of their own, under their names.
    (state variables)
        After the step, under their names.
    u
        What was compared with the threshold, where no state variable has that name.
    k
        Spikes of the step.
    n_saturated
        Neurons x steps that left the width of a state variable, and were wrapped or saturated.

    Parameters
    ----------
    shape
        Of the population.
    interval, offset
        Steps per sample, and hardware step of the first one (module docstring).
    until
        Number of steps after which it is silent again; None: never.
    record
        Files to write to, see `pmsm_hw.lava.recording`.
    name
        Of the Process.
    parameters
        Those of the neuron model, with its defaults and limits.
    """

    neurons: ClassVar[type[network.Neurons]]

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        interval: int = 1,
        offset: int = 0,
        until: int | None = None,
        record: dict[str, str] | None = None,
        name: str | None = None,
        **parameters: Any,
    ) -> None:
        model = self.neurons.model
        names = {p.name for p in model.parameters}
        values = {key: parameters.pop(key) for key in names & parameters.keys()}
        population: Any = self.neurons(name=name or self.neurons.kind, shape=shape, **values)
        single = {p.name: getattr(population, p.name) for p in model.parameters if not p.is_array}
        super().__init__(
            shape=shape, parameters=single, interval=interval, offset=offset, until=until,
            record=record or {}, name=name, **parameters,
        )  # fmt: skip
        for parameter in model.parameters:
            if parameter.is_array:
                value = np.atleast_1d(getattr(population, parameter.name))
                setattr(self, parameter.name, Var(shape=value.shape, init=value))
        start = model.start(population)
        for variable in model.states:
            value = np.broadcast_to(start.get(variable.name, 0), shape).copy()
            setattr(self, variable.name, Var(shape=shape, init=value))
        for variable_name in _others(self.neurons):
            setattr(self, variable_name, Var(shape=shape, init=0))
        self.n_saturated = Var(shape=(1,), init=0)
        if self.neurons.model.fires:
            self.s_out = OutPort(shape=shape)
        else:
            self.v_out = OutPort(shape=shape)
        self._add_inputs(shape)

    def _add_inputs(self, shape: tuple[int, ...]) -> None:
        self.a_in = InPort(shape=shape)


def _others(neurons: type[network.Neurons]) -> list[str]:
    """Vars beside parameters and state variables."""
    if not neurons.model.fires:
        return []
    states = {variable.name for variable in neurons.model.states}
    return [name for name in ("u", "k") if name not in states]


# -- models ---------------------------------------------------------------------------------------


class NeuronModel:
    """Steps a population in a Lava model, and records; the base of its two models.

    Vars of the population's parameters and state variables become attributes of it: its own begin
    with an underscore.
    """

    neurons: ClassVar[type[network.Neurons]]
    fixed = True
    integers = False

    # made by Lava
    time_step: int
    n_saturated: Any

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)  # type: ignore[call-arg]
        self._shape = tuple(proc_params["shape"])
        self._interval = int(proc_params["interval"])
        self._offset = int(proc_params["offset"])
        until = proc_params["until"]
        self._until = sys.maxsize if until is None else int(until)
        self._single = dict(proc_params["parameters"])
        if not self.fixed and "overflow" in self._single:
            self._single["overflow"] = "error"  # floating point knows no width
        self._recorder = Recorder(proc_params["record"], self._until)
        self._silence = np.zeros(self._shape, np.int32)

    @property
    def step_now(self) -> int:
        """Steps since the wave of the first sample arrived, from 0; -1 before and after all."""
        step = int(self.time_step) - 1 - self._offset
        return step if 0 <= step < self._until else -1

    @property
    def parameters(self) -> Any:
        """Parameters by their names, those in Vars as they are now."""
        arrays = {p.name: getattr(self, p.name) for p in self.neurons.model.parameters
                  if p.is_array}  # fmt: skip
        return SimpleNamespace(**self._single, **arrays)

    def update(self, drive: NDArray[Any]) -> None:
        """Take one step, record it, and send what comes of it."""
        step = self.step_now
        if step < 0:
            self.send(self._silence)
            return
        taken = self.take(drive, step % self._interval)
        record = self._recorder.write
        record("spikes", step, taken.spikes)
        for variable in self.neurons.model.states:
            record(f"state {variable.name}", step, getattr(self, variable.name))
        self._recorder.count("progress", step + 1)
        self.send(taken.spikes)

    def take(self, drive: NDArray[Any], in_sample: int) -> Step:
        """Take a step as the neuron model defines it."""
        model, p = self.neurons.model, self.parameters
        start = model.start(p)
        if self.integers:
            drive = np.asarray(drive, np.int64)
        if in_sample == 0:
            for name, values in start.items():
                getattr(self, name)[...] = values
        taken = model.step(p, {name: getattr(self, name) for name in start}, drive, in_sample)
        for name, values in taken.state.items():
            getattr(self, name)[...] = values
        for name in _others(self.neurons):
            getattr(self, name)[...] = taken.u if name == "u" else taken.spikes
        if taken.outside:
            self.n_saturated[0] += taken.outside
            self._recorder.count("saturations", int(self.n_saturated[0]))
        return taken

    def send(self, k: NDArray[Any]) -> None:
        """Send the payload of spikes; where nothing fires, the state."""
        if self.neurons.model.fires:
            self.s_out.send(self.neurons.model.payload(self.parameters, k))  # type: ignore[attr-defined]
        elif self.v_out.csp_ports:  # type: ignore[attr-defined]
            self.v_out.send(self.v)  # type: ignore[attr-defined]


class _FineModel(PyLoihiProcessModel):
    def run_spk(self) -> None:
        self.update(self.a_in.recv())


class _CoarseModel(PyAsyncProcessModel):
    """Applies the projections to spikes of earlier steps, acts, then takes this step's spikes.

    Asynchronous: models of the Loihi protocol report to a runtime service in each step, which costs
    most of their time. These run ahead as far as their channels allow, and the spikes that pass
    through the channels keep them in step. Sending before receiving keeps recurrent networks from
    waiting for themselves.
    """

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.time_step = 0
        self._dtype = np.int64 if self.fixed else np.float64
        shape = tuple(proc_params["shape"])
        self._nothing = np.zeros(shape, self._dtype)
        self._incoming = [
            (source, Arrivals(synapses, shape, self._dtype))
            for source, synapses in proc_params["incoming"]
        ]
        lags = [0] * len(proc_params["sources"])
        for source, arrivals in self._incoming:
            lags[source] = max(lags[source], arrivals.longest)
        self._received = [Sent(lag) for lag in lags]

    def run_async(self) -> None:
        ports = [getattr(self, f"s_in_{i}") for i in range(len(self._received))]
        for _ in range(self.num_steps):
            self.time_step += 1
            self.update(self._drive())
            for received, port in zip(self._received, ports, strict=True):
                received.add(port.recv())

    def _drive(self) -> Any:
        total: Any = self._nothing  # in the population's shape: the step counts what saturates
        if self.step_now >= 0:
            in_sample = self.step_now % self._interval
            for source, arrivals in self._incoming:
                total = total + arrivals(self._received[source], in_sample)
        return total


def twins(
    process: type[NeuronProcess], base: type[NeuronModel] = NeuronModel, *, integers: bool = False
) -> tuple[type[Any], type[Any]]:
    """Make the two models of a Process: on integers, and the same equations on float64.

    Parameters
    ----------
    process
        Of a neuron model. The results are to stand beside it in its module, named as it is, and
        ``Fixed`` and ``Float``.
    base
        Steps it.
    integers
        Whether the step takes integers only: then the second model, too, computes with them, and
        sends them as floats.

    Returns
    -------
    tuple
        The model with the tag ``fixed_pt``, the one with ``floating_pt``.
    """

    def made(*, fixed: bool) -> type[Any]:
        return _model(
            process, process.__name__, base, _FineModel, LoihiProtocol, {"a_in": np.int64},
            fixed=fixed, integers=integers,
        )  # fmt: skip

    return made(fixed=True), made(fixed=False)


def _model(
    process: type[NeuronProcess],
    name: str,
    base: type[NeuronModel],
    runs: type[Any],
    protocol: type[Any],
    inputs: dict[str, Any],
    *,
    fixed: bool,
    integers: bool,
) -> type[Any]:
    """A model of a Process, with the types of its ports and Vars."""
    declared = process.neurons.model
    suffix, label = ("Fixed", "fixed_pt") if fixed else ("Float", "floating_pt")

    def of(cls: Any, dtype: Any) -> LavaPyType:
        return LavaPyType(cls, dtype, precision=24) if fixed else LavaPyType(cls, float)

    attributes: dict[str, Any] = {
        "neurons": process.neurons, "fixed": fixed, "integers": integers, "base": base,
        "__module__": process.__module__, "__doc__": f"{process.__name__} on {label}.",
    }  # fmt: skip
    attributes |= {port: of(PyInPort.VEC_DENSE, dtype) for port, dtype in inputs.items()}
    state_sent = {} if declared.fires else {"v_out": np.int64}
    outputs = getattr(process, "spike_ports", ("s_out",)) if declared.fires else ()
    for port, dtype in (dict.fromkeys(outputs, np.int32) | state_sent).items():
        attributes[port] = of(PyOutPort.VEC_DENSE, dtype)
    names = [p.name for p in declared.parameters if p.is_array]
    names += [variable.name for variable in declared.states]
    for var in (*names, *_others(process.neurons)):
        attributes[var] = LavaPyType(np.ndarray, np.int64 if fixed or integers else float)
    attributes["n_saturated"] = LavaPyType(np.ndarray, np.int64)
    model = tag(label)(type(name + suffix, (base, runs), attributes))
    return implements(proc=process, protocol=protocol)(requires(CPU)(model))  # type: ignore[no-any-return]


@cache
def coarse(kind: type[NeuronProcess], n_sources: int) -> type[NeuronProcess]:
    """Class of Processes that hold a population and the projections into it.

    Parameters
    ----------
    kind
        A Process of neurons; beside it stand its models, see `twins`.
    n_sources
        Number of populations it receives spikes from: ports ``s_in_0``, ``s_in_1``, ...

    Returns
    -------
    type
        Takes the parameters of ``kind`` and ``sources`` (shapes, in order) and ``incoming``, a list
        of the source's index and a `pmsm_hw.lava.arithmetic.SynapseSet`. Its models stand beside
        ``kind`` in its module, where Lava looks for them.
    """
    name = f"Coarse{kind.__name__}{n_sources}"

    def add_inputs(self: Any, shape: tuple[int, ...]) -> None:
        for i, source in enumerate(self.proc_params["sources"]):
            setattr(self, f"s_in_{i}", InPort(shape=source))

    module = sys.modules[kind.__module__]
    members = {"_add_inputs": add_inputs, "__module__": module.__name__, "__doc__": kind.__doc__}
    process = type(name, (kind,), members)
    setattr(module, name, process)
    ports = {f"s_in_{i}": np.int32 for i in range(n_sources)}
    for twin in (getattr(module, kind.__name__ + suffix) for suffix in ("Fixed", "Float")):
        made = _model(
            process, name, twin.base, _CoarseModel, AsyncProtocol, ports,
            fixed=twin.fixed, integers=twin.integers,
        )  # fmt: skip
        setattr(module, made.__name__, made)
    return process
