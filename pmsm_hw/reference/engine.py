"""Running a batch: how many samples at a time, on which threads, population by population."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import integer, items
from pmsm_hw.class_labels import class_labels
from pmsm_hw.errors import InputError
from pmsm_hw.network import Input, Network, Neurons, Readout
from pmsm_hw.operators import chw
from pmsm_hw.reference.inputs import Inputs, units_of
from pmsm_hw.reference.layers import Layer, Trace, integer_type
from pmsm_hw.reference.results import Activity, Evaluation, Result, distinct_steps, recorded
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

BLOCK_UPDATES = 1 << 20
"""Neuron updates whose input is held at a time: a few MB."""

KEPT_WEIGHTS = 1 << 26
"""Most weights of a network whose prepared form (4 to 16 bytes each) is kept with it."""


def run(
    network: Network,
    x: Inputs,
    n_steps: int = 1,
    *,
    record: Iterable[str] | None = None,
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
    memory_mb
        Memory to work in, beside inputs, results and the weights in floating point, MB: as many
        samples at a time as fit in it, one at least.

    Returns
    -------
    Result
        Spikes, readouts, logits.

    Raises
    ------
    InputError
        If the inputs do not suit the network.
    """
    units = units_of(network, x, n_steps)
    n_steps = int(n_steps)
    wanted = {p.name for p in network} if record is None else set(recorded(network, record))
    spikes: dict[str, list[NDArray[np.int32]]] = {}
    readouts: dict[str, list[NDArray[np.int64]]] = {}
    saturations: dict[str, int] = {}

    def take(activities: Iterator[Activity]) -> list[tuple[str, NDArray[Any] | None, int]]:
        taken = []
        for activity in activities:
            name = activity.name
            values: NDArray[Any] | None = None
            if isinstance(network[name], Readout):
                values = activity.state
            elif name in wanted:
                values = activity.spikes
            taken.append((name, values, activity.saturations))
        return taken

    for taken in _over_samples(network, units, n_steps, memory_mb, take):
        for name, values, clipped in taken:
            if values is not None:
                kept = readouts if isinstance(network[name], Readout) else spikes
                kept.setdefault(name, []).append(values)
            if clipped:
                saturations[name] = saturations.get(name, 0) + clipped
    states = {name: _joined(parts) for name, parts in readouts.items()}
    return Result(
        spikes={name: _joined(parts) for name, parts in spikes.items()},
        readouts=states,
        logits={p.name: states[p.name] * p.scale / n_steps for p in network.readouts},
        saturations=saturations,
        n_steps=n_steps,
    )


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _over_samples(
    network: Network,
    units: Mapping[str, NDArray[np.int32]],
    n_steps: int,
    memory_mb: int,
    take: Callable[[Iterator[Activity]], _Taken],
    *,
    at_most: int | None = None,
    progress: bool | None = False,
) -> Iterator[_Taken]:
    """Run all samples, as many at a time as the memory allows; yield what is taken of each run.

    In a large feed-forward network each thread takes its samples through all populations, so that
    threads need not wait for each other.
    """
    memory_mb = integer(
        InputError, "run", "memory_mb", memory_mb, low=1, high=1 << 40, remedy="give whole MB"
    )
    batch = len(next(iter(units.values()))) if units else 1
    size = max(1, memory_mb * 1_000_000 // bytes_per_sample(network, n_steps))
    size = min(size, at_most or size)
    large, workers = _means(network, batch, n_steps)
    together = 1
    if workers.n > 1 and batch > 1 and not network.is_recurrent:
        together = workers.n
        widest = max(p.n_neurons for p in network) * n_steps
        size = min(max(1, size // together), max(1, THREAD_UPDATES // widest))
        rounds = -(-batch // (together * size))
        size = -(-batch // (together * rounds))
    layers = prepared(network, large, workers)
    alone = Workers(1) if together > 1 else workers

    def through(part: slice) -> _Taken:
        given = {name: values[part] for name, values in units.items()}
        return take(activities(network, layers, given, n_steps, alone, reuse=True))

    parts = _slices(batch, size) or [slice(0, 0)]
    # a bar moves on when all threads are done; without one nobody needs to wait for the others
    n_group = together * max(1, (at_most or len(parts)) // (together * size))
    groups = [parts[i : i + n_group] for i in range(0, len(parts), n_group)]
    for group in _with_bar(groups, progress):
        yield from workers.map(through, group) if together > 1 else map(through, group)


def bytes_per_sample(network: Network, n_steps: int) -> int:
    """Memory that `simulate` holds at its peak for each sample, about, in bytes.

    States, spikes, payloads and activity of the population at work, converted to the types of
    `Activity`, and the payloads that later populations still need.

    Parameters
    ----------
    network
        What would run.
    n_steps
        Steps T of each sample.
    """
    readers = {p.name: len(network.out_of(p.name)) for p in network}
    held: dict[str, int] = {}
    peak = 1
    for population in network.topological:
        name, n = population.name, population.n_neurons
        bound = network.bounds[name]
        n_spike = np.dtype(integer_type(bound.k_min, bound.k_max)).itemsize
        n_payload = np.dtype(integer_type(bound.payload_min, bound.payload_max)).itemsize
        own = n * (16 + n_steps * (n_spike + n_payload + 1 + 1 + 4))
        peak = max(peak, own + sum(held.values()))
        if network.is_recurrent:
            held[name] = own
            continue
        for projection in network.into(name):
            readers[projection.source] -= 1
            if readers[projection.source] == 0:
                held.pop(projection.source)
        if readers[name]:
            held[name] = n * n_steps * n_payload
    return max(peak, sum(held.values()))


def evaluate(
    network: Network,
    dataset: tuple[Inputs, ArrayLike],
    n_steps: int = 1,
    *,
    readout: str | None = None,
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
    memory_mb
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
        network, units, n_steps, memory_mb, take, at_most=EVALUATED_SAMPLES, progress=progress
    )
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
    network: Network, units: Mapping[str, NDArray[np.int32]], n_steps: int
) -> Iterator[Activity]:
    """Yield the activity of each population, in topological order.

    Feed-forward networks run population by population, all steps at once, and spikes that nobody
    needs any more are dropped; recurrent ones run step by step.

    Parameters
    ----------
    network, n_steps
        As for `run`.
    units
        From `units_of`.
    """
    batch = len(next(iter(units.values()))) if units else 1
    large, workers = _means(network, batch, n_steps)
    yield from activities(network, prepared(network, large, workers), units, n_steps, workers)


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
    reuse: bool = False,
) -> Iterator[Activity]:
    """Simulate with what `_means` chose.

    ``reuse`` promises that each activity is read before the next one is asked for.
    """
    batch = len(next(iter(units.values()))) if units else 1
    inputs = {p.name: _channels_last(units[p.name], p) for p in network.inputs}
    if network.is_recurrent:
        yield from _simulate_by_step(network, layers, inputs, batch, n_steps)
        return
    readers = {p.name: len(network.out_of(p.name)) for p in network}
    payloads: dict[str, NDArray[Any]] = {}
    for population in network.topological:
        name = population.name
        if isinstance(population, Input):
            payloads[name] = inputs[name]
            yield Activity(population, inputs[name], None, {})
            continue
        layer = layers[name]
        sources = [distinct_steps(payloads[q.source]) for q in layer.projections]
        trace = layer.trace(batch, n_steps, reuse=reuse)

        def advance(
            part: slice,
            layer: Layer = layer,
            sources: list[NDArray[Any]] = sources,
            trace: Trace = trace,
        ) -> None:
            trace.advance(part, layer.drive([source[part] for source in sources]))

        size = min(BLOCK_UPDATES // (n_steps * population.n_neurons), -(-batch // workers.n))
        workers.map(advance, _slices(batch, size))
        for projection in layer.projections:
            readers[projection.source] -= 1
            if readers[projection.source] == 0:
                payloads.pop(projection.source)
        del sources, advance
        if readers[name]:
            payloads[name] = layer.payload(trace.spikes)
        yield trace.activity()


def _simulate_by_step(
    network: Network,
    layers: Mapping[str, Layer],
    inputs: Mapping[str, NDArray[Any]],
    batch: int,
    n_steps: int,
) -> Iterator[Activity]:
    traces = {name: layer.trace(batch, n_steps) for name, layer in layers.items()}
    payloads: dict[str, list[NDArray[Any]]] = {name: [] for name in layers}
    for name, values in inputs.items():
        payloads[name] = [values[:, t : t + 1] for t in range(n_steps)]
    everything = slice(0, batch)
    for t in range(n_steps):
        for population in network.topological:
            if isinstance(population, Input):
                continue
            layer, trace = layers[population.name], traces[population.name]
            sent = [
                payloads[q.source][t - q.delay] if t >= q.delay else None for q in layer.projections
            ]
            trace.advance(everything, layer.drive(sent), t)
            payloads[population.name].append(layer.payload(trace.spikes[:, t : t + 1]))
    for population in network.topological:
        if isinstance(population, Input):
            yield Activity(population, inputs[population.name], None, {})
        else:
            yield traces[population.name].activity()


def prepared(network: Network, large: bool, workers: Workers) -> dict[str, Layer]:
    """Every population made ready to run; kept with the network for its next run."""
    kept: dict[bool, dict[str, Layer]] = network.__dict__.setdefault("_prepared_layers", {})
    if large in kept:
        return kept[large]
    neurons = [p for p in network if isinstance(p, Neurons)]
    made = workers.map(lambda p: Layer(network, p, large), neurons)
    layers = {p.name: layer for p, layer in zip(neurons, made, strict=True)}
    if sum(q.weight.size for q in network.projections) <= KEPT_WEIGHTS:
        kept[large] = layers
    return layers


def _slices(n: int, size: int) -> list[slice]:
    size = max(1, size)
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def _channels_last(units: NDArray[np.int32], population: Input) -> NDArray[Any]:
    """``(batch, n_steps, height, width, channels)``; static inputs stay views of one step."""
    lo, hi = population.levels
    once = distinct_steps(units)
    last = np.moveaxis(once.reshape(*once.shape[:2], *chw(population.shape)), -3, -1)
    last = np.ascontiguousarray(last, dtype=integer_type(lo, hi))
    return np.broadcast_to(last, (len(units), units.shape[1], *last.shape[2:]))
