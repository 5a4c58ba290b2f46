"""Trained networks on real images through Lava: no spike differs. Needs torch and Lava's Python."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from pmsm_hw import Network, lava, nn, reference  # noqa: E402
from pmsm_hw.convert import convert  # noqa: E402
from pmsm_hw.datasets import load_digits  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("lava_python")]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def trained(
    name: str, images: np.ndarray, labels: np.ndarray, epochs: int, **input: Any
) -> Network:
    """Train and quantize a little: enough for spikes of all kinds, not for records."""
    model = nn.models.build(name, seed=0)
    batches = nn.loader(images, labels, batch_size=64, seed=0)
    nn.train(model, batches, epochs=epochs, seed=0)
    quantized = nn.quantize(
        model, levels=(2, 4), gains=(4, 1), init="mse", calibration=images[:128], **input
    )
    nn.finetune(quantized, batches, epochs=2, seed=0)
    network, _ = convert(quantized, images[:1], name=name, max_steps=4)
    return network


def assert_equal(network: Network, images: np.ndarray, labels: np.ndarray, n_steps: int) -> float:
    """Compare every spike; return the accuracy."""
    result = lava.run(network, images, n_steps, timeout_s=400)
    expected = reference.run(network, images, n_steps)
    assert result.spikes.keys() == expected.spikes.keys()
    for population, spikes in expected.spikes.items():
        n_differing = int(np.count_nonzero(result.spikes[population] != spikes))
        assert n_differing == 0, population
    for readout, state in expected.readouts.items():
        np.testing.assert_array_equal(result.readouts[readout], state)
    return float(np.mean(result.predictions() == labels))


def test_all_held_out_digits() -> None:
    train, test = load_digits("train"), load_digits("test")
    network = trained(
        "digits_cnn", train.images, train.labels, 6, input_scale=1 / 16, input_levels=(0, 16)
    )
    assert len(test.images) == 599
    assert assert_equal(network, test.images, test.labels, 1) > 0.9
    assert assert_equal(network, test.images[:50], test.labels[:50], 4) > 0.9


def idx(path: Path) -> np.ndarray:
    """Read an IDX file: the sizes stand big-endian after a magic number."""
    data = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)


def test_lenet_on_mnist(shared_data: Path) -> None:
    images = idx(shared_data / "t10k-images-idx3-ubyte.gz")[:, None].astype(np.float32) / 255
    labels = idx(shared_data / "t10k-labels-idx1-ubyte.gz").astype(np.int64)
    network = trained(
        "lenet", images[:4000], labels[:4000], 1, input_scale=1 / 255, input_levels=(0, 255)
    )
    assert assert_equal(network, images[-200:], labels[-200:], 1) > 0.7
