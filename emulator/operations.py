"""Figures of the literature: MACs and ACs, footprint, sparsity; and what they would cost.

The spiking-network literature prices a multiply-accumulate at 4.6 pJ and an accumulate at 0.9 pJ
(32-bit floating point, 45 nm; Horowitz, ISSCC 2014). These figures leave out everything that a chip
does beside arithmetic, and stand beside the chip's energy only because papers quote them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pmsm_hw.network import STATE_BITS, Input, Neurons

if TYPE_CHECKING:
    from pmsm_hw.emulator.counts import Counts

__all__ = ["ARITHMETIC_PJ", "Operations", "operations_of"]

ARITHMETIC_PJ = {"fp32": (4.6, 0.9), "fp16": (1.5, 0.4), "int8": (0.23, 0.03)}
"""``(multiply-accumulate, accumulate)`` in pJ, 45 nm."""


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Figures as NeuroBench and the spiking-network literature define them, per inference.

    Parameters
    ----------
    footprint_bytes
        Weights (1 byte each, stored once), and per neuron or channel the parameters and per neuron
        the state, 3 bytes each.
    connection_sparsity
        Share of stored weights that are zero; a weight of a convolution counts once.
    activation_sparsity
        Share of neurons x steps without a spike, readouts excluded.
    spikes_per_neuron_step
        Mean ``|k|`` of a neuron and step, readouts excluded.
    effective_macs
        Synaptic operations of graded messages from populations that can send a payload beyond -1, 0
        and 1 (`Network.bounds`).
    effective_acs
        The other synaptic operations: each adds or subtracts a weight.
    spike_acs
        Synaptic operations of unit spikes: every one of the ``|k|`` spikes counted, as the
        literature does, inputs excluded.
    ann_macs
        Multiply-accumulates of one pass of the ANN of the same shape, zeros included, padding not.
        The network as converted counts: batch norm and average pooling that were folded into the
        next projection (a kernel as many times larger) count there.
    snn_pj, ann_pj
        By number format (`ARITHMETIC_PJ`): ``effective_macs`` and ``effective_acs``, and
        ``ann_macs``, at its prices.
    """

    footprint_bytes: int
    connection_sparsity: float
    activation_sparsity: float
    spikes_per_neuron_step: float
    effective_macs: float
    effective_acs: float
    spike_acs: float
    ann_macs: int
    snn_pj: dict[str, float]
    ann_pj: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


def operations_of(counts: Counts, n_steps: int) -> Operations:
    """Derive the figures from the counts of a run."""
    layout = counts.layout
    network = layout.network
    n = counts.n_samples
    by_source = np.zeros((2, len(network.populations)), np.int64)
    source, _, _ = layout.row_ends
    np.add.at(by_source[0], source, counts.synops.sum(axis=0))
    np.add.at(by_source[1], source, counts.unit_synops.sum(axis=0))
    macs = acs = spike_acs = 0
    for population, synops, units in zip(network.populations, *by_source.tolist(), strict=True):
        if isinstance(population, Neurons) and not population.fires:
            continue
        bound = network.bounds[population.name]
        multiplies = layout.mapping.spike_mode(population.name) == "graded" and (
            bound.payload_min < -1 or bound.payload_max > 1
        )
        if multiplies:
            macs += synops
        else:
            acs += synops
        if not isinstance(population, Input):
            spike_acs += units
    stateful = [p for p in network if isinstance(p, Neurons)]
    spiking = [p for p in stateful if p.fires]
    neuron_steps = n * n_steps * sum(p.n_neurons for p in spiking)
    fired = int(counts.fired[:, : layout.n_blocks].sum())
    spikes = int(counts.spikes[:, : layout.n_blocks].sum())
    weights = sum(q.weight.size for q in network.projections)
    zeros = layout.n_zero_weights
    numbers = sum(p.n_parameters + p.n_neurons * _n_states(p) for p in stateful)
    ann = layout.ann_macs
    return Operations(
        footprint_bytes=weights + 3 * numbers,
        connection_sparsity=zeros / weights if weights else 0.0,
        activation_sparsity=1 - fired / neuron_steps if neuron_steps else 0.0,
        spikes_per_neuron_step=spikes / neuron_steps if neuron_steps else 0.0,
        effective_macs=macs / n,
        effective_acs=acs / n,
        spike_acs=spike_acs / n,
        ann_macs=ann,
        snn_pj={k: (macs * mac + acs * ac) / n for k, (mac, ac) in ARITHMETIC_PJ.items()},
        ann_pj={k: ann * mac for k, (mac, _) in ARITHMETIC_PJ.items()},
    )


def _n_states(population: Neurons) -> int:
    """State variables of the chip's width."""
    return sum(variable.bits == STATE_BITS for variable in population.model.states)
