"""How populations step in the reference: by their model's definition, or by a kernel of its own.

A kernel is registered with ``KERNELS.register(kind, class)`` in a module of this package for that
model; a model without one runs its step in plain numpy, in int64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.neurons import Backend, Neurons, arranged

__all__ = ["KERNELS", "Arrange", "NeuronKernel", "Sums", "kernel_of"]

Arrange: TypeAlias = Callable[[NDArray[Any], Any], NDArray[Any]]
"""Brings an array of a parameter into rows (``Layer.rows``), and into a type."""


class Sums(NamedTuple):
    """How large the sums of a population's projections get, in absolute value."""

    largest: int
    """Of one projection, before its shift by the weight exponent."""
    total: int
    """Of all together."""
    n_projections: int


class NeuronKernel:
    """Steps a population by the definition of its model; base class of kernels.

    Parameters
    ----------
    population
        Which.
    arrange
        Brings its parameters into the layout of the arrays below.
    sums
        Of its input.
    max_steps
        Of the network.
    compiled
        Whether compiled loops pay.

    Attributes
    ----------
    dtype
        Type of the summed input, and of the states.
    start
        State variables at the start of a sample.
    """

    def __init__(
        self,
        population: Neurons,
        arrange: Arrange,
        sums: Sums,
        max_steps: int,
        compiled: bool,
    ) -> None:
        self.population: Any = population
        self.dtype = self.state_type(sums, max_steps)
        self.compiled = compiled
        self.parameters = arranged(
            population,
            lambda array: arrange(array, array.dtype if array.dtype.kind == "f" else self.dtype),
        )
        self.start = population.model.start(self.parameters)

    def state_type(self, sums: Sums, max_steps: int) -> type[Any]:
        """Type in which input, states and all between are exact.

        Parameters
        ----------
        sums, max_steps
            As for the class.
        """
        return np.int64

    def advance(
        self,
        drive: NDArray[Any],
        state: Mapping[str, NDArray[Any]],
        t0: int,
        k: NDArray[Any],
        active: NDArray[np.bool_],
    ) -> int:
        """Step some samples; return how many values left their width.

        Parameters
        ----------
        drive
            ``(batch, 1 or n_steps, rows, row length)``: summed input.
        state
            By variable, ``(batch, rows, row length)``: changed in place; set to the start at the
            first step.
        t0
            Steps taken before.
        k, active
            ``(batch, n_steps, rows, row length)``: written (``k`` only if the model fires).
        """
        model = self.population.model
        current = dict(self.start if t0 == 0 else state)
        outside = 0
        for t in range(k.shape[1]):
            inputs = drive[:, t if drive.shape[1] > 1 else 0]
            step = model.step(self.parameters, current, inputs, t0 + t)
            current, outside = step.state, outside + step.outside
            active[:, t] = step.active
            if model.fires:
                k[:, t] = step.spikes
        for name, values in state.items():
            values[...] = current[name]
        return outside

    def payload(self, spikes: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
        """What spikes carry.

        Parameters
        ----------
        spikes
            ``(batch, steps, rows, row length)``, in their smallest type.
        dtype
            Smallest type of the payload.
        """
        payload: NDArray[Any] = self.population.model.payload(
            self.parameters, spikes.astype(np.int64)
        )
        return payload.astype(dtype)


KERNELS: Backend[type[NeuronKernel]] = Backend(
    "the reference", "register a kernel with pmsm_hw.reference.neurons.KERNELS.register"
)


def kernel_of(population: Neurons) -> type[NeuronKernel]:
    """Kernel of a population's model, or the plain one.

    Parameters
    ----------
    population
        Which.
    """
    return KERNELS.find(population) or NeuronKernel
