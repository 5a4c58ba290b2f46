"""Sigma-delta neurons: they add up changes, and send how their activation changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from pmsm_hw.network.limits import STATE_MAX, STATE_MIN, IntArray, SpikeMode
from pmsm_hw.neurons.delta import (
    ACT,
    MESSAGE_BITS,
    RESIDUE,
    STATE_EXP,
    VTH,
    encode,
    encode_interval,
    message_range,
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
)
from pmsm_hw.neurons.registry import register
from pmsm_hw.records import Given, default, record

__all__ = ["Activation", "SigmaDelta", "Variant"]

Activation: TypeAlias = Literal["relu", "none"]
Variant: TypeAlias = Literal["fixed", "fixed_corrected"]

SIGMA = StateVariable(name="sigma", meaning="sum of all input", beyond="wrap")


def _start(p: Any) -> dict[str, Array]:
    zeros = np.zeros_like(p.vth)
    start = {"sigma": zeros, "act": zeros}
    if p.variant == "fixed":
        start["residue"] = zeros
    return start


def _activation(p: Any, sigma: Array) -> Array:
    a: Array = sigma + p.bias
    return np.maximum(a, 0) if p.activation == "relu" else a


def _step(p: Any, state: State, drive: Array, t: int) -> Step:
    sigma, wrapped = SIGMA.hold(state["sigma"] + drive)
    act, saturated = ACT.hold(_activation(p, sigma))
    after, change, k, outside = encode(p, act, state)
    active = (drive != 0) | (k != 0) | (after["act"] != state["act"])
    return Step({"sigma": sigma} | after, change, k, active, wrapped + saturated + outside)


def _interval_step(p: Any, state: Mapping[str, Interval], drive: Interval, t: int) -> IntervalStep:
    # no input at all is always possible: so each step's intervals hold those of the step before
    low, high = np.minimum(drive[0], 0), np.maximum(drive[1], 0)
    sigma = SIGMA.hold_interval((state["sigma"][0] + low, state["sigma"][1] + high))
    act = ACT.hold_interval((_activation(p, sigma[0]), _activation(p, sigma[1])))
    step = encode_interval(p, act, state)
    return step._replace(state={"sigma": sigma} | step.state)


def _interval_steps(p: Any, drive: Interval, n_steps: int) -> IntervalStep:
    """The last step, whose intervals hold those before; the one before it is a formula."""
    start = _start(p)
    state = {name: (value, value) for name, value in start.items()}
    if n_steps > 1:
        n = n_steps - 1
        step = _interval_step(p, state, (drive[0] * n, drive[1] * n), 0)
        state = step.state
    return _interval_step(p, state, drive, n_steps - 1)._replace(state={})


@register
@record
class SigmaDelta(Neurons):
    """Sigma-delta neurons as on Loihi 2: messages are changes, in and out.

    As Lava's SigmaDelta process in fixed point, in either of its variants. ``sigma`` wraps in 24
    bits, ``act`` saturates, and so does a message in its width; each value that does is counted:
    where bounds do not exclude it, the network runs all the same.

    Parameters
    ----------
    vth
        A change is sent once it is at least this, in absolute value; at the scale of the states, as
        ``bias`` is (Lava's ``vth`` and ``bias`` times ``2**(spike_exp + state_exp)``); one per
        population, channel or neuron.
    bias
        Added to the sum before the activation; one per population, channel or neuron.
    activation
        ``"relu"`` or ``"none"``.
    variant
        What becomes of the ``state_exp`` low bits that a message cuts off: ``"fixed"``: lost, as in
        Lava's PySigmaDeltaModelFixed, which is what its run configurations take;
        ``"fixed_corrected"``: they stay to be sent, as in PySigmaDeltaModelFixedCorrected.
    state_exp
        States have so many bits after those of messages; weights into the population bring what
        comes in to their scale.
    message_bits
        Width of a message.
    """

    vth: Given[ArrayLike, IntArray]
    bias: Given[ArrayLike, IntArray] = default(lambda: 0)
    activation: Activation = "relu"
    variant: Variant = "fixed"
    state_exp: int = 0
    message_bits: int = 16

    kind: ClassVar[str] = "sigma_delta"
    spike_mode: ClassVar[SpikeMode] = "graded"
    model: ClassVar[NeuronModel] = NeuronModel(
        equations=(
            "sigma = wrap(sigma + drive)",
            "a = saturate(f(sigma + bias))",
            "d = a - act + residue (fixed), a - act (fixed_corrected)",
            "s = d if |d| >= vth else 0",
            "k = saturate(s >> state_exp)",
            "fixed: act = a;  residue = d - s",
            "fixed_corrected: act = act + (k << state_exp)",
        ),
        parameters=(
            VTH,
            Parameter(
                name="bias", meaning="added to the sum", per="neuron", low=STATE_MIN,
                high=STATE_MAX, remedy="use a smaller bias",
            ),
            Parameter(
                name="activation", meaning="f", type="choice", choices=("relu", "none")
            ),
            Parameter(
                name="variant", meaning="what becomes of bits that messages cut off",
                type="choice", choices=("fixed", "fixed_corrected"),
            ),
            STATE_EXP,
            MESSAGE_BITS,
        ),
        states=(SIGMA, ACT, RESIDUE),
        start=_start,
        step=_step,
        interval_step=_interval_step,
        interval_steps=_interval_steps,
        spike_range=message_range,
        core_parameters=("vth", "activation", "variant", "state_exp", "message_bits"),
    )  # fmt: skip
