"""Placing a network on a chip: a list of passes, each verified (`passes`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Mapping as MappingType
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from pmsm_hw.arguments import choice, number
from pmsm_hw.errors import MappingError
from pmsm_hw.mapping.arguments import check_network_and_chip, check_seed
from pmsm_hw.mapping.passes import Draft, passes_for, verify
from pmsm_hw.mapping.resources import Resources
from pmsm_hw.mapping.routing.traffic import rates_of
from pmsm_hw.mapping.settings import Settings

if TYPE_CHECKING:
    from pmsm_hw.mapping.assignment import Mapping
    from pmsm_hw.mapping.blocks import Objective
    from pmsm_hw.mapping.chip import Chip
    from pmsm_hw.network import Network

__all__ = ["OBJECTIVES", "map_network"]

OBJECTIVES: tuple[Objective, ...] = ("latency", "energy", "cores")


def map_network(
    network: Network,
    chip: Chip,
    *,
    objective: Objective = "latency",
    traffic: MappingType[str, ArrayLike] | None = None,
    seed: int = 0,
    time_limit_s: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Mapping:
    """Place a network on a chip.

    Parameters
    ----------
    network
        What to place.
    chip
        Where to.
    objective
        ``"cores"`` takes the fewest cores, or up to 4 % more where messages would go further than
        half of chance. ``"latency"`` and ``"energy"`` spread the network over
        free cores of the chips that it needs anyway, where a sample is then expected to be done
        sooner, or with less energy, by the constants of the chip's first profile
        (`objectives.spread`).
    traffic
        Messages of each neuron by population and sample, from a profile run
        (`measured_traffic`); one each by default (`traffic.rates_of`).
    seed
        The same seed gives the same mapping, where no time limit cuts the search short.
    time_limit_s
        Seconds after which the best mapping found so far is taken. A first one is always made, and
        counted exactly, however long that takes.
    progress
        Called with a line about each stage.

    Returns
    -------
    Mapping
        Checked: every neuron is placed once, no limit of any core is exceeded.

    Raises
    ------
    CapacityError
        If a population, or the whole network, does not fit.
    MappingError
        If the chip cannot express the network, or an argument is wrong.
    """
    choice(
        MappingError, "map_network", "objective", objective, OBJECTIVES,
        remedy="choose one of them",
    )  # fmt: skip
    check_network_and_chip(network, chip)
    if len(network.inputs) == len(network.populations):
        raise MappingError(
            f"network '{network.name}'",
            f"has {len(network.inputs):,} populations, all of them inputs: at least 1 that is "
            "placed on a core is needed",
            remedy="add neurons or a readout",
            actual=0,
            limit=1,
        )
    seed = check_seed(seed)
    rates = rates_of(network, traffic)
    settings = Settings(
        objective=objective, seed=seed, progress=progress, deadline=_deadline(time_limit_s)
    )
    draft = Draft(resources=Resources(network, chip), rates=rates, measured=bool(traffic))
    for step in passes_for(settings):
        draft = step.run(draft)
        verify(draft)
    assert draft.mapping is not None
    return draft.mapping


def _deadline(time_limit_s: float | None) -> Callable[[], bool] | None:
    if time_limit_s is None:
        return None
    seconds = number(
        MappingError, "time limit", "time_limit_s", time_limit_s, above=0.0,
        remedy="give seconds, or None for no limit",
    )  # fmt: skip
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
