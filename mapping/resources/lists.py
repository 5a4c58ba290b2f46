"""Synapse memory of lists of weights: a chip's block rule."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Chip

__all__ = ["ListRule", "bits_by_length", "list_bits", "list_rule"]


class ListRule(NamedTuple):
    """How lists are stored (`chip.Limits`).

    Attributes
    ----------
    block_weights
        Weights of a block at most.
    word_bits
        Blocks take whole words.
    header_bits
        Of a block.
    """

    block_weights: int
    word_bits: int
    header_bits: int


def list_rule(chip: Chip) -> ListRule:
    """Block rule of a chip."""
    limits = chip.limits
    return ListRule(
        limits.synapse_block_weights.value,
        limits.synapse_word_bits.value,
        limits.synapse_block_header_bits.value,
    )


def list_bits(chip: Chip, n: NDArray[np.int64] | int, bits_each: int) -> NDArray[np.int64]:
    """Synapse memory of lists of ``n`` weights, 0 for none.

    Parameters
    ----------
    chip
        Gives the block rule.
    n
        Any shape, weights of each list.
    bits_each
        Bits of one weight with its index and delay.

    Returns
    -------
    ndarray
        As ``n``, int64, bits.
    """
    return _bits(list_rule(chip), np.asarray(n, np.int64), bits_each)


def _bits(rule: ListRule, n: NDArray[np.int64], bits_each: int) -> NDArray[np.int64]:
    def rounded(bits: NDArray[np.int64]) -> NDArray[np.int64]:
        return -(-bits // rule.word_bits) * rule.word_bits

    whole, rest = np.divmod(n, rule.block_weights)
    full = rounded(np.int64(rule.block_weights * bits_each + rule.header_bits))  # type: ignore[arg-type]
    return whole * full + np.where(rest > 0, rounded(rest * bits_each + rule.header_bits), 0)


def bits_by_length(rule: ListRule, bits_each: int, longest: int) -> NDArray[np.int64]:
    """`list_bits` of lists of 0, 1, ... weights, up to so many or more."""
    return _table(rule, bits_each, longest.bit_length())


@lru_cache(256)
def _table(rule: ListRule, bits_each: int, digits: int) -> NDArray[np.int64]:
    found = _bits(rule, np.arange(1 << digits), bits_each)
    found.flags.writeable = False
    return found
