"""Sigma-delta networks as published, for Lava's own processes and as networks of this project.

A chain is a list of `Layer` in the order and the layout in which Lava has them: axes (W, H, C),
kernels (C_out, W, H, C_in) of a true convolution. `network_of` makes the `Network`; the file
``lava_sigma_delta.py`` runs the chain in Lava.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pmsm_hw.lava.interpreter import find_python
from pmsm_hw.network import Conv2d, Delta, Dense, Identity, Input, Network, Readout, SigmaDelta

SPIKE_EXP = STATE_EXP = 6
SCALE = 1 << (SPIKE_EXP + STATE_EXP)


@dataclass
class Layer:
    """A layer after the input's Delta; the last one is a Sigma (``vth`` None)."""

    weight: Any
    """(C_out, W, H, C_in) of a convolution; (n_out, n_in) with n_in in the order C, H, W."""
    shape: tuple[int, ...]
    vth: int | None = None
    bias: Any = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


@dataclass
class Chain:
    """A network and an input."""

    vth: int
    """Of the input's Delta."""
    x: Any
    """(W, H, C, n_steps) integers."""
    layers: list[Layer]


def tinynet(path: Path) -> Chain:
    """lava-dl's test network of three layers, with its test input, a sine over 15 steps."""
    with np.load(path) as data:
        names = "input_bias", "layer1_kernel", "layer1_bias", "layer2_weight"
        image, kernel, bias, dense = (data[name].astype(int) for name in names)
    x = (image[..., None] * np.sin(2 * np.pi * np.arange(15) / 15)).astype(int)
    # its columns are in the order W, H, C
    columns = np.arange(6 * 6 * 24).reshape(6, 6, 24).transpose(2, 1, 0).reshape(-1)
    layers = [
        Layer(weight=kernel, shape=(6, 6, 24), vth=20, bias=bias, stride=(2, 2)),
        Layer(weight=dense[:, columns], shape=(100,)),
    ]
    return Chain(vth=20, x=x, layers=layers)


def pilotnet(path: Path, n_steps: int) -> Chain:
    """PilotNet as published in netx format, with a moving pattern for its camera."""
    import h5py

    layers = []
    with h5py.File(path) as file:
        groups = file["layer"]
        width, height, channels = groups["0/shape"][()][::-1]
        for number in range(1, len(groups)):
            group = groups[str(number)]
            if group["type"][0] == b"flatten":
                continue
            weight = group["weight"][()]
            assert (weight == np.rint(weight)).all()
            neuron = group["neuron"]
            last = "sigma_output" in neuron
            more: dict[str, Any] = {}
            if group["type"][0] == b"conv":
                weight = weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
                stride, padding = (
                    tuple(map(int, group[name][()][::-1])) for name in ("stride", "padding")
                )
                more = {"stride": stride, "padding": padding}
            layers.append(
                Layer(
                    weight=weight.astype(int),
                    shape=tuple(map(int, group["shape"][()][::-1])),
                    vth=None if last else int(neuron["vThMant"][()]),
                    bias=None if last else group["bias"][()].astype(int),
                    **more,
                )
            )
        vth = int(groups["0/neuron/vThMant"][()])
    w, h, c, t = np.ogrid[:width, :height, :channels, :n_steps]
    image = np.sin((w + 3 * t) / 7) * np.cos(h / (4 + c)) + np.sin(w * h / 300 + c)
    # netx gives its Delta 2 * 64 * x - 64 for x in 0 to 1
    return Chain(vth=vth, x=np.rint(32 * image).astype(int), layers=layers)


def network_of(chain: Chain, **fixed: Any) -> tuple[Network, Any]:
    """The network as Lava runs it, each layer one step after the one before; and its input."""
    n_steps, shape = chain.x.shape[-1], tuple(reversed(chain.x.shape[:3]))
    most = int(np.abs(chain.x).max())
    populations: list[Any] = [
        Input(name="camera", shape=shape, levels=(-most, most)),
        Delta(name="input", shape=shape, vth=chain.vth * SCALE, spike_exp=SPIKE_EXP,
              state_exp=STATE_EXP),
    ]  # fmt: skip
    projections: list[Any] = [Identity(source="camera", target="input")]
    source = "input"
    for number, layer in enumerate(chain.layers, 1):
        name, weight = f"layer{number}", layer.weight
        ends = {"source": source, "target": name, "delay": 1}
        if weight.ndim == 4:
            flipped = weight[:, ::-1, ::-1, :].transpose(0, 3, 2, 1)
            stride, padding = layer.stride[::-1], layer.padding[::-1]
            projections.append(Conv2d(weight=flipped, stride=stride, padding=padding, **ends))
        else:
            projections.append(Dense(weight=weight, **ends))
        made: dict[str, Any] = {"name": name, "shape": tuple(reversed(layer.shape))}
        populations.append(
            Readout(overflow="saturate", **made)
            if layer.vth is None
            else SigmaDelta(
                vth=layer.vth * SCALE, bias=layer.bias * SCALE, state_exp=STATE_EXP, **made, **fixed
            )
        )
        source = name
    network = Network(populations=populations, projections=projections, max_steps=n_steps)
    return network, chain.x.transpose(3, 2, 1, 0)[None]


def in_lava(chain: Chain, folder: Path, timeout_s: float = 120) -> dict[str, Any]:
    """What Lava's own processes do: ``s0`` (messages of the input's Delta, ``(n_steps, C, H, W)``),
    ``s1``, ...; and their state variables after the last step, ``act0``, ``sigma1``, ...
    """
    arrays: dict[str, Any] = {"x": chain.x, "vth0": chain.vth}
    for number, layer in enumerate(chain.layers, 1):
        for name in ("weight", "shape", "vth", "bias", "stride", "padding"):
            value = getattr(layer, name)
            if value is not None:
                arrays[f"{name}{number}"] = value
    np.savez(folder / "chain.npz", **arrays)
    script = Path(__file__).with_name("lava_sigma_delta.py")
    subprocess.run(
        [find_python(), str(script), str(folder / "chain.npz"), str(folder / "done.npz")],
        check=True, timeout=timeout_s, stdout=sys.stderr,
    )  # fmt: skip
    with np.load(folder / "done.npz") as done:
        found = dict(done)
    for name, values in found.items():
        if name.startswith("s") and name[1].isdigit():
            values = np.moveaxis(values, -1, 0)
            axes = (0, 3, 2, 1) if values.ndim == 4 else (0, 1)
        else:
            axes = (2, 1, 0) if values.ndim == 3 else (0,)
        found[name] = values.transpose(axes)
    return found
