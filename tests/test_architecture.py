"""``docs/architecture.md`` is true: its files exist, all rooms are in it, its walks go that way."""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import load_chip, map_network

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TOPS = ("pmsm_hw", "mapping", "emulator", "datasets")


def walk(title: str) -> list[str]:
    """Files that lead the items of a walk."""
    text = PAGE.split(f"### {title}\n")[1].split("\n## ")[0].split("\n### ")[0]
    return re.findall(r"^\d+\. `([^`]+)`", text, re.MULTILINE)


def test_every_file_of_the_page_exists():
    room = ""
    for line in PAGE.splitlines():
        cells = line.split("|")
        if len(cells) == 5 and (named := re.search("`(.*?)`", cells[1])):
            room = named[1]
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", line):
            beside = room if len(cells) == 5 else "emulator/layout"
            assert (ROOT / name).exists() or (ROOT / beside / name).exists(), f"{name} in: {line}"


def test_every_room_is_on_the_page():
    for top in TOPS:
        for init in (ROOT / top).rglob("__init__.py"):
            room = init.parent.relative_to(ROOT).as_posix()
            if room == "pmsm_hw" or any(p.is_symlink() for p in init.parents):
                continue
            inner = room.rsplit("/", 1)[-1] + "/"
            assert f"`{room}/`" in PAGE or f"`{inner}`" in PAGE, room


@pytest.mark.torch
def test_the_walks_go_that_way():
    torch = pytest.importorskip("torch", reason="torch is not installed in this Python")
    from pmsm_hw import nn
    from pmsm_hw.convert import convert

    torch.manual_seed(0)
    layers = torch.nn.Linear(8, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 3)
    x = torch.rand(16, 8)
    quantized = nn.quantize(torch.nn.Sequential(*layers).eval(), levels=(1, 4), calibration=x)
    tops = tuple(f"{(ROOT / top).resolve()}/" for top in TOPS)
    real = cache(os.path.realpath)
    entered: list[dict[str, None]] = [{}, {}]
    now = entered[0]

    def note(frame, event, _):
        if event == "call":
            path = real(frame.f_code.co_filename)
            if path.startswith(tops):
                now.setdefault(path.removeprefix(f"{ROOT}/"))

    # what is compiled at first use is compiled before, and not under the profiler's eyes
    small = convert(quantized).network
    emulate(small, map_network(small, load_chip("loihi1")), np.asarray(x), 2, mode="cycle")
    sys.setprofile(note)
    try:
        network = convert(quantized).network
        mapping = map_network(network, load_chip("loihi1"))
        now = entered[1]
        emulate(network, mapping, np.asarray(x), 2, mode="cycle").to_dict()
    finally:
        sys.setprofile(None)
    # compiled loops are not seen
    compiled = {"emulator/cycle/kernels.py"}
    weight = walk("A weight, from torch to the emulator")
    spike = walk("A spike, from input to report")
    assert len(weight) >= 10
    assert len(spike) >= 6
    for files, seen in ((weight, list({**entered[0], **entered[1]})), (spike, list(entered[1]))):
        order = [seen.index(file) for file in files if file not in compiled]
        assert order == sorted(order), [seen[i] for i in sorted(order)]
