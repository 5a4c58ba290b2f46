"""The command ``pmsm-hw``: each subcommand calls public functions and prints their answer.

Answers go to stdout (a table, or JSON with ``--json``), progress to stderr. Exit status: 0 done,
1 internal error, 2 bad input or usage (one line on stderr), 3 spikes or readouts differ between
backends, 130 interrupted; see `pmsm_hw.cli.ending`.
"""

from pmsm_hw.cli.ending import main
from pmsm_hw.cli.program import app

__all__ = ["app", "main"]
