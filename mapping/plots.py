"""Heat maps of a mapping: what cores hold, what links carry. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import MappingError
from pmsm_hw.mapping.assignment import RESOURCES

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Mapping

__all__ = ["plot_mapping", "tile_link_load", "tile_utilisation"]


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
    if resource not in RESOURCES:
        raise MappingError(
            "resource",
            f"{resource!r} is not one of {', '.join(RESOURCES)}",
            remedy="choose one of them",
            actual=resource,
            limit=RESOURCES,
        )
    chip = mapping.chip
    limit = getattr(chip.limits, resource).value
    share = np.zeros((chip.rows, chip.columns))
    for core, used in zip(mapping.cores, mapping.usage[:, RESOURCES.index(resource)], strict=True):
        x, y = chip.tile_of(core)
        share[y, x] += used / limit / chip.mesh.cores_per_tile.value
    return share


def tile_link_load(mapping: Mapping) -> NDArray[np.float64]:
    """Messages over the fullest link that leaves each tile, ``(rows, columns)`` float64."""
    return np.asarray(mapping.link_load.max(axis=2), np.float64)


def plot_mapping(mapping: Mapping, path: str | Path) -> None:
    """Draw the mesh with the share of each resource, and link loads, to a file.

    Parameters
    ----------
    mapping
        Of any network.
    path
        An image file that matplotlib can write: its ending says which kind. Written to a temporary
        file first.
    """
    import matplotlib
    from matplotlib.figure import Figure

    path = Path(path)
    panels = [(name, tile_utilisation(mapping, name), 1.0) for name in RESOURCES]
    load = tile_link_load(mapping)
    panels.append(("link load, messages", load, float(load.max()) or 1.0))
    figure = Figure(figsize=(4 * len(panels), 4))
    for i, (name, values, top) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        image = axes.imshow(values, origin="lower", vmin=0, vmax=top, cmap="viridis")
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("tile x")
        axes.set_ylabel("tile y")
        figure.colorbar(image, ax=axes, shrink=0.7)
    figure.suptitle(f"{mapping.network_name} on {mapping.chip.name}")
    kind = path.suffix.lstrip(".") or matplotlib.rcParams["savefig.format"]
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=f".{kind}")
    os.close(handle)
    try:
        figure.savefig(temporary, format=kind, bbox_inches="tight")
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
