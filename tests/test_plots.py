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
    cores = report.timing.cores
    times = (cores.update_ns, cores.blocked_ns, cores.receive_ns)
    of_tile: dict[tuple[int, int], list[int]] = {}
    for i, core in enumerate(report.mapping.cores):
        of_tile.setdefault(report.mapping.chip.tile_of(core), []).append(i)
    for share, time in zip(shares, times, strict=True):
        share = np.ma.filled(np.ma.asarray(share, float), np.nan)
        for y, x in np.ndindex(share.shape):
            some = of_tile.get((x, y))
            expected = np.nan if some is None else 100 * time[some].mean() / cores.work_ns
            assert share[y, x] == pytest.approx(expected, nan_ok=True)
    assert max(x for x, _ in of_tile) + 1 == shares[0].shape[1]
    assert max(y for _, y in of_tile) + 1 == shares[0].shape[0]
    scales = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    assert len(scales) == 1


def test_waterfall_shows_blocked_time_apart(report):
    (axes,) = plots.latency_waterfall(report).axes
    work, blocked, *_ = axes.containers
    assert [c.get_label() for c in (work, blocked)] == [
        "updating, sending (core that sends last)", "blocked (the same core)",
    ]  # fmt: skip
    for h, (w, b) in enumerate(zip(work, blocked, strict=True)):
        core = report.trace["update_end"][h].argmax()
        assert b.get_width() * 1e6 == pytest.approx(report.trace["blocked"][h, core])
        assert (w.get_width() + b.get_width()) * 1e6 == pytest.approx(
            report.trace["update_end"][h, core]
        )


def test_raster_of_one_step_shows_how_many_spikes(report):
    one = emulate(report.network, report.mapping, load_digits("test").images[:1], mode="counts")
    (axes,) = labelled(plots.spike_raster(one)).axes
    assert axes.get_xlabel() == "spikes k of the only time step"
    across = np.concatenate(
        [np.asarray(c.get_offsets())[:, 0] for c in axes.collections if len(c.get_offsets()) > 1]
    )
    values = np.concatenate([k[0][k[0] != 0].reshape(-1) for k in one.spikes.values()])
    np.testing.assert_array_equal(np.sort(np.rint(across)), np.sort(values))


def test_lines_join_runs_of_one_network_alone_and_accuracy_has_its_range(report):
    x, labels = load_digits("test").images[:4], load_digits("test").labels[:4]
    other = map_network(report.network, load_chip("toy"), objective="cores")
    runs = {
        "T=2": emulate(report.network, report.mapping, x, 2, mode="counts", labels=labels),
        "cores": emulate(report.network, other, x, 1, mode="counts", labels=labels),
        "T=1": emulate(report.network, report.mapping, x, 1, mode="counts", labels=labels),
    }
    (axes,) = labelled(plots.accuracy_against_energy(runs)).axes
    grey = [line for line in axes.lines if line.get_color() == "0.6"]
    assert sorted(len(line.get_xdata()) for line in grey) == [1, 2]
    assert len(axes.collections) == 3
    seeded = map_network(report.network, load_chip("toy"), seed=5)
    more = {"other seed": emulate(report.network, seeded, x, 2, labels=labels)}
    more["other labels"] = emulate(report.network, report.mapping, x, 2, labels=9 - labels)
    (joined,) = plots.accuracy_against_energy(runs | more).axes
    grey = [line for line in joined.lines if line.get_color() == "0.6"]
    assert sorted(len(line.get_xdata()) for line in grey) == [1, 1, 1, 2]
    again = {"other images": emulate(report.network, report.mapping, x[::-1], 2, labels=labels)}
    (joined,) = plots.accuracy_against_energy(runs | again).axes  # two of two steps: no order
    grey = [line for line in joined.lines if line.get_color() == "0.6"]
    assert [len(line.get_xdata()) for line in grey] == [1]
    for range_, r in zip(axes.collections, runs.values(), strict=True):
        (low, high) = (y for _, y in range_.get_segments()[0])
        assert low < 100 * r.accuracy + 1e-9
        assert high > 100 * r.accuracy - 1e-9
        assert high - low > 40  # four samples say little
    lo, hi = axes.get_ylim()
    assert hi - lo >= 10
    # by Wilson's formula, as published: 3 of 4 is 30.1 % to 95.4 %
    assert plots._wilson(0.75, 4) == pytest.approx((30.06, 95.44), abs=0.01)


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
