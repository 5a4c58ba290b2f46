"""The bundled digits: values, split, order."""

import hashlib

import numpy as np
import pytest

from pmsm_hw.datasets import digits, load_digits
from pmsm_hw.errors import DatasetError, InputError


def test_all_images_are_sixteenths_and_the_real_thing():
    images, labels = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float32
    assert set(np.unique(images * 16)) == set(range(17))
    # scikit-learn's load_digits() gives the same values in the same order
    values = (images[:, 0] * 16).astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()
    assert hashlib.sha256(values).hexdigest() == digits._SHA256
    np.testing.assert_array_equal(
        np.bincount(labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )


def test_split_is_disjoint_complete_and_stratified():
    whole, train, test = load_digits("all"), load_digits("train"), load_digits("test")

    def keys(data):
        return sorted(zip((i.tobytes() for i in data.images), data.labels, strict=True))

    assert sorted(keys(train) + keys(test)) == keys(whole)
    of_class = np.bincount(whole.labels)
    np.testing.assert_array_equal(np.bincount(test.labels), np.round(of_class / 3).astype(int))
    assert len(test.labels) == 599


def test_same_seed_same_split():
    for split in ("train", "test"):
        a, b = load_digits(split, seed=3), load_digits(split, seed=3)
        np.testing.assert_array_equal(a.images, b.images)
        assert not np.array_equal(a.images, load_digits(split, seed=4).images)


def test_the_default_split_never_changes():
    # committed figures depend on it, in both environments
    digest = hashlib.sha256(load_digits("test").images.tobytes()).hexdigest()
    assert digest == "189494bacc7ca623c44427d7b0792846e771e9eba3f1cd921feebfd8101495f0"


def test_unknown_split_is_refused():
    with pytest.raises(InputError, match=r"split 'valid' is not one of train, test, all"):
        load_digits("valid")


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "another"])
def test_a_changed_bundle_is_refused(monkeypatch, tmp_path, damage):
    whole = digits._FILE.read_bytes()
    path = tmp_path / "digits.npz"
    if damage == "text":
        path.write_text("no digits")
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "another":
        with np.load(digits._FILE) as file:
            np.savez(path, pixels=file["pixels"][::-1], labels=file["labels"])
    monkeypatch.setattr(digits, "_FILE", path)
    with pytest.raises(DatasetError, match="install the package again"):
        load_digits()
