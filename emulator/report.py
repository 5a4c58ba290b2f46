"""What an emulation found: spikes, accuracy, counts, time and energy, with provenance."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.records import Record
from pmsm_hw.reference import best_index

if TYPE_CHECKING:
    from pmsm_hw.emulator.counts import Counts
    from pmsm_hw.emulator.energy import Energy
    from pmsm_hw.emulator.operations import Operations
    from pmsm_hw.emulator.timing import Timing
    from pmsm_hw.mapping.assignment import Mapping
    from pmsm_hw.network import Network

__all__ = ["SCHEMA_VERSION", "Report", "Spread", "compare"]

SCHEMA_VERSION = 1
"""Version of what `Report.to_dict` gives; docs/report.schema.json describes it."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a number varies over the samples.

    Parameters
    ----------
    mean, sd
        Mean, and standard deviation of the samples at hand (divided by their number).
    minimum, p5, median, p95, maximum
        Percentiles, linear between the two nearest samples.
    """

    mean: float
    sd: float
    minimum: float
    p5: float
    median: float
    p95: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[Any]) -> Spread:
        """Describe some values, at least one; every sum is correctly rounded.

        Parameters
        ----------
        values
            ``(n,)`` numbers.
        """
        ordered = sorted(float(v) for v in values)
        n = len(ordered)
        mean = math.fsum(ordered) / n
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in ordered) / n)

        def at(share: float) -> float:
            place = share * (n - 1)
            low = math.floor(place)
            high = min(low + 1, n - 1)
            return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

        return cls(
            mean=mean,
            sd=sd,
            minimum=ordered[0],
            p5=at(0.05),
            median=at(0.5),
            p95=at(0.95),
            maximum=ordered[-1],
        )

    def to_dict(self) -> dict[str, float]:
        """All fields."""
        return {
            "mean": self.mean,
            "sd": self.sd,
            "min": self.minimum,
            "p5": self.p5,
            "median": self.median,
            "p95": self.p95,
            "max": self.maximum,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Report(Record):
    """Result of `emulate`; arrays are read-only.

    Parameters
    ----------
    network, mapping
        What ran, and where.
    mode
        ``"counts"`` or ``"cycle"``.
    profile
        Name of the profile of constants (``"own"`` for one handed over).
    n_samples, n_steps
        Samples, and steps T of each.
    carry_state
        Whether samples followed each other as one long one.
    spikes
        By recorded population, ``(n_recorded, n_steps, *shape)`` int32: ``k``; values for inputs.
    states
        By probed population and state variable, ``(n_recorded, n_steps, *shape)`` int32: after each
        step.
    readouts
        By readout, ``(batch, *shape)`` int64: ``v`` after the last step.
    logits
        By readout, ``(batch, *shape)`` float64.
    labels
        ``(batch,)`` int64, if they were given.
    counts, timing, energy, operations
        See the classes.
    queue_peak
        Cycle mode: messages in the fullest link buffer, and most messages in flight at once.
    trace
        ``(n_traced_steps, n_cores)``, if asked for, with int64 fields, ps from the start of the
        step: ``update`` and ``blocked`` (time spent so), ``update_end``; ``receive`` (time spent
        so), ``receive_start`` of the first and ``receive_end`` of the last message's service.
    link_trace
        ``(n_traced_steps, n_links)``, with the trace; int64 fields ``messages`` that entered the
        link, ``departure`` of the first and ``arrival`` of the last one, ps from the start of the
        step.
    message_trace
        ``(n_traced_steps,)``, with the trace; int64 fields ``sent`` (messages), ``in_flight`` (the
        most at once).
    """

    network: Network
    mapping: Mapping
    mode: Literal["counts", "cycle"]
    profile: str
    n_samples: int
    n_steps: int
    carry_state: bool
    spikes: MappingType[str, NDArray[np.int32]]
    states: MappingType[str, MappingType[str, NDArray[np.int32]]]
    readouts: MappingType[str, NDArray[np.int64]]
    logits: MappingType[str, NDArray[np.float64]]
    labels: NDArray[np.int64] | None
    counts: Counts
    timing: Timing
    energy: Energy
    operations: Operations
    queue_peak: tuple[int, int] | None
    trace: NDArray[Any] | None
    link_trace: NDArray[Any] | None
    message_trace: NDArray[Any] | None

    # -- short cuts -----------------------------------------------------------------------

    def predictions(self, readout: str | None = None) -> NDArray[np.int64]:
        """Index of the largest logit of each sample, ``(batch,)``; the first one on ties.

        Parameters
        ----------
        readout
            Name; may be left out where the network has one readout.
        """
        return best_index(self.logits, readout)

    @cached_property
    def accuracy(self) -> float | None:
        """Share of samples whose prediction is the label; ``None`` without labels."""
        if self.labels is None:
            return None
        return int(np.count_nonzero(self.predictions() == self.labels)) / self.n_samples

    @property
    def latency_ns(self) -> float:
        """From the first input to the first sample's result, ns."""
        return self.timing.latency_ns

    @property
    def interval_ns(self) -> float:
        """Time between two results, ns."""
        return self.timing.interval_ns

    @cached_property
    def energy_pj(self) -> dict[str, float]:
        """Energy per inference, pJ: ``total``, ``dynamic`` and the parts."""
        return self.energy.to_dict()

    @cached_property
    def dynamic_pj_by_profile(self) -> dict[str, tuple[float, tuple[str, ...]]]:
        """The same counts at the constants of each profile of the chip: the uncertainty range.

        Dynamic energy per inference, pJ, and the constants that the profile does not know and that
        are left out of it.
        """
        from pmsm_hw.emulator.constants import resolve
        from pmsm_hw.emulator.energy import dynamic_pj

        return {
            name: dynamic_pj(self.counts, resolve(self.counts.layout, name))
            for name in self.mapping.chip.profiles
        }

    @property
    def missing(self) -> tuple[str, ...]:
        """Constants that were needed and that the profile does not know."""
        return (*self.energy.missing, *self.timing.missing)

    @property
    def assumed(self) -> tuple[str, ...]:
        """Constants of kind "assumed" that were used."""
        return (*self.energy.assumed, *self.timing.assumed)

    @property
    def partial(self) -> bool:
        """Whether constants were missing."""
        return bool(self.missing)

    @cached_property
    def saturations(self) -> dict[str, int]:
        """How many neurons x steps x samples were clipped, by population, where any were."""
        return self.counts.saturated()

    def spread(self) -> dict[str, Spread]:
        """How spikes, messages, synaptic operations and dynamic energy vary over the samples."""
        per_sample = self.counts.per_sample()
        names = ("spikes", "messages", "synaptic_operations")
        return {
            **{name: Spread.of(per_sample[name]) for name in names},
            "dynamic_energy_pj": Spread.of(self.energy.per_sample),
        }

    # -- as data --------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Everything but arrays of spikes and traces, as plain values for JSON.

        The same network, mapping, inputs and options give the same dictionary, digit for digit.
        """
        n = self.n_samples
        timing = self.timing
        utilisation = self._utilisation()
        per_population = self.counts.by_population()
        per_core = self.counts.by_core()
        out: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "network": self.network.name,
            "fingerprint": self.network.fingerprint,
            "chip": self.mapping.chip.name,
            "profile": self.profile,
            "mode": self.mode,
            "n_samples": n,
            "n_steps": self.n_steps,
            **({"carry_state": True} if self.carry_state else {}),
            "n_cores": len(self.mapping.cores),
            "n_tiles": self.mapping.n_tiles,
            "accuracy": self.accuracy,
            "predictions": self.predictions().tolist() if len(self.logits) == 1 else None,
            "latency_ns": timing.latency_ns,
            "latency_cycles": timing.latency_cycles,
            "clock_ns": timing.clock_ns,
            "interval_ns": timing.interval_ns,
            "inferences_per_s": timing.inferences_per_s,
            "pipelined": timing.pipelined,
            "timing_model": timing.model,
            "energy_pj": self.energy_pj,
            "energy_by_event": {
                event: {"per_inference": count, "pj": pj, "energy_pj": total}
                for event, (count, pj, total) in self.energy.by_event.items()
            },
            "energy_by_population_pj": dict(self.energy.by_population),
            "energy_by_core_pj": {str(c): pj for c, pj in self.energy.by_core.items()},
            "dynamic_energy_by_profile": {
                name: {"energy_pj": pj, "missing": list(missing)}
                for name, (pj, missing) in self.dynamic_pj_by_profile.items()
            },
            "partial": self.partial,
            "missing": list(self.missing),
            "assumed": list(self.assumed),
            "counts": self.counts.total(),
            "counts_by_population": per_population,
            "counts_by_core": {str(c): values for c, values in per_core.items()},
            "link_load": [
                {"x": x, "y": y, "direction": direction, "messages": messages}
                for (x, y), direction, messages in self.counts.links()
            ],
            "spread": {name: spread.to_dict() for name, spread in self.spread().items()},
            "cores": utilisation,
            "saturations": self.saturations,
            "operations": self.operations.to_dict(),
            "queue_peak": None
            if self.queue_peak is None
            else {"link_buffer": self.queue_peak[0], "in_flight": self.queue_peak[1]},
        }
        return out

    def _utilisation(self) -> dict[str, Any]:
        cores = self.timing.cores
        return {
            "work_ns": cores.work_ns,
            "barrier_ns": cores.barrier_ns,
            "by_core": {
                str(core): {
                    "update_ns": float(cores.update_ns[i]),
                    "blocked_ns": float(cores.blocked_ns[i]),
                    "receive_ns": float(cores.receive_ns[i]),
                    "idle_ns": cores.work_ns
                    - max(
                        float(cores.update_ns[i]) + float(cores.blocked_ns[i]),
                        float(cores.receive_ns[i]),
                    ),
                }
                for i, core in enumerate(self.mapping.cores)
            },
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """`to_dict` as JSON text; equal runs give equal text.

        Parameters
        ----------
        indent
            Spaces per level; None: one line.
        """
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def to_csv(self) -> str:
        """One line per population: counts over all samples, and energy per inference."""
        out = io.StringIO()
        rows = self.counts.by_population()
        names = list(next(iter(rows.values())))
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["population", *names, "dynamic_energy_pj_per_inference"])
        for population, counts in rows.items():
            energy = self.energy.by_population[population]
            writer.writerow([population, *counts.values(), repr(energy)])
        return out.getvalue()

    # -- for people -----------------------------------------------------------------------

    def table(self) -> str:
        """The report, as text."""
        from pmsm_hw.tables import energy_text, energy_unit, table, time_text

        n = self.n_samples
        size, unit = energy_unit(max(self.energy.by_population.values(), default=0.0))
        counts = self.counts.by_population()
        rows: list[tuple[object, ...]] = []
        for name, c in counts.items():
            hops = sum(c[f"hops_{d}"] for d in ("east", "west", "north", "south"))
            rows.append(
                (
                    name,
                    c["spikes"] / n,
                    c["messages"] / n,
                    hops / n,
                    c["synaptic_operations"] / n,
                    (c["neuron_updates_idle"] + c["neuron_updates_active"]) / n,
                    self.energy.by_population[name] / size,
                )
            )
        header = (
            "population", "spikes", "messages", "hops", "synops", "updates", f"dynamic {unit}",
        )  # fmt: skip
        carried = " without reset" if self.carry_state else ""
        title = (
            f"{self.network.name} on {self.mapping.chip.name} ({self.profile}), {self.mode} mode, "
            f"{n:,} x {self.n_steps} steps{carried}, {len(self.mapping.cores)} cores; "
            "per inference:"
        )
        lines = [table(header, rows, title=title), ""]
        if self.accuracy is not None:
            lines.append(f"accuracy    {100 * self.accuracy:.2f} %")
        timing = self.timing
        lines.append(
            f"latency     {time_text(timing.latency_ns)} "
            f"({timing.latency_cycles:,} cycles of {timing.clock_ns:g} ns; {timing.model} timing)"
        )
        per_second = timing.inferences_per_s
        rate = f", {per_second:,.0f} inferences/s" if per_second else ""
        pipelined = "" if timing.pipelined else " (not pipelined: too few samples)"
        lines.append(f"interval    {time_text(timing.interval_ns)}{rate}{pipelined}")
        parts = ", ".join(f"{k} {energy_text(v)}" for k, v in self.energy.parts.items())
        lines.append(f"energy      {energy_text(self.energy.total)} ({parts})")
        ops = self.operations
        lines.append(
            f"MAC/AC      SNN {ops.effective_macs:,.0f} MAC + {ops.effective_acs:,.0f} AC = "
            f"{energy_text(ops.snn_pj['fp32'])}; ANN {ops.ann_macs:,} MAC = "
            f"{energy_text(ops.ann_pj['fp32'])} (arithmetic only, at 4.6 and 0.9 pJ)"
        )
        if self.saturations:
            clipped = ", ".join(f"{k} {v:,}" for k, v in self.saturations.items())
            lines.append(f"saturated   {clipped}")
        if self.missing:
            lines.append(f"partial     unknown and left out: {', '.join(self.missing)}")
        if self.assumed:
            lines.append(f"assumed     {', '.join(self.assumed)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        from pmsm_hw.tables import energy_text, time_text

        return (
            f"<Report of '{self.network.name}' on '{self.mapping.chip.name}' ({self.profile}), "
            f"{self.mode} mode: {self.n_samples} samples, latency {time_text(self.latency_ns)}, "
            f"energy {energy_text(self.energy.total)} per inference>"
        )

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.table)


def compare(reports: MappingType[str, Report]) -> str:
    """Several runs in one table.

    Parameters
    ----------
    reports
        By the name that the table should give them.
    """
    from pmsm_hw.tables import energy_unit, table, time_unit

    every = list(reports.values())
    ns, time = time_unit(max((r.latency_ns for r in every), default=0.0))
    pj, energy = energy_unit(max((r.energy.total for r in every), default=0.0))
    rows = []
    for name, r in reports.items():
        per_sample = {k: v.sum() / r.n_samples for k, v in r.counts.per_sample().items()}
        rows.append(
            (
                name,
                r.profile,
                r.mode,
                "" if r.accuracy is None else f"{100 * r.accuracy:.2f} %",
                len(r.mapping.cores),
                r.n_steps,
                float(per_sample["spikes"]),
                float(per_sample["messages"]),
                float(per_sample["synaptic_operations"]),
                r.latency_ns / ns,
                r.interval_ns / ns,
                r.energy.dynamic / pj,
                r.energy.total / pj,
                "yes" if r.partial else "no",
            )
        )
    header = (
        "run", "profile", "mode", "accuracy", "cores", "steps", "spikes", "messages", "synops",
        f"latency {time}", f"interval {time}", f"dynamic {energy}", f"total {energy}", "partial",
    )  # fmt: skip
    text = table(header, rows)
    if len({r.mode for r in every}) > 1:
        text += (
            "\ncounts mode leaves contention out: compare its latency and static energy only with "
            "other runs in counts mode"
        )
    return text
