"""Tables of the compiled searches: rows with named columns, of populations, wires and cuts."""

from __future__ import annotations

import numpy as np

__all__ = ["CHOICE", "HELD", "POPULATION", "WEIGHTS", "WIRE"]

POPULATION = np.dtype(
    [
        (name, np.int64)
        for name in (
            "channels", "height", "width", "row_parts", "column_parts", "row_choices",
            "column_choices", "first_cell", "first_fit", "compartments",
        )
    ]
)  # fmt: skip
"""A population: its size; where its numbers of rows and columns are among the parts, and how many;
where its cells and its part of `cut_kernels.Table.fit` start; compartments of each neuron."""

WIRE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "dense", "groups", "channels", "group_in", "group_out", "units", "signs", "pixel",
            "plain", "entries", "neurons",
        )
    ]
)  # fmt: skip
"""A wire. Dense? Groups, source channels (dense: source neurons that have weights), those of a
group in and out, axons (dense), signs, pixel axons? plain axons? entries, source neurons (dense).
"""

WEIGHTS = np.dtype([(name, np.float64) for name in ("bits", "density", "reaching")])
"""A wire's weights: bits of one, share of those other than zero, and of the channels they reach."""

CHOICE = np.dtype([(name, np.int64) for name in ("rows", "columns", "width", "equal")])
"""A population's cut in a search: indices of its numbers of rows and columns, channels of a block,
and whether those of a cell are to be equal."""

HELD = np.dtype([(name, np.int64) for name in ("first", "end", "limit")])
"""Things of which a core may hold only so many: their columns, and the limit."""
