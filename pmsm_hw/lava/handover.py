"""Inputs and results as files, between the caller and the child: arrays and JSON, never pickles."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.files import replacing
from pmsm_hw.lava.results import LavaResult

__all__ = ["NO_LAVA", "NO_ROOM", "read_result", "read_units", "write_result", "write_units"]

NO_LAVA = 3
"""Exit status of a child that cannot import lava-nc."""

NO_ROOM = 4
"""Exit status of a child that cannot write its files."""


def write_units(path: Path, units: Mapping[str, NDArray[np.int32]]) -> None:
    """Write inputs in units, one array per input."""
    names = list(units)
    arrays = {str(i): units[name] for i, name in enumerate(names)}
    _write(path, "inputs", names=np.array(json.dumps(names)), **arrays)


def read_units(path: Path) -> dict[str, NDArray[np.int32]]:
    """Read what `write_units` wrote."""
    with np.load(path, allow_pickle=False) as file:
        names = json.loads(str(file["names"]))
        return {name: file[str(i)] for i, name in enumerate(names)}


_PARTS = ("spikes", "readouts", "logits")


def write_result(path: Path, result: LavaResult, outside: Mapping[str, int]) -> None:
    """Write a result, first to a file of another name; and how many values Lava's own has wrong."""
    header: dict[str, Any] = {
        "n_steps": result.n_steps,
        "saturations": dict(result.saturations),
        "processes": dict(result.processes),
        "outside": dict(outside),
        "states": {name: list(states) for name, states in result.states.items()},
        **{part: list(getattr(result, part)) for part in _PARTS},
    }
    arrays = {
        f"{part}.{i}": array
        for part in _PARTS
        for i, array in enumerate(getattr(result, part).values())
    }
    for i, states in enumerate(result.states.values()):
        arrays |= {f"states.{i}.{j}": array for j, array in enumerate(states.values())}
    _write(path, "result", __header__=np.array(json.dumps(header)), **arrays)


def _write(path: Path, what: str, **arrays: NDArray[Any]) -> None:
    made = io.BytesIO()
    np.savez(made, **arrays)  # type: ignore[arg-type]
    with replacing(path, what) as file:
        file.write(made.getbuffer())


def read_result(path: Path) -> tuple[LavaResult, dict[str, int]]:
    """Read what `write_result` wrote."""
    with np.load(path, allow_pickle=False) as file:
        header = json.loads(str(file["__header__"]))
        parts: dict[str, Any] = {
            part: {name: file[f"{part}.{i}"] for i, name in enumerate(header[part])}
            for part in _PARTS
        }
        states = {
            name: {state: file[f"states.{i}.{j}"] for j, state in enumerate(variables)}
            for i, (name, variables) in enumerate(header["states"].items())
        }
    result = LavaResult(
        saturations=header["saturations"], n_steps=header["n_steps"], states=states,
        processes=header["processes"], **parts,
    )  # fmt: skip
    return result, header["outside"]
