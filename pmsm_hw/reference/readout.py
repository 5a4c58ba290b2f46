"""Readouts in the reference: in the type that BLAS gives, compiled if large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import Readout
from pmsm_hw.neurons.codes import READOUT
from pmsm_hw.operators import exact_dtype
from pmsm_hw.reference.neurons import KERNELS, NeuronKernel, Sums
from pmsm_hw.reference.polarity_multi_spike import largest_value

__all__ = ["ReadoutKernel"]


class ReadoutKernel(NeuronKernel):
    """In float32 or float64 where they are exact; see `NeuronKernel`.

    Parameters
    ----------
    population, arrange, sums, max_steps, compiled
        As for `NeuronKernel`.
    """

    def state_type(self, sums: Sums, max_steps: int) -> type[Any]:
        """See `NeuronKernel.state_type`."""
        return exact_dtype(largest_value(self.population, sums))

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
        one, zero = np.ones_like(p.bias), np.zeros_like(p.bias)
        return advance(
            drive, v, np.zeros((0, 0, 0), v.dtype), one, p.bias, zero, v.dtype.type(0),
            v.dtype.type(0), READOUT, p.overflow == "saturate", t0, k, active,
        )  # fmt: skip


KERNELS.register(Readout.kind, ReadoutKernel)
