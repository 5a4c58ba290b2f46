"""``pmsm-hw run``: from a model to a report in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pmsm_hw.cli.emulation import (
    emulate_with_bar,
    needs_cycle,
    needs_figures,
    traced,
    write_reports,
)
from pmsm_hw.cli.mapping import mapping_of, split
from pmsm_hw.cli.models import ModelOptions, open_model, say_notes
from pmsm_hw.cli.options import (
    AsJson,
    Calibration,
    CarryState,
    Data,
    Gains,
    HtmlReport,
    InputLevels,
    InputScale,
    Levels,
    Limit,
    MaxPool,
    MaxSteps,
    Mode,
    ModelName,
    PerChannel,
    ProfileName,
    RunObjective,
    Seed,
    SplitFanIn,
    SplitFanOut,
    StateDict,
    Steps,
    TraceAll,
    TraceFile,
    WeightBits,
)
from pmsm_hw.cli.samples import calibration_for, needs_random, samples_for
from pmsm_hw.cli.terminal import answer, check_files, say
from pmsm_hw.cli.torch_models import by_stage, stage_table

__all__ = ["run"]


def run(
    model: ModelName,
    state_dict: StateDict = None,
    levels: Levels = None,
    gains: Gains = None,
    per_channel: PerChannel = None,
    max_pool: MaxPool = None,
    weight_bits: WeightBits = None,
    max_steps: MaxSteps = None,
    calibration: Calibration = None,
    input_scale: InputScale = None,
    input_levels: InputLevels = None,
    data: Data = "digits",
    n_steps: Steps = 1,
    limit: Limit = None,
    carry_state: CarryState = False,
    chip: Annotated[
        str | None,
        typer.Option(
            "--chip", help="Chip name or file; by default the file's own mapping, or loihi1."
        ),
    ] = None,
    split_in: SplitFanIn = False,
    split_out: SplitFanOut = False,
    objective: RunObjective = None,
    mode: Mode = "cycle",
    profile: ProfileName = None,
    seed: Seed = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Save the mapped network to this file (.h5)."),
    ] = None,
    report: HtmlReport = None,
    trace: TraceFile = None,
    trace_all: TraceAll = False,
    as_json: AsJson = False,
) -> None:
    """Convert, map, emulate and report in one command.

    \b
    Examples:
      pmsm-hw run build/model.pt --report out.html
      pmsm-hw run mine:make_model --state-dict mine.pt --levels 0,15 --data mine.npz
      pmsm-hw run net.nir --data random --chip loihi2 --json
    """
    needs_cycle(trace, trace_all, mode)
    if report is not None:
        needs_figures()
    check_files(
        {"--output": output, "--report": report, "--trace": trace},
        inputs=(model, state_dict, calibration, data, chip),
        rewritten=model,
    )
    options = ModelOptions(
        state_dict=state_dict,
        levels=levels,
        gains=gains,
        weight_bits=weight_bits,
        max_steps=max_steps,
        calibration=calibration,
        input_scale=input_scale,
        input_levels=input_levels,
        per_channel=per_channel,
        max_pool=max_pool,
    )
    opened = open_model(
        model, options, calibration=calibration_for(data), n_steps=n_steps,
        named_by=("--calibration", "--data"),
    )  # fmt: skip
    opened = split(opened, chip, fan_in=split_in, fan_out=split_out)
    network = opened.network
    samples = samples_for(opened, data, n_steps, limit, seed)
    mapping = mapping_of(opened, chip, objective, seed or 0)
    if mapping is opened.mapping:
        needs_random(seed, data)
    found = emulate_with_bar(
        network, mapping, samples, n_steps, mode=mode, profile=profile, carry_state=carry_state,
        record_samples=1 if report is not None else 0, trace=traced(trace, report, mode),
    )  # fmt: skip
    if output is not None:
        from pmsm_hw import io

        io.save(output, network, mapping=mapping, report=opened.conversion)
        say(f"wrote {output}")
    write_reports(
        found,
        samples,
        html=report,
        trace=trace,
        trace_all=trace_all,
        conversion=opened.conversion_dict,
        over_steps=not carry_state,
    )
    values, text = found.to_dict(), found.table()
    if stages := by_stage(opened.stages, samples, found):
        values["stages"] = stages
        text = f"{text}\n\n{stage_table(stages)}"
    say_notes(opened, samples)
    answer(as_json, values, text)
