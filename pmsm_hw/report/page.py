"""The page: cards, figures, tables, provenance, in one file that needs no network."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from pmsm_hw.arguments import instance, shown
from pmsm_hw.errors import InputError, MappingError, require_extra
from pmsm_hw.files import check_output, replacing
from pmsm_hw.tables import energy_text, html_table, time_text

if TYPE_CHECKING:
    from pmsm_hw.emulator import Report
    from pmsm_hw.mapping import Mapping
    from pmsm_hw.network import Network
    from pmsm_hw.report.figures import Picture

__all__ = ["write_html"]

MAX_CORES = 64
"""Cores that get a row each; of more, the busiest are listed."""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What browsers may load for the page: nothing from outside, and no script."""

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --soft: #f3f4f6;
  --line: #c9ccd1; --mark: #8a4b00; --mark-paper: #fff3e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #17191c; --soft: #23262b;
  --line: #454a52; --mark: #ffcf8f; --mark-paper: #3a2a12; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .6rem;
  border-bottom: 1px solid var(--line); }
.sub { margin: .2rem 0 1rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .7rem; }
.card { background: var(--soft); border: 1px solid var(--line); border-radius: .4rem;
  padding: .6rem .8rem; }
.card b { display: block; font-size: 1.35rem; } .card span { font-size: .85rem; }
.note { background: var(--mark-paper); color: var(--mark); border-left: .3rem solid var(--mark);
  padding: .5rem .8rem; margin: .8rem 0; }
figure { margin: 1rem 0; padding: .6rem; background: #ffffff; border: 1px solid var(--line);
  break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: #333333; font-size: .9rem; margin-top: .4rem; text-align: center; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; margin: .4rem 0; }
caption { font-weight: 600; padding: .2rem 0; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top;
  font-variant-numeric: tabular-nums; }
th { text-align: left; background: var(--soft); }
code { background: var(--soft); padding: .1rem .3rem; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; } details { display: block; } }
"""


def _check_arguments(
    report: object, network: object, mapping: object, command: object, title: object
) -> None:
    from pmsm_hw.emulator import Report
    from pmsm_hw.mapping import Mapping
    from pmsm_hw.network import Network

    subject = "HTML report"
    remedy = "give what emulate returned, and the network and mapping that it ran"
    instance(InputError, subject, "report", report, Report, remedy=remedy)
    instance(InputError, subject, "network", network, Network, remedy=remedy)
    instance(InputError, subject, "mapping", mapping, Mapping, remedy=remedy)
    for what, value in (("command", command), ("title", title)):
        if value is not None:
            instance(InputError, subject, what, value, str, remedy="give a text")


def _check_extras(
    network: Network, conversion: object, entropy: object, accuracy_by_steps: object
) -> None:
    from pmsm_hw.emulator import Report

    def require(ok: bool, what: str, value: object, problem: str, remedy: str) -> None:
        if not ok:
            raise InputError(
                "HTML report", f"{what} {shown(value)} {problem}", remedy=remedy,
                actual=type(value).__name__, limit=remedy,
            )  # fmt: skip

    if conversion is not None:
        parts = conversion.get("populations") if isinstance(conversion, MappingType) else None
        known = isinstance(parts, list | tuple) and all(isinstance(p, MappingType) for p in parts)
        problem, remedy = "is of no conversion", "give ConversionReport.to_dict()"
        require(known, "conversion", conversion, problem, remedy)
    if entropy is not None:
        known = callable(getattr(entropy, "plot", None))
        remedy = "give what pmsm_hw.nn.entropy_report returned"
        require(known, "entropy", entropy, "is not an entropy report", remedy)
    if accuracy_by_steps is not None:
        remedy = "give reports of this network by their numbers of steps, {report.n_steps: report}"
        known = isinstance(accuracy_by_steps, MappingType)
        require(known, "accuracy_by_steps", accuracy_by_steps, "has no numbers of steps", remedy)
        assert isinstance(accuracy_by_steps, MappingType)
        for steps, report in accuracy_by_steps.items():
            known = isinstance(report, Report) and report.network.fingerprint == network.fingerprint
            what = f"accuracy_by_steps[{shown(steps)}]"
            require(known, what, report, "is not a report of this network", remedy)
            assert isinstance(report, Report)
            problem = f"is of {report.n_steps} steps"
            require(steps == report.n_steps, what, report, problem, remedy)


def write_html(
    path: str | os.PathLike[str],
    report: Report,
    network: Network,
    mapping: Mapping,
    *,
    conversion: MappingType[str, Any] | None = None,
    entropy: Any | None = None,
    accuracy_by_steps: MappingType[int, Report] | None = None,
    command: str | None = None,
    title: str | None = None,
) -> None:
    """Write a self-contained HTML report; the same arguments give the same bytes.

    Needs matplotlib (extra ``plot``).

    Parameters
    ----------
    path
        File to write; it appears whole or not at all.
    report
        From `pmsm_hw.emulator.emulate`; with a trace it shows what an inference waits for.
    network, mapping
        What ran, and where.
    conversion
        `ConversionReport.to_dict`, if the network was converted.
    entropy
        An entropy report of `pmsm_hw.nn`, if there is one.
    accuracy_by_steps
        Reports of the same samples by number of time steps, for accuracy against energy.
    command
        The command that makes this file.
    title
        Heading; by default network and chip.

    Raises
    ------
    InputError
        If matplotlib is not installed, or an argument is something else.
    MappingError
        If report, network and mapping do not belong together.
    FormatError
        If the file cannot be written.
    """
    require_extra("matplotlib", "plot", "an HTML report")
    _check_arguments(report, network, mapping, command, title)
    _check_extras(network, conversion, entropy, accuracy_by_steps)
    mapping.require(network)
    if report.network.fingerprint != network.fingerprint or report.mapping != mapping:
        raise MappingError(
            f"report of '{report.network.name}'",
            f"is of another network or mapping than '{network.name}' on '{mapping.chip.name}'",
            remedy="give what was emulated",
            actual=report.network.fingerprint,
            limit=network.fingerprint,
        )
    check_output(path, "report")
    from pmsm_hw.report.figures import pictures

    heading = title or f"{network.name} on {mapping.chip.name}"
    drawn = pictures(
        report, mapping, conversion=conversion, entropy=entropy,
        accuracy_by_steps=accuracy_by_steps,
    )  # fmt: skip
    sections = (
        _head(report, heading),
        _cards(report),
        _notes(report),
        _figures(drawn, traced=report.trace is not None),
        _section("Populations", _populations(report)),
        _section("Energy and its uncertainty range", _energy(report)),
        _section("Cores and limits", _cores(report, mapping)),
        _section("Samples", _spread(report)),
        _section("Conversion", _conversion(conversion)) if conversion is not None else "",
        _section("Accuracy over time steps", _steps(accuracy_by_steps))
        if accuracy_by_steps
        else "",
        _section("Constants of the chip, with sources", _constants(report, mapping)),
        _section("What is exact, measured, assumed", _guarantees(report)),
        _section("Provenance", _provenance(network, mapping, command)),
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(heading)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in sections if part)
        + "\n</body>\n</html>\n"
    )
    with replacing(path, "report") as file:
        file.write(page.encode())


# -- parts ---------------------------------------------------------------------------------


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> str:
    return f'<div class="wide">{html_table(header, rows, title=title)}</div>'


def _head(report: Report, heading: str) -> str:
    samples = "sample" if report.n_samples == 1 else "samples"
    carried = " without reset" if report.carry_state else ""
    return (
        f"<header>\n<h1>{escape(heading)}</h1>\n"
        f'<p class="sub">{report.n_samples:,} {samples}, T = {report.n_steps}{carried}, '
        f"{report.mode} mode, "
        f"constants of profile {escape(report.profile)}; values are per inference.</p>\n</header>"
    )


def _cards(report: Report) -> str:
    timing = report.timing
    cards = []
    if report.accuracy is not None:
        cards.append((f"{100 * report.accuracy:.2f} %", "accuracy"))
    cards += [
        (time_text(report.latency_ns), f"latency ({timing.model} timing)"),
        (energy_text(report.energy.total), "energy" + (" (partial)" if report.partial else "")),
        (f"{len(report.mapping.cores):,}", f"cores of {report.mapping.chip.n_cores:,}"),
    ]
    if timing.inferences_per_s:
        cards.append(
            (
                f"{timing.inferences_per_s:,.0f} / s",
                "inferences, pipelined" if timing.pipelined else "inferences",
            )
        )
    cards.append((f"{report.network.n_neurons:,}", "neurons"))
    body = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what in cards
    )
    return f'<div class="cards">{body}</div>'


def _notes(report: Report) -> str:
    notes = []
    if report.missing:
        names = ", ".join(report.missing)
        notes.append(
            f"Partial: the profile does not know {names}. They are left out; the true values "
            "are higher."
        )
    if report.assumed:
        notes.append(f"Assumed, without a primary source: {', '.join(report.assumed)}.")
    if report.saturations:
        clipped = ", ".join(f"{k} {v:,}" for k, v in report.saturations.items())
        notes.append(f"States were clipped: {clipped}.")
    return "\n".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def _figures(drawn: Sequence[Picture], *, traced: bool) -> str:
    body = "\n".join(
        f'<figure id="{p.name}"><img src="{p.source}" alt="{escape(p.caption)}">'
        f"<figcaption>{escape(p.caption)}</figcaption></figure>"
        for p in drawn
    )
    if not traced:
        body += '\n<p class="note">No latency waterfall: it needs a trace (cycle mode).</p>'
    return _section("Figures", body)


def _populations(report: Report) -> str:
    n = report.n_samples
    rows = []
    for name, c in report.counts.by_population().items():
        hops = sum(c[f"hops_{d}"] for d in ("east", "west", "north", "south"))
        rows.append(
            (
                name,
                report.network[name].n_neurons,
                c["spikes"] / n,
                c["messages"] / n,
                hops / n,
                c["synaptic_operations"] / n,
                (c["neuron_updates_idle"] + c["neuron_updates_active"]) / n,
                report.energy.by_population[name] / 1000,
            )
        )
    header = (
        "population", "neurons", "spikes", "messages", "hops", "synaptic operations", "updates",
        "dynamic energy, nJ",
    )  # fmt: skip
    return _table(header, rows)


def _energy(report: Report) -> str:
    from pmsm_hw.emulator.constants import resolve
    from pmsm_hw.emulator.energy import energy_of

    parts = report.energy.parts
    total = report.energy.total or 1.0
    out = _table(
        ("component", "nJ", "share, %"),
        [(name, pj / 1000, 100 * pj / total) for name, pj in parts.items()],
        title=f"Profile {report.profile}, total {energy_text(report.energy.total)}",
    )
    profiles = report.mapping.chip.profiles
    if len(profiles) > 1:
        priced = {
            name: energy_of(report.counts, resolve(report.counts.layout, name), 0.0)
            for name in profiles
        }
        names = [n for n in parts if n != "static"]
        names += [n for e in priced.values() for n in e.parts if n not in (*names, "static")]
        names = list(dict.fromkeys(names))
        rows: list[tuple[object, ...]] = [
            (name, *(_or_unknown(e.parts.get(name)) for e in priced.values())) for name in names
        ]
        rows.append(("dynamic, of what is known", *(e.dynamic / 1000 for e in priced.values())))
        out += _table(
            ("component", *(f"{name}, nJ" for name in priced)),
            rows,
            title="The same events at the constants of each profile, without static power: the "
            "uncertainty range",
        )
    events = [
        (
            event,
            count,
            "unknown" if pj is None else pj,
            "left out" if product is None else product / 1000,
        )
        for event, (count, pj, product) in report.energy.by_event.items()
    ]
    out += _table(("event", "per inference", "pJ each", "nJ"), events, title="Events")
    ops = report.operations
    formats = [(name, ops.snn_pj[name] / 1000, ops.ann_pj[name] / 1000) for name in ops.snn_pj]
    out += _table(
        ("number format", "SNN, nJ", "ANN of the same shape, nJ"),
        formats,
        title=f"Arithmetic alone, as papers count it: {ops.effective_macs:,.0f} MAC + "
        f"{ops.effective_acs:,.0f} AC against {ops.ann_macs:,} MAC",
    )
    return out


def _or_unknown(pj: float | None) -> object:
    return "unknown" if pj is None else pj / 1000


def _cores(report: Report, mapping: Mapping) -> str:
    from pmsm_hw.mapping import RESOURCES

    limits = [int(getattr(mapping.chip.limits, name).value) for name in RESOURCES]
    usage = mapping.usage
    out = _table(
        ("resource of a core", "limit", "most used", "most, %", "mean, %"),
        [
            (
                name,
                limit,
                int(usage[:, i].max()),
                100 * float(usage[:, i].max()) / limit,
                100 * float(usage[:, i].mean()) / limit,
            )
            for i, (name, limit) in enumerate(zip(RESOURCES, limits, strict=True))
        ],
    )
    times = report.timing.cores
    busy = np.maximum(times.update_ns + times.blocked_ns, times.receive_ns)
    order = np.argsort(-busy, kind="stable")[:MAX_CORES]
    rows = []
    for i in sorted(order.tolist()):
        core = mapping.cores[i]
        chip, x, y = mapping.position(core)
        populations = dict.fromkeys(b.population for b in mapping.blocks_of(core))
        rows.append(
            (
                str(core),
                f"chip\u00a0{chip}, x\u00a0{x}, y\u00a0{y}".replace(", ", ",\u00a0"),
                ", ".join(populations),
                *(int(v) for v in usage[i]),
                float(times.update_ns[i]) / 1000 / report.n_samples,
                float(times.blocked_ns[i]) / 1000 / report.n_samples,
                float(times.receive_ns[i]) / 1000 / report.n_samples,
            )
        )
    n_cores = len(mapping.cores)
    which = "" if n_cores <= MAX_CORES else f" (the {MAX_CORES} busiest of {n_cores:,})"
    return out + _table(
        (
            "core", "tile", "populations", *RESOURCES, "updating, us", "blocked, us",
            "receiving, us",
        ),
        rows,
        title=f"Cores{which}; times per inference",
    )  # fmt: skip


def _spread(report: Report) -> str:
    rows = [
        (name, s.mean, s.sd, s.minimum, s.p5, s.median, s.p95, s.maximum)
        for name, s in report.spread().items()
    ]
    header = ("per inference", "mean", "sd", "min", "p5", "median", "p95", "max")
    return _table(header, rows)


def _steps(reports: MappingType[int, Report]) -> str:
    rows = [
        (
            steps,
            "" if r.accuracy is None else f"{100 * r.accuracy:.2f} %",
            r.energy.total / 1000,
            r.latency_ns / 1000,
        )
        for steps, r in reports.items()
    ]
    return _table(("T", "accuracy", "energy, nJ", "latency, us (simple timing)"), rows)


def _conversion(conversion: MappingType[str, Any]) -> str:
    def text(value: object) -> object:
        if value is None:
            return ""
        return f"{100 * value:.3g} %" if isinstance(value, float) else value

    columns: dict[str, str] = {"name": "population", "kind": "kind", "n_neurons": "neurons"}
    if "weight_bits" in conversion:
        title = f"{conversion['weight_bits']}-bit weights, rule {conversion.get('rule')}"
        columns |= {
            "fractional_bits": "fraction bits", "weight_error": "weight error",
            "theta_error": "theta error", "differing_spikes": "differing spikes",
            "n_dead_channels": "dead channels",
        }  # fmt: skip
    else:  # of Loihi's neurons, whose integers are the model's
        title = f"compared on {conversion.get('n_calibration')} samples"
        columns |= {
            "spike_rate": "spike rate", "n_silent": "silent", "n_outside": "outside",
            "differing_spikes": "differing spikes", "n_compared": "compared",
        }  # fmt: skip
    rows = [tuple(text(p.get(c)) for c in columns) for p in conversion.get("populations", ())]
    return _table(tuple(columns.values()), rows, title=title)


def _constants(report: Report, mapping: Mapping) -> str:
    from pmsm_hw.mapping.chip import value_text

    rows = [
        (key, value_text(q.value), q.unit, q.kind, q.source) for key, q in mapping.chip.quantities()
    ]
    table = _table(("key", "value", "unit", "kind", "source"), rows, title=mapping.chip.description)
    return f"<p>The run used profile {escape(report.profile)}.</p>{table}"


def _guarantees(report: Report) -> str:
    time = (
        "simulated event by event (cores in order, links and buffers, barrier)"
        if report.timing.model == "cycle"
        else "a formula for the busiest core of each step"
    )
    rows = [
        (
            "spikes, readouts, accuracy",
            "exact: the integer arithmetic that every backend shares, spike for spike",
        ),
        ("counts of events", "exact for this chip model and placement"),
        ("fits on the chip", "exact for the limits below; each states its source"),
        (
            "energy",
            "exact counts times constants: as good as their sources. Parts: "
            f"{', '.join(report.energy.parts)}. Host and I/O are not included.",
        ),
        ("time", f"a model: {time}. Loihi has no clock, so times are in ns."),
    ]
    return _table(("quantity", "guarantee"), rows) + (
        "<p>PMSM's equations are reconstructed from the abstract of arXiv 2508.14520.</p>"
    )


def _provenance(network: Network, mapping: Mapping, command: str | None) -> str:
    from importlib.metadata import version

    from pmsm_hw import __version__

    placed = mapping.to_dict()
    digest = hashlib.sha256()
    for key in ("blocks", "populations", "spike_modes", "network_fingerprint"):
        value = placed[key]
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else str(value).encode())
    rows = [
        ("pmsm-hw", __version__),
        ("Python", platform.python_version()),
        ("numpy", np.__version__),
        *((name, version(name)) for name in ("numba", "scipy", "matplotlib")),
        ("network fingerprint", network.fingerprint),
        ("mapping, SHA-256", digest.hexdigest()),
        ("chip, SHA-256", hashlib.sha256(placed["chip"].encode()).hexdigest()),
        ("objective, seed", f"{mapping.objective}, {mapping.seed}"),
    ]
    out = _table(("what", "value"), rows)
    if command is not None:
        out += f"<p>Made by <code>{escape(command)}</code></p>"
    return out
