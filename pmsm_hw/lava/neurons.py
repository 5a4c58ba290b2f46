"""Which Process stands for a neuron model in Lava, and with which arguments. Needs no Lava itself.

To add a model: a module in `pmsm_hw.lava.processes` with its Process, and beside it its two models
(named as it is, and ``Fixed`` or ``Float``) with a common base, as in
`pmsm_hw.lava.processes.neurons`; and a registration with `LAVA`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pmsm_hw.errors import LavaError
from pmsm_hw.network import Network, Neurons, PolarityMultiSpike, Readout
from pmsm_hw.network.projections import require_plain
from pmsm_hw.neurons import Backend

__all__ = ["LAVA", "LavaNeurons", "check_models", "common_arguments"]


@dataclass(frozen=True, kw_only=True)
class LavaNeurons:
    """A neuron model in Lava.

    Parameters
    ----------
    module
        In `pmsm_hw.lava.processes`; imported when it is needed.
    process
        Name of the Process in it.
    arguments
        What the Process is made from, beside what all have in common.
    """

    module: str
    process: str
    arguments: Callable[[Any], dict[str, Any]]

    def process_class(self) -> Any:
        """The Process; needs Lava."""
        return getattr(import_module(f"pmsm_hw.lava.processes.{self.module}"), self.process)


LAVA: Backend[LavaNeurons] = Backend(
    "Lava", "run it in the reference or the emulator, or register a Process in pmsm_hw.lava.neurons"
)


def check_models(network: Network) -> None:
    """Raise `NeuronModelError` if Lava has nothing for a population's model, or `LavaError`.

    Parameters
    ----------
    network
        What is to be run.
    """
    for population in network:
        if isinstance(population, Neurons):
            LAVA.of(population)
    require_plain(network.projections, LavaError, "Lava")


def common_arguments(population: Neurons) -> dict[str, Any]:
    """What every Process of neurons is made from.

    Parameters
    ----------
    population
        Which.
    """
    return {
        "shape": population.shape,
        "saturates": getattr(population, "overflow", "error") == "saturate",
        "name": population.name,
    }


def _polarity_multi_spike(population: PolarityMultiSpike) -> dict[str, Any]:
    return {p.name: getattr(population, p.name) for p in population.model.parameters
            if p.name not in ("spike_mode", "overflow")}  # fmt: skip


LAVA.register(
    PolarityMultiSpike.kind,
    LavaNeurons(module="neurons", process="PolarityMultiSpike", arguments=_polarity_multi_spike),
)
LAVA.register(
    Readout.kind,
    LavaNeurons(module="neurons", process="Readout", arguments=lambda p: {"bias": p.bias}),
)
