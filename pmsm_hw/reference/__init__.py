"""The reference: what a network computes, batched and exact.

The contract is in `pmsm_hw.network`; this is its plainest executable form. Other backends are
checked against it, spike for spike.
"""

from pmsm_hw.reference.components import Carried
from pmsm_hw.reference.engine import bytes_per_sample, evaluate, run, simulate
from pmsm_hw.reference.inputs import Inputs, check_carried, check_steps, inputs_of, units_of
from pmsm_hw.reference.results import (
    Activity,
    Evaluation,
    Probes,
    Result,
    best_index,
    differing_readouts,
    differing_spikes,
    probed,
    recorded,
)

__all__ = [
    "Activity",
    "Carried",
    "Evaluation",
    "Inputs",
    "Probes",
    "Result",
    "best_index",
    "bytes_per_sample",
    "check_carried",
    "check_steps",
    "differing_readouts",
    "differing_spikes",
    "evaluate",
    "inputs_of",
    "probed",
    "recorded",
    "run",
    "simulate",
    "units_of",
]
