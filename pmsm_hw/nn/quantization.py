"""Turning a trained float model into a quantized one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pmsm_hw.arguments import choice, flag
from pmsm_hw.errors import ConversionError, QuantizationError
from pmsm_hw.nn.activations import (
    ACTIVATIONS,
    average_name,
    is_activation,
    is_final_softmax,
    max_pool_of,
    reached,
    replaceable,
)
from pmsm_hw.nn.agreement import FLOAT32_TOLERANCE, difference, first_difference, standing_for
from pmsm_hw.nn.batch_norm import calibrate_from_batch_norm
from pmsm_hw.nn.batches import Batch, as_tensors
from pmsm_hw.nn.evaluation import answer, answers, check_module, evaluating
from pmsm_hw.nn.initialization import INITIALIZATIONS, choose_theta
from pmsm_hw.nn.input_grid import check_grid, input_grid
from pmsm_hw.nn.lowering import Lowering
from pmsm_hw.nn.mutations import run_nodes, without_mutations
from pmsm_hw.nn.preparation import check_finite, prepared
from pmsm_hw.nn.probing import probe
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant, check_levels
from pmsm_hw.nn.ranges import kept_limits
from pmsm_hw.nn.tracing import arguments, exported, few, kind_of, subject_of, trace, unique_path

__all__ = ["calibrate", "quantize", "spikes"]

_POOL_ARGUMENTS = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")


def quantize(
    model: nn.Module,
    levels: Sequence[int] = (0, 4),
    gains: Sequence[int] = (1, 1),
    init: str = "mse",
    calibration: Batch | Literal["batch_norm"] | None = None,
    *,
    per_channel: bool = False,
    input_scale: float | None = None,
    input_levels: Sequence[int] | None = None,
    max_pool: Literal["refuse", "average"] = "refuse",
    lsq_gradient_scale: bool = True,
) -> fx.GraphModule:
    """Swap each activation of a model for a calibrated `PolarityQuant`, and quantize its input.

    The graph is traced with torch.fx, so functional forms (``F.relu``) and modules called more than
    once are found; each call gets a quantizer of its own. Where that fails, as with branches on
    shapes, torch.export gives the graph, and batch norm keeps its statistics.

    Parameters
    ----------
    model
        A float model with ReLU, ReLU6, LeakyReLU, Hardtanh or clamp. Not changed.
    levels, gains
        ``(n, p)`` and ``(gain_pos, gain_neg)`` of every quantizer.
    init
        How theta is chosen: ``"mse"``, ``"entropy"``, ``"lsq"``, ``"percentile"``, ``"qcfs"``.
    calibration
        A batch of inputs (one array, or one per input of the model); theta is chosen layer by layer
        on what the layers before, already quantized, give for it. ``"batch_norm"`` takes batch
        norm's word for what the activations look like, see `calibrate_from_batch_norm`; then
        ``input_scale`` and ``input_levels`` are needed.
    per_channel
        One theta per channel instead of one per layer.
    input_scale, input_levels
        Real value of one input unit, and ``(lo, hi)``. By default 8 bits that span the calibration
        batch, ``(0, 255)`` or, where it has negative values, ``(-127, 127)``. With a scale alone,
        the fewest levels that hold the batch; with levels alone, the scale at which they span it.
    max_pool
        ``"average"`` swaps max pooling, which spikes cannot do, for average pooling of the same
        window; ``"refuse"`` raises.
    lsq_gradient_scale
        See `PolarityQuant`.

    Returns
    -------
    fx.GraphModule
        In evaluation mode; parameter names are the model's, quantizers are named after the
        activations they replace.

    Raises
    ------
    QuantizationError
        If the model has no activation, one of another kind, max pooling, or cannot be traced; if
        the calibration batch is missing or useless.
    """
    levels, gains = check_levels("quantize", levels, gains)
    choice(
        QuantizationError, "quantize", "max_pool", max_pool, ("refuse", "average"),
        remedy="choose one of them",
    )  # fmt: skip
    choice(QuantizationError, "quantize", "init", init, INITIALIZATIONS, remedy="choose one")
    if calibration is None:
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            "no calibration batch was given, 1 is needed to choose theta",
            remedy="pass calibration=x, some hundred training inputs",
            actual=None,
            limit="a batch of inputs",
        )
    for what, value in (("per_channel", per_channel), ("lsq_gradient_scale", lsq_gradient_scale)):
        flag(QuantizationError, "quantize", what, value)
    scale, input_pair = check_grid(input_scale, input_levels, QuantizationError)
    batch = None if isinstance(calibration, str) else as_tensors(calibration, "calibration")
    if batch is None and (calibration != "batch_norm" or None in (input_scale, input_levels)):
        raise QuantizationError(
            "calibration",
            f"{calibration!r} with input_scale {input_scale} and input_levels {input_levels}: "
            "without data only 'batch_norm' is possible, with both given",
            remedy="pass calibration=x, or 'batch_norm' with input_scale and input_levels",
            actual=calibration,
            limit="batch_norm",
        )
    reference, root, graph = traced(model, batch)
    check_finite(root, graph, QuantizationError)
    _refuse_others(root, graph, max_pool)
    proven_on = batch
    if proven_on is None:
        proven_on = probe(reference, graph, cast(float, scale), input_pair)
    _check_batch(graph, proven_on)
    wanted = answers(reference, proven_on, QuantizationError, what="calibration")
    small = few(proven_on)
    without_mutations(root, graph, small, QuantizationError, owned=True)
    _refuse_others(root, graph, max_pool)
    found = answers(_Run(root, graph), proven_on, QuantizationError, what="calibration")
    _prove(reference, root, graph, proven_on, wanted, found)
    stand_ins = _swap_activations(root, graph, levels, gains, lsq_gradient_scale, max_pool)
    inputs = _quantize_inputs(root, graph, batch, scale, input_pair)
    graph.lint()
    quantized = _Quantized(root, graph, type(model).__name__)
    quantized.delete_all_unused_submodules()
    quantized.recompile()
    quantized.eval()
    stand_ins |= dict.fromkeys(inputs, _same)
    paths = {path for path, _ in quantized.named_modules()}
    with standing_for(quantized, {p: f for p, f in stand_ins.items() if p in paths}):
        found = answers(quantized, proven_on, QuantizationError, what="calibration")
        _prove(reference, quantized, quantized.graph, proven_on, wanted, found)
    notes = _drop_softmax(quantized, small)
    try:
        Lowering(quantized, small).plan()
    except ConversionError as cause:  # at once: training it would be for nothing
        raise QuantizationError(
            cause.subject, cause.problem,
            remedy=cause.remedy, actual=cause.actual, limit=cause.limit,
        ) from cause  # fmt: skip
    if len(inputs) == 1:  # a file has part of the batch only, from which others would follow
        (only,) = inputs.values()
        scale, input_pair = only.scale, only.levels
    options = {
        "levels": list(levels),
        "gains": list(gains),
        "per_channel": per_channel,
        "input_scale": scale,
        "input_levels": None if input_pair is None else list(input_pair),
        "max_pool": max_pool,
        "lsq_gradient_scale": lsq_gradient_scale,
    }
    recipe: dict[str, Any] = dict(cast(Any, getattr(model, "recipe", {}))) | {"quantize": options}
    examples = tuple(x[:256] for x in batch or ())
    quantized.__dict__.update(recipe=recipe, examples=examples)
    quantized.meta["notes"] = notes  # copies keep it
    if batch is None:
        calibrate_from_batch_norm(quantized, init, per_channel=per_channel)
    else:
        calibrate(quantized, batch, init, per_channel=per_channel)
    return quantized


def traced(
    model: nn.Module, batch: Sequence[Tensor] | None
) -> tuple[nn.Module, nn.Module, fx.Graph]:
    """A copy of a model in evaluation mode, another to be worked on, and the graph of that.

    Parameters
    ----------
    model
        Any module. Not changed.
    batch
        One array per input; None where there are no data: then only torch.fx can trace.

    Raises
    ------
    QuantizationError
        If the model cannot be traced.
    """
    reference = prepared(model, QuantizationError)
    root: nn.Module = copy.deepcopy(reference)
    n_inputs = None if batch is None else len(batch)
    try:
        return reference, root, trace(root, QuantizationError, n_inputs=n_inputs)
    except QuantizationError as reason:
        if batch is None:
            raise
        return reference, *exported(root, batch, reason)


def _swap_activations(
    root: nn.Module,
    graph: fx.Graph,
    levels: tuple[int, int],
    gains: tuple[int, int],
    lsq_gradient_scale: bool,
    max_pool: str,
) -> dict[str, Callable[[Tensor], Any]]:
    """Put quantizers in place of activations, and average pooling of max pooling.

    What follows from parameters alone stays. Returns what new modules stand for, by path.
    """
    inner = reached(graph)
    # modules that are also called with parameters keep their place for these
    taken = {node.target for node in graph.nodes if node.op == "call_module" and node not in inner}
    new: list[tuple[fx.Node, nn.Module]] = []
    for node in graph.nodes:
        if node not in inner:
            continue
        if replaceable(root, node) is not None:
            limits = kept_limits(root, node, levels)
            quantizer = PolarityQuant(
                levels, gains, lsq_gradient_scale=lsq_gradient_scale, limits=limits
            )
            new.append((node, quantizer))
        elif max_pool == "average" and max_pool_of(root, node) in ("adaptive", "windows"):
            new.append((node, _average_pool(root, node)))
    if not any(isinstance(module, PolarityQuant) for _, module in new):
        raise QuantizationError(
            f"model '{type(root).__name__}'",
            "has 0 activations, at least 1 is needed",
            remedy="use nn.ReLU between its layers; quantizers take the place of activations",
            actual=0,
            limit=1,
        )
    functions = [_as_function(root, node) for node, _ in new]
    stand_ins: dict[str, Callable[[Tensor], Any]] = {}
    for (node, module), function in zip(new, functions, strict=True):
        path = _name(node)
        if node.op != "call_module" or path in taken:
            path = unique_path(root, path)
        taken.add(path)  # each call gets one of its own
        root.set_submodule(path, module)
        _replace(graph, node, path)
        stand_ins[path] = function
    return stand_ins


class _Quantized(fx.GraphModule):
    """A graph whose copies know where it comes from: `recipe` and `examples`."""

    def __deepcopy__(self, memo: Any) -> _Quantized:
        twin = cast(_Quantized, super().__deepcopy__(memo))
        return self._same_origin(twin, copy.deepcopy(self._origin(), memo))

    def __copy__(self) -> _Quantized:
        twin = cast(_Quantized, super().__copy__())
        return self._same_origin(twin, self._origin())

    def _origin(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("recipe", "examples") if name in vars(self)}

    @staticmethod
    def _same_origin(twin: _Quantized, origin: dict[str, Any]) -> _Quantized:
        twin.__dict__.update(origin)
        return twin


class _Run(nn.Module):
    """A graph as a module, run node by node."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__()
        self.root, self.graph = root, graph

    def forward(self, *x: Tensor) -> Any:
        """What the graph returns."""
        runner = fx.Interpreter(self.root, graph=self.graph)
        runner.extra_traceback = False
        return runner.run(*x)


def _prove(
    reference: nn.Module,
    root: nn.Module,
    graph: fx.Graph,
    batch: Sequence[Tensor],
    wanted: Any,
    found: Any,
) -> None:
    """Raise where a graph, without quantizers at work, does not compute what the model does."""
    off = difference(wanted, found)
    if not off > FLOAT32_TOLERANCE:
        return
    raise QuantizationError(
        first_difference(reference, root, graph, batch, QuantizationError),
        f"computes something else in the traced graph than in the model: {off:.2g} of the largest "
        f"output, limit: {FLOAT32_TOLERANCE}",
        remedy="write it as plain torch operations that return new values and draw no random "
        "numbers in evaluation mode, without hooks that change values",
        actual=off,
        limit=FLOAT32_TOLERANCE,
    )


def _same(x: Tensor) -> Tensor:
    return x


def _as_function(root: nn.Module, node: fx.Node) -> Callable[[Tensor], Any]:
    """What a node makes of its one input."""
    if len(node.all_input_nodes) != 1:
        raise QuantizationError(
            subject_of(root, node),
            f"is an activation with {len(node.all_input_nodes)} tensors as arguments, limit: 1",
            remedy="give its slope and limits as numbers",
            actual=len(node.all_input_nodes),
            limit=1,
        )
    if node.op == "call_module":
        # without hooks, which the module that takes its place has not
        return cast("Callable[[Tensor], Any]", root.get_submodule(str(node.target)).forward)
    rest = {k: v for k, v in node.kwargs.items() if k != "input"}

    def call(x: Tensor) -> Any:
        function: Any = node.target
        if node.op == "call_method":
            function = getattr(torch.Tensor, str(node.target))
        return function(x, *node.args[1:], **rest)

    return call


def _drop_softmax(model: fx.GraphModule, examples: Sequence[Tensor]) -> tuple[str, ...]:
    """Let a model return logits in place of their (log-)softmax; what was dropped."""
    notes = []
    found = [node for node in model.graph.nodes if is_final_softmax(model, node)]
    values = dict(run_nodes(model, model.graph, examples, QuantizationError)) if found else {}
    for node in found:
        n_axes = values[node].ndim
        if not is_final_softmax(model, node, n_axes):
            raise QuantizationError(
                subject_of(model, node),
                f"is over another axis than the classes of an output of {n_axes} axes, limit: "
                "axis 1",
                remedy="let the model return what goes into it",
                actual=n_axes,
                limit=1,
            )
        (source,) = node.all_input_nodes
        notes.append(
            f"{subject_of(model, node)} at the output is left out: the network returns the logits, "
            "of which the largest is the same"
        )
        node.replace_all_uses_with(source)
        model.graph.erase_node(node)
    if notes:
        model.delete_all_unused_submodules()
        model.recompile()
    return tuple(notes)


def _refuse_others(root: nn.Module, graph: fx.Graph, max_pool: str) -> None:
    found: list[tuple[str, str]] = []
    pools: list[fx.Node] = []
    for part in root.modules():
        if isinstance(part, PolarityQuant):
            raise QuantizationError(
                "model",
                "has PolarityQuant modules already, limit: 0",
                remedy="use nn.calibrate to choose theta again",
                actual="quantized",
                limit="a float model",
            )
    inner = reached(graph)
    for node in graph.nodes:
        if node not in inner:
            continue
        is_other = is_activation(root, node) and replaceable(root, node) is None
        if kind_of(root, node).endswith("_"):
            continue  # in place: seen when it is rewritten
        if is_other and not is_final_softmax(root, node):
            found.append((_name(node), kind_of(root, node)))
        if max_pool_of(root, node) is not None:
            pools.append(node)
    if found:
        names = ", ".join(f"'{name}' ({kind})" for name, kind in found)
        raise QuantizationError(
            f"module {names}",
            f"{len(found)} activations are of a kind that no quantizer replaces; possible are "
            "ReLU, ReLU6, LeakyReLU, Hardtanh and clamp",
            remedy="use one of these and train again",
            actual=tuple(kind for _, kind in found),
            limit=tuple(t.__name__ for t in ACTIVATIONS),
        )
    if pools and max_pool != "average":
        names = ", ".join(f"'{_name(node)}' ({kind_of(root, node)})" for node in pools)
        raise QuantizationError(
            f"module {names}",
            "max pooling has no spiking counterpart, limit: 0",
            remedy=f"use {_average_of(root, pools[0])} in its place and train again, or, in "
            "Python, quantize(..., max_pool='average') and fine-tune",
            actual=len(pools),
            limit=0,
        )


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _average_of(root: nn.Module, node: fx.Node) -> str:
    """The module of torch that averages the same windows."""
    return average_name(kind_of(root, node))


def _average_pool(root: nn.Module, node: fx.Node) -> nn.Module:
    """Average pooling of the window of a max pooling."""
    kind = max_pool_of(root, node)
    pool = root.get_submodule(str(node.target)) if node.op == "call_module" else None
    window: dict[str, Any]
    average: nn.Module
    names: tuple[str, ...]
    if kind == "adaptive":
        names = ("input", "output_size", "return_indices")
        window = arguments(node, names, {}) if pool is None else vars(pool)
        average = getattr(nn, _average_of(root, node)[3:])(window["output_size"])
    else:
        names = _POOL_ARGUMENTS
        if pool is None:
            defaults = {"padding": 0, "dilation": 1, "ceil_mode": False}
            window = arguments(node, names, defaults)
        else:
            window = vars(pool)
        if any(d != 1 for d in np.atleast_1d(window["dilation"])):
            raise QuantizationError(
                f"module '{_name(node)}'",
                f"max pooling with dilation {window['dilation']} has no average counterpart, "
                "limit: 1",
                remedy="use a pooling without dilation",
                actual=window["dilation"],
                limit=1,
            )
        average = getattr(nn, _average_of(root, node)[3:])(
            window["kernel_size"],
            window.get("stride") or window["kernel_size"],
            window["padding"],
            ceil_mode=bool(window["ceil_mode"]),
        )
    if window.get("return_indices"):
        raise QuantizationError(
            f"module '{_name(node)}'",
            "returns the positions of maxima, which an average has not",
            remedy="use average pooling and train again",
            actual="return_indices=True",
            limit="return_indices=False",
        )
    return average


def _replace(graph: fx.Graph, node: fx.Node, path: str) -> None:
    """Call module ``path`` in place of ``node``."""
    source = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(source, fx.Node)
    with graph.inserting_after(node):
        new = graph.call_module(path, (source,))
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _quantize_inputs(
    root: nn.Module,
    graph: fx.Graph,
    batch: tuple[Tensor, ...] | None,
    scale: float | None,
    levels: tuple[int, int] | None,
) -> dict[str, InputQuant]:
    """Put a quantizer behind each input; by path."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    if batch is None:  # scale and levels are given
        batch = (torch.empty(0),) * len(placeholders)
    found = {}
    for node, x in zip(placeholders, batch, strict=True):
        quantizer = InputQuant(*input_grid(x, scale, levels, QuantizationError))
        path = unique_path(root, "input_quant" if len(placeholders) == 1 else f"{node.name}_quant")
        root.add_module(path, quantizer)
        with graph.inserting_after(node):
            new = graph.call_module(path, (node,))
        node.replace_all_uses_with(new, delete_user_cb=lambda user, new=new: user is not new)
        found[path] = quantizer
    return found


def _check_batch(graph: fx.Graph, batch: Sequence[Tensor]) -> None:
    n_inputs = sum(node.op == "placeholder" for node in graph.nodes)
    if n_inputs != len(batch):
        raise QuantizationError(
            "calibration",
            f"{len(batch)} arrays were given, the model takes {n_inputs} inputs",
            remedy="give one array per input",
            actual=len(batch),
            limit=n_inputs,
        )
    lengths = tuple(len(x) if x.ndim else 0 for x in batch)
    if min(lengths) < 1 or len(set(lengths)) > 1:
        raise QuantizationError(
            "calibration",
            f"has {', '.join(map(str, lengths))} samples, at least 1 is needed, as many of "
            "each input",
            remedy="give a batch, some hundred training inputs",
            actual=lengths,
            limit=1,
        )


def calibrate(model: nn.Module, x: Batch, init: str = "mse", *, per_channel: bool = False) -> None:
    """Choose theta of every `PolarityQuant` again, in place, layer by layer.

    Parameters
    ----------
    model
        Has `PolarityQuant` modules.
    x
        A batch of inputs.
    init
        See `quantize`.
    per_channel
        One theta per channel.

    Raises
    ------
    QuantizationError
        If the activations are useless, or a quantizer is never reached.
    """
    check_module(model)
    quantizers = {n: m for n, m in model.named_modules() if isinstance(m, PolarityQuant)}
    seen: set[str] = set()

    def hook_of(name: str) -> Callable[[PolarityQuant, tuple[Tensor, ...]], None]:
        def hook(module: PolarityQuant, args: tuple[Tensor, ...]) -> None:
            if name in seen:
                return  # called again: keeps the step of the first call
            seen.add(name)
            (activation,) = args
            channels = activation.shape[1] if per_channel else None
            theta = module.theta.detach().reshape(-1)[0]
            module.theta = nn.Parameter(
                theta.expand(channels).clone() if channels is not None else theta.clone()
            )
            chosen = choose_theta(activation, module, init, f"quantizer '{name}'")
            with torch.no_grad():
                module.theta.copy_(chosen)

        return hook

    handles = [m.register_forward_pre_hook(hook_of(n)) for n, m in quantizers.items()]
    try:
        with evaluating(model), torch.no_grad():
            answer(model, *as_tensors(x))
    finally:
        for handle in handles:
            handle.remove()
    missed = sorted(set(quantizers) - seen)
    if missed:
        raise QuantizationError(
            f"quantizer '{missed[0]}'",
            f"{len(missed)} quantizers are never reached by the calibration batch, limit: 0",
            remedy="remove unused activations from the model",
            actual=len(missed),
            limit=0,
        )


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the levels ``k`` of every quantizer while the context is open.

    A module's second call in a forward pass is named ``path_1``, the third ``path_2``, and so on.
    """
    found: dict[str, Tensor] = {}

    def hook_of(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def hook(module: Any, args: tuple[Tensor, ...]) -> None:
            key, i = name, 0
            while key in found:
                i += 1
                key = f"{name}_{i}"
            quantizer = module.spikes if isinstance(module, PolarityQuant) else module.units
            found[key] = quantizer(args[0]).detach()

        return hook

    handles = [
        m.register_forward_pre_hook(hook_of(n))
        for n, m in model.named_modules()
        if isinstance(m, PolarityQuant | InputQuant)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def spikes(model: nn.Module, x: Batch) -> dict[str, NDArray[np.int32]]:
    """Levels ``k`` of every quantizer of a quantized model (units, for input quantizers).

    Parameters
    ----------
    model
        Quantized; run in evaluation mode.
    x
        A batch of inputs.

    Returns
    -------
    dict
        By module name, ``(batch, *shape)`` int32.
    """
    own = getattr(model, "spikes", None)
    if callable(own) and not isinstance(model, PolarityQuant):
        return cast("dict[str, NDArray[np.int32]]", own(x))
    with evaluating(model), recorded(model) as found, torch.no_grad():
        answer(model, *as_tensors(x))
    return {name: k.cpu().numpy().astype(np.int32) for name, k in found.items()}
