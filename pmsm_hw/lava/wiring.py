"""How the Processes of a graph are made and connected. Needs lava-nc in this interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.proc.dense.process import Dense as LavaDense
from lava.proc.sparse.process import Sparse as LavaSparse
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray

from pmsm_hw.lava.arithmetic import payload_max, synapse_set
from pmsm_hw.lava.neurons import LAVA
from pmsm_hw.lava.options import Tag
from pmsm_hw.lava.processes.populations import coarse
from pmsm_hw.lava.processes.synapses import DelayedSynapses, DelayLine, Synapses
from pmsm_hw.lava.timing import Timing, is_direct
from pmsm_hw.network import Input, Network, Neurons, Projection
from pmsm_hw.operators import DenseForm, Form, lowered, magnitude

__all__ = ["connect", "population_of", "wire_coarse", "wire_fine"]

SPARSE_BELOW = 0.1
"""Share of weights other than zero below which Lava's ``Sparse`` stands in for its ``Dense``."""


def _sources_of(network: Network, name: str) -> list[str]:
    return list(dict.fromkeys(p.source for p in network.into(name)))


def population_of(
    network: Network, population: Neurons, timing: Timing, files: dict[str, str]
) -> AbstractProcess:
    """Our Process of a population.

    Parameters
    ----------
    network
        Which it belongs to.
    population
        Which.
    timing
        Of the graph.
    files
        That it writes to, see `pmsm_hw.lava.recording`.
    """
    model, n_samples = LAVA.of(population), timing.n_samples
    common: dict[str, Any] = {
        **{p.name: getattr(population, p.name) for p in population.model.parameters},
        "shape": population.shape,
        "name": population.name,
        "interval": timing.interval,
        "offset": timing.depths[population.name],
        "until": None if n_samples is None else timing.n_steps * n_samples,
        "record": files,
    }
    kind: type[AbstractProcess] = model.process_class()
    if timing.granularity == "coarse":
        sources = _sources_of(network, population.name)
        common["sources"] = [network[s].shape for s in sources]
        common["incoming"] = [
            (sources.index(p.source), synapse_set(network, p, timing.lag(p)))
            for p in network.into(population.name)
        ]
        kind = coarse(kind, len(sources))  # type: ignore[arg-type]
    return kind(**common)


def wire_coarse(
    network: Network,
    populations: Mapping[str, AbstractProcess],
    inputs: Mapping[str, list[InPort]],
) -> None:
    """Connect populations that hold their synapses.

    Parameters
    ----------
    network
        Which.
    populations
        By name.
    inputs
        By input, ports that are to be connected to its source.
    """
    for name, process in populations.items():
        for i, source in enumerate(_sources_of(network, name)):
            port = getattr(process, f"s_in_{i}")
            if source in inputs:
                inputs[source].append(port)
            else:
                connect(populations[source].s_out, port)


def wire_fine(
    network: Network,
    timing: Timing,
    tag: Tag,
    populations: Mapping[str, AbstractProcess],
    projections: dict[str, tuple[AbstractProcess, ...]],
    inputs: Mapping[str, list[InPort]],
) -> None:
    """Connect populations through Processes of the projections.

    Parameters
    ----------
    network, populations, inputs
        As for `wire_coarse`.
    timing, tag
        Of the graph.
    projections
        Gets the Processes of each.
    """
    for projection in network.projections:
        if timing.depths[projection.target] == 0 and is_direct(network, projection):
            inputs[projection.source].append(populations[projection.target].a_in)
            projections[projection.name] = ()
            continue
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
            processes = _chain(network, projection, timing, tag, suffix, gain)
            for first, second in pairwise(processes):
                connect(first.s_out, second.s_in)
            connect(processes[-1].a_out, populations[projection.target].a_in)
            if isinstance(source, Input):
                inputs[source.name].append(processes[0].s_in)
            else:
                connect(getattr(populations[source.name], port_name), processes[0].s_in)
            made += processes
        projections[projection.name] = tuple(made)


def _chain(
    network: Network, projection: Projection, timing: Timing, tag: Tag, suffix: str, gain: int
) -> list[AbstractProcess]:
    """Delay line (if needed) and synapses of one projection, for one polarity."""
    source, target = network[projection.source], network[projection.target]
    name = projection.name + suffix
    if projection.delays is not None:
        return [
            DelayedSynapses(
                synapses=synapse_set(network, projection, timing.lag(projection)),
                source=source.shape, target=target.shape, interval=timing.interval,
                offset=timing.depths[target.name], name=name,
            )
        ]  # fmt: skip
    chain: list[AbstractProcess] = []
    n_held = timing.lag(projection) - 1
    # of the only sample, of a source that acts from the first step on, nothing is to be stopped
    stops = projection.delay > 0 and not (timing.is_single and timing.depths[source.name] == 0)
    if n_held > 0 or stops:
        chain.append(
            DelayLine(
                shape=source.shape,
                n_steps=n_held,
                delay=projection.delay,
                interval=timing.interval,
                offset=timing.depths[target.name],
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


def connect(source: OutPort, target: InPort) -> None:
    """Connect two ports of equal size; Lava's Dense has flat ones.

    Parameters
    ----------
    source, target
        The ports.
    """
    if tuple(source.shape) == tuple(target.shape):
        source.connect(target)
    else:
        source.reshape(tuple(target.shape)).connect(target)
