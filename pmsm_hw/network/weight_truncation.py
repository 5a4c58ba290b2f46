"""Which weights a Loihi synapse holds: sign modes, weight bits, and what is cut off."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmsm_hw.arguments import choice, integer
from pmsm_hw.errors import NetworkError
from pmsm_hw.network.limits import MAX_WEIGHT_EXPONENT, MIN_WEIGHT_EXPONENT
from pmsm_hw.network.validation import integers, require, value_range

__all__ = ["SignMode", "loihi_weights"]

SignMode: TypeAlias = Literal["mixed", "excitatory", "inhibitory"]

MAX_WEIGHT_BITS = 8

_RANGES: dict[SignMode, tuple[int, int]] = {
    "mixed": (-256, 255),
    "excitatory": (0, 255),
    "inhibitory": (-255, 0),
}


def loihi_weights(
    weight: ArrayLike,
    *,
    sign_mode: SignMode = "mixed",
    weight_bits: int = 8,
    weight_exponent: int = 0,
) -> tuple[NDArray[np.int8], int]:
    """Weights as a Loihi synapse holds them, for a projection.

    With ``n = 8 - weight_bits``, and one more for mixed signs, the low ``n`` bits are cut off:
    ``(w >> n) << n``, towards minus infinity; inhibitory weights are negated before and after, so
    theirs go towards zero. Mixed weights of 8 bits are even, 3 becomes 2, and -3 becomes -4.

    Weights of a projection are int8: what needs a bit more is halved, and the exponent raised by 1,
    which is the same product.

    Parameters
    ----------
    weight
        Integers of any shape: -256 to 255 (mixed), 0 to 255 (excitatory), -255 to 0 (inhibitory).
    sign_mode
        ``"mixed"``, ``"excitatory"`` or ``"inhibitory"``.
    weight_bits
        1 to 8.
    weight_exponent
        Of the synapses, as the chip has it.

    Returns
    -------
    weight, weight_exponent
        For `pmsm_hw.Dense` and the like.

    Raises
    ------
    NetworkError
        If a weight is out of range, or int8 with an exponent cannot hold the result: odd excitatory
        and inhibitory weights beyond 127 and -128.
    """
    subject = "loihi_weights"
    remedy = "choose one of them"
    choice(NetworkError, subject, "sign_mode", sign_mode, tuple(_RANGES), remedy=remedy)
    bits = integer(
        NetworkError, subject, "weight_bits", weight_bits, low=1, high=MAX_WEIGHT_BITS,
        remedy="synapses have 1 to 8 bits",
    )  # fmt: skip
    exponent = integer(
        NetworkError, subject, "weight_exponent", weight_exponent, low=MIN_WEIGHT_EXPONENT,
        high=MAX_WEIGHT_EXPONENT, remedy="use an exponent of a projection",
    )  # fmt: skip
    given = integers(subject, "weight", weight)
    least, most = value_range(given)
    low, high = _RANGES[sign_mode]
    require(
        low <= least and most <= high,
        subject,
        f"weights lie in [{least:,}, {most:,}], {sign_mode} ones in [{low}, {high}]",
        "scale them down and raise weight_exponent, or use another sign_mode",
        (least, most),
        (low, high),
    )
    n_cut = MAX_WEIGHT_BITS - bits + (sign_mode == "mixed")
    sign = -1 if sign_mode == "inhibitory" else 1
    kept = sign * ((sign * given >> n_cut) << n_cut)
    halve = int(kept.min(initial=0) < -128 or kept.max(initial=0) > 127)
    odd = kept[(kept & 1) != 0]
    require(
        not (halve and odd.size),
        subject,
        f"{sign_mode} weights reach {_furthest(kept)} and some are odd, as {odd[:1].sum()}: int8 "
        "with an exponent holds odd ones from -128 to 127",
        "use weight_bits 7 or less, or halve the weights and raise weight_exponent",
        _furthest(kept),
        (-128, 127),
    )
    require(
        exponent + halve <= MAX_WEIGHT_EXPONENT,
        subject,
        f"weights reach {_furthest(kept)}, which int8 holds with an exponent of {exponent + 1}, "
        f"the largest is {MAX_WEIGHT_EXPONENT}",
        "use smaller weights, or a smaller weight_exponent",
        exponent + 1,
        MAX_WEIGHT_EXPONENT,
    )
    return (kept >> halve).astype(np.int8), exponent + halve


def _furthest(weight: NDArray[Any]) -> int:
    flat = weight.reshape(-1)
    return int(flat[np.abs(flat).argmax()]) if flat.size else 0
