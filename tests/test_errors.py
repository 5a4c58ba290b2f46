"""Messages of errors: one printable line, whatever names and values are."""

from __future__ import annotations

import pytest

from pmsm_hw import errors
from pmsm_hw.errors import LavaError, PmsmHwError

CLASSES = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", [c for c in CLASSES if c is not LavaError])
def test_what_breaks_a_line_or_steers_a_terminal_is_escaped(kind):
    error = kind("file 'a\nb'", "holds \x1b[31m and \u202e", remedy="see \x07", actual=1, limit=0)
    assert isinstance(error, PmsmHwError)
    assert str(error) == r"file 'a\nb': holds \x1b[31m and \u202e; see \x07"


def test_lines_of_another_program_stay_lines():
    error = LavaError("lava", "failed:\n\tin x\x1b[2J", remedy="see there")
    assert str(error) == "lava: failed:\n\tin x\\x1b[2J; see there"


def test_letters_of_any_language_stay():
    assert str(PmsmHwError("Größe 'π層'", "é", remedy="x")) == "Größe 'π層': é; x"
