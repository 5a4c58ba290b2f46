"""The integer network, and the contract that every backend obeys.

This module is the one place where the meaning of a `Network` is stated. The reference, the
emulator, Lava and every export give exactly these integers.

The contract
------------
A network is a directed graph of *populations* joined by *projections*. Several projections into
one population add up. The graph is acyclic except through projections with ``delay >= 1``.

Input
    Sends integer values. ``scale`` is the real value of one unit, ``levels = (lo, hi)`` the range.
    A real input ``x`` is encoded as ``clip(round_half_even(x / scale), lo, hi)``. A static input
    is presented at each of the T steps; event data give one frame a step.
Projection
    ``Dense``, ``Conv1d``, ``Conv2d``, ``SumPool``, ``Identity``. In each step a projection adds to
    each target neuron::

        shift(sum over its synapses of w * payload(k))

    where ``w`` is int8, ``k`` the spike that the synapse delivers in this step, and ``shift(x)`` is
    ``x << e`` for ``e = weight_exponent >= 0``, and ``floor(x / 2**-e)`` (an arithmetic shift to
    the right) for ``e < 0``; ``e`` lies in -8..7. It is the sum that is shifted, not each product;
    each projection is shifted on its own, then all are added. A projection with ``delay = d``
    delivers at step ``t`` what its source sent at step ``t - d`` of the same sample (nothing for
    ``t < d``). ``Dense``, ``Conv1d`` and ``Conv2d`` may have ``delays``, 0..62 more steps for each
    synapse (as laid out as ``weight``): it delivers what was sent at step ``t - d - delays[i, j]``.
PolarityMultiSpike
    Per neuron and step, with ``(n, p) = levels``::

        u  = v + sum of inputs + bias
        k  = clip(floor(u / theta), -n, p)
        v' = u - k * theta                      (rule "carry")
        v' = v_init                             (rule "reset")

    and for rule "bounded", where ``S`` is the sum of the ``k`` sent before and ``t = 1, 2, ...``
    counts the steps of the sample::

        k  = clip(floor(u / theta), -n * t - S, p * t - S);   v' = u - k * theta

    so the running sum stays within ``[-n * t, p * t]`` and later spikes may retract earlier ones.
    ``theta > 0`` per population, channel or neuron; ``v_init`` defaults to ``floor(theta / 2)``. At
    the first step all three rules are the quantizer. A spike carries ``payload(k) = gain_pos * k``
    for ``k > 0`` and ``gain_neg * k`` for ``k < 0``.
CubaLif
    Loihi's own neuron, with a current and a voltage. Per neuron and step, where ``dec(x, d)`` is
    ``sign(x) * ((|x| * (4096 - d)) >> 12)``::

        u  = wrap(dec(u, du + 1) + (sum of inputs << 6))
        v  = saturate(dec(v, dv) + u + (bias << bias_exponent));  0 while refractory
        fires if v > vth << 6;  then v' = 0 (reset "zero") or v - (vth << 6) ("subtract")

    A spike carries 1, or ``v >> 6`` (payload "graded"). After a spike ``v`` is held at 0 for
    ``refractory - 1`` steps. If ``t % reset_interval == reset_offset % reset_interval``, the state
    is set to 0 before step ``t`` of a sample (from 0).
AdaptiveLif
    `CubaLif` with reset to zero and a second compartment, whose voltage ``a`` joins the first::

        a  = saturate(dec(a, da) - (adaptation << 6, if it fired one step before))
        v  = saturate(dec(v, dv) + u + a + (bias << bias_exponent));  0 while refractory
SigmaDelta
    Adds up changes, and sends changes of its activation ``f``, ReLU or none::

        sigma = wrap(sigma + sum of inputs)
        a     = saturate(f(sigma + bias));  d = a - act + residue
        s     = d if |d| >= vth else 0;     k = saturate(s >> state_exp)
        act'  = a;  residue' = d - s        (variant "fixed")

    Variant "fixed_corrected" has no ``residue``: ``act' = act + (k << state_exp)``. ``Delta`` is
    the second half of "fixed", with ``a = saturate(sum of inputs << (spike_exp + state_exp))``.
    ``k`` saturates in ``message_bits``, and is the payload.
Readout
    ``v' = v + sum of inputs + bias``; never fires. ``logits = v(T) * scale / T``.
State width
    ``u`` and ``v`` are ``STATE_BITS`` (24) wide, signed. Construction of a `Network` proves, from
    weights, levels and ``max_steps``, that no reachable ``u`` leaves that range
    (`Network.bounds`). Where it cannot, construction fails, unless the population has
    ``overflow="saturate"``: then ``u`` is clipped to the range and every clipped neuron and step
    is counted. Loihi's neurons do as the chip: ``u`` and ``sigma`` wrap in two's complement, ``v``
    and ``a`` of `CubaLif` and `AdaptiveLif` saturate at plus or minus ``2**23 - 1``, activations
    and messages at the ends of their width, and what was not proven to be impossible is counted.
Time
    Within an algorithmic step populations act in topological order. Hardware runs a wave: a
    population at depth ``d`` does step ``t`` of a sample in hardware step ``d + t`` (input at
    depth 0, ``t`` from 0), and projections that skip depths hold their spikes in delay lines
    (`Network.hardware_delay`). T steps of a network of depth D take ``D + T - 1`` hardware steps
    after the first input; with pipelining a new sample enters every T steps. Before its wave
    arrives a population stays silent, bias included; at the end of its sample it starts anew.
    Samples never affect each other, unless a run is told to carry the state on: then they follow
    each other as one long sample.

    Depths go by ``delay`` alone: a projection with ``delay >= 1`` adds none. A network in which
    every projection between neurons has ``delay=1`` is written as a chip runs it: each spike acts
    one step later, all populations have depth 1, and step ``t`` is hardware step ``t + 1``.

The neuron equations are a reconstruction from the abstract of arXiv 2508.14520 (PMSM).
"""

from pmsm_hw.network.graph import Network, StateBound
from pmsm_hw.network.limits import (
    MAX_STEPS,
    MAX_SYNAPSE_DELAY,
    MAX_WEIGHT_EXPONENT,
    MIN_WEIGHT_EXPONENT,
    RULES,
    STATE_BITS,
    STATE_MAX,
    STATE_MIN,
    Pads,
    Rule,
    Shape,
)
from pmsm_hw.network.populations import POPULATION_KINDS, Input, Population
from pmsm_hw.network.projections import (
    PROJECTION_KINDS,
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Projection,
    SumPool,
    by_delay,
    shifted,
)
from pmsm_hw.network.weight_truncation import SignMode, loihi_weights
from pmsm_hw.neurons import (
    AdaptiveLif,
    CubaLif,
    Delta,
    Neurons,
    PolarityMultiSpike,
    Readout,
    SigmaDelta,
)

__all__ = [
    "MAX_STEPS",
    "MAX_SYNAPSE_DELAY",
    "MAX_WEIGHT_EXPONENT",
    "MIN_WEIGHT_EXPONENT",
    "POPULATION_KINDS",
    "PROJECTION_KINDS",
    "RULES",
    "STATE_BITS",
    "STATE_MAX",
    "STATE_MIN",
    "AdaptiveLif",
    "Conv1d",
    "Conv2d",
    "CubaLif",
    "Delta",
    "Dense",
    "Identity",
    "Input",
    "Network",
    "Neurons",
    "Pads",
    "PolarityMultiSpike",
    "Population",
    "Projection",
    "Readout",
    "Rule",
    "Shape",
    "SigmaDelta",
    "SignMode",
    "StateBound",
    "SumPool",
    "by_delay",
    "loihi_weights",
    "shifted",
]
