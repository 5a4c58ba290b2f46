"""``pmsm-hw chips``: chips that ship with the package, and chip files."""

from __future__ import annotations

from typing import Annotated

import typer

from pmsm_hw.cli.options import AsJson
from pmsm_hw.cli.terminal import answer

__all__ = ["chips_list", "chips_show"]


def chips_list(as_json: AsJson = False) -> None:
    """List the chips that ship with the package."""
    from pmsm_hw.mapping import chip_names, load_chip
    from pmsm_hw.tables import table

    rows = [(name, load_chip(name).description) for name in chip_names()]
    values = {"chips": [{"name": n, "description": d} for n, d in rows]}
    answer(as_json, values, table(("chip", "description"), rows))


def chips_show(
    chip: Annotated[str, typer.Argument(metavar="CHIP", help="Chip name or chip file.")],
    as_json: AsJson = False,
) -> None:
    """Print every quantity of a chip with its unit, source and kind.

    \b
    Example:
      pmsm-hw chips show loihi1
    """
    from pmsm_hw.mapping import load_chip

    loaded = load_chip(chip)
    answer(as_json, loaded.model_dump(mode="json", exclude_none=True), loaded.summary())
