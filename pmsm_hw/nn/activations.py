"""Which operations of a graph are activations, and which are max pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn

from pmsm_hw.nn.tracing import arguments

__all__ = [
    "ACTIVATIONS", "average_name", "is_activation", "is_final_softmax", "max_pool_of", "reached",
    "reads_shape", "replaceable",
]  # fmt: skip

ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh)
"""Modules that a quantizer can replace."""

_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {F.relu, torch.relu, F.relu6, F.leaky_relu, F.hardtanh, torch.clamp, torch.clip}
)
_METHODS = frozenset({"relu", "clamp", "clip"})
_NAMES = frozenset(
    {
        "celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
        "leaky_relu", "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "rrelu",
        "selu", "sigmoid", "silu", "softmax", "softmin", "softplus", "softshrink", "softsign",
        "tanh", "tanhshrink", "threshold",
    }
)  # fmt: skip
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
_SHAPES: frozenset[Any] = frozenset(
    {
        "device", "dim", "dtype", "element_size", "get_device", "is_cuda", "is_floating_point",
        "ndim", "ndimension", "nelement", "numel", "shape", "size", "stride", "type",
        torch.is_floating_point, torch.is_tensor, torch.numel,
    }
)  # fmt: skip


def reads_shape(node: fx.Node) -> bool:
    """Whether a node reads what the shape or type of a tensor tells."""
    return (node.args[1] if node.target is getattr else node.target) in _SHAPES


def reached(graph: fx.Graph) -> set[fx.Node]:
    """Nodes whose values follow from the values of an input, and not from parameters alone.

    Parameters
    ----------
    graph
        A traced model.
    """
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or (
            any(source in found for source in node.all_input_nodes) and not reads_shape(node)
        ):
            found.add(node)
    return found


def _module(root: nn.Module, node: fx.Node) -> nn.Module | None:
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def replaceable(root: nn.Module, node: fx.Node) -> str | None:
    """Name of the activation that a node calls and a quantizer can replace, or None.

    Parameters
    ----------
    root, node
        A traced model and one of its nodes.
    """
    if node.op == "call_module":
        return str(node.target) if isinstance(_module(root, node), ACTIVATIONS) else None
    is_function = node.op == "call_function" and node.target in _FUNCTIONS
    is_method = node.op == "call_method" and node.target in _METHODS
    return node.name if is_function or is_method else None


def is_activation(root: nn.Module, node: fx.Node) -> bool:
    """Whether a node calls an activation of torch, of any kind.

    Parameters
    ----------
    root, node
        As for `replaceable`.
    """
    module = _module(root, node)
    if module is not None:
        return type(module).__module__ == "torch.nn.modules.activation" and not isinstance(
            module, nn.MultiheadAttention
        )
    if node.op == "call_function":
        return getattr(node.target, "__name__", "").removesuffix("_") in _NAMES
    return node.op == "call_method" and str(node.target).removesuffix("_") in _NAMES


def is_final_softmax(root: nn.Module, node: fx.Node, n_axes: int | None = None) -> bool:
    """Whether a node is a (log-)softmax over the classes, axis 1, that only the output reads.

    Parameters
    ----------
    root, node
        As for `replaceable`.
    n_axes
        Of its value; where that is not known, whatever may be axis 1 counts.
    """
    module = _module(root, node)
    if module is not None:
        if not isinstance(module, nn.Softmax | nn.LogSoftmax):
            return False
        dim = module.dim
    elif node.op in ("call_function", "call_method") and node.target in _SOFTMAX:
        dim = arguments(node, ("input", "dim"), {"dim": None})["dim"]
    else:
        return False
    if [user.op for user in node.users] != ["output"]:
        return False
    if n_axes is None or dim == 1:
        return dim in (None, 1) or (isinstance(dim, int) and dim < 0)
    return n_axes != 3 if dim is None else dim + n_axes == 1  # torch's own choice of an axis


def max_pool_of(root: nn.Module, node: fx.Node) -> str | None:
    """Whether a node is max pooling: ``"adaptive"``, ``"windows"``, ``"other"`` or None.

    Parameters
    ----------
    root, node
        As for `replaceable`.
    """
    module = _module(root, node)
    if isinstance(module, _ADAPTIVE_MAX_POOLS) or node.target in _ADAPTIVE_MAX_POOL_FUNCTIONS:
        return "adaptive"
    if isinstance(module, _MAX_POOLS) or node.target in _MAX_POOL_FUNCTIONS:
        return "windows"
    if module is not None:
        return "other" if "MaxPool" in type(module).__name__ else None
    name = getattr(node.target, "__name__", str(node.target))
    return "other" if node.op in ("call_function", "call_method") and "max_pool" in name else None


def average_name(kind: str) -> str:
    """The module of torch that averages where a max pooling of this name takes the largest."""
    adaptive = "Adaptive" if "daptive" in kind else ""
    return f"nn.{adaptive}AvgPool{next((d for d in ('1d', '2d', '3d') if d in kind), '2d')}"
