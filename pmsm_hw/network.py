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
    ``Dense``, ``Conv1d``, ``Conv2d``, ``SumPool``, ``Identity``. A spike ``k`` of the source adds
    ``(w * payload(k)) << weight_exponent`` to each target neuron it reaches, where ``w`` is int8
    and ``weight_exponent`` lies in 0..6. A projection with ``delay = d`` delivers at step ``t``
    what its source sent at step ``t - d`` of the same sample (nothing for ``t < d``).
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
Readout
    ``v' = v + sum of inputs + bias``; never fires. ``logits = v(T) * scale / T``.
State width
    ``u`` and ``v`` are ``STATE_BITS`` (24) wide, signed. Construction of a `Network` proves, from
    weights, levels and ``max_steps``, that no reachable ``u`` leaves that range
    (`Network.bounds`). Where it cannot, construction fails, unless the population has
    ``overflow="saturate"``: then ``u`` is clipped to the range and every clipped neuron and step
    is counted.
Time
    Within an algorithmic step populations act in topological order. Hardware runs a wave: a
    population at depth ``d`` does step ``t`` of a sample in hardware step ``d + t`` (input at
    depth 0, ``t`` from 0), and projections that skip depths hold their spikes in delay lines
    (`Network.hardware_delay`). T steps of a network of depth D take ``D + T - 1`` hardware steps
    after the first input; with pipelining a new sample enters every T steps. Before its wave
    arrives a population stays silent, bias included; at the end of its sample it starts anew.
    Samples never affect each other.

The neuron equations are a reconstruction from the abstract of arXiv 2508.14520 (PMSM).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import array_of, as_integer, instance, integer, items, number, shown
from pmsm_hw.errors import InputError, NetworkError
from pmsm_hw.records import Record

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "MAX_WEIGHT_EXPONENT",
    "STATE_BITS",
    "Conv1d",
    "Conv2d",
    "Dense",
    "Identity",
    "Input",
    "Network",
    "PolarityMultiSpike",
    "Population",
    "Projection",
    "Readout",
    "StateBound",
    "SumPool",
]

STATE_BITS = 24
"""Width of ``u`` and ``v`` in bits, signed."""

STATE_MIN = -(1 << (STATE_BITS - 1))
STATE_MAX = (1 << (STATE_BITS - 1)) - 1

MAX_WEIGHT_EXPONENT = 6
"""Largest left shift of a synaptic product (as on Loihi)."""

MAX_STEPS = 4096
"""Most time steps of a sample; no projection can delay by more."""

MAX_NEURONS = (1 << 31) - 1
"""Of a population."""

Rule: TypeAlias = Literal["carry", "reset", "bounded"]
SpikeMode: TypeAlias = Literal["auto", "graded", "unit"]
Overflow: TypeAlias = Literal["error", "saturate"]
Shape: TypeAlias = tuple[int, ...]
Pads: TypeAlias = tuple[tuple[int, int], ...]
IntArray: TypeAlias = NDArray[np.int64]

RULES: tuple[Rule, ...] = ("carry", "reset", "bounded")
SPIKE_MODES: tuple[SpikeMode, ...] = ("auto", "graded", "unit")
OVERFLOWS: tuple[Overflow, ...] = ("error", "saturate")


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array = np.array(array, order="C")
    array.setflags(write=False)
    return array


def _integers(subject: str, what: str, value: ArrayLike) -> IntArray:
    array = array_of(NetworkError, subject, what, value, kinds="iu", remedy="give integers")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise NetworkError(
            subject,
            f"{what} reaches {int(array.max()):,}, the contract's integers end at 2**63 - 1",
            remedy="use smaller values",
            actual=int(array.max()),
            limit=int(np.iinfo(np.int64).max),
        )
    return array.astype(np.int64)


def _per_channel(subject: str, what: str, array: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Bring a scalar, per-channel or per-neuron parameter into a form that broadcasts."""
    if array.size == 1:
        return _frozen(array.reshape(()))
    if array.shape == shape:
        return _frozen(array)
    channels = (shape[0],) + (1,) * (len(shape) - 1)
    if array.shape in ((shape[0],), channels):
        return _frozen(array.reshape(channels))
    raise NetworkError(
        subject,
        f"{what} has shape {array.shape}, the population takes (), ({shape[0]},) or {shape}",
        remedy="give one value per population, channel or neuron",
        actual=array.shape,
        limit=shape,
    )


def _range(array: NDArray[Any]) -> tuple[int, int]:
    return (int(array.min()), int(array.max())) if array.size else (0, 0)


def _require(
    ok: bool, subject: str, problem: str, remedy: str, actual: object, limit: object
) -> None:
    if not ok:
        raise NetworkError(subject, problem, remedy=remedy, actual=actual, limit=limit)


def _choice(subject: str, what: str, value: str, choices: Sequence[str]) -> None:
    _require(
        isinstance(value, str) and value in choices,
        subject,
        f"{what} {shown(value)} is not one of {', '.join(choices)}",
        "choose one of them",
        value,
        tuple(choices),
    )


def _listed(names: Sequence[str]) -> str:
    """Names for a message, the first of many only."""
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


_MOST_LISTED = 20


# ---------------------------------------------------------------------------------------------
# Populations
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Population(Record):
    """A named group of neurons of one kind.

    Parameters
    ----------
    name
        Unique in its network; no slash, since files use it as a path.
    shape
        ``(n,)``, ``(channels, length)`` or ``(channels, height, width)``.
    """

    name: str
    shape: Shape

    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        _require(
            isinstance(self.name, str)
            and bool(self.name.strip())
            and "/" not in self.name
            and self.name not in (".", "..")
            and self.name.isprintable(),
            f"population {shown(self.name)}",
            f"name {shown(self.name)} is empty, unprintable or holds a slash",
            "use a plain name",
            self.name,
            "a printable name without slashes",
        )
        sizes = items(
            NetworkError, self.subject, "shape", self.shape, remedy="give a tuple, as in (10,)"
        )
        shape = tuple(as_integer(s) or 0 for s in sizes)
        _require(
            1 <= len(shape) <= 3 and all(s >= 1 for s in shape),
            self.subject,
            f"shape {shown(sizes)} is not 1 to 3 positive sizes",
            "use (n,), (channels, length) or (channels, height, width)",
            sizes,
            "1 to 3 positive sizes",
        )
        object.__setattr__(self, "shape", shape)
        _require(
            math.prod(shape) <= MAX_NEURONS,
            self.subject,
            f"shape {shape} has {math.prod(shape):,} neurons, the limit is {MAX_NEURONS:,}",
            "use several populations",
            math.prod(shape),
            MAX_NEURONS,
        )

    @property
    def subject(self) -> str:
        """How error messages name this population."""
        return f"population '{self.name}'"

    @property
    def n_neurons(self) -> int:
        """Number of neurons (values, for an input)."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def n_parameters(self) -> int:
        """Number of stored integers beside the weights."""
        return 0


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Input(Population):
    """A source of integer values.

    Parameters
    ----------
    scale
        Real value of one unit, finite and positive.
    levels
        ``(lo, hi)``, the smallest and largest value. 8 bits suit chips with graded spikes, 4 bits
        those without.
    spike_mode
        ``"graded"``: a value is one message; ``"unit"``: ``|value|`` messages; ``"auto"``: as the
        chip allows.
    """

    scale: float = 1.0
    levels: tuple[int, int] = (0, 255)
    spike_mode: SpikeMode = "auto"

    kind: ClassVar[str] = "input"

    def __post_init__(self) -> None:
        super().__post_init__()
        remedy = "give the real value of one unit"
        scale = number(NetworkError, self.subject, "scale", self.scale, above=0, remedy=remedy)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "levels", _levels(self.subject, self.levels))
        lo, hi = self.levels
        _require(
            lo <= hi and lo >= -(1 << 23) and hi < 1 << 23,
            self.subject,
            f"levels {self.levels} are not (lo, hi) with lo <= hi within 24 bits",
            "give the smallest and the largest value",
            self.levels,
            "lo <= hi within 24 bits",
        )
        _choice(self.subject, "spike_mode", self.spike_mode, SPIKE_MODES)

    def encode(self, x: ArrayLike) -> NDArray[np.int32]:
        """Turn real values into units: ``clip(round_half_even(x / scale), lo, hi)``.

        Parameters
        ----------
        x
            Any shape, float, finite.

        Returns
        -------
        ndarray
            Same shape, int32, in ``levels``.

        Raises
        ------
        InputError
            If a value is NaN or infinite.
        """
        subject = f"input '{self.name}'"
        remedy = "give real values"
        array = array_of(InputError, subject, "x", x, kinds="fiu", remedy=remedy)
        values = array.astype(np.float64)
        bad = ~np.isfinite(values)
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise InputError(
                subject,
                f"{int(bad.sum()):,} of {values.size:,} values are not finite, "
                f"the first ({values[where]}) at index {where}; limit: none",
                remedy="clean the data first",
                actual=int(bad.sum()),
                limit=0,
            )
        lo, hi = self.levels
        with np.errstate(over="ignore"):  # beyond every level
            return np.clip(np.rint(values / self.scale), lo, hi).astype(np.int32)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PolarityMultiSpike(Population):
    """Neurons that send several positive or negative spikes a step (module docstring).

    Parameters
    ----------
    theta
        Threshold, positive integer; one per population, channel or neuron.
    levels
        ``(n, p)``: at most ``n >= 0`` negative and ``p >= 1`` positive spikes a step.
    bias
        Added each step; one per population, channel or neuron.
    v_init
        State at the start of a sample; ``floor(theta / 2)`` by default.
    gains
        ``(gain_pos, gain_neg)``: the payload of one positive and of one negative spike, small
        integers, ``gain_pos >= 1``. Weights of unit spikes take signed powers of two only.
    rule
        ``"carry"``, ``"reset"`` or ``"bounded"``.
    spike_mode
        ``"graded"``: ``k`` is one message; ``"unit"``: ``|k|`` messages; ``"auto"``: as the chip
        allows.
    overflow
        ``"error"``: the bound proof must succeed; ``"saturate"``: clip ``u`` and count.
    """

    theta: IntArray
    levels: tuple[int, int]
    bias: IntArray = field(default_factory=lambda: np.zeros((), np.int64))
    v_init: IntArray | None = None
    gains: tuple[int, int] = (1, 1)
    rule: Rule = "carry"
    spike_mode: SpikeMode = "auto"
    overflow: Overflow = "error"

    kind: ClassVar[str] = "polarity_multi_spike"

    def __post_init__(self) -> None:
        super().__post_init__()
        subject = self.subject
        theta = _integers(subject, "theta", self.theta)
        low, high = _range(theta)
        _require(
            low >= 1 and high <= STATE_MAX,
            subject,
            f"theta lies in [{low:,}, {high:,}], the limits are 1 and {STATE_MAX:,}",
            "use a positive threshold that fits the state",
            (low, high),
            (1, STATE_MAX),
        )
        object.__setattr__(self, "theta", _per_channel(subject, "theta", theta, self.shape))
        for what in ("bias", "v_init"):
            value = getattr(self, what)
            if what == "v_init" and value is None:
                value = self.theta // 2
            array = _integers(subject, what, value)
            _check_state_width(subject, what, array)
            object.__setattr__(self, what, _per_channel(subject, what, array, self.shape))
        object.__setattr__(self, "levels", _levels(subject, self.levels))
        object.__setattr__(self, "gains", _levels(subject, self.gains, "gains"))
        n, p = self.levels
        _require(
            0 <= n < 1 << 15 and 1 <= p < 1 << 15,
            subject,
            f"levels (n, p) = {self.levels} are not n >= 0 and p >= 1",
            "give the number of negative and of positive levels",
            self.levels,
            "n >= 0, p >= 1",
        )
        gain_pos, gain_neg = self.gains
        _require(
            1 <= gain_pos <= 127 and -127 <= gain_neg <= 127,
            subject,
            f"gains {self.gains} are not gain_pos in [1, 127] and gain_neg in [-127, 127]",
            "use small integers",
            self.gains,
            "1 <= gain_pos <= 127, |gain_neg| <= 127",
        )
        _choice(subject, "rule", self.rule, RULES)
        _choice(subject, "spike_mode", self.spike_mode, SPIKE_MODES)
        _choice(subject, "overflow", self.overflow, OVERFLOWS)

    @property
    def start(self) -> IntArray:
        """``v_init``, resolved: state at the start of a sample."""
        return cast(IntArray, self.v_init)

    @property
    def n_parameters(self) -> int:
        """Thresholds, biases and initial states."""
        return self.theta.size + self.bias.size + self.start.size

    def payload(self, k: NDArray[Any]) -> NDArray[Any]:
        """Value that spikes ``k`` carry: ``gain_pos * k``, or ``gain_neg * k`` below zero.

        Parameters
        ----------
        k
            Integers, any shape.

        Returns
        -------
        ndarray
            Same shape, int64: a narrower type of ``k`` need not hold the products.
        """
        gain_pos, gain_neg = self.gains
        k = np.asarray(k, np.int64)
        return k * np.where(k > 0, gain_pos, gain_neg)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Readout(Population):
    """Neurons that add up their input and never fire.

    Parameters
    ----------
    scale
        Real value of one unit of ``v``; one per population, channel or neuron.
    bias
        Added each step; one per population, channel or neuron.
    overflow
        As for `PolarityMultiSpike`.
    """

    scale: NDArray[np.float64] = field(default_factory=lambda: np.ones(()))
    bias: IntArray = field(default_factory=lambda: np.zeros((), np.int64))
    overflow: Overflow = "error"

    kind: ClassVar[str] = "readout"

    def __post_init__(self) -> None:
        super().__post_init__()
        remedy = "give real values of one unit"
        scale = array_of(
            NetworkError, self.subject, "scale", self.scale, kinds="fiu", remedy=remedy
        ).astype(np.float64)
        _require(
            bool(np.isfinite(scale).all()),
            self.subject,
            "scale holds NaN or infinity, it must be finite",
            "give the real value of one unit",
            "not finite",
            "finite",
        )
        object.__setattr__(self, "scale", _per_channel(self.subject, "scale", scale, self.shape))
        bias = _integers(self.subject, "bias", self.bias)
        _check_state_width(self.subject, "bias", bias)
        object.__setattr__(self, "bias", _per_channel(self.subject, "bias", bias, self.shape))
        _choice(self.subject, "overflow", self.overflow, OVERFLOWS)

    @property
    def n_parameters(self) -> int:
        """Biases (scales stay off the chip)."""
        return self.bias.size


def _levels(subject: str, value: Sequence[int], what: str = "levels") -> tuple[int, int]:
    given = items(NetworkError, subject, what, value, remedy="give two integers")
    numbers = [n for n in map(as_integer, given) if n is not None]
    if len(given) != 2 or len(numbers) != 2:
        raise NetworkError(
            subject,
            f"{what} {shown(value)} are not two integers",
            remedy="give two integers",
            actual=value,
            limit="two integers",
        )
    first, second = numbers
    return first, second


def _check_state_width(subject: str, what: str, array: IntArray) -> None:
    lo, hi = _range(array)
    _require(
        lo >= STATE_MIN and hi <= STATE_MAX,
        subject,
        f"{what} lies in [{lo:,}, {hi:,}], the state holds [{STATE_MIN:,}, {STATE_MAX:,}]",
        "use a smaller weight_exponent",
        (lo, hi),
        (STATE_MIN, STATE_MAX),
    )


# ---------------------------------------------------------------------------------------------
# Projections
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Projection(Record):
    """Synapses from one population to another.

    Parameters
    ----------
    source, target
        Names of populations.
    weight_exponent
        Left shift of each product, 0..6.
    delay
        Algorithmic steps between sending and delivery.
    name
        Unique in its network; ``source->target`` by default.
    weight
        int8; the layout is the subclass's.
    """

    source: str
    target: str
    weight_exponent: int = 0
    delay: int = 0
    name: str = ""
    weight: NDArray[np.int8]

    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for end in (self.source, self.target):
            instance(
                NetworkError, f"projection {shown(self.name)}", "end", end, str,
                remedy="give names of populations as source and target",
            )  # fmt: skip
        if not isinstance(self.name, str) or not self.name:
            _require(
                self.name in ("", None),
                f"projection {shown(self.name)}",
                f"name {shown(self.name)} is no text",
                "use a plain name",
                self.name,
                "a printable name without slashes",
            )
            object.__setattr__(self, "name", f"{self.source}->{self.target}")
        _require(
            "/" not in self.name and self.name.isprintable(),
            f"projection {shown(self.name)}",
            f"name {shown(self.name)} is unprintable or holds a slash",
            "use a plain name",
            self.name,
            "a printable name without slashes",
        )
        for what, high, remedy in (
            ("weight_exponent", MAX_WEIGHT_EXPONENT, "rescale the weights"),
            ("delay", MAX_STEPS, "use 0 for feed-forward projections, or steps of a sample"),
        ):
            value = integer(
                NetworkError, self.subject, what, getattr(self, what), low=0, high=high,
                remedy=remedy,
            )  # fmt: skip
            object.__setattr__(self, what, value)

    @property
    def subject(self) -> str:
        """How error messages name this projection."""
        return f"projection '{self.name}'"

    @property
    def n_parameters(self) -> int:
        """Number of stored weights."""
        return self.weight.size

    def output_shape(self, source_shape: Shape) -> Shape:
        """Shape of the target that this projection gives for a source shape.

        Parameters
        ----------
        source_shape
            Shape of the source.

        Raises
        ------
        NetworkError
            If the projection cannot be applied to that shape.
        """
        raise TypeError(f"{type(self).__name__} is abstract")

    def check(self, source_shape: Shape, target_shape: Shape) -> None:
        """Raise `NetworkError` unless the projection joins these two shapes.

        Parameters
        ----------
        source_shape, target_shape
            Shapes of the two populations.
        """
        shape = self.output_shape(source_shape)
        _require(
            shape == target_shape,
            self.subject,
            f"gives shape {shape} from {source_shape}, target '{self.target}' has {target_shape}",
            "make the shapes agree",
            shape,
            target_shape,
        )


def _weights(subject: str, value: ArrayLike, ndim: int | None) -> NDArray[np.int8]:
    array = value if isinstance(value, np.ndarray) else None
    if array is None or array.dtype != np.int8:
        wide = _integers(subject, "weight", value)
        lo, hi = _range(wide)
        _require(
            lo >= -128 and hi <= 127,
            subject,
            f"weights lie in [{lo}, {hi}], int8 holds [-128, 127]",
            "use weight_exponent for larger ones",
            (lo, hi),
            (-128, 127),
        )
        array = wide.astype(np.int8)
    _require(
        array.size > 0 and (ndim is None or array.ndim == ndim),
        subject,
        f"weight has shape {array.shape}, {ndim if ndim is not None else 'any number of'} "
        "non-empty axes are needed",
        "check the layout in the class docstring",
        array.shape,
        ndim,
    )
    return _frozen(array)


def _sizes(subject: str, what: str, value: object, ndim: int, low: int) -> Shape:
    """One integer for all axes, or one for each."""
    given = _as_sequence(value)
    sizes = [n for n in map(as_integer, given) if n is not None and low <= n <= MAX_NEURONS]
    if len(given) == 1:
        sizes *= ndim
    _require(
        len(given) in (1, ndim) and len(sizes) == ndim,
        subject,
        f"{what} {shown(value)} is not {ndim} integers >= {low}",
        f"give one integer or {ndim}",
        value,
        low,
    )
    return tuple(sizes)


def _pads(subject: str, value: object, ndim: int) -> Pads:
    """One integer for all axes, or for each axis one or a pair (before, after)."""
    given = _as_sequence(value)
    pairs = [_as_sequence(pad) for pad in given]
    pads = [
        [n for n in map(as_integer, pair * 2 if len(pair) == 1 else pair) if n is not None]
        for pair in pairs
    ]
    if len(given) == 1:
        pads *= ndim
    _require(
        len(given) in (1, ndim)
        and all(len(pair) in (1, 2) for pair in pairs)
        and all(len(pad) == 2 and min(pad) >= 0 and max(pad) <= MAX_NEURONS for pad in pads),
        subject,
        f"padding {shown(value)} is not {ndim} pairs (before, after) >= 0",
        "give an integer, one per axis, or a pair per axis",
        value,
        0,
    )
    return tuple((before, after) for before, after in pads)


def _as_sequence(value: object) -> tuple[Any, ...]:
    """What a sequence holds; anything else as a sequence of its own."""
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes):
        is_one = isinstance(value, np.ndarray) and value.ndim == 0
        return (value,) if is_one else tuple(value)
    return (value,)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dense(Projection):
    """All to all. The source is flattened in C order, the target filled in C order.

    Parameters
    ----------
    weight
        ``(n_post, n_pre)`` int8.
    """

    kind: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "weight", _weights(self.subject, self.weight, 2))

    def output_shape(self, source_shape: Shape) -> Shape:
        """See `Projection.output_shape`."""
        n_pre = int(np.prod(source_shape))
        _require(
            self.weight.shape[1] == n_pre,
            self.subject,
            f"weight has {self.weight.shape[1]:,} columns, "
            f"source '{self.source}' has {n_pre:,} neurons",
            "use weights of shape (n_post, n_pre)",
            self.weight.shape[1],
            n_pre,
        )
        return (self.weight.shape[0],)

    def check(self, source_shape: Shape, target_shape: Shape) -> None:
        """See `Projection.check`; any target shape of ``n_post`` neurons will do."""
        (n_post,) = self.output_shape(source_shape)
        n_target = int(np.prod(target_shape))
        _require(
            n_post == n_target,
            self.subject,
            f"weight has {n_post:,} rows, target '{self.target}' has {n_target:,} neurons",
            "use weights of shape (n_post, n_pre)",
            n_post,
            n_target,
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Conv(Projection):
    stride: Shape = (1,)
    padding: Pads = (0,)  # type: ignore[assignment]
    dilation: Shape = (1,)
    groups: int = 1

    ndim: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        nd = self.ndim
        object.__setattr__(self, "weight", _weights(self.subject, self.weight, nd + 2))
        for what in ("stride", "dilation"):
            object.__setattr__(self, what, _sizes(self.subject, what, getattr(self, what), nd, 1))
        object.__setattr__(self, "padding", _pads(self.subject, self.padding, nd))
        groups = integer(
            NetworkError, self.subject, "groups", self.groups, low=1, high=MAX_NEURONS,
            remedy="use a divisor of the output channels",
        )  # fmt: skip
        object.__setattr__(self, "groups", groups)
        _require(
            self.weight.shape[0] % self.groups == 0,
            self.subject,
            f"{self.groups} groups do not divide {self.weight.shape[0]} output channels",
            "use a divisor",
            self.groups,
            self.weight.shape[0],
        )

    def output_shape(self, source_shape: Shape) -> Shape:
        """See `Projection.output_shape`."""
        nd = self.ndim
        _require(
            len(source_shape) == nd + 1,
            self.subject,
            f"source shape {source_shape} has {len(source_shape)} axes, {nd + 1} are needed",
            "use a source of shape (channels, ...)",
            source_shape,
            nd + 1,
        )
        n_channels = self.weight.shape[1] * self.groups
        _require(
            source_shape[0] == n_channels,
            self.subject,
            f"weight takes {n_channels} channels ({self.groups} groups), "
            f"source '{self.source}' has {source_shape[0]}",
            "make the channels agree",
            n_channels,
            source_shape[0],
        )
        spatial = _windows(
            self.subject, source_shape[1:], self.weight.shape[2:], self.stride, self.padding,
            self.dilation,
        )  # fmt: skip
        return (self.weight.shape[0], *spatial)


def _windows(
    subject: str, size: Shape, kernel: Shape, stride: Shape, padding: Pads, dilation: Shape
) -> Shape:
    out = tuple(
        (s + a + b - d * (k - 1) - 1) // st + 1
        for s, k, st, (a, b), d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    _require(
        all(o >= 1 for o in out),
        subject,
        f"kernel {kernel} (dilation {dilation}) does not fit the padded input {size}",
        "use a smaller kernel or more padding",
        kernel,
        size,
    )
    return out


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Conv2d(_Conv):
    """Two-dimensional convolution (cross-correlation, as torch has it).

    Parameters
    ----------
    weight
        ``(channels_out, channels_in / groups, height, width)`` int8.
    stride, dilation
        One integer, or one per axis.
    padding
        One integer, one per axis, or ``((top, bottom), (left, right))``; zeros.
    groups
        Channel groups.
    """

    ndim: ClassVar[int] = 2
    kind: ClassVar[str] = "conv2d"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Conv1d(_Conv):
    """One-dimensional convolution (cross-correlation, as torch has it).

    Parameters
    ----------
    weight
        ``(channels_out, channels_in / groups, length)`` int8.
    stride, dilation, padding, groups
        As for `Conv2d`, with one axis.
    """

    ndim: ClassVar[int] = 1
    kind: ClassVar[str] = "conv1d"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SumPool(Projection):
    """Sum over windows, channel by channel.

    Parameters
    ----------
    kernel, stride
        One integer per spatial axis of the source (one or two).
    padding
        A pair (before, after) per axis; zeros.
    weight
        One int8 for all, or one per channel; every synapse of the channel has it.
    """

    kernel: Shape
    stride: Shape
    padding: Pads = ()
    weight: NDArray[np.int8] = field(default_factory=lambda: np.ones((), np.int8))

    kind: ClassVar[str] = "sum_pool"

    def __post_init__(self) -> None:
        super().__post_init__()
        kernel = _as_sequence(self.kernel)
        nd = len(kernel)
        _require(
            nd in (1, 2),
            self.subject,
            f"kernel {shown(self.kernel)} has {nd} axes, 1 or 2 are needed",
            "give one integer per spatial axis",
            nd,
            (1, 2),
        )
        object.__setattr__(self, "kernel", _sizes(self.subject, "kernel", kernel, nd, 1))
        object.__setattr__(self, "stride", _sizes(self.subject, "stride", self.stride, nd, 1))
        pad = 0 if isinstance(self.padding, tuple) and not self.padding else self.padding
        object.__setattr__(self, "padding", _pads(self.subject, pad, nd))
        weight = _weights(self.subject, self.weight, None)
        object.__setattr__(self, "weight", _channel_weight(self.subject, weight))

    def output_shape(self, source_shape: Shape) -> Shape:
        """See `Projection.output_shape`."""
        nd = len(self.kernel)
        _require(
            len(source_shape) == nd + 1,
            self.subject,
            f"source shape {source_shape} has {len(source_shape)} axes, {nd + 1} are needed",
            "use a source of shape (channels, ...)",
            source_shape,
            nd + 1,
        )
        _check_channels(self.subject, self.weight, source_shape)
        spatial = _windows(
            self.subject, source_shape[1:], self.kernel, self.stride, self.padding, (1,) * nd
        )
        return (source_shape[0], *spatial)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Identity(Projection):
    """One to one, between populations of one shape: the residual connection.

    Parameters
    ----------
    weight
        One int8 for all, or one per channel.
    """

    weight: NDArray[np.int8] = field(default_factory=lambda: np.ones((), np.int8))

    kind: ClassVar[str] = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        weight = _weights(self.subject, self.weight, None)
        object.__setattr__(self, "weight", _channel_weight(self.subject, weight))

    def output_shape(self, source_shape: Shape) -> Shape:
        """See `Projection.output_shape`."""
        _check_channels(self.subject, self.weight, source_shape)
        return source_shape


def _channel_weight(subject: str, weight: NDArray[np.int8]) -> NDArray[np.int8]:
    _require(
        weight.ndim <= 1,
        subject,
        f"weight has shape {weight.shape}, () or (channels,) are possible",
        "give one weight, or one per channel",
        weight.shape,
        "() or (channels,)",
    )
    return weight


def _check_channels(subject: str, weight: NDArray[np.int8], source_shape: Shape) -> None:
    _require(
        weight.ndim == 0 or weight.shape[0] == source_shape[0],
        subject,
        f"weight has {weight.size} channels, source has {source_shape[0]}",
        "give one weight, or one per channel",
        weight.size,
        source_shape[0],
    )


POPULATION_KINDS: dict[str, type[Population]] = {
    c.kind: c for c in (Input, PolarityMultiSpike, Readout)
}
PROJECTION_KINDS: dict[str, type[Projection]] = {
    c.kind: c for c in (Dense, Conv1d, Conv2d, SumPool, Identity)
}


# ---------------------------------------------------------------------------------------------
# Network
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StateBound:
    """What the state of a population can reach within ``max_steps`` (see `Network.bounds`).

    Parameters
    ----------
    u_min, u_max
        Smallest and largest reachable ``u`` (``v`` of a readout), before saturation.
    k_min, k_max
        Smallest and largest reachable spike; values, for an input; 0 for a readout.
    payload_min, payload_max
        The same of the payload.
    """

    u_min: int
    u_max: int
    k_min: int
    k_max: int
    payload_min: int
    payload_max: int

    @property
    def fits(self) -> bool:
        """Whether ``u`` stays within the state's width."""
        return self.u_min >= STATE_MIN and self.u_max <= STATE_MAX


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Network(Record):
    """An integer network; see the module docstring for what it computes.

    Validated on construction, bound proof included; immutable afterwards.

    Parameters
    ----------
    name
        For people.
    populations, projections
        Any order; kept.
    max_steps
        Largest number of time steps T that the bound proof covers.

    Raises
    ------
    NetworkError
        If anything breaks the contract.
    """

    name: str = "network"
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    max_steps: int = 1

    def __post_init__(self) -> None:
        instance(NetworkError, "network", "name", self.name, str, remedy="give a name for people")
        subject = f"network '{self.name}'"
        for what, kinds in (
            ("populations", tuple(POPULATION_KINDS.values())),
            ("projections", tuple(PROJECTION_KINDS.values())),
        ):
            choice = ", ".join(kind.__name__ for kind in kinds)
            given = items(
                NetworkError, subject, what, getattr(self, what), remedy=f"give a list of {choice}"
            )
            for item in given:
                if not isinstance(item, kinds):
                    raise NetworkError(
                        subject,
                        f"{what} hold {shown(item)}, which is none of {choice}",
                        remedy="give these only",
                        actual=type(item).__name__,
                        limit=choice,
                    )
            object.__setattr__(self, what, given)
        max_steps = integer(
            NetworkError, subject, "max_steps", self.max_steps, low=1, high=MAX_STEPS,
            remedy="give the largest number of steps you will run",
        )  # fmt: skip
        object.__setattr__(self, "max_steps", max_steps)
        _require(
            len(self.populations) >= 1, subject, "has no population, at least 1 is needed",
            "add one", 0, 1,
        )  # fmt: skip
        parts: tuple[Population | Projection, ...]
        for what, parts in (("population", self.populations), ("projection", self.projections)):
            twice = sorted(name for name, n in Counter(x.name for x in parts).items() if n > 1)
            _require(
                not twice,
                subject,
                f"{what} name {twice[0] if twice else ''!r} stands twice, names are unique",
                "rename one",
                twice,
                "unique names",
            )
        for projection in self.projections:
            self._check_projection(projection)
        self._check_delays()
        for name, bound in self.bounds.items():
            population = self[name]
            overflow = getattr(population, "overflow", "saturate")
            _require(
                bound.fits or overflow == "saturate",
                population.subject,
                f"state can reach [{bound.u_min:,}, {bound.u_max:,}] within {self.max_steps} "
                f"steps, {STATE_BITS} bits hold [{STATE_MIN:,}, {STATE_MAX:,}]",
                "use a smaller weight_exponent, fewer steps, or overflow='saturate'",
                (bound.u_min, bound.u_max),
                (STATE_MIN, STATE_MAX),
            )

    def _check_projection(self, projection: Projection) -> None:
        for end in (projection.source, projection.target):
            if end not in self._index:
                raise NetworkError(
                    projection.subject,
                    f"population '{end}' does not exist",
                    remedy=f"the network has {_listed(sorted(self._index))}",
                    actual=end,
                    limit=tuple(self._index),
                )
        source, target = self[projection.source], self[projection.target]
        _require(
            not isinstance(target, Input),
            projection.subject,
            f"target '{target.name}' is an input, inputs take no projection",
            "target another population",
            target.kind,
            "polarity_multi_spike or readout",
        )
        _require(
            not isinstance(source, Readout),
            projection.subject,
            f"source '{source.name}' is a readout, readouts never fire",
            "use another source",
            source.kind,
            "input or polarity_multi_spike",
        )
        projection.check(source.shape, target.shape)

    def _check_delays(self) -> None:
        depths = self.depths  # raises for cycles without delay
        for p in self.projections:
            need = depths[p.source] - depths[p.target] + 1
            _require(
                p.delay == 0 or p.delay >= need,
                p.subject,
                f"delay {p.delay} is too short: spikes of '{p.source}' (depth {depths[p.source]}) "
                f"reach '{p.target}' (depth {depths[p.target]}) after {need} steps at the earliest",
                f"use delay >= {need}",
                p.delay,
                need,
            )

    # -- look-up --------------------------------------------------------------------------

    @cached_property
    def _index(self) -> dict[str, int]:
        return {p.name: i for i, p in enumerate(self.populations)}

    def __getitem__(self, name: str) -> Population:
        """Population of that name; `NetworkError` if there is none."""
        if not isinstance(name, str) or name not in self._index:
            raise NetworkError(
                f"network '{self.name}'",
                f"population {shown(name)} does not exist",
                remedy=f"it has {_listed(list(self._index))}",
                actual=name,
                limit=tuple(self._index),
            )
        return self.populations[self._index[name]]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._index

    def __iter__(self) -> Iterator[Population]:
        return iter(self.populations)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Input populations, in order."""
        return tuple(p for p in self.populations if isinstance(p, Input))

    @property
    def readouts(self) -> tuple[Readout, ...]:
        """Readout populations, in order."""
        return tuple(p for p in self.populations if isinstance(p, Readout))

    def into(self, name: str) -> tuple[Projection, ...]:
        """Projections whose target is ``name``, in order.

        Parameters
        ----------
        name
            Of a population.
        """
        return self._into.get(name, ())

    def out_of(self, name: str) -> tuple[Projection, ...]:
        """Projections whose source is ``name``, in order.

        Parameters
        ----------
        name
            Of a population.
        """
        return self._out_of.get(name, ())

    @cached_property
    def _into(self) -> dict[str, tuple[Projection, ...]]:
        return self._by_end("target")

    @cached_property
    def _out_of(self) -> dict[str, tuple[Projection, ...]]:
        return self._by_end("source")

    def _by_end(self, end: str) -> dict[str, tuple[Projection, ...]]:
        found: dict[str, list[Projection]] = {}
        for p in self.projections:
            found.setdefault(getattr(p, end), []).append(p)
        return {name: tuple(ps) for name, ps in found.items()}

    # -- structure ------------------------------------------------------------------------

    @cached_property
    def depths(self) -> dict[str, int]:
        """Depth of each population: 0 for inputs, else 1 + its deepest undelayed source's."""
        depths: dict[str, int] = {}
        for population in self.topological:
            if isinstance(population, Input):
                depths[population.name] = 0
            else:
                depths[population.name] = 1 + max(
                    (depths[p.source] for p in self.into(population.name) if p.delay == 0),
                    default=0,
                )
        return depths

    @cached_property
    def topological(self) -> tuple[Population, ...]:
        """Populations in the order in which they act within a step."""
        waiting = {p.name: 0 for p in self.populations}
        out: dict[str, list[str]] = {p.name: [] for p in self.populations}
        for projection in self.projections:
            if projection.delay == 0:
                waiting[projection.target] += 1
                out[projection.source].append(projection.target)
        ready = [p.name for p in self.populations if waiting[p.name] == 0]
        order: list[Population] = []
        for name in ready:  # grows while it is read
            order.append(self[name])
            for target in out[name]:
                waiting[target] -= 1
                if waiting[target] == 0:
                    ready.append(target)
        if len(order) < len(self.populations):
            cycle = self._cycle({name for name, n in waiting.items() if n > 0})
            raise NetworkError(
                f"network '{self.name}'",
                f"populations {_listed(cycle)} form a cycle without delay, limit: none",
                remedy="give one projection of the cycle delay >= 1",
                actual=cycle,
                limit="no cycle without delay",
            )
        return tuple(order)

    def _cycle(self, stuck: set[str]) -> list[str]:
        """One cycle among populations each of which waits for another of them, in its order."""
        way: dict[str, None] = {}
        name = next(p.name for p in self.populations if p.name in stuck)
        while name not in way:
            way[name] = None
            name = next(p.source for p in self.into(name) if p.delay == 0 and p.source in stuck)
        cycle = list(way)[list(way).index(name) :][::-1]
        first = cycle.index(min(cycle, key=self._index.__getitem__))
        return cycle[first:] + cycle[:first]

    @property
    def depth(self) -> int:
        """Depth D of the deepest population."""
        return max(self.depths.values())

    @cached_property
    def is_recurrent(self) -> bool:
        """Whether any projection has a delay (a step then needs the one before)."""
        return any(p.delay > 0 for p in self.projections)

    def hardware_delay(self, projection: Projection) -> int:
        """Hardware steps from sending to integration, at least 1 (module docstring, *Time*).

        Parameters
        ----------
        projection
            One of the network's.
        """
        depths = self.depths
        return depths[projection.target] - depths[projection.source] + projection.delay

    def hardware_steps(self, n_steps: int, n_samples: int = 1) -> int:
        """Hardware steps that ``n_samples`` pipelined samples of ``n_steps`` take.

        Parameters
        ----------
        n_steps
            Steps T of each sample.
        n_samples
            Samples, at least 1.
        """
        return self.depth + n_steps * n_samples - 1

    @cached_property
    def bounds(self) -> Mapping[str, StateBound]:
        """Proven range of state and spikes of each population, over ``max_steps`` steps."""
        from pmsm_hw.bounds import prove_bounds

        return prove_bounds(self)

    # -- views ----------------------------------------------------------------------------

    def to_networkx(self) -> nx.MultiDiGraph[str]:
        """Graph view: a node per population, an edge per projection (key: its name).

        Node attributes: ``population``, ``kind``, ``shape``, ``depth``; edge attributes:
        ``projection``, ``kind``, ``delay``.
        """
        import networkx as nx

        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(name=self.name)
        for p in self.populations:
            graph.add_node(
                p.name, population=p, kind=p.kind, shape=p.shape, depth=self.depths[p.name]
            )
        for q in self.projections:
            graph.add_edge(q.source, q.target, key=q.name, projection=q, kind=q.kind, delay=q.delay)
        return graph

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what the network computes, as hex."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        items: tuple[Population | Projection, ...] = (*self.populations, *self.projections)
        for item in items:
            digest.update(f"{item.kind};".encode())
            for f in fields(item):
                value = getattr(item, f.name)
                if isinstance(value, np.ndarray):
                    digest.update(f"{f.name}:{value.dtype.str}{value.shape};".encode())
                    digest.update(value.tobytes())
                else:
                    digest.update(f"{f.name}={value!r};".encode())
        digest.update(f"max_steps={self.max_steps}".encode())
        return digest.hexdigest()

    @property
    def n_neurons(self) -> int:
        """Neurons of all populations but inputs."""
        return sum(p.n_neurons for p in self.populations if not isinstance(p, Input))

    @property
    def n_parameters(self) -> int:
        """Stored integers: weights, thresholds, biases, initial states."""
        populations = sum(p.n_parameters for p in self.populations)
        return populations + sum(p.n_parameters for p in self.projections)

    @cached_property
    def n_synapses(self) -> int:
        """Connections with a weight other than zero, shared weights counted once per use."""
        from pmsm_hw.operators import count_synapses

        return sum(count_synapses(self, p) for p in self.projections)

    def describe(self) -> dict[str, Any]:
        """Structure, sizes and proven bounds as plain numbers and strings, without the weights."""
        populations = [
            {
                "name": p.name,
                "kind": p.kind,
                "shape": list(p.shape),
                "n_neurons": p.n_neurons,
                "depth": self.depths[p.name],
                **dataclasses.asdict(self.bounds[p.name]),
            }
            for p in self.topological
        ]
        projections = [
            {
                "name": q.name,
                "kind": q.kind,
                "source": q.source,
                "target": q.target,
                "n_parameters": q.n_parameters,
                "weight_exponent": q.weight_exponent,
                "delay": q.delay,
            }
            for q in self.projections
        ]
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "max_steps": self.max_steps,
            "depth": self.depth,
            "n_neurons": self.n_neurons,
            "n_synapses": self.n_synapses,
            "n_parameters": self.n_parameters,
            "populations": populations,
            "projections": projections,
        }

    def summary(self) -> str:
        """Table of populations: shape, neurons, fan-in, synapses, parameters, depth, bound."""
        from pmsm_hw.operators import count_synapses, fan_in
        from pmsm_hw.tables import table

        rows = []
        for p in self.topological:
            into = self.into(p.name)
            bound = self.bounds[p.name]
            rows.append(
                (
                    p.name,
                    p.kind,
                    "x".join(map(str, p.shape)),
                    p.n_neurons,
                    max((int(f.max()) for f in (fan_in(self, p.name),) if into), default=0),
                    sum(count_synapses(self, q) for q in into),
                    p.n_parameters + sum(q.n_parameters for q in into),
                    self.depths[p.name],
                    f"[{bound.k_min}, {bound.k_max}]",
                    f"[{bound.u_min:,}, {bound.u_max:,}]" if not isinstance(p, Input) else "",
                )
            )
        title = (
            f"{self.name}: {self.n_neurons:,} neurons, {self.n_synapses:,} synapses, "
            f"{self.n_parameters:,} parameters, depth {self.depth}, max_steps {self.max_steps}"
        )
        header = (
            "population", "kind", "shape", "neurons", "fan-in", "synapses", "parameters", "depth",
            "spikes", "state",
        )  # fmt: skip
        return table(header, rows, title=title)

    def __repr__(self) -> str:
        chain = " ".join(f"{p.name}[{'x'.join(map(str, p.shape))}]" for p in self.topological)
        return (
            f"<Network '{self.name}': {len(self.populations)} populations, "
            f"{len(self.projections)} projections, {self.n_neurons:,} neurons, depth {self.depth}, "
            f"max_steps {self.max_steps}: {chain}>"
        )

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.summary)
