"""Sums, differences, constant factors and concatenations of expressions."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pmsm_hw.nn.expressions import Expression, concatenated
from pmsm_hw.nn.lowering.plans import NotSupportedError

__all__ = ["arguments_of", "arithmetic", "joined"]

_ADDS: frozenset[Any] = frozenset({operator.add, operator.iadd, torch.add, "add"})
_SUBTRACTS: frozenset[Any] = frozenset(
    {operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "subtract"}
)
_MULTIPLIES: frozenset[Any] = frozenset(
    {operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "multiply"}
)
_DIVIDES: frozenset[Any] = frozenset(
    {
        operator.truediv, operator.itruediv, torch.div, torch.divide, torch.true_divide, "div",
        "divide", "true_divide",
    }
)  # fmt: skip
_NEGATES: frozenset[Any] = frozenset({operator.neg, torch.neg, torch.negative, "neg", "negative"})


def arguments_of(
    names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of a call's arguments by name, positional or not."""
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def arithmetic(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Expression | None:
    """Sums, differences and constant factors; None for other functions."""
    given = arguments_of(("input", "other"), args, kwargs)
    a: Any = given.get("input")
    b: Any = given.get("other")
    if target in _ADDS:
        kind = "add"
    elif target in _SUBTRACTS:
        kind = "sub"
    elif target in _MULTIPLIES:
        return _multiply(*((a, b) if isinstance(a, Expression) else (b, a)))
    elif target in _DIVIDES:
        if isinstance(b, Expression) or given.get("rounding_mode") is not None:
            raise NotSupportedError("divides by an activation, or rounds")
        if not bool(torch.as_tensor(b).all()):
            raise NotSupportedError("divides by 0")
        return _multiply(a, 1.0 / b)
    elif target in _NEGATES:
        return _multiply(a, -1.0)
    else:
        return None
    factor = float(given.get("alpha", 1)) * (-1.0 if kind == "sub" else 1.0)
    if factor != 1:
        b = _multiply(b, factor) if isinstance(b, Expression) else b * factor
    if isinstance(a, Expression) and isinstance(b, Expression):
        return a.plus(b)
    x, constant = (a, b) if isinstance(a, Expression) else (b, a)
    assert isinstance(x, Expression)
    return _plus_constant(x, constant)


def _plus_constant(x: Expression, constant: Any) -> Expression:
    """Add a number, one value per channel, or one per neuron (a position embedding)."""
    c = torch.as_tensor(constant, dtype=torch.float64, device=x._device)
    shape = (1,) * (x.n_axes + 2 - c.ndim) + tuple(c.shape)
    if len(shape) == x.n_axes + 2 and shape[0] == 1 and any(n != 1 for n in shape[2:]):
        fits = all(n in (1, m) for n, m in zip(shape[1:], x.shape, strict=True))
        if fits:
            return x.plus(Expression(x.shape, (), c.reshape(shape)[0].expand(x.shape)))
    return x.shifted(_per_channel(x, c))


def joined(parts: Any, dim: int) -> Expression:
    """Apply ``torch.cat`` along the channels."""
    if not all(isinstance(p, Expression) for p in parts):
        raise NotSupportedError("concatenates with a constant")
    if dim % (parts[0].n_axes + 2) != 1:
        raise NotSupportedError(f"concatenates along axis {dim}, channels (1) are possible")
    return concatenated(parts)


def _multiply(x: Any, factor: Any) -> Expression:
    if not isinstance(x, Expression) or isinstance(factor, Expression):
        raise NotSupportedError("multiplies two activations")
    return x.scaled(_per_channel(x, factor))


def _per_channel(x: Expression, constant: Any) -> Tensor:
    c = torch.as_tensor(constant, dtype=torch.float64, device=x._device)
    shape = (1,) * (x.n_axes + 2 - c.ndim) + tuple(c.shape)
    if len(shape) != x.n_axes + 2 or any(n != 1 for i, n in enumerate(shape) if i != 1):
        raise NotSupportedError(f"combines with a constant of shape {tuple(c.shape)}")
    if c.numel() not in (1, x.shape[0]):
        raise NotSupportedError(f"combines shape {x.shape} with one of {tuple(c.shape)}")
    return c.reshape(-1).expand(x.shape[0])
