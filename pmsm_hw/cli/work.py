"""The steps of the path that several commands take: samples, mapping, emulation, reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pmsm_hw.cli.models import ModelOptions, Opened
from pmsm_hw.cli.options import refuse_given
from pmsm_hw.cli.terminal import bar, command_line, say
from pmsm_hw.cli.torch_models import real_values
from pmsm_hw.errors import InputError, require_extra

if TYPE_CHECKING:
    from pmsm_hw.datasets import Samples
    from pmsm_hw.emulator import Report
    from pmsm_hw.mapping import Chip, Mapping
    from pmsm_hw.network import Network

__all__ = [
    "calibration_for", "emulate_with_bar", "mapping_of", "needs_cycle",
    "needs_figures", "needs_random", "nir_options", "notes_of", "place", "require_inputs",
    "samples_for", "say_notes", "split", "traced", "write_reports",
]  # fmt: skip

MAPPING_STAGES = 8
"""Lines of progress of a mapping beyond one a population, about."""

RANDOM_SAMPLES = 16
"""Samples of ``--data random`` without ``--limit``."""


def samples_for(
    opened: Opened, data: str, n_steps: int, limit: int | None, seed: int | None
) -> Samples:
    """Read or draw what a network is run on."""
    from pmsm_hw.datasets import load_samples, random_samples

    network = opened.network
    if n_steps > network.max_steps:
        raise InputError(
            f"network '{network.name}'",
            f"{n_steps} steps exceed max_steps {network.max_steps}, up to which overflow is "
            "excluded",
            remedy="use a smaller --n-steps, or make the network again with a larger --max-steps "
            "(of pmsm-hw convert, of pmsm-hw map for a .nir file)",
            actual=n_steps,
            limit=network.max_steps,
        )
    if data == "random":
        n = RANDOM_SAMPLES if limit is None else limit
        return random_samples(network, n_samples=n, n_steps=n_steps, seed=seed or 0)
    samples = load_samples(data, n_steps=n_steps, limit=limit)
    samples = real_values(samples) if opened.stages else samples
    require_inputs(opened, samples, n_steps)
    return samples


def require_inputs(opened: Opened, samples: Samples, n_steps: int) -> None:
    """Refuse samples that are no inputs of the network, and fractions where one unit is 1.

    They would be rounded to whole numbers, as 0 and 1. One unit is 1 where nobody says otherwise;
    a conversion, which has a report, chose its scales for the samples that it saw.
    """
    import numpy as np

    from pmsm_hw.datasets.samples import check_labels
    from pmsm_hw.reference import inputs_of

    arrays = inputs_of(opened.network, samples.x, n_steps)
    check_labels(opened.network, samples)
    if opened.conversion is not None:
        return
    for p in opened.network.inputs:
        if arrays[p.name].dtype.kind != "f" or p.scale != 1:
            continue
        for part in arrays[p.name]:  # sample by sample: no copy of everything
            fractions = part[np.isfinite(part) & (part != np.rint(part))]
            if fractions.size:
                fraction = float(fractions[0])
                raise InputError(
                    f"data '{samples.source}'",
                    f"holds fractions ({fraction:.4g}), input '{p.name}' of network "
                    f"'{opened.network.name}' takes whole numbers: its scale is 1",
                    remedy="give whole numbers, or make the network again with the real value of "
                    "one unit (--input-scale of pmsm-hw map for a .nir file, Input(scale=...) in "
                    "Python)",
                    actual=fraction,
                    limit="whole numbers",
                )


def needs_random(seed: int | None, data: str) -> None:
    """Refuse a seed where nothing is random."""
    if data != "random":
        refuse_given({"seed": seed}, f"has no effect: nothing is drawn for --data {data}")


def calibration_for(data: str) -> str:
    """Samples that a torch model is calibrated on where none are named."""
    return "digits-train" if data == "digits" else data


def nir_options(
    max_steps: int | None, levels: str | None, input_scale: float | None, input_levels: str | None
) -> ModelOptions:
    """What commands that take network files alone let one say about a .nir file."""
    return ModelOptions(
        max_steps=max_steps, levels=levels, input_scale=input_scale, input_levels=input_levels
    )


def place(network: Network, chip: str | Chip, objective: str, seed: int) -> Mapping:
    """Map a network, drawing progress."""
    from pmsm_hw.mapping import load_chip, map_network

    loaded = load_chip(chip) if isinstance(chip, str) else chip
    with bar(f"mapping onto {loaded.name}") as progress:
        # counted population by population, then some stages for the whole
        n_stages, seen = len(network.populations) + MAPPING_STAGES, 0

        def stage(text: str) -> None:
            nonlocal seen
            seen += 1
            progress.stage(f"mapping onto {loaded.name}: {text}")
            progress.steps(min(seen, n_stages), n_stages)

        return map_network(
            network, loaded, objective=cast(Any, objective), seed=seed, progress=stage
        )


def emulate_with_bar(
    network: Network,
    mapping: Mapping,
    samples: Samples,
    n_steps: int,
    *,
    mode: str,
    profile: str | None,
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
            trace=trace,
            record_samples=record_samples,
            progress=progress.steps,
        )


def traced(trace: Path | None, html: Path | None, mode: str) -> bool | int:
    """Of how many samples a trace is needed: an HTML report shows the first one's."""
    if trace is not None:
        return True
    return 1 if html is not None and mode == "cycle" else False


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


def write_reports(
    report: Report,
    samples: Samples,
    *,
    html: Path | None,
    trace: Path | None,
    trace_all: bool,
    conversion: Any = None,
) -> None:
    """Write what --report and --trace ask for."""
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
            accuracy_by_steps=_over_steps(report, samples),
            command=command_line(),
        )
        say(f"wrote {html}")


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


def needs_figures() -> None:
    """Refuse a report before the work where it could not be drawn."""
    require_extra("matplotlib", "plot", "an HTML report")


def notes_of(opened: Opened, samples: Samples | None = None) -> list[str]:
    """What a network's figures do not say by themselves.

    Where it is not exactly what its file says, what its conversion warned of, and what share of the
    samples' real values an input's levels could not hold.
    """
    from pmsm_hw.datasets.samples import clipping_notes

    report = opened.conversion_dict or {}
    notes, warnings = (
        found if isinstance(found := report.get(key), list | tuple) else ()  # of a file: anything
        for key in ("notes", "warnings")
    )
    return [
        *(f"note: {note}" for note in (*opened.notes, *notes)),
        *map(str, warnings),
        *(() if samples is None else clipping_notes(opened.network, samples)),
    ]


def say_notes(opened: Opened, samples: Samples | None = None) -> None:
    """Say what `notes_of` finds, once nothing can fail any more."""
    for note in notes_of(opened, samples):
        say(note)


def _target(opened: Opened, chip: str | None) -> str | Chip:
    """The chip that is asked for, the file's own, or loihi1."""
    if chip is not None:
        return chip
    return "loihi1" if opened.mapping is None else opened.mapping.chip


def mapping_of(opened: Opened, chip: str | None, objective: str | None, seed: int) -> Mapping:
    """The file's own mapping where neither a chip nor an objective is asked for."""
    own = opened.mapping
    if chip is None and objective is None and own is not None:
        return own
    target = _target(opened, chip)
    return place(opened.network, target, objective or "latency", seed)


def split(opened: Opened, chip: str | None, *, fan_in: bool, fan_out: bool) -> Opened:
    """Split what no core of the chip can take; the mapping of a file is then not used."""
    if not (fan_in or fan_out):
        return opened
    from pmsm_hw.mapping import load_chip, split_fan_in, split_fan_out

    target = _target(opened, chip)
    target = load_chip(target) if isinstance(target, str) else target
    network = split_fan_in(opened.network, target) if fan_in else opened.network
    if fan_out:
        network = split_fan_out(network, target)
    if network == opened.network:
        return opened
    return replace(opened, network=network, mapping=None)
