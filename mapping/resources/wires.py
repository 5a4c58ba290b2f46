"""A projection as a chip realises it: axons, weight widths, synapse formats, or why it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import CapacityError, MappingError
from pmsm_hw.mapping.blocks import Range
from pmsm_hw.mapping.resources.windows import Window, window_of
from pmsm_hw.network import Input
from pmsm_hw.operators import DenseForm, Form, WindowForm, chw, lowered

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.network import Network, Projection

__all__ = ["Wire", "wire_of"]

_SHORT = 64
"""Numbers in a row: rows of fewer are summed faster by numpy than one by one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Wire:
    """A projection as a chip realises it.

    Parameters
    ----------
    projection, form
        The projection, plain and lowered.
    axons
        ``"pixel"``: population axons; ``"neuron"``: one axon per source neuron.
    widths
        Bits of a weight, for each set of axons (sign); empty if the source never spikes.
    formats
        ``(bits, exponent, delay)`` of each set; delay 0: one per synapse.
    delay_bits
        Bits of delay beside each weight, if any is held longer than a step.
    entries
        Output-axon entries per neuron, target core and sign, its axon there being a population one
        (`Resources.plain_pixels` need one each).
    longest_delay
        Hardware steps from sending to integration, of the synapse that delays most.
    geometry
        Wires with equal ones join the same neurons, were no weight zero.
    n_weights
        Weights other than zero.
    channels
        Range of the target's channels outside of which every weight is zero.
    has_plain
        Whether plain axons save entries: the source sits on cores, and population axons cost more.
    live
        Of a dense form, ``(rows, columns)`` bool: pixels of the source some neuron of which has a
        weight other than zero; the others cost nothing.
    n_live
        Of a dense form, source neurons that have a weight other than zero.
    """

    projection: Projection
    form: Form
    axons: Literal["pixel", "neuron"]
    widths: tuple[int, ...]
    formats: tuple[tuple[int, int, int], ...]
    delay_bits: int
    entries: int
    longest_delay: int
    geometry: tuple[object, ...]
    n_weights: int
    channels: Range
    has_plain: bool
    live: NDArray[np.bool_]
    n_live: int

    @property
    def n_signs(self) -> int:
        """Sets of axons."""
        return len(self.widths)

    @cached_property
    def is_full(self) -> bool:
        """Whether no weight is zero."""
        return self.n_weights == self.form.weight.size

    @cached_property
    def kind(self) -> tuple[object, ...]:
        """Wires with equal ones need the same, wherever their zeros lie."""
        return (
            *self.geometry, self.axons, self.widths, self.delay_bits, self.entries,
            self.n_weights, self.channels, self.has_plain, self.n_live, self.n_live_units,
        )  # fmt: skip

    @cached_property
    def windows(self) -> tuple[Window, Window]:
        """Windows along rows and columns."""
        form = self.form
        assert isinstance(form, WindowForm)
        return window_of(form, 0), window_of(form, 1)

    @cached_property
    def weights_below(self) -> NDArray[np.int32]:
        """Weights other than zero in the channels below each, ``(c_out + 1, c_in, kh, kw)``."""
        weight = self.form.weight
        prefix = np.zeros((len(weight) + 1, *weight.shape[1:]), np.int32)
        np.not_equal(weight, 0, out=prefix[1:], casting="unsafe")
        if prefix[0].size < _SHORT:
            np.cumsum(prefix, axis=0, out=prefix)
        else:
            for below, here in pairwise(prefix):
                here += below
        return prefix

    @cached_property
    def n_live_units(self) -> int:
        """Of a dense form, axons of one sign that it needs at most."""
        return int(np.count_nonzero(self.live)) if self.axons == "pixel" else self.n_live

    @property
    def shares_lists(self) -> bool:
        """Whether pixels that meet a block alike share their lists."""
        return self.axons == "pixel" and isinstance(self.form, WindowForm)


def wire_of(network: Network, chip: Chip, projection: Projection, factors: tuple[int, ...]) -> Wire:
    """A projection as a chip realises it.

    Parameters
    ----------
    network, chip, projection
        Which, of which, and where.
    factors
        Payload of one message on each set of axons of its source (`neurons.axon_signs`).
    """
    limits = chip.limits
    form = lowered(network, projection)
    has_rows = len(network[projection.source].shape) > 1
    pixel = limits.population_axons.value and has_rows
    delay = network.hardware_delay(projection)
    longest = delay + projection.max_delay - projection.delay
    if longest > limits.max_delay_steps.value:
        raise CapacityError(
            projection.subject,
            f"holds its spikes for {longest} steps, chip '{chip.name}' delays by at most "
            f"{limits.max_delay_steps.value}",
            remedy="insert relay populations that shorten the way it skips"
            if delay > limits.max_delay_steps.value
            else "use shorter delays",
            actual=longest,
            limit=limits.max_delay_steps.value,
        )
    lo, hi = int(projection.weight.min()), int(projection.weight.max())
    widths, formats = [], []
    for factor in factors:
        low, high = (lo, hi) if factor > 0 else (-hi, -lo)
        need = max((-low - 1).bit_length() if low < 0 else 0, max(high, 0).bit_length()) + 1
        width = min((w for w in limits.weight_bits.value if w >= need), default=None)
        if width is None:
            raise MappingError(
                projection.subject,
                f"weights in [{low}, {high}] need {need} bits, chip '{chip.name}' has "
                f"at most {max(limits.weight_bits.value)}",
                remedy="quantize to fewer bits",
                actual=need,
                limit=max(limits.weight_bits.value),
            )
        exponent = projection.weight_exponent + abs(factor).bit_length() - 1
        if exponent > limits.max_weight_exponent.value:
            raise MappingError(
                projection.subject,
                f"weight exponent {exponent} (payload gain {abs(factor)} included) exceeds "
                f"{limits.max_weight_exponent.value} of chip '{chip.name}'",
                remedy="use smaller gains or a smaller weight_exponent",
                actual=exponent,
                limit=limits.max_weight_exponent.value,
            )
        least = limits.min_weight_exponent
        if least is not None and exponent < least.value:
            raise MappingError(
                projection.subject,
                f"weight exponent {exponent} (payload gain {abs(factor)} included) is below "
                f"{least.value} of chip '{chip.name}'",
                remedy="use a larger weight_exponent",
                actual=exponent,
                limit=least.value,
            )
        widths.append(width)
        formats.append((width, exponent, delay if projection.delays is None else 0))
    if projection.weight_exponent < 0 and len({abs(factor) for factor in factors}) > 1:
        raise MappingError(
            projection.subject,
            f"sends payloads {factors} through formats of their own, which would be shifted by "
            f"weight exponent {projection.weight_exponent} apart, not in one sum",
            remedy="use gains of one magnitude, a weight_exponent from 0, or a chip with graded "
            "spikes",
            actual=factors,
            limit="one magnitude",
        )
    n_weights = int(np.count_nonzero(form.weight))
    source = chw(network[projection.source].shape)
    lives: NDArray[np.bool_] = np.ones(source, bool)
    if isinstance(form, DenseForm) and n_weights < form.weight.size:
        lives = np.asarray(form.weight.any(axis=0)).reshape(source)
    return Wire(
        projection=projection,
        form=form,
        axons="pixel" if pixel else "neuron",
        widths=tuple(widths),
        formats=tuple(formats),
        delay_bits=limits.delay_bits.value if longest > 1 else 0,
        entries=limits.population_axon_entries.value if pixel else 1,
        longest_delay=longest,
        geometry=_geometry(form, source),
        n_weights=n_weights,
        channels=_reaching(network, projection, form, n_weights == form.weight.size),
        has_plain=pixel
        and limits.population_axon_entries.value > 1
        and not isinstance(network[projection.source], Input),
        live=np.asarray(lives.any(axis=0)),
        n_live=int(np.count_nonzero(lives)),
    )


def _reaching(network: Network, projection: Projection, form: Form, is_full: bool) -> Range:
    """Range of the target's channels outside of which every weight is zero."""
    shape = chw(network[projection.target].shape)
    if is_full:
        return (0, shape[0])
    rows = np.flatnonzero(form.weight.reshape(len(form.weight), -1).any(axis=1))
    if rows.size == 0:
        return (0, 0)
    per_channel = len(form.weight) // shape[0]  # rows of a dense form are neurons
    return (int(rows[0]) // per_channel, int(rows[-1]) // per_channel + 1)


def _geometry(form: Form, source: tuple[int, int, int]) -> tuple[object, ...]:
    if isinstance(form, DenseForm):
        return (*form.weight.shape, source)
    return (
        *form.weight.shape, form.stride, form.padding, form.dilation, form.groups, source,
        form.target,
    )  # fmt: skip
