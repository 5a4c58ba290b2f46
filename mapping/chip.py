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

import os
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from pmsm_hw.arguments import integer, shown
from pmsm_hw.errors import ChipFileError
from pmsm_hw.mapping.profiles import Energies, Profile, SynapticKind, Times
from pmsm_hw.mapping.quantities import (
    Axons,
    Chips,
    Configurations,
    CoresPerTile,
    Entries,
    Exponent,
    Frozen,
    LeastExponent,
    MemoryBits,
    Messages,
    Modes,
    Name,
    Neurons,
    Position,
    Quantity,
    SomeBits,
    Steps,
    Text,
    Tiles,
    Weights,
    Widths,
    WordBits,
    YesNo,
)
from pmsm_hw.reading import read_regular

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

MOST_TILES, MOST_CORES = 2**20, 2**24
"""Of a board: arrays over them must fit memory."""


class Mesh(Frozen):
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


class Board(Frozen):
    """Chips in a grid; their meshes join at the edges.

    Parameters
    ----------
    columns, rows
        Chips along x and y.
    """

    columns: Chips
    rows: Chips


class Limits(Frozen):
    """What one core holds. An absent limit is not enforced.

    Parameters
    ----------
    neurons
        Neurons; compartments, where a neuron model takes several for each.
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
        Bits beside each weight of a projection some of whose spikes are held longer than one step.
    weight_bits
        Widths that a weight can take, two's complement.
    max_weight_exponent
        Largest left shift of a weight, payload gains of unit spikes included.
    min_weight_exponent
        The least one, negative: the largest right shift.
    max_delay_steps
        Longest hardware delay, delays of synapses included: 1 is none, as a spike acts in the next
        step.
    population_axons
        Whether one axon serves all channels of a source pixel, with shared lists.
    population_axon_entries
        See `output_axons`.
    threshold_configurations, neuron_configurations, synapse_configurations
        Distinct sets of the parameters that neuron models keep in sets (thresholds), populations,
        and (width, exponent, delay) formats a core can hold.
    """

    neurons: Neurons
    input_axons: Axons
    output_axons: Entries
    synapse_memory_bits: MemoryBits
    synapse_block_weights: Weights
    synapse_block_header_bits: SomeBits
    synapse_word_bits: WordBits
    index_bits: SomeBits
    delay_bits: SomeBits
    weight_bits: Widths
    max_weight_exponent: Exponent
    min_weight_exponent: LeastExponent | None = None
    max_delay_steps: Steps
    population_axons: YesNo
    population_axon_entries: Entries
    threshold_configurations: Configurations | None = None
    neuron_configurations: Configurations | None = None
    synapse_configurations: Configurations | None = None


class Spikes(Frozen):
    """How spikes travel.

    Parameters
    ----------
    modes
        ``"graded"``: one message carries ``k``; ``"unit"``: ``|k|`` messages without payload.
    signed
        Whether a graded spike carries its sign. Unit spikes never do: each sign has its own axons.
    """

    modes: Modes
    signed: YesNo


class Chip(Frozen):
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

    name: Name
    description: Text
    mesh: Mesh
    board: Board
    limits: Limits
    spikes: Spikes
    profiles: Annotated[dict[Name, Profile], Field(min_length=1)]

    @model_validator(mode="after")
    def _of_a_size(self) -> Chip:
        for what, n, most in (
            ("tiles", self.n_tiles, MOST_TILES),
            ("cores", self.n_cores, MOST_CORES),
        ):
            if n > most:
                raise ValueError(f"a board of {n:,} {what} exceeds {most:,}")
        return self

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
        n_chips = integer(
            ChipFileError, f"board of chip '{self.name}'", "number of chips", n_chips, low=1,
            high=MOST_TILES, remedy="give a whole number from 1",
        )  # fmt: skip
        columns = max(1, round((n_chips * self.mesh.rows.value / self.mesh.columns.value) ** 0.5))
        rows = -(-n_chips // columns)
        source = f"asked for: a board of {n_chips} or more"
        size = {"unit": "chips", "source": source, "kind": "assumed"}
        data = self.to_dict()
        data["board"] = {"columns": {"value": columns, **size}, "rows": {"value": rows, **size}}
        return parse_chip(data, subject=f"board of {n_chips:,} chips '{self.name}'")

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
        if not isinstance(name, str) or name not in self.profiles:
            raise ChipFileError(
                f"chip '{self.name}'",
                f"has no profile {shown(name)}",
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
_MOST_BYTES, _MOST_IN_LINE = 262_144, 4_096
"""Of a chip file; those that ship have 10,000, and 250."""


def chip_names() -> tuple[str, ...]:
    """Names of the chips that ship with the package, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_chip(name_or_path: str | os.PathLike[str]) -> Chip:
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
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise ChipFileError(
            "chip",
            f"{shown(name_or_path)} is neither a name nor a path",
            remedy=f"use one of {', '.join(chip_names())}, or the path of a .toml file",
            actual=type(name_or_path).__name__,
            limit="a name or a path",
        )
    text = os.fspath(name_or_path)
    is_path = not isinstance(name_or_path, str) or text.endswith(".toml") or "/" in text
    if not is_path and "\\" not in text and text not in chip_names():
        raise ChipFileError(
            f"chip {text[:100]!r}",
            "is unknown",
            remedy=f"use one of {', '.join(chip_names())}, or the path of a .toml file",
            actual=text,
            limit=chip_names(),
        )
    path = _FOLDER / f"{text}.toml" if text in chip_names() else Path(text)
    subject = f"chip file '{path.name if text in chip_names() else path}'"
    data = _read(path, subject)
    return parse_chip(_extended(data, subject, path.stem), subject=subject)


def _read(path: Path, subject: str) -> dict[str, Any]:
    """Contents of a regular file of a bounded size."""
    try:
        content = read_regular(path, largest=_MOST_BYTES)
    except OSError as error:
        raise ChipFileError(
            subject,
            f"cannot be read ({error.strerror})",
            remedy=f"check the path, or use one of {', '.join(chip_names())}",
            actual=str(path),
            limit="a readable file",
        ) from error
    longest = max(map(len, content.splitlines()), default=0)
    if longest > _MOST_IN_LINE:  # keys of very many parts take memory by the square of their number
        raise ChipFileError(
            subject,
            f"has a line of {longest:,} bytes, a chip file has at most {_MOST_IN_LINE:,} in one",
            remedy="break it, or give a chip file",
            actual=longest,
            limit=_MOST_IN_LINE,
        )
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # a ValueError: numbers of too many digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ChipFileError(
            subject, f"is not TOML ({reason[:200]})", remedy="correct it there",
            actual=reason, limit="TOML",
        ) from error  # fmt: skip


def _extended(data: dict[str, Any], subject: str, stem: str) -> dict[str, Any]:
    """Lay a file over the shipped chip that its ``extends`` names.

    It is another chip than that one: without a name, or a description, of its own, it has the
    file's name, and a description that says so.
    """
    if "extends" not in data:
        return data
    base = data.pop("extends")
    if not isinstance(base, str) or base not in chip_names():
        raise ChipFileError(
            subject,
            f"extends {shown(base)}, which is not a chip that ships",
            remedy=f"extend one of {', '.join(chip_names())}",
            actual=base,
            limit=chip_names(),
        )
    shipped = f"chip file '{base}.toml'"
    below = _extended(_read(_FOLDER / f"{base}.toml", shipped), shipped, base)
    changed = ", ".join(key for key in data if key not in ("name", "description")) or "nothing"
    above = {"name": stem, "description": f"As {base}; changed: {changed}"[:300], **data}
    return _merged(below, above)


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
    key = ".".join(part[:100] for part in location) or "(file)"
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
        subject, f"key '{key}': {message}, got {shown(first['input'])}",
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
