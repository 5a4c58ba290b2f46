"""The command line as a whole: which commands there are, in the order of ``--help``."""

from __future__ import annotations

from typing import Annotated

import typer

from pmsm_hw import __version__
from pmsm_hw.cli.commands.chips import chips_list, chips_show
from pmsm_hw.cli.commands.compare import compare
from pmsm_hw.cli.commands.convert import convert
from pmsm_hw.cli.commands.demo import demo
from pmsm_hw.cli.commands.emulate import emulate
from pmsm_hw.cli.commands.export import export
from pmsm_hw.cli.commands.inspect import inspect
from pmsm_hw.cli.commands.lava import lava
from pmsm_hw.cli.commands.map import map_
from pmsm_hw.cli.commands.run import run
from pmsm_hw.cli.terminal import fit_to_terminal

__all__ = ["app"]

app = typer.Typer(
    name="pmsm-hw",
    help="Polarity multi-spike networks on Loihi-style chips: convert, map, emulate, estimate "
    "energy.",
    epilog="Exit status: 0 done, 1 internal error, 2 bad input (one line says what), "
    "3 spikes or readouts differ between backends, 130 interrupted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"pmsm-hw {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    fit_to_terminal()


app.command()(demo)
app.command()(run)
app.command()(compare)
app.command()(convert)
app.command()(inspect)
app.command(name="map")(map_)
app.command()(emulate)
app.command()(lava)
app.command()(export)

_chips = typer.Typer(help="Show the chips that ship with the package, or a chip file.")
_chips.command("list")(chips_list)
_chips.command("show")(chips_show)
app.add_typer(_chips, name="chips", no_args_is_help=True)
