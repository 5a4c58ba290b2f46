"""Whether integers compute what the quantized model does, on its example batch.

Three passes, all fed with the same spikes, those of the integer network, so that a spike that falls
on the other side of its threshold cannot spread: the integers, the quantized model in float64, and
the linear maps that the integers were rounded from. Model and maps must agree but for the noise of
float64. Integers and maps may differ by what rounding each number to its step makes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pmsm_hw.convert.rounding import (
    NOISE,
    Rounded,
    RoundedNeurons,
    RoundedReadout,
)
from pmsm_hw.convert.summing import summed
from pmsm_hw.convert.weights import driven, numbers
from pmsm_hw.errors import ConversionError
from pmsm_hw.nn.batches import parts
from pmsm_hw.nn.drives import applied
from pmsm_hw.nn.evaluation import answers, evaluating
from pmsm_hw.nn.expressions import Channelwise, Expression, Pool
from pmsm_hw.nn.lowering import InputPlan, Lowering, NeuronPlan, Plan, ReadoutPlan
from pmsm_hw.nn.mutations import run_nodes
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant, payload
from pmsm_hw.nn.tracing import few

__all__ = ["Proof", "Watch", "prove"]

FLOAT64_TOLERANCE = 1e-6
"""Of a population's largest input: how far model and maps may be apart.

The noise of float64 is far below; weights that a model computes (weight norm, a mask) are taken in
the model's own type, which is float32 as a rule."""

OWN_TOLERANCE = 1e-3
"""The same for a model that only runs in its own type."""

Watch: TypeAlias = "Callable[[Sequence[Tensor], Mapping[str, Tensor], Mapping[str, Tensor]], None]"

_CHUNK_BYTES = 256 << 20
"""Memory that the comparison may take beside the model: larger batches are taken in parts."""


@dataclass
class Proof:
    """What a comparison found.

    Parameters
    ----------
    errors, units
        By population: largest difference on the batch between the input in integers and in the
        quantized model, for the same spikes; of neurons in units of theta. Largest logit.
    """

    errors: dict[str, float] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, error: float, unit: float) -> None:
        """Take in one part of the batch."""
        self.errors[name] = max(error, self.errors.get(name, 0.0))
        self.units[name] = max(unit, self.units.get(name, 0.0))

    def drive_error(self, name: str) -> float | None:
        """Largest difference between what reaches a population in integers and in the model.

        For the same spikes; relative to theta, or for a readout to the largest logit.

        Parameters
        ----------
        name
            Of the population; None is the answer for a relay, which is exact.
        """
        if name not in self.errors:
            return None
        return self.errors[name] / self.units[name] if self.units[name] else 0.0


def prove(
    model: nn.Module,
    lowering: Lowering,
    plan: Plan,
    rounded: Mapping[str, Rounded],
    examples: Sequence[Tensor],
    watch: Watch | None = None,
) -> Proof:
    """Compare integers, maps and model on a batch.

    Parameters
    ----------
    model
        Quantized. Not changed.
    lowering, plan
        What was made of it, with the parameters of the moment.
    rounded
        Integers made of the plan.
    examples
        One batch per input.
    watch
        Is called for each part of the batch with the part, the spikes of every population and the
        inputs of all but the input populations, in units of their state.

    Raises
    ------
    ConversionError
        Naming the first module or operation where values part.
    """
    limited: dict[str, Tensor] = {}
    for name, population in rounded.items():
        if isinstance(population, RoundedNeurons | RoundedReadout):
            _check_rounding(name, population, limited)
            _check_lost(name, population, rounded)
    proof = Proof()
    n_bytes = 32 * sum(math.prod(_shape(p)) for p in rounded.values())
    n_chunk = max(2, _CHUNK_BYTES // n_bytes)
    exact, tolerance = _in_float64(model, examples)
    with evaluating(exact), torch.no_grad():
        for samples in parts(len(examples[0]), n_chunk):
            part = tuple(x[samples] for x in examples)
            _compare(exact, lowering, plan, rounded, part, tolerance, limited, proof, watch)
    return proof


def _in_float64(model: nn.Module, examples: Sequence[Tensor]) -> tuple[nn.Module, float]:
    """A copy in float64 and its tolerance; in the model's own type where it insists on that."""
    exact = copy.deepcopy(model)
    try:
        inputs = tuple(x.double() for x in few(examples))
        answers(exact.double(), inputs, ConversionError, what="example_input")
    except (ConversionError, RuntimeError, TypeError):  # casts of its own, a device without float64
        return copy.deepcopy(model), OWN_TOLERANCE
    return exact, FLOAT64_TOLERANCE


def _shape(population: Rounded) -> tuple[int, ...]:
    return population.shape if isinstance(population, InputPlan) else population.plan.shape


def _compare(
    model: nn.Module,
    lowering: Lowering,
    plan: Plan,
    rounded: Mapping[str, Rounded],
    batch: Sequence[Tensor],
    tolerance: float,
    limited: Mapping[str, Tensor],
    proof: Proof,
    watch: Watch | None,
) -> None:
    dtype = next((p.dtype for p in model.parameters()), torch.float64)
    sent: dict[str, Tensor] = {}
    spikes: dict[str, Tensor] = {}
    drives: dict[str, Tensor] = {}
    shown: list[Tensor] = []
    inputs = iter(batch)
    for name, population in rounded.items():
        if isinstance(population, InputPlan):
            units = InputQuant(population.scale, population.levels).units(next(inputs).double())
            sent[name] = spikes[name] = units
            shown.append((units * population.scale).to(dtype))
            continue
        drives[name] = summed(population, sent)
        if isinstance(population, RoundedNeurons):
            n, p = population.levels
            k = torch.floor((population.start + drives[name]) / population.theta).clamp_(-n, p)
            spikes[name], sent[name] = k, payload(k, population.gains)
    with _fed(model, lowering, sent) as wanted:
        answered = answers(model, shown, ConversionError, what="example_input")
        returned = _named(model, plan.output, answered)
    if watch is not None:
        watch(batch, spikes, drives)
    for name, planned in plan.populations.items():
        if not isinstance(planned, NeuronPlan | ReadoutPlan):
            continue
        ours, size = _evaluated(planned.drive, sent)
        theirs = (wanted if isinstance(planned, NeuronPlan) else returned)[name]
        off = _apart(theirs.double().reshape(ours.shape), ours, size)
        if not off <= tolerance:
            raise ConversionError(
                _first(model, lowering, sent, shown, tolerance) or f"population '{name}'",
                f"computes something else in the model than in its conversion: {off:.2g} of the "
                f"largest value, limit: {tolerance}",
                remedy="write it as plain torch operations that return new values",
                actual=off,
                limit=tolerance,
            )
        integers = rounded[name]
        assert isinstance(integers, RoundedNeurons | RoundedReadout)
        column = _column(integers.unit, ours.ndim)
        error = (drives[name] * column - ours).abs()
        if name in limited and isinstance(planned, NeuronPlan):
            _check_limited(name, planned, ours, spikes[name], limited[name])
            error = torch.where(limited[name], 0.0, error)
        if isinstance(planned, NeuronPlan):
            error, unit = error / _column(planned.theta, ours.ndim), 1.0
        else:
            unit = float(ours.abs().max())
        proof.add(name, float(error.max()), unit)


def _column(per_channel: Tensor, ndim: int) -> Tensor:
    return per_channel if not per_channel.ndim else per_channel.reshape((-1,) + (1,) * (ndim - 2))


def _evaluated(drive: Expression, sent: Mapping[str, Tensor]) -> tuple[Tensor, float]:
    """Value ``(batch, *shape)`` for the payloads of its sources, and the largest of its summands.

    The summands say how much noise the sum may have, also where it is zero.
    """
    batch = next(iter(sent.values()))
    parts = [applied(t.map, sent[t.source], drive.shape) for t in drive.terms]
    if drive.bias is not None or not parts:
        parts.append(batch.new_zeros(()) if drive.bias is None else drive.bias)
    total = sum(parts[1:], parts[0]).expand(len(batch), *drive.shape)
    return total, max(float(part.abs().max()) for part in parts)


def _apart(wanted: Tensor, got: Tensor, size: float) -> float:
    """Largest difference relative to the largest value, or to the largest summand."""
    largest = max(float(wanted.abs().max()), size, 1e-300)
    return float((wanted - got).abs().max()) / largest


@contextmanager
def _fed(
    model: nn.Module, lowering: Lowering, sent: Mapping[str, Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Let quantizers answer with given payloads, and collect what reached them."""
    reached: dict[str, Tensor] = {}
    n_calls: dict[str, int] = {}

    def hook_of(path: str) -> Any:
        def hook(module: PolarityQuant, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            i = n_calls[path] = n_calls.get(path, -1) + 1
            name = lowering.population_of.get((path, i))
            if name is None or name not in sent:
                return output  # nothing that the output needs
            reached[name] = args[0].detach().clone()
            unit = module.theta_for(args[0].ndim) / module.gains[0]
            return sent[name].reshape(args[0].shape).to(output.dtype) * unit

        return hook

    handles = [
        module.register_forward_hook(hook_of(path), prepend=True)  # hooks of the user count
        for path, module in model.named_modules()
        if isinstance(module, PolarityQuant)
    ]
    try:
        yield reached
    finally:
        for handle in handles:
            handle.remove()


def _named(model: nn.Module, output: Any, answers: Any) -> dict[str, Tensor]:
    """Tensors that a model returned, by the names of their readouts."""
    if isinstance(output, str) and isinstance(answers, Tensor):
        return {output: answers}
    keys = list(output) if isinstance(output, dict) else list(range(len(output)))
    is_sequence = isinstance(answers, tuple | list) and list(range(len(answers))) == keys
    is_mapping = isinstance(answers, Mapping) and list(answers) == keys
    if isinstance(output, str) or not (is_sequence or is_mapping):
        raise ConversionError(
            f"model '{type(model).__name__}'",
            f"returns a {type(answers).__name__} that its graph does not",
            remedy="return what its forward method computes, without hooks that change it",
            actual=type(answers).__name__,
            limit="what was traced",
        )
    return {n: t for key in keys for n, t in _named(model, output[key], answers[key]).items()}


def _first(
    model: nn.Module,
    lowering: Lowering,
    sent: Mapping[str, Tensor],
    shown: Sequence[Tensor],
    tolerance: float,
) -> str | None:
    """The first operation of the graph whose value is not what lowering made of it."""
    values: dict[Any, Any] = {}
    lowering.plan(values)
    with _fed(model, lowering, sent):
        inputs = [x.clone() for x in shown]
        for node, value in run_nodes(model, lowering.graph, inputs, ConversionError):
            ours = values.get(node)
            if not isinstance(ours, Expression):
                continue
            if any(t.source not in sent for t in ours.terms):
                continue
            got, size = _evaluated(ours, sent)
            if not _apart(value.double().reshape(got.shape), got, size) <= tolerance:
                return lowering.subject(node)
    return f"model '{type(lowering.model).__name__}'"


# ---------------------------------------------------------------------------------------------
# Rounding
# ---------------------------------------------------------------------------------------------


def _check_limited(
    name: str, plan: NeuronPlan, drive: Tensor, spikes: Tensor, limited: Tensor
) -> None:
    """Neurons whose bias is so far out that they always fire alike may have a nearer one."""
    theta, (n, p) = _column(plan.theta, drive.ndim), plan.quantizer.levels
    wanted = torch.floor(drive / theta + plan.quantizer.phi).clamp_(-n, p)
    n_differing = int(((wanted != spikes) & limited).sum())
    if n_differing:
        raise ConversionError(
            f"population '{name}'",
            f"{n_differing:,} spikes change by limiting biases, limit: 0",
            remedy="scale the layer's outlying biases down",
            actual=n_differing,
            limit=0,
        )


def _check_rounding(
    name: str, population: RoundedNeurons | RoundedReadout, limited: dict[str, Tensor]
) -> None:
    """Each number of a population within half a step of what it was rounded from.

    Neurons whose bias is nearer to zero than that are put into ``limited``.
    """
    plan = population.plan
    if not isinstance(plan, NeuronPlan | ReadoutPlan):
        return
    channels = plan.shape[0]
    unit = population.unit.expand(channels)
    for projection, term in zip(population.projections, plan.drive.terms, strict=True):
        step = unit * (1 << projection.exponent)
        real, integers = numbers(term.map), numbers(projection.map)
        if isinstance(term.map, Channelwise | Pool):
            step = step[term.map.offset : term.map.offset + len(real)]
        else:
            step = step.repeat_interleave(len(real) // channels)
        _check(name, "weight", real, integers, step)
    if plan.drive.bias is not None:
        real, bias = plan.drive.bias.expand(plan.shape), population.bias.expand(plan.shape)
        if isinstance(plan, NeuronPlan):
            wanted = real / _column(unit, real.ndim + 1)
            nearer = (bias.abs() < wanted.abs()) & (bias * wanted >= 0)
            nearer &= (bias - wanted).abs() > 0.5 + 1e-6
            if bool(nearer.any()):
                limited[name] = nearer
                real = torch.where(nearer, bias * _column(unit, real.ndim + 1), real)
        _check(name, "bias", real, bias, unit)
    if isinstance(population, RoundedNeurons) and isinstance(plan, NeuronPlan):
        theta = population.theta.reshape(-1).expand(channels)
        _check(name, "threshold", plan.theta.expand(channels), theta, unit)


def _check_lost(
    name: str, population: RoundedNeurons | RoundedReadout, rounded: Mapping[str, Rounded]
) -> None:
    """Raise where all weights of a projection became 0 that could decide something.

    That is: reach a sixteenth of a threshold or, for a readout, of what all its inputs can reach.
    """
    plan = population.plan
    if not isinstance(plan, NeuronPlan | ReadoutPlan):
        return
    terms = plan.drive.terms
    reaches = [_reach(rounded[term.source]) for term in terms]
    ends = [
        driven(replace(plan.drive, terms=(term,)), (reach,))
        for term, reach in zip(terms, reaches, strict=True)
    ]
    sizes = [torch.maximum(high, -low) for low, high in ends]
    whole = plan.theta if isinstance(plan, NeuronPlan) else sum(float(s.max()) for s in sizes)
    for projection, term, size in zip(population.projections, terms, sizes, strict=True):
        share = float((size / whole).max()) if bool((size > 0).any()) else 0.0
        if share > NOISE and not bool(numbers(projection.map).any()):
            n = numbers(term.map).numel()
            raise ConversionError(
                f"population '{name}'",
                f"all {n:,} weights from '{term.source}' round to 0, though they can reach "
                f"{share:.3g} of {'a threshold' if isinstance(plan, NeuronPlan) else 'its range'}"
                f", limit: {NOISE}",
                remedy="use fewer input levels, or scale the layer's outlying weights down",
                actual=share,
                limit=NOISE,
            )


def _reach(source: Rounded) -> tuple[int, int]:
    """Smallest and largest payload of a population's first step."""
    if isinstance(source, InputPlan):
        return min(source.levels[0], 0), max(source.levels[1], 0)
    assert isinstance(source, RoundedNeurons)
    (n, p), (gain_pos, gain_neg) = source.levels, source.gains
    ends = (0, -n * gain_neg, p * gain_pos)
    return min(ends), max(ends)


def _check(name: str, what: str, real: Tensor, integers: Tensor, step: Tensor) -> None:
    wanted = real.detach() / step.reshape((-1,) + (1,) * (real.ndim - 1))
    off = float((integers.detach() - wanted).abs().max()) if real.numel() else 0.0
    if not off <= 0.5 + 1e-6:
        raise ConversionError(
            f"population '{name}'",
            f"a {what} is {off:.3g} steps away from the model's, limit: 0.5",
            remedy="use more weight_bits, or scale the layer's outlying values down",
            actual=off,
            limit=0.5,
        )
