"""The reference: what a network computes, batched and exact.

The contract is in `pmsm_hw.network`; this is its plainest executable form. Other backends are
checked against it, spike for spike.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import array_of, as_integer, instance, integer, items, names, shown
from pmsm_hw.class_labels import class_labels
from pmsm_hw.errors import InputError
from pmsm_hw.network import (
    STATE_MAX,
    STATE_MIN,
    Input,
    Network,
    PolarityMultiSpike,
    Population,
    Readout,
)
from pmsm_hw.operators import Operator, chw, exact_dtype, lowered
from pmsm_hw.records import Comparable
from pmsm_hw.workers import Workers, scratch, workers_for

__all__ = [
    "Activity",
    "Evaluation",
    "Result",
    "best_index",
    "bytes_per_sample",
    "check_steps",
    "differing_readouts",
    "differing_spikes",
    "evaluate",
    "inputs_of",
    "recorded",
    "run",
    "simulate",
    "units_of",
]

Inputs: TypeAlias = ArrayLike | Mapping[str, ArrayLike]
_Item = TypeVar("_Item")
_Taken = TypeVar("_Taken")


def best_index(
    logits: Mapping[str, NDArray[np.float64]], readout: str | None = None
) -> NDArray[np.int64]:
    """Index of the largest logit of each sample; the first one on ties.

    Parameters
    ----------
    logits
        By readout, ``(batch, *shape)``.
    readout
        Name; may be left out where there is one readout.

    Returns
    -------
    ndarray
        ``(batch,)`` int64.

    Raises
    ------
    InputError
        If no name is given for several readouts (or none), or there is no such readout.
    """
    if readout is None and len(logits) == 1:
        (readout,) = logits
    if not isinstance(readout, str) or readout not in logits:
        raise InputError(
            "predictions",
            f"of readout {shown(readout)} were asked for, there are {len(logits)} readouts",
            remedy=f"name one of {', '.join(logits) or '(none)'}",
            actual=readout,
            limit=tuple(logits),
        )
    values = logits[readout]
    best: NDArray[np.int64] = np.argmax(values.reshape(len(values), -1), axis=1)
    return best


@dataclass(frozen=True, kw_only=True, eq=False)
class Result(Comparable):
    """What a network answered.

    Parameters
    ----------
    spikes
        By population, ``(batch, n_steps, *shape)`` int32: the ``k`` (for inputs: the values).
    readouts
        By readout, ``(batch, *shape)`` int64: ``v`` after the last step.
    logits
        By readout, ``(batch, *shape)`` float64: ``readouts * scale / n_steps``.
    saturations
        By population, how many neurons x steps x samples were clipped to the state's width.
    n_steps
        Number of steps T.
    """

    spikes: Mapping[str, NDArray[np.int32]]
    readouts: Mapping[str, NDArray[np.int64]]
    logits: Mapping[str, NDArray[np.float64]]
    saturations: Mapping[str, int]
    n_steps: int

    def predictions(self, readout: str | None = None) -> NDArray[np.int64]:
        """Index of the largest logit of each sample, ``(batch,)``; the first one on ties.

        Parameters
        ----------
        readout
            Name; may be left out where the network has one readout.
        """
        return best_index(self.logits, readout)

    def __repr__(self) -> str:
        spikes, readouts = (
            ", ".join(f"{name}[{'x'.join(map(str, a.shape))}]" for name, a in arrays.items())
            for arrays in (dict[str, NDArray[Any]](self.spikes), dict(self.readouts))
        )
        return f"<Result of {self.n_steps} steps: spikes {spikes}; readouts {readouts}>"


class Activity:
    """What one population did over all samples and steps.

    Parameters
    ----------
    population
        Whose.
    spikes, active
        ``(batch, n_steps, height, width, channels)``, integer and bool.
    state
        ``(batch, height, width, channels)``, integer-valued.
    saturations
        Neurons x steps x samples clipped to the state's width.
    """

    def __init__(
        self,
        population: Population,
        spikes: NDArray[Any],
        active: NDArray[np.bool_] | None,
        state: NDArray[Any] | None,
        saturations: int = 0,
    ) -> None:
        self.name = population.name
        self.saturations = saturations
        self._population = population
        self._spikes, self._active, self._state = spikes, active, state

    @cached_property
    def spikes(self) -> NDArray[np.int32]:
        """``(batch, n_steps, *shape)`` int32: the ``k``; values for inputs, zeros for readouts."""
        return self._channels_first(self._spikes, np.int32)

    @cached_property
    def active(self) -> NDArray[np.bool_]:
        """Which neuron updates were active, ``(batch, n_steps, *shape)`` bool.

        An update is active if its summed input plus bias was not zero, or if it fired. For an
        input: values other than zero.
        """
        if self._active is None:
            return np.not_equal(self.spikes, 0)
        return self._channels_first(self._active, np.bool_)

    @cached_property
    def state(self) -> NDArray[np.int64]:
        """``(batch, *shape)`` int64: ``v`` after the last step (zeros for an input)."""
        if self._state is None:
            return np.zeros((len(self._spikes), *self._population.shape), np.int64)
        # a copy: states that are int64 already lie where the thread's next ones will
        return self._channels_first(self._state, np.int64).copy()

    @property
    def channels_last(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Spikes and active updates as they were computed, without a copy.

        ``(batch, n_steps, height, width, channels)``, spikes in the smallest type that suits.
        """
        active = np.not_equal(self._spikes, 0) if self._active is None else self._active
        return self._spikes, active

    def counts(self) -> tuple[int, int]:
        """Neurons x steps x samples that fired, and the sum of their absolute spikes."""
        absolute = np.abs(self._spikes.astype(np.int32, copy=False))
        return int(np.count_nonzero(absolute)), int(absolute.sum(dtype=np.int64))

    def _channels_first(self, array: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
        shape = (*array.shape[:-3], *self._population.shape)
        once = _distinct_steps(array)  # a static input stays a view of its one step
        first = np.ascontiguousarray(np.moveaxis(once, -1, -3), dtype=dtype)
        return np.broadcast_to(first.reshape(*once.shape[:-3], *self._population.shape), shape)


def units_of(network: Network, x: Inputs, n_steps: int) -> dict[str, NDArray[np.int32]]:
    """Bring inputs into units and into one shape.

    Parameters
    ----------
    network
        Says shapes, scales and levels.
    x
        One array for a network with one input, else a mapping by name. Floats are real values and
        are encoded (5.0 is ``5.0 / scale`` units); integers are units already (5 is 5 units) and
        must lie in the input's levels; bools say neither and are refused. Shape
        ``(batch, *shape)`` is a static input, shown at each step; ``(batch, n_steps, *shape)``
        gives one frame a step.
    n_steps
        Number of steps T.

    Returns
    -------
    dict
        By input, ``(batch, n_steps, *shape)`` int32 (a read-only view for static inputs).

    Raises
    ------
    InputError
        If a name, shape, value or the number of steps does not suit the network.
    """
    given = inputs_of(network, x, n_steps)
    return {p.name: _units(p, given[p.name], int(n_steps)) for p in network.inputs}


def inputs_of(network: Network, x: Inputs, n_steps: int) -> dict[str, NDArray[Any]]:
    """Check names and shapes of inputs, before anything is made of their values.

    Parameters
    ----------
    network, x, n_steps
        As for `units_of`.

    Returns
    -------
    dict
        By input, in the network's order, as given.

    Raises
    ------
    InputError
        If a name, shape or the number of steps does not suit the network.
    """
    n_steps = check_steps(network, n_steps)
    inputs = [p.name for p in network.inputs]
    given: Mapping[str, ArrayLike]
    if isinstance(x, Mapping):
        given = x
    else:
        if len(inputs) != 1:
            raise InputError(
                f"network '{network.name}'",
                f"has {len(inputs)} inputs, one array was given",
                remedy=f"give a mapping with the names {', '.join(inputs) or '(none)'}",
                actual=1,
                limit=len(inputs),
            )
        given = {inputs[0]: x}
    if set(given) != set(inputs):
        raise InputError(
            f"network '{network.name}'",
            f"takes inputs {', '.join(inputs) or '(none)'}, "
            f"got {', '.join(map(str, given)) or 'none'}",
            remedy="give exactly these names",
            actual=tuple(given),
            limit=tuple(inputs),
        )
    arrays = {p.name: _input(p, given[p.name], n_steps) for p in network.inputs}
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(
            f"network '{network.name}'",
            f"inputs have different numbers of samples: {sizes}, limit: one number",
            remedy="give as many samples to each",
            actual=sizes,
            limit="one number",
        )
    return arrays


def check_steps(network: Network, n_steps: int) -> int:
    """Raise `InputError` unless a network can run so many steps.

    Parameters
    ----------
    network, n_steps
        As for `run`.
    """
    instance(InputError, "run", "network", network, Network, remedy="give a pmsm_hw.Network")
    given, n = n_steps, as_integer(n_steps)
    if n is None or n < 1:
        raise InputError(
            "n_steps",
            f"{shown(given)} is not a positive integer, the limits are 1 and {network.max_steps}",
            remedy="give the number of time steps",
            actual=given,
            limit=(1, network.max_steps),
        )
    n_steps = n
    if n_steps > network.max_steps:
        raise InputError(
            f"network '{network.name}'",
            f"{shown(n_steps)} steps exceed max_steps {network.max_steps}, up to which its state "
            "is proven to fit",
            remedy="convert it with a larger max_steps",
            actual=n_steps,
            limit=network.max_steps,
        )
    return n_steps


def _input(population: Input, x: ArrayLike, n_steps: int) -> NDArray[Any]:
    subject = f"input '{population.name}'"
    array = array_of(
        InputError,
        subject,
        "x",
        x,
        kinds="iuf",
        remedy="give floats (real values) or integers (units)",
    )
    shape = population.shape
    if array.shape[1:] not in (shape, (n_steps, *shape)) or array.ndim == 0:
        takes = "x".join(map(str, ("batch", *shape)))
        frames = "x".join(map(str, ("batch", n_steps, *shape)))
        raise InputError(
            subject,
            f"shape {'x'.join(map(str, array.shape)) or '()'} is neither {takes} nor {frames}",
            remedy="give a batch of static inputs, or one frame per step",
            actual=array.shape,
            limit=shape,
        )
    return array


def _units(population: Input, array: NDArray[Any], n_steps: int) -> NDArray[np.int32]:
    shape = population.shape
    if array.dtype.kind == "f":
        values = population.encode(array)
    else:
        lo, hi = population.levels
        low, high = (int(array.min()), int(array.max())) if array.size else (lo, hi)
        if low < lo or high > hi:
            raise InputError(
                f"input '{population.name}'",
                f"integer values lie in [{low}, {high}], its levels are [{lo}, {hi}]",
                remedy="give units within the levels, or floats to have them encoded",
                actual=(low, high),
                limit=(lo, hi),
            )
        values = array.astype(np.int32)
    if values.ndim == len(shape) + 1:
        values = np.broadcast_to(values[:, None], (len(values), n_steps, *shape))
    return values


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


def recorded(network: Network, record: Iterable[str]) -> tuple[str, ...]:
    """Names of populations to record, each of which must be there.

    Parameters
    ----------
    network, record
        As for `run`.
    """
    given = names(InputError, "record", record)
    for name in given:
        network[name]  # raises for unknown names
    return given


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
        size = min(max(1, size // together), max(1, _THREAD_UPDATES // widest))
        rounds = -(-batch // (together * size))
        size = -(-batch // (together * rounds))
    layers = _layers(network, large, workers)
    alone = Workers(1) if together > 1 else workers

    def through(part: slice) -> _Taken:
        given = {name: values[part] for name, values in units.items()}
        return take(_activities(network, layers, given, n_steps, alone, reuse=True))

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
        n_spike = np.dtype(_integer_type(bound.k_min, bound.k_max)).itemsize
        n_payload = np.dtype(_integer_type(bound.payload_min, bound.payload_max)).itemsize
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(Comparable):
    """How a network does on a data set.

    Parameters
    ----------
    n_samples, n_steps
        How many samples, and steps for each.
    accuracy
        Share of samples whose largest logit is that of their label, 0..1.
    predictions
        ``(n_samples,)`` int64.
    spikes_per_sample
        By population: mean of the sum of ``|k|`` (of ``|value|``, for inputs).
    sparsity
        By population: share of neurons x steps x samples that did not fire, 0..1.
    saturations
        By population, where there were any.
    """

    n_samples: int
    n_steps: int
    accuracy: float
    predictions: NDArray[np.int64] = field(repr=False)
    spikes_per_sample: Mapping[str, float]
    sparsity: Mapping[str, float]
    saturations: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the predictions, for JSON."""
        return {
            "n_samples": self.n_samples,
            "n_steps": self.n_steps,
            "accuracy": self.accuracy,
            "spikes_per_sample": dict(self.spikes_per_sample),
            "sparsity": dict(self.sparsity),
            "saturations": dict(self.saturations),
        }

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.__str__)

    def __str__(self) -> str:
        from pmsm_hw.tables import table

        rows = [
            (name, self.spikes_per_sample[name], f"{100 * share:.1f} %")
            for name, share in self.sparsity.items()
        ]
        title = (
            f"accuracy {100 * self.accuracy:.2f} % of {self.n_samples:,} samples, "
            f"{self.n_steps} {'step' if self.n_steps == 1 else 'steps'}"
        )
        return table(("population", "spikes per sample", "silent"), rows, title=title)


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
        network, units, n_steps, memory_mb, take, at_most=_EVALUATED_SAMPLES, progress=progress
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


def differing_spikes(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> int:
    """Count the neurons x steps x samples whose spikes differ between two backends.

    Parameters
    ----------
    a, b
        Spikes by population, as in `Result.spikes`.

    Raises
    ------
    InputError
        If they do not hold the same populations in the same shapes: nothing could be compared.
    """
    return _differing("spikes", a, b)


def differing_readouts(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> int:
    """Count the neurons x samples whose state after the last step differs between two backends.

    Parameters
    ----------
    a, b
        States by readout, as in `Result.readouts`.

    Raises
    ------
    InputError
        If they do not hold the same readouts in the same shapes: nothing could be compared.
    """
    return _differing("readouts", a, b)


def _differing(what: str, a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> int:
    shapes_a, shapes_b = ({name: k.shape for name, k in x.items()} for x in (a, b))
    if shapes_a != shapes_b:
        raise InputError(
            what,
            f"of {shapes_a} cannot be compared with those of {shapes_b}",
            remedy="record the same populations over the same samples and steps",
            actual=shapes_a,
            limit=shapes_b,
        )
    return sum(int(np.count_nonzero(a[name] != b[name])) for name in a)


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
    yield from _activities(network, _layers(network, large, workers), units, n_steps, workers)


def _means(network: Network, batch: int, n_steps: int) -> tuple[bool, Workers]:
    """Whether compiled loops pay for so many samples, and the threads that do."""
    updates = batch * n_steps * sum(p.n_neurons for p in network)
    large = updates >= _LARGE_UPDATES
    return large, workers_for(large)


def _activities(
    network: Network,
    layers: Mapping[str, _Layer],
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
            yield Activity(population, inputs[name], None, None)
            continue
        layer = layers[name]
        sources = [_distinct_steps(payloads[q.source]) for q in layer.projections]
        trace = layer.trace(batch, n_steps, reuse=reuse)

        def advance(
            part: slice,
            layer: _Layer = layer,
            sources: list[NDArray[Any]] = sources,
            trace: _Trace = trace,
        ) -> None:
            trace.advance(part, layer.drive([source[part] for source in sources]))

        size = min(_BLOCK_UPDATES // (n_steps * population.n_neurons), -(-batch // workers.n))
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
    layers: Mapping[str, _Layer],
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
            yield Activity(population, inputs[population.name], None, None)
        else:
            yield traces[population.name].activity()


_LARGE_UPDATES = 2_000_000
"""Neuron updates from which threads, and importing numba for compiled loops, pay."""

_THREAD_UPDATES = 1 << 21
"""Neuron updates of a population that a thread takes through all layers at a time."""

_EVALUATED_SAMPLES = 256
"""Samples between two moves of the bar."""

_BLOCK_UPDATES = 1 << 20
"""Neuron updates whose input is held at a time: a few MB."""


_KEPT_WEIGHTS = 1 << 26
"""Most weights of a network whose prepared form (4 to 16 bytes each) is kept with it."""


def _layers(network: Network, large: bool, workers: Workers) -> dict[str, _Layer]:
    """Every population made ready to run; kept with the network for its next run."""
    kept: dict[bool, dict[str, _Layer]] = network.__dict__.setdefault("_prepared_layers", {})
    if large in kept:
        return kept[large]
    neurons = [p for p in network if not isinstance(p, Input)]
    made = workers.map(lambda p: _Layer(network, p, large), neurons)
    layers = {p.name: layer for p, layer in zip(neurons, made, strict=True)}
    if sum(q.weight.size for q in network.projections) <= _KEPT_WEIGHTS:
        kept[large] = layers
    return layers


def _slices(n: int, size: int) -> list[slice]:
    size = max(1, size)
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def _channels_last(units: NDArray[np.int32], population: Input) -> NDArray[Any]:
    """``(batch, n_steps, height, width, channels)``; static inputs stay views of one step."""
    lo, hi = population.levels
    once = _distinct_steps(units)
    last = np.moveaxis(once.reshape(*once.shape[:2], *chw(population.shape)), -3, -1)
    last = np.ascontiguousarray(last, dtype=_integer_type(lo, hi))
    return np.broadcast_to(last, (len(units), units.shape[1], *last.shape[2:]))


def _distinct_steps(values: NDArray[Any]) -> NDArray[Any]:
    """The one step of a static input, else all steps (axis 1)."""
    return values[:, :1] if values.shape[1] > 1 and values.strides[1] == 0 else values


def _integer_type(lo: int, hi: int) -> type[np.signedinteger[Any]]:
    """Smallest signed type that holds a range."""
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= lo and hi <= np.iinfo(dtype).max:
            return dtype
    return np.int64


def _rows(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Rows of neurons, channels last, to update at a time: their number and length.

    Rows hold whole places, so that parameters per channel are the same in each; long rows are
    worth more to compiled loops.
    """
    c, h, w = shape
    places = max(n for n in range(1, h * w + 1) if h * w % n == 0 and (n == 1 or n * c <= 512))
    return h * w // places, places * c


def _parameter(values: NDArray[Any], population: Population, dtype: Any) -> NDArray[Any]:
    """A parameter as ``(1 or rows, row length)``, see `_rows`."""
    shape = chw(population.shape)
    c, h, w = shape
    n_rows, length = _rows(shape)
    if values.ndim and values.shape == population.shape:
        rows = values.reshape(c, h * w).T.reshape(n_rows, length)
    else:
        channels = np.broadcast_to(values.reshape(-1), c)
        rows = np.tile(channels, length // c).reshape(1, length)
    return np.ascontiguousarray(rows, dtype=dtype)


class _Layer:
    """One population with the projections into it, made ready to run."""

    def __init__(self, network: Network, population: Population, compiled: bool) -> None:
        self.population: Any = population
        self.projections = network.into(population.name)
        self.shape = chw(population.shape)
        bound = network.bounds[population.name]
        self.spike_type = _integer_type(bound.k_min, bound.k_max)
        self.payload_type = _integer_type(bound.payload_min, bound.payload_max)
        self.operators = []
        total = 0
        for projection in self.projections:
            source = network[projection.source]
            sent = network.bounds[source.name]
            operator = Operator(
                lowered(network, projection),
                chw(source.shape),
                self.shape,
                max(abs(sent.payload_min), abs(sent.payload_max)),
                compiled=compiled,
            )
            self.operators.append(operator)
            total += operator.bound << projection.weight_exponent
        self.dtype = self._state_type(total, network.max_steps)
        self.compiled = compiled and self.dtype is not np.int64
        self.rows = _rows(self.shape)
        neurons: Any = population
        fires = isinstance(population, PolarityMultiSpike)
        self.theta, self.bias, self.start = (
            _parameter(values, population, self.dtype)
            for values in (
                neurons.theta if fires else np.ones((), np.int64),
                neurons.bias,
                neurons.start if fires else np.zeros((), np.int64),
            )
        )

    def _state_type(self, drive_bound: int, max_steps: int) -> type[Any]:
        """Fastest type in which drive, ``u``, ``v`` and the sum of spikes are exact.

        Where ``u`` is proven to fit 24 bits, so does the state before it, and their difference,
        drive plus bias, is at most 2**24: one drive that is exact in float32 stays exact when it is
        shifted (a product with a power of two) and when bias and state are added. Sums of several
        drives, and a ``u`` that is to be clipped, need room for all of it.

        Rule "bounded" adds up spikes: ``n * t``, ``p * t``, ``S`` and their differences reach
        ``(n + p) * max_steps``, however small ``u`` is.
        """
        population = self.population
        if len(self.operators) <= 1 and population.overflow == "error":
            largest = max((operator.bound for operator in self.operators), default=0)
        else:
            largest = drive_bound + int(np.abs(population.bias).max()) - STATE_MIN
        if isinstance(population, PolarityMultiSpike) and population.rule == "bounded":
            largest = max(largest, sum(population.levels) * max_steps)
        return exact_dtype(largest)

    def drive(self, payloads: Sequence[NDArray[Any] | None]) -> NDArray[Any]:
        """Summed input ``(batch, 1 or n_steps, rows, row length)`` in ``self.dtype``.

        Parameters
        ----------
        payloads
            ``(batch, 1 or n_steps, height, width, channels)`` per projection; None for nothing.
        """
        c, h, w = self.shape
        given = [
            (operator, projection.weight_exponent, payload)
            for projection, operator, payload in zip(
                self.projections, self.operators, payloads, strict=True
            )
            if payload is not None
        ]
        if not given:
            return np.zeros((1, 1, *self.rows), self.dtype)
        steps = max(payload.shape[1] for _, _, payload in given)
        total: NDArray[Any] | None = None
        # those of all steps first: they can take the others in
        for operator, exponent, payload in sorted(given, key=lambda x: -x[2].shape[1]):
            shape = (len(payload), payload.shape[1], h, w, c)
            # the drive is used up before the thread asks for the next
            part = scratch("drive" if total is None else "part", shape, operator.dtype)
            operator(payload.reshape(-1, *payload.shape[2:]), part.reshape(-1, h, w, c))
            part = part.astype(self.dtype, copy=False)
            if exponent:
                part *= 1 << exponent
            if total is None:
                total = part
            else:
                total += part
        assert total is not None
        return total.reshape(-1, steps, *self.rows)

    def payload(self, spikes: NDArray[Any]) -> NDArray[Any]:
        """What spikes carry (nothing, for a readout)."""
        if isinstance(self.population, Readout) or self.population.gains == (1, 1):
            return spikes
        gain_pos, gain_neg = self.population.gains
        # neither need hold the other: gain 0 makes all payloads fit into fewer bits than spikes
        both = np.promote_types(self.spike_type, self.payload_type)
        values: NDArray[Any] = np.where(spikes > 0, both.type(gain_pos), both.type(gain_neg))
        values *= spikes
        return values.astype(self.payload_type, copy=False)

    def trace(self, batch: int, n_steps: int, *, reuse: bool = False) -> _Trace:
        """State and record of a batch, at the start of its samples.

        With ``reuse``, the thread's next one overwrites the state of this one.
        """
        return _Trace(self, batch, n_steps, reuse=reuse)


class _Trace:
    """State of one population for a batch, and what it did so far."""

    def __init__(self, layer: _Layer, batch: int, n_steps: int, *, reuse: bool) -> None:
        population, dtype = layer.population, layer.dtype
        self.layer = layer
        fires = isinstance(population, PolarityMultiSpike)
        rows = layer.rows
        # set at the first step
        self.v = scratch("v", (batch, *rows), dtype) if reuse else np.empty((batch, *rows), dtype)
        bounded = fires and population.rule == "bounded"
        # running sum S, for rule "bounded"
        self.sent = np.zeros(self.v.shape if bounded else (0, 0, 0), dtype)
        self.rule = _RULES[population.rule if fires else "readout"]
        levels: tuple[int, int] = population.levels if fires else (0, 0)
        self.levels = levels
        make = np.empty if fires else np.zeros
        self._spikes = make((batch, n_steps, *rows), layer.spike_type)
        shape = (batch, n_steps, *rows)
        self._active = scratch("active", shape, np.bool_) if reuse else np.empty(shape, np.bool_)
        self._saturations = np.zeros(batch, np.int64)

    @property
    def spikes(self) -> NDArray[Any]:
        """``(batch, n_steps, height, width, channels)``."""
        c, h, w = self.layer.shape
        return self._spikes.reshape(*self._spikes.shape[:2], h, w, c)

    def advance(self, samples: slice, drive: NDArray[Any], step: int | None = None) -> None:
        """Take one step, or all, with some samples.

        Parameters
        ----------
        samples
            Which.
        drive
            From `_Layer.drive`.
        step
            Which, from 0; all by default.
        """
        steps = slice(None) if step is None else slice(step, step + 1)
        v = self.v[samples]
        spikes, active = self._spikes[samples, steps], self._active[samples, steps]
        if len(drive) == 1 != len(v):  # nothing comes in
            drive = np.broadcast_to(drive, (len(v), *drive.shape[1:]))
        n, p = (v.dtype.type(level) for level in self.levels)
        layer = self.layer
        saturate = layer.population.overflow == "saturate"
        if layer.compiled:
            from pmsm_hw.kernels import advance
        else:
            advance = _advance
        self._saturations[samples.start] += advance(
            drive, v, self.sent[samples], layer.theta, layer.bias, layer.start, n, p, self.rule,
            saturate, step or 0, spikes, active,
        )  # fmt: skip

    def activity(self) -> Activity:
        """What the population did."""
        c, h, w = self.layer.shape
        return Activity(
            self.layer.population,
            self.spikes,
            self._active.reshape(*self._active.shape[:2], h, w, c),
            self.v.reshape(-1, h, w, c),
            int(self._saturations.sum()),
        )


_RULES = {"carry": 0, "reset": 1, "bounded": 2, "readout": 3}


def _advance(
    drive: NDArray[Any],
    v: NDArray[Any],
    sent: NDArray[Any],
    theta: NDArray[Any],
    bias: NDArray[Any],
    start: NDArray[Any],
    n: Any,
    p: Any,
    rule: int,
    saturate: bool,
    t0: int,
    k: NDArray[Any],
    active: NDArray[np.bool_],
) -> int:
    """Step some samples by the contract's equations; return how many states were clipped.

    The arrays hold integers in one type, float32, float64 or int64, in which all of this is exact.
    The division is, too: a quotient of integers below 2**24 (2**53) that is no integer is further
    from the next one than float32 (float64) rounds.

    Parameters
    ----------
    drive
        ``(batch, 1 or n_steps, rows, row length)``, see `_rows`.
    v, sent
        ``(batch, rows, row length)``, changed in place; ``v`` is set to ``start`` at the first
        step, ``sent`` is used by rule "bounded" only.
    theta, bias, start
        ``(1 or rows, row length)``.
    n, p
        Levels.
    rule
        Of `_RULES`.
    saturate
        Whether to clip ``u`` to the state's width.
    t0
        Steps taken before.
    k, active
        ``(batch, n_steps, rows, row length)``, written (``k`` not by readouts).
    """
    saturations = 0
    if t0 == 0:
        v[...] = start
    for t in range(k.shape[1]):
        change = drive[:, t if drive.shape[1] > 1 else 0] + bias
        u = v + change
        if saturate:
            inside = np.clip(u, STATE_MIN, STATE_MAX)
            saturations += int(np.count_nonzero(inside != u))
            u = inside
        if rule == _RULES["readout"]:
            v[...] = u
            active[:, t] = change != 0
            continue
        fired = u // theta if u.dtype.kind == "i" else np.floor(u / theta)
        if rule == _RULES["bounded"]:
            steps = t0 + t + 1
            fired = np.clip(fired, -n * steps - sent, p * steps - sent)
            sent += fired
        else:
            fired = np.clip(fired, -n, p)
        v[...] = start if rule == _RULES["reset"] else u - fired * theta
        k[:, t] = fired
        active[:, t] = (change != 0) | (fired != 0)
    return saturations
