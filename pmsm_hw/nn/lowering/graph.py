"""The walk through a traced torch graph.

`Lowering` walks the graph once (shapes, what each node is) and can then be evaluated any number of
times with the parameters of the moment: `Lowering.plan` gives a differentiable `Plan`.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn

from pmsm_hw.errors import ConversionError
from pmsm_hw.network import Shape
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
    NotFoldableError,
    Term,
    as_matrix,
)
from pmsm_hw.nn.gain import LearnedGainQuant
from pmsm_hw.nn.input_grid import input_grid
from pmsm_hw.nn.lowering.calls import of_function, of_module
from pmsm_hw.nn.lowering.layers import keeps_order, reshaped
from pmsm_hw.nn.lowering.plans import (
    Builder,
    InputPlan,
    NeuronPlan,
    NotSupportedError,
    Plan,
    Pooling,
    PopulationPlan,
    ReadoutPlan,
    RelayPlan,
)
from pmsm_hw.nn.lowering.relays import Relays
from pmsm_hw.nn.mutations import run_nodes, without_mutations
from pmsm_hw.nn.preparation import check_finite
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant
from pmsm_hw.nn.tracing import few, kind_of, subject_of, trace

__all__ = ["Lowering"]

QUANTIZE_LINE = "model = pmsm_hw.nn.quantize(model, levels=(0, 4), init='mse', calibration=x)"


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
        self.relays = Relays(pooling, unit_spikes, relay_reach)
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
        builder = Builder()
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
            except NotSupportedError as reason:
                raise self._refusal(node, str(reason)) from None
        used = _reachable(builder.populations, output)
        return Plan(
            populations={n: p for n, p in builder.populations.items() if n in used}, output=output
        )

    def _evaluate(self, builder: Builder, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
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
                raise NotSupportedError("takes an activation apart")
            if not reads_shape(node):
                raise NotSupportedError("reads the values of an activation as numbers")
            return seen
        if not seen.dtype.is_floating_point or torch.finfo(seen.dtype).bits < 32:
            raise NotSupportedError(f"computes in {seen.dtype}, float32 is needed")
        if node.op == "call_module":
            result = self._call_module(builder, node, values)
        else:
            result = self._call_function(builder, node, values)
        if isinstance(result, Expression) and seen.shape != (2, *result.shape):
            raise NotSupportedError(f"turns 2 samples into shape {seen.shape}")
        return result

    def _constant(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        """What a node makes of values that no input reaches, with the parameters of the moment."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return cast(Callable[..., Any], node.target)(*args, **kwargs)

    def _name(self, builder: Builder, node: fx.Node, wanted: str) -> str:
        if node not in self._names:
            self._names[node] = wanted
        name, i = self._names[node], 0
        while name in builder.taken:
            i += 1
            name = f"{self._names[node]}_{i}"
        builder.taken.add(name)
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

    def _placeholder(self, builder: Builder, node: fx.Node) -> Expression:
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
        name = self._name(builder, node, "input" if n_inputs == 1 else node.name)
        builder.populations[name] = InputPlan(name=name, shape=shape, scale=scale, levels=levels)
        unit = torch.full((shape[0],), scale, dtype=torch.float64, device=self._device)
        return _spikes_of(name, shape, unit)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _neurons(
        self, builder: Builder, node: fx.Node, quantizer: PolarityQuant, drive: Expression
    ) -> Expression:
        path = str(node.target)
        name = self._name(builder, node, path)
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

    def _readouts(self, builder: Builder, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
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
                while name in builder.taken:
                    name += "_out"
                builder.taken.add(name)
                drive = _written_out(drive)
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

    # -- layers ------------------------------------------------------------------------------

    def _call_module(
        self, builder: Builder, node: fx.Node, values: dict[fx.Node, Any]
    ) -> Expression:
        module = self._module(node)
        assert module is not None
        given = (*node.args, *node.kwargs.values())
        if len(given) != 1 or not isinstance(given[0], fx.Node):
            raise NotSupportedError(f"takes {len(given)} arguments, one activation is possible")
        x: Expression = values[given[0]]
        if isinstance(module, InputQuant):
            if _origin(given[0]).op != "placeholder":
                raise NotSupportedError("quantizes a value that is not an input")
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
            return self._neurons(builder, node, module, _written_out(x))
        return of_module(
            module, x, partial(self.relays.through, builder), partial(self._rearranged, node)
        )

    def _refusal(self, node: fx.Node, problem: str) -> ConversionError:
        return ConversionError(
            self.subject(node),
            f"{problem}; possible are Conv1d, Conv2d, Linear, BatchNorm, average pooling, Flatten, "
            "padding, +, cat, Dropout, Identity and PolarityQuant",
            remedy="replace it by one of these and train again",
            actual=self.kind(node),
            limit="a supported operation",
        )

    def _rearranged(
        self, node: fx.Node, x: Expression, function: Callable[[Tensor], Any]
    ) -> Expression:
        """Reshape, or permute axes of which all but one have size 1: values keep their order."""
        if node not in self._in_order:
            self._in_order[node] = keeps_order(x.shape, function)
        if not self._in_order[node]:
            raise NotSupportedError(f"changes the order of the values of shape {x.shape}")
        return reshaped(x, self.results[node].shape[1:])

    # -- functions ---------------------------------------------------------------------------

    def _call_function(self, builder: Builder, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
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
                raise NotSupportedError(f"computes with '{source.name}', a size of the batch")
        if target is operator.getitem and isinstance(x, Expression):
            raise NotSupportedError("takes a part of an activation")
        called = method or target
        return of_function(called, args, kwargs, partial(self.relays.through, builder))


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


def _written_out(drive: Expression) -> Expression:
    """The same with flattened terms as matrices, as neurons need them."""
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


def _spikes_of(name: str, shape: Shape, unit: Tensor) -> Expression:
    return Expression(shape, (Term(name, shape, Channelwise(unit, 0, shape[0])),))


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
