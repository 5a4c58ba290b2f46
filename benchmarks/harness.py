"""What every benchmark shares: arguments, machine, interleaved timing, JSON and Markdown.

``python benchmarks/NAME.py [--quick] --json OUT`` writes OUT and, beside it, the same as Markdown.
Results that the docs quote are committed as ``benchmarks/results/NAME.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("pmsm-hw", "numpy", "numba", "scipy", "torch", "lava-nc", "mtkahypar")


def arguments(description: str) -> argparse.Namespace:
    """Parse ``--quick`` and ``--json``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller; ends within 45 s")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", help="where to write")
    return parser.parse_args()


def machine() -> dict[str, Any]:
    """Processor, cores, Python and package versions."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        if names:
            model = names[0].split(":", 1)[1].strip()
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": model,
        "n_cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
    }


def interleaved(
    runs: Mapping[str, Callable[[], object]], n_runs: int = 5, warm_up: int = 1
) -> dict[str, float]:
    """Median seconds of each function, timed in turn (A B A B ...) so that drift hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(warm_up + n_runs):
        for name, function in runs.items():
            start = time.perf_counter()
            function()
            if i >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}


def write(
    out: Path,
    *,
    title: str,
    what: str,
    rows: Sequence[Mapping[str, Any]],
    quick: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write ``out`` (JSON) and ``out`` with suffix .md, each at once or not at all.

    Parameters
    ----------
    title, what
        Heading, and what was measured and how, in a sentence or two.
    rows
        One mapping per row of the table; the columns are the keys, in order of appearance.
    quick
        Whether this was the quick form; said in both files.
    extra
        Further figures, for example ``growth_exponent``.
    """
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *(["--quick"] * quick)])
    figures = {
        "title": title,
        "what": what,
        "command": f"{command} --json {out.name}",
        "quick": quick,
        "machine": machine(),
        **(extra or {}),
        "rows": [dict(row) for row in rows],
    }
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"# {title}", "", what, "", f"`{figures['command']}`", ""]
    about = figures["machine"]
    lines += [
        f"{about['processor']}, {about['n_cores']} cores, Python {about['python']}, "
        + ", ".join(f"{k} {v}" for k, v in about["versions"].items())
        + (" (quick form)" if quick else ""),
        "",
    ]
    lines += [f"- {key}: {_text(value)}" for key, value in (extra or {}).items()]
    lines += [
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(_text(row.get(c, "")) for c in columns) + " |" for row in rows),
        "",
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, text in (
        (out, json.dumps(figures, indent=1) + "\n"),
        (out.with_suffix(".md"), "\n".join(lines)),
    ):
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(text)
        temporary.replace(path)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
