"""What a run answers: spikes, states, accuracy; and how two answers differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.arguments import names, shown
from pmsm_hw.errors import InputError
from pmsm_hw.network import Network, Neurons, Population
from pmsm_hw.records import Comparable

__all__ = [
    "Activity",
    "Evaluation",
    "Probes",
    "Result",
    "best_index",
    "differing_readouts",
    "differing_spikes",
    "distinct_steps",
    "probed",
    "recorded",
]


def best_index(
    logits: Mapping[str, NDArray[np.float64]], readout: str | None = None
) -> NDArray[np.int64]:
    """Index of the largest logit of each sample; the first one on ties.

    Parameters
    ----------
    logits
        By readout, ``(batch, *shape)``.
    readout
        Name; may be left out where there is one readout.

    Returns
    -------
    ndarray
        ``(batch,)`` int64.

    Raises
    ------
    InputError
        If no name is given for several readouts (or none), or there is no such readout.
    """
    if readout is None and len(logits) == 1:
        (readout,) = logits
    if not isinstance(readout, str) or readout not in logits:
        raise InputError(
            "predictions",
            f"of readout {shown(readout)} were asked for, there are {len(logits)} readouts",
            remedy=f"name one of {', '.join(logits) or '(none)'}",
            actual=readout,
            limit=tuple(logits),
        )
    values = logits[readout]
    best: NDArray[np.int64] = np.argmax(values.reshape(len(values), -1), axis=1)
    return best


@dataclass(frozen=True, kw_only=True, eq=False)
class Result(Comparable):
    """What a network answered.

    Parameters
    ----------
    spikes
        By population, ``(batch, n_steps, *shape)`` int32: the ``k`` (for inputs: the values).
    readouts
        By readout, ``(batch, *shape)`` int64: ``v`` after the last step.
    logits
        By readout, ``(batch, *shape)`` float64: ``readouts * scale / n_steps``.
    saturations
        By population, how many neurons x steps x samples were clipped to the state's width.
    n_steps
        Number of steps T.
    states
        By population that was probed, and state variable: ``(batch, n_steps, *shape)`` int32, after
        each step.
    """

    spikes: Mapping[str, NDArray[np.int32]]
    readouts: Mapping[str, NDArray[np.int64]]
    logits: Mapping[str, NDArray[np.float64]]
    saturations: Mapping[str, int]
    n_steps: int
    states: Mapping[str, Mapping[str, NDArray[np.int32]]] = field(default_factory=dict)

    def predictions(self, readout: str | None = None) -> NDArray[np.int64]:
        """Index of the largest logit of each sample, ``(batch,)``; the first one on ties.

        Parameters
        ----------
        readout
            Name; may be left out where the network has one readout.
        """
        return best_index(self.logits, readout)

    def __repr__(self) -> str:
        spikes, readouts = (
            ", ".join(f"{name}[{'x'.join(map(str, a.shape))}]" for name, a in arrays.items())
            for arrays in (dict[str, NDArray[Any]](self.spikes), dict(self.readouts))
        )
        return f"<Result of {self.n_steps} steps: spikes {spikes}; readouts {readouts}>"


class Activity:
    """What one population did over all samples and steps.

    Parameters
    ----------
    population
        Whose.
    spikes, active
        ``(batch, n_steps, height, width, channels)``, integer and bool.
    state
        By state variable, ``(batch, height, width, channels)``, integer-valued.
    saturations
        Neurons x steps x samples whose value left the state's width.
    probes
        By state variable that is probed, ``(batch, n_steps, height, width, channels)``.
    """

    def __init__(
        self,
        population: Population,
        spikes: NDArray[Any],
        active: NDArray[np.bool_] | None,
        state: Mapping[str, NDArray[Any]],
        saturations: int = 0,
        probes: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self._probes = probes or {}
        self.name = population.name
        self.saturations = saturations
        self._population = population
        self._spikes, self._active, self._state = spikes, active, state

    @cached_property
    def spikes(self) -> NDArray[np.int32]:
        """``(batch, n_steps, *shape)`` int32: the ``k``; values for inputs, zeros for readouts."""
        return self._channels_first(self._spikes, np.int32)

    @cached_property
    def active(self) -> NDArray[np.bool_]:
        """Which neuron updates were active, ``(batch, n_steps, *shape)`` bool.

        An update is active if its summed input plus bias was not zero, or if it fired. For an
        input: values other than zero.
        """
        if self._active is None:
            return np.not_equal(self.spikes, 0)
        return self._channels_first(self._active, np.bool_)

    @cached_property
    def states(self) -> Mapping[str, NDArray[np.int64]]:
        """By state variable, ``(batch, *shape)`` int64, after the last step."""
        # copies: states that are int64 already lie where the thread's next ones will
        return {
            name: self._channels_first(values, np.int64).copy()
            for name, values in self._state.items()
        }

    @cached_property
    def probes(self) -> Mapping[str, NDArray[np.int32]]:
        """By state variable that is probed, ``(batch, n_steps, *shape)`` int32, after each step."""
        return {
            name: self._channels_first(values, np.int32) for name, values in self._probes.items()
        }

    @property
    def state(self) -> NDArray[np.int64]:
        """``(batch, *shape)`` int64: ``v`` after the last step (zeros for an input)."""
        if "v" not in self._state:
            return np.zeros((len(self._spikes), *self._population.shape), np.int64)
        return self.states["v"]

    @property
    def channels_last(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Spikes and active updates as they were computed, without a copy.

        ``(batch, n_steps, height, width, channels)``, spikes in the smallest type that suits.
        """
        active = np.not_equal(self._spikes, 0) if self._active is None else self._active
        return self._spikes, active

    def counts(self) -> tuple[int, int]:
        """Neurons x steps x samples that fired, and the sum of their absolute spikes."""
        absolute = np.abs(self._spikes.astype(np.int32, copy=False))
        return int(np.count_nonzero(absolute)), int(absolute.sum(dtype=np.int64))

    def _channels_first(self, array: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
        shape = (*array.shape[:-3], *self._population.shape)
        once = distinct_steps(array)  # a static input stays a view of its one step
        n = once.ndim
        last = once.transpose(*range(n - 3), n - 1, n - 3, n - 2)
        first = np.ascontiguousarray(last, dtype=dtype)
        return np.broadcast_to(first.reshape(*once.shape[:-3], *self._population.shape), shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(Comparable):
    """How a network does on a data set.

    Parameters
    ----------
    n_samples, n_steps
        How many samples, and steps for each.
    accuracy
        Share of samples whose largest logit is that of their label, 0..1.
    predictions
        ``(n_samples,)`` int64.
    spikes_per_sample
        By population: mean of the sum of ``|k|`` (of ``|value|``, for inputs).
    sparsity
        By population: share of neurons x steps x samples that did not fire, 0..1.
    saturations
        By population, where there were any.
    """

    n_samples: int
    n_steps: int
    accuracy: float
    predictions: NDArray[np.int64] = field(repr=False)
    spikes_per_sample: Mapping[str, float]
    sparsity: Mapping[str, float]
    saturations: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the predictions, for JSON."""
        return {
            "n_samples": self.n_samples,
            "n_steps": self.n_steps,
            "accuracy": self.accuracy,
            "spikes_per_sample": dict(self.spikes_per_sample),
            "sparsity": dict(self.sparsity),
            "saturations": dict(self.saturations),
        }

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.__str__)

    def __str__(self) -> str:
        from pmsm_hw.tables import table

        rows = [
            (name, self.spikes_per_sample[name], f"{100 * share:.1f} %")
            for name, share in self.sparsity.items()
        ]
        title = (
            f"accuracy {100 * self.accuracy:.2f} % of {self.n_samples:,} samples, "
            f"{self.n_steps} {'step' if self.n_steps == 1 else 'steps'}"
        )
        return table(("population", "spikes per sample", "silent"), rows, title=title)


def recorded(network: Network, record: Iterable[str]) -> tuple[str, ...]:
    """Names of populations to record, each of which must be there.

    Parameters
    ----------
    network, record
        As for `run`.
    """
    given = names(InputError, "record", record)
    for name in given:
        network[name]  # raises for unknown names
    return given


Probes: TypeAlias = Mapping[str, Iterable[str]]
"""State variables to return, by population."""


def probed(network: Network, probes: Probes | None) -> dict[str, tuple[str, ...]]:
    """State variables to return, by population, each of which must be there.

    Parameters
    ----------
    network, probes
        As for `run`.

    Raises
    ------
    InputError
        If a population has no such state.
    NetworkError
        If there is no such population.
    """
    if probes is None:
        return {}
    if not isinstance(probes, Mapping):
        raise InputError(
            "run",
            f"probes {shown(probes)} are no mapping",
            remedy="give state variables by population, as {'a': ('u', 'v')}",
            actual=type(probes).__name__,
            limit="a mapping",
        )
    found = {}
    for name, variables in probes.items():
        population = network[name]
        has = tuple(population.model.start(population)) if isinstance(population, Neurons) else ()
        given = names(InputError, "probes", variables)
        for variable in given:
            if variable not in has:
                raise InputError(
                    population.subject,
                    f"has no state {shown(variable)} to probe",
                    remedy=f"choose from {', '.join(has) or '(none: it is an input)'}",
                    actual=variable,
                    limit=has,
                )
        found[name] = given
    return found


def differing_spikes(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> int:
    """Count the neurons x steps x samples whose spikes differ between two backends.

    Parameters
    ----------
    a, b
        Spikes by population, as in `Result.spikes`.

    Raises
    ------
    InputError
        If they do not hold the same populations in the same shapes: nothing could be compared.
    """
    return _differing("spikes", a, b)


def differing_readouts(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> int:
    """Count the neurons x samples whose state after the last step differs between two backends.

    Parameters
    ----------
    a, b
        States by readout, as in `Result.readouts`.

    Raises
    ------
    InputError
        If they do not hold the same readouts in the same shapes: nothing could be compared.
    """
    return _differing("readouts", a, b)


def _differing(what: str, a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> int:
    shapes_a, shapes_b = ({name: k.shape for name, k in x.items()} for x in (a, b))
    if shapes_a != shapes_b:
        raise InputError(
            what,
            f"of {shapes_a} cannot be compared with those of {shapes_b}",
            remedy="record the same populations over the same samples and steps",
            actual=shapes_a,
            limit=shapes_b,
        )
    return sum(int(np.count_nonzero(a[name] != b[name])) for name in a)


def distinct_steps(values: NDArray[Any]) -> NDArray[Any]:
    """The one step of a static input, else all steps (axis 1)."""
    return values[:, :1] if values.shape[1] > 1 and values.strides[1] == 0 else values
