"""Weights of linear maps: as rows by channel, and what they can add up to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pmsm_hw.network import Shape
from pmsm_hw.nn.expressions import Channelwise, Expression, Flat, Map, Matrix, Pool

__all__ = ["driven", "fan_in", "numbers", "row_maxima", "row_sums", "rows"]


def driven(drive: Expression, reaches: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Least and most that terms can add up to at a neuron, by channel, without the bias.

    Parameters
    ----------
    drive
        What reaches a population.
    reaches
        Smallest and largest payload of each term's source.
    """
    low = torch.zeros(drive.shape[0], dtype=torch.float64, device=drive._device)
    high = low
    for term, (lo, hi) in zip(drive.terms, reaches, strict=True):
        positive, negative = row_sums(term.map, drive.shape)
        low = low + lo * positive + hi * negative
        high = high + hi * positive + lo * negative
    return low, high


def fan_in(map_: Map) -> int:
    """Number of weights onto a neuron."""
    if isinstance(map_, Channelwise | Pool):
        return math.prod(map_.kernel) if isinstance(map_, Pool) else 1
    return numbers(map_)[0].numel()


def numbers(map_: Map) -> Tensor:
    """Weights of a map, or its factors."""
    assert not isinstance(map_, Flat), "flattened terms are written out before"
    return map_.scale if isinstance(map_, Channelwise | Pool) else map_.weight


def rows(map_: Map, channels: int) -> Tensor:
    """Weights onto each channel of the target, ``(channels, n)``, without gradient."""
    values = numbers(map_).detach()
    if not isinstance(map_, Channelwise | Pool):
        return values.reshape(channels, -1)
    found = values.new_zeros((channels, 1), dtype=torch.float64)
    found[map_.offset : map_.offset + len(values), 0] = values
    return found


def row_maxima(map_: Map, shape: Shape) -> Tensor:
    """Largest absolute weight onto each channel of the target, ``(channels,)``, no gradient."""
    return rows(map_, shape[0]).abs().amax(1)


def row_sums(map_: Map, shape: Shape) -> tuple[Tensor, Tensor]:
    """Largest sum of the positive and least of the negative weights onto a neuron, by channel."""
    channels = shape[0]
    if isinstance(map_, Channelwise | Pool):
        sums = torch.zeros(channels, dtype=torch.float64, device=map_.scale.device)
        n = math.prod(map_.kernel) if isinstance(map_, Pool) else 1
        sums[map_.offset : map_.offset + len(map_.scale)] = map_.scale.detach() * n
        return sums.clamp(min=0), sums.clamp(max=0)
    assert not isinstance(map_, Flat), "flattened terms are written out before"
    weight = map_.weight.detach()
    neurons = len(weight) // channels if isinstance(map_, Matrix) else 1
    rows = weight.reshape(channels, neurons, -1)
    return rows.clamp(min=0).sum(2).amax(1), rows.clamp(max=0).sum(2).amin(1)
