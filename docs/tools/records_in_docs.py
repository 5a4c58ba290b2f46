"""Tell griffe, which reads the API for the site, that `pmsm_hw.records.record` makes dataclasses.

A field ``Given[A, B]`` is shown as a parameter of type ``A``, ``default(make)`` as what it makes.
"""

from __future__ import annotations

import ast
from typing import Any

from griffe import (
    Class,
    Expr,
    ExprCall,
    ExprKeyword,
    ExprLambda,
    ExprName,
    ExprSubscript,
    ExprTuple,
    Extension,
)


def _is(value: object, path: str) -> bool:
    return isinstance(value, Expr) and value.canonical_path == path


class Records(Extension):
    """Rewrites decorators and fields before griffe's own extension looks for dataclasses."""

    def on_class_members(self, *, node: ast.AST, cls: Class, **_: Any) -> None:
        """Make a record a dataclass with keyword arguments."""
        for decorator in cls.decorators:
            if _is(decorator.value, "pmsm_hw.records.record"):
                dataclass = ExprName("dataclasses.dataclass")
                decorator.value = ExprCall(dataclass, [ExprKeyword("kw_only", "True")])
        members: list[Any] = list(cls.members.values())
        for member in members:
            if not member.is_attribute:
                continue
            kind, value = member.annotation, member.value
            if isinstance(kind, ExprSubscript) and _is(kind.left, "pmsm_hw.records.Given"):
                assert isinstance(kind.slice, ExprTuple)
                member.annotation = kind.slice.elements[0]
            if isinstance(value, ExprCall) and _is(value.function, "pmsm_hw.records.default"):
                make: Any = value.arguments[0]
                member.value = make.body if isinstance(make, ExprLambda) else ExprCall(make, [])
