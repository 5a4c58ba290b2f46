"""What the Lava models compute of projections, without Lava: synaptic sums.

Kept outside the folder of the Processes, since Lava executes every file there once per Process
when it looks for models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.operators import DenseForm, Form, WindowForm, exact_dtype, exact_product, magnitude

__all__ = ["Kernel", "kernel"]

Kernel: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]


def kernel(
    form: Form, payload_max: int, target: tuple[int, ...], weight_exponent: int, dtype: Any
) -> Kernel:
    """Prepare the sum of one projection for one sample and step.

    Parameters
    ----------
    form
        The projection; its weights may be any integers.
    payload_max
        Bound on the absolute payload; decides the type in which sums are exact.
    target
        Shape of the target population.
    weight_exponent
        Left shift of the sums.
    dtype
        Type of the result: ``numpy.int64``, or ``numpy.float64`` in floating-point models.

    Returns
    -------
    callable
        Payload of the source, any shape with its number of values, to ``(w * payload) << exponent``
        summed over the synapses of each target neuron, in the target's shape.
    """
    inner: Any = exact_dtype(magnitude(form, max(payload_max, 1)))
    factor = dtype(1 << weight_exponent)
    if isinstance(form, DenseForm):
        matrix = form.weight.astype(inner)

        def dense(payload: NDArray[Any]) -> NDArray[Any]:
            total = exact_product(matrix, payload.reshape(-1).astype(inner))
            sums: NDArray[Any] = total.astype(dtype) * factor
            return sums.reshape(target)

        return dense
    return _window(form, inner, target, factor, dtype)


def _window(
    form: WindowForm, inner: Any, target: tuple[int, ...], factor: Any, dtype: Any
) -> Kernel:
    """Gather all windows by strides, then one matrix product per group."""
    c_out, h_out, w_out = form.target
    c_in, h_in, w_in = form.source
    _, c_group, kh, kw = form.weight.shape
    (top, bottom), (left, right) = form.padding
    weight = form.weight.reshape(form.groups, c_out // form.groups, -1).astype(inner)
    padded = np.zeros((c_in, h_in + top + bottom, w_in + left + right), inner)
    inside = padded[:, top : top + h_in, left : left + w_in]
    sc, sy, sx = padded.strides
    windows = np.lib.stride_tricks.as_strided(
        padded,
        (form.groups, c_group, kh, kw, h_out, w_out),
        (
            c_group * sc,
            sc,
            form.dilation[0] * sy,
            form.dilation[1] * sx,
            form.stride[0] * sy,
            form.stride[1] * sx,
        ),
        writeable=False,
    )

    def window(payload: NDArray[Any]) -> NDArray[Any]:
        inside[...] = payload.reshape(form.source)
        columns = windows.reshape(form.groups, c_group * kh * kw, h_out * w_out)
        # one synapse each (identity, pointwise depthwise) needs no matrix product
        total = weight * columns if columns.shape[1] == 1 else exact_product(weight, columns)
        sums: NDArray[Any] = total.astype(dtype) * factor
        return sums.reshape(target)

    return window
