"""The integer network as a torch module: fake-quantized weights, trainable, exact.

All values are integers held in float32 tensors, exact below 2**24 (`pmsm_hw.bounds` proves that
they stay there), so the module computes what the converted `Network` does, spike for spike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pmsm_hw.arguments import choice, flag, integer
from pmsm_hw.convert.proof import Proof, Watch, prove
from pmsm_hw.convert.rounding import (
    Rounded,
    RoundedNeurons,
    RoundedProjection,
    RoundedReadout,
    round_plan,
)
from pmsm_hw.convert.summing import summed
from pmsm_hw.convert.weights import driven
from pmsm_hw.errors import ConversionError, PmsmHwError
from pmsm_hw.network import (
    MAX_STEPS,
    MAX_WEIGHT_EXPONENT,
    RULES,
    STATE_BITS,
    STATE_MAX,
    STATE_MIN,
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
    Readout,
    StateBound,
    SumPool,
)
from pmsm_hw.nn.batches import Batch, as_tensors
from pmsm_hw.nn.evaluation import evaluating
from pmsm_hw.nn.expressions import Channelwise, Flat, Pool, Window
from pmsm_hw.nn.input_grid import check_grid
from pmsm_hw.nn.lowering import (
    InputPlan,
    Lowering,
    NeuronPlan,
    Plan,
    Pooling,
    ReadoutPlan,
    RelayPlan,
)
from pmsm_hw.nn.neuron import Rule, State, check_rule
from pmsm_hw.nn.preparation import check_kind, unwrapped
from pmsm_hw.nn.quantizer import InputQuant, payload
from pmsm_hw.nn.snn import SnnResult, split_frames

__all__ = ["COARSEST", "IntegerModel", "IntegerSnn", "integer_model"]

COARSEST = -3
"""Weights may lose this many bits where a population's state would not fit otherwise."""

DEFAULTS: dict[str, Any] = {
    "weight_bits": 8,
    "per_channel": True,
    "max_steps": 8,
    "rule": "carry",
    "pooling": "auto",
    "target_spikes": "graded",
    "overflow": "error",
    "input_scale": None,
    "input_levels": None,
}
"""Options of `integer_model` and `convert`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is rounded; see `integer_model`."""

    weight_bits: int
    per_channel: bool
    max_steps: int
    rule: Rule
    saturate: bool


class _Fire(torch.autograd.Function):
    """``payload(clip(floor((start + x) / theta), -n, p))``, straight-through.

    With ``r = x / theta`` inside the range and ``g`` the slope of `PolarityQuant`: the gradient is
    ``g * gain_pos / theta`` for ``x`` and ``-g * gain_pos * r / theta`` for theta. The rest of
    theta's gradient comes through the next weights, which carry the unit of a spike.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        theta: Tensor,
        start: Tensor,
        phi: float,
        levels: tuple[int, int],
        gains: tuple[int, int],
    ) -> Tensor:
        k = torch.floor((start + x) / theta).clamp_(-levels[0], levels[1])
        ctx.save_for_backward(x, theta)
        ctx.phi, ctx.levels, ctx.gains = phi, levels, gains
        return payload(k, gains)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, theta = ctx.saved_tensors
        (n, p), (gain_pos, gain_neg) = ctx.levels, ctx.gains
        r = x / theta
        inside = (r >= -n - ctx.phi) & (r < p + 1 - ctx.phi)
        slope = inside * (gain_pos / theta)
        if gain_neg != gain_pos and n > 0:
            slope = torch.where(x >= 0, slope, slope * (gain_neg / gain_pos))
        grad_x = gradients[0] * slope
        grad_theta = None
        if ctx.needs_input_grad[1]:
            shape = (1,) * (x.ndim - theta.ndim) + tuple(theta.shape)
            grad_theta = (-grad_x * r).sum_to_size(shape).reshape(theta.shape)
        return grad_x, grad_theta, None, None, None, None


def integer_model(
    model: nn.Module,
    example_input: Batch,
    *,
    weight_bits: int = 8,
    per_channel: bool = True,
    max_steps: int = 8,
    rule: str = "carry",
    pooling: Pooling = "auto",
    target_spikes: Literal["graded", "unit"] = "graded",
    overflow: str = "error",
    input_scale: float | None = None,
    input_levels: Sequence[int] | None = None,
    spare_bits: int = 1,
) -> IntegerModel:
    """Wrap a quantized model so that it computes with the integers of its conversion.

    The wrapper shares the model's parameters and can be trained (``pmsm_hw.nn.finetune``); what
    `convert` then makes of it equals it exactly, spike for spike. Batch norm is folded with its
    running statistics.

    Parameters
    ----------
    model
        Quantized model.
    example_input
        A batch of inputs (one array, or one per input).
    weight_bits
        2..8, sign included.
    per_channel
        One scale per output channel, or one per population.
    max_steps
        Largest number of steps T for which the state is proven to fit.
    rule
        ``"carry"``, ``"reset"`` or ``"bounded"``.
    pooling
        Average pooling: ``"fold"`` it into the next projection (larger kernels), let a
        ``"relay"`` population send the sums (more neurons), or ``"auto"``: what takes fewer
        synaptic operations.
    target_spikes
        How the chip in mind sends spikes, for ``"auto"``: a spike k as one ``"graded"`` message,
        or as |k| ``"unit"`` ones, in which relayed sums are dear.
    overflow
        ``"error"``, or ``"saturate"`` where the proof fails.
    input_scale, input_levels
        For models without an `InputQuant`. With a scale alone, the fewest levels that hold the
        example batch; with levels alone, the scale at which they span it.
    spare_bits
        Fractional bits to leave unused, so that the proof survives changes by training.

    Raises
    ------
    ConversionError
        Naming module, reason and remedy.
    """
    integer = built(
        model, example_input, weight_bits=weight_bits, per_channel=per_channel,
        max_steps=max_steps, rule=rule, pooling=pooling, target_spikes=target_spikes,
        overflow=overflow, input_scale=input_scale, input_levels=input_levels,
        spare_bits=spare_bits,
    )  # fmt: skip
    integer.prove()
    return integer


def check_options(**given: Any) -> None:
    """Raise `ConversionError` for options of `integer_model` that are none."""
    remedies = {
        "weight_bits": (2, 8, "int8 is what projections hold"),
        "max_steps": (1, MAX_STEPS, "give the largest number of time steps"),
        "spare_bits": (0, STATE_BITS, "give a small number"),
    }
    words = {
        "rule": RULES,
        "pooling": ("auto", "fold", "relay"),
        "target_spikes": ("graded", "unit"),
        "overflow": ("error", "saturate"),
    }
    for what, value in given.items():
        if what in remedies:
            low, high, remedy = remedies[what]
            integer(ConversionError, "convert", what, value, low=low, high=high, remedy=remedy)
        elif what in words:
            remedy = "choose one of them"
            choice(ConversionError, "convert", what, value, words[what], remedy=remedy)
        else:
            flag(ConversionError, "convert", what, value)


def built(
    model: nn.Module,
    example_input: Batch,
    *,
    weight_bits: int,
    per_channel: bool,
    max_steps: int,
    rule: str,
    pooling: Pooling,
    target_spikes: Literal["graded", "unit"],
    overflow: str,
    input_scale: float | None,
    input_levels: Sequence[int] | None,
    spare_bits: int,
) -> IntegerModel:
    """`integer_model` before its proof."""
    if isinstance(model, IntegerModel):
        raise ConversionError(
            "model",
            "is an integer model already, limit: a quantized model",
            remedy="pass it to convert as it is",
            actual="IntegerModel",
            limit="a quantized model",
        )
    check_options(
        weight_bits=weight_bits, per_channel=per_channel, max_steps=max_steps, rule=rule,
        pooling=pooling, target_spikes=target_spikes, overflow=overflow, spare_bits=spare_bits,
    )  # fmt: skip
    scale, levels = check_grid(input_scale, input_levels, ConversionError)
    check_kind(model, ConversionError)
    model = unwrapped(model)
    settings = Settings(
        weight_bits=int(weight_bits),
        per_channel=bool(per_channel),
        max_steps=int(max_steps),
        rule=check_rule(rule),
        saturate=overflow == "saturate",
    )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    examples = tuple(x.to(device) for x in as_tensors(example_input, "example_input"))
    lowering = Lowering(
        model, examples, pooling=pooling, unit_spikes=target_spikes == "unit",
        input_scale=scale, input_levels=levels,
        relay_reach=lambda source: _payload_range(source, settings),
    )  # fmt: skip
    return IntegerModel(model, lowering, settings, examples, spare_bits)


def _payload_range(source: Any, settings: Settings) -> tuple[int, int]:
    """Smallest and largest payload that a population can send in any step."""
    if isinstance(source, InputPlan):
        return min(source.levels[0], 0), max(source.levels[1], 0)
    assert isinstance(source, NeuronPlan)
    n, p = source.quantizer.levels
    if settings.rule == "bounded":
        t = settings.max_steps
        n, p = n * t + p * (t - 1), p * t + n * (t - 1)
    gain_pos, gain_neg = source.quantizer.gains
    ends = (0, -n * gain_neg, p * gain_pos)
    return min(ends), max(ends)


class IntegerModel(nn.Module):
    """A quantized model computed with the integers of its conversion; see `integer_model`.

    Parameters
    ----------
    model, lowering, settings, examples, spare_bits
        From `integer_model`.
    """

    def __init__(
        self,
        model: nn.Module,
        lowering: Lowering,
        settings: Settings,
        examples: tuple[Tensor, ...],
        spare_bits: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.lowering = lowering
        self.settings = settings
        self.examples = examples
        self.exponents: dict[str, int] = {}
        self.saturated: frozenset[str] = frozenset()
        self.inexact: frozenset[str] = frozenset()
        self._cache: tuple[Any, dict[str, Rounded], Any] | None = None
        self._plan_cache: tuple[Any, Plan] | None = None
        self.recipe = dict(getattr(model, "recipe", {})) | {
            "integer": {
                "weight_bits": settings.weight_bits,
                "per_channel": settings.per_channel,
                "max_steps": settings.max_steps,
                "rule": settings.rule,
                "pooling": lowering.relays.pooling,
                "target_spikes": "unit" if lowering.relays.unit_spikes else "graded",
                "overflow": "saturate" if settings.saturate else "error",
            }
        }
        self.choose_exponents(spare_bits)

    # -- integers ----------------------------------------------------------------------------

    def choose_exponents(self, spare_bits: int = 0) -> None:
        """Give each population as many fractional bits as its state has room for.

        Where there is no room even for the weights' own bits, weights lose up to 3 of them (the
        report shows that as negative fractional bits), unless states may saturate.

        Parameters
        ----------
        spare_bits
            Bits to leave unused.

        Raises
        ------
        ConversionError
            If a population's state does not fit even with weights `COARSEST` bits coarser.
        """
        every = frozenset(self._plan().populations)
        # populations that integers hold exactly, and whose state fits
        self.exponents, self.saturated, self.inexact = {}, frozenset(), frozenset()
        whole = {n for n, p in self._neurons_and_readouts().items() if p.is_exact}
        if whole:
            bounds = self._probe()
            whole = {n for n in whole if bounds[n].fits}
        self.inexact = every
        self._choose_rounded(spare_bits, whole)
        self.inexact = frozenset()
        some = {n for n, p in self._neurons_and_readouts().items() if p.n_exact and n not in whole}
        if some:
            self.inexact = every - whole - some
            bounds = self._probe()
            some = {n for n in some if bounds[n].fits or n in self.saturated}
        self.inexact = every - whole - some

    def _choose_rounded(self, spare_bits: int, whole: Set[str]) -> None:
        """Exponents of populations that are rounded; of ``whole`` ones after training, at best."""
        least = 0 if self.settings.saturate else COARSEST
        bounds = self._probe()
        # bits that each state leaves unused when weights have all theirs and no fraction is kept
        room = {
            n: math.floor(math.log2((1 << 23) / max(abs(b.u_min), abs(b.u_max), 1)))
            for n, b in bounds.items()
        }
        misfits = {n for n, bits in room.items() if bits < least and n not in whole}
        if misfits and not self.settings.saturate:
            name = min(misfits)
            raise self._misfit(name, bounds[name])
        for name in sorted(misfits):  # saturated, which biases and thresholds cannot be
            least_given, most_given = _given(self._neurons_and_readouts()[name])
            if least_given < STATE_MIN or most_given > STATE_MAX:
                raise self._misfit(name, bounds[name])
        self.saturated = frozenset(misfits)
        for name, bits in room.items():
            if name not in misfits:
                self.exponents[name] = min(max(bits - spare_bits, least), MAX_WEIGHT_EXPONENT)
        while True:
            bounds = self._probe()
            misfits = {
                n
                for n, b in bounds.items()
                if not b.fits and n not in self.saturated
                if n not in whole or self.exponents[n] > least
            }
            if not misfits:
                break
            for name in misfits:
                self.exponents[name] -= 1
                if self.exponents[name] < least:
                    raise self._misfit(name, bounds[name])

    def _neurons_and_readouts(self) -> dict[str, RoundedNeurons | RoundedReadout]:
        with evaluating(self):
            rounded, _ = self.rounded()
        return {n: p for n, p in rounded.items() if not isinstance(p, InputPlan)}

    def _probe(self) -> dict[str, StateBound]:
        """Bounds of the integers of the moment, which need not fit."""
        bounds = dict(self._build("probe", is_probe=True).bounds)
        for name, population in self._neurons_and_readouts().items():
            least, most = _given(population)
            if least < STATE_MIN or most > STATE_MAX:  # the probe's network has them clipped
                bound = bounds[name]
                bounds[name] = replace(
                    bound, u_min=min(bound.u_min, least), u_max=max(bound.u_max, most)
                )
        return bounds

    def _misfit(self, name: str, bound: StateBound) -> ConversionError:
        reach = (
            f"state can reach [{bound.u_min:,}, {bound.u_max:,}] within "
            f"{self.settings.max_steps} steps, 24 bits hold [-8,388,608, 8,388,607]"
        )
        limit = (STATE_MIN, STATE_MAX)
        population = self._neurons_and_readouts()[name]
        bias = population.bias.detach().reshape(-1)
        row = int(bias.abs().argmax())
        most = float(bias[row])
        unit = population.unit.reshape(-1)
        value = most * float(unit[0 if len(unit) == 1 else row % len(unit)])
        if abs(most) * self.settings.max_steps > STATE_MAX and abs(value) > self._weighted(name):
            return ConversionError(
                f"population '{name}', bias {row}",
                f"{value:.6g} is so much larger than the weights that their {reach}",
                remedy="use a bias of the size of the weighted sums: one that no input can "
                "outweigh decides nothing more when it is larger",
                actual=value,
                limit=limit,
            )
        return ConversionError(
            f"population '{name}'",
            reach,
            remedy="use fewer weight_bits, max_steps or input levels, or overflow='saturate'",
            actual=(bound.u_min, bound.u_max),
            limit=limit,
        )

    def _weighted(self, name: str) -> float:
        """Largest absolute weighted sum that can reach a population, in real values."""
        plan = self._plan()
        population = plan.populations[name]
        if not isinstance(population, NeuronPlan | ReadoutPlan):
            return 0.0
        sources = [plan.populations[term.source] for term in population.drive.terms]
        low, high = driven(population.drive, [self._reach(plan, source) for source in sources])
        return float(torch.maximum(high, -low).max())

    def prove(self, watch: Watch | None = None) -> Proof:
        """Compare the integers of the moment with the quantized model, on the example batch.

        Parameters
        ----------
        watch
            See `pmsm_hw.convert.proof.prove`.

        Raises
        ------
        ConversionError
            Naming the first module or operation where values part by more than rounding.
        """
        with evaluating(self), torch.no_grad():
            rounded, _ = self.rounded()
            plan = self._plan()
        return prove(self.model, self.lowering, plan, rounded, self.examples, watch)

    def rounded(self) -> tuple[dict[str, Rounded], Any]:
        """Integers of the parameters of the moment, and the output's structure.

        Differentiable in training mode; else computed once and kept while parameters stay.
        """
        if self.training and torch.is_grad_enabled():
            return self._round(self.lowering.plan())
        state = (self._parameter_state(), tuple(self.exponents.items()), self.inexact)
        if self._cache is None or self._cache[0] != state:
            with torch.no_grad():
                self._cache = (state, *self._round(self._plan()))
        return self._cache[1], self._cache[2]

    def _parameter_state(self) -> Any:
        """Changes whenever a parameter or buffer does."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        return tuple((t.data_ptr(), t._version, t.dtype) for t in tensors)

    def _plan(self) -> Plan:
        """Lower without gradients, once for the parameters of the moment."""
        state = self._parameter_state()
        if self._plan_cache is None or self._plan_cache[0] != state:
            with torch.no_grad():
                self._plan_cache = (state, self.lowering.plan())
        return self._plan_cache[1]

    def _round(self, plan: Plan) -> tuple[dict[str, Rounded], Any]:
        relay_levels = {}
        for name, population in plan.populations.items():
            if isinstance(population, RelayPlan):
                lo, hi = self._reach(plan, population)
                relay_levels[name] = (max(-lo, 0), max(hi, 1))
        rounded = round_plan(
            plan,
            self.exponents,
            weight_bits=self.settings.weight_bits,
            per_channel=self.settings.per_channel,
            relay_levels=relay_levels,
            reach=lambda source: self._reach(plan, source),
            inexact=self.inexact,
        )
        return rounded, plan.output

    def _reach(self, plan: Plan, source: Any) -> tuple[int, int]:
        """Smallest and largest payload of a population, relays included."""
        if not isinstance(source, RelayPlan):
            return _payload_range(source, self.settings)
        lo, hi = _payload_range(plan.populations[source.source], self.settings)
        n = math.prod(source.pool.kernel)
        return lo * n, hi * n

    # -- as a model --------------------------------------------------------------------------

    def forward(self, *x: Tensor) -> Any:
        """Logits of one step, in real values; differentiable.

        Parameters
        ----------
        x
            One batch per input, real values, as for the model it was made from.
        """
        rounded, output = self.rounded()
        payloads = self._inputs(rounded, x)
        answers: dict[str, Tensor] = {}
        for name, population in rounded.items():
            if isinstance(population, RoundedNeurons):
                drive = summed(population, payloads)
                plan = population.plan
                phi = plan.quantizer.phi if isinstance(plan, NeuronPlan) else 0.0
                payloads[name] = cast(
                    Tensor,
                    _Fire.apply(
                        drive, population.theta.to(drive.dtype), population.start.to(drive.dtype),
                        phi, population.levels, population.gains,
                    ),  # type: ignore[no-untyped-call]
                )  # fmt: skip
            elif isinstance(population, RoundedReadout):
                answers[name] = _real(summed(population, payloads), population)
        return _filled(output, answers)

    def _inputs(self, rounded: Mapping[str, Rounded], x: Sequence[Tensor]) -> dict[str, Tensor]:
        inputs = [p for p in rounded.values() if isinstance(p, InputPlan)]
        return {
            p.name: InputQuant(p.scale, p.levels).units(part)
            for p, part in zip(inputs, x, strict=True)
        }

    def spikes(self, x: Batch) -> dict[str, NDArray[np.int32]]:
        """Spikes of one step: by population, ``(batch, *shape)`` int32; units for inputs.

        Parameters
        ----------
        x
            A batch, or one per input.
        """
        result = self.to_snn(self.settings.rule).run(*as_tensors(x), n_steps=1)
        return {name: k[:, 0] for name, k in result.spikes.items()}

    def to_snn(self, rule: str | None = None) -> IntegerSnn:
        """Torch SNN that runs these integers step by step.

        Parameters
        ----------
        rule
            By default the one that the bounds were proven for.
        """
        return IntegerSnn(self, self.settings.rule if rule is None else check_rule(rule))

    # -- as a network ------------------------------------------------------------------------

    def network(self, name: str = "network") -> Network:
        """The integer network.

        Parameters
        ----------
        name
            Name of the network.

        Raises
        ------
        ConversionError
            If training has moved the parameters so far that the bound proof fails.
        """
        try:
            return self._build(name)
        except PmsmHwError as cause:
            raise ConversionError(
                cause.subject,
                cause.problem,
                remedy="call choose_exponents() and fine-tune again, use fewer weight_bits or "
                "max_steps, or overflow='saturate'",
                actual=cause.actual,
                limit=cause.limit,
            ) from cause

    def _build(self, name: str, *, is_probe: bool = False) -> Network:
        with evaluating(self):
            rounded, _ = self.rounded()
        populations: list[Population] = []
        projections: list[Projection] = []
        for key, population in rounded.items():
            if isinstance(population, InputPlan):
                populations.append(
                    Input(
                        name=key,
                        shape=population.shape,
                        scale=population.scale,
                        levels=population.levels,
                    )
                )
                continue
            overflow: Any = "saturate" if is_probe or key in self.saturated else "error"
            shape = population.plan.shape
            bias = _int(population.bias, shape)
            if is_probe:
                bias = bias.clip(STATE_MIN, STATE_MAX)
            if isinstance(population, RoundedReadout):
                populations.append(
                    Readout(
                        name=key,
                        shape=shape,
                        scale=population.unit.cpu().numpy(),
                        bias=bias,
                        overflow=overflow,
                    )
                )
            else:
                theta, start = (_int(v, shape) for v in (population.theta, population.start))
                if is_probe:
                    theta, start = theta.clip(max=STATE_MAX), start.clip(max=STATE_MAX)
                populations.append(
                    PolarityMultiSpike(
                        name=key,
                        shape=shape,
                        theta=theta,
                        bias=bias,
                        v_init=start,
                        levels=population.levels,
                        gains=population.gains,
                        rule="carry"
                        if isinstance(population.plan, RelayPlan)
                        else self.settings.rule,
                        overflow=overflow,
                    )
                )
            taken: set[str] = set()
            for projection in population.projections:
                label, i = f"{projection.source}->{key}", 1
                while label in taken:
                    i += 1
                    label = f"{projection.source}->{key}#{i}"
                taken.add(label)
                projections.append(_projection(projection, key, label, shape))
        return Network(
            name=name,
            populations=tuple(populations),
            projections=tuple(projections),
            max_steps=self.settings.max_steps,
        )


def _given(population: RoundedNeurons | RoundedReadout) -> tuple[int, int]:
    """Smallest and largest of a population's own numbers, biases and thresholds."""
    least, most = int(population.bias.min()), int(population.bias.max())
    if isinstance(population, RoundedNeurons):
        most = max(most, int(population.theta.max()))
    return least, most


def _int(tensor: Tensor, shape: tuple[int, ...]) -> NDArray[np.int64]:
    array = tensor.detach().cpu().numpy()
    if array.ndim and array.shape[1:] != (1,) * (array.ndim - 1):
        array = np.broadcast_to(array, shape)
    return array.astype(np.int64)


def _projection(
    projection: RoundedProjection, target: str, name: str, shape: tuple[int, ...]
) -> Projection:
    """The network's form of a rounded projection."""
    map_ = projection.map
    common: dict[str, Any] = {
        "source": projection.source,
        "target": target,
        "name": name,
        "weight_exponent": projection.exponent,
    }
    if isinstance(map_, Channelwise | Pool):
        scale = map_.scale.detach().cpu().numpy().astype(np.int8)
        if map_.is_plain:
            weight = scale[0] if (scale == scale[0]).all() else scale
            if isinstance(map_, Channelwise):
                return Identity(weight=np.array(weight), **common)
            return SumPool(
                kernel=map_.kernel,
                stride=map_.stride,
                padding=map_.padding,
                weight=np.array(weight),
                **common,
            )
        kernel = map_.kernel if isinstance(map_, Pool) else (1,) * (len(shape) - 1)
        rows = np.zeros((map_.total, len(scale), *kernel), np.int8)
        index = np.arange(len(scale))
        rows[map_.offset + index, index] = scale.reshape((-1,) + (1,) * len(kernel))
        if not kernel:
            return Dense(weight=rows, **common)
        conv = Conv1d if len(kernel) == 1 else Conv2d
        if isinstance(map_, Pool):
            return conv(weight=rows, stride=map_.stride, padding=map_.padding, **common)
        return conv(weight=rows, **common)
    assert not isinstance(map_, Flat)
    weight = map_.weight.detach().cpu().numpy().astype(np.int8)
    if isinstance(map_, Window):
        conv = Conv1d if weight.ndim == 3 else Conv2d
        return conv(
            weight=weight,
            stride=map_.stride,
            padding=map_.padding,
            dilation=map_.dilation,
            groups=map_.groups,
            **common,
        )
    return Dense(weight=weight, **common)


def _real(v: Tensor, readout: RoundedReadout) -> Tensor:
    """State of a readout, in real values."""
    return v * readout.unit.to(v.dtype)


def _filled(output: Any, answers: Mapping[str, Tensor]) -> Any:
    if isinstance(output, str):
        return answers[output]
    if isinstance(output, dict):
        return {k: _filled(v, answers) for k, v in output.items()}
    return tuple(_filled(v, answers) for v in output)


class IntegerSnn(nn.Module):
    """Runs an `IntegerModel` step by step, as the network's reference does, in torch.

    Parameters
    ----------
    model
        Its integers of the moment are taken.
    rule
        What neurons do with their state.
    """

    def __init__(self, model: IntegerModel, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        with evaluating(model):
            self.populations, self.output = model.rounded()
        self.saturated = model.saturated
        self.inputs = [p for p in self.populations.values() if isinstance(p, InputPlan)]

    def forward(self, *x: Any, n_steps: int | None = None, frames: bool = False) -> Any:
        """Mean logits; arguments as for `pmsm_hw.nn.Snn`.

        Parameters
        ----------
        x, n_steps, frames
            As for `pmsm_hw.nn.Snn`.
        """
        return self.run(*x, n_steps=n_steps, frames=frames, record=False).logits

    def run(
        self, *x: Any, n_steps: int | None = None, frames: bool = False, record: bool = True
    ) -> SnnResult:
        """As `forward`, with the spikes of every population beside the logits.

        Parameters
        ----------
        x, n_steps, frames, record
            As for `pmsm_hw.nn.Snn`.
        """
        if n_steps is None and x and isinstance(x[-1], int):
            x, n_steps = x[:-1], x[-1]
        steps = 1 if n_steps is None else n_steps
        states: dict[str, State] = {}
        spikes: dict[str, list[Tensor]] = {}
        sums: dict[str, Tensor] = {}
        with torch.no_grad():
            for inputs in split_frames(as_tensors(x), steps, frames):
                payloads: dict[str, Tensor] = {}
                for p, part in zip(self.inputs, inputs, strict=True):
                    payloads[p.name] = InputQuant(p.scale, p.levels).units(part)
                    if record:
                        spikes.setdefault(p.name, []).append(payloads[p.name])
                for name, population in self.populations.items():
                    if isinstance(population, RoundedNeurons):
                        drive = summed(population, payloads)
                        if name not in states:
                            states[name] = State(
                                population.start.to(drive.dtype),
                                population.levels,
                                "carry" if isinstance(population.plan, RelayPlan) else self.rule,
                            )
                        k = states[name].step(drive, population.theta.to(drive.dtype))
                        payloads[name] = payload(k, population.gains)
                        if record:
                            spikes.setdefault(name, []).append(k)
                    elif isinstance(population, RoundedReadout):
                        drive = summed(population, payloads)
                        sums[name] = sums[name] + drive if name in sums else drive
            answers = {
                name: _real(v, cast(RoundedReadout, self.populations[name])) / steps
                for name, v in sums.items()
            }
        return SnnResult(
            logits=_filled(self.output, answers),
            spikes={n: torch.stack(k, 1).cpu().numpy().astype(np.int32) for n, k in spikes.items()},
        )
