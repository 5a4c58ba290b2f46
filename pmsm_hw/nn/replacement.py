"""What takes the place of activations, max pooling, inputs and a last softmax in a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn

from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.activations import (
    ACTIVATIONS,
    average_name,
    is_activation,
    is_final_softmax,
    max_pool_of,
    reached,
    replaceable,
)
from pmsm_hw.nn.input_grid import input_grid
from pmsm_hw.nn.mutations import run_nodes
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant
from pmsm_hw.nn.ranges import kept_limits
from pmsm_hw.nn.tracing import arguments, kind_of, subject_of, unique_path

__all__ = ["drop_softmax", "quantize_inputs", "refuse_others", "swap_activations"]

_POOL_ARGUMENTS = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")


def refuse_others(root: nn.Module, graph: fx.Graph, max_pool: str) -> None:
    """Raise where a graph has activations or pooling that nothing can take the place of.

    Parameters
    ----------
    root, graph
        A traced model.
    max_pool
        See `pmsm_hw.nn.quantize`.
    """
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


def drop_softmax(model: fx.GraphModule, examples: Sequence[Tensor]) -> tuple[str, ...]:
    """Let a model return logits in place of their (log-)softmax; what was dropped.

    Parameters
    ----------
    model
        Changed in place.
    examples
        One small batch per input.
    """
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


def swap_activations(
    root: nn.Module,
    graph: fx.Graph,
    levels: tuple[int, int],
    gains: tuple[int, int],
    lsq_gradient_scale: bool,
    max_pool: str,
) -> dict[str, Callable[[Tensor], Any]]:
    """Put quantizers in place of activations, and average pooling of max pooling.

    What follows from parameters alone stays. Returns what new modules stand for, by path.

    Parameters
    ----------
    root, graph
        A traced model, changed in place.
    levels, gains, lsq_gradient_scale, max_pool
        See `pmsm_hw.nn.quantize`.
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


def quantize_inputs(
    root: nn.Module,
    graph: fx.Graph,
    batch: tuple[Tensor, ...] | None,
    scale: float | None,
    levels: tuple[int, int] | None,
) -> dict[str, InputQuant]:
    """Put a quantizer behind each input; by path.

    Parameters
    ----------
    root, graph
        A traced model, changed in place.
    batch
        One array per input, unless scale and levels are given.
    scale, levels
        See `pmsm_hw.nn.input_grid.input_grid`.
    """
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


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name
