"""``pmsm-hw map``: from a network file to one with a mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pmsm_hw.cli.mapping import place, split
from pmsm_hw.cli.models import nir_options, open_network, say_notes
from pmsm_hw.cli.options import (
    AsJson,
    ChipName,
    NetworkFile,
    NirInputLevels,
    NirInputScale,
    NirLevels,
    NirMaxSteps,
    Objective,
    Seed,
    SplitFanIn,
    SplitFanOut,
)
from pmsm_hw.cli.terminal import answer, check_files, say
from pmsm_hw.errors import require_extra

__all__ = ["map_"]


def map_(
    file: NetworkFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Mapped network file (.h5).")],
    max_steps: NirMaxSteps = None,
    levels: NirLevels = None,
    input_scale: NirInputScale = None,
    input_levels: NirInputLevels = None,
    chip: ChipName = "loihi1",
    split_in: SplitFanIn = False,
    split_out: SplitFanOut = False,
    objective: Objective = "latency",
    seed: Seed = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw utilisation and link load over the mesh (.png, .svg, .pdf).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Map a network to a chip: partition, place and route it, or report what exceeds capacity.

    \b
    Examples:
      pmsm-hw map net.h5 --chip loihi1 -o mapped.h5
      pmsm-hw map net.h5 --chip my_chip.toml --objective energy --plot mesh.pdf -o mapped.h5
      pmsm-hw map net.nir -o mapped.h5
    """
    from pmsm_hw import io

    if plot is not None:
        require_extra("matplotlib", "plot", "a figure")
    check_files({"--output": output, "--plot": plot}, inputs=(file, chip), rewritten=file)
    opened = open_network(file, nir_options(max_steps, levels, input_scale, input_levels))
    opened = split(opened, chip, fan_in=split_in, fan_out=split_out)
    mapping = place(opened.network, chip, objective, seed or 0)
    io.save(output, opened.network, mapping=mapping, report=opened.conversion)
    if plot is not None:
        from pmsm_hw.mapping import plot_mapping

        plot_mapping(mapping, plot)
        say(f"wrote {plot}")
    say_notes(opened)
    answer(as_json, dict(mapping.metrics), mapping.summary())
