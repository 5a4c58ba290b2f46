"""Proof that no reachable state leaves its width, by interval analysis.

For each neuron (or channel, where all neurons of a channel are alike) the summed input lies in an
interval that follows from the weights and from the payload intervals of the sources. Stepping the
neuron equation on intervals for ``max_steps`` steps bounds ``u``; clipping and division bound the
spikes, which are the payload intervals of the next population. Recurrent networks iterate to the
widest spike range that the levels allow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import NetworkError
from pmsm_hw.network import (
    STATE_MAX,
    STATE_MIN,
    Input,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
    Readout,
    StateBound,
)
from pmsm_hw.operators import DenseForm, chw, lowered

__all__ = ["prove_bounds"]

_LARGEST_SUM = 1 << 44
"""Times 4,096 steps and 64 projections, this is still far from 2**63."""

Interval = tuple[NDArray[np.int64], NDArray[np.int64]]


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
    # a delayed source may act after its target: start from all that its levels allow
    for projection in network.projections:
        if projection.delay:
            source = network[projection.source]
            payloads[source.name] = _widest_payload(source, network.max_steps)
    for population in network.topological:
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
        bias = _chw_parameter(population.bias, population)  # type: ignore[attr-defined]
        low, high = low + bias, high + bias
        _check_sum(population.subject, max(-int(low.min()), int(high.max())) >> 6)
        if isinstance(population, Readout):
            steps = network.max_steps
            u_min, u_max = int((low * steps).min()), int((high * steps).max())
            u_min, u_max = min(u_min, int(low.min())), max(u_max, int(high.max()))
            bounds[population.name] = StateBound(
                u_min=u_min, u_max=u_max, k_min=0, k_max=0, payload_min=0, payload_max=0
            )
        else:
            assert isinstance(population, PolarityMultiSpike)
            bound, payload = _neuron(population, low, high, network.max_steps)
            bounds[population.name] = bound
            payloads[population.name] = payload
    return bounds


def _chw_parameter(array: NDArray[Any], population: Population) -> NDArray[Any]:
    if array.ndim == 0:
        return array.reshape(1, 1, 1)
    return array.reshape(chw(array.shape))


def _payload_interval(
    population: PolarityMultiSpike, k_min: NDArray[np.int64], k_max: NDArray[np.int64]
) -> Interval:
    """Payload range over ``[k_min, k_max]``, zero (no spike, padding) included."""
    first, last = population.payload(k_min), population.payload(k_max)
    low, high = np.minimum(first, last), np.maximum(first, last)
    return np.minimum(low, 0), np.maximum(high, 0)


def _widest_payload(population: Population, max_steps: int) -> Interval:
    one = np.ones((1, 1, 1), np.int64)
    if isinstance(population, Input):
        lo, hi = population.levels
        return one * min(lo, 0), one * max(hi, 0)
    if isinstance(population, PolarityMultiSpike):
        k_min, k_max = _spike_limits(population, max_steps)
        return _payload_interval(population, one * k_min, one * k_max)
    return one * 0, one * 0


def _spike_limits(population: PolarityMultiSpike, t: int) -> tuple[int, int]:
    """Least and greatest spike at step ``t = 1, 2, ...`` that the rule allows."""
    n, p = population.levels
    if population.rule == "bounded":
        return -n * t - p * (t - 1), p * t + n * (t - 1)
    return -n, p


def _drive(network: Network, projection: Projection, payload: Interval) -> Interval:
    """Interval of what one projection adds in a step, broadcastable to the target's (c, h, w)."""
    form = lowered(network, projection)
    source, target = network[projection.source], network[projection.target]
    lo, hi = payload
    largest = max(abs(int(lo.min())), abs(int(hi.max())))
    n_inputs = form.weight.size // len(form.weight)
    weight_max = max(-int(form.weight.min()), int(form.weight.max()))
    _check_sum(projection.subject, (n_inputs * weight_max * largest) << projection.weight_exponent)
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
    return low << projection.weight_exponent, high << projection.weight_exponent


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


def _clip(values: NDArray[np.int64], low: int, high: int) -> Any:
    """`numpy.clip` of small arrays, at a third of its price."""
    return np.minimum(np.maximum(values, low), high)


def _neuron(
    population: PolarityMultiSpike, low: NDArray[np.int64], high: NDArray[np.int64], steps: int
) -> tuple[StateBound, Interval]:
    """Step the neuron on intervals; ``low`` and ``high`` include the bias."""
    k_lo: Any
    k_hi: Any
    theta = _chw_parameter(population.theta, population)
    start = _chw_parameter(population.start, population)
    n, p = population.levels
    v_min = v_max = start
    u_lo, u_hi = v_min + low, v_max + high
    k_lo, k_hi = _LARGEST_SUM, -_LARGEST_SUM  # no spike is
    saturate = population.overflow == "saturate"
    for t in range(1, steps + 1):
        u_min, u_max = v_min + low, v_max + high
        u_lo, u_hi = np.minimum(u_lo, u_min), np.maximum(u_hi, u_max)
        if saturate:
            u_min, u_max = (_clip(u, STATE_MIN, STATE_MAX) for u in (u_min, u_max))
        at_least, at_most = _spike_limits(population, t)
        k_lo = np.minimum(k_lo, _clip(u_min // theta, at_least, at_most))
        k_hi = np.maximum(k_hi, _clip(u_max // theta, at_least, at_most))
        if population.rule == "bounded":
            # the running sum may forbid what floor(u / theta) asks for, and then allows 0
            k_lo, k_hi = np.minimum(k_lo, 0), np.maximum(k_hi, 0)
        if population.rule == "reset":
            break  # every step is like the first
        if population.rule == "carry":
            rest_min, rest_max = u_min + n * theta, u_max - p * theta
        elif saturate:
            # S is unknown once u was clipped: the rest lies between u and [0, theta)
            rest_min, rest_max = u_min, u_max
        else:
            # v = v_init + all input so far - S * theta, and S is within [-n t, p t]
            rest_min = start + low * t + n * t * theta
            rest_max = start + high * t - p * t * theta
        v_before = v_min, v_max
        v_min = np.minimum(rest_min, 0)
        v_max = np.maximum(rest_max, theta - 1)
        if saturate:
            v_min, v_max = (_clip(v, STATE_MIN, STATE_MAX) for v in (v_min, v_max))
        if population.rule == "bounded":
            # and never outside the interval of u itself, nor of the unclipped residue
            v_min = np.maximum(v_min, np.minimum(u_min, 0))
            v_max = np.minimum(v_max, np.maximum(u_max, theta - 1))
        elif all(map(np.array_equal, v_before, (v_min, v_max))):
            break  # and so is every further step like this one
    pay_lo, pay_hi = _payload_interval(population, k_lo, k_hi)
    bound = StateBound(
        u_min=int(u_lo.min()),
        u_max=int(u_hi.max()),
        k_min=int(k_lo.min()),
        k_max=int(k_hi.max()),
        payload_min=int(pay_lo.min()),
        payload_max=int(pay_hi.max()),
    )
    return bound, (pay_lo, pay_hi)
