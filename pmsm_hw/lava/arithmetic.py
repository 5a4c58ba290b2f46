"""What the Lava models compute of projections, without Lava: synaptic sums.

Kept outside the folder of the Processes, since Lava executes every file there once per Process
when it looks for models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import Network, Projection, by_delay
from pmsm_hw.operators import (
    DenseForm,
    Form,
    WindowForm,
    exact_dtype,
    exact_product,
    lowered,
    magnitude,
)

__all__ = [
    "Arrivals",
    "Kernel",
    "Sent",
    "SynapseSet",
    "kernel",
    "largest_drive",
    "payload_max",
    "shifted_sum",
    "synapse_set",
]

Kernel: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class SynapseSet:
    """A projection, synapses of each delay apart.

    Parameters
    ----------
    parts
        ``(lag, delay, form)``: hardware steps between sending and arrival, of which so many at
        the start of a sample bring nothing, and the synapses.
    payload_max
        Bound on the absolute payload; decides the type in which sums are exact.
    weight_exponent
        Left shift (negative: right shift, floor) of the sum over all parts.
    """

    parts: tuple[tuple[int, int, Form], ...]
    payload_max: int
    weight_exponent: int


def payload_max(network: Network, name: str) -> int:
    """Bound on the absolute payload of a population.

    Parameters
    ----------
    network
        Which it belongs to.
    name
        Of the population.
    """
    bound = network.bounds[name]
    return max(abs(bound.payload_min), abs(bound.payload_max))


def largest_drive(network: Network, name: str) -> int:
    """Bound on the absolute sum of what reaches a neuron of a population in a step.

    Parameters
    ----------
    network
        Which it belongs to.
    name
        Of the population.
    """
    total = 0
    for projection in network.into(name):
        most = magnitude(lowered(network, projection), payload_max(network, projection.source))
        exponent = projection.weight_exponent
        total += most << exponent if exponent >= 0 else -(-most >> -exponent)
    return total


def synapse_set(network: Network, projection: Projection, lag: int) -> SynapseSet:
    """What a projection is made of.

    Parameters
    ----------
    network
        Which it belongs to.
    projection
        Which.
    lag
        Hardware steps from sending to integration, without delays of synapses.
    """
    more = lag - projection.delay
    return SynapseSet(
        parts=tuple(
            (more + part.delay, part.delay, lowered(network, part)) for part in by_delay(projection)
        ),
        payload_max=payload_max(network, projection.source),
        weight_exponent=projection.weight_exponent,
    )


class Sent:
    """What a source sent in its latest steps.

    Parameters
    ----------
    n_steps
        How far back is remembered.
    """

    def __init__(self, n_steps: int) -> None:
        self._ring: list[NDArray[Any] | None] = [None] * n_steps
        self._next = 0

    def add(self, payload: NDArray[Any]) -> None:
        """Take down what was sent in a step.

        Parameters
        ----------
        payload
            Of the source, in its shape.
        """
        self._ring[self._next] = payload
        self._next = (self._next + 1) % len(self._ring)

    def ago(self, lag: int) -> NDArray[Any] | None:
        """What was sent in the step that is so far before the next one; None before the first.

        Parameters
        ----------
        lag
            How far, from 1 to ``n_steps``.
        """
        return self._ring[(self._next - lag) % len(self._ring)]


class Arrivals:
    """What one projection adds to its target in a step.

    Parameters
    ----------
    synapses
        Of the projection.
    target
        Shape of the target.
    dtype
        As for `kernel`.
    """

    def __init__(self, synapses: SynapseSet, target: tuple[int, ...], dtype: Any) -> None:
        self._parts = [
            (lag, delay, kernel(form, synapses.payload_max, target, dtype))
            for lag, delay, form in synapses.parts
        ]
        self._exponent = synapses.weight_exponent
        self._nothing = dtype(0)
        self.longest = max(lag for lag, _, _ in self._parts)

    def __call__(self, sent: Sent, in_sample: int) -> Any:
        """Sum of what arrives in a step; a plain 0 where nothing does.

        Parameters
        ----------
        sent
            By the source, up to the step before.
        in_sample
            Number of the step in its sample.
        """
        total = self._nothing
        for lag, delay, apply in self._parts:
            if in_sample >= delay:
                payload = sent.ago(lag)
                if payload is not None and payload.any():
                    total = total + apply(payload)
        return shifted_sum(total, self._exponent)


def shifted_sum(total: Any, exponent: int) -> Any:
    """``total << exponent``, or its floor where the exponent is negative.

    Parameters
    ----------
    total
        Integers, or integer-valued float64.
    exponent
        Of two.
    """
    if exponent >= 0:
        return total * total.dtype.type(1 << exponent)
    if total.dtype.kind == "f":
        return np.floor(total / (1 << -exponent))
    return total >> -exponent


def kernel(form: Form, payload_max: int, target: tuple[int, ...], dtype: Any) -> Kernel:
    """Prepare the sum of one projection for one sample and step.

    Parameters
    ----------
    form
        The projection; its weights may be any integers.
    payload_max
        Bound on the absolute payload; decides the type in which sums are exact.
    target
        Shape of the target population.
    dtype
        Type of the result: ``numpy.int64``, or ``numpy.float64`` in floating-point models.

    Returns
    -------
    callable
        Payload of the source, any shape with its number of values, to ``w * payload`` summed over
        the synapses of each target neuron, in the target's shape.
    """
    inner: Any = exact_dtype(magnitude(form, max(payload_max, 1)))
    if isinstance(form, DenseForm):
        matrix = form.weight.astype(inner)

        def dense(payload: NDArray[Any]) -> NDArray[Any]:
            total = exact_product(matrix, payload.reshape(-1).astype(inner))
            return total.astype(dtype).reshape(target)

        return dense
    return _window(form, inner, target, dtype)


def _window(form: WindowForm, inner: Any, target: tuple[int, ...], dtype: Any) -> Kernel:
    """Gather all windows by strides, then one matrix product per group."""
    c_out, h_out, w_out = form.target
    c_in, h_in, w_in = form.source
    _, c_group, kh, kw = form.weight.shape
    (top, bottom), (left, right) = form.padding
    weight = form.weight.reshape(form.groups, c_out // form.groups, -1).astype(inner)
    padded = np.zeros((c_in, h_in + top + bottom, w_in + left + right), inner)
    inside = padded[:, top : top + h_in, left : left + w_in]
    sc, sy, sx = padded.strides
    windows = np.lib.stride_tricks.as_strided(
        padded,
        (form.groups, c_group, kh, kw, h_out, w_out),
        (
            c_group * sc,
            sc,
            form.dilation[0] * sy,
            form.dilation[1] * sx,
            form.stride[0] * sy,
            form.stride[1] * sx,
        ),
        writeable=False,
    )

    def window(payload: NDArray[Any]) -> NDArray[Any]:
        inside[...] = payload.reshape(form.source)
        columns = windows.reshape(form.groups, c_group * kh * kw, h_out * w_out)
        # one synapse each (identity, pointwise depthwise) needs no matrix product
        total = weight * columns if columns.shape[1] == 1 else exact_product(weight, columns)
        return total.astype(dtype).reshape(target)

    return window
