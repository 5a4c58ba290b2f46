"""What populations send: payloads of a run, which projections deliver at once or later."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

__all__ = ["Sent"]


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

    def arriving(self, delay: int, first: int, n_steps: int) -> tuple[int, NDArray[Any]] | None:
        """What arrives in some steps.

        Parameters
        ----------
        delay
            Steps on the way.
        first, n_steps
            Which steps.

        Returns
        -------
        tuple or None
            How many of these steps pass before anything can arrive, and the payloads of those left,
            or the one of all of them; None where nothing can arrive.
        """
        begin = self.n_past + first - delay
        n_before = max(0, -begin)
        if n_before >= n_steps:
            return None
        if self.values.shape[1] == 1:
            return n_before, self.values
        return n_before, self.values[:, begin + n_before : begin + n_steps]
