"""Pictures: what they show, files they make, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from random_networks import small_network

from pmsm_hw.datasets import load_digits
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import EmulationError, FormatError, InputError
from pmsm_hw.mapping import load_chip, map_network

pytest.importorskip("matplotlib", reason="matplotlib is not installed in this Python")

from pmsm_hw.emulator import plots


@pytest.fixture(scope="module")
def report():
    network = small_network()
    mapping = map_network(network, load_chip("loihi1"), objective="cores")
    digits = load_digits("test")
    return emulate(
        network, mapping, digits.images[:4], 3, mode="cycle", labels=digits.labels[:4], trace=True
    )


def labelled(figure):
    for axes in figure.axes:
        if axes.get_label() == "<colorbar>":
            assert axes.get_ylabel()
            continue
        assert axes.get_xlabel()
        assert axes.get_title() or figure.get_suptitle()
        texts = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label]
        assert min(t.get_fontsize() for t in texts) >= 8
    return figure


def test_bars_are_the_energies(report):
    (axes,) = labelled(plots.energy_by_component(report)).axes
    widths = [bar.get_width() for bar in axes.patches]
    parts = np.array(list(report.energy.parts.values()))
    np.testing.assert_allclose(np.array(widths) / widths[0], parts / parts[0])
    assert [t.get_text() for t in axes.get_yticklabels()] == list(report.energy.parts)
    (axes,) = labelled(plots.energy_by_population(report)).axes
    widths = np.array([bar.get_width() for bar in axes.patches])
    np.testing.assert_allclose(
        widths / widths.sum(),
        np.array(list(report.energy.by_population.values())) / report.energy.dynamic,
        rtol=1e-9,
    )


def test_raster_has_a_point_for_each_spike(report):
    (axes,) = labelled(plots.spike_raster(report, sample=1)).axes
    points = sum(len(c.get_offsets()) for c in axes.collections if len(c.get_offsets()) > 1)
    assert points == sum(int(np.count_nonzero(k[1])) for k in report.spikes.values())
    with pytest.raises(InputError, match="sample 4"):
        plots.spike_raster(report, sample=4)


def test_waterfall_ends_at_the_latency(report):
    (axes,) = labelled(plots.latency_waterfall(report)).axes
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert max(ends) == pytest.approx(report.latency_ns / 1000)
    covered = sum(bar.get_width() for bar in axes.patches)
    assert covered == pytest.approx(report.latency_ns / 1000)


def test_waterfall_needs_a_trace(report):
    plain = emulate(report.network, report.mapping, load_digits("test").images[:1])
    with pytest.raises(EmulationError, match="no trace"):
        plots.latency_waterfall(plain)


def test_busy_heatmap_is_a_share(report):
    figure = labelled(plots.busy_heatmap(report))
    shares = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(shares) == 2
    cores = report.timing.cores
    assert np.nanmax(shares[0]) <= 100 * (
        (cores.update_ns + cores.blocked_ns).max() / cores.work_ns
    ) * (1 + 1e-9)


def test_accuracy_against_energy(report):
    (axes,) = labelled(plots.accuracy_against_energy({"a": report, "b": report})).axes
    assert axes.lines[0].get_ydata()[0] == 100 * report.accuracy
    plain = emulate(report.network, report.mapping, load_digits("test").images[:1])
    with pytest.raises(InputError, match="run 'c'"):
        plots.accuracy_against_energy({"c": plain})
    with pytest.raises(InputError, match="at least 1"):
        plots.accuracy_against_energy({})


def test_files(report, tmp_path):
    figure = plots.energy_by_component(report)
    for suffix in (".png", ".svg", ".pdf"):
        plots.save_figure(figure, tmp_path / f"a{suffix}")
        plots.save_figure(plots.energy_by_component(report), tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    with pytest.raises(InputError, match=r"\.bmp"):
        plots.save_figure(figure, tmp_path / "c.bmp")
    with pytest.raises(FormatError, match="cannot be written"):
        plots.save_figure(figure, tmp_path / "none" / "c.png")
    assert len(list(tmp_path.iterdir())) == 6
