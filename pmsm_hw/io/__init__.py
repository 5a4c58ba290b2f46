"""Files: networks, mappings and reports as HDF5, and exchange with NIR."""

from pmsm_hw.io.h5 import FORMAT_VERSION, has_mapping, load, load_mapping, load_report, save
from pmsm_hw.io.nir import import_nir, load_nir, save_nir

__all__ = [
    "FORMAT_VERSION",
    "has_mapping",
    "import_nir",
    "load",
    "load_mapping",
    "load_nir",
    "load_report",
    "save",
    "save_nir",
]
