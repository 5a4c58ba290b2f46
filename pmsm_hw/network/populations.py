"""Named groups of neurons: what each kind consists of (`pmsm_hw.network` says what it does)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import array_of, as_integer, items, number, shown
from pmsm_hw.errors import InputError, NetworkError
from pmsm_hw.network.limits import (
    MAX_NEURONS,
    OVERFLOWS,
    RULES,
    SPIKE_MODES,
    STATE_MAX,
    IntArray,
    Overflow,
    Rule,
    Shape,
    SpikeMode,
)
from pmsm_hw.network.validation import (
    check_state_width,
    choice,
    integers,
    per_channel,
    require,
    two_integers,
    value_range,
)
from pmsm_hw.records import Given, Record, default, record

__all__ = ["POPULATION_KINDS", "Input", "PolarityMultiSpike", "Population", "Readout"]


@record
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
    shape: Given[Sequence[int], Shape]

    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        require(
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
        require(
            1 <= len(shape) <= 3 and all(s >= 1 for s in shape),
            self.subject,
            f"shape {shown(sizes)} is not 1 to 3 positive sizes",
            "use (n,), (channels, length) or (channels, height, width)",
            sizes,
            "1 to 3 positive sizes",
        )
        object.__setattr__(self, "shape", shape)
        n = math.prod(shape)
        require(
            n <= MAX_NEURONS,
            self.subject,
            f"shape {shown(shape)} has {f'{n:,}' if n < 1 << 63 else 'more than 2**63'} neurons, "
            f"the limit is {MAX_NEURONS:,}",
            "use several populations",
            n,
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


@record
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
    levels: Given[Sequence[int], tuple[int, int]] = default(lambda: (0, 255))
    spike_mode: SpikeMode = "auto"

    kind: ClassVar[str] = "input"

    def __post_init__(self) -> None:
        super().__post_init__()
        remedy = "give the real value of one unit"
        scale = number(NetworkError, self.subject, "scale", self.scale, above=0, remedy=remedy)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "levels", two_integers(self.subject, self.levels))
        lo, hi = self.levels
        require(
            lo <= hi and lo >= -(1 << 23) and hi < 1 << 23,
            self.subject,
            f"levels {shown(self.levels)} are not (lo, hi) with lo <= hi within 24 bits",
            "give the smallest and the largest value",
            self.levels,
            "lo <= hi within 24 bits",
        )
        choice(self.subject, "spike_mode", self.spike_mode, SPIKE_MODES)

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


@record
class PolarityMultiSpike(Population):
    """Neurons that send several positive or negative spikes a step (`pmsm_hw.network`).

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

    theta: Given[ArrayLike, IntArray]
    levels: Given[Sequence[int], tuple[int, int]]
    bias: Given[ArrayLike, IntArray] = default(lambda: np.zeros((), np.int64))
    v_init: Given[ArrayLike | None, IntArray] = default(lambda: None)
    gains: Given[Sequence[int], tuple[int, int]] = default(lambda: (1, 1))
    rule: Rule = "carry"
    spike_mode: SpikeMode = "auto"
    overflow: Overflow = "error"

    kind: ClassVar[str] = "polarity_multi_spike"

    def __post_init__(self) -> None:
        super().__post_init__()
        subject = self.subject
        theta = integers(subject, "theta", self.theta)
        low, high = value_range(theta)
        require(
            low >= 1 and high <= STATE_MAX,
            subject,
            f"theta lies in [{low:,}, {high:,}], the limits are 1 and {STATE_MAX:,}",
            "use a positive threshold that fits the state",
            (low, high),
            (1, STATE_MAX),
        )
        object.__setattr__(self, "theta", per_channel(subject, "theta", theta, self.shape))
        for what in ("bias", "v_init"):
            value = getattr(self, what)
            if what == "v_init" and value is None:
                value = self.theta // 2
            array = integers(subject, what, value)
            check_state_width(subject, what, array)
            object.__setattr__(self, what, per_channel(subject, what, array, self.shape))
        object.__setattr__(self, "levels", two_integers(subject, self.levels))
        object.__setattr__(self, "gains", two_integers(subject, self.gains, "gains"))
        n, p = self.levels
        require(
            0 <= n < 1 << 15 and 1 <= p < 1 << 15,
            subject,
            f"levels (n, p) = {shown(self.levels)} are not n >= 0 and p >= 1",
            "give the number of negative and of positive levels",
            self.levels,
            "n >= 0, p >= 1",
        )
        gain_pos, gain_neg = self.gains
        require(
            1 <= gain_pos <= 127 and -127 <= gain_neg <= 127,
            subject,
            f"gains {shown(self.gains)} are not gain_pos in [1, 127] and gain_neg in [-127, 127]",
            "use small integers",
            self.gains,
            "1 <= gain_pos <= 127, |gain_neg| <= 127",
        )
        choice(subject, "rule", self.rule, RULES)
        choice(subject, "spike_mode", self.spike_mode, SPIKE_MODES)
        choice(subject, "overflow", self.overflow, OVERFLOWS)

    @property
    def start(self) -> IntArray:
        """``v_init``, resolved: state at the start of a sample."""
        return self.v_init

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


@record
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

    scale: Given[ArrayLike, NDArray[np.float64]] = default(lambda: np.ones(()))
    bias: Given[ArrayLike, IntArray] = default(lambda: np.zeros((), np.int64))
    overflow: Overflow = "error"

    kind: ClassVar[str] = "readout"

    def __post_init__(self) -> None:
        super().__post_init__()
        remedy = "give real values of one unit"
        scale = array_of(
            NetworkError, self.subject, "scale", self.scale, kinds="fiu", remedy=remedy
        ).astype(np.float64)
        require(
            bool(np.isfinite(scale).all()),
            self.subject,
            "scale holds NaN or infinity, it must be finite",
            "give the real value of one unit",
            "not finite",
            "finite",
        )
        object.__setattr__(self, "scale", per_channel(self.subject, "scale", scale, self.shape))
        bias = integers(self.subject, "bias", self.bias)
        check_state_width(self.subject, "bias", bias)
        object.__setattr__(self, "bias", per_channel(self.subject, "bias", bias, self.shape))
        choice(self.subject, "overflow", self.overflow, OVERFLOWS)

    @property
    def n_parameters(self) -> int:
        """Biases (scales stay off the chip)."""
        return self.bias.size


POPULATION_KINDS: dict[str, type[Population]] = {
    c.kind: c for c in (Input, PolarityMultiSpike, Readout)
}
