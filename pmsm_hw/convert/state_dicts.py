"""State dicts as training tools write them: prefixes and wrappers around the values of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["suited"]

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net")
"""Keys below which checkpoints keep the state dict of the model."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, ``torch.compile`` and Lightning put in front of every name."""


def suited(values: Mapping[Any, Any], model: nn.Module) -> dict[Any, Any]:
    """State dict in the names of a model.

    Only what leaves all names of the model in place is done: wrappers are opened and prefixes taken
    off while the names are not the model's. `AveragedModel`'s counter ``n_averaged`` is left out.

    Parameters
    ----------
    values
        As read.
    model
        Gives the names.
    """
    wanted = set(model.state_dict())
    found: dict[Any, Any] = dict(values)
    while not wanted <= set(found):
        inner = next((found[k] for k in WRAPPERS if _is_state_dict(found.get(k))), None)
        if inner is not None and not any(isinstance(v, Tensor) for v in found.values()):
            found = dict(inner)
            continue
        named = {k: v for k, v in found.items() if k != "n_averaged"}
        prefix = next((p for p in PREFIXES if named and all(_starts(k, p) for k in named)), None)
        if prefix is None:
            break
        found = {k[len(prefix) :]: v for k, v in named.items()}
    return found


def _starts(key: Any, prefix: str) -> bool:
    return isinstance(key, str) and key.startswith(prefix)


def _is_state_dict(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    inner = [value[k] for k in WRAPPERS if k in value]
    return any(isinstance(v, Tensor) for v in value.values()) or any(map(_is_state_dict, inner))
