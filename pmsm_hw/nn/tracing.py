"""Tracing of torch models with torch.fx, with errors that name the module."""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn

from pmsm_hw.errors import PmsmHwError
from pmsm_hw.nn.loihi import LoihiInput, LoihiNeuron, LoihiSynapses
from pmsm_hw.nn.neuron import PolarityMultiSpike
from pmsm_hw.nn.quantizer import InputQuant, PolarityQuant

__all__ = [
    "arguments", "exported", "few", "function_name", "kind_of", "subject_of", "trace",
    "unique_path",
]  # fmt: skip


class _Proxy(fx.Proxy):
    """Records ``x += y`` and ``x[i] = y`` as writes; torch.fx makes an addition of the one."""

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            raise fx.proxy.TraceError(f"assigns to attribute {name!r} of a tensor")
        super().__setattr__(name, value)


def _in_place(function: Callable[..., Any]) -> Callable[[_Proxy, Any], Any]:
    def record(self: _Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return record


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or",
              "xor", "lshift", "rshift"):  # fmt: skip
    setattr(_Proxy, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))


class _Tracer(fx.Tracer):
    """Keeps this package's modules whole, and remembers where it is."""

    proxy_buffer_attributes = True  # else writes into buffers would happen while tracing

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A value whose writes are recorded."""
        return _Proxy(node, self)

    def __init__(self, n_inputs: int | None = None) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.deepest = ""

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Proxies of the inputs; parameters for which there is no input keep their defaults."""
        function, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        kinds = {
            n: p.kind for n, p in inspect.signature(inspect.unwrap(root_fn)).parameters.items()
        }
        taken = 0
        for i, arg in enumerate(args):
            if not isinstance(arg, fx.Proxy):
                continue  # self
            name, has_default = str(arg.node.target), bool(arg.node.args)
            kind = kinds[name.lstrip("*")]
            if kind is inspect.Parameter.VAR_POSITIONAL:
                n_more = (self.n_inputs or int(taken == 0)) - taken
                args[i] = tuple(
                    self.create_proxy("placeholder", f"{name[1:]}_{j}", (), {})
                    for j in range(n_more)
                )
            elif kind is inspect.Parameter.VAR_KEYWORD:
                args[i] = {}
            elif has_default and (
                kind is inspect.Parameter.KEYWORD_ONLY
                or self.n_inputs is None
                or taken >= self.n_inputs
            ):
                args[i] = arg.node.args[0]
            else:
                taken += 1
                continue
            self.graph.erase_node(arg.node)
        return function, args

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Leave quantizers, Loihi's neurons and torch's own modules whole."""
        if isinstance(m, InputQuant | PolarityQuant | PolarityMultiSpike):
            return True
        if isinstance(m, LoihiInput | LoihiSynapses | LoihiNeuron):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Trace a call; on failure remember the innermost module."""
        path = self.path_of_module(m)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.deepest = self.deepest or path
            raise


def trace(model: nn.Module, error: type[PmsmHwError], *, n_inputs: int | None = None) -> fx.Graph:
    """Graph of a model; modules of torch.nn and of this package stay whole.

    Parameters
    ----------
    model
        Any module. Not changed.
    error
        What to raise where tracing fails, as with control flow that depends on data.
    n_inputs
        How many arrays the model is given; other parameters of its forward method keep their
        defaults. By default the parameters that have none.
    """
    tracer = _Tracer(n_inputs)
    try:
        graph = tracer.trace(model)
    except PmsmHwError:
        raise
    except Exception as cause:  # whatever the user's own code raises
        name = tracer.deepest or type(model).__name__
        kind = type(model.get_submodule(tracer.deepest)).__name__
        reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise error(
            f"module '{name}' ({kind})",
            f"cannot be traced by torch.fx: {reason}; limit: no control flow that depends on data",
            remedy="replace branches and loops on tensor values by modules, or build the graph "
            "from plain torch.nn modules",
            actual=reason,
            limit="a traceable graph",
        ) from cause
    for node in graph.nodes:
        node.type = None  # annotations, which may be strings, cannot be pickled
    return graph


def few(batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Two samples of each input, the same twice where there is one."""
    return tuple(torch.cat([x[:2], x[:2]])[:2] for x in batch)


def exported(
    model: nn.Module, examples: Sequence[Tensor], reason: PmsmHwError
) -> tuple[fx.GraphModule, fx.Graph]:
    """Graph of a model by torch.export, for what torch.fx cannot trace, as branches on shapes.

    Layers become functions (``F.batch_norm`` with frozen statistics in place of
    ``nn.BatchNorm2d``); names of parameters stay.

    Parameters
    ----------
    model
        In evaluation mode.
    examples
        One batch per input; the batch axis may change later.
    reason
        Why torch.fx failed: raised if torch.export fails as well.
    """
    try:
        return _exported(model, few(examples))  # a batch of 1 would be fixed
    except Exception as cause:  # whatever the user's own code raises
        raise reason from cause


def _exported(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[fx.GraphModule, fx.Graph]:
    shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch about itself
        program = torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)
        program = program.run_decompositions({})  # nothing writes in place any more
        root = program.module()
    assert isinstance(root, fx.GraphModule)
    graph = fx.Graph()
    found: dict[fx.Node, fx.Node] = {}
    for node in root.graph.nodes:
        if node.op == "output":
            flat = [found[n] for n in node.args[0]]
            graph.output(pytree.tree_unflatten(flat, program.call_spec.out_spec))
        elif not (node.op == "call_module" and not node.users):  # guards of shapes
            found[node] = _plain(graph, graph.node_copy(node, found.__getitem__))
    plain = fx.GraphModule(root, graph)  # that of torch.export has no evaluation mode
    return plain, plain.graph


def _plain(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Turn an operator of torch.export into the function that people write."""
    aten = torch.ops.aten
    if node.op != "call_function":
        return node
    if node.target is aten.sym_size.int:
        node.op, node.target = "call_method", "size"
    elif node.target is aten.batch_norm.default:
        x, weight, bias, mean, variance, training, momentum, eps, *_ = node.args
        node.target = F.batch_norm
        node.args = (x, mean, variance, weight, bias, training, momentum, eps)
    elif node.target is aten._native_batch_norm_legit_no_training.default:
        x, weight, bias, mean, variance, momentum, eps = node.args
        node.target = F.batch_norm
        node.args = (x, mean, variance, weight, bias, False, momentum, eps)
    elif node.target is operator.getitem and node.args[1] == 0:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        if source.target is F.batch_norm:  # the first of three results, where it was an operator
            graph.erase_node(node)
            return source
    elif node.target in (aten._softmax.default, aten._log_softmax.default):
        node.target = F.softmax if node.target is aten._softmax.default else F.log_softmax
        node.args = node.args[:2]
    elif node.target is aten._to_copy.default:
        node.op, node.target = "call_method", "to"
        node.kwargs = {"dtype": node.kwargs.get("dtype") or torch.get_default_dtype()}
    elif node.target is aten.alias.default and isinstance(node.args[0], fx.Node):
        source = node.args[0]
        graph.erase_node(node)
        return source
    elif node.target is aten.constant_pad_nd.default:
        x, widths, *value = node.args
        node.target, node.args = F.pad, (x, widths, "constant", *value)
    elif isinstance(node.target, torch._ops.OpOverload):
        name = node.target.overloadpacket.__name__
        name = {"view": "reshape", "_unsafe_view": "reshape"}.get(name, name)
        if name in _SAME_ARGUMENTS:
            node.target = getattr(F, name, None) or getattr(torch, name)
    return node


_SAME_ARGUMENTS = frozenset(
    {
        "adaptive_avg_pool1d", "adaptive_avg_pool2d", "add", "avg_pool1d", "avg_pool2d", "cat",
        "clamp", "clone", "conv1d", "conv2d", "detach", "div", "dropout", "elu", "flatten", "gelu",
        "hardtanh", "leaky_relu", "linear", "max_pool1d", "max_pool2d", "mean", "mul", "neg", "pad",
        "permute", "relu", "relu6", "reshape", "selu", "sigmoid", "silu", "softmax", "squeeze",
        "sub", "tanh", "transpose", "unsqueeze",
    }
)  # fmt: skip


def unique_path(root: nn.Module, path: str) -> str:
    """``path``, with ``_1``, ``_2``, ... appended if the module has something of that name."""
    modules = dict(root.named_modules())
    parent, _, leaf = path.rpartition(".")
    owner = modules.get(parent, root)
    candidate, i = leaf, 0
    while hasattr(owner, candidate):
        i += 1
        candidate = f"{leaf}_{i}"
    return f"{parent}.{candidate}" if parent else candidate


def arguments(node: fx.Node, names: tuple[str, ...], defaults: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a call by name, positional or not."""
    found = dict(defaults)
    found.update(zip(names, node.args, strict=False))
    found.update(node.kwargs)
    return found


def kind_of(root: nn.Module, node: fx.Node) -> str:
    """Class or function that a node calls."""
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return function_name(node.target) if node.op == "call_function" else str(node.target)


def subject_of(root: nn.Module, node: fx.Node) -> str:
    """How errors name a node."""
    if node.op == "call_module":
        return f"module '{node.target}' ({kind_of(root, node)})"
    return f"operation '{node.name}' ({kind_of(root, node)})"


def function_name(target: Any) -> str:
    """Name of a function that a graph calls, as people write it."""
    module = getattr(target, "__module__", "") or ""
    name = getattr(target, "__name__", str(target))
    if module == "torch.nn.functional":
        return f"F.{name}"
    return f"torch.{name}" if module.startswith("torch") or hasattr(torch, name) else name
