"""Turning a trained float model into a quantized one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pmsm_hw.arguments import choice, flag
from pmsm_hw.errors import ConversionError, QuantizationError
from pmsm_hw.nn.agreement import (
    FLOAT32_TOLERANCE,
    answers,
    difference,
    first_difference,
    standing_for,
)
from pmsm_hw.nn.batch_norm import calibrate_from_batch_norm
from pmsm_hw.nn.batches import Batch, as_tensors
from pmsm_hw.nn.evaluation import answer, check_module, evaluating
from pmsm_hw.nn.initialization import INITIALIZATIONS, choose_theta
from pmsm_hw.nn.input_grid import check_grid, input_grid
from pmsm_hw.nn.lowering import Lowering, average_name
from pmsm_hw.nn.mutations import without_mutations
from pmsm_hw.nn.preparation import check_finite, prepared
from pmsm_hw.nn.probing import probe
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant, check_levels
from pmsm_hw.nn.ranges import kept_limits
from pmsm_hw.nn.tracing import arguments, exported, few, kind_of, subject_of, trace, unique_path

__all__ = ["calibrate", "quantize", "spikes"]

_ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh)
_ACTIVATION_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {F.relu, torch.relu, F.relu6, F.leaky_relu, F.hardtanh, torch.clamp, torch.clip}
)
_ACTIVATION_METHODS = frozenset({"relu", "clamp", "clip"})
_OTHER_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.CELU, nn.ELU, nn.GELU, nn.GLU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.LogSigmoid,
    nn.Mish, nn.PReLU, nn.RReLU, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softmax, nn.Softmin, nn.Softplus,
    nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
_OTHER_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {
        F.celu, F.elu, F.gelu, F.glu, F.hardshrink, F.hardsigmoid, F.hardswish,
        F.logsigmoid, F.mish, F.prelu, F.rrelu, F.selu, F.sigmoid, F.silu, F.softmax, F.softplus,
        F.softsign, F.tanh, torch.sigmoid, torch.tanh, torch.softmax, torch.prelu, torch.selu,
    }
)  # fmt: skip
_OTHER_METHODS = frozenset({"sigmoid", "tanh", "softmax"})
_SOFTMAX: frozenset[Any] = frozenset(
    {F.softmax, F.log_softmax, torch.softmax, torch.log_softmax, "softmax", "log_softmax"}
)
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d)
_ADAPTIVE_MAX_POOLS = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
_MAX_POOL_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {F.max_pool1d, F.max_pool2d, torch.max_pool1d, torch.max_pool2d}
)
_ADAPTIVE_MAX_POOL_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {F.adaptive_max_pool1d, F.adaptive_max_pool2d, torch.adaptive_max_pool1d}
)
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
    reference = prepared(model, QuantizationError)
    root: nn.Module = copy.deepcopy(reference)
    try:
        graph = trace(root, QuantizationError)
    except QuantizationError as reason:
        if batch is None:
            raise
        exported_root, graph = exported(root, batch, reason)
        root = exported_root
    check_finite(root, graph, QuantizationError)
    _refuse_others(root, graph, max_pool)
    proven_on = batch
    if proven_on is None:
        proven_on = probe(reference, graph, cast(float, scale), input_pair)
    _check_batch(graph, proven_on)
    wanted = answers(reference, proven_on, QuantizationError, what="calibration")
    small = few(proven_on)
    without_mutations(root, graph, small, QuantizationError, owned=True)
    found = answers(_Run(root, graph), proven_on, QuantizationError, what="calibration")
    _prove(reference, root, graph, proven_on, wanted, found)
    stand_ins: dict[str, Callable[[Tensor], Any]] = {}
    for node in list(graph.nodes):
        name = _activation(root, node)
        if name is None:
            if max_pool == "average":
                _swap_pool(root, node, stand_ins)
            continue
        activation = stand_ins.get(str(node.target)) or _as_function(root, node)
        quantizer = PolarityQuant(
            levels, gains, lsq_gradient_scale=lsq_gradient_scale,
            limits=_limits(root, node, levels),
        )  # fmt: skip
        if node.op == "call_module" and not _is_ours(root, node.target):
            path = node.target  # first call of this module: take its place
        else:
            path = unique_path(root, name)
        root.set_submodule(path, quantizer)
        _replace(graph, node, path)
        stand_ins[path] = activation
    n_swapped = sum(isinstance(root.get_submodule(path), PolarityQuant) for path in stand_ins)
    if n_swapped == 0:
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            "has 0 activations, at least 1 is needed",
            remedy="use nn.ReLU between its layers; quantizers take the place of activations",
            actual=0,
            limit=1,
        )
    inputs = _quantize_inputs(root, graph, batch, scale, input_pair)
    graph.lint()
    quantized = fx.GraphModule(root, graph, type(model).__name__)
    quantized.delete_all_unused_submodules()
    quantized.recompile()
    quantized.eval()
    stand_ins |= dict.fromkeys(inputs, _same)
    paths = {path for path, _ in quantized.named_modules()}
    with standing_for(quantized, {p: f for p, f in stand_ins.items() if p in paths}):
        found = answers(quantized, proven_on, QuantizationError, what="calibration")
        _prove(reference, quantized, quantized.graph, proven_on, wanted, found)
    notes = _drop_softmax(quantized)
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
        "numbers in evaluation mode",
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
        return root.get_submodule(str(node.target))
    rest = {k: v for k, v in node.kwargs.items() if k != "input"}

    def call(x: Tensor) -> Any:
        function: Any = node.target
        if node.op == "call_method":
            function = getattr(torch.Tensor, str(node.target))
        return function(x, *node.args[1:], **rest)

    return call


def _drop_softmax(model: fx.GraphModule) -> tuple[str, ...]:
    """Let a model return logits in place of their (log-)softmax; what was dropped."""
    notes = []
    for node in list(model.graph.nodes):
        if not _is_final_softmax(model, node):
            continue
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


def _is_final_softmax(root: nn.Module, node: fx.Node) -> bool:
    """Whether a node is a (log-)softmax over classes that only the output reads."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        if not isinstance(module, nn.Softmax | nn.LogSoftmax):
            return False
        dim = module.dim
    elif node.op in ("call_function", "call_method") and node.target in _SOFTMAX:
        dim = arguments(node, ("input", "dim"), {"dim": None})["dim"]
    else:
        return False
    users = list(node.users)
    return dim in (None, 1, -1) and [user.op for user in users] == ["output"]


def _limits(root: nn.Module, node: fx.Node, levels: tuple[int, int]) -> tuple[float, float]:
    if node.op == "call_module" and _is_ours(root, str(node.target)):  # a call before
        return cast(PolarityQuant, root.get_submodule(str(node.target))).limits
    return kept_limits(root, node, levels)


def _is_ours(root: nn.Module, path: str) -> bool:
    return isinstance(root.get_submodule(path), PolarityQuant)


def _activation(root: nn.Module, node: fx.Node) -> str | None:
    """Name of the activation that a node calls, or None."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        # a module called before is a quantizer by now: each call gets one of its own
        return str(node.target) if isinstance(module, (*_ACTIVATIONS, PolarityQuant)) else None
    is_function = node.op == "call_function" and node.target in _ACTIVATION_FUNCTIONS
    is_method = node.op == "call_method" and node.target in _ACTIVATION_METHODS
    return node.name if is_function or is_method else None


def _refuse_others(root: nn.Module, graph: fx.Graph, max_pool: str) -> None:
    found: list[tuple[str, str]] = []
    pools: list[fx.Node] = []
    for part in root.modules():
        if isinstance(part, PolarityQuant):
            raise QuantizationError(
                "model",
                "has PolarityQuant modules already, limit: 0",
                remedy="use nn.calibrate to choose theta anew",
                actual="quantized",
                limit="a float model",
            )
    for node in graph.nodes:
        if node.op not in ("call_module", "call_function", "call_method"):
            continue
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        is_other = isinstance(module, _OTHER_ACTIVATIONS) or node.target in (
            _OTHER_METHODS if node.op == "call_method" else _OTHER_FUNCTIONS
        )
        if is_other and not _is_final_softmax(root, node):
            found.append((str(node.target) if module else node.name, kind_of(root, node)))
        if _pool_of(root, node) is not None:
            pools.append(node)
    if found:
        names = ", ".join(f"'{name}' ({kind})" for name, kind in found)
        raise QuantizationError(
            f"module {names}",
            f"{len(found)} activations are of a kind that no quantizer replaces; possible are "
            "ReLU, ReLU6, LeakyReLU, Hardtanh and clamp",
            remedy="use one of these and train again",
            actual=tuple(kind for _, kind in found),
            limit=tuple(t.__name__ for t in _ACTIVATIONS),
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


def _pool_of(root: nn.Module, node: fx.Node) -> str | None:
    """Whether a node is max pooling: ``"adaptive"``, ``"windows"`` or None."""
    module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, _ADAPTIVE_MAX_POOLS) or node.target in _ADAPTIVE_MAX_POOL_FUNCTIONS:
        return "adaptive"
    if isinstance(module, _MAX_POOLS) or node.target in _MAX_POOL_FUNCTIONS:
        return "windows"
    return None


def _average_of(root: nn.Module, node: fx.Node) -> str:
    """The module of torch that averages the same windows."""
    return average_name(kind_of(root, node))


def _swap_pool(
    root: nn.Module, node: fx.Node, stand_ins: dict[str, Callable[[Tensor], Any]]
) -> None:
    """Turn a max pooling into an average pooling of the same window."""
    kind = _pool_of(root, node)
    if kind is None:
        return
    pool = root.get_submodule(str(node.target)) if node.op == "call_module" else None
    window: dict[str, Any]
    average: Any
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
    if pool is not None:
        stand_ins[str(node.target)] = pool
        root.set_submodule(str(node.target), average)
        return
    path = unique_path(root, node.name)
    stand_ins[path] = _as_function(root, node)
    root.set_submodule(path, average)
    _replace(node.graph, node, path)


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
    """Choose theta of every `PolarityQuant` anew, in place, layer by layer.

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
