"""Average pooling: folded into the next projection, or sent through a relay population."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from pmsm_hw.nn.expressions import (
    Channelwise,
    Expression,
    Flat,
    Map,
    Matrix,
    NotFoldableError,
    Pool,
    Term,
    Window,
)
from pmsm_hw.nn.lowering.plans import Builder, NeuronPlan, Pooling, RelayPlan

__all__ = ["Relays"]


@dataclass(frozen=True)
class Relays:
    """Where relays are used.

    Parameters
    ----------
    pooling
        See `pmsm_hw.nn.lowering.Lowering`.
    unit_spikes
        Whether ``"auto"`` counts a spike k as |k| messages, or as one.
    reach
        Smallest and largest payload of a population.
    """

    pooling: Pooling
    unit_spikes: bool
    reach: Callable[[Any], tuple[int, int]]

    def through(self, builder: Builder, x: Expression, layer: Window | Matrix) -> Expression:
        """Apply a layer term by term, through a relay where that is better or the only way."""
        total: Expression | None = None
        for i, term in enumerate(x.terms):
            part = Expression(x.shape, (term,), x.bias if i == 0 else None)
            relayed = self._relayed(builder, part)
            folded: Expression | None = None
            if relayed is None:
                folded = _applied(layer, part)
            elif self._prefers_fold(builder, part, layer, relayed[0]):
                try:
                    folded = _applied(layer, part)
                except NotFoldableError:
                    folded = None
            if folded is None:
                assert relayed is not None
                plan, expression = relayed
                if plan.name not in builder.populations:
                    builder.populations[plan.name] = plan
                    builder.taken.add(plan.name)
                    builder.relays[_key(plan)] = plan.name
                folded = _applied(layer, expression)
            total = folded if total is None else total.plus(folded)
        return _applied(layer, x) if total is None else total

    def _prefers_fold(
        self, builder: Builder, part: Expression, layer: Window | Matrix, relay: RelayPlan
    ) -> bool:
        """Whether folding a pooled term takes no more synaptic operations and neurons than a relay.

        Counted with every neuron sending one spike. Graded, a relay sends one message for a whole
        window. In unit spikes it sends the payloads of all, so nothing is saved, and a gain costs.
        """
        if self.pooling != "auto":
            return self.pooling == "fold"
        source = builder.populations[relay.source]
        n_source, n_relay = math.prod(source.shape), math.prod(relay.shape)
        taps = math.prod(relay.pool.kernel)
        if isinstance(layer, Matrix):
            folded, relayed = len(layer.weight) * n_source, len(layer.weight) * n_relay
        else:
            kernel = layer.weight.shape[2:]
            reach = math.prod(
                (k - 1) * d * s + t
                for k, d, s, t in zip(
                    kernel, layer.dilation, relay.pool.stride, relay.pool.kernel, strict=True
                )
            )
            n_windows = math.prod(part.windowed_shape(layer)[1:])
            relayed = layer.weight.numel() * n_windows
            folded = relayed // math.prod(kernel) * reach
        if self.unit_spikes and isinstance(source, NeuronPlan):
            relayed *= taps * max(abs(gain) for gain in source.quantizer.gains)
        if relay.name not in builder.populations:
            relayed += n_relay * (1 + taps)
        return folded <= relayed

    def _relayed(self, builder: Builder, part: Expression) -> tuple[RelayPlan, Expression] | None:
        """The relay population that could send a pooled term, and what it sends."""
        (term,) = part.terms
        map_ = term.map
        flat = map_ if isinstance(map_, Flat) else None
        pool = flat.inner if flat is not None else map_
        if not isinstance(pool, Pool) or all(k == 1 for k in pool.kernel):
            return None
        source = builder.populations[term.source]
        if isinstance(source, RelayPlan):
            return None
        reach = max(map(abs, self.reach(source)))
        if reach * math.prod(pool.kernel) >= 1 << 15:
            return None  # more than a spike can say
        channels = len(pool.scale)
        spatial = part.shape[1:] if flat is None else flat.shape[1:]
        shape = (channels, *spatial)
        plain = replace(pool, scale=torch.ones_like(pool.scale), offset=0, total=channels)
        plan = RelayPlan(name="", shape=shape, source=term.source, pool=plain)
        name = builder.relays.get(_key(plan))
        if name is None:
            name, i = f"{term.source}.pool", 0
            while name in builder.taken:
                i += 1
                name = f"{term.source}.pool_{i}"
        plan = replace(plan, name=name)
        passed = Channelwise(pool.scale, pool.offset, pool.total)
        sent: Map = passed if flat is None else replace(flat, inner=passed)
        return plan, replace(part, terms=(Term(name, shape, sent),))


def _key(plan: RelayPlan) -> tuple[Any, ...]:
    pool = plan.pool
    return plan.source, pool.kernel, pool.stride, pool.padding


def _applied(layer: Window | Matrix, x: Expression) -> Expression:
    return x.multiplied(layer.weight) if isinstance(layer, Matrix) else x.windowed(layer)
