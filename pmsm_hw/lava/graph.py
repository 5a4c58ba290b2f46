"""From a `Network` to a graph of Lava Processes. Needs lava-nc in this interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from numpy.typing import NDArray

from pmsm_hw.datasets.events import to_frames
from pmsm_hw.errors import LavaError
from pmsm_hw.lava.neurons import LAVA, LavasOwn, check_models, lavas_own
from pmsm_hw.lava.options import Choice, Granularity, Tag, check_options
from pmsm_hw.lava.processes.recorder import record_of
from pmsm_hw.lava.processes.sources import CoarseFrameSource, EventSource, FrameSource
from pmsm_hw.lava.timing import Timing, timing_of
from pmsm_hw.lava.wiring import connect, population_of, wire_coarse, wire_fine
from pmsm_hw.network import Input, Network, Neurons
from pmsm_hw.reference import Inputs, check_carried, check_steps, units_of

__all__ = ["LavaNetwork", "to_lava"]

CHANNEL_SIZE = 64
"""Messages a Lava channel holds at most (Lava's default): how far a process can run ahead."""

CHANNEL_BYTES = 1 << 24
"""Shared memory that a channel takes at most, as long as two messages fit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LavaNetwork:
    """A network as Lava Processes, named after its populations and projections.

    Made by `to_lava`. Everything in it is an ordinary Lava Process: connect ports, attach monitors,
    then call `run` (or Lava's own ``run`` with `run_config`) and `stop`.

    Parameters
    ----------
    network
        What it computes.
    n_steps
        Steps T of each sample.
    granularity, tag
        As given to `to_lava`.
    timing
        When populations begin.
    populations
        Process of each population but the inputs, by name: ports ``s_out`` (neurons) or
        ``v_out`` (readouts), Vars ``v``, ``u``, ``k``, ``bias``, ...; ports and Vars of Lava's own
        are Lava's.
    projections
        Processes of each projection, by name, in the order in which spikes pass them: a delay
        line if there is one, then synapses; one set per polarity for unit spikes. None where an
        input is passed on as it is; all are empty if coarse.
    kinds
        By population, module and name of its Process: ours, or Lava's own.
    sources
        Process that plays each input, by name; see `attach_source` for your own.
    """

    network: Network
    n_steps: int
    granularity: Granularity
    tag: Tag
    timing: Timing
    populations: Mapping[str, AbstractProcess]
    projections: Mapping[str, tuple[AbstractProcess, ...]]
    kinds: Mapping[str, str]
    sources: dict[str, AbstractProcess] = field(default_factory=dict)
    _inputs: Mapping[str, list[InPort]] = field(default_factory=dict)

    def spikes(self, name: str) -> OutPort:
        """Port on which a population or source sends its payloads (a readout: its state).

        Parameters
        ----------
        name
            Of a population.

        Raises
        ------
        LavaError
            If an input has no source yet.
        """
        population = self.network[name]
        if isinstance(population, Input):
            if name not in self.sources:
                raise LavaError(
                    population.subject,
                    "has no source, 1 is needed",
                    remedy="call attach_source, or give to_lava the inputs",
                    actual=0,
                    limit=1,
                )
            return self.sources[name].s_out
        process = self.populations[name]
        return getattr(process, "v_out", None) or process.s_out

    def attach_source(self, name: str, port: OutPort) -> None:
        """Let a port of your own feed an input.

        Parameters
        ----------
        name
            Of the input.
        port
            Sends the input's values, in its shape: in Lava's time step ``1 + t + b * n_steps``
            those of step ``t`` (from 0) of sample ``b``.

        Raises
        ------
        LavaError
            If the input has a source already, or the shape differs.
        """
        population = self.network[name]
        if not isinstance(population, Input) or name in self.sources:
            raise LavaError(
                population.subject,
                "has a source already, the limit is 1"
                if isinstance(population, Input)
                else f"is of kind {population.kind}, sources feed inputs",
                remedy="attach each source once, to an input",
                actual=population.kind,
                limit="input",
            )
        if tuple(port.shape) != population.shape:
            raise LavaError(
                population.subject,
                f"port sends shape {tuple(port.shape)}, the input has {population.shape}",
                remedy="reshape the port first",
                actual=tuple(port.shape),
                limit=population.shape,
            )
        for target in self._inputs[name]:
            connect(port, target)
        self.sources[name] = port.process

    def attach_events(
        self,
        name: str,
        recordings: Sequence[NDArray[Any]],
        *,
        window_us: int | None = None,
        start_us: int | None = None,
        clip: int | None = None,
    ) -> None:
        """Let recordings of an event camera feed an input, step by step, one after the other.

        One event is one unit, so the input's scale must be 1.

        Parameters
        ----------
        name
            Of the input, whose shape is ``(2, height, width)``.
        recordings
            Events of each sample, with the fields of tonic's event type.
        window_us, start_us
            Length of a step and start of the first, see `pmsm_hw.datasets.to_frames`; by default
            each recording is cut into ``n_steps`` equal steps.
        clip
            Largest number of events of a pixel and step that is sent; None: all.

        Raises
        ------
        InputError
            If events are not what they should be, or more in a pixel and step than the input has
            levels.
        LavaError
            If the input has a source already, no such shape, or another scale.
        """
        population = self.network[name]
        if isinstance(population, Input) and population.scale != 1:
            raise LavaError(
                population.subject,
                f"has scale {population.scale:g}, one event is one unit (scale 1)",
                remedy="give frames, x = np.stack([to_frames(...), ...]), to to_lava",
                actual=population.scale,
                limit=1,
            )
        if len(population.shape) != 3 or population.shape[0] != 2:
            raise LavaError(
                population.subject,
                f"has shape {population.shape}, events have (2, height, width)",
                remedy="use an input of the sensor's shape",
                actual=population.shape,
                limit="(2, height, width)",
            )
        _, height, width = shape = population.shape
        for events in recordings:  # so that nothing is wrong once Lava runs
            frames = to_frames(
                events, self.n_steps, (width, height, 2), window_us=window_us, start_us=start_us
            )
            units = (frames if clip is None else np.minimum(frames, clip)).astype(np.int32)
            units_of(self.network, self._only(name, units[None]), self.n_steps)
        source = EventSource(
            recordings=recordings, shape=shape, n_steps=self.n_steps, window_us=window_us,
            start_us=start_us, clip=clip, name=name,
        )  # fmt: skip
        self.attach_source(name, source.s_out)

    def _only(self, name: str, frames: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Inputs of which only one matters."""
        values = {
            p.name: np.full((1, *p.shape), p.levels[0], np.int32) for p in self.network.inputs
        }
        return values | {name: frames}

    def attach_sink(self, name: str, port: InPort) -> None:
        """Send the payloads of a population or source (a readout: its state) to your own port.

        Parameters
        ----------
        name
            Of the population.
        port
            Of the population's shape.
        """
        connect(self.spikes(name), port)

    def run_config(self) -> Loihi2SimCfg:
        """Lava's run configuration that selects the models this graph was made for."""
        return Loihi2SimCfg(select_tag=self.tag)

    def compile_config(self) -> dict[str, Any]:
        """Lava's compile configuration: channels that fit into shared memory."""
        largest = 8 * max(p.n_neurons for p in self.network)
        return {"pypy_channel_size": min(CHANNEL_SIZE, max(2, CHANNEL_BYTES // largest))}

    def components(self) -> list[AbstractProcess]:
        """One Process of each connected part of the graph: Lava runs one part at a time."""
        import networkx as nx

        parts = nx.connected_components(self.network.to_networkx().to_undirected())
        return [
            self.populations[name]
            for part in parts
            for name in sorted(part)
            if name in self.populations and name == min(n for n in part if n in self.populations)
        ]

    def run(self, n_samples: int = 1) -> None:
        """Run for so many samples; call again to go on.

        The first call takes as many steps more as the waves need to pass the network. An exception
        in a model makes Lava hang here: `pmsm_hw.lava.run` runs in a child and does not.

        Parameters
        ----------
        n_samples
            Samples to run, at least 1.
        """
        steps = self.n_steps * n_samples
        if not any(p.is_compiled for p in self.populations.values()):
            steps += max(self.timing.depths.values())
        for process in self.components():
            process.run(
                condition=RunSteps(num_steps=steps),
                run_cfg=self.run_config(),
                compile_config=self.compile_config(),
            )

    def stop(self) -> None:
        """End the Processes; read Vars and monitors before."""
        for process in self.components():
            process.stop()


def to_lava(
    network: Network,
    x: Inputs | None = None,
    n_steps: int = 1,
    *,
    granularity: Granularity = "fine",
    tag: Tag = "fixed_pt",
    neurons: Choice = "auto",
    carry_state: bool = False,
    record: Mapping[str, Mapping[str, Path]] | None = None,
) -> LavaNetwork:
    """Build the Lava graph of a network.

    Parameters
    ----------
    network
        What to build.
    x
        Inputs as for `pmsm_hw.reference.run`; a source for each input plays them, sample after
        sample. Left out, the inputs wait for `LavaNetwork.attach_source`.
    n_steps
        Steps T of each sample; populations start anew every T steps.
    granularity
        ``"fine"``: one Process per population and per projection, the graph to look into.
        ``"coarse"``: a population and the projections into it are one Process, and processes run
        ahead of each other, without Lava's barrier at each step: several times faster. Spikes are
        graded there, Lava's monitors of Vars need ``"fine"``.
    tag
        ``"fixed_pt"``: exact integers. ``"floating_pt"``: float64 twins.
    neurons
        Whose processes stand for neurons in a fine graph on integers: ``"auto"``: Lava's own where
        they are proven to compute the same, else ours; ``"own"``: ours; ``"lava"``: Lava's own
        (sigma-delta neurons of which must stay within 24 bits: look at their Vars).
    carry_state
        Whether each sample begins with the state that the one before left.
    record
        By population, ``.npy`` files its Process writes to: see `pmsm_hw.lava.recording`.

    Returns
    -------
    LavaNetwork
        Not yet compiled.

    Raises
    ------
    InputError
        If inputs or options do not suit the network.
    NeuronModelError
        If there is no Process for the model of one of its populations.
    LavaError
        If Lava's own processes are wanted, and differ.
    """
    check_options(granularity, tag, neurons)
    units = None if x is None else units_of(network, x, n_steps)
    if units is None:
        check_steps(network, n_steps)
    check_models(network)
    n_samples = len(next(iter(units.values()))) if units else None
    if carry_state and n_samples is not None:
        check_carried(network, n_samples, n_steps)
    timing = timing_of(network, granularity, n_steps, n_samples, carry_state=carry_state)
    choice: Choice = neurons if tag == "fixed_pt" else "own"
    own = lavas_own(network, timing, choice)
    populations: dict[str, AbstractProcess] = {}
    projections: dict[str, tuple[AbstractProcess, ...]] = {}
    inputs: dict[str, list[InPort]] = {p.name: [] for p in network.inputs}
    graph = LavaNetwork(
        network=network,
        n_steps=n_steps,
        granularity=granularity,
        tag=tag,
        timing=timing,
        populations=populations,
        projections=projections,
        kinds={
            p.name: (own.get(p.name) or LAVA.of(p)).title for p in network if isinstance(p, Neurons)
        },
        _inputs=inputs,
    )
    for population in network.topological:
        if isinstance(population, Neurons):
            files = {w: str(path) for w, path in (record or {}).get(population.name, {}).items()}
            populations[population.name] = (
                _lavas_population(population, own[population.name], timing, files)
                if population.name in own
                else population_of(network, population, timing, files)
            )
    if granularity == "coarse":
        wire_coarse(network, populations, inputs)
    else:
        wire_fine(network, timing, tag, populations, projections, inputs)
    for name, frames in (units or {}).items():
        if inputs[name]:
            flat = frames.reshape(-1, *network[name].shape)
            kind = CoarseFrameSource if granularity == "coarse" else FrameSource
            graph.attach_source(name, kind(frames=flat, name=name).s_out)
    return graph


def _lavas_population(
    population: Neurons, own: LavasOwn, timing: Timing, files: dict[str, str]
) -> AbstractProcess:
    """A process of Lava's own; with another one that writes down what it does."""
    kind = getattr(import_module(own.module), own.process)
    process = kind(shape=population.shape, **own.arguments)
    process.name = population.name  # not all take one
    if files:
        record_of(process, population, own, timing, files)
    return process
