"""Which mapping a network is run with: the file's own, or one that is made now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from pmsm_hw.cli.models import Opened
from pmsm_hw.cli.terminal import bar

if TYPE_CHECKING:
    from pmsm_hw.mapping import Chip, Mapping
    from pmsm_hw.network import Network

__all__ = ["mapping_of", "place", "split"]

MAPPING_STAGES = 8
"""Lines of progress of a mapping beyond one a population, about."""


def mapping_of(opened: Opened, chip: str | None, objective: str | None, seed: int) -> Mapping:
    """The file's own mapping where neither a chip nor an objective is asked for."""
    own = opened.mapping
    if chip is None and objective is None and own is not None:
        return own
    target = _target(opened, chip)
    return place(opened.network, target, objective or "latency", seed)


def place(network: Network, chip: str | Chip, objective: str, seed: int) -> Mapping:
    """Map a network, drawing progress."""
    from pmsm_hw.mapping import load_chip, map_network

    loaded = load_chip(chip) if isinstance(chip, str) else chip
    with bar(f"mapping onto {loaded.name}") as progress:
        # counted population by population, then some stages for the whole
        n_stages, seen = len(network.populations) + MAPPING_STAGES, 0

        def stage(text: str) -> None:
            nonlocal seen
            seen += 1
            progress.stage(f"mapping onto {loaded.name}: {text}")
            progress.steps(min(seen, n_stages), n_stages)

        return map_network(
            network, loaded, objective=cast(Any, objective), seed=seed, progress=stage
        )


def split(opened: Opened, chip: str | None, *, fan_in: bool, fan_out: bool) -> Opened:
    """Split what no core of the chip can take; the mapping of a file is then not used."""
    if not (fan_in or fan_out):
        return opened
    from pmsm_hw.mapping import load_chip, split_fan_in, split_fan_out

    target = _target(opened, chip)
    target = load_chip(target) if isinstance(target, str) else target
    network = split_fan_in(opened.network, target) if fan_in else opened.network
    if fan_out:
        network = split_fan_out(network, target)
    if network == opened.network:
        return opened
    return replace(opened, network=network, mapping=None)


def _target(opened: Opened, chip: str | None) -> str | Chip:
    """The chip that is asked for, the file's own, or loihi1."""
    if chip is not None:
        return chip
    return "loihi1" if opened.mapping is None else opened.mapping.chip
