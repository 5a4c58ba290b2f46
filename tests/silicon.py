"""Networks that ran on a Loihi 2, with what was read from it: data of the shared folder.

Each `Recording` is a network with its input, and what the chip did, for any backend to be compared
with. Native ones are written as the chip runs them: every spike acts a step later (``delay=1``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pmsm_hw import (
    Conv2d,
    CubaLif,
    Dense,
    Identity,
    Input,
    Network,
    loihi_weights,
)

Arrays = dict[str, Any]

MARKER = 128
"""What the register of v holds on the step of a spike (times the refractory count, here 1)."""


@dataclass(frozen=True)
class Recording:
    """A network, its input, and what the chip did.

    Parameters
    ----------
    network, x, n_steps
        What to run: one sample.
    spikes
        By population, ``(n_steps, *shape)``.
    states
        By population and state variable, ``(n_steps, *shape)``, after each step.
    """

    network: Network
    x: Arrays
    n_steps: int
    spikes: Arrays
    states: Mapping[str, Arrays] = field(default_factory=dict)

    def differences(self, spikes: Arrays, states: Mapping[str, Arrays] | None = None) -> Arrays:
        """How many values of one sample differ, by population and what is compared.

        Parameters
        ----------
        spikes
            By population, ``(1, n_steps, *shape)``.
        states
            By population and state variable, likewise; compared if given.
        """
        found = {name: int((spikes[name][0] != k).sum()) for name, k in self.spikes.items()}
        if states is not None:
            for name, mine in self.states.items():
                for variable, values in mine.items():
                    its = states[name][variable][0]
                    found[f"{name}.{variable}"] = int((its != values).sum())
        return found


def without_marker(v: Any, spikes: Any) -> Any:
    """The voltage, where the register held a marker instead: 0 after a spike."""
    assert (v[spikes] == MARKER).all()
    return np.where(spikes, 0, v)


def loihi_lif(name: str, shape: tuple[int, ...], **values: Any) -> CubaLif:
    """Neurons of the networks here: a current that lasts one step."""
    return CubaLif(name=name, shape=shape, du=4095, **values)


def lif_trace(folder: Path) -> Recording:
    """One neuron, 1,000 steps."""
    spikes, v, fired = np.loadtxt(folder / "lif_loihi2_trace.csv", delimiter=",").T
    fired = fired.astype(bool)
    network = Network(
        populations=(
            Input(name="in", shape=(1,), levels=(0, 1)),
            loihi_lif("lif", (1,), vth=25, dv=163),
        ),
        projections=(Dense(source="in", target="lif", weight=[[10]], delay=1),),
        max_steps=len(v),
    )
    return Recording(
        network, {"in": spikes[None, :, None]}, len(v), {"lif": fired[:, None]},
        {"lif": {"v": without_marker(v, fired)[:, None]}},
    )  # fmt: skip


def dense_oxford(folder: Path) -> Recording:
    """A dense layer of 256 neurons, 2,000 steps."""
    data = np.load(folder / "dense_oxford.npz")
    weight, exponent = loihi_weights(data["weight"])
    n_post, n_pre = weight.shape
    n_steps = data["in"].shape[1]
    network = Network(
        populations=(
            Input(name="in", shape=(n_pre,), levels=(0, 1)),
            loihi_lif("dense", (n_post,), vth=6, dv=415),
        ),
        projections=(
            Dense(source="in", target="dense", weight=weight, weight_exponent=exponent, delay=1),
        ),
        max_steps=n_steps,
    )
    return Recording(network, {"in": data["in"].T[None]}, n_steps, {"dense": data["out"].T})


def tinynet(folder: Path) -> Recording:
    """An image as bias, two convolutions; spikes act in their own step.

    Step 0 of the file is empty. The weights of the last layer are those of tiny.net, whose first
    layer is this one's.
    """
    data = np.load(folder / "tinynet.npz")
    spikes, layer1, output = (
        data[name][0].transpose(3, 0, 1, 2)[1:] for name in ("input", "layer1", "output")
    )
    current = data["current"][0].transpose(3, 0, 1, 2)[1:].astype(np.int64)
    # (out, x, y, in), of a convolution: ours slide the kernel as it is
    kernel = data["layer1_kernel"].transpose(0, 3, 2, 1)[..., ::-1, ::-1]
    with h5py.File(folder.parent / "netx" / "tiny.net") as file:
        (weight1, _), (weight2, bias2) = (
            (file[f"layer/{i}/weight"][..., 0], file[f"layer/{i}/bias"][:].reshape(-1))
            for i in (1, 2)
        )
    np.testing.assert_array_equal(weight1, kernel)
    network = Network(
        populations=(
            Input(name="image", shape=(3, 16, 16), levels=(0, 255)),
            loihi_lif("input", (3, 16, 16), vth=25, dv=1024),
            loihi_lif("layer1", (24, 6, 6), vth=25, dv=1024, bias=data["layer1_bias"],
                      bias_exponent=6),
            loihi_lif("output", (36, 1, 1), vth=25, dv=1024, bias=bias2.astype(np.int64),
                      bias_exponent=6),
        ),
        projections=(
            Identity(source="image", target="input"),
            Conv2d(source="input", target="layer1", weight=kernel, stride=2),
            Conv2d(source="layer1", target="output", weight=weight2.astype(np.int64), stride=2),
        ),
        max_steps=len(spikes),
    )  # fmt: skip
    return Recording(
        network,
        {"image": data["input_bias"].transpose(2, 1, 0)[None]},
        len(spikes),
        {"input": spikes, "layer1": layer1, "output": output},
        {"layer1": {"u": current << 6}},
    )


PILOTNET_PERIOD = 17
"""Steps between two resets of a layer."""

PILOTNET_DELAYED = [f"conv-{k}" for k in range(5)] + [f"fc-{k}" for k in range(4)]


def pilotnet_network(
    folder: Path, *, native: bool, n_steps: int, period: int = PILOTNET_PERIOD, first: int = 0
) -> Network:
    """PilotNet of leaky integrate-and-fire neurons, from its netx file.

    Parameters
    ----------
    folder
        Where the data are.
    native
        Whether spikes act a step later, and layer i, from 0 for the input's neurons, is reset when
        ``t % period == first + i``, ``t`` from 0; else it runs as a wave, sample by sample.
    n_steps
        To run at most.
    period, first
        Of the resets.
    """
    populations: list[Any] = [Input(name="image", shape=(3, 66, 200), levels=(0, 255))]
    projections: list[Any] = []
    with h5py.File(folder / "pilotnet_lif.net") as file:
        layers = [file["layer"][str(i)] for i in range(len(file["layer"]))]
        index = 0
        for layer in layers:
            kind = layer["type"][0].decode()
            if kind == "flatten":
                continue
            neuron, source = layer["neuron"], populations[-1].name
            name = "input" if kind == "input" else PILOTNET_DELAYED[index - 1]
            shape = tuple(int(n) for n in layer["shape"][()])
            if kind == "dense":
                shape = shape[:1]
            common = {"source": source, "target": name, "delay": int(native and kind != "input")}
            bias = np.zeros((), np.int64)
            if kind == "input":  # its bias is the image
                projections.append(Identity(**common))
            else:
                weight, exponent = loihi_weights(layer["weight"][()].astype(np.int64))
                bias = layer["bias"][()].astype(np.int64)
                common |= {"weight_exponent": exponent}
                if kind == "conv":
                    projections.append(
                        Conv2d(**common, weight=weight, stride=tuple(layer["stride"][()].tolist()),
                               padding=tuple(layer["padding"][()].tolist()))
                    )  # fmt: skip
                else:
                    projections.append(Dense(**common, weight=weight.reshape(shape[0], -1)))
            decay = int(neuron["iDecay"][()])
            assert decay == 4096
            populations.append(
                loihi_lif(
                    name, shape, vth=int(neuron["vThMant"][()]), dv=int(neuron["vDecay"][()]),
                    bias=bias, bias_exponent=6, reset_interval=period if native else 0,
                    reset_offset=first + index if native else 0,
                )
            )  # fmt: skip
            index += 1
    return Network(
        name="pilotnet_lif",
        populations=tuple(populations),
        projections=tuple(projections),
        max_steps=n_steps,
    )


def pilotnet_image(folder: Path) -> Arrays:
    """The image that the chip was given, a sample."""
    return {"image": np.load(folder / "pilotnet_lif_chip.npz")["image"].transpose(2, 1, 0)[None]}


def pilotnet(folder: Path) -> Recording:
    """PilotNet as the chip ran it: 24 steps."""
    data = np.load(folder / "pilotnet_lif_chip.npz")
    spikes, states = {}, {}
    for name in ["input", *PILOTNET_DELAYED[:-1]]:  # of the last layer nothing usable was read
        fired = _first_channels(data[name])
        spikes[name] = fired
        if f"{name}-u" in data:
            v = _first_channels(data[f"{name}-v"])
            states[name] = {"u": _first_channels(data[f"{name}-u"]), "v": without_marker(v, fired)}
    n_steps = len(spikes["input"])
    network = pilotnet_network(folder, native=True, n_steps=n_steps)
    return Recording(network, pilotnet_image(folder), n_steps, spikes, states)


def pilotnet_wave(folder: Path) -> Recording:
    """The same as a wave: step t of layer i is step ``i + t`` of the chip."""
    native = pilotnet(folder)
    n_steps = PILOTNET_PERIOD
    network = pilotnet_network(folder, native=False, n_steps=n_steps)
    wave, states = {}, {}
    for i, (name, spikes) in enumerate(native.spikes.items()):
        part = slice(i, i + n_steps)
        wave[name] = spikes[part]
        states[name] = {k: values[part] for k, values in native.states.get(name, {}).items()}
    return Recording(network, native.x, n_steps, wave, states)


def _first_channels(values: Any) -> Any:
    """From (width, height, channels, step) or (neurons, step) to (step, channels, ...)."""
    return values.transpose(3, 2, 1, 0) if values.ndim == 4 else values.T


RECORDINGS = {
    "lif_trace": lif_trace,
    "dense_oxford": dense_oxford,
    "tinynet": tinynet,
    "pilotnet": pilotnet,
}
