"""``pmsm-hw inspect``: what a network file holds."""

from __future__ import annotations

from pmsm_hw.cli.models import nir_options, open_network, say_notes
from pmsm_hw.cli.options import (
    AsJson,
    NetworkFile,
    NirInputLevels,
    NirInputScale,
    NirLevels,
    NirMaxSteps,
)
from pmsm_hw.cli.terminal import answer

__all__ = ["inspect"]


def inspect(
    file: NetworkFile,
    max_steps: NirMaxSteps = None,
    levels: NirLevels = None,
    input_scale: NirInputScale = None,
    input_levels: NirInputLevels = None,
    as_json: AsJson = False,
) -> None:
    """Show the populations, sizes and proven bounds of a network file.

    \b
    Examples:
      pmsm-hw inspect net.h5
      pmsm-hw inspect net.nir
    """
    opened = open_network(file, nir_options(max_steps, levels, input_scale, input_levels))
    network = opened.network
    say_notes(opened)
    answer(as_json, network.describe(), network.summary())
