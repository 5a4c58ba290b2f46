"""The complete workflow on real digits: train, quantize, convert, map, emulate, and run in Lava."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingType
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pmsm_hw import lava, reference
from pmsm_hw.arguments import flag, instance, integer, shown
from pmsm_hw.datasets import LabelledImages, load_digits
from pmsm_hw.emulator import Report, emulate
from pmsm_hw.errors import InputError, LavaError, require_extra
from pmsm_hw.files import check_outputs, made_folder, replacing
from pmsm_hw.mapping import Mapping, load_chip, map_network
from pmsm_hw.network import Network
from pmsm_hw.reference import differing_readouts, differing_spikes
from pmsm_hw.tables import energy_text, table, time_text

__all__ = ["SAVED", "DemoResult", "run_demo"]

SAVED = ("model.pt", "network.h5", "mapped.h5")
"""Files of ``save_dir``."""

MOST = (1 << 32) - 1


class _Bar(Protocol):
    def steps(self, done: int, total: int) -> None: ...


class _NoBar:
    def steps(self, done: int, total: int) -> None:
        """Show nothing."""


@contextmanager
def _no_bar(what: str) -> Iterator[_Bar]:
    yield _NoBar()


TITLES = {
    "ann": "full-precision ANN (ReLU)",
    "quantized": "quantized ANN (polarity levels)",
    "snn_t1": "PMSM SNN, T=1 (torch)",
    "integer": "integer network (reference)",
    "emulator": "emulator, cycle mode",
    "lava": "Lava process graph",
}


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo found.

    Parameters
    ----------
    accuracy
        By stage, 0..1; stages that did not run are absent.
    differing_spikes
        Spikes of all populations that differ from the reference's, by backend.
    differing_readouts
        Values of all readouts that differ from the reference's, by backend.
    compared_images
        Images over which they were compared, by backend.
    report
        The emulator's report: latency, energy and their parts.
    n_steps
        Time steps T.
    seconds
        Wall-clock time by stage.
    conversion
        Report of the conversion, where a model was converted.
    notes
        What else should be said.
    network, mapping
        What was converted, and where it was placed.
    """

    accuracy: dict[str, float]
    differing_spikes: dict[str, int]
    differing_readouts: dict[str, int]
    compared_images: dict[str, int]
    network: Network
    mapping: Mapping
    report: Report
    n_steps: int
    seconds: dict[str, float]
    conversion: dict[str, Any] | None = None
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "accuracy": self.accuracy,
            "differing_spikes": self.differing_spikes,
            "differing_readouts": self.differing_readouts,
            "compared_images": self.compared_images,
            "n_cores": len(self.mapping.cores),
            "n_steps": self.n_steps,
            "latency_ns": self.report.latency_ns,
            "energy_pj": {"total": self.report.energy.total, **self.report.energy.parts},
            "assumed": list(self.report.assumed),
            "seconds": {k: round(v, 3) for k, v in self.seconds.items()},
            "notes": list(self.notes),
        }

    @property
    def differs(self) -> bool:
        """Whether any spike or readout of any backend differs from the reference's."""
        return any((*self.differing_spikes.values(), *self.differing_readouts.values()))

    def table(self) -> str:
        """Draw everything as one table."""
        n = {
            k: f"differing spikes or readouts: {v + self.differing_readouts[k]} in "
            f"{self.compared_images[k]} images"
            for k, v in self.differing_spikes.items()
        }
        rows: list[tuple[object, ...]] = [
            (
                f"accuracy: {TITLES[k]}",
                f"{100 * v:.2f} %",
                n.get(k, ""),
            )
            for k, v in self.accuracy.items()
        ]
        chip = self.mapping.chip
        rows.append(
            (
                "cores used",
                f"{len(self.mapping.cores)}",
                f"chip {chip.name}, {self.network.n_neurons} neurons",
            )
        )
        rows.append(
            (
                "latency per inference",
                time_text(self.report.latency_ns),
                f"T = {self.n_steps}",
            )
        )
        energy = self.report.energy
        rows.append(
            (
                "energy per inference",
                energy_text(energy.total),
                f"profile {self.report.profile}",
            )
        )
        rows += [
            (f"  {name}", energy_text(pj), f"{100 * pj / energy.total:.1f} %")
            for name, pj in energy.parts.items()
        ]
        body = table(
            ("", "value", ""), rows, title="pmsm-hw demo: handwritten digits, held-out third"
        )
        return "\n".join((body, *self.notes))


class _Stages:
    """Wall-clock time by stage; says on stderr what is going on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say

    @contextmanager
    def __call__(self, name: str, what: str) -> Iterator[None]:
        self._say(f"{what} ...")
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def run_demo(
    *,
    seed: int = 0,
    network: Network | None = None,
    save_dir: str | os.PathLike[str] | None = None,
    chip: str | os.PathLike[str] = "loihi1",
    lava_images: int | None = None,
    lava_required: bool = True,
    trace: bool | int = False,
    say: Callable[[str], None] = lambda text: None,
    bar: Callable[[str], AbstractContextManager[_Bar]] = _no_bar,
) -> DemoResult:
    """Run the complete workflow on UCI's handwritten digits.

    Parameters
    ----------
    seed
        Seed of training and placement.
    network
        Start from this integer network instead of training one (needs no torch).
    save_dir
        Folder for ``model.pt`` (trained model, where one was trained), ``network.h5`` and
        ``mapped.h5``, which are written together at the end; nothing is saved by default.
    chip
        Chip name or file.
    lava_images
        How many held-out images run in Lava: all by default, 0 leaves Lava out.
    lava_required
        Whether it is an error if Lava cannot be run; if not, its row is missing and ``notes`` say
        why.
    trace
        Whether the emulator keeps what every core did in every step.
    say
        Takes lines of progress.
    bar
        Given the name of some work, a context with a method ``steps(done, total)``.

    Raises
    ------
    PmsmHwError
        If a stage fails; torch missing included.
    """
    _check(seed, network, lava_images, lava_required, trace, say, bar)
    folder = None if save_dir is None else _folder(save_dir)
    on_chip = load_chip(chip)
    # what is missing is said before a minute of training, not after
    if network is None:
        require_extra("torch", "torch", "training (other than demo --network FILE)")
    lava_missing: LavaError | None = None
    if lava_images != 0:
        try:
            lava.find_python()
        except LavaError as error:
            if lava_required:
                raise
            lava_missing = error
            say(f"Lava is left out: {error}")
    stages = _Stages(say)
    with stages("data", "reading digits"):
        train, test = load_digits("train"), load_digits("test")
    x, labels = test.images, test.labels
    n_steps = 1
    accuracy: dict[str, float] = {}
    conversion: dict[str, Any] | None = None
    model: Any = None
    if network is None:
        network, conversion, accuracy, model = _train(seed, train, test, stages)
    with stages("reference", "running the integer network"):
        expected = reference.run(network, x, n_steps)
    accuracy["integer"] = _accuracy(expected.predictions(), labels)
    with stages("map", f"mapping onto {on_chip.name}"):
        mapping = map_network(network, on_chip, seed=seed)
    with stages("emulate", "emulating every held-out image, cycle by cycle"):
        report = emulate(network, mapping, x, n_steps, mode="cycle", labels=labels, trace=trace)
    accuracy["emulator"] = _accuracy(report.predictions(), labels)
    spikes = {"emulator": differing_spikes(report.spikes, expected.spikes)}
    readouts = {"emulator": differing_readouts(report.readouts, expected.readouts)}
    compared = {"emulator": len(x)}
    n_lava = len(x) if lava_images is None else lava_images
    answer: reference.Result | None = None
    if n_lava > 0 and lava_missing is None:
        try:
            with (
                stages("lava", f"running {n_lava} images in Lava"),
                bar("steps in Lava") as shown,
            ):
                answer = lava.run(network, x[:n_lava], n_steps, progress=shown.steps)
        except LavaError as error:
            if lava_required:
                raise
            lava_missing = error
    if answer is not None:
        accuracy["lava"] = _accuracy(answer.predictions(), labels[:n_lava])
        spikes["lava"] = differing_spikes(answer.spikes, _first(n_lava, expected.spikes))
        readouts["lava"] = differing_readouts(answer.readouts, _first(n_lava, expected.readouts))
        compared["lava"] = len(answer.predictions())
    if folder is not None:
        _save(folder, model, network, mapping)
    return DemoResult(
        accuracy=accuracy,
        differing_spikes=spikes,
        differing_readouts=readouts,
        compared_images=compared,
        network=network,
        mapping=mapping,
        report=report,
        n_steps=n_steps,
        seconds=stages.seconds,
        conversion=conversion,
        notes=(
            *_notes(report),
            *(() if lava_missing is None else (f"Lava was left out: {lava_missing}",)),
        ),
    )


def _check(
    seed: int,
    network: Network | None,
    lava_images: int | None,
    lava_required: bool,
    trace: bool | int,
    say: object,
    bar: object,
) -> None:
    """Refuse before the work what would fail after it."""
    remedy = "give an integer"
    integer(InputError, "demo", "seed", seed, low=0, high=MOST, remedy=remedy)
    if lava_images is not None:
        remedy = "give a number of images, 0 for none, or None for all"
        integer(InputError, "demo", "lava_images", lava_images, low=0, high=MOST, remedy=remedy)
    flag(InputError, "demo", "lava_required", lava_required)
    if network is not None:
        remedy = "give a Network, or None to train one"
        instance(InputError, "demo", "network", network, Network, remedy=remedy)
    if not isinstance(trace, bool):
        integer(InputError, "demo", "trace", trace, low=0, high=MOST, remedy="give True or False")
    for what, value in (("say", say), ("bar", bar)):
        if not callable(value):
            raise InputError(
                "demo",
                f"{what} {shown(value)} cannot be called",
                remedy="give a function, or leave it out",
                actual=type(value).__name__,
                limit="a function",
            )


def _folder(save_dir: str | os.PathLike[str]) -> Path:
    """The folder to save into, which can be written."""
    if not isinstance(save_dir, str | os.PathLike):
        raise InputError(
            "demo",
            f"save_dir {shown(save_dir)} is not a path",
            remedy="give a str or a pathlib.Path",
            actual=type(save_dir).__name__,
            limit="a path",
        )
    folder = Path(save_dir)
    check_outputs({f"demo's {name}": folder / name for name in SAVED}, made=folder)
    return folder


def _save(folder: Path, model: Any, network: Network, mapping: Mapping) -> None:
    """Write all files or, where one cannot be written, none."""
    from pmsm_hw.io.h5 import encoded

    contents = dict(
        zip(SAVED[1:], (encoded(network), encoded(network, mapping=mapping)), strict=True)
    )
    if model is not None:
        from pmsm_hw.convert.storage import encoded_model

        contents[SAVED[0]] = encoded_model(model)
    with ExitStack() as stack:
        stack.enter_context(made_folder(folder))
        for name, content in contents.items():
            stack.enter_context(replacing(folder / name)).write(content.getbuffer())


def _train(
    seed: int, train: LabelledImages, test: LabelledImages, stages: _Stages
) -> tuple[Network, dict[str, Any], dict[str, float], Any]:
    """Train, quantize, fine-tune with integer weights, convert; the only part that needs torch."""
    import torch

    from pmsm_hw import nn
    from pmsm_hw.convert import convert, integer_model

    torch.set_num_threads(1)  # the network is too small for more
    accuracy: dict[str, float] = {}
    x, labels = test.images, test.labels
    with stages("train", "training the full-precision network"):
        model = nn.models.digits_cnn(seed=seed)
        nn.train(model, nn.loader(train.images, train.labels, seed=seed), epochs=15, seed=seed)
    accuracy["ann"] = nn.accuracy(model, x, labels)
    with stages("finetune", "quantizing, fine-tuning with integer weights"):
        quantized = nn.quantize(
            model,
            levels=(2, 4),
            gains=(4, 1),
            init="mse",
            calibration=train.images[:256],
            input_scale=1 / 16,
            input_levels=(0, 16),
        )
        nn.finetune(
            quantized, nn.loader(train.images, train.labels, seed=seed), epochs=8, seed=seed
        )
        exact = integer_model(
            quantized, train.images[:256], weight_bits=8, max_steps=8, target_spikes="unit"
        )
        nn.finetune(exact, nn.loader(train.images, train.labels, seed=seed), epochs=5, seed=seed)
    accuracy["quantized"] = nn.accuracy(exact, x, labels)
    with stages("snn", "running the torch SNN"):
        snn = nn.to_snn(exact)
        answer = snn.run(x, 1)
    accuracy["snn_t1"] = _accuracy(answer.logits.argmax(dim=1).numpy(), labels)
    with stages("convert", "converting to integers"):
        network, report = convert(exact, name="digits")
    return network, report.to_dict(), accuracy, exact


def _first(n: int, parts: MappingType[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: part[:n] for name, part in parts.items()}


def _accuracy(predictions: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    return float((predictions == labels).mean())


def _notes(report: Report) -> tuple[str, ...]:
    """What the figures include, and which constants are unknown or assumed."""
    parts = ", ".join(report.energy.parts)
    notes = [f"energy includes {parts}; host and I/O are not included"]
    if report.missing:
        notes.append(f"unknown constants, left out: {', '.join(report.missing)}")
    if report.assumed:
        notes.append(f"assumed constants: {', '.join(report.assumed)}")
    return tuple(notes)
