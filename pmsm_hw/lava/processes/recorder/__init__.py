"""What writes down what a process of Lava's own does: from its port, and from its Vars."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from pmsm_hw.lava.neurons import LavasOwn
from pmsm_hw.lava.recording import Recorder
from pmsm_hw.lava.timing import Timing
from pmsm_hw.network import Neurons


class Record(AbstractProcess):
    """Writes to files as the steps go by, see `pmsm_hw.lava.recording`.

    Ports
    -----
    s_in
        What the process sends.
    read_0, read_1, ...
        Of state variables, read at the end of each step.

    Parameters
    ----------
    shape
        Of the population.
    sends
        What comes in on ``s_in``: ``"spikes"``, or ``"state NAME"``.
    states
        Names of the state variables, in the order of the ports.
    limits
        By state variable and ``"spikes"``, a range: values out of it are counted as ``outside``.
    offset, until
        Hardware step of the population's first step, and number of its steps.
    record
        Files.
    name
        Of the Process.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        sends: str,
        states: tuple[str, ...],
        limits: Mapping[str, tuple[int, int]],
        offset: int,
        until: int,
        record: dict[str, str],
        name: str,
    ) -> None:
        super().__init__(
            sends=sends, states=states, limits=dict(limits), offset=offset, until=until,
            record=record, name=name,
        )  # fmt: skip
        self.s_in = InPort(shape=shape)
        for i in range(len(states)):
            setattr(self, f"read_{i}", RefPort(shape=shape))


class _RecordModel(PyLoihiProcessModel):
    s_in = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.until = int(proc_params["until"])
        self.offset = int(proc_params["offset"])
        self.sends = str(proc_params["sends"])
        self.states = tuple(proc_params["states"])
        self.limits = proc_params["limits"]
        self.recorder = Recorder(proc_params["record"], self.until)
        self.n_outside = 0

    @property
    def step(self) -> int:
        return int(self.time_step) - 1 - self.offset

    def run_spk(self) -> None:
        self.take(self.sends, self.s_in.recv())
        if 0 <= self.step < self.until:
            self.recorder.count("progress", self.step + 1)

    def post_guard(self) -> bool:
        return bool(self.states)

    def run_post_mgmt(self) -> None:
        for i, state in enumerate(self.states):
            self.take(f"state {state}", getattr(self, f"read_{i}").read())

    def take(self, what: str, values: Any) -> None:
        if not 0 <= self.step < self.until:
            return
        self.recorder.write(what, self.step, values)
        limits = self.limits.get(what.removeprefix("state "))
        if limits is not None:
            n = int(np.count_nonzero((values < limits[0]) | (values > limits[1])))
            if n:
                self.n_outside += n
                self.recorder.count("outside", self.n_outside)


@cache
def _record(n_states: int) -> type[AbstractProcess]:
    """Class of `Record` with so many ports of state variables, and its model."""
    module = sys.modules[Record.__module__]
    process = type(f"Record{n_states}", (Record,), {"__module__": module.__name__})
    ports = {f"read_{i}": LavaPyType(PyRefPort.VEC_DENSE, np.int64) for i in range(n_states)}
    model: Any = type(
        f"Record{n_states}Model", (_RecordModel,), ports | {"__module__": module.__name__}
    )
    model = implements(proc=process, protocol=LoihiProtocol)(requires(CPU)(tag("fixed_pt")(model)))
    setattr(module, process.__name__, process)
    setattr(module, model.__name__, model)
    return process


def record_of(
    process: Any, population: Neurons, own: LavasOwn, timing: Timing, files: dict[str, str]
) -> AbstractProcess:
    """Attach what writes down what a process does.

    Parameters
    ----------
    process
        Lava's.
    population
        For which it stands.
    own
        What is known of it.
    timing
        Of the graph.
    files
        To write to, see `pmsm_hw.lava.recording`.
    """
    states = tuple(
        state
        for state in own.states
        if f"state {state}" != own.sends and (f"state {state}" in files or state in own.limits)
    )
    made = _record(len(states))(
        shape=population.shape,
        sends=own.sends,
        states=states,
        limits=own.limits,
        offset=timing.depths[population.name],
        until=timing.n_steps * (timing.n_samples or 1),
        record=files,
        name=f"record of {population.name}",
    )
    process.s_out.connect(made.s_in)
    for i, state in enumerate(states):
        getattr(made, f"read_{i}").connect_var(getattr(process, own.states[state]))
    return made
