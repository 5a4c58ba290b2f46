"""Populations joined by projections: structure, validation, views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pmsm_hw.arguments import instance, integer, items, shown
from pmsm_hw.errors import NetworkError
from pmsm_hw.network.digest import network_digest
from pmsm_hw.network.limits import MAX_STEPS, STATE_BITS, STATE_MAX, STATE_MIN
from pmsm_hw.network.populations import POPULATION_KINDS, Input, Population
from pmsm_hw.network.projections import PROJECTION_KINDS, Projection
from pmsm_hw.network.summary import describe, graph_of, one_line, summary
from pmsm_hw.network.topology import (
    check_delays,
    components_of,
    depths_of,
    topological_order,
)
from pmsm_hw.network.validation import listed, refuse, require
from pmsm_hw.neurons.readout import Readout
from pmsm_hw.records import Given, Record, record

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Network", "StateBound"]


@dataclass(frozen=True, kw_only=True)
class StateBound:
    """What the state of a population can reach within ``max_steps`` (see `Network.bounds`).

    Parameters
    ----------
    u_min, u_max
        Smallest and largest reachable ``u`` (``v`` of a readout), before saturation.
    k_min, k_max
        Smallest and largest reachable spike; values, for an input; 0 for a readout.
    payload_min, payload_max
        The same of the payload.
    """

    u_min: int
    u_max: int
    k_min: int
    k_max: int
    payload_min: int
    payload_max: int

    @property
    def fits(self) -> bool:
        """Whether ``u`` stays within the state's width."""
        return self.u_min >= STATE_MIN and self.u_max <= STATE_MAX


@record
class Network(Record):
    """An integer network; see `pmsm_hw.network` for what it computes.

    Validated on construction, bound proof included; immutable afterwards.

    Parameters
    ----------
    name
        For people.
    populations, projections
        Any order; kept.
    max_steps
        Largest number of time steps T that the bound proof covers.

    Raises
    ------
    NetworkError
        If anything breaks the contract.
    """

    name: str = "network"
    populations: Given[Iterable[Population], tuple[Population, ...]]
    projections: Given[Iterable[Projection], tuple[Projection, ...]]
    max_steps: int = 1

    def __post_init__(self) -> None:
        instance(NetworkError, "network", "name", self.name, str, remedy="give a name for people")
        subject = f"network '{self.name}'"
        for what, kinds in (
            ("populations", tuple(POPULATION_KINDS.values())),
            ("projections", tuple(PROJECTION_KINDS.values())),
        ):
            known = ", ".join(kind.__name__ for kind in kinds)
            given = items(
                NetworkError, subject, what, getattr(self, what), remedy=f"give a list of {known}"
            )
            for item in given:
                if not isinstance(item, kinds):
                    raise NetworkError(
                        subject,
                        f"{what} hold {shown(item)}, which is none of {known}",
                        remedy="give these only",
                        actual=type(item).__name__,
                        limit=known,
                    )
            object.__setattr__(self, what, given)
        max_steps = integer(
            NetworkError, subject, "max_steps", self.max_steps, low=1, high=MAX_STEPS,
            remedy="give the largest number of steps you will run",
        )  # fmt: skip
        object.__setattr__(self, "max_steps", max_steps)
        require(
            len(self.populations) >= 1, subject, "has no population, at least 1 is needed",
            "add one", 0, 1,
        )  # fmt: skip
        parts: tuple[Population | Projection, ...]
        for what, parts in (("population", self.populations), ("projection", self.projections)):
            twice = sorted(name for name, n in Counter(x.name for x in parts).items() if n > 1)
            require(
                not twice,
                subject,
                f"{what} name {twice[0] if twice else ''!r} stands twice, names are unique",
                "rename one",
                twice,
                "unique names",
            )
        for projection in self.projections:
            self._check_projection(projection)
        check_delays(self)
        for name, bound in self.bounds.items():
            population = self[name]
            overflow = getattr(population, "overflow", "saturate")
            if not bound.fits and overflow != "saturate":
                refuse(
                    population.subject,
                    f"state can reach [{bound.u_min:,}, {bound.u_max:,}] within {self.max_steps} "
                    f"steps, {STATE_BITS} bits hold [{STATE_MIN:,}, {STATE_MAX:,}]",
                    "use a smaller weight_exponent, fewer steps, or overflow='saturate'",
                    (bound.u_min, bound.u_max),
                    (STATE_MIN, STATE_MAX),
                )

    def _check_projection(self, projection: Projection) -> None:
        for end in (projection.source, projection.target):
            if end not in self._index:
                raise NetworkError(
                    projection.subject,
                    f"population '{end}' does not exist",
                    remedy=f"the network has {listed(sorted(self._index))}",
                    actual=end,
                    limit=tuple(self._index),
                )
        source, target = self[projection.source], self[projection.target]
        require(
            not isinstance(target, Input),
            projection.subject,
            f"target '{target.name}' is an input, inputs take no projection",
            "target another population",
            target.kind,
            "a population of neurons",
        )
        require(
            not isinstance(source, Readout),
            projection.subject,
            f"source '{source.name}' is a readout, readouts never fire",
            "use another source",
            source.kind,
            "an input, or neurons that fire",
        )
        projection.check(source.shape, target.shape)

    # -- look-up --------------------------------------------------------------------------

    @cached_property
    def _index(self) -> dict[str, int]:
        return {p.name: i for i, p in enumerate(self.populations)}

    def __getitem__(self, name: str) -> Population:
        """Population of that name; `NetworkError` if there is none."""
        if not isinstance(name, str) or name not in self._index:
            raise NetworkError(
                f"network '{self.name}'",
                f"population {shown(name)} does not exist",
                remedy=f"it has {listed(list(self._index))}",
                actual=name,
                limit=tuple(self._index),
            )
        return self.populations[self._index[name]]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._index

    def __iter__(self) -> Iterator[Population]:
        return iter(self.populations)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Input populations, in order."""
        return tuple(p for p in self.populations if isinstance(p, Input))

    @property
    def readouts(self) -> tuple[Readout, ...]:
        """Readout populations, in order."""
        return tuple(p for p in self.populations if isinstance(p, Readout))

    def into(self, name: str) -> tuple[Projection, ...]:
        """Projections whose target is ``name``, in order.

        Parameters
        ----------
        name
            Of a population.
        """
        return self._into.get(name, ())

    def out_of(self, name: str) -> tuple[Projection, ...]:
        """Projections whose source is ``name``, in order.

        Parameters
        ----------
        name
            Of a population.
        """
        return self._out_of.get(name, ())

    @cached_property
    def _into(self) -> dict[str, tuple[Projection, ...]]:
        return self._by_end("target")

    @cached_property
    def _out_of(self) -> dict[str, tuple[Projection, ...]]:
        return self._by_end("source")

    def _by_end(self, end: str) -> dict[str, tuple[Projection, ...]]:
        found: dict[str, list[Projection]] = {}
        for p in self.projections:
            found.setdefault(getattr(p, end), []).append(p)
        return {name: tuple(ps) for name, ps in found.items()}

    # -- structure ------------------------------------------------------------------------

    @cached_property
    def depths(self) -> dict[str, int]:
        """Depth of each population: 0 for inputs, else 1 + its deepest undelayed source's."""
        return depths_of(self)

    @cached_property
    def topological(self) -> tuple[Population, ...]:
        """Populations in the order in which they act within a step."""
        return topological_order(self)

    @property
    def depth(self) -> int:
        """Depth D of the deepest population."""
        return max(self.depths.values())

    @cached_property
    def components(self) -> tuple[tuple[Population, ...], ...]:
        """Populations, those in cycles together: the strongly connected components.

        In an order in which each comes after all that it receives from, with and without delay;
        within a component, and else where there is a choice, as in `topological`.
        """
        return components_of(self)

    def is_cycle(self, component: Sequence[Population]) -> bool:
        """Whether one of `components` depends on its own past.

        Parameters
        ----------
        component
            Which.
        """
        first = component[0].name
        return len(component) > 1 or any(p.source == first for p in self.into(first))

    @cached_property
    def is_recurrent(self) -> bool:
        """Whether any populations form a cycle (a step of them needs the one before)."""
        return any(map(self.is_cycle, self.components))

    def hardware_delay(self, projection: Projection) -> int:
        """Hardware steps from sending to integration, at least 1 (`pmsm_hw.network`, *Time*).

        Parameters
        ----------
        projection
            One of the network's.
        """
        depths = self.depths
        return depths[projection.target] - depths[projection.source] + projection.delay

    def hardware_steps(self, n_steps: int, n_samples: int = 1) -> int:
        """Hardware steps that ``n_samples`` pipelined samples of ``n_steps`` take.

        Parameters
        ----------
        n_steps
            Steps T of each sample.
        n_samples
            Samples, at least 1.
        """
        return self.depth + n_steps * n_samples - 1

    @cached_property
    def bounds(self) -> Mapping[str, StateBound]:
        """Proven range of state and spikes of each population, over ``max_steps`` steps."""
        from pmsm_hw.bounds import prove_bounds

        return prove_bounds(self)

    # -- views ----------------------------------------------------------------------------

    def to_networkx(self) -> nx.MultiDiGraph[str]:
        """Graph view: a node per population, an edge per projection (key: its name).

        Node attributes: ``population``, ``kind``, ``shape``, ``depth``; edge attributes:
        ``projection``, ``kind``, ``delay``, ``max_delay``.
        """
        return graph_of(self)

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides what the network computes, which its name does not."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return network_digest(self)

    @property
    def n_neurons(self) -> int:
        """Neurons of all populations but inputs."""
        return sum(p.n_neurons for p in self.populations if not isinstance(p, Input))

    @property
    def n_parameters(self) -> int:
        """Stored integers: weights, delays of synapses, thresholds, biases, initial states."""
        populations = sum(p.n_parameters for p in self.populations)
        return populations + sum(p.n_parameters for p in self.projections)

    @cached_property
    def n_synapses(self) -> int:
        """Connections with a weight other than zero, shared weights counted once per use."""
        from pmsm_hw.operators import count_synapses

        return sum(count_synapses(self, p) for p in self.projections)

    def describe(self) -> dict[str, Any]:
        """Structure, sizes and proven bounds as plain numbers and strings, without the weights."""
        return describe(self)

    def summary(self) -> str:
        """Table of populations: shape, neurons, fan-in, synapses, parameters, depth, bound."""
        return summary(self)

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.summary)
