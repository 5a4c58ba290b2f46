"""Tables for people: as plain text, which rich draws, and as HTML for notebooks."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from html import escape

__all__ = [
    "energy_text", "energy_unit", "figure_text", "fit_to", "html_table", "notebook", "table",
    "time_text", "time_unit",
]  # fmt: skip

_HTML: ContextVar[list[str] | None] = ContextVar("_HTML", default=None)
"""Where tables go as HTML while `notebook` calls for a text; None: tables are text."""

_WIDTH: ContextVar[int | None] = ContextVar("_WIDTH", default=None)
"""Columns that a table may take; None: as many as its content needs."""

_PLACE = "\0"
"""Stands in a text for a table that went there."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> str:
    """Draw a table.

    Parameters
    ----------
    header
        Column names.
    rows
        Cells; integers get thousands separators and, like floats, align right.
    title
        Line above the table.

    Returns
    -------
    str
        As many columns wide as its content needs, without a trailing newline; if `fit_to` set
        fewer, in several parts below each other, each with the first column.
    """
    cells = [list(row) for row in rows]
    tables = _HTML.get()
    if tables is not None:
        tables.append(html_table(header, cells, title=title))
        return _PLACE
    width = _WIDTH.get()
    body = _draw(header, cells)
    if width is not None and _width_of(body) > width:
        body = "\n\n".join(
            _draw([header[i] for i in part], [[row[i] for i in part] for row in cells])
            for part in _parts(header, cells, width)
        )
    return f"{title}\n{body}" if title else body


def fit_to(columns: int | None) -> None:
    """Set how wide tables may be from now on, in this context: a terminal's width.

    Parameters
    ----------
    columns
        Characters; None: any number.
    """
    _WIDTH.set(columns)


def _width_of(text: str) -> int:
    return max((len(line) for line in text.splitlines()), default=0)


def _parts(header: Sequence[str], cells: Sequence[Sequence[object]], width: int) -> list[list[int]]:
    """Columns of each part of a table that is too wide: the first, and some others."""
    gap = 3
    widths = [
        max(len(name), *(len(_text(row[i])) for row in cells)) if cells else len(name)
        for i, name in enumerate(header)
    ]
    parts: list[list[int]] = []
    room = 0
    for i in range(1, len(header)):
        if not parts or room < gap + widths[i]:
            parts.append([0])
            room = width - 2 - widths[0]
        parts[-1].append(i)
        room -= gap + widths[i]
    return parts or [[0]]


def _draw(header: Sequence[str], cells: Sequence[Sequence[object]]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for i, name in enumerate(header):
        numeric = any(isinstance(row[i], (int, float)) for row in cells)
        drawn.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in cells:
        drawn.add_row(*(_text(cell) for cell in row))
    out = io.StringIO()
    # wide enough for any content: never wrapped, never cut
    Console(file=out, width=10_000, color_system=None, markup=False, highlight=False).print(drawn)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(line for line in lines if line)


def notebook(text: Callable[[], str]) -> str:
    """Draw for a notebook what a function says as text: its tables become HTML tables.

    Parameters
    ----------
    text
        Makes the text, with `table` for the tables in it.

    Returns
    -------
    str
        HTML; everything in it is escaped.
    """
    tables: list[str] = []
    token = _HTML.set(tables)
    try:
        parts = text().split(_PLACE)
    finally:
        _HTML.reset(token)
    if len(parts) != len(tables) + 1:  # a name holds the stand-in
        return f"<pre>{escape(text())}</pre>"
    out = []
    for part, drawn in zip(parts, [*tables, ""], strict=True):
        if part.strip():
            out.append(f"<pre>{escape(part.strip())}</pre>")
        out.append(drawn)
    return f"<div>{''.join(out)}</div>"


def html_table(header: Sequence[str], cells: Sequence[Sequence[object]], *, title: str = "") -> str:
    """Draw a table in HTML; everything in it is escaped.

    Parameters
    ----------
    header
        Column names.
    cells
        Rows; numbers are written as `table` does, and align right.
    title
        Caption.
    """
    caption = f'<caption style="text-align:left">{escape(title)}</caption>' if title else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = ""
    for row in cells:
        body += "<tr>"
        for cell in row:
            side = "right" if isinstance(cell, (int, float)) else "left"
            body += f'<td style="text-align:{side}">{escape(_text(cell))}</td>'
        body += "</tr>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def figure_text(text: str) -> str:
    """Text for a figure: matplotlib would take what stands between dollar signs for a formula.

    Parameters
    ----------
    text
        A name that somebody gave.
    """
    return text.replace("$", r"\$")


def energy_unit(largest_pj: float) -> tuple[float, str]:
    """Size in pJ and name of the unit in which an energy is a handy number.

    Parameters
    ----------
    largest_pj
        The largest of those that are to be shown.
    """
    for size, unit in ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ")):
        if largest_pj >= size:
            return size, unit
    return 1.0, "pJ"


def time_unit(largest_ns: float) -> tuple[float, str]:
    """Size in ns and name of the unit in which a time is a handy number.

    Parameters
    ----------
    largest_ns
        The largest of those that are to be shown.
    """
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if largest_ns >= size:
            return size, unit
    return 1.0, "ns"


def _four(value: float) -> str:
    return f"{value:#.4g}".removesuffix(".") if abs(value) < 10_000 else f"{value:,.0f}"


def energy_text(pj: float) -> str:
    """Say an energy with four digits and a unit that suits it: ``11.14 uJ``.

    Parameters
    ----------
    pj
        In pJ.
    """
    size, unit = energy_unit(pj)
    return f"{_four(pj / size)} {unit}"


def time_text(ns: float) -> str:
    """Say a time with four digits and a unit that suits it: ``205.9 us``.

    Parameters
    ----------
    ns
        In ns.
    """
    size, unit = time_unit(ns)
    return f"{_four(ns / size)} {unit}"


def _text(cell: object) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.4g}" if abs(cell) < 1000 else f"{cell:,.1f}"
    return str(cell)
