"""Pictures of an emulation. Needs matplotlib (extra ``plot``).

Colours are those of Okabe and Ito (2008), which colour-blind people tell apart; bars also differ in
hatching, lines in markers, so that a print in grey can be read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping as MappingType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.arguments import integer
from pmsm_hw.errors import EmulationError, InputError
from pmsm_hw.figure_files import write_figure
from pmsm_hw.records import same
from pmsm_hw.tables import energy_unit, figure_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pmsm_hw.emulator.report import Report

__all__ = [
    "accuracy_against_energy",
    "busy_heatmap",
    "energy_by_component",
    "energy_by_population",
    "latency_waterfall",
    "save_figure",
    "spike_raster",
]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


MAX_RASTER_NEURONS = 4000
"""Neurons that a raster can show; of larger populations some are drawn, evenly spaced."""

MAX_ROWS = 40
"""Bars of one figure; the rest is summed into one."""


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from pmsm_hw.errors import require_extra

    require_extra("matplotlib", "plot", "a figure")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; the file appears whole or not at all, and the same figure gives equal bytes.

    Parameters
    ----------
    figure
        Any matplotlib figure.
    path
        File ``.png``, ``.svg`` or ``.pdf``.

    Raises
    ------
    InputError
        If the suffix is another one.
    FormatError
        If the file cannot be written.
    """
    write_figure(figure, path, dpi=150)


def spike_raster(report: Report, *, sample: int = 0) -> Figure:
    """Draw who sends when, and how much, for one sample.

    Parameters
    ----------
    report
        With recorded spikes.
    sample
        Which sample of the batch.

    Returns
    -------
    matplotlib.figure.Figure
        Time step across (the spikes k where there is one step only), neurons upwards by
        population; blue dots are positive spikes, orange squares negative ones, larger where
        abs(k) is larger.

    Raises
    ------
    InputError
        If there is no such sample, or the report has no spikes.
    """
    n_recorded = min((len(k) for k in report.spikes.values()), default=0)
    if n_recorded == 0:
        raise InputError(
            f"report of '{report.network.name}'",
            "has spikes of 0 samples, at least 1 is needed",
            remedy="emulate with populations in record, and record_samples of 1 or more",
            actual=0,
            limit=1,
        )
    sample = integer(
        InputError, "spike raster", "sample", sample, low=0, high=n_recorded - 1,
        remedy="choose one whose spikes the report has, or emulate with larger record_samples",
    )  # fmt: skip
    rows = {
        name: np.asarray(k[sample]).reshape(report.n_steps, -1) for name, k in report.spikes.items()
    }
    figure, axes = _figure(7.5, max(4.8, 1.0 + 0.2 * len(rows)))
    # a band of equal height for each population, whatever its size
    n_shown = max(MAX_RASTER_NEURONS // max(len(rows), 1), 1)
    n_largest = max((k.shape[1] for k in rows.values()), default=0)
    ticks = []
    points: list[
        tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]
    ]
    points = []
    for i, (name, k) in enumerate(rows.items()):
        picked = np.linspace(0, k.shape[1] - 1, min(k.shape[1], n_shown)).round().astype(np.int64)
        shown = k[:, picked]
        if i % 2:
            axes.axhspan(i - 0.5, i + 0.5, color="0.93", zorder=0)
        step, neuron = np.nonzero(shown)
        height = i - 0.5 + (neuron + 0.5) / shown.shape[1]
        points.append((step, neuron, height, shown[step, neuron].astype(np.int64)))
        ticks.append((i, f"{figure_text(name)} ({k.shape[1]:,})"))
    step = np.concatenate([p[0] for p in points])
    height = np.concatenate([p[2] for p in points])
    value = np.concatenate([p[3] for p in points])
    largest = max(int(np.abs(value).max(initial=1)), 1)
    # neurons of a column are spread a little sideways, so that a step does not become one line
    single = report.n_steps == 1
    aside = np.random.default_rng(0).uniform(-0.35, 0.35, value.size)
    across = (value if single else step) + aside
    for positive, colour, marker, label in (
        (True, COLOURS[0], "o", "k > 0"),
        (False, COLOURS[1], "s", "k < 0"),
    ):
        chosen = (value > 0) == positive
        if chosen.any():
            axes.scatter(
                across[chosen], height[chosen], s=2 + 16 * np.abs(value[chosen]) / largest,
                c=colour, marker=marker, linewidths=0, label=label, rasterized=True,
            )  # fmt: skip
    axes.set_yticks([t[0] for t in ticks], [t[1] for t in ticks], fontsize=8)
    axes.set_ylim(-0.5, max(len(rows), 1) - 0.5)
    if single:
        lo, hi = int(value.min(initial=0)), int(value.max(initial=1))
        axes.set_xlim(lo - 0.5, hi + 0.5)
        axes.set_xticks(range(lo, hi + 1, -(-(hi - lo + 1) // 16)))
        axes.set_xlabel("spikes k of the only time step")
    else:
        axes.set_xlim(-0.5, report.n_steps - 0.5)
        _whole_ticks(axes, report.n_steps)
        axes.set_xlabel("time step t")
    axes.set_ylabel("population (neurons)")
    part = "" if n_largest <= n_shown else f" (up to {n_shown:,} neurons each)"
    axes.set_title(f"Spikes of sample {sample}{part}; largest |k| = {largest}")
    if value.size:
        axes.legend(loc="upper right", fontsize=8, markerscale=2)
    return figure


def _whole_ticks(axes: Axes, n_steps: int) -> None:
    every = -(-n_steps // 16)
    axes.set_xticks(range(0, n_steps, every))


def energy_by_component(report: Report) -> Figure:
    """Draw the parts of an inference's energy.

    Parameters
    ----------
    report
        Of any mode.

    Returns
    -------
    matplotlib.figure.Figure
        A bar for each component, with its share of the total.
    """
    parts = report.energy.parts
    figure, axes = _figure(7.0, 0.9 + 0.42 * max(len(parts), 1))
    total = report.energy.total
    size, unit = energy_unit(total)
    _bars(axes, list(parts), [pj / size for pj in parts.values()], total / size)
    axes.set_xlabel(f"energy per inference, {unit} (profile {figure_text(report.profile)})")
    partial = ", partial" if report.partial else ""
    axes.set_title(f"Energy by component: {total / size:,.4g} {unit}{partial}")
    return figure


def energy_by_population(report: Report) -> Figure:
    """Draw the dynamic energy of each population.

    Parameters
    ----------
    report
        Of any mode.

    Returns
    -------
    matplotlib.figure.Figure
        A bar for each population, in the order of the network; beyond 40 the smallest are summed.
    """
    values = dict(report.energy.by_population)
    if len(values) > MAX_ROWS:
        largest = sorted(values, key=lambda name: -values[name])[: MAX_ROWS - 1]
        rest = sum(pj for name, pj in values.items() if name not in largest)
        n_rest = len(values) - len(largest)
        values = {name: pj for name, pj in values.items() if name in largest}
        values[f"{n_rest} others"] = rest
    figure, axes = _figure(7.0, 0.9 + 0.32 * max(len(values), 1))
    dynamic = report.energy.dynamic
    size, unit = energy_unit(max(values.values(), default=0.0))
    _bars(axes, list(values), [pj / size for pj in values.values()], dynamic / size)
    axes.set_xlabel(f"dynamic energy per inference, {unit} (profile {figure_text(report.profile)})")
    axes.set_title("Dynamic energy by population, without static power")
    return figure


def _bars(axes: Axes, names: list[str], values: list[float], total: float) -> None:
    places = np.arange(len(names))
    bars = axes.barh(places, values, color=COLOURS[0], edgecolor="black", linewidth=0.6)
    for i, bar in enumerate(bars):
        bar.set_facecolor(COLOURS[i % len(COLOURS)] if len(names) <= len(COLOURS) else COLOURS[0])
        if len(names) <= len(HATCHES):
            bar.set_hatch(HATCHES[i])
    for place, value in zip(places, values, strict=True):
        share = f" ({100 * value / total:.1f} %)" if total else ""
        axes.annotate(
            f"{value:,.4g}{share}", (value, place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    axes.set_yticks(places, [figure_text(name) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)


def busy_heatmap(report: Report) -> Figure:
    """Draw for how much of the working time the cores of each tile were busy, and blocked.

    Parameters
    ----------
    report
        Of any mode.

    Returns
    -------
    matplotlib.figure.Figure
        Three meshes on one scale: updating and sending, blocked (waiting for room on a link, which
        is no work), and receiving. Tiles without a core in use are white.
    """
    from pmsm_hw.errors import require_extra

    require_extra("matplotlib", "plot", "a figure")
    from matplotlib.figure import Figure

    cores, chip = report.timing.cores, report.mapping.chip
    work = cores.work_ns or 1.0
    tiles = np.array([chip.tile_of(core) for core in report.mapping.cores]).reshape(-1, 2)
    columns, rows = (tiles.max(axis=0) + 1).tolist()
    used = np.zeros((rows, columns))
    np.add.at(used, (tiles[:, 1], tiles[:, 0]), 1)
    # wide boards take a row a panel
    ratio = min(max(rows / columns, 0.2), 1.5)
    across = 1 if ratio < 0.5 else 3
    height = (9.0 / across - 1.0) * ratio
    figure = Figure(figsize=(9.0, (height + 1.2) * 3 / across + 0.3), layout="constrained")
    n_ticks = max(2, min(12, int(height / 0.25)))
    panels = {}
    for title, values in (
        ("updating and sending", cores.update_ns),
        ("blocked", cores.blocked_ns),
        ("receiving, synaptic operations", cores.receive_ns),
    ):
        share = np.zeros((rows, columns))
        np.add.at(share, (tiles[:, 1], tiles[:, 0]), 100 * np.asarray(values) / work)
        panels[title] = np.where(used > 0, share / np.maximum(used, 1), np.nan)
    top = max(float(np.nanmax(mean)) for mean in panels.values()) or 1.0
    for i, (title, mean) in enumerate(panels.items()):
        axes = figure.add_subplot(3 // across, across, i + 1)
        image = axes.imshow(mean, origin="lower", vmin=0, vmax=top, cmap="viridis")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("tile x")
        axes.set_ylabel("tile y")
        axes.set_xticks(range(0, columns, -(-columns // 12)))
        axes.set_yticks(range(0, rows, -(-rows // n_ticks)))
        figure.colorbar(image, ax=axes, shrink=0.8, label="% of work time")
    figure.suptitle(f"Time of cores, mean of each tile ({report.timing.model} timing)")
    return figure


def latency_waterfall(report: Report) -> Figure:
    """Draw what an inference waits for, step by step.

    Parameters
    ----------
    report
        From ``emulate(..., mode="cycle", trace=True)``.

    Returns
    -------
    matplotlib.figure.Figure
        A bar for each hardware step of the first sample, from its start to its end: of the core
        that sends last, what it worked and what it was blocked for, time until the last message was
        handled, and the barrier.

    Raises
    ------
    EmulationError
        If the report has no trace.
    """
    trace = report.trace
    if trace is None:
        raise EmulationError(
            f"report of '{report.network.name}'",
            f"has no trace ({report.mode} mode)",
            remedy="emulate with mode='cycle' and trace=True",
            actual=None,
            limit="a trace",
        )
    step_ps = np.asarray(report.timing.step_ps)
    begin = np.concatenate([[0], np.cumsum(step_ps)])
    n_steps = int(np.searchsorted(begin, report.timing.latency_ps, side="left"))
    n_shown = min(n_steps, MAX_ROWS)
    barrier = round(report.timing.cores.barrier_ns * 1000 / len(step_ps))
    start = begin[:n_shown] / 1e6
    work = (step_ps[:n_shown] - barrier) / 1e6
    last = trace["update_end"][:n_shown].argmax(axis=1)
    sent = np.minimum(trace["update_end"][np.arange(n_shown), last] / 1e6, work)
    blocked = np.minimum(trace["blocked"][np.arange(n_shown), last] / 1e6, sent)
    figure, axes = _figure(7.5, 1.2 + 0.3 * n_shown)
    places = np.arange(n_shown)
    left = start
    for i, (label, width) in enumerate(
        (
            ("updating, sending (core that sends last)", sent - blocked),
            ("blocked (the same core)", blocked),
            ("delivery, synaptic operations after it", work - sent),
            ("barrier", np.full(n_shown, barrier / 1e6)),
        )
    ):
        axes.barh(
            places, width, left=left, color=COLOURS[i], hatch=HATCHES[i], edgecolor="black",
            linewidth=0.5, label=label,
        )  # fmt: skip
        left = left + width
    axes.set_yticks(places, [f"step {h}" for h in places], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("time from the first input, us")
    axes.set_ylabel("hardware step")
    axes.set_xlim(left=0)
    rest = "" if n_shown == n_steps else f", first {n_shown} of {n_steps} steps"
    axes.set_title(f"One inference: {report.latency_ns / 1000:,.4g} us{rest}")
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def accuracy_against_energy(reports: MappingType[str, Report]) -> Figure:
    """Draw accuracy against energy, one point a run.

    Parameters
    ----------
    reports
        By the name that stands beside the point; all with labels.

    Returns
    -------
    matplotlib.figure.Figure
        Total energy per inference across (logarithmic where it spans more than a decade), accuracy
        with the 95 % interval that so many samples give (Wilson). A line joins runs that differ in
        the number of steps alone: of one mapping, profile and mode, on samples of equal labels.

    Raises
    ------
    InputError
        If there are none, or one has no accuracy.
    """
    if not reports:
        raise InputError(
            "reports", "are 0, at least 1 is needed", remedy="give a run", actual=0, limit=1
        )
    for name, report in reports.items():
        if report.accuracy is None:
            raise InputError(
                f"run '{name}'",
                "has no labels, so no accuracy",
                remedy="emulate with labels",
                actual=None,
                limit="labels",
            )
    figure, axes = _figure(7.0, 4.2)
    size, unit = energy_unit(max(r.energy.total for r in reports.values()))
    energy = [r.energy.total / size for r in reports.values()]
    accuracy = [100 * (r.accuracy or 0.0) for r in reports.values()]
    ranges = [_wilson(r.accuracy or 0.0, r.n_samples) for r in reports.values()]
    for members in _series(list(reports.values())):
        axes.plot(
            [energy[i] for i in members], [accuracy[i] for i in members], color="0.6",
            linewidth=1, zorder=1,
        )  # fmt: skip
    for i, name in enumerate(reports):
        axes.vlines(energy[i], *ranges[i], color="0.4", linewidth=1, zorder=1.5)
        axes.plot(
            energy[i], accuracy[i], MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)],
            markersize=8, markeredgecolor="black", markeredgewidth=0.6, linestyle="none",
            label=figure_text(name),
        )  # fmt: skip
    if min(energy) > 0 and max(energy) > 10 * min(energy):
        axes.set_xscale("log")
    axes.set_xlabel(f"energy per inference, {unit}")
    axes.set_ylabel("accuracy, %, with its 95 % interval")
    axes.set_title("Accuracy against energy")
    axes.margins(x=0.12)
    # at least ten points, so that noise does not look like a difference
    lo, hi = min(r[0] for r in ranges), max(r[1] for r in ranges)
    middle, half = (lo + hi) / 2, max((hi - lo) / 2 * 1.1, 5.0)
    lo, hi = (100 - 2 * half, 100.5) if middle + half > 100 else (middle - half, middle + half)
    axes.set_ylim(max(lo, -0.5), hi if lo > -0.5 else max(hi, 2 * half))
    axes.grid(visible=True, color="0.9")
    axes.legend(fontsize=8, loc="best")
    return figure


def _series(reports: list[Report]) -> list[list[int]]:
    """Runs that differ in the number of steps alone, by their steps; others are alone."""
    found: list[list[int]] = []
    for i, report in enumerate(reports):
        mine = next((some for some in found if _is_one_setup(reports[some[0]], report)), None)
        if mine is None:
            found.append([i])
        else:
            mine.append(i)
    series = [sorted(some, key=lambda i: reports[i].n_steps) for some in found]
    # two of as many steps differ in something else
    return [some for some in series if len({reports[i].n_steps for i in some}) == len(some)]


def _is_one_setup(a: Report, b: Report) -> bool:
    return (
        (a.profile, a.mode) == (b.profile, b.mode)
        and same(a.labels, b.labels)
        and (a.mapping is b.mapping or a.mapping == b.mapping)
    )


def _wilson(share: float, n: int) -> tuple[float, float]:
    """95 % score interval of a share of n samples, in percent."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return 100 * max(middle - half, 0.0), 100 * min(middle + half, 1.0)
