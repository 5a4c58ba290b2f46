"""Modules in place of others, wherever a model has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

__all__ = ["swap"]

_Old = TypeVar("_Old", bound=nn.Module)
_New = TypeVar("_New", bound=nn.Module)

_HOOKS = (
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks",
    "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
)  # fmt: skip


def swap(model: nn.Module, kind: type[_Old], new: Callable[[_Old], _New | None]) -> dict[str, _New]:
    """Put new modules in place of all of one kind, in place; they get the hooks of the old ones.

    A module that is registered under several names is swapped for one under all of them.

    Parameters
    ----------
    model
        Its own kind is not looked at.
    kind
        Class of the modules to be replaced.
    new
        Makes a module from an old one; None leaves that.

    Returns
    -------
    dict
        New modules by their first name.
    """
    made: dict[nn.Module, _New | None] = {}
    found: dict[str, _New] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if not name or not isinstance(module, kind):
            continue
        if module not in made:
            made[module] = successor = new(module)
            if successor is not None:
                found[name] = successor
                for hooks in _HOOKS:
                    getattr(successor, hooks).update(getattr(module, hooks))
        replacement = made[module]
        if replacement is not None:
            model.set_submodule(name, replacement)
    return found
