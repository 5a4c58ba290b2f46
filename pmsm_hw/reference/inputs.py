"""Inputs of a run: names, shapes and values, brought into units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import array_of, as_integer, instance, shown
from pmsm_hw.errors import InputError
from pmsm_hw.network import Input, Network

__all__ = ["Inputs", "check_carried", "check_steps", "inputs_of", "units_of"]

Inputs: TypeAlias = ArrayLike | Mapping[str, ArrayLike]


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


def check_carried(network: Network, n_samples: int, n_steps: int) -> None:
    """Raise `InputError` unless so many samples can carry their state on, as one long sample.

    Parameters
    ----------
    network
        What runs.
    n_samples, n_steps
        Samples, and steps of each.
    """
    if n_samples * n_steps > network.max_steps:
        raise InputError(
            f"network '{network.name}'",
            f"{n_samples:,} samples of {n_steps:,} steps, whose state is carried on, are "
            f"{n_samples * n_steps:,} steps and exceed max_steps {network.max_steps}, up to which "
            "its state is proven to fit",
            remedy="make it with a larger max_steps, or run fewer samples",
            actual=n_samples * n_steps,
            limit=network.max_steps,
        )


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
