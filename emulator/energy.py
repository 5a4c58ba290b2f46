"""Energy: integer counts of events times constants, plus static power times time.

Sums are correctly rounded (`math.fsum`), so that they do not depend on their order: equal counts
give equal energies, digit for digit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.emulator.constants import DIRECTIONS
from pmsm_hw.records import Record

if TYPE_CHECKING:
    from pmsm_hw.emulator.constants import Constants
    from pmsm_hw.emulator.counts import Counts

__all__ = ["COMPONENTS", "Energy", "dynamic_pj", "energy_of"]

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Energy(Record):
    """Energy per inference, pJ.

    Parameters
    ----------
    parts
        By component (`COMPONENTS`), mean per inference; a component none of whose constants is
        known is absent.
    by_event
        ``(events per inference, pJ each, pJ per inference)`` by event that occurred; the constant
        and product are ``None`` where unknown.
    per_sample
        ``(batch,)`` float64: dynamic energy of each inference.
    missing
        Constants that were needed and are unknown: the energy is partial without them.
    assumed
        Constants of kind "assumed" that were used.
    counts, constants
        What was priced, and the prices.
    """

    parts: MappingType[str, float]
    by_event: MappingType[str, tuple[float, float | None, float | None]]
    per_sample: NDArray[np.float64]
    missing: tuple[str, ...]
    assumed: tuple[str, ...]
    counts: Counts = field(repr=False)
    constants: Constants = field(repr=False)

    @property
    def by_population(self) -> dict[str, float]:
        """Dynamic energy per inference of each population, pJ.

        Updates, firing, packets and hops of its own neurons, and the synaptic operations that it
        receives.
        """
        return self._split[0]

    @property
    def by_core(self) -> dict[int, float]:
        """Dynamic energy per inference of each core, pJ; hops, between cores, are in none."""
        return self._split[1]

    @cached_property
    def _split(self) -> tuple[dict[str, float], dict[int, float]]:
        return _split(self.counts, self.constants)

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
    events = counts.events
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
    return Energy(
        parts=totals,
        by_event=by_event,
        per_sample=per_sample_pj,
        missing=tuple(missing),
        assumed=tuple(assumed),
        counts=counts,
        constants=constants,
    )


def dynamic_pj(counts: Counts, constants: Constants) -> tuple[float, tuple[str, ...]]:
    """Dynamic energy per inference, pJ, and the constants that it needed and that are unknown.

    Parameters
    ----------
    counts
        What happened.
    constants
        What each event costs.
    """
    n = {event: int(per_sample.sum()) for event, per_sample in counts.events.items()}
    price = constants.energy_pj
    missing = tuple(f"energy.{event}" for event in n if n[event] and event not in price)
    total = math.fsum(n[event] * price[event] for event in n if event in price)
    return total / counts.n_samples, missing


def _split(counts: Counts, constants: Constants) -> tuple[dict[str, float], dict[int, float]]:
    """Dynamic energy per inference by population and by core: integers first, prices last."""
    layout, price = counts.layout, constants.energy_pj
    network, cores, plan = layout.network, layout.cores, layout.plan
    by_population: dict[str, NDArray[np.int64]] = {}
    by_core: dict[str, NDArray[np.int64]] = {}

    def add(table: dict[str, NDArray[np.int64]], size: int, event: str, where: Any, n: Any) -> None:
        total = table.setdefault(event, np.zeros(size, np.int64))
        np.add.at(total, np.asarray(where, np.int64), np.asarray(n, np.int64))

    n_populations, n_cores = len(network.populations), len(cores)
    on = slice(layout.n_blocks)  # blocks on cores
    for event, name in (
        ("neuron_idle", "updates_idle"),
        ("neuron_active", "updates_active"),
        ("spike", "fired"),
        ("packet_out", "messages_out"),
    ):
        n = getattr(counts, name).sum(axis=0)[on]
        add(by_population, n_populations, event, plan.block_population[on], n)
        add(by_core, n_cores, event, plan.block_core[on], n)
    hops = counts.hops.sum(axis=0)
    for d, direction in enumerate(DIRECTIONS):
        add(by_population, n_populations, f"hop_{direction}", plan.block_population, hops[:, d])
    crossings = counts.crossings.sum(axis=0)
    add(by_population, n_populations, "chip_crossing", plan.block_population, crossings)
    received = counts.messages_in.sum(axis=0)
    sources, targets = np.array(layout.pairs, np.int64).reshape(-1, 2).T
    for event in ("packet_in", "within_tile"):
        add(by_population, n_populations, event, sources, received)
        add(by_core, n_cores, event, targets, received)
    _, row_target, row_core = layout.row_ends
    synops = counts.synops.sum(axis=0)
    for kind, chosen in layout.rows_by_kind.items():
        event, n = f"synaptic_operation_{kind}", synops[chosen]
        add(by_population, n_populations, event, row_target[chosen], n)
        add(by_core, n_cores, event, row_core[chosen], n)

    def priced(table: dict[str, NDArray[np.int64]]) -> list[float]:
        """Energy of each; products as of Python's integers, each rounded once."""
        products = [
            [k * price[event] if k else 0.0 for k in n.tolist()]
            for event, n in table.items()
            if event in price and n.any()
        ]
        if not products:
            return [0.0] * len(next(iter(table.values())))
        return [math.fsum(each) / counts.n_samples for each in zip(*products, strict=True)]

    return (
        dict(zip((p.name for p in network.populations), priced(by_population), strict=True)),
        dict(zip(cores, priced(by_core), strict=True)),
    )
