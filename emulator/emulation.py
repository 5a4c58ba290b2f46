"""The front door: run a placed network on inputs, and report spikes, counts, time and energy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from pmsm_hw.arguments import check_progress, choice, flag, instance, integer, number, shown
from pmsm_hw.class_labels import class_labels
from pmsm_hw.emulator.constants import resolve
from pmsm_hw.emulator.costs import costs_of
from pmsm_hw.emulator.counting.run import run_counts
from pmsm_hw.emulator.counts import Counts
from pmsm_hw.emulator.cycle.run import run_cycle
from pmsm_hw.emulator.energy import energy_of
from pmsm_hw.emulator.layout import build_layout
from pmsm_hw.emulator.operations import operations_of
from pmsm_hw.emulator.report import Report
from pmsm_hw.emulator.runs import Progress, Run
from pmsm_hw.emulator.timing import timing_of
from pmsm_hw.errors import EmulationError, InputError
from pmsm_hw.network import Network, Readout
from pmsm_hw.reference import Inputs, Probes, check_carried, probed, recorded, units_of

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Mapping
    from pmsm_hw.mapping.chip import Profile

__all__ = ["MODES", "Emulator", "emulate"]

Mode = Literal["counts", "cycle"]
MODES: tuple[Mode, ...] = ("counts", "cycle")


def emulate(
    network: Network,
    mapping: Mapping,
    x: Inputs,
    n_steps: int = 1,
    *,
    mode: Mode = "counts",
    profile: str | Profile | None = None,
    labels: ArrayLike | None = None,
    record: Iterable[str] | None = None,
    record_samples: int | None = None,
    probes: Probes | None = None,
    carry_state: bool = False,
    clock_ns: float = 1.0,
    trace: bool | int = False,
    progress: Progress | None = None,
) -> Report:
    """Run a batch of samples on the chip that a network is placed on.

    Parameters
    ----------
    network
        What to run.
    mapping
        Where it sits; made for this network.
    x
        Inputs, see `pmsm_hw.reference.units_of`.
    n_steps
        Number of steps T of each sample. Samples enter one after the other, every T steps.
    mode
        ``"counts"``: the reference computes the spikes, and what follows on the chip is counted;
        time is the simple model's. ``"cycle"``: every message is sent, routed, delivered and
        looked up on its own, the spikes follow from what was delivered, and time is counted event
        by event.
    profile
        Constants of energy and time: name of a profile of the chip, or a `Profile`; by default the
        chip's first one.
    labels
        ``(batch,)`` integers, to have the accuracy in the report.
    record
        Populations whose spikes to return; all by default.
    record_samples
        Return spikes and states of the first so many samples only; all by default. What is not
        returned takes no memory.
    probes
        State variables to return after each step, by population: as for `pmsm_hw.reference.run`.
    carry_state
        Whether samples follow each other without a reset, as one long one: as for
        `pmsm_hw.reference.run`.
    clock_ns
        Declared clock, to express times in cycles (Loihi has none).
    trace
        Whether to keep what every core and link did in every step (cycle mode), for `write_trace`;
        a number: in the steps of the first so many samples.
    progress
        Called now and then with work done and work to do: hardware steps in cycle mode, samples
        in counts mode.

    Returns
    -------
    Report
        Spikes, logits, counts, time, energy.

    Raises
    ------
    MappingError
        If the mapping belongs to another network, or does not hold it.
    InputError
        If inputs, labels or steps do not suit the network.
    ChipFileError
        If the chip has no such profile.
    EmulationError
        If the mode is unknown, or a message was lost.
    """
    return Emulator(network, mapping, profile=profile).run(
        x,
        n_steps,
        mode=mode,
        labels=labels,
        record=record,
        record_samples=record_samples,
        probes=probes,
        carry_state=carry_state,
        clock_ns=clock_ns,
        trace=trace,
        progress=progress,
    )


class Emulator:
    """A placed network made ready to run, for several runs of the same one.

    Parameters
    ----------
    network, mapping, profile
        As for `emulate`.

    Raises
    ------
    MappingError
        If the mapping belongs to another network, or does not hold it.
    ChipFileError
        If the chip has no such profile.
    """

    def __init__(
        self, network: Network, mapping: Mapping, *, profile: str | Profile | None = None
    ) -> None:
        from pmsm_hw.mapping.assignment import Mapping
        from pmsm_hw.mapping.chip import Profile

        subject = "emulator"
        instance(EmulationError, subject, "network", network, Network, remedy="give a Network")
        instance(
            EmulationError, subject, "mapping", mapping, Mapping,
            remedy="give what map_network answers",
        )  # fmt: skip
        if profile is not None and not isinstance(profile, str | Profile):
            raise EmulationError(
                subject,
                f"profile {shown(profile)} is neither a name nor a Profile",
                remedy=f"choose one of {', '.join(mapping.chip.profiles)}",
                actual=type(profile).__name__,
                limit=tuple(mapping.chip.profiles),
            )
        mapping.require(network)
        # before the work of laying out: its errors are quick to find
        mapping.chip.profile(profile if isinstance(profile, str) else None)
        self.network, self.mapping = network, mapping
        self.layout = build_layout(network, mapping)
        self.constants = resolve(self.layout, profile)
        self._costs = costs_of(self.layout, self.constants)

    def run(
        self,
        x: Inputs,
        n_steps: int = 1,
        *,
        mode: Mode = "counts",
        labels: ArrayLike | None = None,
        record: Iterable[str] | None = None,
        record_samples: int | None = None,
        probes: Probes | None = None,
        carry_state: bool = False,
        clock_ns: float = 1.0,
        trace: bool | int = False,
        progress: Progress | None = None,
    ) -> Report:
        """Run a batch of samples; see `emulate`.

        Parameters
        ----------
        x, n_steps, mode, labels, record, record_samples, probes, carry_state, clock_ns, trace, \
        progress
            As for `emulate`.
        """
        network, mapping, layout = self.network, self.mapping, self.layout
        choice(EmulationError, "emulate", "mode", mode, MODES, remedy="choose one of them")
        remedy = "give the length of a cycle in ns"
        clock_ns = number(
            EmulationError, "emulate", "clock_ns", clock_ns, at_least=0.001, remedy=remedy
        )
        check_progress(EmulationError, progress)
        n_traced = _n_traced(trace)
        if record_samples is not None:
            record_samples = integer(
                InputError, "emulate", "record_samples", record_samples, low=0, high=None,
                remedy="give a number of samples, or None for all",
            )  # fmt: skip
        if n_traced != 0 and mode != "cycle":
            raise EmulationError(
                "trace",
                f"is there in mode 'cycle' only, mode is {mode!r}",
                remedy="use mode='cycle'",
                actual=mode,
                limit="cycle",
            )
        units = units_of(network, x, n_steps)
        n_samples = len(next(iter(units.values()))) if units else 1
        if n_samples < 1:
            raise InputError(
                f"network '{network.name}'",
                "got 0 samples, at least 1 is needed",
                remedy="give a batch",
                actual=0,
                limit=1,
            )
        names = [p.name for p in network if not isinstance(p, Readout)]
        if record is not None:
            wanted = set(recorded(network, record))
            names = [name for name in names if name in wanted]
        found = probed(network, probes)
        watched = {p.name: found[p.name] for p in network.topological if p.name in found}
        if flag(EmulationError, "emulate", "carry_state", carry_state):
            check_carried(network, n_samples, int(n_steps))
        n_recorded = n_samples if record_samples is None else min(record_samples, n_samples)
        if n_recorded == 0:
            names, watched = [], {}
        n_traced = n_samples if n_traced is None else min(n_traced, n_samples)
        label_array = None if labels is None else class_labels(network, None, labels, n_samples)
        n_steps = int(n_steps)
        run = Run(
            layout=layout,
            constants=self.constants,
            costs=self._costs,
            units=units,
            n_steps=n_steps,
            n_samples=n_samples,
            carry_state=carry_state,
            names=names,
            probes=watched,
            n_recorded=n_recorded,
            n_traced=n_traced,
            progress=progress,
        )
        outcome = run_cycle(run) if mode == "cycle" else run_counts(run)
        counts = Counts(layout=layout, **outcome.tally)
        timing = timing_of(
            counts,
            self.constants,
            "cycle" if mode == "cycle" else "simple",
            outcome.step_ps,
            outcome.cores,
            n_steps,
            clock_ns,
        )
        logits = {r.name: outcome.readouts[r.name] * r.scale / n_steps for r in network.readouts}
        return Report(
            network=network,
            mapping=mapping,
            mode=mode,
            profile=self.constants.profile,
            n_samples=n_samples,
            n_steps=n_steps,
            carry_state=carry_state,
            spikes=outcome.spikes,
            states=outcome.states,
            readouts=outcome.readouts,
            logits=logits,
            labels=label_array,
            counts=counts,
            timing=timing,
            energy=energy_of(counts, self.constants, timing.interval_ns),
            operations=operations_of(counts, n_steps),
            queue_peak=outcome.queue_peak,
            trace=outcome.trace,
            link_trace=outcome.link_trace,
            message_trace=outcome.message_trace,
        )


def _n_traced(trace: object) -> int | None:
    """How many samples to trace; None: all."""
    if isinstance(trace, bool | np.bool_):
        return None if trace else 0
    return integer(
        InputError, "emulate", "trace", trace, low=0, high=None,
        remedy="give a number of samples, True for all or False for none",
    )  # fmt: skip
