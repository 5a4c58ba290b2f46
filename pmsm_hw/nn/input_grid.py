"""Scale and levels of an input population: what is not given follows from the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pmsm_hw.arguments import number, pair
from pmsm_hw.errors import PmsmHwError
from pmsm_hw.network import STATE_MAX, STATE_MIN

__all__ = ["check_grid", "input_grid"]

Grid = tuple[float, tuple[int, int]]


def check_grid(
    scale: Any, levels: Any, error: type[PmsmHwError]
) -> tuple[float | None, tuple[int, int] | None]:
    """Check ``input_scale`` and ``input_levels`` as they were given.

    Parameters
    ----------
    scale, levels
        None where not given.
    error
        What to raise.
    """
    if scale is not None:
        remedy = "give the real value of one unit"
        scale = number(error, "input", "input_scale", scale, above=0, remedy=remedy)
    if levels is not None:
        remedy = "give the smallest and the largest value in units, lo <= 0 < hi or lo < 0 <= hi"
        lo, hi = pair(error, "input", "input_levels", levels, remedy=remedy)
        if not (STATE_MIN <= lo <= 0 <= hi <= STATE_MAX) or lo == hi:
            raise error(
                "input",
                f"input_levels {(lo, hi)} are not (lo, hi) with lo <= 0 <= hi, lo < hi, within 24 "
                "bits",
                remedy=remedy,
                actual=(lo, hi),
                limit=(STATE_MIN, STATE_MAX),
            )
        levels = lo, hi
    return scale, levels


def input_grid(
    x: Tensor,
    scale: float | None,
    levels: tuple[int, int] | None,
    error: type[PmsmHwError],
) -> Grid:
    """Real value of one unit, and smallest and largest value in units.

    Neither given: 8 bits that span the data, ``(0, 255)`` or, with negative values,
    ``(-127, 127)``. Scale alone: the fewest levels that hold the data. Levels alone: the scale that
    makes the largest absolute value the outermost level.

    Parameters
    ----------
    x
        Data of the input; not looked at where both are given.
    scale, levels
        From `check_grid`.
    error
        What to raise.
    """
    if scale is not None and levels is not None:
        return scale, levels
    largest = float(x.abs().max()) if x.numel() else 0.0
    if largest == 0.0:
        raise error(
            "calibration",
            "the largest absolute input is 0, it must be positive",
            remedy="calibrate with data, or give input_scale and input_levels",
            actual=largest,
            limit="> 0",
        )
    if scale is None:
        if levels is None:
            levels = (-127, 127) if bool((x < 0).any()) else (0, 255)
        return largest / max(abs(levels[0]), abs(levels[1])), levels
    units = torch.round(x.detach().to(torch.float64) / scale)
    lo, hi = min(float(units.min()), 0.0), max(float(units.max()), 0.0)
    if not (lo >= STATE_MIN and hi <= STATE_MAX) or lo == hi:
        raise error(
            "input",
            f"input_scale {scale:g} puts the calibration batch, whose largest absolute value is "
            f"{largest:g}, into levels [{lo:.6g}, {hi:.6g}]: limits 1 and 24 bits",
            remedy="give the real value of one unit of these data",
            actual=scale,
            limit=(1, STATE_MAX),
        )
    return scale, (int(lo), int(hi))
