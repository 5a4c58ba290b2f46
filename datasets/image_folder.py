"""Folders of images, one subfolder per class, as ImageNet has them."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.datasets.labelled import Floats
from pmsm_hw.errors import DatasetError
from pmsm_hw.reading import regular_size

__all__ = ["ImageFiles", "load_image_folder"]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp")
_MODES = ("1", "CMYK", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")
"""Modes of 8 bits a channel: Pillow makes RGB of others by clipping their values."""

_RESIZE = 256 / 224
"""Shorter side before the centre crop, relative to the crop: the usual evaluation of ImageNet."""
_AREA, _RATIO, _N_TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Source that decodes one image at a time.

    Parameters
    ----------
    paths
        Image files.
    size
        Pixels of a side of what is returned.
    random_crop
        Cut 8 to 100 % of the area at an aspect ratio of 3/4 to 4/3 and resize it (training); else
        resize the shorter side to ``256 / 224 * size`` and cut out the centre.
    """

    paths: tuple[Path, ...]
    size: int
    random_crop: bool = False

    def __call__(self, index: int, rng: np.random.Generator) -> Floats:
        """RGB / 255, ``(3, size, size)``."""
        from PIL import Image

        path = self.paths[index]
        try:
            regular_size(path)
            with warnings.catch_warnings():
                # of odd metadata; a header that claims very many pixels is refused
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as file:
                    mode = file.mode
                    image = file.convert("RGB") if mode in _MODES else None
        except Exception as error:  # what Pillow's decoders raise on damage is not one family
            lines = (getattr(error, "strerror", None) or str(error)).splitlines()
            raise DatasetError(
                f"image '{path}'",
                f"cannot be decoded ({lines[0] if lines else type(error).__name__})",
                remedy="get the file again",
                actual=str(path),
            ) from error
        if image is None:
            raise DatasetError(
                f"image '{path}'",
                f"is of mode {mode}, images of 8 bits a channel are read",
                remedy="convert it to 8 bits a channel",
                actual=mode,
                limit=_MODES,
            )
        width, height = image.size
        if self.random_crop:
            box = _random_box(width, height, rng)
        else:
            side = min(width, height) / _RESIZE
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
        # one resampling does crop and resize
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255)


def _random_box(
    width: int, height: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    for _ in range(_N_TRIES):
        area = width * height * rng.uniform(*_AREA)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def load_image_folder(
    root: Path, split: str, size: int, random_crop: bool
) -> tuple[ImageFiles, NDArray[np.int64], tuple[str, ...]]:
    """Images of ``root/train`` or ``root/val`` (else ``root/test``); classes are sorted by name.

    Raises
    ------
    DatasetError
        If Pillow is missing, the folder is absent, or has no class with images.
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise DatasetError(
            f"image folder '{root}'",
            "Pillow, which decodes images, is not installed",
            remedy="pip install 'pmsm-hw[data]'",
        ) from error
    folder = root / "train" if split == "train" else root / "val"
    if split == "test" and not folder.is_dir():
        folder = root / "test"
    if not folder.is_dir():
        raise DatasetError(
            f"image folder '{folder}'",
            "does not exist",
            remedy="lay images out as train/CLASS/NAME.jpg and val/CLASS/NAME.jpg; ImageNet has to "
            "be got from its publisher",
            actual=str(folder),
        )
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in _SUFFIXES)
        if not found:
            raise DatasetError(
                f"image folder '{folder / name}'",
                f"has 0 files that end in {', '.join(_SUFFIXES)}, at least 1 is needed",
                remedy="remove the folder, or put its images there",
                actual=0,
                limit=1,
            )
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise DatasetError(
            f"image folder '{folder}'",
            "has 0 subfolders, one per class is needed",
            remedy="lay images out as train/CLASS/NAME.jpg",
            actual=0,
            limit=1,
        )
    files = ImageFiles(paths=tuple(paths), size=size, random_crop=random_crop)
    return files, np.asarray(labels, np.int64), tuple(classes)
