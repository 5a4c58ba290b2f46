"""Feed damaged and hostile chip files to the reader: each gives a chip or a `ChipFileError`.

``python tests/fuzz_chips.py --cases 2000`` prints one JSON line with the outcome; the test suite
runs fewer. A chip that is read must then be usable: it is written and read again, a network is
mapped onto it and emulated, or refused in one line. Every case is seeded by its number alone:
``--first N --cases 1`` repeats case N. A case that takes longer than 300 s ends the run.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import seeded_cases
from fuzz_files import flip, move, overwrite, remove, truncate

from pmsm_hw import Conv2d, Dense, Input, Network, PolarityMultiSpike, Readout
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import ChipFileError, PmsmHwError
from pmsm_hw.mapping import Chip, chip_names, load_chip, map_network
from pmsm_hw.mapping.chip import parse_chip

Rng = np.random.Generator

FOLDER = Path(__file__).resolve().parents[1] / "mapping" / "chips"
NUMBERS = (
    "0", "-1", "-0.0", "1", "2", "3", "7", "64", "65536", "65537", "2147483647", "2147483648",
    "9223372036854775807", "9223372036854775808", "1" * 400, "9" * 100_000, "0x" + "f" * 5_000,
    "1e9", "1e10", "1e308", "1e400", "-1e308", "1e-320", "nan", "-nan", "inf", "-inf", "0.5", "1.5",
    "true", "false", '"10"', "[]", "[1]", "[0, 0]", "[1, 2, 3]", "[[1, 1.0]]", "[[1, 2], [1, 2]]",
    "{}", "{ a = 1 }", "1979-05-27", "07:32:00", "[" * 5_000 + "]" * 5_000, "[" * 300 + "]" * 300,
    "{ a = " * 2_000 + "1" + "}" * 2_000,
)  # fmt: skip
TEXTS = (
    '""', '"x"', '"\\u001b[31mred\\u001b[0m"', '"\\u0007"', '"a\\nb"', '"\\u202ehcip"', '"\\u0000"',
    '"\x1b[31m"', "'''\na\nb'''", f'"{"x" * 3_000}"', f'"{"x" * 200_000}"', '"\\ud800"', "5",
    "true",
    '"graded"', '"pJ"', '"measured"', '"[bold]x[/bold]"', '"\u00fc\u4e2d"',
)  # fmt: skip
LINES = (
    '"\\u001b[31m" = 1', "a." * 1_500 + "b = 1", "a." * 60_000 + "b = 1", "[" + "x." * 1_000 + "y]",
    "[limits]", "[mesh.columns]", "[profiles.\"\\u001b[2J\"]", "[[profiles]]", "extends = 5",
    'extends = "../loihi1"', 'extends = "loihi2"', "extends = []", "\x00", "#" + "c" * 300_000,
    "# comment\r", "name = 5", "[profiles.new]\ndescription = \"x\"", "\ufeff", "= 1", "limits = 1",
)  # fmt: skip


def number(rng: Rng, data: bytes) -> bytes:
    """Another number, or no number, for one value."""
    return _replaced(rng, data, r"(?<=value = )[^,{}]+?(?=, unit)", NUMBERS)


def text(rng: Rng, data: bytes) -> bytes:
    """Another text, or none, for one text."""
    return _replaced(rng, data, r'"[^"\n]*"', TEXTS)


def line(rng: Rng, data: bytes) -> bytes:
    """A line more, at any place."""
    lines = data.decode("utf-8", "replace").split("\n")
    lines.insert(int(rng.integers(len(lines) + 1)), LINES[int(rng.integers(len(LINES)))])
    return "\n".join(lines).encode("utf-8", "replace")


def fewer(rng: Rng, data: bytes) -> bytes:
    """A line less, or the same again."""
    lines = data.split(b"\n")
    at = int(rng.integers(len(lines)))
    return b"\n".join(lines[:at] + lines[at + 1 :] + ([lines[at]] if rng.random() < 0.3 else []))


def large(rng: Rng, data: bytes) -> bytes:
    """Far more of it than a chip file has."""
    return data + bytes([int(rng.choice([0, 10, 35, 97]))]) * int(rng.integers(1, 3_000_000))


MUTATIONS: tuple[Callable[[Rng, bytes], bytes], ...] = (
    number, number, number, number, text, text, line, line, fewer, fewer, large, truncate, flip,
    overwrite, move, remove,
)  # fmt: skip


def _replaced(rng: Rng, data: bytes, pattern: str, by: tuple[str, ...]) -> bytes:
    whole = data.decode("utf-8", "replace")
    found = list(re.finditer(pattern, whole))
    if not found:
        return flip(rng, data)
    at = found[int(rng.integers(len(found)))]
    new = by[int(rng.integers(len(by)))]
    return (whole[: at.start()] + new + whole[at.end() :]).encode("utf-8", "surrogatepass")


def case(first: int) -> bytes:
    """Damaged bytes of one case."""
    rng = np.random.default_rng(first)
    names = ("toy", *chip_names())  # the small one often: it can be used whatever it becomes
    name = "toy" if rng.random() < 0.5 else names[int(rng.integers(len(names)))]
    data = (FOLDER / f"{name}.toml").read_bytes()
    if rng.random() < 0.1:
        data = f'extends = "{name}"\n'.encode()
    for _ in range(1 if rng.random() < 0.7 else 2):
        mutation = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        data = mutation(rng, data) if data else data
    return data


def network() -> Network:
    """A small one with windows."""
    rng = np.random.default_rng(0)
    return Network(
        populations=(
            Input(name="in", shape=(1, 4, 4), levels=(0, 3)),
            PolarityMultiSpike(name="a", shape=(2, 4, 4), theta=np.array(9), levels=(0, 1)),
            Readout(name="out", shape=(3,)),
        ),
        projections=(
            Conv2d(source="in", target="a", weight=rng.integers(-2, 2, (2, 1, 3, 3)), padding=1),
            Dense(source="a", target="out", weight=rng.integers(-2, 2, (3, 32))),
        ),
    )


def use(chip: Chip, small: Network) -> str:
    """Write, read and show a chip; map a network onto it, and emulate it."""
    if parse_chip(chip.to_dict()) != chip:
        raise ValueError("written and read, it is another one")
    shown = chip.summary().replace("\n", "")
    if not shown.isprintable():
        raise ValueError("what it shows would steer a terminal")
    try:
        mapping = map_network(small, chip, time_limit_s=5)
        x = np.ones((1, 1, 4, 4), np.int64)
        reports = [emulate(small, mapping, x, 1, mode=mode) for mode in ("counts", "cycle")]
    except PmsmHwError as error:
        one_line(error)
        return "loaded, not used"
    for report in reports:
        if not (np.isfinite(report.latency_ns) and report.latency_ns >= 0):
            raise ValueError(f"latency {report.latency_ns}")
    return "used"


def one_line(error: PmsmHwError) -> None:
    """Raise unless an error is one printable line of a bounded length."""
    if not str(error).isprintable() or len(str(error)) > 2_000:
        raise ValueError(f"no line: {str(error)[:3_000]!r}") from error


def run(path: Path, data: bytes, small: Network) -> str:
    """Outcome of one file."""
    path.write_bytes(data)
    try:
        chip = load_chip(path)
    except ChipFileError as error:
        one_line(error)
        return "refused"
    return use(chip, small)


def main(arguments: list[str] | None = None) -> None:
    """Run cases; print a JSON line."""
    small = network()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.toml"
        seeded_cases.main(
            __doc__, lambda number: run(path, case(number), small), cases=2_000,
            arguments=arguments,
        )  # fmt: skip


if __name__ == "__main__":
    main()
