"""Named groups of neurons: what each kind consists of (`pmsm_hw.network` says what it does)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import array_of, as_integer, items, number, pair, shown
from pmsm_hw.errors import InputError, NetworkError
from pmsm_hw.network.limits import (
    MAX_NEURONS,
    SPIKE_MODES,
    Shape,
    SpikeMode,
)
from pmsm_hw.network.validation import (
    choice,
    refuse,
)
from pmsm_hw.records import Given, Record, default, record

__all__ = ["POPULATION_KINDS", "Input", "Population"]


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
        if not (
            isinstance(self.name, str)
            and self.name.strip()
            and "/" not in self.name
            and self.name not in (".", "..")
            and self.name.isprintable()
        ):
            refuse(
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
        if not 1 <= len(shape) <= 3 or min(shape) < 1:
            refuse(
                self.subject,
                f"shape {shown(sizes)} is not 1 to 3 positive sizes",
                "use (n,), (channels, length) or (channels, height, width)",
                sizes,
                "1 to 3 positive sizes",
            )
        object.__setattr__(self, "shape", shape)
        n = math.prod(shape)
        if n > MAX_NEURONS:
            refuse(
                self.subject,
                f"shape {shown(shape)} has {f'{n:,}' if n < 1 << 63 else 'more than 2**63'} "
                f"neurons, the limit is {MAX_NEURONS:,}",
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
        return math.prod(self.shape)

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
        object.__setattr__(
            self,
            "levels",
            pair(NetworkError, self.subject, "levels", self.levels, remedy="give two integers"),
        )
        lo, hi = self.levels
        if lo > hi or lo < -(1 << 23) or hi >= 1 << 23:
            refuse(
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


POPULATION_KINDS: dict[str, type[Population]] = {Input.kind: Input}
"""Inputs, and the neuron models that `pmsm_hw.neurons.register` adds."""
