"""Plain text tables for people; rich draws them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

__all__ = ["table"]


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
    from rich import box
    from rich.console import Console
    from rich.table import Table

    cells = [list(row) for row in rows]
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


def _text(cell: object) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.4g}" if abs(cell) < 1000 else f"{cell:,.1f}"
    return str(cell)
