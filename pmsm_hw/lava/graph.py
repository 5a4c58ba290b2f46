"""From a `Network` to a graph of Lava Processes. Needs lava-nc in this interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense as LavaDense
from lava.proc.sparse.process import Sparse as LavaSparse
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray

from pmsm_hw.datasets.events import to_frames
from pmsm_hw.errors import LavaError
from pmsm_hw.lava.arithmetic import payload_max, synapse_set
from pmsm_hw.lava.neurons import LAVA, check_models
from pmsm_hw.lava.options import Granularity, Tag, check_options
from pmsm_hw.lava.processes.populations import coarse
from pmsm_hw.lava.processes.sources import CoarseFrameSource, EventSource, FrameSource
from pmsm_hw.lava.processes.synapses import DelayedSynapses, DelayLine, Synapses
from pmsm_hw.network import Input, Network, Neurons, Projection
from pmsm_hw.operators import DenseForm, Form, lowered, magnitude
from pmsm_hw.reference import Inputs, check_steps, units_of

__all__ = ["LavaNetwork", "to_lava"]

SPARSE_BELOW = 0.1
"""Share of weights other than zero below which Lava's ``Sparse`` stands in for its ``Dense``."""

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
    populations
        Process of each population but the inputs, by name: ports ``s_out`` (neurons) or
        ``v_out`` (readouts), Vars ``v``, ``u``, ``k``, ``bias``, ...
    projections
        Processes of each projection, by name, in the order in which spikes pass them: a delay
        line if there is one, then synapses; one set per polarity for unit spikes. Empty if coarse.
    sources
        Process that plays each input, by name; see `attach_source` for your own.
    """

    network: Network
    n_steps: int
    granularity: Granularity
    tag: Tag
    populations: Mapping[str, AbstractProcess]
    projections: Mapping[str, tuple[AbstractProcess, ...]]
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
        assert isinstance(population, Neurons)
        return process.s_out if population.fires else process.v_out

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
            _connect(port, target)
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
        _connect(self.spikes(name), port)

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
            steps = self.network.hardware_steps(self.n_steps, n_samples) + 1
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
    record
        By population, ``.npy`` files its Process writes to: see `pmsm_hw.lava.worker`.

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
    """
    check_options(granularity, tag)
    units = None if x is None else units_of(network, x, n_steps)
    if units is None:
        check_steps(network, n_steps)
    check_models(network)
    until = n_steps * len(next(iter(units.values()))) if units else None
    record = record or {}
    populations: dict[str, AbstractProcess] = {}
    projections: dict[str, tuple[AbstractProcess, ...]] = {}
    inputs: dict[str, list[InPort]] = {p.name: [] for p in network.inputs}
    graph = LavaNetwork(
        network=network,
        n_steps=n_steps,
        granularity=granularity,
        tag=tag,
        populations=populations,
        projections=projections,
        _inputs=inputs,
    )
    for population in network.topological:
        if not isinstance(population, Neurons):
            continue
        files = {what: str(path) for what, path in record.get(population.name, {}).items()}
        populations[population.name] = _population(
            network, population, n_steps, until, granularity == "coarse", files
        )
    build = _connect_coarse if granularity == "coarse" else _connect_fine
    build(network, n_steps, tag, populations, projections, inputs)
    for name, frames in (units or {}).items():
        if inputs[name]:
            flat = frames.reshape(-1, *network[name].shape)
            kind = CoarseFrameSource if granularity == "coarse" else FrameSource
            graph.attach_source(name, kind(frames=flat, name=name).s_out)
    return graph


def _sources_of(network: Network, name: str) -> list[str]:
    return list(dict.fromkeys(p.source for p in network.into(name)))


def _population(
    network: Network,
    population: Neurons,
    n_steps: int,
    until: int | None,
    is_coarse: bool,
    files: dict[str, str],
) -> AbstractProcess:
    model = LAVA.of(population)
    common: dict[str, Any] = {
        **{p.name: getattr(population, p.name) for p in population.model.parameters},
        "shape": population.shape,
        "name": population.name,
        "interval": n_steps,
        "offset": network.depths[population.name],
        "until": until,
        "record": files,
    }
    kind: type[AbstractProcess] = model.process_class()
    if is_coarse:
        sources = _sources_of(network, population.name)
        common["sources"] = [network[s].shape for s in sources]
        common["incoming"] = [
            (sources.index(p.source), synapse_set(network, p))
            for p in network.into(population.name)
        ]
        kind = coarse(kind, len(sources))  # type: ignore[arg-type]
    return kind(**common)


def _connect_coarse(
    network: Network,
    n_steps: int,
    tag: Tag,
    populations: Mapping[str, AbstractProcess],
    projections: dict[str, tuple[AbstractProcess, ...]],
    inputs: Mapping[str, list[InPort]],
) -> None:
    for name, process in populations.items():
        for i, source in enumerate(_sources_of(network, name)):
            port = getattr(process, f"s_in_{i}")
            if source in inputs:
                inputs[source].append(port)
            else:
                _connect(populations[source].s_out, port)


def _connect_fine(
    network: Network,
    n_steps: int,
    tag: Tag,
    populations: Mapping[str, AbstractProcess],
    projections: dict[str, tuple[AbstractProcess, ...]],
    inputs: Mapping[str, list[InPort]],
) -> None:
    for projection in network.projections:
        source = network[projection.source]
        chains: list[tuple[str, str, int]] = [("", "s_out", 1)]
        if (
            isinstance(source, Neurons)
            and getattr(source, "spike_mode", "auto") == "unit"
            # what polarities add up to is shifted together
            and projection.weight_exponent >= 0
            and projection.delays is None
        ):
            gain_pos, gain_neg = source.unit_gains
            chains = [("+", "s_pos_out", gain_pos), ("-", "s_neg_out", -gain_neg)]
        made: list[AbstractProcess] = []
        for suffix, port_name, gain in chains:
            processes = _chain(network, projection, n_steps, tag, suffix, gain)
            for first, second in pairwise(processes):
                _connect(first.s_out, second.s_in)
            _connect(processes[-1].a_out, populations[projection.target].a_in)
            if isinstance(source, Input):
                inputs[source.name].append(processes[0].s_in)
            else:
                _connect(getattr(populations[source.name], port_name), processes[0].s_in)
            made += processes
        projections[projection.name] = tuple(made)


def _chain(
    network: Network, projection: Projection, n_steps: int, tag: Tag, suffix: str, gain: int
) -> list[AbstractProcess]:
    """Delay line (if needed) and synapses of one projection, for one polarity."""
    source, target = network[projection.source], network[projection.target]
    name = projection.name + suffix
    if projection.delays is not None:
        return [
            DelayedSynapses(
                synapses=synapse_set(network, projection), source=source.shape,
                target=target.shape, interval=n_steps, offset=network.depths[target.name],
                name=name,
            )
        ]  # fmt: skip
    chain: list[AbstractProcess] = []
    n_held = network.hardware_delay(projection) - 1
    if n_held > 0 or projection.delay > 0:
        chain.append(
            DelayLine(
                shape=source.shape,
                n_steps=n_held,
                delay=projection.delay,
                interval=n_steps,
                offset=network.depths[target.name],
                name=f"{name} delay",
            )
        )
    form = lowered(network, projection)
    most = payload_max(network, source.name)
    if suffix:  # unit spikes: counts are sent, the payload of one spike is in the weights
        bound = network.bounds[source.name]
        most = max(abs(bound.k_min), abs(bound.k_max))
        wider: Any = form.weight.astype(np.int64) * gain
        form = replace(form, weight=wider)
    synapses = _lava_dense(form, most, projection.weight_exponent, tag, name)
    chain.append(
        synapses
        or Synapses(
            form=form,
            payload_max=most,
            weight_exponent=projection.weight_exponent,
            source=source.shape,
            target=target.shape,
            name=name,
        )
    )
    return chain


def _lava_dense(
    form: Form, most: int, weight_exponent: int, tag: Tag, name: str
) -> AbstractProcess | None:
    """Lava's own ``Dense`` or ``Sparse``, if it is exact for these weights.

    Its fixed-point models keep 8 bits with the sign and drop the lowest of them, so that a signed
    8-bit ``w`` is given as ``2 * w`` and the sum shifted right by one. They add in 32 bits.
    """
    if not isinstance(form, DenseForm):
        return None
    weight = form.weight.astype(np.int64)
    largest = magnitude(form, max(most, 1))
    exact = (
        weight.min() >= -128
        and weight.max() <= 127
        and largest << max(1, weight_exponent) < 1 << 31
        and (tag == "fixed_pt" or weight_exponent >= 0)  # a floor that its float model lacks
    )
    if not exact:
        return None
    if tag == "floating_pt":  # the floating-point models know no exponent
        matrix: NDArray[Any] = (weight << weight_exponent).astype(np.float64)
        exponent = 0
    else:
        matrix = (weight * 2).astype(np.int32)
        exponent = weight_exponent - 1
    options: dict[str, Any] = {
        "num_message_bits": 24,
        "weight_exp": exponent,
        "sign_mode": SignMode.MIXED,
        "name": name,
    }
    if np.count_nonzero(weight) < SPARSE_BELOW * weight.size and weight.any():
        from scipy.sparse import csr_matrix

        return LavaSparse(weights=csr_matrix(matrix), **options)
    return LavaDense(weights=matrix, **options)


def _connect(source: OutPort, target: InPort) -> None:
    """Connect two ports of equal size; Lava's Dense has flat ones."""
    if tuple(source.shape) == tuple(target.shape):
        source.connect(target)
    else:
        source.reshape(tuple(target.shape)).connect(target)
