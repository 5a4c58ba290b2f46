"""The integer network as a torch module: fake-quantized weights, trainable, exact.

All values are integers held in float32 tensors, exact below 2**24 (`pmsm_hw.bounds` proves that
they stay there), so the module computes what the converted `Network` does, spike for spike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pmsm_hw.convert.fractional_bits import (
    FractionalBits,
    choose_fractional_bits,
    rounded_plan,
)
from pmsm_hw.convert.integer_snn import IntegerSnn, filled, real
from pmsm_hw.convert.networks import network_of
from pmsm_hw.convert.proof import Proof, Watch, prove
from pmsm_hw.convert.rounding import (
    Rounded,
    RoundedNeurons,
    RoundedReadout,
)
from pmsm_hw.convert.settings import Settings, check_options, payload_range
from pmsm_hw.convert.summing import summed
from pmsm_hw.errors import ConversionError, PmsmHwError
from pmsm_hw.network import (
    Network,
)
from pmsm_hw.nn.batches import Batch, as_tensors
from pmsm_hw.nn.evaluation import evaluating
from pmsm_hw.nn.input_grid import check_grid
from pmsm_hw.nn.lowering import (
    InputPlan,
    Lowering,
    NeuronPlan,
    Plan,
    Pooling,
)
from pmsm_hw.nn.neuron import check_rule
from pmsm_hw.nn.preparation import check_kind, unwrapped
from pmsm_hw.nn.quantizer import InputQuant, payload

__all__ = ["IntegerModel", "integer_model"]


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
        relay_reach=lambda source: payload_range(source, settings),
    )  # fmt: skip
    return IntegerModel(model, lowering, settings, examples, spare_bits)


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
            If a population's state does not fit even with weights 3 bits coarser.
        """
        with evaluating(self):
            plan = self._plan()
            bits, rounded = choose_fractional_bits(plan, self.settings, spare_bits)
        self.exponents, self.saturated = bits.exponents, bits.saturated
        self.inexact = bits.inexact
        self._cache = (self._rounding_state(), rounded, plan.output)

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
        state = self._rounding_state()
        if self._cache is None or self._cache[0] != state:
            with torch.no_grad():
                self._cache = (state, *self._round(self._plan()))
        return self._cache[1], self._cache[2]

    def _rounding_state(self) -> Any:
        """Changes whenever what is rounded or how does."""
        return self._parameter_state(), tuple(self.exponents.items()), self.inexact

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
        bits = FractionalBits(exponents=self.exponents, inexact=self.inexact)
        return rounded_plan(plan, self.settings, bits), plan.output

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
                answers[name] = real(summed(population, payloads), population)
        return filled(output, answers)

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
        with evaluating(self):
            populations, output = self.rounded()
        rule = self.settings.rule if rule is None else check_rule(rule)
        return IntegerSnn(populations, output, rule)

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

    def _build(self, name: str) -> Network:
        with evaluating(self):
            rounded, _ = self.rounded()
        return network_of(rounded, self.settings, self.saturated, name)
