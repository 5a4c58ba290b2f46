"""What callers give to mapping: networks, chips and seeds."""

from __future__ import annotations

from pmsm_hw.arguments import instance, integer
from pmsm_hw.errors import MappingError
from pmsm_hw.mapping.chip import Chip
from pmsm_hw.network import Network

__all__ = ["check_network_and_chip", "check_seed"]


def check_network_and_chip(network: object, chip: object) -> None:
    """Raise MappingError unless these are a network and a chip."""
    instance(MappingError, "mapping", "network", network, Network, remedy="give a pmsm_hw.Network")
    instance(
        MappingError, "mapping", "chip", chip, Chip, remedy="give what pmsm_hw.mapping.load_chip "
        "returns",
    )  # fmt: skip


def check_seed(seed: object) -> int:
    """Raise MappingError unless a seed is an integer that every generator takes."""
    return integer(
        MappingError, "mapping", "seed", seed, low=0, high=(1 << 63) - 1,
        remedy="give a whole number",
    )  # fmt: skip
