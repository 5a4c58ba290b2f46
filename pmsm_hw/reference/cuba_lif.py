"""Loihi's leaky integrate-and-fire neurons in the reference: compiled, in float32, if large.

The same arithmetic as the step of `pmsm_hw.neurons.CubaLif`, all of it exact in float32: states
have 24 bits, and products, which need more, are made of two halves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import CubaLif
from pmsm_hw.neurons.cuba_lif import DECAY_BITS, STATE_SHIFT, U
from pmsm_hw.operators import exact_dtype
from pmsm_hw.reference.neurons import KERNELS, NeuronKernel, Sums

__all__ = ["CubaLifKernel"]


class CubaLifKernel(NeuronKernel):
    """In float32 where sums of input are exact in it, and loops pay; see `NeuronKernel`.

    Parameters
    ----------
    population, arrange, sums, max_steps, compiled
        As for `NeuronKernel`.
    """

    def __init__(self, population: CubaLif, arrange: Any, sums: Sums, *others: Any) -> None:
        self._in_loops = others[-1] and exact_dtype(sums.total) is np.float32
        super().__init__(population, arrange, sums, *others)
        if not self._in_loops:
            return
        p, one = self.parameters, np.float32(1 << DECAY_BITS)
        self._rows = (one - (p.du + 1), one - p.dv, p.vth * np.float32(1 << STATE_SHIFT),
                      p.bias * np.float32(1 << p.bias_exponent))  # fmt: skip
        self._leaks = bool((self._rows[0] > 0).any()), bool((self._rows[1] < one).any())
        # so that what wraps cannot be more than one width away
        self._is_small = sums.total << STATE_SHIFT <= U.limits[1]

    def state_type(self, sums: Sums, max_steps: int) -> type[Any]:
        """See `NeuronKernel.state_type`."""
        return np.float32 if self._in_loops else np.int64

    def advance(
        self,
        drive: NDArray[Any],
        state: Mapping[str, NDArray[Any]],
        t0: int,
        k: NDArray[Any],
        active: NDArray[np.bool_],
    ) -> int:
        """See `NeuronKernel.advance`."""
        if not self._in_loops:
            return super().advance(drive, state, t0, k, active)
        from pmsm_hw.reference.cuba_lif_loops import advance

        p = self.parameters
        count = state.get("refractory_count", _NO_COUNT)
        is_graded = p.payload_mode == "graded"
        # loops are compiled for each type and layout of arrays: two at most
        k_ = _in_one_piece(k, np.int32 if is_graded else np.int8)
        active_ = _in_one_piece(active, np.bool_)
        outside = advance(
            np.ascontiguousarray(drive), state["u"], state["v"], count, *self._rows, self._leaks,
            self._is_small, p.reset == "subtract", is_graded, p.refractory,
            (p.reset_interval, p.reset_offset), t0, k_, active_,
        )  # fmt: skip
        for to, values in ((k, k_), (active, active_)):
            if values is not to:
                to[...] = values
        return int(outside)

    def payload(self, spikes: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
        """See `NeuronKernel.payload`."""
        return spikes.astype(dtype, copy=False)


def _in_one_piece(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """The array, if it is of that type and contiguous, else room for it."""
    suits = array.dtype == dtype and array.flags.c_contiguous
    return array if suits else np.empty(array.shape, dtype)


_NO_COUNT = np.zeros((0, 0, 0), np.float32)

KERNELS.register(CubaLif.kind, CubaLifKernel)
