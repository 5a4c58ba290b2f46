"""docs/format.md says what the code does."""

from __future__ import annotations

import contextlib
import io as text_io
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from pmsm_hw.io import h5, schema
from pmsm_hw.network import POPULATION_KINDS, PROJECTION_KINDS, fields

DOCUMENT = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
GOLDEN = Path(__file__).parent / "data" / "network_v1.h5"


def test_the_ten_line_reader_reads_the_golden_file(monkeypatch, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 10
    (tmp_path / "network.h5").write_bytes(GOLDEN.read_bytes())
    monkeypatch.chdir(tmp_path)
    out = text_io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    text = out.getvalue()
    assert "network golden for up to 3 steps" in text
    assert "population hidden \u00e9 of kind polarity_multi_spike" in text
    assert "theta int32 (4, 1, 1) 40 to 70" in text
    assert "weight int8 (3, 36) -8 to 8" in text


@pytest.mark.parametrize("kind", [*POPULATION_KINDS, *PROJECTION_KINDS])
def test_every_field_is_documented(kind):
    assert f"`{kind}`" in DOCUMENT
    for name in (*fields.attributes_of(kind), *fields.arrays_of(kind)):
        assert f"`{name}`" in DOCUMENT, name


def test_everything_in_a_file_is_documented():
    names = set()

    def visit(name, item):
        names.add(re.sub(r"\d{4}", "0000", name))
        names.update(item.attrs)
        assert item.attrs.keys() <= {n for n in item.attrs if f"`{n}`" in DOCUMENT}

    with h5py.File(GOLDEN) as file:
        file.visititems(visit)
        names.update(file.attrs)
    for name in names:
        last = name.rsplit("/", 1)[-1]
        assert f"`{last}`" in DOCUMENT or f"`/{name}`" in DOCUMENT, name


def test_stated_limits_and_versions_are_the_codes():
    assert f"format version {h5.FORMAT_VERSION}\n" in DOCUMENT
    assert f"at most {schema.MAX_ITEMS:,}" in DOCUMENT
    assert f"at most {schema.MAX_TEXT_BYTES:,} bytes" in DOCUMENT
    assert f"2^{np.log2(schema.MAX_CHANNELS):.0f} channels" in DOCUMENT
    assert f"2^{np.log2(schema.MAX_NEURONS):.0f} neurons" in DOCUMENT
    assert f"2^{np.log2(schema.MAX_PROOF):.0f} parameter steps" in DOCUMENT
    assert f"paddings (at most {schema.MAX_PADDING})" in DOCUMENT
