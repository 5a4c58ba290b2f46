"""Heat maps of a mapping: what cores hold, what links carry. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.arguments import choice, instance
from pmsm_hw.errors import MappingError
from pmsm_hw.figure_files import check_figure, write_figure
from pmsm_hw.mapping.assignment import Mapping
from pmsm_hw.mapping.blocks import RESOURCES
from pmsm_hw.mapping.routing.xy import EAST, NORTH, SOUTH, WEST
from pmsm_hw.tables import figure_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


__all__ = ["plot_mapping", "tile_utilisation"]


def tile_utilisation(mapping: Mapping, resource: str) -> NDArray[np.float64]:
    """Mean share of a resource that the cores of each tile hold.

    Parameters
    ----------
    mapping
        Of any network.
    resource
        One of `RESOURCES`.

    Returns
    -------
    ndarray
        ``(rows, columns)`` float64 in [0, 1] over the board-wide mesh.

    Raises
    ------
    MappingError
        If there is no such resource.
    """
    choice(MappingError, "map", "resource", resource, RESOURCES, remedy="choose one of them")
    chip = mapping.chip
    limit = getattr(chip.limits, resource).value
    share = np.zeros((chip.rows, chip.columns))
    for core, used in zip(mapping.cores, mapping.usage[:, RESOURCES.index(resource)], strict=True):
        x, y = chip.tile_of(core)
        share[y, x] += used / limit / chip.mesh.cores_per_tile.value
    return share


def plot_mapping(mapping: Mapping, path: str | Path | None = None) -> Figure:
    """Draw the mesh: the share of each resource that tiles hold, and the load of links.

    Of a board, the chips in use are drawn; lines part them.

    Parameters
    ----------
    mapping
        Of any network.
    path
        File ``.png``, ``.svg`` or ``.pdf``. Without one, nothing is written.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each of `RESOURCES`, and one for the links.

    Raises
    ------
    InputError
        If the suffix is another one.
    FormatError
        If the file cannot be written.
    """
    from matplotlib.figure import Figure

    instance(
        MappingError, "figure", "mapping", mapping, Mapping, remedy="give what map_network returned"
    )
    if path is not None:
        check_figure(path)

    columns, rows = _extent(mapping)
    n_panels = len(RESOURCES) + 1
    # no wider than a page, so that text is shown at its own size; wide boards take a row a panel
    ratio = min(max(rows / columns, 0.2), 2.0)
    across = 1 if ratio < 0.5 else 2 if ratio < 1.5 else 3
    down = -(-n_panels // across)
    width = 9.2 / across
    figure = Figure(figsize=(9.2, down * ((width - 1.2) * ratio + 1.2)), layout="constrained")
    for i, name in enumerate(RESOURCES):
        axes = figure.add_subplot(down, across, i + 1)
        share = 100 * tile_utilisation(mapping, name)[:rows, :columns]
        top = float(share.max()) or 100.0  # the fullest tile: of little, differences are seen too
        image = axes.imshow(share, origin="lower", vmin=0, vmax=top, cmap="cividis")
        _mesh(axes, mapping, columns, rows)
        axes.set_title(name.replace("_", " ").removesuffix(" bits"))
        figure.colorbar(image, ax=axes, shrink=0.8, label="used, % of limit")
    axes = figure.add_subplot(down, across, n_panels)
    _draw_links(figure, axes, mapping, columns, rows)
    _mesh(axes, mapping, columns, rows)
    axes.set_title("links between tiles")
    n_chips = len({mapping.position(core)[0] for core in mapping.cores})
    figure.suptitle(
        f"{figure_text(mapping.network_name)} on {figure_text(mapping.chip.name)}: "
        f"{len(mapping.cores):,} cores on "
        f"{mapping.n_tiles:,} tiles of {n_chips:,} chip{'s' if n_chips > 1 else ''}"
    )
    if path is not None:
        write_figure(figure, path, dpi=120)
    return figure


def _extent(mapping: Mapping) -> tuple[int, int]:
    """Columns and rows of tiles of the chips in use, counted from the first chip."""
    mesh = mapping.chip.mesh
    tiles = np.array([mapping.chip.tile_of(core) for core in mapping.cores]).reshape(-1, 2)
    x, y = tiles.max(axis=0, initial=0).tolist()
    width, height = mesh.columns.value, mesh.rows.value
    return (x // width + 1) * width, (y // height + 1) * height


def _mesh(axes: Axes, mapping: Mapping, columns: int, rows: int) -> None:
    """Labels, whole numbers at the ticks, the I/O port, and lines between chips."""
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator

    mesh = mapping.chip.mesh
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)
    axes.set_aspect("equal")
    axes.set_xlabel("tile x")
    axes.set_ylabel("tile y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    n_ticks = max(1, min(9, round(16 * rows / columns)))  # room for the height of a label each
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=n_ticks))
    for x in range(mesh.columns.value, columns, mesh.columns.value):
        axes.axvline(x - 0.5, color="white", linewidth=1.2)
        axes.axvline(x - 0.5, color="black", linewidth=0.6, linestyle="--")
    for y in range(mesh.rows.value, rows, mesh.rows.value):
        axes.axhline(y - 0.5, color="white", linewidth=1.2)
        axes.axhline(y - 0.5, color="black", linewidth=0.6, linestyle="--")
    x, y = mapping.io_position
    # white with a black rim is read on every colour of the map
    rim = [withStroke(linewidth=2.5, foreground="black")]
    axes.plot(
        [x], [y], marker="s", markersize=7, markerfacecolor="none", markeredgecolor="white",
        path_effects=rim,
    )  # fmt: skip
    axes.annotate(
        "I/O", (x, y), xytext=(5, 5), textcoords="offset points", color="white", fontsize=8,
        path_effects=rim,
    )  # fmt: skip


def _draw_links(figure: Figure, axes: Axes, mapping: Mapping, columns: int, rows: int) -> None:
    """A line for each pair of neighbours, coloured by the fuller of its two directions."""
    from matplotlib.collections import LineCollection

    load = mapping.link_load[:rows, :columns]
    across = np.maximum(load[:, :-1, EAST], load[:, 1:, WEST])
    up = np.maximum(load[:-1, :, NORTH], load[1:, :, SOUTH])
    lines = [[(x, y), (x + 1, y)] for y, x in np.ndindex(across.shape)]
    lines += [[(x, y), (x, y + 1)] for y, x in np.ndindex(up.shape)]
    values = np.concatenate([across.reshape(-1), up.reshape(-1)])
    top = float(values.max(initial=0.0)) or 1.0
    width = max(1.0, min(8.0, 90.0 / max(columns, rows)))
    found = LineCollection(lines, cmap="cividis", linewidths=width)
    found.set_array(values)
    found.set_clim(0, top)
    axes.add_collection(found)
    axes.set_facecolor("0.9")
    figure.colorbar(found, ax=axes, shrink=0.8, label="messages over the fuller direction")
