"""Weights as Loihi's synapses hold them, by hand and as Lava truncates them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pmsm_hw import loihi_weights
from pmsm_hw.errors import NetworkError

RANGES = {"mixed": (-256, 255), "excitatory": (0, 255), "inhibitory": (-255, 0)}


def held(weight: Any, **options: Any) -> list[int]:
    """What the returned weights and exponent stand for."""
    kept, exponent = loihi_weights(weight, **options)
    assert kept.dtype == np.int8
    values: list[int] = (kept.astype(np.int64) << exponent).tolist()
    return values


def test_mixed_weights_are_even_and_rounded_down():
    assert held([3, -3, 255, -256, 2, 0]) == [2, -4, 254, -256, 2, 0]


def test_others_keep_8_bits_or_go_towards_zero():
    assert held([3, 127], sign_mode="excitatory") == [3, 127]
    assert held([255, 3], sign_mode="excitatory", weight_bits=7) == [254, 2]
    assert held([-255, -3], sign_mode="inhibitory", weight_bits=7) == [-254, -2]


def test_the_exponent_is_raised_only_where_a_bit_is_needed():
    assert loihi_weights([100, -100], weight_exponent=-3)[1] == -3
    kept, exponent = loihi_weights([200, -100], weight_exponent=-3)
    assert (kept.tolist(), exponent) == ([100, -50], -2)


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        ([255, 3], {"sign_mode": "excitatory"}, r"excitatory weights reach 255 and some are odd"),
        ([-129], {"sign_mode": "inhibitory"}, r"reach -129 and some are odd, as -129: int8"),
        ([300], {}, r"weights lie in \[300, 300\], mixed ones in \[-256, 255\]"),
        ([-1], {"sign_mode": "excitatory"}, r"excitatory ones in \[0, 255\]"),
        ([254], {"weight_exponent": 7}, r"with an exponent of 8, the largest is 7"),
        ([1], {"weight_bits": 9}, r"weight_bits 9 is outside 1"),
        ([1], {"sign_mode": "both"}, r"sign_mode 'both' is not one of mixed"),
        ([1.5], {}, r"weight"),
        ([1], {"weight_exponent": -9}, r"weight_exponent -9"),
    ],
)
def test_what_no_projection_can_hold_is_refused(weight: Any, options: Any, message: str):
    with pytest.raises(NetworkError, match=message):
        loihi_weights(weight, **options)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("mode", RANGES)
def test_lava_truncates_alike(mode: Any, bits: int):
    utils = pytest.importorskip("lava.utils.weightutils", reason="needs lava-nc")
    low, high = RANGES[mode]
    weight = np.arange(low, high + 1)
    sign = utils.SignMode[mode.upper()]
    its = utils.truncate_weights(utils.clip_weights(weight, sign, 8), sign, bits)
    if mode != "mixed" and bits == 8:  # odd ones beyond int8
        weight, its = (w[abs(weight) < 128] for w in (weight, its))
    assert held(weight, sign_mode=mode, weight_bits=bits) == its.tolist()
