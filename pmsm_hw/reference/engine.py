"""Running a batch: how many samples at a time, on which threads, population by population."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import flag, integer, items
from pmsm_hw.class_labels import class_labels
from pmsm_hw.errors import InputError
from pmsm_hw.network import Input, Network, Neurons, Readout
from pmsm_hw.operators import chw
from pmsm_hw.reference.components import Carried, Simulation, slices
from pmsm_hw.reference.inputs import Inputs, check_carried, units_of
from pmsm_hw.reference.layers import Layer, integer_type
from pmsm_hw.reference.results import (
    Activity,
    Evaluation,
    Probes,
    Result,
    distinct_steps,
    probed,
    recorded,
)
from pmsm_hw.workers import Workers, workers_for

__all__ = ["bytes_per_sample", "evaluate", "run", "simulate"]

_Item = TypeVar("_Item")
_Taken = TypeVar("_Taken")

LARGE_UPDATES = 2_000_000
"""Neuron updates from which threads, and importing numba for compiled loops, pay."""

THREAD_UPDATES = 1 << 21
"""Neuron updates of a population that a thread takes through all layers at a time."""

EVALUATED_SAMPLES = 256
"""Samples between two moves of the bar."""

KEPT_WEIGHTS = 1 << 26
"""Most weights of a network whose prepared form (4 to 16 bytes each) is kept with it."""


def run(
    network: Network,
    x: Inputs,
    n_steps: int = 1,
    *,
    record: Iterable[str] | None = None,
    probes: Probes | None = None,
    carry_state: bool = False,
    memory_mb: int = 1024,
) -> Result:
    """Run a batch of samples, exactly as the contract says.

    Parameters
    ----------
    network
        What to run.
    x
        Inputs, see `units_of`.
    n_steps
        Number of steps T.
    record
        Names of the populations whose spikes to return; all by default.
    probes
        State variables to return after each step, by population: ``{"a": ("u", "v")}``.
    carry_state
        Let each sample begin with the state that the one before left, spikes on their way included:
        as one long sample of all their steps, up to ``max_steps`` of the network, whose steps are
        counted on. Readouts then add up over the samples.
    memory_mb
        Memory to work in, beside inputs, results and the weights in floating point, MB: as many
        samples at a time as fit in it, one at least.

    Returns
    -------
    Result
        Spikes, readouts, logits, probed states.

    Raises
    ------
    InputError
        If the inputs do not suit the network, or a population has no such state.
    """
    units = units_of(network, x, n_steps)
    n_steps = int(n_steps)
    wanted = {p.name for p in network} if record is None else set(recorded(network, record))
    spikes: dict[str, list[NDArray[np.int32]]] = {}
    readouts: dict[str, list[NDArray[np.int64]]] = {}
    saturations: dict[str, int] = {}
    watched = probed(network, probes)
    probes_of: dict[str, dict[str, list[NDArray[np.int32]]]] = {}

    def take(activities: Iterator[Activity]) -> list[_OfPopulation]:
        taken = []
        for activity in activities:
            name = activity.name
            values: NDArray[Any] | None = None
            if isinstance(network[name], Readout):
                values = activity.state
            elif name in wanted:
                values = activity.spikes
            taken.append((name, values, activity.saturations, activity.probes))
        return taken

    for taken in _over_samples(
        network, units, n_steps, memory_mb, take, probes=watched, carry_state=carry_state
    ):
        for name, values, clipped, states in taken:
            if values is not None:
                kept = readouts if isinstance(network[name], Readout) else spikes
                kept.setdefault(name, []).append(values)
            if clipped:
                saturations[name] = saturations.get(name, 0) + clipped
            for variable, steps in states.items():
                probes_of.setdefault(name, {}).setdefault(variable, []).append(steps)
    order = [p.name for p in network.topological]
    ends = {name: _joined(readouts[name]) for name in order if name in readouts}
    return Result(
        spikes={name: _joined(spikes[name]) for name in order if name in spikes},
        readouts=ends,
        logits={p.name: ends[p.name] * p.scale / n_steps for p in network.readouts},
        saturations={name: saturations[name] for name in order if name in saturations},
        n_steps=n_steps,
        states={
            name: {variable: _joined(parts) for variable, parts in probes_of[name].items()}
            for name in order
            if name in probes_of
        },
    )


_OfPopulation: TypeAlias = tuple[str, NDArray[Any] | None, int, Mapping[str, NDArray[np.int32]]]
"""Its name, spikes or state, how many values left their width, and states after each step."""


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _over_samples(
    network: Network,
    units: Mapping[str, NDArray[np.int32]],
    n_steps: int,
    memory_mb: int,
    take: Callable[[Iterator[Activity]], _Taken],
    *,
    probes: Mapping[str, Sequence[str]] | None = None,
    carry_state: bool = False,
    at_most: int | None = None,
    progress: bool | None = False,
) -> Iterator[_Taken]:
    """Run all samples, as many at a time as the memory allows; yield what is taken of each run.

    In a large network each thread takes its samples through all populations, so that threads need
    not wait for each other; but not where samples carry on the state of those before.
    """
    memory_mb = integer(
        InputError, "run", "memory_mb", memory_mb, low=1, high=1 << 40, remedy="give whole MB"
    )
    batch = len(next(iter(units.values()))) if units else 1
    carried = None
    if flag(InputError, "run", "carry_state", carry_state):
        check_carried(network, batch, n_steps)
        carried = Carried()
    size = max(1, memory_mb * 1_000_000 // bytes_per_sample(network, n_steps, probes=probes))
    size = min(size, at_most or size)
    large, workers = _means(network, batch, n_steps)
    together = 1
    if workers.n > 1 and batch > 1 and carried is None:
        together = workers.n
        size = max(1, size // together)
        if not network.is_recurrent:  # whose matrix products are of one step: the wider the better
            widest = max(p.n_neurons for p in network) * n_steps
            size = min(size, max(1, THREAD_UPDATES // widest))
        rounds = -(-batch // (together * size))
        size = -(-batch // (together * rounds))
    layers = prepared(network, large, workers)
    alone = Workers(1) if together > 1 else workers

    def through(part: slice) -> _Taken:
        given = {name: values[part] for name, values in units.items()}
        return take(
            activities(
                network, layers, given, n_steps, alone, probes=probes, carried=carried, reuse=True
            )
        )

    parts = slices(batch, size) or [slice(0, 0)]
    # a bar moves on when all threads are done; without one nobody needs to wait for the others
    n_group = together * max(1, (at_most or len(parts)) // (together * size))
    groups = [parts[i : i + n_group] for i in range(0, len(parts), n_group)]
    for group in _with_bar(groups, progress):
        yield from workers.map(through, group) if together > 1 else map(through, group)


def bytes_per_sample(
    network: Network, n_steps: int, *, probes: Mapping[str, Sequence[str]] | None = None
) -> int:
    """Memory that `simulate` holds at its peak for each sample, about, in bytes.

    States, spikes, payloads and activity of the populations at work, converted to the types of
    `Activity`, and the payloads that later populations still need. Those of a cycle are at work
    together, with what comes from outside of it at each step.

    Parameters
    ----------
    network
        What would run.
    n_steps
        Steps T of each sample.
    probes
        State variables that are to be kept after each step, by population.
    """
    readers = {p.name: len(network.out_of(p.name)) for p in network}
    held: dict[str, int] = {}
    peak = 1
    for component in network.components:
        is_cycle = network.is_cycle(component)
        own, sent = 0, {}
        for population in component:
            name, n = population.name, population.n_neurons
            bound = network.bounds[name]
            n_spike = np.dtype(integer_type(bound.k_min, bound.k_max)).itemsize
            n_payload = np.dtype(integer_type(bound.payload_min, bound.payload_max)).itemsize
            n_kept = 0
            if name in (probes or {}) and isinstance(population, Neurons):
                n_kept = 8 * len(population.model.states)
            n_outer = 8 if is_cycle else 0
            own += n * (16 + n_steps * (n_spike + n_payload + 1 + 1 + 4 + n_kept + n_outer))
            sent[name] = n * n_steps * n_payload
        peak = max(peak, own + sum(held.values()))
        for projection in (q for p in component for q in network.into(p.name)):
            readers[projection.source] -= 1
            if readers[projection.source] == 0:
                held.pop(projection.source, None)
        held |= {name: size for name, size in sent.items() if readers[name]}
    return max(peak, sum(held.values()))


def evaluate(
    network: Network,
    dataset: tuple[Inputs, ArrayLike],
    n_steps: int = 1,
    *,
    readout: str | None = None,
    carry_state: bool = False,
    memory_mb: int = 1024,
    progress: bool | None = None,
) -> Evaluation:
    """Run a whole data set in bounded memory: accuracy, spikes and sparsity.

    Parameters
    ----------
    network
        What to run.
    dataset
        Inputs (see `units_of`) and labels ``(n_samples,)``, for example
        `pmsm_hw.datasets.LabelledImages`.
    n_steps
        Number of steps T.
    readout
        Whose logits count; may be left out where the network has one readout.
    carry_state, memory_mb
        As for `run`.
    progress
        Whether to show a bar on standard error; by default if that is a terminal.

    Raises
    ------
    InputError
        If the inputs do not suit the network, or labels are missing or no classes of the readout.
    """
    pair = items(InputError, "evaluate", "dataset", dataset, remedy="give (inputs, labels)")
    if len(pair) != 2:
        raise InputError(
            "evaluate",
            f"dataset holds {len(pair)} items, 2 are needed",
            remedy="give (inputs, labels)",
            actual=len(pair),
            limit=2,
        )
    x, given = pair
    units = units_of(network, x, n_steps)
    n_steps = int(n_steps)
    n_samples = len(next(iter(units.values()))) if units else 1
    labels = class_labels(network, readout, given, n_samples)
    fired, total = dict.fromkeys((p.name for p in network), 0), dict[str, int]()
    saturations: dict[str, int] = {}
    predictions = []

    def take(
        activities: Iterator[Activity],
    ) -> tuple[dict[str, NDArray[np.int64]], dict[str, tuple[int, int]], dict[str, int]]:
        states, spikes, clipped = {}, {}, {}
        for activity in activities:
            name = activity.name
            if isinstance(network[name], Readout):
                states[name] = activity.state
            else:
                spikes[name] = activity.counts()
            clipped[name] = activity.saturations
        return states, spikes, clipped

    passes = _over_samples(
        network, units, n_steps, memory_mb, take,
        carry_state=carry_state, at_most=EVALUATED_SAMPLES, progress=progress,
    )  # fmt: skip
    for states, spikes, clipped in passes:
        for name, (n_fired, n_spikes) in spikes.items():
            fired[name] += n_fired
            total[name] = total.get(name, 0) + n_spikes
        for name, n_clipped in clipped.items():
            if n_clipped:
                saturations[name] = saturations.get(name, 0) + n_clipped
        result = Result(
            spikes={},
            readouts=states,
            logits={p.name: states[p.name] * p.scale / n_steps for p in network.readouts},
            saturations={},
            n_steps=n_steps,
        )
        predictions.append(result.predictions(readout))
    predicted = np.concatenate(predictions)
    return Evaluation(
        n_samples=n_samples,
        n_steps=n_steps,
        accuracy=float(np.mean(predicted == labels)),
        predictions=predicted,
        spikes_per_sample={name: n / n_samples for name, n in total.items()},
        sparsity={
            name: 1 - fired[name] / (n_samples * n_steps * network[name].n_neurons)
            for name in total
        },
        saturations=saturations,
    )


def _with_bar(parts: Sequence[_Item], progress: bool | None) -> Iterable[_Item]:
    if progress is None:
        progress = sys.stderr.isatty()
    if not progress:
        return parts
    from rich.console import Console
    from rich.progress import track

    return track(parts, description="evaluate", console=Console(stderr=True), transient=True)


def simulate(
    network: Network,
    units: Mapping[str, NDArray[np.int32]],
    n_steps: int,
    *,
    probes: Mapping[str, Sequence[str]] | None = None,
    carried: Carried | None = None,
) -> Iterator[Activity]:
    """Yield the activity of each population, each after those that it receives from.

    Population by population, all steps at once, and spikes that nobody needs any more are dropped;
    populations that form a cycle run together, step by step.

    Parameters
    ----------
    network, n_steps
        As for `run`.
    units
        From `units_of`.
    probes
        From `probed`: state variables that activities are to tell after each step.
    carried
        To carry the state on from sample to sample: what the samples before, of an earlier call,
        left; it then holds what these leave.
    """
    batch = len(next(iter(units.values()))) if units else 1
    if carried is not None:
        check_carried(network, batch + carried.n_steps // n_steps, n_steps)
    large, workers = _means(network, batch, n_steps)
    yield from activities(
        network, prepared(network, large, workers), units, n_steps, workers,
        probes=probes, carried=carried,
    )  # fmt: skip


def _means(network: Network, batch: int, n_steps: int) -> tuple[bool, Workers]:
    """Whether compiled loops pay for so many samples, and the threads that do."""
    updates = batch * n_steps * sum(p.n_neurons for p in network)
    large = updates >= LARGE_UPDATES
    return large, workers_for(large)


def activities(
    network: Network,
    layers: Mapping[str, Layer],
    units: Mapping[str, NDArray[np.int32]],
    n_steps: int,
    workers: Workers,
    *,
    probes: Mapping[str, Sequence[str]] | None = None,
    carried: Carried | None = None,
    reuse: bool = False,
) -> Iterator[Activity]:
    """Simulate with what `_means` chose.

    ``reuse`` promises that each activity is read before the next one is asked for.
    """
    batch = len(next(iter(units.values()))) if units else 1
    inputs = {p.name: _channels_last(units[p.name], p) for p in network.inputs}
    return Simulation(
        network, layers, inputs, batch, n_steps, workers,
        probes=probes or {}, carried=carried, reuse=reuse,
    ).activities()  # fmt: skip


def prepared(network: Network, large: bool, workers: Workers) -> dict[str, Layer]:
    """Every population made ready to run; kept with the network for its next run."""
    kept: dict[bool, dict[str, Layer]] = network.__dict__.setdefault("_prepared_layers", {})
    if large in kept:
        return kept[large]
    neurons = [p for p in network if isinstance(p, Neurons)]
    cycles = {
        p.name: {p.name for p in component}
        for component in network.components
        if network.is_cycle(component)
        for p in component
    }
    made = workers.map(lambda p: Layer(network, p, large, cycles.get(p.name, ())), neurons)
    layers = {p.name: layer for p, layer in zip(neurons, made, strict=True)}
    if sum(q.weight.size for q in network.projections) <= KEPT_WEIGHTS:
        kept[large] = layers
    return layers


def _channels_last(units: NDArray[np.int32], population: Input) -> NDArray[Any]:
    """``(batch, n_steps, height, width, channels)``; static inputs stay views of one step."""
    lo, hi = population.levels
    once = distinct_steps(units)
    last = once.reshape(*once.shape[:2], *chw(population.shape)).transpose(0, 1, 3, 4, 2)
    last = np.ascontiguousarray(last, dtype=integer_type(lo, hi))
    return np.broadcast_to(last, (len(units), units.shape[1], *last.shape[2:]))
