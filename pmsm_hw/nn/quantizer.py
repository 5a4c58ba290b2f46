"""The polarity multi-spike quantizer, as a torch module.

Reconstructed from the abstract of arXiv 2508.14520; with ``n = 0`` it is the floor-clip-shift
quantizer of QCFS (Bu et al. 2022) with ``lambda = p * theta``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from pmsm_hw.arguments import integer, number, pair, shown
from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.batches import check_real

__all__ = ["InputQuant", "PolarityQuant", "payload", "quantize_levels"]


def quantize_levels(x: Tensor, theta: Tensor, phi: float, levels: tuple[int, int]) -> Tensor:
    """Levels ``k = clip(floor(x / theta + phi), -n, p)``, integer-valued, without gradient.

    Parameters
    ----------
    x, theta
        Broadcastable, ``theta > 0``.
    phi
        Shift; 1/2 rounds to the nearest level.
    levels
        ``(n, p)``.
    """
    n, p = levels
    return torch.floor(x / theta + phi).clamp_(-n, p)


def payload(k: Tensor, gains: tuple[int, int]) -> Tensor:
    """``gain_pos * k`` for ``k > 0``, ``gain_neg * k`` for ``k < 0``; same shape and dtype."""
    gain_pos, gain_neg = gains
    if gain_pos == gain_neg:
        return k if gain_pos == 1 else k * gain_pos
    # integers, so exact; torch.where takes several times as long on a CPU
    return k.clamp(min=0).mul_(gain_pos).add_(k.clamp(max=0), alpha=gain_neg)


def _gradients(
    gradient: Tensor, x: Tensor, theta: Tensor, k: Tensor, low: float, high: float, alpha: float
) -> tuple[Tensor, Tensor]:
    """Gradients for x and, not yet summed, for theta; inside is ``low < x / theta < high``.

    ATen's own backward kernels, vectorized: four times as fast as masks and torch.where.
    """
    r = x / theta
    if alpha != 1:
        gradient = torch.ops.aten.leaky_relu_backward(gradient, r, alpha, False)
    grad_x: Tensor = torch.ops.aten.hardtanh_backward(gradient, r, low, high)
    # g * (k - r) inside, g * k outside, where k is p or -n
    return grad_x, (gradient * k).sub_(grad_x * r)


class _Quantize(torch.autograd.Function):
    """Quantizer with straight-through gradients for ``x`` and ``theta``.

    With ``r = x / theta``, and ``g = 1`` for ``x > 0`` or ``n = 0``, else ``alpha``::

        dQ/dx     = g                          for -n - phi < r < p + 1 - phi, else 0
        dQ/dtheta = g * (k - r) inside, p above, -alpha * n below
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        theta: Tensor,
        phi: float,
        levels: tuple[int, int],
        gains: tuple[int, int],
        gradient_scale: float,
    ) -> Tensor:
        k = quantize_levels(x, theta, phi, levels)
        ctx.save_for_backward(x, theta, k)
        ctx.phi, ctx.levels, ctx.gains, ctx.gradient_scale = phi, levels, gains, gradient_scale
        return payload(k, gains) * (theta / gains[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        x, theta, k = ctx.saved_tensors
        (n, p), alpha = ctx.levels, ctx.gains[1] / ctx.gains[0]
        grad_x, each = _gradients(
            gradient, x, theta, k, -n - ctx.phi, p + 1 - ctx.phi, alpha if n > 0 else 1.0
        )
        grad_theta = None
        if ctx.needs_input_grad[1]:
            summed = each.sum_to_size(_padded(theta, x.ndim)).reshape(theta.shape)
            grad_theta = summed * ctx.gradient_scale
        return grad_x, grad_theta, None, None, None, None


def _padded(theta: Tensor, ndim: int) -> tuple[int, ...]:
    return (1,) * (ndim - theta.ndim) + tuple(theta.shape)


def check_levels(
    subject: str, levels: Sequence[int], gains: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Validate ``(n, p)`` and ``(gain_pos, gain_neg)``; the limits are the network's."""
    error, remedy = QuantizationError, "give two integers"
    n, p = pair(error, subject, "levels", levels, remedy=remedy)
    gain_pos, gain_neg = pair(error, subject, "gains", gains, remedy=remedy)
    if not (0 <= n < 1 << 15 and 1 <= p < 1 << 15):
        raise QuantizationError(
            subject,
            f"levels (n, p) = {(n, p)} are outside 0 <= n < 32,768 and 1 <= p < 32,768",
            remedy="give the number of negative and of positive levels",
            actual=(n, p),
            limit="0 <= n < 32,768, 1 <= p < 32,768",
        )
    if not (1 <= gain_pos <= 127 and -127 <= gain_neg <= 127):
        raise QuantizationError(
            subject,
            f"gains {(gain_pos, gain_neg)} are not in [1, 127] and [-127, 127]",
            remedy="use small integers, alpha is gain_neg / gain_pos",
            actual=(gain_pos, gain_neg),
            limit="1 <= gain_pos <= 127, |gain_neg| <= 127",
        )
    return (n, p), (gain_pos, gain_neg)


def largest_theta(
    levels: tuple[int, int], gains: tuple[int, int], limits: tuple[float, float]
) -> float:
    """Largest theta whose outermost levels lie within limits; inf without limits.

    Parameters
    ----------
    levels, gains, limits
        As for `PolarityQuant`.
    """
    (n, p), (low, high) = levels, limits
    lowest = n * gains[1] / gains[0]  # minus the value of level -n, in units of theta
    most = high / p
    if lowest > 0:
        most = min(most, -low / lowest)
    if lowest < 0:
        most = min(most, high / -lowest)
    return most


class PolarityQuant(nn.Module):
    """Quantizing activation: ``Q(x) = theta * g(k)``, ``k = clip(floor(x / theta + phi), -n, p)``.

    ``g(k)`` is ``k`` for ``k > 0`` and ``alpha * k`` for ``k < 0``, with
    ``alpha = gain_neg / gain_pos``. Gradients are straight-through, theta's with the scale of LSQ
    (Esser et al. 2020) if wanted.

    Parameters
    ----------
    levels
        ``(n, p)``: negative and positive levels, ``n >= 0``, ``p >= 1``.
    gains
        ``(gain_pos, gain_neg)``, small integers.
    theta
        Step, positive: one number, or one per channel ``(channels,)``. Learnable. By default 1, or
        less where `limits` ask for it.
    phi
        Shift, in [0, 1].
    channels
        Give theta this many entries (a scalar ``theta`` is repeated).
    lsq_gradient_scale
        Multiply theta's gradient by ``1 / sqrt(numel * p)``, ``numel`` being the activations of one
        sample that share the step.
    limits
        ``(low, high)``, the range of the activation in whose place it stands: no level may lie
        outside, so that theta is at most `max_theta`.

    Raises
    ------
    QuantizationError
        If levels, gains or theta are out of range, also when loaded from a state dict, or when
        training has brought theta there.
    """

    theta: nn.Parameter
    limits: tuple[float, float] = (-math.inf, math.inf)

    def __init__(
        self,
        levels: Sequence[int] = (0, 4),
        gains: Sequence[int] = (1, 1),
        *,
        theta: float | Tensor | None = None,
        phi: float = 0.5,
        channels: int | None = None,
        lsq_gradient_scale: bool = True,
        limits: tuple[float, float] = (-math.inf, math.inf),
    ) -> None:
        super().__init__()
        self.levels, self.gains = check_levels("PolarityQuant", levels, gains)
        self.limits = (float(limits[0]), float(limits[1]))
        if not self.limits[0] <= 0 < self.limits[1]:
            raise QuantizationError(
                "PolarityQuant",
                f"limits {self.limits} are not low <= 0 < high",
                remedy="give the smallest and largest value of the activation, inf for none",
                actual=self.limits,
                limit="low <= 0 < high",
            )
        if not (isinstance(phi, int | float) and 0.0 <= phi <= 1.0):
            raise QuantizationError(
                "PolarityQuant",
                f"phi {phi!r} is outside [0, 1]",
                remedy="use 0.5, which rounds to the nearest level",
                actual=phi,
                limit=(0, 1),
            )
        self.phi = float(phi)
        self.lsq_gradient_scale = lsq_gradient_scale
        if channels is not None:
            integer(
                QuantizationError, "PolarityQuant", "channels", channels, low=1, high=1 << 31,
                remedy="give the number of channels",
            )  # fmt: skip
        dtype = torch.get_default_dtype()
        try:
            value = torch.as_tensor(1.0 if theta is None else theta, dtype=dtype)
            value = self.bounded(value) if theta is None else value.clone()
            if channels is not None:
                value = value.expand(channels).clone()
        except (TypeError, ValueError, RuntimeError) as cause:
            raise QuantizationError(
                "PolarityQuant",
                f"theta {shown(theta)} is not a step, one number or one per channel is needed"
                + (f" ({channels:,} channels)" if channels is not None else ""),
                remedy="give a positive number, or a tensor (channels,)",
                actual=theta,
                limit="one number, or one per channel",
            ) from cause
        self._check_theta("PolarityQuant", value)
        self.theta = nn.Parameter(value)

    @property
    def alpha(self) -> float:
        """Weight of a negative level against a positive one."""
        return self.gains[1] / self.gains[0]

    @property
    def unit(self) -> Tensor:
        """Real value of payload 1, theta's shape."""
        return self.theta / self.gains[0]

    @property
    def max_theta(self) -> float:
        """Largest theta whose outermost levels lie within `limits`; inf without limits."""
        return largest_theta(self.levels, self.gains, self.limits)

    def bounded(self, theta: Tensor) -> Tensor:
        """Theta, at most `max_theta`, in its own dtype.

        Parameters
        ----------
        theta
            Any shape.
        """
        most = torch.tensor(self.max_theta, dtype=theta.dtype, device=theta.device)
        if float(most) > self.max_theta:
            most = torch.nextafter(most, torch.zeros_like(most))
        return theta.clamp(max=most)

    def check(self, subject: str = "PolarityQuant") -> None:
        """Raise `QuantizationError` unless every theta is positive and within the limits.

        Parameters
        ----------
        subject
            Name for the message.
        """
        theta = self.theta.detach()
        good = (theta > 0) & (theta <= self.max_theta) & torch.isfinite(theta)
        if not bool(good.all()):
            self._check_theta(subject, theta)

    def theta_for(self, ndim: int) -> Tensor:
        """Theta, shaped to broadcast along axis 1 of an activation with ``ndim`` axes.

        Parameters
        ----------
        ndim
            Number of axes, batch included.
        """
        self.check()
        if self.theta.ndim == 0:
            return self.theta
        return self.theta.reshape((-1,) + (1,) * (ndim - 2))

    def spikes(self, x: Tensor) -> Tensor:
        """Levels ``k`` of activations ``x`` ``(batch, channels, ...)``, integer-valued float.

        Parameters
        ----------
        x
            ``(batch, channels, ...)`` float.
        """
        with torch.no_grad():
            return quantize_levels(x, self.theta_for(x.ndim), self.phi, self.levels)

    def target(self, x: Tensor) -> Tensor:
        """What it approximates: ReLU for ``n = 0``, else ``x``, negatives times alpha; in limits.

        Parameters
        ----------
        x
            ``(batch, channels, ...)`` float.
        """
        y = torch.where(x >= 0, x, x * (self.alpha if self.levels[0] > 0 else 0.0))
        return y.clamp(*self.limits)

    def forward(self, x: Tensor) -> Tensor:
        """Quantize activations ``(batch, channels, ...)``.

        Parameters
        ----------
        x
            ``(batch, channels, ...)`` float.
        """
        scale = 1.0
        if self.lsq_gradient_scale:
            numel = math.prod(x.shape[1:]) / self.theta.numel()
            scale = 1.0 / math.sqrt(numel * self.levels[1])
        theta = self.theta_for(x.ndim)
        return cast(Tensor, _Quantize.apply(x, theta, self.phi, self.levels, self.gains, scale))  # type: ignore[no-untyped-call]

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        value = state_dict.get(prefix + "theta")
        if value is not None:
            self._check_theta(f"quantizer '{prefix.rstrip('.')}'", value)
            if value.shape != self.theta.shape and value.ndim <= 1:
                # one step against one per channel: take the shape of the file
                self.theta = nn.Parameter(torch.empty_like(value))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _check_theta(self, subject: str, theta: Tensor) -> None:
        if theta.ndim > 1 or theta.numel() == 0:
            raise QuantizationError(
                subject,
                f"theta has shape {tuple(theta.shape)}, () or (channels,) are possible",
                remedy="give one step, or one per channel",
                actual=tuple(theta.shape),
                limit="() or (channels,)",
            )
        bad = ~(torch.isfinite(theta) & (theta > 0))
        if bool(bad.any()):
            value = float(theta.detach().reshape(-1)[bad.reshape(-1)][0])
            raise QuantizationError(
                subject,
                f"theta {value:.6g} is not a finite positive number",
                remedy="calibrate it, or lower the learning rate (nn.finetune keeps it positive)",
                actual=value,
                limit="> 0",
            )
        largest = float(theta.detach().max())
        slack = 1 + (float(torch.finfo(theta.dtype).eps) if theta.is_floating_point() else 0.0)
        if largest > self.max_theta * slack:
            raise QuantizationError(
                subject,
                f"theta {largest:.6g} puts levels {self.levels} outside of "
                f"{self.limits}, the range of the activation it replaces, limit: "
                f"{self.max_theta:.6g}",
                remedy="calibrate it (nn.finetune keeps it within)",
                actual=largest,
                limit=self.max_theta,
            )

    def extra_repr(self) -> str:
        """Levels, gains, steps and limits."""
        steps = f"{self.theta.item():.4g}" if self.theta.numel() == 1 else f"({len(self.theta)},)"
        limits = "" if self.limits == (-math.inf, math.inf) else f", limits={self.limits}"
        return f"levels={self.levels}, gains={self.gains}, theta={steps}, phi={self.phi}{limits}"


class _RoundInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, levels: tuple[int, int]) -> Tensor:
        # in float64, as Input.encode has it: ties must fall alike
        units = torch.round(x.to(torch.float64) / scale)
        ctx.save_for_backward((units >= levels[0]) & (units <= levels[1]))
        return units.clamp(*levels).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


class InputQuant(nn.Module):
    """Quantizes a model's input as the network's input population does.

    ``x`` becomes ``scale * clip(round_half_even(x / scale), lo, hi)``.

    Parameters
    ----------
    scale
        Real value of one unit, finite and positive.
    levels
        ``(lo, hi)``.
    """

    def __init__(self, scale: float = 1 / 255, levels: Sequence[int] = (0, 255)) -> None:
        super().__init__()
        error, remedy = QuantizationError, "give the real value of one unit"
        self.scale = number(error, "InputQuant", "scale", scale, above=0, remedy=remedy)
        remedy = "give the smallest and the largest value in units, integers (lo, hi), lo <= hi"
        self.levels = pair(error, "InputQuant", "levels", levels, remedy=remedy)
        if self.levels[0] > self.levels[1]:
            raise QuantizationError(
                "InputQuant",
                f"levels {levels!r} are not integers (lo, hi) with lo <= hi",
                remedy=remedy,
                actual=levels,
                limit="lo <= hi",
            )

    def units(self, x: Tensor) -> Tensor:
        """Encode: integer-valued float of ``x``'s shape and dtype.

        Parameters
        ----------
        x
            Any shape, float.
        """
        check_real(x, "input")
        return cast(Tensor, _RoundInput.apply(x, self.scale, self.levels))  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Encode and return real values.

        Parameters
        ----------
        x
            Any shape, float.
        """
        return self.units(x) * self.scale

    def extra_repr(self) -> str:
        """Scale and levels."""
        return f"scale={self.scale:.6g}, levels={self.levels}"
