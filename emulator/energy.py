"""Energy: integer counts of events times constants, plus static power times time.

Sums are correctly rounded (`math.fsum`), so that they do not depend on their order: equal counts
give equal energies, digit for digit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.constants import DIRECTIONS

if TYPE_CHECKING:
    from pmsm_hw.emulator.constants import Constants
    from pmsm_hw.emulator.counts import Counts

__all__ = ["COMPONENTS", "Energy", "energy_of"]

COMPONENTS = ("synapses", "neurons", "spikes", "packets", "mesh", "static")
"""Parts of the total: synaptic operations; neuron updates; firing; packets into and out of cores;
delivery, hops and chip crossings; static power."""

_COMPONENT = {
    "neuron_idle": "neurons",
    "neuron_active": "neurons",
    "spike": "spikes",
    "packet_out": "packets",
    "packet_in": "packets",
    "within_tile": "mesh",
    "hop_east": "mesh",
    "hop_west": "mesh",
    "hop_north": "mesh",
    "hop_south": "mesh",
    "chip_crossing": "mesh",
    "synaptic_operation_dense": "synapses",
    "synaptic_operation_sparse": "synapses",
    "synaptic_operation_conv": "synapses",
}


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy per inference, pJ.

    Parameters
    ----------
    parts
        By component (`COMPONENTS`), mean per inference; a component none of whose constants is
        known is absent.
    by_event
        ``(events per inference, pJ each, pJ per inference)`` by event that occurred; the constant
        and product are ``None`` where unknown.
    by_population
        Dynamic energy per inference: updates, firing, packets and hops of its own neurons, and the
        synaptic operations that it receives.
    by_core
        Dynamic energy per inference of each core; hops are between cores, in none of them.
    per_sample
        ``(batch,)`` float64: dynamic energy of each inference.
    missing
        Constants that were needed and are unknown: the energy is partial without them.
    assumed
        Constants of kind "assumed" that were used.
    """

    parts: MappingType[str, float]
    by_event: MappingType[str, tuple[float, float | None, float | None]]
    by_population: MappingType[str, float]
    by_core: MappingType[int, float]
    per_sample: NDArray[np.float64]
    missing: tuple[str, ...]
    assumed: tuple[str, ...]

    @property
    def total(self) -> float:
        """Sum of the parts, pJ per inference."""
        return math.fsum(self.parts.values())

    @property
    def dynamic(self) -> float:
        """Sum of the parts but static power, pJ per inference."""
        return math.fsum(v for k, v in self.parts.items() if k != "static")

    def to_dict(self) -> dict[str, float]:
        """``total``, ``dynamic`` and the parts."""
        return {"total": self.total, "dynamic": self.dynamic, **self.parts}


def energy_of(counts: Counts, constants: Constants, interval_ns: float) -> Energy:
    """Price the counts.

    Parameters
    ----------
    counts
        What happened.
    constants
        What each event costs.
    interval_ns
        Time per inference, for the static power.
    """
    n_samples = counts.n_samples
    price = constants.energy_pj
    events = counts.event_vector()
    by_event: dict[str, tuple[float, float | None, float | None]] = {}
    missing: list[str] = []
    assumed: list[str] = []
    parts: dict[str, list[float]] = {}
    for event, per_sample in events.items():
        n = int(per_sample.sum())
        if n == 0:
            continue
        pj = price.get(event)
        if pj is None:
            missing.append(f"energy.{event}")
            by_event[event] = (n / n_samples, None, None)
            continue
        if f"energy.{event}" in constants.assumed:
            assumed.append(f"energy.{event}")
        by_event[event] = (n / n_samples, pj, n * pj / n_samples)
        parts.setdefault(_COMPONENT[event], []).append(n * pj)
    totals = {name: math.fsum(parts[name]) / n_samples for name in COMPONENTS if name in parts}
    if constants.static_power_mw is None:
        missing.append("static_power_mw")
    else:
        totals["static"] = constants.static_power_mw * interval_ns
        if "static_power_mw" in constants.assumed:
            assumed.append("static_power_mw")
    known = [event for event in events if event in price]
    per_sample_pj = np.array(
        [
            math.fsum(int(events[event][b]) * price[event] for event in known)
            for b in range(n_samples)
        ],
        np.float64,
    )
    by_population, by_core = _split(counts, constants)
    return Energy(
        parts=totals,
        by_event=by_event,
        by_population=by_population,
        by_core=by_core,
        per_sample=per_sample_pj,
        missing=tuple(missing),
        assumed=tuple(assumed),
    )


def _split(counts: Counts, constants: Constants) -> tuple[dict[str, float], dict[int, float]]:
    layout, price = counts.layout, constants.energy_pj
    network, cores = layout.network, layout.cores
    population: dict[str, list[float]] = {p.name: [] for p in network}
    core: dict[int, list[float]] = {c: [] for c in cores}

    def pj(event: str, n: int) -> float:
        return n * price.get(event, 0.0)

    sums = {
        name: getattr(counts, name).sum(axis=0).tolist()
        for name in (
            "updates_idle", "updates_active", "fired", "messages_out", "hops", "crossings",
            "messages_in", "synops",
        )
    }  # fmt: skip
    for i, name in enumerate(layout.block_populations):
        if i < layout.n_blocks:
            own = [
                pj("neuron_idle", sums["updates_idle"][i]),
                pj("neuron_active", sums["updates_active"][i]),
                pj("spike", sums["fired"][i]),
                pj("packet_out", sums["messages_out"][i]),
            ]
            population[name] += own
            core[cores[int(layout.plan.block_core[i])]] += own
        population[name] += [
            pj(f"hop_{d}", sums["hops"][i][j]) for j, d in enumerate(DIRECTIONS)
        ] + [pj("chip_crossing", sums["crossings"][i])]
    for i, (source, c) in enumerate(layout.pairs):
        received = [
            pj("packet_in", sums["messages_in"][i]),
            pj("within_tile", sums["messages_in"][i]),
        ]
        population[network.populations[source].name] += received
        core[cores[c]] += received
    for i, row in enumerate(layout.rows):
        one = pj(f"synaptic_operation_{row.kind}", sums["synops"][i])
        population[network.projections[row.projection].target].append(one)
        core[cores[row.core]].append(one)
    n = counts.n_samples
    return (
        {name: math.fsum(values) / n for name, values in population.items()},
        {c: math.fsum(values) / n for c, values in core.items()},
    )
