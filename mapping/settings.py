"""What a mapping is made for, and how long it may take: one value for all stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pmsm_hw.mapping.blocks import Objective

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a mapping.

    Parameters
    ----------
    objective
        What is to be low; see `map_network`.
    seed
        The same seed gives the same mapping, where no deadline cuts a search short.
    progress
        Called with a line about what is done.
    deadline
        Says whether time is up: the best that was found so far is then taken.
    """

    objective: Objective = "latency"
    seed: int = 0
    progress: Callable[[str], None] | None = None
    deadline: Callable[[], bool] | None = None

    def say(self, line: str) -> None:
        """Tell what is done, if anyone wants to know."""
        if self.progress is not None:
            self.progress(line)

    @property
    def is_late(self) -> bool:
        """Whether time is up."""
        return self.deadline is not None and self.deadline()
