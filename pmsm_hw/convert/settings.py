"""Options of conversion, and what they say of a population's payloads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pmsm_hw.arguments import choice, flag, integer
from pmsm_hw.errors import ConversionError
from pmsm_hw.network import MAX_STEPS, RULES, STATE_BITS
from pmsm_hw.nn.lowering import InputPlan, NeuronPlan, Plan, RelayPlan
from pmsm_hw.nn.neuron import Rule

__all__ = ["DEFAULTS", "Settings", "check_options", "payload_range", "reach_of"]

DEFAULTS: dict[str, Any] = {
    "weight_bits": 8,
    "per_channel": True,
    "max_steps": 8,
    "rule": "carry",
    "pooling": "auto",
    "target_spikes": "graded",
    "overflow": "error",
    "input_scale": None,
    "input_levels": None,
}
"""Options of `integer_model` and `convert`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is rounded; see `pmsm_hw.convert.integer_model`."""

    weight_bits: int
    per_channel: bool
    max_steps: int
    rule: Rule
    saturate: bool


def check_options(**given: Any) -> None:
    """Raise `ConversionError` for options of `integer_model` that are none."""
    remedies = {
        "weight_bits": (2, 8, "int8 is what projections hold"),
        "max_steps": (1, MAX_STEPS, "give the largest number of time steps"),
        "spare_bits": (0, STATE_BITS, "give a small number"),
    }
    words = {
        "rule": RULES,
        "pooling": ("auto", "fold", "relay"),
        "target_spikes": ("graded", "unit"),
        "overflow": ("error", "saturate"),
    }
    for what, value in given.items():
        if what in remedies:
            low, high, remedy = remedies[what]
            integer(ConversionError, "convert", what, value, low=low, high=high, remedy=remedy)
        elif what in words:
            remedy = "choose one of them"
            choice(ConversionError, "convert", what, value, words[what], remedy=remedy)
        else:
            flag(ConversionError, "convert", what, value)


def payload_range(source: Any, settings: Settings) -> tuple[int, int]:
    """Smallest and largest payload that a population can send in any step."""
    if isinstance(source, InputPlan):
        return min(source.levels[0], 0), max(source.levels[1], 0)
    assert isinstance(source, NeuronPlan)
    n, p = source.quantizer.levels
    if settings.rule == "bounded":
        t = settings.max_steps
        n, p = n * t + p * (t - 1), p * t + n * (t - 1)
    gain_pos, gain_neg = source.quantizer.gains
    ends = (0, -n * gain_neg, p * gain_pos)
    return min(ends), max(ends)


def reach_of(plan: Plan, source: Any, settings: Settings) -> tuple[int, int]:
    """Smallest and largest payload of a population of a plan, relays included."""
    if not isinstance(source, RelayPlan):
        return payload_range(source, settings)
    lo, hi = payload_range(plan.populations[source.source], settings)
    n = math.prod(source.pool.kernel)
    return lo * n, hi * n
