"""Traces: valid Chrome trace JSON, and its times add up to the report's, to the picosecond."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator_cases import random_case
from hypothesis import given
from hypothesis import strategies as st
from random_networks import random_units, small_network

from pmsm_hw.emulator import Report, emulate, write_trace
from pmsm_hw.errors import EmulationError, FormatError
from pmsm_hw.mapping import load_chip, map_network


def run(seed: int) -> Report:
    network, mapping = random_case(seed)
    n_steps = 1 + seed % network.max_steps
    x = random_units(network, seed, n_steps=n_steps)
    return emulate(network, mapping, x, n_steps, mode="cycle", trace=True)


def read(path: Path) -> dict[str, Any]:
    """The file, with times as exact decimals; refuses doubled keys and NaN."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({k for k, _ in pairs}) == len(pairs)
        return dict(pairs)

    def refuse(text: str) -> None:
        raise AssertionError(text)

    data: dict[str, Any] = json.loads(
        path.read_text(encoding="utf-8"),
        parse_float=Decimal,
        parse_constant=refuse,
        object_pairs_hook=unique,
    )
    return data


def ps(us: Decimal | int) -> int:
    """Whole picoseconds of a time in microseconds."""
    value = Decimal(us) * 1_000_000
    assert value == int(value)
    return int(value)


def names(data: dict[str, Any]) -> tuple[dict[int, str], dict[tuple[int, int], str]]:
    processes = {
        e["pid"]: e["args"]["name"] for e in data["traceEvents"] if e["name"] == "process_name"
    }
    rows = {
        (e["pid"], e["tid"]): e["args"]["name"]
        for e in data["traceEvents"]
        if e["name"] == "thread_name"
    }
    return processes, rows


def check(report: Report, data: dict[str, Any]) -> None:
    """Everything that must hold between a report and its trace."""
    events = data["traceEvents"]
    processes, rows = names(data)
    slices = [e for e in events if e["ph"] == "X"]
    total = int(report.timing.step_ps.sum())
    assert {e["ph"] for e in events} <= {"X", "M", "C"}
    for e in events:
        assert isinstance(e["pid"], int)
        assert isinstance(e["tid"], int)
        assert e["pid"] in processes
        if e["ph"] != "M":
            assert ps(e["ts"]) >= 0
    # the end of the last event is the end of the run
    assert max(ps(e["ts"]) + ps(e["dur"]) for e in slices) == total == data["otherData"]["total_ps"]
    # slices of one row do not overlap, and every slice lies on a named row
    by_row = defaultdict(list)
    for e in slices:
        by_row[e["pid"], e["tid"]].append((ps(e["ts"]), ps(e["dur"]), e["name"], e["args"]))
    assert set(by_row) <= set(rows)
    for row in by_row.values():
        row.sort(key=lambda s: s[:2])
        for (t0, d0, *_), (t1, *_) in pairwise(row):
            assert t0 + d0 <= t1
    # cores: sums of slices are the report's times, and updates + blocked + idle + barrier fill
    # the whole run
    cores = report.timing.cores
    pid_of = {name: pid for pid, name in processes.items()}
    for i, core in enumerate(report.mapping.cores):
        chip, x, y = report.mapping.position(core)
        pid = pid_of[f"core {core} (chip {chip}, x {x}, y {y})"]
        spent: dict[str, int] = defaultdict(int)
        for tid in (1, 2):
            for _, duration, name, _ in by_row[pid, tid]:
                spent[name] += duration
        assert spent["update"] == round(cores.update_ns[i] * 1000)
        assert spent["blocked"] == round(cores.blocked_ns[i] * 1000)
        assert spent["receive"] == round(cores.receive_ns[i] * 1000)
        assert spent["barrier"] == round(cores.barrier_ns * 1000)
        assert sum(spent[k] for k in ("update", "blocked", "idle", "barrier")) == total
    # steps
    (steps,) = (pid for pid, name in processes.items() if name == "hardware steps")
    assert [d for _, d, *_ in by_row[steps, 1]] == report.timing.step_ps.tolist()
    latency = sum(
        d
        for h, (_, d, *_) in enumerate(by_row[steps, 1])
        if h < max(report.network.depths[r.name] for r in report.network.readouts) + report.n_steps
    )
    assert latency == report.timing.latency_ps
    # links: every message of the report on its link, each for a hop at least
    sent: dict[str, int] = defaultdict(int)
    for (pid, tid), row in by_row.items():
        if processes[pid] == "links":
            sent[rows[pid, tid]] += sum(arguments["messages"] for *_, arguments in row)
    loads = {}
    for (x, y), direction, messages in report.counts.links():
        dx, dy = {"east": (1, 0), "west": (-1, 0), "north": (0, 1), "south": (0, -1)}[direction]
        loads[f"link ({x}, {y}) {direction} to ({x + dx}, {y + dy})"] = messages
    assert dict(sent) == loads
    # counters
    counted = sum(e["args"]["messages"] for e in events if e["name"] == "messages sent in the step")
    assert counted == report.counts.total()["messages"]
    assert report.queue_peak is not None
    peaks = [e["args"]["messages"] for e in events if e["name"] == "most messages in flight"]
    assert max(peaks) == report.queue_peak[1]


@given(seed=st.integers(0, 10_000))
def test_times_add_up(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    report = run(seed)
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    write_trace(path, report)
    check(report, read(path))
    # nothing else is left there, and equal runs give equal bytes
    assert list(path.parent.iterdir()) == [path]
    before = path.read_bytes()
    write_trace(path, run(seed))
    assert path.read_bytes() == before


def test_a_placed_network_on_loihi(tmp_path: Path) -> None:
    network = small_network()
    mapping = map_network(network, load_chip("loihi1"))
    x = random_units(network, 1)
    report = emulate(network, mapping, x, 2, mode="cycle", trace=True)
    write_trace(tmp_path / "t.json", report)
    data = read(tmp_path / "t.json")
    check(report, data)
    assert data["displayTimeUnit"] == "ns"
    assert data["otherData"]["network_fingerprint"] == network.fingerprint
    labels = {e["args"]["labels"] for e in data["traceEvents"] if e["name"] == "process_labels"}
    on_cores = {p.name for p in network if mapping.blocks_in(p.name)}
    assert {name for label in labels for name in label.split(", ")} == on_cores


def test_link_and_message_traces_sum_to_the_counts() -> None:
    report = run(11)
    assert report.link_trace is not None
    assert report.message_trace is not None
    assert np.array_equal(report.link_trace["messages"].sum(axis=0), report.counts.link_load)
    assert not report.link_trace.flags.writeable
    assert int(report.message_trace["sent"].sum()) == report.counts.total()["messages"]


@pytest.mark.parametrize("mode", ["counts", "cycle"])
def test_no_trace_is_one_clear_error(tmp_path: Path, mode: str) -> None:
    network, mapping = random_case(3)
    report = emulate(network, mapping, random_units(network, 3), mode=mode)  # type: ignore[arg-type]
    with pytest.raises(EmulationError, match=r"has no trace .*mode='cycle' and trace=True"):
        write_trace(tmp_path / "t.json", report)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be written"):
        write_trace(tmp_path / "absent" / "t.json", run(3))
    assert list(tmp_path.iterdir()) == []


def test_strange_names_stay_names(tmp_path: Path) -> None:
    from dataclasses import replace

    network = replace(small_network(), name='"],<script>\u2028')
    mapping = map_network(network, load_chip("toy"))
    report = emulate(network, mapping, random_units(network, 1), mode="cycle", trace=True)
    write_trace(tmp_path / "t.json", report)
    assert read(tmp_path / "t.json")["otherData"]["network"] == network.name
