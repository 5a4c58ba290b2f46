"""Data sets by name, real data that need no download, and event data for several steps."""

from pmsm_hw.datasets.catalogue import NAMES, load
from pmsm_hw.datasets.digits import LabelledImages, load_digits
from pmsm_hw.datasets.events import EVENT_DTYPE, events_from_images, to_frames
from pmsm_hw.datasets.labelled import Compose, LabelledSet, Mirror, Normalize, Shift
from pmsm_hw.datasets.nmnist import NMNIST_SIZE, read_nmnist
from pmsm_hw.datasets.samples import Samples, load_samples, random_samples

__all__ = [
    "EVENT_DTYPE",
    "NAMES",
    "NMNIST_SIZE",
    "Compose",
    "LabelledImages",
    "LabelledSet",
    "Mirror",
    "Normalize",
    "Samples",
    "Shift",
    "events_from_images",
    "load",
    "load_digits",
    "load_samples",
    "random_samples",
    "read_nmnist",
    "to_frames",
]
