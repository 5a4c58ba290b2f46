"""The reference: what a network computes, batched and exact.

The contract is in `pmsm_hw.network`; this is its plainest executable form. Other backends are
checked against it, spike for spike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.errors import InputError
from pmsm_hw.network import (
    STATE_MAX,
    STATE_MIN,
    Input,
    Network,
    PolarityMultiSpike,
    Projection,
    Readout,
)
from pmsm_hw.operators import apply, chw, lowered

__all__ = ["Activity", "Result", "differing_spikes", "run", "simulate", "units_of"]

Inputs: TypeAlias = ArrayLike | Mapping[str, ArrayLike]


@dataclass(frozen=True, kw_only=True)
class Result:
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
        if readout is None:
            if len(self.logits) != 1:
                raise InputError(
                    "result",
                    f"has {len(self.logits)} readouts, a prediction needs 1",
                    remedy=f"name one of {', '.join(self.logits) or 'none'}",
                    actual=len(self.logits),
                    limit=1,
                )
            (readout,) = self.logits
        logits = self.logits[readout]
        best: NDArray[np.int64] = np.argmax(logits.reshape(len(logits), -1), axis=1)
        return best


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What one population did over all samples and steps.

    Parameters
    ----------
    name
        Name of the population.
    spikes
        ``(batch, n_steps, *shape)`` int32: the ``k``; values for an input, zeros for a readout.
    active
        ``(batch, n_steps, *shape)`` bool: neuron updates that were active, that is whose summed
        input plus bias was not zero, or which fired. For an input: values other than zero.
    state
        ``(batch, *shape)`` int64: ``v`` after the last step (zeros for an input).
    saturations
        Neurons x steps x samples clipped to the state's width.
    """

    name: str
    spikes: NDArray[np.int32]
    active: NDArray[np.bool_]
    state: NDArray[np.int64]
    saturations: int


def units_of(network: Network, x: Inputs, n_steps: int) -> dict[str, NDArray[np.int32]]:
    """Bring inputs into units and into one shape.

    Parameters
    ----------
    network
        Says shapes, scales and levels.
    x
        One array for a network with one input, else a mapping by name. Floats are real values and
        are encoded; integers are units already and must lie in the input's levels. Shape
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
    _check_steps(network, n_steps)
    names = [p.name for p in network.inputs]
    given: Mapping[str, ArrayLike]
    if isinstance(x, Mapping):
        given = x
    else:
        if len(names) != 1:
            raise InputError(
                f"network '{network.name}'",
                f"has {len(names)} inputs, one array was given",
                remedy=f"give a mapping with the names {', '.join(names) or '(none)'}",
                actual=1,
                limit=len(names),
            )
        given = {names[0]: x}
    if set(given) != set(names):
        raise InputError(
            f"network '{network.name}'",
            f"takes inputs {', '.join(names) or '(none)'}, "
            f"got {', '.join(map(str, given)) or 'none'}",
            remedy="give exactly these names",
            actual=tuple(given),
            limit=tuple(names),
        )
    units = {p.name: _units(p, given[p.name], n_steps) for p in network.inputs}
    sizes = {name: len(u) for name, u in units.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(
            f"network '{network.name}'",
            f"inputs have different numbers of samples: {sizes}, limit: one number",
            remedy="give as many samples to each",
            actual=sizes,
            limit="one number",
        )
    return units


def _check_steps(network: Network, n_steps: int) -> None:
    if isinstance(n_steps, bool) or not isinstance(n_steps, int | np.integer) or n_steps < 1:
        raise InputError(
            "n_steps",
            f"{n_steps!r} is not a positive integer, the limits are 1 and {network.max_steps}",
            remedy="give the number of time steps",
            actual=n_steps,
            limit=(1, network.max_steps),
        )
    if n_steps > network.max_steps:
        raise InputError(
            f"network '{network.name}'",
            f"{n_steps} steps exceed max_steps {network.max_steps}, up to which its state is "
            "proven to fit",
            remedy="convert it with a larger max_steps",
            actual=int(n_steps),
            limit=network.max_steps,
        )


def _units(population: Input, x: ArrayLike, n_steps: int) -> NDArray[np.int32]:
    subject = f"input '{population.name}'"
    array = np.asarray(x)
    shape = population.shape
    if array.shape[1:] != shape and array.shape[1:] != (n_steps, *shape):
        takes = "x".join(map(str, ("batch", *shape)))
        frames = "x".join(map(str, ("batch", n_steps, *shape)))
        raise InputError(
            subject,
            f"shape {'x'.join(map(str, array.shape)) or '()'} is neither {takes} nor {frames}",
            remedy="give a batch of static inputs, or one frame per step",
            actual=array.shape,
            limit=shape,
        )
    if array.dtype.kind == "f":
        values = population.encode(array)
    elif array.dtype.kind in "iub":
        lo, hi = population.levels
        low, high = (int(array.min()), int(array.max())) if array.size else (lo, hi)
        if low < lo or high > hi:
            raise InputError(
                subject,
                f"integer values lie in [{low}, {high}], its levels are [{lo}, {hi}]",
                remedy="give units within the levels, or floats to have them encoded",
                actual=(low, high),
                limit=(lo, hi),
            )
        values = array.astype(np.int32)
    else:
        raise InputError(
            subject,
            f"dtype {array.dtype} is not a number, floats and integers are possible",
            remedy="give floats (real values) or integers (units)",
            actual=str(array.dtype),
            limit="float or integer",
        )
    if values.ndim == len(shape) + 1:
        values = np.broadcast_to(values[:, None], (len(values), n_steps, *shape))
    return values


def run(
    network: Network, x: Inputs, n_steps: int = 1, *, record: Iterable[str] | None = None
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
    names = {p.name for p in network} if record is None else set(record)
    for name in names:
        network[name]  # raises for unknown names
    spikes: dict[str, NDArray[np.int32]] = {}
    readouts: dict[str, NDArray[np.int64]] = {}
    logits: dict[str, NDArray[np.float64]] = {}
    saturations: dict[str, int] = {}
    for activity in simulate(network, units, n_steps):
        population = network[activity.name]
        if activity.name in names and not isinstance(population, Readout):
            spikes[activity.name] = activity.spikes
        if isinstance(population, Readout):
            readouts[activity.name] = activity.state
            logits[activity.name] = activity.state * population.scale / n_steps
        if activity.saturations:
            saturations[activity.name] = activity.saturations
    return Result(
        spikes=spikes,
        readouts=readouts,
        logits=logits,
        saturations=saturations,
        n_steps=n_steps,
    )


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
    shapes_a, shapes_b = ({name: k.shape for name, k in x.items()} for x in (a, b))
    if shapes_a != shapes_b:
        raise InputError(
            "spikes",
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
    if network.is_recurrent:
        yield from _simulate_by_step(network, units, batch, n_steps)
        return
    readers = {p.name: len(network.out_of(p.name)) for p in network}
    payloads: dict[str, NDArray[Any]] = {}
    for population in network.topological:
        if isinstance(population, Input):
            activity = _input_activity(population, units[population.name])
            payloads[population.name] = units[population.name]
        else:
            drive: NDArray[Any] | None = None
            for projection in network.into(population.name):
                source = payloads[projection.source]
                static = isinstance(network[projection.source], Input) and source.strides[1] == 0
                if static:  # one step is all steps
                    source = source[:, :1]
                part = _drive(network, projection, source)
                drive = part if drive is None else drive + part
                readers[projection.source] -= 1
                if readers[projection.source] == 0:
                    del payloads[projection.source]
            state = _State(population, batch)
            ks, actives = [], []
            for t in range(n_steps):
                step = None if drive is None else drive[:, t if drive.shape[1] > 1 else 0]
                k, active = state.step(step)
                ks.append(k)
                actives.append(active)
            spikes = np.stack(ks, axis=1)
            activity = Activity(
                name=population.name,
                spikes=spikes,
                active=np.stack(actives, axis=1),
                state=state.v,
                saturations=state.saturations,
            )
            if isinstance(population, PolarityMultiSpike):
                payloads[population.name] = population.payload(spikes)
        yield activity


def _simulate_by_step(
    network: Network, units: Mapping[str, NDArray[np.int32]], batch: int, n_steps: int
) -> Iterator[Activity]:
    states = {p.name: _State(p, batch) for p in network if not isinstance(p, Input)}
    spikes: dict[str, list[NDArray[np.int32]]] = {name: [] for name in states}
    actives: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in states}
    payloads: dict[str, list[NDArray[Any]]] = {
        p.name: [units[p.name][:, t] for t in range(n_steps)] if isinstance(p, Input) else []
        for p in network
    }
    for t in range(n_steps):
        for population in network.topological:
            if isinstance(population, Input):
                continue
            drive: NDArray[Any] | None = None
            for projection in network.into(population.name):
                if t >= projection.delay:
                    sent = payloads[projection.source][t - projection.delay]
                    part = _drive(network, projection, sent[:, None])
                    drive = part if drive is None else drive + part
            k, active = states[population.name].step(None if drive is None else drive[:, 0])
            spikes[population.name].append(k)
            actives[population.name].append(active)
            if isinstance(population, PolarityMultiSpike):
                payloads[population.name].append(population.payload(k))
    for population in network.topological:
        name = population.name
        if isinstance(population, Input):
            yield _input_activity(population, units[name])
        else:
            yield Activity(
                name=name,
                spikes=np.stack(spikes[name], axis=1),
                active=np.stack(actives[name], axis=1),
                state=states[name].v,
                saturations=states[name].saturations,
            )


def _input_activity(population: Input, units: NDArray[np.int32]) -> Activity:
    return Activity(
        name=population.name,
        spikes=units,
        active=units != 0,
        state=np.zeros((len(units), *population.shape), np.int64),
        saturations=0,
    )


def _drive(network: Network, projection: Projection, payload: NDArray[Any]) -> NDArray[np.int64]:
    """What a projection adds: ``(batch, steps, *target shape)`` int64."""
    source, target = network[projection.source], network[projection.target]
    bound = network.bounds[source.name]
    largest = max(abs(bound.payload_min), abs(bound.payload_max))
    batch, steps = payload.shape[:2]
    flat = payload.reshape(batch * steps, *chw(source.shape))
    total: NDArray[np.int64] = apply(lowered(network, projection), flat, largest).astype(np.int64)
    total <<= projection.weight_exponent
    return total.reshape(batch, steps, *target.shape)


class _State:
    """State of one population for a batch, stepped by the contract's equations."""

    def __init__(self, population: Any, batch: int) -> None:
        self.population = population
        shape = (batch, *population.shape)
        start = population.start if isinstance(population, PolarityMultiSpike) else 0
        self.v: NDArray[np.int64] = np.array(np.broadcast_to(start, shape), dtype=np.int64)
        self.sent = np.zeros(shape, np.int64)  # running sum S, for rule "bounded"
        self.t = 0
        self.saturations = 0

    def step(self, drive: NDArray[np.int64] | None) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Take one step; return spikes and which updates were active."""
        population = self.population
        self.t += 1
        change = np.broadcast_to(population.bias, self.v.shape)
        if drive is not None:
            change = change + drive
        u = self.v + change
        if population.overflow == "saturate":
            inside = np.clip(u, STATE_MIN, STATE_MAX)
            self.saturations += int(np.count_nonzero(inside != u))
            u = inside
        if isinstance(population, Readout):
            self.v = u
            return np.zeros(u.shape, np.int32), change != 0
        n, p = population.levels
        k = u // population.theta
        if population.rule == "bounded":
            k = np.clip(k, -n * self.t - self.sent, p * self.t - self.sent)
            self.sent += k
        else:
            k = np.clip(k, -n, p)
        if population.rule == "reset":
            self.v = np.array(np.broadcast_to(population.start, u.shape), dtype=np.int64)
        else:
            self.v = u - k * population.theta
        return k.astype(np.int32), (change != 0) | (k != 0)
