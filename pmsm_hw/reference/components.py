"""Populations of a network, one component after the other: all steps at once, or step by step.

Only populations in a cycle need their own past. They are stepped together, with what comes from
outside of the cycle added up for all steps before. Everything else takes all steps at once, and a
delay is a shift in time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import Input, Network, Population
from pmsm_hw.operators import SHORT_PRODUCT
from pmsm_hw.reference.layers import Layer, Trace
from pmsm_hw.reference.results import Activity, distinct_steps
from pmsm_hw.reference.sent import Sent
from pmsm_hw.workers import Workers, one_blas_thread

__all__ = ["BLOCK_UPDATES", "Carried", "Simulation", "slices"]

BLOCK_UPDATES = 1 << 20
"""Neuron updates whose input is held at a time: a few MB."""


@dataclass(kw_only=True)
class Carried:
    """What samples leave to those that follow them, where the state is carried on.

    Give a new one to the first call of `pmsm_hw.reference.simulate`, and the same one to those
    after it.

    Parameters
    ----------
    n_steps
        Taken so far.
    states
        By population and variable.
    sent
        By population: payloads that are still on their way.
    """

    n_steps: int = 0
    states: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)
    sent: dict[str, NDArray[Any]] = field(default_factory=dict)


class Simulation:
    """A batch that passes a network.

    Parameters
    ----------
    network, layers, workers
        What runs, made ready, and on which threads.
    inputs
        By input, ``(batch, n_steps, height, width, channels)``.
    batch, n_steps
        Samples, and steps of each.
    probes
        State variables to keep after each step, by population.
    carried
        To carry the state from sample to sample, and on from those before.
    reuse
        As for `pmsm_hw.reference.engine.activities`.
    """

    def __init__(
        self,
        network: Network,
        layers: Mapping[str, Layer],
        inputs: Mapping[str, NDArray[Any]],
        batch: int,
        n_steps: int,
        workers: Workers,
        *,
        probes: Mapping[str, Sequence[str]],
        carried: Carried | None,
        reuse: bool,
    ) -> None:
        self.network, self.layers, self.workers = network, layers, workers
        self.inputs, self.reuse = inputs, reuse
        self.probes, self.carried = probes, carried
        self.n_samples, self.sample_steps = batch, n_steps
        # samples that carry their state on are one long one
        self.batch, self.n_steps = (batch, n_steps) if carried is None else (1, batch * n_steps)
        self.readers = {p.name: len(network.out_of(p.name)) for p in network}
        self.sent: dict[str, Sent] = {}

    def activities(self) -> Iterator[Activity]:
        """What each population does, component by component."""
        if self.n_samples == 0 and self.carried is not None:
            return
        for component in self.network.components:
            if isinstance(component[0], Input):
                yield self._input(component[0])
                continue
            if self.network.is_cycle(component):
                traces = self._step_by_step(component)
            else:
                traces = [self._at_once(component[0])]
            for population in component:
                self._done_reading(population)
            while traces:
                yield self._activity(traces.pop(0))
        if self.carried is not None:
            self.carried.n_steps += self.n_steps

    def _input(self, population: Input) -> Activity:
        values = self.inputs[population.name]
        if self.readers[population.name]:
            in_line = values if self.carried is None else _in_line(values)
            self._send(population, in_line)
            self._keep(population)
        return Activity(population, values, None, {})

    def _send(self, population: Population, values: NDArray[Any]) -> None:
        """Hold payloads for the projections, after those that are still on their way."""
        before = None if self.carried is None else self.carried.sent.get(population.name)
        if before is not None:
            values = np.concatenate([before, values], axis=1)
            self.sent[population.name] = Sent(values, before.shape[1])
        elif self._longest(population):
            self.sent[population.name] = Sent(values)
        else:
            self.sent[population.name] = Sent(distinct_steps(values))

    def _keep(self, population: Population) -> None:
        """Keep what will still be on its way."""
        longest = self._longest(population)
        if longest:
            assert self.carried is not None
            values = self.sent[population.name].values
            self.carried.sent[population.name] = values[:, -longest:].copy()

    def _longest(self, population: Population) -> int:
        """Steps for which payloads may have to be carried on."""
        if self.carried is None:
            return 0
        return max(q.max_delay for q in self.network.out_of(population.name))

    def _done_reading(self, population: Population) -> None:
        for projection in self.network.into(population.name):
            self.readers[projection.source] -= 1
            if self.readers[projection.source] == 0:
                self.sent.pop(projection.source)

    def _trace(self, name: str, *, reuse: bool) -> Trace:
        every = None if self.carried is None else self.sample_steps
        if name in self.probes:
            every = 1
        before = self.carried if self.carried is not None and self.carried.n_steps else None
        return Trace(
            self.layers[name],
            self.batch,
            self.n_steps,
            t0=0 if before is None else before.n_steps,
            state={} if before is None else before.states[name],
            every=every,
            reuse=reuse,
        )

    def _at_once(self, population: Population) -> Trace:
        name, n_steps = population.name, self.n_steps
        layer, trace = self.layers[name], self._trace(name, reuse=self.reuse)
        sources = [self.sent[q.source] for q in layer.projections]

        def advance(part: slice) -> None:
            drive = layer.drive([source[part] for source in sources], n_steps)
            trace.advance(part, drive, 0, n_steps)

        size = min(
            BLOCK_UPDATES // (n_steps * population.n_neurons), -(-self.batch // self.workers.n)
        )
        self.workers.map(advance, slices(self.batch, size))
        if self.readers[name]:
            self._send(population, layer.payload(trace.spikes))
            self._keep(population)
        return trace

    def _step_by_step(self, component: Sequence[Population]) -> list[Trace]:
        """Populations of a cycle, which act within a step in the order given."""
        layers = [self.layers[p.name] for p in component]
        traces = [self._trace(p.name, reuse=False) for p in component]
        for population, layer in zip(component, layers, strict=True):
            c, h, w = layer.shape
            sends = np.zeros((self.batch, self.n_steps, h, w, c), layer.payload_type)
            self._send(population, sends)  # to be filled

        def through(part: slice) -> None:
            sent = {q.source: self.sent[q.source][part] for layer in layers
                    for q in layer.projections}  # fmt: skip
            inner = {layer.population.name: sent[layer.population.name] for layer in layers}
            within = [[inner.get(q.source) for q in layer.projections] for layer in layers]
            outer = []
            for layer in layers:
                drive = layer.drive(
                    [None if q.source in inner else sent[q.source] for q in layer.projections],
                    self.n_steps,
                )
                outer.append(None if drive is None else drive.copy())
            for t in range(self.n_steps):
                for layer, trace, payloads, given in zip(
                    layers, traces, within, outer, strict=True
                ):
                    drive = layer.drive(payloads, 1, t)
                    if given is not None:
                        now = given if given.shape[1] == 1 else given[:, t : t + 1]
                        drive = now if drive is None else np.add(drive, now, out=drive)
                    trace.advance(part, drive, t, 1)
                    to = inner[layer.population.name]
                    at = slice(to.n_past + t, to.n_past + t + 1)
                    to.values[:, at] = layer.payload(trace.spikes[part, t : t + 1])

        # threads of a product that is soon done cost more than they spare
        largest = max(q.weight.size for layer in layers for q in layer.projections)
        product = self.batch * largest
        soon_done = product < SHORT_PRODUCT < product * self.n_steps
        with one_blas_thread() if soon_done else nullcontext():
            self.workers.map(through, slices(self.batch, -(-self.batch // self.workers.n)))
        for population in component:
            self._keep(population)
        return traces

    def _activity(self, trace: Trace) -> Activity:
        """What a population did, by samples."""
        population = trace.layer.population
        probed = self.probes.get(population.name, ())
        states = {name: trace.places(values) for name, values in trace.state.items()}
        kept = {name: trace.places(values) for name, values in trace.kept.items()}
        if self.carried is not None:
            self.carried.states[population.name] = {
                name: values.copy() for name, values in trace.state.items()
            }
            # in one line; kept after each step, or at the end of each sample
            step = 1 if trace.every != 1 else self.sample_steps
            states = {name: values[0, step - 1 :: step] for name, values in kept.items()}
        return Activity(
            population,
            self._by_sample(trace.spikes),
            self._by_sample(trace.active),
            states,
            trace.n_outside,
            {name: self._by_sample(kept[name]) for name in probed},
        )

    def _by_sample(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.carried is None:
            return values
        return values.reshape(self.n_samples, self.sample_steps, *values.shape[2:])


def _in_line(values: NDArray[Any]) -> NDArray[Any]:
    """Samples one after the other, as one; a view, if there is only one."""
    return values if len(values) == 1 else values.reshape(1, -1, *values.shape[2:])


def slices(n: int, size: int) -> list[slice]:
    """Cut ``n`` items into parts of so many, one at least.

    Parameters
    ----------
    n, size
        How many.
    """
    size = max(1, size)
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]
