"""``pmsm-hw compare``: several runs in one table."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pmsm_hw.cli.emulation import emulate_with_bar
from pmsm_hw.cli.mapping import mapping_of
from pmsm_hw.cli.models import NETWORK_SUFFIXES, ModelOptions, notes_of, open_model
from pmsm_hw.cli.options import (
    MOST_STEPS,
    OBJECTIVES,
    AsJson,
    Data,
    Limit,
    Mode,
    Seed,
    between,
    one_of,
)
from pmsm_hw.cli.samples import calibration_for, needs_random, samples_for
from pmsm_hw.cli.terminal import answer, check_files, say
from pmsm_hw.errors import InputError, require_extra

if TYPE_CHECKING:
    from pmsm_hw.emulator import Report

__all__ = ["compare"]


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


def _is_torch(model: str) -> bool:
    return Path(model).suffix not in NETWORK_SUFFIXES


def _each(values: list[str] | None) -> list[str | None]:
    """The values of an option that may be repeated, or None alone."""
    return list(values) if values else [None]
