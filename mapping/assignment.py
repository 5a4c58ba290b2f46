"""Who sits where: blocks of neurons on cores, and what is known about the result."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import MappingError
from pmsm_hw.operators import chw
from pmsm_hw.records import Record

if TYPE_CHECKING:
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.network import Network
from pmsm_hw.network.digest import has_fingerprint

__all__ = ["RESOURCES", "Block", "Mapping", "Mode", "Objective"]

Range: TypeAlias = tuple[int, int]
Mode: TypeAlias = Literal["graded", "unit"]
Objective: TypeAlias = Literal["latency", "energy", "cores"]

RESOURCES = ("neurons", "input_axons", "output_axons", "synapse_memory_bits")
"""Resources that are counted per core, named as the limits of a chip."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Neurons of one population on one core.

    Parameters
    ----------
    population
        Its name.
    channels, rows, columns
        Half-open ranges in ``operators.chw(population.shape)``.
    core
        Number of the core, see `Chip.tile_of`.
    """

    population: str
    channels: Range
    rows: Range
    columns: Range
    core: int

    @property
    def n_neurons(self) -> int:
        """Number of its neurons."""
        (c0, c1), (y0, y1), (x0, x1) = self.channels, self.rows, self.columns
        return (c1 - c0) * (y1 - y0) * (x1 - x0)

    def neurons(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Flat (C order) indices of its neurons in a population of a shape, ``(n,)`` int64.

        Parameters
        ----------
        shape
            Of the population.
        """
        _, h, w = chw(shape)
        c, y, x = (np.arange(*r) for r in (self.channels, self.rows, self.columns))
        flat: NDArray[np.int64] = (c[:, None, None] * h + y[:, None]) * w + x
        return flat.reshape(-1)

    def slices(self) -> tuple[slice, slice, slice]:
        """Index of its neurons in an array of shape ``operators.chw(population.shape)``."""
        return slice(*self.channels), slice(*self.rows), slice(*self.columns)


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
            remedy="map the network anew",
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
                remedy="map this network anew",
                actual=network.fingerprint,
                limit=self.network_fingerprint,
            )

    def check(self, network: Network) -> None:
        """Count every resource of every core anew, and raise if anything is wrong.

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
        from pmsm_hw.mapping.mapper import check_mapping

        check_mapping(self, network)

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
        raise TypeError(f"{array.dtype} is no integer type")
    return array.astype(np.int64)


def _damaged(problem: str, actual: object, limit: object) -> MappingError:
    return MappingError(
        "stored mapping", problem, remedy="map the network anew", actual=actual, limit=limit
    )
