"""Emulation with progress, and the report and trace that are written of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pmsm_hw.cli.terminal import bar, command_line, say
from pmsm_hw.errors import InputError, require_extra

if TYPE_CHECKING:
    from pmsm_hw.datasets import Samples
    from pmsm_hw.emulator import Report
    from pmsm_hw.mapping import Mapping
    from pmsm_hw.network import Network

__all__ = ["emulate_with_bar", "needs_cycle", "needs_figures", "traced", "write_reports"]


def emulate_with_bar(
    network: Network,
    mapping: Mapping,
    samples: Samples,
    n_steps: int,
    *,
    mode: str,
    profile: str | None,
    carry_state: bool = False,
    trace: bool | int = False,
    record_samples: int = 0,
) -> Report:
    """Emulate, drawing progress; spikes are kept of the first ``record_samples`` samples alone."""
    from pmsm_hw.emulator import emulate

    unit = "hardware steps" if mode == "cycle" else "samples"
    with bar(f"emulating, {unit}") as progress:
        return emulate(
            network,
            mapping,
            samples.x,
            n_steps,
            mode=cast(Any, mode),
            profile=profile,
            labels=samples.labels,
            carry_state=carry_state,
            trace=trace,
            record_samples=record_samples,
            progress=progress.steps,
        )


def write_reports(
    report: Report,
    samples: Samples,
    *,
    html: Path | None,
    trace: Path | None,
    trace_all: bool,
    conversion: Any = None,
    over_steps: bool = True,
) -> None:
    """Write what --report and --trace ask for; ``over_steps``: with accuracy at fewer steps."""
    if trace is not None:
        from pmsm_hw.emulator import write_trace

        shown = write_trace(trace, report, samples="all" if trace_all else None)
        say(f"wrote {trace} ({len(shown):,} of {report.n_samples:,} samples)")
    if html is not None:
        from pmsm_hw.report import write_html

        write_html(
            html,
            report,
            report.network,
            report.mapping,
            conversion=conversion,
            accuracy_by_steps=_over_steps(report, samples) if over_steps else None,
            command=command_line(),
        )
        say(f"wrote {html}")


def needs_cycle(trace: Path | None, trace_all: bool, mode: str) -> None:
    """Refuse before the work what would fail after it."""
    if trace_all and trace is None:
        raise InputError(
            "option --trace-all",
            "is given without --trace, which names the file",
            remedy="give --trace FILE, or leave it out",
            actual="--trace-all",
            limit="--trace",
        )
    if trace is not None and mode != "cycle":
        raise InputError(
            "option --trace",
            f"needs --mode cycle, mode is {mode}",
            remedy="leave one of them out",
            actual=mode,
            limit="cycle",
        )


def needs_figures() -> None:
    """Refuse a report before the work where it could not be drawn."""
    require_extra("matplotlib", "plot", "an HTML report")


def traced(trace: Path | None, html: Path | None, mode: str) -> bool | int:
    """Of how many samples a trace is needed: an HTML report shows the first one's."""
    if trace is not None:
        return True
    return 1 if html is not None and mode == "cycle" else False


def _over_steps(report: Report, samples: Samples) -> dict[int, Report] | None:
    """The same samples at T = 1, 2, 4, ... in counts mode, where they are labelled and static."""
    network = report.network
    shape = network.inputs[0].shape if len(network.inputs) == 1 else None
    if samples.labels is None or shape is None or isinstance(samples.x, dict):
        return None
    if samples.x.shape[1:] != shape:
        return None
    steps = [2**i for i in range(network.max_steps.bit_length()) if 2**i <= network.max_steps]
    return {
        t: emulate_with_bar(
            network, report.mapping, samples, t, mode="counts", profile=report.profile
        )
        for t in steps
    }
