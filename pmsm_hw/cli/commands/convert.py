"""``pmsm-hw convert``: from a torch model to a network file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pmsm_hw.cli.models import NETWORK_SUFFIXES, ModelOptions, open_model, open_network
from pmsm_hw.cli.options import (
    AsJson,
    Gains,
    MaxPool,
    Name,
    PerChannel,
    StateDict,
    TorchCalibration,
    TorchInputLevels,
    TorchInputScale,
    TorchLevels,
    TorchMaxSteps,
    WeightBits,
)
from pmsm_hw.cli.terminal import answer, check_files
from pmsm_hw.errors import InputError

__all__ = ["convert"]


def convert(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model file (.pt) of save_model, or package.module:function that returns a model.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Network file to write (.h5).")],
    state_dict: StateDict = None,
    levels: TorchLevels = None,
    gains: Gains = None,
    per_channel: PerChannel = None,
    max_pool: MaxPool = None,
    input_scale: TorchInputScale = None,
    input_levels: TorchInputLevels = None,
    name: Name = "network",
    weight_bits: WeightBits = None,
    max_steps: TorchMaxSteps = None,
    calibration: TorchCalibration = None,
    as_json: AsJson = False,
) -> None:
    """Convert a trained torch model to an integer network.

    An integer model (trained with the integers that it converts to) keeps its own bits and steps;
    for other models --calibration sets the input shape and the batch that the report is based on.

    \b
    Examples:
      pmsm-hw convert build/model.pt --name digits -o build/net.h5
      pmsm-hw convert mine:make_model --state-dict mine.pt --levels 0,15 -o net.h5
    """
    from pmsm_hw import io

    check_files({"--output": output}, inputs=(model, state_dict, calibration))
    if Path(model).suffix in NETWORK_SUFFIXES:
        open_network(Path(model), ModelOptions())  # what cannot be read cannot be mapped either
        raise InputError(
            f"model '{model}'",
            "is a network file already",
            remedy="map it",
            actual=model,
            limit="a torch model",
        )
    options = ModelOptions(
        state_dict=state_dict,
        levels=levels,
        gains=gains,
        name=name,
        weight_bits=weight_bits,
        max_steps=max_steps,
        calibration=calibration,
        per_channel=per_channel,
        max_pool=max_pool,
        input_scale=input_scale,
        input_levels=input_levels,
    )
    opened = open_model(model, options)
    io.save(output, opened.network, report=opened.conversion)
    answer(
        as_json,
        opened.conversion_dict or {},
        f"{opened.network.summary()}\n\n{opened.conversion}",
    )
