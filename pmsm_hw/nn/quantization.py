"""Turning a trained float model into a quantized one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, cast

from torch import Tensor, fx, nn

from pmsm_hw.arguments import choice, flag
from pmsm_hw.errors import ConversionError, QuantizationError
from pmsm_hw.nn.agreement import FLOAT32_TOLERANCE, difference, first_difference, standing_for
from pmsm_hw.nn.batch_norm import calibrate_from_batch_norm
from pmsm_hw.nn.batches import Batch, as_tensors
from pmsm_hw.nn.calibration import calibrate
from pmsm_hw.nn.evaluation import answers
from pmsm_hw.nn.initialization import INITIALIZATIONS
from pmsm_hw.nn.input_grid import check_grid
from pmsm_hw.nn.lowering import Lowering
from pmsm_hw.nn.mutations import without_mutations
from pmsm_hw.nn.preparation import check_finite, prepared
from pmsm_hw.nn.probing import probe
from pmsm_hw.nn.quantizer import check_levels
from pmsm_hw.nn.replacement import (
    drop_softmax,
    quantize_inputs,
    refuse_others,
    swap_activations,
)
from pmsm_hw.nn.tracing import exported, few, trace

__all__ = ["quantize", "traced"]


def quantize(
    model: nn.Module,
    levels: Sequence[int] = (0, 4),
    gains: Sequence[int] = (1, 1),
    init: str = "mse",
    calibration: Batch | Literal["batch_norm"] | None = None,
    *,
    per_channel: bool = False,
    input_scale: float | None = None,
    input_levels: Sequence[int] | None = None,
    max_pool: Literal["refuse", "average"] = "refuse",
    lsq_gradient_scale: bool = True,
) -> fx.GraphModule:
    """Swap each activation of a model for a calibrated `PolarityQuant`, and quantize its input.

    The graph is traced with torch.fx, so functional forms (``F.relu``) and modules called more than
    once are found; each call gets a quantizer of its own. Where that fails, as with branches on
    shapes, torch.export gives the graph, and batch norm keeps its statistics.

    Parameters
    ----------
    model
        A float model with ReLU, ReLU6, LeakyReLU, Hardtanh or clamp. Not changed.
    levels, gains
        ``(n, p)`` and ``(gain_pos, gain_neg)`` of every quantizer.
    init
        How theta is chosen: ``"mse"``, ``"entropy"``, ``"lsq"``, ``"percentile"``, ``"qcfs"``.
    calibration
        A batch of inputs (one array, or one per input of the model); theta is chosen layer by layer
        on what the layers before, already quantized, give for it. ``"batch_norm"`` takes batch
        norm's word for what the activations look like, see `calibrate_from_batch_norm`; then
        ``input_scale`` and ``input_levels`` are needed.
    per_channel
        One theta per channel instead of one per layer.
    input_scale, input_levels
        Real value of one input unit, and ``(lo, hi)``. By default 8 bits that span the calibration
        batch, ``(0, 255)`` or, where it has negative values, ``(-127, 127)``. With a scale alone,
        the fewest levels that hold the batch; with levels alone, the scale at which they span it.
    max_pool
        ``"average"`` swaps max pooling, which spikes cannot do, for average pooling of the same
        window; ``"refuse"`` raises.
    lsq_gradient_scale
        See `PolarityQuant`.

    Returns
    -------
    fx.GraphModule
        In evaluation mode; parameter names are the model's, quantizers are named after the
        activations they replace.

    Raises
    ------
    QuantizationError
        If the model has no activation, one of another kind, max pooling, or cannot be traced; if
        the calibration batch is missing or useless.
    """
    levels, gains = check_levels("quantize", levels, gains)
    _check_words(init, max_pool, per_channel=per_channel, lsq_gradient_scale=lsq_gradient_scale)
    scale, input_pair = check_grid(input_scale, input_levels, QuantizationError)
    batch = _calibration(model, calibration, scale, input_pair)
    reference, root, graph = traced(model, batch)
    check_finite(root, graph, QuantizationError)
    refuse_others(root, graph, max_pool)
    proven_on = batch
    if proven_on is None:
        proven_on = probe(reference, graph, cast(float, scale), input_pair)
    _check_batch(graph, proven_on)
    wanted = answers(reference, proven_on, QuantizationError, what="calibration")
    small = few(proven_on)
    without_mutations(root, graph, small, QuantizationError, owned=True)
    refuse_others(root, graph, max_pool)
    found = answers(_Run(root, graph), proven_on, QuantizationError, what="calibration")
    _prove(reference, root, graph, proven_on, wanted, found)
    stand_ins = swap_activations(root, graph, levels, gains, lsq_gradient_scale, max_pool)
    inputs = quantize_inputs(root, graph, batch, scale, input_pair)
    graph.lint()
    quantized = _Quantized(root, graph, type(model).__name__)
    quantized.delete_all_unused_submodules()
    quantized.recompile()
    quantized.eval()
    stand_ins |= dict.fromkeys(inputs, _same)
    paths = {path for path, _ in quantized.named_modules()}
    with standing_for(quantized, {p: f for p, f in stand_ins.items() if p in paths}):
        found = answers(quantized, proven_on, QuantizationError, what="calibration")
        _prove(reference, quantized, quantized.graph, proven_on, wanted, found)
    notes = drop_softmax(quantized, small)
    try:
        Lowering(quantized, small).plan()
    except ConversionError as cause:  # at once: training it would be for nothing
        raise QuantizationError(
            cause.subject, cause.problem,
            remedy=cause.remedy, actual=cause.actual, limit=cause.limit,
        ) from cause  # fmt: skip
    if len(inputs) == 1:  # a file has part of the batch only, from which others would follow
        (only,) = inputs.values()
        scale, input_pair = only.scale, only.levels
    options = {
        "levels": list(levels),
        "gains": list(gains),
        "per_channel": per_channel,
        "input_scale": scale,
        "input_levels": None if input_pair is None else list(input_pair),
        "max_pool": max_pool,
        "lsq_gradient_scale": lsq_gradient_scale,
    }
    recipe: dict[str, Any] = dict(cast(Any, getattr(model, "recipe", {}))) | {"quantize": options}
    examples = tuple(x[:256] for x in batch or ())
    quantized.__dict__.update(recipe=recipe, examples=examples)
    quantized.meta["notes"] = notes  # copies keep it
    if batch is None:
        calibrate_from_batch_norm(quantized, init, per_channel=per_channel)
    else:
        calibrate(quantized, batch, init, per_channel=per_channel)
    return quantized


def _check_words(init: object, max_pool: object, **flags: object) -> None:
    """Raise for options of `quantize` that are none."""
    choice(
        QuantizationError, "quantize", "max_pool", max_pool, ("refuse", "average"),
        remedy="choose one of them",
    )  # fmt: skip
    choice(QuantizationError, "quantize", "init", init, INITIALIZATIONS, remedy="choose one")
    for what, value in flags.items():
        flag(QuantizationError, "quantize", what, value)


def _calibration(
    model: object, given: Any, scale: float | None, levels: tuple[int, int] | None
) -> tuple[Tensor, ...] | None:
    """The calibration batch; None where batch norm takes its place."""
    if given is None:
        raise QuantizationError(
            f"model '{type(model).__name__}'",
            "no calibration batch was given, 1 is needed to choose theta",
            remedy="pass calibration=x, some hundred training inputs",
            actual=None,
            limit="a batch of inputs",
        )
    if not isinstance(given, str):
        return as_tensors(given, "calibration")
    if given != "batch_norm" or scale is None or levels is None:
        raise QuantizationError(
            "calibration",
            f"{given!r} with input_scale {scale} and input_levels {levels}: "
            "without data only 'batch_norm' is possible, with both given",
            remedy="pass calibration=x, or 'batch_norm' with input_scale and input_levels",
            actual=given,
            limit="batch_norm",
        )
    return None


def traced(
    model: nn.Module, batch: Sequence[Tensor] | None
) -> tuple[nn.Module, nn.Module, fx.Graph]:
    """A copy of a model in evaluation mode, another to be worked on, and the graph of that.

    Parameters
    ----------
    model
        Any module. Not changed.
    batch
        One array per input; None where there are no data: then only torch.fx can trace.

    Raises
    ------
    QuantizationError
        If the model cannot be traced.
    """
    reference = prepared(model, QuantizationError)
    root: nn.Module = copy.deepcopy(reference)
    n_inputs = None if batch is None else len(batch)
    try:
        return reference, root, trace(root, QuantizationError, n_inputs=n_inputs)
    except QuantizationError as reason:
        if batch is None:
            raise
        return reference, *exported(root, batch, reason)


class _Quantized(fx.GraphModule):
    """A graph whose copies know where it comes from: `recipe` and `examples`."""

    def __deepcopy__(self, memo: Any) -> _Quantized:
        twin = cast(_Quantized, super().__deepcopy__(memo))
        return self._same_origin(twin, copy.deepcopy(self._origin(), memo))

    def __copy__(self) -> _Quantized:
        twin = cast(_Quantized, super().__copy__())
        return self._same_origin(twin, self._origin())

    def _origin(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("recipe", "examples") if name in vars(self)}

    @staticmethod
    def _same_origin(twin: _Quantized, origin: dict[str, Any]) -> _Quantized:
        twin.__dict__.update(origin)
        return twin


class _Run(nn.Module):
    """A graph as a module, run node by node."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__()
        self.root, self.graph = root, graph

    def forward(self, *x: Tensor) -> Any:
        """What the graph returns."""
        runner = fx.Interpreter(self.root, graph=self.graph)
        runner.extra_traceback = False
        return runner.run(*x)


def _prove(
    reference: nn.Module,
    root: nn.Module,
    graph: fx.Graph,
    batch: Sequence[Tensor],
    wanted: Any,
    found: Any,
) -> None:
    """Raise where a graph, without quantizers at work, does not compute what the model does."""
    off = difference(wanted, found)
    if not off > FLOAT32_TOLERANCE:
        return
    raise QuantizationError(
        first_difference(reference, root, graph, batch, QuantizationError),
        f"computes something else in the traced graph than in the model: {off:.2g} of the largest "
        f"output, limit: {FLOAT32_TOLERANCE}",
        remedy="write it as plain torch operations that return new values and draw no random "
        "numbers in evaluation mode, without hooks that change values",
        actual=off,
        limit=FLOAT32_TOLERANCE,
    )


def _same(x: Tensor) -> Tensor:
    return x


def _check_batch(graph: fx.Graph, batch: Sequence[Tensor]) -> None:
    n_inputs = sum(node.op == "placeholder" for node in graph.nodes)
    if n_inputs != len(batch):
        raise QuantizationError(
            "calibration",
            f"{len(batch)} arrays were given, the model takes {n_inputs} inputs",
            remedy="give one array per input",
            actual=len(batch),
            limit=n_inputs,
        )
    lengths = tuple(len(x) if x.ndim else 0 for x in batch)
    if min(lengths) < 1 or len(set(lengths)) > 1:
        raise QuantizationError(
            "calibration",
            f"has {', '.join(map(str, lengths))} samples, at least 1 is needed, as many of "
            "each input",
            remedy="give a batch, some hundred training inputs",
            actual=lengths,
            limit=1,
        )
