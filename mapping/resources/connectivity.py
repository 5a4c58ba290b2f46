"""Who reaches whom: synapses of each source neuron into a block.

The mapper counts resources with it, the emulator counts synaptic operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.blocks import Range
from pmsm_hw.mapping.resources.windows import group_channels, source_range
from pmsm_hw.operators import DenseForm, WindowForm, chw, lowered

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.network import Network, Projection

__all__ = ["FanOut", "fan_out", "fan_out_box"]


@dataclass(frozen=True, kw_only=True)
class FanOut:
    """Synapses of source neurons into a block, on the smallest box that holds all sources.

    Parameters
    ----------
    channels, rows, columns
        Half-open ranges of the box in ``operators.chw`` of the source.
    count
        ``(channels, rows, columns)`` int64: synapses other than zero into the block. Not every
        entry need be above zero.
    """

    channels: Range
    rows: Range
    columns: Range
    count: NDArray[np.int64]


def fan_out(network: Network, projection: Projection, block: Block) -> NDArray[np.int64]:
    """Synapses other than zero of each source neuron into a block.

    Parameters
    ----------
    network
        Holds both populations.
    projection
        Into the population of the block.
    block
        Target neurons.

    Returns
    -------
    ndarray
        ``(n_pre,)`` int64, source in C order.
    """
    box = fan_out_box(network, projection, block)
    source = chw(network[projection.source].shape)
    if box.count.shape == source:
        return box.count.reshape(-1)
    total = np.zeros(source, np.int64)
    total[slice(*box.channels), slice(*box.rows), slice(*box.columns)] = box.count
    return total.reshape(-1)


def fan_out_box(network: Network, projection: Projection, block: Block) -> FanOut:
    """As `fan_out`, without the source neurons that surely have no synapse into the block."""
    form = lowered(network, projection)
    source = chw(network[projection.source].shape)
    if isinstance(form, DenseForm):
        weight = form.weight.reshape(*chw(network[projection.target].shape), -1)
        rows = weight[slice(*block.channels), slice(*block.rows), slice(*block.columns)]
        count = np.count_nonzero(rows.reshape(-1, weight.shape[-1]), axis=0)
        return FanOut(
            channels=(0, source[0]),
            rows=(0, source[1]),
            columns=(0, source[2]),
            count=count.astype(np.int64).reshape(source),
        )
    return _window_fan_out(form, block)


def tap_counts(form: WindowForm, channels: Range) -> NDArray[np.int64]:
    """Synapses per source channel and tap into one target pixel of some channels.

    Returns
    -------
    ndarray
        ``(source channels of group_channels, kh, kw)`` int64.
    """
    c0, c1 = channels
    per_group_out = form.target[0] // form.groups
    nonzero = form.weight[c0:c1] != 0
    parts = []
    c = c0
    while c < c1:
        end = min((c // per_group_out + 1) * per_group_out, c1)
        parts.append(np.count_nonzero(nonzero[c - c0 : end - c0], axis=0))
        c = end
    return np.concatenate(parts).astype(np.int64)


def _window_fan_out(form: WindowForm, block: Block) -> FanOut:
    channels = group_channels(form, block.channels)
    rows = source_range(form, 0, block.rows)
    columns = source_range(form, 1, block.columns)
    count = np.zeros(
        (channels[1] - channels[0], rows[1] - rows[0], columns[1] - columns[0]), np.int64
    )
    taps = tap_counts(form, block.channels)
    for i in range(taps.shape[1]):
        y = _tap_rows(form, 0, block.rows, i, rows)
        if y.size == 0:
            continue
        for j in range(taps.shape[2]):
            x = _tap_rows(form, 1, block.columns, j, columns)
            if x.size:
                step_y, step_x = form.stride
                count[:, y[0] : y[-1] + 1 : step_y, x[0] : x[-1] + 1 : step_x] += taps[
                    :, i, j, None, None
                ]
    return FanOut(channels=channels, rows=rows, columns=columns, count=count)


def _tap_rows(
    form: WindowForm, axis: int, targets: Range, tap: int, box: Range
) -> NDArray[np.int64]:
    """Positions within the box that one tap of the targets' windows reads, ascending."""
    at = np.arange(*targets) * form.stride[axis] - form.padding[axis][0] + tap * form.dilation[axis]
    return at[(at >= box[0]) & (at < box[1])] - box[0]
