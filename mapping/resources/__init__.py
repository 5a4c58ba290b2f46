"""First stage: what a network needs of a chip's cores, counted exactly.

`Resources` is the service that all later stages ask; it is never set to anything.
"""

from pmsm_hw.mapping.resources.core import Resources, Wire, list_bits, spike_mode

__all__ = ["Resources", "Wire", "list_bits", "spike_mode"]
