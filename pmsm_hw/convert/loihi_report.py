"""What was compared when a model of Loihi's own neurons was converted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pmsm_hw.tables import table

__all__ = ["LoihiConversionReport", "LoihiPopulationReport"]


@dataclass(frozen=True, kw_only=True)
class LoihiPopulationReport:
    """One population, on the calibration batch.

    Parameters
    ----------
    name, kind
        As in the network.
    n_neurons
        Number of neurons.
    u_min, u_max
        Proven range of what is compared with the threshold, before it wraps or saturates.
    n_compared
        Values that were compared with the model: neurons x steps x samples (of readouts, neurons x
        samples).
    differing_spikes
        Share of them that differed: 0, or conversion had failed.
    spike_rate
        Share of neurons x steps x samples that fired; None for readouts.
    n_silent
        Neurons that never fired; None for readouts.
    n_outside
        States that left their width, and were wrapped or saturated, as on the chip.
    """

    name: str
    kind: str
    n_neurons: int
    u_min: int
    u_max: int
    n_compared: int
    differing_spikes: float
    spike_rate: float | None
    n_silent: int | None
    n_outside: int


@dataclass(frozen=True, kw_only=True)
class LoihiConversionReport:
    """What conversion compared, population by population.

    Parameters
    ----------
    network_name
        For people.
    max_steps
        Of the network.
    n_steps
        Steps of a calibration sample.
    n_calibration
        Samples that model and network were compared on.
    n_neurons, n_synapses
        Of the network.
    populations
        All but inputs, in topological order.
    notes
        What else was done to the model.
    """

    network_name: str
    max_steps: int
    n_steps: int
    n_calibration: int
    n_neurons: int
    n_synapses: int
    populations: tuple[LoihiPopulationReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is likely to be no intention."""
        found = []
        for p in self.populations:
            if p.n_silent == p.n_neurons:
                found.append(
                    f"warning: population '{p.name}': none of its {p.n_neurons:,} neurons fires on "
                    "the calibration batch; use larger weights or a lower threshold"
                )
            if p.n_outside:
                found.append(
                    f"warning: population '{p.name}': {p.n_outside:,} states left 24 bits and were "
                    "wrapped or saturated, as on the chip; use smaller weights or shorter time "
                    "constants"
                )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """As plain dicts, lists and numbers; ``warnings`` beside the fields."""
        found = asdict(self)
        found["populations"] = [dict(p) for p in found["populations"]]
        found["warnings"] = self.warnings
        return found

    def __repr__(self) -> str:
        return (
            f"<LoihiConversionReport of '{self.network_name}': {self.n_neurons:,} neurons, "
            f"{self.n_calibration:,} samples of {self.n_steps} steps, 0 differing spikes>"
        )

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.__str__)

    def __str__(self) -> str:
        """Table of populations."""
        rows = [
            (
                p.name,
                p.kind,
                p.n_neurons,
                "" if p.spike_rate is None else f"{p.spike_rate:.2%}",
                "" if p.n_silent is None else p.n_silent,
                f"[{p.u_min:,}, {p.u_max:,}]",
                p.n_outside,
                f"0 of {p.n_compared:,}",
            )
            for p in self.populations
        ]
        header = (
            "population", "kind", "neurons", "spike rate", "silent", "state", "outside",
            "differing from the model",
        )  # fmt: skip
        title = (
            f"{self.network_name}: {self.n_neurons:,} neurons, {self.n_synapses:,} synapses, up to "
            f"{self.max_steps} steps; compared with the model on {self.n_calibration:,} samples of "
            f"{self.n_steps} steps"
        )
        return "\n".join((table(header, rows, title=title), *self.notes, *self.warnings))
