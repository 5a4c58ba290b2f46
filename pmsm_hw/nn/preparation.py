"""What a model must be before its graph is looked at, and the copy of it that is worked on."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, fx, nn
from torch.optim.swa_utils import AveragedModel

from pmsm_hw.errors import PmsmHwError
from pmsm_hw.nn.evaluation import check_module

__all__ = ["check_finite", "check_kind", "prepared", "unwrapped"]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``DataParallel``, ``torch.compile`` and the like; others as they are.

    Parameters
    ----------
    model
        Any module.
    """
    while True:
        inner = model.module if isinstance(model, _WRAPPERS) else vars(model).get("_modules", {})
        inner = inner.get("_orig_mod") if isinstance(inner, dict) else inner
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def check_kind(model: nn.Module, error: type[PmsmHwError]) -> None:
    """Refuse what is no module, or hides its graph or its weights.

    Parameters
    ----------
    model
        What the user gave.
    error
        What to raise, naming the module.
    """
    check_module(model, error=error)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise error(
                f"module '{name}' (ScriptModule)" if name else "model (ScriptModule)",
                "is compiled by TorchScript, which hides its graph",
                remedy="give the module that it was scripted or traced from",
                actual="ScriptModule",
                limit="torch.nn.Module",
            )
        for hook in module._forward_pre_hooks.values():
            if type(hook).__module__.startswith("torch.nn.utils"):
                raise error(
                    f"module '{name}' ({type(module).__name__})",
                    f"computes its weight in a hook ({type(hook).__name__}), which no copy can do",
                    remedy="make it permanent with torch.nn.utils.remove_weight_norm, "
                    "remove_spectral_norm or prune.remove, or use torch.nn.utils.parametrizations",
                    actual=type(hook).__name__,
                    limit="weights that are parameters",
                )


def prepared(model: nn.Module, error: type[PmsmHwError]) -> nn.Module:
    """A copy in evaluation mode and torch's default dtype, without wrappers.

    Parameters
    ----------
    model
        Not changed.
    error
        What to raise, naming the module, where there is no such copy.
    """
    check_kind(model, error)
    try:
        root = copy.deepcopy(unwrapped(model)).eval()
    except (RuntimeError, TypeError) as cause:
        raise error(
            f"model '{type(model).__name__}'",
            f"cannot be copied: {(str(cause).splitlines() or [''])[0]}",
            remedy="keep tensors that are results of other tensors out of the module",
            actual=type(cause).__name__,
            limit="copy.deepcopy(model)",
        ) from cause
    for name, module in list(root.named_modules()):
        if name and unwrapped(module) is not module:
            root.set_submodule(name, unwrapped(module))
    dtype = torch.get_default_dtype()
    if any(p.is_floating_point() and p.dtype != dtype for p in root.parameters()):
        root = root.to(dtype)
    return root


def check_finite(root: nn.Module, graph: fx.Graph, error: type[PmsmHwError]) -> None:
    """Refuse parameters and buffers of a graph that are NaN or infinite, by name.

    Parameters
    ----------
    root, graph
        A traced model.
    error
        What to raise.
    """
    for node in graph.nodes:
        if node.op == "call_module":
            module = root.get_submodule(str(node.target))
            prefix = f"{node.target}."
            _check(module.named_parameters(prefix=prefix[:-1]), error)
            _check(module.named_buffers(prefix=prefix[:-1]), error)
        elif node.op == "get_attr":
            found: object = root
            for part in str(node.target).split("."):
                found = getattr(found, part, None)
            if isinstance(found, Tensor):
                _check([(str(node.target), found)], error)


def _check(tensors: Iterable[tuple[str, Tensor]], error: type[PmsmHwError]) -> None:
    for name, tensor in tensors:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            n_bad = int((~torch.isfinite(tensor)).sum())
            raise error(
                f"parameter '{name}'",
                f"has {n_bad:,} values that are NaN or infinite, of {tensor.numel():,}; limit: 0",
                remedy="train the model again, or load weights that are finite",
                actual=n_bad,
                limit=0,
            )
