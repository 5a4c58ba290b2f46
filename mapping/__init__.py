"""Chips, and the placement of networks on them.

``load_chip(name_or_path)`` reads a chip, ``map_network(network, chip)`` places a network on it, and
the result is a `Mapping`. Names are imported on first use, so that the package itself stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Mapping, check
    from pmsm_hw.mapping.blocks import RESOURCES, Block
    from pmsm_hw.mapping.chip import Chip, chip_names, load_chip
    from pmsm_hw.mapping.mapper import map_network
    from pmsm_hw.mapping.plots import plot_mapping
    from pmsm_hw.mapping.resources.connectivity import fan_out
    from pmsm_hw.mapping.routing.traffic import measured_traffic
    from pmsm_hw.mapping.routing.xy import Link, xy_route
    from pmsm_hw.mapping.transforms.fan_in import split_fan_in
    from pmsm_hw.mapping.transforms.fan_out import split_fan_out

_HOMES = {
    "RESOURCES": "blocks",
    "Block": "blocks",
    "Chip": "chip",
    "Link": "routing.xy",
    "Mapping": "assignment",
    "check": "assignment",
    "chip_names": "chip",
    "fan_out": "resources.connectivity",
    "load_chip": "chip",
    "map_network": "mapper",
    "measured_traffic": "routing.traffic",
    "plot_mapping": "plots",
    "split_fan_in": "transforms.fan_in",
    "split_fan_out": "transforms.fan_out",
    "xy_route": "routing.xy",
}

__all__ = [
    "RESOURCES",
    "Block",
    "Chip",
    "Link",
    "Mapping",
    "check",
    "chip_names",
    "fan_out",
    "load_chip",
    "map_network",
    "measured_traffic",
    "plot_mapping",
    "split_fan_in",
    "split_fan_out",
    "xy_route",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
