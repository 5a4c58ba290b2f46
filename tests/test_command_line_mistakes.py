"""Command lines that are right but for one thing end in one line; see fuzz_command_line.py."""

from __future__ import annotations

import os

import pytest
from fuzz_command_line import (
    FLAGS,
    RIGHT,
    TOP,
    WRONG,
    chosen,
    commands,
    failing,
    named,
    prepare,
    problem,
)

N_CASES = 400 if os.environ.get("PMSM_HW_HYPOTHESIS") == "long" else 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("mistakes")
    prepare(made)
    return made


def test_every_command_and_option_has_wrong_values():
    for name, command in commands():
        assert RIGHT[name]
        for parameter in command.params:
            what = named(parameter)
            assert what in WRONG or what in FLAGS or what in TOP, f"{name} {what}"


def test_without_the_mistake_each_succeeds(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert failing(folder) == {}


def test_one_mistake_is_one_line(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    found = {case: problem(case, folder) for case in chosen(N_CASES, seed=0)}
    assert not {" ".join(c.line): text for c, text in found.items() if text is not None}
