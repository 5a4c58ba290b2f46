"""Polarity multi-spike neurons in the reference: in the type that BLAS gives, compiled if large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import STATE_MIN, PolarityMultiSpike
from pmsm_hw.neurons.codes import RULE_CODES
from pmsm_hw.operators import exact_dtype
from pmsm_hw.reference.neurons import KERNELS, NeuronKernel, Sums

__all__ = ["PolarityMultiSpikeKernel", "largest_value"]


def largest_value(population: Any, sums: Sums) -> int:
    """Largest value that must be exact in the type of input and ``u``.

    Where ``u`` is proven to fit 24 bits, so does the state before it, and their difference, drive
    plus bias, is at most 2**24: one drive that is exact in float32 stays exact when it is shifted
    (a product with a power of two) and when bias and state are added. Sums of several drives, and a
    ``u`` that is to be clipped, need room for all of it.

    Parameters
    ----------
    population
        With a bias, and ``overflow``.
    sums
        Of its input.
    """
    if sums.n_projections <= 1 and population.overflow == "error":
        return sums.largest
    return sums.total + int(np.abs(population.bias).max()) - STATE_MIN


class PolarityMultiSpikeKernel(NeuronKernel):
    """In float32 or float64 where they are exact; see `NeuronKernel`.

    Parameters
    ----------
    population, arrange, sums, max_steps, compiled
        As for `NeuronKernel`.
    """

    def state_type(self, sums: Sums, max_steps: int) -> type[Any]:
        """See `NeuronKernel.state_type`.

        Rule "bounded" adds up spikes: ``n * t``, ``p * t``, ``S`` and their differences reach
        ``(n + p) * max_steps``, however small ``u`` is.
        """
        largest = largest_value(self.population, sums)
        if self.population.rule == "bounded":
            largest = max(largest, sum(self.population.levels) * max_steps)
        return exact_dtype(largest)

    def advance(
        self,
        drive: NDArray[Any],
        state: Mapping[str, NDArray[Any]],
        t0: int,
        k: NDArray[Any],
        active: NDArray[np.bool_],
    ) -> int:
        """See `NeuronKernel.advance`."""
        if not self.compiled or self.dtype is np.int64:
            return super().advance(drive, state, t0, k, active)
        from pmsm_hw.reference.kernels import advance

        p, v = self.parameters, state["v"]
        if "sent" in state:
            sent = state["sent"]
            if t0 == 0:
                sent[...] = 0
        else:
            sent = np.zeros((0, 0, 0), v.dtype)
        low, high = (v.dtype.type(level) for level in p.levels)
        return advance(
            drive, v, sent, p.theta, p.bias, p.v_init, low, high, RULE_CODES[p.rule],
            p.overflow == "saturate", t0, k, active,
        )  # fmt: skip

    def payload(self, spikes: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
        """See `NeuronKernel.payload`."""
        if self.population.gains == (1, 1):
            return spikes
        gain_pos, gain_neg = self.population.gains
        # neither need hold the other: gain 0 makes all payloads fit into fewer bits than spikes
        both = np.promote_types(spikes.dtype, dtype)
        values: NDArray[Any] = np.where(spikes > 0, both.type(gain_pos), both.type(gain_neg))
        values *= spikes
        return values.astype(dtype, copy=False)


KERNELS.register(PolarityMultiSpike.kind, PolarityMultiSpikeKernel)
