"""Scales of populations whose numbers already are integers times one step.

For each channel: the step of which its weights, threshold and bias are multiples, up to what
float32 says of products of two parameters. A readout, or a population with one scale for all
channels, needs one step for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pmsm_hw.convert.weights import rows
from pmsm_hw.exact_step import common_step, multiples
from pmsm_hw.network.limits import CONVERTED_WEIGHT_EXPONENT, STATE_MAX
from pmsm_hw.nn.expressions import Expression

__all__ = ["ExactChannels", "exact_channels"]

RELATIVE_ERROR = 2.0**-22
"""Of products of two float32 numbers: a weight times the value of a spike."""


@dataclass(frozen=True, kw_only=True)
class ExactChannels:
    """Channels with a step of their own.

    Parameters
    ----------
    step
        ``(channels,)`` float64, nan where there is none.
    fraction
        ``(channels,)`` int64: bits that the step is finer than the weights need, so that weights
        are integers times ``step << fraction``; or, with ``exponents``, minus the bits that state
        is finer than the step: the unit of state is ``step << fraction``.
    exponents
        ``weight_exponent`` of each projection where all channels have a step and all weights fit;
        else None.
    """

    step: Tensor
    fraction: Tensor
    exponents: tuple[int, ...] | None

    @property
    def mask(self) -> Tensor:
        """Channels that have a step, bool."""
        return torch.isfinite(self.step)


def exact_channels(
    drive: Expression, theta: Tensor | None, bias: Tensor | None, *, bits: int, shared: bool
) -> ExactChannels | None:
    """Find the channels that integers hold without rounding.

    Parameters
    ----------
    drive
        What reaches the population; gives the weights.
    theta, bias
        In real values; None where there is none.
    bits
        Of a weight, sign included; with the sign's extra value, as -2 in two bits.
    shared
        One step for all channels.

    Returns
    -------
    ExactChannels or None
        None if no channel has a step.
    """
    channels = drive.shape[0]
    if not drive.terms:
        return None
    with torch.no_grad():
        may_be = _may_be_small(drive, bits, shared)
        if not bool(may_be.any()):
            return None
        index = may_be.nonzero()[:, 0]
        weights = [_of(rows(t.map, channels), channels, index) for t in drive.terms]
        others = [_of(v, channels, index) for v in (theta, bias) if v is not None]
    step = _steps([*weights, *others], shared)
    found = np.isfinite(step)
    if not found.any():
        return None
    integers = [multiples(w[found], step[found, None]) for w in weights]
    values = [multiples(v[found], step[found, None]) for v in others]
    zeros = np.stack([_trailing_zeros(k) for k in integers])  # (projections, channels)
    has_weights = np.any([k.any(axis=1) for k in integers], axis=0)
    fraction = np.where(has_weights, zeros.min(axis=0), 0)
    if shared:
        fraction[:] = fraction[has_weights].min() if has_weights.any() else 0
    exponents = None
    if found.all() and len(index) == channels:
        whole = _exponents(integers, values, zeros, bits, shared)
        if whole is not None:
            exponents, fraction = whole
    if exponents is None:
        # beside rounded channels: all projections in one unit
        fits = np.all([_fit(k, fraction[:, None], bits) for k in integers], axis=0)
        if shared or not fits.any():
            return None
        step[np.flatnonzero(found)[~fits]] = np.nan
        found, fraction = np.isfinite(step), fraction[fits]
    at = index.cpu().numpy()[found]
    every, below = np.full(channels, np.nan), np.zeros(channels, np.int64)
    every[at], below[at] = step[found], fraction
    return ExactChannels(
        step=torch.from_numpy(every).to(index.device),
        fraction=torch.from_numpy(below).to(index.device),
        exponents=exponents,
    )


def _of(values: Tensor, channels: int, index: Tensor) -> NDArray[np.float64]:
    """Rows of some channels, of one value for all or ``(channels, ...)``."""
    every = values.detach().to(torch.float64).reshape(values.shape[0] if values.ndim else 1, -1)
    return every.expand(channels, -1).index_select(0, index).cpu().numpy()


def _may_be_small(drive: Expression, bits: int, shared: bool) -> Tensor:
    """Channels whose smallest and largest weight are in a ratio of small integers.

    Trained weights are not, so that this is all that most populations cost.
    """
    channels = drive.shape[0]
    keep = torch.ones(channels, dtype=torch.bool, device=drive._device)
    numerators = torch.arange(1, (1 << (bits - 1)) + 1, device=drive._device, dtype=torch.float64)
    for term in drive.terms:
        weights = rows(term.map, channels).abs()
        largest = weights.amax(1)
        smallest = torch.where(weights > 0, weights, torch.inf).amin(1)
        if shared:
            largest, smallest = largest.amax()[None], smallest.amin()[None]
        products = (smallest / largest)[:, None] * numerators
        off = (products - products.round()).abs() <= 4 * RELATIVE_ERROR * products
        is_small = (off & (products > 0.5)).any(1)
        keep &= is_small | (largest == 0)
    return keep & keep.all() if shared else keep


def _steps(parts: Sequence[NDArray[np.float64]], shared: bool) -> NDArray[np.float64]:
    """Step of each channel, nan where there is none."""
    groups = [parts] if shared else list(zip(*parts, strict=True))
    found = [common_step(*group, relative_error=RELATIVE_ERROR) for group in groups]
    steps = np.array([np.nan if step is None else step for step in found])
    return np.broadcast_to(steps, len(parts[0])).copy()


def _trailing_zeros(k: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each row, up to the largest weight exponent, which a row of zeros has."""
    together: NDArray[np.int64] = np.bitwise_or.reduce(k, axis=1) | (1 << CONVERTED_WEIGHT_EXPONENT)
    zeros: NDArray[np.int64] = np.log2(together & -together).astype(np.int64)
    return zeros


def _fit(k: NDArray[np.int64], shift: NDArray[np.int64] | int, bits: int) -> NDArray[np.bool_]:
    """Rows whose weights, shifted right, are within so many bits."""
    stored, limit = k >> shift, 1 << (bits - 1)
    inside: NDArray[np.bool_] = np.all((stored >= -limit) & (stored < limit), axis=1)
    return inside


def _exponents(
    integers: Sequence[NDArray[np.int64]],
    values: Sequence[NDArray[np.int64]],
    zeros: NDArray[np.int64],
    bits: int,
    shared: bool,
) -> tuple[tuple[int, ...], NDArray[np.int64]] | None:
    """Exponent of each projection, and of each channel's step, that take fewest bits; or None.

    A projection has one exponent for all channels. A channel whose weights are not divisible by it
    gets a finer unit of state: ``K << lift`` is divisible.
    """
    ends = [(k.min(axis=1, initial=0), k.max(axis=1, initial=0)) for k in integers]
    live = np.stack([(low < 0) | (high > 0) for low, high in ends])
    tz = np.where(live, zeros, CONVERTED_WEIGHT_EXPONENT)
    largest = np.max([np.abs(v).max(axis=1) for v in values], axis=0) if values else 0 * tz[0]
    least = tuple(int(row.min()) if any_.any() else 0 for row, any_ in zip(tz, live, strict=True))
    options: Iterable[tuple[int, ...]] = [least]
    if len(integers) <= 3 and not shared:
        options = product(range(CONVERTED_WEIGHT_EXPONENT + 1), repeat=len(integers))
    best: tuple[int, int, tuple[int, ...]] | None = None
    lifts: NDArray[np.int64] | None = None
    for exponents in options:
        wanted = np.where(live, np.array(exponents)[:, None] - tz, 0)
        lift = wanted.max(axis=0).clip(min=0)
        if (largest << lift).max() > STATE_MAX:
            continue
        widths = [
            max(int(-((low << lift) >> e).min() - 1), int(((high << lift) >> e).max())).bit_length()
            for (low, high), e in zip(ends, exponents, strict=True)
        ]
        cost = sum((w + 1) * k.size for w, k in zip(widths, integers, strict=True))
        found = (cost, int(lift.sum()), exponents)
        if max(widths) < bits and (best is None or found < best):
            best, lifts = found, -lift
    return None if best is None or lifts is None else (best[2], lifts)
