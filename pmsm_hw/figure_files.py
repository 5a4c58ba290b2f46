"""Figures as files: PNG, SVG or PDF, the same bytes for the same figure."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from pmsm_hw.files import check_output, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "check_figure", "write_figure"]

FORMATS = (".png", ".svg", ".pdf")
"""Suffixes of figures; a device or pipe without one gets the first."""

_UNDATED = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def check_figure(path: str | os.PathLike[str]) -> None:
    """Refuse a figure that could not be written, before it is drawn.

    Parameters
    ----------
    path
        File to write.

    Raises
    ------
    InputError
        If the suffix is none of `FORMATS`.
    FormatError
        If the file cannot be written.
    """
    check_output(path, "figure", suffixes=FORMATS)


def write_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: int) -> None:
    """Write a figure.

    Parameters
    ----------
    figure
        What to write.
    path
        File ``.png``, ``.svg`` or ``.pdf``.
    dpi
        Pixels per inch, where there are pixels.

    Raises
    ------
    InputError, FormatError
        As `check_figure`.
    """
    import matplotlib

    check_figure(path)
    kind = (Path(path).suffix.lower() or FORMATS[0])[1:]
    drawn = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "pmsm-hw", "svg.fonttype": "path"}):
        figure.savefig(drawn, format=kind, dpi=dpi, metadata=_UNDATED[kind])
    with replacing(path, "figure") as file:
        file.write(drawn.getbuffer())
