"""``pmsm-hw lava``: a network in Lava, compared with the reference."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pmsm_hw.cli.models import nir_options, open_network, say_notes
from pmsm_hw.cli.options import (
    AsJson,
    CarryState,
    Data,
    Limit,
    NetworkFile,
    NirInputLevels,
    NirInputScale,
    NirLevels,
    NirMaxSteps,
    Seed,
    Steps,
    one_of,
)
from pmsm_hw.cli.samples import needs_random, samples_for
from pmsm_hw.cli.terminal import DIFFERENT, answer, bar

GRANULARITIES = ("coarse", "fine")
CHOICES = ("auto", "own", "lava")

__all__ = ["lava"]


def lava(
    file: NetworkFile,
    max_steps: NirMaxSteps = None,
    levels: NirLevels = None,
    input_scale: NirInputScale = None,
    input_levels: NirInputLevels = None,
    data: Data = "digits",
    n_steps: Steps = 1,
    limit: Limit = None,
    carry_state: CarryState = False,
    granularity: Annotated[
        str | None,
        typer.Option(
            "--granularity",
            help="coarse (one process per population, the default) or fine (one per population "
            "and projection, the default with --neurons lava).",
            **one_of(*GRANULARITIES),
        ),
    ] = None,
    neurons: Annotated[
        str,
        typer.Option(
            "--neurons",
            help="Processes for the neurons of a fine graph: own (those of this package), lava "
            "(Lava's own; an error where they compute something else) or auto (Lava's own where "
            "they are proven to compute the same).",
            **one_of(*CHOICES),
        ),
    ] = "auto",
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="Timeout in seconds.")] = 600.0,
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
            network, samples.x, n_steps, carry_state=carry_state, timeout_s=timeout_s,
            granularity=granularity or ("fine" if neurons == "lava" else "coarse"),  # type: ignore[arg-type]
            neurons=neurons,  # type: ignore[arg-type]
            progress=progress.steps,
        )  # fmt: skip
    expected = reference.run(network, samples.x, n_steps, carry_state=carry_state)
    values: dict[str, Any] = {
        "n_samples": samples.n_samples,
        "n_steps": n_steps,
        "differing_spikes": differing_spikes(result.spikes, expected.spikes),
        "differing_readouts": differing_readouts(result.readouts, expected.readouts),
        "spikes": {name: int(abs(k).sum()) for name, k in result.spikes.items()},
        "processes": dict(result.processes),
    }
    if samples.labels is not None and len(network.readouts) == 1:
        values["accuracy"] = float((result.predictions() == samples.labels).mean())
    rows = [(k, v) for k, v in values.items() if k not in ("spikes", "processes")]
    rows += [(f"spikes of {name}", n) for name, n in values["spikes"].items()]
    rows += [(f"process of {name}", title) for name, title in result.processes.items()]
    say_notes(opened, samples)
    answer(as_json, values, table(("", "value"), rows, title=f"Lava: {network.name}"))
    if values["differing_spikes"] or values["differing_readouts"]:
        raise typer.Exit(DIFFERENT)
