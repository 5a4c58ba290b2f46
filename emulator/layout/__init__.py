"""A network on its chip as flat arrays: slots, routes, deposits, mesh."""

from pmsm_hw.emulator.layout.build import Layout, build_layout
from pmsm_hw.emulator.layout.plan import Plan, Row

__all__ = ["Layout", "Plan", "Row", "build_layout"]
