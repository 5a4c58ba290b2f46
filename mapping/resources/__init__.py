"""First stage: what a network needs of a chip's cores, counted exactly.

`Resources` is the service that all later stages ask; it is never set to anything.
"""

from pmsm_hw.mapping.resources.core import Resources
from pmsm_hw.mapping.resources.lists import list_bits
from pmsm_hw.mapping.resources.neurons import spike_mode
from pmsm_hw.mapping.resources.wires import Wire

__all__ = ["Resources", "Wire", "list_bits", "spike_mode"]
