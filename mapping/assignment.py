"""Mappings: which core holds which block of neurons, and what is known about the result."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.arguments import instance
from pmsm_hw.errors import CapacityError, MappingError
from pmsm_hw.mapping.arguments import check_network_and_chip
from pmsm_hw.mapping.blocks import NEURONS, RESOURCES, Block, Mode, Objective
from pmsm_hw.mapping.resources.neurons import compartments_of
from pmsm_hw.mapping.resources.usage import capacity, count_usage
from pmsm_hw.operators import chw
from pmsm_hw.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.mapping.resources import Resources
    from pmsm_hw.network import Network
from pmsm_hw.network.digest import has_fingerprint

__all__ = ["Mapping", "check", "check_counts"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Mapping(Record):
    """A network placed on a chip.

    Parameters
    ----------
    network_fingerprint, network_name
        Of the network it belongs to.
    chip
        Where it is placed.
    blocks
        Every neuron of every population but inputs, exactly once. Blocks of one core are updated in
        this order.
    spike_modes
        By population (inputs too): ``"graded"`` or ``"unit"``.
    objective, seed
        What it was made for, and with.
    usage
        ``(n_cores, 4)`` int64: what each core in `cores` holds of each of `RESOURCES`.
    link_load
        ``(rows, columns, 4)`` float64: messages over each link of the board-wide mesh (by tile and
        direction of `routing`) in the traffic that was assumed or measured.
    metrics
        Numbers about the whole, by name; see docs/mapping.md.
    """

    network_fingerprint: str
    network_name: str
    chip: Chip
    blocks: tuple[Block, ...]
    spike_modes: MappingType[str, Mode]
    objective: Objective = "latency"
    seed: int = 0
    usage: NDArray[np.int64] = field(repr=False)
    link_load: NDArray[np.float64] = field(repr=False)
    metrics: MappingType[str, float]

    def __post_init__(self) -> None:
        mesh = (self.chip.rows, self.chip.columns, 4)
        for name, kinds, shape in (
            ("usage", "iu", (len(self.cores), len(RESOURCES))),
            ("link_load", "iuf", mesh),
        ):
            array = np.array(getattr(self, name))
            wanted = " x ".join(f"{n:,}" for n in shape)
            if array.dtype.kind not in kinds or array.shape != shape:
                what = "integers" if kinds == "iu" else "numbers"
                found = " x ".join(f"{n:,}" for n in array.shape) or "no axis"
                raise self._wrong(
                    f"{name} is {found} of {array.dtype}, {wanted} {what} are needed",
                    (array.shape, str(array.dtype)),
                    shape,
                )
            array = array.astype(np.int64 if kinds == "iu" else np.float64, copy=False)
            if array.size and not (np.isfinite(array).all() and array.min() >= 0):
                raise self._wrong(
                    f"{name} holds {array.min():,}, which must be finite, and 0 or more",
                    array.min(),
                    ">= 0",
                )
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        for name, value in self.metrics.items():
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise self._wrong(
                    f"metric '{name}' is {value!r:.40}, a finite number is needed", value, "finite"
                )
        for what, given, known in (
            ("objective", [self.objective], get_args(Objective)),
            ("spike mode", list(self.spike_modes.values()), get_args(Mode)),
        ):
            for choice in given:
                if choice not in known:
                    raise self._wrong(
                        f"{what} {choice!r:.40} is not one of {', '.join(known)}", choice, known
                    )

    def _wrong(self, problem: str, actual: object, limit: object) -> MappingError:
        return MappingError(
            f"mapping of '{self.network_name}'",
            problem,
            remedy="map the network again",
            actual=actual,
            limit=limit,
        )

    @cached_property
    def cores(self) -> tuple[int, ...]:
        """Cores in use, ascending."""
        return tuple(sorted(self._by_core))

    @cached_property
    def _by_core(self) -> dict[int, tuple[Block, ...]]:
        found: dict[int, list[Block]] = {}
        for block in self.blocks:
            found.setdefault(block.core, []).append(block)
        return {core: tuple(blocks) for core, blocks in found.items()}

    @cached_property
    def _by_population(self) -> dict[str, tuple[Block, ...]]:
        found: dict[str, list[Block]] = {}
        for block in self.blocks:
            found.setdefault(block.population, []).append(block)
        return {name: tuple(blocks) for name, blocks in found.items()}

    def blocks_of(self, core: int) -> tuple[Block, ...]:
        """Blocks of a core, in the order of their updates.

        Parameters
        ----------
        core
            Number of a core.
        """
        return self._by_core.get(core, ())

    def blocks_in(self, population: str) -> tuple[Block, ...]:
        """Blocks of a population.

        Parameters
        ----------
        population
            Name of a population.
        """
        return self._by_population.get(population, ())

    def position(self, core: int) -> tuple[int, int, int]:
        """``(chip index, x, y)`` of a core's tile; x and y count over the whole board's mesh.

        Parameters
        ----------
        core
            Number of a core.
        """
        x, y = self.chip.tile_of(core)
        return self.chip.chip_of(x, y), x, y

    @property
    def io_position(self) -> tuple[int, int]:
        """Tile ``(x, y)`` at which inputs enter the mesh (of the first chip)."""
        return self.chip.mesh.io_position.value

    @cached_property
    def n_tiles(self) -> int:
        """Tiles that hold a core in use."""
        return len({self.chip.tile_of(core) for core in self.cores})

    def spike_mode(self, population: str) -> Mode:
        """How a population's spikes travel.

        Parameters
        ----------
        population
            Name of a population.
        """
        return self.spike_modes[population]

    def core_of(self, network: Network, population: str) -> NDArray[np.int64]:
        """Core of each neuron of a population, ``(n_neurons,)`` int64, C order.

        Parameters
        ----------
        network
            The network that was mapped.
        population
            Name of a population that is no input.
        """
        core = np.full(chw(network[population].shape), -1, np.int64)
        for block in self.blocks_in(population):
            core[block.slices()] = block.core
        return core.reshape(-1)

    def require(self, network: Network) -> None:
        """Raise `MappingError` unless the mapping was made for this network.

        Parameters
        ----------
        network
            The network in question.
        """
        if not has_fingerprint(network, self.network_fingerprint):
            raise MappingError(
                f"mapping of '{self.network_name}'",
                f"was made for another network (fingerprint {self.network_fingerprint[:12]}, "
                f"network '{network.name}' has {network.fingerprint[:12]})",
                remedy="map this network again",
                actual=network.fingerprint,
                limit=self.network_fingerprint,
            )

    def check(self, network: Network) -> None:
        """Count every resource of every core again, and raise if anything is wrong (`check`).

        Parameters
        ----------
        network
            The network that was mapped.

        Raises
        ------
        MappingError
            If the mapping is another network's, misses neurons or holds some twice.
        CapacityError
            If a core exceeds a limit; names core, population, resource, need and limit.
        """
        from pmsm_hw.mapping.resources import Resources

        check_counts(network, self, self.chip, resources=Resources(network, self.chip))

    def __repr__(self) -> str:
        return (
            f"<Mapping of '{self.network_name}' on '{self.chip.name}': {len(self.blocks):,} blocks "
            f"on {len(self.cores):,} of {self.chip.n_cores:,} cores, objective {self.objective}, "
            f"seed {self.seed}>"
        )

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.summary)

    def summary(self) -> str:
        """Tables of the populations, of what cores hold, and of the metrics."""
        from pmsm_hw.tables import table

        rows = []
        for name, mode in self.spike_modes.items():
            blocks = self.blocks_in(name)
            first = blocks[0] if blocks else None
            size = (
                "x".join(str(b - a) for a, b in (first.channels, first.rows, first.columns))
                if first
                else "I/O port"
            )
            cores = {b.core for b in blocks}
            rows.append(
                (name, mode, sum(b.n_neurons for b in blocks), len(blocks), size, len(cores))
            )
        used = []
        for i, name in enumerate(RESOURCES):
            limit = int(getattr(self.chip.limits, name).value)
            used.append(
                (
                    name,
                    limit,
                    int(self.usage[:, i].max()),
                    f"{self.usage[:, i].max() / limit:.1%}",
                    f"{self.usage[:, i].mean() / limit:.1%}",
                )
            )
        metrics = [
            (k, int(v) if float(v).is_integer() else float(v))
            for k, v in sorted(self.metrics.items())
            if "utilisation" not in k
        ]
        bound = self.metrics.get("lower_bound")
        note = f" (no cut needs fewer than {int(bound):,})" if bound else ""
        if bound and self.objective != "cores" and len(self.cores) > bound:
            note = (
                f", spread for low {self.objective} ({int(bound):,} or a few more would hold it: "
                "objective cores)"
            )
        title = (
            f"{self.network_name} on {self.chip.name}: {len(self.cores):,} of "
            f"{self.chip.n_cores:,} cores{note}, objective {self.objective}, seed {self.seed}"
        )
        return "\n\n".join(
            (
                table(
                    ("population", "spikes", "neurons", "blocks", "block c x h x w", "cores"),
                    rows,
                    title=title,
                ),
                table(("per core", "limit", "most", "most %", "mean %"), used),
                table(("metric", "value"), metrics),
            )
        )

    # -- files ----------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain strings, integers and numpy arrays (no nesting), for files.

        Keys: ``format_version`` (1), ``network_fingerprint``, ``network_name``, ``chip`` (JSON text
        of the whole chip, so that a file is self-contained), ``objective``, ``seed``,
        ``populations`` and ``spike_modes`` (JSON text of lists), ``blocks`` ``(n, 8)`` int64 (index
        into populations, c0, c1, y0, y1, x0, x1, core), ``usage``, ``link_load``, ``metrics`` (JSON
        text).
        """
        import json

        names = list(self.spike_modes)
        index = {name: i for i, name in enumerate(names)}
        blocks = [
            (index[b.population], *b.channels, *b.rows, *b.columns, b.core) for b in self.blocks
        ]
        return {
            "format_version": 1,
            "network_fingerprint": self.network_fingerprint,
            "network_name": self.network_name,
            "chip": self.chip.model_dump_json(exclude_none=True),
            "objective": self.objective,
            "seed": int(self.seed),
            "populations": json.dumps(names),
            "spike_modes": json.dumps([self.spike_modes[name] for name in names]),
            "blocks": np.array(blocks, np.int64).reshape(-1, 8),
            "usage": self.usage,
            "link_load": self.link_load,
            "metrics": json.dumps(dict(self.metrics), sort_keys=True),
        }

    @classmethod
    def from_dict(cls, data: MappingType[str, Any]) -> Mapping:
        """Inverse of `to_dict`.

        Parameters
        ----------
        data
            What `to_dict` gave.

        Raises
        ------
        MappingError
            If a key is missing or unknown, or a value is not what `to_dict` gives.
        ChipFileError
            If the embedded chip is not valid.
        """
        import json

        from pmsm_hw.mapping.chip import parse_chip

        keys = {
            "format_version", "network_fingerprint", "network_name", "chip", "objective", "seed",
            "populations", "spike_modes", "blocks", "usage", "link_load", "metrics",
        }  # fmt: skip
        if set(data) != keys:
            raise _damaged(f"has keys {', '.join(sorted(data))}", sorted(data), sorted(keys))
        if data["format_version"] != 1:
            raise _damaged(
                f"has format_version {data['format_version']}, this version reads 1",
                data["format_version"],
                1,
            )
        try:
            names = json.loads(data["populations"])
            modes = dict(zip(names, json.loads(data["spike_modes"]), strict=True))
            table = _integers(data["blocks"]).reshape(-1, 8).tolist()
            if any(not 0 <= row[0] < len(names) for row in table):
                raise IndexError("a block of no population")
            blocks = tuple(
                Block(
                    population=names[i],
                    channels=(c0, c1),
                    rows=(y0, y1),
                    columns=(x0, x1),
                    core=core,
                )
                for i, c0, c1, y0, y1, x0, x1, core in table
            )
            metrics = {
                str(k): v if isinstance(v, int) else float(v)
                for k, v in json.loads(data["metrics"]).items()
            }
            chip_data = json.loads(data["chip"])
            usage, link_load = _integers(data["usage"]), np.asarray(data["link_load"])
            objective, seed = str(data["objective"]), operator.index(data["seed"])
        except (
            ValueError, TypeError, IndexError, AttributeError, OverflowError, RecursionError,
        ) as error:  # fmt: skip
            raise _damaged(f"is damaged ({error})", str(error), "what to_dict gives") from error
        return cls(
            network_fingerprint=str(data["network_fingerprint"]),
            network_name=str(data["network_name"]),
            chip=parse_chip(chip_data, subject="chip of the mapping"),
            blocks=blocks,
            spike_modes=modes,
            objective=objective,  # type: ignore[arg-type]
            seed=seed,
            usage=usage,
            link_load=link_load,
            metrics=metrics,
        )


def _integers(values: object) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{array.dtype} is not an integer type")
    return array.astype(np.int64)


def _damaged(problem: str, actual: object, limit: object) -> MappingError:
    return MappingError(
        "stored mapping", problem, remedy="map the network again", actual=actual, limit=limit
    )


def check(network: Network, mapping: Mapping, chip: Chip) -> None:
    """Raise unless a mapping is of a network, places each neuron once, and fits a chip.

    What cores hold is taken as the mapping states it; neurons are counted again.

    Parameters
    ----------
    network, mapping, chip
        What to check: ``mapping.chip``, or another one that may hold it too.

    Raises
    ------
    MappingError
        If the mapping is another network's, or misses neurons or holds some twice.
    CapacityError
        Naming core, population, resource, need and limit.
    """
    check_network_and_chip(network, chip)
    instance(
        MappingError, "mapping", "mapping", mapping, Mapping,
        remedy="give what pmsm_hw.mapping.map_network returns",
    )  # fmt: skip
    check_counts(network, mapping, chip)


def check_counts(
    network: Network,
    mapping: Mapping,
    chip: Chip,
    *,
    resources: Resources | None = None,
    usage: NDArray[np.int64] | None = None,
    count_neurons: bool = True,
) -> None:
    """Raise unless a mapping is of a network, places each neuron once, and fits a chip.

    The one check of the mapper, of files that are loaded and, as `check`, of the emulator. What
    cores hold is taken as the mapping states it, or, with ``resources``, counted again.

    Parameters
    ----------
    network, mapping, chip
        What to check: ``mapping.chip``, or another one that may hold it too.
    resources
        Of the network and the chip.
    usage
        ``(n_cores, 4)`` what cores hold, if it was counted with these resources before.
    count_neurons
        Without resources, count at least the neurons of each core. Files may hold mappings that
        were made by hand, for another check to count.

    Raises
    ------
    MappingError
        If the mapping is another network's, misses neurons or holds some twice, or states what
        its blocks do not need.
    CapacityError
        Naming core, population, resource, need and limit.
    """
    mapping.require(network)
    _check_blocks(network, mapping, chip)
    _check_figures(network, mapping)
    contents = [mapping.blocks_of(core) for core in mapping.cores]
    if resources is None:
        usage = mapping.usage.copy()
        if count_neurons:
            each = {p.name: compartments_of(p) for p in network}
            neurons = [sum(b.n_neurons * each[b.population] for b in blocks) for blocks in contents]
            usage[:, NEURONS] = np.maximum(usage[:, NEURONS], neurons)
    else:
        usage = count_usage(resources, contents) if usage is None else usage
        if not np.array_equal(usage, mapping.usage):
            raise MappingError(
                f"mapping of '{mapping.network_name}'",
                "stores other resource counts than its blocks need",
                remedy="map the network again",
                actual=mapping.usage.sum(axis=0).tolist(),
                limit=usage.sum(axis=0).tolist(),
            )
    over = usage > np.array(capacity(chip))
    if over.any():
        at, which = (int(i) for i in np.argwhere(over)[0])
        raise _over(
            chip, mapping.cores[at], contents[at], RESOURCES[which].replace("_", " "),
            int(usage[at, which]), capacity(chip)[which],
        )  # fmt: skip
    if resources is None:
        return
    limits = chip.limits
    for core, blocks in zip(mapping.cores, contents, strict=True):
        for what, limit, count in (
            ("thresholds", limits.threshold_configurations, resources.thresholds),
            ("synapse formats", limits.synapse_configurations, resources.formats),
            ("populations", limits.neuron_configurations, _n_populations),
        ):
            if limit is not None and (need := count(blocks)) > limit.value:
                raise _over(chip, core, blocks, what, need, limit.value)


def _n_populations(blocks: Sequence[Block]) -> int:
    return len({b.population for b in blocks})


def _over(
    chip: Chip, core: int, blocks: Sequence[Block], what: str, need: int, limit: int
) -> CapacityError:
    names = ", ".join(dict.fromkeys(f"'{b.population}'" for b in blocks))
    return CapacityError(
        f"core {core} with population {names}",
        f"needs {need:,} {what}, chip '{chip.name}' has {limit:,}",
        remedy="map the network again, or use a larger chip",
        actual=need,
        limit=limit,
    )


def _check_blocks(network: Network, mapping: Mapping, chip: Chip) -> None:
    """Every neuron in exactly one block, every block on a core that the chip has."""
    placed = {p.name: chw(p.shape) for p in network if p.kind != "input"}
    for block in mapping.blocks:
        shape = placed.get(block.population, (0, 0, 0))
        ranges = (block.channels, block.rows, block.columns)
        inside = all(0 <= a < b <= n for (a, b), n in zip(ranges, shape, strict=True))
        if not inside or not 0 <= block.core < chip.n_cores:
            raise MappingError(
                f"block of population '{block.population}' on core {block.core}",
                f"channels, rows, columns {ranges} of shape {shape}, or that core of "
                f"{chip.n_cores:,} of chip '{chip.name}', do not all exist",
                remedy="map the network again",
                actual=(*ranges, block.core),
                limit=(*shape, chip.n_cores),
            )
    for name, shape in placed.items():
        times = np.zeros(shape, np.int32)
        for block in mapping.blocks_in(name):
            times[block.slices()] += 1
        if times.min() < 1 or times.max() > 1:
            missing, several = int((times == 0).sum()), int((times > 1).sum())
            raise MappingError(
                f"population '{name}'",
                f"has {missing:,} of {times.size:,} neurons without a core and {several:,} of "
                f"{times.size:,} with several, each needs one",
                remedy="map the network again",
                actual=missing + several,
                limit=0,
            )


def _check_figures(network: Network, mapping: Mapping) -> None:
    """What stands beside the blocks fits them: populations, numbers of cores and tiles."""

    def wrong(problem: str, actual: object, limit: object) -> MappingError:
        return MappingError(
            f"mapping of '{mapping.network_name}'",
            problem,
            remedy="map the network again",
            actual=actual,
            limit=limit,
        )

    names, known = set(mapping.spike_modes), {p.name for p in network}
    for name in sorted(names ^ known, key=str):  # names of a file need not be texts
        has = "has no spike mode for" if name in known else "has a spike mode for an unknown"
        raise wrong(f"{has} population {name!r:.60}", name, sorted(known))
    for metric, n in (("n_cores", len(mapping.cores)), ("n_tiles", mapping.n_tiles)):
        if mapping.metrics.get(metric, n) != n:
            raise wrong(f"states {metric} {mapping.metrics[metric]:,}, it has {n:,}", metric, n)
