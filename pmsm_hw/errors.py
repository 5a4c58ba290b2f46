"""The errors of this package: one root, one subclass per stage.

Every message names the object, its actual value, the limit and a remedy, as in
``population 'fc1': 1,312 neurons exceed 1,024 per core; split it or use chip 'loihi2'``. It is one
line: names come from files, and what they hold must not steer a terminal.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar

__all__ = [
    "CapacityError",
    "ChipFileError",
    "ConversionError",
    "DatasetError",
    "EmulationError",
    "FormatError",
    "InputError",
    "LavaError",
    "MappingError",
    "NetworkError",
    "NeuronModelError",
    "PmsmHwError",
    "QuantizationError",
    "require_extra",
]


class PmsmHwError(Exception):
    """Root of every error that this package raises on purpose.

    Parameters
    ----------
    subject
        The object the error is about, as the user knows it: ``population 'fc1'``.
    problem
        What is wrong with it, with the actual value and the limit.
    remedy
        What to do about it.
    actual, limit
        The two numbers (or names) of the message, for programs.
    """

    _keeps: ClassVar[str] = ""  # what is not escaped, though it is not printable

    def __init__(
        self,
        subject: str,
        problem: str,
        *,
        remedy: str,
        actual: object = None,
        limit: object = None,
    ) -> None:
        super().__init__(_printable(f"{subject}: {problem}; {remedy}", self._keeps))
        self.subject = subject
        self.problem = problem
        self.remedy = remedy
        self.actual = actual
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross process borders, as those of workers do."""
        named = partial(type(self), remedy=self.remedy, actual=self.actual, limit=self.limit)
        return named, (self.subject, self.problem)


def _printable(text: str, keep: str) -> str:
    """Escape line ends, and other characters that are not to be printed."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


class NetworkError(PmsmHwError):
    """A network, population or projection that breaks the contract."""


class NeuronModelError(NetworkError):
    """A neuron model that is declared wrongly, or that a backend has nothing for."""


class InputError(PmsmHwError):
    """Input values or run parameters that a network cannot take."""


class QuantizationError(PmsmHwError):
    """A torch model, or calibration data, that cannot be quantized."""


class ConversionError(PmsmHwError):
    """A torch module or graph that cannot become an integer network."""


class FormatError(PmsmHwError):
    """A file that is not what it should be, or that cannot be written."""


class ChipFileError(PmsmHwError):
    """A chip file that is unknown, incomplete or malformed."""


class MappingError(PmsmHwError):
    """A mapping that does not belong to the network or chip, or cannot be made."""


class CapacityError(MappingError):
    """A network that needs more of a resource than the chip has."""


class EmulationError(PmsmHwError):
    """An emulation that cannot start, or that lost a message."""


class LavaError(PmsmHwError):
    """Lava is missing, failed or did not answer in time; may quote its lines."""

    _keeps = "\n\t"


class DatasetError(PmsmHwError):
    """A data set that is absent, unknown or damaged."""


def require_extra(package: str, extra: str, purpose: str) -> None:
    """Raise `InputError` unless an optional package is installed.

    Parameters
    ----------
    package
        Name that is imported: ``torch``.
    extra
        Extra of this package that brings it.
    purpose
        What needs it, for the message.
    """
    if find_spec(package) is None:
        raise InputError(
            package,
            f"is not installed in this Python, {purpose} needs it",
            remedy=f"pip install 'pmsm-hw[{extra}]'",
            actual="missing",
            limit="installed",
        )
