"""What conversion did to each population."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pmsm_hw.convert.expressions import Channelwise, Map, Pool
from pmsm_hw.convert.integer import IntegerModel
from pmsm_hw.convert.lowering import NeuronPlan, ReadoutPlan
from pmsm_hw.convert.rounding import RoundedNeurons, RoundedReadout
from pmsm_hw.network import Network, PolarityMultiSpike, Readout
from pmsm_hw.nn.evaluation import evaluating
from pmsm_hw.nn.quantization import recorded
from pmsm_hw.reference import simulate, units_of
from pmsm_hw.tables import table

__all__ = ["ConversionReport", "PopulationReport", "report_on"]


@dataclass(frozen=True, kw_only=True)
class PopulationReport:
    """One population after conversion.

    Parameters
    ----------
    name, kind
        As in the network; a relay, which sends sums of pooling windows, is called ``"relay"``.
    n_neurons
        Number of neurons.
    fractional_bits
        Bits that threshold and bias keep beyond the weights; negative where weights lost that many
        bits because the state would not fit otherwise.
    weight_error
        Root mean square of the weights' rounding errors over that of the weights; None without
        weights.
    theta_error
        Largest relative rounding error of a threshold; None without thresholds of its own.
    u_min, u_max
        Proven range of the state.
    saturates
        Whether the proof failed and the state is clipped instead.
    n_dead_channels
        Channels that never fire on the calibration batch.
    entropy_bits
        Entropy of the spikes on the calibration batch.
    max_entropy_bits
        Its maximum, ``log2(n + p + 1)``.
    differing_spikes
        Share of spikes that differ from the quantized model with real-valued weights, at the first
        step on the calibration batch; None for relays.
    """

    name: str
    kind: str
    n_neurons: int
    fractional_bits: int
    weight_error: float | None
    theta_error: float | None
    u_min: int
    u_max: int
    saturates: bool
    n_dead_channels: int | None
    entropy_bits: float | None
    max_entropy_bits: float | None
    differing_spikes: float | None


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What conversion did, population by population.

    Parameters
    ----------
    network_name
        For people.
    weight_bits, per_channel, max_steps, rule
        The settings.
    n_calibration
        Samples in the batch that dead channels, entropy and differing spikes were counted on.
    n_neurons, n_synapses
        Of the network.
    differing_predictions
        Share of calibration samples whose prediction differs from the quantized model's.
    populations
        All but inputs, in topological order.
    """

    network_name: str
    weight_bits: int
    per_channel: bool
    max_steps: int
    rule: str
    n_calibration: int
    n_neurons: int
    n_synapses: int
    differing_predictions: float
    populations: tuple[PopulationReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain dicts, lists and numbers."""
        found = asdict(self)
        found["populations"] = [dict(p) for p in found["populations"]]
        return found

    def __str__(self) -> str:
        """Table of populations."""
        rows = [
            (
                p.name,
                p.kind,
                p.n_neurons,
                p.fractional_bits,
                _percent(p.weight_error),
                _percent(p.theta_error),
                f"[{p.u_min:,}, {p.u_max:,}]" + (" saturates" if p.saturates else ""),
                "" if p.n_dead_channels is None else p.n_dead_channels,
                ""
                if p.entropy_bits is None
                else f"{p.entropy_bits:.2f} of {p.max_entropy_bits:.2f}",
                _percent(p.differing_spikes),
            )
            for p in self.populations
        ]
        header = (
            "population", "kind", "neurons", "fraction bits", "weight error", "theta error",
            "state", "dead channels", "entropy, bits", "differing spikes",
        )  # fmt: skip
        title = (
            f"{self.network_name}: {self.weight_bits}-bit weights, rule {self.rule}, up to "
            f"{self.max_steps} steps, {self.n_neurons:,} neurons, {self.n_synapses:,} synapses; "
            f"{self.differing_predictions:.2%} of predictions on {self.n_calibration:,} samples "
            "differ from the model with real-valued weights"
        )
        return table(header, rows, title=title)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.3%}"


def report_on(integer: IntegerModel, network: Network) -> ConversionReport:
    """Compare a network with the model it came from, on the model's example batch.

    Parameters
    ----------
    integer
        The model.
    network
        From ``integer.network()``.
    """
    with evaluating(integer), torch.no_grad():
        rounded, output = integer.rounded()
        with recorded(integer.model) as float_spikes:
            wanted = integer.model(*integer.examples)
    float_shapes = {name: k.cpu().numpy() for name, k in float_spikes.items()}
    inputs = {
        p.name: x.detach().cpu().numpy()
        for p, x in zip(network.inputs, integer.examples, strict=True)
    }
    differing_predictions = 0.0
    entries: list[PopulationReport] = []
    for activity in simulate(network, units_of(network, inputs, 1), 1):
        population = network[activity.name]
        plan = rounded[activity.name]
        bound = network.bounds[activity.name]
        spikes = activity.spikes[:, 0]
        if isinstance(population, Readout):
            assert isinstance(plan, RoundedReadout)
            logits = activity.state * population.scale
            if isinstance(output, str):
                differing_predictions = _differing_predictions(logits, wanted)
        elif not isinstance(population, PolarityMultiSpike):
            continue
        is_neurons = isinstance(plan, RoundedNeurons) and isinstance(plan.plan, NeuronPlan)
        levels = population.levels if isinstance(population, PolarityMultiSpike) else None
        counted = isinstance(population, PolarityMultiSpike) and is_neurons
        entries.append(
            PopulationReport(
                name=activity.name,
                kind=population.kind if is_neurons or isinstance(plan, RoundedReadout) else "relay",
                n_neurons=population.n_neurons,
                fractional_bits=integer.exponents.get(activity.name, 0)
                if not isinstance(plan, RoundedNeurons) or is_neurons
                else 0,
                weight_error=_weight_error(plan),
                theta_error=_theta_error(plan),
                u_min=bound.u_min,
                u_max=bound.u_max,
                saturates=activity.name in integer.saturated,
                n_dead_channels=_dead_channels(spikes) if counted else None,
                entropy_bits=_entropy_bits(spikes) if counted else None,
                max_entropy_bits=float(np.log2(sum(levels) + 1)) if counted and levels else None,
                differing_spikes=_differing(spikes, float_shapes.get(activity.name))
                if counted
                else None,
            )
        )
    return ConversionReport(
        network_name=network.name,
        weight_bits=integer.settings.weight_bits,
        per_channel=integer.settings.per_channel,
        max_steps=integer.settings.max_steps,
        rule=integer.settings.rule,
        n_calibration=len(integer.examples[0]),
        n_neurons=network.n_neurons,
        n_synapses=network.n_synapses,
        differing_predictions=differing_predictions,
        populations=tuple(entries),
    )


def _differing_predictions(logits: NDArray[np.float64], wanted: Any) -> float:
    if not isinstance(wanted, Tensor):
        return 0.0
    ours = logits.reshape(len(logits), -1).argmax(1)
    theirs = wanted.detach().cpu().numpy().reshape(len(logits), -1).argmax(1)
    return float((ours != theirs).mean())


def _differing(spikes: NDArray[np.int32], wanted: NDArray[Any] | None) -> float | None:
    if wanted is None:
        return None
    return float((spikes != wanted.reshape(spikes.shape)).mean())


def _dead_channels(spikes: NDArray[np.int32]) -> int:
    channels = np.moveaxis(spikes, 1, 0).reshape(spikes.shape[1], -1)
    return int((~channels.any(axis=1)).sum())


def _entropy_bits(spikes: NDArray[np.int32]) -> float:
    _, counts = np.unique(spikes, return_counts=True)
    share = counts / counts.sum()
    return float(abs((share * np.log2(share)).sum()))


def _numbers(map_: Map) -> Tensor:
    return map_.scale if isinstance(map_, Channelwise | Pool) else map_.weight  # type: ignore[union-attr]


def _weight_error(plan: Any) -> float | None:
    """Over all projections, weights in the unit of each output channel."""
    if not isinstance(plan, RoundedNeurons | RoundedReadout):
        return None
    if not isinstance(plan.plan, NeuronPlan | ReadoutPlan):
        return None
    error, size = 0.0, 0.0
    channels = plan.plan.drive.shape[0]
    for projection, term in zip(plan.projections, plan.plan.drive.terms, strict=True):
        real, integers = _numbers(term.map).detach(), _numbers(projection.map).detach()
        unit = plan.unit.expand(channels) * (1 << projection.exponent)
        if isinstance(term.map, Channelwise | Pool):
            unit = unit[term.map.offset : term.map.offset + len(real)]
        else:
            unit = unit.repeat_interleave(len(real) // channels)
        unit = unit.reshape((-1,) + (1,) * (real.ndim - 1))
        error += float(((integers * unit - real) ** 2).sum())
        size += float((real**2).sum())
    return (error / size) ** 0.5 if size > 0 else None


def _theta_error(plan: Any) -> float | None:
    if not isinstance(plan, RoundedNeurons) or not isinstance(plan.plan, NeuronPlan):
        return None
    theta = plan.plan.theta.detach().reshape(-1)
    return float((plan.theta.detach().reshape(-1) * plan.unit / theta - 1).abs().max())
