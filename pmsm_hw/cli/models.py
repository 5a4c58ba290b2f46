"""What a command is given as MODEL, made into an integer network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmsm_hw.cli.options import pair_or_none, refuse_given
from pmsm_hw.cli.terminal import say
from pmsm_hw.cli.torch_models import Stage, convert_model
from pmsm_hw.errors import InputError

if TYPE_CHECKING:
    from pmsm_hw.convert import ConversionReport
    from pmsm_hw.datasets import Samples
    from pmsm_hw.mapping import Mapping
    from pmsm_hw.network import Network

__all__ = [
    "NETWORK_SUFFIXES", "ModelOptions", "Opened", "nir_options", "notes_of", "open_model",
    "open_network", "say_notes",
]  # fmt: skip

NETWORK_SUFFIXES = (".h5", ".nir", ".net")
"""Of files that hold networks of integers; a ``.net`` is refused by its content, with a remedy."""

TORCH = "a torch model"
NIR = "a .nir file"
OWN = "a .h5 file"
TAKEN_BY = {
    "state_dict": (TORCH,),
    "levels": (TORCH, NIR),
    "gains": (TORCH,),
    "name": (TORCH, NIR),
    "weight_bits": (TORCH,),
    "max_steps": (TORCH, NIR),
    "calibration": (TORCH,),
    "input_scale": (TORCH, NIR),
    "input_levels": (TORCH, NIR),
    "per_channel": (TORCH,),
    "max_pool": (TORCH,),
}
"""What each option has an effect on."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a torch model, or a NIR graph, becomes a network; None: not given.

    See the options of the same names.
    """

    state_dict: Path | None = None
    levels: str | None = None
    gains: str | None = None
    name: str | None = None
    weight_bits: int | None = None
    max_steps: int | None = None
    calibration: str | None = None
    input_scale: float | None = None
    input_levels: str | None = None
    per_channel: bool | None = None
    max_pool: str | None = None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A network, and what is known of it.

    Parameters
    ----------
    network
        Ready to map.
    mapping
        If the file held one.
    conversion
        Report of the conversion, if there is one: as a dictionary if it came from a file.
    notes
        Where the network is not exactly what its file says.
    stages
        Torch models that it came from.
    """

    network: Network
    mapping: Mapping | None
    conversion: ConversionReport | dict[str, Any] | None
    notes: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()

    @property
    def conversion_dict(self) -> dict[str, Any] | None:
        """The report of the conversion as a dictionary."""
        found = self.conversion
        return found if found is None or isinstance(found, dict) else found.to_dict()


def open_model(
    model: str,
    options: ModelOptions,
    *,
    calibration: str = "digits-train",
    n_steps: int = 1,
    named_by: tuple[str, ...] = ("--calibration",),
) -> Opened:
    """Read a network file, or convert a torch model.

    Parameters
    ----------
    model
        Path of a file, or ``package.module:function``.
    options
        What was given.
    calibration
        Samples for a torch model where the options name none.
    n_steps
        Frames that a recording among these is binned into.
    named_by
        The command's options that name these samples, for errors.

    Raises
    ------
    PmsmHwError
        If MODEL is none of these, or cannot be read or converted, or an option that was given has
        no effect on it.
    """
    suffix = Path(model).suffix
    if suffix in NETWORK_SUFFIXES:
        return open_network(Path(model), options)
    if suffix != ".pt" and ":" not in model:
        raise InputError(
            f"model '{model}'",
            "is neither a file .h5, .nir or .pt nor package.module:function",
            remedy="name one of these",
            actual=model,
            limit=(".h5", ".nir", ".pt", "package.module:function"),
        )
    _refuse_without_effect(model, TORCH, options)
    if suffix == ".pt":
        problem = f"has no effect, '{model}' has its own values"
        refuse_given({"state_dict": options.state_dict}, problem)
    found = convert_model(model, options, calibration, n_steps=n_steps, named_by=named_by)
    return Opened(network=found.network, mapping=None, conversion=found.report, stages=found.stages)


def open_network(file: Path, options: ModelOptions) -> Opened:
    """Read a network file: .h5 or .nir.

    Parameters
    ----------
    file
        Its path.
    options
        What was given.

    Raises
    ------
    PmsmHwError
        If it cannot be read, or an option that was given has no effect on it.
    """
    from pmsm_hw import io

    if file.suffix == ".pt" or (":" in str(file) and not file.exists()):
        raise InputError(
            f"file '{file}'",
            "is a torch model, a network file (.h5, .nir) is expected",
            remedy="convert it first: pmsm-hw convert",
            actual=str(file),
            limit=(".h5", ".nir"),
        )
    if file.suffix == ".nir":
        _refuse_without_effect(str(file), NIR, options)
        given: dict[str, Any] = {
            "name": options.name,
            "max_steps": options.max_steps,
            "input_scale": options.input_scale,
            "input_levels": pair_or_none("--input-levels", options.input_levels),
            "levels": pair_or_none("--levels", options.levels),
        }
        network, notes = io.import_nir(file, **given)
        return Opened(network=network, mapping=None, conversion=None, notes=notes)
    _refuse_without_effect(str(file), OWN, options)
    return Opened(
        network=io.load(file),
        mapping=io.load_mapping(file) if io.has_mapping(file) else None,
        conversion=io.load_report(file),
    )


def nir_options(
    max_steps: int | None, levels: str | None, input_scale: float | None, input_levels: str | None
) -> ModelOptions:
    """What commands that take network files alone let one say about a .nir file."""
    return ModelOptions(
        max_steps=max_steps, levels=levels, input_scale=input_scale, input_levels=input_levels
    )


def _refuse_without_effect(model: str, kind: str, options: ModelOptions) -> None:
    for option, kinds in TAKEN_BY.items():
        if kind not in kinds:
            problem = f"is for {' and '.join(kinds)}, '{model}' is {kind}"
            refuse_given({option: getattr(options, option)}, problem)


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
