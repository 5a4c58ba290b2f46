"""Which levels, gains and initialization to use: chosen by measurement, with reasons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pmsm_hw.arguments import items, number
from pmsm_hw.errors import QuantizationError
from pmsm_hw.nn.activations import max_pool_of, reached, replaceable
from pmsm_hw.nn.batches import as_tensor
from pmsm_hw.nn.entropy import EntropyReport, entropy_report, histogram_bits
from pmsm_hw.nn.evaluation import answer, evaluating
from pmsm_hw.nn.initialization import choose_theta
from pmsm_hw.nn.quantization import quantize, traced
from pmsm_hw.nn.quantizer import PolarityQuant
from pmsm_hw.nn.ranges import SMALLEST_SLOPE, range_of
from pmsm_hw.nn.tracing import kind_of
from pmsm_hw.tables import table

__all__ = ["LEVELS", "LevelChoice", "Suggestion", "choose_levels", "suggest"]

Array: TypeAlias = "Tensor | NDArray[Any]"

LEVELS: tuple[tuple[int, int], ...] = (
    (0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (2, 2), (1, 3), (0, 4), (1, 4), (2, 4), (0, 6), (4, 4),
    (2, 6), (0, 8), (2, 8), (4, 8), (0, 15), (8, 8), (4, 12), (15, 15),
)  # fmt: skip
"""Candidates, fewer levels first; at equal number the one with fewer negative levels."""

_INITS = ("mse", "entropy", "lsq", "percentile")
_CALIBRATION_INPUTS = 128


@dataclass(frozen=True, kw_only=True)
class LevelChoice:
    """Levels, and what they do to the values they were chosen on.

    Parameters
    ----------
    levels
        ``(n, p)``.
    theta
        Step, in the unit of the values.
    bits
        Entropy of the levels, from their histogram.
    spikes_per_neuron
        Mean ``|k|``.
    """

    levels: tuple[int, int]
    theta: float
    bits: float
    spikes_per_neuron: float


def choose_levels(
    values: Array,
    *,
    target_bits: float | None = None,
    max_spikes: float | None = None,
    init: str = "mse",
    candidates: Sequence[tuple[int, int]] = LEVELS,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> LevelChoice:
    """Choose the smallest ``(n, p)`` for given values before quantization.

    Parameters
    ----------
    values
        Any shape, for example the output of a batch norm.
    target_bits
        Entropy to reach. The first candidate that does is taken.
    max_spikes
        Budget of unit spikes a neuron and step (mean ``|k|``). Without ``target_bits`` the
        candidate of most bits within the budget is taken; with it, the first that keeps both.
    init
        How theta is chosen, see `quantize`.
    candidates
        ``(n, p)`` in order of preference.
    limits
        ``(low, high)``, the range of the activation, as ``(-inf, 6)`` for ReLU6.

    Returns
    -------
    LevelChoice

    Raises
    ------
    QuantizationError
        If neither limit is given, or no candidate keeps them.
    """
    if target_bits is None and max_spikes is None:
        raise QuantizationError(
            "choose_levels",
            "neither target_bits nor max_spikes is given, 1 is needed",
            remedy="say how many bits to keep, or how many spikes to spend",
            actual=None,
            limit=1,
        )
    _check_goals("choose_levels", target_bits=target_bits, max_spikes=max_spikes)
    remedy = "give pairs of levels (n, p)"
    pairs = items(QuantizationError, "choose_levels", "candidates", candidates, remedy=remedy)
    if not pairs:
        raise QuantizationError(
            "choose_levels",
            "candidates hold 0 pairs, 1 is needed",
            remedy=remedy,
            actual=0,
            limit=1,
        )
    flat = as_tensor(values, "values").detach().reshape(-1, 1)
    tried: list[LevelChoice] = []
    for levels in pairs:
        choice = _measure(flat, levels, init, limits)
        tried.append(choice)
        if max_spikes is not None and choice.spikes_per_neuron > max_spikes:
            continue
        if target_bits is not None and choice.bits >= target_bits:
            return choice
    within = [c for c in tried if max_spikes is None or c.spikes_per_neuron <= max_spikes]
    if target_bits is None and within:
        return max(within, key=lambda c: c.bits)
    best = max(within or tried, key=lambda c: c.bits if within else -c.spikes_per_neuron)
    raise QuantizationError(
        "choose_levels",
        f"none of {len(tried)} candidates keeps target_bits {target_bits} and max_spikes "
        f"{max_spikes}; closest is {best.levels} with {best.bits:.3f} bits at "
        f"{best.spikes_per_neuron:.3f} spikes",
        remedy="lower the target, raise the budget, or give more candidates",
        actual=(best.bits, best.spikes_per_neuron),
        limit=(target_bits, max_spikes),
    )


def _check_goals(subject: str, **goals: float | None) -> None:
    for what, value in goals.items():
        if value is not None or what == "target_agreement":
            remedy = "give a number, 0 or more"
            number(QuantizationError, subject, what, value, at_least=0, remedy=remedy)


def _measure(
    flat: Tensor, levels: tuple[int, int], init: str, limits: tuple[float, float]
) -> LevelChoice:
    quantizer = PolarityQuant(levels, limits=limits)
    theta = choose_theta(flat, quantizer, init, "choose_levels")
    with torch.no_grad():
        quantizer.theta.copy_(theta)
    k = quantizer.spikes(flat.to(theta.dtype)).reshape(-1)
    counts = torch.bincount((k + levels[0]).long(), minlength=sum(levels) + 1).numpy()
    return LevelChoice(
        levels=quantizer.levels,
        theta=float(theta),
        bits=float(histogram_bits(counts)),
        spikes_per_neuron=float(k.abs().mean()),
    )


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A ready configuration.

    ``quantize(model, calibration=x, **suggestion.options)`` uses it.

    Parameters
    ----------
    levels, gains, init, per_channel
        Arguments for `quantize`.
    max_pool
        The same; ``"average"`` where the model has max pooling.
    rule, n_steps
        For `to_snn` and its network.
    agreement
        Share of the calibration inputs for which the quantized model, not yet trained, predicts
        what the float model predicts.
    entropy
        Of the quantized model, over the calibration inputs.
    reasons
        One sentence per choice.
    tried
        What was measured: levels, init, per channel, agreement, bits, spikes per neuron.
    """

    levels: tuple[int, int]
    gains: tuple[int, int]
    init: str
    per_channel: bool
    max_pool: str
    rule: str
    n_steps: int
    agreement: float
    entropy: EntropyReport
    reasons: tuple[str, ...]
    tried: tuple[tuple[str, str, bool, float, float, float], ...]

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for `quantize`."""
        return {
            "levels": self.levels,
            "gains": self.gains,
            "init": self.init,
            "per_channel": self.per_channel,
            "max_pool": self.max_pool,
        }

    def __repr__(self) -> str:
        return (
            f"<Suggestion: levels {self.levels}, gains {self.gains}, init {self.init}, "
            f"per_channel {self.per_channel}, agreement {self.agreement:.4f}>"
        )

    def _repr_html_(self) -> str:
        from pmsm_hw.tables import notebook

        return notebook(self.__str__)

    def __str__(self) -> str:
        header = ("levels", "init", "per channel", "agreement", "bits", "spikes/neuron")
        lines = [f"- {reason}" for reason in self.reasons]
        return "\n".join([f"{self.options}", *lines, table(header, self.tried)])


def suggest(
    model: nn.Module,
    calibration: Array,
    *,
    signed: bool | None = None,
    target_agreement: float = 0.9,
    target_bits: float | None = None,
    max_spikes: float | None = None,
) -> Suggestion:
    """Choose levels, gains and initialization for a float model.

    Candidates are quantized and compared with the float model on the calibration inputs, before any
    training: a few inputs and no labels are enough, and `finetune` then closes most of what gap is
    left.

    Parameters
    ----------
    model
        Trained, full precision; logits out. Not changed.
    calibration
        Some hundred inputs.
    signed
        Whether to use negative levels. By default where the model's own activations pass negative
        values (LeakyReLU, Hardtanh): a network that was trained with ReLU has no use for them until
        it is trained on.
    target_agreement
        Take the smallest levels whose predictions agree with the float model's on this share of
        inputs.
    target_bits
        Ask instead for a mean entropy over the layers.
    max_spikes
        Budget of unit spikes a neuron and step, mean over the layers.

    Returns
    -------
    Suggestion

    Raises
    ------
    QuantizationError
        If no candidate keeps the budget or reaches ``target_bits``; see also `quantize`.
    """
    _check_goals(
        "suggest", target_agreement=target_agreement, target_bits=target_bits, max_spikes=max_spikes
    )
    x = as_tensor(calibration, "calibration")[:_CALIBRATION_INPUTS]
    with evaluating(model), torch.no_grad():
        wanted = answer(model, x)
    max_pool, slope, kinds = _look_at(model, x)
    gains, pairs, reason = _polarity(slope, signed, kinds)
    pooling = "max pooling has no spiking counterpart: average pooling, and train on"
    reasons = [pooling, reason] if max_pool == "average" else [reason]
    tried: list[tuple[str, str, bool, float, float, float]] = []

    def measure(levels: tuple[int, int], init: str, per_channel: bool) -> _Trial:
        quantized = quantize(
            model, levels=levels, gains=gains, init=init, calibration=x, per_channel=per_channel,
            max_pool="average" if max_pool == "average" else "refuse",
        )  # fmt: skip
        trial = _try(quantized, x, wanted)
        row = (trial.agreement, trial.bits, trial.spikes)
        tried.append((f"({levels[0]}, {levels[1]})", init, per_channel, *row))
        return trial

    def reaches(trial: _Trial) -> bool:
        if target_bits is None:
            return trial.agreement >= target_agreement
        return trial.bits >= target_bits

    budget = math.inf if max_spikes is None else max_spikes
    chosen, reached = _smallest(
        pairs, lambda levels: measure(levels, "mse", False), reaches, budget
    )
    if chosen is None or (target_bits is not None and not reached):
        raise QuantizationError(
            "suggest",
            f"none of {len(pairs)} candidates keeps max_spikes {max_spikes} and target_bits "
            f"{target_bits}; they reach {max(row[4] for row in tried):.3f} bits, and spend "
            f"{min(row[5] for row in tried):.3f} spikes or more",
            remedy="lower the target or raise the budget",
            actual=(max(row[4] for row in tried), min(row[5] for row in tried)),
            limit=(target_bits, max_spikes),
        )
    levels, best = chosen
    init, per_channel = "mse", False
    goal = (
        f"agree with the float model on {target_agreement:.0%} of the inputs, untrained"
        if target_bits is None
        else f"keep {target_bits} bits"
    )
    reasons.append(
        f"levels {levels}: the smallest that {goal}"
        if reached
        else f"levels {levels}: none within the budget {goal}; these have the least error"
    )
    for other in _INITS[1:]:
        trial = measure(levels, other, False)
        if trial.error < best.error and trial.spikes <= budget:
            init, best = other, trial
    reasons.append(f"init '{init}': least error in the logits of {len(_INITS)} tried")
    trial = measure(levels, init, True)
    if trial.error < best.error and trial.spikes <= budget:
        per_channel, best = True, trial
        reasons.append("a step per channel: less error than one per layer")
    else:
        reasons.append("one step per layer: steps per channel gave no less error")
    reasons.append("rule 'carry', 1 step: the first step equals the quantized model exactly")
    return Suggestion(
        levels=levels,
        gains=gains,
        init=init,
        per_channel=per_channel,
        max_pool=max_pool,
        rule="carry",
        n_steps=1,
        agreement=best.agreement,
        entropy=best.report,
        reasons=tuple(reasons),
        tried=tuple(tried),
    )


def _polarity(
    slope: float, signed: bool | None, kinds: str
) -> tuple[tuple[int, int], list[tuple[int, int]], str]:
    """Gains, candidate levels and the reason, for activations of a slope on the negative side."""
    if not (slope >= SMALLEST_SLOPE if signed is None else signed):
        why = f"{kinds} discard negative values" if signed is None else "asked for"
        return (1, 1), [lv for lv in LEVELS if lv[0] == 0], f"no negative levels: {why}"
    slope = slope if slope >= SMALLEST_SLOPE else 0.125
    gains = min(((1, 1), (2, 1), (4, 1), (8, 1)), key=lambda g: abs(g[1] / g[0] - slope))
    pairs = [lv for lv in LEVELS if lv[0] > 0 and (gains[0] == 1 or lv[0] < lv[1])]
    why = f"{kinds} pass negative values" if signed is None else "asked for"
    return gains, pairs, f"negative levels, alpha = 1/{gains[0]}: {why}"


def _smallest(
    pairs: Sequence[tuple[int, int]],
    measure: Callable[[tuple[int, int]], _Trial],
    reaches: Callable[[_Trial], bool],
    budget: float,
) -> tuple[tuple[tuple[int, int], _Trial] | None, bool]:
    """The first levels within a budget of spikes that reach a goal, else those of least error.

    And whether they reach it.
    """
    chosen: tuple[tuple[int, int], _Trial] | None = None
    for levels in pairs:
        trial = measure(levels)
        if trial.spikes > budget:
            continue
        if reaches(trial):
            return (levels, trial), True
        if chosen is None or trial.error < chosen[1].error:
            chosen = (levels, trial)
    return chosen, False


@dataclass(frozen=True, kw_only=True)
class _Trial:
    agreement: float
    error: float
    bits: float
    spikes: float
    report: EntropyReport


def _try(quantized: nn.Module, x: Tensor, wanted: Tensor) -> _Trial:
    report = entropy_report(quantized, x)
    with torch.no_grad():
        found = quantized(x)
    return _Trial(
        agreement=float((found.argmax(1) == wanted.argmax(1)).double().mean()),
        error=float((found.log_softmax(1) - wanted.log_softmax(1)).square().mean()),
        bits=float(np.mean([layer.bits for layer in report])),
        spikes=float(np.mean([layer.spikes_per_neuron for layer in report])),
        report=report,
    )


def _look_at(model: nn.Module, x: Tensor) -> tuple[str, float, str]:
    """Max pooling or not, slope of the activations on the negative side, and their names."""
    _, root, graph = traced(model, (x,))
    inner = reached(graph)
    pools, slope = False, 0.0
    kinds: dict[str, None] = {}
    for node in graph.nodes:
        if node not in inner:
            continue
        pools |= max_pool_of(root, node) is not None
        if replaceable(root, node) is not None:
            kinds[kind_of(root, node)] = None
            slope = max(slope, range_of(root, node).slope)
    return "average" if pools else "refuse", slope, " and ".join(kinds) or "activations"
