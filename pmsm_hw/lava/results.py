"""What a run in Lava answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pmsm_hw.reference import Result

__all__ = ["LavaResult"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LavaResult(Result):
    """What a network answered in Lava.

    Parameters
    ----------
    spikes, readouts, logits, saturations, n_steps, states
        As for `pmsm_hw.reference.Result`.
    processes
        By population, module and name of the process that stood for it: ours in
        ``pmsm_hw.lava.processes``, or one of Lava's own.
    """

    processes: Mapping[str, str] = field(default_factory=dict)
