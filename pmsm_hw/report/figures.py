"""The figures of a page: drawn by the rooms that own the numbers, embedded as data."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pmsm_hw.emulator import plots
from pmsm_hw.mapping import plot_mapping
from pmsm_hw.tables import figure_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pmsm_hw.emulator import Report
    from pmsm_hw.mapping import Mapping

__all__ = ["Picture", "pictures"]

VECTOR_TILES = 600
"""Tiles from which a mesh is embedded as an image of pixels: as vectors it would be large."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of a page.

    Parameters
    ----------
    name
        Anchor, and what tests look for.
    caption
        What it shows, in a sentence.
    source
        ``data:`` address of the image.
    """

    name: str
    caption: str
    source: str


def pictures(
    report: Report,
    mapping: Mapping,
    *,
    conversion: MappingType[str, Any] | None,
    entropy: Any | None,
    accuracy_by_steps: MappingType[int, Report] | None,
) -> list[Picture]:
    """Draw what there is to draw.

    Parameters
    ----------
    report, mapping, conversion, entropy, accuracy_by_steps
        As for `write_html`.
    """
    found = [
        _picture(
            "energy-by-component",
            "Where an inference's energy goes. Components without a known constant are absent.",
            plots.energy_by_component(report),
        ),
        _picture(
            "energy-by-population",
            "Dynamic energy by population: its updates, spikes, packets and hops, and the synaptic "
            "operations that it receives.",
            plots.energy_by_population(report),
        ),
        _picture(
            "spike-raster",
            "Spikes of the first sample. Within a step, points are spread sideways.",
            plots.spike_raster(report),
        ),
        _picture(
            "mapping",
            "What tiles hold of each resource, and what links carry in the traffic that the "
            "placement was made for.",
            plot_mapping(mapping),
            pixels=mapping.chip.n_tiles > VECTOR_TILES,
        ),
        _picture(
            "busy-time",
            "How long the cores of each tile worked, and were blocked. Tiles that hold no core in "
            "use are white.",
            plots.busy_heatmap(report),
        ),
    ]
    if report.trace is not None:
        found.append(
            _picture(
                "latency-waterfall",
                "What the first inference waits for, in each hardware step.",
                plots.latency_waterfall(report),
            )
        )
    labelled = accuracy_by_steps and all(r.accuracy is not None for r in accuracy_by_steps.values())
    if accuracy_by_steps and labelled:
        runs = {f"T = {steps}": r for steps, r in accuracy_by_steps.items()}
        found.append(
            _picture(
                "accuracy-against-energy",
                "The same samples at other numbers of time steps T, in counts mode: its simple "
                "timing, and so its static energy, differ from cycle mode's.",
                plots.accuracy_against_energy(runs),
            )
        )
    if entropy is not None:
        found.append(_picture("entropy", "Entropy of each quantization layer.", entropy.plot()))
    elif conversion is not None and any(_entropies(conversion)):
        found.append(
            _picture(
                "entropy",
                "Entropy of each population's spikes on the calibration batch, and the most that "
                "its levels can carry.",
                _entropy(conversion),
            )
        )
    return found


def _entropies(conversion: MappingType[str, Any]) -> list[tuple[str, float, float]]:
    return [
        (str(p["name"]), float(p["entropy_bits"]), float(p["max_entropy_bits"]))
        for p in conversion.get("populations", ())
        if p.get("entropy_bits") is not None and p.get("max_entropy_bits") is not None
    ]


def _entropy(conversion: MappingType[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    rows = _entropies(conversion)
    figure = Figure(figsize=(7.0, 1.3 + 0.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rows))
    axes.barh(
        places, [r[2] for r in rows], color="white", edgecolor="black", linewidth=0.8,
        label="maximum, log2(n + p + 1)",
    )  # fmt: skip
    axes.barh(
        places, [r[1] for r in rows], color=plots.COLOURS[0], hatch="//", edgecolor="black",
        linewidth=0.6, label="entropy",
    )  # fmt: skip
    axes.set_yticks(places, [figure_text(r[0]) for r in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("entropy of the spikes, bits per neuron and step")
    axes.set_title("Entropy per quantization layer")
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _picture(name: str, caption: str, figure: Figure, *, pixels: bool = False) -> Picture:
    import matplotlib

    out = io.BytesIO()
    if pixels:
        figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
        kind = "image/png"
    else:
        with matplotlib.rc_context({"svg.hashsalt": "pmsm-hw", "svg.fonttype": "path"}):
            figure.savefig(out, format="svg", dpi=150, metadata={"Date": None})
        kind = "image/svg+xml"
    data = base64.b64encode(out.getvalue()).decode("ascii")
    return Picture(name=name, caption=caption, source=f"data:{kind};base64,{data}")
