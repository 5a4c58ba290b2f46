"""Whether two forms of a model compute the same, and where they part if they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn

from pmsm_hw.errors import PmsmHwError
from pmsm_hw.nn.evaluation import answers, evaluating, plain_kernels
from pmsm_hw.nn.mutations import run_nodes
from pmsm_hw.nn.tracing import subject_of

__all__ = ["FLOAT32_TOLERANCE", "difference", "first_difference", "standing_for"]

FLOAT32_TOLERANCE = 1e-5
"""Of the largest value: far above the noise of operations done in another order."""


def difference(wanted: Any, got: Any) -> float:
    """Largest difference, relative to the largest wanted value of its tensor; inf if shapes differ.

    Parameters
    ----------
    wanted, got
        Tensors, or tuples, lists and dicts of them.
    """
    ours, theirs = _leaves(wanted), _leaves(got)
    if ours.keys() != theirs.keys():
        return float("inf")
    worst = 0.0
    for key, a in ours.items():
        b = theirs[key]
        if not isinstance(a, Tensor) or not isinstance(b, Tensor):
            worst = max(worst, 0.0 if type(a) is type(b) and a == b else float("inf"))
            continue
        if a.shape != b.shape:
            return float("inf")
        if not a.numel() or torch.equal(a, b):
            continue
        a, b = a.double(), b.double()
        same = (a == b) | (a.isnan() & b.isnan())
        off = torch.where(same, 0.0, (a - b).abs()).max().nan_to_num(float("inf"))
        size = a.abs().nan_to_num(0.0, 0.0, 0.0).max().clamp(min=1e-300)
        worst = max(worst, float(off / size))
    return worst


def _leaves(value: Any, key: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """Values by their place in tuples, lists and dicts; torch.fx has types of its own for these."""
    if isinstance(value, Mapping):
        parts = list(value.items())
    elif isinstance(value, tuple | list):
        parts = list(enumerate(value))
    else:
        return {key: value}
    return {k: v for name, part in parts for k, v in _leaves(part, (*key, name)).items()}


@contextmanager
def standing_for(model: nn.Module, others: Mapping[str, Callable[[Tensor], Any]]) -> Iterator[None]:
    """Let modules answer with what other functions make of their input, for a while.

    Parameters
    ----------
    model
        Has the modules.
    others
        Function by path of the module.
    """

    def hook_of(other: Callable[[Tensor], Any]) -> Callable[[Any, tuple[Tensor, ...], Any], Any]:
        return lambda module, args, output: other(args[0])

    handles = [
        model.get_submodule(path).register_forward_hook(hook_of(other))
        for path, other in others.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_difference(
    model: nn.Module,
    root: nn.Module,
    graph: fx.Graph,
    batch: Sequence[Tensor],
    error: type[PmsmHwError],
) -> str:
    """Name of the first module or operation of a graph whose value is not the model's.

    Parameters
    ----------
    model
        What is right.
    root, graph
        What was made of it; modules with the names that the model has are compared.
    batch
        Inputs on which the answers differ.
    error
        What to raise where the graph does not run.
    """
    calls: dict[str, list[tuple[Any, Any]]] = {}

    def hook_of(path: str) -> Callable[[Any, Any, Any], None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            kept = pytree.tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, output)
            calls.setdefault(path, []).append((entered.pop(), kept))

        return hook

    entered: list[Any] = []

    def before(module: Any, args: Any) -> None:
        entered.append(
            pytree.tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, tuple(args))
        )

    handles: list[Any] = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(before))
        handles.append(module.register_forward_hook(hook_of(path)))
    try:
        answers(model, batch, error, what="batch")
    finally:
        for handle in handles:
            handle.remove()
    values: dict[fx.Node, Any] = {}
    between: list[fx.Node] = []
    with evaluating(root), plain_kernels():
        for node, value in run_nodes(root, graph, [x.clone() for x in batch], error):
            values[node] = value
            if node.op == "call_module" and calls.get(str(node.target)):
                given, wanted = calls[str(node.target)].pop(0)
                got = tuple(values[a] for a in node.args if isinstance(a, fx.Node))
                if between and difference(given, got) > FLOAT32_TOLERANCE:
                    break
                if difference(wanted, value) > FLOAT32_TOLERANCE:
                    return subject_of(root, node)
                between = []
            elif node.op in ("call_function", "call_method", "call_module"):
                between.append(node)
    if not between:
        return f"model '{type(model).__name__}'"
    return ", ".join(subject_of(root, node) for node in between)
