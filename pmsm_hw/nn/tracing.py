"""Tracing of torch models with torch.fx, with errors that name the module."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from pmsm_hw.errors import PmsmHwError
from pmsm_hw.nn.neuron import PolarityMultiSpike
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant

__all__ = ["trace", "unique_path"]


class _Tracer(fx.Tracer):
    """Keeps this package's modules whole, and remembers where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.where: list[str] = []
        self.deepest = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Leave quantizers and torch's own modules whole."""
        if isinstance(m, InputQuant | PolarityQuant | PolarityMultiSpike):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Trace a call; on failure remember the innermost module."""
        path = self.path_of_module(m)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.deepest = self.deepest or path
            raise


def trace(model: nn.Module, error: type[PmsmHwError]) -> fx.Graph:
    """Graph of a model; modules of torch.nn and of this package stay whole.

    Parameters
    ----------
    model
        Any module. Not changed.
    error
        What to raise where tracing fails, as with control flow that depends on data.
    """
    tracer = _Tracer()
    try:
        return tracer.trace(model)
    except (fx.proxy.TraceError, TypeError, RuntimeError, AttributeError, ValueError) as cause:
        name = tracer.deepest or type(model).__name__
        kind = type(model.get_submodule(tracer.deepest)).__name__
        reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise error(
            f"module '{name}' ({kind})",
            f"cannot be traced by torch.fx: {reason}; limit: no control flow that depends on data",
            remedy="replace branches and loops on tensor values by modules, or build the graph "
            "from plain torch.nn modules",
            actual=reason,
            limit="a traceable graph",
        ) from cause


def unique_path(root: nn.Module, path: str) -> str:
    """``path``, with ``_1``, ``_2``, ... appended if the module has something of that name."""
    modules = dict(root.named_modules())
    parent, _, leaf = path.rpartition(".")
    owner = modules.get(parent, root)
    candidate, i = leaf, 0
    while hasattr(owner, candidate):
        i += 1
        candidate = f"{leaf}_{i}"
    return f"{parent}.{candidate}" if parent else candidate


def arguments(node: fx.Node, names: tuple[str, ...], defaults: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a call by name, positional or not."""
    found = dict(defaults)
    found.update(zip(names, node.args, strict=False))
    found.update(node.kwargs)
    return found


def function_name(target: Any) -> str:
    """Name of a function that a graph calls, as people write it."""
    module = getattr(target, "__module__", "") or ""
    name = getattr(target, "__name__", str(target))
    if module == "torch.nn.functional":
        return f"F.{name}"
    return f"torch.{name}" if module.startswith("torch") or hasattr(torch, name) else name
