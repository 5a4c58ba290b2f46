"""How the messages of each pair become summed inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.layout.plan import DEPOSIT, Shift
from pmsm_hw.emulator.layout.slots import Place
from pmsm_hw.network import Network, Projection
from pmsm_hw.operators import DenseForm, Form, WindowForm, chw, lowered

__all__ = ["deposits_of"]


def deposits_of(
    network: Network,
    places: list[Place],
    blocks: dict[str, Any],
    pairs: tuple[tuple[int, int], ...],
) -> tuple[dict[str, Any], tuple[Shift, ...], int]:
    """Deposits, weights and delays of `pmsm_hw.emulator.layout.plan.Plan`, shifts, number of sums.

    Parameters
    ----------
    network, places, blocks
        The network, its blocks, and their arrays.
    pairs
        Index of the source population and of the core, by pair.
    """
    weights, delays = _Table(np.int8), _Table(np.uint8)
    window_at: dict[str, dict[str, int]] = {}
    table: list[dict[str, int]] = []
    pair_deposit = [0]
    on_core: dict[int, list[int]] = {}
    for i, place in enumerate(places):
        on_core.setdefault(place.core, []).append(i)
    shifts: list[Shift] = []
    n_sums = int(blocks["block_slot"][-1])
    for p, core in pairs:
        for projection in network.out_of(network.populations[p].name):
            form = lowered(network, projection)
            for i in on_core[core]:
                place = places[i]
                if place.population.name != projection.target:
                    continue
                first_sum, end = (int(slot) for slot in blocks["block_slot"][i : i + 2])
                n_neurons = end - first_sum
                if projection.weight_exponent < 0:
                    first_sum, n_sums = n_sums, n_sums + n_neurons
                    shifts.append(Shift(i, first_sum, -projection.weight_exponent))
                (c0, c1), (y0, y1), (x0, x1) = place.channels, place.rows, place.columns
                deposit: dict[str, int] = {
                    "weight_exponent": max(projection.weight_exponent, 0),
                    "first_sum": first_sum,
                    "n_neurons": n_neurons,
                    **{"channel_first": c0, "channel_end": c1},
                    **{"row_first": y0, "row_end": y1, "column_first": x0, "column_end": x1},
                    "hardware_delay": network.hardware_delay(projection),
                    "delay": projection.delay,
                }
                if isinstance(form, DenseForm):
                    arrange = partial(_matrix, place)
                    deposit |= _stored(projection, form, arrange, weights, delays)
                else:
                    if projection.name not in window_at:
                        arrange = partial(_taps, form)
                        window_at[projection.name] = _stored(
                            projection, form, arrange, weights, delays
                        )
                    deposit |= _window(form) | window_at[projection.name]
                table.append(deposit)
        pair_deposit.append(len(table))
    names = DEPOSIT.names or ()
    arrays = {
        "pair_deposit": np.array(pair_deposit, np.int64),
        "deposit": np.array(
            [tuple(each.get(name, 0) for name in names) for each in table], DEPOSIT
        ),
        "weights": weights.joined,
        "delays": delays.joined,
    }
    return arrays, tuple(shifts), n_sums


class _Table:
    """Numbers that are stored one part after the other."""

    def __init__(self, dtype: type[Any]) -> None:
        self._parts: list[NDArray[Any]] = [np.zeros(0, dtype)]
        self._size = 0

    def store(self, part: NDArray[Any]) -> int:
        """Store a part; answer where it begins."""
        first = self._size
        self._parts.append(part)
        self._size += part.size
        return first

    @property
    def joined(self) -> NDArray[Any]:
        """All of them."""
        return np.concatenate(self._parts)


def _stored(
    projection: Projection,
    form: Form,
    arrange: Callable[[NDArray[Any]], NDArray[Any]],
    weights: _Table,
    delays: _Table,
) -> dict[str, int]:
    """Store weights of a projection, and the delays of their synapses; answer where."""
    first_delay = -1
    if projection.delays is not None:
        first_delay = delays.store(arrange(projection.delays.reshape(form.weight.shape)))
    return {"first_weight": weights.store(arrange(form.weight)), "first_delay": first_delay}


def _matrix(place: Place, values: NDArray[Any]) -> NDArray[Any]:
    """By source neuron: what a message finds for a block is a run of memory."""
    (c0, c1), (y0, y1), (x0, x1) = place.channels, place.rows, place.columns
    here = values.reshape(*chw(place.population.shape), -1)[c0:c1, y0:y1, x0:x1]
    return np.ascontiguousarray(here.transpose(3, 1, 2, 0)).reshape(-1)


def _taps(form: WindowForm, values: NDArray[Any]) -> NDArray[Any]:
    """By group, channel in, tap, channel out: the taps of a message are runs of memory."""
    c_out, c_in_group, kh, kw = form.weight.shape
    grouped = values.reshape(form.groups, c_out // form.groups, c_in_group, kh, kw)
    return np.ascontiguousarray(grouped.transpose(0, 2, 3, 4, 1)).reshape(-1)


def _window(form: WindowForm) -> dict[str, int]:
    c_out, c_in_group, kh, kw = form.weight.shape
    return {
        "is_window": 1,
        **{"kernel_rows": kh, "kernel_columns": kw},
        **{"stride_rows": form.stride[0], "stride_columns": form.stride[1]},
        **{"dilation_rows": form.dilation[0], "dilation_columns": form.dilation[1]},
        **{"padding_rows": form.padding[0][0], "padding_columns": form.padding[1][0]},
        **{"group_outputs": c_out // form.groups, "group_inputs": c_in_group},
    }
