"""What conversion did to each population."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pmsm_hw.convert.integer import IntegerModel
from pmsm_hw.convert.proof import Proof
from pmsm_hw.convert.rounding import NOISE, RoundedNeurons, RoundedReadout
from pmsm_hw.convert.weights import numbers
from pmsm_hw.errors import ConversionError
from pmsm_hw.network import Input, Network, PolarityMultiSpike, Readout
from pmsm_hw.nn.calibration import recorded
from pmsm_hw.nn.evaluation import answers, evaluating
from pmsm_hw.nn.expressions import Channelwise, Pool
from pmsm_hw.nn.lowering import NeuronPlan, ReadoutPlan
from pmsm_hw.reference import Activity, simulate, units_of
from pmsm_hw.tables import table

__all__ = ["ConversionReport", "PopulationReport", "report_on"]


HIGH_LOSS = 0.05
"""Share of differing predictions above which a report warns."""

HIGH_WEIGHT_ERROR = 0.1
"""The same for a population's weight error, where it can be felt."""

HIGH_THETA_ERROR = 0.05
"""The same for its theta error."""


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
    drive_error
        Largest difference on the calibration batch between what reaches a neuron in the network
        and in the quantized model, for the same spikes, relative to theta; for readouts relative
        to the largest logit. It is what rounding does; None for relays.
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
    drive_error: float | None


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
        Share of calibration samples whose prediction differs from the quantized model's; None where
        the model has several outputs.
    populations
        All but inputs, in topological order.
    notes
        What else was done to the model, as a softmax that was left out.
    from_integer_model
        Whether an integer model was converted, which the network equals: the differences are to
        its real-valued weights, which nobody runs.
    """

    network_name: str
    weight_bits: int
    per_channel: bool
    max_steps: int
    rule: str
    n_calibration: int
    n_neurons: int
    n_synapses: int
    differing_predictions: float | None
    populations: tuple[PopulationReport, ...]
    notes: tuple[str, ...] = ()
    from_integer_model: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is likely to cost accuracy, with what to do about it."""
        if self.from_integer_model:
            return ()
        found = []
        usual = 1.5 / ((1 << (self.weight_bits - 1)) - 1)  # of weights that use all their bits
        limit = max(HIGH_WEIGHT_ERROR, usual)
        for p in self.populations:
            if (p.weight_error or 0.0) > limit and (p.drive_error or 0.0) > NOISE:
                found.append(
                    f"warning: population '{p.name}': rounding changes weights by "
                    f"{p.weight_error:.1%} (root mean square), above {limit:.0%}; use fewer input "
                    "levels, or scale the layer's outlying weights and biases down"
                )
            if (p.theta_error or 0.0) > HIGH_THETA_ERROR:
                found.append(
                    f"warning: population '{p.name}': rounding changes a threshold by "
                    f"{p.theta_error:.1%}, above {HIGH_THETA_ERROR:.0%}; scale the weights of "
                    "that channel down"
                )
        share = self.differing_predictions
        if share is None or share <= HIGH_LOSS:
            return tuple(found)
        return (
            *found,
            f"warning: {share:.1%} of predictions on the calibration batch differ from the model "
            f"before rounding, above {HIGH_LOSS:.0%}; fine-tune with the integers, in Python: "
            "integer = pmsm_hw.convert.integer_model(quantized, x); "
            "pmsm_hw.nn.finetune(integer, data, epochs=1); pmsm_hw.convert.convert(integer)",
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain dicts, lists and numbers; ``warnings`` beside the fields."""
        found = asdict(self)
        found["populations"] = [dict(p) for p in found["populations"]]
        found["warnings"] = self.warnings
        return found

    def __repr__(self) -> str:
        return (
            f"<ConversionReport of '{self.network_name}': {self.n_neurons:,} neurons, "
            f"{self.weight_bits}-bit weights, rule {self.rule}, {self.n_calibration:,} samples>"
        )

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.__str__)

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
                _percent(p.drive_error),
                _percent(p.differing_spikes),
            )
            for p in self.populations
        ]
        header = (
            "population", "kind", "neurons", "fraction bits", "weight error", "theta error",
            "state", "dead channels", "entropy, bits", "input error", "differing spikes",
        )  # fmt: skip
        title = (
            f"{self.network_name}: {self.weight_bits}-bit weights, rule {self.rule}, up to "
            f"{self.max_steps} steps, {self.n_neurons:,} neurons, {self.n_synapses:,} synapses; "
            f"{self.n_calibration:,} samples"
        )
        if self.differing_predictions is not None:
            title += (
                f", {self.differing_predictions:.2%} of predictions differ from the model with "
                "real-valued weights"
            )
        return "\n".join((table(header, rows, title=title), *self.notes, *self.warnings))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.3%}"


class _Tally:
    """Counts of one population, over parts of the batch."""

    def __init__(self, n_channels: int) -> None:
        self.n_spikes = 0
        self.n_differing = 0
        self.histogram: Counter[int] = Counter()
        self.alive = np.zeros(n_channels, np.bool_)

    def add(self, spikes: NDArray[np.int32], wanted: NDArray[Any]) -> None:
        """Count ``(batch, channels, ...)`` spikes beside those of the quantized model."""
        self.n_spikes += spikes.size
        self.n_differing += int(np.count_nonzero(spikes != wanted.reshape(spikes.shape)))
        values, counts = np.unique(spikes, return_counts=True)
        self.histogram.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        self.alive |= np.moveaxis(spikes, 1, 0).reshape(spikes.shape[1], -1).any(axis=1)

    @property
    def entropy_bits(self) -> float:
        """Entropy of the histogram."""
        share = np.array(list(self.histogram.values())) / self.n_spikes
        return float(abs((share * np.log2(share)).sum()))


def report_on(
    integer: IntegerModel, network: Network, *, from_integer_model: bool = False
) -> ConversionReport:
    """Compare a network with the model it came from, on the model's example batch.

    Parameters
    ----------
    integer
        The model.
    network
        From ``integer.network()``.
    from_integer_model
        See `ConversionReport`.
    """
    with evaluating(integer), torch.no_grad():
        rounded, output = integer.rounded()
        tallies = {
            name: _Tally(plan.plan.shape[0])
            for name, plan in rounded.items()
            if isinstance(plan, RoundedNeurons) and isinstance(plan.plan, NeuronPlan)
        }
        n_samples = len(integer.examples[0])
        n_differing = 0

        def watch(
            part: Sequence[Tensor], spikes: Mapping[str, Tensor], drives: Mapping[str, Tensor]
        ) -> None:
            nonlocal n_differing
            n_differing += _compare(integer, network, part, output, tallies, spikes, drives)

        proof = integer.prove(watch)
    return ConversionReport(
        network_name=network.name,
        weight_bits=integer.settings.weight_bits,
        per_channel=integer.settings.per_channel,
        max_steps=integer.settings.max_steps,
        rule=integer.settings.rule,
        n_calibration=n_samples,
        n_neurons=network.n_neurons,
        n_synapses=network.n_synapses,
        differing_predictions=n_differing / n_samples if isinstance(output, str) else None,
        populations=tuple(
            _entry(integer, network, p.name, rounded[p.name], tallies.get(p.name), proof)
            for p in network.topological
            if not isinstance(p, Input)
        ),
        notes=tuple(getattr(integer.model, "meta", {}).get("notes", ())),
        from_integer_model=from_integer_model,
    )


def _compare(
    integer: IntegerModel,
    network: Network,
    examples: Sequence[Tensor],
    output: Any,
    tallies: dict[str, _Tally],
    spikes: Mapping[str, Tensor],
    drives: Mapping[str, Tensor],
) -> int:
    """Count the spikes of a part of the batch; return how many predictions differ.

    The network must compute what the integers that it was made of do, to the last spike.
    """
    with recorded(integer.model) as recording:
        wanted = answers(integer.model, examples, ConversionError, what="example_input")
    inputs = {
        p.name: x.detach().cpu().numpy() for p, x in zip(network.inputs, examples, strict=True)
    }
    n_differing = 0
    is_exact = True
    for activity in simulate(network, units_of(network, inputs, 1), 1):
        population = network[activity.name]
        is_exact = is_exact and activity.name not in integer.saturated
        if is_exact and not isinstance(population, Input):
            _check_exact(activity, spikes, drives)
        if activity.name in tallies:
            theirs = recording[activity.name].cpu().numpy()
            tallies[activity.name].add(activity.spikes[:, 0], theirs)
        elif isinstance(population, Readout) and isinstance(output, str):
            logits = (activity.state * population.scale).reshape(len(activity.state), -1)
            best = wanted.detach().cpu().numpy().reshape(len(logits), -1).argmax(1)
            n_differing += int(np.count_nonzero(logits.argmax(1) != best))
    return n_differing


def _check_exact(
    activity: Activity, spikes: Mapping[str, Tensor], drives: Mapping[str, Tensor]
) -> None:
    """Raise where a population of the network is not what the integers give."""
    name = activity.name
    if name in spikes:
        ours, theirs = cast("NDArray[Any]", activity.spikes[:, 0]), spikes[name]
    else:
        ours, theirs = activity.state, drives[name]
    wanted = theirs.cpu().numpy().reshape(ours.shape)
    n_differing = int(np.count_nonzero(ours != wanted))
    if n_differing:
        raise ConversionError(
            f"population '{name}'",
            f"{n_differing:,} of {ours.size:,} values of the network are not those of the integers "
            "it was made of, limit: 0",
            remedy="report this model: it is an error of pmsm-hw",
            actual=n_differing,
            limit=0,
        )


def _entry(
    integer: IntegerModel,
    network: Network,
    name: str,
    plan: Any,
    tally: _Tally | None,
    proof: Proof,
) -> PopulationReport:
    population, bound = network[name], network.bounds[name]
    is_relay = isinstance(population, PolarityMultiSpike) and tally is None
    top = None
    if isinstance(population, PolarityMultiSpike) and tally is not None:
        top = float(np.log2(sum(population.levels) + 1))
    return PopulationReport(
        name=name,
        kind="relay" if is_relay else population.kind,
        n_neurons=population.n_neurons,
        fractional_bits=plan.exponent,
        weight_error=_weight_error(plan),
        theta_error=_theta_error(plan),
        u_min=bound.u_min,
        u_max=bound.u_max,
        saturates=name in integer.saturated,
        n_dead_channels=None if tally is None else int((~tally.alive).sum()),
        entropy_bits=None if tally is None else tally.entropy_bits,
        max_entropy_bits=top,
        differing_spikes=None if tally is None else tally.n_differing / tally.n_spikes,
        drive_error=proof.drive_error(name),
    )


def _weight_error(plan: Any) -> float | None:
    """Over all projections, weights in the unit of each output channel."""
    if not isinstance(plan, RoundedNeurons | RoundedReadout):
        return None
    if not isinstance(plan.plan, NeuronPlan | ReadoutPlan):
        return None
    error, size = 0.0, 0.0
    channels = plan.plan.drive.shape[0]
    for projection, term in zip(plan.projections, plan.plan.drive.terms, strict=True):
        real, integers = numbers(term.map).detach(), numbers(projection.map).detach()
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
