"""What the accuracy benchmarks share: arguments, CIFAR-10 images, networks, resumable cells.

Each finished cell is kept in ``RESULTS/NAME.partial.json`` as soon as it is known, and trained
weights in ``--work``; running the same command again goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pmsm_hw import nn as pmsm

ROOT = Path(__file__).resolve().parents[1]
MAC_PJ, AC_PJ = 4.6, 0.9
"""Energy per multiply-accumulate and accumulate, 45 nm (Horowitz 2014)."""


def parser(description: str) -> argparse.ArgumentParser:
    """Options of every accuracy benchmark."""
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--quick", action="store_true", help="tiny; ends within a minute, means nothing")
    p.add_argument("--json", type=Path, required=True, metavar="OUT", help="where to write")
    p.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder of cifar10-jpeg-train.npz and -test.npz, or of MNIST's IDX files",
    )
    p.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "pmsm-hw-accuracy",
        help="folder for trained weights",
    )
    p.add_argument("--seeds", type=int, default=3, help="number of seeds")
    p.add_argument("--threads", type=int, default=1, help="threads that torch may use")
    p.add_argument(
        "--compile", action="store_true", help="fuse the quantizer's arithmetic with torch.compile"
    )
    p.add_argument("--report-only", action="store_true", help="write the table of what exists")
    return p


def prepare(args: argparse.Namespace) -> None:
    """Set threads, and compile the quantizer's functions if asked to: same values, sooner."""
    torch.set_num_threads(args.threads)
    if args.compile:
        from torch import _dynamo

        from pmsm_hw.nn import quantizer

        _dynamo.config.cache_size_limit = 64
        for name in ("quantize_levels", "payload", "_gradients"):
            setattr(quantizer, name, torch.compile(getattr(quantizer, name)))


class Cells:
    """Results by key, written to disk one by one.

    Parameters
    ----------
    out
        The final JSON file; cells go to ``NAME.partial.json`` beside it.
    settings
        Anything that changes the meaning of a cell; cells of other settings are refused.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.path = out.with_suffix(".partial.json")
        self.settings = json.loads(json.dumps(dict(settings)))
        self.done: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            kept = json.loads(self.path.read_text())
            if kept["settings"] != self.settings:
                raise SystemExit(f"{self.path} was made with other settings; move it away first")
            self.done = kept["cells"]

    def get(self, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Result of a cell, computed unless it is known."""
        if key not in self.done:
            start, cpu = time.perf_counter(), time.process_time()
            result = compute()
            result["seconds"] = round(time.perf_counter() - start, 1)
            result["cpu_seconds"] = round(time.process_time() - cpu, 1)
            self.done[key] = result
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(self.path.name + ".part")
            text = json.dumps({"settings": self.settings, "cells": self.done}, indent=1)
            part.write_text(text + "\n")
            part.replace(self.path)
            shown = {k: v for k, v in result.items() if not isinstance(v, dict | list)}
            print(time.strftime("%H:%M:%S"), key, shown, flush=True)
        return self.done[key]


def jpeg_cifar10(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Decode the JPEG copy of CIFAR-10.

    Arrays of the file: ``jpeg`` uint8 (all images end to end), ``offset`` int64 ``(n + 1,)``,
    ``label`` uint8.

    Returns
    -------
    tuple
        Images ``(n, 3, 32, 32)`` uint8 and labels ``(n,)`` int64.
    """
    import io

    from PIL import Image

    path = folder / f"cifar10-jpeg-{split}.npz"
    if not path.is_file():
        raise SystemExit(f"no {path}; give the folder with --data")
    with np.load(path, allow_pickle=False) as file:
        data, offset, label = file["jpeg"].tobytes(), file["offset"], file["label"]
    images = np.empty((len(label), 3, 32, 32), np.uint8)
    for i in range(len(label)):
        with Image.open(io.BytesIO(data[offset[i] : offset[i + 1]])) as image:
            images[i] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return images, label.astype(np.int64)


class Batches:
    """Shuffled, augmented batches of images kept in memory; a DataLoader in what `nn.train` needs.

    Parameters
    ----------
    images, labels
        ``(n, channels, height, width)`` uint8 and ``(n,)``.
    shift
        Largest random shift in pixels, with mirror images; 0 for no augmentation.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int,
        shift: int,
        mirror: bool,
    ) -> None:
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.shift, self.mirror = shift, mirror
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Batches of an epoch; the rest of the division is left out."""
        return len(self.labels) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch."""
        order = torch.randperm(len(self.labels), generator=self.generator)
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield as_input(self._augmented(self.images[rows])), self.labels[rows]

    def _augmented(self, x: Tensor) -> Tensor:
        n, s = len(x), self.shift
        if s:
            height, width = x.shape[2:]
            wide = nn.functional.pad(x, (s, s, s, s))
            down, right = torch.randint(0, 2 * s + 1, (2, n, 1), generator=self.generator)
            rows = down + torch.arange(height)
            columns = right + torch.arange(width)
            image = torch.arange(n)[:, None, None]
            moved = wide.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
            x = moved.permute(0, 3, 1, 2)
        if self.mirror:
            flip = torch.rand(n, generator=self.generator) < 0.5
            x = torch.where(flip[:, None, None, None], x.flip(3), x)
        return x


def as_input(images: Tensor) -> Tensor:
    """Pixel values 0..255 to float32 in [0, 1], channels last in memory."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


class Mixed(nn.Module):
    """Runs a model in bfloat16 where the processor is faster with it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float32."""
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            return self.model(x).float()


def outputs(model: nn.Module, images: Tensor, batch_size: int = 250) -> Tensor:
    """Logits in float32 of uint8 images, without gradients."""
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        return torch.cat([model(as_input(x.to(device))).cpu() for x in images.split(batch_size)])


def percent_right(logits: Tensor, labels: Tensor) -> float:
    """Accuracy in percent."""
    return round(100 * float((logits.argmax(1) == labels).double().mean()), 3)


def snn_percent(
    snn: nn.Module, images: Tensor, labels: Tensor, steps: Sequence[int], batch_size: int = 250
) -> tuple[dict[str, float], Tensor]:
    """Accuracy of an SNN after each of ``steps`` steps, from one long run, and its T=1 logits.

    The state at step t does not depend on how many steps follow, so the mean over the first t
    outputs of a long run is the answer of a run of t steps.
    """
    seen: list[Tensor] = []
    handle = snn.model.register_forward_hook(lambda m, a, out: seen.append(out.detach().cpu()))
    right = dict.fromkeys(steps, 0)
    first: list[Tensor] = []
    device = next(snn.parameters()).device
    try:
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            seen.clear()
            snn(as_input(x.to(device)), max(steps))
            first.append(seen[0])
            for t in steps:
                right[t] += int((sum(seen[:t]).argmax(1) == y).sum())
    finally:
        handle.remove()
    return {str(t): round(100 * right[t] / len(labels), 3) for t in steps}, torch.cat(first)


def fan_outs(model: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """Synapses of each quantizer output and input value, ``(*shape)``, by module name.

    Counts paths to the next quantizers and the outputs with every weight set to one (average
    pooling folded into the layer that follows it), by back-propagation through a copy.
    """
    import copy

    counting = copy.deepcopy(model).eval()
    sources: dict[str, Tensor] = {}
    sinks: list[Tensor] = []

    def swap(module: nn.Module, args: tuple[Tensor, ...], name: str, is_input: bool) -> Tensor:
        (x,) = args
        if not is_input:
            sinks.append(x)
        sources[name] = torch.ones_like(x, requires_grad=True)
        return sources[name]

    for name, module in counting.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.ones_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.eps = 0.0
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.AvgPool2d):
            module.divisor_override = 1
        elif isinstance(module, pmsm.PolarityQuant | pmsm.InputQuant):
            is_input = isinstance(module, pmsm.InputQuant)
            module.register_forward_hook(
                lambda m, a, out, name=name, is_input=is_input: swap(m, a, name, is_input)
            )
    out = counting(example[:1])
    total = sum(s.sum() for s in sinks) + out.sum()
    grads = torch.autograd.grad(total, list(sources.values()))
    return {name: g[0] for name, g in zip(sources, grads, strict=True)}


def operations(
    snn: Any, fan_out: Mapping[str, Tensor], images: Tensor, n_steps: int
) -> dict[str, float]:
    """Synaptic operations and energy per image, as the literature counts them.

    The first layer takes the analog image: 4.6 pJ per multiply-accumulate, at each step. Spikes
    cost 0.9 pJ per accumulate: ``|k| * fan-out`` as unit spikes, fan-out per graded spike.
    """
    result = snn.run(as_input(images), n_steps)
    unit = graded = macs = n_spikes = n_neurons = 0.0
    for name, fan in fan_out.items():
        if name not in result.spikes:
            raise SystemExit(f"no spikes recorded for {name}")
        k = torch.from_numpy(result.spikes[name])
        if name.endswith("_quant"):
            macs += float(fan.sum()) * n_steps
            continue
        unit += float((k.abs() * fan).sum()) / len(images)
        graded += float(((k != 0) * fan).sum()) / len(images)
        n_spikes += float((k != 0).sum()) / len(images)
        n_neurons += k[0, 0].numel()
    return {
        "mac_millions": macs / 1e6,
        "unit_sop_millions": unit / 1e6,
        "graded_sop_millions": graded / 1e6,
        "active_share": n_spikes / n_neurons / n_steps,
        "energy_unit_uj": (macs * MAC_PJ + unit * AC_PJ) / 1e6,
        "energy_graded_uj": (macs * MAC_PJ + graded * AC_PJ) / 1e6,
    }


def mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    """``mean ± sample standard deviation (n)``."""
    if not values:
        return ""
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return f"{mean} (1 seed)"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f} ({len(values)})"


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a state dict, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(model.state_dict(), part)
    os.replace(part, path)


def load_weights(path: Path, model: nn.Module) -> nn.Module:
    """Read a state dict into a model; evaluation mode."""
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()
