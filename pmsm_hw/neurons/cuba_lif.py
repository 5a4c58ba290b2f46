"""Leaky integrate-and-fire with a current and a voltage, as Loihi computes it, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from pmsm_hw.network.limits import MAX_STEPS, IntArray, Shape, SpikeMode
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

__all__ = ["CubaLif", "PayloadMode", "Reset", "decayed", "integrate_and_fire"]

Reset: TypeAlias = Literal["zero", "subtract"]
PayloadMode: TypeAlias = Literal["binary", "graded"]

STATE_SHIFT = 6
"""Threshold and summed input count in units of ``2**6``; the bias does not."""

DECAY_BITS = 12

MAX_REFRACTORY = 64
"""Steps."""

MAX_THRESHOLD = (1 << 17) - 1

STEPPED = 64
"""Up to so many steps, bounds are found step by step; for more, from geometric series."""

U = StateVariable(name="u", meaning="current", beyond="wrap")
V = StateVariable(name="v", meaning="voltage", low=-(1 << 23) + 1)
COUNT = StateVariable(name="refractory_count", meaning="steps for which v is still held at 0, "
                      "refractory above 1", bits=7, beyond="never", low=0)  # fmt: skip

_ZERO = np.zeros((), np.int64)


def decayed(x: Array, decay: Array) -> Array:
    """``sign(x) * ((|x| * (4096 - decay)) >> 12)``: towards zero.

    Parameters
    ----------
    x
        State, 24 bits in a type of 64: so wide are the products.
    decay
        0 to 4,096, of 4,096 parts.
    """
    result: Array = np.sign(x) * ((np.abs(x) * ((1 << DECAY_BITS) - decay)) >> DECAY_BITS)
    return result


def resets_at(p: Any, t: int) -> bool:
    """Whether a population is set to its start before a step.

    Parameters
    ----------
    p
        With ``reset_interval`` and ``reset_offset``.
    t
        Number of the step.
    """
    every = p.reset_interval
    return bool(every and t % every == p.reset_offset % every)


def _start(p: Any) -> dict[str, Array]:
    zeros = np.zeros_like(p.vth)
    start = {"u": zeros, "v": zeros}
    if p.refractory > 1:
        start["refractory_count"] = zeros
    return start


def _step(p: Any, state: State, drive: Array, t: int) -> Step:
    if resets_at(p, t):
        state = _start(p)
    threshold, bias = p.vth << STATE_SHIFT, p.bias << p.bias_exponent
    u, wrapped = U.hold(decayed(state["u"], p.du + 1) + (drive << STATE_SHIFT))
    rest = decayed(state["v"], p.dv)
    wanted = rest + u + bias
    if p.refractory > 1:
        wanted = np.where(state["refractory_count"] > 0, 0, wanted)
    v, saturated = V.hold(wanted)
    fired = v > threshold
    after = {"u": u, "v": np.where(fired, v - threshold if p.reset == "subtract" else 0, v)}
    if p.refractory > 1:
        count = np.where(fired, p.refractory, state["refractory_count"])
        after["refractory_count"] = np.maximum(count - 1, 0)
    return Step(
        state=after,
        u=wanted,
        spikes=_spikes(p, v, fired),
        active=(u != 0) | (bias != 0) | (rest != state["v"]) | fired,
        outside=wrapped + saturated,
    )


def _spikes(p: Any, v: Array, fired: Array) -> Array:
    spikes: Array = np.where(fired, v >> STATE_SHIFT if p.payload_mode == "graded" else 1, 0)
    return spikes


def _interval_step(p: Any, state: Mapping[str, Interval], drive: Interval, t: int) -> IntervalStep:
    if resets_at(p, t):
        state = _start_interval(p)
    bias = p.bias << p.bias_exponent
    low_u, high_u = (
        decayed(end, p.du + 1) + (d << STATE_SHIFT)
        for end, d in zip(state["u"], drive, strict=True)
    )
    u = U.hold_interval((low_u, high_u))
    low, high = (decayed(end, p.dv) + c + bias for end, c in zip(state["v"], u, strict=True))
    return _fired(p, (low_u, high_u), (low, high))


def _start_interval(p: Any) -> dict[str, Interval]:
    return {name: (value, value) for name, value in _start(p).items()}


def _fired(p: Any, current: Interval, wanted: Interval) -> IntervalStep:
    """What follows from bounds of u before it wraps, and of v before it saturates."""
    threshold = p.vth << STATE_SHIFT
    low, high = wanted
    if p.refractory > 1:  # it may be held
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    least, most = V.hold_interval((low, high))
    spikes = _spikes(p, least, least > threshold), _spikes(p, most, most > threshold)
    left = most - threshold if p.reset == "subtract" else 0
    after = np.minimum(least, 0), np.maximum(np.minimum(most, threshold), left)
    state: dict[str, Interval] = {"u": U.hold_interval(current), "v": after}
    if p.refractory > 1:
        none = np.zeros_like(p.vth)
        state["refractory_count"] = none, none + (p.refractory - 1)
    # what leaves 24 bits shows, also where it is u alone, or v by the one that it is narrower
    low_u, high_u = current
    low = np.where(low < V.limits[0], np.minimum(low, U.limits[0] - 1), low)
    low = np.where(low_u < U.limits[0], np.minimum(low, low_u), low)
    high = np.where(high_u > U.limits[1], np.maximum(high, high_u), high)
    return IntervalStep(state, (low, high), spikes)


def _interval_steps(p: Any, drive: Interval, n_steps: int) -> IntervalStep:
    """Step by step for few steps; for many, by the sums of geometric series."""
    # from one reset to the next all begins again
    n_alike = min(n_steps, p.reset_interval or n_steps)
    if n_alike > STEPPED:
        return _by_series(p, drive, n_alike)
    state = _start_interval(p)
    u = spikes = None
    for t in range(n_alike if n_steps > STEPPED else n_steps):
        # with more steps, that many without a reset between them are the most
        step = _interval_step(p, state, drive, t + p.reset_offset if n_steps > STEPPED else t)
        u, spikes = _hull(u, step.u), _hull(spikes, step.spikes)
        state = step.state
    assert u is not None
    assert spikes is not None
    return IntervalStep({}, u, spikes)


def _hull(a: Interval | None, b: Interval) -> Interval:
    return b if a is None else (np.minimum(a[0], b[0]), np.maximum(a[1], b[1]))


def _by_series(p: Any, drive: Interval, n_steps: int) -> IntervalStep:
    """Bounds of all of so many steps from the start."""
    bias, threshold = p.bias << p.bias_exponent, p.vth << STATE_SHIFT
    # beyond all widths is far enough
    low, high = (np.clip(end, -_FAR, _FAR) << STATE_SHIFT for end in drive)
    current = (
        _series_end(low, p.du + 1, n_steps, -1),
        _series_end(high, p.du + 1, n_steps, 1),
    )
    u = U.hold_interval(current)
    least, most = u[0] + bias, u[1] + bias
    low, high = _series_end(least, p.dv, n_steps, -1), _series_end(most, p.dv, n_steps, 1)
    # no further than one step beyond the largest state
    low = np.maximum(low, np.minimum(least, decayed(_ZERO + V.limits[0], p.dv) + least))
    high = np.minimum(high, np.maximum(most, decayed(_ZERO + V.limits[1], p.dv) + most))
    # and one step beyond the threshold: a spike takes v below that again
    beyond = np.maximum(most, decayed(threshold, p.dv) + most)
    if p.reset == "subtract":
        # or to where input and threshold, subtracted in each step, are in balance
        too_much, kept = most - threshold, (1 << DECAY_BITS) - p.dv
        settled = np.where(
            p.dv > 0,
            most + too_much * kept // np.maximum(p.dv, 1),
            beyond + np.maximum(too_much, 0) * n_steps,
        )
        beyond = np.maximum(beyond, settled)
    step = _fired(p, current, (low, np.minimum(high, beyond)))
    return IntervalStep({}, step.u, step.spikes)


def _series_end(added: Array, decay: Array, n_steps: int, sign: int) -> Array:
    """The furthest that ``x' = dec(x) + added`` gets from 0 in one direction, at most.

    That is ``added * (1 + r + ... + r^(n - 1))``, where ``r`` is what the decay leaves, if
    ``added`` points in that direction; if not, the first step.
    """
    towards = sign * added
    kept = ((1 << DECAY_BITS) - decay) / (1 << DECAY_BITS)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(decay > 0, (1 - kept**n_steps) / (1 - kept), n_steps)
    # rounded up: the float is this much off, at most
    series = np.floor(towards * factor * (1 + 2.0**-40)).astype(np.int64) + 1
    series = np.minimum(series, towards * n_steps)
    furthest: Array = sign * np.where(towards > 0, np.maximum(series, towards), towards)
    return furthest


_FAR = 1 << 40


@register
@record
class CubaLif(Neurons):
    """Current-based leaky integrate-and-fire neurons, as Loihi computes them.

    All integers, to the bit, as read from a Loihi 2. Products have 64 bits; ``u`` wraps in 24 bits
    two's complement, ``v`` saturates at plus or minus ``2**23 - 1``, and each value that does is
    counted: where bounds do not exclude it, the network runs all the same, as on the chip.

    A neuron takes an *active* update in each step in which it has a current, a bias, a voltage that
    leaks, or fires; else it rests.

    Parameters
    ----------
    vth
        Threshold: a neuron fires if ``v > vth << 6``; one per population, channel or neuron.
    du, dv
        Decay of current and voltage, in parts of 4,096: of ``u``, ``4096 - (du + 1)`` parts remain
        from step to step (the chip adds the 1), of ``v`` ``4096 - dv``, rounded towards zero; one
        per population or channel.
    bias, bias_exponent
        ``bias << bias_exponent`` is added to ``v`` each step; ``bias`` one per population, channel
        or neuron.
    refractory
        After a spike ``v`` is held at 0 for ``refractory - 1`` steps; 1 for none.
    reset
        ``"zero"``: a spike sets ``v`` to 0; ``"subtract"``: it takes ``vth << 6`` from ``v``.
    payload_mode
        ``"binary"``: a spike carries 1; ``"graded"``: it carries ``v >> 6``, the voltage that fired
        in units of ``vth``. For ``vth`` 0 that may be 0: ``v`` is reset, and nothing is sent.
    reset_interval, reset_offset
        Before each step ``t`` of a sample, from 0, with ``t % reset_interval`` equal to
        ``reset_offset % reset_interval``, the state is set to 0; for ``reset_interval`` 0 never.
    """

    vth: Given[ArrayLike, IntArray]
    du: Given[ArrayLike, IntArray] = default(lambda: 0)
    dv: Given[ArrayLike, IntArray] = default(lambda: 0)
    bias: Given[ArrayLike, IntArray] = default(lambda: 0)
    bias_exponent: int = 0
    refractory: int = 1
    reset: Reset = "zero"
    payload_mode: PayloadMode = "binary"
    reset_interval: int = 0
    reset_offset: int = 0

    kind: ClassVar[str] = "cuba_lif"
    model: ClassVar[NeuronModel] = NeuronModel(
        equations=(
            "dec(x, d) = sign(x) * ((|x| * (4096 - d)) >> 12)",
            "u = wrap(dec(u, du + 1) + (drive << 6))",
            "v = saturate(dec(v, dv) + u + (bias << bias_exponent)); 0 while refractory",
            "fires if v > vth << 6; then v = 0 (zero), v - (vth << 6) (subtract)",
            "k = 1 (binary), v >> 6 (graded), 0 without a spike",
        ),
        parameters=(
            Parameter(
                name="vth", meaning="threshold, in units of 64", per="neuron",
                high=MAX_THRESHOLD, remedy="use a threshold mantissa of 17 bits",
            ),
            Parameter(
                name="du", meaning="decay of u, less 1, in parts of 4,096", per="channel",
                high=(1 << DECAY_BITS) - 1, remedy="use a decay of 12 bits",
            ),
            Parameter(
                name="dv", meaning="decay of v, in parts of 4,096", per="channel",
                high=1 << DECAY_BITS, remedy="use a decay of 12 bits",
            ),
            Parameter(
                name="bias", meaning="added to v each step, mantissa", per="neuron", low=-4096,
                high=4095, remedy="use a mantissa of 13 bits, and a larger bias_exponent",
            ),
            Parameter(
                name="bias_exponent", meaning="left shift of bias", high=7,
                remedy="use an exponent of 3 bits",
            ),
            Parameter(
                name="refractory", meaning="steps from a spike to the next that is possible",
                low=1, high=MAX_REFRACTORY, remedy="use 1 for none",
            ),
            Parameter(
                name="reset", meaning="what a spike does to v", type="choice",
                choices=("zero", "subtract"),
            ),
            Parameter(
                name="payload_mode", meaning="what a spike carries", type="choice",
                choices=("binary", "graded"),
            ),
            Parameter(
                name="reset_interval", meaning="steps from reset to reset, 0 for never",
                high=MAX_STEPS, remedy="use 0 for never",
            ),
            Parameter(
                name="reset_offset", meaning="step of the first reset", high=MAX_STEPS,
                remedy="use a smaller offset, it counts modulo reset_interval",
            ),
        ),
        states=(U, V, COUNT),
        start=_start,
        step=_step,
        interval_step=_interval_step,
        interval_steps=_interval_steps,
        spike_range=lambda p, n_steps: (
            0, V.limits[1] >> STATE_SHIFT if p.payload_mode == "graded" else 1
        ),
        core_parameters=(
            "vth", "du", "dv", "bias_exponent", "refractory", "reset", "payload_mode",
            "reset_interval", "reset_offset",
        ),
    )  # fmt: skip

    @property
    def spike_mode(self) -> SpikeMode:
        """How spikes travel: those with a payload as one message, others as the chip allows."""
        return "graded" if self.payload_mode == "graded" else "auto"


def integrate_and_fire(
    *,
    name: str,
    shape: Shape,
    vth: ArrayLike,
    bias: ArrayLike = 0,
    bias_exponent: int = 0,
    refractory: int = 1,
    reset: Reset = "subtract",
    payload_mode: PayloadMode = "binary",
    reset_interval: int = 0,
    reset_offset: int = 0,
) -> CubaLif:
    """Integrate-and-fire neurons: `CubaLif` whose current lasts one step, and whose voltage stays.

    With ``du=4095`` and ``dv=0``: ``v`` adds up ``(drive << 6) + (bias << bias_exponent)``.

    Parameters
    ----------
    name, shape
        As for `pmsm_hw.network.Population`.
    vth, bias, bias_exponent, refractory, payload_mode, reset_interval, reset_offset
        As for `CubaLif`.
    reset
        As for `CubaLif`; by default a spike takes the threshold from ``v``, as in networks that
        were converted.
    """
    return CubaLif(
        name=name, shape=shape, vth=vth, du=4095, dv=0, bias=bias, bias_exponent=bias_exponent,
        refractory=refractory, reset=reset, payload_mode=payload_mode,
        reset_interval=reset_interval, reset_offset=reset_offset,
    )  # fmt: skip
