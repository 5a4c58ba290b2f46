"""What a run of either mode is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.constants import Constants
from pmsm_hw.emulator.costs import Costs
from pmsm_hw.emulator.layout import Layout
from pmsm_hw.emulator.timing import CoreTimes

__all__ = ["Outcome", "Progress", "Run"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What to run.

    Parameters
    ----------
    layout, constants, costs
        The network on its chip, and what each event takes there.
    units
        By input, ``(n_samples, n_steps, *shape)``.
    n_steps, n_samples
        Steps of each sample, and samples.
    carry_state
        Whether samples follow each other as one long one.
    names
        Populations whose spikes to return.
    probes
        State variables to return, by population.
    n_recorded, n_traced
        Of how many samples: spikes and states, and the trace.
    progress
        Called now and then with work done and work to do.
    """

    layout: Layout
    constants: Constants
    costs: Costs
    units: dict[str, NDArray[np.int32]]
    n_steps: int
    n_samples: int
    carry_state: bool
    names: list[str]
    probes: Mapping[str, tuple[str, ...]]
    n_recorded: int
    n_traced: int
    progress: Progress | None

    @property
    def n_linked(self) -> int:
        """Steps over which states and delays reach: those of a sample, or of all."""
        return self.n_steps * (self.n_samples if self.carry_state else 1)

    @property
    def n_hardware_steps(self) -> int:
        """Steps of the chip, the last one included, which clears up."""
        return self.layout.network.hardware_steps(self.n_steps, self.n_samples) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What both modes give.

    Parameters
    ----------
    tally
        Arrays of `pmsm_hw.emulator.counts.Tally`.
    spikes, readouts, states
        By population; as in a `Report`.
    step_ps
        ``(n_hardware_steps,)`` int64: each step, barrier included.
    cores
        What each core did.
    queue_peak, trace, link_trace, message_trace
        As in a `Report`, of cycle mode.
    """

    tally: dict[str, NDArray[np.int64]]
    spikes: dict[str, NDArray[np.int32]]
    readouts: dict[str, NDArray[np.int64]]
    states: dict[str, dict[str, NDArray[np.int32]]]
    step_ps: NDArray[np.int64]
    cores: CoreTimes
    queue_peak: tuple[int, int] | None = None
    trace: NDArray[Any] | None = None
    link_trace: NDArray[Any] | None = None
    message_trace: NDArray[Any] | None = None
