"""Which Process stands for a neuron model in Lava. Needs no Lava itself.

To add a model: a module in `pmsm_hw.lava.processes` with its Process, a subclass of
`pmsm_hw.lava.processes.populations.NeuronProcess`, and beside it its two models as ``twins`` makes
them; and a registration with `LAVA`, as the files of `pmsm_hw.lava.models` have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pmsm_hw.network import Network, Neurons
from pmsm_hw.neurons import Backend

__all__ = ["LAVA", "LavaNeurons", "check_models"]


@dataclass(frozen=True, kw_only=True)
class LavaNeurons:
    """A neuron model in Lava.

    Parameters
    ----------
    module
        In `pmsm_hw.lava.processes`; imported when it is needed.
    process
        Name of the Process in it.
    """

    module: str
    process: str

    def process_class(self) -> Any:
        """The Process; needs Lava."""
        return getattr(import_module(f"pmsm_hw.lava.processes.{self.module}"), self.process)


LAVA: Backend[LavaNeurons] = Backend(
    "Lava", "run it in the reference or the emulator, or register a Process in pmsm_hw.lava.neurons"
)


def check_models(network: Network) -> None:
    """Raise `NeuronModelError` if Lava has nothing for a population's model.

    Parameters
    ----------
    network
        What is to be run.
    """
    for population in network:
        if isinstance(population, Neurons):
            LAVA.of(population)
