"""From a traced torch graph to populations joined by linear maps, still in real numbers.

`Lowering` walks the graph once (shapes, what each node is) and can then be evaluated any number of
times with the parameters of the moment: `Lowering.plan` gives a differentiable `Plan`.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch
import torch.nn.functional as F  # noqa: N812
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn

from pmsm_hw.errors import ConversionError
from pmsm_hw.network import Pads, Shape
from pmsm_hw.nn.activations import (
    average_name,
    is_activation,
    max_pool_of,
    reached,
    reads_shape,
)
from pmsm_hw.nn.evaluation import evaluating
from pmsm_hw.nn.expressions import (
    Channelwise,
    Expression,
    Flat,
    Map,
    Matrix,
    NotFoldableError,
    Pool,
    Term,
    Window,
    as_matrix,
    check_matrix,
    concatenated,
)
from pmsm_hw.nn.gain import LearnedGainQuant
from pmsm_hw.nn.input_grid import input_grid
from pmsm_hw.nn.mutations import run_nodes, without_mutations
from pmsm_hw.nn.preparation import check_finite
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant
from pmsm_hw.nn.tracing import few, kind_of, subject_of, trace

__all__ = [
    "InputPlan", "Lowering", "NeuronPlan", "Plan", "Pooling", "ReadoutPlan", "RelayPlan",
]  # fmt: skip

Pooling: TypeAlias = Literal["auto", "fold", "relay"]
QUANTIZE_LINE = "model = pmsm_hw.nn.quantize(model, levels=(0, 4), init='mse', calibration=x)"


@dataclass(frozen=True, kw_only=True)
class InputPlan:
    """An input population: see `pmsm_hw.network.Input`."""

    name: str
    shape: Shape
    scale: float
    levels: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class NeuronPlan:
    """A population of polarity multi-spike neurons, in real numbers.

    Parameters
    ----------
    name, shape
        As in the network.
    drive
        What reaches it; its maps turn payloads (integers) into real values.
    quantizer
        Gives levels, gains and phi.
    theta
        ``()`` or ``(channels,)`` float64.
    """

    name: str
    shape: Shape
    drive: Expression
    quantizer: PolarityQuant
    theta: Tensor


@dataclass(frozen=True, kw_only=True)
class RelayPlan:
    """A population that sends the sum of a pooling window of payloads, unchanged."""

    name: str
    shape: Shape
    source: str
    pool: Pool


@dataclass(frozen=True, kw_only=True)
class ReadoutPlan:
    """A readout population, in real numbers."""

    name: str
    shape: Shape
    drive: Expression


PopulationPlan: TypeAlias = "InputPlan | NeuronPlan | RelayPlan | ReadoutPlan"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Populations in topological order, and what the model returns.

    Parameters
    ----------
    populations
        By name.
    output
        The model's output with names of readouts in place of tensors.
    """

    populations: Mapping[str, PopulationPlan]
    output: Any


@dataclass
class _Builder:
    """What one evaluation of the graph has found so far."""

    populations: dict[str, PopulationPlan] = field(default_factory=dict)
    relays: dict[tuple[Any, ...], str] = field(default_factory=dict)


class Seen(NamedTuple):
    """What a node gave for two samples where that was a tensor."""

    shape: Shape
    dtype: torch.dtype


class Lowering:
    """A model's graph, ready to be lowered.

    Parameters
    ----------
    model
        Quantized model.
    examples
        One batch per input; gives the shapes.
    pooling
        ``"fold"`` average pooling into the next projection, ``"relay"`` it through a population, or
        take the one with fewer synaptic operations plus neurons (``"auto"``).
    unit_spikes
        Whether ``"auto"`` counts a spike k as |k| messages, or as one.
    input_scale, input_levels
        For inputs that no `InputQuant` quantizes; what is not given follows from the examples.
    relay_reach
        Smallest and largest payload of a population, whose sums a relay must be able to send.

    Raises
    ------
    ConversionError
        Naming module, reason and remedy.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: tuple[Tensor, ...],
        *,
        pooling: Pooling = "auto",
        unit_spikes: bool = False,
        input_scale: float | None = None,
        input_levels: tuple[int, int] | None = None,
        relay_reach: Callable[[Any], tuple[int, int]] = lambda source: (0, 0),
    ) -> None:
        self.model = model
        self.relay_reach = relay_reach
        self.pooling = pooling
        self.unit_spikes = unit_spikes
        if isinstance(model, fx.GraphModule):
            self.graph = copy.deepcopy(model.graph)
        else:
            with evaluating(model):
                self.graph = trace(model, ConversionError, n_inputs=len(examples))
        self.modules = dict(model.named_modules())
        self._refuse_early()
        self._check_inputs(input_scale, input_levels)
        check_finite(model, self.graph, ConversionError)
        self._check_examples(examples)
        self.grids = self._grids(examples, input_scale, input_levels)
        without_mutations(model, self.graph, few(examples), ConversionError, owned=False)
        self.results = self._propagate(few(examples))
        self._varying = self._numbers_of_the_batch(few(examples))
        self._in_order: dict[fx.Node, bool] = {}
        self.population_of: dict[tuple[str, int], str] = {}
        """Population of the i-th call of a quantizer, by its path and i."""
        self._names: dict[fx.Node, str] = {}
        self._taken: set[str] = set()

    # -- preparation -------------------------------------------------------------------------

    def _refuse_early(self) -> None:
        """Report what can be seen without shapes, missing quantizers first."""
        inner = reached(self.graph)
        for node in self.graph.nodes:
            if node not in inner:
                continue
            if is_activation(self.model, node):
                raise ConversionError(
                    self.subject(node),
                    "is an activation without a quantizer, limit: 0",
                    remedy=f"quantize the model first: {QUANTIZE_LINE}",
                    actual=self.kind(node),
                    limit="PolarityQuant",
                )
            if max_pool_of(self.model, node) is not None:
                raise ConversionError(
                    self.subject(node),
                    "max pooling has no spiking counterpart, limit: 0",
                    remedy=f"use {average_name(self.kind(node))} in its place and train again, "
                    "or, in Python, quantize(..., max_pool='average')",
                    actual=self.kind(node),
                    limit="average pooling",
                )
        if not any(isinstance(m, PolarityQuant) for m in self.modules.values()):
            raise ConversionError(
                f"model '{type(self.model).__name__}'",
                "has 0 quantizers, at least 1 is needed",
                remedy=f"quantize it first: {QUANTIZE_LINE}",
                actual=0,
                limit=1,
            )

    def _check_examples(self, examples: tuple[Tensor, ...]) -> None:
        n_inputs = sum(n.op == "placeholder" for n in self.graph.nodes)
        if n_inputs != len(examples):
            raise ConversionError(
                f"model '{type(self.model).__name__}'",
                f"takes {n_inputs} inputs, {len(examples)} examples were given",
                remedy="give one example batch per input",
                actual=len(examples),
                limit=n_inputs,
            )
        if not all(x.ndim and len(x) for x in examples):
            raise ConversionError(
                "example input",
                "has 0 samples, at least 1 is needed",
                remedy="give a batch of inputs",
                actual=0,
                limit=1,
            )

    def _propagate(self, examples: tuple[Tensor, ...]) -> dict[fx.Node, Any]:
        """Run the model once; keep shapes of tensors and all other values."""
        with evaluating(self.model):
            ran = run_nodes(self.model, self.graph, examples, ConversionError)
            return {
                node: Seen(tuple(value.shape), value.dtype) if isinstance(value, Tensor) else value
                for node, value in ran
            }

    def _numbers_of_the_batch(self, examples: tuple[Tensor, ...]) -> set[fx.Node]:
        """Nodes whose numbers, like ``x.size(0)``, follow the size of the batch."""
        if all(isinstance(v, Seen) for n, v in self.results.items() if n.op != "output"):
            return set()
        longer = self._propagate(tuple(torch.cat([x, x])[:3] for x in examples))
        activations: set[fx.Node] = set()
        varying: set[fx.Node] = set()
        for node in self.graph.nodes:
            seen, sources = self.results[node], node.all_input_nodes
            if not isinstance(seen, Seen):
                if not _tensors(seen) and seen != longer[node]:
                    varying.add(node)
            elif node.op == "placeholder" or any(n in activations for n in sources):
                activations.add(node)
            elif any(n in varying for n in sources):
                varying.add(node)  # a constant made of such numbers
        return varying

    def _module(self, node: fx.Node) -> nn.Module | None:
        if node.op != "call_module":
            return None
        module: nn.Module = self.modules[str(node.target)]
        return module

    def kind(self, node: fx.Node) -> str:
        """Class or function that a node calls."""
        return kind_of(self.model, node)

    def subject(self, node: fx.Node) -> str:
        """How errors name a node."""
        return subject_of(self.model, node)

    # -- evaluation --------------------------------------------------------------------------

    def plan(self, values: dict[fx.Node, Any] | None = None) -> Plan:
        """Lower with the parameters of the moment; differentiable in them.

        Batch norm is folded with its running statistics.

        Parameters
        ----------
        values
            Is filled with what each node became.
        """
        builder = _Builder()
        self._taken = set()
        self.population_of = {}
        values = {} if values is None else values
        output: Any = None
        for node in self.graph.nodes:
            if node.op == "output":
                output = self._readouts(builder, node, values)
                continue
            try:
                values[node] = self._evaluate(builder, node, values)
            except NotFoldableError as reason:
                raise ConversionError(
                    self.subject(node),
                    f"{reason}; no exact integer form",
                    remedy="put a PolarityQuant before it, or change its window",
                    actual=str(reason),
                    limit="a linear map of spikes that folds exactly",
                ) from reason
        used = _reachable(builder.populations, output)
        return Plan(
            populations={n: p for n, p in builder.populations.items() if n in used}, output=output
        )

    def _evaluate(self, builder: _Builder, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        if node.op == "placeholder":
            return self._placeholder(builder, node)
        if node.op == "get_attr":
            return _attribute(self.model, str(node.target))
        seen = self.results[node]
        touched = any(isinstance(values[n], Expression) for n in node.all_input_nodes)
        if not touched and not _tensors(seen) and not isinstance(seen, Seen):
            return seen  # sizes and other numbers
        if not touched:
            return self._constant(node, values)
        if not isinstance(seen, Seen):
            if _tensors(seen):
                raise self._refusal(node, "takes an activation apart")
            if not reads_shape(node):
                raise self._refusal(node, "reads the values of an activation as numbers")
            return seen
        if not seen.dtype.is_floating_point or torch.finfo(seen.dtype).bits < 32:
            raise self._refusal(node, f"computes in {seen.dtype}, float32 is needed")
        if node.op == "call_module":
            result = self._call_module(builder, node, values)
        else:
            result = self._call_function(builder, node, values)
        if isinstance(result, Expression) and seen.shape != (2, *result.shape):
            raise self._refusal(node, f"turns 2 samples into shape {seen.shape}")
        return result

    def _constant(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        """What a node makes of values that no input reaches, with the parameters of the moment."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return cast(Callable[..., Any], node.target)(*args, **kwargs)

    def _name(self, node: fx.Node, wanted: str) -> str:
        if node not in self._names:
            self._names[node] = wanted
        name, i = self._names[node], 0
        while name in self._taken:
            i += 1
            name = f"{self._names[node]}_{i}"
        self._taken.add(name)
        return name

    def _check_inputs(self, scale: float | None, levels: tuple[int, int] | None) -> None:
        """Refuse a scale or levels that would have no effect."""
        if scale is None and levels is None:
            return
        owners = [
            (node, [m for m in map(self._module, node.users) if isinstance(m, InputQuant)])
            for node in self.graph.nodes
            if node.op == "placeholder"
        ]
        if all(quantizers for _, quantizers in owners):
            quantizer = owners[0][1][0]
            raise ConversionError(
                f"input '{owners[0][0].name}'",
                f"input_scale {scale} and input_levels {levels} have no effect: the model has an "
                f"InputQuant of its own, scale {quantizer.scale:.6g}, levels {quantizer.levels}",
                remedy="leave them out, or give them to quantize",
                actual=(scale, levels),
                limit=(quantizer.scale, quantizer.levels),
            )

    def _grids(
        self,
        examples: tuple[Tensor, ...],
        scale: float | None,
        levels: tuple[int, int] | None,
    ) -> dict[str, tuple[float, tuple[int, int]]]:
        """Scale and levels of the inputs that no `InputQuant` reads, by name."""
        if scale is None and levels is None:
            return {}
        placeholders = [node for node in self.graph.nodes if node.op == "placeholder"]
        return {
            node.name: input_grid(x, scale, levels, ConversionError)
            for node, x in zip(placeholders, examples, strict=True)
            if not any(isinstance(self._module(user), InputQuant) for user in node.users)
        }

    def _placeholder(self, builder: _Builder, node: fx.Node) -> Expression:
        shape = tuple(self.results[node].shape[1:])
        users = [self._module(user) for user in _readers(node)]
        quantizers = [m for m in users if isinstance(m, InputQuant)]
        if quantizers and all(isinstance(m, InputQuant) for m in users):
            scale, levels = quantizers[0].scale, quantizers[0].levels
            if any((m.scale, m.levels) != (scale, levels) for m in quantizers):
                raise ConversionError(
                    f"input '{node.name}'",
                    "has several InputQuant modules that differ, limit: 1",
                    remedy="quantize each input once",
                    actual=len(quantizers),
                    limit=1,
                )
        elif node.name in self.grids:
            scale, levels = self.grids[node.name]
        else:
            raise ConversionError(
                f"input '{node.name}'",
                "is read without an InputQuant, and input_scale and input_levels are not given",
                remedy="quantize it: convert(..., input_scale=1/255, input_levels=(0, 255))",
                actual=None,
                limit="a scale or levels",
            )
        if not 1 <= len(shape) <= 3:
            raise ConversionError(
                f"input '{node.name}'",
                f"has shape {shape} after the batch axis, 1 to 3 axes are possible",
                remedy="use (n,), (channels, length) or (channels, height, width)",
                actual=shape,
                limit="1 to 3 axes",
            )
        n_inputs = sum(n.op == "placeholder" for n in self.graph.nodes)
        name = self._name(node, "input" if n_inputs == 1 else node.name)
        builder.populations[name] = InputPlan(name=name, shape=shape, scale=scale, levels=levels)
        unit = torch.full((shape[0],), scale, dtype=torch.float64, device=self._device)
        return _spikes_of(name, shape, unit)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _neurons(
        self, builder: _Builder, node: fx.Node, quantizer: PolarityQuant, drive: Expression
    ) -> Expression:
        path = str(node.target)
        name = self._name(node, path)
        calls = [n for n in self.graph.nodes if n.op == node.op and n.target == node.target]
        self.population_of[path, calls.index(node)] = name
        quantizer.check(f"quantizer '{path}'")
        theta = quantizer.theta.to(torch.float64)
        if quantizer.lsq_gradient_scale and quantizer.training:
            numel = math.prod(drive.shape) / max(theta.numel(), 1)
            share = 1.0 / math.sqrt(numel * quantizer.levels[1])
            theta = theta * share + (theta - theta * share).detach()
        if theta.ndim == 1 and len(theta) not in (1, drive.shape[0]):
            raise ConversionError(
                f"quantizer '{node.target}'",
                f"has {len(theta)} thetas for {drive.shape[0]} channels",
                remedy="calibrate it for this model",
                actual=len(theta),
                limit=drive.shape[0],
            )
        builder.populations[name] = NeuronPlan(
            name=name, shape=drive.shape, drive=drive, quantizer=quantizer, theta=theta
        )
        unit = (theta / quantizer.gains[0]).expand(drive.shape[0])
        return _spikes_of(name, drive.shape, unit)

    def _readouts(self, builder: _Builder, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        returned = node.args[0]

        def walk(part: Any, key: str) -> Any:
            if isinstance(part, fx.Node):
                drive = values[part]
                if not isinstance(drive, Expression):
                    raise ConversionError(
                        f"output '{key}'",
                        "does not depend on the input",
                        remedy="return what the network computes",
                        actual=part.name,
                        limit="a value computed from the input",
                    )
                name = key
                while name in self._taken:
                    name += "_out"
                self._taken.add(name)
                drive = self._through(builder, drive, node)
                builder.populations[name] = ReadoutPlan(name=name, shape=drive.shape, drive=drive)
                return name
            if isinstance(part, dict):
                return {k: walk(v, str(k)) for k, v in part.items()}
            if isinstance(part, tuple | list):
                return tuple(walk(v, f"{key}_{i}") for i, v in enumerate(part))
            raise ConversionError(
                "output",
                f"holds {type(part).__name__}, tensors, tuples and dicts are possible",
                remedy="return tensors only",
                actual=type(part).__name__,
                limit="Tensor",
            )

        return walk(returned, "output")

    def _through(self, builder: _Builder, drive: Expression, node: fx.Node) -> Expression:
        """Write flattened terms out where they reach neurons."""
        if not any(isinstance(t.map, Flat) for t in drive.terms):
            return drive
        n = math.prod(drive.shape)
        terms = tuple(
            replace(t, map=as_matrix(t.map, t.source_shape, n, drive.shape))
            if isinstance(t.map, Flat)
            else t
            for t in drive.terms
        )
        return replace(drive, terms=terms)

    # -- layers ------------------------------------------------------------------------------

    def _call_module(
        self, builder: _Builder, node: fx.Node, values: dict[fx.Node, Any]
    ) -> Expression:
        module = self._module(node)
        assert module is not None
        given = (*node.args, *node.kwargs.values())
        if len(given) != 1 or not isinstance(given[0], fx.Node):
            raise self._refusal(node, f"takes {len(given)} arguments, one activation is possible")
        x: Expression = values[given[0]]
        if isinstance(module, InputQuant):
            if _origin(given[0]).op != "placeholder":
                raise self._refusal(node, "quantizes a value that is not an input")
            return x
        if isinstance(module, LearnedGainQuant):
            raise ConversionError(
                self.subject(node),
                f"has a learned gain of {module.alpha:.4g}, limit: two small integers",
                remedy="snap it first: model = pmsm_hw.nn.gain.snap_gains(model), and fine-tune",
                actual=module.alpha,
                limit="integer gains",
            )
        if isinstance(module, PolarityQuant):
            return self._neurons(builder, node, module, self._through(builder, x, node))
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            if module.padding_mode != "zeros":
                raise self._refusal(
                    node, f"pads with mode {module.padding_mode!r}, zeros are possible"
                )
            return self._convolution(
                builder, x, module.weight, module.bias, module.stride, module.padding,
                module.dilation, module.groups,
            )  # fmt: skip
        if isinstance(module, nn.Linear):
            return self._linear(builder, node, x, module.weight, module.bias)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return self._batch_norm(node, module, x)
        if isinstance(module, nn.AvgPool1d | nn.AvgPool2d):
            return self._average_pool(
                x, module.kernel_size, module.stride, module.padding, module.ceil_mode,
                module.count_include_pad, getattr(module, "divisor_override", None),
            )  # fmt: skip
        if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d):
            return self._adaptive_pool(x, module.output_size)
        if isinstance(module, nn.Flatten | nn.Unflatten):
            return self._rearranged(node, x, module.forward)
        if isinstance(module, nn.Identity | nn.Dropout | nn.Dropout1d | nn.Dropout2d):
            return x
        if isinstance(module, nn.ZeroPad1d | nn.ZeroPad2d | nn.ConstantPad1d | nn.ConstantPad2d):
            if getattr(module, "value", 0.0) != 0:
                raise self._refusal(node, f"pads with {module.value}, zeros are possible")
            return self._pad(node, x, tuple(module.padding))
        raise self._refusal(node, "has no counterpart on spikes")

    def _refusal(self, node: fx.Node, problem: str) -> ConversionError:
        return ConversionError(
            self.subject(node),
            f"{problem}; possible are Conv1d, Conv2d, Linear, BatchNorm, average pooling, Flatten, "
            "padding, +, cat, Dropout, Identity and PolarityQuant",
            remedy="replace it by one of these and train again",
            actual=self.kind(node),
            limit="a supported operation",
        )

    def _pairs(self, value: Any, n_axes: int) -> Shape:
        if isinstance(value, int):
            return (value,) * n_axes
        sizes = tuple(int(v) for v in value)
        return sizes * n_axes if len(sizes) == 1 else sizes

    def _convolution(
        self,
        builder: _Builder,
        x: Expression,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
    ) -> Expression:
        n_axes = weight.ndim - 2
        stride, dilation = self._pairs(stride, n_axes), self._pairs(dilation, n_axes)
        if padding == "valid":
            padding = 0
        if padding == "same":
            reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            pads: Pads = tuple((r // 2, r - r // 2) for r in reach)
        else:
            pads = tuple((p, p) for p in self._pairs(padding, n_axes))
        window = Window(weight.to(torch.float64), stride, pads, dilation, groups)
        out = self._layer(builder, x, window)
        return out if bias is None else out.shifted(bias.to(torch.float64))

    def _linear(
        self, builder: _Builder, node: fx.Node, x: Expression, weight: Tensor, bias: Tensor | None
    ) -> Expression:
        if x.n_axes:
            raise self._refusal(node, f"is applied to the last axis of shape {x.shape}")
        w = weight.to(torch.float64)
        out = self._layer(builder, x, Matrix(w))
        return out if bias is None else out.shifted(bias.to(torch.float64))

    def _batch_norm(self, node: fx.Node, module: Any, x: Expression) -> Expression:
        return self._normalized(
            node, x, module.running_mean, module.running_var, module.weight, module.bias,
            module.eps, False,
        )  # fmt: skip

    def _normalized(
        self,
        node: fx.Node,
        x: Expression,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        training: bool,
    ) -> Expression:
        if mean is None or variance is None or training:
            raise self._refusal(node, "keeps no running statistics")
        gain = torch.rsqrt(variance.double() + eps)
        if weight is not None:
            gain = gain * weight.double()
        shift = -mean.double() * gain
        if bias is not None:
            shift = shift + bias.double()
        return x.scaled(gain).shifted(shift)

    def _average_pool(
        self,
        x: Expression,
        kernel: Any,
        stride: Any,
        padding: Any,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor: int | None,
    ) -> Expression:
        n_axes = x.n_axes
        kernel = self._pairs(kernel, n_axes)
        stride = kernel if stride is None or stride == () else self._pairs(stride, n_axes)
        before = self._pairs(padding, n_axes)
        out, pads = [], []
        counts: list[Tensor] = []  # cells that each window divides by, per axis
        for size, k, s, p in zip(x.shape[1:], kernel, stride, before, strict=True):
            n = -(-(size + 2 * p - k) // s) + 1 if ceil_mode else (size + 2 * p - k) // s + 1
            if ceil_mode and (n - 1) * s >= size + p:
                n -= 1  # torch drops windows that start in the padding
            out.append(n)
            pads.append((p, max((n - 1) * s + k - size - p, 0)))
            starts = torch.arange(n) * s - p
            lo, hi = (-p, size + p) if count_include_pad else (0, size)
            counts.append((starts + k).clamp(max=hi) - starts.clamp(min=lo))
        total = counts[0].double()
        for count in counts[1:]:
            total = total[:, None] * count
        if divisor is not None:
            total = torch.full_like(total, float(divisor))
        one = torch.ones(x.shape[0], dtype=torch.float64, device=x._device)
        if bool((total == total.reshape(-1)[0]).all()):
            return x.pooled(
                Pool(kernel, stride, tuple(pads), one / float(total.reshape(-1)[0]), 0, x.shape[0])
            )
        summed = x.pooled(Pool(kernel, stride, tuple(pads), one, 0, x.shape[0]))
        return _weighted(summed, (1.0 / total).to(x._device))

    def _adaptive_pool(self, x: Expression, output_size: Any) -> Expression:
        wanted = (output_size,) * x.n_axes if isinstance(output_size, int) else tuple(output_size)
        if len(wanted) < x.n_axes:
            wanted = wanted * x.n_axes
        sizes = [s if w is None else int(w) for s, w in zip(x.shape[1:], wanted, strict=True)]
        if all(s % w == 0 for s, w in zip(x.shape[1:], sizes, strict=True)):
            kernel = tuple(s // w for s, w in zip(x.shape[1:], sizes, strict=True))
            return self._average_pool(x, kernel, kernel, 0, False, True, None)
        # windows of different sizes: one row per output position and axis
        check_matrix(x.shape[0] * math.prod(sizes), math.prod(x.shape))
        rows = []
        for size, n in zip(x.shape[1:], sizes, strict=True):
            row = torch.zeros((n, size), dtype=torch.float64)
            for i in range(n):
                start, stop = i * size // n, -(-(i + 1) * size // n)
                row[i, start:stop] = 1.0 / (stop - start)
            rows.append(row)
        weight = rows[0]
        for row in rows[1:]:
            weight = torch.kron(weight, row)
        weight = torch.kron(torch.eye(x.shape[0], dtype=torch.float64), weight).to(x._device)
        flat = x.flattened().multiplied(weight)
        return replace(
            flat, shape=(x.shape[0], *sizes), bias=_reshaped(flat.bias, (x.shape[0], *sizes))
        )

    def _pad(self, node: fx.Node, x: Expression, widths: tuple[int, ...]) -> Expression:
        pairs = [(int(widths[i]), int(widths[i + 1])) for i in range(0, len(widths), 2)][::-1]
        if len(pairs) > x.n_axes or min(min(p) for p in pairs) < 0:
            raise self._refusal(
                node, f"pads by {widths}, spatial axes and widths >= 0 are possible"
            )
        pairs = [(0, 0)] * (x.n_axes - len(pairs)) + pairs
        return x.padded(tuple(pairs))

    def _rearranged(
        self, node: fx.Node, x: Expression, function: Callable[[Tensor], Any]
    ) -> Expression:
        """Reshape, or permute axes of which all but one have size 1: values keep their order."""
        if node not in self._in_order:
            numbers = torch.arange(2 * math.prod(x.shape), dtype=torch.float64)
            moved = function(numbers.reshape(2, *x.shape))
            self._in_order[node] = torch.equal(moved.reshape(-1), numbers)
        if not self._in_order[node]:
            raise self._refusal(node, f"changes the order of the values of shape {x.shape}")
        shape = self.results[node].shape[1:]
        if shape == x.shape:
            return x
        if shape == (math.prod(x.shape),):
            return x.flattened()
        raise self._refusal(
            node, f"turns shape {x.shape} into {shape}, only flattening is possible"
        )

    # -- pooling: fold or relay ---------------------------------------------------------------

    def _layer(self, builder: _Builder, x: Expression, layer: Window | Matrix) -> Expression:
        """Apply a layer term by term, through a relay where that is better or the only way."""
        total: Expression | None = None
        for i, term in enumerate(x.terms):
            part = Expression(x.shape, (term,), x.bias if i == 0 else None)
            relayed = self._relayed(builder, part)
            folded: Expression | None = None
            if relayed is None:
                folded = _through_layer(layer, part)
            elif self._prefers_fold(builder, part, layer, relayed[0]):
                try:
                    folded = _through_layer(layer, part)
                except NotFoldableError:
                    folded = None
            if folded is None:
                assert relayed is not None
                plan, expression = relayed
                if plan.name not in builder.populations:
                    builder.populations[plan.name] = plan
                    self._taken.add(plan.name)
                    builder.relays[_relay_key(plan)] = plan.name
                folded = _through_layer(layer, expression)
            total = folded if total is None else total.plus(folded)
        return _through_layer(layer, x) if total is None else total

    def _prefers_fold(
        self, builder: _Builder, part: Expression, layer: Window | Matrix, relay: RelayPlan
    ) -> bool:
        """Whether folding a pooled term takes no more synaptic operations and neurons than a relay.

        Counted with every neuron sending one spike. Graded, a relay sends one message for a whole
        window. In unit spikes it sends the payloads of all, so nothing is saved, and a gain costs.
        """
        if self.pooling != "auto":
            return self.pooling == "fold"
        source = builder.populations[relay.source]
        n_source, n_relay = math.prod(source.shape), math.prod(relay.shape)
        taps = math.prod(relay.pool.kernel)
        if isinstance(layer, Matrix):
            folded, relayed = len(layer.weight) * n_source, len(layer.weight) * n_relay
        else:
            kernel = layer.weight.shape[2:]
            reach = math.prod(
                (k - 1) * d * s + t
                for k, d, s, t in zip(
                    kernel, layer.dilation, relay.pool.stride, relay.pool.kernel, strict=True
                )
            )
            n_windows = math.prod(part.windowed_shape(layer)[1:])
            relayed = layer.weight.numel() * n_windows
            folded = relayed // math.prod(kernel) * reach
        if self.unit_spikes and isinstance(source, NeuronPlan):
            relayed *= taps * max(abs(gain) for gain in source.quantizer.gains)
        if relay.name not in builder.populations:
            relayed += n_relay * (1 + taps)
        return folded <= relayed

    def _relayed(self, builder: _Builder, part: Expression) -> tuple[RelayPlan, Expression] | None:
        """The relay population that could send a pooled term, and what it sends."""
        (term,) = part.terms
        map_ = term.map
        flat = map_ if isinstance(map_, Flat) else None
        pool = flat.inner if flat is not None else map_
        if not isinstance(pool, Pool) or all(k == 1 for k in pool.kernel):
            return None
        source = builder.populations[term.source]
        if isinstance(source, RelayPlan):
            return None
        reach = max(map(abs, self.relay_reach(source)))
        if reach * math.prod(pool.kernel) >= 1 << 15:
            return None  # more than a spike can say
        channels = len(pool.scale)
        spatial = part.shape[1:] if flat is None else flat.shape[1:]
        shape = (channels, *spatial)
        plain = replace(pool, scale=torch.ones_like(pool.scale), offset=0, total=channels)
        plan = RelayPlan(name="", shape=shape, source=term.source, pool=plain)
        name = builder.relays.get(_relay_key(plan))
        if name is None:
            name, i = f"{term.source}.pool", 0
            while name in self._taken:
                i += 1
                name = f"{term.source}.pool_{i}"
        plan = replace(plan, name=name)
        passed = Channelwise(pool.scale, pool.offset, pool.total)
        sent: Map = passed if flat is None else replace(flat, inner=passed)
        return plan, replace(part, terms=(Term(name, shape, sent),))

    # -- functions ---------------------------------------------------------------------------

    def _call_function(self, builder: _Builder, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        target = node.target
        args, kwargs = cast(
            "tuple[tuple[Any, ...], dict[str, Any]]",
            fx.node.map_arg((node.args, node.kwargs), values.__getitem__),
        )
        method = str(target) if node.op == "call_method" else ""
        x: Any = args[0] if args else kwargs.get("input")
        rest = {k: v for k, v in kwargs.items() if k != "input"}
        if target is getattr and isinstance(x, Expression) and args[1] == "data":
            return x
        if (target in _HARMLESS or method in _HARMLESS) and isinstance(x, Expression):
            return x
        if (target in _RESHAPES or method in _RESHAPES) and isinstance(x, Expression):
            function: Any = getattr(Tensor, method) if method else target
            return self._rearranged(node, x, lambda v: function(v, *args[1:], **rest))
        for source in node.all_input_nodes:
            if source in self._varying:
                raise self._refusal(node, f"computes with '{source.name}', a size of the batch")
        if target is operator.getitem and isinstance(x, Expression):
            raise self._refusal(node, "takes a part of an activation")
        arithmetic = self._arithmetic(node, target, method, args, kwargs)
        if arithmetic is not None:
            return arithmetic
        if target in (torch.cat, torch.concat, torch.concatenate):
            given = arguments_of(("tensors", "dim"), args, kwargs)
            return self._concatenation(
                node, given["tensors"], given.get("dim", given.get("axis", 0))
            )
        if not isinstance(x, Expression):
            raise self._refusal(node, "is applied to a constant")
        if target in (F.dropout, F.dropout1d, F.dropout2d):
            given = arguments_of(("input", "p", "training"), args, kwargs)
            if given.get("training", target is F.dropout):
                raise self._refusal(node, "drops values at random in evaluation mode, too")
            return x
        return self._functional_layer(builder, node, x, args, kwargs)

    def _functional_layer(
        self, builder: _Builder, node: fx.Node, x: Expression, args: Any, kwargs: Any
    ) -> Expression:
        """Layers as functions, with the arguments that torch gives them."""
        target = node.target
        if target is F.pad:
            given = arguments_of(("input", "pad", "mode", "value"), args, kwargs)
            if given.get("mode", "constant") != "constant" or (given.get("value") or 0) != 0:
                raise self._refusal(node, f"pads with mode {given['mode']!r}, zeros are possible")
            return self._pad(node, x, tuple(given["pad"]))
        if target in (F.avg_pool1d, F.avg_pool2d):
            given = arguments_of(_POOL_ARGUMENTS, args, kwargs)
            return self._average_pool(
                x, given["kernel_size"], given.get("stride"), given.get("padding", 0),
                given.get("ceil_mode", False), given.get("count_include_pad", True),
                given.get("divisor_override"),
            )  # fmt: skip
        if target in (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d):
            given = arguments_of(("input", "output_size"), args, kwargs)
            return self._adaptive_pool(x, given["output_size"])
        if target is torch.mean or (node.op == "call_method" and target == "mean"):
            given = arguments_of(("input", "dim", "keepdim"), args, kwargs)
            return self._mean(node, x, given.get("dim"), given.get("keepdim", False))
        if target in (F.conv1d, F.conv2d, torch.conv1d, torch.conv2d):
            given = arguments_of(_CONVOLUTION_ARGUMENTS, args, kwargs)
            return self._convolution(
                builder, x, given["weight"], given.get("bias"), given.get("stride", 1),
                given.get("padding", 0), given.get("dilation", 1), given.get("groups", 1),
            )  # fmt: skip
        if target in (F.batch_norm, torch.batch_norm):
            given = arguments_of(_BATCH_NORM_ARGUMENTS, args, kwargs)
            return self._normalized(
                node, x, given["running_mean"], given["running_var"], given.get("weight"),
                given.get("bias"), given.get("eps", 1e-5), bool(given.get("training", False)),
            )  # fmt: skip
        if target is F.linear:
            given = arguments_of(("input", "weight", "bias"), args, kwargs)
            return self._linear(builder, node, x, given["weight"], given.get("bias"))
        raise self._refusal(node, "has no counterpart on spikes")

    def _arithmetic(
        self, node: fx.Node, target: Any, method: str, args: Any, kwargs: Any
    ) -> Expression | None:
        """Sums, differences and constant factors; None for other functions."""
        given = arguments_of(("input", "other"), args, kwargs)
        a: Any = given.get("input")
        b: Any = given.get("other")
        if target in _ADDS or method in _ADDS:
            kind = "add"
        elif target in _SUBTRACTS or method in _SUBTRACTS:
            kind = "sub"
        elif target in _MULTIPLIES or method in _MULTIPLIES:
            return self._multiply(node, *((a, b) if isinstance(a, Expression) else (b, a)))
        elif target in _DIVIDES or method in _DIVIDES:
            if isinstance(b, Expression) or given.get("rounding_mode") is not None:
                raise self._refusal(node, "divides by an activation, or rounds")
            if not bool(torch.as_tensor(b).all()):
                raise self._refusal(node, "divides by 0")
            return self._multiply(node, a, 1.0 / b)
        elif target in _NEGATES or method in _NEGATES:
            return self._multiply(node, a, -1.0)
        else:
            return None
        factor = float(given.get("alpha", 1)) * (-1.0 if kind == "sub" else 1.0)
        if factor != 1:
            b = self._multiply(node, b, factor) if isinstance(b, Expression) else b * factor
        if isinstance(a, Expression) and isinstance(b, Expression):
            return a.plus(b)
        x, constant = (a, b) if isinstance(a, Expression) else (b, a)
        assert isinstance(x, Expression)
        return self._plus_constant(node, x, constant)

    def _plus_constant(self, node: fx.Node, x: Expression, constant: Any) -> Expression:
        """Add a number, one value per channel, or one per neuron (a position embedding)."""
        c = torch.as_tensor(constant, dtype=torch.float64, device=x._device)
        shape = (1,) * (x.n_axes + 2 - c.ndim) + tuple(c.shape)
        if len(shape) == x.n_axes + 2 and shape[0] == 1 and any(n != 1 for n in shape[2:]):
            fits = all(n in (1, m) for n, m in zip(shape[1:], x.shape, strict=True))
            if fits:
                return x.plus(Expression(x.shape, (), c.reshape(shape)[0].expand(x.shape)))
        return x.shifted(self._per_channel(node, x, c))

    def _concatenation(self, node: fx.Node, parts: Any, dim: int) -> Expression:
        if not all(isinstance(p, Expression) for p in parts):
            raise self._refusal(node, "concatenates with a constant")
        if dim % (parts[0].n_axes + 2) != 1:
            raise self._refusal(node, f"concatenates along axis {dim}, channels (1) are possible")
        return concatenated(parts)

    def _mean(self, node: fx.Node, x: Expression, dim: Any, keep: bool) -> Expression:
        dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
        axes = sorted(d % (x.n_axes + 2) for d in dims)
        if not x.n_axes or axes != list(range(2, x.n_axes + 2)):
            raise self._refusal(node, f"averages over axes {dims}, all spatial axes are possible")
        pooled = self._adaptive_pool(x, 1)
        return pooled if keep else pooled.flattened()

    def _multiply(self, node: fx.Node, x: Any, factor: Any) -> Expression:
        if not isinstance(x, Expression) or isinstance(factor, Expression):
            raise self._refusal(node, "multiplies two activations")
        return x.scaled(self._per_channel(node, x, factor))

    def _per_channel(self, node: fx.Node, x: Expression, constant: Any) -> Tensor:
        c = torch.as_tensor(constant, dtype=torch.float64, device=x._device)
        shape = (1,) * (x.n_axes + 2 - c.ndim) + tuple(c.shape)
        if len(shape) != x.n_axes + 2 or any(n != 1 for i, n in enumerate(shape) if i != 1):
            raise self._refusal(node, f"combines with a constant of shape {tuple(c.shape)}")
        if c.numel() not in (1, x.shape[0]):
            raise self._refusal(node, f"combines shape {x.shape} with one of {tuple(c.shape)}")
        return c.reshape(-1).expand(x.shape[0])


_BATCH_NORM_ARGUMENTS = (
    "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
)  # fmt: skip
_POOL_ARGUMENTS = (
    "input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
    "divisor_override",
)  # fmt: skip
_CONVOLUTION_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def arguments_of(
    names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of a call's arguments by name, positional or not."""
    return dict(zip(names, args, strict=False)) | dict(kwargs)


_ADDS: frozenset[Any] = frozenset({operator.add, operator.iadd, torch.add, "add"})
_SUBTRACTS: frozenset[Any] = frozenset(
    {operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "subtract"}
)
_MULTIPLIES: frozenset[Any] = frozenset(
    {operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "multiply"}
)
_DIVIDES: frozenset[Any] = frozenset(
    {
        operator.truediv, operator.itruediv, torch.div, torch.divide, torch.true_divide, "div",
        "divide", "true_divide",
    }
)  # fmt: skip
_NEGATES: frozenset[Any] = frozenset({operator.neg, torch.neg, torch.negative, "neg", "negative"})
_HARMLESS: frozenset[Any] = frozenset(
    {
        "clone", "contiguous", "cpu", "cuda", "detach", "double", "float", "to", "type", "type_as",
        torch.clone, torch.detach, torch.Tensor.contiguous,
    }
)  # fmt: skip
"""Change no value; `Lowering` refuses those that make floats narrower than 32 bits."""

_RESHAPES: frozenset[Any] = frozenset(
    {
        "flatten", "moveaxis", "movedim", "permute", "reshape", "squeeze", "swapaxes", "swapdims",
        "transpose", "unflatten", "unsqueeze", "view", torch.flatten, torch.moveaxis,
        torch.movedim, torch.permute, torch.reshape, torch.squeeze, torch.swapaxes, torch.swapdims,
        torch.transpose, torch.unflatten, torch.unsqueeze,
    }
)  # fmt: skip


def _is_harmless(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method") and node.target in _HARMLESS


def _readers(node: fx.Node) -> list[fx.Node]:
    """Nodes that read a value, also through operations that change nothing."""
    found: list[fx.Node] = []
    for user in node.users:
        found += _readers(user) if _is_harmless(user) else [user]
    return found


def _origin(node: fx.Node) -> fx.Node:
    """Where a value comes from before operations that change nothing."""
    while _is_harmless(node) and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _attribute(root: nn.Module, path: str) -> Any:
    found: Any = root
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _spikes_of(name: str, shape: Shape, unit: Tensor) -> Expression:
    return Expression(shape, (Term(name, shape, Channelwise(unit, 0, shape[0])),))


def _reshaped(bias: Tensor | None, shape: Shape) -> Tensor | None:
    return None if bias is None else bias.reshape(shape)


def _weighted(x: Expression, factor: Tensor) -> Expression:
    """Each position times ``factor``, shape of the spatial axes: written out as matrices."""
    n = math.prod(x.shape)
    rows = factor.expand(x.shape).reshape(-1)
    terms = tuple(
        replace(t, map=Matrix(as_matrix(t.map, t.source_shape, n, x.shape).weight * rows[:, None]))
        for t in x.terms
    )
    bias = None if x.bias is None else x.bias * factor
    return Expression(x.shape, terms, bias)


def _relay_key(plan: RelayPlan) -> tuple[Any, ...]:
    pool = plan.pool
    return plan.source, pool.kernel, pool.stride, pool.padding


def _through_layer(layer: Window | Matrix, x: Expression) -> Expression:
    return x.multiplied(layer.weight) if isinstance(layer, Matrix) else x.windowed(layer)


def _reachable(populations: Mapping[str, PopulationPlan], output: Any) -> set[str]:
    """Populations that some output needs, and all inputs."""
    waiting: list[str] = []

    def collect(part: Any) -> None:
        if isinstance(part, str):
            waiting.append(part)
        else:
            for inner in part.values() if isinstance(part, dict) else part:
                collect(inner)

    collect(output)
    used = {n for n, p in populations.items() if isinstance(p, InputPlan)}
    while waiting:
        name = waiting.pop()
        if name in used:
            continue
        used.add(name)
        plan = populations[name]
        if isinstance(plan, RelayPlan):
            waiting.append(plan.source)
        elif isinstance(plan, NeuronPlan | ReadoutPlan):
            waiting += [t.source for t in plan.drive.terms]
    return used
