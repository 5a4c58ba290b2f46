"""From a torch model to a `Network`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from pmsm_hw.arguments import shown
from pmsm_hw.convert.integer import IntegerModel, built
from pmsm_hw.convert.loihi import convert_loihi, has_loihi_modules
from pmsm_hw.convert.loihi_report import LoihiConversionReport
from pmsm_hw.convert.report import ConversionReport, report_on
from pmsm_hw.convert.settings import DEFAULTS
from pmsm_hw.errors import ConversionError
from pmsm_hw.network import Network
from pmsm_hw.nn.batches import Batch
from pmsm_hw.nn.lowering import Pooling

__all__ = ["Conversion", "convert"]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Result of `convert`; unpacks as ``network, report``.

    Parameters
    ----------
    network
        The integer network.
    report
        What conversion did.
    """

    network: Network
    report: ConversionReport | LoihiConversionReport

    def __iter__(self) -> Iterator[Any]:
        return iter((self.network, self.report))


def convert(
    model: nn.Module,
    example_input: Batch | None = None,
    *,
    name: str = "network",
    weight_bits: int | None = None,
    per_channel: bool | None = None,
    max_steps: int | None = None,
    rule: str | None = None,
    pooling: Pooling | None = None,
    target_spikes: Literal["graded", "unit"] | None = None,
    overflow: Literal["error", "saturate"] | None = None,
    input_scale: float | None = None,
    input_levels: Sequence[int] | None = None,
) -> Conversion:
    """Turn a quantized model into an integer network, and report what that did.

    Parameters
    ----------
    model
        From `pmsm_hw.nn.quantize`, any module with `PolarityQuant` activations, or an integer model
        (`integer_model`), which converts without any difference and keeps its own settings and
        batch: no options can be given with it. Or a model of Loihi's own neurons
        (`pmsm_hw.nn.CubaLif`, ...): it computes with a network's integers already, which are taken
        over as they are, and compared spike by spike on ``example_input``; of the options, it takes
        ``max_steps``.
    example_input
        A batch of inputs, one array or one per input: gives the shapes, and is the calibration
        batch of the report. By default the batch that `quantize` was given.
    name
        Of the network.
    weight_bits, per_channel, max_steps, rule, pooling, target_spikes, overflow
        See `integer_model`, whose defaults hold.
    input_scale, input_levels
        See `integer_model`.

    Returns
    -------
    Conversion

    Raises
    ------
    ConversionError
        Naming module, reason and remedy.
    """
    given: dict[str, Any] = {
        "weight_bits": weight_bits,
        "per_channel": per_channel,
        "max_steps": max_steps,
        "rule": rule,
        "pooling": pooling,
        "target_spikes": target_spikes,
        "overflow": overflow,
        "input_scale": input_scale,
        "input_levels": input_levels,
    }
    given = {option: value for option, value in given.items() if value is not None}
    if isinstance(model, nn.Module) and has_loihi_modules(model):
        problem = "a model of Loihi's neurons states its own integers"
        _refuse(given, problem, "leave it out, or give it to the model's modules", {"max_steps"})
        example = () if example_input is None else example_input
        network, compared = convert_loihi(model, example, name=name, max_steps=max_steps)
        return Conversion(network=network, report=compared)
    if isinstance(model, IntegerModel):
        if example_input is not None:
            given["example_input"] = example_input
        problem = "an integer model keeps its own settings and batch"
        _refuse(given, problem, "leave it out, or give it to integer_model")
        integer = model
    else:
        if example_input is None:
            example_input = getattr(model, "examples", ())
        integer = built(model, example_input, **(DEFAULTS | given), spare_bits=0)
    network = integer.network(name)
    report = report_on(integer, network, from_integer_model=integer is model)
    return Conversion(network=network, report=report)


def _refuse(
    given: Mapping[str, Any], why: str, remedy: str, allowed: Set[str] = frozenset()
) -> None:
    """Raise for options that have no effect."""
    for option, value in given.items():
        if option not in allowed:
            raise ConversionError(
                option,
                f"{shown(value)} has no effect: {why}",
                remedy=remedy,
                actual=value,
                limit=None,
            )
