"""What Lava processes write down as the steps go by, in files mapped into memory.

They outlive the processes, and reading a Var takes a message per value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["Recorder"]


class Recorder:
    """Rows of ``.npy`` files.

    ``spikes``: ``(n_steps, *shape)``, the ``k`` of each step; ``state NAME``: a state variable
    after each step, or, in a file of fewer rows, after the last step of each sample;
    ``saturations`` and ``progress``: one int64.

    Parameters
    ----------
    files
        Paths, by what is written there.
    n_steps
        Steps that there are in all.
    """

    def __init__(self, files: Mapping[str, str], n_steps: int) -> None:
        self.files = {what: np.load(path, mmap_mode="r+") for what, path in files.items()}
        self.n_steps = n_steps

    def write(self, what: str, step: int, value: Any) -> None:
        """Write the row of a step, if there is one.

        Parameters
        ----------
        what
            Is written.
        step
            Number of the step, from 0.
        value
            Of the row's shape.
        """
        file = self.files.get(what)
        if file is not None:
            row, left = divmod(step + 1, self.n_steps // len(file))
            if left == 0:
                file[row - 1] = value

    def count(self, what: str, value: int) -> None:
        """Write a single number.

        Parameters
        ----------
        what
            Is counted.
        value
            So far.
        """
        file = self.files.get(what)
        if file is not None:
            file[0] = value
