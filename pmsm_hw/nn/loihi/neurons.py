"""What the torch modules of all neuron models share: time, recurrence, parameters.

A module takes the summed input of a population at every step, ``(batch, n_steps, *shape)``, in the
integers of a network, and returns what its spikes carry, in the same layout. Every call starts at
rest: a call is a batch of samples. A model's module is registered in `TORCH` by a file of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from pmsm_hw.arguments import array_of, as_integer, number, shown
from pmsm_hw.errors import QuantizationError
from pmsm_hw.network import Shape
from pmsm_hw.neurons import Backend, Neurons
from pmsm_hw.neurons.model import Parameter
from pmsm_hw.nn.loihi.surrogate import Derivative, Surrogate, derivative_of
from pmsm_hw.nn.loihi.synapses import LoihiSynapses

__all__ = [
    "STATE", "TORCH", "LoihiNeuron", "States", "check_steps_axis", "decayed", "held", "learned",
    "spikes", "straight", "unit_of", "wrapped",
]  # fmt: skip

STATE = torch.float64
"""Type of states: integers below 2**53, as the product of 24 bits and a decay, are exact in it."""

States: TypeAlias = "tuple[Tensor, ...]"

TORCH: Backend[type[LoihiNeuron]] = Backend(
    "torch", "register a module of it with pmsm_hw.nn.loihi.neurons.TORCH.register"
)


class _Straight(torch.autograd.Function):
    """A value in place of another, whose gradient it gets."""

    @staticmethod
    def forward(ctx: Any, of: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0], None


def straight(of: Tensor, value: Tensor) -> Tensor:
    """``value``, with the gradient of ``of``: a straight-through estimate.

    Parameters
    ----------
    of, value
        Of one shape.
    """
    return cast(Tensor, _Straight.apply(of, value.detach()))  # type: ignore[no-untyped-call]


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: Tensor, derivative: Derivative) -> Tensor:
        ctx.save_for_backward(v, threshold)
        ctx.derivative = derivative
        return (v > threshold).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        v, threshold = ctx.saved_tensors
        unit = threshold.clamp(min=1.0)
        return gradients[0] * ctx.derivative((v - threshold) / unit) / unit, None, None


def spikes(v: Tensor, threshold: Tensor, derivative: Derivative) -> Tensor:
    """1 where ``v > threshold``, else 0, with a surrogate's gradient.

    Parameters
    ----------
    v, threshold
        In one unit.
    derivative
        See `pmsm_hw.nn.loihi.surrogate`.
    """
    return cast(Tensor, _Spike.apply(v, threshold, derivative))  # type: ignore[no-untyped-call]


def decayed(x: Tensor, decay: Tensor) -> Tensor:
    """``x * (4096 - decay) / 4096`` towards zero, of integers in float64.

    Parameters
    ----------
    x
        State of at most 40 bits: products have 53 at most, and are exact.
    decay
        0..4096.
    """
    left = x * ((4096 - decay) / 4096)
    return straight(left, torch.trunc(left))


def wrapped(x: Tensor, bits: int = 24) -> Tensor:
    """Two's complement of so many bits, of integers in float64.

    Parameters
    ----------
    x
        Any, below 2**53.
    bits
        Width.
    """
    half, whole = float(1 << (bits - 1)), float(1 << bits)
    low, high = torch.aminmax(x.detach())
    if -half <= float(low) and float(high) < half:
        return x
    return x - whole * torch.floor((x.detach() + half) / whole)


def held(x: Tensor, low: float, high: float) -> Tensor:
    """Saturated; the gradient goes through.

    Parameters
    ----------
    x
        Any.
    low, high
        Limits.
    """
    return straight(x, x.clamp(low, high))


def check_steps_axis(subject: str, x: Tensor) -> None:
    """Raise `QuantizationError` unless it is ``(batch, n_steps, ...)`` of floats.

    Parameters
    ----------
    subject
        Who takes it.
    x
        What was given.
    """
    if not isinstance(x, Tensor) or x.ndim < 3 or not x.is_floating_point() or x.shape[1] == 0:
        found = f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise QuantizationError(
            subject,
            f"is given {found}, floats (batch, n_steps, ...) are needed",
            remedy="give one frame a step along axis 1; LoihiInput(n_steps=T) repeats static ones",
            actual=found,
            limit="(batch, n_steps, ...)",
        )


class LoihiNeuron(nn.Module):
    """Base class of the modules; see the one of each model.

    Parameters
    ----------
    surrogate, slope
        See `pmsm_hw.nn.loihi.surrogate`.
    recurrent
        Synapses from the population to itself, or None: a spike of step t acts in step t + 1, and
        later with delays, as on the chip.
    values
        The model's parameters by name, integers and words.
    """

    of: ClassVar[type[Neurons]]
    """The population that it computes."""

    def __init__(
        self,
        surrogate: Surrogate = "fast_sigmoid",
        slope: float = 2.0,
        recurrent: LoihiSynapses | None = None,
        **values: Any,
    ) -> None:
        super().__init__()
        subject = type(self).__name__
        self.surrogate = surrogate if isinstance(surrogate, str) else "own"
        self.slope = slope
        self.derivative = derivative_of(subject, surrogate, slope)
        if recurrent is not None and not isinstance(recurrent, LoihiSynapses):
            raise QuantizationError(
                subject,
                f"recurrent is a {type(recurrent).__name__}, synapses are needed",
                remedy="give LoihiLinear(n, n), or another layer of Loihi synapses",
                actual=type(recurrent).__name__,
                limit="LoihiSynapses",
            )
        self.recurrent = recurrent
        for p in self.parameters_of_model():
            value = values[p.name]
            if isinstance(value, nn.Parameter):
                self.register_parameter(p.name, value)
            elif p.is_array:
                self.register_buffer(p.name, _buffer(subject, p, value))
            else:
                setattr(self, p.name, value)
        checked = self.population(subject, self._smallest_shape())  # refuses what is out of range
        for p in self.parameters_of_model():
            if not isinstance(getattr(self, p.name), Tensor):
                setattr(self, p.name, getattr(checked, p.name))

    @property
    def state_names(self) -> tuple[str, ...]:
        """State variables of the model, in the order of `rest`."""
        return tuple(variable.name for variable in self.of.model.states)

    @classmethod
    def parameters_of_model(cls) -> tuple[Parameter, ...]:
        """What the neuron model declares."""
        return cls.of.model.parameters

    @classmethod
    def from_population(cls, population: Neurons, **options: Any) -> LoihiNeuron:
        """A module with the parameters of a population.

        Parameters
        ----------
        population
            Of this model.
        options
            Surrogate, slope, recurrent.
        """
        values = {p.name: getattr(population, p.name) for p in cls.parameters_of_model()}
        return cls(**values, **options)

    def population(self, name: str, shape: Shape) -> Neurons:
        """The population that a network has in its place.

        Parameters
        ----------
        name, shape
            Of the population.
        """
        found: dict[str, Any] = {}
        for p in self.parameters_of_model():
            value = getattr(self, p.name)
            if isinstance(value, Tensor):
                value = self._stored(p, value).detach().cpu().numpy()
                value = value.astype(np.float64 if p.type == "real" else np.int64)
            found[p.name] = value
        return self.of(name=name, shape=shape, **found)

    def _stored(self, p: Parameter, value: Tensor) -> Tensor:
        """What a network has of a parameter: integers, of learned ones too."""
        is_learned = value.is_floating_point() and p.type != "real"
        return self.mantissa(p.name, value) if is_learned else value

    def mantissa(self, name: str, value: Tensor) -> Tensor:
        """Integers of a learned parameter, with a straight-through gradient.

        Parameters
        ----------
        name
            Of the parameter.
        value
            Its real values.
        """
        raise NotImplementedError(f"{type(self).__name__} learns no {name}")

    def column(self, name: str, n_axes: int) -> Tensor:
        """A parameter in float64, to be broadcast over ``(batch, *shape)``.

        Parameters
        ----------
        name
            Of the parameter.
        n_axes
            Of the shape.
        """
        (p,) = (p for p in self.parameters_of_model() if p.name == name)
        value: Any = getattr(self, name)
        if not isinstance(value, Tensor):
            return torch.tensor(float(value), dtype=STATE)
        stored = self._stored(p, value).to(STATE)
        return stored.reshape((-1,) + (1,) * (n_axes - 1)) if stored.ndim == 1 else stored

    def rest(self, drive: Tensor) -> States:
        """State variables at the start of a sample: 0, in the order of `state_names`.

        Parameters
        ----------
        drive
            Of the first step, ``(batch, *shape)`` float64.
        """
        return (torch.zeros_like(drive),) * len(self.state_names)

    def advance(self, drive: Tensor, states: States, t0: int) -> tuple[Tensor, States]:
        """Take some steps.

        Parameters
        ----------
        drive
            ``(batch, steps, *shape)`` float64.
        states
            Before them, in the order of `rest`.
        t0
            Steps taken before.

        Returns
        -------
        tensor, tuple
            What the spikes carry, and the states after them.
        """
        raise NotImplementedError

    def run(self, drive: Tensor) -> tuple[Tensor, States]:
        """What `forward` returns, and the state variables after the last step.

        Parameters
        ----------
        drive
            As for `forward`.
        """
        check_steps_axis(type(self).__name__, drive)
        drive = drive.to(STATE)
        states = self.rest(drive[:, 0])
        if self.recurrent is None:
            payload, states = self.advance(drive, states, 0)
            return payload, states
        deliver = self.recurrent.stepwise()
        sent: list[Tensor] = []
        for t in range(drive.shape[1]):
            arriving = drive[:, t : t + 1]
            back = deliver(sent, t - 1)
            if back is not None:
                arriving = arriving + back.reshape(arriving.shape)
            payload, states = self.advance(arriving, states, t)
            sent.append(payload)
        return torch.cat(sent, 1), states

    def forward(self, drive: Tensor) -> Tensor:
        """What the spikes of every step carry, ``(batch, n_steps, *shape)``.

        Parameters
        ----------
        drive
            Summed input of every step, ``(batch, n_steps, *shape)``: what layers of this package
            return, or a sum of them.
        """
        return self.run(drive)[0]

    def _smallest_shape(self) -> Shape:
        sizes: list[Shape] = [(1,)]
        for p in self.parameters_of_model():
            value = getattr(self, p.name)
            if isinstance(value, Tensor) and value.ndim:
                sizes.append(tuple(value.shape))
        return max(sizes, key=lambda size: (len(size), size))

    def extra_repr(self) -> str:
        """The parameters that are not at their default."""
        usual = inspect.signature(type(self).__init__).parameters
        shown = []
        for p in self.parameters_of_model():
            value: Any = getattr(self, p.name)
            if isinstance(value, Tensor):
                sizes = "x".join(map(str, value.shape))
                value = value.item() if value.numel() == 1 else f"({sizes})"
            if value != usual[p.name].default:
                shown.append(f"{p.name}={value}")
        return ", ".join(shown)


def _buffer(subject: str, p: Parameter, value: Any) -> Tensor:
    """A parameter as a tensor: integers stay integers, whatever the module is cast to."""
    given = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    is_real = p.type == "real"
    array = array_of(
        QuantizationError, subject, p.name, given, kinds="iuf" if is_real else "iu",
        remedy="give real values"
        if is_real
        else "give integers, as voltage_decay and current_decay make them of time constants",
    )  # fmt: skip
    if array.size == 0:
        raise QuantizationError(
            subject,
            f"{p.name} {shown(value)} holds no values, at least 1 is needed",
            remedy="give one value, or one per channel or neuron",
            actual=array.shape,
            limit=1,
        )
    return torch.from_numpy(array.astype(np.float64 if is_real else np.int64))


def learned(subject: str, shape: Any) -> nn.Parameter:
    """Zeros to train: one per channel, or of a population's shape.

    Parameters
    ----------
    subject
        Whose, for errors.
    shape
        Number of channels, or shape.
    """
    sizes = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else (shape,)
    whole = [n for n in map(as_integer, sizes) if n is not None and n >= 1]
    if len(whole) != len(sizes) or not 1 <= len(sizes) <= 3:
        raise QuantizationError(
            subject,
            f"learned_bias {shown(shape)} is neither a number of channels nor a shape of 1 to 3 "
            "axes",
            remedy="give the number of channels, or the population's shape",
            actual=shape,
            limit=">= 1",
        )
    return nn.Parameter(torch.zeros(whole))


def unit_of(subject: str, scale: Any) -> float:
    """The integer that 1.0 is.

    Parameters
    ----------
    subject
        Whose, for errors.
    scale
        What was given.
    """
    remedy = "give the integer that 1.0 becomes"
    return number(QuantizationError, subject, "scale", scale, above=0, remedy=remedy)
