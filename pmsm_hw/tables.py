"""Tables for people: as plain text, which rich draws, and as HTML for notebooks."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from html import escape

__all__ = ["figure_text", "html_table", "notebook", "table"]

_HTML: ContextVar[list[str] | None] = ContextVar("_HTML", default=None)
"""Where tables go as HTML while `notebook` calls for a text; None: tables are text."""

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
        As many columns wide as its content needs, without a trailing newline.
    """
    cells = [list(row) for row in rows]
    tables = _HTML.get()
    if tables is not None:
        tables.append(html_table(header, cells, title=title))
        return _PLACE
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
    body = "\n".join(line for line in lines if line)
    return f"{title}\n{body}" if title else body


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


def _text(cell: object) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.4g}" if abs(cell) < 1000 else f"{cell:,.1f}"
    return str(cell)
