"""A real event recording gives the same spikes in the reference, the emulator and Lava."""

from __future__ import annotations

import numpy as np

from pmsm_hw import lava, reference
from pmsm_hw.datasets import load_samples
from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.network import (
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
)
from pmsm_hw.reference import differing_spikes

N_STEPS = 5


def event_network():
    rng = np.random.default_rng(0)

    def weights(*shape):
        return rng.integers(-60, 80, shape).astype(np.int8)

    return Network(
        name="events",
        populations=(
            Input(name="input", shape=(2, 34, 34), levels=(0, 15)),
            PolarityMultiSpike(name="conv", shape=(4, 17, 17), theta=300, levels=(2, 4)),
            PolarityMultiSpike(
                name="deep", shape=(4, 17, 17), theta=700, levels=(2, 4), gains=(2, 1)
            ),
            PolarityMultiSpike(
                name="pooled", shape=(4, 5, 5), theta=6, levels=(4, 4), rule="bounded"
            ),
            Readout(name="output", shape=(10,)),
        ),
        projections=(
            Conv2d(source="input", target="conv", weight=weights(4, 2, 3, 3), stride=2, padding=1),
            Conv2d(source="conv", target="deep", weight=weights(4, 4, 3, 3), padding=1),
            Identity(source="conv", target="deep", weight=np.int8(90), name="skip"),
            SumPool(source="deep", target="pooled", kernel=(3, 3), stride=(3, 3)),
            Dense(source="pooled", target="output", weight=weights(10, 100)),
        ),
        max_steps=N_STEPS,
    )


def test_real_recording_on_every_backend(shared_data):
    network = event_network()
    recording = load_samples(str(shared_data / "sample_nmnist.bin"), n_steps=N_STEPS)
    assert recording.x.shape == (1, N_STEPS, 2, 34, 34)
    events_per_step = recording.x.sum(axis=(0, 2, 3, 4))
    assert (events_per_step > 100).all()
    x = recording.x
    expected = reference.run(network, x, N_STEPS)
    for name in ("conv", "deep", "pooled"):
        k = expected.spikes[name]
        assert (k > 0).any(), name
        assert (k < 0).any(), name
    mapping = map_network(network, load_chip("loihi1"))
    emulated = emulate(network, mapping, x, N_STEPS, mode="cycle")
    assert differing_spikes(emulated.spikes, expected.spikes) == 0
    answer = lava.run(network, x, N_STEPS)
    assert differing_spikes(answer.spikes, expected.spikes) == 0
    for other in (emulated, answer):
        np.testing.assert_array_equal(other.logits["output"], expected.logits["output"])
