"""Graphs that write into their values, rewritten into graphs that only make new ones.

Nothing here lists operations: the graph runs once, and what wrote, and who else sees the memory
that was written, is read off the version counters and storages of torch's own tensors.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn

from pmsm_hw.errors import PmsmHwError
from pmsm_hw.nn.evaluation import evaluating
from pmsm_hw.nn.tracing import kind_of, subject_of

__all__ = ["run_nodes", "without_mutations"]

_Layout: TypeAlias = "tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype]"


def run_nodes(
    root: nn.Module, graph: fx.Graph, inputs: Sequence[Tensor], error: type[PmsmHwError]
) -> Iterator[tuple[fx.Node, Any]]:
    """Run a graph node by node; yields each node with its value, without gradients.

    Parameters
    ----------
    root
        Owns modules and parameters; its mode is not touched.
    graph
        What to run.
    inputs
        One batch per placeholder; may be written into.
    error
        What to raise, naming the node, where torch cannot run it.
    """
    runner = fx.Interpreter(root, garbage_collect_values=False, graph=graph)
    runner.extra_traceback = False
    runner.args_iter = iter(inputs)
    for node in graph.nodes:
        try:
            with torch.no_grad():
                runner.env[node] = runner.run_node(node)
        except PmsmHwError:
            raise
        except Exception as cause:  # whatever the user's own operations raise
            shapes = ", ".join("x".join(map(str, x.shape)) for x in inputs)
            reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
            raise error(
                subject_of(root, node),
                f"fails on an input of shape {shapes}: {reason}",
                remedy="give a batch as the model takes it",
                actual=tuple(tuple(x.shape) for x in inputs),
                limit="a batch that the model accepts",
            ) from cause
        yield node, runner.env[node]


@dataclass
class _Memory:
    """Which nodes hold a tensor of one storage, with its layout and version when last seen."""

    holders: list[tuple[fx.Node, Tensor, _Layout]] = field(default_factory=list)
    versions: dict[int, int] = field(default_factory=dict)

    def add(self, node: fx.Node, tensor: Tensor) -> None:
        """Remember a tensor of this storage."""
        self.holders.append((node, tensor, _layout(tensor)))
        self.versions[id(tensor)] = tensor._version

    def was_written(self) -> bool:
        """Whether a tensor has a new version or layout; forgets that afterwards."""
        written = False
        for _, tensor, layout in self.holders:
            changed = self.versions[id(tensor)] != tensor._version or layout != _layout(tensor)
            written = written or changed
            self.versions[id(tensor)] = tensor._version
        return written


def _layout(x: Tensor) -> _Layout:
    return x.data_ptr(), tuple(x.shape), tuple(x.stride()), x.dtype


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def without_mutations(
    root: nn.Module,
    graph: fx.Graph,
    examples: Sequence[Tensor],
    error: type[PmsmHwError],
    *,
    owned: bool,
) -> None:
    """Turn operations that write in place into those that return a new value, in place.

    Later readers of the memory that was written read the new value; where that is impossible, as
    after a write into a part of a value that is read as a whole, the operation is refused by name.

    Parameters
    ----------
    root, graph
        A traced model.
    examples
        One small batch per input.
    error
        What to raise.
    owned
        Whether modules of ``root`` may be changed (``inplace`` is set to False); else they get a
        clone of their input.
    """
    memories: dict[int, _Memory] = {}
    order = {node: i for i, node in enumerate(graph.nodes)}
    values: dict[fx.Node, Any] = {}
    writes: list[tuple[fx.Node, _Memory]] = []
    with evaluating(root):
        for node, value in run_nodes(root, graph, [x.clone() for x in examples], error):
            values[node] = value
            seen = [t for source in node.all_input_nodes for t in _tensors(values[source])]
            touched = {_storage(t): memories[_storage(t)] for t in seen if t.numel()}
            written = [memory for memory in touched.values() if memory.was_written()]
            if len(written) > 1:
                raise _refusal(error, root, node, f"writes into {len(written)} values at once")
            writes += [(node, memory) for memory in written]
            if node.op != "output":
                for tensor in _tensors(value):
                    if tensor.numel():
                        memories.setdefault(_storage(tensor), _Memory()).add(node, tensor)
    for node, memory in writes:
        _rewrite(root, graph, node, memory, values, order, error, owned)
    if owned:  # only now is what nobody reads without effect
        graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))


def _storage(x: Tensor) -> int:
    return int(x.untyped_storage()._cdata)


def _rewrite(
    root: nn.Module,
    graph: fx.Graph,
    node: fx.Node,
    memory: _Memory,
    values: dict[fx.Node, Any],
    order: dict[fx.Node, int],
    error: type[PmsmHwError],
    owned: bool,
) -> None:
    target = _written_argument(node)
    tensor = values.get(target) if target is not None else None
    before = {n: layout for n, t, layout in memory.holders if order[n] < order[node]}
    for holder in before:
        if holder.op == "get_attr":
            raise _refusal(error, root, node, f"writes into '{holder.target}' of the model")
    if not isinstance(tensor, Tensor) or target not in before:
        raise _refusal(error, root, node, "writes into a value in a way that cannot be followed")
    result = values[node]
    if not isinstance(result, Tensor):
        raise _refusal(error, root, node, "writes into a part of a value")
    if before[target] != _layout(result):
        raise _refusal(error, root, node, "changes the shape of a value in place")
    for holder, layout in before.items():
        later = [user for user in holder.users if order.get(user, -1) > order[node]]
        if not later:
            continue
        if layout != before[target]:
            raise _refusal(
                error, root, node,
                f"writes into memory that '{holder.name}' shows in another shape, and which is "
                f"read again by '{later[0].name}'",
            )  # fmt: skip
        for user in later:
            user.replace_input_with(holder, node)
    _make_new(root, graph, node, target, error, owned)


def _written_argument(node: fx.Node) -> fx.Node | None:
    """The argument that torch's conventions say is written: ``out``, else the first."""
    for name in ("out", "input", "self"):
        if name in node.kwargs:
            found = node.kwargs[name]
            return found if isinstance(found, fx.Node) else None
    first = node.args[0] if node.args else None
    return first if isinstance(first, fx.Node) else None


def _make_new(
    root: nn.Module,
    graph: fx.Graph,
    node: fx.Node,
    written: fx.Node,
    error: type[PmsmHwError],
    owned: bool,
) -> None:
    """Let a node return a new value in place of writing."""
    if node.op == "call_module":
        module: Any = root.get_submodule(str(node.target))
        if owned and hasattr(module, "inplace"):
            module.inplace = False
        else:
            with graph.inserting_before(node):
                copy = graph.call_method("clone", (written,))
            node.replace_input_with(written, copy)
        return
    if "out" in node.kwargs:
        node.kwargs = {k: v for k, v in node.kwargs.items() if k != "out"}
        return
    form = _new_form(node)
    if form is None:
        raise _refusal(
            error, root, node, "writes in place and has no form that returns a new value"
        )
    node.target = form
    names = _parameters(form)
    if "inplace" in names:  # given by position or name, it goes
        at = names.index("inplace")
        node.args = node.args[:at] + ((False, *node.args[at + 1 :]) if len(node.args) > at else ())
        node.kwargs = {k: v for k, v in node.kwargs.items() if k != "inplace"}


def _new_form(node: fx.Node) -> Callable[..., Any] | str | None:
    """The function or method that computes the same and writes nothing."""
    if node.op == "call_method":
        name = str(node.target)
        return name[:-1] if name.endswith("_") and hasattr(Tensor, name[:-1]) else None
    name = getattr(node.target, "__name__", "")
    if getattr(operator, name, None) is node.target:
        found: Callable[..., Any] | None = getattr(operator, name[1:], None)
        return found if name.startswith("i") else None
    if name.endswith("_"):
        return getattr(F, name[:-1], None) or getattr(torch, name[:-1], None)
    target = node.target
    return target if callable(target) and "inplace" in _parameters(target) else None


def _parameters(target: Any) -> list[str]:
    try:
        return list(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        return []


def _refusal(error: type[PmsmHwError], root: nn.Module, node: fx.Node, problem: str) -> PmsmHwError:
    return error(
        subject_of(root, node),
        f"{problem}; only values as a whole can be changed in place",
        remedy="write it as an operation that returns a new value",
        actual=kind_of(root, node),
        limit="no write into a part, a view or a parameter",
    )
