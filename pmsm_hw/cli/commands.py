"""The commands: options in, public functions called, answers out."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pmsm_hw import __version__
from pmsm_hw.cli.models import NETWORK_SUFFIXES, ModelOptions, Opened, open_model, open_network
from pmsm_hw.cli.options import (
    MOST_STEPS,
    OBJECTIVES,
    AsJson,
    Calibration,
    ChipName,
    Data,
    Gains,
    HtmlReport,
    InputLevels,
    InputScale,
    Levels,
    Limit,
    MappedFile,
    MaxPool,
    MaxSteps,
    Mode,
    ModelName,
    Name,
    NetworkFile,
    NirLevels,
    NirMaxSteps,
    Objective,
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
    between,
    one_of,
)
from pmsm_hw.cli.terminal import DIFFERENT, answer, bar, check_files, fit_to_terminal, say
from pmsm_hw.cli.torch_models import by_stage, stage_table
from pmsm_hw.cli.work import (
    calibration_for,
    emulate_with_bar,
    mapping_of,
    needs_cycle,
    needs_figures,
    needs_random,
    nir_options,
    notes_of,
    place,
    require_inputs,
    samples_for,
    say_notes,
    split,
    traced,
    write_reports,
)
from pmsm_hw.errors import InputError, require_extra

if TYPE_CHECKING:
    from pmsm_hw.emulator import Report

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
chips_app = typer.Typer(help="Show the chips that ship with the package, or a chip file.")
app.add_typer(chips_app, name="chips", no_args_is_help=True)


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


# -- commands ------------------------------------------------------------------------------


@app.command()
def demo(
    seed: Seed = None,
    network: Annotated[
        Path | None,
        typer.Option("--network", help="Start from this network file; needs no torch."),
    ] = None,
    save_dir: Annotated[
        Path | None, typer.Option("--save-dir", help="Keep model.pt, network.h5, mapped.h5 here.")
    ] = None,
    chip: ChipName = "loihi1",
    lava: Annotated[
        bool | None,
        typer.Option(
            "--lava/--no-lava",
            help="Run in Lava as well, or leave it out; by default it runs where a Python with "
            "lava-nc is found.",
        ),
    ] = None,
    report: HtmlReport = None,
    trace: TraceFile = None,
    trace_all: TraceAll = False,
    as_json: AsJson = False,
) -> None:
    """Train on handwritten digits, convert, map, emulate, run in Lava: the whole path.

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


@app.command()
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
        Path | None, typer.Option("--output", "-o", help="Keep the mapped network here (.h5).")
    ] = None,
    report: HtmlReport = None,
    trace: TraceFile = None,
    trace_all: TraceAll = False,
    as_json: AsJson = False,
) -> None:
    """Convert, map, emulate and report in one go.

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
        network, mapping, samples, n_steps, mode=mode, profile=profile,
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
    )
    values, text = found.to_dict(), found.table()
    if stages := by_stage(opened.stages, samples, found):
        values["stages"] = stages
        text = f"{text}\n\n{stage_table(stages)}"
    say_notes(opened, samples)
    answer(as_json, values, text)


def _is_torch(model: str) -> bool:
    return Path(model).suffix not in NETWORK_SUFFIXES


def _each(values: list[str] | None) -> list[str | None]:
    """The values of an option that may be repeated, or None alone."""
    return list(values) if values else [None]


@app.command()
def compare(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Network files, .nir files or torch models."),
    ],
    chips: Annotated[
        list[str] | None,
        typer.Option(
            "--chip",
            help="Chip name or file; may be repeated. By default a file's own mapping, or loihi1.",
        ),
    ] = None,
    objectives: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            help="latency, energy or cores; may be repeated.",
            **one_of(*OBJECTIVES),
        ),
    ] = None,
    profiles: Annotated[
        list[str] | None,
        typer.Option("--profile", help="Profile of the chip; may be repeated."),
    ] = None,
    steps: Annotated[
        list[int] | None,
        typer.Option("--n-steps", help="Time steps T; may be repeated.", **between(1, MOST_STEPS)),
    ] = None,
    mode: Mode = "cycle",
    data: Data = "digits",
    limit: Limit = None,
    seed: Seed = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw accuracy against energy (.png, .svg, .pdf)."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Emulate several networks, chips, mappings, profiles or T, side by side in one table.

    Every combination of the repeated options is run.

    \b
    Examples:
      pmsm-hw compare a.h5 b.h5 --n-steps 1 --n-steps 4
      pmsm-hw compare net.h5 --chip loihi1 --chip loihi2 --objective cores --objective energy
      pmsm-hw compare mapped.h5 --profile davies2018 --profile sanafe --json
    """
    from pmsm_hw.emulator import compare as compare_

    if plot is not None:
        require_extra("matplotlib", "plot", "a figure")
    check_files({"--plot": plot}, inputs=(*models, *(chips or ()), data))
    sources = {
        model: open_model(
            model,
            ModelOptions(name=Path(model).stem if _is_torch(model) else None),
            calibration=calibration_for(data),
            n_steps=max(steps or [1]),
            named_by=("--data",),
        )
        for model in models
    }
    if not (chips or objectives) and all(o.mapping is not None for o in sources.values()):
        needs_random(seed, data)
    reports: dict[str, Report] = {}
    notes: dict[str, None] = {}
    for model in models:
        opened = sources[model]
        samples = {t: samples_for(opened, data, t, limit, seed) for t in steps or [1]}
        for chip, objective in product(_each(chips), _each(objectives)):
            mapping = mapping_of(opened, chip, objective, seed or 0)
            for profile, n_steps in product(_each(profiles), steps or [1]):
                time_steps = f"T={n_steps}" if steps is not None and len(steps) > 1 else None
                parts = (model, chip, objective, profile, time_steps)
                name = ", ".join(part for part in parts if part is not None)
                if name in reports:
                    raise InputError(
                        f"run '{name}'",
                        "is asked for twice",
                        remedy="give each model and value once",
                        actual=name,
                        limit="once",
                    )
                reports[name] = emulate_with_bar(
                    opened.network, mapping, samples[n_steps], n_steps, mode=mode, profile=profile
                )
        of = f"{model}: " if len(models) > 1 else ""
        notes |= {of + note: None for each in samples.values() for note in notes_of(opened, each)}
    if plot is not None:
        from pmsm_hw.emulator.plots import accuracy_against_energy, save_figure

        save_figure(accuracy_against_energy(reports), plot)
        say(f"wrote {plot}")
    for note in notes:
        say(note)
    values = {"runs": [{"run": name, **r.to_dict()} for name, r in reports.items()]}
    answer(as_json, values, compare_(reports))


@app.command()
def convert(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model file (.pt) of save_model, or package.module:function giving a model.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Network file to write (.h5).")],
    state_dict: StateDict = None,
    levels: Levels = None,
    gains: Gains = None,
    per_channel: PerChannel = None,
    max_pool: MaxPool = None,
    input_scale: InputScale = None,
    input_levels: InputLevels = None,
    name: Name = "network",
    weight_bits: WeightBits = None,
    max_steps: MaxSteps = None,
    calibration: Calibration = None,
    as_json: AsJson = False,
) -> None:
    """Turn a trained torch model into an integer network.

    An integer model (trained with the integers it converts to) keeps its own bits and steps; of
    other models --calibration gives the shape of the input and the batch that the report compares
    on.

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


@app.command()
def inspect(
    file: NetworkFile,
    max_steps: NirMaxSteps = None,
    levels: NirLevels = None,
    input_scale: InputScale = None,
    input_levels: InputLevels = None,
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


@app.command(name="map")
def map_(
    file: NetworkFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Mapped network file (.h5).")],
    max_steps: NirMaxSteps = None,
    levels: NirLevels = None,
    input_scale: InputScale = None,
    input_levels: InputLevels = None,
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
    """Place a network on a chip; say which population does not fit, if any.

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


@app.command()
def emulate(
    file: MappedFile,
    data: Data = "digits",
    n_steps: Steps = 1,
    mode: Mode = "cycle",
    profile: ProfileName = None,
    limit: Limit = None,
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
        network, mapping, samples, n_steps, mode=mode, profile=profile,
        record_samples=1 if report is not None else 0, trace=traced(trace, report, mode),
    )  # fmt: skip
    write_reports(
        found,
        samples,
        html=report,
        trace=trace,
        trace_all=trace_all,
        conversion=opened.conversion_dict,
    )
    say_notes(opened, samples)
    answer(as_json, found.to_dict(), found.table())


@app.command()
def lava(
    file: NetworkFile,
    max_steps: NirMaxSteps = None,
    levels: NirLevels = None,
    input_scale: InputScale = None,
    input_levels: InputLevels = None,
    data: Data = "digits",
    n_steps: Steps = 1,
    limit: Limit = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", help="Give up after so many seconds.")
    ] = 600.0,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Run a network in Lava and compare every spike and readout with the reference.

    Ends with exit status 3 if any differs.

    \b
    Example:
      pmsm-hw lava net.h5 --data digits --limit 32
    """
    from pmsm_hw import reference
    from pmsm_hw.lava import run as run_in_lava
    from pmsm_hw.reference import differing_readouts, differing_spikes
    from pmsm_hw.tables import table

    needs_random(seed, data)
    opened = open_network(file, nir_options(max_steps, levels, input_scale, input_levels))
    network = opened.network
    samples = samples_for(opened, data, n_steps, limit, seed)
    with bar("Lava, steps") as progress:
        result = run_in_lava(
            network, samples.x, n_steps, timeout_s=timeout_s, progress=progress.steps
        )
    expected = reference.run(network, samples.x, n_steps)
    values: dict[str, Any] = {
        "n_samples": samples.n_samples,
        "n_steps": n_steps,
        "differing_spikes": differing_spikes(result.spikes, expected.spikes),
        "differing_readouts": differing_readouts(result.readouts, expected.readouts),
        "spikes": {name: int(abs(k).sum()) for name, k in result.spikes.items()},
    }
    if samples.labels is not None and len(network.readouts) == 1:
        values["accuracy"] = float((result.predictions() == samples.labels).mean())
    rows = [(k, v) for k, v in values.items() if k != "spikes"]
    rows += [(f"spikes of {name}", n) for name, n in values["spikes"].items()]
    say_notes(opened, samples)
    answer(as_json, values, table(("", "value"), rows, title=f"Lava: {network.name}"))
    if values["differing_spikes"] or values["differing_readouts"]:
        raise typer.Exit(DIFFERENT)


@app.command()
def export(
    file: NetworkFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .nir, or .h5 (network alone).")
    ],
    max_steps: NirMaxSteps = None,
    levels: NirLevels = None,
    input_scale: InputScale = None,
    input_levels: InputLevels = None,
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


@chips_app.command("list")
def chips_list(as_json: AsJson = False) -> None:
    """List the chips that ship with the package."""
    from pmsm_hw.mapping import chip_names, load_chip
    from pmsm_hw.tables import table

    rows = [(name, load_chip(name).description) for name in chip_names()]
    values = {"chips": [{"name": n, "description": d} for n, d in rows]}
    answer(as_json, values, table(("chip", "description"), rows))


@chips_app.command("show")
def chips_show(
    chip: Annotated[str, typer.Argument(metavar="CHIP", help="Chip name or chip file.")],
    as_json: AsJson = False,
) -> None:
    """Print every number of a chip with its unit, source and kind.

    \b
    Example:
      pmsm-hw chips show loihi1
    """
    from pmsm_hw.mapping import load_chip

    loaded = load_chip(chip)
    answer(as_json, loaded.model_dump(mode="json", exclude_none=True), loaded.summary())
