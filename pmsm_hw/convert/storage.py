"""Files of models that this package can build by name: weights, and how the model was made.

A file is a torch archive of tensors and plain values, loaded with ``weights_only=True``.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pmsm_hw.convert.fractional_bits import COARSEST
from pmsm_hw.convert.integer import IntegerModel, integer_model
from pmsm_hw.errors import ConversionError, FormatError
from pmsm_hw.files import check_output, replacing
from pmsm_hw.network.limits import CONVERTED_WEIGHT_EXPONENT
from pmsm_hw.nn import models
from pmsm_hw.nn.quantization import quantize
from pmsm_hw.nn.tensor_files import read_tensors

__all__ = ["FORMAT", "FORMAT_VERSION", "encoded_model", "load_model", "save_model"]

FORMAT = "pmsm-hw-model"
FORMAT_VERSION = 1

_REMEDY = "give a file that save_model wrote"
_LARGEST_SIZE = 1 << 24
"""Largest whole number among the arguments of a model."""


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
        If the model is of another class, which a file cannot name safely, or not in float32.
    FormatError
        If the file cannot be written.
    """
    check_output(path, "model file")
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
    for name, value in inner.state_dict().items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise ConversionError(
                f"parameter '{name}'",
                f"is {value.dtype}, a file holds torch.float32",
                remedy="call model.float() first",
                actual=str(value.dtype),
                limit="torch.float32",
            )
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": recipe,
        "state": inner.state_dict(),
        "examples": list(getattr(model, "examples", ())),
        "exponents": dict(model.exponents) if isinstance(model, IntegerModel) else {},
        "saturated": sorted(model.saturated) if isinstance(model, IntegerModel) else [],
        "inexact": sorted(model.inexact) if isinstance(model, IntegerModel) else [],
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
        If the file is absent, damaged, of another kind or of another version, or describes no model
        that can be built.
    """
    if not isinstance(path, str | os.PathLike):
        raise FormatError(
            "model",
            f"{path!r:.60} is not a path",
            remedy="give a str or a pathlib.Path",
            actual=type(path).__name__,
            limit="a path",
        )
    subject = f"file '{os.fspath(path)}'"
    content = read_tensors(path, what="a model", remedy=_REMEDY)
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise FormatError(
            subject,
            f"holds {str(found)[:60]!a}, a {FORMAT} is needed",
            remedy=_REMEDY,
            actual=found,
            limit=FORMAT,
        )
    if content.get("format_version") != FORMAT_VERSION:
        raise FormatError(
            subject,
            f"has format_version {str(content.get('format_version'))[:60]!a}, this pmsm-hw reads "
            f"{FORMAT_VERSION}",
            remedy="use the pmsm-hw that wrote it",
            actual=content.get("format_version"),
            limit=FORMAT_VERSION,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _rebuilt(content)
    except Exception as cause:  # whatever building and loading a model meets in a wrong description
        lines = str(cause).strip().splitlines()
        reason = lines[0][:300] if lines else type(cause).__name__
        raise FormatError(
            subject,
            f"describes no model that can be built: {reason}",
            remedy="write it again with save_model",
            actual=type(cause).__name__,
            limit="a complete description",
        ) from cause


def _rebuilt(content: dict[str, Any]) -> nn.Module:
    recipe, state = _dictionary(content, "recipe"), _dictionary(content, "state")
    others = set(recipe) - {"model", "arguments", "quantize", "integer"}
    if others or ("integer" in recipe and "quantize" not in recipe):
        raise ValueError(f"its recipe has {', '.join(map(ascii, recipe))[:200]}")
    for name, value in state.items():
        _sound(name, value)
    examples = tuple(content["examples"])
    for example in examples:
        _sound("examples", example)
        if example.dtype != torch.float32:
            raise ValueError(f"its examples are {example.dtype}")
    arguments = _dictionary(recipe, "arguments")
    _refuse_sizes(arguments, len(state))
    # shapes alone, before any memory is taken
    with torch.device("meta"):
        shapes = models.build(recipe["model"], **arguments).state_dict()
    for name, value in shapes.items():
        if name not in state or state[name].shape != value.shape:
            has = tuple(state[name].shape) if name in state else "nothing"
            raise ValueError(f"'{name}' has {has}, shape {tuple(value.shape)} is needed")
    model = models.build(recipe["model"], **arguments)
    if "quantize" in recipe:
        batch: Any = examples or "batch_norm"
        model = quantize(model, calibration=batch, **_dictionary(recipe, "quantize"))
    for name, value in model.state_dict().items():
        if name in state and state[name].dtype != value.dtype:
            raise ValueError(f"'{name}' is {state[name].dtype}, {value.dtype} is needed")
    model.load_state_dict(state)
    model.eval()
    if "integer" in recipe:
        model = integer_model(model, examples, **_dictionary(recipe, "integer"))
        exponents, saturated = _dictionary(content, "exponents"), frozenset(content["saturated"])
        known = set(model.exponents) | model.saturated
        whole = all(type(bits) is int for bits in exponents.values())
        if not whole or set(exponents) | saturated != known or set(exponents) & saturated:
            raise ValueError("its exponents are not those of its populations")
        for bits in exponents.values():
            if not COARSEST <= bits <= CONVERTED_WEIGHT_EXPONENT:
                raise ValueError(
                    f"it has exponent {bits}, limits: {COARSEST} and {CONVERTED_WEIGHT_EXPONENT}"
                )
        model.exponents, model.saturated = dict(exponents), saturated
        if "inexact" in content:  # absent in files of before, whose weights tell as well
            inexact = frozenset(content["inexact"])
            if not inexact <= set(model.rounded()[0]):
                raise ValueError("its inexact populations are not those of its model")
            model.inexact = inexact
        model.rounded()  # proves the state of every population
        model.eval()
    return model


def _dictionary(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = content[key]
    if not isinstance(found, dict) or not all(isinstance(k, str) for k in found):
        raise ValueError(f"its {key} is not a dictionary of names")
    return dict(found)


def _sound(name: str, value: Any) -> None:
    """Raise ValueError for what is no plain tensor, or larger than what is stored of it."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        raise ValueError(f"{name[:60]!a} is not a plain tensor")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"{name[:60]!a} has more values than are stored")


def _refuse_sizes(arguments: Mapping[str, Any], n_tensors: int) -> None:
    """Raise ValueError where building alone would take very long."""
    for name, value in arguments.items():
        parts = value if isinstance(value, list | tuple) else [value]
        for part in parts:
            if not isinstance(part, int | str) or (isinstance(part, int) and part > _LARGEST_SIZE):
                raise ValueError(f"argument {name[:60]!a} is {str(value)[:60]!a}")
        # numbers of layers or blocks: each has tensors of its own
        n_parts = sum(parts) if name == "blocks" else len(parts)
        if n_parts > n_tensors + 2:
            raise ValueError(f"argument {name[:60]!a} asks for more than its tensors hold")
