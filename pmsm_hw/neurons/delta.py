"""Neurons that send what changed of their input; the encoder that sigma-delta neurons end with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pmsm_hw.network.limits import STATE_MAX, IntArray, SpikeMode
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
from pmsm_hw.records import Given, record

__all__ = [
    "ACT",
    "MESSAGE_BITS",
    "RESIDUE",
    "STATE_EXP",
    "VTH",
    "Delta",
    "encode",
    "encode_interval",
    "message_range",
]

ACT = StateVariable(name="act", meaning="activation of the step before, or what was sent of it")
RESIDUE = StateVariable(name="residue", meaning="change that was not sent yet", beyond="never")

VTH = Parameter(
    name="vth", meaning="least change that is sent", per="neuron", high=STATE_MAX,
    remedy="use a threshold that fits the state",
)  # fmt: skip
STATE_EXP = Parameter(
    name="state_exp", meaning="low bits of a change that a message leaves out", high=7,
    remedy="use an exponent of 3 bits",
)  # fmt: skip
MESSAGE_BITS = Parameter(
    name="message_bits", meaning="width of a message, signed", low=2, high=24,
    remedy="use messages of 2 to 24 bits",
)  # fmt: skip


def message_range(p: Any, n_steps: int) -> tuple[int, int]:
    """Least and greatest message.

    Parameters
    ----------
    p
        Parameters.
    n_steps
        Of the network.
    """
    limit = 1 << (p.message_bits - 1)
    return -limit, limit - 1


def encode(p: Any, act: Array, state: State) -> tuple[dict[str, Array], Array, Array, int]:
    """Send what changed of the activation, if it reaches the threshold.

    Parameters
    ----------
    p
        Parameters of an encoder.
    act
        The activation.
    state
        With ``act``; and ``residue``, where what messages cut off is lost.

    Returns
    -------
    tuple
        The same state variables after the step; the change; what is sent; how many messages left
        their width.
    """
    change = act - state["act"] + state.get("residue", 0)
    sent = np.where(np.abs(change) >= p.vth, change, 0)
    wanted = sent >> p.state_exp
    k = np.clip(wanted, *message_range(p, 1))
    if "residue" in state:
        after = {"act": act, "residue": change - sent}
    else:
        after = {"act": state["act"] + (k << p.state_exp)}
    return after, change, k, int(np.count_nonzero(k != wanted))


def encode_interval(p: Any, act: Interval, state: Mapping[str, Interval]) -> IntervalStep:
    """Bounds of what `encode` does.

    The interval of state variable ``act`` holds what targets have been told so far, ``act`` less
    ``residue``: 0 at the start, later one of the activations so far.

    Parameters
    ----------
    p
        Parameters of an encoder.
    act
        Bounds of the activation.
    state
        As of `encode`, on intervals.
    """
    told = state["act"]
    change = act[0] - told[1], act[1] - told[0]
    least, most = message_range(p, 1)
    low = np.where(change[0] <= -p.vth, np.maximum(change[0] >> p.state_exp, least), 0)
    high = np.where(change[1] >= p.vth, np.minimum(change[1] >> p.state_exp, most), 0)
    new = act
    if "residue" not in state:  # whole messages
        new = tuple((end >> p.state_exp) << p.state_exp for end in act)
    after = {"act": (np.minimum(told[0], new[0]), np.maximum(told[1], new[1]))}
    if "residue" in state:
        left = np.maximum(p.vth - 1, 0)
        after["residue"] = -left, left
    return IntervalStep(after, change, (np.minimum(low, 0), np.maximum(high, 0)))


def _start(p: Any) -> dict[str, Array]:
    zeros = np.zeros_like(p.vth)
    return {"act": zeros, "residue": zeros}


def _step(p: Any, state: State, drive: Array, t: int) -> Step:
    act, saturated = ACT.hold(drive << p.spike_exp + p.state_exp)
    after, change, k, outside = encode(p, act, state)
    active = (act != state["act"]) | (k != 0)
    return Step(after, change, k, active, saturated + outside)


def _interval_step(p: Any, state: Mapping[str, Interval], drive: Interval, t: int) -> IntervalStep:
    bits = p.spike_exp + p.state_exp
    return encode_interval(p, ACT.hold_interval((drive[0] << bits, drive[1] << bits)), state)


@register
@record
class Delta(Neurons):
    """Neurons that send how much their summed input changed: what sigma-delta networks begin with.

    As Lava's Delta process in fixed point. Joined to an `Input` by an `Identity` projection it
    encodes that input. ``act`` saturates in 24 bits, and so does a message in its width; each value
    that does is counted.

    Parameters
    ----------
    vth
        A change is sent once it is at least this, in absolute value, at the scale of ``act``
        (Lava's ``vth`` times ``2**(spike_exp + state_exp)``); one per population, channel or
        neuron.
    spike_exp, state_exp
        The input is shifted left by both; messages have the upper ``spike_exp`` of these bits.
    message_bits
        Width of a message.
    """

    vth: Given[ArrayLike, IntArray]
    spike_exp: int = 0
    state_exp: int = 0
    message_bits: int = 16

    kind: ClassVar[str] = "delta"
    spike_mode: ClassVar[SpikeMode] = "graded"
    model: ClassVar[NeuronModel] = NeuronModel(
        equations=(
            "a = saturate(drive << (spike_exp + state_exp))",
            "d = a - act + residue",
            "s = d if |d| >= vth else 0",
            "k = saturate(s >> state_exp)",
            "act = a;  residue = d - s",
        ),
        parameters=(
            VTH,
            Parameter(
                name="spike_exp", meaning="bits after the point that messages get", high=7,
                remedy="use an exponent of 3 bits",
            ),
            STATE_EXP,
            MESSAGE_BITS,
        ),
        states=(ACT, RESIDUE),
        start=_start,
        step=_step,
        interval_step=_interval_step,
        spike_range=message_range,
        core_parameters=("vth", "spike_exp", "state_exp", "message_bits"),
    )  # fmt: skip
