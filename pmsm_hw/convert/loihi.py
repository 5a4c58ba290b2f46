"""Conversion of models of Loihi's own neurons: their integers as they are, compared spike by spike.

Nothing is rounded here: the modules of `pmsm_hw.nn.loihi` compute with the integers that a network
holds. A model's graph is walked through once, and every layer, neuron and sum becomes what it is in
a network; the network then runs beside the model on the calibration batch, and not one spike may
differ.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pmsm_hw import reference
from pmsm_hw.convert.loihi_report import LoihiConversionReport, LoihiPopulationReport
from pmsm_hw.errors import ConversionError
from pmsm_hw.network import (
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    Neurons,
    Population,
    Projection,
    Shape,
    SumPool,
    loihi_weights,
)
from pmsm_hw.nn.batches import Batch, as_tensors, parts
from pmsm_hw.nn.evaluation import answers, evaluating
from pmsm_hw.nn.loihi import (
    LoihiConv1d,
    LoihiConv2d,
    LoihiInput,
    LoihiLinear,
    LoihiNetwork,
    LoihiNeuron,
    LoihiOneToOne,
    LoihiReadout,
    LoihiSumPool,
    LoihiSynapses,
)
from pmsm_hw.nn.quantizer import PolarityQuant
from pmsm_hw.nn.tracing import kind_of, subject_of, trace

__all__ = ["convert_loihi", "has_loihi_modules", "projection_of"]

_UPDATES_AT_ONCE = 1 << 24
"""Neurons x steps x samples that are compared at a time."""


class _Raw(NamedTuple):
    """A model's input, as it is given."""

    place: int


class _Sent(NamedTuple):
    """What the spikes of a population carry."""

    population: str
    is_flat: bool = False


class _Term(NamedTuple):
    """Synapses from a population; without a layer, each to one neuron with the weight 1."""

    source: str
    layer: LoihiSynapses | None


class _Drive(NamedTuple):
    """A sum of what synapses deliver."""

    terms: tuple[_Term, ...]


class _Answer(NamedTuple):
    """What a readout answers."""

    population: str


_Value: TypeAlias = "_Raw | _Sent | _Drive | _Answer"

_Run: TypeAlias = "Callable[[tuple[Tensor, ...]], dict[str, Tensor]]"
"""Gives what the spikes of each population carried, and what its readouts added up."""


def has_loihi_modules(model: nn.Module) -> bool:
    """Whether a model has neurons, layers or an input of Loihi's kind.

    Parameters
    ----------
    model
        Any module.
    """
    kinds = (LoihiNeuron, LoihiSynapses, LoihiInput)
    return any(isinstance(module, kinds) for module in model.modules())


def convert_loihi(
    model: nn.Module, example_input: Batch, *, name: str, max_steps: int | None
) -> tuple[Network, LoihiConversionReport]:
    """The network of a model of Loihi's neurons, and what was compared.

    Parameters
    ----------
    model
        With modules of `pmsm_hw.nn.loihi`. Not changed.
    example_input
        A batch of inputs, one array per input: gives shapes and number of steps, and is what model
        and network are compared on.
    name
        Of the network.
    max_steps
        Most steps of a sample; by default those of the batch.

    Raises
    ------
    ConversionError
        Naming the module or operation that has no counterpart, or the population that differs.
    """
    _refuse_alone(model)
    _refuse_mixed(model)
    examples = as_tensors(example_input, "example_input")
    if not examples or min(map(len, examples)) == 0:
        raise ConversionError(
            "example_input",
            "holds no samples, at least 1 is needed",
            remedy="give a batch of inputs as the model takes them: convert(model, x)",
            actual=0,
            limit=1,
        )
    _refuse_infinite(model)
    run: _Run
    if isinstance(model, LoihiNetwork):
        network = _network_of(model, name, max_steps)
        is_static = examples[0].ndim == 1 + len(network.inputs[0].shape)
        n_steps = network.max_steps if is_static else examples[0].shape[1]
        inputs, run = [p.name for p in network.inputs], _runner_of_network(model, n_steps)
    else:
        graph = trace(model, ConversionError, n_inputs=len(examples))
        with evaluating(model), _recorded(model) as seen:
            answers(model, tuple(x[:2] for x in examples), ConversionError, what="example_input")
        walk = _Walk(model, graph, {key: calls[0] for key, calls in seen.items()})
        n_steps = walk.n_steps
        network = Network(
            name=name,
            populations=tuple(walk.populations.values()),
            projections=tuple(walk.projections),
            max_steps=n_steps if max_steps is None else max_steps,
        )
        inputs, run = [walk.inputs[i] for i in sorted(walk.inputs)], _runner_of_modules(model, walk)
    with evaluating(model), torch.no_grad():
        report = _compared(run, inputs, network, examples, n_steps)
    return network, report


def _network_of(model: LoihiNetwork, name: str, max_steps: int | None) -> Network:
    """The network of a module that was made of one, with the integers of now."""
    before = model.network
    layers: Any = zip(before.projections, model.synapses, strict=True)
    return replace(
        before,
        name=name,
        populations=tuple(
            model.module_of(p.name).population(p.name, p.shape) if isinstance(p, Neurons) else p
            for p in before.populations
        ),
        projections=tuple(
            replace(projection_of(layer, q.source, q.target), name=q.name) for q, layer in layers
        ),
        max_steps=before.max_steps if max_steps is None else max_steps,
    )


def _refuse_alone(model: nn.Module) -> None:
    if isinstance(model, LoihiNeuron | LoihiSynapses | LoihiInput):
        raise ConversionError(
            f"model '{type(model).__name__}'",
            "is one module, a network begins with an input",
            remedy="give torch.nn.Sequential(LoihiInput(levels=(0, 1)), ...)",
            actual=type(model).__name__,
            limit="a model",
        )


def _refuse_mixed(model: nn.Module) -> None:
    quantizers = [n for n, m in model.named_modules() if isinstance(m, PolarityQuant)]
    if quantizers:
        raise ConversionError(
            f"model '{type(model).__name__}'",
            f"has polarity quantizers ('{quantizers[0]}') and Loihi's neurons, one kind is "
            "possible",
            remedy="use modules of pmsm_hw.nn.loihi throughout, or nn.quantize a model without",
            actual=tuple(quantizers),
            limit="one kind",
        )


def _refuse_infinite(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        n_bad = int((~torch.isfinite(parameter.detach())).sum())
        if n_bad:
            raise ConversionError(
                f"parameter '{name}'",
                f"holds {n_bad:,} values that are not finite, limit: 0",
                remedy="train it again with a lower learning rate",
                actual=n_bad,
                limit=0,
            )


# ---------------------------------------------------------------------------------------------
# What a model computes
# ---------------------------------------------------------------------------------------------


class _Call(NamedTuple):
    """What a module was given and what it returned, on two samples or more."""

    given: Tensor
    returned: Tensor


@contextmanager
def _recorded(model: nn.Module) -> Iterator[dict[tuple[str, int], list[_Call]]]:
    """Keep what neurons and inputs take and return, by path and number of the call."""
    seen: dict[tuple[str, int], list[_Call]] = {}
    counts: dict[str, int] = {}

    def hook_of(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            i = counts[path] = counts.get(path, -1) + 1
            seen.setdefault((path, i), []).append(_Call(args[0], output))

        return hook

    handles = [
        module.register_forward_hook(hook_of(path), prepend=True)
        for path, module in model.named_modules()
        if isinstance(module, LoihiNeuron | LoihiInput)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class _Walk:
    """A graph as populations and projections.

    Parameters
    ----------
    model
        The model.
    graph
        Of it.
    seen
        What its neurons returned for some samples, for shapes.
    """

    def __init__(
        self, model: nn.Module, graph: fx.Graph, seen: Mapping[tuple[str, int], _Call]
    ) -> None:
        self.model, self.seen = model, seen
        self.populations: dict[str, Population] = {}
        self.projections: list[Projection] = []
        self.origin: dict[str, tuple[str, int]] = {}
        """By population, path and number of the call of its module."""
        self.n_steps = 0
        self.inputs: dict[int, str] = {}
        """By place among the model's inputs."""
        self._n_calls: dict[str, int] = {}
        values: dict[fx.Node, _Value] = {}
        n_inputs = 0
        for node in graph.nodes:
            if node.op == "placeholder":
                values[node] = _Raw(n_inputs)
                n_inputs += 1
            elif node.op == "output":
                self._check_output(node, values)
            elif node.users:
                values[node] = self._value(node, values)
        if sorted(self.inputs) != list(range(n_inputs)):
            raise ConversionError(
                f"model '{type(model).__name__}'",
                f"uses {len(self.inputs)} of its {n_inputs} inputs",
                remedy="leave out what has no effect",
                actual=len(self.inputs),
                limit=n_inputs,
            )
        # in the order of the model's arguments
        ordered = [self.inputs[i] for i in range(n_inputs)]
        self.populations = {n: self.populations[n] for n in ordered} | self.populations

    def _value(self, node: fx.Node, values: Mapping[fx.Node, _Value]) -> _Value:
        given = [values[a] for a in node.args if isinstance(a, fx.Node)]
        if any(isinstance(v, _Answer) for v in given):
            self._refuse(node, "takes what a readout answers", "return that as it is")
        if node.op == "call_module":
            module = self.model.get_submodule(str(node.target))
            found = self._of_module(node, module, given[0]) if given else None
        elif node.op in ("call_function", "call_method"):
            found = self._of_function(node, given)
        else:
            found = None
        if found is None:
            self._refuse(
                node,
                "has no counterpart among Loihi's neurons and synapses",
                "use layers and neurons of pmsm_hw.nn (LoihiLinear, LoihiConv2d, LoihiSumPool, "
                "CubaLif, ...), nn.Flatten(2), sums of layers and dropout",
            )
        return found

    def _of_module(self, node: fx.Node, module: nn.Module, given: _Value) -> _Value | None:
        if isinstance(module, LoihiInput):
            if not isinstance(given, _Raw):
                self._refuse(node, "takes something other than an input", "put it first")
            return self._input(node, module, given)
        if isinstance(given, _Raw):
            self._refuse(
                node, "takes the model's input, which is not integers yet",
                "put LoihiInput(levels=(0, 1)) before it",
            )  # fmt: skip
        if isinstance(module, LoihiSynapses):
            if not isinstance(given, _Sent):
                self._refuse(node, "follows another layer", "put neurons between the two")
            return _Drive((_Term(given.population, module),))
        if isinstance(module, LoihiNeuron):
            return self._neurons(node, module, given)
        if isinstance(module, nn.Identity | nn.Dropout | nn.Dropout1d | nn.Dropout2d):
            return given
        if isinstance(module, nn.Flatten):
            return self._flattened(node, given, module.start_dim, module.end_dim)
        return None

    def _of_function(self, node: fx.Node, given: Sequence[_Value]) -> _Value | None:
        if node.target in (operator.add, operator.iadd, torch.add, "add", "add_"):
            if len(given) == 2 == len(node.args) and not node.kwargs:
                terms = [self._terms(node, value) for value in given]
                return _Drive((*terms[0], *terms[1]))
        elif node.target in (torch.flatten, "flatten") and given:
            start, end = (*node.args[1:], *(0, -1)[len(node.args) - 1 :])[:2]
            start = node.kwargs.get("start_dim", start)
            return self._flattened(node, given[0], start, node.kwargs.get("end_dim", end))
        return None

    def _flattened(self, node: fx.Node, given: _Value, start: Any, end: Any) -> _Value:
        if (start, end) != (2, -1):
            self._refuse(
                node, f"flattens axes {start} to {end}, steps are axis 1", "use nn.Flatten(2)"
            )
        if not isinstance(given, _Sent):
            self._refuse(node, "flattens what is no spikes", "put it after neurons")
        return given._replace(is_flat=True)

    def _terms(self, node: fx.Node, value: _Value) -> tuple[_Term, ...]:
        if isinstance(value, _Drive):
            return value.terms
        if isinstance(value, _Sent) and not value.is_flat:
            return (_Term(value.population, None),)
        self._refuse(node, "adds what no neuron takes", "add up layers, or spikes to them")

    def _input(self, node: fx.Node, module: LoihiInput, given: _Raw) -> _Sent:
        name, call = self._named(node)
        shape = tuple(call.returned.shape[2:])
        if given.place in self.inputs:
            self._refuse(node, "is a second LoihiInput of one input", "use one for all")
        self.inputs[given.place] = name
        self.n_steps = max(self.n_steps, call.returned.shape[1])
        self.populations[name] = Input(
            name=name, shape=self._shape(node, shape), scale=module.scale, levels=module.levels
        )
        return _Sent(name)

    def _neurons(self, node: fx.Node, module: LoihiNeuron, given: _Value) -> _Value:
        terms = self._terms(node, given)
        name, call = self._named(node)
        shape = self._shape(node, tuple(call.given.shape[2:]))
        self.populations[name] = module.population(name, shape)
        for term in terms:
            self._add(projection_of(term.layer, term.source, name))
        if module.recurrent is not None:
            back = projection_of(module.recurrent, name, name)
            self._add(replace(back, delay=back.delay + 1))
        return _Sent(name) if module.of.model.fires else _Answer(name)

    def _add(self, projection: Projection) -> None:
        taken = {p.name for p in self.projections}
        label, i = projection.name, 1
        while label in taken:
            i += 1
            label = f"{projection.name}#{i}"
        self.projections.append(replace(projection, name=label))

    def _named(self, node: fx.Node) -> tuple[str, _Call]:
        """Name of a new population, and what its module did in the example."""
        path = str(node.target)
        i = self._n_calls[path] = self._n_calls.get(path, -1) + 1
        if (path, i) not in self.seen:
            self._refuse(node, "is not called when the model runs", "check hooks that replace it")
        name = f"{path}_{i}" if i else path
        while name in self.populations:
            name = f"{name}_"
        self.origin[name] = (path, i)
        return name, self.seen[path, i]

    def _shape(self, node: fx.Node, shape: Shape) -> Shape:
        if not 1 <= len(shape) <= 3:
            self._refuse(
                node, f"has neurons of shape {shape}, 1 to 3 axes are possible",
                "use (n,), (channels, length) or (channels, height, width)",
            )  # fmt: skip
        return shape

    def _check_output(self, node: fx.Node, values: Mapping[fx.Node, _Value]) -> None:
        found: list[_Value] = []
        fx.map_arg(node.args[0], lambda n: found.append(values[n]))
        if not found or not all(isinstance(v, _Sent | _Answer) for v in found):
            raise ConversionError(
                f"model '{type(self.model).__name__}'",
                "returns something other than spikes or what a readout answers",
                remedy="end it with neurons, or with LoihiReadout() for logits",
                actual=tuple(type(v).__name__ for v in found),
                limit="spikes or logits",
            )

    def _refuse(self, node: fx.Node, problem: str, remedy: str) -> NoReturn:
        raise ConversionError(
            subject_of(self.model, node), problem, remedy=remedy, actual=kind_of(self.model, node),
            limit="neurons and synapses of a network",
        )  # fmt: skip


# ---------------------------------------------------------------------------------------------
# Projections
# ---------------------------------------------------------------------------------------------


def projection_of(layer: LoihiSynapses | None, source: str, target: str) -> Projection:
    """The projection that a layer is, with the same integers.

    Parameters
    ----------
    layer
        None: one to one, with the weight 1.
    source, target
        Names of populations.
    """
    if layer is None:
        return Identity(source=source, target=target)
    weight, exponent = _as_int8(layer)
    common: dict[str, Any] = {
        "source": source,
        "target": target,
        "weight": weight,
        "weight_exponent": exponent,
        "delay": layer.delay,
    }
    if isinstance(layer, LoihiSumPool):
        return SumPool(kernel=layer.kernel_size, stride=layer.stride, padding=layer.pads, **common)
    if isinstance(layer, LoihiOneToOne):
        return Identity(**common)
    common["delays"] = None if layer.delays is None else layer.delays.cpu().numpy()
    if isinstance(layer, LoihiLinear):
        return Dense(**common)
    assert isinstance(layer, LoihiConv1d | LoihiConv2d)
    conv: Callable[..., Projection] = Conv1d if isinstance(layer, LoihiConv1d) else Conv2d
    return conv(
        stride=layer.stride,
        padding=layer.pads,
        dilation=layer.dilation,
        groups=layer.groups,
        **common,
    )


def _as_int8(layer: LoihiSynapses) -> tuple[NDArray[np.int8], int]:
    """Weights and exponent of a projection."""
    with torch.no_grad():
        weight = layer.integer_weight().detach().cpu().numpy().astype(np.int64)
    if layer.sign_mode == "int8":
        return weight.astype(np.int8), layer.weight_exponent
    mode: Any = layer.sign_mode
    held, exponent = loihi_weights(
        weight, sign_mode=mode, weight_bits=layer.weight_bits,
        weight_exponent=layer.weight_exponent,
    )  # fmt: skip
    return held, exponent


# ---------------------------------------------------------------------------------------------
# The comparison
# ---------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """What a population did on the batch."""

    n_spikes: int = 0
    n_outside: int = 0
    fired: Any = None
    """Which neurons did, bool."""


def _runner_of_modules(model: nn.Module, walk: _Walk) -> _Run:
    """Run a model; what its neurons sent, and its readouts added up, by population."""

    def run(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        with _recorded(model) as seen:
            answers(model, batch, ConversionError, what="example_input")
        found = {}
        for name, (path, i) in walk.origin.items():
            (call,), module = seen[path, i], model.get_submodule(path)
            if isinstance(module, LoihiReadout):
                found[name] = module.run(call.given)[1][0]
            else:
                found[name] = call.returned
        return found

    return run


def _runner_of_network(model: LoihiNetwork, n_steps: int) -> _Run:
    def run(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        found = model.run(*batch, n_steps=n_steps)
        return {
            name: found.payloads[name] if model.network[name].fires else states["v"]  # type: ignore[attr-defined]
            for name, states in found.states.items()
        }

    return run


def _compared(
    run: _Run,
    inputs: Sequence[str],
    network: Network,
    examples: Sequence[Tensor],
    n_steps: int,
) -> LoihiConversionReport:
    """Run both on the batch; `ConversionError` where one spike, or one state, differs."""
    neurons = [p for p in network.topological if isinstance(p, Neurons)]
    tallies = {p.name: _Tally() for p in neurons}
    n_samples = len(examples[0])
    at_once = max(2, _UPDATES_AT_ONCE // (n_steps * sum(p.n_neurons for p in network)))
    for part in parts(n_samples, at_once):
        batch = tuple(x[part] for x in examples)
        wanted = run(batch)
        x = {name: b.detach().cpu().numpy() for name, b in zip(inputs, batch, strict=True)}
        result = reference.run(network, x, n_steps, record=[p.name for p in neurons if p.fires])
        for p in neurons:
            _compare(p, wanted[p.name], result, part.start or 0)
            _count(tallies[p.name], p, result)
    return LoihiConversionReport(
        network_name=network.name,
        max_steps=network.max_steps,
        n_steps=n_steps,
        n_calibration=n_samples,
        n_neurons=network.n_neurons,
        n_synapses=network.n_synapses,
        populations=tuple(_entry(network, p, tallies[p.name], n_samples, n_steps) for p in neurons),
    )


def _compare(population: Neurons, wanted: Tensor, result: reference.Result, first: int) -> None:
    name = population.name
    found = population.payload(result.spikes[name]) if population.fires else result.readouts[name]
    differs = found != wanted.detach().to(torch.float64).cpu().numpy().reshape(found.shape)
    if differs.any():
        sample, *where = (int(i) for i in np.argwhere(differs)[0])
        at = f"step {where.pop(0)}, " if population.fires else ""
        raise ConversionError(
            f"population '{name}'",
            f"{int(differs.sum()):,} of {differs.size:,} values differ between model and network, "
            f"first in sample {first + sample}, {at}neuron {tuple(where)}; limit: 0",
            remedy="leave out what changes values outside of the graph, as hooks do; else report "
            "this model: it is an error of pmsm-hw",
            actual=int(differs.sum()),
            limit=0,
        )


def _count(tally: _Tally, population: Neurons, result: reference.Result) -> None:
    tally.n_outside += result.saturations.get(population.name, 0)
    if population.fires:
        spikes = result.spikes[population.name]
        tally.n_spikes += int(np.count_nonzero(spikes))
        fired: Any = spikes.reshape(-1, *population.shape).any(0)
        tally.fired = fired if tally.fired is None else tally.fired | fired


def _entry(
    network: Network, population: Neurons, tally: _Tally, n_samples: int, n_steps: int
) -> LoihiPopulationReport:
    bound = network.bounds[population.name]
    updates = population.n_neurons * n_samples * n_steps
    return LoihiPopulationReport(
        name=population.name,
        kind=population.kind,
        n_neurons=population.n_neurons,
        u_min=bound.u_min,
        u_max=bound.u_max,
        n_compared=updates if population.fires else updates // n_steps,
        differing_spikes=0.0,
        spike_rate=tally.n_spikes / updates if population.fires else None,
        n_silent=None if tally.fired is None else int(np.count_nonzero(~tally.fired)),
        n_outside=tally.n_outside,
    )
