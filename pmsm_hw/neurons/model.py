"""What a neuron model declares: parameters, state variables, its step and bounds of its step.

A model is a subclass of `Neurons` (one population of that kind, with the parameters as fields) that
holds a `NeuronModel` (what every backend needs to know of the kind). The step in plain numpy is the
definition: backends may have kernels of their own, and ``tests/test_neuron_models.py`` compares
each with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.arguments import array_of, integer, number, shown
from pmsm_hw.errors import NetworkError
from pmsm_hw.network.limits import STATE_BITS
from pmsm_hw.network.populations import Population
from pmsm_hw.network.validation import (
    choice,
    integer_tuple,
    integers,
    per_channel,
    refuse,
    require,
    value_range,
)
from pmsm_hw.records import record

__all__ = [
    "Array",
    "Interval",
    "IntervalStep",
    "NeuronModel",
    "Neurons",
    "Parameter",
    "StateVariable",
    "Step",
    "arranged",
    "floor_division",
]

Array: TypeAlias = NDArray[Any]
State: TypeAlias = Mapping[str, Array]
Interval: TypeAlias = tuple[Array, Array]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a neuron model; the population has a field of its name.

    Parameters
    ----------
    name
        Of the field.
    meaning
        A few words for tables.
    type
        ``"integer"``; ``"integers"``: a tuple of them; ``"real"``; ``"choice"``: a text out of
        ``choices``.
    low, high
        Range of an integer, or of each of several; reals are finite.
    choices
        Of a text.
    per
        Whether there is one value per ``"population"`` (a Python value), or an array with one per
        population or ``"channel"``, or one per population, channel or ``"neuron"``.
    derived
        Value from the other parameters (those before it), where None is given.
    remedy
        What to do about a value out of range.
    """

    name: str
    meaning: str
    type: Literal["integer", "integers", "real", "choice"] = "integer"
    low: int | tuple[int, ...] = 0
    high: int | tuple[int, ...] = 0
    choices: tuple[str, ...] = ()
    per: Literal["population", "channel", "neuron"] = "population"
    derived: Callable[[Any], Any] | None = None
    remedy: str = "use values within the range"

    @property
    def is_array(self) -> bool:
        """Whether channels or neurons may have values of their own."""
        return self.per != "population"

    @cached_property
    def limits(self) -> tuple[tuple[int, int], ...]:
        """``(low, high)`` of each integer."""
        lows, highs = (x if isinstance(x, tuple) else (x,) for x in (self.low, self.high))
        return tuple(zip(lows, highs, strict=True))

    @property
    def range(self) -> str:
        """Range or choices, for tables and messages."""
        if self.type == "choice":
            return ", ".join(self.choices)
        if self.type == "real":
            return "finite"
        return " and ".join(f"{low:,} to {high:,}" for low, high in self.limits)

    def checked(self, population: Neurons) -> Any:
        """Value of a population in its normal form; `NetworkError` if it is none.

        Parameters
        ----------
        population
            Whose fields before this one are checked.
        """
        subject, value = population.subject, getattr(population, self.name)
        if value is None and self.derived is not None:
            value = self.derived(population)
        if self.type == "choice":
            choice(subject, self.name, value, self.choices)
            return value
        if self.type == "integers":
            return self._checked_tuple(subject, value)
        if not self.is_array:
            if self.type == "real":
                return number(NetworkError, subject, self.name, value, remedy=self.remedy)
            ((low, high),) = self.limits
            return integer(
                NetworkError, subject, self.name, value, low=low, high=high, remedy=self.remedy
            )
        return self._checked_array(subject, value, population.shape)

    def _checked_tuple(self, subject: str, value: Any) -> tuple[int, ...]:
        given = integer_tuple(subject, self.name, value, len(self.limits))
        if not all(low <= n <= high for n, (low, high) in zip(given, self.limits, strict=True)):
            refuse(
                subject,
                f"{self.name} {shown(given)} are not within {self.range}",
                self.remedy,
                given,
                self.limits,
            )
        return given

    def _checked_array(self, subject: str, value: Any, shape: tuple[int, ...]) -> Array:
        if self.type == "real":
            real = array_of(
                NetworkError, subject, self.name, value, kinds="fiu", remedy=self.remedy
            ).astype(np.float64)
            require(
                bool(np.isfinite(real).all()),
                subject,
                f"{self.name} holds NaN or infinity, it must be finite",
                self.remedy,
                "not finite",
                "finite",
            )
            array: Array = real
        else:
            array = integers(subject, self.name, value)
            lo, hi = value_range(array)
            ((low, high),) = self.limits
            require(
                lo >= low and hi <= high,
                subject,
                f"{self.name} lies in [{lo:,}, {hi:,}], the limits are {low:,} and {high:,}",
                self.remedy,
                (lo, hi),
                (low, high),
            )
        return per_channel(subject, self.name, array, shape, by_neuron=self.per == "neuron")


@dataclass(frozen=True, kw_only=True)
class StateVariable:
    """A state variable, one value per neuron, signed.

    Parameters
    ----------
    name
        Of the variable.
    meaning
        A few words for tables.
    bits
        Width.
    beyond
        What becomes of a value that leaves the width: ``"wrap"`` (two's complement),
        ``"saturate"``, or ``"never"``: parameters and the network's bounds exclude it.
    low
        Smallest value, where it is not that of two's complement.
    """

    name: str
    meaning: str
    bits: int = STATE_BITS
    beyond: Literal["wrap", "saturate", "never"] = "saturate"
    low: int | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest value."""
        high = (1 << (self.bits - 1)) - 1
        return -high - 1 if self.low is None else self.low, high

    def hold(self, values: Array) -> tuple[Array, int]:
        """Bring values into the width; also count those that were outside.

        Parameters
        ----------
        values
            Integers, in any type that holds them.
        """
        low, high = self.limits
        if self.beyond == "wrap":
            inside: Array = (values.astype(np.int64) - low & (1 << self.bits) - 1) + low
            inside = inside.astype(values.dtype, copy=False)
        else:
            inside = np.clip(values, low, high)
        return inside, int(np.count_nonzero(inside != values))

    def hold_interval(self, interval: Interval) -> Interval:
        """Range of what `hold` makes of values in a range.

        Parameters
        ----------
        interval
            Lower and upper ends.
        """
        low, high = self.limits
        lower, upper = interval
        if self.beyond == "wrap":
            outside = (lower < low) | (upper > high)
            return np.where(outside, low, lower), np.where(outside, high, upper)
        # numpy.clip of small arrays, at a third of its price
        return (
            np.minimum(np.maximum(lower, low), high),
            np.minimum(np.maximum(upper, low), high),
        )


class Step(NamedTuple):
    """What neurons did in a step; arrays that broadcast to ``(batch, ...)``, as states may."""

    state: dict[str, Array]
    """State variables after it."""
    u: Array
    """What was compared with the threshold (the sum, where nothing fires); see `Network.bounds`."""
    spikes: Array
    """``k``, integers."""
    active: Array
    """Which neurons were active, bool: those that a chip spends an active update on."""
    outside: int = 0
    """How many values left their width, and were wrapped or saturated."""


class IntervalStep(NamedTuple):
    """Bounds of what neurons may do in a step."""

    state: dict[str, Interval]
    """State variables after it."""
    u: Interval
    """As in `Step`, before anything was wrapped or saturated."""
    spikes: Interval
    """``k``."""


def _same(p: Any, k: Array) -> Array:
    """Payload of spikes that carry themselves.

    Parameters
    ----------
    p
        Parameters.
    k
        Spikes.
    """
    return np.asarray(k, np.int64)


@dataclass(frozen=True, kw_only=True)
class NeuronModel:
    """What backends know of a kind of neurons.

    In all functions ``p`` has the parameters as attributes: a population, or `arranged` ones, whose
    arrays have another layout and type. Arrays broadcast against each other.

    Parameters
    ----------
    equations
        Of one step, a line each, for tables.
    parameters
        In the order of files; one may be derived from those before it.
    states
        All state variables that there may be.
    start
        ``start(p)``: state variables in use, at the start of a sample.
    step
        ``step(p, state, drive, t)``: **the definition**. ``drive`` is the sum of what the
        projections deliver, ``t`` the number of the step in its sample, from 0. Integers in int64,
        or in a floating-point type in which all that comes up is exact.
    interval_step
        ``interval_step(p, state, drive, t)``: bounds of the same, where ``drive`` lies within one
        interval at every step.
    spike_range
        ``spike_range(p, n_steps)``: least and greatest ``k``, whatever comes in.
    payload
        ``payload(p, k)``: what ``k`` carries, int64; 0 for 0, and monotonic on either side of it. A
        unit spike carries ``payload(p, 1)`` or ``payload(p, -1)``.
    fires
        Whether it can spike at all.
    interval_steps
        ``interval_steps(p, drive, n_steps)``: bounds over so many steps by a formula, where
        stepping would take long; `IntervalStep` without state.
    core_parameters
        Parameters that a core stores in sets, of which it has room for so many as the chip's limit
        ``threshold_configurations`` says: neurons with equal values share a set.
    compartments
        How many of the chip's compartments each neuron takes.
    """

    equations: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    states: tuple[StateVariable, ...]
    start: Callable[[Any], dict[str, Array]]
    step: Callable[[Any, State, Array, int], Step]
    interval_step: Callable[[Any, Mapping[str, Interval], Interval, int], IntervalStep]
    spike_range: Callable[[Any, int], tuple[int, int]]
    payload: Callable[[Any, Array], Array] = _same
    fires: bool = True
    interval_steps: Callable[[Any, Interval, int], IntervalStep] | None = None
    core_parameters: tuple[str, ...] = ()
    compartments: int = 1


@record
class Neurons(Population):
    """A population of neurons: the base class of every neuron model.

    Parameters
    ----------
    name, shape
        As for `Population`.
    """

    model: ClassVar[NeuronModel]

    def __post_init__(self) -> None:
        super().__post_init__()
        for parameter in self.model.parameters:
            object.__setattr__(self, parameter.name, parameter.checked(self))

    @property
    def fires(self) -> bool:
        """Whether it can spike at all."""
        return self.model.fires

    @property
    def n_parameters(self) -> int:
        """Stored integers of channels and neurons (real ones stay off the chip)."""
        return sum(
            getattr(self, p.name).size
            for p in self.model.parameters
            if p.is_array and p.type != "real"
        )

    @property
    def unit_gains(self) -> tuple[int, int]:
        """Payload of a positive unit spike, and of a negative one with its sign turned."""
        positive, negative = self.payload(np.array([1, -1])).tolist()
        return positive, -negative

    def payload(self, k: NDArray[Any]) -> NDArray[Any]:
        """Value that spikes ``k`` carry.

        Parameters
        ----------
        k
            Integers, any shape.

        Returns
        -------
        ndarray
            Same shape, int64: a narrower type of ``k`` need not hold the products.
        """
        return self.model.payload(self, np.asarray(k, np.int64))


def arranged(population: Neurons, arrange: Callable[[Array], Array]) -> Any:
    """Parameters of a population, with its arrays in another layout or type.

    Parameters
    ----------
    population
        Whose.
    arrange
        Makes of an array of a parameter (of shape ``()``, one value per channel, or the
        population's) the one to take.
    """
    return SimpleNamespace(
        **{
            p.name: arrange(getattr(population, p.name))
            if p.is_array
            else getattr(population, p.name)
            for p in population.model.parameters
        }
    )


def floor_division(a: Array, b: Array) -> Array:
    """``floor(a / b)`` of integers in any type, ``b`` above 0.

    In floating point the division is exact, too: a quotient of integers below 2**24 (2**53) that is
    no integer is further from the next one than float32 (float64) rounds.

    Parameters
    ----------
    a, b
        Integers; in floating point below 2**24 (float32) or 2**53 (float64).
    """
    quotient: Array = a // b if a.dtype.kind == "i" else np.floor(a / b)
    return quotient
