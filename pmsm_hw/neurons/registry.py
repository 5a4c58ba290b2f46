"""Which neuron models there are, and what each backend has for them.

A backend (Lava, NIR, ...) keeps a `Backend` in its own package, and registers there what it has for
a model: nothing here knows of backends, and no model does.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Generic, TypeVar

from pmsm_hw.errors import NeuronModelError
from pmsm_hw.network.populations import POPULATION_KINDS, Population
from pmsm_hw.neurons.model import Neurons

__all__ = ["Backend", "models", "register", "unregister"]

_Model = TypeVar("_Model", bound=type[Neurons])
_T = TypeVar("_T")


def register(model: _Model) -> _Model:
    """Make a neuron model known; networks, files and backends take it from then on.

    Parameters
    ----------
    model
        A subclass of `Neurons`, with a ``kind`` of its own and a `NeuronModel`.

    Returns
    -------
    type
        The same, so that this can decorate it.

    Raises
    ------
    NeuronModelError
        If there is another model of that kind, or fields and declared parameters differ.
    """
    kind, subject = model.kind, f"neuron model '{model.kind}'"
    if not kind.isidentifier() or kind in POPULATION_KINDS:
        known = "is known already" if kind in POPULATION_KINDS else "is not an identifier"
        raise NeuronModelError(
            subject,
            f"its kind {kind!r} {known}",
            remedy="choose another kind, an identifier",
            actual=kind,
            limit=tuple(POPULATION_KINDS),
        )
    given = [f.name for f in fields(model) if f.name not in ("name", "shape")]
    declared = [p.name for p in model.model.parameters]
    if sorted(given) != sorted(declared):
        raise NeuronModelError(
            subject,
            f"has the fields {', '.join(given)}, and declares the parameters {', '.join(declared)}",
            remedy="declare each field, and nothing else",
            actual=tuple(given),
            limit=tuple(declared),
        )
    POPULATION_KINDS[kind] = model
    return model


def unregister(model: type[Neurons]) -> None:
    """Forget a neuron model, as tests do with their own.

    Parameters
    ----------
    model
        Which.
    """
    if POPULATION_KINDS.get(model.kind) is model:
        del POPULATION_KINDS[model.kind]


def models() -> dict[str, type[Neurons]]:
    """All neuron models, by kind."""
    return {kind: of for kind, of in POPULATION_KINDS.items() if issubclass(of, Neurons)}


class Backend(Generic[_T]):
    """What a backend has for each neuron model that it knows.

    Parameters
    ----------
    name
        Of the backend, for messages.
    remedy
        What to do where a model is missing.
    """

    def __init__(self, name: str, remedy: str) -> None:
        self.name, self.remedy = name, remedy
        self._of: dict[str, _T] = {}

    def register(self, kind: str, implementation: _T) -> None:
        """Say what the backend has for a model.

        Parameters
        ----------
        kind
            Of the model.
        implementation
            In the form that the backend documents.
        """
        self._of[kind] = implementation

    def unregister(self, kind: str) -> None:
        """Forget what it has for a model.

        Parameters
        ----------
        kind
            Of the model.
        """
        self._of.pop(kind, None)

    def find(self, population: Population) -> _T | None:
        """What the backend has for a population's model, or None.

        Parameters
        ----------
        population
            Which.
        """
        return self._of.get(population.kind)

    def of(self, population: Population) -> _T:
        """What the backend has for a population's model.

        Parameters
        ----------
        population
            Which.

        Raises
        ------
        NeuronModelError
            If it has nothing.
        """
        found = self._of.get(population.kind)
        if found is None:
            raise NeuronModelError(
                population.subject,
                f"{self.name} has nothing for neuron model '{population.kind}', only for "
                f"{', '.join(sorted(self._of)) or 'none'}",
                remedy=self.remedy,
                actual=population.kind,
                limit=tuple(sorted(self._of)),
            )
        return found

    def values(self) -> tuple[_T, ...]:
        """All that it has, in the order in which it was registered."""
        return tuple(self._of.values())

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the models that it has something for."""
        return tuple(sorted(self._of))
