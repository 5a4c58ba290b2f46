"""Loihi's own neuron, CUBA-LIF, as a torch module; integrate-and-fire is its special case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pmsm_hw.neurons import CubaLif as Population
from pmsm_hw.neurons import Neurons
from pmsm_hw.nn.loihi.neurons import (
    STATE,
    TORCH,
    LoihiNeuron,
    States,
    learned,
    unit_of,
    wrapped,
)
from pmsm_hw.nn.loihi.surrogate import Derivative, Surrogate
from pmsm_hw.nn.loihi.synapses import LoihiSynapses, rounded

__all__ = ["SHIFT", "V_MOST", "CubaLif", "bias_mantissa", "integrate_and_fire"]

SHIFT = 64.0
"""Drive and threshold enter the state with six more bits."""

V_MOST = float((1 << 23) - 1)


def bias_mantissa(value: Tensor, scale: float) -> Tensor:
    """Integers of learned biases, with a straight-through gradient.

    Parameters
    ----------
    value
        Real numbers.
    scale
        Mantissas in 1.0.
    """
    return rounded(value.to(STATE) * scale, -4096, 4095)


class _Settings(NamedTuple):
    left_u: Tensor
    """Share of u that a step leaves, ``(4095 - du) / 4096``."""
    left_v: Tensor
    threshold: Tensor
    """In units of the state."""
    refractory: int
    is_soft: bool
    is_graded: bool
    interval: int
    offset: int
    derivative: Derivative

    def resets(self, t: int) -> bool:
        """Whether step t starts from rest."""
        return self.interval > 0 and t % self.interval == self.offset % self.interval


class _Steps(torch.autograd.Function):
    """Some steps of a population, with a gradient through time that takes resets as given."""

    @staticmethod
    def forward(
        ctx: Any,
        drive: Tensor,
        u: Tensor,
        v: Tensor,
        held: Tensor,
        bias: Tensor,
        settings: _Settings,
        t0: int,
    ) -> Any:
        left_u, left_v, threshold, refractory, is_soft, is_graded, *_ = settings
        u, v, held = u.clone(), v.clone(), held.clone()
        keeps_u, leaks_v = bool((left_u > 0).any()), bool((left_v < 1).any())
        reached = drive.new_empty(drive.shape, dtype=torch.float32)  # 24 bits are exact
        blocked = []
        for i, arriving in enumerate(drive.unbind(1)):
            if settings.resets(t0 + i):
                for state in (u, v, held):
                    state.zero_()
            if keeps_u:
                u.mul_(left_u).trunc_().add_(arriving, alpha=SHIFT)
            else:
                torch.mul(arriving, SHIFT, out=u)
            u = wrapped(u)
            if leaks_v:
                v.mul_(left_v).trunc_()
            v.add_(u).add_(bias).clamp_(-V_MOST, V_MOST)
            if refractory > 1:
                waits = held > 0
                v.masked_fill_(waits, 0)
                blocked.append(waits)
            reached[:, i] = v
            fired = v > threshold
            v = v.sub_(threshold * fired) if is_soft else v.masked_fill_(fired, 0)
            if refractory > 1:
                held.masked_fill_(fired, refractory).sub_(1).clamp_(min=0)
        fired = reached > threshold.to(torch.float32)
        sent = torch.floor(reached / SHIFT) * fired if is_graded else fired.to(torch.float32)
        ctx.settings, ctx.t0, ctx.bias_shape = settings, t0, bias.shape
        ctx.save_for_backward(reached, *blocked)
        ctx.mark_non_differentiable(held)
        return sent, u, v, held

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        settings: _Settings = ctx.settings
        reached, *blocked = ctx.saved_tensors
        left_u, left_v, threshold = (x.to(torch.float32) for x in settings[:3])
        unit = threshold.clamp(min=SHIFT)
        fired = reached > threshold
        spike = settings.derivative((reached - threshold) / unit) / unit
        if settings.is_graded:
            # of v >> 6 at a spike, and of the step at the threshold
            spike = (spike * unit + fired.to(torch.float32)) / SHIFT
        of_sent, of_u, of_v = (x.to(torch.float32) for x in gradients[:3])
        spike = spike * of_sent
        of_drive = torch.empty_like(spike)
        of_bias = torch.zeros_like(of_u)
        of_u, of_v = of_u.clone(), of_v.clone()
        for i in reversed(range(reached.shape[1])):
            if not settings.is_soft:
                of_v.masked_fill_(fired[:, i], 0)
            of_v.add_(spike[:, i])
            if blocked:
                of_v.masked_fill_(blocked[i], 0)
            of_bias.add_(of_v)
            of_drive[:, i] = of_u.add_(of_v)
            of_u.mul_(left_u)
            of_v.mul_(left_v)
            if settings.resets(ctx.t0 + i):
                of_u.zero_()
                of_v.zero_()
        of_drive = of_drive.mul_(SHIFT).to(STATE)
        of_bias = of_bias.to(STATE).sum_to_size(ctx.bias_shape)
        return of_drive, of_u.to(STATE), of_v.to(STATE), None, of_bias, None, None


class CubaLif(LoihiNeuron):
    """Current-based leaky integrate-and-fire, to the bit as Loihi has it.

    ``u = dec(u, du + 1) + (drive << 6)``, ``v = dec(v, dv) + u + bias``, a spike where
    ``v > vth << 6`` (`pmsm_hw.network.CubaLif` has the equations). Backwards a spike has the
    surrogate's derivative, and what a reset takes is taken as given.

    Parameters
    ----------
    vth
        Threshold, integer 0..131,071, one or one per channel or neuron: in the unit of weights.
    du, dv
        Decay of current and voltage in 4096ths, integers; `current_decay` and `voltage_decay` make
        them of time constants. ``du=4095, dv=0`` is integrate-and-fire.
    bias
        Added to v at each step, ``bias << bias_exponent``: integer mantissa, -4096..4095; with the
        exponent 6 in the unit of weights.
    bias_exponent
        0..7.
    refractory
        1 (none) to 64: after a spike v is held at 0 for ``refractory - 1`` steps.
    reset
        ``"zero"`` or ``"subtract"`` (soft).
    payload_mode
        ``"binary"`` spikes, or ``"graded"``: ``v >> 6`` at the spike.
    reset_interval, reset_offset
        State returns to rest before each step t with ``t % interval == offset % interval``; 0:
        never.
    learned_bias
        Number of channels (or shape of the population) whose biases are trained, in place of
        ``bias``: real numbers, of which 1.0 is ``scale`` mantissas.
    scale
        Of learned biases: that of the layer before.
    surrogate, slope
        Derivative of a spike: "fast_sigmoid", "atan", "triangle", "exponential", or a function of
        ``(v - threshold) / threshold``; a larger slope is narrower.
    recurrent
        Synapses from the population to itself (a layer of this package), or None: a spike of step t
        acts in step t + 1.
    """

    of: ClassVar[type[Neurons]] = Population

    vth: Tensor
    bias: Tensor
    bias_exponent: int
    refractory: int
    reset: str
    payload_mode: str
    reset_interval: int
    reset_offset: int

    def __init__(
        self,
        vth: ArrayLike | Tensor = 64,
        du: int | ArrayLike | Tensor = 4095,
        dv: int | ArrayLike | Tensor = 0,
        *,
        bias: ArrayLike | Tensor = 0,
        bias_exponent: int = 6,
        refractory: int = 1,
        reset: str = "zero",
        payload_mode: str = "binary",
        reset_interval: int = 0,
        reset_offset: int = 0,
        learned_bias: int | Sequence[int] | None = None,
        scale: float = 64,
        surrogate: Surrogate = "fast_sigmoid",
        slope: float = 2.0,
        recurrent: LoihiSynapses | None = None,
    ) -> None:
        subject = type(self).__name__
        self.scale = unit_of(subject, scale)
        given = bias if learned_bias is None else learned(subject, learned_bias)
        super().__init__(
            surrogate, slope, recurrent, vth=vth, du=du, dv=dv, bias=given,
            bias_exponent=bias_exponent, refractory=refractory, reset=reset,
            payload_mode=payload_mode, reset_interval=reset_interval, reset_offset=reset_offset,
        )  # fmt: skip

    def mantissa(self, name: str, value: Tensor) -> Tensor:
        """See `LoihiNeuron.mantissa`: of the biases.

        Parameters
        ----------
        name, value
            As there.
        """
        return bias_mantissa(value, self.scale)

    def advance(self, drive: Tensor, states: States, t0: int) -> tuple[Tensor, States]:
        """See `LoihiNeuron.advance`."""
        n_axes = drive.ndim - 2
        settings = _Settings(
            left_u=(4095 - self.column("du", n_axes)) / 4096,  # exact, and so are the products
            left_v=(4096 - self.column("dv", n_axes)) / 4096,
            threshold=SHIFT * self.column("vth", n_axes),
            refractory=self.refractory,
            is_soft=self.reset == "subtract",
            is_graded=self.payload_mode == "graded",
            interval=self.reset_interval,
            offset=self.reset_offset,
            derivative=self.derivative,
        )
        bias = self.column("bias", n_axes) * float(1 << self.bias_exponent)
        sent, *after = cast(
            "tuple[Tensor, ...]",
            _Steps.apply(drive, *states, bias, settings, t0),  # type: ignore[no-untyped-call]
        )
        return sent, tuple(after)


TORCH.register(Population.kind, CubaLif)


def integrate_and_fire(vth: ArrayLike | Tensor = 64, **options: Any) -> CubaLif:
    """A `CubaLif` without leak: the current is the input of the step, the voltage keeps its value.

    Parameters
    ----------
    vth, options
        As for `CubaLif`; ``reset="subtract"`` is what rate-coded networks have.
    """
    return CubaLif(vth, 4095, 0, **options)
