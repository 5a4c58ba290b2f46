"""The child that runs Lava: ``python -m pmsm_hw.lava.worker FOLDER``.

The folder holds ``jobs.json`` (see `pmsm_hw.lava.runner`) and per job a network and its inputs; for
each job a result comes back. Any failure ends in ``error.txt`` and exit status 1. The caller kills
the whole process group, and removes shared memory by the name that it chose, whatever happens here.

An exception inside a model, or the death of a Lava process, makes Lava wait for ever. A thread
watches the processes, and ends the run with the traceback of the one that failed. Another thread
waits for the caller: when that is gone, so is this process group.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.process as mp_process
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from pmsm_hw.lava.handover import read_network, read_units, write_result
from pmsm_hw.network import Network, PolarityMultiSpike, Readout
from pmsm_hw.reference import Result

__all__ = ["main"]

PROGRESS = "progress.npy"
"""One int64: steps that the deepest population has done, over all jobs."""


def main(arguments: list[str]) -> int:
    """Run the jobs of a folder.

    Parameters
    ----------
    arguments
        The folder.

    Returns
    -------
    int
        Exit status.
    """
    (folder_name,) = arguments
    folder = Path(folder_name)
    threading.Thread(target=_die_with_caller, daemon=True).start()
    try:
        header = json.loads((folder / "jobs.json").read_text(encoding="utf-8"))
        _name_shared_memory(header["token"])
        watch = _Watch(folder)
        for i, job in enumerate(header["jobs"]):
            _run_job(folder, i, job, watch)
    except Exception:  # the boundary of the process: whatever it is, the caller is told
        _fail(folder, traceback.format_exc())
    return 0


def _fail(folder: Path, text: str) -> None:
    temporary = folder / "error.part"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / "error.txt")
    # neither clean-up nor joins: Lava's may wait for ever
    os._exit(1)


def _die_with_caller() -> None:
    """Kill this process group when the other end of standard input closes."""
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _name_shared_memory(token: str) -> None:
    """Give shared memory names that start with the token, so that the caller can find it.

    Lava has no option for it; the names are made from these two constants of Python 3.10.
    """
    from multiprocessing import shared_memory

    module: Any = shared_memory
    module._SHM_NAME_PREFIX = f"/{token}_"
    module._SHM_SAFE_NAME_LENGTH = len(token) + 2 + 16


class _Watch(threading.Thread):
    """Ends the run when a Lava process fails or dies while it should work."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.running = False
        self.known: set[Any] = set()
        self.start()

    def run(self) -> None:
        while True:
            time.sleep(0.05)
            if self.running:
                self.known |= set(mp_process._children)  # type: ignore[attr-defined]
                for process in tuple(self.known):
                    self.check(process)

    def check(self, process: Any) -> None:
        with contextlib.suppress(ValueError):  # closed: it ended well
            exception = getattr(process, "exception", None)
            if exception is not None and self.running:
                _fail(self.folder, str(exception[1]))
            code = process.exitcode
            if code is not None and self.running:
                how = f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
                _fail(self.folder, f"Lava process {process.name} ({process.pid}) was {how}\n")


def _run_job(folder: Path, index: int, job: dict[str, Any], watch: _Watch) -> None:
    network = read_network(folder / job["network"])
    units = read_units(folder / job["inputs"])
    n_steps = int(job["n_steps"])
    n_samples = len(next(iter(units.values()))) if units else 1
    result = _run(folder, index, network, units, n_steps, n_samples, job, watch)
    write_result(folder / job["result"], result)


def _run(
    folder: Path,
    index: int,
    network: Network,
    units: dict[str, Any],
    n_steps: int,
    n_samples: int,
    job: dict[str, Any],
    watch: _Watch,
) -> Result:
    from pmsm_hw.lava.graph import to_lava

    files: dict[str, dict[str, Path]] = {}
    deepest = max(network, key=lambda p: network.depths[p.name]).name

    def file(population: int, what: str, shape: tuple[int, ...], dtype: Any) -> Path:
        path = folder / f"{index}.{population}.{what}.npy"
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
        return path

    for i, population in enumerate(network):
        mine: dict[str, Path] = {}
        if isinstance(population, PolarityMultiSpike | Readout):
            mine["saturations"] = file(i, "saturations", (1,), np.int64)
        if isinstance(population, Readout):
            mine["state"] = file(i, "state", (n_samples, *population.shape), np.int64)
        elif isinstance(population, PolarityMultiSpike) and population.name in job["record"]:
            shape = (n_samples * n_steps, *population.shape)
            mine["spikes"] = file(i, "spikes", shape, np.int32)
        if population.name == deepest and "progress" in job:
            mine["progress"] = folder / job["progress"]
        files[population.name] = mine
    graph = to_lava(
        network, units, n_steps, granularity=job["granularity"], tag=job["tag"], record=files
    )
    watch.running = True
    graph.run(n_samples)
    watch.running = False
    graph.stop()
    watch.known.clear()
    return _collect(network, units, n_steps, job["record"], files)


def _collect(
    network: Network,
    units: dict[str, Any],
    n_steps: int,
    record: list[str],
    files: dict[str, dict[str, Path]],
) -> Result:
    spikes, readouts, logits, saturations = {}, {}, {}, {}
    for population in network.topological:
        name, mine = population.name, files[population.name]
        if name in units and name in record:
            spikes[name] = units[name]
        if "spikes" in mine:
            rows = np.load(mine["spikes"])
            spikes[name] = rows.reshape(-1, n_steps, *population.shape)
        if isinstance(population, Readout):
            readouts[name] = np.load(mine["state"])
            logits[name] = readouts[name] * population.scale / n_steps
        if "saturations" in mine and (n := int(np.load(mine["saturations"])[0])):
            saturations[name] = n
    return Result(
        spikes=spikes, readouts=readouts, logits=logits, saturations=saturations, n_steps=n_steps
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
