"""The HTML report: whole, harmless, repeatable, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from random_networks import small_network

from pmsm_hw import Dense, Input, Network, PolarityMultiSpike, Readout
from pmsm_hw.datasets import load_digits
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import FormatError, MappingError
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.report import write_html

pytest.importorskip("matplotlib", reason="matplotlib is not installed in this Python")

ALWAYS = ("energy-by-component", "energy-by-population", "spike-raster", "mapping", "busy-time")
TRACED = "latency-waterfall"

CONVERSION = {
    "weight_bits": 8,
    "rule": "carry",
    "populations": [
        {"name": "act1", "kind": "neurons", "n_neurons": 5, "entropy_bits": 1.5,
         "max_entropy_bits": 2.0, "weight_error": 0.01},
    ],
}  # fmt: skip


class Page(HTMLParser):
    """Figures, and everything that a browser might fetch."""

    def __init__(self, text):
        super().__init__()
        self.figures, self.addresses, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.add(tag)
        if tag == "figure":
            self.figures.append(attributes["id"])
        self.addresses += [attributes[k] for k in ("src", "href", "data") if k in attributes]


@pytest.fixture(scope="module")
def run():
    network = small_network()
    mapping = map_network(network, load_chip("loihi1"), objective="cores")
    digits = load_digits("test")
    x, labels = digits.images[:6], digits.labels[:6]
    report = emulate(network, mapping, x, 2, mode="cycle", labels=labels, trace=True)
    by_steps = {t: emulate(network, mapping, x, t, labels=labels) for t in (1, 2)}
    return network, mapping, report, by_steps


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    network, mapping, report, by_steps = run
    path = tmp_path_factory.mktemp("html") / "out.html"
    write_html(
        path, report, network, mapping, conversion=CONVERSION, accuracy_by_steps=by_steps,
        command="pmsm-hw run 'a & b.h5'",
    )  # fmt: skip
    return path


def test_has_every_figure_and_fetches_nothing(page):
    text = page.read_text()
    found = Page(text)
    assert found.figures == [*ALWAYS, TRACED, "accuracy-against-energy", "entropy"]
    assert all(a.startswith("data:") for a in found.addresses)
    assert "@import" not in text
    assert not re.search(r"url\(", text.split("</style>")[0])
    assert "script" not in found.tags


def test_says_the_numbers_of_the_report(page, run):
    network, mapping, report, _ = run
    text = page.read_text()
    assert f"{100 * report.accuracy:.2f} %" in text
    assert network.fingerprint in text
    assert "pmsm-hw run &#x27;a &amp; b.h5&#x27;" in text
    for _, quantity in mapping.chip.quantities():
        assert quantity.source.split("'")[0].split("&")[0] in text
    total = report.counts.by_population()["output"]["synaptic_operations"] / report.n_samples
    assert f"{total:,.4g}" in text or f"{total:,.1f}" in text


def test_same_arguments_same_bytes(page, run, tmp_path):
    network, mapping, report, by_steps = run
    write_html(
        tmp_path / "again.html", report, network, mapping, conversion=CONVERSION,
        accuracy_by_steps=by_steps, command="pmsm-hw run 'a & b.h5'",
    )  # fmt: skip
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_names_cannot_inject(tmp_path):
    evil = "<script>alert(1)</script>"
    network = Network(
        name=evil,
        populations=(
            Input(name="in", shape=(3,), levels=(0, 3)),
            PolarityMultiSpike(name='a"><img src=x>', shape=(4,), theta=5, levels=(1, 3)),
            Readout(name="out", shape=(2,)),
        ),
        projections=(
            Dense(source="in", target='a"><img src=x>', weight=np.ones((4, 3), np.int8)),
            Dense(source='a"><img src=x>', target="out", weight=np.ones((2, 4), np.int8)),
        ),
    )
    mapping = map_network(network, load_chip("toy"))
    report = emulate(network, mapping, np.ones((1, 3), np.int64))
    write_html(tmp_path / "evil.html", report, network, mapping, title=evil, command=evil)
    found = Page((tmp_path / "evil.html").read_text())
    assert "script" not in found.tags
    assert all(a.startswith("data:") for a in found.addresses)


@pytest.mark.parametrize("name", ["cost $5", r"a$\frac$", "$x^{2$", r"\\$$", "$a$"])
def test_names_are_not_formulas(tmp_path, name):
    from matplotlib.text import Text

    from pmsm_hw.emulator import plots
    from pmsm_hw.mapping import plot_mapping

    network = Network(
        name=name,
        populations=(
            Input(name="in", shape=(3,), levels=(0, 3)),
            PolarityMultiSpike(name=name, shape=(4,), theta=5, levels=(1, 3)),
            Readout(name="out", shape=(2,)),
        ),
        projections=(
            Dense(source="in", target=name, weight=np.ones((4, 3), np.int8)),
            Dense(source=name, target="out", weight=np.ones((2, 4), np.int8)),
        ),
    )
    mapping = map_network(network, load_chip("toy"))
    report = emulate(network, mapping, np.ones((1, 3), np.int64), labels=np.array([1]))
    conversion = {**CONVERSION, "populations": [{**CONVERSION["populations"][0], "name": name}]}
    path = tmp_path / "out.html"
    write_html(path, report, network, mapping, conversion=conversion, accuracy_by_steps={1: report})
    assert "entropy" in Page(path.read_text()).figures
    for figure in (
        plots.spike_raster(report),
        plots.energy_by_population(report),
        plots.accuracy_against_energy({name: report}),
        plot_mapping(mapping),
    ):
        for text in figure.findobj(Text):
            assert not text.get_usetex()
            assert text.get_text().count("$") == text.get_text().count(r"\$")


def test_untraced_report_has_no_waterfall(run, tmp_path):
    network, mapping, _, by_steps = run
    write_html(tmp_path / "plain.html", by_steps[1], network, mapping)
    text = (tmp_path / "plain.html").read_text()
    assert Page(text).figures == list(ALWAYS)
    assert "No latency waterfall" in text


def test_traced_report_misses_nothing(page):
    assert "No latency waterfall" not in page.read_text()


def test_refuses_what_does_not_belong_together(run, tmp_path):
    network, mapping, report, _ = run
    other = map_network(network, load_chip("loihi2"))
    with pytest.raises(MappingError, match="another network or mapping"):
        write_html(tmp_path / "x.html", report, network, other)
    with pytest.raises(FormatError, match="cannot be written"):
        write_html(tmp_path / "no" / "x.html", report, network, mapping)
    assert list(tmp_path.iterdir()) == []


def test_opens_in_a_browser(page, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    # a copy that may run one script of ours, which says how large each picture came out
    text = page.read_text()
    assert "default-src 'none'" in text
    probe = (
        "<script>onload = () => { document.body.dataset.seen = JSON.stringify("
        "[...document.images].map(i => [i.parentElement.id, i.naturalWidth, i.clientWidth, "
        "i.clientHeight])); }</script></body>"
    )
    text = text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    (tmp_path / "probe.html").write_text(text.replace("</body>", probe))
    done = subprocess.run(
        [
            chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-extensions", "--window-size=1200,2000", "--virtual-time-budget=10000",
            f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--log-net-log={tmp_path / 'net.json'}", "--dump-dom",
            (tmp_path / "probe.html").as_uri(),
        ],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    seen = re.search(r'data-seen="(.*?)"', done.stdout)
    assert seen, done.stdout[-500:]
    pictures = json.loads(seen.group(1).replace("&quot;", '"'))
    assert [p[0] for p in pictures] == [*ALWAYS, TRACED, "accuracy-against-energy", "entropy"]
    for name, natural, width, height in pictures:
        assert natural > 300, name
        assert width > 300, name
        assert height > 100, name
    # the browser itself may ask its maker for updates; nobody else is asked
    log = (tmp_path / "net.json").read_text()
    asked = set(re.findall(r'"url":"(https?://[^"]+)"', log))
    makers = r"https?://([a-z0-9-]+\.)*(google|googleapis|gvt1|gstatic)\.com[/:]"
    assert not [u for u in asked if "fonts" in u or not re.match(makers, u)], asked
