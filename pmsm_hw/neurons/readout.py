"""Neurons that add up their input, and answer with their state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.network.limits import OVERFLOWS, STATE_MAX, STATE_MIN, IntArray, Overflow
from pmsm_hw.neurons.model import (
    Array,
    Interval,
    IntervalStep,
    NeuronModel,
    Neurons,
    Parameter,
    State,
    StateVariable,
    Step,
)
from pmsm_hw.neurons.registry import register
from pmsm_hw.records import Given, default, record

__all__ = ["Readout"]

V = StateVariable(name="v", meaning="sum")
_NO_SPIKE = (np.zeros((), np.int64), np.zeros((), np.int64))


def _start(p: Any) -> dict[str, Array]:
    return {"v": np.zeros_like(p.bias)}


def _step(p: Any, state: State, drive: Array, t: int) -> Step:
    change = drive + p.bias
    v, outside = state["v"] + change, 0
    if p.overflow == "saturate":
        v, outside = V.hold(v)
    return Step({"v": v}, v, _NO_SPIKE[0], change != 0, outside)


def _interval_step(p: Any, state: Mapping[str, Interval], drive: Interval, t: int) -> IntervalStep:
    # not clipped where the state saturates: that is within
    v = state["v"][0] + drive[0] + p.bias, state["v"][1] + drive[1] + p.bias
    return IntervalStep({"v": v}, v, _NO_SPIKE)


def _interval_steps(p: Any, drive: Interval, n_steps: int) -> IntervalStep:
    low, high = drive[0] + p.bias, drive[1] + p.bias
    u = np.minimum(low * n_steps, low), np.maximum(high * n_steps, high)
    return IntervalStep({}, u, _NO_SPIKE)


@register
@record
class Readout(Neurons):
    """Neurons that add up their input and never fire.

    Parameters
    ----------
    scale
        Real value of one unit of ``v``; one per population, channel or neuron.
    bias
        Added each step; one per population, channel or neuron.
    overflow
        As for `PolarityMultiSpike`.
    """

    scale: Given[ArrayLike, NDArray[np.float64]] = default(lambda: np.ones(()))
    bias: Given[ArrayLike, IntArray] = default(lambda: np.zeros((), np.int64))
    overflow: Overflow = "error"

    kind: ClassVar[str] = "readout"
    model: ClassVar[NeuronModel] = NeuronModel(
        equations=("v = v + drive + bias",),
        parameters=(
            Parameter(
                name="scale", meaning="real value of one unit of v", type="real", per="neuron",
                remedy="give the real value of one unit",
            ),
            Parameter(
                name="bias", meaning="added each step", per="neuron", low=STATE_MIN,
                high=STATE_MAX, remedy="use a smaller weight_exponent",
            ),
            Parameter(
                name="overflow", meaning="where no proof excludes it", type="choice",
                choices=OVERFLOWS,
            ),
        ),
        states=(V,),
        start=_start,
        step=_step,
        interval_step=_interval_step,
        interval_steps=_interval_steps,
        spike_range=lambda p, n_steps: (0, 0),
        fires=False,
    )  # fmt: skip
