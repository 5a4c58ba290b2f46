"""What every core and link did, as a file that trace viewers open.

The file is JSON in the Chrome trace format ("JSON Object Format" of its specification), which
https://ui.perfetto.dev and chrome://tracing read. Rows:

- *hardware steps*: each step with the samples that its populations work on, its work and its
  barrier, and counters of messages;
- *core N*: one row for updates (busy, blocked, idle), one for messages received (busy, waiting);
- *links*: one row for each link that carried a message.

Times are in microseconds, as the format wants, with six decimals: whole picoseconds, so nothing is
rounded, and they add up to the report's times exactly.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.arguments import instance, integer, items
from pmsm_hw.emulator.constants import DIRECTIONS
from pmsm_hw.errors import EmulationError, InputError
from pmsm_hw.files import replacing

if TYPE_CHECKING:
    from pmsm_hw.emulator.report import Report

__all__ = ["write_trace"]

STEPS, LINKS, FIRST_CORE = 1, 2, 3
"""Numbers of the processes: hardware steps, links, and the first core."""

UPDATES, MESSAGES = 1, 2
"""Numbers of the rows of a core."""

FEW_BYTES = 9_000_000
"""About how large a file becomes at most where nobody says which samples it shows."""

_SLICE_BYTES, _STEP_BYTES, _POPULATION_BYTES, _ROW_BYTES = 150, 800, 60, 120


def write_trace(
    path: str | os.PathLike[str],
    report: Report,
    *,
    samples: Iterable[int] | Literal["all"] | None = None,
) -> tuple[int, ...]:
    """Write the trace of an emulation in the Chrome trace format.

    Parameters
    ----------
    path
        File to write (``.json``); it appears whole or not at all.
    report
        From ``emulate(..., mode="cycle", trace=True)``.
    samples
        Samples to show, ``"all"`` for every one that was traced. By default all of them where the
        file stays below 10 MB; else the first one and, of the others, those that took longest, as
        many as fit.

    Returns
    -------
    tuple of int
        The samples whose hardware steps are shown, from first input to result. Other samples that
        the pipeline worked on in these steps are shown as far as they go.

    Raises
    ------
    EmulationError
        If the report has no trace.
    InputError
        If a sample was not traced.
    FormatError
        If the file cannot be written.

    Notes
    -----
    Within a hardware step the durations of a core are exact, and their order is simplified: a core
    that was blocked several times shows one ``blocked`` slice after one ``update`` slice, one that
    waited for messages several times one ``wait for messages`` slice after one ``receive`` slice.
    A link shows one slice from the departure of its first message to the arrival of its last one.
    """
    from pmsm_hw.emulator.report import Report as Kind

    instance(EmulationError, "trace", "report", report, Kind, remedy="give what emulate returned")
    if report.trace is None or report.link_trace is None or report.message_trace is None:
        raise EmulationError(
            f"report of '{report.network.name}'",
            f"has no trace ({report.mode} mode)",
            remedy="emulate with mode='cycle' and trace=True",
            actual=None,
            limit="a trace",
        )
    shown = _samples(report, report.trace, report.link_trace, samples)
    steps = _steps_of(report, shown)
    if len(shown) == report.n_samples:
        steps = np.arange(len(report.trace))  # and the step that clears up
    with replacing(path, "trace") as file:
        file.write(b'{"displayTimeUnit":"ns",\n"otherData":')
        about = {**_metadata(report), "samples": list(shown), "n_traced_steps": len(steps)}
        file.write(json.dumps(about, allow_nan=False).encode())
        file.write(b',\n"traceEvents":[')
        separator = "\n"
        for event in _events(report, steps, report.trace, report.link_trace, report.message_trace):
            file.write((separator + event).encode())
            separator = ",\n"
        file.write(b"\n]}\n")
    return shown


def _samples(
    report: Report,
    trace: NDArray[Any],
    links: NDArray[Any],
    samples: Iterable[int] | Literal["all"] | None,
) -> tuple[int, ...]:
    """Samples to show, ascending."""
    n_each = report.network.hardware_steps(report.n_steps, 1)
    n_traced = min(report.n_samples, (len(trace) - 1 - n_each) // report.n_steps + 1)
    if isinstance(samples, str) and samples == "all":
        return tuple(range(n_traced))
    if samples is not None:
        remedy = "give numbers of samples that were traced, from 0, or 'all'"
        given = items(InputError, "trace", "samples", samples, remedy=remedy)
        if not given:
            raise InputError(
                "trace",
                f"samples are 0, at least 1 of the {n_traced:,} that were traced is needed",
                remedy=remedy,
                actual=0,
                limit=1,
            )
        chosen = {
            integer(InputError, "trace", "sample", i, low=0, high=n_traced - 1, remedy=remedy)
            for i in given
        }
        return tuple(sorted(chosen))
    n_slices = (
        np.count_nonzero(trace["update"], axis=1)
        + np.count_nonzero(trace["blocked"], axis=1)
        + 2 * np.count_nonzero(trace["receive"], axis=1)
        + 2 * trace.shape[1]  # idle, barrier
        + np.count_nonzero(links["messages"], axis=1)
    )
    n_bytes = (
        _SLICE_BYTES * n_slices + _STEP_BYTES + _POPULATION_BYTES * len(report.network.populations)
    )
    room = FEW_BYTES - _ROW_BYTES * (5 * trace.shape[1] + int(links["messages"].any(axis=0).sum()))
    if n_bytes.sum() <= room:
        return tuple(range(n_traced))
    ends = np.concatenate([[0], np.cumsum(report.timing.step_ps[: len(trace)])])
    first = np.arange(n_traced) * report.n_steps
    duration = ends[first + n_each] - ends[first]
    found: list[int] = []
    taken = np.zeros(len(trace), bool)
    for sample in (0, *(i for i in np.argsort(-duration, kind="stable").tolist() if i != 0)):
        more = taken.copy()
        more[_steps_of(report, (sample,))] = True
        if found and n_bytes[more].sum() > room:
            break
        found.append(sample)
        taken = more
    return tuple(sorted(found))


def _steps_of(report: Report, samples: tuple[int, ...]) -> NDArray[np.int64]:
    """Hardware steps from each sample's first input to its result, ascending."""
    n_each = report.network.hardware_steps(report.n_steps, 1)
    steps = np.array(samples)[:, None] * report.n_steps + np.arange(n_each)
    return np.unique(steps)


def _metadata(report: Report) -> dict[str, Any]:
    from pmsm_hw import __version__

    return {
        "producer": f"pmsm-hw {__version__}",
        "network": report.network.name,
        "network_fingerprint": report.network.fingerprint,
        "chip": report.mapping.chip.name,
        "profile": report.profile,
        "n_samples": report.n_samples,
        "n_steps": report.n_steps,
        "n_hardware_steps": len(report.timing.step_ps),
        "total_ps": int(report.timing.step_ps.sum()),
        "latency_ps": report.timing.latency_ps,
        "unknown_constants": list(report.missing),
    }


def _us(ps: int) -> str:
    """Picoseconds as microseconds, all digits."""
    return f"{ps // 1_000_000}.{ps % 1_000_000:06d}"


def _slice(
    name: str, pid: int, tid: int, begin: int, duration: int, arguments: dict[str, Any]
) -> str:
    return (
        f'{{"ph":"X","pid":{pid},"tid":{tid},"name":{json.dumps(name)},"ts":{_us(begin)},'
        f'"dur":{_us(duration)},"args":{json.dumps(arguments, separators=(",", ":"))}}}'
    )


def _name(what: str, pid: int, tid: int, value: str) -> str:
    key = "labels" if what == "process_labels" else "name"
    return json.dumps(
        {"ph": "M", "pid": pid, "tid": tid, "name": what, "args": {key: value}},
        separators=(",", ":"),
    )


def _order(what: str, pid: int, tid: int, index: int) -> str:
    return json.dumps(
        {"ph": "M", "pid": pid, "tid": tid, "name": what, "args": {"sort_index": index}},
        separators=(",", ":"),
    )


def _events(
    report: Report,
    steps: NDArray[np.int64],
    cores: NDArray[Any],
    links: NDArray[Any],
    messages: NDArray[Any],
) -> Iterator[str]:
    step_ps = report.timing.step_ps
    begin = np.concatenate([[0], np.cumsum(step_ps)])
    # one barrier of whole picoseconds ends every step
    barrier = round(report.timing.cores.barrier_ns * 1000 / len(step_ps))
    yield from _step_events(report, steps, begin, barrier, messages)
    yield from _core_events(report, steps, begin, barrier, cores)
    yield from _link_events(report, steps, begin, links)


def _step_events(
    report: Report,
    steps: NDArray[np.int64],
    begin: NDArray[np.int64],
    barrier: int,
    messages: NDArray[Any],
) -> Iterator[str]:
    yield _name("process_name", STEPS, 0, "hardware steps")
    yield _order("process_sort_index", STEPS, 0, 0)
    yield _name("thread_name", STEPS, 1, "steps")
    yield _name("thread_name", STEPS, 2, "work and barrier")
    network, n_steps = report.network, report.n_steps
    for h in steps.tolist():
        start, end = int(begin[h]), int(begin[h + 1])
        at_work: dict[str, str] = {}
        for population in network.topological:
            wave = h - network.depths[population.name]
            if 0 <= wave < n_steps * report.n_samples:
                at_work[population.name] = f"sample {wave // n_steps}, step {wave % n_steps}"
        arguments = {"messages": int(messages["sent"][h]), **at_work}
        yield _slice(f"hardware step {h}", STEPS, 1, start, end - start, arguments)
        if end - start > barrier:
            yield _slice("work", STEPS, 2, start, end - start - barrier, {"step": h})
        if barrier:
            yield _slice("barrier", STEPS, 2, end - barrier, barrier, {"step": h})
        for name, value in (
            ("messages sent in the step", messages["sent"][h]),
            ("most messages in flight", messages["in_flight"][h]),
        ):
            yield (
                f'{{"ph":"C","pid":{STEPS},"tid":0,"name":"{name}","ts":{_us(start)},'
                f'"args":{{"messages":{int(value)}}}}}'
            )


def _core_events(
    report: Report,
    steps: NDArray[np.int64],
    begin: NDArray[np.int64],
    barrier: int,
    trace: NDArray[Any],
) -> Iterator[str]:
    mapping = report.mapping
    for i, core in enumerate(mapping.cores):
        pid = FIRST_CORE + i
        chip, x, y = mapping.position(core)
        yield _name("process_name", pid, 0, f"core {core} (chip {chip}, x {x}, y {y})")
        populations = dict.fromkeys(b.population for b in mapping.blocks_of(core))
        yield _name("process_labels", pid, 0, ", ".join(populations))
        yield _order("process_sort_index", pid, 0, pid)
        yield _name("thread_name", pid, UPDATES, "updates and sending")
        yield _name("thread_name", pid, MESSAGES, "receiving")
        for h, row in zip(steps.tolist(), trace[steps, i].tolist(), strict=True):
            update, blocked, update_end, receive, first, last = row
            start, step = int(begin[h]), {"step": h}
            work = int(begin[h + 1]) - barrier
            if update:
                yield _slice("update", pid, UPDATES, start, update, step)
            if blocked:
                yield _slice("blocked", pid, UPDATES, start + update, blocked, step)
            if work > start + update_end:
                idle = work - start - update_end
                yield _slice("idle", pid, UPDATES, start + update_end, idle, step)
            if barrier:
                yield _slice("barrier", pid, UPDATES, work, barrier, step)
            if receive:
                yield _slice("receive", pid, MESSAGES, start + first, receive, step)
            if last > first + receive:
                wait = last - first - receive
                yield _slice(
                    "wait for messages", pid, MESSAGES, start + first + receive, wait, step
                )


def _link_events(
    report: Report, steps: NDArray[np.int64], begin: NDArray[np.int64], trace: NDArray[Any]
) -> Iterator[str]:
    layout = report.counts.layout
    used = np.flatnonzero(trace["messages"][steps].any(axis=0))
    if not used.size:
        return
    yield _name("process_name", LINKS, 0, "links")
    yield _order("process_sort_index", LINKS, 0, FIRST_CORE + len(report.mapping.cores))
    for i in used.tolist():
        x, y = (int(v) for v in layout.link_tiles[i])
        d = i % 4
        end = (x + (1, -1, 0, 0)[d], y + (0, 0, 1, -1)[d])
        name = f"link ({x}, {y}) {DIRECTIONS[d]} to ({end[0]}, {end[1]})"
        yield _name("thread_name", LINKS, i + 1, name)
        for h in steps[trace["messages"][steps, i] != 0].tolist():
            count, first, last = trace[h, i].tolist()
            yield _slice(
                "messages", LINKS, i + 1, int(begin[h]) + first, last - first,
                {"step": h, "messages": count},
            )  # fmt: skip
