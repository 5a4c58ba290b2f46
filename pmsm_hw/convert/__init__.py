"""Conversion of quantized torch models to integer networks. Needs torch."""

from pmsm_hw.convert.conversion import Conversion, convert
from pmsm_hw.convert.factory import build_model
from pmsm_hw.convert.integer import IntegerModel, integer_model
from pmsm_hw.convert.integer_snn import IntegerSnn
from pmsm_hw.convert.loihi_report import LoihiConversionReport, LoihiPopulationReport
from pmsm_hw.convert.report import ConversionReport, PopulationReport
from pmsm_hw.convert.storage import load_model, save_model

__all__ = [
    "Conversion",
    "ConversionReport",
    "IntegerModel",
    "IntegerSnn",
    "LoihiConversionReport",
    "LoihiPopulationReport",
    "PopulationReport",
    "build_model",
    "convert",
    "integer_model",
    "load_model",
    "save_model",
]
