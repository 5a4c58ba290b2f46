"""``pmsm-hw export``: a network file for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pmsm_hw.cli.models import nir_options, open_network, say_notes
from pmsm_hw.cli.options import (
    AsJson,
    NetworkFile,
    NirInputLevels,
    NirInputScale,
    NirLevels,
    NirMaxSteps,
)
from pmsm_hw.cli.terminal import answer, check_files

__all__ = ["export"]


def export(
    file: NetworkFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .nir, or .h5 (network alone).")
    ],
    max_steps: NirMaxSteps = None,
    levels: NirLevels = None,
    input_scale: NirInputScale = None,
    input_levels: NirInputLevels = None,
    as_json: AsJson = False,
) -> None:
    """Write a network for other tools: NIR, or HDF5 without mapping and report; import NIR as HDF5.

    \b
    Examples:
      pmsm-hw export net.h5 -o net.nir
      pmsm-hw export net.nir -o net.h5
    """
    from pmsm_hw import io

    check_files({"--output": output}, inputs=(file,), suffixes=(".nir", ".h5"))
    opened = open_network(file, nir_options(max_steps, levels, input_scale, input_levels))
    network = opened.network
    notes: tuple[str, ...] = ()
    if output.suffix.lower() == ".nir":
        notes = io.save_nir(output, network)
    else:
        io.save(output, network)
    say_notes(opened)
    answer(as_json, {"file": str(output), "notes": notes}, "\n".join((*notes, f"wrote {output}")))
