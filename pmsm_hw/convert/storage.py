"""Files of models that this package can build by name: weights, and how the model was made.

A file is a torch archive of tensors and plain values, loaded with ``weights_only=True``.
"""

from __future__ import annotations

import io
import os
import pickle
from typing import Any

import torch
from torch import nn

from pmsm_hw.convert.integer import IntegerModel, integer_model
from pmsm_hw.errors import ConversionError, FormatError, PmsmHwError
from pmsm_hw.files import replacing
from pmsm_hw.nn import models
from pmsm_hw.nn.quantization import quantize

__all__ = ["FORMAT", "FORMAT_VERSION", "encoded_model", "load_model", "save_model"]

FORMAT = "pmsm-hw-model"
FORMAT_VERSION = 1


def save_model(path: str | os.PathLike[str], model: nn.Module) -> None:
    """Write a model from `pmsm_hw.nn.models`, float, quantized or integer.

    Parameters
    ----------
    path
        File to write; written whole or not at all.
    model
        From `pmsm_hw.nn.models.build`, or what `quantize` or `integer_model` made of one.

    Raises
    ------
    ConversionError
        If the model is of another class, which a file cannot name safely.
    FormatError
        If the file cannot be written.
    """
    made = encoded_model(model)
    with replacing(path, "model file") as file:
        file.write(made.getbuffer())


def encoded_model(model: nn.Module) -> io.BytesIO:
    """Make in memory what `save_model` writes: torch does not survive a full disk in one line.

    Parameters
    ----------
    model
        As for `save_model`.

    Raises
    ------
    ConversionError
        As `save_model`.
    """
    recipe: Any = getattr(model, "recipe", {})
    if "model" not in recipe:
        raise ConversionError(
            f"model '{type(model).__name__}'",
            "was not built by name, limit: the models of pmsm_hw.nn.models",
            remedy=f"use one of {', '.join(models.names())}, or save your own state dict",
            actual=type(model).__name__,
            limit=models.names(),
        )
    inner = model.model if isinstance(model, IntegerModel) else model
    assert isinstance(inner, nn.Module)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": recipe,
        "state": inner.state_dict(),
        "examples": list(getattr(model, "examples", ())),
        "exponents": dict(model.exponents) if isinstance(model, IntegerModel) else {},
        "saturated": sorted(model.saturated) if isinstance(model, IntegerModel) else [],
    }
    made = io.BytesIO()
    torch.save(content, made)
    return made


def load_model(path: str | os.PathLike[str]) -> nn.Module:
    """Read a file of `save_model`; in evaluation mode.

    Quantized and integer models have ``examples``, a tuple with one calibration batch per input.

    Parameters
    ----------
    path
        File to read.

    Raises
    ------
    FormatError
        If the file is absent, damaged, of another kind or of another version.
    """
    subject = f"file '{os.fspath(path)}'"
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as cause:
        is_pickle = isinstance(cause, pickle.UnpicklingError)  # torch's text is a page long
        reason = "" if is_pickle else (str(cause).strip().splitlines() or [""])[0]
        raise FormatError(
            subject,
            f"cannot be read as a model: {reason or 'it is no archive of tensors'}",
            remedy="give a file that save_model wrote",
            actual=type(cause).__name__,
            limit=FORMAT,
        ) from cause
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise FormatError(
            subject,
            f"holds {found!r}, a {FORMAT} is needed",
            remedy="give a file that save_model wrote",
            actual=found,
            limit=FORMAT,
        )
    if content.get("format_version") != FORMAT_VERSION:
        raise FormatError(
            subject,
            f"has format_version {content.get('format_version')!r}, this pmsm-hw reads "
            f"{FORMAT_VERSION}",
            remedy="use the pmsm-hw that wrote it",
            actual=content.get("format_version"),
            limit=FORMAT_VERSION,
        )
    try:
        return _rebuilt(content)
    except (KeyError, TypeError, RuntimeError, PmsmHwError) as cause:
        lines = str(cause).strip().splitlines()
        raise FormatError(
            subject,
            f"describes no model that can be built: {lines[0] if lines else cause!r}",
            remedy="write it again with save_model",
            actual=type(cause).__name__,
            limit="a complete description",
        ) from cause


def _rebuilt(content: dict[str, Any]) -> nn.Module:
    recipe, examples = content["recipe"], tuple(content["examples"])
    model = models.build(recipe["model"], **recipe["arguments"])
    if "quantize" in recipe:
        model = quantize(model, calibration=examples, **recipe["quantize"])
    model.load_state_dict(content["state"])
    model.eval()
    if "integer" in recipe:
        model = integer_model(model, examples, **recipe["integer"])
        model.exponents = dict(content["exponents"])
        model.saturated = frozenset(content["saturated"])
        model.eval()
    return model
