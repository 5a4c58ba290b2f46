"""Polarity multi-spike neurons, a reconstruction from the abstract of arXiv 2508.14520 (PMSM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pmsm_hw.network.limits import (
    OVERFLOWS,
    RULES,
    SPIKE_MODES,
    STATE_MAX,
    STATE_MIN,
    IntArray,
    Overflow,
    Rule,
    SpikeMode,
)
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
    floor_division,
)
from pmsm_hw.neurons.registry import register
from pmsm_hw.records import Given, default, record

__all__ = ["PolarityMultiSpike"]

V = StateVariable(name="v", meaning="membrane state")
SENT = StateVariable(name="sent", meaning="sum of the spikes sent, rule bounded", bits=30,
                     beyond="never")  # fmt: skip

_MOST_LEVELS = (1 << 15) - 1


def _start(p: Any) -> dict[str, Array]:
    start = {"v": p.v_init}
    if p.rule == "bounded":
        start["sent"] = np.zeros_like(p.v_init)
    return start


def _step(p: Any, state: State, drive: Array, t: int) -> Step:
    n, most = p.levels
    change = drive + p.bias
    u, outside = state["v"] + change, 0
    if p.overflow == "saturate":
        u, outside = V.hold(u)
    k = floor_division(u, p.theta)
    after = {}
    if p.rule == "bounded":
        sent = state["sent"]
        k = np.clip(k, -n * (t + 1) - sent, most * (t + 1) - sent)
        after["sent"] = sent + k
    else:
        k = np.clip(k, -n, most)
    after["v"] = p.v_init if p.rule == "reset" else u - k * p.theta
    return Step(state=after, u=u, spikes=k, active=(change != 0) | (k != 0), outside=outside)


def _interval_step(p: Any, state: Mapping[str, Interval], drive: Interval, t: int) -> IntervalStep:
    n, most = p.levels
    low, high = drive[0] + p.bias, drive[1] + p.bias
    u = reached = state["v"][0] + low, state["v"][1] + high
    saturates = p.overflow == "saturate"
    if saturates:
        u = V.hold_interval(u)
    u_min, u_max = u
    wanted = u_min // p.theta, u_max // p.theta
    if p.rule != "bounded":
        spikes = tuple(np.minimum(np.maximum(k, -n), most) for k in wanted)
        if p.rule == "reset":
            return IntervalStep({"v": (p.v_init, p.v_init)}, reached, spikes)
        v = np.minimum(u_min + n * p.theta, 0), np.maximum(u_max - most * p.theta, p.theta - 1)
        return IntervalStep({"v": V.hold_interval(v) if saturates else v}, reached, spikes)
    sent_min, sent_max = state["sent"]
    at_least, at_most = -n * (t + 1) - sent_max, most * (t + 1) - sent_min
    k_min, k_max = (np.minimum(np.maximum(k, at_least), at_most) for k in wanted)
    # the running sum may forbid what floor(u / theta) asks for, and then allows 0
    spikes = np.minimum(k_min, 0), np.maximum(k_max, 0)
    sent = (np.full_like(sent_min, -n * (t + 1)), np.full_like(sent_max, most * (t + 1)))
    if saturates:
        # S is unknown once u was clipped: the rest lies between u and [0, theta)
        rest = u
    else:
        # v = v_init + all input so far - S * theta, and S is within [-n t, p t]
        rest = (
            p.v_init + (low + n * p.theta) * (t + 1),
            p.v_init + (high - most * p.theta) * (t + 1),
        )
    v = np.minimum(rest[0], 0), np.maximum(rest[1], p.theta - 1)
    if saturates:
        v = V.hold_interval(v)
    # and never outside the interval of u itself, nor of the unclipped residue
    v = (
        np.maximum(v[0], np.minimum(u_min, 0)),
        np.minimum(v[1], np.maximum(u_max, p.theta - 1)),
    )
    return IntervalStep({"v": v, "sent": sent}, reached, spikes)


def _spike_range(p: Any, n_steps: int) -> tuple[int, int]:
    n, most = p.levels
    if p.rule == "bounded":  # all that may be sent so far, and take back what was
        return -n * n_steps - most * (n_steps - 1), most * n_steps + n * (n_steps - 1)
    return -n, most


def _payload(p: Any, k: Array) -> Array:
    gain_pos, gain_neg = p.gains
    payload: Array = k * np.where(k > 0, gain_pos, gain_neg)
    return payload


@register
@record
class PolarityMultiSpike(Neurons):
    """Neurons that send several positive or negative spikes a step (`pmsm_hw.network`).

    Parameters
    ----------
    theta
        Threshold, positive integer; one per population, channel or neuron.
    levels
        ``(n, p)``: at most ``n >= 0`` negative and ``p >= 1`` positive spikes a step.
    bias
        Added each step; one per population, channel or neuron.
    v_init
        State at the start of a sample; ``floor(theta / 2)`` by default.
    gains
        ``(gain_pos, gain_neg)``: the payload of one positive and of one negative spike, small
        integers, ``gain_pos >= 1``. Weights of unit spikes take signed powers of two only.
    rule
        ``"carry"``, ``"reset"`` or ``"bounded"``.
    spike_mode
        ``"graded"``: ``k`` is one message; ``"unit"``: ``|k|`` messages; ``"auto"``: as the chip
        allows.
    overflow
        ``"error"``: the bound proof must succeed; ``"saturate"``: clip ``u`` and count.
    """

    theta: Given[ArrayLike, IntArray]
    levels: Given[Sequence[int], tuple[int, int]]
    bias: Given[ArrayLike, IntArray] = default(lambda: np.zeros((), np.int64))
    v_init: Given[ArrayLike | None, IntArray] = default(lambda: None)
    gains: Given[Sequence[int], tuple[int, int]] = default(lambda: (1, 1))
    rule: Rule = "carry"
    spike_mode: SpikeMode = "auto"
    overflow: Overflow = "error"

    kind: ClassVar[str] = "polarity_multi_spike"
    model: ClassVar[NeuronModel] = NeuronModel(
        equations=(
            "u = v + drive + bias",
            "k = clip(floor(u / theta), -n, p)",
            "v = u - k * theta (carry), v_init (reset)",
            "bounded: k = clip(floor(u / theta), -n * t - sent, p * t - sent)",
        ),
        parameters=(
            Parameter(
                name="theta", meaning="threshold", per="neuron", low=1, high=STATE_MAX,
                remedy="use a positive threshold that fits the state",
            ),
            Parameter(
                name="levels", meaning="most negative and positive spikes a step (n, p)",
                type="integers", low=(0, 1), high=(_MOST_LEVELS, _MOST_LEVELS),
                remedy="give the number of negative and of positive levels, n >= 0 and p >= 1",
            ),
            Parameter(
                name="bias", meaning="added each step", per="neuron", low=STATE_MIN,
                high=STATE_MAX, remedy="use a smaller weight_exponent",
            ),
            Parameter(
                name="v_init", meaning="state at the start of a sample", per="neuron",
                low=STATE_MIN, high=STATE_MAX, derived=lambda p: p.theta // 2,
                remedy="use a smaller weight_exponent",
            ),
            Parameter(
                name="gains", meaning="payload of a positive and of a negative spike",
                type="integers", low=(1, -127), high=(127, 127), remedy="use small integers",
            ),
            Parameter(
                name="rule", meaning="what becomes of v", type="choice", choices=RULES
            ),
            Parameter(
                name="spike_mode", meaning="how spikes travel", type="choice",
                choices=SPIKE_MODES,
            ),
            Parameter(
                name="overflow", meaning="where no proof excludes it", type="choice",
                choices=OVERFLOWS,
            ),
        ),
        states=(V, SENT),
        start=_start,
        step=_step,
        interval_step=_interval_step,
        spike_range=_spike_range,
        payload=_payload,
        core_parameters=("theta",),
    )  # fmt: skip

    @property
    def start(self) -> IntArray:
        """``v_init``, resolved: state at the start of a sample."""
        return self.v_init
