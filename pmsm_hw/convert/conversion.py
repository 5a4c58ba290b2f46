"""From a torch model to a `Network`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from pmsm_hw.convert.integer import IntegerModel, built
from pmsm_hw.convert.report import ConversionReport, report_on
from pmsm_hw.network import Network
from pmsm_hw.nn.lowering import Pooling
from pmsm_hw.nn.quantization import Batch

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
    report: ConversionReport

    def __iter__(self) -> Iterator[Any]:
        return iter((self.network, self.report))


def convert(
    model: nn.Module,
    example_input: Batch | None = None,
    *,
    name: str = "network",
    weight_bits: int = 8,
    per_channel: bool = True,
    max_steps: int = 8,
    rule: str = "carry",
    pooling: Pooling = "auto",
    target_spikes: Literal["graded", "unit"] = "graded",
    overflow: Literal["error", "saturate"] = "error",
    input_scale: float | None = None,
    input_levels: Sequence[int] | None = None,
) -> Conversion:
    """Turn a quantized model into an integer network, and report what that did.

    Parameters
    ----------
    model
        From `pmsm_hw.nn.quantize`, any module with `PolarityQuant` activations, or an integer model
        (`integer_model`), which converts without any difference and keeps its own settings.
    example_input
        A batch of inputs, one array or one per input: gives the shapes, and is the calibration
        batch of the report. By default the batch that `quantize` or `integer_model` was given.
    name
        Of the network.
    weight_bits, per_channel, max_steps, rule, pooling, target_spikes, overflow
        See `integer_model`.
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
    if isinstance(model, IntegerModel):
        integer = model
    else:
        if example_input is None:
            example_input = getattr(model, "examples", ())
        integer = built(
            model, example_input, weight_bits=weight_bits, per_channel=per_channel,
            max_steps=max_steps, rule=rule, pooling=pooling, target_spikes=target_spikes,
            overflow=overflow,
            input_scale=input_scale, input_levels=input_levels, spare_bits=0,
        )  # fmt: skip
    network = integer.network(name)
    return Conversion(network=network, report=report_on(integer, network))
