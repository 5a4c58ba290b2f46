"""Turning a trained float model into a quantized one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.batch_norm import calibrate_from_batch_norm
from pmsm_hw.nn.evaluation import evaluating
from pmsm_hw.nn.initialization import choose_theta
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant, check_levels
from pmsm_hw.nn.tracing import arguments, exported, function_name, trace, unique_path

__all__ = ["as_tensors", "calibrate", "quantize", "spikes"]

Batch: TypeAlias = "Tensor | NDArray[Any] | Sequence[Tensor | NDArray[Any]]"

_ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh)
_ACTIVATION_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, F.leaky_relu, F.hardtanh}
)
_ACTIVATION_METHODS = frozenset({"relu", "relu_"})
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
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d)
_MAX_POOL_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {F.max_pool1d, F.max_pool2d, torch.max_pool1d, torch.max_pool2d}
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
        A float model with ReLU, ReLU6, LeakyReLU or Hardtanh. Not changed.
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
        batch, ``(0, 255)`` or, where it has negative values, ``(-127, 127)``.
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
    if calibration is None:
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            "no calibration batch was given, 1 is needed to choose theta",
            remedy="pass calibration=x, some hundred training inputs",
            actual=None,
            limit="a batch of inputs",
        )
    batch = None if isinstance(calibration, str) else as_tensors(calibration)
    if batch is None and (calibration != "batch_norm" or None in (input_scale, input_levels)):
        raise QuantizationError(
            "calibration",
            f"{calibration!r} with input_scale {input_scale} and input_levels {input_levels}: "
            "without data only 'batch_norm' is possible, with both given",
            remedy="pass calibration=x, or 'batch_norm' with input_scale and input_levels",
            actual=calibration,
            limit="batch_norm",
        )
    root: nn.Module = copy.deepcopy(model).eval()
    try:
        graph = trace(root, QuantizationError)
    except QuantizationError as reason:
        if batch is None:
            raise
        root, graph = exported(root, batch, reason)
    _refuse_others(root, graph, max_pool)
    n_swapped = 0
    for node in list(graph.nodes):
        name = _activation(root, node)
        if name is None:
            if max_pool == "average":
                _swap_pool(root, node)
            continue
        quantizer = PolarityQuant(levels, gains, lsq_gradient_scale=lsq_gradient_scale)
        if node.op == "call_module" and not _is_ours(root, node.target):
            path = node.target  # first call of this module: take its place
        else:
            path = unique_path(root, name)
        root.set_submodule(path, quantizer)
        _replace(graph, node, path)
        n_swapped += 1
    if n_swapped == 0:
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            "has 0 activations, at least 1 is needed",
            remedy="use nn.ReLU between its layers; quantizers take the place of activations",
            actual=0,
            limit=1,
        )
    _quantize_inputs(root, graph, batch, input_scale, input_levels)
    graph.lint()
    quantized = fx.GraphModule(root, graph, type(model).__name__)
    quantized.graph.eliminate_dead_code()
    quantized.delete_all_unused_submodules()
    quantized.recompile()
    quantized.eval()
    options = {
        "levels": list(levels),
        "gains": list(gains),
        "per_channel": per_channel,
        "input_scale": input_scale,
        "input_levels": None if input_levels is None else list(input_levels),
        "max_pool": max_pool,
        "lsq_gradient_scale": lsq_gradient_scale,
    }
    recipe: dict[str, Any] = dict(cast(Any, getattr(model, "recipe", {}))) | {"quantize": options}
    quantized.__dict__.update(recipe=recipe, examples=tuple(x[:256] for x in batch or ()))
    if batch is None:
        calibrate_from_batch_norm(quantized, init, per_channel=per_channel)
    else:
        calibrate(quantized, batch, init, per_channel=per_channel)
    return quantized


def as_tensors(batch: Batch) -> tuple[Tensor, ...]:
    """One tensor per model input, floats in torch's default dtype."""
    parts = (batch,) if isinstance(batch, Tensor | np.ndarray) else tuple(batch)
    return tuple(torch.as_tensor(part).to(torch.get_default_dtype()) for part in parts)


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
    pools: list[str] = []
    for module in root.modules():
        if isinstance(module, PolarityQuant):
            raise QuantizationError(
                "model",
                "has PolarityQuant modules already, limit: 0",
                remedy="use nn.calibrate to choose theta anew",
                actual="quantized",
                limit="a float model",
            )
    for node in graph.nodes:
        if node.op == "call_module":
            module = root.get_submodule(str(node.target))
            kind, name = type(module).__name__, str(node.target)
            is_other, is_pool = (
                isinstance(module, _OTHER_ACTIVATIONS),
                isinstance(module, _MAX_POOLS),
            )
        elif node.op == "call_function":
            kind, name = function_name(node.target), node.name
            is_other, is_pool = node.target in _OTHER_FUNCTIONS, node.target in _MAX_POOL_FUNCTIONS
        elif node.op == "call_method":
            kind, name = str(node.target), node.name
            is_other, is_pool = node.target in _OTHER_METHODS, False
        else:
            continue
        if is_other:
            found.append((name, kind))
        if is_pool:
            pools.append(f"'{name}' ({kind})")
    if found:
        names = ", ".join(f"'{name}' ({kind})" for name, kind in found)
        raise QuantizationError(
            f"module {names}",
            f"{len(found)} activations are of a kind that no quantizer replaces; possible are "
            "ReLU, ReLU6, LeakyReLU and Hardtanh",
            remedy="use one of these and train again",
            actual=tuple(kind for _, kind in found),
            limit=tuple(t.__name__ for t in _ACTIVATIONS),
        )
    if pools and max_pool != "average":
        raise QuantizationError(
            f"module {', '.join(pools)}",
            "max pooling has no spiking counterpart, limit: 0",
            remedy="use nn.AvgPool2d, or quantize(..., max_pool='average') and fine-tune",
            actual=len(pools),
            limit=0,
        )


def _swap_pool(root: nn.Module, node: fx.Node) -> None:
    """Turn a max pooling into an average pooling of the same window."""
    window: dict[str, Any]
    if node.op == "call_module":
        pool = root.get_submodule(str(node.target))
        if not isinstance(pool, _MAX_POOLS):
            return
        window = {name: getattr(pool, name) for name in _POOL_ARGUMENTS[1:]}
        is_1d = isinstance(pool, nn.MaxPool1d)
    elif node.op == "call_function" and node.target in _MAX_POOL_FUNCTIONS:
        window = arguments(node, _POOL_ARGUMENTS, {"padding": 0, "dilation": 1, "ceil_mode": False})
        is_1d = "1d" in getattr(node.target, "__name__", "")
    else:
        return
    if any(d != 1 for d in np.atleast_1d(window["dilation"])):
        raise QuantizationError(
            f"module '{node.target if node.op == 'call_module' else node.name}'",
            f"max pooling with dilation {window['dilation']} has no average counterpart, limit: 1",
            remedy="use a pooling without dilation",
            actual=window["dilation"],
            limit=1,
        )
    average = (nn.AvgPool1d if is_1d else nn.AvgPool2d)(
        window["kernel_size"],
        window.get("stride") or window["kernel_size"],
        window["padding"],
        ceil_mode=bool(window["ceil_mode"]),
    )
    if node.op == "call_module":
        root.set_submodule(str(node.target), average)
        return
    path = unique_path(root, node.name)
    root.set_submodule(path, average)
    _replace(node.graph, node, path)


def _replace(graph: fx.Graph, node: fx.Node, path: str) -> None:
    """Call module ``path`` in place of ``node``."""
    source = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(source, fx.Node)
    with graph.inserting_after(node):
        new = graph.call_module(path, (source,))
    node.replace_all_uses_with(new)
    in_place = node.target in (F.relu_, torch.relu_, "relu_") or bool(node.kwargs.get("inplace"))
    if in_place:  # whoever reads the input later reads the changed one
        order = {n: i for i, n in enumerate(graph.nodes)}
        for user in list(source.users):
            if user is not node and order[user] > order[new]:
                user.replace_input_with(source, new)
    graph.erase_node(node)


def _quantize_inputs(
    root: nn.Module,
    graph: fx.Graph,
    batch: tuple[Tensor, ...] | None,
    scale: float | None,
    levels: Sequence[int] | None,
) -> None:
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    if batch is None:  # scale and levels are given
        batch = (torch.empty(0),) * len(placeholders)
    if len(placeholders) != len(batch):
        raise QuantizationError(
            "calibration",
            f"{len(batch)} arrays were given, the model takes {len(placeholders)} inputs",
            remedy="give one array per input",
            actual=len(batch),
            limit=len(placeholders),
        )
    for node, x in zip(placeholders, batch, strict=True):
        lo, hi = (int(v) for v in levels) if levels is not None else _default_levels(x)
        unit = scale if scale is not None else _default_scale(x, (lo, hi))
        quantizer = InputQuant(unit, levels if levels is not None else (lo, hi))
        path = unique_path(root, "input_quant" if len(placeholders) == 1 else f"{node.name}_quant")
        root.add_module(path, quantizer)
        with graph.inserting_after(node):
            new = graph.call_module(path, (node,))
        node.replace_all_uses_with(new, delete_user_cb=lambda user, new=new: user is not new)


def _default_levels(x: Tensor) -> tuple[int, int]:
    return (-127, 127) if bool((x < 0).any()) else (0, 255)


def _default_scale(x: Tensor, levels: tuple[int, int]) -> float:
    largest = float(x.abs().max()) if x.numel() else 0.0
    if not np.isfinite(largest) or largest == 0.0:
        raise QuantizationError(
            "calibration",
            f"the largest absolute input is {largest}, it must be finite and positive",
            remedy="calibrate with clean data, or give input_scale",
            actual=largest,
            limit="> 0",
        )
    return largest / max(abs(levels[0]), abs(levels[1]))


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
            model(*as_tensors(x))
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
        model(*as_tensors(x))
    return {name: k.cpu().numpy().astype(np.int32) for name, k in found.items()}
