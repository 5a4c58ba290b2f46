"""Which Process stands for a neuron model in Lava. Needs no Lava itself.

To add a model: a module in `pmsm_hw.lava.processes` with its Process, a subclass of
`pmsm_hw.lava.processes.populations.NeuronProcess`, and beside it its two models as ``twins`` makes
them; and a registration with `LAVA`, as the files of `pmsm_hw.lava.models` have it. Where Lava has
a process of its own for the model, the registration says when that is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from pmsm_hw.errors import LavaError
from pmsm_hw.lava.arithmetic import largest_drive
from pmsm_hw.lava.options import Choice
from pmsm_hw.lava.timing import Timing
from pmsm_hw.network import Network, Neurons
from pmsm_hw.neurons import Backend

__all__ = ["LAVA", "LavaNeurons", "LavasOwn", "Situation", "check_models", "lavas_own"]


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A population in the graph that is to be built.

    Parameters
    ----------
    timing
        When samples begin.
    first
        Hardware step in which the population begins.
    silent_before
        Whether nothing reaches it before it begins.
    drive_max
        Bound on the absolute sum of its inputs in a step.
    bound
        Of `pmsm_hw.network.Network.bounds`.
    """

    timing: Timing
    first: int
    silent_before: bool
    drive_max: int
    bound: Any

    @property
    def starts_clean(self) -> bool:
        """Whether Lava's state is still that of its start when the population begins.

        For neurons that are at rest without input.
        """
        return self.first == 0 or self.silent_before


@dataclass(frozen=True, kw_only=True)
class LavasOwn:
    """A process of Lava's own that computes what a population does.

    Parameters
    ----------
    module, process
        Where it is, and its name.
    arguments
        What it is made from, beside its shape.
    sends
        What its port ``s_out`` sends: ``"spikes"`` (payloads that are the spikes), or
        ``"state NAME"``.
    states
        Its Vars, by the model's state variables.
    limits
        By state variable and ``"spikes"``, the range within which Lava's is right, where it is not
        proven that it is never left.
    silent
        Whether it sends nothing before the population begins.
    """

    module: str
    process: str
    arguments: Mapping[str, Any]
    sends: str = "spikes"
    states: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    silent: bool = True

    @property
    def title(self) -> str:
        """Module and name."""
        return f"{self.module}.{self.process}"


@dataclass(frozen=True, kw_only=True)
class LavaNeurons:
    """A neuron model in Lava.

    Parameters
    ----------
    module
        In `pmsm_hw.lava.processes`; imported when it is needed.
    process
        Name of the Process in it.
    lavas_own
        Process of Lava's own that computes the same for a population, or in what it differs. None:
        there is none.
    """

    module: str
    process: str
    lavas_own: Callable[[Any, Situation], LavasOwn | str] | None = None

    @property
    def title(self) -> str:
        """Module and name of our Process."""
        return f"pmsm_hw.lava.processes.{self.module}.{self.process}"

    def process_class(self) -> Any:
        """Our Process; needs Lava."""
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


def lavas_own(network: Network, timing: Timing, choice: Choice) -> dict[str, LavasOwn]:
    """For which populations a process of Lava's own is to stand.

    Parameters
    ----------
    network
        Which.
    timing
        When populations begin, and samples.
    choice
        ``"own"``: none; ``"auto"``: where it is proven to compute the same; ``"lava"``: all.

    Returns
    -------
    dict
        By name of the population.

    Raises
    ------
    LavaError
        With ``"lava"``, if Lava has no process that computes the same.
    """
    found: dict[str, LavasOwn] = {}
    silent = {p.name: True for p in network}
    if choice == "own" or timing.granularity != "fine":
        return found
    for population in network.topological:
        if not isinstance(population, Neurons):
            continue
        model, name = LAVA.of(population), population.name
        own: LavasOwn | str = f"have nothing for neuron model '{population.kind}'"
        if model.lavas_own is not None:
            situation = Situation(
                timing=timing,
                first=timing.depths[name],
                silent_before=all(
                    silent[p.source] for p in network.into(name) if p.delay == 0
                ),
                drive_max=largest_drive(network, name),
                bound=network.bounds[name],
            )  # fmt: skip
            own = model.lavas_own(population, situation)
        if isinstance(own, LavasOwn) and (not own.limits or choice == "lava"):
            found[name], silent[name] = own, own.silent
        elif isinstance(own, str) and choice == "lava":
            raise LavaError(
                population.subject,
                f"Lava's own processes {own}",
                remedy="give neurons='auto': ours stand where Lava's differ",
                actual=population.kind,
                limit="what Lava's own processes compute",
            )
    return found
