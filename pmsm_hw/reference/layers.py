"""One population with the projections into it, made ready to run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    Dense,
    Network,
    Neurons,
    Population,
    Projection,
    Shape,
    by_delay,
    shifted,
)
from pmsm_hw.operators import Operator, chw, lower, lowered, sum_bound
from pmsm_hw.reference import cuba_lif, polarity_multi_spike, readout  # noqa: F401 - they register kernels
from pmsm_hw.reference.neurons import Sums, kernel_of
from pmsm_hw.reference.sent import Routes, Sent
from pmsm_hw.workers import scratch

__all__ = ["Layer", "Synapses", "Trace", "integer_type"]


def integer_type(lo: int, hi: int) -> type[np.signedinteger[Any]]:
    """Smallest signed type that holds a range."""
    for dtype, limit in _NARROW:
        if -limit <= lo and hi < limit:
            return dtype
    return np.int64


_NARROW = ((np.int8, 1 << 7), (np.int16, 1 << 15), (np.int32, 1 << 31))


def _rows(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Rows of neurons, channels last, to update at a time: their number and length.

    Rows hold whole places, so that parameters per channel are the same in each; long rows are
    worth more to compiled loops.
    """
    c, h, w = shape
    places = max(n for n in range(1, h * w + 1) if h * w % n == 0 and (n == 1 or n * c <= 512))
    return h * w // places, places * c


def _parameter(population: Population, values: NDArray[Any], dtype: Any) -> NDArray[Any]:
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


class Synapses:
    """A projection, made ready to run.

    Parameters
    ----------
    network
        Which it belongs to.
    projection
        Which.
    compiled
        Whether compiled loops pay.
    by_step
        Whether it will be applied step by step.
    """

    def __init__(
        self, network: Network, projection: Projection, compiled: bool, *, by_step: bool = False
    ) -> None:
        self.source, self.exponent = projection.source, projection.weight_exponent
        source, target = network[projection.source], network[projection.target]
        self.target = chw(target.shape)
        sent = network.bounds[projection.source]
        payload_max = max(abs(sent.payload_min), abs(sent.payload_max), 1)
        # all parts in one type, in which their sum is exact
        self.bound = sum_bound(lowered(network, projection), payload_max)
        self.parts = [
            (
                routes,
                Operator(
                    lower(part, source.shape, target.shape), chw(source.shape), self.target,
                    payload_max, compiled=compiled, keep=by_step, bound=self.bound,
                ),
            )
            for routes, part in _parts(projection, source.shape)
        ]  # fmt: skip
        self.dtype = self.parts[0][1].dtype

    def arriving(self, sent: Sent, first: int, n_steps: int) -> list[Arriving]:
        """What arrives in some steps, by the parts that deliver it.

        Parameters
        ----------
        sent
            By the source.
        first, n_steps
            Which steps.
        """
        return [
            (operator, *found)
            for routes, operator in self.parts
            if (found := sent.arriving(routes, first, n_steps)) is not None
        ]

    def sums(self, arriving: Sequence[Arriving], n_steps: int, name: str) -> NDArray[Any]:
        """What is added up at each target neuron and shifted, for each of so many steps.

        Parameters
        ----------
        arriving
            Something.
        n_steps
            1, where it is the same in each.
        name
            Of the memory to put it in; see `pmsm_hw.workers.scratch`.
        """
        c, h, w = self.target
        total = scratch(name, (len(arriving[0][2]), n_steps, h, w, c), self.dtype)
        rest = arriving
        operator, n_before, payload = arriving[0]
        if n_before == 0 and payload.shape[1] == n_steps:
            operator(payload.reshape(-1, *payload.shape[2:]), total.reshape(-1, h, w, c))
            rest = arriving[1:]
        else:
            total[...] = 0
        for operator, n_before, payload in rest:
            part = scratch("arriving", (*payload.shape[:2], h, w, c), self.dtype)
            operator(payload.reshape(-1, *payload.shape[2:]), part.reshape(-1, h, w, c))
            total[:, n_before:] += part
        if self.exponent < 0:
            if self.dtype is np.int64:
                total >>= -self.exponent
            else:
                total *= self.dtype(2.0**self.exponent)
                np.floor(total, out=total)
        return total


def _parts(projection: Projection, source: Shape) -> list[tuple[Routes, Projection]]:
    """Bring a projection into parts to each of which a source neuron sends with one delay.

    Delays of neurons, which all synapses of a neuron share, take one part.
    """
    found = by_delay(projection)
    if len(found) == 1:
        return [([(found[0].delay, None)], found[0])]
    parts: list[tuple[Routes, Projection]] = []
    taken: list[NDArray[np.bool_]] = []
    for piece in found:
        used = _used(piece, source)
        i = next((i for i, others in enumerate(taken) if not (others & used).any()), len(parts))
        route = (piece.delay, np.flatnonzero(used))
        if i == len(parts):
            parts.append(([route], piece))
            taken.append(used)
        else:
            routes, part = parts[i]
            both: dict[str, Any] = {"weight": part.weight + piece.weight}
            parts[i] = ([*routes, route], replace(part, **both))
            taken[i] = taken[i] | used
    return [
        ([(routes[0][0], None)] if len(routes) == 1 else routes, part) for routes, part in parts
    ]


def _used(projection: Projection, source: Shape) -> NDArray[np.bool_]:
    """Which source neurons have a synapse, in order of (height, width, channels)."""
    c, h, w = chw(source)
    if isinstance(projection, Dense):
        return projection.weight.any(axis=0).reshape(c, h, w).transpose(1, 2, 0).reshape(-1)
    assert isinstance(projection, Conv1d | Conv2d)
    n_groups, weight = projection.groups, projection.weight
    channels = weight.reshape(n_groups, len(weight) // n_groups, c // n_groups, -1).any(axis=(1, 3))
    return np.broadcast_to(channels.reshape(-1), (h, w, c)).reshape(-1)


Arriving: TypeAlias = tuple[Operator, int, NDArray[Any]]
"""What sums payloads up, how many steps pass before any arrive, and the payloads."""


class Layer:
    """One population with the projections into it, made ready to run.

    Parameters
    ----------
    network
        Which it belongs to.
    population
        Which.
    compiled
        Whether compiled loops pay.
    cycle
        Populations of the cycle that it is in.
    """

    def __init__(
        self,
        network: Network,
        population: Neurons,
        compiled: bool,
        cycle: Collection[str] = (),
    ) -> None:
        self.population = population
        self.projections = network.into(population.name)
        self.shape = chw(population.shape)
        self.rows = _rows(self.shape)
        bound = network.bounds[population.name]
        self.spike_type = integer_type(bound.k_min, bound.k_max)
        self.payload_type = integer_type(bound.payload_min, bound.payload_max)
        self.synapses = [
            Synapses(network, q, compiled, by_step=q.source in cycle) for q in self.projections
        ]
        largest = max((synapses.bound for synapses in self.synapses), default=0)
        # rounded down, a negative sum may be one larger
        total = sum(-shifted(-synapses.bound, synapses.exponent) for synapses in self.synapses)
        sums = Sums(largest, total, len(self.synapses))
        arrange = partial(_parameter, population)
        self.kernel = kernel_of(population)(population, arrange, sums, network.max_steps, compiled)
        self.dtype = self.kernel.dtype

    def drive(
        self, sent: Sequence[Sent | None], n_steps: int, first: int = 0
    ) -> NDArray[Any] | None:
        """Summed input ``(batch, 1 or n_steps, rows, row length)`` in ``self.dtype``.

        One step stands for all where they are alike; None where nothing comes in. What is returned
        is overwritten when the thread asks for the next.

        Parameters
        ----------
        sent
            By the source of each projection; None to leave it out.
        n_steps
            How many steps.
        first
            The first of them.
        """
        given = []
        for synapses, values in zip(self.synapses, sent, strict=True):
            arriving = [] if values is None else synapses.arriving(values, first, n_steps)
            if arriving:
                alike = all(n == 0 and payload.shape[1] == 1 for _, n, payload in arriving)
                given.append((1 if alike else n_steps, synapses, arriving))
        if not given:
            return None
        # those of all steps first: they can take the others in
        given.sort(key=lambda x: -x[0])
        total: NDArray[Any] | None = None
        for steps, synapses, arriving in given:
            part = synapses.sums(arriving, steps, "drive" if total is None else "part")
            part = part.astype(self.dtype, copy=False)
            if synapses.exponent > 0:
                part *= 1 << synapses.exponent
            if total is None:
                total = part
            else:
                total += part
        assert total is not None
        return total.reshape(*total.shape[:2], *self.rows)

    def payload(self, spikes: NDArray[Any]) -> NDArray[Any]:
        """What spikes carry.

        Parameters
        ----------
        spikes
            ``(batch, steps, height, width, channels)``.
        """
        rows = spikes.reshape(*spikes.shape[:2], *self.rows)
        return self.kernel.payload(rows, self.payload_type).reshape(spikes.shape)


class Trace:
    """State of one population for a batch, and what it did so far.

    Parameters
    ----------
    layer
        Which.
    batch, n_steps
        Samples, and steps of each.
    t0, state
        Steps taken before, and the state after them.
    every
        After how many steps, again and again, to keep the state; never by default.
    reuse
        Whether the thread's next one overwrites the states of this one.
    """

    def __init__(
        self,
        layer: Layer,
        batch: int,
        n_steps: int,
        *,
        t0: int = 0,
        state: Mapping[str, NDArray[Any]] | None = None,
        every: int | None = None,
        reuse: bool = False,
    ) -> None:
        self.layer, self.t0, self.every, self.n_steps = layer, t0, every, n_steps
        shape, steps = (batch, *layer.rows), (batch, n_steps, *layer.rows)
        # set at the first step
        self.state = {
            name: scratch(f"state {name}", shape, layer.dtype)
            if reuse
            else np.empty(shape, layer.dtype)
            for name in layer.kernel.start
        }
        for name, values in (state or {}).items():
            self.state[name][...] = values
        n_kept = 0 if every is None else n_steps // every
        self.kept = {
            name: np.empty((batch, n_kept, *layer.rows), layer.dtype)
            for name in (self.state if every else ())
        }
        make = np.empty if layer.population.fires else np.zeros
        self._spikes = make(steps, layer.spike_type)
        self._active = scratch("active", steps, np.bool_) if reuse else np.empty(steps, np.bool_)
        self._outside = np.zeros(batch, np.int64)

    @property
    def spikes(self) -> NDArray[Any]:
        """``(batch, n_steps, height, width, channels)``."""
        return self.places(self._spikes)

    def advance(self, samples: slice, drive: NDArray[Any] | None, first: int, n_steps: int) -> None:
        """Take steps with some samples.

        Parameters
        ----------
        samples
            Which.
        drive
            From `Layer.drive`.
        first, n_steps
            Which steps.
        """
        state = {name: values[samples] for name, values in self.state.items()}
        if drive is None:
            drive = np.zeros((len(self._outside[samples]), 1, *self.layer.rows), self.layer.dtype)
        begin, end = first, first + n_steps
        while begin < end:
            stop = end if self.every is None else min(end, begin - begin % self.every + self.every)
            given = drive if drive.shape[1] == 1 else drive[:, begin - first : stop - first]
            here = samples, slice(begin, stop)
            self._outside[samples.start] += self._advance(
                given, state, self.t0 + begin, self._spikes[here], self._active[here]
            )
            if self.every is not None and stop % self.every == 0:
                for name, kept in self.kept.items():
                    kept[samples, stop // self.every - 1] = state[name]
            begin = stop

    def _advance(
        self,
        drive: NDArray[Any],
        state: Mapping[str, NDArray[Any]],
        t0: int,
        k: NDArray[Any],
        active: NDArray[np.bool_],
    ) -> int:
        """Step a kernel, with arrays each of which is one run of memory: one form to compile."""
        kernel = self.layer.kernel
        if drive.flags.c_contiguous and k.flags.c_contiguous:
            return kernel.advance(drive, state, t0, k, active)
        k_, active_ = (scratch(f"step {a.dtype}", a.shape, a.dtype) for a in (k, active))
        if not self.layer.population.fires:
            k_[...] = 0
        n_outside = kernel.advance(np.ascontiguousarray(drive), state, t0, k_, active_)
        k[...], active[...] = k_, active_
        return n_outside

    @property
    def n_outside(self) -> int:
        """How many values left their width."""
        return int(self._outside.sum())

    @property
    def active(self) -> NDArray[Any]:
        """``(batch, n_steps, height, width, channels)``."""
        return self.places(self._active)

    def places(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of neurons as ``(..., height, width, channels)``.

        Parameters
        ----------
        rows
            ``(..., rows, row length)``.
        """
        c, h, w = self.layer.shape
        return rows.reshape(*rows.shape[:-2], h, w, c)
