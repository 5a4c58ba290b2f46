"""The command ``pmsm-hw``: each subcommand calls one public function and prints its answer.

Answers go to stdout (a table, or JSON with ``--json``), progress to stderr. A known error is one
line on stderr and exit status 2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from pmsm_hw import __version__
from pmsm_hw.errors import FormatError, InputError, PmsmHwError, require_extra

__all__ = ["app", "main"]

app = typer.Typer(
    name="pmsm-hw",
    help="Polarity multi-spike networks on Loihi-style chips: convert, map, emulate, count energy.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
chips_app = typer.Typer(help="Show the chips that ship with the package, or a chip file.")
app.add_typer(chips_app, name="chips", no_args_is_help=True)

NetworkFile = Annotated[Path, typer.Argument(metavar="FILE", help="Network file (.h5).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="digits, or a file: .npz (x, labels), .npy, .bin (one N-MNIST recording).",
    ),
]
Steps = Annotated[int, typer.Option("--n-steps", help="Time steps T per sample.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Use only the first samples.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _answer(as_json: bool, values: dict[str, Any], text: str) -> None:
    if as_json:
        print(json.dumps(values, indent=2, sort_keys=False, allow_nan=False))  # noqa: T201
    else:
        print(text)  # noqa: T201


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Draw steps done of steps to do on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task(f"{what}, steps", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


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
    pass


@app.command()
def demo(
    seed: Seed = 0,
    network: Annotated[
        Path | None,
        typer.Option("--network", help="Start from this network file; needs no torch."),
    ] = None,
    save_dir: Annotated[
        Path | None, typer.Option("--save-dir", help="Keep model.pt, network.h5, mapped.h5 here.")
    ] = None,
    chip: Annotated[str, typer.Option("--chip", help="Chip name or chip file.")] = "loihi1",
    lava: Annotated[bool, typer.Option("--lava/--no-lava", help="Run in Lava as well.")] = True,
    as_json: AsJson = False,
) -> None:
    """Train on handwritten digits, convert, map, emulate, run in Lava: the whole path."""
    from pmsm_hw.demo import run_demo
    from pmsm_hw.io import load

    result = run_demo(
        seed=seed,
        network=None if network is None else load(network),
        save_dir=save_dir,
        chip=chip,
        lava_images=None if lava else 0,
        say=_say,
    )
    _answer(as_json, result.to_dict(), result.table())


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
    state_dict: Annotated[
        Path | None,
        typer.Option("--state-dict", help="Trained values for package.module:function."),
    ] = None,
    data: Data = "digits",
    name: Annotated[str, typer.Option("--name", help="Name of the network.")] = "network",
    weight_bits: Annotated[int, typer.Option("--weight-bits", help="Bits per weight.")] = 8,
    max_steps: Annotated[
        int, typer.Option("--max-steps", help="Largest number of time steps to prove.")
    ] = 8,
    as_json: AsJson = False,
) -> None:
    """Turn a trained, quantized torch model into an integer network.

    An integer model (trained with the integers it converts to) keeps its own bits and steps; of
    other models --data gives the shape of the input and the batch that the report compares on.
    """
    require_extra("torch", "torch", "conversion")
    from pmsm_hw import io
    from pmsm_hw.convert import build_model, load_model
    from pmsm_hw.convert import convert as convert_
    from pmsm_hw.datasets import load_samples

    module = load_model(model) if model.endswith(".pt") else build_model(model, state_dict)
    example = load_samples(data, limit=256).x
    network, report = convert_(
        module, example, name=name, weight_bits=weight_bits, max_steps=max_steps
    )
    io.save(output, network, report=report)
    _answer(as_json, report.to_dict(), f"{network.summary()}\n\n{report}")


@app.command()
def inspect(file: NetworkFile, as_json: AsJson = False) -> None:
    """Show the populations, sizes and proven bounds of a network file."""
    from pmsm_hw.io import load

    network = load(file)
    _answer(as_json, network.describe(), network.summary())


@app.command(name="map")
def map_(
    file: NetworkFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Mapped network file (.h5).")],
    chip: Annotated[str, typer.Option("--chip", help="Chip name or chip file.")] = "loihi1",
    objective: Annotated[
        str,
        typer.Option(
            "--objective", help="latency, energy or cores (latency and cores: fewest cores)."
        ),
    ] = "latency",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Place a network on a chip; say which population does not fit, if any."""
    from pmsm_hw import io
    from pmsm_hw.mapping import load_chip, map_network

    network = io.load(file)
    mapping = map_network(network, load_chip(chip), objective=cast(Any, objective), seed=seed)
    io.save(output, network, mapping=mapping, report=io.load_report(file))
    _answer(as_json, dict(mapping.metrics), mapping.summary())


@app.command()
def emulate(
    file: NetworkFile,
    data: Data = "digits",
    n_steps: Steps = 1,
    mode: Annotated[str, typer.Option("--mode", help="counts or cycle.")] = "cycle",
    profile: Annotated[
        str | None, typer.Option("--profile", help="Energy profile of the chip.")
    ] = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Emulate a mapped network: spikes, latency and energy per inference."""
    from pmsm_hw import io
    from pmsm_hw.datasets import load_samples
    from pmsm_hw.emulator import emulate as emulate_

    network, mapping = io.load(file), io.load_mapping(file)
    samples = load_samples(data, n_steps=n_steps, limit=limit)
    report = emulate_(
        network,
        mapping,
        samples.x,
        n_steps,
        mode=cast(Any, mode),
        profile=profile,
        labels=samples.labels,
    )
    _answer(as_json, report.to_dict(), report.table())


@app.command()
def lava(
    file: NetworkFile,
    data: Data = "digits",
    n_steps: Steps = 1,
    limit: Limit = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", help="Give up after so many seconds.")
    ] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Run a network in Lava and compare every spike with the reference."""
    from pmsm_hw import io, reference
    from pmsm_hw.datasets import load_samples
    from pmsm_hw.lava import run
    from pmsm_hw.reference import differing_spikes
    from pmsm_hw.tables import table

    network = io.load(file)
    samples = load_samples(data, n_steps=n_steps, limit=limit)
    with _bar("Lava") as progress:
        result = run(network, samples.x, n_steps, timeout_s=timeout_s, progress=progress)
    expected = reference.run(network, samples.x, n_steps)
    values: dict[str, Any] = {
        "n_samples": len(samples.x),
        "n_steps": n_steps,
        "differing_spikes": differing_spikes(result.spikes, expected.spikes),
        "spikes": {name: int(abs(k).sum()) for name, k in result.spikes.items()},
    }
    if samples.labels is not None and len(network.readouts) == 1:
        values["accuracy"] = float((result.predictions() == samples.labels).mean())
    rows = [(k, v) for k, v in values.items() if k != "spikes"]
    rows += [(f"spikes of {name}", n) for name, n in values["spikes"].items()]
    _answer(as_json, values, table(("", "value"), rows, title=f"Lava: {network.name}"))


@app.command()
def export(
    file: NetworkFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .nir, or .h5 (network alone).")
    ],
) -> None:
    """Write a network for other tools: NIR, or HDF5 without mapping and report."""
    from pmsm_hw import io

    if output.suffix == ".nir":
        for note in io.save_nir(output, io.load(file)):
            _say(note)
    elif output.suffix == ".h5":
        io.save(output, io.load(file))
    else:
        raise InputError(
            f"file '{output}'",
            f"suffix {output.suffix!r} is unknown",
            remedy="use .nir or .h5",
            actual=output.suffix,
            limit=(".nir", ".h5"),
        )
    _say(f"wrote {output}")


@chips_app.command("list")
def chips_list(as_json: AsJson = False) -> None:
    """List the chips that ship with the package."""
    from pmsm_hw.mapping import chip_names, load_chip
    from pmsm_hw.tables import table

    rows = [(name, load_chip(name).description) for name in chip_names()]
    values = {"chips": [{"name": n, "description": d} for n, d in rows]}
    _answer(as_json, values, table(("chip", "description"), rows))


@chips_app.command("show")
def chips_show(
    chip: Annotated[str, typer.Argument(metavar="CHIP", help="Chip name or chip file.")],
    as_json: AsJson = False,
) -> None:
    """Print every number of a chip with its unit, source and kind."""
    from pmsm_hw.mapping import load_chip

    loaded = load_chip(chip)
    _answer(as_json, loaded.model_dump(mode="json", exclude_none=True), loaded.summary())


def main() -> None:
    """Run the command; known errors are one line and exit status 2."""
    try:
        app()
    except PmsmHwError as error:
        _say(f"pmsm-hw: {' '.join(str(error).split())}")
        sys.exit(2)
    except FileNotFoundError as error:
        missing = FormatError(
            f"file '{error.filename}'",
            "does not exist",
            remedy="check the path",
            actual="missing",
            limit="a file",
        )
        _say(f"pmsm-hw: {missing}")
        sys.exit(2)
