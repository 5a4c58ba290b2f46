"""The quick profile of the tests: dear ones take fewer cases there, all of them in the long one."""

from __future__ import annotations

import os

from hypothesis import settings

LONG = os.environ.get("PMSM_HW_HYPOTHESIS") == "long"


def examples(n: int) -> settings:
    """So many examples of a property in the quick profile; in the long one, as many as it says."""
    return settings() if LONG else settings(max_examples=n)
