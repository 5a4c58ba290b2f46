"""What a chip would do with a network: spikes, counts, nanoseconds, picojoules.

``emulate(network, mapping, x, n_steps, mode="counts"|"cycle")`` runs a batch and answers a
`Report`. Names are imported on first use, so that the package itself stays light.

From the bottom up (pyproject.toml holds the order): ``layout``, the network on its chip as arrays;
``constants`` of a profile, and ``costs``, the times among them as loops read them; ``counts`` of
events; ``energy``, ``timing`` and ``operations``, which follow from counts; ``runs``, what both
modes take and give; ``counting`` and ``cycle``, the modes; ``report``; ``emulation``, the entry
point; ``trace`` files and ``plots``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pmsm_hw.emulator.counts import Counts
    from pmsm_hw.emulator.emulation import Emulator, emulate
    from pmsm_hw.emulator.energy import Energy
    from pmsm_hw.emulator.operations import Operations
    from pmsm_hw.emulator.report import Report, Spread, compare
    from pmsm_hw.emulator.timing import Timing
    from pmsm_hw.emulator.trace import write_trace

_HOMES = {
    "Counts": "counts",
    "Emulator": "emulation",
    "Energy": "energy",
    "Operations": "operations",
    "Report": "report",
    "Spread": "report",
    "Timing": "timing",
    "compare": "report",
    "emulate": "emulation",
    "write_trace": "trace",
}

__all__ = [
    "Counts",
    "Emulator",
    "Energy",
    "Operations",
    "Report",
    "Spread",
    "Timing",
    "compare",
    "emulate",
    "write_trace",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
