"""Networks in Lava: a process graph, and a runner that cannot hang.

`run` works from every Python: it starts a child with a Python 3.10 that has lava-nc. `to_lava` and
`LavaNetwork` need lava-nc in this interpreter and are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmsm_hw.lava import models  # noqa: F401 - they register Processes
from pmsm_hw.lava.interpreter import find_python
from pmsm_hw.lava.results import LavaResult
from pmsm_hw.lava.runner import Job, run, run_many

if TYPE_CHECKING:
    from pmsm_hw.lava.graph import LavaNetwork, to_lava

__all__ = ["Job", "LavaNetwork", "LavaResult", "find_python", "run", "run_many", "to_lava"]


def __getattr__(name: str) -> Any:
    if name in ("LavaNetwork", "to_lava"):
        from pmsm_hw.lava import graph

        return getattr(graph, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
