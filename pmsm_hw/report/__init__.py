"""A report for people: one HTML file with figures, tables, constants and their sources.

``write_html(path, report, network, mapping)`` writes it.
"""

from pmsm_hw.report.page import write_html

__all__ = ["write_html"]
