"""What reaches a population, in units of its state."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pmsm_hw.convert.rounding import RoundedNeurons, RoundedReadout
from pmsm_hw.nn.drives import applied

__all__ = ["summed"]


def summed(population: RoundedNeurons | RoundedReadout, payloads: Mapping[str, Tensor]) -> Tensor:
    """Summed input plus bias, in units of state: ``(batch, *shape)``.

    Parameters
    ----------
    population
        Rounded.
    payloads
        By population, of all its sources.
    """
    shape = population.plan.shape
    total: Tensor | None = None
    for projection in population.projections:
        sent, factor = payloads[projection.source], float(1 << projection.exponent)
        part = applied(projection.map, sent, shape, factor)
        total = part if total is None else total + part
    any_payload = next(iter(payloads.values()))
    bias = population.bias.to(any_payload.dtype)
    if total is None:
        return bias.expand(len(any_payload), *shape)
    return total + bias
