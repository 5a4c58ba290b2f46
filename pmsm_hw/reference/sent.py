"""What populations send: payloads of a run, which projections deliver at once or later."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Routes", "Sent"]

Routes: TypeAlias = list[tuple[int, NDArray[np.int64] | None]]
"""Delays, and the neurons that have them, by number in order of (height, width, channels)."""


class Sent:
    """Payloads of a population.

    Parameters
    ----------
    values
        ``(batch, n_past + n_steps, height, width, channels)``; or one step only, that of a static
        input, which is the same at all steps.
    n_past
        How many of the steps lie before the first one of this run.
    """

    def __init__(self, values: NDArray[Any], n_past: int = 0) -> None:
        self.values, self.n_past = values, n_past

    def __getitem__(self, samples: slice) -> Sent:
        """Of some samples."""
        return Sent(self.values[samples], self.n_past)

    def arriving(self, routes: Routes, first: int, n_steps: int) -> tuple[int, NDArray[Any]] | None:
        """What arrives in some steps.

        Parameters
        ----------
        routes
            Steps on the way, and which neurons take so many; None for all.
        first, n_steps
            Which steps.

        Returns
        -------
        tuple or None
            How many of these steps pass before anything can arrive, and the payloads of those left,
            or the one of all of them; None where nothing can arrive.
        """
        if len(routes) == 1:
            return self._window(routes[0][0], first, n_steps)
        found = [(neurons, self._window(delay, first, n_steps)) for delay, neurons in routes]
        if all(window is None for _, window in found):
            return None
        batch, _, *shape = self.values.shape
        together = np.zeros((batch, n_steps, math.prod(shape)), self.values.dtype)
        for neurons, window in found:
            if window is not None:
                n_before, payload = window
                flat = payload.reshape(*payload.shape[:2], -1)
                together[:, n_before:, neurons] = flat[:, :, neurons]
        return 0, together.reshape(batch, n_steps, *shape)

    def _window(self, delay: int, first: int, n_steps: int) -> tuple[int, NDArray[Any]] | None:
        """See `arriving`, for one delay."""
        begin = self.n_past + first - delay
        n_before = max(0, -begin)
        if n_before >= n_steps:
            return None
        if self.values.shape[1] == 1:
            return n_before, self.values
        return n_before, self.values[:, begin + n_before : begin + n_steps]
