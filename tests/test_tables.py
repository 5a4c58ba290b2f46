"""Tables that fit a terminal, units that suit a number, JSON that can be read."""

from __future__ import annotations

import contextvars
import json

import pytest

from pmsm_hw.cli.terminal import json_text
from pmsm_hw.tables import energy_text, fit_to, table, time_text

HEADER = ("run", "accuracy", "cores", "latency us", "energy uJ", "a very long name of a column")
ROWS = [("first", "98.00 %", 12, 1234.5, 0.5, "x"), ("second run", "7.00 %", 3, 2.0, 11.0, "yy")]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_table_that_is_too_wide_comes_in_parts(width):
    def draw():
        fit_to(width)
        return table(HEADER, ROWS)

    text = contextvars.copy_context().run(draw)
    assert max(map(len, text.splitlines())) <= max(width, 12 + 3 + len(HEADER[-1]))
    for name in HEADER:
        assert name in text
    for row in ROWS:
        assert text.count(row[0]) == len(text.split("\n\n"))
    whole = table(HEADER, ROWS)
    assert (text == whole) == (max(map(len, whole.splitlines())) <= width)


@pytest.mark.parametrize(
    ("pj", "text"),
    [
        (0.0, "0.000 pJ"), (1.7, "1.700 pJ"), (999.96, "1000 pJ"), (1000.0, "1.000 nJ"),
        (11_137_592.2, "11.14 uJ"), (2.5e9, "2.500 mJ"), (3e12, "3.000 J"), (3e18, "3,000,000 J"),
    ],
)  # fmt: skip
def test_energies(pj, text):
    assert energy_text(pj) == text


def test_times():
    assert [time_text(ns) for ns in (0.5, 205_881.3, 1_464_000.0, 2e9)] == [
        "0.5000 ns", "205.9 us", "1.464 ms", "2.000 s",
    ]  # fmt: skip


def test_json_has_plain_lists_on_one_line():
    value = {
        "predictions": [1, 2, 3], "runs": [{"a": None, "b": []}, {"c": "ü"}], "e": {}, "f": 0.1,
        "t": (1, (2, 3)),
    }  # fmt: skip
    text = json_text(value)
    assert json.loads(text) == json.loads(json.dumps(value))
    assert '"predictions": [1, 2, 3]' in text
    with pytest.raises(ValueError, match="JSON"):
        json_text({"x": [float("nan")]})
