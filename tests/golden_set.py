"""A golden set: what the package answered before a change of structure, to be equal after it.

Twelve networks on three chips: spikes, readouts, every number of the reports of both modes, the
mapping and the content of the network file. ``python tests/golden_set.py --write`` makes
``tests/data/golden_set.json``; a change of numbers on purpose makes it again and says in
CHANGELOG.md why. Inputs and networks come from seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from random_networks import UNIT_GAINS, random_network, random_units, small_network

from pmsm_hw import io
from pmsm_hw.emulator import Report, emulate
from pmsm_hw.errors import PmsmHwError
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.network import Network

FILE = Path(__file__).parent / "data" / "golden_set.json"
CHIPS = ("toy", "loihi1", "loihi2")
N_STEPS = 3

FIGURES = ("n_cores", "latency_ns", "interval_ns", "energy_pj", "counts")
"""Parts of a report that stand in the file as they are; the rest is in its digest."""


def networks() -> dict[str, Network]:
    """The twelve networks by name."""
    found = {"small": small_network()}
    for seed in range(11):
        gains = UNIT_GAINS if seed < 8 else ((1, 1),)
        found[f"random{seed}"] = random_network(1000 + seed, gains=gains, max_steps=4, n_layers=6)
    return found


def digest(value: Any) -> str:
    """Short hash of an array (type, shape, bytes) or of plain values."""
    if isinstance(value, np.ndarray):
        content = f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    else:
        content = json.dumps(value, sort_keys=True, allow_nan=False).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def of_report(report: Report) -> dict[str, Any]:
    """Figures of a report, and a digest of each other part of it."""
    content = report.to_dict()
    del content["fingerprint"]  # names the network's bytes, not what came out
    return {
        **{name: content.pop(name) for name in FIGURES},
        "rest": {name: digest(part) for name, part in sorted(content.items())},
        "spikes": {name: digest(k) for name, k in sorted(report.spikes.items())},
        "readouts": {name: digest(v) for name, v in sorted(report.readouts.items())},
        "logits": {name: digest(v) for name, v in sorted(report.logits.items())},
    }


def of_file(network: Network) -> dict[str, str]:
    """Digest of each data set of the network's file, attributes with it."""
    found: dict[str, str] = {}

    def visit(name: str, item: Any) -> None:
        attributes = {
            key: np.asarray(value).tolist() if not isinstance(value, (str, bytes)) else str(value)
            for key, value in sorted(item.attrs.items())
        }
        content = digest(np.asarray(item[()])) if isinstance(item, h5py.Dataset) else ""
        found[name] = digest([attributes, content])

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.h5"
        io.save(path, network)
        if io.load(path) != network:
            raise AssertionError(f"network '{network.name}' is not what was saved")
        with h5py.File(path) as file:
            file.visititems(visit)
    return found


def of_network(network: Network) -> dict[str, Any]:
    """Everything about one network."""
    x = random_units(network, seed=7, n_samples=3, n_steps=N_STEPS)
    found: dict[str, Any] = {"file": of_file(network)}
    for chip in CHIPS:
        try:
            mapping = map_network(network, load_chip(chip), seed=0)
        except PmsmHwError as error:
            found[chip] = {"refused": str(error)}
            continue
        placed = mapping.to_dict()
        del placed["network_fingerprint"]  # names the network's bytes as well
        found[chip] = {
            "mapping": {name: digest(part) for name, part in sorted(placed.items())},
            "metrics": json.loads(json.dumps(placed.get("metrics"), default=float)),
            **{mode: of_report(emulate(network, mapping, x, N_STEPS, mode=mode))
               for mode in ("counts", "cycle")},
        }  # fmt: skip
    return found


def main() -> int:
    """Write the file, or compare with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="make the file again")
    arguments = parser.parse_args()
    now = {name: of_network(network) for name, network in networks().items()}
    if arguments.write:
        FILE.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    differing = differences(json.loads(FILE.read_text(encoding="utf-8")), now)
    print("\n".join(differing) or f"{len(now)} networks on {len(CHIPS)} chips: all equal")
    return 1 if differing else 0


def differences(before: Any, now: Any, where: str = "") -> list[str]:
    """Paths of the values that differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for key in sorted({*before, *now})
            for line in differences(before.get(key), now.get(key), f"{where}/{key}")
        ]
    return [] if before == now else [f"{where}: {before} before, {now} now"]


if __name__ == "__main__":
    sys.exit(main())
