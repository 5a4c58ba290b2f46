"""``pmsm-hw demo``: the complete workflow on digits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pmsm_hw.cli.emulation import needs_cycle, needs_figures, traced, write_reports
from pmsm_hw.cli.models import ModelOptions, Opened, open_network, say_notes
from pmsm_hw.cli.options import AsJson, ChipName, HtmlReport, Seed, TraceAll, TraceFile
from pmsm_hw.cli.samples import require_inputs
from pmsm_hw.cli.terminal import DIFFERENT, answer, bar, check_files, say

__all__ = ["demo"]


def demo(
    seed: Seed = None,
    network: Annotated[
        Path | None,
        typer.Option(
            "--network", help="Use this network file instead of training; needs no torch."
        ),
    ] = None,
    save_dir: Annotated[
        Path | None,
        typer.Option("--save-dir", help="Save model.pt, network.h5 and mapped.h5 in this folder."),
    ] = None,
    chip: ChipName = "loihi1",
    lava: Annotated[
        bool | None,
        typer.Option(
            "--lava/--no-lava",
            help="Run in Lava as well, or not; by default if a Python with lava-nc is found.",
        ),
    ] = None,
    report: HtmlReport = None,
    trace: TraceFile = None,
    trace_all: TraceAll = False,
    as_json: AsJson = False,
) -> None:
    """Train on handwritten digits, convert, map, emulate and run in Lava: the complete workflow.

    \b
    Examples:
      pmsm-hw demo
      pmsm-hw demo --save-dir build --report build/demo.html
    """
    from pmsm_hw.datasets import load_samples
    from pmsm_hw.demo import SAVED, run_demo

    needs_cycle(trace, trace_all, "cycle")
    if report is not None:
        needs_figures()
    check_files(
        {
            "--report": report,
            "--trace": trace,
            **{f"--save-dir, {n}": save_dir / n for n in SAVED if save_dir is not None},
        },
        inputs=(network, chip),
        made=save_dir,
    )
    samples = load_samples("digits")
    opened = None if network is None else open_network(network, ModelOptions())
    if opened is not None:
        require_inputs(opened, samples, 1)
    result = run_demo(
        seed=seed or 0,
        network=None if opened is None else opened.network,
        save_dir=save_dir,
        chip=chip,
        lava_images=0 if lava is False else None,
        lava_required=lava is True,
        trace=traced(trace, report, "cycle"),
        say=say,
        bar=bar,
    )
    if opened is None:
        opened = Opened(network=result.network, mapping=None, conversion=result.conversion)
    write_reports(
        result.report, samples, html=report, trace=trace, trace_all=trace_all,
        conversion=opened.conversion_dict,
    )  # fmt: skip
    say_notes(opened, samples)
    answer(as_json, result.to_dict(), result.table())
    if result.differs:
        raise typer.Exit(DIFFERENT)
