"""Layers of Loihi synapses: trained in real numbers, computed with the integers of a chip.

A layer takes what spikes carry, ``(batch, n_steps, ...)``, and returns what it adds to its target
at every step, in integers. Its real weights are rounded to Loihi's in every forward pass, with a
straight-through gradient, so that what is trained is what is converted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pmsm_hw.arguments import array_of, choice, integer, number, shown
from pmsm_hw.errors import QuantizationError
from pmsm_hw.network import (
    MAX_STEPS,
    MAX_SYNAPSE_DELAY,
    MAX_WEIGHT_EXPONENT,
    MIN_WEIGHT_EXPONENT,
    Pads,
)

__all__ = [
    "LoihiConv1d", "LoihiConv2d", "LoihiLinear", "LoihiOneToOne", "LoihiSumPool", "LoihiSynapses",
    "rounded", "weight_grid",
]  # fmt: skip

SIGN_MODES = ("mixed", "excitatory", "inhibitory", "int8")

LARGEST_INT8 = 127

Delivery: TypeAlias = "Callable[[Sequence[Tensor], int], Tensor | None]"


class _Round(torch.autograd.Function):
    """Nearest value of a grid; the gradient goes through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, low: float, high: float) -> Tensor:
        return (torch.round(x / step) * step).clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0], None, None, None


class _Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.floor(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0]


def rounded(x: Tensor, low: float, high: float, step: float = 1.0) -> Tensor:
    """Nearest multiple of ``step`` within limits, which are multiples; straight-through gradient.

    Parameters
    ----------
    x
        Real values.
    low, high, step
        Of the grid.
    """
    return cast(Tensor, _Round.apply(x, float(step), float(low), float(high)))  # type: ignore[no-untyped-call]


def weight_grid(sign_mode: str, weight_bits: int) -> tuple[int, int, int]:
    """Least and greatest weight of a synapse format, and the step between them.

    Parameters
    ----------
    sign_mode
        ``"mixed"``, ``"excitatory"``, ``"inhibitory"``, or ``"int8"``.
    weight_bits
        1..8.
    """
    if sign_mode == "int8":
        return -128, 127, 1
    n = 8 - weight_bits + (sign_mode == "mixed")
    most = (255 >> n) << n
    low = {"mixed": -256, "excitatory": 0, "inhibitory": -most}[sign_mode]
    return low, 0 if sign_mode == "inhibitory" else most, 1 << n


class LoihiSynapses(nn.Module):
    """Base class of the layers; see `LoihiLinear`."""

    weight: Tensor

    def _settle(
        self,
        scale: float,
        weight_bits: int,
        sign_mode: str,
        weight_exponent: int,
        delay: int,
        delays: ArrayLike | Tensor | None,
    ) -> None:
        """Take what all layers are told."""
        error, subject = QuantizationError, type(self).__name__
        self.scale = number(
            error, subject, "scale", scale, above=0, remedy="give the integer that 1.0 becomes"
        )
        self.weight_bits = integer(
            error, subject, "weight_bits", weight_bits, low=1, high=8, remedy="use 1 to 8 bits"
        )
        self.sign_mode = choice(
            error, subject, "sign_mode", sign_mode, SIGN_MODES, remedy="choose one of them"
        )
        if sign_mode == "int8" and weight_bits != 8:
            raise error(
                subject,
                f"sign_mode 'int8' has 8 bits, weight_bits is {weight_bits}",
                remedy="use sign_mode='mixed' for fewer bits",
                actual=weight_bits,
                limit=8,
            )
        self.weight_exponent = integer(
            error, subject, "weight_exponent", weight_exponent,
            low=MIN_WEIGHT_EXPONENT, high=MAX_WEIGHT_EXPONENT - (sign_mode != "int8"),
            remedy="scale the weights",
        )  # fmt: skip
        self.delay = integer(
            error, subject, "delay", delay, low=0, high=MAX_STEPS,
            remedy="give the steps that a spike takes",
        )  # fmt: skip
        self.delays: Tensor | None
        self.register_buffer("delays", None if delays is None else self._checked(delays))

    def _checked(self, delays: ArrayLike | Tensor) -> Tensor:
        subject = type(self).__name__
        array = np.asarray(delays.detach().cpu() if isinstance(delays, Tensor) else delays)
        fits = array.dtype.kind in "iu" and array.shape == tuple(self.weight.shape)
        if not fits or int(array.min()) < 0 or int(array.max()) > MAX_SYNAPSE_DELAY:
            of = f"in [{array.min()}, {array.max()}]" if array.dtype.kind in "iuf" else ""
            raise QuantizationError(
                subject,
                f"delays are {array.dtype} of shape {array.shape} {of}, integers 0.."
                f"{MAX_SYNAPSE_DELAY} of shape {tuple(self.weight.shape)} are needed",
                remedy="give the delay of each synapse in steps, in the layout of the weight",
                actual=array.shape,
                limit=tuple(self.weight.shape),
            )
        return torch.from_numpy(array.astype(np.uint8))

    def integer_weight(self) -> Tensor:
        """The weights of the chip, before the exponent, with a straight-through gradient.

        Where excitatory or inhibitory weights of 8 bits go beyond 127 they are even: a network
        holds weights as int8 and an exponent.
        """
        low, high, step = weight_grid(self.sign_mode, self.weight_bits)
        real = self.weight * (self.scale * 2.0**-self.weight_exponent)
        if step == 1 and self.sign_mode != "int8":
            largest = float(real.detach().abs().amax())
            step = 2 if largest >= LARGEST_INT8 + 0.5 else 1
            low, high = -(-low // step * step), high // step * step
        return rounded(real, low, high, step)

    def by_delay(self) -> list[tuple[int, Tensor]]:
        """Delays that synapses have, each with the integer weights of these synapses."""
        weight = self.integer_weight()
        if self.delays is None:
            return [(self.delay, weight)]
        found = torch.unique(self.delays).tolist()
        return [(self.delay + int(d), weight * (self.delays == d)) for d in found]

    def forward(self, x: Tensor) -> Tensor:
        """What reaches the target at every step: ``(batch, n_steps, *target_shape)``, float64.

        Parameters
        ----------
        x
            What spikes carry, integers as floats, ``(batch, n_steps, *source_shape)``.
        """
        self.check_input(x)
        n_steps = x.shape[1]
        total: Tensor | None = None
        for delay, weight in self.by_delay():
            part = self._exact(x[:, : max(n_steps - delay, 1)], weight)
            if delay:
                late = part.new_zeros((part.shape[0], min(delay, n_steps), *part.shape[2:]))
                part = torch.cat([late, part], 1)[:, :n_steps]
            total = part if total is None else total + part
        assert total is not None
        return self._shifted(total)

    def stepwise(self) -> Delivery:
        """The same step by step: ``deliver(sent, t)`` of what was sent at steps up to t.

        Returns
        -------
        function
            Of the payloads of all steps so far, ``(batch, 1, ...)`` each, and t; None where nothing
            arrives yet.
        """
        parts = self.by_delay()

        def deliver(sent: Sequence[Tensor], t: int) -> Tensor | None:
            total: Tensor | None = None
            for delay, weight in parts:
                if t - delay >= 0:
                    part = self._exact(self.as_source(sent[t - delay]), weight)
                    total = part if total is None else total + part
            return None if total is None else self._shifted(total)

        return deliver

    def as_source(self, sent: Tensor) -> Tensor:
        """What a population sent, in the layout that `forward` takes.

        Parameters
        ----------
        sent
            ``(batch, steps, *shape)``.
        """
        return sent

    def check_input(self, x: Tensor) -> None:
        """Raise `QuantizationError` unless the layer takes it.

        Parameters
        ----------
        x
            What it is given.
        """
        n_axes = self.n_axes
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 2 + n_axes:
            found = f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            axes = ("features", "channels, length", "channels, height, width")[n_axes - 1]
            raise QuantizationError(
                type(self).__name__,
                f"is given {found}, floats (batch, n_steps, {axes}) are needed",
                remedy="give one frame a step along axis 1"
                + (", and put nn.Flatten(2) before it" if n_axes == 1 else ""),
                actual=found,
                limit=f"(batch, n_steps, {axes})",
            )

    n_axes: int = 1
    """Of its source's shape."""

    def summed(self, x: Tensor, weight: Tensor) -> Tensor:
        """Sums over synapses, ``(batch * n_steps, ...)``, in the type of its arguments.

        Parameters
        ----------
        x
            ``(batch * n_steps, *source_shape)``.
        weight
            Integers.
        """
        raise NotImplementedError

    def most(self, weight: Tensor) -> Tensor:
        """Largest sum of absolute weights into a neuron.

        Parameters
        ----------
        weight
            Integers.
        """
        return weight.abs().flatten(1).sum(1).amax()

    def _exact(self, x: Tensor, weight: Tensor) -> Tensor:
        """Integer sums of some steps, ``(batch, steps, ...)`` in float64.

        In float32 where that is exact for sure: on a processor, below 2**24, and unless torch may
        take shorter types. GPUs may compute by transforms: there it is float64, and rounded.
        """
        with torch.no_grad():
            largest = float(x.abs().amax()) * float(self.most(weight))
        narrow = largest < 1 << 24 and x.device.type == "cpu"
        narrow = narrow and torch.get_float32_matmul_precision() == "highest"
        dtype = torch.float32 if narrow else torch.float64
        with torch.autocast(x.device.type, enabled=False):
            sums = self.summed(x.flatten(0, 1).to(dtype), weight.to(dtype))
        sums = sums.reshape(*x.shape[:2], *sums.shape[1:]).to(torch.float64)
        return sums if x.device.type == "cpu" else rounded(sums, -(2.0**53), 2.0**53)

    def _shifted(self, sums: Tensor) -> Tensor:
        if self.weight_exponent == 0:
            return sums
        shifted = sums * 2.0**self.weight_exponent
        if self.weight_exponent > 0:
            return shifted
        return cast(Tensor, _Floor.apply(shifted))  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Format of the weights."""
        inner = super().extra_repr()
        parts = [inner] if inner else []
        parts.append(f"scale={self.scale:g}, weight_bits={self.weight_bits}")
        for name, usual in (("sign_mode", "mixed"), ("weight_exponent", 0), ("delay", 0)):
            if getattr(self, name) != usual:
                parts.append(f"{name}={getattr(self, name)}")
        if self.delays is not None:
            parts.append(f"delays up to {int(self.delays.max())}")
        return ", ".join(parts)


class LoihiLinear(LoihiSynapses, nn.Linear):
    """All to all, ``nn.Linear`` without a bias (a bias belongs to the neurons).

    Parameters
    ----------
    in_features, out_features
        Numbers of neurons.
    scale
        The integer that a weight of 1.0 becomes: with ``CubaLif(vth=scale)`` weights are in units
        of the threshold. 64 is what slayer has.
    weight_bits
        1..8; mixed signs take one of the nine bits that Loihi's weights have: 8 bits are the even
        numbers in -256..254.
    sign_mode
        ``"mixed"``, ``"excitatory"`` (weights below 0 become 0), ``"inhibitory"``, or ``"int8"``:
        every integer in -128..127, as a network's projections have them; of 8 bits.
    weight_exponent
        -8..6: sums are shifted by it, up or (floor) down. Weights stay in units of 1.0, rounded
        more coarsely, or more finely.
    delay
        Steps that every spike takes.
    delays
        Further steps of each synapse, integers 0..62 in the weight's layout, or None.
    gain
        Initial weights are torch's, times this.
    """

    n_axes = 1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        scale: float = 64,
        weight_bits: int = 8,
        sign_mode: str = "mixed",
        weight_exponent: int = 0,
        delay: int = 0,
        delays: ArrayLike | Tensor | None = None,
        gain: float = 1.0,
    ) -> None:
        for what, n in (("in_features", in_features), ("out_features", out_features)):
            _size(type(self).__name__, what, n)
        nn.Linear.__init__(self, in_features, out_features, bias=False)
        _grow(self, gain)
        self._settle(scale, weight_bits, sign_mode, weight_exponent, delay, delays)

    def as_source(self, sent: Tensor) -> Tensor:
        """See `LoihiSynapses.as_source`."""
        return sent.flatten(2)

    def summed(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `LoihiSynapses.summed`."""
        return F.linear(x, weight)


class _LoihiConv(LoihiSynapses):
    convolution: ClassVar[type[nn.Conv1d | nn.Conv2d]]
    convolve: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        *,
        scale: float = 64,
        weight_bits: int = 8,
        sign_mode: str = "mixed",
        weight_exponent: int = 0,
        delay: int = 0,
        delays: ArrayLike | Tensor | None = None,
        gain: float = 1.0,
    ) -> None:
        subject, n_spatial = type(self).__name__, self.n_axes - 1
        _check_conv(subject, in_channels, out_channels, groups)
        kernel_size, stride, dilation = (
            _per_axis(subject, what, n, n_spatial)
            for what, n in (
                ("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation)
            )
        )  # fmt: skip
        module: Any = self
        self.convolution.__init__(
            module, in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias=False
        )
        self.pads = padded(subject, padding, n_spatial)
        _grow(self, gain)
        self._settle(scale, weight_bits, sign_mode, weight_exponent, delay, delays)

    def summed(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `LoihiSynapses.summed`."""
        module: Any = self
        x, padding = _around(x, self.pads)
        return type(self).convolve(
            x, weight, None, module.stride, padding, module.dilation, module.groups
        )


class LoihiConv1d(_LoihiConv, nn.Conv1d):
    """``nn.Conv1d`` without a bias; padding with zeros.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups
        As for ``nn.Conv1d``.
    scale, weight_bits, sign_mode, weight_exponent, delay, delays, gain
        As for `LoihiLinear`.
    """

    n_axes = 2
    convolution = nn.Conv1d
    convolve = staticmethod(F.conv1d)


class LoihiConv2d(_LoihiConv, nn.Conv2d):
    """``nn.Conv2d`` without a bias; padding with zeros.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups
        As for ``nn.Conv2d``.
    scale, weight_bits, sign_mode, weight_exponent, delay, delays, gain
        As for `LoihiLinear`.
    """

    n_axes = 3
    convolution = nn.Conv2d
    convolve = staticmethod(F.conv2d)


class LoihiSumPool(LoihiSynapses):
    """Sum over windows, channel by channel, every synapse (of a channel) with the same weight.

    ``nn.AvgPool2d(2)`` is ``LoihiSumPool((2, 2), weight=1 / 4)``: where 1.0 is 64, that is 16.

    Parameters
    ----------
    kernel_size, stride
        One integer per spatial axis (one or two); a stride of None is the kernel.
    padding
        One integer per spatial axis, or a pair (before, after); zeros.
    weight
        Of every synapse, a fixed real number, or one per channel.
    scale, weight_bits, sign_mode, weight_exponent, delay
        As for `LoihiLinear`.
    """

    def __init__(
        self,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None = None,
        padding: Any = 0,
        *,
        weight: float | ArrayLike = 1.0,
        scale: float = 64,
        weight_bits: int = 8,
        sign_mode: str = "mixed",
        weight_exponent: int = 0,
        delay: int = 0,
    ) -> None:
        super().__init__()
        self.kernel_size = _sizes("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else _sizes("stride", stride)
        n_axes = len(self.kernel_size)
        if n_axes > 2 or len(self.stride) != n_axes:
            raise QuantizationError(
                "LoihiSumPool",
                f"kernel_size {self.kernel_size} and stride {self.stride} do not have one integer "
                "per spatial axis, the limit is 2 axes",
                remedy="give (length,) or (height, width)",
                actual=n_axes,
                limit=2,
            )
        self.pads = padded("LoihiSumPool", padding, n_axes)
        self.n_axes = 1 + n_axes
        self.register_buffer("weight", _weights_of("LoihiSumPool", weight))
        self._settle(scale, weight_bits, sign_mode, weight_exponent, delay, None)

    def most(self, weight: Tensor) -> Tensor:
        """See `LoihiSynapses.most`."""
        return weight.abs().amax() * int(np.prod(self.kernel_size))

    def summed(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `LoihiSynapses.summed`."""
        channels, n_axes = x.shape[1], len(self.kernel_size)
        ones = torch.ones((channels, 1, *self.kernel_size), dtype=x.dtype, device=x.device)
        conv = F.conv1d if n_axes == 1 else F.conv2d
        x, padding = _around(x, self.pads)
        kernel = ones * weight.reshape((-1, 1) + (1,) * n_axes)
        return conv(x, kernel, None, self.stride, padding, 1, channels)

    def extra_repr(self) -> str:
        """Windows and format of the weights."""
        windows = f"{self.kernel_size}, stride={self.stride}, padding={self.pads}"
        return f"{windows}, {super().extra_repr()}"


class LoihiOneToOne(LoihiSynapses):
    """One synapse from each neuron to its counterpart: residual connections, inputs of encoders.

    Parameters
    ----------
    weight
        Of every synapse, a fixed real number, or one per channel.
    scale, weight_bits, sign_mode, weight_exponent, delay
        As for `LoihiLinear`.
    """

    def __init__(
        self,
        weight: float | ArrayLike = 1.0,
        *,
        scale: float = 64,
        weight_bits: int = 8,
        sign_mode: str = "mixed",
        weight_exponent: int = 0,
        delay: int = 0,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", _weights_of("LoihiOneToOne", weight))
        self._settle(scale, weight_bits, sign_mode, weight_exponent, delay, None)

    def check_input(self, x: Tensor) -> None:
        """See `LoihiSynapses.check_input`: any shape."""
        self.n_axes = x.ndim - 2 if isinstance(x, Tensor) else 1
        super().check_input(x)

    def most(self, weight: Tensor) -> Tensor:
        """See `LoihiSynapses.most`."""
        return weight.abs().amax()

    def summed(self, x: Tensor, weight: Tensor) -> Tensor:
        """See `LoihiSynapses.summed`."""
        return x * weight.reshape((-1,) + (1,) * (x.ndim - 2))


def _weights_of(subject: str, weight: Any) -> Tensor:
    """One real number, or one per channel."""
    array = array_of(
        QuantizationError, subject, "weight", weight, kinds="fiu", remedy="give real numbers"
    )
    if array.ndim > 1 or array.size == 0 or not np.isfinite(array).all():
        raise QuantizationError(
            subject,
            f"weight has shape {array.shape}, one finite number or one per channel is needed",
            remedy="give a real number",
            actual=array.shape,
            limit="() or (channels,)",
        )
    return torch.from_numpy(array.astype(np.float32))


def _size(subject: str, what: str, n: object) -> int:
    remedy = "give a number >= 1"
    return integer(QuantizationError, subject, what, n, low=1, high=1 << 31, remedy=remedy)


def _sizes(what: str, given: object) -> tuple[int, ...]:
    """One per spatial axis of a pool."""
    sizes = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    return tuple(_size("LoihiSumPool", what, n) for n in sizes)


def _per_axis(subject: str, what: str, given: object, n_axes: int) -> tuple[int, ...]:
    """One size for all axes of a convolution, or one for each."""
    is_one = not isinstance(given, Sequence) or isinstance(given, str)
    sizes: Any = (given,) * n_axes if is_one else given
    if len(sizes) != n_axes:
        raise QuantizationError(
            subject,
            f"{what} {shown(given)} is not one integer, or {n_axes}",
            remedy="give one integer per axis",
            actual=given,
            limit=n_axes,
        )
    return tuple(_size(subject, what, n) for n in sizes)


def _check_conv(subject: str, in_channels: object, out_channels: object, groups: object) -> None:
    of = {"in_channels": in_channels, "out_channels": out_channels}
    n_groups = _size(subject, "groups", groups)
    for what, n in of.items():
        if _size(subject, what, n) % n_groups:
            raise QuantizationError(
                subject,
                f"groups {n_groups} do not divide {what} {n}",
                remedy="use a divisor",
                actual=n_groups,
                limit=n,
            )


def padded(subject: str, padding: Any, n_axes: int) -> Pads:
    """Zeros before and after each axis.

    Parameters
    ----------
    subject
        What has it, for errors.
    padding
        One integer for all axes, or for each axis one or a pair (before, after).
    n_axes
        Number of spatial axes.
    """
    per_axis = padding if isinstance(padding, Sequence) else (padding,) * n_axes
    pairs = [tuple(p) if isinstance(p, Sequence) else (p, p) for p in per_axis]
    whole = [p for p in pairs if len(p) == 2 and all(isinstance(n, int) and n >= 0 for n in p)]
    if len(whole) != n_axes or len(pairs) != n_axes:
        raise QuantizationError(
            subject,
            f"padding is {shown(padding)}, {n_axes} integers or pairs of them are needed",
            remedy="give one integer per axis, or (before, after)",
            actual=padding,
            limit=n_axes,
        )
    return tuple((a, b) for a, b in whole)


def _around(x: Tensor, pads: Pads) -> tuple[Tensor, tuple[int, ...]]:
    """Input and padding for torch, which pads both ends alike."""
    if all(a == b for a, b in pads):
        return x, tuple(a for a, _ in pads)
    return F.pad(x, [n for pair in reversed(pads) for n in pair]), (0,) * len(pads)


def _grow(layer: Any, gain: float) -> None:
    """Multiply initial weights."""
    number(
        QuantizationError, type(layer).__name__, "gain", gain, above=0, remedy="give a number > 0"
    )
    with torch.no_grad():
        layer.weight.mul_(gain)
