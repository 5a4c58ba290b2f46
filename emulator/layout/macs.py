"""What the ANN of the same shape would multiply."""

from __future__ import annotations

import numpy as np

from pmsm_hw.network import Network
from pmsm_hw.operators import DenseForm, lowered

__all__ = ["dense_macs"]


def dense_macs(network: Network) -> int:
    """Multiply-accumulates of one pass, zero weights included, padding excluded."""
    total = 0
    for projection in network.projections:
        form = lowered(network, projection)
        if isinstance(form, DenseForm):
            total += form.weight.size
            continue
        c_out, c_in_group, kh, kw = form.weight.shape
        inside = 1
        for axis, k in ((0, kh), (1, kw)):
            at = (
                np.arange(form.target[1 + axis])[:, None] * form.stride[axis]
                - form.padding[axis][0]
                + np.arange(k) * form.dilation[axis]
            )
            inside *= int(np.count_nonzero((at >= 0) & (at < form.source[1 + axis])))
        total += inside * c_out * c_in_group
    return total
