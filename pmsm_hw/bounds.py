"""Proof that no reachable state leaves its width, by interval analysis.

For each neuron (or channel, where all neurons of a channel are alike) the summed input lies in an
interval that follows from the weights and from the payload intervals of the sources. Stepping the
neuron equation on intervals for ``max_steps`` steps bounds ``u``; clipping and division bound the
spikes, which are the payload intervals of the next population. In a cycle, projections deliver from
the start all that the spike range of their source's model allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import NetworkError
from pmsm_hw.network import Input, Network, Neurons, Population, Projection, StateBound, shifted
from pmsm_hw.neurons import Interval, arranged
from pmsm_hw.operators import DenseForm, chw, lowered

__all__ = ["prove_bounds"]

_LARGEST_SUM = 1 << 44
"""Times 4,096 steps and 64 projections, this is still far from 2**63."""

Array = NDArray[np.int64]


def prove_bounds(network: Network) -> dict[str, StateBound]:
    """Bound state and spikes of every population over ``network.max_steps`` steps.

    Parameters
    ----------
    network
        Its structure is valid; its bounds need not fit.

    Returns
    -------
    dict
        By population name, in topological order.
    """
    bounds: dict[str, StateBound] = {}
    payloads: dict[str, Interval] = {}
    for component in network.components:
        if network.is_cycle(component):
            # a source may act after its target: start from all that its levels allow
            for population in component:
                payloads[population.name] = _widest_payload(population, network.max_steps)
        _prove(network, component, bounds, payloads)
    return {population.name: bounds[population.name] for population in network.topological}


def _prove(
    network: Network,
    component: Sequence[Population],
    bounds: dict[str, StateBound],
    payloads: dict[str, Interval],
) -> None:
    """Bound populations, whose sources are bounded or among them."""
    for population in component:
        if isinstance(population, Input):
            payloads[population.name] = _widest_payload(population, network.max_steps)
            lo, hi = population.levels
            bounds[population.name] = StateBound(
                u_min=lo, u_max=hi, k_min=lo, k_max=hi, payload_min=lo, payload_max=hi
            )
            continue
        low = np.zeros((chw(population.shape)[0], 1, 1), np.int64)
        high = low
        for projection in network.into(population.name):
            lo_in, hi_in = _drive(network, projection, payloads[projection.source])
            low, high = low + lo_in, high + hi_in
        assert isinstance(population, Neurons)
        _check_sum(population.subject, max(-int(low.min()), int(high.max())) >> 6)
        bounds[population.name], payloads[population.name] = _stepped(
            population, (low, high), network.max_steps
        )


def _chw_parameter(array: NDArray[Any], population: Population) -> NDArray[Any]:
    if array.ndim == 0:
        return array.reshape(1, 1, 1)
    return array.reshape(chw(array.shape))


def _payload_interval(population: Neurons, k_min: Array, k_max: Array) -> Interval:
    """Payload range over ``[k_min, k_max]``, zero (no spike, padding) included."""
    first, last = population.payload(k_min), population.payload(k_max)
    low, high = np.minimum(first, last), np.maximum(first, last)
    return np.minimum(low, 0), np.maximum(high, 0)


def _widest_payload(population: Population, max_steps: int) -> Interval:
    one = np.ones((1, 1, 1), np.int64)
    if isinstance(population, Input):
        lo, hi = population.levels
        return one * min(lo, 0), one * max(hi, 0)
    assert isinstance(population, Neurons)
    k_min, k_max = population.model.spike_range(population, max_steps)
    return _payload_interval(population, one * k_min, one * k_max)


def _drive(network: Network, projection: Projection, payload: Interval) -> Interval:
    """Interval of what one projection adds in a step, broadcastable to the target's (c, h, w)."""
    form = lowered(network, projection)
    source, target = network[projection.source], network[projection.target]
    lo, hi = payload
    largest = max(abs(int(lo.min())), abs(int(hi.max())))
    n_inputs = form.weight.size // len(form.weight)
    weight_max = max(-int(form.weight.min()), int(form.weight.max()))
    exponent = projection.weight_exponent
    _check_sum(projection.subject, (n_inputs * weight_max * largest) << max(exponent, 0))
    if isinstance(form, DenseForm):
        shape = chw(source.shape)
        lo_, hi_ = (np.broadcast_to(a, shape).reshape(-1).astype(np.float64) for a in (lo, hi))
        n_post, n_pre = form.weight.shape
        ends = np.empty((2, n_post), np.int64)
        for rows in _row_blocks(n_post, n_pre):
            # float64 products are exact: |w| * payload * n_pre stays below 2**53
            positive = np.maximum(form.weight[rows], 0).astype(np.float64)
            negative = np.minimum(form.weight[rows], 0).astype(np.float64)
            ends[0, rows] = positive @ lo_ + negative @ hi_
            ends[1, rows] = positive @ hi_ + negative @ lo_
        low, high = ends.reshape(2, *chw(target.shape))
    else:
        weight = form.weight.astype(np.int64)
        total = weight.sum(axis=(2, 3))
        positive_sum = np.maximum(weight, 0).sum(axis=(2, 3))
        negative_sum = total - positive_sum
        c_out, c_group = total.shape
        lo_c, hi_c = lo.min(axis=(1, 2)), hi.max(axis=(1, 2))
        if len(lo_c) > 1:
            # channels of the source that each output channel reads
            group = np.arange(c_out) // (c_out // form.groups)
            channels = group[:, None] * c_group + np.arange(c_group)
            lo_c, hi_c = lo_c[channels], hi_c[channels]
        low = (positive_sum * lo_c + negative_sum * hi_c).sum(axis=1)[:, None, None]
        high = (positive_sum * hi_c + negative_sum * lo_c).sum(axis=1)[:, None, None]
    # rounding down is monotonic; synapses that deliver nothing yet are within the interval, too
    return shifted(low, exponent), shifted(high, exponent)


def _check_sum(subject: str, largest: int) -> None:
    """Refuse sums that could leave the 64 bits this proof computes in."""
    if largest >= _LARGEST_SUM:
        raise NetworkError(
            subject,
            f"may add up to {largest:,} in a step, the proof ends at {_LARGEST_SUM:,}",
            remedy="use smaller weights, levels or gains",
            actual=largest,
            limit=_LARGEST_SUM,
        )


def _row_blocks(n_rows: int, n_columns: int) -> list[slice]:
    """Blocks of rows with at most some 4 million elements, so that a large layer needs no copy."""
    step = max(1, (1 << 22) // n_columns)
    return [slice(i, min(i + step, n_rows)) for i in range(0, n_rows, step)]


def _stepped(population: Neurons, drive: Interval, n_steps: int) -> tuple[StateBound, Interval]:
    """Bound what a population reaches within so many steps, and its payload."""
    u, k = _reached(population, drive, n_steps)
    payload = _payload_interval(population, *k) if population.fires else k
    bound = StateBound(
        u_min=int(u[0].min()),
        u_max=int(u[1].max()),
        k_min=int(k[0].min()),
        k_max=int(k[1].max()),
        payload_min=int(payload[0].min()),
        payload_max=int(payload[1].max()),
    )
    return bound, payload


def _reached(population: Neurons, drive: Interval, n_steps: int) -> tuple[Interval, Interval]:
    """``u`` and spikes over all steps, on intervals."""
    model = population.model
    p = arranged(population, lambda array: _chw_parameter(array, population))
    if model.interval_steps is not None:
        step = model.interval_steps(p, drive, n_steps)
        return step.u, step.spikes
    state = {name: (start, start) for name, start in model.start(p).items()}
    u = k = None
    for t in range(n_steps):
        step = model.interval_step(p, state, drive, t)
        u, k = _hull(u, step.u), _hull(k, step.spikes)
        if t + 1 == n_steps or _is_same(state, step.state):
            break  # every further step is like this one
        state = step.state
    assert u is not None
    assert k is not None
    return u, k


def _is_same(a: Mapping[str, Interval], b: Mapping[str, Interval]) -> bool:
    return all(
        x is y or np.array_equal(x, y) for name in a for x, y in zip(a[name], b[name], strict=True)
    )


def _hull(a: Interval | None, b: Interval) -> Interval:
    return b if a is None else (np.minimum(a[0], b[0]), np.maximum(a[1], b[1]))
