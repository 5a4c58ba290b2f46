"""Numbers of a chip file: each with unit, source and kind, within limits that arithmetic can take.

Nothing is converted: ``true`` is no 1.0, ``"10"`` no 10, and 2.0 no count of cores. Texts are one
printable line, since they reach terminals and pages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["Frozen", "Kind", "Name", "Quantity", "Text"]

T = TypeVar("T")
Kind = Literal["measured", "simulated", "assumed"]

MOST_AMOUNT = 1_000_000_000
"""Largest energy (pJ), time (ns) and power (mW): a millijoule, a second and a megawatt."""
MOST_BUFFERED = 65_536
"""Messages that a link's buffer may hold: the emulator keeps room for them."""
_MOST = 2**31 - 1
_MOST_BITS, _MOST_WIDTH = 65_536, 64


class Frozen(BaseModel):
    """A section of a chip file: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __reduce__(self) -> tuple[Any, ...]:
        """As plain values: pickle does not find the classes that `Quantity` makes."""
        return type(self).model_validate, (self.model_dump(),)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("text must be one line of printable characters")
    return text


Text = Annotated[str, Field(strict=True, min_length=1, max_length=1000), AfterValidator(_printable)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=100), AfterValidator(_printable)]


class Quantity(Frozen, Generic[T]):
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
        ``"measured"``, ``"simulated"`` or ``"assumed"`` (`pmsm_hw.mapping.chip`).
    """

    value: T
    unit: Text
    source: Text
    kind: Kind

    def __reduce__(self) -> tuple[Any, ...]:
        return _quantity, (_key_of(type(self)), self.model_dump())


def _key_of(kind: type[Quantity[Any]]) -> str:
    """Name of a sort of quantities in this module."""
    return next(n for n, v in globals().items() if getattr(v, "__origin__", None) is kind)


def _quantity(key: str, values: dict[str, Any]) -> Quantity[Any]:
    kind: type[Quantity[Any]] = globals()[key].__origin__
    return kind.model_validate(values)


def in_unit(expected: str) -> Callable[[Quantity[Any]], Quantity[Any]]:
    """Validator of a key whose numbers have one unit.

    Parameters
    ----------
    expected
        The unit.
    """

    def check(quantity: Quantity[Any]) -> Quantity[Any]:
        if quantity.unit != expected:
            raise ValueError(f"unit {quantity.unit[:40]!r} must be {expected!r}")
        return quantity

    return AfterValidator(check)  # type: ignore[return-value]


Positive = Annotated[int, Field(strict=True, ge=1, le=_MOST)]
Natural = Annotated[int, Field(strict=True, ge=0, le=_MOST)]
Width = Annotated[int, Field(strict=True, ge=1, le=_MOST_WIDTH)]
FewBits = Annotated[int, Field(strict=True, ge=0, le=_MOST_BITS)]
Amount = Annotated[float, Field(strict=True, ge=0, le=MOST_AMOUNT, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]

Tiles = Annotated[Quantity[Positive], in_unit("tiles")]
Chips = Annotated[Quantity[Positive], in_unit("chips")]
CoresPerTile = Annotated[Quantity[Positive], in_unit("cores")]
Messages = Annotated[
    Quantity[Annotated[int, Field(strict=True, ge=1, le=MOST_BUFFERED)]], in_unit("messages")
]
Position = Annotated[Quantity[tuple[Natural, Natural]], in_unit("tile")]
Neurons = Annotated[Quantity[Positive], in_unit("neurons")]
Axons = Annotated[Quantity[Positive], in_unit("axons")]
Entries = Annotated[Quantity[Positive], in_unit("entries")]
MemoryBits = Annotated[
    Quantity[Annotated[int, Field(strict=True, ge=1, le=2**48)]], in_unit("bits")
]
WordBits = Annotated[
    Quantity[Annotated[int, Field(strict=True, ge=1, le=_MOST_BITS)]], in_unit("bits")
]
SomeBits = Annotated[Quantity[FewBits], in_unit("bits")]
Exponent = Annotated[
    Quantity[Annotated[int, Field(strict=True, ge=0, le=_MOST_WIDTH)]], in_unit("bits")
]
LeastExponent = Annotated[
    Quantity[Annotated[int, Field(strict=True, ge=-_MOST_WIDTH, le=0)]], in_unit("bits")
]
Widths = Annotated[Quantity[Annotated[tuple[Width, ...], Field(min_length=1)]], in_unit("bits")]
Weights = Annotated[Quantity[Positive], in_unit("weights")]
Steps = Annotated[Quantity[Positive], in_unit("steps")]
Configurations = Annotated[Quantity[Positive], in_unit("configurations")]
YesNo = Annotated[Quantity[Flag], in_unit("yes/no")]
Modes = Annotated[
    Quantity[Annotated[tuple[Literal["graded", "unit"], ...], Field(min_length=1)]],
    in_unit("modes"),
]
EnergyPj = Annotated[Quantity[Amount], in_unit("pJ")]
TimeNs = Annotated[Quantity[Amount], in_unit("ns")]
PowerMw = Annotated[Quantity[Amount], in_unit("mW")]
BarrierNs = Annotated[
    Quantity[Annotated[tuple[tuple[Positive, Amount], ...], Field(min_length=1)]], in_unit("ns")
]
