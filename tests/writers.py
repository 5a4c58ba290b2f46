"""Every kind of file that this package writes, each by the public function that writes it."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import numpy as np

from pmsm_hw import Dense, Input, Network, PolarityMultiSpike, Readout, io
from pmsm_hw.emulator import emulate, write_trace
from pmsm_hw.mapping import load_chip, map_network


@lru_cache(maxsize=1)
def network():
    """A network for digits, of 30 neurons."""
    rng = np.random.default_rng(0)
    return Network(
        name="tiny",
        populations=(
            Input(name="x", shape=(1, 8, 8), levels=(0, 16), scale=1 / 16),
            PolarityMultiSpike(name="hidden", shape=(20,), theta=900, levels=(1, 3)),
            Readout(name="out", shape=(10,)),
        ),
        projections=(
            Dense(source="x", target="hidden", weight=rng.integers(-99, 99, (20, 64))),
            Dense(source="hidden", target="out", weight=rng.integers(-99, 99, (10, 20))),
        ),
        max_steps=4,
    )


@lru_cache(maxsize=1)
def mapping():
    return map_network(network(), load_chip("loihi1"), objective="cores")


@lru_cache(maxsize=1)
def report():
    x = np.random.default_rng(1).integers(0, 17, (2, 1, 8, 8))
    return emulate(network(), mapping(), x, 2, mode="cycle", trace=True)


def _html(path):
    from pmsm_hw.report import write_html

    write_html(path, report(), network(), mapping())


def _figure(path):
    from matplotlib.figure import Figure

    from pmsm_hw.emulator.plots import save_figure

    figure = Figure(figsize=(2, 2))
    figure.add_subplot().plot([1, 2])
    save_figure(figure, path)


def _mesh(path):
    from pmsm_hw.mapping import plot_mapping

    plot_mapping(mapping(), path)


@lru_cache(maxsize=1)
def _model():
    from pmsm_hw import nn

    return nn.models.digits_cnn(seed=0, width=2)


def _pt(path):
    from pmsm_hw.convert import save_model

    save_model(path, _model())


def _checkpoint(path):
    from pmsm_hw import nn

    x, labels = np.zeros((4, 1, 8, 8), np.float32), np.zeros(4, np.int64)
    path.unlink(missing_ok=True)  # else training goes on from it
    nn.train(nn.models.digits_cnn(seed=0, width=2), nn.loader(x, labels), epochs=1, checkpoint=path)


def _entropy(path):
    from pmsm_hw import nn

    x = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)
    model = nn.quantize(_model(), levels=(1, 4), calibration=x)
    nn.entropy_report(model, x).plot(path)


def _units(path):
    from pmsm_hw.lava.handover import write_units

    write_units(path, {"x": np.arange(400, dtype=np.int32)})


WRITERS = {
    "network.h5": lambda path: io.save(path, network(), mapping=mapping()),
    "network.nir": lambda path: io.save_nir(path, network()),
    "trace.json": lambda path: write_trace(path, report()),
    "units.npz": _units,
}
if find_spec("matplotlib") is not None:
    WRITERS |= {
        "figure.png": _figure, "figure.svg": _figure, "figure.pdf": _figure, "mesh.png": _mesh,
        "report.html": _html,
    }  # fmt: skip
if find_spec("torch") is not None:
    WRITERS |= {"model.pt": _pt, "checkpoint.pt": _checkpoint, "entropy.png": _entropy}
