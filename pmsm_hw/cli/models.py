"""What a command is given as MODEL, made into an integer network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmsm_hw.cli.options import pair
from pmsm_hw.errors import InputError, require_extra

if TYPE_CHECKING:
    from pmsm_hw.convert import ConversionReport
    from pmsm_hw.mapping import Mapping
    from pmsm_hw.network import Network

__all__ = ["Opened", "TorchOptions", "open_model"]

CALIBRATION_SAMPLES = 256


@dataclass(frozen=True, kw_only=True)
class TorchOptions:
    """How a torch model becomes a network; see the options of the same names."""

    state_dict: Path | None = None
    levels: str | None = None
    gains: str = "1,1"
    name: str = "network"
    weight_bits: int = 8
    max_steps: int = 8
    calibration: str = "digits-train"


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
    """

    network: Network
    mapping: Mapping | None
    conversion: ConversionReport | dict[str, Any] | None

    @property
    def conversion_dict(self) -> dict[str, Any] | None:
        """The report of the conversion as a dictionary."""
        found = self.conversion
        return found if found is None or isinstance(found, dict) else found.to_dict()


def open_model(model: str, options: TorchOptions) -> Opened:
    """Read a network file, or convert a torch model.

    Raises
    ------
    PmsmHwError
        If MODEL is none of these, or cannot be read or converted.
    """
    from pmsm_hw import io

    suffix = Path(model).suffix
    if suffix in (".h5", ".nir"):
        for option, given in (("--levels", options.levels), ("--state-dict", options.state_dict)):
            if given is not None:
                raise InputError(
                    f"option {option}",
                    f"is for torch models, '{model}' is a network file",
                    remedy="leave it out",
                    actual=str(given),
                    limit="a torch model",
                )
    if suffix == ".nir":
        network = io.load_nir(model, max_steps=options.max_steps)
        return Opened(network=network, mapping=None, conversion=None)
    if suffix == ".h5":
        return Opened(
            network=io.load(model),
            mapping=io.load_mapping(model) if io.has_mapping(model) else None,
            conversion=io.load_report(model),
        )
    if suffix != ".pt" and ":" not in model:
        raise InputError(
            f"model '{model}'",
            "is neither a file .h5, .nir or .pt nor package.module:function",
            remedy="name one of these",
            actual=model,
            limit=(".h5", ".nir", ".pt", "package.module:function"),
        )
    return _converted(model, options)


def _converted(model: str, options: TorchOptions) -> Opened:
    require_extra("torch", "torch", "conversion")
    from pmsm_hw.convert import build_model, convert, load_model
    from pmsm_hw.datasets import load_samples

    module = load_model(model) if model.endswith(".pt") else build_model(model, options.state_dict)
    samples = load_samples(options.calibration, limit=CALIBRATION_SAMPLES).x
    example = list(samples.values()) if isinstance(samples, dict) else samples
    if options.levels is not None:
        from pmsm_hw import nn

        module = nn.quantize(
            module,
            levels=pair("--levels", options.levels),
            gains=pair("--gains", options.gains),
            calibration=example,
        )
    network, report = convert(
        module,
        example,
        name=options.name,
        weight_bits=options.weight_bits,
        max_steps=options.max_steps,
    )
    return Opened(network=network, mapping=None, conversion=report)
