"""Models of the user's own, named on the command line as ``package.module:function``."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from torch import nn

from pmsm_hw.errors import ConversionError, FormatError
from pmsm_hw.nn.tensor_files import read_tensors

__all__ = ["build_model"]


def build_model(factory: str, state_dict: str | os.PathLike[str] | None = None) -> nn.Module:
    """Call a function that returns a model, and fill in trained values.

    Parameters
    ----------
    factory
        ``package.module:function``; imported with the current folder on the path, called without
        arguments, returns a (quantized) ``nn.Module``.
    state_dict
        File of ``torch.save(model.state_dict(), file)``; read with ``weights_only=True``.

    Returns
    -------
    nn.Module
        In evaluation mode.

    Raises
    ------
    ConversionError
        If the factory is not there or gives no module, or the values do not suit the model.
    FormatError
        If the file is no state dict.
    """
    subject = f"model '{factory}'"
    module, colon, function = factory.partition(":")
    if not (module and colon and function):
        raise ConversionError(
            subject,
            "is neither a file .pt nor package.module:function",
            remedy="name a file of save_model, or a function that returns the model",
            actual=factory,
            limit="package.module:function",
        )
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConversionError(
            subject,
            f"cannot be imported ({error})",
            remedy="check the name; the current folder is on the path",
            actual=factory,
            limit="an importable function",
        ) from error
    finally:
        sys.path.remove(here)
    model = found() if callable(found) else found
    if not isinstance(model, nn.Module):
        raise ConversionError(
            subject,
            f"gives a {type(model).__name__}, a torch.nn.Module is needed",
            remedy="return the model",
            actual=type(model).__name__,
            limit="torch.nn.Module",
        )
    if state_dict is not None:
        _fill(model, subject, state_dict)
    return model.eval()


def _fill(model: nn.Module, subject: str, path: str | os.PathLike[str]) -> None:
    values = read_tensors(
        path, what="a state dict", remedy="write it with torch.save(model.state_dict(), file)"
    )
    if not isinstance(values, dict):
        raise FormatError(
            f"file '{os.fspath(path)}'",
            f"holds a {type(values).__name__}, a state dict is needed",
            remedy="write it with torch.save(model.state_dict(), file)",
            actual=type(values).__name__,
            limit="a state dict",
        )
    try:
        model.load_state_dict(values)
    except Exception as error:  # keys that are no names, values that are no tensors, ...
        raise ConversionError(
            subject,
            f"does not take the values of '{os.fspath(path)}': {' '.join(str(error).split())}",
            remedy="use the model that the values were trained with",
            actual=len(values),
            limit=len(model.state_dict()),
        ) from error
