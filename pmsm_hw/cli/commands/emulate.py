"""``pmsm-hw emulate``: spikes, time and energy of a mapped network."""

from __future__ import annotations

from shlex import quote

from pmsm_hw.cli.emulation import (
    emulate_with_bar,
    needs_cycle,
    needs_figures,
    traced,
    write_reports,
)
from pmsm_hw.cli.models import ModelOptions, open_network, say_notes
from pmsm_hw.cli.options import (
    AsJson,
    CarryState,
    Data,
    HtmlReport,
    Limit,
    MappedFile,
    Mode,
    ProfileName,
    Seed,
    Steps,
    TraceAll,
    TraceFile,
)
from pmsm_hw.cli.samples import needs_random, samples_for
from pmsm_hw.cli.terminal import answer, check_files
from pmsm_hw.errors import InputError

__all__ = ["emulate"]


def emulate(
    file: MappedFile,
    data: Data = "digits",
    n_steps: Steps = 1,
    mode: Mode = "cycle",
    profile: ProfileName = None,
    limit: Limit = None,
    carry_state: CarryState = False,
    seed: Seed = None,
    report: HtmlReport = None,
    trace: TraceFile = None,
    trace_all: TraceAll = False,
    as_json: AsJson = False,
) -> None:
    """Emulate a mapped network: spikes, latency and energy per inference.

    \b
    Examples:
      pmsm-hw emulate mapped.h5 --data digits --profile sanafe
      pmsm-hw emulate mapped.h5 --limit 20 --report out.html --trace out.json
    """
    needs_cycle(trace, trace_all, mode)
    if report is not None:
        needs_figures()
    check_files({"--report": report, "--trace": trace}, inputs=(file, data))
    needs_random(seed, data)
    opened = open_network(file, ModelOptions())
    network, mapping = opened.network, opened.mapping
    if mapping is None:
        raise InputError(
            f"file '{file}'",
            "holds no mapping",
            remedy=f"map it first: pmsm-hw map {quote(str(file))} -o mapped.h5",
            actual=file.suffix,
            limit=".h5",
        )
    samples = samples_for(opened, data, n_steps, limit, seed)
    found = emulate_with_bar(
        network, mapping, samples, n_steps, mode=mode, profile=profile, carry_state=carry_state,
        record_samples=1 if report is not None else 0, trace=traced(trace, report, mode),
    )  # fmt: skip
    write_reports(
        found,
        samples,
        html=report,
        trace=trace,
        trace_all=trace_all,
        conversion=opened.conversion_dict,
        over_steps=not carry_state,
    )
    say_notes(opened, samples)
    answer(as_json, found.to_dict(), found.table())
