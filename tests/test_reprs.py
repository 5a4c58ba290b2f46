"""What objects say of themselves: one line in a shell, tables in a notebook, nothing unescaped."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
from random_networks import small_network

from pmsm_hw import Dense, Input, Network, Readout, reference
from pmsm_hw.emulator import emulate
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.tables import notebook, table


class Cells(HTMLParser):
    """Tags in order, and the text of cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def things():
    network = small_network()
    mapping = map_network(network, load_chip("toy"))
    x = np.ones((3, *network.inputs[0].shape), int)
    result = reference.run(network, x)
    return {
        "network": network,
        "chip": mapping.chip,
        "mapping": mapping,
        "report": emulate(network, mapping, x),
        "evaluation": reference.evaluate(network, (x, np.zeros(3, int))),
        "result": result,
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("network", ("'small'", "154 neurons")),
        ("chip", ("'toy'", "16 cores")),
        ("mapping", ("'small'", "'toy'", "seed 0")),
        ("report", ("'small'", "'toy'", "3 samples", " nJ per")),
        ("result", ("1 steps", "conv[3x1x4x6x6]", "output[3x10]")),
    ],
)
def test_one_line(things, name, words):
    text = repr(things[name])
    assert "\n" not in text
    assert len(text) < 300
    for word in words:
        assert word in text


@pytest.mark.parametrize("name", ["network", "chip", "mapping", "report", "evaluation"])
def test_notebooks_show_the_same_table(things, name):
    thing = things[name]
    drawn = Cells(thing._repr_html_())
    assert drawn.tags.count("table") >= 1
    shown = " ".join(drawn.texts)
    text = thing.summary() if hasattr(thing, "summary") else str(thing)
    for word in text.replace("─", " ").split():
        assert word in shown


def test_texts_are_texts_again_after_a_notebook(things):
    before = things["network"].summary()
    things["network"]._repr_html_()
    assert things["network"].summary() == before
    with pytest.raises(ZeroDivisionError):
        notebook(lambda: str(1 / 0))
    assert "<" not in table(("a",), [(1,)])


def test_names_are_escaped():
    evil = "<script>alert(1)</script>"
    network = Network(
        name=evil,
        populations=(Input(name="a", shape=(2,)), Readout(name="<b>&", shape=(1,))),
        projections=(Dense(source="a", target="<b>&", weight=np.ones((1, 2), int)),),
    )
    drawn = Cells(network._repr_html_())
    assert "script" not in drawn.tags
    assert "b" not in drawn.tags
    assert "<b>&" in drawn.texts
    # a text that holds the stand-in for tables is drawn as text
    odd = notebook(lambda: "\0<script>" + table(("<i>",), [("\0",)]))
    assert "<script>" not in odd
    assert "<i>" not in odd


def test_texts_around_tables_are_kept():
    drawn = Cells(
        notebook(lambda: "above\n" + table(("a", "b"), [(1, "x")], title="t") + "\nbelow")
    )
    assert [t.strip() for t in drawn.texts] == ["above", "t", "a", "b", "1", "x", "below"]


@pytest.mark.torch
def test_reports_of_torch_models():
    torch = pytest.importorskip("torch", reason="needs torch")
    from pmsm_hw import nn
    from pmsm_hw.convert import convert

    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = nn.models.build("mlp", seed=0, sizes=(64, 8, 4))
    suggestion = nn.suggest(model, x)
    quantized = nn.quantize(model, levels=(0, 4), calibration=x)
    entropy = nn.entropy_report(quantized, x)
    report = convert(quantized, x, name="net").report
    for thing, word in ((suggestion, "levels"), (entropy, "16 inputs"), (report, "'net'")):
        assert word in repr(thing)
        assert "\n" not in repr(thing)
        assert "table" in Cells(thing._repr_html_()).tags
