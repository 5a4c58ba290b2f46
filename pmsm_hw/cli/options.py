"""Options that several commands share: one text, one default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pmsm_hw.errors import InputError

__all__ = [
    "MOST_STEPS", "OBJECTIVES", "AsJson", "Calibration", "CarryState", "ChipName", "Data", "Gains",
    "HtmlReport", "InputLevels", "InputScale", "Levels", "Limit", "MappedFile", "MaxPool",
    "MaxSteps", "Mode", "ModelName", "Name", "NetworkFile", "NirInputLevels", "NirInputScale",
    "NirLevels", "NirMaxSteps", "Objective", "PerChannel", "ProfileName", "RunObjective", "Seed",
    "SplitFanIn", "SplitFanOut", "StateDict", "Steps", "TorchCalibration", "TorchInputLevels",
    "TorchInputScale", "TorchLevels", "TorchMaxSteps", "TraceAll", "TraceFile", "WeightBits",
    "between", "one_of", "pair", "pair_or_none", "refuse_given",
]  # fmt: skip

OBJECTIVES = ("latency", "energy", "cores")
MODES = ("counts", "cycle")

MOST_STEPS = 4096
"""The largest ``max_steps`` of a network."""

MOST_SAMPLES = (1 << 31) - 1


def one_of(*values: str) -> dict[str, object]:
    """Settings of an option that takes some words.

    Parameters
    ----------
    values
        The words.
    """

    def check(given: str | list[str] | None) -> str | list[str] | None:
        for value in given if isinstance(given, list) else [given]:
            if value is not None and value not in values:
                raise typer.BadParameter(f"{value!r} is not one of {', '.join(values)}")
        return given

    return {"callback": check, "autocompletion": lambda: list(values)}


def pair_or_none(option: str, text: str | None) -> tuple[int, int] | None:
    """Read two integers where the option was given.

    Raises
    ------
    InputError
        If they are not.
    """
    return None if text is None else pair(option, text)


def between(least: int, most: int) -> dict[str, object]:
    """Settings of an option that takes integers within limits.

    Parameters
    ----------
    least, most
        The limits.
    """

    def check(given: int | list[int] | None) -> int | list[int] | None:
        for value in given if isinstance(given, list) else [given]:
            if value is not None and not least <= value <= most:
                raise typer.BadParameter(f"{value} is outside {least}..{most}")
        return given

    return {"callback": check}


def refuse_given(
    given: Mapping[str, object], problem: str, *, remedy: str = "leave it out"
) -> None:
    """Refuse options that were given where they have no effect.

    Parameters
    ----------
    given
        Values by the option's name, as ``max_steps``; None: not given.
    problem
        Why.
    remedy
        What to do about it.

    Raises
    ------
    InputError
        If one was given.
    """
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"option --{name.replace('_', '-')}",
                problem,
                remedy=remedy,
                actual=str(value),
                limit="not given",
            )


def _begun(text: str) -> str:
    return text[0].upper() + text[1:]


def _a_name(given: str | None) -> str | None:
    if given is not None and not (given.strip() and given.isprintable() and len(given) <= 200):
        raise typer.BadParameter(
            f"{given[:40]!r} is not a name: 1 to 200 printable characters, not all blank"
        )
    return given


def _chips() -> list[str]:
    from pmsm_hw.mapping import chip_names

    return list(chip_names())


def pair(option: str, text: str) -> tuple[int, int]:
    """Read two integers with a comma between them.

    Raises
    ------
    InputError
        If they are not.
    """
    try:
        first, second = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"option {option}",
            f"{text!r} is not two integers",
            remedy="give them with a comma between, as in 2,4",
            actual=text,
            limit="A,B",
        ) from None
    return first, second


NetworkFile = Annotated[Path, typer.Argument(metavar="FILE", help="Network file (.h5, .nir).")]
MappedFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="Mapped network file (.h5), as map writes it.")
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Network file (.h5, .nir), torch model of save_model (.pt), or "
        "package.module:function that returns a torch model.",
    ),
]
StateDict = Annotated[
    Path | None,
    typer.Option("--state-dict", help="State dict for package.module:function (torch.save)."),
]
OF_NIR = "For a .nir file: "
QUANTIZE = (
    "Quantize a plain torch model first: N negative, P positive levels. Without fine-tuning in "
    "Python afterwards, give many, as in 0,15."
)
NIR_LEVELS = "largest numbers of negative and positive spikes per step of its neurons (0,1)."
LARGEST_T = "largest T for which overflow is excluded"
ONE_UNIT = "real value of one unit of the inputs"
OF_INPUTS = "smallest and largest value of the inputs, in units"
CHOSEN_SCALE = "chosen so that the levels span the calibration samples"
TO_CALIBRATE = (
    "Calibration samples of a torch model: they set its quantization, and its conversion report is "
    "based on them. "
)

Levels = Annotated[
    str | None,
    typer.Option("--levels", metavar="N,P", help=f"{QUANTIZE} {OF_NIR}{NIR_LEVELS}"),
]
TorchLevels = Annotated[str | None, typer.Option("--levels", metavar="N,P", help=QUANTIZE)]
Gains = Annotated[
    str | None,
    typer.Option(
        "--gains",
        metavar="POS,NEG",
        help="Polarity gains of --levels (1,1); 4,1 is alpha = 1/4.",
    ),
]
Name = Annotated[str, typer.Option("--name", help="Name of the network.", callback=_a_name)]
WeightBits = Annotated[
    int | None,
    typer.Option(
        "--weight-bits", help="Bits per weight of a torch model, 2 to 8 (8).", **between(2, 8)
    ),
]
MaxSteps = Annotated[
    int | None,
    typer.Option(
        "--max-steps",
        help=f"{_begun(LARGEST_T)} (8; for a .nir file 16).",
        **between(1, MOST_STEPS),
    ),
]
TorchMaxSteps = Annotated[
    int | None,
    typer.Option("--max-steps", help=f"{_begun(LARGEST_T)} (8).", **between(1, MOST_STEPS)),
]
NirMaxSteps = Annotated[
    int | None,
    typer.Option("--max-steps", help=f"{OF_NIR}{LARGEST_T} (16).", **between(1, MOST_STEPS)),
]
NirLevels = Annotated[str | None, typer.Option("--levels", metavar="N,P", help=OF_NIR + NIR_LEVELS)]
PerChannel = Annotated[
    bool | None,
    typer.Option(
        "--per-channel", help="With --levels: one threshold per channel instead of one per layer."
    ),
]
MaxPool = Annotated[
    str | None,
    typer.Option(
        "--max-pool",
        help="With --levels: average replaces max pooling by average pooling.",
        **one_of("average"),
    ),
]
InputScale = Annotated[
    float | None,
    typer.Option(
        "--input-scale",
        help=f"{_begun(ONE_UNIT)} (1 for a .nir file; for a torch model {CHOSEN_SCALE}).",
    ),
]
TorchInputScale = Annotated[
    float | None,
    typer.Option("--input-scale", help=f"{_begun(ONE_UNIT)}; by default {CHOSEN_SCALE}."),
]
NirInputScale = Annotated[
    float | None, typer.Option("--input-scale", help=f"{OF_NIR}{ONE_UNIT} (1).")
]
InputLevels = Annotated[
    str | None,
    typer.Option(
        "--input-levels",
        metavar="LO,HI",
        help=f"{_begun(OF_INPUTS)} (0,255; -127,127 for a torch model with negative inputs).",
    ),
]
TorchInputLevels = Annotated[
    str | None,
    typer.Option(
        "--input-levels",
        metavar="LO,HI",
        help=f"{_begun(OF_INPUTS)} (0,255; with negative inputs -127,127).",
    ),
]
NirInputLevels = Annotated[
    str | None,
    typer.Option("--input-levels", metavar="LO,HI", help=f"{OF_NIR}{OF_INPUTS} (0,255)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="digits (held-out third), digits-train, random (needs a network file), or a file: "
        ".npz (x or one array per input, labels), .npy, .bin (one N-MNIST recording).",
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        help=f"{TO_CALIBRATE}As for --data; by default those of --data (digits-train for digits).",
    ),
]
TorchCalibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        help=f"{TO_CALIBRATE}digits-train (the default), digits, or a file: .npz (x or one array "
        "per input), .npy, .bin (one N-MNIST recording).",
    ),
]
Steps = Annotated[
    int, typer.Option("--n-steps", help="Time steps T per sample.", **between(1, MOST_STEPS))
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", help="Use only the first samples.", **between(1, MOST_SAMPLES)),
]
CarryState = Annotated[
    bool,
    typer.Option(
        "--carry-state",
        help="Let each sample begin with the state that the one before left, as one long sample.",
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Random seed (0).", **between(0, (1 << 32) - 1))
]
ChipName = Annotated[
    str, typer.Option("--chip", help="Chip name or chip file.", autocompletion=_chips)
]
Objective = Annotated[
    str,
    typer.Option(
        "--objective",
        help="Mapping objective: latency, energy or cores.",
        **one_of(*OBJECTIVES),
    ),
]
SplitFanIn = Annotated[
    bool,
    typer.Option(
        "--split-fan-in",
        help="Split fan-ins that exceed a core of the chip, with relay populations.",
    ),
]
SplitFanOut = Annotated[
    bool,
    typer.Option(
        "--split-fan-out",
        help="Split fan-outs that exceed a core of the chip, with relay populations.",
    ),
]
RunObjective = Annotated[
    str | None,
    typer.Option(
        "--objective",
        help="Mapping objective: latency, energy or cores; by default the file's own mapping, or "
        "latency.",
        **one_of(*OBJECTIVES),
    ),
]
Mode = Annotated[
    str,
    typer.Option(
        "--mode",
        help="counts (exact counts, latency without contention) or cycle (cycle-level, simulates "
        "each message: contention and blocking).",
        **one_of(*MODES),
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile", help="Profile of the chip's energy and time constants; by default its first."
    ),
]
HtmlReport = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="HTML",
        help="Write a self-contained HTML report with figures to this file.",
    ),
]
TraceFile = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="JSON",
        help="Write a trace for Perfetto to this file (cycle mode): the first sample and those "
        "that took longest, as many as fit into 10 MB.",
    ),
]
TraceAll = Annotated[
    bool, typer.Option("--trace-all", help="With --trace: every sample, however large the file.")
]
