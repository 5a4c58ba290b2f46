"""What a quantization layer keeps and loses, in bits.

The paper that PMSM is reconstructed from (arXiv 2508.14520, abstract) measures the loss of
quantization as information entropy. Both estimates are given: from the histogram of the levels, and
from a Gaussian of the same mean and deviation as the values (what batch norm would give).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.figure_files import check_figure, write_figure
from pmsm_hw.nn.batches import as_tensor
from pmsm_hw.nn.evaluation import answer, check_module, evaluating
from pmsm_hw.nn.quantizer import PolarityQuant
from pmsm_hw.tables import table

__all__ = ["EntropyReport", "LayerEntropy", "entropy_report", "gaussian_bits", "histogram_bits"]

Floats: TypeAlias = NDArray[np.float64]

_BATCH = 256


def histogram_bits(counts: NDArray[Any]) -> Floats:
    """Entropy ``-sum P log2 P`` of histograms.

    Parameters
    ----------
    counts
        ``(..., n_levels)``, not negative; a histogram of zeros has 0 bits.

    Returns
    -------
    ndarray
        ``(...)`` float64.
    """
    result: Floats = _information(_shares(counts)).sum(-1)
    return result


def _shares(counts: NDArray[Any]) -> Floats:
    total = counts.sum(-1, keepdims=True, dtype=np.float64)
    shares: Floats = counts / np.maximum(total, 1e-300)
    return shares


def _information(shares: Floats) -> Floats:
    """``-P log2 P`` of each level."""
    safe = np.where(shares > 0, shares, 1.0)
    result: Floats = -safe * np.log2(safe)
    return result


def gaussian_bits(
    mean: NDArray[Any] | float,
    std: NDArray[Any] | float,
    levels: tuple[int, int],
    phi: float = 0.5,
) -> Floats:
    """Entropy of the levels of a Gaussian variable, both in units of theta.

    ``P_k = F(k + 1 - phi) - F(k - phi)`` with F the distribution of N(mean, std), the end levels
    open.

    Parameters
    ----------
    mean, std
        ``(...)`` of ``z / theta``.
    levels, phi
        ``(n, p)`` and shift of the quantizer.

    Returns
    -------
    ndarray
        ``(...)`` float64; 0 where ``std`` is 0.
    """
    n, p = levels
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    edges = np.arange(-n + 1, p + 1) - phi  # between neighbouring levels
    safe = np.where(std > 0, std, 1.0)
    scaled = torch.from_numpy((edges - mean[..., None]) / safe[..., None])
    below = torch.special.ndtr(scaled).numpy()
    ends = np.ones((*below.shape[:-1], 1))
    probability = np.diff(np.concatenate([0 * ends, below, ends], axis=-1), axis=-1)
    bits: Floats = _information(np.clip(probability, 0, 1)).sum(-1)
    return np.where(std > 0, bits, 0.0)


@dataclass(frozen=True, kw_only=True)
class LayerEntropy:
    """Information that one quantizer lets through.

    Parameters
    ----------
    name
        Module path.
    levels
        ``(n, p)``.
    counts
        ``(channels, n + p + 1)`` int64: how often each level was emitted, from -n to p.
    mean, std
        ``(channels,)`` of the values in units of theta.
    gaussian_by_channel
        ``(channels,)`` bits.
    gaussian
        Bits for the whole layer as one Gaussian.
    """

    name: str
    levels: tuple[int, int]
    counts: NDArray[np.int64]
    mean: Floats
    std: Floats
    gaussian_by_channel: Floats
    gaussian: float

    @property
    def maximum(self) -> float:
        """``log2(n + p + 1)`` bits: all levels equally often."""
        return float(np.log2(sum(self.levels) + 1))

    @property
    def by_channel(self) -> Floats:
        """Histogram entropy of each channel, bits."""
        return histogram_bits(self.counts)

    @property
    def bits(self) -> float:
        """Histogram entropy of the layer, all channels together."""
        return float(histogram_bits(self.counts.sum(0)))

    @property
    def loss(self) -> float:
        """``maximum - bits``."""
        return self.maximum - self.bits

    @property
    def relu_bits(self) -> float:
        """What a ReLU quantizer with the same theta and p keeps: levels up to 0 become one."""
        return float(histogram_bits(self._relu_counts().sum(0)))

    @property
    def relu_by_channel(self) -> Floats:
        """`relu_bits` of each channel."""
        return histogram_bits(self._relu_counts())

    @property
    def negative_share(self) -> float:
        """Share of the entropy that the negative levels carry: their ``-P log2 P`` over the sum."""
        information = _information(_shares(self.counts.sum(0)))
        total = float(information.sum())
        return float(information[: self.levels[0]].sum()) / total if total > 0 else 0.0

    @property
    def active_share(self) -> float:
        """Share of neurons that spike, ``P(k != 0)``."""
        return 1.0 - float(_shares(self.counts.sum(0))[self.levels[0]])

    @property
    def spikes_per_neuron(self) -> float:
        """Mean ``|k|``: unit spikes a neuron sends in a step."""
        n, p = self.levels
        return float((_shares(self.counts.sum(0)) * np.abs(np.arange(-n, p + 1))).sum())

    @property
    def n_silent_channels(self) -> int:
        """Channels that never leave level 0."""
        others = np.delete(self.counts, self.levels[0], axis=1)
        return int((others.sum(1) == 0).sum())

    def _relu_counts(self) -> NDArray[np.int64]:
        n = self.levels[0]
        merged = self.counts[:, : n + 1].sum(1, keepdims=True)
        return np.concatenate([merged, self.counts[:, n + 1 :]], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "levels": list(self.levels),
            "maximum_bits": self.maximum,
            "histogram_bits": self.bits,
            "gaussian_bits": self.gaussian,
            "loss_bits": self.loss,
            "relu_bits": self.relu_bits,
            "negative_share": self.negative_share,
            "active_share": self.active_share,
            "spikes_per_neuron": self.spikes_per_neuron,
            "n_silent_channels": self.n_silent_channels,
            "channels": {
                "histogram_bits": self.by_channel.tolist(),
                "gaussian_bits": self.gaussian_by_channel.tolist(),
                "relu_bits": self.relu_by_channel.tolist(),
                "mean": self.mean.tolist(),
                "std": self.std.tolist(),
                "counts": self.counts.tolist(),
            },
        }


@dataclass(frozen=True, kw_only=True)
class EntropyReport:
    """Entropy of every quantizer of a model, in the order in which they are first called.

    Parameters
    ----------
    layers
        One per quantizer.
    n_samples
        Inputs that went through.
    """

    layers: tuple[LayerEntropy, ...]
    n_samples: int

    def __iter__(self) -> Iterator[LayerEntropy]:
        """Iterate over the layers."""
        return iter(self.layers)

    def __repr__(self) -> str:
        bits = ", ".join(f"{layer.name} {layer.bits:.3f}" for layer in self.layers)
        return f"<EntropyReport over {self.n_samples:,} inputs, bits: {bits}>"

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.table)

    def table(self) -> str:
        """Text table, one line per layer."""
        header = (
            "layer", "(n, p)", "max, bits", "histogram", "Gaussian", "loss", "ReLU would keep",
            "in negatives, %", "active, %", "spikes/neuron", "silent channels",
        )  # fmt: skip
        rows = [
            (
                layer.name, f"({layer.levels[0]}, {layer.levels[1]})", layer.maximum, layer.bits,
                layer.gaussian, layer.loss, layer.relu_bits, 100 * layer.negative_share,
                100 * layer.active_share, layer.spikes_per_neuron, layer.n_silent_channels,
            )
            for layer in self.layers
        ]  # fmt: skip
        return table(header, rows, title=f"Entropy over {self.n_samples:,} inputs")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"n_samples": self.n_samples, "layers": [layer.to_dict() for layer in self.layers]}

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw entropy per layer (bars) and per channel (dots), the format chosen by the suffix.

        Parameters
        ----------
        path
            File ``.png``, ``.svg`` or ``.pdf``.

        Raises
        ------
        QuantizationError
            If matplotlib is missing.
        InputError
            If the suffix is another one.
        FormatError
            If the file cannot be written.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise QuantizationError(
                "plot", "matplotlib is not installed", remedy="pip install 'pmsm-hw[plot]'"
            ) from error
        check_figure(path)
        figure = Figure(figsize=(1.5 + 0.9 * len(self.layers), 4), layout="constrained")
        axes = figure.add_subplot()
        places = np.arange(len(self.layers))
        axes.bar(places - 0.2, [layer.bits for layer in self], 0.4, label="kept, with negatives")
        axes.bar(places + 0.2, [layer.relu_bits for layer in self], 0.4, label="ReLU would keep")
        axes.plot(places, [layer.maximum for layer in self], "k_", markersize=25, label="maximum")
        for place, layer in zip(places, self.layers, strict=True):
            bits = layer.by_channel
            axes.plot(np.full(len(bits), place - 0.2), bits, ".", color="0.3", markersize=3)
        axes.set_xticks(places, [layer.name for layer in self], rotation=45, ha="right")
        axes.set_ylabel("entropy, bits")
        axes.legend()
        write_figure(figure, path, dpi=100)


class _Tally:
    """Counts levels and moments of one quantizer."""

    def __init__(self, levels: tuple[int, int], phi: float) -> None:
        self.levels, self.phi = levels, phi
        self.counts: NDArray[np.int64] | None = None
        self.sum = self.square = np.zeros(0)

    def add(self, quantizer: PolarityQuant, x: Tensor, name: str) -> None:
        n, p = self.levels
        n_channels = x.shape[1] if x.ndim > 1 else 1
        r = (x / quantizer.theta_for(x.ndim)).transpose(0, 1).reshape(n_channels, -1)
        k = quantizer.spikes(x).transpose(0, 1).reshape(n_channels, -1)
        moments = r.to(torch.float64)
        n_bad = int((~torch.isfinite(moments)).sum())
        if n_bad:
            raise QuantizationError(
                f"quantizer '{name}'",
                f"gets {n_bad:,} values that are not finite, limit: 0",
                remedy="give clean data",
                actual=n_bad,
                limit=0,
            )
        width = n + p + 1
        index = (k + n).long() + torch.arange(n_channels, device=k.device)[:, None] * width
        counts = torch.bincount(index.reshape(-1), minlength=n_channels * width)
        found = counts.reshape(n_channels, width).cpu().numpy()
        if self.counts is None:
            self.counts = np.zeros_like(found)
            self.sum = self.square = np.zeros(n_channels)
        if found.shape != self.counts.shape:
            raise QuantizationError(
                f"quantizer '{name}'",
                f"gets {n_channels} channels, and {len(self.counts)} in another call",
                remedy="give each call a quantizer of its own (pmsm_hw.nn.quantize does)",
                actual=n_channels,
                limit=len(self.counts),
            )
        self.counts = self.counts + found
        self.sum = self.sum + moments.sum(1).cpu().numpy()
        self.square = self.square + moments.square().sum(1).cpu().numpy()

    def layer(self, name: str) -> LayerEntropy:
        assert self.counts is not None
        each = self.counts.sum(1)
        mean = self.sum / each
        std = np.sqrt(np.maximum(self.square / each - mean**2, 0))
        total_mean = self.sum.sum() / each.sum()
        total_std = np.sqrt(max(self.square.sum() / each.sum() - total_mean**2, 0))
        return LayerEntropy(
            name=name,
            levels=self.levels,
            counts=self.counts,
            mean=mean,
            std=std,
            gaussian_by_channel=gaussian_bits(mean, std, self.levels, self.phi),
            gaussian=float(gaussian_bits(total_mean, total_std, self.levels, self.phi)),
        )


def entropy_report(model: nn.Module, data: Any) -> EntropyReport:
    """Measure what each quantizer of a model keeps and loses.

    Parameters
    ----------
    model
        Has `PolarityQuant` modules, for example from `quantize`. Run in evaluation mode.
    data
        Inputs as one array, or anything that yields batches: inputs, or ``(inputs, labels)`` as a
        DataLoader does.

    Returns
    -------
    EntropyReport
        Prints as a table; ``to_json()``, ``plot(path)``.

    Raises
    ------
    QuantizationError
        If the model has no quantizer, one is never reached, or the data are empty or not finite.
    """
    check_module(model)
    quantizers = {n: m for n, m in model.named_modules() if isinstance(m, PolarityQuant)}
    if not quantizers:
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            "has 0 PolarityQuant modules, at least 1 is needed",
            remedy="quantize it first: pmsm_hw.nn.quantize(model, calibration=x)",
            actual=0,
            limit=1,
        )
    tallies: dict[str, _Tally] = {}

    def hook_of(name: str) -> Any:
        def hook(module: PolarityQuant, args: tuple[Tensor, ...]) -> None:
            tally = tallies.setdefault(name, _Tally(module.levels, module.phi))
            tally.add(module, args[0].detach(), name)

        return hook

    handles = [m.register_forward_pre_hook(hook_of(n)) for n, m in quantizers.items()]
    device = next(model.parameters()).device
    n_samples = 0
    try:
        with evaluating(model), torch.no_grad():
            for batch in _batches(data):
                n_samples += len(batch)
                if len(batch):
                    answer(model, batch.to(device))
    finally:
        for handle in handles:
            handle.remove()
    missed = [name for name in quantizers if name not in tallies]
    if n_samples == 0 or missed:
        raise QuantizationError(
            f"quantizer '{missed[0]}'" if missed else "data",
            f"{n_samples:,} inputs went in and {len(missed)} quantizers were not reached, "
            "limits: at least 1, and 0",
            remedy="give data, and remove unused activations from the model",
            actual=(n_samples, len(missed)),
            limit=(1, 0),
        )
    layers = tuple(tally.layer(name) for name, tally in tallies.items())
    return EntropyReport(layers=layers, n_samples=n_samples)


def _batches(data: Any) -> Iterable[Tensor]:
    if isinstance(data, Tensor | np.ndarray):
        inputs = as_tensor(data, "data")
        yield from torch.split(inputs, _BATCH)
        return
    for batch in data:
        inputs = batch[0] if isinstance(batch, tuple | list) else batch
        yield as_tensor(inputs, "data")
