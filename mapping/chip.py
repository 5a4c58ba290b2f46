"""What a chip is: mesh, limits of a core, spikes, event energies and times, all with sources.

A chip file is TOML. Every number in it is an inline table ``{value, unit, source, kind}`` with
``kind`` one of

``measured``
    a fact of the hardware, measured or published by its maker;
``simulated``
    from a simulation or a fit to one;
``assumed``
    ours, or without a primary source; ``source`` says how it was derived.

A file may start with ``extends = "loihi1"``: it then lays its own keys over those of that chip, as
boards do.

A constant that nobody knows is absent, never zero: its attribute is then ``None``, and a report
that needs it is partial. Unknown keys are refused. Times are in ns (Loihi is asynchronous and has
no clock), energies in pJ, static power in mW.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pmsm_hw.errors import ChipFileError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the other branch runs on newer Pythons
    import tomli as tomllib

__all__ = [
    "Board",
    "Chip",
    "Energies",
    "Limits",
    "Mesh",
    "Profile",
    "Quantity",
    "Spikes",
    "SynapticKind",
    "Times",
    "chip_names",
    "load_chip",
]

T = TypeVar("T")
Kind = Literal["measured", "simulated", "assumed"]
SynapticKind = Literal["dense", "sparse", "conv"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantity(_Frozen, Generic[T]):
    """One number of a chip file, with its provenance.

    Parameters
    ----------
    value
        The number (a list, for positions, widths and tables).
    unit
        Its unit; each key has a fixed one.
    source
        Where it is from.
    kind
        ``"measured"``, ``"simulated"`` or ``"assumed"`` (module docstring).
    """

    value: T
    unit: str
    source: Annotated[str, Field(min_length=1)]
    kind: Kind


def _unit(expected: str) -> Callable[[Quantity[Any]], Quantity[Any]]:
    def check(quantity: Quantity[Any]) -> Quantity[Any]:
        if quantity.unit != expected:
            raise ValueError(f"unit {quantity.unit!r} must be {expected!r}")
        return quantity

    return AfterValidator(check)  # type: ignore[return-value]


_Positive = Annotated[int, Field(strict=True, ge=1)]
_Natural = Annotated[int, Field(strict=True, ge=0)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]

Tiles = Annotated[Quantity[_Positive], _unit("tiles")]
Chips = Annotated[Quantity[_Positive], _unit("chips")]
CoresPerTile = Annotated[Quantity[_Positive], _unit("cores")]
Messages = Annotated[Quantity[_Positive], _unit("messages")]
Position = Annotated[Quantity[tuple[_Natural, _Natural]], _unit("tile")]
Neurons = Annotated[Quantity[_Positive], _unit("neurons")]
Axons = Annotated[Quantity[_Positive], _unit("axons")]
Entries = Annotated[Quantity[_Positive], _unit("entries")]
Bits = Annotated[Quantity[_Positive], _unit("bits")]
SomeBits = Annotated[Quantity[_Natural], _unit("bits")]
Widths = Annotated[Quantity[Annotated[tuple[_Positive, ...], Field(min_length=1)]], _unit("bits")]
Weights = Annotated[Quantity[_Positive], _unit("weights")]
Steps = Annotated[Quantity[_Positive], _unit("steps")]
Configurations = Annotated[Quantity[_Positive], _unit("configurations")]
EnergyPj = Annotated[Quantity[_Amount], _unit("pJ")]
TimeNs = Annotated[Quantity[_Amount], _unit("ns")]
PowerMw = Annotated[Quantity[_Amount], _unit("mW")]
BarrierNs = Annotated[
    Quantity[Annotated[tuple[tuple[_Positive, _Amount], ...], Field(min_length=1)]], _unit("ns")
]


class Mesh(_Frozen):
    """Tiles of one chip and what joins them.

    Parameters
    ----------
    columns, rows
        Tiles along x and y.
    cores_per_tile
        Cores that share a router.
    link_buffer_messages
        Messages that the buffer before a link holds; absent: unknown.
    io_position
        ``(x, y)`` of the tile at which inputs enter.
    """

    columns: Tiles
    rows: Tiles
    cores_per_tile: CoresPerTile
    link_buffer_messages: Messages | None = None
    io_position: Position

    @model_validator(mode="after")
    def _inside(self) -> Mesh:
        x, y = self.io_position.value
        if x >= self.columns.value or y >= self.rows.value:
            raise ValueError(
                f"io_position ({x}, {y}) lies outside the mesh of "
                f"{self.columns.value} x {self.rows.value} tiles"
            )
        return self


class Board(_Frozen):
    """Chips in a grid; their meshes join at the edges.

    Parameters
    ----------
    columns, rows
        Chips along x and y.
    """

    columns: Chips
    rows: Chips


class Limits(_Frozen):
    """What one core holds. An absent limit is not enforced.

    Parameters
    ----------
    neurons
        Neurons.
    input_axons
        Input axons: sources (neurons, or pixels of a population axon) times signs.
    output_axons
        Entries of the output-axon table: one per neuron, target core and sign;
        `population_axon_entries` of them where the target's axon is shared by a pixel.
    synapse_memory_bits
        Synapse memory. The list of one axon takes blocks of up to `synapse_block_weights` weights,
        each ``n * (weight bits + delay bits + index bits) + synapse_block_header_bits``, rounded up
        to `synapse_word_bits`; a dense list has no index bits.
    synapse_block_weights, synapse_block_header_bits, synapse_word_bits, index_bits
        See above.
    delay_bits
        Bits of each weight of a projection whose spikes are held longer than one step.
    weight_bits
        Widths that a weight can take, two's complement.
    max_weight_exponent
        Largest left shift of a weight, payload gains of unit spikes included.
    max_delay_steps
        Longest hardware delay.
    population_axons
        Whether one axon serves all channels of a source pixel, with shared lists.
    population_axon_entries
        See `output_axons`.
    threshold_configurations, neuron_configurations, synapse_configurations
        Distinct thresholds, populations, and (width, exponent, delay) formats a core can hold.
    """

    neurons: Neurons
    input_axons: Axons
    output_axons: Entries
    synapse_memory_bits: Bits
    synapse_block_weights: Weights
    synapse_block_header_bits: SomeBits
    synapse_word_bits: Bits
    index_bits: SomeBits
    delay_bits: SomeBits
    weight_bits: Widths
    max_weight_exponent: Annotated[Quantity[_Natural], _unit("bits")]
    max_delay_steps: Steps
    population_axons: Annotated[Quantity[bool], _unit("yes/no")]
    population_axon_entries: Entries
    threshold_configurations: Configurations | None = None
    neuron_configurations: Configurations | None = None
    synapse_configurations: Configurations | None = None


class Spikes(_Frozen):
    """How spikes travel.

    Parameters
    ----------
    modes
        ``"graded"``: one message carries ``k``; ``"unit"``: ``|k|`` messages without payload.
    signed
        Whether a graded spike carries its sign. Unit spikes never do: each sign has its own axons.
    """

    modes: Annotated[
        Quantity[Annotated[tuple[Literal["graded", "unit"], ...], Field(min_length=1)]],
        _unit("modes"),
    ]
    signed: Annotated[Quantity[bool], _unit("yes/no")]


class _Events(_Frozen):
    def synaptic(self, kind: SynapticKind) -> Quantity[float] | None:
        """Constant of a synaptic operation of one kind: its variant, else the general one."""
        variant: Quantity[float] | None = getattr(self, f"synaptic_operation_{kind}")
        general: Quantity[float] | None = getattr(self, "synaptic_operation")  # noqa: B009
        return variant if variant is not None else general


class Energies(_Events):
    """Energy of each event, pJ; absent: unknown.

    Parameters
    ----------
    synaptic_operation
        One message meeting one synapse; ``_dense``, ``_sparse``, ``_conv`` where a source has them.
    neuron_idle, neuron_active
        One neuron update, in total, that is idle or active.
    spike
        Extra, when a neuron fires (once per neuron and step).
    packet_out, packet_in
        One message leaving and entering a core.
    within_tile
        One message delivered to a core of its tile, routers excluded.
    hop_east, hop_west, hop_north, hop_south
        One message over one link of the mesh (north: y grows).
    chip_crossing
        Extra, where the link joins two chips.
    """

    synaptic_operation: EnergyPj | None = None
    synaptic_operation_dense: EnergyPj | None = None
    synaptic_operation_sparse: EnergyPj | None = None
    synaptic_operation_conv: EnergyPj | None = None
    neuron_idle: EnergyPj | None = None
    neuron_active: EnergyPj | None = None
    spike: EnergyPj | None = None
    packet_out: EnergyPj | None = None
    packet_in: EnergyPj | None = None
    within_tile: EnergyPj | None = None
    hop_east: EnergyPj | None = None
    hop_west: EnergyPj | None = None
    hop_north: EnergyPj | None = None
    hop_south: EnergyPj | None = None
    chip_crossing: EnergyPj | None = None


class Times(_Events):
    """Time of each event, ns; absent: unknown. Names as in `Energies`, and a barrier.

    Parameters
    ----------
    barrier
        ``((n_tiles, ns), ...)``: end of a step by the number of tiles in use, ascending; between
        two entries linear.
    """

    synaptic_operation: TimeNs | None = None
    synaptic_operation_dense: TimeNs | None = None
    synaptic_operation_sparse: TimeNs | None = None
    synaptic_operation_conv: TimeNs | None = None
    neuron_idle: TimeNs | None = None
    neuron_active: TimeNs | None = None
    spike: TimeNs | None = None
    packet_out: TimeNs | None = None
    packet_in: TimeNs | None = None
    within_tile: TimeNs | None = None
    hop_east: TimeNs | None = None
    hop_west: TimeNs | None = None
    hop_north: TimeNs | None = None
    hop_south: TimeNs | None = None
    chip_crossing: TimeNs | None = None
    barrier: BarrierNs | None = None

    @model_validator(mode="after")
    def _ascending(self) -> Times:
        if self.barrier is not None:
            tiles = [n for n, _ in self.barrier.value]
            if tiles != sorted(set(tiles)):
                raise ValueError(f"barrier table is not ascending in tiles: {tiles}")
        return self

    def barrier_ns(self, n_tiles: int) -> float | None:
        """Duration of the barrier of a step with ``n_tiles`` tiles in use; ``None``: unknown.

        Linear between the entries of the table; the first and last entry hold beyond its ends
        (published tables end at or near the size of the chip).
        """
        if self.barrier is None:
            return None
        points = self.barrier.value
        if n_tiles <= points[0][0]:
            return float(points[0][1])
        for (n0, t0), (n1, t1) in pairwise(points):
            if n_tiles <= n1:
                return float(t0 + (t1 - t0) * (n_tiles - n0) / (n1 - n0))
        return float(points[-1][1])


class Profile(_Frozen):
    """One set of event constants, from one source.

    Parameters
    ----------
    description
        What it is, in a sentence.
    energy, time
        Constants of events.
    static_power_mw
        Power of one chip that does nothing; absent: unknown.
    """

    description: Annotated[str, Field(min_length=1)]
    energy: Energies = Energies()
    time: Times = Times()
    static_power_mw: PowerMw | None = None


class Chip(_Frozen):
    """A chip, or a board of equal chips; one chip file.

    Attributes
    ----------
    name
        Name of the file, without its ending.
    description
        What it is, in a sentence.
    mesh, board, limits, spikes
        See the classes.
    profiles
        By name; the first one is the default.
    """

    name: Annotated[str, Field(min_length=1)]
    description: Annotated[str, Field(min_length=1)]
    mesh: Mesh
    board: Board
    limits: Limits
    spikes: Spikes
    profiles: Annotated[dict[str, Profile], Field(min_length=1)]

    @property
    def n_chips(self) -> int:
        """Chips on the board."""
        return self.board.columns.value * self.board.rows.value

    @property
    def columns(self) -> int:
        """Tiles along x, over the whole board."""
        return self.board.columns.value * self.mesh.columns.value

    @property
    def rows(self) -> int:
        """Tiles along y, over the whole board."""
        return self.board.rows.value * self.mesh.rows.value

    @property
    def n_tiles(self) -> int:
        """Tiles of the whole board."""
        return self.columns * self.rows

    @property
    def n_cores(self) -> int:
        """Cores of the whole board."""
        return self.n_tiles * self.mesh.cores_per_tile.value

    @cached_property
    def default_profile(self) -> str:
        """Name of the first profile."""
        return next(iter(self.profiles))

    def on_board(self, n_chips: int) -> Chip:
        """The same chip on a board of at least so many, in a grid as square as can be.

        Parameters
        ----------
        n_chips
            Chips that are needed.
        """
        columns = max(1, round((n_chips * self.mesh.rows.value / self.mesh.columns.value) ** 0.5))
        rows = -(-n_chips // columns)
        source = f"asked for: a board of {n_chips} or more"
        size = {"unit": "chips", "source": source, "kind": "assumed"}
        data = self.to_dict()
        data["board"] = {"columns": {"value": columns, **size}, "rows": {"value": rows, **size}}
        return Chip.model_validate(data)

    def profile(self, name: str | None = None) -> Profile:
        """Profile by name; the default one without a name.

        Parameters
        ----------
        name
            One of ``profiles``.

        Raises
        ------
        ChipFileError
            If the chip has no such profile.
        """
        name = self.default_profile if name is None else name
        if name not in self.profiles:
            raise ChipFileError(
                f"chip '{self.name}'",
                f"has no profile {name!r}",
                remedy=f"use one of {', '.join(self.profiles)}",
                actual=name,
                limit=tuple(self.profiles),
            )
        return self.profiles[name]

    def tile_of(self, core: int) -> tuple[int, int]:
        """``(x, y)`` of a core's tile on the board-wide mesh. Cores count through the tiles row by
        row (x fastest), ``cores_per_tile`` each, over the whole board.

        Parameters
        ----------
        core
            Number of a core.
        """  # noqa: D205
        tile = core // self.mesh.cores_per_tile.value
        return tile % self.columns, tile // self.columns

    def chip_of(self, x: int, y: int) -> int:
        """Index of the chip that holds a tile, row by row.

        Parameters
        ----------
        x, y
            Tile on the board-wide mesh.
        """
        return (y // self.mesh.rows.value) * self.board.columns.value + x // self.mesh.columns.value

    def to_dict(self) -> dict[str, Any]:
        """As the chip file has it: plain dictionaries, lists, numbers and strings."""
        return self.model_dump(mode="json", exclude_none=True)

    def __repr__(self) -> str:
        return (
            f"<Chip '{self.name}': {self.n_chips} chips, {self.columns} x {self.rows} tiles, "
            f"{self.n_cores:,} cores>"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.summary)

    def quantities(self) -> Iterator[tuple[str, Quantity[Any]]]:
        """Every number that is known, with its dotted key."""
        yield from _walk("", self)

    def summary(self) -> str:
        """Table of every number with unit, kind and source."""
        from pmsm_hw.tables import table

        rows = [
            (key, value_text(q.value), q.unit, q.kind, q.source) for key, q in self.quantities()
        ]
        title = f"{self.name}: {self.description}"
        return table(("key", "value", "unit", "kind", "source"), rows, title=title)


def value_text(value: Any) -> str:
    """Write a value of a chip file for people.

    Parameters
    ----------
    value
        Of a `Quantity`.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(f"{v[0]}: {v[1]:g}" if isinstance(v, tuple) else str(v) for v in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _walk(prefix: str, node: Any) -> Iterator[tuple[str, Quantity[Any]]]:
    if isinstance(node, Quantity):
        yield prefix, node
        return
    items = (
        node.items()
        if isinstance(node, dict)
        else ((k, getattr(node, k)) for k in type(node).model_fields)
    )
    for key, value in items:
        if isinstance(value, (BaseModel, dict)):
            yield from _walk(f"{prefix}.{key}" if prefix else key, value)


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------

_FOLDER = Path(__file__).parent / "chips"


def chip_names() -> tuple[str, ...]:
    """Names of the chips that ship with the package, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_chip(name_or_path: str | Path) -> Chip:
    """Read a chip file.

    Parameters
    ----------
    name_or_path
        Name of a chip that ships (`chip_names`), or the path of a TOML file (anything with a
        separator or ending in ``.toml``).

    Returns
    -------
    Chip
        Validated and immutable.

    Raises
    ------
    ChipFileError
        If there is no such chip, or its file is not readable, not TOML, or does not say what a chip
        file must say.
    """
    text = str(name_or_path)
    is_path = (
        isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text
    )
    path = Path(name_or_path) if is_path else _FOLDER / f"{text}.toml"
    if not is_path and text not in chip_names():
        raise ChipFileError(
            f"chip {text!r}",
            "is unknown",
            remedy=f"use one of {', '.join(chip_names())}, or the path of a .toml file",
            actual=text,
            limit=chip_names(),
        )
    subject = f"chip file '{path if is_path else path.name}'"
    try:
        data = _read(path)
    except OSError as error:
        raise ChipFileError(
            subject,
            f"cannot be read ({error.strerror})",
            remedy=f"check the path, or use one of {', '.join(chip_names())}",
            actual=text,
            limit="a readable file",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ChipFileError(
            subject,
            f"is not TOML ({error})",
            remedy="correct it there",
            actual=str(error),
            limit="TOML",
        ) from error
    return parse_chip(_extended(data, subject), subject=subject)


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _extended(data: dict[str, Any], subject: str) -> dict[str, Any]:
    """Lay a file over the shipped chip that its ``extends`` names."""
    if "extends" not in data:
        return data
    base = data.pop("extends")
    if not isinstance(base, str) or base not in chip_names():
        raise ChipFileError(
            subject,
            f"extends {base!r}, which is not a chip that ships",
            remedy=f"extend one of {', '.join(chip_names())}",
            actual=base,
            limit=chip_names(),
        )
    below = _extended(_read(_FOLDER / f"{base}.toml"), f"chip file '{base}.toml'")
    return _merged(below, data)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        is_section = isinstance(old, dict) and isinstance(value, dict) and "value" not in value
        merged[key] = _merged(old, value) if is_section else value  # type: ignore[arg-type]
    return merged


def parse_chip(data: dict[str, Any], *, subject: str = "chip") -> Chip:
    """Validate the contents of a chip file.

    Parameters
    ----------
    data
        As TOML, or ``Chip.model_dump()``, gives them.
    subject
        How error messages name the file.

    Raises
    ------
    ChipFileError
        Naming the key, what is wrong with it, and the keys that are allowed.
    """
    try:
        return Chip.model_validate(data)
    except ValidationError as error:
        raise _chip_file_error(subject, error) from None


def _chip_file_error(subject: str, error: ValidationError) -> ChipFileError:
    details = error.errors(include_url=False)
    # a misspelt key shows as an unknown one and, often, a missing one: the former says more
    first = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    location = [str(part) for part in first["loc"]]
    key = ".".join(location) or "(file)"
    allowed = _allowed_keys(location[:-1])
    listed = ", ".join(allowed)
    if first["type"] == "extra_forbidden":
        return ChipFileError(
            subject, f"unknown key '{key}'", remedy=f"allowed keys here: {listed}",
            actual=key, limit=allowed,
        )  # fmt: skip
    if first["type"] == "missing":
        return ChipFileError(
            subject, f"key '{key}' is missing", remedy=f"needed keys here are among: {listed}",
            actual=None, limit=key,
        )  # fmt: skip
    message = first["msg"].removeprefix("Value error, ")
    return ChipFileError(
        subject, f"key '{key}': {message}, got {first['input']!r:.80}",
        remedy="every number is {value, unit, source, kind}; see docs/chips.md",
        actual=first["input"], limit=message,
    )  # fmt: skip


def _allowed_keys(location: list[str]) -> tuple[str, ...]:
    """Keys of the section at a location in a chip file."""
    node: Any = Chip
    for part in location:
        if isinstance(node, type) and issubclass(node, BaseModel) and part in node.model_fields:
            node = _model_in(node.model_fields[part].annotation)
        else:
            node = _model_in(node)
    if isinstance(node, type) and issubclass(node, BaseModel):
        return tuple(node.model_fields)
    return ()


def _model_in(annotation: Any) -> Any:
    """First model class, or mapping of models, inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = get_args(annotation)
    if annotation is not None and getattr(annotation, "__origin__", None) is dict:
        return arguments[1]
    for argument in arguments:
        found = _model_in(argument)
        if found is not None:
            return found
    return None
