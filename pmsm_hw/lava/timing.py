"""When populations act in a Lava graph. Needs no Lava itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pmsm_hw.lava.options import Granularity
from pmsm_hw.network import Identity, Input, Network, Projection

__all__ = ["Timing", "is_direct", "timing_of"]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When populations and samples begin.

    Parameters
    ----------
    granularity
        Of the graph.
    n_steps
        Steps T of each sample.
    n_samples
        How many; None: not known.
    carry_state
        Whether samples go on from each other's state.
    longest
        Steps at most, up to which the network's state is proven.
    depths
        By population, the hardware step in which it begins.
    """

    granularity: Granularity
    n_steps: int
    n_samples: int | None
    carry_state: bool
    longest: int
    depths: Mapping[str, int]

    @property
    def interval(self) -> int:
        """Steps after which the state starts again."""
        if not self.carry_state:
            return self.n_steps
        return self.longest if self.n_samples is None else self.n_steps * self.n_samples

    @property
    def is_single(self) -> bool:
        """Whether the state starts once only."""
        return self.carry_state or self.n_samples == 1

    def lag(self, projection: Projection) -> int:
        """Hardware steps from sending to integration.

        Parameters
        ----------
        projection
            Of the network.
        """
        return self.depths[projection.target] - self.depths[projection.source] + projection.delay


def is_direct(network: Network, projection: Projection) -> bool:
    """Whether a projection passes the values of an input on as they are, in their own step.

    Parameters
    ----------
    network
        Which it belongs to.
    projection
        Which.
    """
    return (
        isinstance(projection, Identity)
        and isinstance(network[projection.source], Input)
        and projection.delay == projection.weight_exponent == 0
        and bool((projection.weight == 1).all())
    )


def timing_of(
    network: Network,
    granularity: Granularity,
    n_steps: int,
    n_samples: int | None,
    *,
    carry_state: bool,
) -> Timing:
    """When populations act.

    Each at its depth; but in a fine graph of a network written in the chip's own time, where each
    projection has a delay or passes an input on as it is, all from the first step on.

    Parameters
    ----------
    network
        Which.
    granularity, n_steps, n_samples, carry_state
        As for `Timing`.
    """
    in_own_time = granularity == "fine" and all(
        p.delay > 0 or is_direct(network, p) for p in network.projections
    )
    depths = dict.fromkeys(network.depths, 0) if in_own_time else network.depths
    return Timing(
        granularity=granularity, n_steps=n_steps, n_samples=n_samples, carry_state=carry_state,
        longest=network.max_steps, depths=depths,
    )  # fmt: skip
