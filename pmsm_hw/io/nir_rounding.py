"""Integer weights, thresholds and biases for a NIR graph: exact where one step divides them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.exact_step import common_step, multiples
from pmsm_hw.io.nir_graph import Graph
from pmsm_hw.io.schema import check_work
from pmsm_hw.network import (
    STATE_MAX,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
    Readout,
)
from pmsm_hw.network.fields import fields_of
from pmsm_hw.network.limits import CONVERTED_WEIGHT_EXPONENT

__all__ = ["Branch", "Target", "network_of", "shortest"]

WEIGHT_LIMIT = 127
N_WEIGHTS = 256
"""Distinct weights that 8 bits hold."""
MAX_CHANNEL_STEPS = 1 << 14
"""Most channels that are tried for a step each."""
PRODUCT_ERRORS = {2: 2.0**-8, 4: 2.0**-22, 8: 2.0**-50}
"""Relative error of a product of numbers of that many bytes, computed in float64."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One linear way from a population to the next, with real weights.

    ``make(weight, exponent)`` builds the projection from integer weights (from ones, if None).
    """

    name: str
    weight: NDArray[Any]  # rows: target channels, or neurons if dense
    make: Callable[..., Projection]


@dataclass(frozen=True)
class _Grid:
    """Real value of weight 1, per channel, and how much finer the rest is."""

    unit: NDArray[np.float64]
    exponent: int
    is_exact: NDArray[np.bool_]
    has_exact_weights: NDArray[np.bool_]

    def fine(self, n_axes: int) -> NDArray[np.float64]:
        """Value of one unit of the state, broadcastable to a shape of so many axes."""
        return (self.unit / 2.0**self.exponent).reshape(-1, *(1,) * (n_axes - 1))


@dataclass(kw_only=True)
class Target:
    """A population to be, with the real numbers of what leads to it."""

    population: Population
    threshold: NDArray[Any] | None  # broadcastable to its shape; None: a readout
    r: NDArray[np.float64]  # what a readout's input is multiplied by
    bias: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    branches: list[Branch] = field(default_factory=list)
    precision: np.dtype[Any] | None = None

    @property
    def n_channels(self) -> int:
        """Channels: each has a unit of its own."""
        return int(self.population.shape[0])

    def fits(self, grid: _Grid) -> bool:
        """Whether bias and threshold stay within the state's width on a grid."""
        fine = grid.fine(len(self.population.shape))
        parts = [self.bias] if self.threshold is None else [self.bias, self.threshold]
        return all(bool((np.rint(np.abs(a) / fine) <= STATE_MAX).all()) for a in parts)

    def weights_of(self, channel: int) -> list[NDArray[Any]]:
        """Weights into one channel."""
        rows = [len(b.weight) // self.n_channels for b in self.branches]
        return [
            b.weight[channel * n : (channel + 1) * n]
            for b, n in zip(self.branches, rows, strict=True)
        ]

    def others_of(self, channel: int) -> list[NDArray[Any]]:
        """Bias and threshold of one channel."""
        arrays = [self.bias] if self.threshold is None else [self.bias, self.threshold]
        return [a[channel] if a.ndim and len(a) > 1 else a for a in arrays]


def network_of(
    graph: Graph,
    name: str,
    max_steps: int,
    populations: Mapping[str, Population],
    relays: list[Projection],
    targets: Mapping[str, Target],
) -> tuple[Network, tuple[str, ...]]:
    """Round what leads to each target to integers, as finely as the state has room for.

    Returns
    -------
    Network
        With the populations, in their order.
    tuple of str
        What was rounded.
    """
    grids = {key: _grids(target) for key, target in targets.items()}
    chosen = dict.fromkeys(targets, 0)

    def build(overflow: Literal["error", "saturate"]) -> Network:
        found = dict(populations)
        projections = list(relays)
        taken = {q.name for q in projections}
        for key, target in targets.items():
            rounded, made = _rounded(graph, key, target, grids[key][chosen[key]])
            found[key] = replace(rounded, overflow=overflow)  # type: ignore[call-arg]
            for projection in made:
                while projection.name in taken:
                    projection = replace(projection, name=projection.name + "_")
                taken.add(projection.name)
                projections.append(projection)
        check_work(
            graph.subject,
            [fields_of(p) for p in found.values()],
            [fields_of(q) for q in projections],
            max_steps,
        )
        return Network(
            name=name,
            max_steps=max_steps,
            populations=tuple(found.values()),
            projections=tuple(projections),
        )

    while True:  # those that do not fit all go one grid on at a time
        trial = build("saturate")
        tight = [k for k, i in chosen.items() if i + 1 < len(grids[k]) and not trial.bounds[k].fits]
        if not tight:
            break
        for key in tight:
            chosen[key] += 1
    network = build("error")
    used = {key: grids[key][i] for key, i in chosen.items()}
    notes = []
    for what, keys in (
        ("weights into", [k for k, g in used.items() if not g.has_exact_weights.all()]),
        ("thresholds and biases of", [k for k, g in used.items() if not g.is_exact.all()]),
    ):
        if keys:
            shown = ", ".join(f"'{key}'" for key in keys[:5]) + (", ..." if len(keys) > 5 else "")
            width = "8 bits" if what.startswith("weights") else "up to 6 bits more than weights"
            notes.append(
                f"{what} {len(keys)} of {len(targets)} populations ({shown}) are rounded to {width}"
            )
    return network, tuple(notes)


def _grids(target: Target) -> list[_Grid]:
    """Grids to try: the exact one if there is one, then coarser and coarser thresholds."""
    n = target.n_channels
    exact = _exact_steps(target)
    known = np.isfinite(exact.step)
    grids: list[_Grid] = []
    if known.all():
        lowest = int(np.maximum(exact.zeros - exact.room, 0).max())
        highest = min(int(exact.zeros.max()), CONVERTED_WEIGHT_EXPONENT)
        grids += [  # the higher the exponent, the fewer bits of weights
            _Grid(exact.units(exponent), exponent, known, known)
            for exponent in range(highest, lowest - 1, -1)
        ]
    largest = np.zeros(n)
    for branch in target.branches:
        rows = np.abs(branch.weight).reshape(n, -1).max(axis=1)
        largest = np.maximum(largest, rows)
    dead = largest == 0
    if dead.any():  # only threshold and bias count there: they get the full width of a weight
        others = [np.abs(a) for a in (target.bias, target.threshold) if a is not None]
        rest = np.max([_per_channel_max(a, n) for a in others], axis=0)
        largest = np.where(dead, np.where(rest > 0, rest, WEIGHT_LIMIT), largest)
    own = exact
    if not known.all():  # weights alone may have a step
        alone = _exact_steps(target, weights_alone=True)
        own = _Steps(*(np.where(known, a, b) for a, b in zip(exact, alone, strict=True)))
    has_exact_weights = np.isfinite(own.step) & ~dead
    widest = own.step * 2.0 ** (own.zeros - own.room)  # leaves thresholds finest
    coarse = np.where(has_exact_weights, widest, largest / WEIGHT_LIMIT)
    for exponent in range(CONVERTED_WEIGHT_EXPONENT, -1, -1):
        reach = known & (exact.zeros - exponent <= exact.room)
        unit = np.where(reach, exact.units(exponent), coarse)
        grids.append(_Grid(unit, exponent, reach, reach | has_exact_weights))
    return [grid for grid in grids if target.fits(grid)] or grids[-1:]


def _per_channel_max(values: NDArray[Any], n: int) -> NDArray[np.float64]:
    if values.ndim == 0 or len(values) == 1:
        return np.full(n, float(values.max()))
    found: NDArray[np.float64] = values.reshape(n, -1).max(axis=1)
    return found


class _Steps(NamedTuple):
    """For each channel the step of which its values are multiples, ``(n,)`` each."""

    step: NDArray[np.float64]
    """NaN: none."""
    zeros: NDArray[np.int64]
    """Weights are multiples of ``2**zeros`` steps."""
    room: NDArray[np.int64]
    """Divided by that, they could be shifted by so many bits."""

    def units(self, exponent: int) -> NDArray[np.float64]:
        """Value of weight 1: of the bits that are 0 in all weights, the exponent takes its part."""
        shift = np.maximum(self.zeros - exponent, 0)
        unit: NDArray[np.float64] = self.step * 2.0 ** (self.zeros - shift)
        return unit


def _exact_steps(target: Target, *, weights_alone: bool = False) -> _Steps:
    """Step of each channel, of weights alone or of all values."""
    n = target.n_channels
    steps = _Steps(np.full(n, np.nan), np.zeros(n, np.int64), np.zeros(n, np.int64))
    every = [b.weight for b in target.branches]
    rest = [a for a in (target.bias, target.threshold) if a is not None and not weights_alone]
    whole = _step_of(every, rest, target.precision)
    if whole is not None:
        for values, value in zip(steps, whole, strict=True):
            values[:] = value
        return steps
    if n > MAX_CHANNEL_STEPS:
        return steps
    for channel in range(n):
        others = [] if weights_alone else target.others_of(channel)
        found = _step_of(target.weights_of(channel), others, target.precision)
        if found is not None:
            for values, value in zip(steps, found, strict=True):
                values[channel] = value
    return steps


def _step_of(
    weights: list[NDArray[Any]], others: list[NDArray[Any]], precision: np.dtype[Any] | None
) -> tuple[float, int, int] | None:
    """Step, zeros and room (`_Steps`), if 8 bits and an exponent hold the weights."""
    distinct = []
    for weight in weights:
        if len(np.unique(weight.reshape(-1)[:1024])) > N_WEIGHTS:
            return None
        distinct.append(np.unique(weight))
    known = np.unique(np.concatenate(distinct)) if distinct else np.zeros(1)
    if len(known) > N_WEIGHTS:
        return None
    rest = [np.unique(np.abs(a)) for a in others]
    parts = [known, *rest]
    relative: float | None = None
    if precision is not None:
        cast = [_as(part, precision) for part in parts]
        if all(part is not None for part in cast):
            parts = [part for part in cast if part is not None]
        else:
            relative = PRODUCT_ERRORS.get(precision.itemsize, 2.0**-50)
    step = common_step(*parts, relative_error=relative)
    if step is None:
        return None if any(part.any() for part in parts) else (1.0, 0, 0)
    k = multiples(known, step)
    k = k[k != 0]
    if k.size == 0:
        return step, 0, 0
    together = int(np.bitwise_or.reduce(np.abs(k)))
    shift = (together & -together).bit_length() - 1
    limits = np.where(k > 0, WEIGHT_LIMIT, WEIGHT_LIMIT + 1)  # -128 to 127
    room = int((limits // (np.abs(k) >> shift)).min()).bit_length() - 1
    return (step, shift, room) if room >= 0 else None


def _as(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Values as floats of a type, if that loses nothing."""
    with np.errstate(over="ignore", under="ignore"):
        cast = values.astype(dtype)
    return cast if np.array_equal(cast.astype(np.float64), values.astype(np.float64)) else None


def _rounded(
    graph: Graph, key: str, target: Target, grid: _Grid
) -> tuple[Population, list[Projection]]:
    """Population and projections on a grid."""
    population, n = target.population, target.n_channels
    shape = population.shape
    made = []
    for branch in target.branches:
        rows = np.repeat(grid.unit, len(branch.weight) // n)
        integer = np.rint(branch.weight / rows.reshape(-1, *(1,) * (branch.weight.ndim - 1)))
        made.append(branch.make(integer.astype(np.int8), grid.exponent))
    fine = grid.fine(len(shape))
    bias = np.rint(target.bias / fine)
    if np.abs(bias).max() > STATE_MAX:
        graph.refuse(key, "has a bias far larger than its weights", "rescale it")
    bias = shortest(bias.astype(np.int64))
    if isinstance(population, Readout):
        return replace(population, bias=bias, scale=shortest(fine * target.r)), made
    assert target.threshold is not None
    theta = np.rint(target.threshold / fine)
    if theta.max() > STATE_MAX:
        graph.refuse(key, "has a threshold far larger than its weights", "remove it")
    if theta.min() < 1:
        graph.refuse(
            key,
            "has a threshold far smaller than its weights: it rounds to 0",
            "make them closer",
            float(np.min(target.threshold)),
        )
    assert isinstance(population, PolarityMultiSpike)
    return replace(population, bias=bias, theta=shortest(theta.astype(np.int64))), made


def shortest(values: NDArray[Any]) -> NDArray[Any]:
    """One value for all, or per channel, where that says the same.

    Parameters
    ----------
    values
        At least one axis; the first is that of the channels.
    """
    flat = values.reshape(len(values), -1)
    if (flat == flat[0, 0]).all():
        return np.asarray(flat[0, 0])
    return flat[:, 0].copy() if (flat == flat[:, :1]).all() else np.ascontiguousarray(values)
