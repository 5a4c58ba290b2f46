"""Files between the caller and the child that runs Lava: plain arrays and JSON, never pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.network import POPULATION_KINDS, PROJECTION_KINDS, Network
from pmsm_hw.reference import Result

__all__ = [
    "read_network",
    "read_result",
    "read_units",
    "write_network",
    "write_result",
    "write_units",
]


def write_network(path: Path, network: Network) -> None:
    """Write a network to ``.npz``."""
    arrays: dict[str, NDArray[Any]] = {}
    header: dict[str, Any] = {"name": network.name, "max_steps": network.max_steps}
    for group in ("populations", "projections"):
        header[group] = []
        for i, item in enumerate(getattr(network, group)):
            plain: dict[str, Any] = {}
            for f in fields(item):
                value = getattr(item, f.name)
                if isinstance(value, np.ndarray):
                    arrays[f"{group}.{i}.{f.name}"] = value
                else:
                    plain[f.name] = value
            header[group].append([item.kind, plain])
    np.savez(path, __header__=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]


def read_network(path: Path) -> Network:
    """Read what `write_network` wrote."""
    with np.load(path, allow_pickle=False) as file:
        header = json.loads(str(file["__header__"]))
        items: dict[str, list[Any]] = {}
        for group, kinds in (("populations", POPULATION_KINDS), ("projections", PROJECTION_KINDS)):
            items[group] = []
            for i, (kind, plain) in enumerate(header[group]):
                prefix = f"{group}.{i}."
                arrays = {
                    key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)
                }
                items[group].append(kinds[kind](**_tuples(plain), **arrays))
    return Network(
        name=header["name"],
        populations=items["populations"],  # type: ignore[arg-type]
        projections=items["projections"],  # type: ignore[arg-type]
        max_steps=header["max_steps"],
    )


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    def convert(value: Any) -> Any:
        return tuple(map(convert, value)) if isinstance(value, list) else value

    return {key: convert(value) for key, value in plain.items()}


def write_units(path: Path, units: Mapping[str, NDArray[np.int32]]) -> None:
    """Write inputs in units, one array per input."""
    names = list(units)
    arrays = {str(i): units[name] for i, name in enumerate(names)}
    np.savez(path, names=np.array(json.dumps(names)), **arrays)  # type: ignore[arg-type]


def read_units(path: Path) -> dict[str, NDArray[np.int32]]:
    """Read what `write_units` wrote."""
    with np.load(path, allow_pickle=False) as file:
        names = json.loads(str(file["names"]))
        return {name: file[str(i)] for i, name in enumerate(names)}


_PARTS = ("spikes", "readouts", "logits")


def write_result(path: Path, result: Result) -> None:
    """Write a result, first to a file of another name."""
    header: dict[str, Any] = {
        "n_steps": result.n_steps,
        "saturations": dict(result.saturations),
        **{part: list(getattr(result, part)) for part in _PARTS},
    }
    arrays = {
        f"{part}.{i}": array
        for part in _PARTS
        for i, array in enumerate(getattr(result, part).values())
    }
    temporary = path.with_name(f"{path.name}.part.npz")
    np.savez(temporary, __header__=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
    temporary.replace(path)


def read_result(path: Path) -> Result:
    """Read what `write_result` wrote."""
    with np.load(path, allow_pickle=False) as file:
        header = json.loads(str(file["__header__"]))
        parts: dict[str, Any] = {
            part: {name: file[f"{part}.{i}"] for i, name in enumerate(header[part])}
            for part in _PARTS
        }
    return Result(saturations=header["saturations"], n_steps=header["n_steps"], **parts)
