"""Numbers by which compiled kernels know what a population does in a step."""

from __future__ import annotations

from pmsm_hw.network.limits import RULES

__all__ = ["BOUNDED", "CARRY", "INPUT", "PLAIN", "READOUT", "RESET", "RULE_CODES"]

CARRY, RESET, BOUNDED = 0, 1, 2
READOUT, INPUT = 3, 4
PLAIN = 5
"""The model's own step, outside of the compiled loops."""

RULE_CODES = dict(zip(RULES, (CARRY, RESET, BOUNDED), strict=True))
"""By rule of `pmsm_hw.network.PolarityMultiSpike`."""
