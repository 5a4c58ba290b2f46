"""The network of rounded populations."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pmsm_hw.convert.rounding import Rounded, RoundedNeurons, RoundedProjection, RoundedReadout
from pmsm_hw.convert.settings import Settings
from pmsm_hw.network import (
    STATE_MAX,
    STATE_MIN,
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
    Readout,
    SumPool,
)
from pmsm_hw.nn.expressions import Channelwise, Flat, Pool, Window
from pmsm_hw.nn.lowering import InputPlan, RelayPlan

__all__ = ["given", "network_of"]


def network_of(
    rounded: Mapping[str, Rounded],
    settings: Settings,
    saturated: Set[str],
    name: str,
    *,
    is_probe: bool = False,
) -> Network:
    """Make a network of integers.

    Parameters
    ----------
    rounded
        Populations in topological order.
    settings
        Give rule and number of steps.
    saturated
        Names of the populations whose state is clipped.
    name
        Of the network.
    is_probe
        Whether bounds alone are asked for: of states and numbers that need not fit. What a
        population itself has (bias, threshold) is clipped then.
    """
    populations: list[Population] = []
    projections: list[Projection] = []
    for key, population in rounded.items():
        if isinstance(population, InputPlan):
            populations.append(
                Input(
                    name=key,
                    shape=population.shape,
                    scale=population.scale,
                    levels=population.levels,
                )
            )
            continue
        overflow: Any = "saturate" if is_probe or key in saturated else "error"
        shape = population.plan.shape
        bias = _int(population.bias, shape)
        if is_probe:
            bias = bias.clip(STATE_MIN, STATE_MAX)
        if isinstance(population, RoundedReadout):
            populations.append(
                Readout(
                    name=key,
                    shape=shape,
                    scale=population.unit.cpu().numpy(),
                    bias=bias,
                    overflow=overflow,
                )
            )
        else:
            theta, start = (_int(v, shape) for v in (population.theta, population.start))
            if is_probe:
                theta, start = theta.clip(max=STATE_MAX), start.clip(max=STATE_MAX)
            populations.append(
                PolarityMultiSpike(
                    name=key,
                    shape=shape,
                    theta=theta,
                    bias=bias,
                    v_init=start,
                    levels=population.levels,
                    gains=population.gains,
                    rule="carry" if isinstance(population.plan, RelayPlan) else settings.rule,
                    overflow=overflow,
                )
            )
        taken: set[str] = set()
        for projection in population.projections:
            label, i = f"{projection.source}->{key}", 1
            while label in taken:
                i += 1
                label = f"{projection.source}->{key}#{i}"
            taken.add(label)
            projections.append(_projection(projection, key, label, shape))
    return Network(
        name=name,
        populations=tuple(populations),
        projections=tuple(projections),
        max_steps=settings.max_steps,
    )


def given(population: RoundedNeurons | RoundedReadout) -> tuple[int, int]:
    """Smallest and largest of a population's own numbers, biases and thresholds."""
    least, most = int(population.bias.min()), int(population.bias.max())
    if isinstance(population, RoundedNeurons):
        most = max(most, int(population.theta.max()))
    return least, most


def _int(tensor: Tensor, shape: tuple[int, ...]) -> NDArray[np.int64]:
    array = tensor.detach().cpu().numpy()
    if array.ndim and array.shape[1:] != (1,) * (array.ndim - 1):
        array = np.broadcast_to(array, shape)
    return array.astype(np.int64)


def _projection(
    projection: RoundedProjection, target: str, name: str, shape: tuple[int, ...]
) -> Projection:
    """The network's form of a rounded projection."""
    map_ = projection.map
    common: dict[str, Any] = {
        "source": projection.source,
        "target": target,
        "name": name,
        "weight_exponent": projection.exponent,
    }
    if isinstance(map_, Channelwise | Pool):
        scale = map_.scale.detach().cpu().numpy().astype(np.int8)
        if map_.is_plain:
            weight = scale[0] if (scale == scale[0]).all() else scale
            if isinstance(map_, Channelwise):
                return Identity(weight=np.array(weight), **common)
            return SumPool(
                kernel=map_.kernel,
                stride=map_.stride,
                padding=map_.padding,
                weight=np.array(weight),
                **common,
            )
        kernel = map_.kernel if isinstance(map_, Pool) else (1,) * (len(shape) - 1)
        rows = np.zeros((map_.total, len(scale), *kernel), np.int8)
        index = np.arange(len(scale))
        rows[map_.offset + index, index] = scale.reshape((-1,) + (1,) * len(kernel))
        if not kernel:
            return Dense(weight=rows, **common)
        conv = Conv1d if len(kernel) == 1 else Conv2d
        if isinstance(map_, Pool):
            return conv(weight=rows, stride=map_.stride, padding=map_.padding, **common)
        return conv(weight=rows, **common)
    assert not isinstance(map_, Flat)
    weight = map_.weight.detach().cpu().numpy().astype(np.int8)
    if isinstance(map_, Window):
        conv = Conv1d if weight.ndim == 3 else Conv2d
        return conv(
            weight=weight,
            stride=map_.stride,
            padding=map_.padding,
            dilation=map_.dilation,
            groups=map_.groups,
            **common,
        )
    return Dense(weight=weight, **common)
