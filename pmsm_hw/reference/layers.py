"""One population with the projections into it, made ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import InputError
from pmsm_hw.network import Network, Neurons, Population
from pmsm_hw.network.projections import require_plain
from pmsm_hw.operators import Operator, chw, lowered
from pmsm_hw.reference import cuba_lif, polarity_multi_spike, readout  # noqa: F401 - they register kernels
from pmsm_hw.reference.neurons import Sums, kernel_of
from pmsm_hw.reference.results import Activity
from pmsm_hw.workers import scratch

__all__ = ["Layer", "Trace", "integer_type"]


def integer_type(lo: int, hi: int) -> type[np.signedinteger[Any]]:
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
    """

    def __init__(self, network: Network, population: Neurons, compiled: bool) -> None:
        self.population = population
        self.projections = network.into(population.name)
        self.shape = chw(population.shape)
        self.rows = _rows(self.shape)
        bound = network.bounds[population.name]
        self.spike_type = integer_type(bound.k_min, bound.k_max)
        self.payload_type = integer_type(bound.payload_min, bound.payload_max)
        self.operators = []
        total = 0
        require_plain(self.projections, InputError, "the reference, so far,")
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
        largest = max((operator.bound for operator in self.operators), default=0)
        sums = Sums(largest, total, len(self.operators))
        arrange = partial(_parameter, population)
        self.kernel = kernel_of(population)(population, arrange, sums, network.max_steps, compiled)
        self.dtype = self.kernel.dtype

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
        """What spikes carry.

        Parameters
        ----------
        spikes
            ``(batch, steps, height, width, channels)``.
        """
        rows = spikes.reshape(*spikes.shape[:2], *self.rows)
        return self.kernel.payload(rows, self.payload_type).reshape(spikes.shape)

    def trace(self, batch: int, n_steps: int, *, reuse: bool = False) -> Trace:
        """State and record of a batch, at the start of its samples.

        Parameters
        ----------
        batch, n_steps, reuse
            As for `Trace`.
        """
        return Trace(self, batch, n_steps, reuse=reuse)


class Trace:
    """State of one population for a batch, and what it did so far.

    Parameters
    ----------
    layer
        Which.
    batch, n_steps
        Samples, and steps of each.
    reuse
        Whether the thread's next one overwrites the states of this one.
    """

    def __init__(self, layer: Layer, batch: int, n_steps: int, *, reuse: bool) -> None:
        self.layer = layer
        shape, steps = (batch, *layer.rows), (batch, n_steps, *layer.rows)
        # set at the first step
        self.state = {
            name: scratch(f"state {name}", shape, layer.dtype)
            if reuse
            else np.empty(shape, layer.dtype)
            for name in layer.kernel.start
        }
        make = np.empty if layer.population.fires else np.zeros
        self._spikes = make(steps, layer.spike_type)
        self._active = scratch("active", steps, np.bool_) if reuse else np.empty(steps, np.bool_)
        self._outside = np.zeros(batch, np.int64)

    @property
    def spikes(self) -> NDArray[Any]:
        """``(batch, n_steps, height, width, channels)``."""
        return self._places(self._spikes)

    def advance(self, samples: slice, drive: NDArray[Any], step: int | None = None) -> None:
        """Take one step, or all, with some samples.

        Parameters
        ----------
        samples
            Which.
        drive
            From `Layer.drive`.
        step
            Which, from 0; all by default.
        """
        steps = slice(None) if step is None else slice(step, step + 1)
        state = {name: values[samples] for name, values in self.state.items()}
        spikes, active = self._spikes[samples, steps], self._active[samples, steps]
        if len(drive) == 1 != len(spikes):  # nothing comes in
            drive = np.broadcast_to(drive, (len(spikes), *drive.shape[1:]))
        self._outside[samples.start] += self.layer.kernel.advance(
            drive, state, step or 0, spikes, active
        )

    def activity(self) -> Activity:
        """What the population did."""
        return Activity(
            self.layer.population,
            self.spikes,
            self._places(self._active),
            {name: self._places(values) for name, values in self.state.items()},
            int(self._outside.sum()),
        )

    def _places(self, rows: NDArray[Any]) -> NDArray[Any]:
        c, h, w = self.layer.shape
        return rows.reshape(*rows.shape[:-2], h, w, c)
