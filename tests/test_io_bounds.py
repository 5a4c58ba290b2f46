"""Networks from hostile files cannot overflow the bound proof."""

import numpy as np
import pytest

from pmsm_hw.errors import NetworkError
from pmsm_hw.network import STATE_MAX, Dense, Input, Network, Readout


def network(n, overflow):
    return Network(
        populations=(
            Input(name="a", shape=(n,), levels=(-STATE_MAX, STATE_MAX)),
            Readout(name="b", shape=(1,), overflow=overflow),
        ),
        projections=(
            Dense(source="a", target="b", weight=np.full((1, n), -128, np.int8), weight_exponent=6),
        ),
    )


@pytest.mark.parametrize("overflow", ["error", "saturate"])
def test_sums_beyond_the_proofs_integers_are_refused(overflow):
    message = r"projection 'a->b': may add up to 20,890,718,437,376 in a step, the proof ends at"
    with pytest.raises(NetworkError, match=message):
        network(304, overflow)


def test_sums_within_are_bounded_exactly():
    bound = network(200, "saturate").bounds["b"]
    assert bound.u_max == -bound.u_min == 200 * 128 * 64 * STATE_MAX
