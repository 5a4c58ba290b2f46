"""How the messages of each pair become summed inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.layout.plan import DEPOSIT
from pmsm_hw.emulator.layout.slots import Place
from pmsm_hw.network import Network
from pmsm_hw.operators import DenseForm, WindowForm, chw, lowered

__all__ = ["deposits_of"]


def deposits_of(
    network: Network,
    places: list[Place],
    blocks: dict[str, Any],
    pairs: tuple[tuple[int, int], ...],
) -> tuple[dict[str, Any], int]:
    """Deposits and weights of `pmsm_hw.emulator.layout.plan.Plan`, and longest delay plus one.

    Parameters
    ----------
    network, places, blocks
        The network, its blocks, and their arrays.
    pairs
        Index of the source population and of the core, by pair.
    """
    parts: list[NDArray[np.int8]] = []
    n_weights = 0
    window_at: dict[str, int] = {}
    table: list[dict[str, int]] = []
    pair_deposit = [0]
    on_core: dict[int, list[int]] = {}
    for i, place in enumerate(places):
        on_core.setdefault(place.core, []).append(i)
    n_delays = 1 + max((network.hardware_delay(q) for q in network.projections), default=1)
    for p, core in pairs:
        for projection in network.out_of(network.populations[p].name):
            form = lowered(network, projection)
            for i in on_core[core]:
                place = places[i]
                if place.population.name != projection.target:
                    continue
                (c0, c1), (y0, y1), (x0, x1) = place.channels, place.rows, place.columns
                first_slot = int(blocks["block_slot"][i])
                deposit: dict[str, int] = {
                    "weight_exponent": projection.weight_exponent,
                    "first_slot": first_slot,
                    "n_neurons": int(blocks["block_slot"][i + 1]) - first_slot,
                    **{"channel_first": c0, "channel_end": c1},
                    **{"row_first": y0, "row_end": y1, "column_first": x0, "column_end": x1},
                    "hardware_delay": network.hardware_delay(projection),
                    "delay": projection.delay,
                }
                if isinstance(form, DenseForm):
                    shape = chw(place.population.shape)
                    weight = form.weight.reshape(*shape, -1)[c0:c1, y0:y1, x0:x1]
                    part = np.ascontiguousarray(weight.transpose(3, 1, 2, 0)).reshape(-1)
                    deposit["first_weight"] = n_weights
                    parts.append(part)
                    n_weights += part.size
                else:
                    if projection.name not in window_at:
                        part = _window_weights(form)
                        window_at[projection.name] = n_weights
                        parts.append(part)
                        n_weights += part.size
                    deposit |= _window(form) | {"first_weight": window_at[projection.name]}
                table.append(deposit)
        pair_deposit.append(len(table))
    names = DEPOSIT.names or ()
    return {
        "pair_deposit": np.array(pair_deposit, np.int64),
        "deposit": np.array(
            [tuple(each.get(name, 0) for name in names) for each in table], DEPOSIT
        ),
        "weights": np.concatenate(parts) if parts else np.zeros(0, np.int8),
    }, n_delays


def _window_weights(form: WindowForm) -> NDArray[np.int8]:
    """By group, channel in, tap, channel out: the taps of a message are runs of memory."""
    c_out, c_in_group, kh, kw = form.weight.shape
    grouped = form.weight.reshape(form.groups, c_out // form.groups, c_in_group, kh, kw)
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
