"""Leaky integrate-and-fire neurons that adapt: two compartments of Loihi 1 each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pmsm_hw.network.limits import IntArray
from pmsm_hw.neurons.cuba_lif import (
    COUNT,
    DECAY_BITS,
    STATE_SHIFT,
    CubaLif,
    U,
    V,
    decayed,
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

__all__ = ["AdaptiveLif"]

A = StateVariable(
    name="a", meaning="adaptation: voltage of the second compartment", low=V.limits[0]
)
SPIKED = StateVariable(
    name="spiked", meaning="whether it fired one step before", bits=2, beyond="never", low=0
)

_AS_CUBA_LIF = tuple(
    p for p in CubaLif.model.parameters
    if p.name in ("vth", "du", "dv", "bias", "bias_exponent", "refractory")
)  # fmt: skip

MAX_ADAPTATION = 255 << 7
"""A weight of 8 bits, its exponent at most 7."""


def _start(p: Any) -> dict[str, Array]:
    zeros = np.zeros_like(p.vth)
    start = {"u": zeros, "v": zeros, "a": zeros, "spiked": zeros}
    if p.refractory > 1:
        start["refractory_count"] = zeros
    return start


def _step(p: Any, state: State, drive: Array, t: int) -> Step:
    threshold, bias = p.vth << STATE_SHIFT, p.bias << p.bias_exponent
    # the second compartment first: its voltage joins the first one's in the same step
    a, n_a = A.hold(decayed(state["a"], p.da) - state["spiked"] * (p.adaptation << STATE_SHIFT))
    u, n_u = U.hold(decayed(state["u"], p.du + 1) + (drive << STATE_SHIFT))
    rest = decayed(state["v"], p.dv)
    wanted = rest + u + a + bias
    if p.refractory > 1:
        wanted = np.where(state["refractory_count"] > 0, 0, wanted)
    v, n_v = V.hold(wanted)
    fired = v > threshold
    after = {"u": u, "v": np.where(fired, 0, v), "a": a, "spiked": fired.astype(np.int64)}
    if p.refractory > 1:
        count = np.where(fired, p.refractory, state["refractory_count"])
        after["refractory_count"] = np.maximum(count - 1, 0)
    return Step(
        state=after,
        u=wanted,
        spikes=fired.astype(np.int64),
        active=(u != 0) | (a != 0) | (bias != 0) | (rest != state["v"]) | fired,
        outside=n_a + n_u + n_v,
    )


def _furthest(added: Array, decay: Array, n_steps: int) -> Array:
    """What ``x' = dec(x, decay) + added`` from 0 cannot exceed; ``added`` is 0 or more.

    If ``x <= 4096 * added / decay``, then ``x'`` is, too.
    """
    most = added * n_steps
    settled = (added << DECAY_BITS) // np.maximum(decay, 1)
    furthest: Array = np.where(decay > 0, np.minimum(most, settled), most)
    return furthest


def _interval_step(p: Any, state: Mapping[str, Interval], drive: Interval, t: int) -> IntervalStep:
    """Bounds of the step ``t`` and of all before it, from the start."""
    threshold, bias = p.vth << STATE_SHIFT, p.bias << p.bias_exponent
    down, up = (np.maximum(end, 0) << STATE_SHIFT for end in (-drive[0], drive[1]))
    u = U.hold_interval((-_furthest(down, p.du + 1, t + 1), _furthest(up, p.du + 1, t + 1)))
    none = np.zeros_like(p.vth)
    a = A.hold_interval((-_furthest(p.adaptation << STATE_SHIFT, p.da, t), none))
    least, most = np.minimum(u[0] + a[0] + bias, 0), np.maximum(u[1] + bias, 0)
    low = np.maximum(-_furthest(-least, p.dv, t + 1), decayed(none + V.limits[0], p.dv) + least)
    high = np.minimum(_furthest(most, p.dv, t + 1), decayed(threshold, p.dv) + most)
    after = {
        "u": u,
        "v": V.hold_interval((low, np.minimum(high, threshold))),
        "a": a,
        "spiked": (none, none + 1),
    }
    if p.refractory > 1:
        after["refractory_count"] = none, none + (p.refractory - 1)
    fires = np.minimum(high, V.limits[1]) > threshold
    return IntervalStep(after, (low, high), (np.zeros_like(high), fires.astype(np.int64)))


@register
@record
class AdaptiveLif(Neurons):
    """Leaky integrate-and-fire neurons whose spikes make the next ones harder.

    `CubaLif` with reset to zero, and a second compartment: each spike takes ``adaptation << 6``
    from its voltage ``a`` one step later; ``a`` decays slowly, and adds to the first one's input.
    So does the adaptive neuron of the LSNN for sequential MNIST on Loihi 1 (module ``lsnn`` of
    Intel's NxSDK models): there ``vth=508``, ``du=4095``, ``dv=204``, ``da=5`` and a weight of -96
    with exponent -4, which is ``adaptation=6``. That the main compartment gets the second one's
    voltage of the same step is how that module orders them; no trace of a chip was there to
    compare with.

    ``u`` wraps, ``v`` and ``a`` saturate as in `CubaLif`; each value that does is counted.

    Parameters
    ----------
    vth, du, dv, bias, bias_exponent, refractory
        As for `CubaLif`.
    adaptation
        What a spike takes from ``a``, in units of 64; one per population, channel or neuron.
    da
        Decay of ``a``, in parts of 4,096; one per population or channel.
    """

    vth: Given[ArrayLike, IntArray]
    du: Given[ArrayLike, IntArray] = default(lambda: 0)
    dv: Given[ArrayLike, IntArray] = default(lambda: 0)
    bias: Given[ArrayLike, IntArray] = default(lambda: 0)
    bias_exponent: int = 0
    refractory: int = 1
    adaptation: Given[ArrayLike, IntArray] = default(lambda: 0)
    da: Given[ArrayLike, IntArray] = default(lambda: 0)

    kind: ClassVar[str] = "adaptive_lif"
    model: ClassVar[NeuronModel] = NeuronModel(
        equations=(
            "dec(x, d) = sign(x) * ((|x| * (4096 - d)) >> 12)",
            "a = saturate(dec(a, da) - (adaptation << 6 if it fired one step before))",
            "u = wrap(dec(u, du + 1) + (drive << 6))",
            "v = saturate(dec(v, dv) + u + a + (bias << bias_exponent)); 0 while refractory",
            "fires (k = 1) if v > vth << 6; then v = 0",
        ),
        parameters=(
            *_AS_CUBA_LIF,
            Parameter(
                name="adaptation", meaning="what a spike takes from a, in units of 64",
                per="neuron", high=MAX_ADAPTATION, remedy="use a weight of 8 bits",
            ),
            Parameter(
                name="da", meaning="decay of a, in parts of 4,096", per="channel",
                high=1 << DECAY_BITS, remedy="use a decay of 12 bits",
            ),
        ),
        states=(U, V, A, SPIKED, COUNT),
        start=_start,
        step=_step,
        interval_step=_interval_step,
        interval_steps=lambda p, drive, n_steps: _interval_step(p, {}, drive, n_steps - 1),
        spike_range=lambda p, n_steps: (0, 1),
        core_parameters=("vth", "du", "dv", "da", "adaptation"),
        compartments=2,
    )  # fmt: skip
