"""From a traced torch graph to populations joined by linear maps, still in real numbers.

A module for each kind of layer: ``layers`` (convolution, linear, batch norm, padding), ``pooling``,
``arithmetic``; ``calls`` says which call is which; ``relays`` where pooled sums are sent through a
population; ``graph`` walks the graph; ``plans`` is what comes out.
"""

from pmsm_hw.nn.lowering.graph import Lowering
from pmsm_hw.nn.lowering.plans import (
    InputPlan,
    NeuronPlan,
    Plan,
    Pooling,
    PopulationPlan,
    ReadoutPlan,
    RelayPlan,
)

__all__ = [
    "InputPlan",
    "Lowering",
    "NeuronPlan",
    "Plan",
    "Pooling",
    "PopulationPlan",
    "ReadoutPlan",
    "RelayPlan",
]
