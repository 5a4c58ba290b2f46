"""A torch model named on the command line, made into an integer network."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.cli.options import pair, pair_or_none, refuse_given
from pmsm_hw.errors import InputError, require_extra

if TYPE_CHECKING:
    from torch import nn

    from pmsm_hw.cli.models import ModelOptions
    from pmsm_hw.convert import ConversionReport
    from pmsm_hw.datasets import Samples
    from pmsm_hw.emulator import Report
    from pmsm_hw.network import Network

__all__ = ["Converted", "Stage", "by_stage", "convert_model", "real_values", "stage_table"]

CALIBRATION_SAMPLES = 256
AT_ONCE = 256
"""Samples that a torch model is given at once."""

WITH_LEVELS = ("gains", "per_channel", "max_pool")
"""Options of the quantization that --levels asks for."""

BY_MODEL = ("levels", "weight_bits", "max_steps", "input_scale", "input_levels", "calibration")
"""What an integer model has settled already."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A torch model on the way to the integers.

    Parameters
    ----------
    name
        For people.
    model
        The model.
    """

    name: str
    model: nn.Module

    def predictions(self, parts: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
        """Class of each sample, the integers' opponents.

        Parameters
        ----------
        parts
            Samples of each input, in the model's order.
        """
        import torch

        with torch.no_grad(), redirect_stdout(sys.stderr):
            answers = [
                self.model(*(torch.from_numpy(p[i : i + AT_ONCE]) for p in parts))
                .flatten(1)
                .argmax(1)
                for i in range(0, len(parts[0]), AT_ONCE)
            ]
        return np.asarray(torch.cat(answers).numpy(), np.int64)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a torch model became.

    Parameters
    ----------
    network
        The integer network.
    report
        Of the conversion.
    stages
        The model that came in and, where that was quantized here, what came of it.
    """

    network: Network
    report: ConversionReport
    stages: tuple[Stage, ...]


def real_values(samples: Samples) -> Samples:
    """Samples of a torch model: real values, integers among them, as the model itself takes them.

    Parameters
    ----------
    samples
        As loaded.
    """
    from pmsm_hw.datasets import Samples

    def real(x: NDArray[Any]) -> NDArray[np.float32]:
        return np.ascontiguousarray(x, np.float32)

    x = samples.x
    return Samples(
        x={name: real(part) for name, part in x.items()} if isinstance(x, dict) else real(x),
        labels=samples.labels,
        source=samples.source,
    )


def convert_model(
    model: str,
    options: ModelOptions,
    calibration: str,
    *,
    n_steps: int = 1,
    named_by: tuple[str, ...] = ("--calibration",),
) -> Converted:
    """Load or build a torch model, quantize it where --levels says so, and convert it.

    Parameters
    ----------
    model
        ``.pt`` of ``save_model``, or ``package.module:function``.
    options
        What was given.
    calibration
        Samples to calibrate on where the options name none.
    n_steps
        Frames that an event recording is binned into; each is a calibration sample.
    named_by
        Options that name ``calibration``, for errors.

    Raises
    ------
    PmsmHwError
        If that cannot be done, or an option that was given has no effect.
    """
    subject = f"model '{model}'"
    if options.levels is None:
        problem = "has an effect only with --levels"
        refuse_given(_values(options, WITH_LEVELS), problem, remedy="add --levels")
    require_extra("torch", "torch", "conversion")
    from pmsm_hw import nn
    from pmsm_hw.convert import IntegerModel, build_model, convert, load_model

    module = load_model(model) if model.endswith(".pt") else build_model(model, options.state_dict)
    stages = [Stage(name="torch model as given", model=module)]
    with redirect_stdout(sys.stderr):  # what the model's own code prints is no answer of ours
        if isinstance(module, IntegerModel):
            problem = f"has no effect: {subject} is an integer model and keeps its own settings"
            refuse_given(_values(options, BY_MODEL), problem)
            network, report = convert(module, **_given(name=options.name))
            return Converted(network=network, report=report, stages=tuple(stages))
        source = calibration
        if options.calibration is not None:
            source, named_by = options.calibration, ("--calibration",)
        example = _examples(module, subject, source, n_steps, " or ".join(named_by))
        inputs = _given(
            input_scale=options.input_scale,
            input_levels=pair_or_none("--input-levels", options.input_levels),
        )
        if options.levels is not None:
            module = nn.quantize(
                module,
                levels=pair("--levels", options.levels),
                gains=pair_or_none("--gains", options.gains) or (1, 1),
                calibration=example,
                per_channel=bool(options.per_channel),
                **_given(max_pool=options.max_pool),
                **inputs,
            )
            stages.append(Stage(name=f"quantized, --levels {options.levels}", model=module))
            inputs = {}
        network, report = convert(
            module,
            example,
            **_given(
                name=options.name, weight_bits=options.weight_bits, max_steps=options.max_steps
            ),
            **inputs,
        )
    return Converted(network=network, report=report, stages=tuple(stages))


def by_stage(
    stages: Sequence[Stage], samples: Samples, report: Report
) -> list[dict[str, Any]] | None:
    """Accuracy of the torch models that a network came from, and of its integers, side by side.

    Parameters
    ----------
    stages
        The torch models.
    samples
        The emulated ones.
    report
        Of the emulation.

    Returns
    -------
    list of dict or None
        ``stage``, ``accuracy`` (None without labels) and ``same_predictions``, the share of samples
        with the first model's prediction; None where a model is not given the same: frames over
        time, several outputs, or none.
    """
    network, x = report.network, samples.x
    # the network's inputs are in the order of the model's arguments, a file's arrays in any
    parts = [x[p.name] for p in network.inputs] if isinstance(x, dict) else [x]
    static = all(  # frames, or steps that a model of Loihi's neurons counts itself
        part.ndim == 1 + len(p.shape) for part, p in zip(parts, network.inputs, strict=True)
    )
    if not stages or not static or len(network.readouts) != 1:
        return None
    found = {stage.name: stage.predictions(parts) for stage in stages}
    found[f"integer network, T = {report.n_steps}"] = report.predictions()
    first = next(iter(found.values()))
    return [
        {
            "stage": name,
            "accuracy": None if samples.labels is None else float((k == samples.labels).mean()),
            "same_predictions": float((k == first).mean()),
        }
        for name, k in found.items()
    ]


def stage_table(stages: list[dict[str, Any]]) -> str:
    """Draw what `by_stage` found.

    Parameters
    ----------
    stages
        Its answer.
    """
    from pmsm_hw.tables import table

    rows = [
        (
            s["stage"],
            "no labels" if s["accuracy"] is None else f"{s['accuracy']:.2%}",
            f"{s['same_predictions']:.2%}",
        )
        for s in stages
    ]
    return table(("", "accuracy", "same predictions as the first"), rows)


def _values(options: ModelOptions, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names}


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _examples(
    module: nn.Module, subject: str, source: str, n_steps: int, named_by: str
) -> NDArray[Any] | list[NDArray[Any]]:
    """Calibration samples that the model takes; frames of event recordings one by one."""
    import torch

    from pmsm_hw.convert.loihi import has_loihi_modules
    from pmsm_hw.datasets import load_samples

    if source == "random":
        raise InputError(
            "data 'random'",
            f"says nothing of what {subject} is used on, calibration needs real samples",
            remedy=f"name them with {named_by}",
            actual=source,
            limit="samples",
        )
    samples = real_values(load_samples(source, n_steps=n_steps, limit=CALIBRATION_SAMPLES)).x
    parts = _in_order(samples, module, subject, source) if isinstance(samples, dict) else [samples]
    if source.endswith(".bin") and not has_loihi_modules(module):  # those take all steps at once
        parts = [part.reshape(-1, *part.shape[2:]) for part in parts]
    try:
        with torch.no_grad():
            module(*(torch.from_numpy(part) for part in parts))
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        shapes = " and ".join("x".join(map(str, part.shape[1:])) for part in parts)
        raise InputError(
            subject,
            f"does not take samples of '{source}', of shape {shapes}: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}",
            remedy=f"give samples of the model's own shape with {named_by}",
            actual=shapes,
            limit="the model's input shape",
        ) from error
    return parts if isinstance(samples, dict) else parts[0]


def _in_order(
    arrays: Mapping[str, NDArray[Any]], module: nn.Module, subject: str, source: str
) -> list[NDArray[Any]]:
    """Arrays in the order of the model's arguments, whose names are theirs."""
    if len(arrays) == 1:
        return list(arrays.values())
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if set(names[: len(arrays)]) != set(arrays):
        held, wanted = (", ".join(map(ascii, each)) or "none" for each in (arrays, names))
        raise InputError(
            f"data '{source}'",
            f"has arrays {held}, the arguments of {subject} are {wanted}",
            remedy="name each array as the argument of the model's forward that it is for",
            actual=tuple(arrays),
            limit=tuple(names),
        )
    return [arrays[name] for name in names[: len(arrays)]]
