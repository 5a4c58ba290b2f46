"""What one environment leaves to the other is there, and is missed where it did not run."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from shares import LONG_ONLY, SHARES, elsewhere, entry_of, long_only

TESTS = Path(__file__).resolve().parent
LEFT = "tests/test_x.py::test_y[a::b/c.py-'q']"


def count_tests(*paths):
    path = TESTS.parent / ".ci" / "count_tests.py"
    spec = importlib.util.spec_from_file_location("count_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(p) for p in paths])


@pytest.mark.parametrize("share", SHARES)
def test_entries_are_tests(share):
    (other,) = SHARES.keys() - {share}
    for entry, (environment, reason) in elsewhere(share).items():
        file, _, test = entry.partition("::")
        text = (TESTS / file).read_text(encoding="utf-8")
        assert environment == other
        assert reason
        assert not test or re.search(rf"^def {test}\(", text, re.M), entry
        assert entry_of(f"tests/{file}::{test or 'test_any'}[x::y/z.py]", [entry]) == entry
    assert not elsewhere(share).keys() & elsewhere(other).keys()
    assert entry_of("tests/test_x.py::test_why", ["test_x.py::test_wh", "x.py"]) is None


def report(path, *, case=None, left=None, long_only=(), skipped=None):
    skip = f"<skipped message={quoteattr(skipped)}/>" if skipped else ""
    case = (
        f"<testcase classname='tests.test_x' name={quoteattr(case)}>{skip}</testcase>"
        if case
        else ""
    )
    left = f"<property name='left out' value={quoteattr(left)}/>" if left else ""
    left += "".join(f"<property name='long only' value={quoteattr(x)}/>" for x in long_only)
    path.write_text(
        f"<testsuites><testsuite><properties>{left}</properties>"
        f"<testcase classname='tests.test_x' name='test_both'/>{case}</testsuite></testsuites>"
    )
    return path


def test_what_is_left_to_the_other_environment_must_pass_there(tmp_path, capsys):
    here = report(tmp_path / "here.xml", left=LEFT)
    for name, missed in (("test_y[a::b/c.py-'q']", False), ("test_y[a::b/c.py-'r']", True)):
        count_tests(here, report(tmp_path / "there.xml", case=name))
        said = capsys.readouterr().out
        assert ("left to the other environment, where it did not pass" in said) == missed
        assert "1 tests ran in one environment" in said
    for reason, missed in (("no published data at x", False), ("needs torch", True)):
        there = report(tmp_path / "there.xml", case="test_y[a::b/c.py-'q']", skipped=reason)
        count_tests(here, there)
        said = capsys.readouterr().out
        assert ("left to the other environment, where it did not pass" in said) == missed


def test_what_is_left_to_the_long_profile_is_told_and_must_exist(tmp_path, capsys):
    listed = [f"tests/{name}" for names in LONG_ONLY.values() for name in names]
    for nodeid in listed:
        file, _, name = nodeid.partition("::")
        text = (TESTS.parent / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {name.partition('[')[0]}\(", text, re.M), nodeid
        assert long_only(nodeid)
    assert long_only(listed[0].partition("[")[0]) is None
    for some in (listed, listed[1:]):
        count_tests(report(tmp_path / "here.xml", long_only=some))
        said = capsys.readouterr().out
        assert f"in make test-long only: {listed[1]}" in said
        missing = f"{listed[0]}: tests/shares.py leaves it to the long profile, and there is no"
        assert (missing in said) == (some != listed)


def test_tests_are_left_out_by_name_and_in_the_report(tmp_path):
    def run(*options):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        chosen = ["-k", "test_compare or test_version", str(TESTS / "test_cli.py")]
        done = subprocess.run(
            [*command, *options, *chosen], capture_output=True, text=True, check=False,
            cwd=TESTS.parent,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    xml = tmp_path / "report.xml"
    out = run("--share=.venv-lava", f"--junitxml={xml}")
    assert "1 passed" in out
    assert re.search(r"^\.venv: test_cli\.py::test_compare \(1\): .*processes", out, re.M)
    assert 'name="left out" value="tests/test_cli.py::test_compare"' in xml.read_text()
    assert "test_cli.py::test_compare" in run("--collect-only", "--share=.venv")
    assert "test_cli.py::test_compare" in run("--collect-only")
