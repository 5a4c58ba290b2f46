"""Run a chain of ``sigma_delta_networks.py`` in Lava's own processes: chain.npz, done.npz."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.sdn.process import ActivationMode, Delta, Sigma, SigmaDelta

EXPONENTS = {"spike_exp": 6, "state_exp": 6}
MESSAGE_BITS = 16


def main() -> None:
    """Run it."""
    with np.load(sys.argv[1]) as file:
        chain = dict(file)
    x = chain["x"]
    n_steps = x.shape[-1]
    source = Source(data=x)
    neurons: list[Any] = [Delta(shape=x.shape[:3], vth=int(chain["vth0"]), **EXPONENTS)]
    source.s_out.connect(neurons[0].a_in)
    while f"weight{len(neurons)}" in chain:
        number = len(neurons)
        weight, shape = chain[f"weight{number}"], tuple(chain[f"shape{number}"].tolist())
        before = neurons[-1]
        synapse: Any
        if weight.ndim == 4:
            synapse = Conv(
                weight=weight, input_shape=before.s_out.shape, num_message_bits=MESSAGE_BITS,
                stride=chain[f"stride{number}"].tolist(),
                padding=chain[f"padding{number}"].tolist(),
            )  # fmt: skip
            before.s_out.connect(synapse.s_in)
        else:
            synapse = Dense(weights=weight, num_message_bits=MESSAGE_BITS)
            out = before.s_out
            if len(out.shape) == 3:
                out.transpose([2, 1, 0]).flatten().connect(synapse.s_in)
            else:
                out.connect(synapse.s_in)
        if f"vth{number}" in chain:
            bias = np.zeros(shape, np.int32) + chain[f"bias{number}"]
            neuron: Any = SigmaDelta(
                shape=shape, vth=int(chain[f"vth{number}"]), bias=bias,
                act_mode=ActivationMode.RELU, **EXPONENTS,
            )  # fmt: skip
        else:
            neuron = Sigma(shape=shape)
        synapse.a_out.connect(neuron.a_in)
        neurons.append(neuron)
    sinks = []
    for neuron in neurons:
        sinks.append(Sink(shape=neuron.s_out.shape, buffer=n_steps))
        neuron.s_out.connect(sinks[-1].a_in)
    source.run(condition=RunSteps(num_steps=n_steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    done = {f"s{number}": sink.data.get() for number, sink in enumerate(sinks)}
    for number, neuron in enumerate(neurons):
        for name in ("sigma", "act", "residue"):
            if hasattr(neuron, name):
                done[f"{name}{number}"] = getattr(neuron, name).get()
    source.stop()
    np.savez(sys.argv[2], **done)


if __name__ == "__main__":
    main()
