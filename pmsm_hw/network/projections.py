"""Synapses from one population to another: what each kind consists of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import as_integer, instance, integer, shown
from pmsm_hw.errors import NetworkError
from pmsm_hw.network.limits import (
    MAX_NEURONS,
    MAX_STEPS,
    MAX_SYNAPSE_DELAY,
    MAX_WEIGHT_EXPONENT,
    MIN_WEIGHT_EXPONENT,
    Padding,
    Pads,
    Shape,
    Sizes,
)
from pmsm_hw.network.validation import frozen, integers, refuse, require, value_range
from pmsm_hw.records import Given, Record, default, record

__all__ = [
    "PROJECTION_KINDS",
    "Conv1d",
    "Conv2d",
    "Dense",
    "Identity",
    "Projection",
    "SumPool",
    "by_delay",
    "shifted",
]

_Values = TypeVar("_Values", int, NDArray[Any])


def shifted(values: _Values, exponent: int) -> _Values:
    """Integers after the shift by a weight exponent, which rounds down.

    Parameters
    ----------
    values
        Sums of a projection; integers.
    exponent
        To the left; to the right, where it is negative.
    """
    return values << exponent if exponent >= 0 else values >> -exponent


@record
class Projection(Record):
    """Synapses from one population to another.

    Parameters
    ----------
    source, target
        Names of populations.
    weight_exponent
        Left shift of the sum that arrives in a step, -8..7; negative ones shift to the right, which
        rounds down.
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
    weight: Given[ArrayLike, NDArray[np.int8]]

    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for end in (self.source, self.target):
            instance(
                NetworkError, f"projection {shown(self.name)}", "end", end, str,
                remedy="give names of populations as source and target",
            )  # fmt: skip
        if self.name is None or (isinstance(self.name, str) and not self.name):
            object.__setattr__(self, "name", f"{self.source}->{self.target}")
        instance(
            NetworkError, f"projection {shown(self.name)}", "name", self.name, str,
            remedy="use a plain name",
        )  # fmt: skip
        if "/" in self.name or not self.name.isprintable():
            refuse(
                f"projection {shown(self.name)}",
                f"name {shown(self.name)} is unprintable or holds a slash",
                "use a plain name",
                self.name,
                "a printable name without slashes",
            )
        for what, low, high, remedy in (
            ("weight_exponent", MIN_WEIGHT_EXPONENT, MAX_WEIGHT_EXPONENT, "rescale the weights"),
            ("delay", 0, MAX_STEPS, "use 0 for feed-forward projections, or steps of a sample"),
        ):
            value = integer(
                NetworkError, self.subject, what, getattr(self, what), low=low, high=high,
                remedy=remedy,
            )  # fmt: skip
            object.__setattr__(self, what, value)

    @property
    def subject(self) -> str:
        """How error messages name this projection."""
        return f"projection '{self.name}'"

    @property
    def delays(self) -> NDArray[np.uint8] | None:
        """Steps of each synapse beyond ``delay``; None: none delays more. Some kinds never do."""
        return None

    @property
    def max_delay(self) -> int:
        """``delay`` and the longest of ``delays``."""
        return self.delay + (0 if self.delays is None else int(self.delays.max()))

    @property
    def n_parameters(self) -> int:
        """Number of stored weights, and of delays."""
        return self.weight.size + (0 if self.delays is None else self.delays.size)

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
        require(
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
        wide = integers(subject, "weight", value)
        lo, hi = value_range(wide)
        require(
            lo >= -128 and hi <= 127,
            subject,
            f"weights lie in [{lo}, {hi}], int8 holds [-128, 127]",
            "use weight_exponent for larger ones",
            (lo, hi),
            (-128, 127),
        )
        array = wide.astype(np.int8)
    require(
        array.size > 0 and (ndim is None or array.ndim == ndim),
        subject,
        f"weight has shape {array.shape}, {ndim if ndim is not None else 'any number of'} "
        "non-empty axes are needed",
        "check the layout in the class docstring",
        array.shape,
        ndim,
    )
    return frozen(array)


_NO_DELAYS: Any = None
"""Default of ``delays``; a value, as the base class has a property of that name."""


def _delays(projection: Projection, value: ArrayLike | None) -> NDArray[np.uint8] | None:
    """Delays of synapses in their normal form: None, where there are none."""
    if value is None:
        return None
    subject, shape = projection.subject, projection.weight.shape
    wide = integers(subject, "delays", value)
    require(
        wide.shape == shape,
        subject,
        f"delays have shape {wide.shape}, the weights {shape}",
        "give one delay per weight",
        wide.shape,
        shape,
    )
    lo, hi = value_range(wide)
    require(
        lo >= 0 and hi <= MAX_SYNAPSE_DELAY,
        subject,
        f"delays lie in [{lo}, {hi}], limits: 0 and {MAX_SYNAPSE_DELAY}",
        "use the projection's delay for what all synapses share",
        (lo, hi),
        (0, MAX_SYNAPSE_DELAY),
    )
    require(
        projection.delay + hi <= MAX_STEPS,
        subject,
        f"delay {projection.delay} and delays of up to {hi} exceed {MAX_STEPS} together",
        "use shorter ones",
        projection.delay + hi,
        MAX_STEPS,
    )
    return frozen(wide.astype(np.uint8)) if hi else None


def _sizes(subject: str, what: str, value: object, ndim: int, low: int) -> Shape:
    """One integer for all axes, or one for each."""
    given = _as_sequence(value)
    sizes = [n for n in map(as_integer, given) if n is not None and low <= n <= MAX_NEURONS]
    if len(given) == 1:
        sizes *= ndim
    if len(given) not in (1, ndim) or len(sizes) != ndim:
        refuse(
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
    if not (
        len(given) in (1, ndim)
        and all(len(pair) in (1, 2) for pair in pairs)
        and all(len(pad) == 2 and min(pad) >= 0 and max(pad) <= MAX_NEURONS for pad in pads)
    ):
        refuse(
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


@record
class Dense(Projection):
    """All to all. The source is flattened in C order, the target filled in C order.

    Parameters
    ----------
    weight
        ``(n_post, n_pre)`` int8.
    delays
        Steps of each synapse beyond ``delay``, ``(n_post, n_pre)`` uint8 in 0..62; None: none.
    """

    delays: Given[ArrayLike | None, NDArray[np.uint8] | None] = _NO_DELAYS

    kind: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "weight", _weights(self.subject, self.weight, 2))
        object.__setattr__(self, "delays", _delays(self, self.delays))

    def output_shape(self, source_shape: Shape) -> Shape:
        """See `Projection.output_shape`."""
        n_pre = math.prod(source_shape)
        if self.weight.shape[1] != n_pre:
            refuse(
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
        n_target = math.prod(target_shape)
        if n_post != n_target:
            refuse(
                self.subject,
                f"weight has {n_post:,} rows, target '{self.target}' has {n_target:,} neurons",
                "use weights of shape (n_post, n_pre)",
                n_post,
                n_target,
            )


@record
class _Conv(Projection):
    stride: Given[Sizes, Shape] = default(lambda: (1,))
    padding: Given[Padding, Pads] = default(lambda: (0,))
    dilation: Given[Sizes, Shape] = default(lambda: (1,))
    groups: int = 1
    delays: Given[ArrayLike | None, NDArray[np.uint8] | None] = _NO_DELAYS

    ndim: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        nd = self.ndim
        object.__setattr__(self, "weight", _weights(self.subject, self.weight, nd + 2))
        object.__setattr__(self, "delays", _delays(self, self.delays))
        for what in ("stride", "dilation"):
            object.__setattr__(self, what, _sizes(self.subject, what, getattr(self, what), nd, 1))
        object.__setattr__(self, "padding", _pads(self.subject, self.padding, nd))
        groups = integer(
            NetworkError, self.subject, "groups", self.groups, low=1, high=MAX_NEURONS,
            remedy="use a divisor of the output channels",
        )  # fmt: skip
        object.__setattr__(self, "groups", groups)
        require(
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
        require(
            len(source_shape) == nd + 1,
            self.subject,
            f"source shape {source_shape} has {len(source_shape)} axes, {nd + 1} are needed",
            "use a source of shape (channels, ...)",
            source_shape,
            nd + 1,
        )
        n_channels = self.weight.shape[1] * self.groups
        require(
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
    require(
        all(o >= 1 for o in out),
        subject,
        f"kernel {kernel} (dilation {dilation}) does not fit the padded input {size}",
        "use a smaller kernel or more padding",
        kernel,
        size,
    )
    return out


@record
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
    delays
        Steps of each synapse beyond ``delay``, by weight: uint8 in 0..62, of its shape; None: none.
    """

    ndim: ClassVar[int] = 2
    kind: ClassVar[str] = "conv2d"


@record
class Conv1d(_Conv):
    """One-dimensional convolution (cross-correlation, as torch has it).

    Parameters
    ----------
    weight
        ``(channels_out, channels_in / groups, length)`` int8.
    stride, dilation, padding, groups, delays
        As for `Conv2d`, with one axis.
    """

    ndim: ClassVar[int] = 1
    kind: ClassVar[str] = "conv1d"


@record
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

    kernel: Given[Sizes, Shape]
    stride: Given[Sizes, Shape]
    padding: Given[Padding, Pads] = default(lambda: (0,))
    weight: Given[ArrayLike, NDArray[np.int8]] = default(lambda: np.ones((), np.int8))

    kind: ClassVar[str] = "sum_pool"

    def __post_init__(self) -> None:
        super().__post_init__()
        kernel = _as_sequence(self.kernel)
        nd = len(kernel)
        require(
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
        require(
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


@record
class Identity(Projection):
    """One to one, between populations of one shape: the residual connection.

    Parameters
    ----------
    weight
        One int8 for all, or one per channel.
    """

    weight: Given[ArrayLike, NDArray[np.int8]] = default(lambda: np.ones((), np.int8))

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
    require(
        weight.ndim <= 1,
        subject,
        f"weight has shape {weight.shape}, () or (channels,) are possible",
        "give one weight, or one per channel",
        weight.shape,
        "() or (channels,)",
    )
    return weight


def _check_channels(subject: str, weight: NDArray[np.int8], source_shape: Shape) -> None:
    require(
        weight.ndim == 0 or weight.shape[0] == source_shape[0],
        subject,
        f"weight has {weight.size} channels, source has {source_shape[0]}",
        "give one weight, or one per channel",
        weight.size,
        source_shape[0],
    )


PROJECTION_KINDS: dict[str, type[Projection]] = {
    c.kind: c for c in (Dense, Conv1d, Conv2d, SumPool, Identity)
}


def by_delay(projection: Projection) -> tuple[Projection, ...]:
    """Bring a projection into parts without ``delays``, one for each delay that its synapses have.

    Together they deliver the same: the weights of a part are those of its synapses, the others 0,
    and its ``delay`` is theirs. With a negative ``weight_exponent`` what the parts deliver in a
    step has to be added up before it is shifted. Depths of a network go by the projection itself,
    not by its parts.

    Parameters
    ----------
    projection
        Any.

    Returns
    -------
    tuple
        By rising ``delay``; at least one. Parts of weights 0 are left out.
    """
    delays, weight = projection.delays, projection.weight
    if delays is None:
        return (projection,)
    steps = np.unique(delays[weight != 0]).tolist() or [0]
    without: dict[str, Any] = {"delays": None}
    return tuple(
        replace(
            projection,
            name=f"{projection.name} delayed by {d}",
            delay=projection.delay + d,
            weight=np.where(delays == d, weight, np.int8(0)),
            **without,
        )
        for d in steps
    )
